//! When things are given up on, and when they are tried again: constants, with their reasons.
//!
//! What a site may want to change is in `[retry]` of its configuration; what is here follows from
//! other promises (five seconds for a shutdown) or from what machines do.
#![deny(unsafe_code)]

use std::time::{Duration, Instant};

use crate::config::Retry;

/// A camera gets this long to hear TEARDOWN and a reader to exit after [`crate::control::ToReader::Stop`];
/// then it is killed. With what follows (SIGKILL and reaping), a shutdown fits into 5 s.
pub const STOP_GRACE: Duration = Duration::from_millis(4_000);
/// How long to wait, after SIGKILL, for the kernel to end a process. Longer than that only in an
/// uninterruptible sleep (`D`): a dead network file system, a driver. It may come back any time
/// and is not waited for: its rings are replaced.
pub const KILL_GRACE: Duration = Duration::from_millis(3_000);
/// The same at shutdown, where nothing depends on it any more.
pub const KILL_GRACE_AT_EXIT: Duration = Duration::from_millis(800);
/// From fork to [`crate::control::ToSupervisor::Ready`]. It takes milliseconds; a machine that
/// swaps or starts 100 readers at once may take seconds.
pub const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// A reader's network thread beats once a second or more often. Ten missed: it hangs. Shorter, and
/// a machine that stutters loses all its cameras at once.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// The decode thread beats while it waits; while it decodes it cannot. No picture takes this long.
pub const DECODE_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);
/// A recorder or the server that has not reported for this long hangs. It reports every second, but a
/// disk may make it wait: one that spins up takes 10 s, an SD card that tidies up longer.
pub const RECORDER_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// From the start of the server to its first word: it opens its databases, and may have to repair
/// them after a power cut.
pub const SERVE_READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often heartbeats are looked at and rates computed.
pub const TICK: Duration = Duration::from_secs(1);
/// A heartbeat must be too old at this many ticks in a row: after the whole machine was paused
/// (snapshot, suspend), the clock has jumped, but the reader is as well as the supervisor.
pub const MISSED_TICKS: u32 = 2;
/// Between the starts of two readers. 100 cameras that are asked to play at the same moment all
/// send their key frames at the same moment, every time.
pub const STAGGER: Duration = Duration::from_millis(40);
/// A subscriber's attach waits this long for the reader's answer. A reader that decodes a 4K key
/// frame on a busy core takes 0.3 s to see the message.
pub const ATTACH_DEADLINE: Duration = Duration::from_secs(3);
/// Frames asked for in vain count as wanted for this long. Clients ask again every 0.1 s as long as
/// they wait; a camera without a key frame in reach gets its first picture, and so its ring, only at
/// the next one, but somebody who waits for that goes on asking.
pub const AWAITED_FOR: Duration = Duration::from_secs(2);
/// Messages to one reader that wait for room in its socket. It reads at once when it lives; a
/// stopped one is killed by its heartbeat, long before thousands of subscribers come and go.
pub const OUTBOX: usize = 1024;
/// A name is looked up for this long. The resolver's own limit is 5 s per server and try.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Threads besides, for the configuration file.
pub const FILE_THREADS: usize = 2;
/// Threads that look up names: one unreachable name server must not hold up the other cameras.
pub const RESOLVERS: usize = 4;
/// Before a new spawner is started after one failed to start: it is the same binary.
pub const SPAWNER_RETRY: Duration = Duration::from_secs(1);
/// From the start of a spawner, which loads and warms 98 libraries, to its first answer.
pub const SPAWNER_TIMEOUT: Duration = Duration::from_secs(30);

/// Before a camera is taken up again after a fault of the supervisor itself: long enough for a
/// killed reader to be gone, and for the log not to fill.
pub const FAULT_PAUSE: Duration = Duration::from_secs(5);
/// From the order to end to SIGKILL, for the spawner: it has nothing to say goodbye to.
pub const SPAWNER_GRACE: Duration = Duration::from_millis(300);

/// The pauses before restarts of one reader process: exponential, with jitter, never given up.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    stable_after: Duration,
    failures: u32,
}

impl Backoff {
    /// With a stream's `[retry]`.
    pub fn new(retry: &Retry) -> Self {
        Self {
            initial: retry.initial,
            max: retry.max,
            stable_after: retry.stable_after,
            failures: 0,
        }
    }

