//! Which core a reader runs on.
//!
//! Each `cpu = "auto"` reader is pinned to the core with the least expected work at the moment it
//! starts. Work is pixels per second, which is what decoding costs; a stream not measured yet is
//! taken for an average one. Pinned readers keep their caches warm, and one that runs wild harms
//! its own core only.
//!
//! Cores of `cpu = [..]` readers count, shared evenly over their list; `cpu = "any"` readers count
//! nowhere: the kernel moves them away from busy cores.
#![deny(unsafe_code)]

use std::collections::BTreeMap;

use crate::config::Cpu;

/// What a stream costs before anything is known of any: 720p at 10 frames a second.
const USUAL_PIXELS_PER_SECOND: f64 = 1280.0 * 720.0 * 10.0;

/// Who runs where.
#[derive(Debug)]
pub struct Placement {
    allowed: Vec<u32>,
    /// By stream.
    placed: BTreeMap<u32, Placed>,
    /// By stream, in pixels per second; kept while its reader is down.
    measured: BTreeMap<u32, f64>,
}

#[derive(Debug)]
struct Placed {
    cores: Vec<u32>,
}

impl Placement {
    /// Over the cores that this process may use ([`crate::sys::cpu::allowed`]).
    pub fn new(allowed: Vec<u32>) -> Self {
        Self {
            allowed,
            placed: BTreeMap::new(),
            measured: BTreeMap::new(),
        }
    }

    /// What a stream was seen to cost, in pixels per second. Counts at the next placement; a
    /// running reader is not moved.
    pub fn measure(&mut self, stream: u32, pixels_per_second: f64) {
        // From a health page: any number at all.
        if pixels_per_second.is_finite() && pixels_per_second >= 1.0 {
            self.measured.insert(stream, pixels_per_second.min(1e12));
        }
    }

    /// Places the reader of `stream`, which starts now, and returns its cores; empty: any.
    pub fn place(&mut self, stream: u32, cpu: &Cpu) -> Vec<u32> {
        self.placed.remove(&stream);
        let cores = match cpu {
            Cpu::Any => return Vec::new(),
            Cpu::Cores(wanted) => {
                let there = |core: &&u32| self.allowed.contains(core);
                wanted.iter().filter(there).copied().collect::<Vec<_>>()
            }
            Cpu::Auto => self.least_busy().into_iter().collect(),
        };
        self.placed.insert(
            stream,
            Placed {
                cores: cores.clone(),
            },
        );
        cores
    }

    /// The reader of `stream` is down; its core is free for others.
    pub fn remove(&mut self, stream: u32) {
        self.placed.remove(&stream);
    }

    /// The stream is gone from the configuration.
    pub fn forget(&mut self, stream: u32) {
        self.placed.remove(&stream);
        self.measured.remove(&stream);
    }

    fn least_busy(&self) -> Option<u32> {
        let usual = self.usual();
        let load = |core: u32| -> f64 {
            self.placed
                .iter()
                .filter(|(_, placed)| placed.cores.contains(&core))
                .map(|(stream, placed)| {
                    let cost = self.measured.get(stream).copied().unwrap_or(usual);
                    cost / placed.cores.len() as f64
                })
                .sum()
        };
        // Of equals the lowest number.
        let loads = self.allowed.iter().map(|&core| (core, load(core)));
        loads
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(core, _)| core)
    }

    fn usual(&self) -> f64 {
        if self.measured.is_empty() {
            return USUAL_PIXELS_PER_SECOND;
        }
        self.measured.values().sum::<f64>() / self.measured.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_streams_spread_evenly() {
        let mut placement = Placement::new(vec![0, 1, 4]);
        let cores: Vec<_> = (0..6).map(|s| placement.place(s, &Cpu::Auto)).collect();
        assert_eq!(cores, [[0], [1], [4], [0], [1], [4]]);
    }

    #[test]
    fn a_big_camera_has_a_core_to_itself() {
        let mut placement = Placement::new(vec![0, 1]);
        for (stream, rate) in [(0, 8.0e6), (1, 2.0e8), (2, 8.0e6), (3, 8.0e6)] {
            placement.measure(stream, rate);
        }
        assert_eq!(placement.place(1, &Cpu::Auto), [0]);
        for stream in [0, 2, 3] {
            assert_eq!(placement.place(stream, &Cpu::Auto), [1]);
        }
    }

    #[test]
    fn chosen_cores_count_and_any_does_not() {
        let mut placement = Placement::new(vec![0, 1]);
        assert_eq!(placement.place(0, &Cpu::Any), Vec::<u32>::new());
        assert_eq!(placement.place(1, &Cpu::Cores(vec![0])), [0]);
        assert_eq!(placement.place(2, &Cpu::Auto), [1]);
        assert_eq!(placement.place(3, &Cpu::Cores(vec![0, 1])), [0, 1]);
    }

    #[test]
    fn a_restarted_reader_does_not_count_against_itself() {
        let mut placement = Placement::new(vec![0, 1]);
        assert_eq!(placement.place(0, &Cpu::Auto), [0]);
        assert_eq!(placement.place(1, &Cpu::Auto), [1]);
        assert_eq!(placement.place(0, &Cpu::Auto), [0]);
        placement.remove(1);
        assert_eq!(placement.place(2, &Cpu::Auto), [1]);
    }

    #[test]
    fn absurd_measurements_change_nothing() {
        let mut placement = Placement::new(vec![0, 1]);
        for rate in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            placement.measure(0, rate);
        }
        assert_eq!(placement.place(0, &Cpu::Auto), [0]);
        assert_eq!(placement.place(1, &Cpu::Auto), [1]);
    }
}
