//! The decode thread of a reader: access units in, published frames out.
//!
//! With nobody to look (`mode = "on-demand"`) it has no decoder and gets no units. When somebody
//! comes it decodes the newest key frame of the packet ring at once, then, when it is its turn in
//! the site's budget, what has come since; or it goes on at the next key frame, if that is sooner.
//! With `mode = "activity"` it gets key frames only, until a unit comes that has others before it in
//! the packet ring: these it decodes first, all of them.
//!
//! Promises: it beats at least once a second; it falls behind by skipping, not by queueing (first
//! non-reference pictures, then everything before the newest key frame); every unit that does not
//! become a frame is counted with its reason; a frame between a loss and the next picture that
//! repairs it is marked corrupt.
//! Must never: touch a socket of the camera, or hold up the network thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use camring_ring::PacketReader;

use crate::config::{Decode, DecodeMode};
use crate::control::ToSupervisor;
use crate::health::{DecodesWith, Decoding, Health};
use crate::media::parameters::StreamParameters;
use crate::media::{
    Codec, HardwareDevice, HardwareKind, PictureDecoder, PictureDecoderOptions, Skip,
};
use crate::reader::ReportSender;
use crate::reader::catch_up::CatchUp;
use crate::reader::damage::Damage;
use crate::reader::publish::{Publisher, UnitMeta};
use crate::reader::queue::{Backlog, Held, QueuedUnit, ToDecoder};
use crate::sys::clock;

/// The thread's heartbeat when there is nothing to do.
const TICK: Duration = Duration::from_millis(500);

/// Behind by this much, non-reference pictures are skipped: nobody else needs them, and most
/// cameras send none, so it is free to try early.
const LAG_SKIP_NON_REFERENCE_NS: u64 = 300_000_000;

/// Behind by this much, decoding goes on at the newest key frame. Longer than a busy moment of a
/// site (all key frames at once), shorter than what a viewer takes for a stall.
const LAG_JUMP_NS: u64 = 1_000_000_000;

/// The same after something has begun to move (`mode = "activity"`): what came first is what is
/// wanted, and a group of pictures of 10 s takes about a second to decode. Until it has caught up.
const LAG_JUMP_PATIENT_NS: u64 = 10_000_000_000;

/// Units whose pictures are still inside the decoder. H.264 and H.265 reorder at most 16.
const MAX_IN_FLIGHT: usize = 32;

/// Larger pictures are refused: 8192 × 8192, four times what any camera sends.
const MAX_PIXELS: u64 = 1 << 26;

/// What the thread owns.
#[derive(Debug)]
pub struct Pipeline {
    backlog: Backlog,
    packets: PacketReader,
    publisher: Publisher,
    decoder: Option<(Codec, PictureDecoder)>,
    health: Arc<Health>,
    settings: Decode,
    to_supervisor: ReportSender,
    skip: Skip,
    /// Nothing can be decoded before a key frame.
    needs_key: bool,
    /// From a loss until the stream has recovered.
    damage: Damage,
    /// The next published frame does not follow smoothly from the one before.
    discontinuity: bool,
    in_flight: VecDeque<UnitMeta>,
    catch_up: Option<CatchUp>,
    /// Behind, because something has begun to move: no picture of it is skipped.
    patient: bool,
    /// Numbers the questions for a place in the budget.
    requests: u32,
    /// What decodes instead of the processor.
    hardware: Option<Arc<HardwareDevice>>,
    /// The newest unit whose picture was published.
    published_through: u64,
    /// The latest PTS among them. Pictures come out in the order of their PTS, so it says what was
    /// published before decoding began anew; unit numbers do not, where there are B pictures.
    published_pts: i64,
}

impl Pipeline {
    pub fn new(
        backlog: Backlog,
        packets: PacketReader,
        publisher: Publisher,
        health: Arc<Health>,
        settings: Decode,
        wanted: bool,
        to_supervisor: ReportSender,
    ) -> Self {
        let doing = if wanted {
            Decoding::Decoding
        } else {
            Decoding::Idle
        };
        health.decoding.store(doing as u64, Relaxed);
        Self {
            backlog,
            packets,
            publisher,
            decoder: None,
            health,
            settings,
            to_supervisor,
            skip: Skip::None,
            needs_key: true,
            damage: Damage::default(),
            discontinuity: false,
            in_flight: VecDeque::new(),
            catch_up: None,
            patient: false,
            requests: 0,
            hardware: None,
            published_through: 0,
            published_pts: i64::MIN,
        }
    }

    /// Decodes on this device, where it takes the stream.
    #[must_use]
    pub fn on(mut self, device: Option<Arc<HardwareDevice>>) -> Self {
        self.hardware = device;
        self
    }

