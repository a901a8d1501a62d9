//! The signals that the daemon hears, and what they ask for.
#![deny(unsafe_code)]

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
pub(super) enum Asked {
    /// With its name.
    Stop(&'static str),
    Reload,
}

/// The signals that the daemon hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Standard error was a terminal at the start.
    terminal: bool,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            terminal: io::stderr().is_terminal(),
        })
    }

    /// Waits for the next one. SIGHUP means that the configuration is to be read again, unless it
    /// comes because the terminal was closed.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => match self.terminal && !io::stderr().is_terminal() {
                true => Asked::Stop("SIGHUP, the terminal is gone"),
                false => Asked::Reload,
            },
        }
    }
}
