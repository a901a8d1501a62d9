//! One open H.264 encoder of libavcodec: a hardware one where it opens, else libx264.
//!
//! Promises: a picture is read inside [`VideoEncoder::send`] only, and let go there; each packet
//! carries the time its picture was given, exactly; without B pictures, so that times of decoding and
//! showing are the same. Nothing is assumed about the rate of pictures.

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::canvas::Canvas;
use super::frame::Packet;
use super::{EAGAIN, log, pixel};
use crate::media::{AvError, MediaError, PixelFormat};

/// Which encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncoderKind {
    /// NVIDIA.
    Nvenc,
    /// Intel Quick Sync Video.
    Qsv,
    /// Memory-to-memory devices of V4L2 (Raspberry Pi and others).
    V4l2,
    /// libx264, on the cores.
    X264,
}

impl EncoderKind {
    /// In the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Nvenc, Self::Qsv, Self::V4l2, Self::X264];

    /// As libavcodec calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvenc => "h264_nvenc",
            Self::Qsv => "h264_qsv",
            Self::V4l2 => "h264_v4l2m2m",
            Self::X264 => "libx264",
        }
    }

    /// What there is on a machine that has it: a device file whose name begins so. `None`: nothing is
    /// needed.
    fn device(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nvenc => Some(("/dev", "nvidiactl")),
            Self::Qsv => Some(("/dev/dri", "renderD")),
            // Encoders are among the higher numbers; which one it is, is asked by opening it.
            Self::V4l2 => Some(("/dev", "video1")),
            Self::X264 => None,
        }
    }

    /// Why it need not be tried: libavcodec would look for the device, and complain.
    fn missing(self) -> Option<String> {
        let (folder, name) = self.device()?;
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let found = entries.any(|entry| entry.file_name().to_string_lossy().starts_with(name));
        (!found).then(|| format!("there is no {folder}/{name}*"))
    }

    /// What it takes.
    pub fn format(self) -> PixelFormat {
        match self {
            Self::Qsv => PixelFormat::Nv12,
            _ => PixelFormat::I420,
        }
    }

    fn c_name(self) -> &'static CStr {
        match self {
            Self::Nvenc => c"h264_nvenc",
            Self::Qsv => c"h264_qsv",
            Self::V4l2 => c"h264_v4l2m2m",
            Self::X264 => c"libx264",
        }
    }
}

/// How large the result may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bits per second on average, with at most one second of it in the client's buffer.
    Bits(u64),
    /// x264's constant rate factor: 18 is hardly told from the source, 28 is small.
    Quality(u8),
}

/// What to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    pub kind: EncoderKind,
    /// In pixels, even.
    pub width: u32,
    pub height: u32,
    /// Luma from 0 to 255 instead of 16 to 235.
    pub full_range: bool,
    /// ITU-T H.273 MatrixCoefficients; 2: unspecified.
    pub matrix: u8,
    pub rate: Rate,
    /// Each picture comes out before the next goes in.
    pub immediate: bool,
    /// For x264.
    pub threads: u32,
    /// About how many pictures come a second: what the level and hardware encoders go by. Times go by
    /// each picture's own.
    pub about_fps: u32,
}

/// Units of time per second: what pictures' times are given in.
pub const ENCODER_TIMESCALE: u32 = 90_000;

/// What came out for one picture.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Annex B.
    pub data: &'a [u8],
    /// As given with the picture.
    pub pts: i64,
    /// An IDR picture.
    pub key: bool,
}

/// An open encoder. For one thread at a time.
pub struct VideoEncoder {
    context: NonNull<av::AVCodecContext>,
    packet: Packet,
    options: EncoderOptions,
}

// SAFETY: libavcodec contexts are not bound to a thread; `&mut self` on every method that uses one
// keeps two threads from doing so at once. Everything else in it is Send.
unsafe impl Send for VideoEncoder {}

