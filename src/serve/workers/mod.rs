//! The processes that decode recordings for the server ([`crate::worker`]): a few at once, each kept for
//! the next job.
//!
//! Promises: a bounded number of processes and of requests that wait for one (further ones get 503 and
//! `Retry-After`); a job that takes too long, or whose client has hung up, is ended with its process; a
//! process that crashes costs its own answer, said as a problem, and is replaced.
#![deny(unsafe_code)]

mod process;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::Stream;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::process::Process;
use super::Problem;
use super::room::Room;
use crate::config::Sandbox;
use crate::control::Received;
use crate::worker::protocol::{FromWorker, Job, Span, Task, ToWorker, Trouble, TroubleKind};

/// How long a request waits for a worker.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a clip or an export may be silent while its client reads.
const SILENCE: Duration = Duration::from_secs(60);
/// What a worker may need to notice that nobody reads any more.
const GRACE: Duration = Duration::from_millis(500);
/// How long a worker that has closed its output may take to say how it ended.
const LAST_WORD: Duration = Duration::from_secs(10);
/// A worker without a job ends after this.
const IDLE: Duration = Duration::from_secs(60);
/// What libraries lose in a job, a new process gives back.
const MOST_JOBS: u32 = 200;
/// Read from a pipe at a time: what one holds.
const READ: usize = 64 << 10;

/// How soon an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Pictures: many, each a few ms of work.
    Still,
    /// Clips and exports: as long as they last, or as their clients are slow.
    Clip,
}

/// A piece of a recording, and the files that it is in.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What of it.
    pub span: Span,
    /// The init segment.
    pub init: PathBuf,
    /// The minute file.
    pub media: PathBuf,
}

/// What is to be done.
#[derive(Debug)]
pub struct Order {
    /// How soon.
    pub class: Class,
    /// What.
    pub task: Task,
    /// Of what.
    pub pieces: Vec<Piece>,
    /// For [`Task::Image`].
    pub memory: Option<OwnedFd>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sandbox: Sandbox,
    stills: Room,
    clips: Room,
    /// Warm, the last used at the end.
    idle: Mutex<Vec<(Process, Instant)>>,
}

fn busy(queue: usize) -> Problem {
    let detail = format!(
        "all media workers are busy, and as many as {queue} requests may wait for one: try again \
         in a few seconds, and ask for fewer at once"
    );
    Problem::unavailable("media-busy", "Too many media requests", detail)
}

/// A job under way.
struct Running {
    pipe: pipe::Receiver,
    /// How it ended.
    ended: oneshot::Receiver<Result<(), Problem>>,
    /// Dropped: nobody wants the result.
    _wanted: oneshot::Sender<()>,
}

impl Running {
    /// How it ended, of one whose output has. It has so long to say so; then it is ended with its process,
    /// as one that nobody waits for.
    async fn last_word(self, limit: Duration) -> Result<(), Problem> {
        match timeout(limit, self.ended).await {
            Ok(ended) => ended.unwrap_or_else(|_| Err(crashed())),
            Err(_) => Err(too_slow(limit)),
        }
    }
}

impl Workers {
    /// None is started yet. `cores`: how many there are for everything.
    pub fn new(cores: usize, sandbox: Sandbox) -> Self {
        Self(Arc::new(Inner {
            stills: Room::new(cores.div_ceil(2).clamp(1, 4), 64, PATIENCE, busy),
            clips: Room::new(cores.div_ceil(4).clamp(1, 4), 8, PATIENCE, busy),
            sandbox,
            idle: Mutex::default(),
        }))
    }

    /// Does it, and returns the whole result, which must not be longer than `most` bytes.
    ///
    /// # Errors
    /// No worker in time, or what the job failed of.
    pub async fn whole(
        &self,
        order: Order,
        most: usize,
        limit: Duration,
    ) -> Result<Bytes, Problem> {
        let running = self.begin(order).await?;
        let work = async move {
            let Running {
                mut pipe,
                ended,
                _wanted,
            } = running;
            let mut bytes = Vec::new();
            while bytes.len() <= most {
                // EOF: it has ended, or is no more.
                if pipe.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            if bytes.len() > most {
                return Err(too_large());
            }
            ended.await.unwrap_or_else(|_| Err(crashed()))?;
            Ok(Bytes::from(bytes))
        };
        timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(too_slow(limit)))
    }

