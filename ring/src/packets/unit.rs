//! The descriptor of an access unit.

use crate::error::BadDescriptor;
use crate::layout::UNIT_WORDS;

/// Low bits of `codec_and_delay` that hold the codec.
const CODEC_BITS: u32 = 8;
/// Largest delay in the bits above.
const MAX_DELAY: i64 = (1 << (32 - CODEC_BITS)) - 1;

/// Codec of an access unit. The numbers are part of the ring format.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// H.264, Annex B with parameter sets at key frames.
    H264 = 1,
    /// H.265, Annex B with parameter sets at key frames.
    H265 = 2,
    /// One JPEG image per unit.
    Mjpeg = 3,
    /// AV1, low-overhead OBU stream.
    Av1 = 4,
    /// MPEG-4 part 2.
    Mpeg4 = 5,
    /// AAC-LC, one frame per unit with its ADTS header (ISO/IEC 14496-3 § 1.A.2). Only in the rings of
    /// sound, `front-door#audio`.
    Aac = 6,
}

impl Codec {
    /// Short lower-case name, stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
            Self::Av1 => "av1",
            Self::Mpeg4 => "mpeg4",
            Self::Aac => "aac",
        }
    }

    /// The codec with this number, as found in an index entry.
    pub fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::H264),
            2 => Some(Self::H265),
            3 => Some(Self::Mjpeg),
            4 => Some(Self::Av1),
            5 => Some(Self::Mpeg4),
            6 => Some(Self::Aac),
            _ => None,
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Bit set of what is to be known about a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UnitFlags(pub u32);

impl UnitFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Decoding can start here.
    pub const KEY: Self = Self(1);
    /// Does not continue the unit before: a new session, a jump in time, a unit left out.
    pub const DISCONTINUITY: Self = Self(2);
    /// Parameter sets differ from those of the unit before.
    pub const PARAMETERS_CHANGED: Self = Self(4);
    /// Packets were lost just before this unit.
    pub const LOSS_BEFORE: Self = Self(8);
    /// `capture_time_ns` comes from the camera's RTCP sender reports, otherwise from arrival.
    pub const CAPTURE_TIME_FROM_SENDER_REPORT: Self = Self(16);
    /// The GOP that this unit belongs to lacks a unit before this one: one that was too large, or
    /// its beginning, because the GOP is larger than the ring. Set by the writer.
    pub const GOP_INCOMPLETE: Self = Self(32);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for UnitFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl std::ops::BitOrAssign for UnitFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// Everything about an access unit but its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitDescriptor {
    /// Rises by one with each unit of a ring, from 1. Set by the writer.
    pub sequence: u64,
    /// Bytes. Set by the writer.
    pub len: u32,
    /// Codec.
    pub codec: Codec,
    /// See [`UnitFlags`].
    pub flags: UnitFlags,
    /// Presentation time in units of 1/`time_base_den` s.
    pub pts: i64,
    /// Decoding time in the same units: rises strictly from unit to unit, at most `pts`, and equal
    /// to it where there are no B pictures. What a muxer calls DTS. At most 2²⁴ − 1 before `pts`.
    pub dts: i64,
    /// Units of `pts` per second, not 0.
    pub time_base_den: u32,
    /// UTC in ns since the Unix epoch.
    pub capture_time_ns: i64,
    /// When the unit was complete, `CLOCK_MONOTONIC` in ns.
    pub arrival_ns: u64,
    /// Pixels, at most 65535; 0 = not known.
    pub width: u32,
    /// Pixels, at most 65535; 0 = not known.
    pub height: u32,
    /// Which writer since the ring was made. Set by the writer.
    pub generation: u32,
}

impl UnitDescriptor {
    /// The words of an index entry (`layout::UnitEntry`); sequence and offset are left 0.
    pub(crate) fn to_words(self) -> Result<[u64; UNIT_WORDS], BadDescriptor> {
        if self.time_base_den == 0 {
            return Err(BadDescriptor::TimeBase { num: 1, den: 0 });
        }
        let size = |n: u32| {
            u16::try_from(n)
                .map(u64::from)
                .map_err(|_| BadDescriptor::Size {
                    width: self.width,
                    height: self.height,
                })
        };
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let delay = self.pts.saturating_sub(self.dts).clamp(0, MAX_DELAY);
        // In range by the clamp.
        let codec_and_delay = self.codec as u32 | (delay as u32) << CODEC_BITS;
        Ok([
            0,
            0,
            pair(self.len, codec_and_delay),
            self.pts as u64,
            self.capture_time_ns as u64,
            self.arrival_ns,
            size(self.width)? | size(self.height)? << 16 | u64::from(self.generation) << 32,
            pair(self.time_base_den, self.flags.0),
        ])
    }

    /// Reads an index entry, from memory that may hold anything. Offset and length are the
    /// caller's to check.
    pub(crate) fn from_words(entry: &[u64; UNIT_WORDS]) -> Result<Self, BadDescriptor> {
        let codec_and_delay = (entry[2] >> 32) as u32;
        let codec = codec_and_delay & ((1 << CODEC_BITS) - 1);
        let pts = entry[3] as i64;
        let time_base_den = entry[7] as u32;
        if time_base_den == 0 {
            return Err(BadDescriptor::TimeBase { num: 1, den: 0 });
        }
        Ok(Self {
            sequence: entry[0],
            len: entry[2] as u32,
            codec: Codec::from_u32(codec).ok_or(BadDescriptor::Codec { value: codec })?,
            flags: Self::flags(entry),
            pts,
            dts: pts.saturating_sub(i64::from(codec_and_delay >> CODEC_BITS)),
            time_base_den,
            capture_time_ns: entry[4] as i64,
            arrival_ns: entry[5],
            width: u32::from(entry[6] as u16),
            height: u32::from((entry[6] >> 16) as u16),
            generation: (entry[6] >> 32) as u32,
        })
    }

    /// The flags of an index entry.
    pub(crate) fn flags(entry: &[u64; UNIT_WORDS]) -> UnitFlags {
        UnitFlags((entry[7] >> 32) as u32)
    }
}
