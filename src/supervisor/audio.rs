//! The ring of a camera's sound: `front-door#audio`.
//!
//! Promises: there is one only for a stream that is recorded with its sound, and only once its reader
//! has found any; it never grows beyond [`budget::AUDIO_BYTES`] and its index, and counts in the camera's
//! memory. A camera that has no room for it is recorded without sound.
#![deny(unsafe_code)]

use camring_ring::PacketRingSpec;
use camring_ring::attach::wire::RefusalCode;

use super::budget::{self, Refusal};
use super::camera::Camera;
use super::rings::Refused;
use super::{Supervisor, impossible};
use crate::control::RingKind;

impl Supervisor {
    /// A reader has sound to record and no ring for it, or one that cannot be resumed.
    pub(super) fn see_to_audio_ring(&self, camera: &Camera) {
        // Whatever a reader says: nobody would listen.
        if !camera.stream().record.wants_audio() {
            return;
        }
        let old = camera
            .rings
            .borrow()
            .current(RingKind::Audio)
            .map(|ring| ring.id);
        match self.make_audio_ring(camera) {
            // They cannot be told through it.
            Ok(()) => {
                if let Some(old) = old {
                    camera.rings.borrow().hang_up_on(old);
                }
            }
            Err(refusal) => {
                tracing::warn!(camera = %camera.stream().id, "recorded without sound: {refusal}");
            }
        }
    }

    fn make_audio_ring(&self, camera: &Camera) -> Result<(), Refusal> {
        let spec = PacketRingSpec {
            capacity: budget::AUDIO_BYTES,
            units: budget::AUDIO_UNITS,
            ring_id: self.next_ring(),
        };
        let needed = spec
            .file_size()
            .map_err(|error| impossible(spec.capacity, error))?;
        self.make_ring(camera, RingKind::Audio, needed, spec.ring_id, || {
            spec.create()
        })
    }
}

/// Which ring `part`, the end of a stream's name from `#` on, means.
pub(super) fn find(camera: &Camera, part: &str, kind: RingKind) -> Result<RingKind, Refused> {
    let id = &camera.stream().id;
    if part != "#audio" {
        let text = format!("camera {id:?} has no {part:?}, only \"#audio\"");
        return Err((RefusalCode::UnknownCamera, text));
    }
    if kind != RingKind::Packets {
        let text = format!("the sound of camera {id:?} has no pictures: ask for access units");
        return Err((RefusalCode::UnknownCamera, text));
    }
    if !camera.stream().record.wants_audio() {
        let text = format!(
            "camera {id:?} is not recorded with its sound, which is read for that alone: set \
             [record] mode = \"copy\" and audio = true"
        );
        return Err((RefusalCode::UnknownCamera, text));
    }
    Ok(RingKind::Audio)
}
