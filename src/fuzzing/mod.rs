//! What the fuzzer calls, and the tests with every input that is kept: `docs/reference/fuzzing.md`.
//!
//! Each function takes any bytes, makes of them what a camera, a client, a file or another process could
//! send, and panics where a promise is broken. Compiled for the fuzzer (feature `fuzzing`) and for unit
//! tests only: nothing here is part of a release.
//!
//! Must never: depend on anything but the input (what was found once must be found again), open a
//! connection, or take longer than some hundred microseconds.
#![allow(missing_docs, clippy::missing_panics_doc)]

mod config;
mod control;

pub use crate::onvif::fuzzing::onvif;
pub use crate::reader::fuzzing::{access_units, camera_text, timeline};
pub use crate::serve::fuzzing::{http_body, http_query, init_segment, recording_index};
pub use config::{config, config_edit};
pub use control::control;

/// A fuzz target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of the daemon.
pub const TARGETS: &[Target] = &[
    ("config", config),
    ("config_edit", config_edit),
    ("control", control),
    ("timeline", timeline),
    ("access_units", access_units),
    ("camera_text", camera_text),
    ("http_query", http_query),
    ("http_body", http_body),
    ("recording_index", recording_index),
    ("init_segment", init_segment),
    ("onvif", onvif),
];

#[cfg(test)]
mod tests;
