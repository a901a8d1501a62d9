//! The spawner, from the supervisor's side: started, asked to fork, replaced.
//!
//! One template at a time. It is replaced when it dies, and when one of its forks was killed by a
//! signal: forks share the template's address-space layout, and a hostile camera must not get many
//! tries at the same one.
#![deny(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;

use rustix::process::Pid;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::policy;
use super::reaper::{Reaper, Watched};
use super::spawner::{self, ForkRequest, Role, SpawnerReply};
use crate::control::{AsyncControl, ControlSocket, Received};
use crate::logging;
use crate::sys::process::{self, Exit};

/// What children get of the environment. Everything else stays out: `${ENV}` secrets of the
/// configuration, `NOTIFY_SOCKET` and `WATCHDOG_*`, `CREDENTIALS_DIRECTORY`.
const ENVIRONMENT: [&str; 10] = [
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "CAMRING_LOG",
    "CAMRING_LOG_FORMAT",
    "JOURNAL_STREAM",
    "TZ",
];

/// Why no process could be forked. Tried again with a new template.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForkError {
    #[error("the spawner cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("the spawner did not answer: {0}")]
    Lost(String),
    #[error("the spawner cannot fork: {0}")]
    Refused(String),
}

pub(super) struct Template {
    reaper: Reaper,
    /// `--log`, which readers get as `$CAMRING_LOG`.
    log: Option<String>,
    /// Locked for as long as a fork is under way.
    live: Mutex<Option<Live>>,
    /// For status and tests.
    pid: Cell<Option<i32>>,
    /// Templates that are to end, or to be seen dead.
    ending: RefCell<Vec<Rc<Watched>>>,
    closed: Cell<bool>,
}

struct Live {
    process: Rc<Watched>,
    control: AsyncControl,
}

