//! Pictures in another shape: scaled, converted, with bars where the shapes differ.
//!
//! Promises: the destination is written whole, bars included, and nothing beside it; colours are
//! what the source says they are; nothing is allocated after the first picture of a stream.
//! Must never: keep a picture.

use std::fmt;

use super::ffi::scale::{PlaneMut, Rescaler, Target};
use super::{ColorRange, MediaError, Picture, PixelFormat, Plane};

/// ITU-T H.273 MatrixCoefficients: red, green and blue.
const MATRIX_RGB: u8 = 0;
/// ITU-R BT.601.
const MATRIX_BT601: u8 = 6;
/// Nothing said.
const MATRIX_UNSPECIFIED: u8 = 2;

/// What pictures are made into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewShape {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// One of 8 bits: I420, NV12, gray, RGB24 or BGR24.
    pub format: PixelFormat,
    /// Keep the shape of what is seen, and put black bars beside it; else both sides are scaled
    /// each for itself.
    pub letterbox: bool,
    /// Where the planes lie, in order, each with at least 128 bytes free behind it.
    pub planes: [Plane; 4],
}

/// A picture that has been made into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    pub range: ColorRange,
    /// ITU-T H.273 MatrixCoefficients; 2: unspecified.
    pub matrix: u8,
}

/// Converts one stream's pictures into one shape. For one thread at a time.
pub struct ViewConverter {
    shape: ViewShape,
    scaler: Rescaler,
}

impl ViewConverter {
    /// Works nothing out yet: that waits for the first picture.
    pub fn new(shape: ViewShape) -> Self {
        Self {
            shape,
            scaler: Rescaler::default(),
        }
    }

    /// Makes `picture` into the shape, in `slot`.
    ///
    /// Luma and chroma stay in the picture's own range and matrix; RGB is full range.
    pub fn convert(&mut self, picture: &Picture, slot: &mut [u8]) -> Result<Converted, MediaError> {
        let shape = self.shape;
        let colours = colours(shape.format, picture);
        let part = match shape.letterbox {
            true => letterbox(
                (picture.width(), picture.height()),
                picture.pixel_aspect(),
                (shape.width, shape.height),
            ),
            false => Part {
                x: 0,
                y: 0,
                width: shape.width,
                height: shape.height,
            },
        };
        let mut planes = split(&shape, slot)?;
        let to = Target {
            width: part.width,
            height: part.height,
            format: shape.format,
            range: colours.range,
            matrix: colours.matrix,
        };
        {
            let mut inner: [PlaneMut<'_>; 3] = [(&mut [], 0), (&mut [], 0), (&mut [], 0)];
            let count = shape.format.planes();
            for (index, (plane, inner)) in planes.iter_mut().zip(&mut inner).enumerate() {
                let area = area(shape.format, index, part);
                let start = area.y * plane.1 as usize + area.x;
                let bytes = plane.0.get_mut(start..);
                *inner = (
                    bytes.ok_or(MediaError::Geometry("no room for a plane"))?,
                    plane.1,
                );
            }
            picture.scale_into(&mut self.scaler, &to, &mut inner[..count])?;
        }
        // Afterwards: the scaler writes whole vectors, also behind the end of a row.
        if (part.width, part.height) != (shape.width, shape.height) {
            for (index, (bytes, stride)) in planes.iter_mut().enumerate() {
                let black = black(shape.format, index, colours.range);
                let whole = (shape.width, shape.height);
                paint_bars(
                    bytes,
                    *stride as usize,
                    shape.format,
                    index,
                    whole,
                    part,
                    black,
                );
            }
        }
        Ok(colours)
    }
}

impl fmt::Debug for ViewConverter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewConverter")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// What the samples of a view mean.
fn colours(format: PixelFormat, picture: &Picture) -> Converted {
    let (range, matrix) = match format {
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => (ColorRange::Full, MATRIX_RGB),
        PixelFormat::Gray8 if picture.is_rgb() => (ColorRange::Full, MATRIX_UNSPECIFIED),
        _ if picture.is_rgb() => (ColorRange::Limited, MATRIX_BT601),
        // Gray alone is taken for full range by many: what the camera leaves open is said here.
        PixelFormat::Gray8 if picture.color_range() == ColorRange::Unknown => {
            (ColorRange::Limited, picture.matrix())
        }
        _ => (picture.color_range(), picture.matrix()),
    };
    Converted { range, matrix }
}

/// A rectangle of a picture, in pixels, or of a plane, in bytes and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part<N> {
    x: N,
    y: N,
    width: N,
    height: N,
}

