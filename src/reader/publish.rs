//! From a decoded picture to a published frame: in place where the picture already lies in a slot
//! and stays as it is, else by one copy.
//!
//! Promises: a frame is published at most once per decoded picture; a picture that finds no slot
//! is counted, never waited for; the first pictures of a camera are kept until its ring arrives.
//! Must never: publish a slot whose picture the decoder may still draw into, or block.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use camring_ring::{
    CloseReason, ColorRange, FrameDescriptor, FrameFlags, FrameWriter, PixelFormat, Plane,
    SealedMemory, SubscriberPages,
};

use crate::config::View;
use crate::control::ToSupervisor;
use crate::health::Health;
use crate::media::{Picture, PictureSlots, PublishError, Published, RingSlots};
use crate::reader::ReportSender;
use crate::reader::rate::RateLimiter;
use crate::reader::timeline::{PTS_RATE, ticks_to_ns};
use crate::reader::views::Views;
use crate::supervisor::budget::MAX_DECODER_REFS;
use crate::sys::clock;

/// Pictures kept while the first ring (or a larger one) is on its way. The answer takes a few
/// milliseconds; at 25 fps that is one picture, and catching up after a key frame a few more.
const MAX_PENDING: usize = 4;

/// A ring is asked for again when the supervisor refused it or did not answer.
const ASK_AGAIN_NS: u64 = 5_000_000_000;

/// What the access unit of a picture carried past the decoder.
#[derive(Clone, Copy, Debug)]
pub struct UnitMeta {
    pub access_unit: u64,
    pub pts: i64,
    pub capture_time_ns: i64,
    pub capture_time_from_sender_report: bool,
    pub arrival_ns: u64,
    pub discontinuity: bool,
    pub corrupt: bool,
    /// Decoded later than it could have been, because nobody had looked.
    pub late: bool,
}

impl UnitMeta {
    /// With a PTS after `newest`. Pictures come in output order, which is the decoder's to say; a
    /// camera whose stamps contradict it gets them a tick apart, on the same line of capture times.
    fn after(self, newest: i64) -> Self {
        let pts = self.pts.max(newest.saturating_add(1));
        let moved = pts.saturating_sub(self.pts);
        Self {
            pts,
            capture_time_ns: self.capture_time_ns.saturating_add(ticks_to_ns(moved)),
            ..self
        }
    }
}

/// Owns the frame ring of one reader. Lives on the decode thread.
pub struct Publisher {
    ring: Option<RingSlots>,
    pending: VecDeque<(Picture, UnitMeta)>,
    /// The slot size last asked for, and when.
    asked: Option<(u64, u64)>,
    decoder_refs: u32,
    /// Slots that subscribers may pin, by configuration.
    pins: u32,
    wanted_slot_bytes: usize,
    next_sequence: u64,
    /// PTS of the newest picture seen, 90 kHz.
    newest_pts: i64,
    /// A discontinuity whose own frame was dropped shows on the next one.
    discontinuity: bool,
    limiter: Option<RateLimiter>,
    views: Views,
    /// For who attaches to a view; it lies in a slot that is visible anyway.
    newest: Option<(Picture, UnitMeta)>,
    health: Arc<Health>,
    to_supervisor: ReportSender,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("ring", &self.ring)
            .field("pending", &self.pending.len())
            .field("next_sequence", &self.next_sequence)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    pub fn new(
        max_fps: Option<f32>,
        pins: u32,
        views: Vec<View>,
        health: Arc<Health>,
        to_supervisor: ReportSender,
    ) -> Self {
        let views = Views::new(views, health.clone(), to_supervisor.clone());
        Self {
            ring: None,
            pending: VecDeque::new(),
            asked: None,
            decoder_refs: 1,
            pins,
            wanted_slot_bytes: 0,
            next_sequence: 1,
            newest_pts: i64::MIN,
            discontinuity: false,
            limiter: RateLimiter::of(max_fps),
            views,
            newest: None,
            health,
            to_supervisor,
        }
    }

    /// The ring to decode into, if there is one.
    #[must_use]
    pub fn slots(&self) -> Option<Arc<dyn PictureSlots>> {
        self.ring.as_ref().map(RingSlots::as_slots)
    }

    /// What the decoder needs: how many pictures it may keep as references, and the slot size it
    /// last asked for in vain.
    pub fn decoder_needs(&mut self, refs: u32, slot_bytes: Option<usize>) {
        self.wanted_slot_bytes = slot_bytes.unwrap_or(0);
        let refs = refs.min(MAX_DECODER_REFS);
        if refs <= self.decoder_refs {
            return;
        }
        self.decoder_refs = refs;
        // A stream that refers to more pictures than before, in a ring that was made for less:
        // subscribers that hold all their pins would leave it without a slot.
        if let Some(ring) = &self.ring
            && ring.slots() < ring.depth() + 1 + refs + self.pins
        {
            let slot_bytes = ring.slot_bytes().max(self.wanted_slot_bytes);
            self.ask_for_ring(slot_bytes);
        }
    }

