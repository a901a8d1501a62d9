//! RTSP sessions through libavformat: for what `retina` cannot do (TLS, multicast, HTTP tunnels).
//!
//! libavformat blocks, so each session has a thread of its own, which hands units over through a
//! queue bounded in bytes. Promises: dropping a session, or the future that opens one, ends every
//! wait of its thread within 0.1 s (TLS: 0.6 s), then TEARDOWN is sent; [`FfmpegConnector::settle`] waits for
//! that; no host but the one given is ever connected to (RTP and RTCP over UDP go where the camera
//! says, and carry no login); a camera that sends faster than its units are taken is slowed down, or
//! loses packets, and costs no memory.
//!
//! What is worse than with retina: H.264 and H.265 come one picture later (a unit has ended when the
//! next one begins, since libavformat keeps the RTP marker bit to itself), the answer to TEARDOWN is
//! not waited for, and a certificate is not checked (FFmpeg before 8 has no way to ask for it).

pub(super) mod assemble;
mod classify;
mod options;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::source::{
    Connector, OfferedTrack, SenderReport, Source, SourceConfig, SourceError, SourceErrorKind,
    SourceEvent, Stage, StreamInfo, Timeouts, VideoCodec, monotonic_ns, utc_ns,
};
use crate::health::Sound;
use crate::media::{Codec, DemuxError, DemuxOptions, Demuxer, Fragment, Notes, Step, Track};
use assemble::{Assembler, Moment};

/// How long a packet that is late is waited for, over UDP.
pub const REORDER: Duration = Duration::from_millis(100);

/// libavformat and GnuTLS keep some kilobytes of buffers on the stack.
const STACK_BYTES: usize = 512 << 10;

/// How long a farewell may take to be written: the other side may not read any more.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a session over TLS that is no longer wanted waits for one more packet. Interrupted in a
/// read, GnuTLS gives the connection up, and no TEARDOWN can be sent.
const TLS_GRACE: Duration = Duration::from_millis(500);

/// A sender report is repeated this often even if it says the same as before.
const REPORT_AGAIN: Duration = Duration::from_secs(5);

/// RTP times have 32 bits.
const RTP_WRAP: i64 = 1 << 32;

/// Opens libavformat sessions with one camera, and knows those that are still being torn down.
#[derive(Debug, Default)]
pub struct FfmpegConnector {
    alive: Arc<Alive>,
}

/// Threads that have not ended.
#[derive(Debug, Default)]
struct Alive {
    threads: AtomicUsize,
    ended: Notify,
}

/// One thread's part in [`Alive`].
struct Life(Arc<Alive>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Relaxed);
        self.0.ended.notify_waiters();
    }
}

impl FfmpegConnector {
    /// A connector without sessions.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Connector for FfmpegConnector {
    type Source = FfmpegSource;

