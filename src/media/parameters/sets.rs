//! The parameter sets a decoder has seen, to notice that one changed.

use std::collections::BTreeMap;

use super::{
    MAX_PARAMETER_SET_BYTES, StreamParameters, direct_rendering_allowed, h264, h265, nal_units,
};
use crate::media::Codec;

/// Where sets without a readable identifier are kept.
const UNREADABLE: u32 = u32::MAX;

/// Parameter sets since the decoder was opened, compared byte by byte. At most 33 of them, of at most
/// [`MAX_PARAMETER_SET_BYTES`] each, are kept.
#[derive(Debug)]
pub struct ParameterSets {
    codec: Codec,
    known: BTreeMap<u32, Vec<u8>>,
    direct: bool,
    parameters: Option<StreamParameters>,
}

/// What [`ParameterSets::observe`] found in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// No parameter set, or only such as were known.
    Same,
    /// The first ones, or one with a further identifier.
    Added,
    /// A known one has other bytes: earlier ones are forgotten, the decoder has to be opened anew.
    Changed,
}

impl ParameterSets {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            known: BTreeMap::new(),
            direct: true,
            parameters: None,
        }
    }

    /// Takes the parameter sets of one access unit.
    pub fn observe(&mut self, unit: &[u8]) -> Observed {
        if !matches!(self.codec, Codec::H264 | Codec::H265) {
            return Observed::Same;
        }
        let mut changed = self.known.is_empty();
        let first = changed;
        let mut found: BTreeMap<u32, &[u8]> = BTreeMap::new();
        let mut direct = true;
        let mut parameters = None;
        for nal in nal_units(unit) {
            let sps = match self.codec {
                Codec::H264 if nal[0] & 0x1f == h264::SPS => h264::sps(nal),
                Codec::H265 if h265::header(nal) == Some((h265::SPS, 0)) => h265::sps(nal),
                _ => continue,
            };
            let id = sps.as_ref().map_or(UNREADABLE, |sps| sps.id);
            let kept = &nal[..nal.len().min(MAX_PARAMETER_SET_BYTES)];
            // Two sets with one identifier in one unit: which of them holds for which slice is not
            // looked at.
            direct &= found.insert(id, kept).is_none_or(|before| before == kept);
            direct &= sps
                .as_ref()
                .is_some_and(|sps| !sps.ambiguous && direct_rendering_allowed(&sps.parameters));
            parameters = sps.map(|sps| sps.parameters).or(parameters);
            changed |= self.known.get(&id).is_some_and(|known| known != kept);
        }
        if found.is_empty() {
            return Observed::Same;
        }
        if changed {
            self.known.clear();
            self.direct = true;
            self.parameters = None;
        }
        let before = self.known.len();
        for (id, bytes) in found {
            self.known.entry(id).or_insert_with(|| bytes.to_vec());
        }
        self.direct &= direct;
        self.parameters = parameters.or(self.parameters.take());
        match changed {
            true if !first => Observed::Changed,
            _ if self.known.len() > before => Observed::Added,
            _ => Observed::Same,
        }
    }

    /// Whether every parameter set seen since the last change allows direct rendering. False before
    /// the first one where the codec has any.
    pub fn direct_rendering_allowed(&self) -> bool {
        match self.codec {
            Codec::H264 | Codec::H265 => !self.known.is_empty() && self.direct,
            Codec::Mjpeg => true,
            _ => false,
        }
    }

    /// Whether decoding can begin: a parameter set has been seen, or the codec has none.
    pub fn ready(&self) -> bool {
        !matches!(self.codec, Codec::H264 | Codec::H265) || !self.known.is_empty()
    }

    /// Of the last parameter set that can be read.
    pub fn parameters(&self) -> Option<&StreamParameters> {
        self.parameters.as_ref()
    }
}
