//! The first units of a stream: kept until there are enough to tell how long its pictures last. A part
//! of a wrong length, or a picture that would last into the next one, cannot be mended later.
#![deny(unsafe_code)]

use std::time::Instant;

use super::{Follows, QUIET, RenditionWriter, Sample};

/// Never more than these, whatever their times say.
const MOST_UNITS: usize = 8;
/// Nor more bytes: as many as a part may have.
const MOST_BYTES: usize = 16 << 20;

/// Units that wait.
#[derive(Debug, Default)]
pub(super) struct Early {
    units: Vec<(Sample, Vec<u8>)>,
    since: Option<Instant>,
    /// Decoding time of the newest unit.
    newest: Option<i64>,
}

impl RenditionWriter {
    /// The next unit, in decoding order. What goes wrong is counted, and told by
    /// [`RenditionWriter::trouble`].
    pub fn push(&mut self, sample: Sample, unit: &[u8]) {
        let before = self.early.newest.replace(sample.dts);
        if let Some(before) = before.filter(|_| sample.follows == Follows::On) {
            self.pace.note(sample.dts.saturating_sub(before));
        }
        if self.early.units.is_empty() && self.pace.is_known() {
            self.take(sample, unit);
            return;
        }
        self.early.since = Some(Instant::now());
        self.early.units.push((sample, unit.to_vec()));
        let bytes: usize = self.early.units.iter().map(|(_, unit)| unit.len()).sum();
        if self.pace.is_known() || self.early.units.len() >= MOST_UNITS || bytes > MOST_BYTES {
            self.take_early();
        }
    }

    /// Nothing more came for a while: what there is has to do.
    pub(super) fn take_early_if_quiet(&mut self) {
        if (self.early.since).is_some_and(|since| since.elapsed() > 3 * QUIET) {
            self.take_early();
        }
    }

    pub(super) fn take_early(&mut self) {
        self.early.since = None;
        for (sample, unit) in std::mem::take(&mut self.early.units) {
            self.take(sample, &unit);
        }
    }
}
