//! The network thread of a reader: the RTSP session loop, the packet ring and the control channel,
//! as concurrent parts of one task.
//!
//! Promises: whatever arrives goes into the packet ring first, then to the decoder; the heartbeat
//! goes on while the camera is silent; the end of the control channel ends the process.
//! Must never: block; wait for the decode thread.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use camring_ring::{
    Appended, Codec, PacketWriter, RingError, SealedMemory, UnitDescriptor, UnitFlags,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Mutex, watch};

use crate::config::{Retry, Stream};
use crate::control::{AsyncControl, ControlSocket, Received, RingKind, ToReader, ToSupervisor};
use crate::health::{ClockSource, Health, Sound, State};
use crate::media::parameters;
use crate::reader::audio::AudioTrack;
use crate::reader::backoff::{BackoffPolicy, WaitRange};
use crate::reader::client::AnyConnector;
use crate::reader::demand::Gate;
use crate::reader::queue::{QueuedUnit, ToDecoder};
use crate::reader::session::{Counter, SessionReport, UnitSink, run_session_loop};
use crate::reader::source::{
    self, AccessUnit, AudioFrame, Resolve, SenderReport, SourceConfig, StreamInfo, Timeouts,
    VideoCodec,
};
use crate::reader::ticks::{TICK, ticks};
use crate::reader::timeline::{Arrival, LeftOff, PTS_RATE, Timeline};
use crate::reader::{ReaderError, ReportSender, memory, subscriber_pages};
use crate::sys::clock;

/// Everything the network thread owns.
pub struct Network {
    pub camera: Stream,
    pub health: Arc<Health>,
    pub packets: PacketWriter,
    pub audio: AudioTrack,
    /// Where this reader's predecessor left off.
    pub left_off: Option<LeftOff>,
    pub gate: Gate,
    pub report: ReportSender,
    pub reports: UnboundedReceiver<ToSupervisor>,
    pub decode: JoinHandle<()>,
}

impl Network {
    /// Runs until told to stop, or until the supervisor is gone.
    pub async fn run(self, control: ControlSocket) -> Result<(), ReaderError> {
        let Self {
            camera,
            health,
            packets,
            audio,
            left_off,
            gate,
            report,
            reports,
            decode,
        } = self;
        let control =
            AsyncControl::new(control).map_err(ReaderError::system("use the control socket"))?;
        let packets = Rc::new(RefCell::new(packets));
        let audio = Rc::new(RefCell::new(audio));
        let (stop, stopped) = watch::channel(false);
        let (resolved, answers) = mpsc::channel(1);
        let gate = Rc::new(RefCell::new(gate));
        let config = source_config(&camera);
        let resolver = AskSupervisor {
            report,
            answers: Mutex::new(answers),
        };
        let told = Arc::clone(&health);
        let connector = AnyConnector::new(camera.client, move |choice| {
            told.client.store(choice as u64, Relaxed);
        });
        let mut sink = Sink {
            timeline: left_off.map_or_else(
                || Timeline::new(PTS_RATE),
                |left_off| Timeline::resume(PTS_RATE, left_off),
            ),
            reorder: Some(0),
            clock_rate: PTS_RATE,
            packets: Rc::clone(&packets),
            audio: Rc::clone(&audio),
            gate: Rc::clone(&gate),
            health: Arc::clone(&health),
        };
        let listener = Listener {
            control: &control,
            packets,
            audio,
            gate: Rc::clone(&gate),
            resolved,
        };

        let progress = Report(&health);
        let session = run_session_loop(
            &config,
            backoff_policy(&camera.retry),
            &connector,
            &resolver,
            &progress,
            &mut sink,
            stopped,
        );
        let end = {
            let mut session = std::pin::pin!(session);
            let ended = tokio::select! {
                // Only when told to stop, which nobody has done yet.
                () = &mut session => None,
                ended = listener.listen() => Some(ended),
                ended = speak(&control, reports) => Some(ended),
                ended = look_after(&decode, &gate) => Some(ended),
            };
            if ended.is_some() {
                // TEARDOWN, within its own limit.
                let _ = stop.send(true);
                session.await;
            }
            ended.unwrap_or(Ok(()))
        };
        gate.borrow().tell(ToDecoder::Stop);
        if let Err(error) = &end {
            let last_words = ToSupervisor::Fault {
                text: error.to_string(),
            };
            let _ = tokio::time::timeout(TICK, control.send(&last_words, &[])).await;
        }
        end
    }
}

