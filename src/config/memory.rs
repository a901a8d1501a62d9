//! What rings will take, before anybody has seen a picture of the camera.
//!
//! An estimate for people and for refusing settings that cannot work. What a ring really takes is
//! decided when the camera's first picture is known, by whoever creates it.

use camring_ring::{FrameRingSpec, PacketRingSpec};

use super::site::Ring;
use super::view::View;

/// Slots that a decoder refers to in most streams: two without, four with three reference frames.
pub const USUAL_DECODER_SLOTS: u32 = 4;

/// The most that any decoder refers to: 16 reference pictures, and the one being decoded.
pub const MOST_DECODER_SLOTS: u32 = 17;

/// The smallest picture that settings must have room for.
pub const SMALLEST: (u32, u32) = (320, 240);

/// Bytes of a picture of 4:2:0 8-bit, as libavcodec lays it out: rows padded to 64 bytes, height
/// to 32.
pub fn picture(width: u32, height: u32) -> u64 {
    let luma = u64::from(width).next_multiple_of(64) * u64::from(height).next_multiple_of(32);
    luma * 3 / 2 + 64
}

/// Slots of a frame ring: those that stay readable, the one being written, those that the decoder
/// refers to, and one for each frame that subscribers may hold.
pub fn slots(ring: &Ring, decoder: u32) -> u32 {
    ring.depth + 1 + decoder + ring.pins
}

/// Both rings of a stream with pictures of this size, in bytes.
pub fn rings(ring: &Ring, width: u32, height: u32) -> u64 {
    let frames = FrameRingSpec {
        depth: ring.depth,
        slots: slots(ring, USUAL_DECODER_SLOTS),
        slot_bytes: picture(width, height),
        ring_id: 1,
        first_sequence: 1,
    };
    let packets = PacketRingSpec {
        capacity: ring.packets,
        units: units(ring.packets),
        ring_id: 1,
    };
    // Never fails for settings that are in range; if it does, nothing fits.
    let size = |bytes: Result<u64, _>| bytes.unwrap_or(u64::MAX);
    size(frames.file_size()).saturating_add(size(packets.file_size()))
}

/// Index entries of a packet ring: one for each 4 KiB, less than which units seldom have.
fn units(packets: u64) -> u32 {
    let units = (packets / 4096).clamp(256, 65_536) as u32;
    units.next_power_of_two()
}

/// The rings of a stream's views, should somebody look at all of them, in bytes.
pub fn views(ring: &Ring, views: &[View]) -> u64 {
    let each = views.iter().map(|view| view.ring_bytes(ring));
    each.fold(0, u64::saturating_add)
}

/// What a stream takes at the very least, in bytes.
pub fn least(ring: &Ring, of_stream: &[View]) -> u64 {
    rings(ring, SMALLEST.0, SMALLEST.1).saturating_add(views(ring, of_stream))
}

/// The largest of the usual picture sizes for which `bytes` are enough, beside its views.
pub fn largest_picture(ring: &Ring, of_stream: &[View], bytes: u64) -> Option<&'static str> {
    let bytes = bytes.saturating_sub(views(ring, of_stream));
    const USUAL: [(&str, u32, u32); 7] = [
        ("7680x4320", 7680, 4320),
        ("3840x2160", 3840, 2160),
        ("2560x1440", 2560, 1440),
        ("1920x1080", 1920, 1080),
        ("1280x720", 1280, 720),
        ("640x360", 640, 360),
        ("320x240", 320, 240),
    ];
    let fits = |(_, width, height): &&(_, u32, u32)| rings(ring, *width, *height) <= bytes;
    USUAL.iter().find(fits).map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn defaults_have_room_for_4k() {
        let ring = Ring::default();
        let limit = Limits::default().memory_per_camera;
        assert_eq!(largest_picture(&ring, &[], limit), Some("3840x2160"));
        assert_eq!(largest_picture(&ring, &[], 100), None);
    }

    #[test]
    fn the_largest_legal_ring_is_one_that_the_format_has() {
        let most = Ring {
            depth: Ring::MAX_DEPTH,
            pins: Ring::MAX_PINS,
            packets: Ring::MAX_PACKETS,
        };
        assert!(slots(&most, MOST_DECODER_SLOTS) <= 255);
        assert!(rings(&most, 7680, 4320) < u64::MAX);
        assert!(
            least(
                &Ring {
                    depth: 1,
                    pins: 1,
                    packets: Ring::MIN_PACKETS
                },
                &[]
            ) < 5 << 20
        );
    }
}
