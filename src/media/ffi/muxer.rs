//! Fragmented MP4 through libavformat's `mp4` muxer, into memory.
//!
//! Promises: nothing is written but the buffers handed out; a fragment's decoding times are exactly
//! those given with its samples (libavformat counts from its own beginning, so `tfdt` is written
//! over); memory does not grow with the number of fragments.
//! Must never: pass a sample on whose decoding time is not after its predecessor's.
//!
//! What is asked of libavformat (doc/muxers.texi, "Fragmentation"): `empty_moov`, so that the init
//! segment is there before the first sample; `frag_custom`, a fragment ends where it is flushed;
//! `default_base_moof`; `skip_trailer`, so that it keeps no list of fragments; `frag_discont`, since the
//! first sample need not have time 0. Not `cmaf`: with it libavformat 5.1 writes composition offsets
//! less that of the first sample it was given, so that pictures are shown earlier than they should be,
//! and by another amount after a restart. The brand that it would have added is added here.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use super::frame::Packet;
use super::{ENOMEM, codec_id, log};
use crate::media::{AvError, Codec, MAX_UNIT_BYTES, MediaError};

/// Ticks per second of video tracks.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// The bit readers of libavcodec read beyond a unit's end by at most this.
const PADDING: usize = av::AV_INPUT_BUFFER_PADDING_SIZE as usize;

/// A track to be made.
#[derive(Clone, Copy, Debug)]
pub enum TrackSpec<'a> {
    /// H.264 or H.265, access units in Annex B.
    Video {
        codec: Codec,
        width: u32,
        height: u32,
        /// Annex B.
        parameter_sets: &'a [u8],
    },
    /// AAC, bare access units (no ADTS).
    Aac {
        sample_rate: u32,
        channels: u32,
        /// AudioSpecificConfig, ISO/IEC 14496-3 § 1.6.2.1.
        config: &'a [u8],
    },
}

impl TrackSpec<'_> {
    /// Ticks per second of its times.
    pub fn timescale(&self) -> u32 {
        match self {
            Self::Video { .. } => VIDEO_TIMESCALE,
            Self::Aac { sample_rate, .. } => *sample_rate,
        }
    }
}

/// When a sample is decoded and shown, in the track's timescale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// Rises from sample to sample.
    pub dts: i64,
    /// At least `dts`.
    pub pts: i64,
    /// Until the next sample's `dts`, as far as that is known.
    pub duration: i64,
    /// Decoding can start here.
    pub key: bool,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    /// The box that describes the decoder, and how long it is at least.
    description: (&'static [u8; 4], usize),
    timescale: u32,
    /// Time 0 of libavformat: that of the first sample.
    base: Option<i64>,
    /// Of the first sample of the open fragment.
    fragment: Option<i64>,
    /// Of the newest sample.
    newest: Option<i64>,
    /// Where that ends, as libavformat counts.
    end: i64,
}

impl Track {
    fn described(&self, init: &[u8]) -> bool {
        let (kind, least) = self.description;
        memchr::memmem::find_iter(init, kind)
            .filter_map(|at| boxed(init, at.checked_sub(4)?))
            .any(|found| found.end - found.body >= least)
    }
}

/// Makes an init segment, then fragments. `Send`: one thread at a time.
pub struct FragmentMuxer {
    context: NonNull<av::AVFormatContext>,
    packet: Packet,
    /// The sample being written, padded.
    unit: Vec<u8>,
    tracks: Vec<Track>,
    init: Vec<u8>,
}

// SAFETY: an AVFormatContext belongs to no thread (libavformat/avformat.h: it may be used by one
// thread at a time), nor does anything in it; self owns it.
unsafe impl Send for FragmentMuxer {}

