//! Decoding and encoding: the safe face of FFmpeg.
//!
//! - [`PictureDecoder`] is what the reader uses: access units in, pictures out, each either already
//!   lying in a ring slot or to be copied into one. It decides which, and reopens the decoder when
//!   the parameter sets change.
//! - [`Decoder`] is the bare decoder beneath: it renders where it is told to.
//! - [`aac`] reads and writes what describes AAC frames.
//! - [`parameters`] reads H.264, H.265 and JPEG headers without FFmpeg.
//! - [`jpeg`] encodes one picture.
//! - [`ViewConverter`] scales pictures into another shape, picture after picture.
//! - [`VideoEncoder`] makes H.264 of pictures, which it reads where they lie ([`Canvas`]).
//! - [`Mp4Reader`] and [`Mp4Writer`] take samples out of recordings and put them into files.
//! - [`Demuxer`] is libavformat's RTSP client, for `reader::ffmpeg_source`.
//! - [`FragmentMuxer`] makes fragmented MP4 of access units, in memory.
//!
//! Promises: no input makes anything here panic, write outside the memory it was given, or allocate
//! without bound. A picture that [`Picture::in_place`] hands out is not drawn into again.
//!
//! Never: unsafe outside [`ffi`]; a plane handed out as a slice (libavcodec may draw into a picture
//! it has already output, see [`PictureDecoder`]); a frame-threaded decoder (a frame of delay
//! for each thread).

#![deny(unsafe_code)]

pub mod aac;
pub mod annexb;
mod error;
pub mod ffi;
pub mod jpeg;
pub mod parameters;
mod picture_decoder;
mod view;

pub use camring_ring::{Codec, ColorRange, PixelFormat, Plane};
pub use error::{AvError, MediaError};
pub use ffi::{
    Canvas, CanvasScaler, Carrier, Decoder, DecoderOptions, DemuxError, DemuxOptions, Demuxer,
    ENCODER_TIMESCALE, Encoded, EncoderKind, EncoderOptions, Fragment, FragmentMuxer,
    HardwareDevice, HardwareError, HardwareKind, Interrupt, Mp4Reader, Mp4Sample, Mp4Track,
    Mp4Writer, Notes, OutSample, Picture, PictureSlots, PublishError, Published, Rate, RingSlots,
    SampleTime, Skip, SlotBuffer, Step, Track, TrackDescription, TrackKind, TrackSource, TrackSpec,
    VIDEO_TIMESCALE, VideoEncoder, warm_up,
};
pub use picture_decoder::{PictureDecoder, PictureDecoderOptions, Submitted};
pub use view::{Converted, ViewConverter, ViewShape};

/// The longest access unit accepted, in bytes: an 8K key frame at the highest rate of any camera
/// seen is below 8 MiB.
pub const MAX_UNIT_BYTES: usize = 32 << 20;

/// Offsets and strides of a tightly packed copy, and its length in bytes: each row and each plane
/// starts at a multiple of 64 bytes.
///
/// `None` for no pixels, and when a plane is larger than its descriptor can say.
pub fn packed_layout(format: PixelFormat, width: u32, height: u32) -> Option<([Plane; 4], usize)> {
    if width == 0 || height == 0 {
        return None;
    }
    let mut planes = [Plane::default(); 4];
    let mut offset: u64 = 0;
    for (index, plane) in planes.iter_mut().enumerate().take(format.planes()) {
        let (row, rows) = format.plane_size(index, width, height)?;
        let stride = row.checked_next_multiple_of(64)?;
        *plane = Plane { offset, stride };
        offset = offset.checked_add(u64::from(stride).checked_mul(u64::from(rows))?)?;
    }
    Some((planes, usize::try_from(offset).ok()?))
}