    /// Takes over a ring: that of this reader's predecessor, a first one, or a larger one.
    /// Subscribers of a former ring are told that it was replaced. Numbers go on: frames were
    /// published in the former ring since this one was asked for, by this reader or its
    /// predecessor, who had come to `next_sequence`.
    pub fn adopt_ring(
        &mut self,
        memory: SealedMemory,
        present: Vec<SubscriberPages>,
        next_sequence: u64,
    ) {
        self.asked = None;
        let count = present.len();
        let mut writer = match FrameWriter::resume(memory, present) {
            Ok(writer) => writer,
            Err(error) => {
                tracing::error!(%error, "the frame ring handed over by the supervisor is unusable");
                return;
            }
        };
        writer.go_on_at(self.next_sequence.max(next_sequence));
        self.next_sequence = writer.next_sequence();
        let former = self.ring.replace(RingSlots::new(writer));
        if let Some(former) = former {
            former.close(CloseReason::Replaced);
        }
        self.health.subscribers.store(count as u64, Relaxed);
        for (picture, meta) in std::mem::take(&mut self.pending) {
            let kept = self.publish_in_main(picture, meta);
            self.newest = kept.filter(|_| self.views.any());
        }
    }

    /// Takes over the ring of a view. False where it is unusable.
    pub fn adopt_view_ring(
        &mut self,
        view: u32,
        memory: SealedMemory,
        present: Vec<SubscriberPages>,
        next_sequence: u64,
    ) -> bool {
        self.views.adopt_ring(view, memory, present, next_sequence)
    }

