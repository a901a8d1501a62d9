//! The reader process: one camera stream, from its RTSP session to frames in shared memory.
//!
//! Two threads. The network thread (the process's first one, tokio) holds the RTSP session, the
//! packet ring and the control channel to the supervisor; the decode thread holds the decoder and
//! the frame ring. Between them: a queue bounded by bytes.
//!
//! Promises: a slow decode never delays keepalives, RTCP or stall detection; the process ends with
//! its supervisor; `Stop` says TEARDOWN to the camera before it ends.
//! Must never: read configuration files, resolve names, or know another camera.

pub mod activity;
pub mod audio;
pub mod backoff;
mod catch_up;
pub mod client;
pub mod damage;
mod demand;
pub mod ffmpeg_source;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod hardware;
mod network;
mod pipeline;
mod publish;
mod queue;
mod rate;
pub mod retina_source;
pub mod session;
pub mod source;
mod ticks;
pub mod timeline;
mod views;

use std::fmt;
use std::os::fd::OwnedFd;

use camring_ring::{PacketReader, PacketWriter, RingError, SealedMemory, SubscriberPages};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::DecodeMode;
use crate::control::{
    self, Begun, ControlError, ControlSocket, Received, RingKind, ToReader, ToSupervisor,
};
use crate::sandbox::{self, Profile, SandboxError};
use crate::sys;
use activity::Detector;
use audio::AudioTrack;
use demand::Gate;
use network::Network;
use pipeline::Pipeline;
use publish::Publisher;
use queue::{ToDecoder, unit_queue};

/// How much nicer the decode thread is than the network thread: under overload the stream keeps
/// being received (and recorded), and pictures are what is skipped.
const DECODE_NICER_BY: i32 = 5;

/// Compressed bytes that may wait for the decoder: more than the newest group of pictures of a 4K
/// camera, and small beside its frame ring.
const QUEUE_BYTES: u64 = 16 << 20;

/// Where the decode thread and the session loop put messages for the supervisor; the control task
/// sends them. Few and small: one at each attach, detach, new picture size and name look-up.
#[derive(Clone)]
pub struct ReportSender(UnboundedSender<ToSupervisor>);

impl ReportSender {
    /// Never waits. When the control task is gone, so is the process in a moment.
    pub fn send(&self, message: ToSupervisor) {
        let _ = self.0.send(message);
    }
}

impl fmt::Debug for ReportSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportSender")
    }
}

/// Why a reader ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error(transparent)]
    Begin(#[from] control::BeginError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the supervisor ended before the start was complete")]
    Orphaned,
    #[error("the supervisor's message lacks a descriptor: {0}")]
    NoDescriptor(&'static str),
    #[error("the memory handed over by the supervisor is unusable: {0}")]
    Memory(#[from] camring_ring::MemoryError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("cannot {what}: {source}")]
    System {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("the decode thread ended: a fault of this program")]
    DecodeThread,
}

impl ReaderError {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The body of a reader process, called by the spawner's child. Returns its exit code.
#[must_use]
pub fn main(control: ControlSocket) -> i32 {
    match run(control) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "reader ends");
            1
        }
    }
}

/// What the supervisor hands over before `Go`.
#[derive(Debug, Default)]
struct Inheritance {
    frames: Option<SealedMemory>,
    /// Of the frame ring.
    next_sequence: u64,
    packets: Option<SealedMemory>,
    views: Vec<InheritedView>,
    frame_subscribers: Vec<SubscriberPages>,
    packet_subscribers: Vec<SubscriberPages>,
    audio: Option<SealedMemory>,
    audio_subscribers: Vec<SubscriberPages>,
    frames_wanted: bool,
}

/// The ring of a view, and who looks at it.
#[derive(Debug)]
struct InheritedView {
    view: u32,
    ring_id: u64,
    memory: SealedMemory,
    next_sequence: u64,
    subscribers: Vec<SubscriberPages>,
}

