//! JPEGs: one picture of a recording, one of the live ring, or many on a sheet.
#![deny(unsafe_code)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use camring_ring::{ColorRange, PixelFormat};

use super::input::Inputs;
use super::output::Output;
use super::pictures::{Flow, Pictures};
use super::protocol::{Image, Still, Storyboard, Trouble, TroubleKind};
use crate::media::jpeg::{self, Quality};
use crate::media::{Canvas, CanvasScaler, EncoderKind, MediaError, Picture, packed_layout};

/// The largest picture in memory: 8192 × 8192 in RGB.
const MAX_IMAGE: u64 = 3 << 26;

/// A picture of the live ring.
pub(super) fn image(image: &Image, memory: OwnedFd, output: &mut Output) -> Result<(), Trouble> {
    let wrong = || Trouble::internal("a picture in memory makes no sense");
    let format = PixelFormat::from_u32(image.format).ok_or_else(wrong)?;
    let range = ColorRange::from_u8(image.range).ok_or_else(wrong)?;
    let sum = |total: u64, plane: &(u64, u64, u32)| total.checked_add(plane.1);
    let total = image.planes.iter().try_fold(0, sum).ok_or_else(wrong)?;
    if total > MAX_IMAGE || image.planes.len() > 4 {
        return Err(wrong());
    }
    let memory = File::from(memory);
    let mut planes = Vec::new();
    for (start, len, stride) in &image.planes {
        let mut bytes = vec![0; usize::try_from(*len).map_err(|_| wrong())?];
        memory
            .read_exact_at(&mut bytes, *start)
            .map_err(|_| wrong())?;
        planes.push((bytes, *stride as usize));
    }
    let planes: Vec<(&[u8], usize)> = planes
        .iter()
        .map(|(bytes, stride)| (&bytes[..], *stride))
        .collect();
    let image_in = jpeg::Image {
        format,
        width: image.width,
        height: image.height,
        range,
        matrix: image.matrix,
        planes: &planes,
    };
    let quality = Quality::percent(image.still.quality);
    let bytes = match scaled_size(&image.still, image.width, image.height, (1, 1)) {
        None => jpeg::encode(&image_in, quality)?,
        Some((width, height)) => {
            let mut scaler = CanvasScaler::new(EncoderKind::X264, width, height);
            scaler
                .scale(&Canvas::of_image(&image_in)?)?
                .to_jpeg(quality)?
        }
    };
    output.put(&bytes)
}

/// The picture with exactly the time asked for.
pub(super) fn snapshot(
    still: &Still,
    inputs: &mut Inputs<'_>,
    output: &mut Output,
) -> Result<(), Trouble> {
    let mut piece = inputs.only()?;
    let mut made = None;
    // libavformat's times and the index's are the same but for what a timescale cannot express.
    let mut each = |picture: &Picture, time: i64, span: &super::protocol::Span| {
        if time.abs_diff(span.from) > 1 {
            return Ok(Flow::On);
        }
        made = Some(jpeg_of(picture, still)?);
        Ok(Flow::Enough)
    };
    let mut pictures = Pictures::default();
    if pictures.decode(&mut piece, &mut each)? == Flow::On {
        pictures.finish(&mut each)?;
    }
    match made {
        Some(bytes) => output.put(&bytes),
        None => Err(Trouble::new(
            TroubleKind::Damaged,
            "the picture was recorded, but cannot be decoded: packets were lost on the way from \
             the camera",
        )),
    }
}

fn jpeg_of(picture: &Picture, still: &Still) -> Result<Vec<u8>, MediaError> {
    let quality = Quality::percent(still.quality);
    let (width, height) = (picture.width(), picture.height());
    if let Some((width, height)) = scaled_size(still, width, height, picture.pixel_aspect()) {
        let mut scaler = CanvasScaler::new(EncoderKind::X264, width, height);
        return scaler.scale_picture(picture)?.to_jpeg(quality);
    }
    let format = picture.pixel_format()?;
    let (planes, bytes) = packed_layout(format, width, height)
        .ok_or(MediaError::Geometry("the picture is too large to describe"))?;
    let mut copy = vec![0; bytes];
    picture.copy_into(&mut copy)?;
    let planes: Vec<(&[u8], usize)> = planes[..format.planes()]
        .iter()
        .map(|plane| (&copy[plane.offset as usize..], plane.stride as usize))
        .collect();
    jpeg::encode(
        &jpeg::Image {
            format,
            width,
            height,
            range: picture.color_range(),
            matrix: picture.matrix(),
            planes: &planes,
        },
        quality,
    )
}

