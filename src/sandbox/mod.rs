//! What a process gives up once it has what it needs: for the rest of its life it can do what its kind
//! does, and little else.
//!
//! ```text
//! limits → capabilities → Landlock (which files, TCP ports, processes) → seccomp (which system calls)
//! ```
//!
//! Promises: a process that [`enter`] returned to in mode `require` has all of it; in mode `auto` it has
//! what the kernel has, and the log says what is missing. What is given up does not come back, for threads
//! and programs started later neither. Must be entered with one thread: Landlock binds the calling
//! thread and those that it starts.
#![deny(unsafe_code)]

mod files;
mod kernel;
mod limits;
mod rules;
mod seccomp;
mod stack;
mod syscalls;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Sandbox, SandboxMode};

pub use files::devices;
pub use kernel::{Kernel, SandboxStatus};

/// What a process is for, and so what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Receives and decodes a camera. Opens no file (but with `devices`); TCP to one port, UDP.
    Reader {
        /// The port in the camera's URL.
        port: u16,
        /// It may decode on a device, which it opens itself: any `ioctl` is allowed, code that its driver
        /// makes, and to read what drivers are made of.
        devices: bool,
    },
    /// Records a stream: writes below a folder, and attaches to the daemon.
    Recorder {
        /// The folder, which must be there.
        folder: PathBuf,
        /// It may encode on a device, which it opens itself.
        devices: bool,
    },
    /// Serves HTTP, and starts workers.
    Server {
        /// Recordings and databases.
        data_dir: PathBuf,
        /// Further files and folders to read: certificates.
        read: Vec<PathBuf>,
        /// Files and folders that it must not see though they lie where it reads: the configuration.
        hidden: Vec<PathBuf>,
        /// Where it listens; `None`: it binds no TCP port.
        port: Option<u16>,
    },
    /// Decodes and encodes what it is handed.
    Worker,
}

impl Profile {
    /// Whether it runs a device's driver, which makes code.
    fn drives(&self) -> bool {
        match self {
            Self::Reader { devices, .. } | Self::Recorder { devices, .. } => *devices,
            Self::Server { .. } | Self::Worker => false,
        }
    }

    /// Whether memory that can be executed is refused.
    fn makes_no_code(&self) -> bool {
        !self.drives() && !matches!(self, Self::Server { .. })
    }

    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reader { .. } => "reader",
            Self::Recorder { .. } => "recorder",
            Self::Server { .. } => "server",
            Self::Worker => "worker",
        }
    }
}

/// Why a process is not confined as it should be.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox: cannot {what}: {source}")]
pub struct SandboxError {
    what: &'static str,
    source: io::Error,
}

impl SandboxError {
    fn new(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// What a process has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// System calls are filtered.
    pub seccomp: bool,
    /// Files and more are closed off by this version of Landlock; 0: they are not.
    pub landlock_abi: u32,
    /// What could not be done, in words.
    pub missing: Vec<String>,
}

impl fmt::Display for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seccomp = match self.seccomp {
            true => "system calls filtered",
            false => "system calls not filtered",
        };
        match self.landlock_abi {
            0 => write!(f, "{seccomp}, files not closed off"),
            abi => write!(f, "{seccomp}, files closed off by Landlock {abi}"),
        }?;
        for missing in &self.missing {
            write!(f, "; {missing}")?;
        }
        Ok(())
    }
}

/// Gives up what `profile` does not need. To be called with one thread, after what the profile closes
/// off has been opened.
///
/// # Errors
/// With [`SandboxMode::Require`]: something could not be given up; the process should end. Never
/// otherwise: it has been logged.
pub fn enter(settings: Sandbox, profile: &Profile) -> Result<Entered, SandboxError> {
    let required = settings.enabled == SandboxMode::Require;
    let mut entered = Entered::default();
    if settings.enabled == SandboxMode::Off {
        return Ok(entered);
    }
    let mut done = |result: Result<(), SandboxError>| match result {
        Err(error) if required => Err(error),
        Err(error) => {
            entered.missing.push(error.to_string());
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    done(one_thread().map_err(SandboxError::new("confine all threads")))?;
    // Refused, it would keep threads from starting, each with "Permission denied".
    let executable = profile.makes_no_code().then(stack::executable).flatten();
    if let Some(why) = &executable {
        let error = io::Error::other(why.clone());
        done(Err(SandboxError::new("refuse executable memory")(error)))?;
    }
    done(limits::apply(profile).map_err(SandboxError::new("lower its limits")))?;
    done(limits::drop_capabilities(profile).map_err(SandboxError::new("give up capabilities")))?;
    let mut abi = 0;
    let landlock = files::close_off(profile).map(|got| abi = got);
    done(landlock.map_err(SandboxError::new("close off files (Landlock)")))?;
    let filtered = seccomp::install(settings.on_violation, profile, executable.is_some());
    let seccomp = filtered.is_ok();
    done(filtered.map_err(SandboxError::new("filter system calls (seccomp)")))?;
    entered.seccomp = seccomp;
    entered.landlock_abi = abi;
    if entered.missing.is_empty() {
        tracing::debug!("{} sandboxed: {entered}", profile.name());
    } else {
        tracing::warn!("{} sandboxed in part: {entered}", profile.name());
    }
    Ok(entered)
}

fn one_thread() -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => Err(io::Error::other(format!(
            "it has {threads} threads already"
        ))),
    }
}

/// Whether a folder that a profile names has been replaced or taken away since: what was allowed was the old
/// one, another may not even be made, and the process must begin anew. Reads the folder.
pub fn is_shut_out(folder: &Path) -> bool {
    fs::read_dir(folder).is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
        )
    })
}
