//! What the supervisor and its children say to each other, and the socket they say it over: here
//! readers, in [`hls`] what records, in [`serve`] HTTP.
//!
//! A Unix socket pair of kind `SOCK_SEQPACKET`, inherited by the reader: one JSON message per
//! packet, with descriptors where the message says so. The order at the start is fixed:
//!
//! ```text
//! supervisor                                reader
//! Start (camera, password included)   ───▶
//!                                     ◀───  Ready  + fd: its smaps_rollup
//! FrameRing + fd (if there is one)    ───▶
//! PacketRing + fd                     ───▶
//! AddSubscriber + fds (each present)  ───▶        ┐ answered after Go,
//! Go                                  ───▶        ┘ when the writers exist
//! ```
//!
//! From then on each side speaks when it has something to say. End of file means the other side is
//! gone; for a reader that is the same as [`ToReader::Stop`].
//!
//! Promises: a message is at most [`MAX_MESSAGE`] bytes and [`MAX_FDS`] descriptors, and a longer
//! one an error; whatever a (possibly hostile) reader sends, the supervisor neither blocks nor
//! panics nor keeps a descriptor it did not ask for. This module is the only place where a
//! camera's password is written down, and it goes into this socket only.
#![deny(unsafe_code)]

pub mod hls;
pub mod serve;
mod socket;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use socket::{AsyncControl, ControlError, ControlSocket, MAX_FDS, MAX_MESSAGE, Received};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use socket::{decode, encode};

use crate::config::{self, Sandbox, Stream};
use crate::health::{Health, HealthError};
use crate::sys;

/// Which of a stream's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingKind {
    /// Decoded pictures.
    Frames,
    /// Access units as the camera sent them.
    Packets,
    /// Decoded pictures in the shape of a view: its place in [`Stream::views`].
    View(u32),
    /// The camera's sound: AAC frames. Only of a stream that is recorded with it.
    Audio,
}

impl RingKind {
    /// Whether it holds pictures, which subscribers pin, and for which pictures are decoded.
    pub fn has_pictures(self) -> bool {
        matches!(self, Self::Frames | Self::View(_))
    }
}

