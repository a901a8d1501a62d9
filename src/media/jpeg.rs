//! One picture as a JPEG file (what `snapshot` writes) or as RGB (`pipe`).

use super::{ColorRange, MediaError, PixelFormat};

/// A picture in memory.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub format: PixelFormat,
    /// In pixels; at most 65,500 (a limit of JPEG).
    pub width: u32,
    pub height: u32,
    /// Unknown is taken for limited where the format is YUV, for full otherwise.
    pub range: ColorRange,
    /// ITU-T H.273 MatrixCoefficients; anything but 1, 4, 7, 9 and 10 is taken for BT.601.
    pub matrix: u8,
    /// For each plane its bytes and its stride in bytes. The last row need not be padded.
    pub planes: &'a [(&'a [u8], usize)],
}

/// Quantiser scale of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality(u8);

impl Quality {
    /// From 2 (best, largest) to 31; other values are taken for the nearest of these.
    pub fn new(scale: u8) -> Self {
        Self(scale.clamp(2, 31))
    }

    /// From per cent, as everybody knows it.
    pub fn percent(percent: u8) -> Self {
        Self::new(31 - (percent.min(100) / 2).min(29))
    }

    /// From 2 to 31.
    pub(super) fn scale(self) -> u8 {
        self.0
    }
}

impl Default for Quality {
    /// About what cameras call "high": 10:1 for a daylight scene.
    fn default() -> Self {
        Self(3)
    }
}

/// Encodes `image` as a baseline JPEG (JFIF: full range, BT.601), converting as range and matrix say.
/// Chroma is kept as it is subsampled; 10-bit samples lose two bits.
pub fn encode(image: &Image<'_>, quality: Quality) -> Result<Vec<u8>, MediaError> {
    if image.width == 0 || image.height == 0 || image.width > 65_500 || image.height > 65_500 {
        return Err(MediaError::Geometry(
            "a JPEG is 1 to 65,500 pixels wide and high",
        ));
    }
    image.check()?;
    super::ffi::jpeg::encode(image, quality.0)
}

/// Appends `image` to `out` as rows of R, G, B bytes without padding, full range, converted as range
/// and matrix say.
pub fn append_rgb24(image: &Image<'_>, out: &mut Vec<u8>) -> Result<(), MediaError> {
    image.check()?;
    super::ffi::rgb::append(image, out)
}

impl Image<'_> {
    /// Every plane has its rows.
    pub(super) fn check(&self) -> Result<(), MediaError> {
        let image = self;
        if image.planes.len() != image.format.planes() {
            return Err(MediaError::Geometry(
                "the number of planes does not fit the format",
            ));
        }
        for (index, (bytes, stride)) in image.planes.iter().enumerate() {
            let (row, rows) = image
                .format
                .plane_size(index, image.width, image.height)
                .ok_or(MediaError::Geometry("a plane is too large to describe"))?;
            let needed = stride
                .checked_mul(rows as usize - 1)
                .and_then(|n| n.checked_add(row as usize));
            if *stride < row as usize || needed.is_none_or(|needed| bytes.len() < needed) {
                return Err(MediaError::Geometry("a plane is shorter than its rows"));
            }
        }
        Ok(())
    }
}