    async fn connect(
        &self,
        config: &SourceConfig,
        address: IpAddr,
    ) -> Result<FfmpegSource, SourceError> {
        let options = options::options(config, address)?;
        let link = Arc::new(Link::new(config.limits.max_unit_bytes));
        // From here on, dropping it ends the thread.
        let handle = Handle(Arc::clone(&link));
        self.alive.threads.fetch_add(1, Relaxed);
        let life = Life(Arc::clone(&self.alive));
        let of_thread = config.clone();
        std::thread::Builder::new()
            .name("rtsp".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _life = life;
                session(&of_thread, &options, &link);
            })
            .map_err(|error| {
                let why = format!("no thread for its session: {error}");
                config.error(Stage::Connect, SourceErrorKind::Unreachable(why))
            })?;
        let (info, offered) = loop {
            let ready = handle.0.ready.notified();
            if let Some(opened) = handle.0.lock().opened.take() {
                break opened?;
            }
            ready.await;
        };
        Ok(FfmpegSource {
            handle,
            info,
            offered,
        })
    }

    async fn settle(&self, limit: Duration) {
        let all_ended = async {
            loop {
                let ended = self.alive.ended.notified();
                tokio::pin!(ended);
                // Registered before looking, so that an end between the two is not missed.
                ended.as_mut().enable();
                if self.alive.threads.load(Relaxed) == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = timeout(limit, all_ended).await;
    }
}

/// Between a session's thread and whoever takes its units.
#[derive(Debug)]
struct Link {
    state: Mutex<LinkState>,
    /// There is something to take.
    ready: Notify,
    /// There is room again, or the end has come.
    room: Condvar,
    /// The other side is gone.
    stop: AtomicBool,
    max_bytes: usize,
}

type Opened = (StreamInfo, Vec<OfferedTrack>);

#[derive(Debug, Default)]
struct LinkState {
    /// The answer to whoever waits for the session to begin, until it is taken.
    opened: Option<Result<Opened, SourceError>>,
    begun: bool,
    queue: VecDeque<SourceEvent>,
    bytes: usize,
    end: Option<SourceError>,
}

impl Link {
    fn new(max_unit_bytes: usize) -> Self {
        Link {
            state: Mutex::default(),
            ready: Notify::new(),
            room: Condvar::new(),
            stop: AtomicBool::new(false),
            max_bytes: max_unit_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Waits for room. One event always fits.
    fn push(&self, event: SourceEvent) {
        let size = cost(&event);
        let mut state = self.lock();
        while !self.stopped() && !state.queue.is_empty() && state.bytes + size > self.max_bytes {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += size;
        state.queue.push_back(event);
        drop(state);
        self.ready.notify_one();
    }

    fn finish(&self, end: SourceError) {
        let mut state = self.lock();
        if state.begun {
            state.end = Some(end);
        } else {
            state.opened = Some(Err(end));
        }
        drop(state);
        self.ready.notify_one();
    }

    fn begin(&self, opened: Opened) {
        let mut state = self.lock();
        state.begun = true;
        state.opened = Some(Ok(opened));
        drop(state);
        self.ready.notify_one();
    }
}

/// What an event takes in memory, about.
fn cost(event: &SourceEvent) -> usize {
    size_of::<SourceEvent>()
        + match event {
            SourceEvent::Unit(unit) => unit.data.len(),
            SourceEvent::Glitch(text) => text.len(),
            _ => 0,
        }
}

/// Dropping it ends the session.
#[derive(Debug)]
struct Handle(Arc<Link>);

impl Drop for Handle {
    fn drop(&mut self) {
        // Under the lock, so that a thread about to wait for room does not miss it.
        let state = self.0.lock();
        self.0.stop.store(true, Relaxed);
        drop(state);
        self.0.room.notify_all();
    }
}

/// A playing libavformat session. Dropping it starts TEARDOWN in its thread.
#[derive(Debug)]
pub struct FfmpegSource {
    handle: Handle,
    info: StreamInfo,
    offered: Vec<OfferedTrack>,
}

impl FfmpegSource {
    /// The camera's video tracks: others are not looked at.
    pub fn offered(&self) -> Vec<OfferedTrack> {
        self.offered.clone()
    }
}

impl Source for FfmpegSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let link = &self.handle.0;
        loop {
            // A permit is kept if it comes between the look and the wait.
            let ready = link.ready.notified();
            {
                let mut state = link.lock();
                if let Some(event) = state.queue.pop_front() {
                    state.bytes -= cost(&event);
                    drop(state);
                    link.room.notify_one();
                    if let SourceEvent::Unit(unit) = &event
                        && unit.dimensions.is_some()
                    {
                        self.info.dimensions = unit.dimensions;
                    }
                    return Ok(event);
                }
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
            }
            ready.await;
        }
    }
}

/// The thread's body.
fn session(config: &SourceConfig, options: &DemuxOptions, link: &Arc<Link>) {
    let overdue = Arc::new(Mutex::new(None));
    let grace = match config.url.scheme() {
        "rtsps" => TLS_GRACE,
        _ => Duration::ZERO,
    };
    let watch = watch(
        config.timeouts,
        grace,
        Arc::clone(link),
        Arc::clone(&overdue),
    );
    let judge = |error: &DemuxError| {
        let overdue = *overdue.lock().unwrap_or_else(PoisonError::into_inner);
        match overdue {
            Some((step, limit)) => {
                config.error(classify::stage(step), SourceErrorKind::Timeout(limit))
            }
            None => classify::error(config, error),
        }
    };
    let mut demuxer = match Demuxer::open(options, watch) {
        Ok(demuxer) => demuxer,
        Err(error) => return link.finish(judge(&error)),
    };
    let tracks = demuxer.tracks();
    let (index, codec) = match choose(config, &tracks) {
        Ok(chosen) => chosen,
        Err(error) => return link.finish(error),
    };
    demuxer.choose(index);
    if let Err(error) = demuxer.play() {
        return link.finish(judge(&error));
    }
    let track = &tracks[index];
    let max = config.limits.max_unit_bytes;
    let assembler = Assembler::new(codec, track.clock_rate, max, &track.parameter_sets);
    let info = StreamInfo {
        codec,
        clock_rate: track.clock_rate,
        dimensions: assembler.dimensions(),
        transport: config.transport,
        sound: config.sound.then_some(Sound::OtherClient),
    };
    let offered = offered(&tracks, index);
    link.begin((info, offered));
    let mut receiving = Receiving {
        config,
        link,
        assembler,
        clock_rate: track.clock_rate,
        report: None,
        carried: 0,
    };
    let end = loop {
        if link.stopped() {
            return;
        }
        match demuxer.read() {
            Ok(Some(fragment)) => receiving.fragment(&fragment),
            Ok(None) => {}
            Err(error) => break judge(&error),
        }
    };
    link.finish(end);
}

/// Ends waits that are over their stage's limit, or that nobody waits for any more.
fn watch(
    limits: Timeouts,
    grace: Duration,
    link: Arc<Link>,
    overdue: Arc<Mutex<Option<(Step, Duration)>>>,
) -> crate::media::Interrupt {
    let since = std::cell::Cell::new((Step::Connect, Instant::now()));
    let asked = std::cell::Cell::new(None);
    Box::new(move |step| {
        let now = Instant::now();
        let (before, began) = since.get();
        let began = if before == step { began } else { now };
        since.set((step, began));
        let limit = match step {
            Step::Connect => limits.connect,
            Step::Describe => limits.describe,
            Step::Setup => limits.setup,
            Step::Play => limits.play,
            Step::Teardown => return now.duration_since(began) > FAREWELL,
            // Silence is the session loop's to judge.
            Step::Stream => {
                if asked.get().is_none() && link.stopped() {
                    asked.set(Some(now));
                }
                return asked
                    .get()
                    .is_some_and(|at| now.duration_since(at) >= grace);
            }
        };
        if link.stopped() {
            return true;
        }
        let late = now.duration_since(began) > limit;
        if late {
            *overdue.lock().unwrap_or_else(PoisonError::into_inner) = Some((step, limit));
        }
        late
    })
}

fn video_codec(codec: Codec) -> Option<VideoCodec> {
    match codec {
        Codec::H264 => Some(VideoCodec::H264),
        Codec::H265 => Some(VideoCodec::H265),
        Codec::Mjpeg => Some(VideoCodec::Mjpeg),
        _ => None,
    }
}

/// The first track in a supported codec.
fn choose(config: &SourceConfig, tracks: &[Track]) -> Result<(usize, VideoCodec), SourceError> {
    for (index, track) in tracks.iter().enumerate() {
        let Some(codec) = track.codec.and_then(video_codec) else {
            continue;
        };
        let rate = track.clock_rate;
        if rate == 0 || (codec != VideoCodec::Mjpeg && rate != 90_000) {
            let what = format!("{codec} with a clock rate of {rate} Hz, must be 90000");
            return Err(config.error(Stage::Describe, SourceErrorKind::MalformedSdp(what)));
        }
        return Ok((index, codec));
    }
    let kind = if tracks.is_empty() {
        SourceErrorKind::NoVideo {
            offered: vec!["no media that libavformat takes for video".to_owned()],
        }
    } else {
        SourceErrorKind::UnsupportedCodec {
            codec: "that libavformat does not know".to_owned(),
            offered: vec![format!("{} video tracks", tracks.len())],
        }
    };
    Err(config.error(Stage::Describe, kind))
}

fn offered(tracks: &[Track], chosen: usize) -> Vec<OfferedTrack> {
    let each = tracks
        .iter()
        .enumerate()
        .map(|(index, track)| OfferedTrack {
            media: "video".to_owned(),
            encoding: track.codec.map_or("unknown", Codec::name).to_owned(),
            clock_rate: track.clock_rate,
            chosen: index == chosen,
        });
    each.collect()
}

/// The receiving half of a session.
struct Receiving<'a> {
    config: &'a SourceConfig,
    link: &'a Link,
    assembler: Assembler,
    clock_rate: u32,
    /// The camera's UTC minus its RTP time, ns, and when it was passed on.
    report: Option<(i64, u64)>,
    /// Losses noted with something that was not used.
    carried: u32,
}

impl Receiving<'_> {
    fn fragment(&mut self, fragment: &Fragment<'_>) {
        let read = Moment {
            monotonic_ns: monotonic_ns(),
            utc_ns: utc_ns(),
        };
        self.complain(&fragment.notes);
        self.report(fragment, read);
        let lost = std::mem::take(&mut self.carried).saturating_add(fragment.notes.missed);
        let event = self
            .assembler
            .piece(fragment.data, fragment.rtp_time, lost, read);
        if fragment.rtp_time.is_none() {
            self.carried = lost;
        }
        if let Some(event) = event {
            self.link.push(event);
        }
    }

    fn complain(&self, notes: &Notes) {
        if let Some(text) = classify::complaint(self.config, notes) {
            self.link.push(SourceEvent::Glitch(text));
        }
    }

    /// libavformat gives each packet the UTC that follows from the last sender report: a new report
    /// shows as another relation of the two.
    fn report(&mut self, fragment: &Fragment<'_>, read: Moment) {
        let (Some(rtp_time), Some(utc_us)) = (fragment.rtp_time, fragment.camera_utc_us) else {
            return;
        };
        let rate = i128::from(self.clock_rate.max(1));
        let ns = |ticks: i64| {
            i64::try_from(i128::from(ticks) * 1_000_000_000 / rate).unwrap_or(i64::MAX)
        };
        let mut utc_ns = utc_us.saturating_mul(1000);
        let mut offset = utc_ns.saturating_sub(ns(rtp_time));
        if let Some((before, at)) = self.report {
            // Between a wrap of the 32-bit RTP time and the next report it is off by one round.
            let round = ns(RTP_WRAP);
            let rounds = offset
                .saturating_sub(before)
                .saturating_add(round / 2)
                .div_euclid(round);
            let fold = rounds.saturating_mul(round);
            offset = offset.saturating_sub(fold);
            utc_ns = utc_ns.saturating_sub(fold);
            let again = u64::try_from(REPORT_AGAIN.as_nanos()).unwrap_or(u64::MAX);
            // Microseconds and ticks round.
            let same = offset.abs_diff(before) <= 30_000;
            if same && read.monotonic_ns.saturating_sub(at) < again {
                return;
            }
        }
        self.report = Some((offset, read.monotonic_ns));
        self.link.push(SourceEvent::SenderReport(SenderReport {
            ntp_utc_ns: utc_ns,
            rtp_time,
            arrival_ns: read.monotonic_ns,
            arrival_utc_ns: read.utc_ns,
        }));
    }
}
