//! Fewer frames per second, by their times, evenly.
//!
//! Promises: the rate holds over any length of time, whatever the camera's own is; nothing is left out
//! that comes at the rate asked for, with the jitter that cameras have.

/// Lets at most a given number of frames per second of media time pass, evenly.
#[derive(Debug)]
pub struct RateLimiter {
    interval: f64,
    next: Option<f64>,
    /// Of the picture before.
    last: Option<f64>,
}

impl RateLimiter {
    /// `None` admits everything.
    pub fn of(max_fps: Option<f32>) -> Option<Self> {
        max_fps.map(|fps| Self::new(f64::from(fps)))
    }

    fn new(max_fps: f64) -> Self {
        Self {
            interval: 90_000.0 / max_fps,
            next: None,
            last: None,
        }
    }

    /// Whether the picture with this PTS (ticks of 90 kHz) is one of them.
    pub fn admits(&mut self, pts: i64) -> bool {
        let pts = pts as f64;
        // The picture nearest to the grid is the one that was due: cameras do not send evenly, and
        // 25 fps limited to 25 would lose every other picture otherwise. The grid does not move.
        let apart = self.last.replace(pts).map_or(0.0, |last| pts - last);
        let due = pts + apart.clamp(0.0, self.interval) / 2.0;
        match self.next {
            Some(next) if due < next && next - pts <= self.interval => false,
            // On pace: keep the grid. Far from it (a gap, a jump): a new grid from here.
            Some(next) if (pts - next).abs() < self.interval => {
                self.next = Some(next + self.interval);
                true
            }
            _ => {
                self.next = Some(pts + self.interval);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(fps: i64, max: f64, frames: i64) -> usize {
        let mut limiter = RateLimiter::new(max);
        (0..frames)
            .filter(|n| limiter.admits(n * 90_000 / fps))
            .count()
    }

    #[test]
    fn limiter_keeps_the_rate_and_loses_nothing_at_it() {
        assert_eq!(admitted(25, 25.0, 250), 250);
        assert_eq!(admitted(30, 30.0, 300), 300);
        assert_eq!(admitted(25, 100.0, 250), 250);
        assert_eq!(admitted(25, 5.0, 250), 50);
        assert_eq!(admitted(30, 20.0, 300), 200);
        assert_eq!(admitted(25, 0.5, 250), 5);
    }

    #[test]
    fn jitter_costs_no_picture_and_does_not_add_any() {
        for (fps, max, expected) in [(25, 25.0, 250), (25, 5.0, 50), (30, 10.0, 100)] {
            let mut limiter = RateLimiter::new(max);
            let frames = expected * fps / max as i64;
            let admitted = (0..frames)
                .map(|n| n * 90_000 / fps + [0, -300, 250, -90, 280][n as usize % 5])
                .filter(|pts| limiter.admits(*pts))
                .count();
            let off = admitted.abs_diff(expected as usize);
            assert!(off <= 1, "{fps} to {max}: {admitted}");
        }
    }

    #[test]
    fn limiter_starts_anew_after_a_jump_either_way() {
        let mut limiter = RateLimiter::new(1.0);
        assert!(limiter.admits(1_000_000));
        assert!(!limiter.admits(1_045_000));
        assert!(limiter.admits(90_000_000));
        assert!(limiter.admits(5), "back in time by a rebase");
        assert!(!limiter.admits(45_000));
    }
}
