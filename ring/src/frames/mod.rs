//! The frame ring: slots of decoded pictures, written by one process, read in place by many.

pub(crate) mod protocol;

#[cfg(not(loom))]
pub(crate) mod geometry;
#[cfg(not(loom))]
pub(crate) mod words;
#[cfg(not(loom))]
pub(crate) mod writer;

#[cfg(not(loom))]
pub use geometry::FrameRingSpec;
#[cfg(not(loom))]
pub use writer::{CloseReason, FrameWriter, SlotId, SubscriberPages};