    /// Runs until told to stop, or until the network thread is gone.
    pub fn run(mut self) {
        loop {
            self.health.beat_decode();
            let message = if self.must_wait() {
                self.backlog.wait_message(TICK)
            } else {
                self.backlog.next_message(TICK)
            };
            match message {
                Ok(Some(ToDecoder::Stop)) | Err(_) => return,
                Ok(Some(message)) => {
                    self.obey(message);
                    continue;
                }
                Ok(None) => {}
            }
            if self.catch_up.is_some() {
                self.go_on_catching_up();
                continue;
            }
            self.keep_up();
            if let Some((held, to)) = self.backlog.take_held() {
                self.go_back(held, to);
                continue;
            }
            if let Some(unit) = self.backlog.pop() {
                self.decode(&unit, false);
            }
        }
    }

    fn obey(&mut self, message: ToDecoder) {
        match message {
            ToDecoder::SessionStarted => {
                self.end_catch_up();
                let stale = self.backlog.clear();
                self.health.dropped_overload.fetch_add(stale, Relaxed);
                // What the decoder still holds back is whole; then its references are void.
                if let Some((_, decoder)) = &mut self.decoder {
                    decoder.finish();
                }
                self.take_pictures();
                self.in_flight.clear();
                self.needs_key = true;
                self.damage.clear();
                self.discontinuity = true;
            }
            ToDecoder::Ring {
                memory,
                present,
                next_sequence,
            } => {
                let ids: Vec<u64> = present.iter().map(|pages| pages.id).collect();
                self.publisher.adopt_ring(memory, present, next_sequence);
                for id in ids {
                    self.to_supervisor
                        .send(ToSupervisor::SubscriberAdded { id });
                }
                if let Some((_, decoder)) = &mut self.decoder {
                    decoder.set_slots(self.publisher.slots());
                }
            }
            ToDecoder::ViewRing {
                view,
                memory,
                present,
                next_sequence,
            } => {
                let ids: Vec<u64> = present.iter().map(|pages| pages.id).collect();
                let adopted = self
                    .publisher
                    .adopt_view_ring(view, memory, present, next_sequence);
                for id in ids {
                    self.to_supervisor.send(if adopted {
                        ToSupervisor::SubscriberAdded { id }
                    } else {
                        ToSupervisor::SubscriberRefused { id }
                    });
                }
            }
            ToDecoder::Wanted {
                from,
                to,
                held,
                incomplete,
            } => self.begin(from, to, held, incomplete),
            ToDecoder::Idle => self.rest(),
            ToDecoder::CatchUpGranted { request } => {
                if let Some(catch_up) = &mut self.catch_up {
                    // An answer to an earlier question has been given back already.
                    catch_up.granted |= catch_up.request == request;
                }
            }
            ToDecoder::RingRefused {
                needed,
                available,
                reason,
            } => {
                self.publisher.ring_refused(needed, available, &reason);
            }
            ToDecoder::AddSubscriber { ring_id, pages } => {
                let id = pages.id;
                // Acknowledged only now: from here on each reclaim reads the new pin page.
                let added = self.publisher.add_subscriber(ring_id, pages);
                self.to_supervisor.send(if added {
                    ToSupervisor::SubscriberAdded { id }
                } else {
                    ToSupervisor::SubscriberRefused { id }
                });
            }
            ToDecoder::RemoveSubscriber { id } => {
                self.publisher.remove_subscriber(id);
                self.to_supervisor
                    .send(ToSupervisor::SubscriberRemoved { id });
            }
            // Units are the backlog's own, and `run` ends on Stop.
            ToDecoder::Unit(_) | ToDecoder::Stop => {}
        }
    }

    /// Somebody looks: decodes the newest key frame of the packet ring, and asks for leave to
    /// decode what came after it.
    fn begin(&mut self, from: Option<u64>, to: u64, held: u64, incomplete: bool) {
        self.doing(Decoding::Decoding);
        self.needs_key = true;
        self.damage.clear();
        self.requests = self.requests.wrapping_add(1);
        let begun =
            from.and_then(|from| CatchUp::begin(&self.packets, from, to, held, self.requests));
        let Some((key, mut rest)) = begun else {
            // The camera shows nothing yet, or its group of pictures is larger than the ring.
            self.discontinuity = true;
            self.health.dropped_catch_up.fetch_add(held, Relaxed);
            return;
        };
        // Else it is the group of pictures that was left off in the middle.
        self.discontinuity |= key.access_unit > self.published_through;
        self.decode(&key, true);
        if rest.is_done() {
            if incomplete {
                self.damage.lost();
            }
            return;
        }
        rest.incomplete = incomplete;
        self.to_supervisor.send(ToSupervisor::CatchUp {
            request: rest.request,
        });
        self.catch_up = Some(rest);
        self.doing(Decoding::CatchingUp);
    }

