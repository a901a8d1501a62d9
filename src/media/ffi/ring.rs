//! The frame ring as memory to decode into.

use std::sync::{Arc, Mutex, PoisonError};

use camring_ring::{
    CloseReason, FrameDescriptor, FrameFlags, FrameWriter, SlotId, SubscriberPages,
};

use super::buffers::{PictureSlots, SlotBuffer};
use super::picture::Picture;
use crate::media::{MediaError, Plane};

/// A frame ring's writer, shared by the decoder that draws into its slots and the reader that
/// publishes them. Clones are the same ring; it stays mapped until the last clone and the last slot
/// lent to a decoder or a picture are gone.
///
/// The writer itself is not handed out: `payload_mut` or `release` of a slot in which libavcodec
/// draws would break what [`SlotBuffer::new`] promises.
#[derive(Clone, Debug)]
pub struct RingSlots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Mutex<FrameWriter>,
}

/// Why a picture was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Every slot is published, pinned or in use by the decoder.
    #[error("no free slot in the frame ring")]
    NoSlot,
    /// The kernel has no memory for a slot that was never used before.
    #[error("no memory for a further slot: {0}")]
    Memory(String),
    /// The slots are too small for this picture: a larger ring is needed.
    #[error("a picture of {needed} bytes does not fit into slots of {given}")]
    TooSmall { needed: usize, given: usize },
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error(transparent)]
    Ring(#[from] camring_ring::RingError),
}

/// A picture that subscribers can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub sequence: u64,
    /// It had to be copied (one copy), otherwise it lies where it was decoded.
    pub copied: bool,
}

impl RingSlots {
    pub fn new(writer: FrameWriter) -> Self {
        Self(Arc::new(Inner {
            writer: Mutex::new(writer),
        }))
    }

    /// For `DecoderOptions::slots`.
    pub fn as_slots(&self) -> Arc<dyn PictureSlots> {
        Arc::new(self.clone())
    }

    /// Publishes a picture: where it lies, or, when that is not in this ring or must not be seen in
    /// place, copied. `descriptor` says everything but the planes and [`FrameFlags::COPIED`]; size,
    /// format, range and matrix are taken from the picture.
    pub fn publish(
        &self,
        picture: &Picture,
        descriptor: &FrameDescriptor,
    ) -> Result<Published, PublishError> {
        let mut descriptor = *descriptor;
        descriptor.width = picture.width();
        descriptor.height = picture.height();
        descriptor.pixel_format = picture.pixel_format()?;
        descriptor.color_range = picture.color_range();
        descriptor.matrix = picture.matrix();
        if let Some(slot) = picture.in_place().filter(|_| self.lent(picture)) {
            descriptor.planes = picture.planes();
            descriptor.flags.0 &= !FrameFlags::COPIED.0;
            let sequence = self.with(|writer| writer.publish(SlotId(slot), &descriptor))?;
            return Ok(Published {
                sequence,
                copied: false,
            });
        }
        descriptor.flags |= FrameFlags::COPIED;
        self.publish_copy(picture, &mut descriptor)
    }

    fn publish_copy(
        &self,
        picture: &Picture,
        descriptor: &mut FrameDescriptor,
    ) -> Result<Published, PublishError> {
        let needed = picture.copied_len()?;
        let (slot, address, given) = self.with(|writer| {
            let slot = writer
                .reserve()
                .ok_or_else(|| match writer.memory_error() {
                    Some(error) => PublishError::Memory(error.to_string()),
                    None => PublishError::NoSlot,
                })?;
            let (address, len) = writer.payload(slot);
            Ok::<_, PublishError>((slot, address, len))
        })?;
        let copied = if needed > given {
            Err(PublishError::TooSmall { needed, given })
        } else {
            // SAFETY: the slot is reserved for this call: nobody but us has its number until it is
            // published below, and no subscriber reads an unpublished slot. The mapping lives as long
            // as self. (Copied without the writer's lock: a decoder that waits for it may hold the
            // picture's.)
            let payload = unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), given) };
            picture.copy_into(payload).map_err(PublishError::from)
        };
        self.with(|writer| {
            let outcome = copied.and_then(|planes: [Plane; 4]| {
                descriptor.planes = planes;
                Ok(writer.publish(slot, descriptor)?)
            });
            writer.release(slot);
            Ok(Published {
                sequence: outcome?,
                copied: true,
            })
        })
    }

    /// Whether the picture lies in this ring.
    fn lent(&self, picture: &Picture) -> bool {
        picture
            .slot_owner()
            .is_some_and(|owner| owner.id() == self.id())
    }

    /// See [`FrameWriter::add_subscriber`].
    pub fn add_subscriber(&self, pages: SubscriberPages) -> Result<(), camring_ring::RingError> {
        self.with(|writer| writer.add_subscriber(pages))
    }

    /// See [`FrameWriter::remove_subscriber`].
    pub fn remove_subscriber(&self, id: u64) -> bool {
        self.with(|writer| writer.remove_subscriber(id))
    }

    pub fn subscribers(&self) -> usize {
        self.with(|writer| writer.subscribers())
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> usize {
        self.with(|writer| writer.slot_bytes())
    }

    pub fn slots(&self) -> u32 {
        self.with(|writer| writer.slots())
    }

    /// Frames that stay visible.
    pub fn depth(&self) -> u32 {
        self.with(|writer| writer.depth())
    }

    pub fn free_slots(&self) -> usize {
        self.with(FrameWriter::free_slots)
    }

    pub fn generation(&self) -> u32 {
        self.with(|writer| writer.generation())
    }

    pub fn next_sequence(&self) -> u64 {
        self.with(|writer| writer.next_sequence())
    }

    pub fn ring_id(&self) -> u64 {
        self.with(|writer| writer.ring_id())
    }

    /// Ends the ring for its subscribers. The decoder may still draw in slots lent before.
    pub fn close(&self, reason: CloseReason) {
        self.with(|writer| writer.close(reason));
    }

    fn with<T>(&self, act: impl FnOnce(&mut FrameWriter) -> T) -> T {
        // A panic while the lock was held ends the reader; what is behind it is plain data.
        act(&mut self.0.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PictureSlots for RingSlots {
    fn reserve(&self, bytes: usize) -> Option<SlotBuffer> {
        let (slot, address, len) = self.with(|writer| {
            if writer.slot_bytes() < bytes {
                return None;
            }
            let slot = writer.reserve()?;
            let (address, len) = writer.payload(slot);
            Some((slot, address, len))
        })?;
        let keep = Arc::clone(&self.0);
        // SAFETY: `len` bytes from `address` are the payload of a slot that was free and is now
        // reserved: the writer gives it out again only after `release`, which takes this value. It
        // stays mapped because `Inner` is kept. In this process the payload is reached in no other
        // way: `with` is private, and only `publish_copy` uses it, on slots it has reserved itself.
        Some(unsafe { SlotBuffer::new(slot.0, address, len, keep) })
    }

    fn release(&self, buffer: SlotBuffer) {
        self.with(|writer| {
            let slot = SlotId(buffer.id());
            // A slot of another ring is not ours to release.
            if writer.payload(slot).0 == buffer.start() {
                writer.release(slot);
            }
        });
    }

    fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}