    /// Does it, and returns the result while it is made, once it has begun.
    ///
    /// # Errors
    /// No worker in time, or what the job failed of before the first byte. Later, the body breaks off.
    pub async fn stream(&self, order: Order) -> Result<Body, Problem> {
        let mut running = self.begin(order).await?;
        let mut first = Vec::with_capacity(READ);
        match timeout(SILENCE, running.pipe.read_buf(&mut first)).await {
            Err(_) => return Err(too_slow(SILENCE)),
            Ok(Ok(0) | Err(_)) => {
                running.last_word(LAST_WORD).await?;
                return Ok(Body::empty());
            }
            Ok(Ok(_)) => {}
        }
        Ok(Body::from_stream(pieces(running, first, LAST_WORD)))
    }

    async fn begin(&self, order: Order) -> Result<Running, Problem> {
        let room = match order.class {
            Class::Still => &self.0.stills,
            Class::Clip => &self.0.clips,
        };
        let place = room.enter().await?;
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| machine("a pipe", error.into()))?;
        let pipe = rustix::io::ioctl_fionbio(&read, true)
            .map_err(io::Error::from)
            .and_then(|()| pipe::Receiver::from_owned_fd(read))
            .map_err(|error| machine("a pipe", error))?;
        let job = ToWorker::Job(Box::new(Job {
            task: order.task,
            spans: u32::try_from(order.pieces.len()).unwrap_or(u32::MAX),
        }));
        let mut fds = vec![write.as_fd()];
        fds.extend(order.memory.as_ref().map(|memory| memory.as_fd()));
        // A warm one may have ended meanwhile.
        let warm = self.take_idle();
        let process = match warm {
            Some(process) if process.control.send(&job, &fds).await.is_ok() => process,
            _ => {
                let process = Process::start(self.0.sandbox).await?;
                let sent = process.control.send(&job, &fds).await;
                sent.map_err(|error| machine("a worker", io::Error::other(error)))?;
                process
            }
        };
        let (end, ended) = oneshot::channel();
        let (wanted, unwanted) = oneshot::channel();
        let workers = self.clone();
        tokio::spawn(async move {
            let result = drive(process, &order.pieces, unwanted, &workers).await;
            drop(place);
            // Whoever asked may have gone.
            let _ = end.send(result);
        });
        Ok(Running {
            pipe,
            ended,
            _wanted: wanted,
        })
    }

    fn take_idle(&self) -> Option<Process> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().map(|(process, _)| process)
    }

    fn keep(&self, mut process: Process) {
        process.jobs += 1;
        if process.jobs >= MOST_JOBS {
            return;
        }
        {
            let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((process, Instant::now()));
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE + Duration::from_millis(100)).await;
            if let Some(inner) = inner.upgrade() {
                let mut idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(|(_, since)| since.elapsed() < IDLE);
            }
        });
    }
}

/// Gives a worker what it asks for, until it has ended its job.
async fn drive(
    process: Process,
    pieces: &[Piece],
    mut unwanted: oneshot::Receiver<()>,
    workers: &Workers,
) -> Result<(), Problem> {
    let mut until: Option<Instant> = None;
    loop {
        let received = tokio::select! {
            received = process.control.recv::<FromWorker>() => received,
            // Its next write fails; one that does not write is ended, also if it asks for more.
            _ = &mut unwanted, if until.is_none() => {
                until = Some(Instant::now() + GRACE);
                continue;
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                process.kill();
                return Err(crashed());
            }
        };
        let Ok(Some(Received { message, .. })) = received else {
            let exit = process.ended().await;
            tracing::warn!("a media worker ended while it worked ({exit})");
            return Err(crashed());
        };
        match message {
            FromWorker::Ready => {}
            FromWorker::Need { span } => {
                if give(&process, pieces, span).await.is_err() {
                    return Err(crashed());
                }
            }
            FromWorker::Done => {
                workers.keep(process);
                return Ok(());
            }
            FromWorker::Failed(trouble) => {
                workers.keep(process);
                return Err(problem(&trouble));
            }
        }
    }
}

