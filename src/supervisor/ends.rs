//! How children end, in words; and waiting with a deadline that may not be there.
#![deny(unsafe_code)]

use rustix::process::Signal;
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

/// Waits for a moment; for ever, if there is none.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
