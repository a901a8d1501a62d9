//! The bytes in shared memory: frame ring, packet ring, pin page, bell page.
//!
//! Promises: `repr(C)`, little endian, offsets asserted at compile time and held equal to the
//! tables of `docs/reference/ring-format.md` by a test. Alignment is 64 or 128 bytes as written,
//! never taken from the architecture: both sides of a ring may be built by different compilers.
//!
//! The structures are never instantiated over shared memory. They only give the offsets; access
//! goes word by word through atomics. What is found in memory is an allegation: it is copied out
//! once and checked by the `geometry` modules before it is used.

use std::mem::{align_of, offset_of, size_of};

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "camring-ring needs a 64-bit little-endian target: slots carry 64-bit words in place"
);

/// `b"CAMRINGF"`, first word of a frame ring.
pub const FRAME_MAGIC: u64 = u64::from_le_bytes(*b"CAMRINGF");
/// `b"CAMRINGP"`, first word of a packet ring.
pub const PACKET_MAGIC: u64 = u64::from_le_bytes(*b"CAMRINGP");
/// `b"CAMRPINS"`, first word of a pin page.
pub const PIN_MAGIC: u64 = u64::from_le_bytes(*b"CAMRPINS");
/// `b"CAMRBELL"`, first word of a bell page.
pub const BELL_MAGIC: u64 = u64::from_le_bytes(*b"CAMRBELL");

/// Version of all four layouts. A reader refuses any other.
pub const LAYOUT_VERSION: u32 = 1;
/// Feature bits that this crate knows. A reader refuses a ring with any other bit.
pub const KNOWN_FEATURES: u64 = 0;

/// Alignment of what different cores write: two lines, since the adjacent one is prefetched.
pub const LINE_PAIR: usize = 128;
/// Alignment of a slot's payload and of the data area.
pub const PAGE: u64 = 4096;
/// Most slots a ring can have: a slot index takes 8 bits of an order word, and a pin word is
/// slot + 1.
pub const MAX_SLOTS: u32 = 255;
/// Highest sequence number: 56 bits, beside the slot index in one word. At 1,000 frames a second
/// it lasts two million years.
pub const MAX_SEQUENCE: u64 = (1 << 56) - 1;
/// Most bytes of one slot.
pub const MAX_SLOT_BYTES: u64 = 2 << 30;
/// Most bytes of one access unit; a longer one is skipped.
pub const MAX_UNIT_BYTES: u32 = 64 << 20;
/// Most index entries of a packet ring.
pub const MAX_UNITS: u32 = 1 << 20;
/// Most data bytes of a packet ring.
pub const MAX_PACKET_BYTES: u64 = 64 << 30;
/// Most pins of one subscriber on one ring.
pub const MAX_PINS: u32 = 64;

/// Start of a frame ring. `order` follows at [`ORDER_OFFSET`], then the slot headers (aligned to
/// 128), then the payloads (each aligned to 4096).
#[repr(C, align(128))]
#[derive(Debug)]
pub struct FrameRingHeader {
    /// [`FRAME_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// Size of this structure.
    pub header_bytes: u32,
    /// Feature bits.
    pub features: u64,
    /// Chosen by the broker; changes when the ring is replaced.
    pub ring_id: u64,
    /// Size of the memfd.
    pub file_bytes: u64,
    /// First sequence number of this ring.
    pub first_sequence: u64,
    /// Bytes of one slot's payload that may be used.
    pub slot_bytes: u64,
    /// Offset of slot header 0.
    pub slots_offset: u64,
    /// Offset of payload 0.
    pub payload_offset: u64,
    /// Distance between payloads.
    pub payload_stride: u64,
    /// Frames that stay visible.
    pub depth: u32,
    /// Number of slots.
    pub slots: u32,
    /// Number of order words: a power of two, at least `depth`.
    pub order_len: u32,
    /// Distance between slot headers.
    pub slot_header_bytes: u32,
    reserved0: [u8; 32],
    /// [`RingState`].
    pub state: u32,
    /// How many writers have had this ring.
    pub generation: u32,
    reserved1: [u8; 120],
    /// Newest frame: `sequence << 8 | slot`, 0 = none.
    pub head: u64,
    reserved2: [u8; 120],
}

/// Offset of `order[0]` in a frame ring.
pub const ORDER_OFFSET: usize = size_of::<FrameRingHeader>();

/// One slot's header: its sequence number (0 = not valid), then the descriptor.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct SlotHeader {
    /// 0 = not valid.
    pub sequence: u64,
    /// Writer that published it.
    pub generation: u32,
    /// [`crate::FrameFlags`].
    pub flags: u32,
    /// Presentation time in units of the time base.
    pub pts: i64,
    /// Seconds per unit of `pts`, numerator.
    pub time_base_num: u32,
    /// Seconds per unit of `pts`, denominator.
    pub time_base_den: u32,
    /// UTC, ns since the Unix epoch.
    pub capture_time_ns: i64,
    /// `CLOCK_MONOTONIC`, ns.
    pub arrival_ns: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub publish_ns: u64,
    /// Sequence number of the unit in the packet ring that it was decoded from.
    pub access_unit: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// [`crate::PixelFormat`].
    pub pixel_format: u32,
    /// Degrees clockwise to turn the picture for display.
    pub rotation: u16,
    /// [`crate::ColorRange`].
    pub color_range: u8,
    /// ITU-T H.273 MatrixCoefficients.
    pub matrix: u8,
    /// Bytes from the start of the payload.
    pub plane_offset: [u64; 4],
    /// Bytes from row to row.
    pub plane_stride: [u32; 4],
}

/// Words of a slot header after `sequence`.
pub const DESCRIPTOR_WORDS: usize = size_of::<SlotHeader>() / 8 - 1;

