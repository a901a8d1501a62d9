//! Which recorders may encode: no more at a time than `[record] max_encoders`.
//!
//! An encoder is kept until its process ends: taking turns would tear holes into every recording.
//! Whoever waits says so in status, with its place in the queue.
#![deny(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};

/// The places, by the camera's index.
#[derive(Debug, Default)]
pub(super) struct Encoders {
    places: usize,
    taken: BTreeSet<u32>,
    waiting: VecDeque<u32>,
}

impl Encoders {
    pub fn new(places: u32) -> Self {
        let mut encoders = Self::default();
        encoders.set_places(places);
        encoders
    }

    /// Fewer than are taken: nobody loses its place, but no other gets one until enough have ended.
    pub fn set_places(&mut self, places: u32) {
        self.places = places.max(1) as usize;
    }

    pub fn places(&self) -> usize {
        self.places
    }

    /// A recorder asks. Once is enough.
    pub fn ask(&mut self, camera: u32) {
        if !self.taken.contains(&camera) && !self.waiting.contains(&camera) {
            self.waiting.push_back(camera);
        }
    }

    /// A recorder has ended.
    pub fn gone(&mut self, camera: u32) {
        self.taken.remove(&camera);
        self.waiting.retain(|waiting| *waiting != camera);
    }

    /// Whose turn it is.
    pub fn grant(&mut self) -> Option<u32> {
        if self.taken.len() >= self.places {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.taken.insert(next);
        Some(next)
    }

    /// How many are before it and itself, if it waits.
    pub fn place_of(&self, camera: u32) -> Option<usize> {
        let place = self.waiting.iter().position(|waiting| *waiting == camera);
        place.map(|place| place + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_are_places_and_in_order() {
        let mut encoders = Encoders::new(2);
        for camera in [5, 3, 4, 3, 5] {
            encoders.ask(camera);
        }
        let granted: Vec<_> = std::iter::from_fn(|| encoders.grant()).collect();
        assert_eq!(granted, [5, 3]);
        assert_eq!(
            (encoders.place_of(4), encoders.place_of(5)),
            (Some(1), None)
        );
        encoders.ask(5);
        encoders.gone(3);
        assert_eq!((encoders.grant(), encoders.grant()), (Some(4), None));
    }

    #[test]
    fn fewer_places_take_none_away_and_no_place_is_none() {
        let mut encoders = Encoders::new(2);
        (1..=3).for_each(|camera| encoders.ask(camera));
        assert_eq!((encoders.grant(), encoders.grant()), (Some(1), Some(2)));
        encoders.set_places(0);
        assert_eq!(encoders.places(), 1);
        encoders.gone(1);
        assert_eq!(encoders.grant(), None);
        encoders.gone(2);
        assert_eq!(encoders.grant(), Some(3));
    }
}
