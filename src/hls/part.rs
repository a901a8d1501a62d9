//! The part that is being collected: access units with their times, until they are a fragment.
#![deny(unsafe_code)]

use crate::media::{Codec, FragmentMuxer, MediaError, SampleTime};
use crate::recording::{Chunk, ChunkFlags, FrameFlags, FrameTime, MAX_FRAMES};

/// A part is ended early when it has grown to this.
const MOST_BYTES: usize = 16 << 20;

/// An access unit's times, in ticks of 90 kHz.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Of its bytes.
    pub codec: Codec,
    /// Decoding time; not negative.
    pub dts: i64,
    /// Presentation time, at least `dts`.
    pub pts: i64,
    /// Decoding can start here.
    pub key: bool,
    /// When the picture was taken, UTC in ns since the Unix epoch.
    pub capture_ns: i64,
    /// By the camera's clock rather than by arrival.
    pub sender_report: bool,
    /// How it follows the one before.
    pub follows: Follows,
    /// Packets were lost before it.
    pub loss_before: bool,
}

/// How a unit follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It goes on.
    On,
    /// Media time or UTC may have jumped: times show which.
    Jump,
    /// It does not: units are missing, or its times have nothing to do with those before.
    Break,
}

/// The units of the part that is being collected.
#[derive(Debug, Default)]
pub(super) struct Part {
    data: Vec<u8>,
    /// With where each ends in `data`.
    samples: Vec<(Sample, usize)>,
    loss_before: bool,
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn first_dts(&self) -> Option<i64> {
        self.samples.first().map(|(sample, _)| sample.dts)
    }

    pub(super) fn last_dts(&self) -> Option<i64> {
        self.samples.last().map(|(sample, _)| sample.dts)
    }

    /// Whether it has grown as far as a part may.
    pub(super) fn is_at_limit(&self) -> bool {
        self.data.len() > MOST_BYTES || self.samples.len() >= MAX_FRAMES
    }

    pub(super) fn push(&mut self, sample: Sample, unit: &[u8]) {
        self.loss_before |= sample.loss_before;
        self.data.extend_from_slice(unit);
        self.samples.push((sample, self.data.len()));
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
        self.samples.clear();
        self.loss_before = false;
    }

    /// Its fragment, and what there is to say about it but for its place. `until`: the decoding time
    /// of the next unit, where that is known; else the last picture lasts as long as `usual`. `sound`
    /// adds what is heard until the time given.
    pub(super) fn mux(
        &self,
        muxer: &mut FragmentMuxer,
        until: Option<i64>,
        usual: i64,
        sound: impl FnOnce(&mut FragmentMuxer, i64) -> Result<(), MediaError>,
    ) -> Result<(Vec<u8>, Chunk), MediaError> {
        let mut frames = Vec::with_capacity(self.samples.len());
        let (mut from, mut end) = (0, 0);
        for (index, (sample, to)) in self.samples.iter().enumerate() {
            let next = self.samples.get(index + 1).map(|(next, _)| next.dts);
            let duration = next.or(until).map_or(usual, |next| next - sample.dts);
            let time = SampleTime {
                dts: sample.dts,
                pts: sample.pts,
                duration,
                key: sample.key,
            };
            muxer.write(0, self.data.get(from..*to).unwrap_or_default(), time)?;
            (from, end) = (*to, sample.dts + duration);
            frames.push(FrameTime {
                time: sample.pts,
                capture_ns: sample.capture_ns,
                flags: match sample.key {
                    true => FrameFlags::KEY,
                    false => FrameFlags::default(),
                },
            });
        }
        sound(muxer, end)?;
        let bytes = muxer.flush()?;
        let mut flags = ChunkFlags::default();
        if self.samples.first().is_some_and(|(first, _)| first.key) {
            flags = flags | ChunkFlags::INDEPENDENT;
        }
        if self.loss_before {
            flags = flags | ChunkFlags::LOSS_BEFORE;
        }
        let decode_time = self.first_dts().unwrap_or(0);
        let chunk = Chunk {
            media_sequence: 0,
            part: 0,
            flags,
            offset: 0,
            len: 0,
            decode_time,
            duration: u32::try_from(end - decode_time).unwrap_or(u32::MAX),
            frames,
        };
        Ok((bytes, chunk))
    }
}