/// Ends with an error when the decode thread has ended by itself; lets it rest when it is time to.
async fn look_after(decode: &JoinHandle<()>, gate: &RefCell<Gate>) -> Result<(), ReaderError> {
    let mut ticks = ticks();
    while !decode.is_finished() {
        ticks.tick().await;
        gate.borrow_mut().tick(clock::monotonic_ns());
    }
    Err(ReaderError::DecodeThread)
}

/// Sends what the decode thread and the session loop have to say.
async fn speak(
    control: &AsyncControl,
    mut reports: UnboundedReceiver<ToSupervisor>,
) -> Result<(), ReaderError> {
    while let Some(message) = reports.recv().await {
        control.send(&message, &[]).await?;
    }
    // Every sender is gone, which the decode thread's end explains.
    std::future::pending().await
}

/// Obeys the supervisor.
struct Listener<'a> {
    control: &'a AsyncControl,
    packets: Rc<RefCell<PacketWriter>>,
    audio: Rc<RefCell<AudioTrack>>,
    gate: Rc<RefCell<Gate>>,
    resolved: mpsc::Sender<Result<Vec<IpAddr>, String>>,
}

impl Listener<'_> {
    /// Until `Stop`, or until the supervisor is gone.
    async fn listen(self) -> Result<(), ReaderError> {
        while let Some(Received { message, fds }) = self.control.recv::<ToReader>().await? {
            match message {
                ToReader::Stop => return Ok(()),
                ToReader::FrameRing { next_sequence, .. } => {
                    let memory: SealedMemory = memory(fds)?;
                    self.tell(ToDecoder::Ring {
                        memory,
                        present: Vec::new(),
                        next_sequence,
                    });
                }
                ToReader::ViewRing {
                    view,
                    next_sequence,
                    ..
                } => {
                    let memory: SealedMemory = memory(fds)?;
                    self.tell(ToDecoder::ViewRing {
                        view,
                        memory,
                        present: Vec::new(),
                        next_sequence,
                    });
                }
                ToReader::AudioRing { .. } => {
                    let memory: SealedMemory = memory(fds)?;
                    self.audio.borrow_mut().adopt(memory, Vec::new());
                }
                ToReader::FrameRingRefused {
                    needed,
                    available,
                    reason,
                } => {
                    self.tell(ToDecoder::RingRefused {
                        needed,
                        available,
                        reason,
                    });
                }
                ToReader::AddSubscriber {
                    id,
                    ring,
                    ring_id,
                    notify,
                    ..
                } => {
                    let pages = subscriber_pages(id, ring, notify, fds)?;
                    match ring {
                        RingKind::Frames | RingKind::View(_) => {
                            self.tell(ToDecoder::AddSubscriber { ring_id, pages });
                        }
                        RingKind::Packets => {
                            let added = self.packets.borrow_mut().add_subscriber(pages);
                            self.answer(id, added).await?;
                        }
                        RingKind::Audio => {
                            let added = self.audio.borrow_mut().add_subscriber(ring_id, pages);
                            self.answer(id, added).await?;
                        }
                    }
                }
                ToReader::RemoveSubscriber { id } => {
                    let gone = self.packets.borrow_mut().remove_subscriber(id)
                        || self.audio.borrow_mut().remove_subscriber(id);
                    if gone {
                        let message = ToSupervisor::SubscriberRemoved { id };
                        self.control.send(&message, &[]).await?;
                    } else {
                        self.tell(ToDecoder::RemoveSubscriber { id });
                    }
                }
                ToReader::Resolved { result } => {
                    // One question at a time; an answer nobody waits for any more is dropped.
                    let _ = self.resolved.try_send(result);
                }
                ToReader::Demand { frames } => {
                    let (next, incomplete) = {
                        let packets = self.packets.borrow();
                        (packets.next_sequence(), packets.gop_incomplete())
                    };
                    let now = clock::monotonic_ns();
                    self.gate.borrow_mut().demand(frames, next, incomplete, now);
                }
                ToReader::CatchUpGranted { request } => {
                    self.tell(ToDecoder::CatchUpGranted { request });
                }
                ToReader::Start(_) | ToReader::PacketRing { .. } | ToReader::Go => {}
            }
        }
        tracing::info!("the supervisor is gone");
        Ok(())
    }

    fn tell(&self, message: ToDecoder) {
        self.gate.borrow().tell(message);
    }

    /// Says what became of a subscriber.
    async fn answer(&self, id: u64, added: Result<(), RingError>) -> Result<(), ReaderError> {
        let answer = match added {
            Ok(()) => ToSupervisor::SubscriberAdded { id },
            Err(error) => {
                tracing::warn!(%error, "a subscriber's pages are unusable");
                ToSupervisor::SubscriberRefused { id }
            }
        };
        Ok(self.control.send(&answer, &[]).await?)
    }
}

