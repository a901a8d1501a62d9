//! The rings of a stream's views: each picture converted once, straight into a slot, for everybody
//! who looks at the view.
//!
//! Promises: with nobody attached to a view nothing is converted for it; who attaches gets the
//! newest picture at once; a view's numbers have no gap, whatever it left out; a picture that finds
//! no slot is counted, never waited for.
//! Must never: decode, or keep a picture.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use camring_ring::{CloseReason, FrameDescriptor, FrameWriter, SealedMemory, SubscriberPages};

use crate::config::{Fit, View};
use crate::control::ToSupervisor;
use crate::health::Health;
use crate::media::{Picture, ViewConverter, ViewShape};
use crate::reader::ReportSender;
use crate::reader::publish::{UnitMeta, describe};
use crate::reader::rate::RateLimiter;
use crate::sys::clock;

/// A ring is asked for again when the last one could not be used.
const ASK_AGAIN_NS: u64 = 5_000_000_000;

/// All views of one stream. Lives on the decode thread.
#[derive(Debug)]
pub struct Views {
    all: Vec<One>,
    health: Arc<Health>,
    to_supervisor: ReportSender,
}

#[derive(Debug)]
struct One {
    view: View,
    converter: ViewConverter,
    /// `None`: nobody has looked at it yet.
    ring: Option<FrameWriter>,
    /// When the last ring that came turned out to be unusable, and another one was asked for.
    asked_ns: Option<u64>,
    limiter: Option<RateLimiter>,
    /// The next frame does not follow smoothly from the one before.
    discontinuity: bool,
    /// Unit and PTS of the picture published last.
    last: Option<(u64, i64)>,
}

impl Views {
    pub fn new(views: Vec<View>, health: Arc<Health>, to_supervisor: ReportSender) -> Self {
        Self {
            all: views.into_iter().map(One::new).collect(),
            health,
            to_supervisor,
        }
    }

    /// Whether there are any, be they looked at or not.
    pub fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Takes over the ring of a view: that of this reader's predecessor, or a first one. False where
    /// it is unusable: another one is asked for, at once and again when somebody attaches later.
    pub fn adopt_ring(
        &mut self,
        index: u32,
        memory: SealedMemory,
        present: Vec<SubscriberPages>,
        next_sequence: u64,
    ) -> bool {
        let Some(one) = self.all.get_mut(index as usize) else {
            return false;
        };
        match FrameWriter::resume(memory, present) {
            Ok(mut writer) => {
                let own = one.ring.as_ref().map_or(1, FrameWriter::next_sequence);
                writer.go_on_at(own.max(next_sequence));
                if let Some(mut former) = one.ring.replace(writer) {
                    former.close(CloseReason::Replaced);
                }
                one.asked_ns = None;
                true
            }
            Err(error) => {
                tracing::error!(view = one.view.name, %error, "the ring of a view is unusable");
                let again = one.asked_ns.is_some();
                one.asked_ns = Some(clock::monotonic_ns());
                // The same fault twice in a row (no memory, say) will not go away at once.
                if !again {
                    self.to_supervisor
                        .send(ToSupervisor::NeedViewRing { view: index });
                }
                false
            }
        }
    }

    /// Asks again for rings that turned out to be unusable a while ago.
    fn ask_again(&mut self) {
        let now = clock::monotonic_ns();
        for (view, one) in (0..).zip(&mut self.all) {
            let due = |at: u64| now.saturating_sub(at) > ASK_AGAIN_NS;
            if one.asked_ns.is_some_and(due) {
                one.asked_ns = Some(now);
                self.to_supervisor.send(ToSupervisor::NeedViewRing { view });
            }
        }
    }

    /// Whether a ring of this number is one of theirs.
    pub fn has_ring(&self, ring_id: u64) -> bool {
        self.all.iter().any(|one| one.has_ring(ring_id))
    }

    /// Includes a subscriber in every pin scan from now on, and shows it the newest picture. False
    /// where its ring is no view's current one, or its pages are not sound.
    pub fn add_subscriber(
        &mut self,
        ring_id: u64,
        pages: SubscriberPages,
        newest: Option<&(Picture, UnitMeta)>,
    ) -> bool {
        let found = (0..)
            .zip(&mut self.all)
            .find(|(_, one)| one.has_ring(ring_id));
        let Some((index, one)) = found else {
            self.ask_again();
            return false;
        };
        let Some(ring) = &mut one.ring else {
            return false;
        };
        let first = ring.subscribers() == 0;
        if let Err(error) = ring.add_subscriber(pages) {
            tracing::warn!(%error, "a subscriber's pages are unusable");
            return false;
        }
        if first {
            // A new grid: the first picture is there at once, whatever was admitted last.
            one.limiter = RateLimiter::of(one.view.fps);
            if let Some((picture, meta)) = newest {
                one.offer(picture, meta, &self.health, index);
            }
        }
        true
    }

