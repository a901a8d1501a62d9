//! The frame ring as memory for the decoder: the joint between `camring_ring` and libavcodec.
//!
//! Promises: a slot is written either by the decoder that borrowed it or by one copy made here,
//! never by both; the ring's memory stays mapped as long as any picture lies in it.
//! Must never: hand out the payload of a slot that it has lent.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camring_ring::{CloseReason, FrameDescriptor, FrameWriter, RingError, SlotId, SubscriberPages};

use super::{PictureSlots, SlotBuffer};

/// Owns the writer of one frame ring, and lends its slots to a decoder.
///
/// One thread decodes, publishes and drops pictures (frame threading is off), so the lock is never
/// contended; it is there because the compiler cannot know.
pub struct RingSlots {
    writer: Mutex<FrameWriter>,
}

impl RingSlots {
    /// Takes the ring over.
    #[must_use]
    pub fn new(writer: FrameWriter) -> Self {
        Self { writer: Mutex::new(writer) }
    }

    fn writer(&self) -> MutexGuard<'_, FrameWriter> {
        // A panic while the lock is held ends the process; what is behind it is plain data.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a picture may have.
    pub fn slot_bytes(&self) -> usize {
        self.writer().slot_bytes()
    }

    /// Names this ring among all that the stream ever had.
    pub fn ring_id(&self) -> u64 {
        self.writer().ring_id()
    }

    /// The number that the next published frame gets.
    pub fn next_sequence(&self) -> u64 {
        self.writer().next_sequence()
    }

    /// Publishes a picture where the decoder drew it. `slot` is the picture's own, not published
    /// before; the decoder may go on referring to it.
    pub fn publish_in_place(&self, slot: u8, frame: &FrameDescriptor) -> Result<u64, RingError> {
        self.writer().publish(SlotId(slot), frame)
    }

    /// Reserves a slot, lets `fill` write the picture and complete the descriptor, and publishes
    /// it. `Ok(None)`: no slot is free.
    pub fn publish_copy<E: From<RingError>>(
        &self,
        fill: impl FnOnce(&mut [u8]) -> Result<FrameDescriptor, E>,
    ) -> Result<Option<u64>, E> {
        let mut writer = self.writer();
        let Some(slot) = writer.reserve() else { return Ok(None) };
        let filled = match writer.payload_mut(slot) {
            Some(payload) => fill(payload),
            None => {
                writer.release(slot);
                return Ok(None);
            }
        };
        let published =
            filled.and_then(|frame| writer.publish(slot, &frame).map(Some).map_err(E::from));
        // Published: it stays visible. Not published: it is free again.
        writer.release(slot);
        published
    }

    /// See [`FrameWriter::add_subscriber`]. Returns how many there are now.
    pub fn add_subscriber(&self, pages: SubscriberPages) -> Result<usize, RingError> {
        let mut writer = self.writer();
        writer.add_subscriber(pages)?;
        Ok(writer.subscribers())
    }

    /// See [`FrameWriter::remove_subscriber`]. Returns how many are left.
    pub fn remove_subscriber(&self, id: u64) -> usize {
        let mut writer = self.writer();
        writer.remove_subscriber(id);
        writer.subscribers()
    }

    /// Tells the subscribers that nothing more will be published here. Pictures of the decoder
    /// may still lie in its slots.
    pub fn close(&self, reason: CloseReason) {
        self.writer().close(reason);
    }
}

impl fmt::Debug for RingSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingSlots").finish_non_exhaustive()
    }
}

impl PictureSlots for RingSlots {
    fn reserve(&self, bytes: usize) -> Option<SlotBuffer> {
        let mut writer = self.writer();
        if bytes > writer.slot_bytes() {
            return None;
        }
        let slot = writer.reserve()?;
        let (start, len) = writer.payload(slot);
        // SAFETY: `start` and `len` are the payload of a slot of the ring's mapping, which lives as
        // long as the writer, which lives as long as `self`; whoever holds the `SlotBuffer` holds
        // `self` in an `Arc` (contract of `PictureSlots` users: `release` is called on it).
        // `reserve` gives a slot to one holder at a time. The only Rust reference to a payload in
        // this process is made in `publish_copy`, for a slot it reserved itself, and the writer is
        // not reachable from outside.
        Some(unsafe { SlotBuffer::new(slot.0, start, len) })
    }

    fn release(&self, slot: SlotBuffer) {
        self.writer().release(SlotId(slot.id()));
    }
}
