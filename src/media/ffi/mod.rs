//! FFmpeg, and the only unsafe code of `media`.
//!
//! What is relied upon, all of it stated in FFmpeg's headers (`libavcodec/avcodec.h`,
//! `libavutil/buffer.h`, `libavutil/frame.h`): a context is used by one thread at a time; reference
//! counts are atomic, so that a frame may be released on any thread; a buffer's free callback runs
//! once, when its last reference goes; a decoder writes only into buffers to which it holds a
//! reference, and only inside a call (slice threads are joined before the call returns).
//!
//! Never: an enum of the bindings read from memory that FFmpeg wrote (an unknown value would be
//! undefined behaviour: such fields are read as integers), a panic across a callback, a reference to
//! pixels (libavcodec may draw into a picture that it has output).

#![allow(unsafe_code)]

mod buffers;
mod canvas;
mod decoder;
mod demuxer;
mod encoder;
mod frame;
mod hardware;
pub(super) mod jpeg;
mod log;
mod mp4_reader;
mod mp4_writer;
mod muxer;
mod picture;
mod pixel;
pub(super) mod rgb;
mod ring;
pub(super) mod scale;
// Elsewhere libavformat's messages cannot be read (see `log`), and the demuxer does not open.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod tap;

use std::ffi::{CStr, c_int};

use ffmpeg_next::ffi as av;

pub use buffers::{PictureSlots, SlotBuffer};
pub use canvas::{Canvas, CanvasScaler};
pub use decoder::{Decoder, DecoderOptions, Skip};
pub use demuxer::{Carrier, DemuxError, DemuxOptions, Demuxer, Fragment, Interrupt, Track};
pub use encoder::{ENCODER_TIMESCALE, Encoded, EncoderKind, EncoderOptions, Rate, VideoEncoder};
#[cfg(test)]
pub use hardware::Pretended;
pub use hardware::{HardwareDevice, HardwareError, HardwareKind};
pub use mp4_reader::{Mp4Reader, Mp4Sample, Mp4Track, TrackDescription, TrackKind};
pub use mp4_writer::{Mp4Writer, OutSample, TrackSource};
pub use muxer::{FragmentMuxer, SampleTime, TrackSpec, VIDEO_TIMESCALE};
pub use picture::Picture;
pub use ring::{PublishError, Published, RingSlots};
pub use tap::{Notes, Step};

use super::{Codec, MediaError};

/// Loads and initialises what the first decoder of a process otherwise would: static tables, CPU
/// detection, and the pages of code that a first picture touches. Meant for the process from which
/// readers are forked, which then share what it leaves open; starts no thread, opens no file, draws no random number. Also routes
/// FFmpeg's messages to `tracing`.
pub fn warm_up() {
    log::install();
    for codec in [Codec::H264, Codec::H265, Codec::Mjpeg] {
        if let Err(error) = warm_decoder(codec) {
            tracing::error!(codec = codec.name(), %error, "cannot warm up the decoder");
        }
    }
}

fn warm_decoder(codec: Codec) -> Result<(), MediaError> {
    if codec != Codec::Mjpeg {
        return Decoder::keep_ready(codec);
    }
    let mut decoder = Decoder::open(DecoderOptions {
        codec,
        threads: 1,
        direct: false,
        slots: None,
        max_pixels: 1 << 20,
    })?;
    // An encoded picture of our own goes through swscale, the MJPEG encoder and the decoder.
    let gray = [128u8; 64 * 64];
    let image = super::jpeg::Image {
        format: super::PixelFormat::Gray8,
        width: 64,
        height: 64,
        range: super::ColorRange::Limited,
        matrix: 2,
        planes: &[(&gray, 64)],
    };
    let bytes = super::jpeg::encode(&image, super::jpeg::Quality::default())?;
    decoder.send(&bytes, 0, 0)?;
    decoder.receive().map(drop)
}

#[cfg(test)]
#[test]
fn every_decoder_can_be_warmed_up() {
    for codec in [Codec::H264, Codec::H265, Codec::Mjpeg] {
        assert_eq!(warm_decoder(codec), Ok(()), "{codec}");
    }
    warm_up();
}

/// Text of an FFmpeg error code.
pub(super) fn error_text(code: c_int) -> String {
    let mut buffer = [0; 128];
    // SAFETY: the length given is the buffer's; av_strerror terminates what it writes, also for
    // codes it does not know.
    unsafe { av::av_strerror(code, buffer.as_mut_ptr(), buffer.len()) };
    // SAFETY: terminated within the buffer, see above (and zeroed before).
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) };
    text.to_string_lossy().into_owned()
}

/// NONE for a codec that was added to the ring format later: no decoder is found then.
fn codec_id(codec: Codec) -> av::AVCodecID {
    match codec {
        Codec::H264 => av::AVCodecID::AV_CODEC_ID_H264,
        Codec::H265 => av::AVCodecID::AV_CODEC_ID_HEVC,
        Codec::Mjpeg => av::AVCodecID::AV_CODEC_ID_MJPEG,
        Codec::Av1 => av::AVCodecID::AV_CODEC_ID_AV1,
        Codec::Mpeg4 => av::AVCodecID::AV_CODEC_ID_MPEG4,
        _ => av::AVCodecID::AV_CODEC_ID_NONE,
    }
}

const EAGAIN: c_int = av::AVERROR(libc::EAGAIN);
const ENOMEM: c_int = av::AVERROR(libc::ENOMEM);

/// The error for a failed call while decoding.
fn decode_error(codec: Codec, code: c_int) -> MediaError {
    match code {
        ENOMEM => MediaError::OutOfMemory,
        EAGAIN => MediaError::Full,
        _ => MediaError::Decode {
            codec,
            error: super::AvError(code),
        },
    }
}
