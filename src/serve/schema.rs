//! The tables of `camring.db`: what the recording does not say, and what cannot be rebuilt from it.
//!
//! Each step leads from one version to the next. A released step is never changed; a change is a new step.
#![deny(unsafe_code)]

/// Step `n` leads from version `n` to `n + 1`.
pub const MIGRATIONS: &[&str] = &[];