    /// Something moves: asks for leave to decode what was held back before unit `to`.
    fn go_back(&mut self, held: Held, to: u64) {
        if self.needs_key {
            // Its key frame was not decoded.
            self.health
                .dropped_before_key
                .fetch_add(held.units, Relaxed);
            return;
        }
        self.requests = self.requests.wrapping_add(1);
        self.to_supervisor.send(ToSupervisor::CatchUp {
            request: self.requests,
        });
        self.catch_up = Some(CatchUp::go_on(held, to, self.requests));
        self.patient = true;
        self.doing(Decoding::CatchingUp);
    }

    /// Whether there is nothing to decode, whatever is in the backlog.
    fn must_wait(&self) -> bool {
        self.catch_up.as_ref().is_some_and(|catch_up| {
            !self.overtaken(catch_up) && (!catch_up.granted || self.publisher.awaits_ring())
        })
    }

    /// Whether to go on at the next key frame, which has come, rather than with what is left.
    fn overtaken(&self, catch_up: &CatchUp) -> bool {
        self.backlog.has_key()
            && (!catch_up.patient
                || self.backlog.lag_ns(clock::monotonic_ns()) > LAG_JUMP_PATIENT_NS)
    }

    /// One unit, or the end of it.
    fn go_on_catching_up(&mut self) {
        if self.catch_up.as_ref().is_some_and(|c| self.overtaken(c)) {
            // Sooner than what is left. The units before it are as late.
            let skipped = self.backlog.jump_to_newest_key();
            self.health.dropped_catch_up.fetch_add(skipped, Relaxed);
            self.needs_key = true;
            self.discontinuity = true;
            self.end_catch_up();
            return;
        }
        if self.must_wait() {
            return;
        }
        let Some(mut rest) = self.catch_up.take() else {
            return;
        };
        let unit = rest.next_unit(&self.packets);
        if let Some(unit) = &unit {
            self.decode(unit, true);
            if rest.incomplete && rest.is_done() {
                self.damage.lost();
            }
        } else {
            // Overwritten meanwhile: on with the next key frame.
            self.needs_key = true;
            self.discontinuity = true;
        }
        let done = unit.is_none() || rest.is_done();
        self.catch_up = Some(rest);
        if done {
            self.end_catch_up();
        }
    }

    /// Gives the place in the budget back, or takes the question for it back.
    fn end_catch_up(&mut self) {
        let Some(catch_up) = self.catch_up.take() else {
            return;
        };
        self.health
            .dropped_catch_up
            .fetch_add(catch_up.left(), Relaxed);
        self.to_supervisor.send(ToSupervisor::CaughtUp {
            request: catch_up.request,
        });
        self.doing(Decoding::Decoding);
    }

    /// Nobody looks: lets go of the decoder and all it refers to.
    fn rest(&mut self) {
        self.end_catch_up();
        let left = self.backlog.clear();
        self.health.dropped_not_wanted.fetch_add(left, Relaxed);
        self.decoder = None;
        self.in_flight.clear();
        self.publisher.rest();
        self.skip = Skip::None;
        self.doing(Decoding::Idle);
    }

    fn doing(&self, doing: Decoding) {
        self.health.decoding.store(doing as u64, Relaxed);
    }

    /// Falls behind in steps, each of them visible in the counters.
    fn keep_up(&mut self) {
        let lag = self.backlog.lag_ns(clock::monotonic_ns());
        self.patient &= lag > LAG_SKIP_NON_REFERENCE_NS;
        let limit = if self.patient {
            LAG_JUMP_PATIENT_NS
        } else {
            LAG_JUMP_NS
        };
        if lag > limit {
            let skipped = self.backlog.jump_to_newest_key();
            self.health.dropped_overload.fetch_add(skipped, Relaxed);
        }
        let skip = if lag > LAG_SKIP_NON_REFERENCE_NS && !self.patient {
            Skip::NonReference
        } else {
            Skip::None
        };
        if skip != self.skip {
            self.skip = skip;
            if let Some((_, decoder)) = &mut self.decoder {
                decoder.set_skip(skip);
            }
        }
    }

