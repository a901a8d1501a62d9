//! Which readers may catch up at the moment: decode what came before somebody looked, faster than
//! the camera sends.
//!
//! A hundred cameras attached to at once would decode a hundred groups of pictures at once: 20
//! core-seconds at 720p and 25 fps, while every picture that is due waits behind them. So they take
//! turns, as many at a time as there are cores, in the order in which they ask. Whoever does not
//! get its turn before its camera's next key frame goes on there, and says so.
#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this long a reader's place goes to the next, whether it says that it is done or not. A
/// group of 2 s takes 0.2 s at 720p; a reader that needs much longer is as busy as any other, and
/// one that hangs, or lies, must not stop the others.
const DEADLINE: Duration = Duration::from_secs(3);

/// A camera's index, and the number of its question.
pub(super) type Ask = (u32, u32);

/// The places, and the queue before them.
#[derive(Debug)]
pub(super) struct Permits {
    places: usize,
    taken: Vec<(Ask, Instant)>,
    waiting: VecDeque<Ask>,
}

impl Permits {
    pub fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            taken: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A reader asks. Its former question is void.
    pub fn ask(&mut self, ask: Ask) {
        self.gone(ask.0);
        self.waiting.push_back(ask);
    }

    /// A reader is done, or no longer wants to.
    pub fn done(&mut self, ask: Ask) {
        self.taken.retain(|(taken, _)| *taken != ask);
        self.waiting.retain(|waiting| *waiting != ask);
    }

    /// A reader has ended.
    pub fn gone(&mut self, camera: u32) {
        self.taken.retain(|((taken, _), _)| *taken != camera);
        self.waiting.retain(|(waiting, _)| *waiting != camera);
    }

    /// Whose turn it is from now on.
    pub fn grant(&mut self, now: Instant) -> Option<Ask> {
        self.taken
            .retain(|(_, since)| now.saturating_duration_since(*since) < DEADLINE);
        if self.taken.len() >= self.places {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.taken.push((next, now));
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(permits: &mut Permits, now: Instant) -> Vec<Ask> {
        std::iter::from_fn(|| permits.grant(now)).collect()
    }

    #[test]
    fn turns_are_taken_in_order_and_never_by_more_than_there_are_places() {
        let now = Instant::now();
        let mut permits = Permits::new(2);
        for camera in 0..5 {
            permits.ask((camera, 1));
        }
        assert_eq!(all(&mut permits, now), [(0, 1), (1, 1)]);
        permits.done((1, 1));
        assert_eq!(all(&mut permits, now), [(2, 1)]);
        permits.done((3, 1));
        permits.gone(0);
        assert_eq!(all(&mut permits, now), [(4, 1)]);
        permits.done((2, 1));
        permits.done((4, 1));
        assert_eq!(all(&mut permits, now), []);
    }

    #[test]
    fn a_new_question_replaces_the_old_one_and_old_answers_free_nothing() {
        let now = Instant::now();
        let mut permits = Permits::new(1);
        permits.ask((7, 1));
        permits.ask((8, 1));
        assert_eq!(all(&mut permits, now), [(7, 1)]);
        permits.ask((7, 2));
        assert_eq!(all(&mut permits, now), [(8, 1)]);
        permits.done((8, 0));
        assert_eq!(all(&mut permits, now), []);
        permits.done((8, 1));
        assert_eq!(all(&mut permits, now), [(7, 2)]);
    }

    #[test]
    fn a_reader_that_never_says_done_loses_its_place() {
        let now = Instant::now();
        let mut permits = Permits::new(1);
        permits.ask((1, 1));
        permits.ask((2, 1));
        assert_eq!(all(&mut permits, now), [(1, 1)]);
        assert_eq!(all(&mut permits, now + DEADLINE / 2), []);
        assert_eq!(all(&mut permits, now + DEADLINE), [(2, 1)]);
    }
}
