//! The process that decodes recordings for the server: pictures, sprites, clips, exports.
//!
//! `camring serve` executes it (`/proc/self/exe __worker PID`) with a socket as standard input, over
//! which jobs come one at a time, each with the descriptors it may use: it opens no file by itself. What
//! it makes goes into a pipe. It is kept for further jobs, since starting costs more than a thumbnail.
//!
//! Promises: recordings and requests are not trusted; whatever libavcodec does with them costs this
//! process and one answer. It can gain no privilege, cannot be looked into, has a limit on memory, lets
//! everything else have the cores first, and dies with the server.
#![deny(unsafe_code)]

mod clip;
mod export;
mod input;
mod output;
mod pictures;
mod preview;
pub mod protocol;
mod stills;

use std::os::fd::OwnedFd;

use crate::config::Sandbox;
use crate::control::{ControlSocket, Received};
use crate::media::MediaError;
use crate::sandbox::{self, Profile};
use crate::sys;

use input::Inputs;
use output::Output;
use protocol::{FromWorker, Job, Task, ToWorker, Trouble, TroubleKind};

/// The first argument that makes the binary a worker. The second is the server's pid.
pub const ARGUMENT: &str = "__worker";

/// Private memory: decoder and encoder of the largest camera, and a sheet of thumbnails.
const MEMORY: u64 = 1 << 30;

/// Readers, writers and the server come first. Not far behind: people wait for pictures.
const NICER_BY: i32 = 3;

/// The whole life of a worker. Returns the exit code.
pub fn main() -> i32 {
    match work() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("camring worker: {error:#}");
            1
        }
    }
}

fn work() -> anyhow::Result<()> {
    let server = std::env::args_os()
        .nth(2)
        .and_then(|pid| pid.to_str()?.parse().ok())
        .and_then(sys::process::pid)
        .ok_or_else(|| anyhow::anyhow!("this command is internal, camring serve starts it"))?;
    sys::process::die_with_parent(server)?;
    let control = ControlSocket::from_fd(sys::take_stdin()?)?;
    sys::one_malloc_arena();
    sys::process::Isolation::apply()?;
    // The server's word for it; of nothing else can it be.
    let sandbox: Sandbox = match std::env::args().nth(3) {
        Some(text) => serde_json::from_str(&text)?,
        None => Sandbox::default(),
    };
    sys::process::limit_private_memory(MEMORY)?;
    sys::process::name_thread("camring-worker");
    // Cosmetic where it fails.
    let _ = sys::cpu::be_nicer(NICER_BY);
    sandbox::enter(sandbox, &Profile::Worker)?;
    control.send(&FromWorker::Ready, &[])?;
    while let Some(Received { message, fds }) = control.recv::<ToWorker>()? {
        // What is left of an answer that came too late.
        let ToWorker::Job(job) = message else {
            continue;
        };
        let answer = match run(&control, &job, fds) {
            Ok(()) => FromWorker::Done,
            Err(trouble) => FromWorker::Failed(trouble),
        };
        control.send(&answer, &[])?;
    }
    Ok(())
}

fn run(control: &ControlSocket, job: &Job, fds: Vec<OwnedFd>) -> Result<(), Trouble> {
    let mut fds = fds.into_iter();
    let output = fds.next().ok_or_else(|| Trouble::internal("no output"))?;
    let mut output = Output::new(output);
    let mut inputs = Inputs::new(control, job.spans);
    match &job.task {
        Task::Image(image) => {
            let memory = fds.next().ok_or_else(|| Trouble::internal("no memory"))?;
            stills::image(image, memory, &mut output)
        }
        Task::Snapshot(snapshot) => stills::snapshot(snapshot, &mut inputs, &mut output),
        Task::Storyboard(board) => stills::storyboard(board, &mut inputs, &mut output),
        Task::Preview(preview) => preview::make(preview, &mut inputs, output),
        Task::Export(export) => export::make(export, &mut inputs, output),
    }
}

impl From<MediaError> for Trouble {
    fn from(error: MediaError) -> Self {
        let kind = match &error {
            MediaError::Container(code) if code.0 == -libc::EPIPE => TroubleKind::HungUp,
            MediaError::OutOfMemory => TroubleKind::TooLarge,
            MediaError::Encode(_) | MediaError::EncodeVideo(_) | MediaError::OpenEncoder { .. } => {
                TroubleKind::Internal
            }
            _ => TroubleKind::Damaged,
        };
        Trouble {
            kind,
            text: error.to_string(),
        }
    }
}