    /// Whether pictures wait for a ring: more of them would push the first ones out.
    #[must_use]
    pub fn awaits_ring(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nobody looks: lets go of pictures that wait for a ring, and asks for it anew when somebody
    /// does.
    pub fn rest(&mut self) {
        self.pending.clear();
        self.newest = None;
        self.asked = None;
    }

    /// The supervisor has no memory for the ring asked for.
    pub fn ring_refused(&mut self, needed: u64, available: u64, reason: &str) {
        tracing::error!(
            needed,
            available,
            reason,
            "no memory for the frame ring: what does not fit the present one is dropped"
        );
        let waiting = self.pending.drain(..).count();
        self.health
            .dropped_no_memory
            .fetch_add(waiting as u64, Relaxed);
    }

    /// Includes a subscriber in every pin scan from now on. False where its ring is not the
    /// current one nor a view's, or its pages are not sound.
    pub fn add_subscriber(&mut self, ring_id: u64, pages: SubscriberPages) -> bool {
        if self.views.has_ring(ring_id) {
            let newest = self.pending.back().or(self.newest.as_ref());
            return self.views.add_subscriber(ring_id, pages, newest);
        }
        let Some(ring) = self.ring.as_ref().filter(|ring| ring.ring_id() == ring_id) else {
            return false;
        };
        match ring.add_subscriber(pages) {
            Ok(()) => {
                self.health
                    .subscribers
                    .store(ring.subscribers() as u64, Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a subscriber's pages are unusable");
                false
            }
        }
    }

    pub fn remove_subscriber(&mut self, id: u64) {
        self.views.remove_subscriber(id);
        if let Some(ring) = &self.ring {
            ring.remove_subscriber(id);
            self.health
                .subscribers
                .store(ring.subscribers() as u64, Relaxed);
        }
    }

    /// Publishes a picture, or keeps it while its ring is on its way, or counts it as dropped.
    pub fn publish(&mut self, picture: Picture, meta: &UnitMeta) {
        let meta = &meta.after(self.newest_pts);
        self.newest_pts = meta.pts;
        self.discontinuity |= meta.discontinuity;
        if meta.discontinuity {
            self.views.discontinuity();
        }
        if let Some(limiter) = &mut self.limiter
            && !limiter.admits(meta.pts)
        {
            self.health.dropped_max_fps.fetch_add(1, Relaxed);
            return;
        }
        let kept = self.publish_in_main(picture, *meta);
        // After the frame itself, which waits for no view. Nobody else publishes, and whoever has the
        // picture holds its slot.
        if let Some((picture, meta)) = kept.as_ref().or(self.pending.back()) {
            self.views.offer(picture, meta);
        }
        self.newest = kept.filter(|_| self.views.any());
    }

    /// Gives the picture back, unless it is kept until there is a ring for it.
    fn publish_in_main(
        &mut self,
        picture: Picture,
        mut meta: UnitMeta,
    ) -> Option<(Picture, UnitMeta)> {
        meta.discontinuity = self.discontinuity;
        let Some(ring) = &self.ring else {
            self.keep(picture, &meta);
            return None;
        };
        let descriptor = describe(&picture, &meta);
        let corrupt = descriptor.flags.contains(FrameFlags::CORRUPT);
        match ring.publish(&picture, &descriptor) {
            Ok(published) => {
                // Slots that hold the picture, but not with the decoder's padding: grow the ring
                // once, instead of copying each picture.
                let grow = published.copied && self.wanted_slot_bytes > ring.slot_bytes();
                self.count(published, corrupt, &picture, &meta);
                if grow {
                    self.ask_for_ring(self.wanted_slot_bytes);
                }
            }
            Err(PublishError::NoSlot) => {
                self.health.dropped_no_slot.fetch_add(1, Relaxed);
            }
            Err(PublishError::TooSmall { .. }) => {
                self.keep(picture, &meta);
                return None;
            }
            Err(error @ PublishError::Memory(_)) => {
                self.health.dropped_no_memory.fetch_add(1, Relaxed);
                tracing::debug!(%error, "frame not published");
            }
            Err(error) => {
                self.health.decode_errors.fetch_add(1, Relaxed);
                tracing::debug!(%error, "frame not published");
            }
        }
        Some((picture, meta))
    }

    fn count(&mut self, published: Published, corrupt: bool, picture: &Picture, meta: &UnitMeta) {
        let now = clock::monotonic_ns();
        let health = &self.health;
        self.next_sequence = published.sequence + 1;
        self.discontinuity = false;
        health.frames_published.fetch_add(1, Relaxed);
        let copied = u64::from(published.copied);
        health.copied_frames.fetch_add(copied, Relaxed);
        health
            .dropped_corrupt
            .fetch_add(u64::from(corrupt), Relaxed);
        health.last_frame_ns.store(now, Relaxed);
        health.width.store(u64::from(picture.width()), Relaxed);
        health.height.store(u64::from(picture.height()), Relaxed);
        if !meta.late {
            health.record_latency_ns(now.saturating_sub(meta.arrival_ns));
        }
    }

    /// Keeps a picture that no ring can take, and asks for one that can.
    fn keep(&mut self, picture: Picture, meta: &UnitMeta) {
        let copied = picture.copied_len().unwrap_or(0);
        self.ask_for_ring(copied.max(self.wanted_slot_bytes));
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
            self.health.dropped_no_memory.fetch_add(1, Relaxed);
        }
        self.pending.push_back((picture, *meta));
    }

    fn ask_for_ring(&mut self, slot_bytes: usize) {
        let slot_bytes = slot_bytes as u64;
        let now = clock::monotonic_ns();
        if let Some((asked, at)) = self.asked
            && asked >= slot_bytes
            && now.saturating_sub(at) < ASK_AGAIN_NS
        {
            return;
        }
        self.asked = Some((slot_bytes, now));
        self.to_supervisor.send(ToSupervisor::NeedFrameRing {
            slot_bytes,
            decoder_refs: self.decoder_refs,
            first_sequence: self.next_sequence,
        });
    }
}

/// What the descriptor says besides the picture's own properties, which the ring fills in.
pub fn describe(picture: &Picture, meta: &UnitMeta) -> FrameDescriptor {
    let mut flags = FrameFlags::NONE;
    for (set, flag) in [
        (picture.key(), FrameFlags::KEY_FRAME),
        (meta.discontinuity, FrameFlags::DISCONTINUITY),
        (meta.corrupt || picture.decode_error(), FrameFlags::CORRUPT),
        (
            meta.capture_time_from_sender_report,
            FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT,
        ),
    ] {
        if set {
            flags |= flag;
        }
    }
    FrameDescriptor {
        // The writer numbers and times it.
        sequence: 0,
        generation: 0,
        publish_ns: 0,
        pts: meta.pts,
        time_base_num: 1,
        time_base_den: PTS_RATE,
        capture_time_ns: meta.capture_time_ns,
        arrival_ns: meta.arrival_ns,
        access_unit: meta.access_unit,
        width: 0,
        height: 0,
        pixel_format: PixelFormat::I420,
        color_range: ColorRange::Unknown,
        matrix: 0,
        rotation: 0,
        flags,
        planes: [Plane::default(); 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presentation_times_rise_on_the_same_line_of_capture_times() {
        let meta = UnitMeta {
            access_unit: 7,
            pts: 1_000,
            capture_time_ns: 50,
            capture_time_from_sender_report: false,
            arrival_ns: 0,
            discontinuity: false,
            corrupt: false,
            late: false,
        };
        let times = |newest| {
            let meta = meta.after(newest);
            (meta.pts, meta.capture_time_ns)
        };
        assert_eq!(times(i64::MIN), (1_000, 50));
        assert_eq!(times(999), (1_000, 50));
        assert_eq!(times(1_000), (1_001, 50 + 11_111));
        assert_eq!(times(1_899), (1_900, 50 + 10_000_000));
        assert_eq!(times(i64::MAX).0, i64::MAX);
    }
}