/// The size that was asked for, with the picture's shape as it is seen; `None`: as it is.
fn scaled_size(still: &Still, width: u32, height: u32, aspect: (u32, u32)) -> Option<(u32, u32)> {
    let shown = u64::from(width) * u64::from(aspect.0.max(1)) / u64::from(aspect.1.max(1));
    let shown = u32::try_from(shown).unwrap_or(width).max(1);
    let wanted = still.width.unwrap_or(shown).min(shown);
    if wanted == width && aspect.0 == aspect.1 {
        return None;
    }
    Some((wanted, height_for(wanted, shown, height)))
}

/// The height that keeps the shape, even.
pub(super) fn height_for(width: u32, of_width: u32, of_height: u32) -> u32 {
    let exact = u64::from(width) * u64::from(of_height) / u64::from(of_width.max(1));
    u32::try_from(exact)
        .unwrap_or(of_height)
        .next_multiple_of(2)
        .max(2)
}

/// One picture of each piece, at its place on the sheet.
pub(super) fn storyboard(
    board: &Storyboard,
    inputs: &mut Inputs<'_>,
    output: &mut Output,
) -> Result<(), Trouble> {
    let width = board.columns.saturating_mul(board.width);
    let height = board.rows.saturating_mul(board.height);
    if u64::from(width) * u64::from(height) > MAX_IMAGE || width > 65_500 || height > 65_500 {
        return Err(Trouble::new(TroubleKind::TooLarge, "too many thumbnails"));
    }
    let mut sheet = Canvas::grey(width, height)?;
    let mut scaler = CanvasScaler::new(EncoderKind::X264, board.width, board.height);
    while let Some(mut piece) = inputs.next()? {
        let Some(cell) = board.cells.get(piece.index as usize) else {
            break;
        };
        let (x, y) = (cell % board.columns.max(1), cell / board.columns.max(1));
        let mut each = |picture: &Picture, _: i64, _: &super::protocol::Span| {
            let cell = scaler.scale_picture(picture)?;
            sheet.paste(&cell, x * board.width, y * board.height)?;
            scaler.recycle(cell);
            Ok(Flow::Enough)
        };
        let mut pictures = Pictures::default();
        // A cell that cannot be decoded stays grey.
        let drawn = pictures
            .decode(&mut piece, &mut each)
            .and_then(|flow| match flow {
                Flow::On => pictures.finish(&mut each),
                Flow::Enough => Ok(flow),
            });
        if let Err(trouble) = drawn {
            tracing::warn!("a thumbnail is missing: {trouble}");
        }
    }
    output.put(&sheet.to_jpeg(Quality::percent(board.quality))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes come from a ring's header, which its reader writes.
    #[test]
    fn a_picture_whose_planes_make_no_sense_is_refused() {
        let still = Still {
            width: None,
            quality: 80,
        };
        let plane = |len| (0, len, 64);
        for planes in [
            vec![plane(u64::MAX), plane(2)],
            vec![plane(MAX_IMAGE + 1)],
            vec![plane(1); 5],
            vec![(u64::MAX, 64, 64)],
        ] {
            let image_in = Image {
                format: PixelFormat::I420 as u32,
                width: 64,
                height: 64,
                range: ColorRange::Limited as u8,
                matrix: 1,
                planes,
                still,
            };
            let memory = tempfile::tempfile().unwrap().into();
            let mut output = Output::new(tempfile::tempfile().unwrap().into());
            let refused = image(&image_in, memory, &mut output).unwrap_err();
            assert_eq!(refused.kind, TroubleKind::Internal, "{refused}");
        }
    }
}