async fn give(process: &Process, pieces: &[Piece], number: u32) -> io::Result<()> {
    let piece = usize::try_from(number)
        .ok()
        .and_then(|number| pieces.get(number))
        .cloned();
    let opened = tokio::task::spawn_blocking(move || {
        let piece = piece?;
        let files = (
            File::open(&piece.init).ok()?,
            File::open(&piece.media).ok()?,
        );
        Some((piece.span, files))
    });
    let sent = match opened.await {
        Ok(Some((span, (init, media)))) => {
            let fds = [init.as_fd(), media.as_fd()];
            process.control.send(&ToWorker::Span(span), &fds).await
        }
        _ => process.control.send(&ToWorker::Gone, &[]).await,
    };
    sent.map_err(io::Error::other)
}

/// The body of an answer: what came first, then the rest as it comes.
fn pieces(
    running: Running,
    first: Vec<u8>,
    last_word: Duration,
) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
    let state = Some((running, Some(first)));
    Box::pin(futures::stream::unfold(state, move |state| async move {
        let (mut running, first) = state?;
        if let Some(first) = first {
            return Some((Ok(Bytes::from(first)), Some((running, None))));
        }
        let mut bytes = Vec::with_capacity(READ);
        match timeout(SILENCE, running.pipe.read_buf(&mut bytes)).await {
            Ok(Ok(read)) if read > 0 => {
                return Some((Ok(Bytes::from(bytes)), Some((running, None))));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some((Err(error), None)),
            Err(_) => return Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
        // The client must see that something is missing: the connection is closed without an end.
        match running.last_word(last_word).await {
            Ok(()) => None,
            Err(problem) => {
                tracing::warn!("an answer is cut off: {problem}");
                Some((Err(io::Error::other(problem)), None))
            }
        }
    }))
}

fn crashed() -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let detail = "the process that decodes the recording ended while it worked on this: the \
                  recording may be damaged here; the log says more";
    Problem::new(status, "media-crashed", "Media worker ended", detail)
}

fn too_slow(limit: Duration) -> Problem {
    let detail =
        format!("nothing was made within {limit:?}: ask for less, or when less is going on");
    Problem::unavailable("media-slow", "Media worker too slow", detail)
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "media-too-large",
        "Too large",
        "the result is larger than this server hands out: ask for smaller or fewer pictures",
    )
}

fn machine(what: &str, error: io::Error) -> Problem {
    tracing::error!("{what} for media: {error}");
    Problem::unavailable(
        "media-unavailable",
        "No media worker",
        format!("{what} cannot be had ({error}): try again"),
    )
}

fn problem(trouble: &Trouble) -> Problem {
    let text = &trouble.text;
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    match trouble.kind {
        TroubleKind::Gone => Problem::not_found("not-recorded", "Not recorded", text.clone()),
        TroubleKind::Damaged => {
            let title = "The recording cannot be decoded";
            Problem::new(unprocessable, "recording-damaged", title, text.clone())
        }
        TroubleKind::ParametersChange => {
            let detail = format!("{text}: ask for cut=frame, or for the parts before and after");
            let title = "Parameters change inside the range";
            Problem::new(unprocessable, "parameters-change", title, detail)
        }
        TroubleKind::TooLarge => too_large(),
        TroubleKind::HungUp | TroubleKind::Internal => {
            tracing::warn!("a media job failed: {text}");
            Problem::internal(text.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_never_says_how_it_ended_is_not_waited_for() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        // Its output is at its end, and nothing more is heard of it.
        drop(write);
        let (_silent, ended) = oneshot::channel();
        let (wanted, unwanted) = oneshot::channel();
        let running = Running {
            pipe: pipe::Receiver::from_owned_fd(read).unwrap(),
            ended,
            _wanted: wanted,
        };
        let mut body = pieces(running, b"all of it".to_vec(), Duration::from_millis(50));
        assert_eq!(body.next().await.unwrap().unwrap(), "all of it");
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());
        // Whoever drives the process is told, and ends it.
        assert!(unwanted.await.is_err());
    }
}
