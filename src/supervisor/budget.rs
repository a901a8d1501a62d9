//! Whether a ring may be made: asked before, because afterwards the answer is an OOM kill.
//!
//! A memfd that outgrows its cgroup is no error to whoever touches the next page, it is the end of
//! some process. So a ring counts in full from the moment it is made, though its pages come only
//! with use: reading a hole through a read-only mapping allocates it, too.
#![deny(unsafe_code)]

use crate::config::Ring;
use crate::sys::memory::Headroom;

/// Left alone of what the machine has: rings are not all that grows.
const RESERVE: u64 = 64 << 20;

/// The most that any decoder refers to: 16 reference pictures, and the one being decoded.
pub const MAX_DECODER_REFS: u32 = 17;

/// What is taken, and what there is.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Bytes of the camera's rings that are in use: those that were replaced do not count, but for
    /// the total.
    pub camera: u64,
    /// `memory_per_camera`.
    pub camera_limit: u64,
    /// Bytes of all rings of the site.
    pub site: u64,
    /// `[limits] memory_total`.
    pub site_limit: Option<u64>,
    /// Of those, bytes without pages yet: the machine does not know that they are spoken for.
    pub untouched: u64,
    /// What the machine and its cgroups have left.
    pub headroom: Option<Headroom>,
}

/// Why a ring may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring of {needed} bytes does not fit: {reason}")]
pub struct Refusal {
    /// Bytes asked for.
    pub needed: u64,
    /// Bytes that would be granted.
    pub available: u64,
    /// A sentence: which limit, and its numbers.
    pub reason: String,
}

impl Ledger {
    /// Whether `needed` bytes more fit under every limit. The error names the tightest.
    pub fn check(&self, needed: u64) -> Result<(), Refusal> {
        let mut limits = vec![(
            self.camera_limit.saturating_sub(self.camera),
            format!(
                "the camera has {} of its {} bytes in use ([limits] memory_per_camera, or \
                 its own memory)",
                self.camera, self.camera_limit
            ),
        )];
        if let Some(limit) = self.site_limit {
            limits.push((
                limit.saturating_sub(self.site),
                format!(
                    "all rings have {} of {limit} bytes in use ([limits] memory_total)",
                    self.site
                ),
            ));
        }
        if let Some(headroom) = &self.headroom {
            let spoken_for = self.untouched.saturating_add(RESERVE);
            limits.push((
                headroom.bytes.saturating_sub(spoken_for),
                format!(
                    "{} has {} bytes left, of which {spoken_for} are kept for rings not filled \
                     yet and for the system",
                    headroom.source, headroom.bytes
                ),
            ));
        }
        match limits.into_iter().min_by_key(|(available, _)| *available) {
            Some((available, reason)) if needed > available => Err(Refusal {
                needed,
                available,
                reason,
            }),
            _ => Ok(()),
        }
    }
}

/// How many slots a frame ring needs: what stays visible, the one being written, what the decoder
/// keeps, and all that subscribers may hold. At most 255 with every legal configuration.
pub fn slots(ring: &Ring, decoder_refs: u32) -> u32 {
    // The number is a reader's: believed only as far as it can be true.
    ring.depth + 1 + decoder_refs.min(MAX_DECODER_REFS) + ring.pins
}

/// How many units the index of a packet ring holds: one for each 4 KiB, less than which a unit of
/// a camera seldom has on average.
pub fn units(packets: u64) -> u32 {
    let units = (packets / 4096).clamp(256, 65_536) as u32;
    units.next_power_of_two()
}

/// Bytes of the ring of a camera's sound: 16 s of 128 kbit/s.
pub const AUDIO_BYTES: u64 = 256 << 10;

/// Frames in it: 10 s at the highest rate, 96 kHz.
pub const AUDIO_UNITS: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            camera: 10 << 20,
            camera_limit: 100 << 20,
            site: 50 << 20,
            site_limit: Some(200 << 20),
            untouched: 5 << 20,
            headroom: Some(Headroom {
                bytes: 500 << 20,
                source: "MemAvailable".into(),
            }),
        }
    }

    #[test]
    fn what_fits_everywhere_is_granted() {
        assert_eq!(ledger().check(90 << 20), Ok(()));
    }

    #[test]
    fn the_tightest_limit_is_named_with_its_numbers() {
        let refusal = ledger().check((90 << 20) + 1).unwrap_err();
        assert_eq!(refusal.available, 90 << 20);
        assert!(
            refusal.reason.contains("10485760 of its 104857600"),
            "{refusal}"
        );

        let site = Ledger {
            site_limit: Some(60 << 20),
            ..ledger()
        };
        let refusal = site.check(11 << 20).unwrap_err();
        assert_eq!(refusal.available, 10 << 20);
        assert!(refusal.reason.contains("memory_total"), "{refusal}");

        let machine = Ledger {
            headroom: Some(Headroom {
                bytes: 70 << 20,
                source: "cgroup /x".into(),
            }),
            ..ledger()
        };
        let refusal = machine.check(2 << 20).unwrap_err();
        assert_eq!(refusal.available, 1 << 20);
        assert!(
            refusal.reason.contains("cgroup /x has 73400320"),
            "{refusal}"
        );
    }

    #[test]
    fn more_in_use_than_allowed_is_nothing_left() {
        let over = Ledger {
            camera: 200 << 20,
            ..ledger()
        };
        assert_eq!(over.check(1).unwrap_err().available, 0);
    }

    #[test]
    fn slots_never_exceed_what_the_format_can_number() {
        let most = Ring {
            depth: Ring::MAX_DEPTH,
            pins: Ring::MAX_PINS,
            packets: Ring::MIN_PACKETS,
        };
        assert!(slots(&most, u32::MAX) <= 255);
        assert_eq!(slots(&Ring::default(), 2), 3 + 1 + 2 + 16);
    }

    #[test]
    fn the_index_of_a_packet_ring_follows_its_size() {
        assert_eq!(units(8 << 20), 2048);
        assert_eq!(units(Ring::MIN_PACKETS), 256);
        assert_eq!(units(Ring::MAX_PACKETS), 65_536);
        assert!(units(5 << 20).is_power_of_two());
    }
}
