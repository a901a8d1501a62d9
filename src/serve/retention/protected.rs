//! Ranges that are not deleted, whatever the limits say.
//!
//! Promises: pure. A range belongs to a camera, with all its streams and renditions.
#![deny(unsafe_code)]

use std::collections::BTreeMap;

/// Of all cameras, joined where they overlap: UTC in ms, the end not included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protected(BTreeMap<String, Vec<(i64, i64)>>);

impl Protected {
    /// From camera, start and end of each.
    pub fn new(ranges: impl IntoIterator<Item = (String, i64, i64)>) -> Self {
        let mut cameras: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for (camera, from, to) in ranges.into_iter().filter(|(_, from, to)| from < to) {
            cameras.entry(camera).or_default().push((from, to));
        }
        for ranges in cameras.values_mut() {
            ranges.sort_unstable();
            let mut joined: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
            for &(from, to) in ranges.iter() {
                match joined.last_mut() {
                    Some(last) if from <= last.1 => last.1 = last.1.max(to),
                    _ => joined.push((from, to)),
                }
            }
            *ranges = joined;
        }
        Self(cameras)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A camera's ranges, in order.
    pub fn of(&self, camera: &str) -> &[(i64, i64)] {
        self.0.get(camera).map_or(&[][..], Vec::as_slice)
    }

    /// The ranges of a stream's camera that end after `from` and begin before `to`.
    fn near(&self, stream: &str, from: i64, to: i64) -> &[(i64, i64)] {
        let ranges = self.of(camera_of(stream));
        let first = ranges.partition_point(|range| range.1 <= from);
        let after = ranges.partition_point(|range| range.0 < to);
        &ranges[first..after.max(first)]
    }

    /// Whether any moment of `from..to` is protected.
    pub fn touches(&self, stream: &str, from: i64, to: i64) -> bool {
        !self
            .near(stream, from, to.max(from.saturating_add(1)))
            .is_empty()
    }

    /// Whether every moment of `from..to` is.
    pub fn covers(&self, stream: &str, from: i64, to: i64) -> bool {
        // Joined: no two of them can do it together.
        let near = self.near(stream, from, to);
        near.first()
            .is_some_and(|range| range.0 <= from && to <= range.1)
    }
}

/// The camera of `front-door/sub`.
pub fn camera_of(stream: &str) -> &str {
    stream.split('/').next().unwrap_or(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_belong_to_a_camera() {
        let of = |camera: &str, from, to| (camera.to_owned(), from, to);
        let protected = Protected::new([
            of("yard", 50, 60),
            of("yard", 10, 20),
            of("yard", 15, 30),
            of("door", 100, 90),
        ]);
        assert!(protected.touches("yard/sub", 29, 31));
        assert!(protected.touches("yard", 0, 11));
        assert!(protected.touches("yard", 12, 12));
        assert!(!protected.touches("yard", 30, 50));
        assert!(!protected.touches("yard", 30, 30));
        assert!(!protected.touches("door", 0, 1000));
        assert!(protected.covers("yard/main", 10, 30));
        assert!(!protected.covers("yard/main", 10, 31));
        assert!(!protected.covers("yard/main", 20, 55));
        assert!(!protected.covers("door", 90, 100));
        assert!(!protected.touches("yardx", 10, 20));
    }
}
