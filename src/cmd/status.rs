//! `camring status`
#![deny(unsafe_code)]

use crate::cli::{Global, StatusArgs};

/// Runs the command.
///
/// # Errors
/// Always: this build does not have it.
pub fn run(_args: StatusArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("this build has no `camring status`")
}
