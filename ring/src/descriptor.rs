//! The descriptor of a frame: its meaning, its words in a slot header, and the check of both.

use crate::error::BadDescriptor;
use crate::layout::DESCRIPTOR_WORDS;
use crate::pixel::{ColorRange, MATRIX_UNSPECIFIED, PixelFormat};

/// Bit set of what is to be known about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FrameFlags(pub u32);

impl FrameFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Decoded from a key frame.
    pub const KEY_FRAME: Self = Self(1);
    /// Media time or content does not continue the frame before.
    pub const DISCONTINUITY: Self = Self(2);
    /// Damaged, or predicted from something damaged. Hidden from subscribers by default.
    pub const CORRUPT: Self = Self(4);
    /// `capture_time_ns` comes from the camera's RTCP sender reports, otherwise from arrival.
    pub const CAPTURE_TIME_FROM_SENDER_REPORT: Self = Self(8);
    /// Decoded privately and copied into the slot.
    pub const COPIED: Self = Self(16);

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

impl std::ops::BitOr for FrameFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl std::ops::BitOrAssign for FrameFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// Where a plane lies in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plane {
    /// Bytes from the start of the slot's payload.
    pub offset: u64,
    /// Bytes from one row to the next.
    pub stride: u32,
}

/// Everything about a frame but its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameDescriptor {
    /// Rises by one with each frame of a ring, across restarts of the writer too. Set by the
    /// writer when it publishes.
    pub sequence: u64,
    /// Which writer since the ring was made. Set by the writer when it publishes.
    pub generation: u32,
    /// Presentation time in units of `time_base_num / time_base_den` seconds; monotonic.
    pub pts: i64,
    /// Numerator of the time base.
    pub time_base_num: u32,
    /// Denominator of the time base, not 0.
    pub time_base_den: u32,
    /// UTC in ns since the Unix epoch; see [`FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT`].
    pub capture_time_ns: i64,
    /// When the access unit was complete, `CLOCK_MONOTONIC` in ns.
    pub arrival_ns: u64,
    /// When the frame was published, `CLOCK_MONOTONIC` in ns. 0: the writer fills it in.
    pub publish_ns: u64,
    /// Sequence number of its access unit in the packet ring.
    pub access_unit: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Meaning of the bytes.
    pub pixel_format: PixelFormat,
    /// Range of the samples.
    pub color_range: ColorRange,
    /// ITU-T H.273 MatrixCoefficients; 2 = unspecified.
    pub matrix: u8,
    /// Degrees clockwise to turn the picture for display: 0, 90, 180 or 270.
    pub rotation: u16,
    /// See [`FrameFlags`].
    pub flags: FrameFlags,
    /// The planes that `pixel_format` has; the rest zero.
    pub planes: [Plane; 4],
}

impl FrameDescriptor {
    /// A descriptor of a tightly packed `width` × `height` picture, rows aligned to `align` bytes
    /// (a power of two), everything else zero or unknown. `None` when the picture is too large to
    /// describe.
    pub fn packed(format: PixelFormat, width: u32, height: u32, align: u32) -> Option<Self> {
        let mut planes = [Plane::default(); 4];
        let mut offset = 0u64;
        for (index, plane) in planes.iter_mut().enumerate().take(format.planes()) {
            let (row, rows) = format.plane_size(index, width, height)?;
            let stride = row.checked_next_multiple_of(align.max(1))?;
            *plane = Plane { offset, stride };
            offset = offset.checked_add(u64::from(stride) * u64::from(rows))?;
        }
        Some(Self {
            sequence: 0,
            generation: 0,
            pts: 0,
            time_base_num: 1,
            time_base_den: 90_000,
            capture_time_ns: 0,
            arrival_ns: 0,
            publish_ns: 0,
            access_unit: 0,
            width,
            height,
            pixel_format: format,
            color_range: ColorRange::Unknown,
            matrix: MATRIX_UNSPECIFIED,
            rotation: 0,
            flags: FrameFlags::NONE,
            planes,
        })
    }

    /// Bytes of payload from the start of the slot to the end of the last row of any plane, or
    /// what is wrong with the descriptor.
    pub fn payload_len(&self) -> Result<u64, BadDescriptor> {
        let mut end = 0u64;
        for index in 0..self.pixel_format.planes() {
            end = end.max(self.plane_range(index)?.end);
        }
        Ok(end)
    }

