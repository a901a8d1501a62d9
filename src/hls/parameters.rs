//! The parameter sets of a stream, taken out of its key frames: what an init segment is made of.
#![deny(unsafe_code)]

use memchr::memmem::Finder;

use crate::media::aac::AacConfig;
use crate::media::parameters;
use crate::media::{Codec, FragmentMuxer, MediaError, TrackSpec};

const START_CODE: &[u8] = &[0, 0, 1];
/// A camera's sets take some hundred bytes.
const MOST_BYTES: usize = 16 << 10;

/// Parameter sets and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    codec: Codec,
    /// Annex B.
    bytes: Vec<u8>,
    width: u32,
    height: u32,
}

impl Sets {
    /// Those of a key frame. `None`: it does not carry all that a decoder needs.
    pub fn of(codec: Codec, unit: &[u8]) -> Option<Self> {
        let kind = |header: u8| match codec {
            Codec::H264 => header & 0x1f,
            _ => header >> 1 & 0x3f,
        };
        let (wanted, slices): (&[u8], _) = match codec {
            Codec::H264 => (&[7, 8], 1..=5),
            Codec::H265 => (&[32, 33, 34], 0..=31),
            _ => return None,
        };
        let finder = Finder::new(START_CODE);
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let mut rest = unit;
        while let Some(at) = finder.find(rest) {
            rest = &rest[at + START_CODE.len()..];
            let Some(header) = rest.first() else { break };
            let kind = kind(*header);
            // They stand before the first slice, whose bulk is not searched.
            if slices.contains(&kind) {
                break;
            }
            if wanted.contains(&kind) {
                let end = finder.find(rest).unwrap_or(rest.len());
                let nal = without_zeros(&rest[..end]);
                bytes.extend_from_slice(&[0, 0, 0, 1]);
                bytes.extend_from_slice(nal);
                found.push(kind);
                if bytes.len() > MOST_BYTES {
                    return None;
                }
            }
        }
        if !wanted.iter().all(|kind| found.contains(kind)) {
            return None;
        }
        let said = parameters::scan(codec, &bytes).parameters?;
        Some(Self {
            codec,
            bytes,
            width: said.width,
            height: said.height,
        })
    }

    /// The track that they describe.
    pub fn track(&self) -> TrackSpec<'_> {
        TrackSpec::Video {
            codec: self.codec,
            width: self.width,
            height: self.height,
            parameter_sets: &self.bytes,
        }
    }

    /// A muxer for it, and for a track of sound after it.
    ///
    /// # Errors
    /// libavformat cannot read them.
    pub fn muxer(&self, sound: Option<AacConfig>) -> Result<FragmentMuxer, MediaError> {
        match sound {
            None => FragmentMuxer::open(&[self.track()]),
            Some(config) => FragmentMuxer::open(&[
                self.track(),
                TrackSpec::Aac {
                    sample_rate: config.sample_rate(),
                    channels: config.channels(),
                    config: &config.specific_config(),
                },
            ]),
        }
    }
}

/// Zeros before the next start code belong to nobody (ITU-T H.264 § B.1.1).
fn without_zeros(nal: &[u8]) -> &[u8] {
    let last = nal.iter().rposition(|byte| *byte != 0);
    &nal[..last.map_or(0, |at| at + 1)]
}
