//! The two clocks: one that never jumps, to measure with, and one that people read.
#![deny(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the same for all processes of the machine since it started.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps, and is never set.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// UTC in nanoseconds since the Unix epoch. May jump, back too. By the C library, as all that tells the
/// date here, so that whoever puts another clock before it sees one time everywhere.
pub fn realtime_ns() -> i64 {
    let ns = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => ns(since),
        Err(before) => -ns(before.duration()),
    }
}

/// UTC in milliseconds since the Unix epoch; 0 for a clock before it.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
