//! The writer of a packet ring.
//!
//! Promises: the newest GOP stays readable as long as it fits in the capacity; a unit is never
//! seen in part; what was left out is said (discontinuity, incomplete GOP).
//!
//! Must never: be created while another writer of the same memory may still run.

use crate::bell::Bells;
use crate::error::RingError;
use crate::frames::CloseReason;
use crate::frames::writer::SubscriberPages;
use crate::layout::{MAX_SEQUENCE, MAX_UNIT_BYTES, RingState};
use crate::memory::{Mapping, SealedMemory};
use crate::packets::geometry::MappedPackets;
use crate::packets::protocol::{Log, Place};
use crate::packets::unit::{UnitDescriptor, UnitFlags};
use crate::sync::Ordering;

/// What became of an appended unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// In the ring, under this number.
    Stored {
        /// Its number.
        sequence: u64,
    },
    /// Left out: too large, or no memory for it. The next unit is flagged as a discontinuity, and
    /// every unit until the next key frame as part of an incomplete GOP.
    Skipped {
        /// Bytes of the unit.
        len: u64,
        /// Bytes that a unit can have here.
        limit: u64,
    },
}

/// The one writer of a packet ring. `Send`.
#[derive(Debug)]
pub struct PacketWriter {
    ring: MappedPackets,
    log: Log,
    bells: Bells,
    generation: u32,
    /// The data area is reserved up to here.
    populated: u64,
    discontinuity: bool,
    gop_incomplete: bool,
}

impl PacketWriter {
    /// Maps a ring and goes on where its last writer stopped. The units that are there stay
    /// readable; the next unit is flagged as a discontinuity if there ever was one. Rules and
    /// errors are those of [`crate::FrameWriter::resume`]; the subscribers' pin pages are not
    /// used.
    pub fn resume(
        memory: SealedMemory,
        subscribers: Vec<SubscriberPages>,
    ) -> Result<Self, RingError> {
        let ring = MappedPackets::new(Mapping::read_write(memory)?)?;
        ring.populate_index()?;
        let is_key = |entry: &[u64; crate::layout::UNIT_WORDS]| {
            UnitDescriptor::flags(entry).contains(UnitFlags::KEY)
        };
        let log = Log::resume(&ring, ring.geometry().capacity, is_key);
        ring.populate_data(0, log.wrap())?;
        let generation = ring
            .generation_word()
            .load(Ordering::Relaxed)
            .wrapping_add(1)
            .max(1);
        ring.generation_word().store(generation, Ordering::Relaxed);
        let resumed = log.next_sequence() > 1;
        let mut writer = Self {
            populated: log.wrap(),
            ring,
            log,
            bells: Bells::default(),
            generation,
            discontinuity: resumed,
            gop_incomplete: resumed,
        };
        for subscriber in subscribers {
            writer.add_subscriber(subscriber)?;
        }
        writer
            .ring
            .state_word()
            .store(RingState::Open as u32, Ordering::Release);
        Ok(writer)
    }

    /// Lets a subscriber be woken.
    pub fn add_subscriber(&mut self, subscriber: SubscriberPages) -> Result<(), RingError> {
        let SubscriberPages {
            id,
            pins: _,
            bell,
            notify,
        } = subscriber;
        if self.bells.contains(id) {
            return Err(RingError::Subscriber {
                id,
                reason: "is there already",
            });
        }
        self.bells.add(id, bell, notify)
    }

    /// Forgets a subscriber. `false`: there was none.
    pub fn remove_subscriber(&mut self, id: u64) -> bool {
        self.bells.remove(id)
    }

    /// Subscribers present.
    pub fn subscribers(&self) -> usize {
        self.bells.subscribers()
    }

    /// How many writers this ring has had.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Number that the next unit gets.
    pub fn next_sequence(&self) -> u64 {
        self.log.next_sequence()
    }

    /// Number that the broker gave the ring.
    pub fn ring_id(&self) -> u64 {
        self.ring.geometry().ring_id
    }

    /// Whether the newest GOP lacks a unit, so that decoding it from its key frame would show
    /// damage (or there is no key frame at all).
    pub fn gop_incomplete(&self) -> bool {
        self.gop_incomplete || !self.log.gop_is_whole()
    }

    /// Bytes of data area in use: 256 KiB, more as the newest GOP needed it.
    pub fn used_bytes(&self) -> u64 {
        self.log.wrap()
    }

    /// Appends a unit and wakes the clients that wait. `sequence`, `len` and `generation` of the
    /// descriptor are set here. An impossible descriptor or an empty unit is an error.
    pub fn append(
        &mut self,
        descriptor: &UnitDescriptor,
        bytes: &[u8],
    ) -> Result<Appended, RingError> {
        let len = bytes.len() as u64;
        let limit = u64::from(MAX_UNIT_BYTES).min(self.ring.geometry().capacity);
        let key = descriptor.flags.contains(UnitFlags::KEY);
        let mut entry = *descriptor;
        entry.generation = self.generation;
        entry.len = u32::try_from(len).unwrap_or(u32::MAX);
        if key {
            self.gop_incomplete = false;
        } else if !self.log.gop_is_whole() {
            self.gop_incomplete = true;
        }
        entry.flags = UnitFlags(entry.flags.0 & !UnitFlags::GOP_INCOMPLETE.0);
        if self.gop_incomplete {
            entry.flags |= UnitFlags::GOP_INCOMPLETE;
        }
        if self.discontinuity {
            entry.flags |= UnitFlags::DISCONTINUITY;
        }
        let words = entry.to_words().map_err(RingError::Descriptor)?;
        let place = if len == 0 || len > limit || self.log.next_sequence() >= MAX_SEQUENCE {
            None
        } else {
            self.find_place(len)
        };
        let sequence = place.and_then(|p| self.log.append(&self.ring, p, words, bytes, key));
        let Some(sequence) = sequence else {
            self.discontinuity = true;
            self.gop_incomplete = true;
            return Ok(Appended::Skipped { len, limit });
        };
        self.discontinuity = false;
        self.bells.ring();
        Ok(Appended::Stored { sequence })
    }

    /// A place whose memory is reserved.
    fn find_place(&mut self, len: u64) -> Option<Place> {
        let place = self.log.place(len, true)?;
        if place.wrap <= self.populated {
            return Some(place);
        }
        match self.ring.populate_data(self.populated, place.wrap) {
            Ok(()) => {
                self.populated = place.wrap;
                Some(place)
            }
            // No memory to grow into: make do with what there is.
            Err(_) => self.log.place(len, false),
        }
    }

    /// Ends the ring for its subscribers.
    pub fn close(self, reason: CloseReason) {
        reason.mark(self.ring.state_word());
        self.bells.ring();
    }
}

#[cfg(test)]
mod tests;
