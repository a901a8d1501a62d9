//! Samples out of an MP4 file or a piece of one (init segment and chunks), one after the other.
//!
//! Promises: reads forward only, from the source that it was given and nothing else; a damaged file
//! is an error or ends early. Allocates no more at once than [`MAX_ALLOCATION`].

use std::ffi::{c_int, c_void};
use std::fmt;
use std::io::{self, Read};
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::frame::Packet;
use super::{ENOMEM, codec_id, log};
use crate::media::{AvError, Codec, MediaError};

/// Of libavutil, in the process that reads.
const MAX_ALLOCATION: usize = 256 << 20;
/// What is read at a time.
const BUFFER: usize = 64 << 10;

/// What a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// The first video track.
    Video,
    /// The first audio track.
    Audio,
}

/// A track's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mp4Track {
    /// `None`: audio, or a video codec that is not read here.
    pub codec: Option<Codec>,
    /// Units of time per second.
    pub timescale: u32,
    /// In pixels; 0 for audio.
    pub width: u32,
    /// In pixels; 0 for audio.
    pub height: u32,
    /// `avcC`, `hvcC`, or what the codec has.
    pub config: Vec<u8>,
}

/// A sample as it lies in the file. Times in units of its track's timescale. How long it lasts is not
/// told: libavformat guesses that at the end of fragments.
#[derive(Clone, Copy, Debug)]
pub struct Mp4Sample<'a> {
    /// Which track.
    pub kind: TrackKind,
    /// As it lies in the file: units behind their lengths.
    pub data: &'a [u8],
    /// When it is shown.
    pub pts: i64,
    /// When it is decoded.
    pub dts: i64,
    /// Decoding can start here.
    pub key: bool,
}

struct Source {
    read: Box<dyn Read + Send>,
    scratch: Vec<u8>,
    failed: Option<io::Error>,
}

/// An open MP4. For one thread at a time.
pub struct Mp4Reader {
    context: NonNull<av::AVFormatContext>,
    io: Io,
    packet: Packet,
    video: Option<c_int>,
    audio: Option<c_int>,
}

// SAFETY: nothing in the contexts belongs to a thread, the source is Send, and `&mut self` on every
// method that uses them keeps two threads from doing so at once.
unsafe impl Send for Mp4Reader {}

/// libavformat's window on a source; freed when dropped.
struct Io {
    context: NonNull<av::AVIOContext>,
    source: NonNull<Source>,
}

impl Io {
    fn new(read: Box<dyn Read + Send>) -> Result<Self, MediaError> {
        let source = Box::new(Source {
            read,
            scratch: vec![0; BUFFER],
            failed: None,
        });
        // SAFETY: no preconditions; null means no memory.
        let buffer = unsafe { av::av_malloc(BUFFER) };
        if buffer.is_null() {
            return Err(MediaError::OutOfMemory);
        }
        // A box's content stays where it is when the pointer moves.
        let source = NonNull::from(Box::leak(source));
        // SAFETY: a buffer of this size made by av_malloc, which the context owns from now on; the
        // callback has the type asked for, and what it is given outlives the context (see Drop).
        let context = unsafe {
            av::avio_alloc_context(
                buffer.cast(),
                BUFFER as c_int,
                0,
                source.as_ptr().cast(),
                Some(on_read),
                None,
                None,
            )
        };
        match NonNull::new(context) {
            Some(context) => {
                // SAFETY: a context made just now, and nobody else's.
                unsafe { (*context.as_ptr()).seekable = 0 };
                Ok(Self { context, source })
            }
            None => {
                // SAFETY: the buffer and the box from above, which nobody took over.
                unsafe {
                    av::av_free(buffer);
                    drop(Box::from_raw(source.as_ptr()));
                }
                Err(MediaError::OutOfMemory)
            }
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        // SAFETY: made by avio_alloc_context and owned by self; its buffer is freed apart, as
        // libavformat/avio.h demands (it may have been replaced since). Then the box leaked by `new`,
        // to which nothing points any more.
        unsafe {
            av::av_freep((&raw mut (*raw).buffer).cast());
            av::avio_context_free(&raw mut raw);
            drop(Box::from_raw(self.source.as_ptr()));
        }
    }
}

unsafe extern "C" fn on_read(opaque: *mut c_void, into: *mut u8, size: c_int) -> c_int {
    // SAFETY: the box leaked by `Io::new`; only this callback uses it while libavformat is called.
    let source = unsafe { &mut *opaque.cast::<Source>() };
    let wanted = usize::try_from(size).unwrap_or(0).min(BUFFER);
    let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loop {
            match source.read.read(&mut source.scratch[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                filled => return filled,
            }
        }
    }));
    match filled {
        Ok(Ok(0)) => av::AVERROR_EOF,
        Ok(Ok(filled)) => {
            let filled = filled.min(wanted);
            // SAFETY: libavformat asks for at most `size` bytes at `into`, which are its own; the
            // scratch has `BUFFER`. `into` may be memory never written, hence no slice of it.
            unsafe { std::ptr::copy_nonoverlapping(source.scratch.as_ptr(), into, filled) };
            filled as c_int
        }
        Ok(Err(error)) => {
            source.failed = Some(error);
            av::AVERROR(libc::EIO)
        }
        Err(_panic) => av::AVERROR(libc::EIO),
    }
}

