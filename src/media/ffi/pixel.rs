//! Pixel formats of FFmpeg and ours.

use std::ffi::{CStr, c_int};

use ffmpeg_next::ffi as av;
use ffmpeg_next::ffi::AVPixelFormat::*;

use crate::media::{ColorRange, PixelFormat};

/// The enum's variant, where the number is one.
pub(super) fn from_raw(raw: c_int) -> Option<av::AVPixelFormat> {
    if !(0..AV_PIX_FMT_NB as c_int).contains(&raw) {
        return None;
    }
    // SAFETY: the enum is generated with this representation, and in libavutil/pixfmt.h its numbers
    // run from AV_PIX_FMT_NONE = -1 to AV_PIX_FMT_NB without a gap (no enumerator has a value of its
    // own but the first).
    Some(unsafe { std::mem::transmute::<c_int, av::AVPixelFormat>(raw) })
}

/// The counterpart of a format that can be used as it is, and whether the format itself means full
/// range (the deprecated `yuvj` formats).
pub(super) fn native(raw: c_int) -> Option<(PixelFormat, bool)> {
    Some(match from_raw(raw)? {
        AV_PIX_FMT_YUV420P => (PixelFormat::I420, false),
        AV_PIX_FMT_YUVJ420P => (PixelFormat::I420, true),
        AV_PIX_FMT_YUV422P => (PixelFormat::I422, false),
        AV_PIX_FMT_YUVJ422P => (PixelFormat::I422, true),
        AV_PIX_FMT_YUV444P => (PixelFormat::I444, false),
        AV_PIX_FMT_YUVJ444P => (PixelFormat::I444, true),
        AV_PIX_FMT_NV12 => (PixelFormat::Nv12, false),
        AV_PIX_FMT_GRAY8 => (PixelFormat::Gray8, false),
        AV_PIX_FMT_YUV420P10LE => (PixelFormat::I420p10, false),
        AV_PIX_FMT_YUV422P10LE => (PixelFormat::I422p10, false),
        AV_PIX_FMT_YUV444P10LE => (PixelFormat::I444p10, false),
        AV_PIX_FMT_RGB24 => (PixelFormat::Rgb24, false),
        AV_PIX_FMT_BGR24 => (PixelFormat::Bgr24, false),
        _ => return None,
    })
}

/// What FFmpeg calls one of our formats. Full range is not in it: that goes by `color_range`.
/// `None` for a format that was added to the ring format later.
pub(super) fn to_av(format: PixelFormat) -> Option<av::AVPixelFormat> {
    Some(match format {
        PixelFormat::I420 => AV_PIX_FMT_YUV420P,
        PixelFormat::I422 => AV_PIX_FMT_YUV422P,
        PixelFormat::I444 => AV_PIX_FMT_YUV444P,
        PixelFormat::Nv12 => AV_PIX_FMT_NV12,
        PixelFormat::Gray8 => AV_PIX_FMT_GRAY8,
        PixelFormat::I420p10 => AV_PIX_FMT_YUV420P10LE,
        PixelFormat::I422p10 => AV_PIX_FMT_YUV422P10LE,
        PixelFormat::I444p10 => AV_PIX_FMT_YUV444P10LE,
        PixelFormat::Rgb24 => AV_PIX_FMT_RGB24,
        PixelFormat::Bgr24 => AV_PIX_FMT_BGR24,
        _ => return None,
    })
}

/// The format of which a picture's first plane alone is one; the format itself where its first
/// plane is not luma of 8 or 10 bits.
pub(super) fn luma(format: av::AVPixelFormat) -> av::AVPixelFormat {
    match native(format as c_int) {
        Some((PixelFormat::I420 | PixelFormat::I422 | PixelFormat::I444, _)) => AV_PIX_FMT_GRAY8,
        Some((PixelFormat::Nv12 | PixelFormat::Gray8, _)) => AV_PIX_FMT_GRAY8,
        Some((PixelFormat::I420p10 | PixelFormat::I422p10 | PixelFormat::I444p10, _)) => {
            AV_PIX_FMT_GRAY10LE
        }
        _ => format,
    }
}

/// What a format without counterpart is converted to when copied: RGB24 from RGB, I420 from the
/// rest. `None` for what swscale cannot read (hardware surfaces).
pub(super) fn converted(raw: c_int) -> Option<PixelFormat> {
    let format = from_raw(raw)?;
    // SAFETY: a lookup in a constant table.
    if unsafe { av::sws_isSupportedInput(format) } == 0 {
        return None;
    }
    // SAFETY: the descriptor is null or constant and valid for ever.
    let flags = unsafe { av::av_pix_fmt_desc_get(format).as_ref() }?.flags;
    if flags & u64::from(av::AV_PIX_FMT_FLAG_RGB as u32) != 0 {
        return Some(PixelFormat::Rgb24);
    }
    Some(PixelFormat::I420)
}

/// Name of a format, for messages.
pub(super) fn name(raw: c_int) -> String {
    let Some(format) = from_raw(raw) else {
        return format!("number {raw}");
    };
    // SAFETY: null or a constant, terminated string.
    let name = unsafe {
        let name = av::av_get_pix_fmt_name(format);
        if name.is_null() {
            None
        } else {
            Some(CStr::from_ptr(name))
        }
    };
    name.map_or_else(
        || format!("number {raw}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// `AVColorRange`, read as a number.
pub(super) fn range(raw: u32) -> ColorRange {
    const LIMITED: u32 = av::AVColorRange::AVCOL_RANGE_MPEG as u32;
    const FULL: u32 = av::AVColorRange::AVCOL_RANGE_JPEG as u32;
    match raw {
        LIMITED => ColorRange::Limited,
        FULL => ColorRange::Full,
        _ => ColorRange::Unknown,
    }
}
