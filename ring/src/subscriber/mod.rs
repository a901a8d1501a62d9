//! Attaching to cameras and reading their frames in place.
//!
//! Promises: a [`Frame`] does not change while it is held, and keeps its memory mapped; no call
//! waits without a bound, or for any other subscriber; nothing read from shared memory is used
//! before it was copied out and checked.
//!
//! Must never: write into a ring (the mapping is read-only), or hold a pin that no `Frame` stands
//! for.

mod client;
mod frame;
mod frames;
mod packets;
mod receiver;
mod watch;

pub use client::{AttachOptions, Client};
pub use frame::{Frame, RingChange};
pub use frames::Subscription;
pub use packets::PacketSubscription;
pub use receiver::{RETRY_PAUSE, Receiver, ReceiverOptions, Waiter};
