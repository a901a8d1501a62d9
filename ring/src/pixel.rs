//! What the bytes of a frame mean: pixel formats and colour range.
//!
//! The numbers are part of the ring format (`docs/reference/ring-format.md`): never reuse one.

/// Pixel format of a frame. Names are those of FFmpeg where it has one.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Planar Y, U, V; chroma halved both ways; 8 bits.
    I420 = 1,
    /// Planar Y, U, V; chroma halved horizontally; 8 bits.
    I422 = 2,
    /// Planar Y, U, V; full chroma; 8 bits.
    I444 = 3,
    /// Planar Y, interleaved UV; chroma halved both ways; 8 bits.
    Nv12 = 4,
    /// Y only; 8 bits.
    Gray8 = 5,
    /// As `I420`, 10 bits in 16, little endian.
    I420p10 = 6,
    /// As `I422`, 10 bits in 16, little endian.
    I422p10 = 7,
    /// As `I444`, 10 bits in 16, little endian.
    I444p10 = 8,
    /// Packed R, G, B; 8 bits.
    Rgb24 = 16,
    /// Packed B, G, R; 8 bits.
    Bgr24 = 17,
}

impl PixelFormat {
    /// Every format.
    pub const ALL: [Self; 10] = [
        Self::I420,
        Self::I422,
        Self::I444,
        Self::Nv12,
        Self::Gray8,
        Self::I420p10,
        Self::I422p10,
        Self::I444p10,
        Self::Rgb24,
        Self::Bgr24,
    ];

    /// Short lower-case name, stable.
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

    /// The format with this number, as found in a slot header.
    pub fn from_u32(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|f| *f as u32 == value)
    }

    /// Number of planes, 1 to 3.
    pub fn planes(self) -> usize {
        match self {
            Self::Gray8 | Self::Rgb24 | Self::Bgr24 => 1,
            Self::Nv12 => 2,
            _ => 3,
        }
    }

    /// Bytes of one row and number of rows of a plane of a `width` × `height` picture; odd sizes
    /// round up. `None` when there is no such plane, or a row does not fit in u32.
    pub fn plane_size(self, plane: usize, width: u32, height: u32) -> Option<(u32, u32)> {
        if plane >= self.planes() {
            return None;
        }
        let half = |n: u32| n.div_ceil(2);
        let (columns, rows) = match (self, plane) {
            (Self::I420 | Self::I420p10, 1 | 2) => (half(width), half(height)),
            (Self::I422 | Self::I422p10, 1 | 2) => (half(width), height),
            (Self::Nv12, 1) => (half(width).checked_mul(2)?, half(height)),
            _ => (width, height),
        };
        let bytes = match self {
            Self::I420p10 | Self::I422p10 | Self::I444p10 => 2,
            Self::Rgb24 | Self::Bgr24 => 3,
            _ => 1,
        };
        Some((columns.checked_mul(bytes)?, rows))
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Range of the sample values.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ColorRange {
    /// The stream does not say. Video of cameras is usually limited, JPEG full.
    #[default]
    Unknown = 0,
    /// Y 16–235, chroma 16–240 (8 bits).
    Limited = 1,
    /// All values.
    Full = 2,
}

impl ColorRange {
    /// Short lower-case name, stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Limited => "limited",
            Self::Full => "full",
        }
    }

    /// The range with this number, as found in a slot header.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Unknown),
            1 => Some(Self::Limited),
            2 => Some(Self::Full),
            _ => None,
        }
    }
}

/// Matrix coefficients "unspecified" (ITU-T H.273 table 4, code point 2).
pub const MATRIX_UNSPECIFIED: u8 = 2;
