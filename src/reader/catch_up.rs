//! Starting in the middle of a group of pictures: from its key frame in the packet ring to what
//! the camera sends now; or going on after it, where only the key frame was decoded.
//!
//! Promises: units come in order, and none is left out unseen; a ring that went on without us ends
//! it, and is not waited for.
//! Must never: decode (the pipeline does), or hand out a unit of a former RTSP session.

use bytes::Bytes;
use camring_ring::{PacketReader, UnitFlags};

use crate::reader::queue::{Held, QueuedUnit};

/// What is left of a group of pictures that began before anybody looked.
#[derive(Debug)]
pub struct CatchUp {
    next: u64,
    /// From here on, units come through the queue.
    to: u64,
    /// Units counted by nobody yet.
    held: u64,
    /// After the last of them, units are missing.
    pub incomplete: bool,
    /// The question for a place in the site's budget.
    pub request: u32,
    /// It is this reader's turn.
    pub granted: bool,
    /// What is left is worth more than to be soon where the camera is.
    pub patient: bool,
}

impl CatchUp {
    /// Begins at the newest key frame from number `from` on, if there is one. Its unit, and what
    /// is left after it.
    pub fn begin(
        packets: &PacketReader,
        from: u64,
        to: u64,
        held: u64,
        request: u32,
    ) -> Option<(QueuedUnit, Self)> {
        let key = packets
            .newest_key()
            .filter(|key| (from..to).contains(key))?;
        let mut rest = Self {
            next: key,
            to,
            held,
            incomplete: false,
            request,
            granted: false,
            patient: false,
        };
        let unit = rest.next_unit(packets)?;
        Some((unit, rest))
    }

    /// Goes on with what was held back after a key frame that was decoded, up to number `to`.
    pub fn go_on(held: Held, to: u64, request: u32) -> Self {
        Self {
            next: held.from,
            to,
            held: held.units,
            incomplete: false,
            request,
            granted: false,
            patient: true,
        }
    }

    /// The next unit; `None`: there is none, or not any more ([`CatchUp::is_done`] tells).
    pub fn next_unit(&mut self, packets: &PacketReader) -> Option<QueuedUnit> {
        if self.is_done() {
            return None;
        }
        let mut bytes = Vec::new();
        let unit = packets.read(self.next, &mut bytes).ok().flatten()?;
        self.next += 1;
        self.held = self.held.saturating_sub(1);
        Some(QueuedUnit {
            data: Bytes::from(bytes),
            codec: unit.codec,
            key: unit.flags.contains(UnitFlags::KEY),
            access_unit: unit.sequence,
            pts: unit.pts,
            capture_time_ns: unit.capture_time_ns,
            capture_time_from_sender_report: unit
                .flags
                .contains(UnitFlags::CAPTURE_TIME_FROM_SENDER_REPORT),
            arrival_ns: unit.arrival_ns,
            discontinuity: unit.flags.contains(UnitFlags::DISCONTINUITY),
            // A unit that never got into the ring is lost as well.
            loss_before: unit.flags.contains(UnitFlags::LOSS_BEFORE)
                || unit.flags.contains(UnitFlags::GOP_INCOMPLETE),
            held: None,
        })
    }

    /// Everything up to the queue has been given.
    pub fn is_done(&self) -> bool {
        self.next >= self.to
    }

    /// Units that nobody has counted.
    pub fn left(&self) -> u64 {
        self.held
    }
}
