//! The MJPEG encoder, one picture at a time.

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::frame::{Frame, Packet};
use super::scale::{Colours, convert_colours};
use super::{log, pixel};
use crate::media::jpeg::Image;
use crate::media::{AvError, ColorRange, MediaError, PixelFormat};

/// libavcodec's context, freed when dropped.
struct Encoder(NonNull<av::AVCodecContext>);

impl Drop for Encoder {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3, owned by self, not used afterwards.
        unsafe { av::avcodec_free_context(&raw mut raw) };
    }
}

/// Encodes `image`, whose planes have been checked, with quantiser scale `scale` (2 best … 31).
pub(in crate::media) fn encode(image: &Image<'_>, scale: u8) -> Result<Vec<u8>, MediaError> {
    log::install();
    let source = frame_of(image)?;
    let colours = Colours {
        range: range_of(image.range, image.format),
        matrix: image.matrix,
    };
    encode_frame(&source, image.format, colours, scale)
}

/// Encodes a frame whose samples are of `format`.
pub(super) fn encode_frame(
    source: &Frame,
    format: PixelFormat,
    colours: Colours,
    scale: u8,
) -> Result<Vec<u8>, MediaError> {
    // Full range is said by the range, not by the deprecated yuvj formats.
    let format = match format {
        PixelFormat::I422 | PixelFormat::I422p10 => av::AVPixelFormat::AV_PIX_FMT_YUV422P,
        PixelFormat::I444 | PixelFormat::I444p10 | PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
            av::AVPixelFormat::AV_PIX_FMT_YUV444P
        }
        _ => av::AVPixelFormat::AV_PIX_FMT_YUV420P,
    };
    let mut frame = convert_colours(source, colours, format, "jpeg", Colours::JPEG)?;
    let encoder = open(frame.as_ptr(), format, scale)?;
    let context = encoder.0.as_ptr();
    let mut packet = Packet::new()?;
    // SAFETY: a frame of our own, in the format and size the encoder was opened for; both calls
    // take valid pointers. One frame in, end of stream, one packet out: nothing is left undone.
    let code = unsafe {
        (*frame.as_mut_ptr()).pts = 0;
        (*frame.as_mut_ptr()).color_range = av::AVColorRange::AVCOL_RANGE_JPEG;
        (*frame.as_mut_ptr()).quality = av::FF_QP2LAMBDA * c_int::from(scale);
        match av::avcodec_send_frame(context, frame.as_ptr()) {
            0 => av::avcodec_receive_packet(context, packet.as_mut_ptr()),
            code => code,
        }
    };
    if code < 0 {
        return Err(MediaError::Encode(AvError(code)));
    }
    Ok(packet.bytes().to_vec())
}

fn open(
    frame: *const av::AVFrame,
    format: av::AVPixelFormat,
    scale: u8,
) -> Result<Encoder, MediaError> {
    // SAFETY: a lookup in constant tables; null is checked by the next call's caller below.
    let codec = unsafe { av::avcodec_find_encoder(av::AVCodecID::AV_CODEC_ID_MJPEG) };
    if codec.is_null() {
        return Err(MediaError::Encode(AvError(av::AVERROR_ENCODER_NOT_FOUND)));
    }
    // SAFETY: a codec of this library; null means no memory.
    let context = unsafe { av::avcodec_alloc_context3(codec) };
    let encoder = Encoder(NonNull::new(context).ok_or(MediaError::OutOfMemory)?);
    // SAFETY: a context that is allocated and not yet open: fields are the user's to set; `frame` is
    // valid.
    let code = unsafe {
        (*context).width = (*frame).width;
        (*context).height = (*frame).height;
        (*context).pix_fmt = format;
        (*context).color_range = av::AVColorRange::AVCOL_RANGE_JPEG;
        (*context).time_base = av::AVRational { num: 1, den: 25 };
        (*context).thread_count = 1;
        (*context).flags |= av::AV_CODEC_FLAG_QSCALE as c_int;
        (*context).global_quality = av::FF_QP2LAMBDA * c_int::from(scale);
        av::avcodec_open2(context, codec, std::ptr::null_mut())
    };
    if code < 0 {
        Err(MediaError::Encode(AvError(code)))
    } else {
        Ok(encoder)
    }
}

/// Gray and RGB are full range unless they say otherwise, YUV is limited.
pub(super) fn range_of(range: ColorRange, format: PixelFormat) -> ColorRange {
    match (range, format) {
        (ColorRange::Unknown, PixelFormat::Gray8 | PixelFormat::Rgb24 | PixelFormat::Bgr24) => {
            ColorRange::Full
        }
        (ColorRange::Unknown, _) => ColorRange::Limited,
        (range, _) => range,
    }
}

/// A frame with a copy of the image: swscale's SIMD code reads beyond the ends of rows, which only
/// padded buffers allow.
pub(super) fn frame_of(image: &Image<'_>) -> Result<Frame, MediaError> {
    let side = |value: u32| {
        c_int::try_from(value).map_err(|_| MediaError::Geometry("the picture is too large"))
    };
    let (width, height) = (side(image.width)?, side(image.height)?);
    // swscale takes gray for full range whatever it is told: make it I420 without colour.
    let gray = image.format == PixelFormat::Gray8;
    let stored = if gray {
        PixelFormat::I420
    } else {
        image.format
    };
    let format = pixel::to_av(stored).ok_or_else(|| MediaError::UnsupportedPixelFormat {
        name: image.format.name().to_owned(),
    })?;
    let frame = Frame::with_buffers(format, width, height)?;
    for (index, (source, stride)) in image.planes.iter().enumerate() {
        let (row, rows) = image
            .format
            .plane_size(index, image.width, image.height)
            .ok_or(MediaError::Geometry("a plane is too large to describe"))?;
        let row = row as usize;
        let (target, linesize) = frame.plane(index);
        let linesize = usize::try_from(linesize).unwrap_or(0);
        if target.is_null() || linesize < row {
            return Err(MediaError::Geometry("a plane is missing"));
        }
        for line in 0..rows as usize {
            let start = line * stride;
            let source = source
                .get(start..start + row)
                .ok_or(MediaError::Geometry("a plane is shorter than its rows"))?;
            // SAFETY: av_frame_get_buffer gave this plane `rows` rows of `linesize` ≥ `row` bytes, and
            // nobody else has this frame.
            unsafe {
                let target = target.add(line * linesize);
                std::ptr::copy_nonoverlapping(source.as_ptr(), target, row);
            }
        }
    }
    for index in (1..3).filter(|_| gray) {
        let (target, linesize) = frame.plane(index);
        let rows = image.height.div_ceil(2) as usize;
        let bytes = rows.saturating_mul(usize::try_from(linesize).unwrap_or(0));
        if target.is_null() {
            return Err(MediaError::Geometry("a plane is missing"));
        }
        // SAFETY: av_frame_get_buffer gave this chroma plane so many rows of `linesize` bytes.
        unsafe { target.write_bytes(128, bytes) };
    }
    Ok(frame)
}
