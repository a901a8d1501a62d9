//! The vocabulary of pictures.

/// How the samples of a picture lie in memory.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    I420 = 1,
    I422 = 2,
    I444 = 3,
    Nv12 = 4,
    Gray8 = 5,
    I420p10 = 6,
    I422p10 = 7,
    I444p10 = 8,
    Rgb24 = 16,
    Bgr24 = 17,
}

impl PixelFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::I420 => "i420",
            Self::I422 => "i422",
            Self::I444 => "i444",
            Self::Nv12 => "nv12",
            Self::Gray8 => "gray8",
            Self::I420p10 => "i420p10",
            Self::I422p10 => "i422p10",
            Self::I444p10 => "i444p10",
            Self::Rgb24 => "rgb24",
            Self::Bgr24 => "bgr24",
        }
    }
    pub fn planes(self) -> usize {
        match self {
            Self::Gray8 | Self::Rgb24 | Self::Bgr24 => 1,
            Self::Nv12 => 2,
            _ => 3,
        }
    }
    pub fn plane_size(self, plane: usize, width: u32, height: u32) -> Option<(u32, u32)> {
        if plane >= self.planes() {
            return None;
        }
        let chroma = plane > 0;
        let half = |v: u32| v.div_ceil(2);
        Some(match self {
            Self::Gray8 => (width, height),
            Self::Rgb24 | Self::Bgr24 => (width.checked_mul(3)?, height),
            Self::Nv12 if chroma => (half(width).checked_mul(2)?, half(height)),
            Self::I420 if chroma => (half(width), half(height)),
            Self::I422 if chroma => (half(width), height),
            Self::I420p10 if chroma => (half(width).checked_mul(2)?, half(height)),
            Self::I422p10 if chroma => (half(width).checked_mul(2)?, height),
            Self::I420p10 | Self::I422p10 | Self::I444p10 => (width.checked_mul(2)?, height),
            _ => (width, height),
        })
    }
}

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColorRange {
    Unknown = 0,
    Limited = 1,
    Full = 2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plane {
    pub offset: u64,
    pub stride: u32,
}

#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264 = 1,
    H265 = 2,
    Mjpeg = 3,
    Av1 = 4,
    Mpeg4 = 5,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
            Self::Av1 => "av1",
            Self::Mpeg4 => "mpeg4",
        }
    }
}
