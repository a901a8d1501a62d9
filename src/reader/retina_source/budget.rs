//! How many unusable packets a session may have. Must never count what harms no picture.

use std::time::{Duration, Instant};

/// Counts unusable packets in a sliding pair of windows.
#[derive(Debug)]
pub(super) struct ErrorBudget {
    max: u32,
    window: Duration,
    since: Instant,
    count: u32,
}

impl ErrorBudget {
    pub fn new(max: u32, window: Duration) -> Self {
        ErrorBudget {
            max,
            window,
            since: Instant::now(),
            count: 0,
        }
    }

    /// True while the budget holds.
    pub fn spend(&mut self) -> bool {
        if self.since.elapsed() > self.window {
            self.since = Instant::now();
            self.count = 0;
        }
        self.count += 1;
        self.count <= self.max
    }

    /// Errors in the present window.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its length.
    pub fn window(&self) -> Duration {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_budget_holds_up_to_its_limit() {
        let mut b = ErrorBudget::new(3, Duration::from_secs(3600));
        assert!(b.spend() && b.spend() && b.spend());
        assert!(!b.spend());
        let mut b = ErrorBudget::new(1, Duration::ZERO);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(1));
            assert!(b.spend(), "errors of an earlier window count no more");
        }
    }
}
