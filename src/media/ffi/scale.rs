//! swscale: a picture's samples as others, once or, for views, again and again.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::frame::Frame;
use super::pixel;
use crate::media::{ColorRange, MediaError, PixelFormat};

/// ITU-R BT.601, what a picture that does not say is taken for (JFIF says so for JPEG).
const BT601: u8 = 6;

/// How the samples of one side of a conversion are to be understood.
#[derive(Clone, Copy, PartialEq, Eq)]
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
    let colours = colours_of(source);
    let to = pixel::to_av(format).ok_or_else(|| MediaError::Convert {
        from: name,
        to: format.name(),
    })?;
    convert_colours(source, colours, to, format.name(), colours)
}

/// How a decoded picture's samples are to be understood.
pub(super) fn colours_of(source: &Frame) -> Colours {
    let name = pixel::name(source.format());
    // swscale takes gray for full range whatever it is told: told the same of the other side, it
    // leaves the range alone.
    let full = source.raw_range() == av::AVColorRange::AVCOL_RANGE_JPEG as u32
        || name.starts_with("yuvj")
        || name.starts_with("gray");
    Colours {
        range: if full {
            ColorRange::Full
        } else {
            ColorRange::Limited
        },
        matrix: u8::try_from(source.raw_matrix()).unwrap_or(2),
    }
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
    let side = |format, colours| Side {
        width,
        height,
        format,
        colours,
    };
    // Chroma at full resolution, and rounding that does not drift: pictures for people.
    let flags = av::SWS_BILINEAR | av::SWS_ACCURATE_RND | av::SWS_FULL_CHR_H_INT;
    let context = Scaler::new(side(source_format, from), side(format, to), flags);
    let context = context.ok_or_else(error)?;
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

/// One side of a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Side {
    width: c_int,
    height: c_int,
    format: av::AVPixelFormat,
    colours: Colours,
}

/// Bytes behind the last row that SIMD code may write to: a vector of the widest kind, and its
/// neighbour.
const OVERSHOOT: usize = 128;

/// How views are scaled. Area averaging looks at every pixel of the source, so that nothing flickers
/// or vanishes between the rows, and is the cheapest of those that do (measured, see
/// docs/design/views.md); enlarging, it interpolates.
const VIEW_FLAGS: c_int = av::SWS_AREA;

/// Where scaled pictures go.
#[derive(Clone, Copy, Debug)]
pub(in crate::media) struct Target {
    pub(in crate::media) width: u32,
    pub(in crate::media) height: u32,
    pub(in crate::media) format: PixelFormat,
    pub(in crate::media) range: ColorRange,
    /// ITU-T H.273 MatrixCoefficients; of no meaning for RGB.
    pub(in crate::media) matrix: u8,
}

/// A part of memory that is a plane: its first byte is the first pixel's.
pub(in crate::media) type PlaneMut<'a> = (&'a mut [u8], u32);

/// Scales picture after picture; keeps what swscale has worked out as long as neither side changes.
/// For one thread at a time.
#[derive(Default)]
pub(in crate::media) struct Rescaler(Option<(Side, Side, Scaler)>);