impl FragmentMuxer {
    /// A muxer of these tracks, and their init segment: the same bytes for the same tracks.
    ///
    /// # Errors
    /// Parameter sets that libavformat cannot read, more than it can hold, no memory.
    pub fn open(tracks: &[TrackSpec<'_>]) -> Result<Self, MediaError> {
        log::install();
        // First: from the context on, Drop frees what there is.
        let packet = Packet::new()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: an out-pointer of our own, a format by its name; on failure it stays null.
        unsafe {
            av::avformat_alloc_output_context2(
                &raw mut raw,
                std::ptr::null(),
                c"mp4".as_ptr(),
                std::ptr::null(),
            );
        }
        let mut muxer = Self {
            context: NonNull::new(raw).ok_or(MediaError::OutOfMemory)?,
            packet,
            unit: Vec::new(),
            tracks: Vec::new(),
            init: Vec::new(),
        };
        for track in tracks {
            muxer.add(track)?;
        }
        muxer.begin()?;
        Ok(muxer)
    }

    /// `ftyp` and `moov`.
    pub fn init(&self) -> &[u8] {
        &self.init
    }

    fn add(&mut self, track: &TrackSpec<'_>) -> Result<(), MediaError> {
        let extradata = match track {
            TrackSpec::Video { parameter_sets, .. } => *parameter_sets,
            TrackSpec::Aac { config, .. } => config,
        };
        // SAFETY: a context that is not begun, so that streams may be added; null means no memory.
        let stream = unsafe { av::avformat_new_stream(self.context.as_ptr(), std::ptr::null()) };
        // SAFETY: no preconditions; zeroed, padding included.
        let copy = unsafe { av::av_mallocz(extradata.len() + PADDING) }.cast::<u8>();
        if stream.is_null() || copy.is_null() {
            // SAFETY: allocated by av_mallocz or null, and nobody else's.
            unsafe { av::av_free(copy.cast()) };
            return Err(MediaError::OutOfMemory);
        }
        // SAFETY: the stream has parameters of its own, which are the user's to set before the header
        // is written; `copy` has room for the extradata and becomes the parameters', who free it.
        unsafe {
            std::ptr::copy_nonoverlapping(extradata.as_ptr(), copy, extradata.len());
            let parameters = (*stream).codecpar;
            (*parameters).extradata = copy;
            (*parameters).extradata_size = c_int::try_from(extradata.len()).unwrap_or(0);
            match *track {
                TrackSpec::Video {
                    codec,
                    width,
                    height,
                    ..
                } => {
                    (*parameters).codec_type = av::AVMediaType::AVMEDIA_TYPE_VIDEO;
                    (*parameters).codec_id = codec_id(codec);
                    (*parameters).codec_tag = tag(codec);
                    (*parameters).width = c_int::try_from(width).unwrap_or(0);
                    (*parameters).height = c_int::try_from(height).unwrap_or(0);
                }
                TrackSpec::Aac {
                    sample_rate,
                    channels,
                    ..
                } => {
                    (*parameters).codec_type = av::AVMediaType::AVMEDIA_TYPE_AUDIO;
                    (*parameters).codec_id = av::AVCodecID::AV_CODEC_ID_AAC;
                    (*parameters).sample_rate = c_int::try_from(sample_rate).unwrap_or(0);
                    (*parameters).frame_size = 1024;
                    av::av_channel_layout_default(
                        &raw mut (*parameters).ch_layout,
                        c_int::try_from(channels).unwrap_or(1),
                    );
                }
            }
            (*stream).time_base = av::AVRational {
                num: 1,
                den: c_int::try_from(track.timescale()).unwrap_or(1),
            };
        }
        self.tracks.push(Track {
            // One parameter set of each kind (ISO/IEC 14496-15 § 5.3.3.1.2, § 8.3.3.1.2).
            description: match track {
                TrackSpec::Video {
                    codec: Codec::H264, ..
                } => (b"avcC", 7 + 2 + 4 + 2 + 1),
                TrackSpec::Video { .. } => (b"hvcC", 23 + 3 * (3 + 2 + 2)),
                TrackSpec::Aac { .. } => (b"esds", 4),
            },
            timescale: track.timescale(),
            base: None,
            fragment: None,
            newest: None,
            end: 0,
        });
        Ok(())
    }

    fn begin(&mut self) -> Result<(), MediaError> {
        let mut options = Options(std::ptr::null_mut());
        options.set(
            c"movflags",
            c"frag_custom+frag_discont+empty_moov+default_base_moof+skip_trailer",
        );
        options.set(c"video_track_timescale", c"90000");
        // Times stay as they are given.
        options.set(c"use_editlist", c"0");
        options.set(c"avoid_negative_ts", c"disabled");
        options.set(c"fflags", c"+bitexact");
        self.open_buffer()?;
        // SAFETY: a context with streams and a buffer to write to, begun once.
        let code = unsafe { av::avformat_write_header(self.context.as_ptr(), &raw mut options.0) };
        if code < 0 {
            return Err(MediaError::Mux(AvError(code)));
        }
        for (index, track) in self.tracks.iter().enumerate() {
            // SAFETY: a context with so many streams; libavformat may have chosen another time base.
            let base = unsafe { (**(*self.context.as_ptr()).streams.add(index)).time_base };
            if base.num != 1 || u32::try_from(base.den) != Ok(track.timescale) {
                return Err(MediaError::Mux(AvError(av::AVERROR(libc::EINVAL))));
            }
        }
        self.init = self.take_buffer()?;
        add_brand(&mut self.init);
        // Parameter sets that make no sense are left out without a word.
        let whole = self.tracks.iter().all(|track| track.described(&self.init));
        match whole {
            true => Ok(()),
            false => Err(MediaError::Mux(AvError(av::AVERROR_INVALIDDATA))),
        }
    }

    /// Adds a sample to the open fragment.
    ///
    /// # Errors
    /// libavformat refuses it; the fragment stays as it was.
    pub fn write(&mut self, track: usize, unit: &[u8], time: SampleTime) -> Result<(), MediaError> {
        let refused = MediaError::Mux(AvError(av::AVERROR(libc::EINVAL)));
        let len = unit.len();
        let (Some(known), Ok(size)) = (self.tracks.get_mut(track), c_int::try_from(len)) else {
            return Err(refused);
        };
        if len > MAX_UNIT_BYTES || len == 0 {
            return Err(MediaError::UnitTooLarge {
                len,
                max: MAX_UNIT_BYTES,
            });
        }
        if known.newest.is_some_and(|newest| time.dts <= newest) {
            return Err(refused);
        }
        // How long the last sample of a fragment lasts may have been a guess. libavformat takes it at
        // its word, and moves the first sample of the next to where the guess ends (movenc.c,
        // ff_mov_write_packet): its own times are made to agree, and `tfdt` is written over.
        let base = match (known.fragment, known.base) {
            (Some(_), Some(base)) => base,
            _ => time.dts.saturating_sub(known.end),
        };
        let (Some(dts), Some(pts)) = (time.dts.checked_sub(base), time.pts.checked_sub(base))
        else {
            return Err(refused);
        };
        self.unit.clear();
        self.unit.extend_from_slice(unit);
        self.unit.resize(len + PADDING, 0);
        self.packet.clear();
        let raw = self.packet.as_mut_ptr();
        // SAFETY: an empty packet of our own without a buffer: libavformat copies what it keeps, and
        // the packet is cleared before `self.unit` can change. `size` bytes and a zeroed padding are there.
        let code = unsafe {
            (*raw).data = self.unit.as_mut_ptr();
            (*raw).size = size;
            (*raw).stream_index = c_int::try_from(track).unwrap_or(0);
            (*raw).dts = dts;
            (*raw).pts = pts.max(dts);
            (*raw).duration = time.duration.max(0);
            (*raw).flags = if time.key {
                av::AV_PKT_FLAG_KEY as c_int
            } else {
                0
            };
            av::av_write_frame(self.context.as_ptr(), raw)
        };
        self.packet.clear();
        if code < 0 {
            return Err(MediaError::Mux(AvError(code)));
        }
        known.fragment.get_or_insert(time.dts);
        known.newest = Some(time.dts);
        known.base = Some(base);
        known.end = dts.saturating_add(time.duration.max(0));
        Ok(())
    }

    /// Ends the fragment: one `moof` and its `mdat`. Empty where no sample was added.
    ///
    /// # Errors
    /// No memory, or what libavformat made has another shape than expected.
    pub fn flush(&mut self) -> Result<Vec<u8>, MediaError> {
        if self.tracks.iter().all(|track| track.fragment.is_none()) {
            return Ok(Vec::new());
        }
        self.open_buffer()?;
        // SAFETY: a context that has begun, with a buffer to write to; no packet means: flush.
        let code = unsafe { av::av_write_frame(self.context.as_ptr(), std::ptr::null_mut()) };
        let mut bytes = self.take_buffer()?;
        if code < 0 {
            return Err(MediaError::Mux(AvError(code)));
        }
        let times: Vec<Option<i64>> = (self.tracks.iter_mut())
            .map(|track| track.fragment.take())
            .collect();
        set_decode_times(&mut bytes, &times)
            .ok_or(MediaError::Mux(AvError(av::AVERROR_INVALIDDATA)))?;
        Ok(bytes)
    }

    fn open_buffer(&mut self) -> Result<(), MediaError> {
        self.drop_buffer();
        // SAFETY: the context's output is null after drop_buffer.
        match unsafe { av::avio_open_dyn_buf(&raw mut (*self.context.as_ptr()).pb) } {
            0 => Ok(()),
            _ => Err(MediaError::OutOfMemory),
        }
    }

    fn take_buffer(&mut self) -> Result<Vec<u8>, MediaError> {
        let mut data = std::ptr::null_mut();
        // SAFETY: the context's output was opened by open_buffer; it is gone afterwards, and `data` is
        // ours: so many bytes, or null.
        unsafe {
            let output = &raw mut (*self.context.as_ptr()).pb;
            if (*output).is_null() {
                return Err(MediaError::OutOfMemory);
            }
            let code = (**output).error;
            let size = av::avio_close_dyn_buf(*output, &raw mut data);
            *output = std::ptr::null_mut();
            let bytes = match usize::try_from(size) {
                Ok(size) if !data.is_null() => std::slice::from_raw_parts(data, size).to_vec(),
                _ => Vec::new(),
            };
            av::av_free(data.cast());
            match code {
                ENOMEM => Err(MediaError::OutOfMemory),
                _ => Ok(bytes),
            }
        }
    }

    fn drop_buffer(&mut self) {
        let mut data = std::ptr::null_mut();
        // SAFETY: an output opened by open_buffer, or null; its bytes are ours to free.
        unsafe {
            let output = &raw mut (*self.context.as_ptr()).pb;
            if !(*output).is_null() {
                av::avio_close_dyn_buf(*output, &raw mut data);
                *output = std::ptr::null_mut();
                av::av_free(data.cast());
            }
        }
    }
}

impl Drop for FragmentMuxer {
    fn drop(&mut self) {
        self.drop_buffer();
        // SAFETY: a context of our own, not used afterwards. It frees what the muxer holds, too
        // (its `deinit`), begun or not.
        unsafe { av::avformat_free_context(self.context.as_ptr()) };
    }
}

impl std::fmt::Debug for FragmentMuxer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FragmentMuxer")
            .field("tracks", &self.tracks)
            .finish_non_exhaustive()
    }
}

