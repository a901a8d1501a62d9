//! `camring reload`: has the daemon read its configuration again, and says what came of it.
//!
//! By SIGHUP, so that only the daemon's own user and root can, whoever may attach. It changes nothing
//! by itself.
#![deny(unsafe_code)]

use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::cli::{Global, ReloadArgs};
use crate::cmd;

/// A daemon on a busy machine, whose file is on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at its status.
const LOOK: Duration = Duration::from_millis(50);

/// The daemon refused its configuration. Ends the command with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Runs `camring reload`.
///
/// # Errors
/// No daemon (exit code 3), no right to send it a signal, or what is wrong with the configuration
/// (exit code 2): the daemon runs on with the one before.
pub fn run(args: ReloadArgs, global: &Global) -> anyhow::Result<()> {
    let socket = cmd::socket(&args.socket, global)?;
    let client = cmd::connect(&socket)?;
    let config = || -> anyhow::Result<Value> {
        let status: Value = serde_json::from_str(&client.status_json()?)?;
        Ok(status["config"].clone())
    };
    let attempts = |config: &Value| config["attempts"].as_u64();
    let before = attempts(&config()?).context("the daemon is of an older version")?;
    hang_up(&socket)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let now = config()?;
        if attempts(&now) > Some(before) {
            return match now["error"].as_str() {
                Some(error) => Err(Refused(error.to_owned()).into()),
                None => {
                    let changes = now["changes"].as_str().unwrap_or_default();
                    Ok(cmd::print(&format!("applied: {changes}\n"))?)
                }
            };
        }
        if Instant::now() > end {
            bail!("the daemon has not read its configuration within 60 s; see its log");
        }
        sleep(LOOK);
    }
}

/// Sends SIGHUP to whoever listens at the socket: the kernel knows its process, whatever its number
/// is in its own container.
fn hang_up(socket: &Path) -> anyhow::Result<()> {
    let connection = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&connection, &SocketAddrUnix::new(socket)?)?;
    let peer = nix::sys::socket::getsockopt(
        &connection.as_fd(),
        nix::sys::socket::sockopt::PeerCredentials,
    )?;
    let Some(pid) = Pid::from_raw(peer.pid()).filter(|_| peer.pid() > 0) else {
        bail!("the daemon is in another container: send its process SIGHUP there");
    };
    let daemon = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    rustix::process::pidfd_send_signal(&daemon, Signal::HUP).with_context(|| {
        format!(
            "the daemon (pid {}) takes no signal of this user: run this as the daemon's user or root",
            peer.pid()
        )
    })
}
