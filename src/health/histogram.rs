//! A histogram of latencies in 64 words: 4 buckets per doubling, from 16 µs to 2 s.
//!
//! A quantile is exact to the width of its bucket: 25 % of the value at most, half of that on
//! average.
#![deny(unsafe_code)]

/// How many buckets. The last one holds everything from 1.9 s up.
pub const BUCKETS: usize = 64;

/// The unit of the finest buckets, as a power of two in nanoseconds: 16.4 µs.
const UNIT_BITS: u32 = 14;

/// Limits at which buckets end, from 0.52 ms to 1.07 s: every fourth one. What is counted below each is
/// exact, so that a coarser histogram can be told without guessing.
pub const LIMITS_NS: [u64; 12] = {
    let mut limits = [0; 12];
    let mut i = 0;
    while i < limits.len() {
        limits[i] = 1 << (UNIT_BITS as usize + FIRST_LIMIT + i);
        i += 1;
    }
    limits
};
/// The first of [`LIMITS_NS`], as a power of two in units.
const FIRST_LIMIT: usize = 5;

/// The bucket of a latency.
pub(super) fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT_BITS;
    if units < 4 {
        return units as usize;
    }
    let exponent = 63 - units.leading_zeros();
    let quarter = (units >> (exponent - 2)) & 3;
    let index = (exponent as usize - 1) * 4 + quarter as usize;
    index.min(BUCKETS - 1)
}

/// Where bucket `index` begins, in nanoseconds.
fn begin(index: usize) -> u64 {
    let units = if index < 4 {
        index as u64
    } else {
        (4 + (index as u64 & 3)) << (index / 4 - 1)
    };
    units << UNIT_BITS
}

/// How many latencies fell into each bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(pub [u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// What was counted after `earlier` was taken of the same page.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut delta = Histogram::default();
        for (delta, (now, then)) in delta.0.iter_mut().zip(self.0.iter().zip(&earlier.0)) {
            *delta = now.saturating_sub(*then);
        }
        delta
    }

    /// This with what was counted before on another page.
    pub fn after(&self, earlier: &Histogram) -> Histogram {
        let mut sum = *self;
        for (sum, before) in sum.0.iter_mut().zip(&earlier.0) {
            *sum = sum.saturating_add(*before);
        }
        sum
    }

    /// How many are under the first of [`LIMITS_NS`], from each to the next, and from the last one up.
    pub fn coarse(&self) -> [u64; LIMITS_NS.len() + 1] {
        let begins = |limit: usize| match limit {
            0 => 0,
            limit if limit > LIMITS_NS.len() => BUCKETS,
            limit => bucket(LIMITS_NS[limit - 1]),
        };
        std::array::from_fn(|i| {
            let counts = &self.0[begins(i)..begins(i + 1)];
            counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n))
        })
    }

    /// The latency that a share of `quantile` (0 to 1) of all does not exceed, in milliseconds,
    /// interpolated within its bucket. `None`: nothing counted.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        // The words come from another process: their sum need not fit.
        let total: u128 = self.0.iter().map(|&count| u128::from(count)).sum();
        if total == 0 {
            return None;
        }
        let rank = total as f64 * quantile.clamp(0.0, 1.0);
        let mut below = 0u128;
        for (index, &count) in self.0.iter().enumerate() {
            let count = u128::from(count);
            if count > 0 && (below + count) as f64 >= rank {
                let share = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
                let (from, to) = (begin(index) as f64, begin(index + 1) as f64);
                return Some((from + (to - from) * share) / 1e6);
            }
            below += count;
        }
        Some(begin(BUCKETS) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for index in 0..BUCKETS {
            assert!(begin(index) < begin(index + 1));
            assert_eq!(bucket(begin(index)), index);
            let last = if index == BUCKETS - 1 {
                u64::MAX
            } else {
                begin(index + 1) - 1
            };
            assert_eq!(bucket(last), index);
        }
    }

    #[test]
    fn quantiles_are_within_a_quarter_of_the_truth() {
        let mut histogram = Histogram::default();
        for ms in 1..=1000u64 {
            histogram.0[bucket(ms * 1_000_000)] += 1;
        }
        for (quantile, truth) in [(0.5, 500.0), (0.99, 990.0), (0.1, 100.0)] {
            let got = histogram.quantile_ms(quantile).unwrap();
            assert!((got - truth).abs() <= truth / 4.0, "{quantile}: {got}");
        }
    }

    #[test]
    fn a_coarser_histogram_is_exact_at_its_limits() {
        let mut histogram = Histogram::default();
        let mut counted = [0; LIMITS_NS.len() + 1];
        let mut ns = 1000u64;
        while ns < 20_000_000_000 {
            histogram.0[bucket(ns)] += 1;
            counted[LIMITS_NS.partition_point(|limit| *limit <= ns)] += 1;
            ns += ns / 7 + 1;
        }
        for limit in LIMITS_NS {
            assert_eq!(begin(bucket(limit)), limit, "a bucket begins there");
        }
        assert_eq!(histogram.coarse(), counted);
        assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
        let twice = histogram.after(&histogram).coarse();
        assert_eq!(twice, counted.map(|count| count * 2));
        let absurd = Histogram([u64::MAX; BUCKETS]);
        assert_eq!(absurd.after(&absurd), absurd);
        assert_eq!(absurd.coarse()[0], u64::MAX);
    }

    #[test]
    fn nothing_counted_has_no_quantile_and_absurd_words_do_not_overflow() {
        assert_eq!(Histogram::default().quantile_ms(0.5), None);
        let absurd = Histogram([u64::MAX; BUCKETS]);
        assert!(absurd.quantile_ms(0.99).is_some());
        assert_eq!(absurd.since(&absurd), Histogram::default());
        assert_eq!(Histogram::default().since(&absurd), Histogram::default());
    }
}
