//! A fragmented MP4, written as it is made: no more is kept than the open fragment.
//!
//! Promises: writes forward only, into the sink that it was given.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::io::{self, Write};
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::encoder::VideoEncoder;
use super::frame::Packet;
use super::log;
use super::mp4_reader::{TrackDescription, error};
use crate::media::{AvError, MediaError};

const BUFFER: usize = 64 << 10;

/// What a track is made from.
#[derive(Debug)]
pub enum TrackSource<'a> {
    /// As in another file, whose samples are copied.
    Copy(&'a TrackDescription),
    /// What this encoder makes.
    Encoded(&'a VideoEncoder),
}

/// A sample for a track. Times in units of the timescale given for it; a negative time of showing
/// is decoded, but not shown (an edit list).
#[derive(Clone, Copy, Debug)]
pub struct OutSample<'a> {
    /// Which of the tracks.
    pub track: usize,
    pub data: &'a [u8],
    pub pts: i64,
    pub dts: i64,
    pub duration: i64,
    pub key: bool,
}

struct Sink {
    /// None: the file was given up, and what is still written is nobody's.
    write: Option<Box<dyn Write + Send>>,
    failed: Option<io::Error>,
}

/// An MP4 being written. For one thread at a time.
pub struct Mp4Writer {
    context: NonNull<av::AVFormatContext>,
    sink: NonNull<Sink>,
    packet: Packet,
    timescales: Vec<u32>,
    begun: bool,
}

// SAFETY: nothing in the contexts belongs to a thread, the sink is Send, and `&mut self` on every
// method that uses them keeps two threads from doing so at once.
unsafe impl Send for Mp4Writer {}

unsafe extern "C" fn on_write(opaque: *mut c_void, from: *mut u8, size: c_int) -> c_int {
    // SAFETY: the box leaked by `Mp4Writer::create`; only this callback uses it while libavformat is
    // called.
    let sink = unsafe { &mut *opaque.cast::<Sink>() };
    let Some(write) = &mut sink.write else {
        return size;
    };
    let len = usize::try_from(size).unwrap_or(0);
    // SAFETY: libavformat hands over `size` bytes that it has written.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast_const(), len) };
    let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write.write_all(bytes)));
    match written {
        Ok(Ok(())) => size,
        Ok(Err(error)) => {
            sink.failed.get_or_insert(error);
            av::AVERROR(libc::EIO)
        }
        Err(_panic) => av::AVERROR(libc::EIO),
    }
}