impl Mp4Reader {
    /// Reads up to the first sample.
    ///
    /// # Errors
    /// Not an MP4, no video track, or the source failed.
    pub fn open(source: Box<dyn Read + Send>) -> Result<Self, MediaError> {
        log::install();
        let packet = Packet::new()?;
        let io = Io::new(source)?;
        // SAFETY: a global limit, no preconditions; the name is a string; null means no memory.
        let (format, mut raw) = unsafe {
            av::av_max_alloc(MAX_ALLOCATION);
            (
                av::av_find_input_format(c"mov".as_ptr()),
                av::avformat_alloc_context(),
            )
        };
        if format.is_null() || raw.is_null() {
            // SAFETY: a context never opened, or null, which is allowed.
            unsafe { av::avformat_free_context(raw) };
            return Err(MediaError::OutOfMemory);
        }
        let mut options: *mut av::AVDictionary = std::ptr::null_mut();
        // SAFETY: a context of our own, not yet open: its I/O may be set. The dictionary is ours.
        // Edit lists are not applied: times are wanted as they are in the file. avformat_open_input
        // frees the context on failure and sets the pointer to null, but not I/O that is not its own.
        let code = unsafe {
            (*raw).pb = io.context.as_ptr();
            (*raw).flags |= av::AVFMT_FLAG_CUSTOM_IO as c_int;
            av::av_dict_set(
                &raw mut options,
                c"ignore_editlist".as_ptr(),
                c"1".as_ptr(),
                0,
            );
            // Nothing named in the file is opened.
            av::av_dict_set(
                &raw mut options,
                c"protocol_whitelist".as_ptr(),
                c"none".as_ptr(),
                0,
            );
            let code =
                av::avformat_open_input(&raw mut raw, c"".as_ptr(), format, &raw mut options);
            av::av_dict_free(&raw mut options);
            code
        };
        let context = match NonNull::new(raw) {
            Some(context) if code >= 0 => context,
            _ => return Err(error(code)),
        };
        let mut reader = Self {
            context,
            io,
            packet,
            video: None,
            audio: None,
        };
        reader.video = reader.find(av::AVMediaType::AVMEDIA_TYPE_VIDEO);
        reader.audio = reader.find(av::AVMediaType::AVMEDIA_TYPE_AUDIO);
        match reader.video {
            Some(_) => Ok(reader),
            None => Err(MediaError::Geometry("an MP4 without a video track")),
        }
    }

    fn find(&self, kind: av::AVMediaType) -> Option<c_int> {
        // SAFETY: an open context; `streams` has `nb_streams` valid pointers, each to a stream with
        // parameters; the type is read as the integer that it is in C.
        unsafe {
            let context = self.context.as_ptr();
            (0..(*context).nb_streams.min(16)).find_map(|index| {
                let parameters = (**(*context).streams.add(index as usize)).codecpar;
                let found = (&raw const (*parameters).codec_type).cast::<c_int>().read();
                (found == kind as c_int).then_some(index as c_int)
            })
        }
    }

    fn index(&self, kind: TrackKind) -> Option<c_int> {
        match kind {
            TrackKind::Video => self.video,
            TrackKind::Audio => self.audio,
        }
    }

