//! `camring run`
#![deny(unsafe_code)]

use crate::cli::{Global, RunArgs};

/// Runs the command.
///
/// # Errors
/// Always: this build does not have it.
pub fn run(_args: RunArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("this build has no `camring run`")
}

/// The process that forks readers; see `supervisor::spawner`. Returns its exit code.
pub fn spawner() -> i32 {
    1
}