/// How the sample entry is called. Parameter sets stand in it alone (ISO/IEC 14496-15 § 5.3, § 8.3).
fn tag(codec: Codec) -> u32 {
    match codec {
        Codec::H264 => u32::from_le_bytes(*b"avc1"),
        Codec::H265 => u32::from_le_bytes(*b"hvc1"),
        _ => 0,
    }
}

/// Says that the fragments are CMAF's (ISO/IEC 23000-19 § 7.2): one more brand at the end of `ftyp`.
fn add_brand(init: &mut Vec<u8>) {
    let Some(ftyp) = boxed(init, 0).filter(|ftyp| ftyp.kind == *b"ftyp") else {
        return;
    };
    init.splice(ftyp.end..ftyp.end, *b"cmfc");
    if let (Ok(size), Some(field)) = (u32::try_from(ftyp.end + 4), init.get_mut(..4)) {
        field.copy_from_slice(&size.to_be_bytes());
    }
}

/// Sets `tfdt` of each track, and removes what is not `moof` or `mdat`. `None`: the bytes are not a
/// fragment as this muxer makes them.
fn set_decode_times(bytes: &mut Vec<u8>, times: &[Option<i64>]) -> Option<()> {
    let mut at = 0;
    while boxed(bytes, at)?.kind != *b"moof" {
        at = boxed(bytes, at)?.end;
    }
    bytes.drain(..at);
    let moof = boxed(bytes, 0)?;
    let mdat = boxed(bytes, moof.end)?;
    if mdat.kind != *b"mdat" {
        return None;
    }
    bytes.truncate(mdat.end);
    let mut at = moof.body;
    while at < moof.end {
        let traf = boxed(bytes, at)?;
        if traf.kind == *b"traf" {
            set_decode_time(bytes, &traf, times)?;
        }
        at = traf.end;
    }
    Some(())
}