impl VideoEncoder {
    /// Opens an encoder.
    ///
    /// # Errors
    /// This FFmpeg lacks it, or it does not open: no such device, no such size.
    pub fn open(options: EncoderOptions) -> Result<Self, MediaError> {
        log::install();
        let kind = options.kind;
        let failed = |code| MediaError::OpenEncoder {
            encoder: kind.name(),
            error: AvError(code),
        };
        // SAFETY: a lookup in constant tables, by a terminated name.
        let codec = unsafe { av::avcodec_find_encoder_by_name(kind.c_name().as_ptr()) };
        if codec.is_null() {
            return Err(failed(av::AVERROR_ENCODER_NOT_FOUND));
        }
        let side = |value: u32| {
            c_int::try_from(value).map_err(|_| MediaError::Geometry("the picture is too large"))
        };
        let (width, height) = (side(options.width)?, side(options.height)?);
        let format = pixel::to_av(kind.format()).ok_or(MediaError::OutOfMemory)?;
        let packet = Packet::new()?;
        // SAFETY: a codec of this library; null means no memory.
        let context = unsafe { av::avcodec_alloc_context3(codec) };
        let context = NonNull::new(context).ok_or(MediaError::OutOfMemory)?;
        // From here on Drop frees the context.
        let this = Self {
            context,
            packet,
            options,
        };
        let raw = context.as_ptr();
        // SAFETY: a context that is allocated and not yet open: fields are the user's to set.
        unsafe {
            (*raw).width = width;
            (*raw).height = height;
            (*raw).pix_fmt = format;
            (*raw).color_range = match options.full_range {
                true => av::AVColorRange::AVCOL_RANGE_JPEG,
                false => av::AVColorRange::AVCOL_RANGE_MPEG,
            };
            (*raw).colorspace = matrix(options.matrix);
            (*raw).time_base = av::AVRational {
                num: 1,
                den: ENCODER_TIMESCALE as c_int,
            };
            (*raw).framerate = av::AVRational {
                num: options.about_fps.clamp(1, 240) as c_int,
                den: 1,
            };
            (*raw).max_b_frames = 0;
            // Key frames come where they are asked for.
            (*raw).gop_size = 1 << 20;
            (*raw).thread_count = options.threads.clamp(1, 16) as c_int;
            (*raw).flags |= av::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
            if let Rate::Bits(bits) = options.rate {
                let bits = i64::try_from(bits).unwrap_or(i64::MAX).min(1 << 30);
                (*raw).bit_rate = bits;
                (*raw).rc_max_rate = bits;
                (*raw).rc_buffer_size = c_int::try_from(bits).unwrap_or(c_int::MAX);
            }
        }
        let settings = Settings::of(&options);
        // SAFETY: a context that is not yet open, its codec, and a dictionary of ours.
        let code = unsafe {
            let mut dictionary = settings.0;
            let code = av::avcodec_open2(raw, codec, &raw mut dictionary);
            av::av_dict_free(&raw mut dictionary);
            code
        };
        match code {
            0.. => Ok(this),
            code => Err(failed(code)),
        }
    }

