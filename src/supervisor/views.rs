//! The rings of views: found by name, made when somebody looks for the first time.
//!
//! Promises: a view that nobody has ever looked at costs nothing; its size is in the configuration,
//! so who attaches does not wait for the camera's first picture; a ring that was made stays, so that
//! who comes back finds its numbers going on.
#![deny(unsafe_code)]

use camring_ring::attach::wire::RefusalCode;

use super::budget::Refusal;
use super::camera::Camera;
use super::rings::Refused;
use super::{Supervisor, impossible};
use crate::control::RingKind;

impl Supervisor {
    /// Makes sure that a view has a ring.
    pub(super) fn see_to_view_ring(&self, camera: &Camera, index: u32) -> Result<(), Refused> {
        let there = camera
            .rings
            .borrow()
            .current(RingKind::View(index))
            .is_some();
        if there {
            return Ok(());
        }
        self.make_view_ring(camera, index).map_err(|refusal| {
            let stream = camera.stream();
            let names = stream.views.get(index as usize);
            let name = names.map_or("?", |view| view.name.as_str());
            let text = format!("view {name:?} of camera {:?}: {refusal}", camera.id);
            tracing::debug!("{text}");
            (RefusalCode::MemoryBudget, text)
        })
    }

    /// No writer can resume the ring of a view: another one takes its place. Only replaces: the
    /// first is made when somebody attaches, whatever a reader says.
    pub(super) fn replace_view_ring(&self, camera: &Camera, index: u32) {
        let kind = RingKind::View(index);
        let old = camera.rings.borrow().current(kind).map(|ring| ring.id);
        let Some(old) = old else {
            return;
        };
        match self.make_view_ring(camera, index) {
            // They cannot be told through it.
            Ok(()) => camera.rings.borrow().hang_up_on(old),
            Err(refusal) => {
                tracing::warn!(camera = %camera.id, view = index, "{refusal}");
            }
        }
    }

    /// Makes the ring of one of a camera's views, and hands it to the reader, if one runs.
    fn make_view_ring(&self, camera: &Camera, index: u32) -> Result<(), Refusal> {
        let kind = RingKind::View(index);
        let stream = camera.stream();
        let Some(view) = stream.views.get(index as usize) else {
            return Err(impossible(0, format!("the stream has no view {index}")));
        };
        let first = camera.rings.borrow().first_sequence(kind, 1);
        let spec = view.ring_spec(&stream.ring, self.next_ring(), first);
        let needed = spec
            .file_size()
            .map_err(|error| impossible(spec.slot_bytes, error))?;
        self.make_ring(camera, kind, needed, spec.ring_id, || spec.create())
    }
}

/// Which ring a view's name means.
pub(super) fn find(camera: &Camera, name: &str, kind: RingKind) -> Result<RingKind, Refused> {
    let stream = camera.stream();
    if kind == RingKind::Packets {
        let text = format!(
            "view {name:?} of camera {:?} has no access units: ask for those of the camera",
            stream.id
        );
        return Err((RefusalCode::UnknownCamera, text));
    }
    let mut views = (0..).zip(&stream.views);
    if let Some((index, _)) = views.find(|(_, view)| view.name == name) {
        return Ok(RingKind::View(index));
    }
    let names: Vec<_> = stream
        .views
        .iter()
        .map(|view| format!("{}:{}", stream.id, view.name))
        .collect();
    let text = match names.is_empty() {
        true => format!(
            "camera {:?} has no view {name:?}, and no other: write [[camera.view]] in the \
             configuration",
            stream.id
        ),
        false => format!(
            "camera {:?} has no view {name:?}; there are: {}",
            stream.id,
            names.join(", ")
        ),
    };
    Err((RefusalCode::UnknownCamera, text))
}
