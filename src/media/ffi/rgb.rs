//! One picture as packed RGB, for programs that know nothing else.

use ffmpeg_next::ffi as av;

use super::frame::Frame;
use super::jpeg::{frame_of, range_of};
use super::scale::{Colours, convert_colours};
use crate::media::jpeg::Image;
use crate::media::{ColorRange, MediaError};

/// Appends `image`, whose planes have been checked, as rows of R, G, B without padding.
pub(in crate::media) fn append(image: &Image<'_>, out: &mut Vec<u8>) -> Result<(), MediaError> {
    let source = frame_of(image)?;
    let from = Colours {
        range: range_of(image.range, image.format),
        matrix: image.matrix,
    };
    append_frame(&source, from, out)
}

/// Appends a frame in the same way.
pub(super) fn append_frame(
    source: &Frame,
    from: Colours,
    out: &mut Vec<u8>,
) -> Result<(), MediaError> {
    let to = Colours {
        range: ColorRange::Full,
        matrix: from.matrix,
    };
    let format = av::AVPixelFormat::AV_PIX_FMT_RGB24;
    let frame = convert_colours(source, from, format, "rgb24", to)?;
    let (width, height) = frame.size();
    let (pixels, linesize) = frame.plane(0);
    let linesize = usize::try_from(linesize).unwrap_or(0);
    let row = width as usize * 3;
    if pixels.is_null() || linesize < row {
        return Err(MediaError::Geometry("a plane is missing"));
    }
    out.reserve(row * height as usize);
    for line in 0..height as usize {
        // SAFETY: convert_colours made this frame with `height` rows of `linesize` ≥ `row` bytes, all
        // of them written by swscale, and nobody else has it.
        let bytes = unsafe { std::slice::from_raw_parts(pixels.add(line * linesize), row) };
        out.extend_from_slice(bytes);
    }
    Ok(())
}