    /// `late`: it was there before somebody looked.
    fn decode(&mut self, unit: &QueuedUnit, late: bool) {
        self.discontinuity |= unit.discontinuity;
        if unit.loss_before {
            self.damage.lost();
        }
        let corrupt = self.damage.unit(
            unit.codec,
            &unit.data,
            unit.access_unit,
            unit.key,
            self.needs_key,
        );
        self.needs_key &= !unit.key;
        if self.needs_key {
            self.health.dropped_before_key.fetch_add(1, Relaxed);
            return;
        }
        if self.settings.mode == DecodeMode::KeyFrames && !unit.key {
            self.health.dropped_not_key.fetch_add(1, Relaxed);
            return;
        }
        let meta = UnitMeta {
            access_unit: unit.access_unit,
            pts: unit.pts,
            capture_time_ns: unit.capture_time_ns,
            capture_time_from_sender_report: unit.capture_time_from_sender_report,
            arrival_ns: unit.arrival_ns,
            discontinuity: std::mem::take(&mut self.discontinuity),
            corrupt,
            late,
        };
        self.remember(meta);
        let skipping = self.skip == Skip::NonReference;
        let decoder = self.decoder_for(unit.codec);
        match decoder.submit(&unit.data, unit.pts, unit.access_unit) {
            // No picture comes of it: the decoder leaves it out. (Others decode it all the same.)
            Ok(done) if skipping && done.info.disposable && unit.codec == Codec::H264 => {
                self.health.dropped_overload.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
            Err(error) => {
                self.health.decode_errors.fetch_add(1, Relaxed);
                tracing::debug!(%error, unit = unit.access_unit, "access unit not decoded");
                self.damage.refused(unit.codec, &unit.data);
            }
        }
        if !self.take_pictures() {
            self.damage.refused(unit.codec, &unit.data);
        }
        self.note_decoder();
    }

    /// Tells what decodes, and what no longer does.
    fn note_decoder(&mut self) {
        let Some((_, decoder)) = &mut self.decoder else {
            return;
        };
        if let Some(why) = decoder.take_fallback() {
            // Given up for the other streams of this camera's life, too: a new reader tries it again.
            self.hardware = None;
            self.health.hardware_fallbacks.fetch_add(1, Relaxed);
            tracing::warn!("software decodes from now on: {why}");
            if decoder.hardware().is_none() && !decoder.is_open() {
                // What comes before the next key frame refers to pictures that went with the device.
                self.damage.lost();
            }
        }
        if decoder.is_open() {
            let with = decoder
                .hardware()
                .map_or(DecodesWith::Software, |kind| match kind {
                    HardwareKind::Cuda => DecodesWith::Cuda,
                    HardwareKind::Vaapi => DecodesWith::Vaapi,
                    HardwareKind::Qsv => DecodesWith::Qsv,
                    HardwareKind::V4l2m2m => DecodesWith::V4l2m2m,
                });
            self.health.decodes_with.store(with as u64, Relaxed);
        }
    }

    /// The decoder of this codec; a camera may change its codec from one session to the next.
    fn decoder_for(&mut self, codec: Codec) -> &mut PictureDecoder {
        if self
            .decoder
            .as_ref()
            .is_some_and(|(present, _)| *present != codec)
        {
            self.decoder = None;
        }
        let (slots, threads, skip) = (self.publisher.slots(), self.settings.threads, self.skip);
        let hardware = self
            .hardware
            .clone()
            .filter(|device| device.kind().takes(codec));
        let (_, decoder) = self.decoder.get_or_insert_with(|| {
            let mut decoder = PictureDecoder::new(PictureDecoderOptions {
                codec,
                threads,
                slots,
                max_pixels: MAX_PIXELS,
            });
            decoder.set_skip(skip);
            if let Some(device) = hardware {
                decoder.set_hardware(device);
            }
            (codec, decoder)
        });
        decoder
    }

    fn remember(&mut self, meta: UnitMeta) {
        if self.in_flight.len() == MAX_IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back(meta);
    }

    /// Publishes what comes out. False: the decoder refused the last unit.
    fn take_pictures(&mut self) -> bool {
        let Some((_, decoder)) = &mut self.decoder else {
            return true;
        };
        loop {
            let picture = match decoder.next_picture() {
                Ok(Some(picture)) => picture,
                Ok(None) => return !decoder.refused(),
                Err(error) => {
                    self.health.decode_errors.fetch_add(1, Relaxed);
                    tracing::debug!(%error, "picture not decoded");
                    return false;
                }
            };
            self.health.frames_decoded.fetch_add(1, Relaxed);
            self.health
                .last_decoded_ns
                .store(clock::monotonic_ns(), Relaxed);
            // JPEG has no parameter sets, and no references.
            let refs = decoder
                .parameters()
                .map_or(2, StreamParameters::decoder_pictures);
            self.publisher
                .decoder_needs(refs, decoder.wanted_slot_bytes());
            let unit = picture.opaque();
            let too_early = self.damage.shown(unit);
            if let Some(mut meta) = self
                .in_flight
                .iter()
                .find(|m| m.access_unit == unit)
                .copied()
            {
                if meta.late && meta.pts <= self.published_pts {
                    continue;
                }
                self.published_through = self.published_through.max(meta.access_unit);
                meta.corrupt |= too_early;
                self.published_pts = self.published_pts.max(meta.pts);
                self.publisher.publish(picture, &meta);
            }
        }
    }
}