/// Start of a packet ring. The index follows at [`INDEX_OFFSET`], then the data (aligned to
/// 4096).
#[repr(C, align(128))]
#[derive(Debug)]
pub struct PacketRingHeader {
    /// [`PACKET_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// Size of this structure.
    pub header_bytes: u32,
    /// Feature bits.
    pub features: u64,
    /// Chosen by the broker.
    pub ring_id: u64,
    /// Size of the memfd.
    pub file_bytes: u64,
    /// Bytes of the data area (sparse: most of it may never be used).
    pub capacity: u64,
    /// Offset of the data area.
    pub data_offset: u64,
    /// Number of index entries, a power of two.
    pub units: u32,
    /// Distance between index entries.
    pub entry_bytes: u32,
    reserved0: [u8; 64],
    /// [`RingState`].
    pub state: u32,
    /// How many writers have had this ring.
    pub generation: u32,
    reserved1: [u8; 120],
    /// Oldest unit that can be read.
    pub oldest: u64,
    /// One past the newest unit. The first unit is 1.
    pub next: u64,
    /// Newest unit that is a key frame, 0 = none.
    pub newest_key: u64,
    reserved2: [u8; 104],
}

/// Offset of index entry 0 in a packet ring.
pub const INDEX_OFFSET: usize = size_of::<PacketRingHeader>();

/// One entry of the packet ring's index.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct UnitEntry {
    /// Sequence number of the unit.
    pub sequence: u64,
    /// Offset in the data area, a multiple of 8.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// [`crate::Codec`] in the low 8 bits; above them how much later than decoded the unit is shown,
    /// `pts − dts`, at most 2²⁴ − 1.
    pub codec_and_delay: u32,
    /// Presentation time in units of 1/`time_base_den` s.
    pub pts: i64,
    /// UTC, ns since the Unix epoch.
    pub capture_time_ns: i64,
    /// `CLOCK_MONOTONIC`, ns.
    pub arrival_ns: u64,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Writer that appended it.
    pub generation: u32,
    /// Units of `pts` per second.
    pub time_base_den: u32,
    /// [`crate::UnitFlags`].
    pub flags: u32,
}

/// Words of an index entry.
pub const UNIT_WORDS: usize = size_of::<UnitEntry>() / 8;

/// Start of a pin page. The pin words follow at [`PINS_OFFSET`], as many as the *sealed length*
/// of the page has room for: the subscriber can write everything in the page, its length it
/// cannot change.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PinPageHeader {
    /// [`PIN_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// Number of pin words, for the reader of a dump: nobody trusts it.
    pub pins: u32,
    reserved0: [u8; 48],
}

/// Offset of pin word 0: 0 = none, else slot + 1.
pub const PINS_OFFSET: usize = size_of::<PinPageHeader>();

/// A bell page: one per client, shared by all its rings.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct BellPageLayout {
    /// [`BELL_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    reserved0: [u8; 116],
    /// Rises with every publication: the futex word.
    pub bell: u32,
    /// Threads of the client that wait.
    pub waiting: u32,
    reserved1: [u8; 120],
}

/// State word of a ring.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingState {
    /// Created, no writer yet.
    Empty = 0,
    /// A writer has it (or had it, and will be followed by another).
    Open = 1,
    /// Replaced by another ring: attach again.
    Replaced = 2,
    /// Its camera is gone.
    Removed = 3,
}

impl RingState {
    /// An unknown value counts as [`RingState::Open`]: it closes nothing.
    pub(crate) fn from_u32(value: u32) -> Self {
        match value {
            0 => Self::Empty,
            2 => Self::Replaced,
            3 => Self::Removed,
            _ => Self::Open,
        }
    }
}

macro_rules! offsets {
    ($structure:ty, size $size:literal, align $align:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$structure>() == $size);
            assert!(align_of::<$structure>() == $align);
            $(assert!(offset_of!($structure, $field) == $offset);)*
        };
    };
}

offsets!(FrameRingHeader, size 384, align 128, {
    magic: 0, version: 8, header_bytes: 12, features: 16, ring_id: 24, file_bytes: 32,
    first_sequence: 40, slot_bytes: 48, slots_offset: 56, payload_offset: 64, payload_stride: 72,
    depth: 80, slots: 84, order_len: 88, slot_header_bytes: 92, state: 128, generation: 132,
    head: 256,
});
offsets!(SlotHeader, size 128, align 128, {
    sequence: 0, generation: 8, flags: 12, pts: 16, time_base_num: 24, time_base_den: 28,
    capture_time_ns: 32, arrival_ns: 40, publish_ns: 48, access_unit: 56, width: 64, height: 68,
    pixel_format: 72, rotation: 76, color_range: 78, matrix: 79, plane_offset: 80,
    plane_stride: 112,
});
offsets!(PacketRingHeader, size 384, align 128, {
    magic: 0, version: 8, header_bytes: 12, features: 16, ring_id: 24, file_bytes: 32,
    capacity: 40, data_offset: 48, units: 56, entry_bytes: 60, state: 128, generation: 132,
    oldest: 256, next: 264, newest_key: 272,
});
offsets!(UnitEntry, size 64, align 64, {
    sequence: 0, offset: 8, len: 16, codec_and_delay: 20, pts: 24, capture_time_ns: 32, arrival_ns: 40,
    width: 48, height: 50, generation: 52, time_base_den: 56, flags: 60,
});
offsets!(PinPageHeader, size 64, align 64, { magic: 0, version: 8, pins: 12 });
offsets!(BellPageLayout, size 256, align 128, { magic: 0, version: 8, bell: 128, waiting: 132 });

#[cfg(all(test, not(loom)))]
mod tests;
