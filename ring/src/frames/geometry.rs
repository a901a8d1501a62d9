//! Where everything lies in a frame ring: computed from three numbers, and believed from a header
//! only when it says exactly the same.

use crate::error::{FormatError, RingError};
use crate::layout::{
    FRAME_MAGIC, FrameRingHeader, KNOWN_FEATURES, LAYOUT_VERSION, LINE_PAIR, MAX_SEQUENCE,
    MAX_SLOT_BYTES, MAX_SLOTS, ORDER_OFFSET, PAGE, RingState, SlotHeader,
};
use crate::memory::{Mapping, SealedMemory};
use crate::sync::Ordering;
use std::mem::{offset_of, size_of};

/// A frame ring to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRingSpec {
    /// Frames that stay visible, at least 1; 2 is a double buffer.
    pub depth: u32,
    /// Slots: depth + 1 + those that the decoder keeps + the pins of all subscribers. More than
    /// `depth`, at most 255.
    pub slots: u32,
    /// Bytes of one picture.
    pub slot_bytes: u64,
    /// Tells this ring from its predecessors and successors.
    pub ring_id: u64,
    /// Number of the first frame, at least 1: goes on where the replaced ring ended.
    pub first_sequence: u64,
}

impl FrameRingSpec {
    /// Bytes of the memfd, to be budgeted in full: reading a hole through a read-only mapping
    /// allocates it.
    pub fn file_size(&self) -> Result<u64, RingError> {
        Ok(FrameGeometry::new(self)?.file_bytes)
    }

    /// Creates the ring, state empty. Sparse: slots are reserved when they are first used.
    pub fn create(&self) -> Result<SealedMemory, RingError> {
        let geometry = FrameGeometry::new(self)?;
        let memory = SealedMemory::create("camring-frames", geometry.file_bytes)?;
        let map = Mapping::read_write(memory.try_clone()?)?;
        map.populate(0, geometry.payload_offset as usize)?;
        let u64_field = |offset: usize, value: u64| {
            map.u64_at(offset).store(value, Ordering::Relaxed);
        };
        let u32_field = |offset: usize, value: u32| {
            map.u32_at(offset).store(value, Ordering::Relaxed);
        };
        u32_field(offset_of!(FrameRingHeader, version), LAYOUT_VERSION);
        u32_field(
            offset_of!(FrameRingHeader, header_bytes),
            ORDER_OFFSET as u32,
        );
        u64_field(offset_of!(FrameRingHeader, features), KNOWN_FEATURES);
        u64_field(offset_of!(FrameRingHeader, ring_id), self.ring_id);
        u64_field(offset_of!(FrameRingHeader, file_bytes), geometry.file_bytes);
        u64_field(
            offset_of!(FrameRingHeader, first_sequence),
            geometry.first_sequence,
        );
        u64_field(offset_of!(FrameRingHeader, slot_bytes), geometry.slot_bytes);
        u64_field(
            offset_of!(FrameRingHeader, slots_offset),
            geometry.slots_offset,
        );
        u64_field(
            offset_of!(FrameRingHeader, payload_offset),
            geometry.payload_offset,
        );
        u64_field(
            offset_of!(FrameRingHeader, payload_stride),
            geometry.payload_stride,
        );
        u32_field(offset_of!(FrameRingHeader, depth), geometry.depth);
        u32_field(offset_of!(FrameRingHeader, slots), geometry.slots);
        u32_field(offset_of!(FrameRingHeader, order_len), geometry.order_len);
        u32_field(
            offset_of!(FrameRingHeader, slot_header_bytes),
            size_of::<SlotHeader>() as u32,
        );
        u32_field(offset_of!(FrameRingHeader, state), RingState::Empty as u32);
        u64_field(offset_of!(FrameRingHeader, magic), FRAME_MAGIC);
        Ok(memory)
    }
}

/// A checked frame ring layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameGeometry {
    pub(crate) ring_id: u64,
    pub(crate) first_sequence: u64,
    pub(crate) depth: u32,
    pub(crate) slots: u32,
    pub(crate) order_len: u32,
    pub(crate) slot_bytes: u64,
    pub(crate) slots_offset: u64,
    pub(crate) payload_offset: u64,
    pub(crate) payload_stride: u64,
    pub(crate) file_bytes: u64,
}