/// Asks the supervisor to look a name up: readers need no resolver.
struct AskSupervisor {
    report: ReportSender,
    answers: Mutex<mpsc::Receiver<Result<Vec<IpAddr>, String>>>,
}

impl Resolve for AskSupervisor {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let mut answers = self.answers.lock().await;
        // An answer that came after its question timed out is not the answer to this one.
        while answers.try_recv().is_ok() {}
        self.report.send(ToSupervisor::Resolve {
            host: host.to_owned(),
        });
        let found = answers.recv().await;
        found
            .unwrap_or_else(|| Err("the supervisor is gone".to_owned()))
            .map_err(|error| format!("{host}: {error}"))
    }
}

/// Where the session loop puts what it receives.
struct Sink {
    timeline: Timeline,
    /// By how many pictures the stream reorders; `None`: it does not say, and has not shown it.
    reorder: Option<u32>,
    clock_rate: u32,
    packets: Rc<RefCell<PacketWriter>>,
    audio: Rc<RefCell<AudioTrack>>,
    gate: Rc<RefCell<Gate>>,
    health: Arc<Health>,
}

impl Sink {
    /// Into the packet ring; its number there, or what it would have been.
    fn append(&self, unit: &AccessUnit, descriptor: &UnitDescriptor) -> u64 {
        let mut packets = self.packets.borrow_mut();
        let next = packets.next_sequence();
        match packets.append(descriptor, &unit.data) {
            Ok(Appended::Stored { sequence }) => sequence,
            Ok(Appended::Skipped { len, limit }) => {
                tracing::debug!(len, limit, "access unit does not fit the packet ring");
                next
            }
            Err(error) => {
                tracing::debug!(%error, "access unit not kept");
                next
            }
        }
    }
}

impl Sink {
    /// Tells the timeline whether the stream has B pictures.
    fn watch_order(&mut self, unit: &AccessUnit) {
        if unit.parameters_changed {
            let info = parameters::scan(ring_codec(unit.codec), &unit.data);
            let Some(parameters) = info.parameters else {
                return;
            };
            if self.reorder != parameters.reorder {
                self.reorder = parameters.reorder;
                self.timeline.set_reorder(self.reorder.unwrap_or(0));
            }
        } else if self.reorder.is_none() && parameters::has_b_slice(&unit.data) {
            tracing::debug!("the stream has B pictures, and does not say how it orders them");
            self.reorder = Some(1);
            self.timeline.set_reorder(1);
        }
    }
}

impl UnitSink for Sink {
    fn session_started(&mut self, info: &StreamInfo) {
        self.clock_rate = info.clock_rate;
        self.timeline.restart(info.clock_rate);
        self.reorder = Some(0);
        self.health
            .codec
            .store(u64::from(ring_codec(info.codec) as u32), Relaxed);
        self.audio.borrow_mut().session_started(info.sound);
        let next = self.packets.borrow().next_sequence();
        self.gate.borrow_mut().session_started(next);
    }

