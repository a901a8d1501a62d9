//! What the daemon needs from the kernel beyond `std`: processes, cores, clocks, memory figures.
//!
//! Everything that needs `unsafe` is in `raw` and `sockets`, behind functions that are safe to call; the other
//! modules are safe code over `rustix`, `nix` and `/proc`.
//!
//! Promises: nothing here blocks for long, allocates without bound, or panics on what `/proc` and
//! the cgroup files say. It must never know what a camera or a ring is.

pub mod clock;
pub mod cpu;
pub mod memory;
pub mod process;
#[allow(unsafe_code)]
mod raw;
#[allow(unsafe_code)]
pub mod sockets;
pub mod usage;

pub use raw::{
    ForkedChild, TitleArea, clock_synchronised, exit_now, fork_detached, one_malloc_arena,
    take_stdin, watch_fd,
};