impl Rescaler {
    /// Scales `source` into `planes`, one for each plane of the target's format. Each must have 128
    /// bytes more than the picture takes in it. Samples that do not become others (same matrix
    /// and range) stay as they are; RGB is full range.
    pub(super) fn scale(
        &mut self,
        source: &Frame,
        colours: Colours,
        to: &Target,
        planes: &mut [PlaneMut<'_>],
    ) -> Result<(), MediaError> {
        let error = || MediaError::Convert {
            from: pixel::name(source.format()),
            to: to.format.name(),
        };
        let (width, height) = source.size();
        let mut format = pixel::from_raw(source.format()).ok_or_else(error)?;
        if to.format == PixelFormat::Gray8 {
            // Its luma is all that is read.
            format = pixel::luma(format);
        }
        let side = |width, height, format, colours| {
            Some(Side {
                width: c_int::try_from(width).ok()?,
                height: c_int::try_from(height).ok()?,
                format,
                colours,
            })
        };
        let target_format = pixel::to_av(to.format).ok_or_else(error)?;
        let target_colours = Colours {
            range: to.range,
            matrix: to.matrix,
        };
        let from = side(width, height, format, colours).ok_or_else(error)?;
        let into = side(to.width, to.height, target_format, target_colours).ok_or_else(error)?;
        let (mut data, mut stride) = ([std::ptr::null_mut::<u8>(); 4], [0 as c_int; 4]);
        if planes.len() != to.format.planes() {
            return Err(MediaError::Geometry("the number of planes is another"));
        }
        for (index, (bytes, step)) in planes.iter_mut().enumerate() {
            let (row, rows) = to
                .format
                .plane_size(index, to.width, to.height)
                .ok_or_else(error)?;
            let last = (rows as usize).saturating_sub(1);
            let end = last
                .checked_mul(*step as usize)
                .and_then(|last| last.checked_add(row as usize + OVERSHOOT));
            if *step < row || end.is_none_or(|end| end > bytes.len()) {
                return Err(MediaError::Geometry("no room for a plane"));
            }
            data[index] = bytes.as_mut_ptr();
            stride[index] = c_int::try_from(*step).map_err(|_| error())?;
        }
        let kept = self.0.take();
        let scaler = match kept.filter(|(a, b, _)| (*a, *b) == (from, into)) {
            Some((.., scaler)) => scaler,
            None => Scaler::new(from, into, VIEW_FLAGS).ok_or_else(error)?,
        };
        // SAFETY: the frame has the size and format for which the context was made (its luma plane
        // is a gray picture of the same size), with the padding that libavcodec gives. `data` has
        // room for every row of every plane of the target, and `OVERSHOOT` bytes behind the last,
        // which is more than the vectors that swscale writes in; nobody else has these `&mut [u8]`,
        // nor do they overlap the source (a slot that a decoder draws in is never borrowed so:
        // contract of SlotBuffer::new).
        let rows = unsafe {
            av::sws_scale(
                scaler.0.as_ptr(),
                (&raw const (*source.as_ptr()).data).cast(),
                (&raw const (*source.as_ptr()).linesize).cast(),
                0,
                from.height,
                data.as_ptr(),
                stride.as_ptr(),
            )
        };
        self.0 = Some((from, into, scaler));
        if rows == into.height {
            Ok(())
        } else {
            Err(error())
        }
    }
}

/// Scales frame after frame into others; keeps what swscale has worked out as long as neither side
/// changes. For one thread at a time.
#[derive(Default)]
pub(super) struct FrameScaler(Option<(Side, Side, Scaler)>);

impl FrameScaler {
    /// Scales `source` into `target`, which has its format, size and buffers already.
    pub(super) fn scale(
        &mut self,
        source: &Frame,
        from: Colours,
        target: &mut Frame,
        to: Colours,
    ) -> Result<(), MediaError> {
        let error = || MediaError::Convert {
            from: pixel::name(source.format()),
            to: "what is encoded",
        };
        let side = |frame: &Frame, colours| {
            let (width, height) = frame.size();
            Some(Side {
                width: c_int::try_from(width).ok()?,
                height: c_int::try_from(height).ok()?,
                format: pixel::from_raw(frame.format())?,
                colours,
            })
        };
        let from = side(source, from).ok_or_else(error)?;
        let into = side(target, to).ok_or_else(error)?;
        let kept = self.0.take();
        let scaler = match kept.filter(|(a, b, _)| (*a, *b) == (from, into)) {
            Some((.., scaler)) => scaler,
            None => Scaler::new(from, into, VIEW_FLAGS).ok_or_else(error)?,
        };
        let raw = target.as_mut_ptr();
        // SAFETY: both frames have the format and size for which the context was made. The target is
        // ours alone, with buffers that av_frame_get_buffer padded; the source's were padded by
        // libavcodec, or are a ring's, with as much of its slot behind the last row (`Canvas::of_ring`).
        let rows = unsafe {
            av::sws_scale(
                scaler.0.as_ptr(),
                (&raw const (*source.as_ptr()).data).cast(),
                (&raw const (*source.as_ptr()).linesize).cast(),
                0,
                from.height,
                (&raw const (*raw).data).cast(),
                (&raw const (*raw).linesize).cast(),
            )
        };
        self.0 = Some((from, into, scaler));
        match rows == into.height {
            true => Ok(()),
            false => Err(error()),
        }
    }
}

struct Scaler(NonNull<av::SwsContext>);

// SAFETY: nothing in the context belongs to a thread (one slice thread, the caller's); it is used by
// one at a time, since scaling takes `&mut self` or owns it.
unsafe impl Send for Scaler {}

impl Scaler {
    /// The ranges are told before the context chooses its way: full-range YUV needs none of the
    /// deprecated formats of its own (`yuvj…`) then, and swscale does not complain of them.
    fn new(from: Side, to: Side, flags: c_int) -> Option<Self> {
        // SAFETY: null means no memory.
        let context = Self(NonNull::new(unsafe { av::sws_alloc_context() })?);
        let options: [(&CStr, i64); 9] = [
            (c"sws_flags", i64::from(flags)),
            (c"srcw", from.width.into()),
            (c"srch", from.height.into()),
            (c"src_format", from.format as i64),
            (c"src_range", from.colours.full().into()),
            (c"dstw", to.width.into()),
            (c"dsth", to.height.into()),
            (c"dst_format", to.format as i64),
            (c"dst_range", to.colours.full().into()),
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
                from.colours.coefficients(),
                from.colours.full(),
                to.colours.coefficients(),
                to.colours.full(),
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