    /// Opens the first kind that works. `report` hears of those that do not, and why.
    ///
    /// # Errors
    /// The last one's: that of libx264.
    pub fn open_first(
        mut options: EncoderOptions,
        mut report: impl FnMut(EncoderKind, &str),
    ) -> Result<Self, MediaError> {
        let mut last = MediaError::OutOfMemory;
        for kind in EncoderKind::ALL {
            if let Some(missing) = kind.missing() {
                report(kind, &missing);
                continue;
            }
            options.kind = kind;
            match Self::open(options) {
                Ok(encoder) => return Ok(encoder),
                Err(error) => {
                    report(kind, &error.to_string());
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// What it was opened with.
    pub fn options(&self) -> &EncoderOptions {
        &self.options
    }

    /// Encodes one picture, which must have the size it was opened for and be
    /// [`Canvas::encodable`]. `pts`: in [`ENCODER_TIMESCALE`], later than the last one's. `key`: make
    /// it an IDR picture. Then take packets with [`VideoEncoder::receive`] until there is none.
    ///
    /// # Errors
    /// The encoder refuses it.
    pub fn send(&mut self, picture: &mut Canvas, pts: i64, key: bool) -> Result<(), MediaError> {
        let (width, height) = (self.options.width, self.options.height);
        if picture.size() != (width, height) || !picture.encodable(self.options.kind) {
            return Err(MediaError::Geometry("not what the encoder was opened for"));
        }
        let raw = picture.frame.as_mut_ptr();
        // SAFETY: a frame of our own: fields that are not pixels may be set. The encoder takes a
        // reference, reads the pixels in here (libx264 copies them; nothing is written: the buffer of
        // a ring's frame is marked read-only), and gives it back when it has.
        let code = unsafe {
            (*raw).pts = pts;
            (*raw).pict_type = match key {
                true => av::AVPictureType::AV_PICTURE_TYPE_I,
                false => av::AVPictureType::AV_PICTURE_TYPE_NONE,
            };
            av::avcodec_send_frame(self.context.as_ptr(), raw)
        };
        match code {
            0.. => Ok(()),
            code => Err(MediaError::EncodeVideo(AvError(code))),
        }
    }

    /// Says how many pictures come a second, from now on: where packets come out at once, bits are
    /// given out by that. Cheap; nothing is interrupted.
    pub fn set_fps(&mut self, fps: f64) {
        let Rate::Bits(bits) = self.options.rate else {
            return;
        };
        if !self.options.immediate || !fps.is_finite() || fps <= 0.0 {
            return;
        }
        // libavcodec hands a changed rate to libx264 with the next picture, but no changed frame rate:
        // as many bits for each picture, said in the rate that it was opened for.
        let scale = f64::from(self.options.about_fps.clamp(1, 240)) / fps;
        let scaled = (bits as f64 * scale.clamp(0.02, 240.0)).clamp(1000.0, 1e9) as i64;
        // SAFETY: an open context that only this thread uses; libavcodec/avcodec.h lets the rate be
        // changed between pictures, and encoders that cannot take no notice.
        unsafe {
            let raw = self.context.as_ptr();
            (*raw).bit_rate = scaled;
            (*raw).rc_max_rate = scaled;
            (*raw).rc_buffer_size = c_int::try_from(scaled).unwrap_or(c_int::MAX);
        }
    }

    /// No picture follows: what is still inside can be received.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn finish(&mut self) -> Result<(), MediaError> {
        // SAFETY: an open context; null is the end.
        match unsafe { av::avcodec_send_frame(self.context.as_ptr(), std::ptr::null()) } {
            0.. | av::AVERROR_EOF => Ok(()),
            code => Err(MediaError::EncodeVideo(AvError(code))),
        }
    }

    /// The next packet; `None`: send more.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn receive(&mut self) -> Result<Option<Encoded<'_>>, MediaError> {
        self.packet.clear();
        // SAFETY: an open context and an empty packet of our own.
        let code =
            unsafe { av::avcodec_receive_packet(self.context.as_ptr(), self.packet.as_mut_ptr()) };
        match code {
            0.. => {}
            EAGAIN | av::AVERROR_EOF => return Ok(None),
            code => return Err(MediaError::EncodeVideo(AvError(code))),
        }
        let raw = self.packet.as_ptr();
        // SAFETY: a packet that was filled just now.
        let (pts, flags) = unsafe { ((*raw).pts, (*raw).flags) };
        Ok(Some(Encoded {
            data: self.packet.bytes(),
            pts,
            key: flags & av::AV_PKT_FLAG_KEY as c_int != 0,
        }))
    }

    /// Parameter sets, in Annex B; empty where the encoder sends them with each key frame only.
    pub fn parameter_sets(&self) -> &[u8] {
        // SAFETY: an open context; `extradata` has `extradata_size` bytes or is null, and does not
        // change while self is borrowed.
        unsafe {
            let raw = self.context.as_ptr();
            match usize::try_from((*raw).extradata_size) {
                Ok(size) if !(*raw).extradata.is_null() => {
                    std::slice::from_raw_parts((*raw).extradata, size)
                }
                _ => &[],
            }
        }
    }

    /// Describes what comes out, for a muxer.
    pub(super) fn fill(&self, parameters: *mut av::AVCodecParameters) -> c_int {
        // SAFETY: `parameters` is a stream's, which is being made (the one caller); an open context.
        unsafe { av::avcodec_parameters_from_context(parameters, self.context.as_ptr()) }
    }
}

fn matrix(number: u8) -> av::AVColorSpace {
    match number {
        1 => av::AVColorSpace::AVCOL_SPC_BT709,
        4 => av::AVColorSpace::AVCOL_SPC_FCC,
        5 => av::AVColorSpace::AVCOL_SPC_BT470BG,
        6 => av::AVColorSpace::AVCOL_SPC_SMPTE170M,
        7 => av::AVColorSpace::AVCOL_SPC_SMPTE240M,
        9 => av::AVColorSpace::AVCOL_SPC_BT2020_NCL,
        _ => av::AVColorSpace::AVCOL_SPC_UNSPECIFIED,
    }
}

struct Settings(*mut av::AVDictionary);

impl Settings {
    fn of(options: &EncoderOptions) -> Self {
        let mut this = Self(std::ptr::null_mut());
        match options.kind {
            EncoderKind::X264 => {
                this.set(c"preset", c"veryfast");
                if options.immediate {
                    this.set(c"tune", c"zerolatency");
                }
                this.set(c"forced-idr", c"1");
                // No key frames but those asked for. Rates go by the pictures' times, for which x264
                // waits for the next picture; where that is too late, by how many come a second.
                this.set(
                    c"x264-params",
                    match options.immediate {
                        true => c"keyint=infinite:scenecut=0",
                        false => c"force-cfr=0:keyint=infinite:scenecut=0:rc-lookahead=10",
                    },
                );
                if let Rate::Quality(factor) = options.rate {
                    let text = std::ffi::CString::new(factor.min(51).to_string());
                    this.set(c"crf", &text.unwrap_or_default());
                }
            }
            EncoderKind::Nvenc => {
                this.set(c"preset", c"p3");
                this.set(c"tune", c"ull");
                this.set(c"forced-idr", c"1");
                this.set(c"delay", c"0");
                this.set(c"zerolatency", c"1");
            }
            EncoderKind::Qsv => {
                this.set(c"preset", c"veryfast");
                this.set(c"forced_idr", c"1");
                this.set(c"async_depth", c"1");
                this.set(c"look_ahead", c"0");
            }
            EncoderKind::V4l2 => {}
        }
        this
    }

    fn set(&mut self, name: &CStr, value: &CStr) {
        // SAFETY: a dictionary of our own (or null, an empty one) and two strings, which are copied.
        // Failure means no memory, which the next call meets, too.
        unsafe { av::av_dict_set(&raw mut self.0, name.as_ptr(), value.as_ptr(), 0) };
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        // SAFETY: allocated by avcodec_alloc_context3, owned by self, not used afterwards.
        unsafe { av::avcodec_free_context(&raw mut raw) };
    }
}

impl fmt::Debug for VideoEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoEncoder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