    /// The pause after a failure of a process that had run for `ran`. Each failure in a row doubles
    /// it, up to the configured maximum; a run of `stable_after` or longer ends the row. `jitter` is
    /// a random number from 0 to 1: up to a quarter is taken off, so that cameras that failed
    /// together (a switch rebooted) do not come back together.
    pub fn next(&mut self, ran: Duration, jitter: f64) -> Duration {
        if ran >= self.stable_after {
            self.failures = 0;
        }
        // Far below the point where 2^n × 100 ms overflows, far above any maximum.
        let doubled = self.initial.saturating_mul(1 << self.failures.min(24));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(self.max);
        pause - pause.mul_f64(jitter.clamp(0.0, 1.0) / 4.0)
    }
}

/// Whether a heartbeat has been missed for good.
#[derive(Debug)]
pub struct Heartbeat {
    timeout: Duration,
    missed: u32,
    since: Instant,
}

impl Heartbeat {
    /// One that counts from now.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            missed: 0,
            since: Instant::now(),
        }
    }

    /// `beat_ns` and `now_ns` are CLOCK_MONOTONIC; a `beat_ns` of 0 means never. Once a tick.
    /// Returns the age when the reader must be killed.
    pub fn check(&mut self, beat_ns: u64, now_ns: u64) -> Option<Duration> {
        let age = if beat_ns == 0 {
            self.since.elapsed()
        } else {
            // From a hostile page: a beat in the future is as good as none at all, but a real one
            // can be a little newer than `now_ns`.
            match now_ns.checked_sub(beat_ns) {
                Some(age) => Duration::from_nanos(age),
                None if beat_ns - now_ns < 1_000_000_000 => Duration::ZERO,
                None => self.since.elapsed(),
            }
        };
        if age < self.timeout {
            self.missed = 0;
            return None;
        }
        self.missed += 1;
        (self.missed >= MISSED_TICKS).then_some(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
            ..Retry::default()
        }
    }

    #[test]
    fn pauses_double_up_to_the_maximum_and_never_end() {
        let mut backoff = Backoff::new(&retry());
        let pauses: Vec<_> = (0..40)
            .map(|_| backoff.next(Duration::ZERO, 0.0).as_millis())
            .collect();
        assert_eq!(
            pauses[..8],
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]
        );
        assert!(pauses[8..].iter().all(|&pause| pause == 30000));
    }

    #[test]
    fn a_stable_run_starts_over() {
        let mut backoff = Backoff::new(&retry());
        for _ in 0..5 {
            backoff.next(Duration::from_secs(59), 0.0);
        }
        let pause = backoff.next(Duration::from_secs(60), 0.0);
        assert_eq!(pause, Duration::from_millis(500));
    }

    #[test]
    fn jitter_takes_off_a_quarter_at_most() {
        for jitter in [0.0, 0.3, 1.0, 7.0] {
            let mut backoff = Backoff::new(&retry());
            let pause = backoff.next(Duration::ZERO, jitter);
            assert!(pause <= Duration::from_millis(500));
            assert!(pause >= Duration::from_millis(375));
        }
    }

    #[test]
    fn a_heartbeat_is_missed_when_it_is_old_twice() {
        let mut heartbeat = Heartbeat::new(Duration::from_secs(10));
        let second = 1_000_000_000;
        assert_eq!(heartbeat.check(5 * second, 6 * second), None);
        assert_eq!(heartbeat.check(5 * second, 20 * second), None, "once");
        assert_eq!(
            heartbeat.check(19 * second, 21 * second),
            None,
            "it was paused"
        );
        assert_eq!(heartbeat.check(19 * second, 30 * second), None);
        let age = heartbeat.check(19 * second, 31 * second);
        assert_eq!(age, Some(Duration::from_secs(12)));
    }

    #[test]
    fn no_beat_counts_from_the_start_and_one_from_the_future_does_not_help() {
        let mut heartbeat = Heartbeat::new(Duration::ZERO);
        assert_eq!(heartbeat.check(0, 5), None);
        assert!(heartbeat.check(0, 5).is_some());
        let mut heartbeat = Heartbeat::new(Duration::ZERO);
        assert_eq!(heartbeat.check(u64::MAX, 5), None);
        assert!(heartbeat.check(u64::MAX, 5).is_some());
    }
}
