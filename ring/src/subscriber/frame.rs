//! A frame that is held: a pin, and what it protects.
#![allow(unsafe_code)]

use std::sync::Arc;

use crate::descriptor::FrameDescriptor;
use crate::error::{BadDescriptor, RingError};
use crate::frames::protocol::{self, Entry};
use crate::frames::words::MappedFrames;
use crate::layout::DESCRIPTOR_WORDS;
use crate::pins::Pins;
use crate::subscriber::client::AttachmentId;
use crate::sync::{AtomicU64, Ordering, Sound};

/// One ring attached to, with the pins to hold its frames. Shared by a subscription and the
/// frames it gave out.
#[derive(Debug)]
pub(crate) struct Attachment {
    // Dropped first to last: the mappings may go before the daemon hears of it.
    ring: Arc<MappedFrames>,
    pins: Pins,
    /// Pin words in use, one bit each.
    taken: AtomicU64,
    id: AttachmentId,
}

impl Attachment {
    pub(crate) fn new(ring: Arc<MappedFrames>, pins: Pins, id: AttachmentId) -> Self {
        Self {
            ring,
            pins,
            taken: AtomicU64::new(0),
            id,
        }
    }

    pub(crate) fn ring(&self) -> &Arc<MappedFrames> {
        &self.ring
    }

    pub(crate) fn id(&self) -> &AttachmentId {
        &self.id
    }

    /// Takes a pin word that no frame uses. One thread at a time calls this (the subscription's),
    /// any thread may give one back.
    #[inline]
    pub(crate) fn take_pin(&self) -> Result<Pin<'_>, RingError> {
        // SYNC: pairs with the Release in `Pin::drop` and `Frame::drop`: the word was cleared
        // before its bit.
        let taken = self.taken.load(Ordering::Acquire);
        let index = (!taken).trailing_zeros() as usize;
        let quota = self.pins.count();
        if index >= quota {
            let held = taken.count_ones();
            return Err(RingError::PinQuota {
                held,
                quota: quota as u32,
            });
        }
        self.taken.fetch_or(1 << index, Ordering::Relaxed);
        Ok(Pin {
            attachment: self,
            index,
            keep: false,
        })
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.pins.words()[index]
    }

    #[inline]
    fn give_back(&self, index: usize) {
        self.taken.fetch_and(!(1 << index), Ordering::Release);
    }
}

/// A pin word on its way into a frame.
pub(crate) struct Pin<'a> {
    attachment: &'a Attachment,
    index: usize,
    keep: bool,
}

impl Pin<'_> {
    /// Pins `entry`, copies its descriptor and checks it.
    #[inline]
    pub(crate) fn pin(&self, entry: Entry) -> Result<Option<FrameDescriptor>, BadDescriptor> {
        let ring = &*self.attachment.ring;
        let word = self.attachment.word(self.index);
        let mut words = [0u64; DESCRIPTOR_WORDS];
        if !protocol::pin(ring, word, entry, &mut words) {
            return Ok(None);
        }
        let descriptor = FrameDescriptor::from_words(entry.sequence, &words);
        let checked = descriptor.and_then(|d| d.check(ring.geometry().slot_bytes).map(|()| d));
        if checked.is_err() {
            self.unpin();
        }
        checked.map(Some)
    }

    /// Lets go of what was pinned.
    pub(crate) fn unpin(&self) {
        protocol::unpin::<Sound>(self.attachment.word(self.index));
    }

    /// The word now belongs to a frame.
    #[inline]
    fn keep(mut self) -> usize {
        self.keep = true;
        self.index
    }
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.keep {
            self.attachment.give_back(self.index);
        }
    }
}

/// Why the first frame after it is not what the last one led to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingChange {
    /// The camera's reader process was restarted; sequence numbers went on.
    WriterRestarted,
    /// The ring was replaced, usually because the pictures have another size.
    Replaced,
    /// The daemon went away and the connection was made anew ([`crate::Receiver`]): sequence
    /// numbers begin anew, and what was missed is not known.
    Reconnected,
}

/// What a subscription knows about a frame beside its descriptor.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Circumstances {
    pub(crate) missed: u64,
    pub(crate) hidden: u64,
    pub(crate) change: Option<RingChange>,
}

