//! Children of the supervisor, watched by pidfd: it waits for them, never on them.
#![deny(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;
use crate::sys::process::{self, Exit};

/// All children that somebody watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Reaper {
    known: Rc<RefCell<BTreeSet<i32>>>,
}

impl Reaper {
    /// Watches a child from now on. It must not have been reaped.
    pub fn watch(&self, pid: Pid) -> io::Result<Watched> {
        let pidfd = sys::watch_fd(process::open_pidfd(pid)?, Interest::READABLE)?;
        self.known.borrow_mut().insert(pid.as_raw_pid());
        Ok(Watched {
            pid,
            pidfd,
            exit: Cell::new(None),
            known: self.known.clone(),
        })
    }

    /// Whether this is one of them.
    pub fn knows(&self, pid: i32) -> bool {
        self.known.borrow().contains(&pid)
    }

    /// Reaps adopted children that nobody watches. Not while a fork is under way: its child is not
    /// known yet.
    pub fn sweep(&self) -> usize {
        let known = self.known.borrow();
        process::reap_unknown(|pid| known.contains(&pid.as_raw_pid()))
    }
}

/// A child that is being watched. When dropped before it ended, it is killed, and
/// [`Reaper::sweep`] reaps it.
pub(super) struct Watched {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    exit: Cell<Option<Exit>>,
    known: Rc<RefCell<BTreeSet<i32>>>,
}

impl Watched {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the process has ended, all its threads included, and reaps it. From then on
    /// returns at once. Cancel-safe.
    pub async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.try_exited() {
                return exit;
            }
            if let Ok(mut ready) = self.pidfd.readable().await
                && self.try_exited().is_none()
            {
                // A readable pidfd of a child not yet to be reaped: its last thread is ending.
                ready.clear_ready();
            }
        }
    }

    /// Whether it has ended; reaps it then.
    pub fn has_exited(&self) -> bool {
        self.try_exited().is_some()
    }

    fn try_exited(&self) -> Option<Exit> {
        if self.exit.get().is_none() {
            let exit = match process::try_reap(self.pidfd.as_fd()) {
                Ok(exit) => exit?,
                // ECHILD: somebody else reaped it, so it has ended, and how is not known.
                Err(_) => Exit::Code(-1),
            };
            self.exit.set(Some(exit));
            self.known.borrow_mut().remove(&self.pid.as_raw_pid());
        }
        self.exit.get()
    }

    /// SIGKILL; nothing if it has ended.
    pub fn kill(&self) {
        process::kill(self.pidfd.as_fd());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.has_exited() {
            self.kill();
        }
        self.known.borrow_mut().remove(&self.pid.as_raw_pid());
    }
}
