//! RTP timestamps that do not tell the time.

use crate::camera::Script;
use crate::player::STEP;
use crate::world::{Fault, run};

const HOUR: u32 = 3600 * 90_000;

pub fn faults() -> Vec<Fault> {
    let jump = |by: u32| {
        Script::play(move |p| {
            while p.faulty() {
                p.pictures(30)?;
                p.time = p.time.wrapping_add(by);
            }
            Ok(())
        })
    };
    vec![
        Fault::passes("time-jump-forward", jump(HOUR)).frames(50),
        Fault::passes("time-jump-back", jump(HOUR.wrapping_neg())).frames(50),
        Fault::passes(
            "time-wrap",
            Script::play(|p| {
                p.time = u32::MAX - 10 * STEP;
                Ok(())
            }),
        ),
        Fault::passes(
            "time-equal",
            Script::play(|p| {
                p.pictures(5)?;
                p.step = 0;
                while p.faulty() {
                    p.picture()?;
                }
                p.step = STEP;
                crate::rtp::to_key(p)
            }),
        ),
        Fault::passes(
            "time-double-speed",
            Script::play(|p| {
                p.step = 2 * STEP;
                while p.faulty() {
                    p.picture()?;
                }
                p.step = STEP;
                Ok(())
            }),
        )
        .frames(50),
        Fault::passes(
            "time-random",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    p.time = p.random(1 << 32) as u32;
                }
                Ok(())
            }),
        )
        .frames(50),
    ]
}

#[test]
fn timestamps_that_do_not_tell_the_time() {
    run(faults());
}
