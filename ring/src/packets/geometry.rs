//! Where everything lies in a packet ring, and the check of what a header claims.

use std::mem::{offset_of, size_of};

use crate::error::{FormatError, RingError};
use crate::layout::{
    INDEX_OFFSET, KNOWN_FEATURES, LAYOUT_VERSION, MAX_PACKET_BYTES, MAX_UNITS, PACKET_MAGIC, PAGE,
    PacketRingHeader, RingState, UNIT_WORDS, UnitEntry,
};
use crate::memory::{Mapping, SealedMemory};
use crate::packets::protocol::PacketWords;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Sound};

/// A packet ring to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRingSpec {
    /// Most bytes of access units, rounded up to pages. Sparse: the ring uses 256 KiB and grows to
    /// this only as the newest GOP needs it.
    pub capacity: u64,
    /// Most units, a power of two.
    pub units: u32,
    /// Tells this ring from others.
    pub ring_id: u64,
}

impl PacketRingSpec {
    /// Bytes of the memfd.
    pub fn file_size(&self) -> Result<u64, RingError> {
        Ok(PacketGeometry::new(self)?.file_bytes)
    }

    /// Creates the ring, state empty.
    pub fn create(&self) -> Result<SealedMemory, RingError> {
        let geometry = PacketGeometry::new(self)?;
        let memory = SealedMemory::create("camring-packets", geometry.file_bytes)?;
        let map = Mapping::read_write(memory.try_clone()?)?;
        map.populate(0, INDEX_OFFSET)?;
        let u64_field = |offset: usize, value: u64| {
            map.u64_at(offset).store(value, Ordering::Relaxed);
        };
        let u32_field = |offset: usize, value: u32| {
            map.u32_at(offset).store(value, Ordering::Relaxed);
        };
        u32_field(offset_of!(PacketRingHeader, version), LAYOUT_VERSION);
        u32_field(
            offset_of!(PacketRingHeader, header_bytes),
            INDEX_OFFSET as u32,
        );
        u64_field(offset_of!(PacketRingHeader, features), KNOWN_FEATURES);
        u64_field(offset_of!(PacketRingHeader, ring_id), self.ring_id);
        u64_field(
            offset_of!(PacketRingHeader, file_bytes),
            geometry.file_bytes,
        );
        u64_field(offset_of!(PacketRingHeader, capacity), geometry.capacity);
        u64_field(
            offset_of!(PacketRingHeader, data_offset),
            geometry.data_offset,
        );
        u32_field(offset_of!(PacketRingHeader, units), geometry.units);
        u32_field(
            offset_of!(PacketRingHeader, entry_bytes),
            size_of::<UnitEntry>() as u32,
        );
        u32_field(offset_of!(PacketRingHeader, state), RingState::Empty as u32);
        u64_field(offset_of!(PacketRingHeader, oldest), 1);
        u64_field(offset_of!(PacketRingHeader, next), 1);
        u64_field(offset_of!(PacketRingHeader, magic), PACKET_MAGIC);
        Ok(memory)
    }
}

/// A checked packet ring layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketGeometry {
    pub(crate) ring_id: u64,
    pub(crate) capacity: u64,
    pub(crate) units: u32,
    pub(crate) data_offset: u64,
    pub(crate) file_bytes: u64,
}

impl PacketGeometry {
    pub(crate) fn new(spec: &PacketRingSpec) -> Result<Self, RingError> {
        let PacketRingSpec {
            capacity,
            units,
            ring_id,
        } = *spec;
        if !units.is_power_of_two() || !(2..=MAX_UNITS).contains(&units) {
            return Err(RingError::Spec {
                field: "units",
                found: units.into(),
                limit: format!("a power of two from 2 to {MAX_UNITS}"),
            });
        }
        if capacity == 0 || capacity > MAX_PACKET_BYTES {
            return Err(RingError::Spec {
                field: "capacity",
                found: capacity,
                limit: format!("1 to {MAX_PACKET_BYTES} bytes are possible"),
            });
        }
        // Nothing below can overflow: the limits are far under 2^63.
        let capacity = capacity.next_multiple_of(PAGE);
        let index = u64::from(units) * size_of::<UnitEntry>() as u64;
        let data_offset = (INDEX_OFFSET as u64 + index).next_multiple_of(PAGE);
        Ok(Self {
            ring_id,
            capacity,
            units,
            data_offset,
            file_bytes: data_offset + capacity,
        })
    }

