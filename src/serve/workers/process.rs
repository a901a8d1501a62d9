//! One worker, from the server's side.
#![deny(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::{Problem, machine};
use crate::config::Sandbox;
use crate::control::{AsyncControl, ControlSocket, Received};
use crate::sys::{self, process};
use crate::worker::{self, protocol::FromWorker};

/// Linking a hundred libraries, on a machine that does other things.
const START: Duration = Duration::from_secs(20);

/// What a worker gets of the environment.
const ENVIRONMENT: [&str; 8] = [
    "LANG",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "CAMRING_LOG",
    "CAMRING_LOG_FORMAT",
    "JOURNAL_STREAM",
];

/// A worker that is ready. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    pub control: AsyncControl,
    /// How many it has done.
    pub jobs: u32,
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Executes this binary again. On the runtime's own thread: when the thread that started it ends,
    /// the kernel kills it.
    pub async fn start(sandbox: Sandbox) -> Result<Self, Problem> {
        let started = Self::spawn(sandbox).map_err(|error| machine("a worker", error))?;
        let ready = timeout(START, started.control.recv::<FromWorker>()).await;
        match ready {
            Ok(Ok(Some(Received {
                message: FromWorker::Ready,
                ..
            }))) => Ok(started),
            other => {
                let what = match other {
                    Err(_) => "it is not ready in time".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Ok(Ok(_)) => "it ended at once".to_owned(),
                };
                Err(machine("a worker", io::Error::other(what)))
            }
        }
    }

    fn spawn(sandbox: Sandbox) -> io::Result<Self> {
        let (ours, theirs) = ControlSocket::pair()?;
        let environment = ENVIRONMENT
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new("/proc/self/exe")
            .arg0("camring: worker")
            .arg(worker::ARGUMENT)
            .arg(std::process::id().to_string())
            .arg(serde_json::to_string(&sandbox)?)
            .env_clear()
            .envs(environment)
            // Not in the terminal's foreground group: Ctrl-C is the server's to hear.
            .process_group(0)
            .stdin(Stdio::from(theirs.into_fd()))
            .spawn()?;
        let pidfd = process::open_pidfd(Pid::from_child(&child))?;
        Ok(Self {
            control: AsyncControl::new(ours)?,
            jobs: 0,
            pidfd: Some(sys::watch_fd(pidfd, Interest::READABLE)?),
        })
    }

    /// Ends it, whatever it does.
    pub fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            process::kill(pidfd.as_fd());
        }
    }

    /// Ends it, and says how it ended.
    pub async fn ended(mut self) -> String {
        match self.pidfd.take() {
            Some(pidfd) => reap(pidfd).await,
            None => String::new(),
        }
    }
}

/// Waits for its end a moment, then makes it.
async fn reap(pidfd: AsyncFd<OwnedFd>) -> String {
    if timeout(Duration::from_secs(1), pidfd.readable())
        .await
        .is_err()
    {
        process::kill(pidfd.as_fd());
        let _ = pidfd.readable().await;
    }
    match process::try_reap(pidfd.as_fd()) {
        Ok(Some(exit)) => exit.to_string(),
        Ok(None) => "still running".to_owned(),
        Err(error) => error.to_string(),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd.take() else {
            return;
        };
        process::kill(pidfd.as_fd());
        // Without a runtime the server ends, too, and its children with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(reap(pidfd));
        }
    }
}
