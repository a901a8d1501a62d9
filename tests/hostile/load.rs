//! More than a camera should send, or than it lets itself be asked.

use std::time::Duration;

use crate::camera::Script;
use crate::world::{Fault, run};

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::passes(
            "500-fps",
            Script::play(|p| {
                p.period = Duration::from_millis(2);
                p.step = 180;
                while p.faulty() {
                    p.picture()?;
                }
                p.period = crate::player::PERIOD;
                p.step = crate::player::STEP;
                crate::rtp::to_key(p)
            }),
        )
        .cores(1.5)
        .frames(300),
        Fault::passes(
            "100-mb-per-s",
            Script::play(|p| {
                // Filler data between the pictures: 8 MB for each of 12.5.
                let filler = [vec![0x0c], vec![0xff; 60_000]].concat();
                while p.faulty() {
                    for _ in 0..133 {
                        let packet = p.rtp_packet(&filler, false);
                        p.packet(0, &packet)?;
                    }
                    p.picture()?;
                }
                Ok(())
            }),
        )
        .cores(2.0)
        .memory(192),
        Fault::fails(
            "zero-window",
            "backoff",
            &["stopped answering", "keepalive"],
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                p.camera.go_deaf();
                p.silence()
            })
            .session_timeout(2),
        )
        .tries(2),
    ]
}

#[test]
fn more_than_a_camera_should_send() {
    run(faults());
}
