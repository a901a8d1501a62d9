//! Why something in `media` failed: texts that name the codec or the sizes, never the content.

use super::Codec;

/// What can go wrong between an access unit and a picture.
///
/// A camera can trigger most of these at will: count them, log them rarely, go on. Only
/// [`NoDecoder`](Self::NoDecoder), [`Open`](Self::Open) and [`OutOfMemory`](Self::OutOfMemory)
/// say something about the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The FFmpeg that is linked was built without this codec.
    #[error("this FFmpeg has no {} decoder (install Debian's libavcodec59 or libavcodec-extra59)", codec.name())]
    NoDecoder { codec: Codec },
    /// A decoder could not be set up.
    #[error("cannot open the {} decoder: {error}", codec.name())]
    Open { codec: Codec, error: AvError },
    /// The decoder refused the unit; the next one may be fine.
    #[error("cannot decode {} unit: {error}", codec.name())]
    Decode { codec: Codec, error: AvError },
    /// Pictures must be taken out before more can be sent.
    #[error("the decoder is full: call receive() until it returns None, then send again")]
    Full,
    /// Longer than [`MAX_UNIT_BYTES`](super::MAX_UNIT_BYTES).
    #[error("access unit of {len} bytes is longer than the {max} allowed")]
    UnitTooLarge { len: usize, max: usize },
    /// The decoder delivered samples in a layout that the ring cannot describe.
    #[error("pixel format {name} has no counterpart in the frame ring")]
    UnsupportedPixelFormat { name: String },
    /// The destination of a copy cannot hold the picture.
    #[error("a picture of {needed} bytes does not fit into {given}")]
    TooSmall { needed: usize, given: usize },
    /// The planes, strides and size of a picture contradict each other.
    #[error("inconsistent picture: {0}")]
    Geometry(&'static str),
    /// The device does not decode this stream, or no longer.
    #[error("{device} does not decode this {} stream: {error}", codec.name())]
    Hardware {
        device: &'static str,
        codec: Codec,
        error: AvError,
    },
    /// A JPEG could not be made.
    #[error("cannot encode the JPEG: {0}")]
    Encode(AvError),
    /// An MP4 could not be read or written.
    #[error("MP4: {0}")]
    Container(AvError),
    /// An encoder could not be set up.
    #[error("cannot open the encoder {encoder}: {error}")]
    OpenEncoder {
        encoder: &'static str,
        error: AvError,
    },
    /// A picture could not be encoded.
    #[error("cannot encode the picture: {0}")]
    EncodeVideo(AvError),
    /// A fragment of an MP4 file could not be made.
    #[error("cannot put the access units into MP4: {0}")]
    Mux(AvError),
    /// Samples could not be converted.
    #[error("cannot convert {from} to {to}")]
    Convert { from: String, to: &'static str },
    /// An allocation inside FFmpeg failed.
    #[error("out of memory in FFmpeg")]
    OutOfMemory,
}

/// An error code of FFmpeg (libavutil/error.h), shown with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvError(pub i32);

impl std::fmt::Display for AvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::ffi::error_text(self.0))
    }
}