    /// Bytes of the slot's payload that plane `index` takes, its last row without padding.
    pub(crate) fn plane_range(&self, index: usize) -> Result<std::ops::Range<u64>, BadDescriptor> {
        let (row, rows) = self
            .pixel_format
            .plane_size(index, self.width, self.height)
            .filter(|(row, rows)| *row > 0 && *rows > 0)
            .ok_or(BadDescriptor::Size {
                width: self.width,
                height: self.height,
            })?;
        let plane = self.planes[index];
        if plane.stride < row {
            return Err(BadDescriptor::Stride {
                plane: index,
                stride: plane.stride,
                row,
            });
        }
        let end = (u64::from(plane.stride) * u64::from(rows - 1))
            .checked_add(u64::from(row))
            .and_then(|len| len.checked_add(plane.offset))
            .ok_or(BadDescriptor::Offset {
                plane: index,
                offset: plane.offset,
            })?;
        Ok(plane.offset..end)
    }

    /// Checks everything that a reader relies on, for a slot of `slot_bytes`.
    pub(crate) fn check(&self, slot_bytes: u64) -> Result<(), BadDescriptor> {
        if self.time_base_den == 0 || self.time_base_num == 0 {
            return Err(BadDescriptor::TimeBase {
                num: self.time_base_num,
                den: self.time_base_den,
            });
        }
        if !matches!(self.rotation, 0 | 90 | 180 | 270) {
            return Err(BadDescriptor::Rotation {
                degrees: self.rotation,
            });
        }
        let needed = self.payload_len()?;
        if needed > slot_bytes {
            return Err(BadDescriptor::TooLarge { needed, slot_bytes });
        }
        Ok(())
    }

    /// The words after `sequence` in a slot header (`layout::SlotHeader`).
    pub(crate) fn to_words(self) -> [u64; DESCRIPTOR_WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let picture = u64::from(self.pixel_format as u32)
            | u64::from(self.rotation) << 32
            | u64::from(self.color_range as u8) << 48
            | u64::from(self.matrix) << 56;
        let p = &self.planes;
        [
            pair(self.generation, self.flags.0),
            self.pts as u64,
            pair(self.time_base_num, self.time_base_den),
            self.capture_time_ns as u64,
            self.arrival_ns,
            self.publish_ns,
            self.access_unit,
            pair(self.width, self.height),
            picture,
            p[0].offset,
            p[1].offset,
            p[2].offset,
            p[3].offset,
            pair(p[0].stride, p[1].stride),
            pair(p[2].stride, p[3].stride),
        ]
    }

    /// Reads what [`FrameDescriptor::to_words`] wrote, from memory that may hold anything. The
    /// result still has to pass [`FrameDescriptor::check`].
    pub(crate) fn from_words(
        sequence: u64,
        words: &[u64; DESCRIPTOR_WORDS],
    ) -> Result<Self, BadDescriptor> {
        let low = |w: u64| w as u32;
        let high = |w: u64| (w >> 32) as u32;
        let plane = |offset: u64, stride: u32| Plane { offset, stride };
        let format = low(words[8]);
        let range = (words[8] >> 48) as u8;
        Ok(Self {
            sequence,
            generation: low(words[0]),
            flags: FrameFlags(high(words[0])),
            pts: words[1] as i64,
            time_base_num: low(words[2]),
            time_base_den: high(words[2]),
            capture_time_ns: words[3] as i64,
            arrival_ns: words[4],
            publish_ns: words[5],
            access_unit: words[6],
            width: low(words[7]),
            height: high(words[7]),
            pixel_format: PixelFormat::from_u32(format)
                .ok_or(BadDescriptor::PixelFormat { value: format })?,
            color_range: ColorRange::from_u8(range)
                .ok_or(BadDescriptor::ColorRange { value: range })?,
            matrix: (words[8] >> 56) as u8,
            rotation: (words[8] >> 32) as u16,
            planes: [
                plane(words[9], low(words[13])),
                plane(words[10], high(words[13])),
                plane(words[11], low(words[14])),
                plane(words[12], high(words[14])),
            ],
        })
    }
}

#[cfg(test)]
mod tests;
