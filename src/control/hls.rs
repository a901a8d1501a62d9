//! What the supervisor and a process that records one stream say to each other.
//!
//! Over the same kind of socket as with readers, without descriptors but the one of `Ready`. Such a
//! process gets no password: it is a subscriber like any other, and attaches by itself.
//!
//! ```text
//! supervisor                               hls
//! Start                              ───▶
//!                                    ◀───  Ready  + fd: its smaps_rollup
//!                                    ◀───  Report, once a second: also its heartbeat
//!                                    ◀───  NeedEncoder          ┐ "encode" only
//! EncoderGranted                     ───▶                       ┘
//! Stop, or end of file               ───▶  finishes the segment, exits with code 0
//! ```
//!
//! What it says is an allegation: it reads what a camera sent.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BeginError, ControlSocket, Received};
use crate::config::{Record, RecordMode, Sandbox};
use crate::sys;

/// To a process that records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHls {
    /// The first message.
    Start(Box<HlsStart>),
    /// It may encode, until it ends.
    EncoderGranted,
    /// Finish what is open and exit with code 0, within
    /// [`crate::supervisor::policy::STOP_GRACE`].
    Stop,
}

/// From a process that records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromHls {
    /// It has begun. Descriptor (where it could be opened): its own `smaps_rollup`.
    Ready,
    /// How it goes: once a second, whatever happens. One that says nothing for
    /// [`crate::supervisor::policy::RECORDER_HEARTBEAT_TIMEOUT`] is killed.
    Report(HlsReport),
    /// It would encode; how many may at a time is limited. Asked once, answered once.
    NeedEncoder,
    /// Last words before an exit that is not 0. No secrets.
    Fault {
        /// A sentence with the cause.
        text: String,
    },
}

/// What to record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HlsStart {
    /// The stream's id: `front-door`, or `front-door/sub`.
    pub stream: String,
    /// Recordings are below: see [`crate::recording::Tree`].
    pub data_dir: PathBuf,
    /// Where to attach.
    pub socket: PathBuf,
    /// How. Never [`RecordMode::Off`].
    pub record: Record,
    /// The cores to run on; empty: any.
    pub cpus: Vec<u32>,
    /// What to give up.
    pub sandbox: Sandbox,
}

/// What the recording of a stream is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HlsState {
    /// The camera sends nothing (yet).
    #[default]
    Waiting,
    /// It is written.
    Recording,
    /// Others encode, and no more may at a time.
    Queued,
    /// There is no room on the disk: what the camera sends is lost, and counted.
    DiskFull,
    /// It cannot be recorded as configured: the reason says why and what to do.
    Failed,
}

impl HlsState {
    /// As in `camring status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Recording => "recording",
            Self::Queued => "queued",
            Self::DiskFull => "disk-full",
            Self::Failed => "failed",
        }
    }
}

/// How it goes. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsReport {
    /// What it is doing.
    pub state: HlsState,
    /// Why, in words; may be empty.
    pub reason: String,
    /// Segments finished, all renditions together.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Access units (copy) or frames (encode) written.
    pub units: u64,
    /// Access units or frames that the ring no longer had when it came to them.
    pub units_missed: u64,
    /// Discontinuities written.
    pub gaps: u64,
    /// Writes that the disk refused.
    pub write_errors: u64,
    /// When the last segment was finished.
    pub last_segment_unix_ms: Option<u64>,
}

/// How much private memory a process that copies may use: a segment of a camera of 100 Mbit/s, twice,
/// and FFmpeg's tables.
const COPY_MEMORY: u64 = 512 << 20;
/// The same for one that encodes: an x264 with its look-ahead keeps some 60 pictures for each rendition.
const ENCODE_MEMORY: u64 = 4 << 30;

/// The process's side of the beginning, to be called before it starts its first thread: takes
/// [`ToHls::Start`], goes to its cores, limits its memory and answers [`FromHls::Ready`].
///
/// # Errors
/// The supervisor says something else, or the kernel refuses a limit.
pub fn begin(control: &ControlSocket) -> Result<HlsStart, BeginError> {
    let start = match control.recv::<ToHls>()? {
        None => return Err(BeginError::NoStart("end of file")),
        Some(Received {
            message: ToHls::Start(start),
            ..
        }) => *start,
        Some(_) => return Err(BeginError::NoStart("another one")),
    };
    sys::cpu::pin(&start.cpus).map_err(|source| BeginError::System {
        what: format!("run on the cores {:?}", start.cpus),
        source,
    })?;
    let most = match start.record.mode {
        RecordMode::Encode => ENCODE_MEMORY,
        RecordMode::Off | RecordMode::Copy => COPY_MEMORY,
    };
    sys::process::limit_private_memory(most).map_err(|source| BeginError::System {
        what: format!("limit its memory to {most} bytes"),
        source,
    })?;
    let rollup: Vec<OwnedFd> = sys::usage::open_own_rollup().into_iter().collect();
    let fds: Vec<_> = rollup.iter().map(OwnedFd::as_fd).collect();
    control.send(&FromHls::Ready, &fds)?;
    Ok(start)
}
