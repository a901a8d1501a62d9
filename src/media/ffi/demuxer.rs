//! One RTSP session through libavformat.
//!
//! Promises: every wait asks the owner's watch at least every 0.1 s and ends when it says so; no
//! connection is opened but the one to the address given (and the UDP sockets of RTP); nothing is
//! decoded, parsed or probed; dropping says TEARDOWN if a session was set up.
//! Must never: leave the thread it was made on (libavformat's messages are told apart by thread), or
//! show the URL, which carries the login.

use std::ffi::{CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use ffmpeg_next::ffi as av;

use super::frame::Packet;
use super::tap::{self, Notes, Step};
use super::{ENOMEM, log};
use crate::media::{AvError, Codec};

/// Tracks beyond these are not looked at.
const MAX_TRACKS: u32 = 8;

/// The largest single allocation libavutil may make in a process that runs this client: a camera
/// announces the size of its answers. A picture of 8192x8192 takes less.
const MAX_ALLOCATION: usize = 256 << 20;

/// The socket buffer asked for: a key frame at line rate must fit while the reader does not run.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// How RTP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    Udp,
    Multicast,
    Http,
}

/// What to open.
pub struct DemuxOptions {
    /// `rtsp://` or `rtsps://`, with the login, percent-encoded.
    pub url: CString,
    pub carrier: Carrier,
    pub user_agent: CString,
    /// How long a packet may be waited for, once later ones have come.
    pub reorder: Duration,
}

impl std::fmt::Debug for DemuxOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemuxOptions")
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}

/// Asked while libavformat waits; true ends the wait.
pub type Interrupt = Box<dyn Fn(Step) -> bool>;

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemuxError {
    pub code: AvError,
    /// The code, where it is an error of the operating system.
    pub errno: Option<i32>,
    pub notes: Notes,
}

impl DemuxError {
    fn new(code: c_int) -> Self {
        // FFmpeg's own codes are tags of four characters, far beyond any errno.
        let errno = code.checked_neg().filter(|n| (1..4096).contains(n));
        Self {
            code: AvError(code),
            errno,
            notes: tap::take(),
        }
    }

    /// The connection was closed by the peer.
    pub fn is_end(&self) -> bool {
        self.code.0 == av::AVERROR_EOF
    }
}

/// A video track of the session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// `None`: nothing that this program reads.
    pub codec: Option<Codec>,
    /// RTP ticks per second.
    pub clock_rate: u32,
    /// Parameter sets out of the description: Annex B, or empty.
    pub parameter_sets: Vec<u8>,
}

/// A piece of an access unit: what came in one RTP packet (JPEG: a whole picture).
#[derive(Debug)]
pub struct Fragment<'a> {
    /// H.264 and H.265: Annex B, or the continuation of such a unit.
    pub data: &'a [u8],
    /// RTP time, unwrapped, counted from the session's first packet. `None`: unknown.
    pub rtp_time: Option<i64>,
    /// The camera's clock at that time by its last sender report: µs since the Unix epoch.
    pub camera_utc_us: Option<i64>,
    /// What was said since the last fragment.
    pub notes: Notes,
}

/// An RTSP session.
pub struct Demuxer {
    context: NonNull<av::AVFormatContext>,
    packet: Packet,
    track: c_int,
    // The context's callback points to it: freed after the context is closed (see Drop). Twice
    // boxed, since what is pointed to must have one word and may not move.
    watch: NonNull<Interrupt>,
    // Messages are told apart by thread.
    _on_this_thread: PhantomData<*const ()>,
}

impl Demuxer {
    /// Connects, DESCRIBEs and SETs UP all video tracks.
    pub fn open(options: &DemuxOptions, watch: Interrupt) -> Result<Self, DemuxError> {
        log::install();
        tap::start();
        // Its messages cannot be read elsewhere (see `log`), and the doors not be closed.
        if !cfg!(target_arch = "x86_64") {
            return Err(DemuxError::new(av::AVERROR(libc::ENOSYS)));
        }
        let opened = Self::open_tapped(options, watch);
        if opened.is_err() {
            tap::stop();
        }
        opened
    }