    pub fn remove_subscriber(&mut self, id: u64) {
        for ring in self.all.iter_mut().filter_map(|one| one.ring.as_mut()) {
            ring.remove_subscriber(id);
        }
    }

    /// The stream has a gap here, whether or not a picture shows it.
    pub fn discontinuity(&mut self) {
        for one in &mut self.all {
            one.discontinuity = true;
        }
    }

    /// Converts a picture for every view that is looked at and wants it.
    pub fn offer(&mut self, picture: &Picture, meta: &UnitMeta) {
        for (index, one) in self.all.iter_mut().enumerate() {
            one.offer(picture, meta, &self.health, index);
        }
    }
}

impl One {
    fn new(view: View) -> Self {
        let shape = ViewShape {
            width: view.width,
            height: view.height,
            format: view.format.pixel_format(),
            letterbox: view.fit == Fit::Letterbox,
            planes: view.layout().0,
        };
        Self {
            converter: ViewConverter::new(shape),
            ring: None,
            asked_ns: None,
            limiter: RateLimiter::of(view.fps),
            discontinuity: false,
            last: None,
            view,
        }
    }

    fn has_ring(&self, ring_id: u64) -> bool {
        self.ring
            .as_ref()
            .is_some_and(|ring| ring.ring_id() == ring_id)
    }

    fn offer(&mut self, picture: &Picture, meta: &UnitMeta, health: &Health, index: usize) {
        let looked_at = self
            .ring
            .as_ref()
            .is_some_and(|ring| ring.subscribers() > 0);
        if !looked_at {
            // Whoever comes back finds the picture before this one in the ring.
            self.discontinuity |= self.last.is_some();
            return;
        }
        let this = (meta.access_unit, meta.pts);
        if self.last == Some(this) {
            return;
        }
        if let Some(limiter) = &mut self.limiter
            && !limiter.admits(meta.pts)
        {
            return;
        }
        self.publish(picture, meta, health, index);
    }

    fn publish(&mut self, picture: &Picture, meta: &UnitMeta, health: &Health, index: usize) {
        let (Some(ring), Some(counters)) = (&mut self.ring, health.view(index)) else {
            return;
        };
        let Some(slot) = ring.reserve() else {
            let reason = match ring.memory_error() {
                Some(_) => &counters.dropped_no_memory,
                None => &counters.dropped_no_slot,
            };
            reason.fetch_add(1, Relaxed);
            return;
        };
        let begun = clock::monotonic_ns();
        let converted = match ring.payload_mut(slot) {
            Some(payload) => self.converter.convert(picture, payload),
            None => Err(crate::media::MediaError::Geometry("the slot is not ours")),
        };
        let took = clock::monotonic_ns().saturating_sub(begun);
        let colours = match converted {
            Ok(colours) => colours,
            Err(error) => {
                ring.release(slot);
                counters.failed.fetch_add(1, Relaxed);
                tracing::debug!(view = self.view.name, %error, "picture not converted");
                return;
            }
        };
        counters.converted.fetch_add(1, Relaxed);
        counters.convert_ns.fetch_add(took, Relaxed);
        let meta = UnitMeta {
            discontinuity: self.discontinuity,
            ..*meta
        };
        let descriptor = FrameDescriptor {
            width: self.view.width,
            height: self.view.height,
            pixel_format: self.view.format.pixel_format(),
            color_range: colours.range,
            matrix: colours.matrix,
            planes: self.view.layout().0,
            ..describe(picture, &meta)
        };
        let published = ring.publish(slot, &descriptor);
        ring.release(slot);
        match published {
            Ok(_) => {
                counters.published.fetch_add(1, Relaxed);
                self.discontinuity = false;
                self.last = Some((meta.access_unit, meta.pts));
            }
            Err(error) => {
                counters.failed.fetch_add(1, Relaxed);
                tracing::debug!(view = self.view.name, %error, "frame not published");
            }
        }
    }
}
