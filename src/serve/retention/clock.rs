//! Whether the clock can be trusted with deleting by age.
//!
//! A clock that is wrong by years, as after a dead battery, would make every recording look old. So age
//! deletes nothing while the kernel calls the clock unsynchronised, nor for an hour after it was set. One
//! case is safe without a time service: when the clock has run evenly for as long as recordings are kept,
//! whatever it calls older than that is older, whatever the date. Bytes and free space need no clock.
//!
//! Promises: pure, all times are arguments. Never deletes anything itself.
#![deny(unsafe_code)]

use std::time::Duration;

/// How far wall clock and elapsed time may part between two looks before the clock counts as set. Slewing
/// moves it by less: chrony's fastest, 8 %, is 0.8 s in the 10 s between looks.
const STEP: Duration = Duration::from_secs(2);

/// How long nothing is deleted by age after the clock was set, and where the kernel does not say whether
/// it is right: long enough to notice that the date is wrong.
const HOLD: Duration = Duration::from_secs(3600);

/// What the kernel says about the clock, and what both clocks show.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// UTC in ns since the Unix epoch.
    pub wall_ns: i64,
    /// Nanoseconds since the machine started, sleep included.
    pub boot_ns: u64,
    /// `None`: the kernel does not say.
    pub synchronised: Option<bool>,
}

impl Look {
    /// Now.
    pub fn now() -> Self {
        Self {
            wall_ns: crate::sys::clock::realtime_ns(),
            boot_ns: crate::sys::clock::boot_ns(),
            synchronised: crate::sys::clock_synchronised(),
        }
    }
}

/// Watches the clock from look to look.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Option<Look>,
    /// Since when it has run evenly, on the boot clock.
    even_since_ns: u64,
    /// By how much it was set last, in ns.
    step_ns: Option<i128>,
}

impl Clock {
    /// Takes a look. `Err`: why nothing may be deleted by age now, for people.
    ///
    /// # Errors
    /// The clock cannot be trusted; the text says why and what helps.
    pub fn trust(&mut self, look: Look, keep: Duration) -> Result<(), String> {
        match self.last {
            None => self.even_since_ns = look.boot_ns,
            Some(last) => {
                let wall = i128::from(look.wall_ns) - i128::from(last.wall_ns);
                let step = wall - (i128::from(look.boot_ns) - i128::from(last.boot_ns));
                if step.unsigned_abs() > STEP.as_nanos() {
                    self.even_since_ns = look.boot_ns;
                    self.step_ns = Some(step);
                }
            }
        }
        self.last = Some(look);
        let even = Duration::from_nanos(look.boot_ns.saturating_sub(self.even_since_ns));
        // Whatever a clock that ran evenly for so long calls older is older.
        if even >= keep && even >= STEP {
            return Ok(());
        }
        let left = |needed: Duration| span(needed.saturating_sub(even));
        if let Some(step) = self.step_ns
            && even < HOLD
        {
            let direction = if step < 0 { "back" } else { "forward" };
            let by = span(Duration::from_nanos(
                u64::try_from(step.unsigned_abs()).unwrap_or(u64::MAX),
            ));
            return Err(format!(
                "the clock was set {direction} by {by}: nothing is deleted by age for another {}",
                left(HOLD.min(keep))
            ));
        }
        match look.synchronised {
            Some(true) => Ok(()),
            Some(false) => Err(format!(
                "the clock is not synchronised: nothing is deleted by age until a time service (chrony, \
                 systemd-timesyncd) has set it, or it has run evenly for another {}",
                left(keep)
            )),
            None if even >= HOLD => Ok(()),
            None => Err(format!(
                "the kernel does not say whether the clock is right: nothing is deleted by age until it has \
                 run evenly for another {}",
                left(HOLD.min(keep))
            )),
        }
    }
}

/// A duration for people, to the minute above one hour.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=59 => format!("{} s", seconds.max(1)),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const SECOND: i64 = 1_000_000_000;

    /// Looks at 10 s distance.
    fn look(seconds: i64, set_by: i64, synchronised: Option<bool>) -> Look {
        Look {
            wall_ns: 1_700_000_000 * SECOND + (seconds + set_by) * SECOND,
            boot_ns: (1_000 + seconds) as u64 * SECOND as u64,
            synchronised,
        }
    }

    #[test]
    fn a_synchronised_clock_is_trusted_at_once() {
        assert_eq!(Clock::default().trust(look(0, 0, Some(true)), DAY), Ok(()));
    }

    #[test]
    fn a_step_stops_deleting_by_age_for_an_hour() {
        for (set_by, word) in [
            (-7200, "back by 2 h"),
            (315_360_000, "forward by 3650 days"),
        ] {
            let mut clock = Clock::default();
            clock.trust(look(0, 0, Some(true)), DAY).unwrap();
            let error = clock.trust(look(10, set_by, Some(true)), DAY).unwrap_err();
            assert!(error.contains(word), "{error}");
            for second in (20..3610).step_by(10) {
                clock
                    .trust(look(second, set_by, Some(true)), DAY)
                    .unwrap_err();
            }
            assert_eq!(clock.trust(look(3610, set_by, Some(true)), DAY), Ok(()));
        }
    }

    #[test]
    fn slewing_is_no_step() {
        let mut clock = Clock::default();
        for second in (0..1000).step_by(10) {
            assert_eq!(
                clock.trust(look(second, second / 13, Some(true)), DAY),
                Ok(())
            );
        }
    }

    #[test]
    fn an_unsynchronised_clock_is_trusted_after_running_evenly_for_as_long_as_is_kept() {
        let mut clock = Clock::default();
        for second in (0..86_400).step_by(10) {
            let error = clock.trust(look(second, 0, Some(false)), DAY).unwrap_err();
            assert!(error.contains("not synchronised"), "{error}");
        }
        assert_eq!(clock.trust(look(86_400, 0, Some(false)), DAY), Ok(()));
        // And again not, once it is set.
        clock.trust(look(86_410, 5, Some(false)), DAY).unwrap_err();
    }

    #[test]
    fn a_kernel_that_does_not_say_is_trusted_after_an_hour() {
        let mut clock = Clock::default();
        for second in (0..3600).step_by(10) {
            clock.trust(look(second, 0, None), DAY).unwrap_err();
        }
        assert_eq!(clock.trust(look(3600, 0, None), DAY), Ok(()));
    }

    #[test]
    fn a_clock_out_of_all_range_harms_nothing() {
        let mut clock = Clock::default();
        for (wall_ns, boot_ns) in [(i64::MIN, u64::MAX), (i64::MAX, 0), (0, 1)] {
            let look = Look {
                wall_ns,
                boot_ns,
                synchronised: Some(true),
            };
            let _ = clock.trust(look, DAY);
        }
    }
}