/// From the supervisor to a reader.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToReader {
    /// The first message. No descriptors.
    Start(Box<ReaderStart>),
    /// Descriptor: the frame ring's memory. Before [`ToReader::Go`]: the ring to resume, whose
    /// former writer has exited. Later: the answer to [`ToSupervisor::NeedFrameRing`].
    FrameRing {
        /// Names the ring among all that the stream ever had.
        ring_id: u64,
        /// No frame before this number may be published in it: a former reader has used them in
        /// the ring that this one replaces.
        next_sequence: u64,
    },
    /// The other answer to [`ToSupervisor::NeedFrameRing`]. Asking again makes sense after a
    /// while: memory may have become free.
    FrameRingRefused {
        /// Bytes that the ring would take.
        needed: u64,
        /// Bytes that it may take.
        available: u64,
        /// A sentence with the limit that said no.
        reason: String,
    },
    /// Descriptor: the memory of a view's ring. Before [`ToReader::Go`]: one to resume, as with
    /// [`ToReader::FrameRing`]. Later: somebody is about to look at the view for the first time, or
    /// the answer to [`ToSupervisor::NeedViewRing`].
    ViewRing {
        /// Its place in [`Stream::views`].
        view: u32,
        /// Names the ring among all that the stream ever had.
        ring_id: u64,
        /// As in [`ToReader::FrameRing`].
        next_sequence: u64,
    },
    /// Descriptor: the packet ring's memory. Before [`ToReader::Go`]; one that comes later
    /// is the successor's.
    PacketRing {
        /// Names the ring among all that the stream ever had.
        ring_id: u64,
    },
    /// Descriptor: the memory of the ring of the camera's sound. Before [`ToReader::Go`]: one to resume.
    /// Later: the answer to [`ToSupervisor::NeedAudioRing`].
    AudioRing {
        /// Names the ring among all that the stream ever had.
        ring_id: u64,
    },
    /// A subscriber's pages. Descriptors: its pin page (not for packets), its client's bell page, and
    /// a socket to send a byte to at each frame (only with `notify`).
    AddSubscriber {
        /// The attachment; answered by [`ToSupervisor::SubscriberAdded`] or
        /// [`ToSupervisor::SubscriberRefused`].
        id: u64,
        /// Which ring.
        ring: RingKind,
        /// Which incarnation of that ring. Where it is not the reader's current one, the two
        /// messages crossed: the ring was just replaced. Refuse, and drop the pages.
        ring_id: u64,
        /// Words in the pin page: how many frames it may hold.
        pins: u32,
        /// Whether a socket is among the descriptors.
        notify: bool,
    },
    /// The subscriber is gone: drop its pages. Answered by [`ToSupervisor::SubscriberRemoved`].
    RemoveSubscriber {
        /// The attachment.
        id: u64,
    },
    /// Whether anybody wants frames; only to a stream with `mode = "on-demand"`, and only when it
    /// changes. A reader assumes that nobody does. Sent before the [`ToReader::AddSubscriber`] that
    /// brings it about: by the time that is answered, a first picture is in the ring.
    Demand {
        /// Decode.
        frames: bool,
    },
    /// The answer to [`ToSupervisor::CatchUp`], as soon as it is the reader's turn.
    CatchUpGranted {
        /// As in the question.
        request: u32,
    },
    /// Start, rings and present subscribers have been sent: begin.
    Go,
    /// The answer to [`ToSupervisor::Resolve`].
    Resolved {
        /// At least one address, or why there is none.
        result: Result<Vec<IpAddr>, String>,
    },
    /// Say goodbye to the camera (TEARDOWN) and exit with code 0, within
    /// [`crate::supervisor::policy::STOP_GRACE`].
    Stop,
}

/// From a reader to the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSupervisor {
    /// The health page is mapped. Descriptor (where it could be opened): the reader's own
    /// `smaps_rollup`.
    Ready,
    /// Pictures of this size do not fit the frame ring, or there is none yet.
    NeedFrameRing {
        /// Bytes of one picture, padding included.
        slot_bytes: u64,
        /// Pictures that the decoder keeps while it decodes the next.
        decoder_refs: u32,
        /// The sequence number of the first frame in it: after the last of the former ring.
        first_sequence: u64,
    },
    /// The packet ring cannot be resumed: it is in an impossible state. Answered by
    /// [`ToReader::PacketRing`] with a new one; a reader may as well exit, the next one gets it.
    /// (For a frame ring: [`ToSupervisor::NeedFrameRing`]; for a view's: [`ToSupervisor::NeedViewRing`].)
    NeedPacketRing,
    /// The camera sends sound that can be recorded, and there is no ring for it, or one that cannot be
    /// resumed. Answered by [`ToReader::AudioRing`] where the stream is recorded with sound and there is
    /// memory; else not at all.
    NeedAudioRing,
    /// The ring of a view cannot be resumed: it is in an impossible state. Answered by
    /// [`ToReader::ViewRing`] with a new one, where there is memory for it.
    NeedViewRing {
        /// Its place in [`Stream::views`].
        view: u32,
    },
    /// The pin scan and the bells of the writer include the subscriber from now on.
    SubscriberAdded {
        /// The attachment.
        id: u64,
    },
    /// The subscriber's pages are not used: its ring is not the reader's (any more), or the pages
    /// are no good. The client is told at once, and asks again.
    SubscriberRefused {
        /// The attachment.
        id: u64,
    },
    /// The subscriber's pages are no longer used.
    SubscriberRemoved {
        /// The attachment.
        id: u64,
    },
    /// A group of pictures is to be decoded from its key frame on, faster than the camera sends it.
    /// How many readers may do so at a time is limited. One question at a time: another one
    /// replaces it.
    CatchUp {
        /// Numbers the reader's questions.
        request: u32,
    },
    /// It has caught up, or wants to no longer.
    CaughtUp {
        /// As in the question.
        request: u32,
    },
    /// A camera's host name to look up. One at a time.
    Resolve {
        /// As in the URL.
        host: String,
    },
    /// Last words before an exit that is not 0, for status and log.
    Fault {
        /// A sentence with the cause. No secrets.
        text: String,
    },
}

