//! Bells: how a writer wakes the clients that wait, without ever waiting for them.
//!
//! A client has one bell page, shared by all its rings, so that waiting on a hundred cameras is
//! one wait. The page is writable by the client and by every writer it is attached to; a hostile
//! client can make a writer call `FUTEX_WAKE(1)` once per frame, and nothing more.

pub(crate) mod protocol;

#[cfg(not(loom))]
mod page;
#[cfg(not(loom))]
pub use page::{Bell, BellPage};
#[cfg(not(loom))]
pub(crate) use page::{Bells, notify_pair};
