//! The protocol's words in mapped memory, and the payloads beside them.

use std::mem::{offset_of, size_of};
use std::ptr::NonNull;

use crate::error::FormatError;
use crate::frames::geometry::FrameGeometry;
use crate::frames::protocol::FrameWords;
use crate::layout::{DESCRIPTOR_WORDS, FrameRingHeader, ORDER_OFFSET, RingState, SlotHeader};
use crate::memory::Mapping;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Sound};

/// A mapped frame ring whose header has been checked.
#[derive(Debug)]
pub(crate) struct MappedFrames {
    map: Mapping,
    geometry: FrameGeometry,
}

impl MappedFrames {
    pub(crate) fn new(map: Mapping) -> Result<Self, FormatError> {
        let geometry = FrameGeometry::read(&map)?;
        Ok(Self { map, geometry })
    }

    pub(crate) fn geometry(&self) -> &FrameGeometry {
        &self.geometry
    }

    pub(crate) fn state_word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(FrameRingHeader, state))
    }

    pub(crate) fn state(&self) -> RingState {
        RingState::from_u32(self.state_word().load(Ordering::Acquire))
    }

    pub(crate) fn generation_word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(FrameRingHeader, generation))
    }

    /// Address and length of a slot's payload; `None`: no such slot.
    #[inline]
    pub(crate) fn payload(&self, slot: u8) -> Option<(NonNull<u8>, usize)> {
        if u32::from(slot) >= self.geometry.slots {
            return None;
        }
        let len = self.geometry.slot_bytes as usize;
        Some((self.map.address(self.payload_offset(slot), len)?, len))
    }

    /// Reserves the memory of a slot's payload. Only on a writable mapping.
    pub(crate) fn populate(&self, slot: u8) -> Result<(), crate::memory::MemoryError> {
        self.map.populate(
            self.payload_offset(slot),
            self.geometry.payload_stride as usize,
        )
    }

    fn payload_offset(&self, slot: u8) -> usize {
        (self.geometry.payload_offset + u64::from(slot) * self.geometry.payload_stride) as usize
    }

    #[inline]
    fn slot_offset(&self, slot: usize) -> usize {
        self.geometry.slots_offset as usize + slot * size_of::<SlotHeader>()
    }
}

impl FrameWords for MappedFrames {
    type Rules = Sound;

    #[inline]
    fn slots(&self) -> usize {
        self.geometry.slots as usize
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        self.map.u64_at(offset_of!(FrameRingHeader, head))
    }

    #[inline]
    fn order(&self) -> &[AtomicU64] {
        self.map
            .words_at(ORDER_OFFSET, self.geometry.order_len as usize)
    }

    #[inline]
    fn sequence(&self, slot: usize) -> &AtomicU64 {
        self.map
            .u64_at(self.slot_offset(slot) + offset_of!(SlotHeader, sequence))
    }

    #[inline]
    fn descriptor(&self, slot: usize) -> &[AtomicU64] {
        self.map
            .words_at(self.slot_offset(slot) + 8, DESCRIPTOR_WORDS)
    }
}
