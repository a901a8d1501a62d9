//! `camring tail`
#![deny(unsafe_code)]

use crate::cli::{Global, TailArgs};

/// Runs the command.
///
/// # Errors
/// Always: this build does not have it.
pub fn run(_args: TailArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("this build has no `camring tail`")
}
