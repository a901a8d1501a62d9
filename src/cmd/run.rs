//! `camring run`: the daemon, and what its processes are made of.
#![deny(unsafe_code)]

use crate::cli::{Global, RunArgs};
use crate::control::ControlSocket;
use crate::supervisor::spawner::{self, Roles};
use crate::{config, hls, logging, media, reader, serve, supervisor, worker};

/// Runs the daemon until it is told to end.
///
/// # Errors
/// The configuration is wrong (nothing was started then), or the machine refuses what the daemon
/// cannot do without.
pub fn run(_args: RunArgs, global: &Global) -> anyhow::Result<()> {
    let (path, site) = config::load(global.config.as_deref())?;
    tracing::info!(
        "camring {}: {} streams in {}",
        env!("CARGO_PKG_VERSION"),
        site.streams.len(),
        path.display()
    );
    let options = supervisor::Options {
        log: global.log.clone(),
        config: Some(path),
        ..supervisor::Options::default()
    };
    Ok(supervisor::run(site, &options)?)
}

/// The process that forks readers; see [`crate::supervisor::spawner`]. Returns its exit code.
pub fn spawner() -> i32 {
    spawner::main(Roles {
        warm_up: media::warm_up,
        reader,
        hls,
    })
}

/// A fork of the spawner becomes what records a stream.
fn hls(control: ControlSocket) -> i32 {
    log("hls");
    hls::main(control)
}

/// A fork of the spawner becomes a reader. Logging starts only here: the template itself draws no
/// random number, and must hold no lock that a fork would inherit.
fn reader(control: ControlSocket) -> i32 {
    log("reader");
    reader::main(control)
}

/// The process for HTTP and recordings. Returns its exit code.
pub fn serve() -> i32 {
    log("serve");
    serve::main()
}

/// A process that decodes what was recorded, for the server. Returns its exit code.
pub fn worker() -> i32 {
    log("worker");
    worker::main()
}

/// Sets up logging as the supervisor's environment says.
fn log(who: &str) {
    let format = logging::format(None, || None);
    if let Err(error) = format.and_then(|format| logging::start(None, format)) {
        eprintln!("camring {who}: {error}");
    }
}