    fn open_tapped(options: &DemuxOptions, watch: Interrupt) -> Result<Self, DemuxError> {
        let packet = Packet::new().map_err(|_| DemuxError::new(ENOMEM))?;
        let mut settings = Settings(std::ptr::null_mut());
        // For http, tls and tcp before the session; RTP's are what is left when it begins (see tap).
        settings.set(c"protocol_whitelist", c"tcp,tls,http,rtp,udp");
        // The formats that some RTP payloads would open in turn.
        settings.set(c"format_whitelist", c"rtsp");
        settings.set(c"max_streams", &number(u64::from(MAX_TRACKS)));
        settings.set(c"allowed_media_types", c"video");
        settings.set(c"initial_pause", c"1");
        settings.set(c"user_agent", &options.user_agent);
        settings.set(c"fflags", c"nobuffer+nofillin+noparse");
        settings.set(c"correct_ts_overflow", c"0");
        let (transport, queue) = match options.carrier {
            // Nothing is reordered in TCP; a queue of two notices a gap with the next packet.
            Carrier::Tcp => (c"tcp", c"2"),
            Carrier::Http => (c"http", c"2"),
            Carrier::Udp => (c"udp", c"500"),
            Carrier::Multicast => (c"udp_multicast", c"500"),
        };
        settings.set(c"rtsp_transport", transport);
        settings.set(c"reorder_queue_size", queue);
        let delay = u64::try_from(options.reorder.as_micros()).unwrap_or(u64::MAX);
        settings.set(c"max_delay", &number(delay.min(1_000_000)));
        settings.set(c"buffer_size", &number(u64::from(RECEIVE_BUFFER)));

        // A box's content stays where it is when the pointer moves.
        let watch = NonNull::from(Box::leak(Box::new(watch)));
        // SAFETY: a global limit, no preconditions; the name is a string.
        let format = unsafe {
            av::av_max_alloc(MAX_ALLOCATION);
            av::av_find_input_format(c"rtsp".as_ptr())
        };
        // SAFETY: no preconditions; null means no memory.
        let mut raw = unsafe { av::avformat_alloc_context() };
        let code = match raw.is_null() || format.is_null() {
            true => ENOMEM,
            // SAFETY: a context of our own, not yet open: its callback may be set. The callback has
            // the type asked for and `watch` outlives the context. avformat_open_input takes a
            // terminated string, a constant format and a dictionary; on failure it frees the context
            // and sets the pointer to null (libavformat/avformat.h).
            false => unsafe {
                (*raw).interrupt_callback.callback = Some(on_wait);
                (*raw).interrupt_callback.opaque = watch.as_ptr().cast();
                av::avformat_open_input(
                    &raw mut raw,
                    options.url.as_ptr(),
                    format,
                    &raw mut settings.0,
                )
            },
        };
        match NonNull::new(raw) {
            Some(context) if code >= 0 => Ok(Self {
                context,
                packet,
                track: 0,
                watch,
                _on_this_thread: PhantomData,
            }),
            left => {
                // SAFETY: a context that was never opened (or null), and the box leaked above, to
                // which nothing points any more.
                unsafe {
                    if let Some(context) = left {
                        av::avformat_free_context(context.as_ptr());
                    }
                    drop(Box::from_raw(watch.as_ptr()));
                }
                Err(DemuxError::new(code))
            }
        }
    }

    /// The video tracks of the description.
    pub fn tracks(&self) -> Vec<Track> {
        // SAFETY: an open context that only this thread uses. `streams` has `nb_streams` valid
        // pointers, each to a stream with parameters; the codec is read as the integer that it is in
        // C, and `extradata` has `extradata_size` bytes or is null.
        unsafe {
            let context = self.context.as_ptr();
            let count = (*context).nb_streams.min(MAX_TRACKS) as usize;
            (0..count)
                .map(|index| {
                    let stream = *(*context).streams.add(index);
                    let parameters = (*stream).codecpar;
                    let codec = (&raw const (*parameters).codec_id).cast::<u32>().read();
                    let (data, size) = ((*parameters).extradata, (*parameters).extradata_size);
                    let parameter_sets = match usize::try_from(size) {
                        Ok(size) if !data.is_null() => {
                            std::slice::from_raw_parts(data, size).to_vec()
                        }
                        _ => Vec::new(),
                    };
                    let base = (*stream).time_base;
                    Track {
                        codec: known(codec),
                        clock_rate: match base.num {
                            1 => u32::try_from(base.den).unwrap_or(0),
                            _ => 0,
                        },
                        parameter_sets,
                    }
                })
                .collect()
        }
    }

