//! What the fuzzer calls, and the tests with every input that is kept: `docs/reference/fuzzing.md`.
//!
//! Each function takes any bytes, makes of them what a hostile or unlucky peer could do, and panics
//! where a promise of this crate is broken. Compiled for the fuzzer (feature `fuzzing`) and for unit
//! tests only: nothing here is part of the library.
//!
//! Must never: depend on anything but the input (what was found once must be found again), or take
//! longer than some hundred microseconds.
#![allow(missing_docs, clippy::missing_panics_doc)]

mod descriptor;
mod frames;
mod header;
mod packets;
mod wire;

pub use descriptor::ring_descriptor;
pub use frames::frame_ring;
pub use header::ring_header;
pub use packets::packet_ring;
pub use wire::attach_protocol;

/// A fuzz target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    ("attach_protocol", attach_protocol),
    ("ring_header", ring_header),
    ("ring_descriptor", ring_descriptor),
    ("frame_ring", frame_ring),
    ("packet_ring", packet_ring),
];

#[cfg(test)]
mod tests;
