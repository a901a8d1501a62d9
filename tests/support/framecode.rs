//! The frame code of the test clips, read from a decoded picture.
//!
//! The format is described in `tests/farm/framecode.py`; this is the same decoder, so that a test can
//! tell from a picture's content which one it is, and whether it is whole.

use std::fmt;

const CELLS: usize = 32;
const BANDS: usize = 5;
const START: u32 = 0b1101;
const THRESHOLD: u16 = 126;

/// What one intact picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// Which clip.
    pub tag: u8,
    /// Which picture of the clip, from 0.
    pub index: u16,
}

/// Why a picture is not intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeError {
    /// Every band is readable, but they are not of one picture.
    Torn(Vec<Code>),
    /// A band holds no code: damage, or no picture of a test clip.
    Unreadable { band: usize, word: u32 },
    /// The plane is too small for its claimed size.
    TooShort,
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeError::Torn(codes) => write!(f, "torn: {codes:?}"),
            CodeError::Unreadable { band, word } => write!(f, "band {band} reads {word:08x}"),
            CodeError::TooShort => write!(f, "the plane is shorter than its picture"),
        }
    }
}

impl std::error::Error for CodeError {}

fn crc8(data: &[u8]) -> u8 {
    !data.iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            (crc << 1) ^ if crc & 0x80 != 0 { 0x2f } else { 0 }
        })
    })
}

fn band_height(height: usize) -> usize {
    (height / 40 / 2 * 2).max(8)
}

fn band_top(band: usize, height: usize) -> usize {
    (height - band_height(height)) * band / (BANDS - 1) / 2 * 2
}

fn word_of(band: usize, code: Code) -> u32 {
    let [high, low] = code.index.to_be_bytes();
    let crc = crc8(&[band as u8, code.tag, high, low]);
    START << 28 | u32::from(code.tag) << 22 | u32::from(code.index) << 8 | u32::from(crc)
}

/// Reads the code of a picture of `width` × `height` 8-bit luma samples, `stride` bytes apart.
/// Any content is safe; at least 64 × 40 samples are needed.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize) -> Result<Code, CodeError> {
    if width < 2 * CELLS
        || height < 40
        || stride < width
        || luma.len() < stride * (height - 1) + width
    {
        return Err(CodeError::TooShort);
    }
    let cell = width / CELLS;
    let mut codes = Vec::with_capacity(2 * BANDS);
    for band in 0..BANDS {
        let middle = band_top(band, height) + band_height(height) / 2;
        // Two neighbouring rows: one of each field of an interlaced picture.
        for row in [middle - 1, middle] {
            let row = &luma[row * stride..][..width];
            let word = (0..CELLS).fold(0u32, |word, i| {
                let at = i * cell + cell / 2;
                let white = u16::from(row[at - 1]) + u16::from(row[at]) > 2 * THRESHOLD;
                word << 1 | u32::from(white)
            });
            let code = Code {
                tag: (word >> 22 & 0x3f) as u8,
                index: (word >> 8 & 0x3fff) as u16,
            };
            if word != word_of(band, code) {
                return Err(CodeError::Unreadable { band, word });
            }
            codes.push(code);
        }
    }
    if codes.iter().any(|code| *code != codes[0]) {
        return Err(CodeError::Torn(codes));
    }
    Ok(codes[0])
}

/// Writes the code into a luma plane, as the clips have it: for tests that need no codec.
pub fn burn(luma: &mut [u8], stride: usize, width: usize, height: usize, code: Code) {
    let cell = width / CELLS;
    for band in 0..BANDS {
        let word = word_of(band, code);
        for row in 0..band_height(height) {
            let row = &mut luma[(band_top(band, height) + row) * stride..][..width];
            for (x, sample) in row.iter_mut().enumerate() {
                let i = x / cell.max(1);
                *sample = if i < CELLS && word >> (31 - i) & 1 != 0 {
                    235
                } else {
                    16
                };
            }
        }
    }
}

/// Follows one camera by content: which pictures came, in which order.
#[derive(Debug)]
pub struct Witness {
    tag: u8,
    pictures: u16,
    last: Option<u16>,
}

impl Witness {
    /// `pictures`: how many the clip has before it repeats.
    pub fn new(tag: u8, pictures: u16) -> Self {
        Witness {
            tag,
            pictures,
            last: None,
        }
    }

    /// Of its pictures.
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// How many pictures the clip has before it repeats.
    pub fn pictures(&self) -> u16 {
        self.pictures
    }

    /// How far this picture is from the one seen before: 1 is the next one, 0 the same again, more means
    /// that pictures were lost (modulo the clip). 1 for the first. Panics when it is of another camera.
    pub fn step(&mut self, code: Code) -> u16 {
        assert_eq!(code.tag, self.tag, "a picture of another camera");
        assert!(
            code.index < self.pictures,
            "{code:?} is not in a clip of {} pictures",
            self.pictures
        );
        let last = self.last.replace(code.index);
        last.map_or(1, |last| {
            (code.index + self.pictures - last) % self.pictures
        })
    }
}