/// Where a picture goes in a view that keeps its shape: as large as possible, in the middle, at even
/// places and of even size, so that colour samples are never shared with a bar.
fn letterbox(source: (u32, u32), aspect: (u32, u32), view: (u32, u32)) -> Part<u32> {
    // Sides are below 2^14 and aspects below 2^31: products fit.
    let shape = (
        u128::from(source.0.max(1)) * u128::from(aspect.0),
        u128::from(source.1.max(1)) * u128::from(aspect.1),
    );
    let (width, height) = (u128::from(view.0), u128::from(view.1));
    // The nearest even number, but not more than there is, and not nothing.
    let even = |part: u128, whole: u128, most: u32| {
        let nearest = u32::try_from((part + whole) / (2 * whole)).unwrap_or(most);
        nearest.saturating_mul(2).clamp(2, most & !1)
    };
    let (width, height) = if shape.0 * height >= shape.1 * width {
        // Wider than the view: bars above and below.
        (view.0, even(width * shape.1, shape.0, view.1))
    } else {
        (even(height * shape.0, shape.1, view.0), view.1)
    };
    Part {
        x: ((view.0 - width) / 2) & !1,
        y: ((view.1 - height) / 2) & !1,
        width,
        height,
    }
}

/// The same rectangle in a plane. Its corner is at even places.
fn area(format: PixelFormat, plane: usize, part: Part<u32>) -> Part<usize> {
    let half = |n: u32| n.div_ceil(2) as usize;
    match (format, plane) {
        (PixelFormat::I420, 1 | 2) => Part {
            x: half(part.x),
            y: half(part.y),
            width: half(part.width),
            height: half(part.height),
        },
        (PixelFormat::Nv12, 1) => Part {
            x: half(part.x) * 2,
            y: half(part.y),
            width: half(part.width) * 2,
            height: half(part.height),
        },
        _ => {
            let bytes = match format {
                PixelFormat::Rgb24 | PixelFormat::Bgr24 => 3,
                _ => 1,
            };
            Part {
                x: part.x as usize * bytes,
                y: part.y as usize,
                width: part.width as usize * bytes,
                height: part.height as usize,
            }
        }
    }
}

/// The sample that is black.
fn black(format: PixelFormat, plane: usize, range: ColorRange) -> u8 {
    match (format, plane, range) {
        (PixelFormat::Rgb24 | PixelFormat::Bgr24, ..) | (_, 0, ColorRange::Full) => 0,
        // A stream that does not say is taken for limited range, as everywhere.
        (_, 0, _) => 16,
        _ => 128,
    }
}

/// The planes of a slot, each with what lies behind it.
fn split<'a>(shape: &ViewShape, slot: &'a mut [u8]) -> Result<Vec<PlaneMut<'a>>, MediaError> {
    let count = shape.format.planes();
    let mut planes = Vec::with_capacity(count);
    let mut rest = slot;
    let mut at = 0;
    for index in 0..count {
        let start = |index: usize| usize::try_from(shape.planes[index].offset).ok();
        let here = start(index).and_then(|here| here.checked_sub(at));
        let skipped = here.and_then(|here| rest.split_at_mut_checked(here));
        let (_, plane) = skipped.ok_or(MediaError::Geometry("no room for a plane"))?;
        at += here.unwrap_or(0);
        let len = match index + 1 < count {
            true => start(index + 1).and_then(|next| next.checked_sub(at)),
            false => Some(plane.len()),
        };
        let parts = len.and_then(|len| plane.split_at_mut_checked(len));
        let (plane, behind) = parts.ok_or(MediaError::Geometry("no room for a plane"))?;
        at += plane.len();
        planes.push((plane, shape.planes[index].stride));
        rest = behind;
    }
    Ok(planes)
}

