//! Reading a packet ring: copy, then verify.

use std::sync::Arc;

use crate::error::{BadDescriptor, RingError};
use crate::layout::{MAX_UNIT_BYTES, RingState};
use crate::memory::{Mapping, SealedMemory};
use crate::packets::geometry::MappedPackets;
use crate::packets::protocol::{self, PacketWords, Read};
use crate::packets::unit::UnitDescriptor;

/// Reads units out of a packet ring by copying them. `Send` and `Sync`; needs no connection, so
/// that a process can read the ring it writes.
#[derive(Debug)]
pub struct PacketReader {
    ring: Arc<MappedPackets>,
    position: u64,
    missed: u64,
}

impl PacketReader {
    /// Maps a ring read-only, positioned after its newest unit.
    pub fn new(memory: &SealedMemory) -> Result<Self, RingError> {
        let ring = Arc::new(MappedPackets::new(Mapping::read_only(memory)?)?);
        let (_, next) = protocol::bounds(&*ring);
        Ok(Self {
            ring,
            position: next,
            missed: 0,
        })
    }

    /// The next unit in order, its bytes in `bytes` (whose former content is gone). `None`: none
    /// yet. When units were overwritten before they were read it goes on with the oldest there
    /// is, and [`PacketReader::missed`] says how many.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<UnitDescriptor>, RingError> {
        self.missed = 0;
        // Each round but the last means that the writer lapped us while we copied; a writer that
        // does so for ever is not followed for ever.
        for _ in 0..8 {
            match self.fetch(self.position, bytes) {
                Read::Unit(unit) => {
                    let sequence = self.position;
                    self.position += 1;
                    return match unit {
                        Ok(unit) => Ok(Some(unit)),
                        Err(reason) => Err(RingError::BadFrame { sequence, reason }),
                    };
                }
                Read::NotYet => break,
                Read::Gone => {
                    let (oldest, next) = protocol::bounds(&*self.ring);
                    let to = oldest.min(next).max(self.position + 1);
                    self.missed += to - self.position;
                    self.position = to;
                }
            }
        }
        bytes.clear();
        Ok(None)
    }

    /// Goes to the newest key frame that is still there and returns its number; `None`: there is
    /// none, the position stays.
    pub fn seek_newest_key(&mut self) -> Option<u64> {
        let key = self.newest_key()?;
        self.position = key;
        Some(key)
    }

    /// [`PacketReader::seek_newest_key`], then [`PacketReader::next`].
    pub fn from_newest_key(
        &mut self,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<UnitDescriptor>, RingError> {
        match self.seek_newest_key() {
            Some(_) => self.next(bytes),
            None => Ok(None),
        }
    }

    /// One unit by number, whatever the position. `None`: not there yet, or not any more.
    pub fn read(
        &self,
        sequence: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<UnitDescriptor>, RingError> {
        match self.fetch(sequence, bytes) {
            Read::Unit(Ok(unit)) => Ok(Some(unit)),
            Read::Unit(Err(reason)) => Err(RingError::BadFrame { sequence, reason }),
            Read::NotYet | Read::Gone => {
                bytes.clear();
                Ok(None)
            }
        }
    }

    /// How many units were overwritten before the last [`PacketReader::next`] could read them.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Number of the unit that [`PacketReader::next`] looks for.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Sets the number that [`PacketReader::next`] looks for.
    pub fn seek(&mut self, sequence: u64) {
        self.position = sequence;
    }

    /// Numbers of the units there are now.
    pub fn available(&self) -> std::ops::Range<u64> {
        let (oldest, next) = protocol::bounds(&*self.ring);
        oldest.min(next)..next
    }

    /// Number of the newest key frame that is still there.
    pub fn newest_key(&self) -> Option<u64> {
        protocol::newest_key(&*self.ring)
    }

    /// How many writers the ring has had.
    pub fn generation(&self) -> u32 {
        self.ring
            .generation_word()
            .load(crate::sync::Ordering::Relaxed)
    }

    /// Number that the broker gave the ring.
    pub fn ring_id(&self) -> u64 {
        self.ring.geometry().ring_id
    }

    pub(crate) fn ring(&self) -> &Arc<MappedPackets> {
        &self.ring
    }

    pub(crate) fn state(&self) -> RingState {
        self.ring.state()
    }

    /// Copies a unit out. The entry is checked before anything is read or allocated by it.
    fn fetch(
        &self,
        sequence: u64,
        bytes: &mut Vec<u8>,
    ) -> Read<Result<UnitDescriptor, BadDescriptor>> {
        protocol::read(&*self.ring, sequence, |entry| {
            let (offset, len) = (protocol::entry_offset(entry), protocol::entry_len(entry));
            let words = self
                .ring
                .data(offset, len)
                .filter(|_| entry[0] == sequence && (1..=u64::from(MAX_UNIT_BYTES)).contains(&len))
                .ok_or(BadDescriptor::Entry {
                    sequence,
                    offset,
                    len,
                    capacity: self.ring.geometry().capacity,
                })?;
            // Not cleared first: only growth costs zeroing.
            bytes.resize(words.len() * 8, 0);
            protocol::load_words(words, bytes);
            bytes.truncate(len as usize);
            UnitDescriptor::from_words(entry)
        })
    }
}
