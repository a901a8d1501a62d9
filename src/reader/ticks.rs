//! When the network thread looks after what no event announces.
//!
//! Promises: all that ask wake at the same moments, so that a thread with three things to look after
//! wakes once for them.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Period of heartbeats, watchdog checks and all else. A request sent by the camera leaves retina
/// asleep until it is polled again, so no longer than half a second.
///
/// It also is a multiple of 64 ms, and ticks lie on multiples of it since the runtime's start: tokio
/// keeps timers that are further away than 64 ms in slots of 64 ms, and wakes up once more, at the
/// slot's beginning, for those that are due within one.
pub const TICK: Duration = Duration::from_millis(448);

thread_local! {
    static ORIGIN: Instant = Instant::now();
}

/// Sets the moment that all ticks of this thread are counted from. To be called immediately before
/// the thread's runtime is made: times are rounded up to milliseconds since then. Without it, the
/// first [`ticks`] does the same.
pub fn start() {
    ORIGIN.with(|_| ());
}

/// The first one comes at once, the others on the thread's common multiples of [`TICK`].
pub fn ticks() -> Interval {
    let mut ticks = interval_at(ORIGIN.with(|origin| *origin), TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
