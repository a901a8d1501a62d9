//! How children end, in words and counted; and waiting with a deadline that may not be there.
#![deny(unsafe_code)]

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::sys::process::Exit;

/// `what`: `the reader`. Without an exit, not even SIGKILL ended it.
pub(super) fn describe(what: &str, exit: Option<Exit>, reason: Option<&str>) -> String {
    let how = match exit {
        None => format!("{what} hangs in the kernel and cannot be killed"),
        Some(Exit::Code(0)) => format!("{what} ended, though nobody had asked it to"),
        Some(exit) => format!("{what} ended: {exit}"),
    };
    match reason {
        Some(reason) => format!("{how}: {reason}"),
        None => how,
    }
}

/// A child's words, for a log and a terminal.
pub(super) fn printable(text: &str) -> String {
    let text: String = text.chars().take(500).collect();
    text.replace(|c: char| c.is_control(), " ")
}

/// Whether an end looks like an attack that failed, or any memory error: a signal, but not one that
/// people and the OOM killer send.
pub(super) fn crashed(exit: Option<Exit>) -> bool {
    let harmless = [Signal::KILL, Signal::TERM, Signal::INT].map(Signal::as_raw);
    matches!(exit, Some(Exit::Signal(signal)) if !harmless.contains(&signal))
}

/// How often a child ended though nobody had asked it to, or could not be started, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// It ended by itself, with or without a word.
    pub exit: u64,
    /// It crashed: a signal of a memory error, or one that it sent itself.
    pub crash: u64,
    /// Somebody killed it: a person, or the kernel for want of memory.
    pub killed: u64,
    /// The supervisor ended it: it gave no sign of life, or did not keep to the protocol.
    pub unresponsive: u64,
    /// No process could be started.
    pub not_started: u64,
}

impl Failures {
    /// One more. `condemned`: the supervisor had ended it.
    pub(super) fn count(&mut self, exit: Option<Exit>, condemned: bool) {
        let reason = match exit {
            _ if condemned => &mut self.unresponsive,
            None => &mut self.unresponsive,
            Some(Exit::Code(_)) => &mut self.exit,
            Some(Exit::Signal(_)) if crashed(exit) => &mut self.crash,
            Some(Exit::Signal(_)) => &mut self.killed,
        };
        *reason += 1;
    }
}

/// Waits for a moment; for ever, if there is none.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_who_brought_them_about() {
        let mut failures = Failures::default();
        failures.count(Some(Exit::Code(1)), false);
        failures.count(Some(Exit::Signal(Signal::SEGV.as_raw())), false);
        failures.count(Some(Exit::Signal(Signal::KILL.as_raw())), false);
        failures.count(Some(Exit::Signal(Signal::KILL.as_raw())), true);
        failures.count(None, false);
        let expected = Failures {
            exit: 1,
            crash: 1,
            killed: 1,
            unresponsive: 2,
            not_started: 0,
        };
        assert_eq!(failures, expected);
    }
}
