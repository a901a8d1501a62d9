//! Cameras that come and go, or have one session to give.

use std::time::Duration;

use crate::camera::Script;
use crate::clip::Clip;
use crate::world::{Fault, run};

pub fn faults() -> Vec<Fault> {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Clip::encoded(
        folder.path(),
        "128x96",
        "keyint=25:bframes=0:repeat-headers=1",
    );
    vec![
        Fault::fails(
            "single-session",
            "backoff",
            &["no picture for"],
            Script::play(|p| {
                p.pictures(10)?;
                p.silence()
            })
            .single_session(),
        )
        .tries(2),
        Fault::fails(
            "flapping",
            "backoff",
            &["ended the stream"],
            Script::play(|p| {
                p.pictures(3)?;
                p.close()
            }),
        )
        .tries(5),
        Fault::fails(
            "reboot",
            "backoff",
            &["ended the stream"],
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                p.camera.switch(false);
                std::thread::sleep(Duration::from_secs(3));
                p.camera.switch(true);
                Ok(())
            }),
        )
        .tries(2),
        Fault::passes(
            "resolution-change",
            Script::play(move |p| {
                while p.faulty() {
                    p.pictures(25)?;
                    for unit in &small.units[..25] {
                        for (i, nal) in unit.iter().enumerate() {
                            let packets = p.nal_packets(nal, i + 1 == unit.len());
                            p.send(&packets)?;
                        }
                        p.time = p.time.wrapping_add(p.step);
                        p.wait(crate::player::PERIOD)?;
                    }
                }
                Ok(())
            }),
        )
        .frames(60)
        .unverified(),
    ]
}

#[test]
fn cameras_that_come_and_go() {
    run(faults());
}
