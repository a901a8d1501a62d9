//! What `camring hls` records of real cameras, read back from the disk: every picture, its time, and what
//! happens to it when cameras, readers, daemons, recorders and disks fail.

#[path = "../support/mod.rs"]
mod support;

#[path = "../serve/rules.rs"]
mod rules;
#[path = "../serve/server.rs"]
mod server;

mod breaks;
mod content;
mod deaths;
mod disk;
mod mixed;
mod recorder;
mod tape;

/// How often processes are killed: `CAMRING_TORTURE`, or so often.
fn kills(default: u32) -> u32 {
    std::env::var("CAMRING_TORTURE").map_or(default, |kills| kills.parse().expect("a number"))
}
