//! What records one stream, from the supervisor's side.
//!
//! Its figures are allegations; only the sums over its processes are made here.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Supervisor;
use super::policy;
use super::reaper::Watched;
use super::service::{Heard, Job, LaunchError, sockets};
use super::spawner::Role;
use super::template::ForkError;
use crate::config::{Cpu, Record, Retry, Stream};
use crate::control::AsyncControl;
use crate::control::hls::{FromHls, HlsReport, HlsStart, ToHls};

/// Forks tried in a row with new templates before it counts as a failure.
const FORK_TRIES: u32 = 3;

/// The job of recording a stream.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The camera's.
    index: u32,
    stream: String,
    how: RefCell<(Record, Vec<u32>, Retry)>,
    report: RefCell<HlsReport>,
    /// Sums of all earlier processes.
    before: RefCell<HlsReport>,
}

impl Recorder {
    pub fn new(index: u32, stream: &Stream) -> Self {
        Self {
            index,
            stream: stream.id.clone(),
            how: RefCell::new(how(stream)),
            report: RefCell::default(),
            before: RefCell::default(),
        }
    }

    /// The next process records in this way. Says whether that is another one.
    pub fn prepare(&self, stream: &Stream) -> bool {
        let new = how(stream);
        let changed = self.how.borrow().0 != new.0 || self.how.borrow().1 != new.1;
        *self.how.borrow_mut() = new;
        changed
    }

    /// The present process's state, with sums over all.
    pub fn report(&self) -> HlsReport {
        let now = self.report.borrow();
        let before = self.before.borrow();
        HlsReport {
            state: now.state,
            reason: now.reason.clone(),
            segments: before.segments.saturating_add(now.segments),
            bytes: before.bytes.saturating_add(now.bytes),
            units: before.units.saturating_add(now.units),
            units_missed: before.units_missed.saturating_add(now.units_missed),
            gaps: before.gaps.saturating_add(now.gaps),
            write_errors: before.write_errors.saturating_add(now.write_errors),
            last_segment_unix_ms: now.last_segment_unix_ms.or(before.last_segment_unix_ms),
        }
    }
}

/// Of a stream, what its recorder is told. The cores are those of the configuration only: a reader has
/// one to itself for its decoder, and recording would share it.
fn how(stream: &Stream) -> (Record, Vec<u32>, Retry) {
    let cpus = match &stream.cpu {
        Cpu::Cores(cores) => cores.clone(),
        Cpu::Auto | Cpu::Any => Vec::new(),
    };
    (stream.record.clone(), cpus, stream.retry)
}

impl Job for Recorder {
    type To = ToHls;
    type From = FromHls;
    const READY: Duration = policy::READY_TIMEOUT;
    const FORKED: bool = true;

    fn name(&self) -> String {
        format!("recorder of {}", self.stream)
    }

    fn retry(&self, _: &Supervisor) -> Retry {
        self.how.borrow().2
    }

    async fn launch(
        &self,
        supervisor: &Supervisor,
    ) -> Result<(Watched, AsyncControl), LaunchError> {
        let title = format!("camring: hls {}", self.stream);
        let name = format!("hls {}", self.stream);
        let mut tries = 0;
        loop {
            tries += 1;
            // Anew each time: a process that nobody knows may have the last try's.
            let (ours, theirs) = sockets()?;
            let forked = supervisor.template.fork(Role::Hls, &title, &name, theirs);
            match forked.await {
                Ok(process) => return Ok((process, ours)),
                Err(error) if tries == FORK_TRIES => return Err(error.into()),
                Err(error @ (ForkError::Start(_) | ForkError::Lost(_) | ForkError::Refused(_))) => {
                    tracing::info!("{}: {error}; trying a new one", self.name());
                }
            }
        }
    }

    fn first(&self, supervisor: &Supervisor) -> Vec<ToHls> {
        let site = supervisor.site();
        let (record, cpus, _) = self.how.borrow().clone();
        vec![ToHls::Start(Box::new(HlsStart {
            stream: self.stream.clone(),
            data_dir: site.data_dir.clone(),
            socket: site.attach_socket(),
            record,
            cpus,
            sandbox: site.sandbox,
        }))]
    }

    fn stop() -> ToHls {
        ToHls::Stop
    }

    fn hear(&self, supervisor: &Rc<Supervisor>, message: FromHls) -> Heard {
        match message {
            FromHls::Ready => Heard::Ready,
            FromHls::Report(mut report) => {
                report.reason = super::ends::printable(&report.reason);
                *self.report.borrow_mut() = report;
                Heard::Alive
            }
            FromHls::NeedEncoder => {
                supervisor.encoders.borrow_mut().ask(self.index);
                supervisor.grant_encoders();
                Heard::Other
            }
            FromHls::Fault { text } => Heard::Fault(text),
        }
    }

    fn ended(&self, supervisor: &Rc<Supervisor>) {
        let sums = self.report();
        *self.before.borrow_mut() = sums;
        *self.report.borrow_mut() = HlsReport::default();
        supervisor.encoders.borrow_mut().gone(self.index);
        supervisor.grant_encoders();
    }
}