impl Inheritance {
    /// Receives until `Go`. `None`: told to stop already.
    fn receive(control: &ControlSocket) -> Result<Option<Self>, ReaderError> {
        let mut all = Self::default();
        let mut frame_ring = None;
        loop {
            let Some(Received { message, fds }) = control.recv::<ToReader>()? else {
                return Err(ReaderError::Orphaned);
            };
            match message {
                ToReader::FrameRing {
                    ring_id,
                    next_sequence,
                } => {
                    frame_ring = Some(ring_id);
                    all.next_sequence = next_sequence;
                    all.frames = Some(memory(fds)?);
                }
                ToReader::PacketRing { .. } => all.packets = Some(memory(fds)?),
                ToReader::AudioRing { .. } => all.audio = Some(memory(fds)?),
                ToReader::ViewRing {
                    view,
                    ring_id,
                    next_sequence,
                } => all.views.push(InheritedView {
                    view,
                    ring_id,
                    memory: memory(fds)?,
                    next_sequence,
                    subscribers: Vec::new(),
                }),
                ToReader::AddSubscriber {
                    id,
                    ring,
                    ring_id,
                    notify,
                    ..
                } => {
                    let pages = subscriber_pages(id, ring, notify, fds)?;
                    match ring {
                        RingKind::Frames if frame_ring == Some(ring_id) => {
                            all.frame_subscribers.push(pages);
                        }
                        // Looks at a ring that was replaced; it will attach to the new one.
                        RingKind::Frames => {}
                        RingKind::Packets => all.packet_subscribers.push(pages),
                        RingKind::Audio => all.audio_subscribers.push(pages),
                        RingKind::View(_) => {
                            let mut views = all.views.iter_mut();
                            if let Some(view) = views.find(|view| view.ring_id == ring_id) {
                                view.subscribers.push(pages);
                            }
                        }
                    }
                }
                ToReader::Demand { frames } => all.frames_wanted = frames,
                ToReader::Go => return Ok(Some(all)),
                ToReader::Stop => return Ok(None),
                ToReader::Start(_)
                | ToReader::FrameRingRefused { .. }
                | ToReader::RemoveSubscriber { .. }
                | ToReader::CatchUpGranted { .. }
                | ToReader::Resolved { .. } => {}
            }
        }
    }
}

fn memory(fds: Vec<OwnedFd>) -> Result<SealedMemory, ReaderError> {
    let fd = fds
        .into_iter()
        .next()
        .ok_or(ReaderError::NoDescriptor("ring memory"))?;
    Ok(SealedMemory::from_fd(fd)?)
}

/// Takes the descriptors of [`ToReader::AddSubscriber`] apart.
fn subscriber_pages(
    id: u64,
    ring: RingKind,
    notify: bool,
    fds: Vec<OwnedFd>,
) -> Result<SubscriberPages, ReaderError> {
    let mut fds = fds.into_iter();
    let pins = if ring.has_pictures() {
        let fd = fds.next().ok_or(ReaderError::NoDescriptor("pin page"))?;
        Some(SealedMemory::from_fd(fd)?)
    } else {
        None
    };
    let bell = fds.next().ok_or(ReaderError::NoDescriptor("bell page"))?;
    let notify = if notify {
        Some(
            fds.next()
                .ok_or(ReaderError::NoDescriptor("notify socket"))?,
        )
    } else {
        None
    };
    Ok(SubscriberPages {
        id,
        pins,
        bell: SealedMemory::from_fd(bell)?,
        notify,
    })
}

fn run(control: ControlSocket) -> Result<(), ReaderError> {
    match prepare(&control) {
        Ok(Some((network, runtime, span))) => {
            let _entered = span.enter();
            runtime.block_on(network.run(control))
        }
        Ok(None) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            // If the supervisor is gone, nobody is left to be told.
            let _ = control.send(&ToSupervisor::Fault { text }, &[]);
            Err(error)
        }
    }
}

