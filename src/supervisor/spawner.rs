//! The template process, from its own side: loaded and warmed once, it forks the readers and what records.
//!
//! Forked rather than executed, because FFmpeg's 98 shared libraries cost 4 to 6 MB of private
//! memory and the linking time in each executed process, and next to nothing in a fork.
//!
//! Promises: one thread (checked at each fork), no random number drawn (a fork would repeat it: no
//! `HashMap` either), no configuration read and no password seen: it passes a descriptor on, in
//! which those travel. Forks are the *supervisor's* children ([`crate::sys::fork_detached`]), so
//! that this process can die at any moment and harm nobody. It ends when the supervisor does, or
//! closes its socket.
#![deny(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::control::{ControlSocket, Received};
use crate::sys::{self, ForkedChild, TitleArea};

/// The first argument that makes the binary a spawner. The second is the supervisor's pid.
pub const ARGUMENT: &str = "__spawner";

/// `argv[0]` of the spawner is padded to this length: room for the titles of its forks.
pub(super) const TITLE_ROOM: usize = 160;

/// What the processes do, put in from outside: tests have other readers.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Loads and initialises what all forks share. Must leave no second thread, draw no random
    /// number and keep no descriptor that a fork would need.
    pub warm_up: fn(),
    /// A reader, from its control socket to its exit code.
    pub reader: fn(ControlSocket) -> i32,
    /// A process that records a stream, the same.
    pub hls: fn(ControlSocket) -> i32,
}

/// Which of the [`Roles`] a fork takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Reader,
    Hls,
}

/// To the spawner; with the child's end of its control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ForkRequest {
    pub role: Role,
    pub title: String,
    pub name: String,
}

/// From the spawner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SpawnerReply {
    /// Warmed up; sent once.
    Ready,
    Forked {
        pid: i32,
    },
    Failed {
        error: String,
    },
}

/// The whole life of the spawner. Call it first thing in `main`, when the first argument is
/// [`ARGUMENT`]: before any argument parser, logger or runtime. Returns the exit code.
pub fn main(roles: Roles) -> i32 {
    match serve(roles) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("camring spawner: {error}");
            1
        }
    }
}

fn serve(roles: Roles) -> io::Result<()> {
    let supervisor = std::env::args_os()
        .nth(2)
        .and_then(|pid| pid.to_str()?.parse().ok())
        .and_then(sys::process::pid)
        .ok_or_else(|| internal("no supervisor's pid in the second argument"))?;
    sys::process::die_with_parent(supervisor)?;
    let control = ControlSocket::from_fd(sys::take_stdin()?)
        .map_err(|_| internal("no control socket as standard input"))?;
    sys::one_malloc_arena();
    sys::process::not_dumpable()?;
    let title = TitleArea::find()?;
    title.set("camring: spawner");
    sys::process::name_thread("camring-spawner");

    (roles.warm_up)();
    control.send(&SpawnerReply::Ready, &[]).map_err(other)?;
    loop {
        let Some(Received { message, fds }) = control.recv::<ForkRequest>().map_err(other)? else {
            return Ok(());
        };
        let reply = match fork(supervisor, &title, &message, fds, roles) {
            Ok(pid) => SpawnerReply::Forked {
                pid: pid.as_raw_pid(),
            },
            Err(error) => SpawnerReply::Failed {
                error: error.to_string(),
            },
        };
        control.send(&reply, &[]).map_err(other)?;
    }
}

fn fork(
    supervisor: Pid,
    title: &TitleArea,
    request: &ForkRequest,
    fds: Vec<OwnedFd>,
    roles: Roles,
) -> io::Result<Pid> {
    let mut fds = fds.into_iter();
    let (Some(control), None) = (fds.next(), fds.next()) else {
        return Err(internal("a fork request has one descriptor"));
    };
    sys::fork_detached(ForkedChild {
        supervisor,
        control,
        title: (title, &request.title),
        name: &request.name,
        body: run,
        argument: match request.role {
            Role::Reader => roles.reader,
            Role::Hls => roles.hls,
        },
    })
}

fn run(control: OwnedFd, role: fn(ControlSocket) -> i32) -> i32 {
    match ControlSocket::from_fd(control) {
        Ok(control) => role(control),
        Err(error) => {
            eprintln!("camring: its control socket: {error}");
            1
        }
    }
}

fn internal(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what}: this command is internal, camring run starts it"),
    )
}

fn other(error: crate::control::ControlError) -> io::Error {
    io::Error::other(error)
}