/// What a reader needs to know to begin.
#[derive(Clone, Serialize, Deserialize)]
pub struct ReaderStart {
    /// The camera's stream, password included.
    #[serde(with = "config::with_secret")]
    pub camera: Stream,
    /// The name of the health page, valid until [`ToSupervisor::Ready`].
    pub health_name: String,
    /// The stream's place in the site, for spreading things evenly.
    pub index: u32,
    /// The cores to run on; empty: any.
    pub cpus: Vec<u32>,
    /// How often this stream's process was started before.
    pub restarts: u32,
    /// What to give up.
    pub sandbox: Sandbox,
}

impl fmt::Debug for ReaderStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderStart")
            .field("camera", &self.camera.id)
            .field("health_name", &self.health_name)
            .field("index", &self.index)
            .field("cpus", &self.cpus)
            .field("restarts", &self.restarts)
            .finish()
    }
}

/// A reader that knows its task: what [`begin`] returns.
#[derive(Debug)]
pub struct Begun {
    /// What to do.
    pub start: ReaderStart,
    /// The page to tell the supervisor how it goes.
    pub health: Arc<Health>,
}

/// Why a reader cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The socket failed, or the supervisor is gone.
    #[error("no start message from the supervisor: {0}")]
    Control(#[from] ControlError),
    /// The supervisor closed the socket, or began with another message.
    #[error("the supervisor's first message was {0}, not start")]
    NoStart(&'static str),
    /// The health page cannot be mapped.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// It was not started by the supervisor.
    #[error("this command is internal, camring run starts it")]
    Internal,
    /// The kernel refused a core or a limit.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// How much private memory (heap, stacks) a reader may use beyond `memory_per_camera`, before
/// allocations fail: FFmpeg's tables and contexts, two stacks, the RTSP session and the queue.
const PRIVATE_MEMORY_BASE: u64 = 256 << 20;

/// The reader's side of the beginning, to be called before it starts its first thread: takes
/// [`ToReader::Start`], goes to its cores, limits its memory, maps the health page and answers
/// [`ToSupervisor::Ready`]. The rings and [`ToReader::Go`] come next.
pub fn begin(control: &ControlSocket) -> Result<Begun, BeginError> {
    let start = match control.recv::<ToReader>()? {
        None => return Err(BeginError::NoStart("end of file")),
        Some(Received {
            message: ToReader::Start(start),
            ..
        }) => *start,
        Some(_) => return Err(BeginError::NoStart("another one")),
    };
    sys::cpu::pin(&start.cpus).map_err(|source| BeginError::System {
        what: format!("run on the cores {:?}", start.cpus),
        source,
    })?;
    let most = start
        .camera
        .memory_per_camera
        .saturating_add(PRIVATE_MEMORY_BASE);
    sys::process::limit_private_memory(most).map_err(|source| BeginError::System {
        what: format!("limit its memory to {most} bytes"),
        source,
    })?;
    let health = Arc::new(Health::open(&start.health_name)?);
    // Without it, status shows resident memory instead: no reason to fail.
    let rollup: Vec<OwnedFd> = sys::usage::open_own_rollup().into_iter().collect();
    let fds: Vec<_> = rollup.iter().map(std::os::fd::AsFd::as_fd).collect();
    control.send(&ToSupervisor::Ready, &fds)?;
    Ok(Begun { start, health })
}

#[cfg(test)]
mod tests;