    /// Which of [`tracks`](Self::tracks) is read.
    pub fn choose(&mut self, track: usize) {
        self.track = c_int::try_from(track).unwrap_or(0);
    }

    /// Sends PLAY and waits for the answer.
    pub fn play(&mut self) -> Result<(), DemuxError> {
        // SAFETY: an open context that only this thread uses.
        let code = unsafe { av::av_read_play(self.context.as_ptr()) };
        if code < 0 {
            return Err(DemuxError::new(code));
        }
        tap::set_step(Step::Stream);
        Ok(())
    }

    /// Waits for the next piece of the chosen track; `None`: one of another track came.
    pub fn read(&mut self) -> Result<Option<Fragment<'_>>, DemuxError> {
        self.packet.clear();
        let raw = self.packet.as_mut_ptr();
        // SAFETY: an open context that only this thread uses, and an empty packet of our own.
        let code = unsafe { av::av_read_frame(self.context.as_ptr(), raw) };
        if code < 0 {
            return Err(DemuxError::new(code));
        }
        // SAFETY: a packet that was filled just now.
        let (track, pts) = unsafe { ((*raw).stream_index, (*raw).pts) };
        if track != self.track {
            return Ok(None);
        }
        Ok(Some(Fragment {
            data: self.packet.bytes(),
            rtp_time: Some(pts).filter(|pts| *pts != av::AV_NOPTS_VALUE),
            camera_utc_us: self.camera_utc_us(),
            notes: tap::take(),
        }))
    }

    fn camera_utc_us(&self) -> Option<i64> {
        let mut size = 0;
        // SAFETY: a filled packet. Side data of this type is an AVProducerReferenceTime; its bytes
        // are read only if there are enough of them, at whatever alignment.
        unsafe {
            let data = av::av_packet_get_side_data(
                self.packet.as_ptr(),
                av::AVPacketSideDataType::AV_PKT_DATA_PRFT,
                &raw mut size,
            );
            let enough = !data.is_null() && size >= size_of::<av::AVProducerReferenceTime>();
            enough.then(|| {
                data.cast::<av::AVProducerReferenceTime>()
                    .read_unaligned()
                    .wallclock
            })
        }
    }
}

impl Drop for Demuxer {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        tap::set_step(Step::Teardown);
        // SAFETY: an open context, not used afterwards; then the box leaked by `open`, to which
        // nothing points any more.
        unsafe {
            av::avformat_close_input(&raw mut raw);
            drop(Box::from_raw(self.watch.as_ptr()));
        }
        tap::stop();
    }
}

impl std::fmt::Debug for Demuxer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demuxer").finish_non_exhaustive()
    }
}

/// libavformat is about to wait, or has waited 0.1 s.
unsafe extern "C" fn on_wait(watch: *mut c_void) -> c_int {
    // SAFETY: `opaque` is the box leaked by `open`, alive as long as the context, and only ever
    // shared.
    let watch = unsafe { &*watch.cast::<Interrupt>() };
    // A panic must not unwind into C: the wait ends, and so does the session.
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(tap::step())));
    c_int::from(end.unwrap_or(true))
}

fn known(codec: u32) -> Option<Codec> {
    [Codec::H264, Codec::H265, Codec::Mjpeg]
        .into_iter()
        .find(|known| super::codec_id(*known) as u32 == codec)
}

fn number(value: u64) -> CString {
    // Digits only.
    CString::new(value.to_string()).unwrap_or_default()
}

/// Options of libavformat.
struct Settings(*mut av::AVDictionary);

impl Settings {
    fn set(&mut self, name: &std::ffi::CStr, value: &std::ffi::CStr) {
        // SAFETY: a dictionary of our own (or null, an empty one) and two strings, which are copied.
        // Failure means no memory, which the next call meets, too.
        unsafe { av::av_dict_set(&raw mut self.0, name.as_ptr(), value.as_ptr(), 0) };
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: a dictionary of our own, or null; not used afterwards.
        unsafe { av::av_dict_free(&raw mut self.0) };
    }
}
