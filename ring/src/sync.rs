//! Every atomic of this crate comes through here, so that loom can replace them.
//!
//! [`Rules`] holds the orderings that the protocols stand on as constants. There is one sound
//! set, [`Sound`]; the models weaken one rule at a time and show that each is needed. Never name
//! `std::sync::atomic` in a protocol module.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Orderings and steps of the three protocols. Only the models implement anything but the
/// defaults; the constants fold away.
pub(crate) trait Rules {
    /// Frame ring, subscriber: a Relaxed store here may overtake the clear before it.
    const PIN_STORE: Ordering = Ordering::Release;
    /// Frame ring, subscriber: ends the reads of the payload.
    const PIN_CLEAR: Ordering = Ordering::Release;
    /// Frame ring, subscriber: store the pin, *then* look whether the frame is still valid.
    const SUBSCRIBER_FENCE: bool = true;
    /// Frame ring, writer: invalidate, *then* look for pins.
    const WRITER_FENCE: bool = true;
    /// Frame ring, writer: pairs with [`Rules::PIN_CLEAR`].
    const SCAN_LOAD: Ordering = Ordering::Acquire;
    /// Frame ring, writer: must stay false.
    const SCAN_BEFORE_INVALIDATE: bool = false;
    /// Packet ring, writer: `oldest` before any word of the unit that replaces it.
    const APPEND_FENCE: bool = true;
    /// Packet ring, reader: every word before the second look at `oldest`.
    const READ_FENCE: bool = true;
    /// Packet ring, writer: must stay false.
    const OLDEST_AFTER_WORDS: bool = false;
    /// Bell, ringing side: bump, *then* look for waiters.
    const RING_FENCE: bool = true;
    /// Bell, waiting side: announce, *then* look at the bell.
    const WAIT_FENCE: bool = true;
    /// Bell, waiting side: a woken thread wakes the other threads of its client.
    const CHAIN: bool = true;
}

/// The rules of the shipped code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sound;

impl Rules for Sound {}
