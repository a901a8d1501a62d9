//! Ending a ring whose writer is gone: the broker's part of what a living writer does itself.

use std::mem::offset_of;

use crate::error::RingError;
use crate::frames::CloseReason;
use crate::frames::words::MappedFrames;
use crate::layout::{FrameRingHeader, PacketRingHeader, RingState};
use crate::memory::{Mapping, SealedMemory};
use crate::packets::geometry::MappedPackets;
use crate::sync::{AtomicU32, Ordering};

const _: () = assert!(offset_of!(FrameRingHeader, state) == offset_of!(PacketRingHeader, state));

impl CloseReason {
    /// Stores the reason as a ring's state.
    pub(crate) fn mark(self, state: &AtomicU32) {
        let reason = match self {
            Self::Replaced => RingState::Replaced,
            Self::Removed => RingState::Removed,
        };
        // SYNC: pairs with the Acquire in `MappedFrames::state` and `MappedPackets::state`:
        // whoever sees the end sees what was published before it.
        state.store(reason as u32, Ordering::Release);
    }
}

/// Marks a frame or packet ring as ended, when there is no writer to do it ([`crate::FrameWriter::close`]):
/// it died for good, or it cannot be killed and its ring is given up. Then ring the bells of its
/// subscribers' clients ([`crate::Bell::ring`]). `memory` must be the writable descriptor.
pub fn close_ring(memory: &SealedMemory, reason: CloseReason) -> Result<(), RingError> {
    let as_frames = MappedFrames::new(Mapping::read_write(memory.try_clone()?)?);
    match as_frames {
        Ok(ring) => reason.mark(ring.state_word()),
        Err(not_frames) => match MappedPackets::new(Mapping::read_write(memory.try_clone()?)?) {
            Ok(ring) => reason.mark(ring.state_word()),
            Err(_) => return Err(not_frames.into()),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameRingSpec, FrameWriter, PacketReader, PacketRingSpec};

    #[test]
    fn either_kind_of_ring_can_be_ended() {
        let spec = FrameRingSpec {
            depth: 2,
            slots: 4,
            slot_bytes: 100,
            ring_id: 1,
            first_sequence: 1,
        };
        let frames = spec.create().unwrap();
        let ring = MappedFrames::new(Mapping::read_only(&frames).unwrap()).unwrap();
        assert_eq!(ring.state(), RingState::Empty);
        drop(FrameWriter::resume(frames.try_clone().unwrap(), Vec::new()).unwrap());
        assert_eq!(ring.state(), RingState::Open);
        close_ring(&frames, CloseReason::Removed).unwrap();
        assert_eq!(ring.state(), RingState::Removed);

        let spec = PacketRingSpec {
            capacity: 4096,
            units: 4,
            ring_id: 1,
        };
        let packets = spec.create().unwrap();
        let reader = PacketReader::new(&packets).unwrap();
        close_ring(&packets, CloseReason::Replaced).unwrap();
        assert_eq!(reader.state(), RingState::Replaced);

        let other = SealedMemory::create("camring-test", 4096).unwrap();
        assert!(close_ring(&other, CloseReason::Removed).is_err());
    }
}