impl Mp4Writer {
    /// Begins a file. `tracks`: each with the timescale of its samples.
    ///
    /// # Errors
    /// A track that MP4 cannot hold, no memory, or the sink failed.
    pub fn create(
        sink: Box<dyn Write + Send>,
        tracks: &[(TrackSource<'_>, u32)],
    ) -> Result<Self, MediaError> {
        log::install();
        let packet = Packet::new()?;
        let mut raw: *mut av::AVFormatContext = std::ptr::null_mut();
        // SAFETY: a pointer to fill in, a name, and null for what is not given.
        let code = unsafe {
            av::avformat_alloc_output_context2(
                &raw mut raw,
                std::ptr::null(),
                c"mp4".as_ptr(),
                std::ptr::null(),
            )
        };
        let context = match NonNull::new(raw) {
            Some(context) if code >= 0 => context,
            _ => return Err(error(code)),
        };
        let sink = NonNull::from(Box::leak(Box::new(Sink {
            write: Some(sink),
            failed: None,
        })));
        // From here on Drop frees both.
        let mut this = Self {
            context,
            sink,
            packet,
            timescales: tracks.iter().map(|(_, timescale)| *timescale).collect(),
            begun: false,
        };
        this.open_io()?;
        for (source, timescale) in tracks {
            this.add(source, *timescale)?;
        }
        this.begin()?;
        Ok(this)
    }

    fn open_io(&mut self) -> Result<(), MediaError> {
        // SAFETY: a buffer made by av_malloc, owned by the I/O context from then on; the callback has
        // the type asked for, and the sink outlives the context (see Drop).
        unsafe {
            let buffer = av::av_malloc(BUFFER);
            if buffer.is_null() {
                return Err(MediaError::OutOfMemory);
            }
            let io = av::avio_alloc_context(
                buffer.cast(),
                BUFFER as c_int,
                1,
                self.sink.as_ptr().cast(),
                None,
                Some(on_write),
                None,
            );
            if io.is_null() {
                av::av_free(buffer);
                return Err(MediaError::OutOfMemory);
            }
            (*io).seekable = 0;
            (*self.context.as_ptr()).pb = io;
            (*self.context.as_ptr()).flags |= av::AVFMT_FLAG_CUSTOM_IO as c_int;
        }
        Ok(())
    }

    fn add(&mut self, source: &TrackSource<'_>, timescale: u32) -> Result<(), MediaError> {
        // SAFETY: a context of our own; null means no memory.
        let stream = unsafe { av::avformat_new_stream(self.context.as_ptr(), std::ptr::null()) };
        if stream.is_null() {
            return Err(MediaError::OutOfMemory);
        }
        // SAFETY: a stream made just now, whose parameters are filled from valid ones; the tag is the
        // muxer's to choose.
        let code = unsafe {
            let code = match source {
                TrackSource::Copy(description) => {
                    av::avcodec_parameters_copy((*stream).codecpar, description.as_ptr())
                }
                TrackSource::Encoded(encoder) => encoder.fill((*stream).codecpar),
            };
            (*(*stream).codecpar).codec_tag = 0;
            (*stream).time_base = av::AVRational {
                num: 1,
                den: c_int::try_from(timescale).unwrap_or(90_000),
            };
            code
        };
        match code {
            0.. => Ok(()),
            code => Err(error(code)),
        }
    }

    fn begin(&mut self) -> Result<(), MediaError> {
        let mut options: *mut av::AVDictionary = std::ptr::null_mut();
        let settings = [
            // The header waits for the first fragment, because only then the edit list is known.
            (c"movflags", c"frag_keyframe+delay_moov+default_base_moof"),
            (c"use_editlist", c"1"),
            // A camera with a key frame a minute must not cost the memory of that minute.
            (c"frag_duration", c"2000000"),
            // Times are ours; negative ones mean something.
            (c"avoid_negative_ts", c"disabled"),
        ];
        // SAFETY: a dictionary of our own, terminated strings, and a context with its streams and I/O.
        let code = unsafe {
            for (name, value) in settings {
                av::av_dict_set(&raw mut options, name.as_ptr(), value.as_ptr(), 0);
            }
            let code = av::avformat_write_header(self.context.as_ptr(), &raw mut options);
            av::av_dict_free(&raw mut options);
            code
        };
        if code < 0 {
            return Err(self.failure(code));
        }
        self.begun = true;
        Ok(())
    }

    /// Adds a sample. Per track in order of decoding.
    ///
    /// # Errors
    /// The sink failed, or times go back.
    pub fn write(&mut self, sample: &OutSample<'_>) -> Result<(), MediaError> {
        let Some(timescale) = self.timescales.get(sample.track) else {
            return Err(MediaError::Geometry("no such track"));
        };
        let from = av::AVRational {
            num: 1,
            den: c_int::try_from(*timescale).unwrap_or(90_000),
        };
        self.packet.fill(sample.data, sample.pts)?;
        let raw = self.packet.as_mut_ptr();
        // SAFETY: a packet of our own, filled just now; a context whose header was written, with this
        // stream.
        let code = unsafe {
            (*raw).dts = sample.dts;
            (*raw).duration = sample.duration;
            (*raw).stream_index = sample.track as c_int;
            if sample.key {
                (*raw).flags |= av::AV_PKT_FLAG_KEY as c_int;
            }
            let stream = *(*self.context.as_ptr()).streams.add(sample.track);
            av::av_packet_rescale_ts(raw, from, (*stream).time_base);
            av::av_write_frame(self.context.as_ptr(), raw)
        };
        self.packet.clear();
        match code {
            0.. => self.sunk(),
            code => Err(self.failure(code)),
        }
    }

    /// Writes what is still kept.
    ///
    /// # Errors
    /// The sink failed.
    pub fn finish(mut self) -> Result<(), MediaError> {
        self.begun = false;
        // SAFETY: a context whose header was written; this ends it, as must be done once.
        let code = unsafe {
            let code = av::av_write_trailer(self.context.as_ptr());
            av::avio_flush((*self.context.as_ptr()).pb);
            code
        };
        match code {
            0.. => self.sunk(),
            code => Err(self.failure(code)),
        }
    }

    /// libavformat does not always say that a write failed.
    fn sunk(&mut self) -> Result<(), MediaError> {
        // SAFETY: the box leaked by `create`; libavformat is not being called.
        match unsafe { (*self.sink.as_ptr()).failed.is_some() } {
            false => Ok(()),
            true => Err(self.failure(av::AVERROR(libc::EIO))),
        }
    }

    fn failure(&mut self, code: c_int) -> MediaError {
        // SAFETY: as above.
        match unsafe { (*self.sink.as_ptr()).failed.take() } {
            Some(failed) => {
                let errno = failed.raw_os_error().unwrap_or(libc::EPIPE);
                MediaError::Container(AvError(av::AVERROR(errno)))
            }
            None => error(code),
        }
    }
}

impl Drop for Mp4Writer {
    fn drop(&mut self) {
        // SAFETY: contexts and sink are our own and not used afterwards. A muxer that was begun is
        // ended, which frees what it keeps; what it still writes goes nowhere. The I/O's buffer is
        // freed apart (libavformat/avio.h).
        unsafe {
            (*self.sink.as_ptr()).write = None;
            let raw = self.context.as_ptr();
            if self.begun {
                av::av_write_trailer(raw);
            }
            let mut io = (*raw).pb;
            if !io.is_null() {
                (*raw).pb = std::ptr::null_mut();
                av::av_freep((&raw mut (*io).buffer).cast());
                av::avio_context_free(&raw mut io);
            }
            av::avformat_free_context(raw);
            drop(Box::from_raw(self.sink.as_ptr()));
        }
    }
}

impl fmt::Debug for Mp4Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mp4Writer")
            .field("tracks", &self.timescales.len())
            .finish_non_exhaustive()
    }
}
