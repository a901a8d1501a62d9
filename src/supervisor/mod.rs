//! The supervisor.
#![deny(unsafe_code)]

pub mod placement;
pub mod policy;
mod reaper;
pub mod spawner;
mod template;
