//! Shared-memory rings of decoded video frames and of access units: attach to the camring daemon,
//! read frames in place.
//!
//! ```no_run
//! use camring_ring::{Receiver, ReceiverOptions, default_socket_path};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let options = ReceiverOptions::default();
//!     let mut door = Receiver::attach(&default_socket_path(), &["front-door"], &options)?;
//!     while let Some((_, frame)) = door.next_timeout(Duration::from_secs(5))? {
//!         let luma: &[u8] = frame.plane(0); // in place: no copy, and it cannot change
//!         let rows = luma.chunks(frame.plane_stride(0) as usize);
//!         println!("frame {}: {} rows, missed {}", frame.sequence(), rows.len(), frame.missed());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Which of them
//!
//! - [`Receiver`]: frames of one camera or several, for as long as the program runs. It connects
//!   again when the daemon was restarted. This is what most programs want.
//! - [`Client`] and [`Subscription`]: one connection, which ends with the daemon, and one camera of
//!   it each. For programs that decide themselves what to do then, and for compressed access units
//!   ([`PacketSubscription`]).
//! - [`Frame`]: a picture in place, with its [`FrameDescriptor`]. It stays mapped and unchanged
//!   until it is dropped, whatever becomes of the rest. How many may be held at a time is
//!   [`AttachOptions::pins`].
//!
//! A program that is slower than its camera takes [`Receiver::latest`] and is told what it missed
//! ([`Frame::missed`]); it slows nobody down. Nothing here has a thread of its own, needs a
//! runtime, or calls back; blocking is where a name says `wait` or `timeout`. For event loops see
//! [`Receiver::poll_fds`].
//!
//! Everything that fails says why in words for the person who has to mend it: [`AttachError`],
//! [`RingError`].
//!
//! # Promises
//!
//! 1. Publishing is wait-free: a bounded number of steps whatever subscribers do, and at most one
//!    futex wake per waiting client.
//! 2. A subscriber holds a frame as a plain `&[u8]`, in place, and it cannot change while held.
//! 3. A slow, stopped, killed or hostile subscriber never blocks, slows or corrupts the writer or
//!    another subscriber.
//! 4. A writer killed at any instruction leaves no torn frame visible; its successor goes on in
//!    the same memory, with rising sequence numbers and the next generation.
//! 5. Subscribers of another uid than the daemon's, and not root, cannot write into a ring.
//!    Whatever is read from shared memory is copied out once and checked before it is used.
//! 6. No SIGBUS: memory is sealed against resizing, and reserved before it is written.
//! 7. A subscriber learns what it missed, and why a ring changed.
//!
//! # The daemon's side
//!
//! The rest is what a daemon needs to make rings and hand them out, and what other implementations
//! read: [`layout`] the bytes · [`SealedMemory`] memory · [`FrameRingSpec`] and [`FrameWriter`] the
//! frame ring · [`PacketRingSpec`], [`PacketWriter`] and [`PacketReader`] the packet ring ·
//! [`BellPage`], [`PinPage`] the pages between one subscriber and the writers · [`attach`] how
//! descriptors get across.
//!
//! The protocols (`frames/protocol.rs`, `packets/protocol.rs`, `bell/protocol.rs`) are written
//! over words in any memory; with `--cfg loom` only they are compiled, and the models run them.
#![deny(unsafe_code)]
#![cfg_attr(
    loom,
    allow(dead_code, reason = "only the models use the protocols there")
)]
#![warn(missing_docs)]

pub(crate) mod bell;
pub(crate) mod frames;
pub mod layout;
pub(crate) mod packets;
pub(crate) mod sync;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(all(test, loom))]
mod model;

#[cfg(not(loom))]
pub mod attach;
#[cfg(not(loom))]
mod close;
#[cfg(not(loom))]
mod descriptor;
#[cfg(not(loom))]
mod error;
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod pins;
#[cfg(not(loom))]
mod pixel;
#[cfg(not(loom))]
mod subscriber;

#[cfg(not(loom))]
pub use crate::{
    attach::{AttachError, client::default_socket_path},
    bell::{Bell, BellPage},
    close::close_ring,
    descriptor::{FrameDescriptor, FrameFlags, Plane},
    error::{BadDescriptor, FormatError, RingError},
    frames::{CloseReason, FrameRingSpec, FrameWriter, SlotId, SubscriberPages},
    memory::{MemoryError, SealedMemory},
    packets::{
        Appended, Codec, PacketReader, PacketRingSpec, PacketWriter, UnitDescriptor, UnitFlags,
    },
    pins::PinPage,
    pixel::{ColorRange, MATRIX_UNSPECIFIED, PixelFormat},
    subscriber::{
        AttachOptions, Client, Frame, PacketSubscription, RETRY_PAUSE, Receiver, ReceiverOptions,
        RingChange, Subscription, Waiter,
    },
};

/// `CLOCK_MONOTONIC` in ns.
#[cfg(not(loom))]
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Which threads may have what: part of the interface, so checked where it would break.
#[cfg(not(loom))]
const _: () = {
    const fn send<T: Send>() {}
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Client>();
    send_and_sync::<Frame>();
    send_and_sync::<SealedMemory>();
    send_and_sync::<Bell>();
    send_and_sync::<PacketReader>();
    send_and_sync::<Waiter>();
    send::<Receiver>();
    send::<Subscription>();
    send::<PacketSubscription>();
    send::<FrameWriter>();
    send::<PacketWriter>();
};
