//! A command of this program at work for a request: what comes from cameras is not parsed in the server.
//!
//! Promises: it ends with the request, and with the server; what is secret reaches it through a pipe: no
//! command line and no environment has it.
#![deny(unsafe_code)]

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;

use crate::sys::{self, process};

/// A command at work. Dropping it ends it.
pub(super) struct Running {
    report: pipe::Receiver,
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Running {
    /// Executes this binary again. On the runtime's own thread: when the thread that started it ends,
    /// the kernel kills it.
    ///
    /// `title`: what lists of processes show before `words`, the arguments, which must have no secret.
    /// `input`: the first line of its standard input, which fits into a pipe.
    pub fn start(
        title: &str,
        words: impl IntoIterator<Item = String>,
        input: &str,
    ) -> io::Result<Self> {
        let environment = ["LANG", "LD_LIBRARY_PATH", "PATH", "RUST_BACKTRACE"];
        let environment = environment
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new("/proc/self/exe")
            .arg0(title)
            .args(words)
            .env_clear()
            .envs(environment)
            .env(crate::cmd::PARENT, std::process::id().to_string())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pidfd = process::open_pidfd(Pid::from_child(&child))?;
        let pidfd = Some(sys::watch_fd(pidfd, Interest::READABLE)?);
        let report = child.stdout.take().map(OwnedFd::from);
        let report = report.ok_or_else(|| io::Error::other("no pipe"))?;
        let pipe = child.stdin.take();
        let running = Self {
            report: pipe::Receiver::from_owned_fd(report)?,
            pidfd,
        };
        // From here on it is ended with its handle. The pipe has room for all of it: this waits for nobody.
        let mut pipe = pipe.ok_or_else(|| io::Error::other("no pipe"))?;
        pipe.write_all(format!("{input}\n").as_bytes())?;
        Ok(running)
    }

    /// All that it prints, up to so many bytes.
    pub async fn report(&mut self, longest: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut report = (&mut self.report).take(longest);
        report.read_to_end(&mut text).await?;
        Ok(text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd.take() else {
            return;
        };
        process::kill(pidfd.as_fd());
        // Without a runtime the server ends, too, and its children with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = pidfd.readable().await;
                let _ = process::try_reap(pidfd.as_fd());
            });
        }
    }
}
