//! Conversion of a picture's samples (swscale), without scaling.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::frame::Frame;
use super::pixel;
use crate::media::{ColorRange, MediaError, PixelFormat};

/// ITU-R BT.601, what a picture that does not say is taken for (JFIF says so for JPEG).
const BT601: u8 = 6;

/// How the samples of one side of a conversion are to be understood.
#[derive(Clone, Copy)]
pub(super) struct Colours {
    pub(super) range: ColorRange,
    /// ITU-T H.273 MatrixCoefficients.
    pub(super) matrix: u8,
}

impl Colours {
    /// What JFIF demands.
    pub(super) const JPEG: Self = Self {
        range: ColorRange::Full,
        matrix: BT601,
    };

    fn full(self) -> c_int {
        c_int::from(self.range == ColorRange::Full)
    }

    fn coefficients(self) -> *const c_int {
        let table = match self.matrix {
            1 => av::SWS_CS_ITU709,
            4 => av::SWS_CS_FCC,
            7 => av::SWS_CS_SMPTE240M,
            9 | 10 => av::SWS_CS_BT2020,
            _ => av::SWS_CS_ITU601,
        };
        // SAFETY: a constant table for every argument.
        unsafe { av::sws_getCoefficients(table) }
    }
}

/// Converts a decoded picture to `format`, same size, range and matrix.
pub(super) fn convert(source: &Frame, format: PixelFormat) -> Result<Frame, MediaError> {
    let name = pixel::name(source.format());
    // swscale takes gray for full range whatever it is told: told the same of the other side, it
    // leaves the range alone.
    let full = source.raw_range() == av::AVColorRange::AVCOL_RANGE_JPEG as u32
        || name.starts_with("yuvj")
        || name.starts_with("gray");
    let colours = Colours {
        range: if full {
            ColorRange::Full
        } else {
            ColorRange::Limited
        },
        matrix: u8::try_from(source.raw_matrix()).unwrap_or(2),
    };
    let to = pixel::to_av(format).ok_or_else(|| MediaError::Convert {
        from: name,
        to: format.name(),
    })?;
    convert_colours(source, colours, to, format.name(), colours)
}

/// Converts `source` to a new frame of the same size. `name` is for the error.
pub(super) fn convert_colours(
    source: &Frame,
    from: Colours,
    format: av::AVPixelFormat,
    name: &'static str,
    to: Colours,
) -> Result<Frame, MediaError> {
    let error = || MediaError::Convert {
        from: pixel::name(source.format()),
        to: name,
    };
    let source_format = pixel::from_raw(source.format()).ok_or_else(error)?;
    // SAFETY: a valid frame.
    let (width, height) = unsafe { ((*source.as_ptr()).width, (*source.as_ptr()).height) };
    let mut target = Frame::with_buffers(format, width, height)?;
    let context =
        Scaler::new(width, height, (source_format, from), (format, to)).ok_or_else(error)?;
    let raw = target.as_mut_ptr();
    // SAFETY: both frames have the format and the size for which the context was made, and buffers
    // that libavcodec or av_frame_get_buffer padded as swscale's SIMD code needs it. `target` is ours
    // alone.
    let rows = unsafe {
        av::sws_scale(
            context.0.as_ptr(),
            (&raw const (*source.as_ptr()).data).cast(),
            (&raw const (*source.as_ptr()).linesize).cast(),
            0,
            height,
            (&raw const (*raw).data).cast(),
            (&raw const (*raw).linesize).cast(),
        )
    };
    if rows != height {
        Err(error())
    } else {
        Ok(target)
    }
}

struct Scaler(NonNull<av::SwsContext>);

impl Scaler {
    /// The ranges are told before the context chooses its way: full-range YUV needs none of the
    /// deprecated formats of its own (`yuvj…`) then, and swscale does not complain of them.
    fn new(
        width: c_int,
        height: c_int,
        (from, from_colours): (av::AVPixelFormat, Colours),
        (to, to_colours): (av::AVPixelFormat, Colours),
    ) -> Option<Self> {
        // SAFETY: null means no memory.
        let context = Self(NonNull::new(unsafe { av::sws_alloc_context() })?);
        let flags = av::SWS_BILINEAR | av::SWS_ACCURATE_RND | av::SWS_FULL_CHR_H_INT;
        let options: [(&CStr, i64); 9] = [
            (c"sws_flags", i64::from(flags)),
            (c"srcw", width.into()),
            (c"srch", height.into()),
            (c"src_format", from as i64),
            (c"src_range", from_colours.full().into()),
            (c"dstw", width.into()),
            (c"dsth", height.into()),
            (c"dst_format", to as i64),
            (c"dst_range", to_colours.full().into()),
        ];
        let raw = context.0.as_ptr();
        for (name, value) in options {
            // SAFETY: a context whose first field is its AVClass (libswscale/swscale.h), a
            // terminated name.
            if unsafe { av::av_opt_set_int(raw.cast(), name.as_ptr(), value, 0) } < 0 {
                return None;
            }
        }
        // SAFETY: filters may be null; sizes and formats are checked inside.
        if unsafe { av::sws_init_context(raw, std::ptr::null_mut(), std::ptr::null_mut()) } < 0 {
            return None;
        }
        // SAFETY: an initialised context; the tables are constants of swscale. A refusal (formats
        // without colour, like gray to gray) leaves the default in place.
        unsafe {
            av::sws_setColorspaceDetails(
                raw,
                from_colours.coefficients(),
                from_colours.full(),
                to_colours.coefficients(),
                to_colours.full(),
                0,
                1 << 16,
                1 << 16,
            );
        }
        Some(context)
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: made by sws_alloc_context, owned by self, not used afterwards.
        unsafe { av::sws_freeContext(self.0.as_ptr()) };
    }
}
