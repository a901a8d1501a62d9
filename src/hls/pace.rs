//! How long a stream's pictures last, and how long its parts are for that.
//!
//! Low-latency HLS wants every part but the last of a segment to last at least 85 % of the part target
//! (draft-pantos-hls-rfc8216bis § 4.4.4.9). Parts hold whole pictures, so the target follows from the
//! stream: so many pictures as fit the configured length, and [`SLACK_PERCENT`] for the jitter of the
//! camera's stamps.
#![deny(unsafe_code)]

use std::time::Duration;

use crate::media::VIDEO_TIMESCALE;

/// Steps between pictures that are looked at.
const STEPS: usize = 15;
/// So many say what is usual.
const ENOUGH: usize = 3;
/// A longer step is a hole, not a picture's duration, in 90 kHz ticks.
const LONGEST: i64 = 5 * 90_000;
/// How much longer than its pictures a part may be announced. Parts last between 92 % and 100 % of
/// the target then, as long as stamps jitter by less than this.
const SLACK_PERCENT: i64 = 8;

/// The usual step between a stream's pictures.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    steps: Vec<i64>,
    next: usize,
}

impl Pace {
    /// A picture came so many ticks after the one before, in decoding order.
    pub fn note(&mut self, step: i64) {
        if !(1..=LONGEST).contains(&step) {
            return;
        }
        match self.steps.get_mut(self.next) {
            Some(oldest) => *oldest = step,
            None => self.steps.push(step),
        }
        self.next = (self.next + 1) % STEPS;
    }

    /// Whether enough pictures were seen to go by them.
    pub fn is_known(&self) -> bool {
        self.steps.len() >= ENOUGH
    }

    /// A stream whose pictures last so long.
    pub fn of(interval: i64) -> Self {
        let mut pace = Self::default();
        (0..ENOUGH).for_each(|_| pace.note(interval));
        pace
    }

    /// How long a picture lasts: the median of the last steps. `None`: not known yet.
    pub fn interval(&self) -> Option<i64> {
        let mut steps = self.steps.clone();
        // Of two in the middle the shorter: rather a hole behind a picture than one into the next.
        let middle = steps.len().saturating_sub(1) / 2;
        (!steps.is_empty()).then(|| *steps.select_nth_unstable(middle).1)
    }
}

/// How long parts are to be, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLength {
    /// Whole pictures.
    ticks: i64,
    interval: i64,
}

impl PartLength {
    /// As many pictures of `interval` as fit `wanted`, one at least.
    pub fn new(wanted: i64, interval: i64) -> Self {
        let interval = interval.max(1);
        // A rate of 29.97 is not to make five pictures of six.
        let pictures = (wanted + interval / 16) / interval;
        Self {
            ticks: pictures.max(1).saturating_mul(interval),
            interval,
        }
    }

    /// What is announced: `PART-TARGET`.
    pub fn target(&self) -> i64 {
        self.ticks + self.ticks * SLACK_PERCENT / 100
    }

    /// Whether a part that lasts `ticks` has no room for a further picture of `interval`.
    pub fn is_full(&self, ticks: i64, interval: i64) -> bool {
        // A quarter of a picture is jitter.
        ticks.saturating_add(interval) > self.ticks + self.interval / 4
    }
}

/// From ticks of 90 kHz.
pub(super) fn duration(ticks: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ticks).unwrap_or(0).saturating_mul(100_000) / 9)
}

/// In ticks of 90 kHz.
pub(super) fn ticks(duration: Duration) -> i64 {
    let ticks = duration.as_nanos() * u128::from(VIDEO_TIMESCALE) / 1_000_000_000;
    i64::try_from(ticks).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(part: PartLength, interval: i64) -> i64 {
        (1..)
            .find(|n| part.is_full(n * interval, interval))
            .unwrap_or(0)
    }

    #[test]
    fn parts_hold_whole_pictures() {
        // 200 ms at 25, 30, 29.97, 15, 6 and 1 pictures a second.
        for (interval, wanted) in [
            (3600, 5),
            (3000, 6),
            (3003, 6),
            (6000, 3),
            (15_000, 1),
            (90_000, 1),
        ] {
            let part = PartLength::new(18_000, interval);
            assert_eq!(pictures(part, interval), wanted, "{interval}");
            let (least, most) = (part.target() * 85 / 100, part.target());
            assert!((least..=most).contains(&(wanted * interval)), "{interval}");
        }
    }

    #[test]
    fn jitter_does_not_change_how_many() {
        let part = PartLength::new(18_000, 3600);
        for jitter in -800..800 {
            assert!(!part.is_full(4 * 3600 + jitter, 3600));
            assert!(part.is_full(5 * 3600 + jitter, 3600));
        }
    }

    #[test]
    fn the_interval_is_the_median() {
        let mut pace = Pace::default();
        assert_eq!(pace.interval(), None);
        for step in [3600, 3600, 40_000, 3500, 3700, i64::MAX, 0, -7] {
            pace.note(step);
        }
        assert_eq!(pace.interval(), Some(3600));
        for _ in 0..STEPS {
            pace.note(7200);
        }
        assert_eq!(pace.interval(), Some(7200));
    }
}