fn set_decode_time(bytes: &mut [u8], traf: &Boxed, times: &[Option<i64>]) -> Option<()> {
    let (mut at, mut track) = (traf.body, None);
    while at < traf.end {
        let inner = boxed(bytes, at)?;
        let body = inner.body;
        match &inner.kind {
            // Version and flags, then the track's number, from 1 (ISO/IEC 14496-12 § 8.8.7).
            b"tfhd" => {
                let number = u32::from_be_bytes(*bytes.get(body + 4..)?.first_chunk()?);
                track = Some(usize::try_from(number).ok()?.checked_sub(1)?);
            }
            // Version 1: 64 bits (§ 8.8.12).
            b"tfdt" => {
                let time = u64::try_from((*times.get(track?)?)?).ok()?;
                if *bytes.get(body)? != 1 {
                    return None;
                }
                let field = bytes.get_mut(body + 4..body + 12)?;
                field.copy_from_slice(&time.to_be_bytes());
                return Some(());
            }
            _ => {}
        }
        at = inner.end;
    }
    None
}

/// A box of ISO/IEC 14496-12 § 4.2, 32-bit sizes only: what is made here is far smaller.
struct Boxed {
    kind: [u8; 4],
    body: usize,
    end: usize,
}

fn boxed(bytes: &[u8], at: usize) -> Option<Boxed> {
    let head = bytes.get(at..at.checked_add(8)?)?;
    let size = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let end = at.checked_add(size)?;
    (size >= 8 && end <= bytes.len()).then_some(Boxed {
        kind: *head[4..].first_chunk()?,
        body: at + 8,
        end,
    })
}

/// Options of libavformat.
struct Options(*mut av::AVDictionary);

impl Options {
    fn set(&mut self, name: &CStr, value: &CStr) {
        // SAFETY: a dictionary of our own (or null, an empty one) and two strings, which are copied.
        // Failure means no memory, which the next call meets, too.
        unsafe { av::av_dict_set(&raw mut self.0, name.as_ptr(), value.as_ptr(), 0) };
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: a dictionary of our own, or null; not used afterwards.
        unsafe { av::av_dict_free(&raw mut self.0) };
    }
}
