//! `[[camera.view]]`: another shape of a stream's frames, in a ring of its own.
//!
//! Says what a view is and how its pictures lie in memory: the configuration, the supervisor (which
//! makes the ring) and the reader (which fills it) must agree on that. Converts nothing.

use camring_ring::{FrameRingSpec, PixelFormat, Plane};
use serde::{Deserialize, Serialize};

use super::site::Ring;

/// A view of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Unique in its stream: `detect`, attached to as `front-door:detect`.
    pub name: String,
    /// In pixels, [`View::MIN_SIDE`] to [`View::MAX_SIDE`]; even where the format halves chroma.
    pub width: u32,
    /// As `width`.
    pub height: u32,
    /// How pixels are stored.
    pub format: ViewFormat,
    /// The most frames in a second of media time; `None`: all of them. Above zero.
    pub fps: Option<f32>,
    /// What happens when the shapes differ.
    pub fit: Fit,
}

/// How the pixels of a view are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewFormat {
    /// Planar Y, U, V; chroma halved both ways.
    I420,
    /// Planar Y, interleaved UV; chroma halved both ways.
    Nv12,
    /// Y alone.
    Gray,
    /// R, G, B bytes.
    Rgb24,
    /// B, G, R bytes: what OpenCV works with.
    Bgr24,
}

impl ViewFormat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::I420, Self::Nv12, Self::Gray, Self::Rgb24, Self::Bgr24];

    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::I420 => "i420",
            Self::Nv12 => "nv12",
            Self::Gray => "gray",
            Self::Rgb24 => "rgb24",
            Self::Bgr24 => "bgr24",
        }
    }

    /// What the frames' descriptors say.
    pub fn pixel_format(self) -> PixelFormat {
        match self {
            Self::I420 => PixelFormat::I420,
            Self::Nv12 => PixelFormat::Nv12,
            Self::Gray => PixelFormat::Gray8,
            Self::Rgb24 => PixelFormat::Rgb24,
            Self::Bgr24 => PixelFormat::Bgr24,
        }
    }

    /// Whether one chroma sample stands for two columns and two rows.
    pub fn halves_chroma(self) -> bool {
        matches!(self, Self::I420 | Self::Nv12)
    }
}

/// How a picture is brought to a view's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Each side for itself: the picture fills the view, and its shape may change.
    Stretch,
    /// The whole picture in its own shape, in the middle, with black bars.
    Letterbox,
}

impl Fit {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stretch => "stretch",
            Self::Letterbox => "letterbox",
        }
    }
}

/// Rows and planes begin at multiples of this.
const ALIGNMENT: u32 = 64;

/// Bytes left free behind each plane: the scaler's SIMD code writes whole vectors, also at the end
/// of the last row.
const PADDING: u64 = 128;

impl View {
    /// Fewer pixels show nothing.
    pub const MIN_SIDE: u32 = 16;
    /// The most that a reader accepts of a camera, too.
    pub const MAX_SIDE: u32 = 8192;
    /// Each has words of its own in the page in which a reader counts.
    pub const MAX_VIEWS: usize = 8;
    /// As for `[decode] max_fps`.
    pub const MIN_FPS: f64 = 0.01;
    /// As for `[decode] max_fps`.
    pub const MAX_FPS: f64 = 1000.0;

    /// Where the planes lie in a slot, and how many bytes the slot has.
    pub fn layout(&self) -> ([Plane; 4], u64) {
        let format = self.format.pixel_format();
        let mut planes = [Plane::default(); 4];
        let mut offset = 0;
        for (index, plane) in planes.iter_mut().enumerate().take(format.planes()) {
            // Always there: the sides are limited.
            let Some((row, rows)) = format.plane_size(index, self.width, self.height) else {
                continue;
            };
            let stride = row.next_multiple_of(ALIGNMENT);
            *plane = Plane { offset, stride };
            offset += u64::from(stride) * u64::from(rows) + PADDING;
        }
        (planes, offset)
    }

    /// The shape of its ring: as `ring` says, but for the slots that only a decoder needs.
    pub fn ring_spec(&self, ring: &Ring, ring_id: u64, first_sequence: u64) -> FrameRingSpec {
        FrameRingSpec {
            depth: ring.depth,
            slots: ring.depth + 1 + ring.pins,
            slot_bytes: self.layout().1,
            ring_id,
            first_sequence,
        }
    }

    /// What its ring takes, in bytes.
    pub fn ring_bytes(&self, ring: &Ring) -> u64 {
        // Never fails for settings that are in range; if it does, nothing fits.
        let spec = self.ring_spec(ring, 1, 1);
        spec.file_size().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_one_behind_the_other_with_room_between_them() {
        let mut view = View {
            name: "v".into(),
            width: 640,
            height: 360,
            format: ViewFormat::Rgb24,
            fps: None,
            fit: Fit::Stretch,
        };
        let (planes, bytes) = view.layout();
        assert_eq!((planes[0].offset, planes[0].stride), (0, 1920));
        assert_eq!(bytes, 1920 * 360 + 128);
        view.format = ViewFormat::I420;
        let (planes, bytes) = view.layout();
        let luma = 640 * 360 + 128;
        assert_eq!((planes[1].offset, planes[1].stride), (luma, 320));
        assert_eq!(bytes, luma + 2 * (320 * 180 + 128));
        view.width = 642;
        assert_eq!(view.layout().0[0].stride, 704);
    }

    #[test]
    fn the_largest_view_has_a_ring_that_the_format_can_describe() {
        let view = View {
            name: "v".into(),
            width: View::MAX_SIDE,
            height: View::MAX_SIDE,
            format: ViewFormat::Bgr24,
            fps: None,
            fit: Fit::Letterbox,
        };
        let most = Ring {
            depth: Ring::MAX_DEPTH,
            pins: Ring::MAX_PINS,
            packets: Ring::MIN_PACKETS,
        };
        let spec = view.ring_spec(&most, 1, 1);
        assert!(spec.slots <= 255);
        assert!(spec.file_size().is_ok_and(|bytes| bytes < u64::MAX));
    }
}