    fn unit(&mut self, unit: AccessUnit) {
        self.watch_order(&unit);
        let health = &self.health;
        health.last_unit_ns.store(unit.arrival_ns, Relaxed);
        let arrival = Arrival {
            monotonic_ns: unit.arrival_ns,
            utc_ns: unit.arrival_utc_ns,
        };
        let stamp = self.timeline.stamp(unit.rtp_time, arrival, unit.key);
        let clock = if stamp.from_sender_report {
            ClockSource::SenderReport
        } else {
            ClockSource::Arrival
        };
        health.clock.store(clock as u64, Relaxed);
        let mut flags = UnitFlags::NONE;
        for (set, flag) in [
            (unit.key, UnitFlags::KEY),
            (stamp.discontinuity, UnitFlags::DISCONTINUITY),
            (unit.parameters_changed, UnitFlags::PARAMETERS_CHANGED),
            (unit.lost_before > 0, UnitFlags::LOSS_BEFORE),
            (
                stamp.from_sender_report,
                UnitFlags::CAPTURE_TIME_FROM_SENDER_REPORT,
            ),
        ] {
            if set {
                flags |= flag;
            }
        }
        let (width, height) = unit.dimensions.unwrap_or((0, 0));
        let codec = ring_codec(unit.codec);
        let descriptor = UnitDescriptor {
            sequence: 0,
            len: 0,
            codec,
            flags,
            pts: stamp.pts,
            dts: stamp.dts,
            time_base_den: PTS_RATE,
            capture_time_ns: stamp.capture_time_ns,
            arrival_ns: unit.arrival_ns,
            width,
            height,
            generation: 0,
        };
        let access_unit = self.append(&unit, &descriptor);
        self.gate.borrow_mut().unit(QueuedUnit {
            data: unit.data,
            codec,
            key: unit.key,
            access_unit,
            pts: stamp.pts,
            capture_time_ns: stamp.capture_time_ns,
            capture_time_from_sender_report: stamp.from_sender_report,
            arrival_ns: unit.arrival_ns,
            discontinuity: stamp.discontinuity,
            loss_before: unit.lost_before > 0,
            held: None,
        });
    }

    fn sender_report(&mut self, report: SenderReport) {
        let arrival = Arrival {
            monotonic_ns: report.arrival_ns,
            utc_ns: report.arrival_utc_ns,
        };
        self.timeline
            .sender_report(report.ntp_utc_ns, report.rtp_time, arrival);
        self.audio.borrow_mut().video_report(&report);
    }

    fn audio(&mut self, frame: &AudioFrame) {
        self.audio.borrow_mut().frame(frame, &self.timeline);
    }

    fn audio_report(&mut self, report: SenderReport) {
        self.audio.borrow_mut().report(&report, &self.timeline);
    }

    fn sound(&mut self, sound: Sound) {
        self.audio.borrow_mut().became(sound);
    }

    fn session_ended(&mut self) {
        self.gate.borrow_mut().session_ended();
    }

    fn last_decoded_frame_ns(&self) -> Option<u64> {
        let wanted = self.gate.borrow().is_open();
        wanted.then(|| self.health.last_decoded_ns.load(Relaxed))
    }
}

/// The session loop's view of the health page.
struct Report<'a>(&'a Health);

impl SessionReport for Report<'_> {
    fn state(&self, state: State, reason: &str) {
        self.0.set_state(state, reason);
    }

    fn add(&self, counter: Counter, n: u64) {
        let word = match counter {
            Counter::AccessUnits => &self.0.access_units,
            Counter::Bytes => &self.0.bytes_in,
            Counter::RtpLost => &self.0.rtp_lost,
            Counter::Reconnects => &self.0.reconnects,
            Counter::Glitches => &self.0.glitches,
            Counter::Oversize => &self.0.dropped_oversize,
        };
        word.fetch_add(n, Relaxed);
    }

    fn beat(&self) {
        self.0.beat();
    }
}

fn ring_codec(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Mjpeg => Codec::Mjpeg,
    }
}

fn source_config(camera: &Stream) -> SourceConfig {
    let retry = &camera.retry;
    let mut config = SourceConfig::new(&camera.id, camera.url.clone());
    config.username.clone_from(&camera.username);
    config.password.clone_from(&camera.password);
    config.transport = camera.transport.into();
    config.tls_verify = camera.tls_verify;
    config.network = camera.network;
    config.sound = camera.record.wants_audio();
    config.timeouts = Timeouts {
        connect: retry.connect_timeout,
        describe: retry.connect_timeout,
        setup: retry.connect_timeout,
        play: retry.connect_timeout,
        first_unit: retry.first_frame_timeout,
        stall: retry.stall_timeout,
        show_stalled: source::limits::SHOW_STALLED.min(retry.stall_timeout / 2),
        decode_stall: retry.decode_timeout,
        ..Timeouts::default()
    };
    config
}

fn backoff_policy(retry: &Retry) -> BackoffPolicy {
    let mut policy = BackoffPolicy::default();
    policy.soon = WaitRange {
        first: retry.initial,
        max: retry.max,
    };
    policy.credentials = WaitRange {
        first: policy.credentials.first.min(retry.unauthorized),
        max: retry.unauthorized,
    };
    // A site that wants quick retries wants them for these as well.
    policy.slow.first = policy.slow.first.min(retry.max);
    policy.stable_run = retry.stable_after;
    policy
}