/// A frame, in place in shared memory. It does not change until it is dropped; then its slot can
/// be used again. Keeps the ring mapped and the connection open. `Send` and `Sync`.
///
/// What "does not change" rests on: the daemon's writer follows the pin protocol, and no process
/// of the daemon's uid or root writes into the ring. Other subscribers cannot.
#[derive(Debug)]
pub struct Frame {
    attachment: Arc<Attachment>,
    pin: usize,
    slot: u8,
    descriptor: FrameDescriptor,
    circumstances: Circumstances,
}

impl Frame {
    /// `pin` has pinned `slot`, whose descriptor passed its check.
    #[inline]
    pub(crate) fn new(
        attachment: &Arc<Attachment>,
        pin: Pin<'_>,
        slot: u8,
        descriptor: FrameDescriptor,
        circumstances: Circumstances,
    ) -> Self {
        let pin = pin.keep();
        Self {
            attachment: Arc::clone(attachment),
            pin,
            slot,
            descriptor,
            circumstances,
        }
    }

    /// Number of the frame.
    pub fn sequence(&self) -> u64 {
        self.descriptor.sequence
    }

    /// Which writer since the ring was made.
    pub fn generation(&self) -> u32 {
        self.descriptor.generation
    }

    /// Size, format, times.
    pub fn descriptor(&self) -> &FrameDescriptor {
        &self.descriptor
    }

    /// How many frames were published between the last one given out and this, and not given out:
    /// overwritten before they were asked for, or passed over by `latest()`. Damaged frames that
    /// were looked at and hidden are not among them, see [`Frame::hidden`].
    pub fn missed(&self) -> u64 {
        self.circumstances.missed
    }

    /// How many damaged frames were hidden between the last one given out and this.
    pub fn hidden(&self) -> u64 {
        self.circumstances.hidden
    }

    /// What happened to the ring between the last frame given out and this.
    pub fn change(&self) -> Option<RingChange> {
        self.circumstances.change
    }

    /// Number of planes.
    pub fn planes(&self) -> usize {
        self.descriptor.pixel_format.planes()
    }

    /// Bytes of a plane, from its first to the end of its last row (without the padding of that
    /// one). Empty when there is no such plane.
    pub fn plane(&self, index: usize) -> &[u8] {
        if index >= self.planes() {
            return &[];
        }
        // Checked when the frame was pinned, so neither fails.
        let Ok(range) = self.descriptor.plane_range(index) else {
            return &[];
        };
        self.data()
            .get(range.start as usize..range.end as usize)
            .unwrap_or(&[])
    }

    /// Bytes from one row of a plane to the next; 0 when there is no such plane.
    pub fn plane_stride(&self, index: usize) -> u32 {
        if index >= self.planes() {
            0
        } else {
            self.descriptor.planes[index].stride
        }
    }

    /// How many bytes of the slot lie behind [`Frame::data`]: mapped, of no meaning. Vector code may
    /// read so far beyond the last row.
    pub fn padding(&self) -> usize {
        let slot_bytes = self.attachment.ring.payload(self.slot);
        slot_bytes.map_or(0, |(_, bytes)| bytes.saturating_sub(self.data().len()))
    }

    /// The slot's payload from its start to the end of the last row of any plane. Plane offsets
    /// of the descriptor count from its start.
    pub fn data(&self) -> &[u8] {
        let Some((address, slot_bytes)) = self.attachment.ring.payload(self.slot) else {
            return &[];
        };
        let len = self
            .descriptor
            .payload_len()
            .map_or(0, |len| len.min(slot_bytes as u64));
        // SAFETY: `payload` has checked that the slot lies inside the mapping, and `len` is at
        // most its size; the mapping lives as long as `self.attachment`, and sealed memory cannot
        // be truncated, so no access faults. The bytes do not change while this frame lives: its
        // pin was stored before the slot was found valid (`protocol::pin`), the writer reuses no
        // pinned slot, and the pin is cleared in `drop` only, which needs `&mut self`. Residual
        // risk, stated in the type's documentation: a process that can write to the memory (the
        // daemon's uid, root) and does not follow the protocol.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), len as usize) }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        protocol::unpin::<Sound>(self.attachment.word(self.pin));
        self.attachment.give_back(self.pin);
    }
}