/// Paints everything of a plane but `part`.
fn paint_bars(
    bytes: &mut [u8],
    stride: usize,
    format: PixelFormat,
    plane: usize,
    (width, height): (u32, u32),
    part: Part<u32>,
    black: u8,
) {
    let whole = area(
        format,
        plane,
        Part {
            x: 0,
            y: 0,
            width,
            height,
        },
    );
    let inner = area(format, plane, part);
    let rows = bytes.chunks_mut(stride.max(1)).take(whole.height);
    for (index, row) in rows.enumerate() {
        let row = match row.len() >= whole.width {
            true => &mut row[..whole.width],
            false => continue,
        };
        if (inner.y..inner.y + inner.height).contains(&index) {
            row[..inner.x].fill(black);
            row[inner.x + inner.width..].fill(black);
        } else {
            row.fill(black);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(source: (u32, u32), aspect: (u32, u32), view: (u32, u32)) -> [u32; 4] {
        let part = letterbox(source, aspect, view);
        [part.x, part.y, part.width, part.height]
    }

    #[test]
    fn a_letterboxed_picture_is_as_large_as_possible_and_in_the_middle() {
        let square = (1, 1);
        assert_eq!(fitted((1280, 720), square, (640, 360)), [0, 0, 640, 360]);
        assert_eq!(fitted((1280, 720), square, (640, 640)), [0, 140, 640, 360]);
        assert_eq!(fitted((1280, 720), square, (320, 640)), [0, 230, 320, 180]);
        assert_eq!(fitted((640, 480), square, (640, 360)), [80, 0, 480, 360]);
        // 704 × 576 with pixels of 12:11 is 768 × 576, which is 4:3.
        assert_eq!(fitted((704, 576), (12, 11), (640, 480)), [0, 0, 640, 480]);
        assert_eq!(fitted((704, 576), square, (640, 480)), [26, 0, 586, 480]);
    }

    #[test]
    fn every_place_is_even_and_inside_whatever_the_shapes_are() {
        for source in [(1, 1), (8192, 16), (16, 8192), (1920, 1080), (353, 289)] {
            for aspect in [(1, 1), (12, 11), (i32::MAX as u32, i32::MAX as u32 - 1)] {
                for view in [(16, 16), (17, 19), (640, 360), (8192, 16), (416, 416)] {
                    let [x, y, width, height] = fitted(source, aspect, view);
                    let what = format!("{source:?} {aspect:?} {view:?}");
                    assert!(x % 2 == 0 && y % 2 == 0, "{what}");
                    assert!(width >= 2 && height >= 2, "{what}");
                    assert!(x + width <= view.0 && y + height <= view.1, "{what}");
                    assert!(
                        width == view.0 || width % 2 == 0 && height == view.1,
                        "{what}"
                    );
                }
            }
        }
    }

    #[test]
    fn bars_are_black_and_nothing_else_is() {
        let part = Part {
            x: 2,
            y: 2,
            width: 4,
            height: 2,
        };
        for (format, plane, black, expected) in [
            (PixelFormat::Gray8, 0, 16, 8 * 6 - 8),
            (PixelFormat::Rgb24, 0, 0, 3 * (8 * 6 - 8)),
            (PixelFormat::Nv12, 1, 128, 8 * 3 - 4),
            (PixelFormat::I420, 2, 128, 4 * 3 - 2),
        ] {
            let mut bytes = vec![77; 32 * 6];
            paint_bars(&mut bytes, 32, format, plane, (8, 6), part, black);
            let painted = bytes.iter().filter(|byte| **byte == black).count();
            assert_eq!(painted, expected, "{format}");
        }
    }
}
