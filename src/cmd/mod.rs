//! One file for each command, and what they have in common: how errors end the process.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong configuration or command line, 3 no daemon.
#![deny(unsafe_code)]

pub mod check;
pub mod discover;
pub mod hls;
pub mod login;
pub mod pipe;
pub mod probe;
pub mod reindex;
pub mod reload;
pub mod run;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod tail;
pub mod top;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use camring_ring::{AttachError, Client, RingError};
use clap::Parser as _;

use crate::cli::{Cli, Command, Global, SocketArg};
use crate::config::{self, ConfigError, Style};
use crate::logging;
use crate::sys;

/// Something is wrong with what was asked for.
const EXIT_FAILED: u8 = 1;
/// Something is wrong with the configuration or the command line (`clap` uses the same number).
const EXIT_USAGE: u8 = 2;
/// There is no daemon.
const EXIT_NO_DAEMON: u8 = 3;

/// The variable that names the server whose end is to be this command's, where it asked for it.
pub const PARENT: &str = "CAMRING_PARENT";

/// Whether the server asked for this command, for somebody else: then it ends with the server, and others
/// of the same user cannot look into it.
///
/// # Errors
/// The kernel refuses, or the server is gone already.
pub fn is_for_the_server() -> io::Result<bool> {
    let parent = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    let Some(parent) = parent.and_then(sys::process::pid) else {
        return Ok(false);
    };
    sys::process::die_with_parent(parent)?;
    sys::process::not_dumpable()?;
    Ok(true)
}

/// No daemon answers. Ends a command with exit code 3; the text says where was asked and what to
/// do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoDaemon(pub String);

/// The process, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let configured = || match &command {
        Command::Run(_) => config::log_format_of(global.config.as_deref()),
        _ => None,
    };
    let format = logging::format(global.log_format, configured);
    let started = format.and_then(|format| logging::start(global.log.as_deref(), format));
    if let Err(error) = started {
        complain(&format!("camring: {error}"));
        return ExitCode::from(EXIT_USAGE);
    }
    let done = match command {
        Command::Run(args) => run::run(args, &global),
        Command::Reload(args) => reload::run(args, &global),
        Command::Check(args) => check::run(args, &global),
        Command::Status(args) => status::run(args, &global),
        Command::Top(args) => top::run(args, &global),
        Command::Tail(args) => tail::run(args, &global),
        Command::Snapshot(args) => snapshot::run(args, &global),
        Command::Pipe(args) => pipe::run(args, &global),
        Command::Probe(args) => probe::run(args, &global),
        Command::Discover(args) => discover::run(args, &global),
        Command::Hls(args) => hls::run(args, &global),
        Command::Reindex(args) => reindex::run(args, &global),
        Command::Serve(args) => serve::run(args, &global),
        Command::User(command) => login::user(command),
        Command::Token(command) => login::token(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(report(&error)),
    }
}

/// Says what went wrong, and returns the exit code for it.
fn report(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        complain(&error.render(style(&io::stderr())));
        return EXIT_USAGE;
    }
    if let Some(refused) = error.downcast_ref::<reload::Refused>() {
        complain(&refused.to_string());
        return EXIT_USAGE;
    }
    if let Some(open) = error.downcast_ref::<serve::Open>() {
        complain(&format!("camring: {open}"));
        return EXIT_USAGE;
    }
    // Whoever reads our output has enough: `camring tail … | head`.
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return 0;
    }
    complain(&format!("camring: {error:#}"));
    // It went away between two questions.
    let gone = matches!(
        error.downcast_ref::<AttachError>(),
        Some(AttachError::Disconnected)
    );
    match gone || error.is::<NoDaemon>() {
        true => EXIT_NO_DAEMON,
        false => EXIT_FAILED,
    }
}

/// Connects to the daemon.
///
/// # Errors
/// [`NoDaemon`] where nobody listens; otherwise what the kernel or the daemon says.
pub fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::connect(socket).map_err(|error| match error {
        AttachError::NoDaemon { .. } => NoDaemon(error.to_string()).into(),
        other => other.into(),
    })
}

/// The daemon went away while it was needed: says so with the exit code for that.
pub fn while_attached(error: RingError) -> anyhow::Error {
    match error {
        RingError::Disconnected => NoDaemon(error.to_string()).into(),
        other => other.into(),
    }
}

/// Prints to standard error; nobody can be told if that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints to standard output. A closed pipe is an error, and a silent one (see `report`).
///
/// # Errors
/// The output cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Colours for terminals only, and not against the user's will (<https://no-color.org>).
pub fn style(stream: &impl io::IsTerminal) -> Style {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match stream.is_terminal() && !set("NO_COLOR") && !dumb {
        true => Style::Coloured,
        false => Style::Plain,
    }
}

/// The daemon's socket: as named, or `$CAMRING_SOCKET`, or by the configuration's `runtime_dir`,
/// or the usual one.
///
/// # Errors
/// A configuration was named, and cannot be read. One that was not named is only looked at: a
/// detector's user need not be allowed to read it.
pub fn socket(socket: &SocketArg, global: &Global) -> Result<PathBuf, ConfigError> {
    if let Some(socket) = &socket.socket {
        return Ok(socket.clone());
    }
    let variable = std::env::var_os("CAMRING_SOCKET").filter(|path| !path.is_empty());
    match (variable, &global.config) {
        (Some(path), None) => Ok(PathBuf::from(path)),
        (_, Some(path)) => config::socket_of(Some(path)),
        (None, None) => {
            Ok(config::socket_of(None).unwrap_or_else(|_| camring_ring::default_socket_path()))
        }
    }
}
