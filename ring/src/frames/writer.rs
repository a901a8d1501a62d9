//! The writer of a frame ring: hands out slots, publishes them, takes them back.
//!
//! Promises: publishing and reserving take a bounded number of steps whatever subscribers do, and
//! at most one wake call per waiting client; a slot that is published and held by the decoder, or
//! pinned by a subscriber, is not handed out.
//!
//! Must never: be created while another writer of the same memory may still run.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use crate::bell::Bells;
use crate::descriptor::FrameDescriptor;
use crate::error::{FormatError, RingError};
use crate::frames::protocol::Slots;
use crate::frames::words::MappedFrames;
use crate::layout::RingState;
use crate::memory::{Mapping, MemoryError, SealedMemory};
use crate::pins::{PinList, Pins};
use crate::sync::Ordering;

/// Index of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u8);

/// Why a ring ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Another ring takes its place: subscribers attach again by themselves.
    Replaced,
    /// The camera is gone from the configuration.
    Removed,
}

/// The pages of one subscriber, as the broker passes them to a writer.
#[derive(Debug)]
pub struct SubscriberPages {
    /// Number that the broker gave it, unique for its life.
    pub id: u64,
    /// Its pin page; needed for frame rings, ignored for packet rings.
    pub pins: Option<SealedMemory>,
    /// The bell page of its client.
    pub bell: SealedMemory,
    /// Writer's end of its notify pair, if it asked for one.
    pub notify: Option<OwnedFd>,
}

/// The one writer of a frame ring. `Send`, not `Sync`.
#[derive(Debug)]
pub struct FrameWriter {
    ring: MappedFrames,
    slots: Slots,
    pins: PinList,
    bells: Bells,
    populated: Vec<bool>,
    generation: u32,
    memory_error: Option<MemoryError>,
    _not_sync: PhantomData<Cell<()>>,
}

impl FrameWriter {
    /// Maps a ring and goes on where its last writer stopped, be that before its first frame or
    /// in the middle of any instruction. Frames that were whole stay visible; the generation
    /// rises by one.
    ///
    /// Only after the former writer has *exited* (its pidfd says so: a missed heartbeat is not
    /// enough), and with the pages of *all* subscribers that may hold a pin. `memory` must be the
    /// writable descriptor. Errors: the memory is no frame ring or was left in an impossible
    /// state (make a new ring), or it cannot be mapped.
    pub fn resume(
        memory: SealedMemory,
        subscribers: Vec<SubscriberPages>,
    ) -> Result<Self, RingError> {
        let map = Mapping::read_write(memory)?;
        let ring = MappedFrames::new(map)?;
        let geometry = *ring.geometry();
        let slots = Slots::resume(&ring, geometry.depth as usize, geometry.first_sequence)
            .map_err(|impossible| FormatError::Header {
                what: "frame ring",
                field: "sequence",
                found: impossible.sequence,
                expected: "a number that leaves room to count on".to_owned(),
            })?;
        // 0 is "no writer yet": skip it when wrapping.
        let generation = ring
            .generation_word()
            .load(Ordering::Relaxed)
            .wrapping_add(1)
            .max(1);
        ring.generation_word().store(generation, Ordering::Relaxed);
        let mut writer = Self {
            populated: vec![false; geometry.slots as usize],
            ring,
            slots,
            pins: PinList::default(),
            bells: Bells::default(),
            generation,
            memory_error: None,
            _not_sync: PhantomData,
        };
        for subscriber in subscribers {
            writer.add_subscriber(subscriber)?;
        }
        writer
            .ring
            .state_word()
            .store(RingState::Open as u32, Ordering::Release);
        writer.slots.reclaim(&writer.ring, &writer.pins);
        Ok(writer)
    }

    /// Lets a subscriber pin and be woken. When this returns, the next scan sees its pins: the
    /// broker may then hand the pages to the client.
    pub fn add_subscriber(&mut self, subscriber: SubscriberPages) -> Result<(), RingError> {
        let SubscriberPages {
            id,
            pins,
            bell,
            notify,
        } = subscriber;
        if self.bells.contains(id) {
            return Err(RingError::Subscriber {
                id,
                reason: "is there already",
            });
        }
        let Some(pins) = pins else {
            return Err(RingError::Subscriber {
                id,
                reason: "comes without a pin page",
            });
        };
        let pins = Pins::map(pins)?;
        self.bells.add(id, bell, notify)?;
        self.pins.0.push((id, pins));
        Ok(())
    }