    /// The description of a track, where there is one.
    pub fn track(&self, kind: TrackKind) -> Option<Mp4Track> {
        let index = self.index(kind)?;
        // SAFETY: an open context with this stream; the codec is read as the integer that it is in
        // C; `extradata` has `extradata_size` bytes or is null.
        unsafe {
            let stream = *(*self.context.as_ptr()).streams.add(index as usize);
            let parameters = (*stream).codecpar;
            let codec = (&raw const (*parameters).codec_id).cast::<u32>().read();
            let config = match usize::try_from((*parameters).extradata_size) {
                Ok(size) if !(*parameters).extradata.is_null() => {
                    std::slice::from_raw_parts((*parameters).extradata, size).to_vec()
                }
                _ => Vec::new(),
            };
            let side = |value: c_int| u32::try_from(value).unwrap_or(0);
            Some(Mp4Track {
                codec: [Codec::H264, Codec::H265]
                    .into_iter()
                    .find(|known| codec_id(*known) as u32 == codec),
                timescale: side((*stream).time_base.den).max(1),
                width: side((*parameters).width),
                height: side((*parameters).height),
                config,
            })
        }
    }

    /// The description of a track, for a writer; `None`: no such track, or no memory.
    pub fn describe(&self, kind: TrackKind) -> Option<TrackDescription> {
        let index = self.index(kind)?;
        // SAFETY: no preconditions; null means no memory.
        let copy = NonNull::new(unsafe { av::avcodec_parameters_alloc() })?;
        let copy = TrackDescription(copy);
        // SAFETY: an open context with this stream, and parameters of our own.
        let code = unsafe {
            let stream = *(*self.context.as_ptr()).streams.add(index as usize);
            av::avcodec_parameters_copy(copy.0.as_ptr(), (*stream).codecpar)
        };
        (code >= 0).then_some(copy)
    }

    /// The next sample of either track, in the order of the file; `None`: the end.
    ///
    /// # Errors
    /// The file is damaged here, or the source failed.
    pub fn next_sample(&mut self) -> Result<Option<Mp4Sample<'_>>, MediaError> {
        let (index, kind) = loop {
            self.packet.clear();
            // SAFETY: an open context that only this thread uses, and an empty packet of our own.
            let code =
                unsafe { av::av_read_frame(self.context.as_ptr(), self.packet.as_mut_ptr()) };
            if code == av::AVERROR_EOF {
                // SAFETY: the box leaked by `Io::new`; libavformat is not being called.
                let failed = unsafe { (*self.io.source.as_ptr()).failed.take() };
                return match failed {
                    None => Ok(None),
                    Some(failed) => Err(source_error(&failed)),
                };
            }
            if code < 0 {
                return Err(error(code));
            }
            // SAFETY: a packet that was filled just now.
            let index = unsafe { (*self.packet.as_ptr()).stream_index };
            if Some(index) == self.video {
                break (index, TrackKind::Video);
            }
            if Some(index) == self.audio {
                break (index, TrackKind::Audio);
            }
        };
        debug_assert!(index >= 0);
        let raw = self.packet.as_ptr();
        // SAFETY: as above.
        let (pts, dts, flags) = unsafe { ((*raw).pts, (*raw).dts, (*raw).flags) };
        let known = |time: i64| (time != av::AV_NOPTS_VALUE).then_some(time);
        let dts = known(dts).or(known(pts)).unwrap_or(0);
        Ok(Some(Mp4Sample {
            kind,
            data: self.packet.bytes(),
            pts: known(pts).unwrap_or(dts),
            dts,
            key: flags & av::AV_PKT_FLAG_KEY as c_int != 0,
        }))
    }
}

impl Drop for Mp4Reader {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        // SAFETY: an open context of our own, not used afterwards; its I/O is freed after it.
        unsafe { av::avformat_close_input(&raw mut raw) };
    }
}

impl fmt::Debug for Mp4Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mp4Reader").finish_non_exhaustive()
    }
}

/// libavformat's description of a track.
#[derive(Debug)]
pub struct TrackDescription(NonNull<av::AVCodecParameters>);

// SAFETY: plain memory of our own, not bound to a thread.
unsafe impl Send for TrackDescription {}

impl TrackDescription {
    pub(super) fn as_ptr(&self) -> *const av::AVCodecParameters {
        self.0.as_ptr()
    }
}

impl Drop for TrackDescription {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: made by avcodec_parameters_alloc, owned by self, not used afterwards.
        unsafe { av::avcodec_parameters_free(&raw mut raw) };
    }
}

pub(super) fn error(code: c_int) -> MediaError {
    match code {
        ENOMEM => MediaError::OutOfMemory,
        code => MediaError::Container(AvError(code)),
    }
}

fn source_error(error: &io::Error) -> MediaError {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    MediaError::Container(AvError(av::AVERROR(errno)))
}
