//! What `camring hls` records of real cameras, read back from the disk: every picture, its time, and what
//! happens to it when cameras, readers, daemons, recorders and disks fail.

#[path = "../support/mod.rs"]
mod support;

mod breaks;
mod content;
mod deaths;
mod disk;
mod recorder;
mod tape;