    /// Forgets a subscriber; its pins are void from now on. `false`: there was none.
    pub fn remove_subscriber(&mut self, id: u64) -> bool {
        self.pins.0.retain(|(subscriber, _)| *subscriber != id);
        self.bells.remove(id)
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> usize {
        self.ring.geometry().slot_bytes as usize
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.ring.geometry().slots
    }

    /// Frames that stay visible.
    pub fn depth(&self) -> u32 {
        self.ring.geometry().depth
    }

    /// How many writers this ring has had.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Number that the next frame gets.
    pub fn next_sequence(&self) -> u64 {
        self.slots.next_sequence()
    }

    /// Leaves out all numbers before `sequence`: those that the ring this one replaces has used
    /// since this one was made. Numbers never go back.
    pub fn go_on_at(&mut self, sequence: u64) {
        self.slots.go_on_at(sequence);
    }

    /// Number that the broker gave the ring.
    pub fn ring_id(&self) -> u64 {
        self.ring.geometry().ring_id
    }

    /// Subscribers present.
    pub fn subscribers(&self) -> usize {
        self.bells.subscribers()
    }

    /// Takes a free slot, the one used last: reserved, its memory present, held by the caller
    /// until [`FrameWriter::release`]. `None`: every slot is published, pinned or held, or the
    /// kernel has no memory for it (then [`FrameWriter::memory_error`] says so).
    pub fn reserve(&mut self) -> Option<SlotId> {
        self.memory_error = None;
        self.slots.reclaim(&self.ring, &self.pins);
        let slot = self.slots.take()?;
        let populated = &mut self.populated[usize::from(slot)];
        if !*populated {
            // An error here instead of a SIGBUS at the first store.
            if let Err(error) = self.ring.populate(slot) {
                self.memory_error = Some(error);
                self.slots.release(slot);
                return None;
            }
            *populated = true;
        }
        Some(SlotId(slot))
    }

    /// Why the last [`FrameWriter::reserve`] got no memory, if that was the reason.
    pub fn memory_error(&self) -> Option<&MemoryError> {
        self.memory_error.as_ref()
    }

    /// Address and length of a slot's payload, aligned to 4096, valid as long as the writer
    /// lives. Writing there is sound only while the slot is reserved or (a decoder's references)
    /// reading it while held. For an index out of range the length is 0.
    pub fn payload(&self, slot: SlotId) -> (NonNull<u8>, usize) {
        self.ring
            .payload(slot.0)
            .unwrap_or((NonNull::dangling(), 0))
    }

    /// The payload of a slot that is reserved and not yet published. `None` for any other.
    pub fn payload_mut(&mut self, slot: SlotId) -> Option<&mut [u8]> {
        if !self.slots.is_reserved(slot.0) {
            return None;
        }
        let (address, len) = self.ring.payload(slot.0)?;
        // SAFETY: the range is inside the mapping (checked by `payload`), which lives as long as
        // `self`. The slot is reserved: no subscriber reads it (reclaim found no pin after
        // invalidating it), and in this process `&mut self` excludes every other safe access;
        // payloads do not overlap anything else (geometry). A decoder that was handed the address
        // of this same slot is the caller's affair: it reserves a slot either for a decoder or
        // for this function. Sealed memory cannot be truncated, and the pages were populated.
        Some(unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), len) })
    }

    /// Ends the caller's hold. A published slot stays visible, and is recycled when it is neither
    /// among the newest `depth` nor pinned; an unpublished one is free at once.
    pub fn release(&mut self, slot: SlotId) {
        self.slots.release(slot.0);
    }

    /// Publishes a reserved slot, rings the bells of waiting clients, and returns the frame's
    /// number. `sequence` and `generation` of the descriptor are set here, `publish_ns` if it is
    /// 0. The hold stays until [`FrameWriter::release`]. A slot can be published once per
    /// reservation.
    pub fn publish(
        &mut self,
        slot: SlotId,
        descriptor: &FrameDescriptor,
    ) -> Result<u64, RingError> {
        let sequence = self.publish_stores_only(slot, descriptor)?;
        self.bells.ring();
        Ok(sequence)
    }

    /// As [`FrameWriter::publish`], but wakes nobody: for benches, and for publishing several
    /// frames with one [`FrameWriter::ring_bells`].
    #[inline]
    pub fn publish_stores_only(
        &mut self,
        slot: SlotId,
        descriptor: &FrameDescriptor,
    ) -> Result<u64, RingError> {
        descriptor
            .check(self.ring.geometry().slot_bytes)
            .map_err(RingError::Descriptor)?;
        let mut words = *descriptor;
        words.generation = self.generation;
        if words.publish_ns == 0 {
            words.publish_ns = crate::monotonic_ns();
        }
        self.slots
            .publish(&self.ring, slot.0, &words.to_words())
            .ok_or(RingError::NotReserved { slot: slot.0 })
    }

    /// Wakes every client that waits.
    pub fn ring_bells(&self) {
        self.bells.ring();
    }

    /// Ends the ring for its subscribers: they take what is still visible, then attach to its
    /// successor or learn that the camera is gone.
    pub fn close(&mut self, reason: CloseReason) {
        reason.mark(self.ring.state_word());
        self.bells.ring();
    }

    /// Slots that can be reserved right now.
    pub fn free_slots(&mut self) -> usize {
        self.slots.reclaim(&self.ring, &self.pins);
        self.slots.free()
    }
}

#[cfg(test)]
mod tests;