/// Everything up to the first look at the camera. `None`: told to stop already.
fn prepare(
    control: &ControlSocket,
) -> Result<Option<(Network, tokio::runtime::Runtime, tracing::Span)>, ReaderError> {
    let Begun { start, health } = control::begin(control)?;
    let camera = start.camera;
    let profile = Profile::Reader {
        port: network::source_config(&camera).port(),
        devices: hardware::is_wanted(camera.decode.backend),
    };
    ticks::start();
    // Before the sandbox: it makes a pair of sockets.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ReaderError::system("start the network runtime"))?;
    sandbox::enter(start.sandbox, &profile)?;
    let span = tracing::info_span!("reader", camera = camera.id);
    let entered = span.clone().entered();
    let Some(inheritance) = Inheritance::receive(control)? else {
        return Ok(None);
    };
    let packets = inheritance
        .packets
        .ok_or(ReaderError::NoDescriptor("packet ring"))?;
    let attached: Vec<u64> = inheritance
        .packet_subscribers
        .iter()
        .chain(&inheritance.audio_subscribers)
        .map(|s| s.id)
        .collect();
    // The decode thread reads what the network thread writes.
    let opened = PacketReader::new(&packets).and_then(|history| {
        let writer = PacketWriter::resume(packets, inheritance.packet_subscribers)?;
        Ok((history, writer))
    });
    let (history, packets) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            if matches!(error, RingError::Format(_)) {
                control.send(&ToSupervisor::NeedPacketRing, &[])?;
            }
            return Err(error.into());
        }
    };

    let left_off = timeline::left_off(&history);
    let (report, reports) = tokio::sync::mpsc::unbounded_channel();
    let report = ReportSender(report);
    for id in attached {
        report.send(ToSupervisor::SubscriberAdded { id });
    }
    let mut audio = AudioTrack::new(camera.record.wants_audio(), health.clone(), report.clone());
    if let Some(memory) = inheritance.audio {
        audio.adopt(memory, inheritance.audio_subscribers);
    }
    let (units, backlog) = unit_queue(QUEUE_BYTES.min(camera.memory_per_camera / 4));
    if let Some(memory) = inheritance.frames {
        units.tell(ToDecoder::Ring {
            memory,
            present: inheritance.frame_subscribers,
            next_sequence: inheritance.next_sequence,
        });
    }
    for view in inheritance.views {
        units.tell(ToDecoder::ViewRing {
            view: view.view,
            memory: view.memory,
            present: view.subscribers,
            next_sequence: view.next_sequence,
        });
    }
    let wanted = camera.decode.mode != DecodeMode::OnDemand || inheritance.frames_wanted;
    let publisher = Publisher::new(
        camera.decode.max_fps,
        camera.ring.pins,
        camera.views.clone(),
        health.clone(),
        report.clone(),
    );
    let pipeline = Pipeline::new(
        backlog,
        history,
        publisher,
        health.clone(),
        camera.decode,
        wanted,
        report.clone(),
    )
    .on(hardware::open(camera.decode.backend, &health));
    let in_thread = span.clone();
    let decode = std::thread::Builder::new()
        .name("decode".into())
        .spawn(move || {
            let _entered = in_thread.enter();
            if let Err(error) = sys::cpu::be_nicer(DECODE_NICER_BY) {
                tracing::debug!(%error, "the decode thread stays as nice as the network thread");
            }
            pipeline.run();
        })
        .map_err(ReaderError::system("start the decode thread"))?;

    let mut gate = Gate::new(units, health.clone(), wanted);
    if camera.decode.mode == DecodeMode::Activity {
        gate = gate.watching(Detector::new(camera.decode.smallest_motion));
    }
    let network = Network {
        camera,
        packets,
        audio,
        left_off,
        gate,
        health,
        report,
        reports,
        decode,
    };
    drop(entered);
    Ok(Some((network, runtime, span)))
}