impl Template {
    pub fn new(reaper: Reaper, log: Option<String>) -> Rc<Self> {
        Rc::new(Self {
            reaper,
            log,
            live: Mutex::new(None),
            pid: Cell::new(None),
            ending: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid.get()
    }

    /// Keeps a template warm, for ever: to be run as a task.
    pub async fn keep(self: Rc<Self>) {
        while !self.closed.get() {
            let process = {
                let mut live = self.live.lock().await;
                match self.ensure(&mut live).await {
                    Ok(live) => live.process.clone(),
                    Err(error) => {
                        drop(live);
                        tracing::error!("{error}; trying again");
                        sleep(policy::SPAWNER_RETRY).await;
                        continue;
                    }
                }
            };
            let exit = process.exited().await;
            let mut live = self.live.lock().await;
            if live
                .as_ref()
                .is_some_and(|l| l.process.pid() == process.pid())
            {
                *live = None;
                self.pid.set(None);
                drop(live);
                tracing::warn!("the spawner ended ({exit}); starting another, readers go on");
                if exit != Exit::Signal(rustix::process::Signal::KILL.as_raw()) {
                    // It may do so again at once.
                    sleep(policy::SPAWNER_RETRY).await;
                }
            }
        }
    }

    /// Forks a process with `control` as its socket and returns it, watched.
    ///
    /// After an error the socket must not be used for another try: a process that nobody knows may
    /// have the other end. Closing it ends that.
    pub async fn fork(
        &self,
        role: Role,
        title: &str,
        name: &str,
        control: ControlSocket,
    ) -> Result<Watched, ForkError> {
        let mut place = self.live.lock().await;
        self.ensure(&mut place).await?;
        // Out of its place until the answer is there: should this be cancelled half-way, nobody
        // else gets a template with a stale answer in its socket; dropping it ends it.
        let Some(live) = place.take() else {
            return Err(ForkError::Lost("it has ended".into()));
        };
        let forked = self.ask(&live, role, title, name, control).await;
        *place = Some(live);
        if let Err(ForkError::Lost(_) | ForkError::Refused(_)) = &forked {
            self.end(&mut place);
        }
        forked
    }

    async fn ask(
        &self,
        live: &Live,
        role: Role,
        title: &str,
        name: &str,
        control: ControlSocket,
    ) -> Result<Watched, ForkError> {
        let request = ForkRequest {
            role,
            title: title.to_owned(),
            name: name.to_owned(),
        };
        let exchange = async {
            live.control.send(&request, &[control.as_fd()]).await?;
            live.control.recv::<SpawnerReply>().await
        };
        let pid = match timeout(policy::SPAWNER_TIMEOUT, exchange).await {
            Err(_) => return Err(ForkError::Lost("no answer in time".into())),
            Ok(Err(error)) => return Err(ForkError::Lost(error.to_string())),
            Ok(Ok(None)) => return Err(ForkError::Lost("it has ended".into())),
            Ok(Ok(Some(Received { message, .. }))) => match message {
                SpawnerReply::Forked { pid } => pid,
                SpawnerReply::Failed { error } => return Err(ForkError::Refused(error)),
                SpawnerReply::Ready => return Err(ForkError::Lost("ready twice".into())),
            },
        };
        let pid = process::pid(pid);
        let pid = pid.ok_or_else(|| ForkError::Lost("a pid that is none".into()))?;
        // Still under the lock, so that `sweep` cannot have reaped it.
        let watched = self.reaper.watch(pid);
        watched
            .map_err(|error| ForkError::Lost(format!("pid {pid}: {error}", pid = pid.as_raw_pid())))
    }

    /// Takes a new template for the next fork.
    pub async fn replace(&self) {
        self.end(&mut *self.live.lock().await);
    }

    /// Runs `sweep` of the reaper unless a fork is under way.
    pub fn sweep(&self) {
        if let Ok(_idle) = self.live.try_lock() {
            self.reaper.sweep();
            self.ending
                .borrow_mut()
                .retain(|process| !process.has_exited());
        }
    }

    /// Ends the template, and waits for that, for `grace` at most before SIGKILL.
    pub async fn close(&self, grace: std::time::Duration) {
        self.closed.set(true);
        self.end(&mut *self.live.lock().await);
        let ending: Vec<_> = self.ending.borrow_mut().drain(..).collect();
        for process in ending {
            if timeout(grace, process.exited()).await.is_err() {
                process.kill();
                let _ = timeout(grace, process.exited()).await;
            }
        }
    }

    fn end(&self, live: &mut Option<Live>) {
        if let Some(live) = live.take() {
            self.pid.set(None);
            // Dropping the socket is the order to exit; SIGKILL, because one that hangs would
            // not hear it, and it has nothing to lose.
            live.process.kill();
            self.ending.borrow_mut().push(live.process);
        }
    }

    async fn ensure<'a>(&self, live: &'a mut Option<Live>) -> Result<&'a Live, ForkError> {
        if live.as_ref().is_some_and(|live| live.process.has_exited()) {
            *live = None;
        }
        if live.is_none() {
            let started = self.start().map_err(ForkError::Start)?;
            let ready = timeout(policy::SPAWNER_TIMEOUT, started.control.recv()).await;
            let started = live.insert(started);
            let trouble = match ready {
                Ok(Ok(Some(Received {
                    message: SpawnerReply::Ready,
                    ..
                }))) => None,
                Ok(Ok(Some(_))) => Some("not ready, but something else".to_owned()),
                Ok(Ok(None)) => Some("it ended while warming up; see its message".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("not warm in time".to_owned()),
            };
            if let Some(trouble) = trouble {
                self.end(live);
                return Err(ForkError::Lost(trouble));
            }
            self.pid.set(Some(started.process.pid().as_raw_pid()));
        }
        live.as_ref()
            .ok_or_else(|| ForkError::Lost("it has ended".into()))
    }

    fn start(&self) -> io::Result<Live> {
        let log = self.log.as_deref();
        let (process, control) = execute(&self.reaper, spawner::ARGUMENT, "camring: spawner", log)?;
        Ok(Live {
            process: Rc::new(process),
            control,
        })
    }
}

/// Executes this binary again, with `argument` and this process's pid, and a control socket as its
/// standard input. On the main thread: when the thread that forked it ends, the kernel kills it.
pub(super) fn execute(
    reaper: &Reaper,
    argument: &str,
    title: &str,
    log: Option<&str>,
) -> io::Result<(Watched, AsyncControl)> {
    let (ours, theirs) = ControlSocket::pair()?;
    let environment = ENVIRONMENT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let child = Command::new("/proc/self/exe")
        .arg0(format!("{title:0$}", spawner::TITLE_ROOM))
        .arg(argument)
        .arg(std::process::id().to_string())
        .env_clear()
        .envs(environment)
        .envs(log.map(|log| ("CAMRING_LOG", log)))
        .envs(logging::for_children())
        // Not in the terminal's foreground group: Ctrl-C is the supervisor's to hear.
        .process_group(0)
        .stdin(Stdio::from(theirs.into_fd()))
        .spawn()?;
    let process = reaper.watch(Pid::from_child(&child))?;
    Ok((process, AsyncControl::new(ours)?))
}
