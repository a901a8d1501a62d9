//! How long to wait before a camera is tried again.
//!
//! Pure arithmetic: no clock, no I/O, no state shared with anyone. Promises: every wait is at
//! least half of the class's first wait and at most its maximum (so a session loop can neither
//! spin nor give up), and waits of many cameras that failed together spread out (jitter).
//! It must never decide *whether* to try again: the answer is always yes.

use std::time::Duration;

/// First wait after an ordinary failure. Long enough for a camera to notice that the old
/// connection is gone, short enough that a hiccup costs about a second of video.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after ordinary failures: a camera that was unplugged is back within this.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// First wait after a failure that only a person can mend (wrong path, no video, unknown codec)
/// or that another client causes (no free session).
pub const FIRST_SLOW_WAIT: Duration = Duration::from_secs(10);
/// Longest wait after such failures. Someone is perhaps editing the camera's settings meanwhile.
pub const MAX_SLOW_WAIT: Duration = Duration::from_secs(120);
/// First wait after refused credentials. Cameras lock an account after 3 to 7 failures, commonly
/// counted over five minutes or more.
pub const FIRST_CREDENTIALS_WAIT: Duration = Duration::from_secs(60);
/// Longest wait after refused credentials.
pub const MAX_CREDENTIALS_WAIT: Duration = Duration::from_secs(300);
/// A session that delivered video for this long counts as healthy: the next failure starts over
/// at the first wait. Shorter than that, a flapping camera keeps its long waits.
pub const STABLE_RUN: Duration = Duration::from_secs(30);

/// What kind of patience a failure needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// Likely to pass by itself: network, reboot, stall.
    Soon,
    /// Passes only when someone changes something.
    Slow,
    /// Every try may bring the account closer to being locked.
    Credentials,
}

/// First and longest wait of one [`RetryClass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRange {
    /// Wait after the first failure, before jitter.
    pub first: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl WaitRange {
    /// `first` doubled `failures` times, at most `max`.
    fn nominal(self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// The waits of all classes; the defaults are the constants of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// For [`RetryClass::Soon`].
    pub soon: WaitRange,
    /// For [`RetryClass::Slow`].
    pub slow: WaitRange,
    /// For [`RetryClass::Credentials`].
    pub credentials: WaitRange,
    /// See [`STABLE_RUN`].
    pub stable_run: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        BackoffPolicy {
            soon: WaitRange {
                first: FIRST_WAIT,
                max: MAX_WAIT,
            },
            slow: WaitRange {
                first: FIRST_SLOW_WAIT,
                max: MAX_SLOW_WAIT,
            },
            credentials: WaitRange {
                first: FIRST_CREDENTIALS_WAIT,
                max: MAX_CREDENTIALS_WAIT,
            },
            stable_run: STABLE_RUN,
        }
    }
}

/// Counts the failures of one camera and turns them into waits.
#[derive(Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: [u32; 3],
    rng: fastrand::Rng,
}

impl Backoff {
    /// `seed` must differ between cameras and between runs; processes forked from one template
    /// share any global generator, hence no default.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Self {
        Backoff {
            policy,
            failures: [0; 3],
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Records that a session delivered video for `streamed` before it ended.
    /// A stable one clears all counts.
    pub fn session_ran(&mut self, streamed: Duration) {
        if streamed >= self.policy.stable_run {
            self.failures = [0; 3];
        }
    }

    /// Records a failure and returns how long to wait: between half and all of
    /// `first · 2^(earlier failures of this class)`, capped at the maximum of the class.
    pub fn next_wait(&mut self, class: RetryClass) -> Duration {
        let (range, count) = match class {
            RetryClass::Soon => (self.policy.soon, &mut self.failures[0]),
            RetryClass::Slow => (self.policy.slow, &mut self.failures[1]),
            RetryClass::Credentials => (self.policy.credentials, &mut self.failures[2]),
        };
        let nominal = range.nominal(*count);
        *count = count.saturating_add(1);
        nominal.mul_f64(0.5 + self.rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(wait: Duration, nominal: Duration) {
        assert!(wait >= nominal / 2, "{wait:?} is under half of {nominal:?}");
        assert!(wait <= nominal, "{wait:?} is over {nominal:?}");
    }

    #[test]
    fn doubles_up_to_the_maximum_and_stays_there_for_ever() {
        let mut b = Backoff::new(BackoffPolicy::default(), 7);
        for nominal in [1, 2, 4, 8, 16, 30, 30] {
            within(b.next_wait(RetryClass::Soon), Duration::from_secs(nominal));
        }
        for _ in 0..200 {
            within(b.next_wait(RetryClass::Soon), MAX_WAIT);
        }
    }

    #[test]
    fn credentials_wait_a_minute_at_least_half_and_five_at_most() {
        let mut b = Backoff::new(BackoffPolicy::default(), 1);
        for nominal in [60, 120, 240, 300, 300] {
            within(
                b.next_wait(RetryClass::Credentials),
                Duration::from_secs(nominal),
            );
        }
    }

    #[test]
    fn only_a_stable_run_starts_over() {
        let mut b = Backoff::new(BackoffPolicy::default(), 3);
        for _ in 0..10 {
            b.next_wait(RetryClass::Soon);
        }
        b.session_ran(STABLE_RUN - Duration::from_millis(1));
        within(b.next_wait(RetryClass::Soon), MAX_WAIT);
        b.session_ran(STABLE_RUN);
        within(b.next_wait(RetryClass::Soon), FIRST_WAIT);
    }

    #[test]
    fn classes_count_apart() {
        let mut b = Backoff::new(BackoffPolicy::default(), 3);
        for _ in 0..10 {
            b.next_wait(RetryClass::Soon);
        }
        within(b.next_wait(RetryClass::Slow), FIRST_SLOW_WAIT);
        within(b.next_wait(RetryClass::Credentials), FIRST_CREDENTIALS_WAIT);
    }

    #[test]
    fn cameras_that_fail_together_come_back_apart() {
        let mut waits: Vec<_> = (0..100)
            .map(|seed| {
                Backoff::new(BackoffPolicy::default(), seed)
                    .next_wait(RetryClass::Soon)
                    .as_millis()
            })
            .collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 50, "only {} different waits", waits.len());
    }
}
