//! `camring snapshot`
#![deny(unsafe_code)]

use crate::cli::{Global, SnapshotArgs};

/// Runs the command.
///
/// # Errors
/// Always: this build does not have it.
pub fn run(_args: SnapshotArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("this build has no `camring snapshot`")
}