    /// Reads and checks the header of a mapped ring. Each word is read once.
    pub(crate) fn read(map: &Mapping) -> Result<Self, FormatError> {
        const WHAT: &str = "packet ring";
        let header = |field, found, expected: String| FormatError::Header {
            what: WHAT,
            field,
            found,
            expected,
        };
        if map.len() < INDEX_OFFSET {
            let expected = format!("at least {INDEX_OFFSET}");
            return Err(header("file length", map.len() as u64, expected));
        }
        let u64_field = |offset: usize| map.u64_at(offset).load(Ordering::Relaxed);
        let u32_field = |offset: usize| map.u32_at(offset).load(Ordering::Relaxed);
        let magic = u64_field(offset_of!(PacketRingHeader, magic));
        if magic != PACKET_MAGIC {
            return Err(FormatError::Magic {
                expected: WHAT,
                found: magic,
            });
        }
        let version = u32_field(offset_of!(PacketRingHeader, version));
        if version != LAYOUT_VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                found: version,
                known: LAYOUT_VERSION,
            });
        }
        let unknown = u64_field(offset_of!(PacketRingHeader, features)) & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(FormatError::Features {
                what: WHAT,
                unknown,
            });
        }
        let spec = PacketRingSpec {
            capacity: u64_field(offset_of!(PacketRingHeader, capacity)),
            units: u32_field(offset_of!(PacketRingHeader, units)),
            ring_id: u64_field(offset_of!(PacketRingHeader, ring_id)),
        };
        let geometry = Self::new(&spec).map_err(|e| match e {
            RingError::Spec {
                field,
                found,
                limit,
            } => header(field, found, limit),
            _ => header("spec", 0, "a possible ring".to_owned()),
        })?;
        for (field, found, expected) in [
            ("capacity", spec.capacity, geometry.capacity),
            (
                "header_bytes",
                u64::from(u32_field(offset_of!(PacketRingHeader, header_bytes))),
                INDEX_OFFSET as u64,
            ),
            (
                "entry_bytes",
                u64::from(u32_field(offset_of!(PacketRingHeader, entry_bytes))),
                size_of::<UnitEntry>() as u64,
            ),
            (
                "data_offset",
                u64_field(offset_of!(PacketRingHeader, data_offset)),
                geometry.data_offset,
            ),
            (
                "file_bytes",
                u64_field(offset_of!(PacketRingHeader, file_bytes)),
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

/// A mapped packet ring whose header has been checked.
#[derive(Debug)]
pub(crate) struct MappedPackets {
    map: Mapping,
    geometry: PacketGeometry,
}

impl MappedPackets {
    pub(crate) fn new(map: Mapping) -> Result<Self, FormatError> {
        let geometry = PacketGeometry::read(&map)?;
        Ok(Self { map, geometry })
    }

    pub(crate) fn geometry(&self) -> &PacketGeometry {
        &self.geometry
    }

    pub(crate) fn state_word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(PacketRingHeader, state))
    }

    pub(crate) fn state(&self) -> RingState {
        RingState::from_u32(self.state_word().load(Ordering::Acquire))
    }

    pub(crate) fn generation_word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(PacketRingHeader, generation))
    }

    /// Reserves the memory of the index. Only on a writable mapping.
    pub(crate) fn populate_index(&self) -> Result<(), crate::memory::MemoryError> {
        self.map.populate(0, self.geometry.data_offset as usize)
    }

    /// Reserves the memory of a part of the data area. Only on a writable mapping.
    pub(crate) fn populate_data(
        &self,
        from: u64,
        to: u64,
    ) -> Result<(), crate::memory::MemoryError> {
        let start = self.geometry.data_offset + from;
        self.map
            .populate(start as usize, to.saturating_sub(from) as usize)
    }
}

impl PacketWords for MappedPackets {
    type Rules = Sound;

    #[inline]
    fn oldest(&self) -> &AtomicU64 {
        self.map.u64_at(offset_of!(PacketRingHeader, oldest))
    }

    #[inline]
    fn next(&self) -> &AtomicU64 {
        self.map.u64_at(offset_of!(PacketRingHeader, next))
    }

    #[inline]
    fn newest_key(&self) -> &AtomicU64 {
        self.map.u64_at(offset_of!(PacketRingHeader, newest_key))
    }

    #[inline]
    fn units(&self) -> u64 {
        u64::from(self.geometry.units)
    }

    #[inline]
    fn entry(&self, sequence: u64) -> &[AtomicU64] {
        let index = (sequence & (u64::from(self.geometry.units) - 1)) as usize;
        self.map
            .words_at(INDEX_OFFSET + index * size_of::<UnitEntry>(), UNIT_WORDS)
    }

    #[inline]
    fn data(&self, offset: u64, len: u64) -> Option<&[AtomicU64]> {
        let padded = len.checked_next_multiple_of(8)?;
        let end = offset.checked_add(padded)?;
        if !offset.is_multiple_of(8) || end > self.geometry.capacity {
            return None;
        }
        let start = (self.geometry.data_offset + offset) as usize;
        Some(self.map.words_at(start, (padded / 8) as usize))
    }
}