impl FrameGeometry {
    pub(crate) fn new(spec: &FrameRingSpec) -> Result<Self, RingError> {
        let bad = |field, found, limit: String| {
            Err(RingError::Spec {
                field,
                found,
                limit,
            })
        };
        let FrameRingSpec {
            depth,
            slots,
            slot_bytes,
            ring_id,
            first_sequence,
        } = *spec;
        if !(2..=MAX_SLOTS).contains(&slots) {
            return bad(
                "slots",
                slots.into(),
                format!("2 to {MAX_SLOTS} are possible"),
            );
        }
        if depth == 0 || depth >= slots {
            return bad(
                "depth",
                depth.into(),
                format!("1 to slots - 1 = {}", slots - 1),
            );
        }
        if slot_bytes == 0 || slot_bytes > MAX_SLOT_BYTES {
            return bad(
                "slot_bytes",
                slot_bytes,
                format!("1 to {MAX_SLOT_BYTES} are possible"),
            );
        }
        if first_sequence == 0 || first_sequence > MAX_SEQUENCE / 2 {
            return bad(
                "first_sequence",
                first_sequence,
                format!("1 to {}", MAX_SEQUENCE / 2),
            );
        }
        // Nothing below can overflow: 255 slots of 2 GiB are 2^39 bytes.
        let order_len = depth.next_power_of_two();
        let slots_offset =
            (ORDER_OFFSET as u64 + u64::from(order_len) * 8).next_multiple_of(LINE_PAIR as u64);
        let headers = u64::from(slots) * size_of::<SlotHeader>() as u64;
        let payload_offset = (slots_offset + headers).next_multiple_of(PAGE);
        let payload_stride = slot_bytes.next_multiple_of(PAGE);
        Ok(Self {
            ring_id,
            first_sequence,
            depth,
            slots,
            order_len,
            slot_bytes,
            slots_offset,
            payload_offset,
            payload_stride,
            file_bytes: payload_offset + u64::from(slots) * payload_stride,
        })
    }

    /// Reads and checks the header of a mapped ring. Each word is read once.
    pub(crate) fn read(map: &Mapping) -> Result<Self, FormatError> {
        const WHAT: &str = "frame ring";
        let header = |field, found, expected: String| FormatError::Header {
            what: WHAT,
            field,
            found,
            expected,
        };
        if map.len() < ORDER_OFFSET {
            let expected = format!("at least {ORDER_OFFSET}");
            return Err(header("file length", map.len() as u64, expected));
        }
        let u64_field = |offset: usize| map.u64_at(offset).load(Ordering::Relaxed);
        let u32_field = |offset: usize| map.u32_at(offset).load(Ordering::Relaxed);
        let magic = u64_field(offset_of!(FrameRingHeader, magic));
        if magic != FRAME_MAGIC {
            return Err(FormatError::Magic {
                expected: WHAT,
                found: magic,
            });
        }
        let version = u32_field(offset_of!(FrameRingHeader, version));
        if version != LAYOUT_VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                found: version,
                known: LAYOUT_VERSION,
            });
        }
        let unknown = u64_field(offset_of!(FrameRingHeader, features)) & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(FormatError::Features {
                what: WHAT,
                unknown,
            });
        }
        let spec = FrameRingSpec {
            depth: u32_field(offset_of!(FrameRingHeader, depth)),
            slots: u32_field(offset_of!(FrameRingHeader, slots)),
            slot_bytes: u64_field(offset_of!(FrameRingHeader, slot_bytes)),
            ring_id: u64_field(offset_of!(FrameRingHeader, ring_id)),
            first_sequence: u64_field(offset_of!(FrameRingHeader, first_sequence)),
        };
        let geometry = Self::new(&spec).map_err(|e| match e {
            RingError::Spec {
                field,
                found,
                limit,
            } => header(field, found, limit),
            _ => header("spec", 0, "a possible ring".to_owned()),
        })?;
        // The offsets follow from the numbers; a header that says otherwise is refused, so that
        // no part of a ring can be made to overlap another.
        for (field, found, expected) in [
            (
                "header_bytes",
                u64::from(u32_field(offset_of!(FrameRingHeader, header_bytes))),
                ORDER_OFFSET as u64,
            ),
            (
                "slot_header_bytes",
                u64::from(u32_field(offset_of!(FrameRingHeader, slot_header_bytes))),
                size_of::<SlotHeader>() as u64,
            ),
            (
                "order_len",
                u64::from(u32_field(offset_of!(FrameRingHeader, order_len))),
                u64::from(geometry.order_len),
            ),
            (
                "slots_offset",
                u64_field(offset_of!(FrameRingHeader, slots_offset)),
                geometry.slots_offset,
            ),
            (
                "payload_offset",
                u64_field(offset_of!(FrameRingHeader, payload_offset)),
                geometry.payload_offset,
            ),
            (
                "payload_stride",
                u64_field(offset_of!(FrameRingHeader, payload_stride)),
                geometry.payload_stride,
            ),
            (
                "file_bytes",
                u64_field(offset_of!(FrameRingHeader, file_bytes)),
                geometry.file_bytes,
            ),
            ("file length", map.len() as u64, geometry.file_bytes),
        ] {
            if found != expected {
                return Err(header(field, found, expected.to_string()));
            }
        }
        Ok(geometry)
    }
}
