//! The camera's sound on its way to the recording: a packet ring of its own, beside that of the
//! pictures.
//!
//! Promises: where no sound is wanted, nothing here does anything; whatever becomes of the sound, the
//! pictures do not notice; frames rise strictly in time, on the scale of the pictures; the ring exists
//! only once there is a frame for it, and frames until then are dropped.
//! Must never: block, or ask for a ring more often than every [`ASK_AGAIN_NS`].

mod clock;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use camring_ring::{
    Codec, PacketReader, PacketWriter, RingError, SealedMemory, SubscriberPages, UnitDescriptor,
    UnitFlags,
};

use super::ReportSender;
use super::source::{AudioFrame, SenderReport};
use super::timeline::{Arrival, PTS_RATE, Timeline, left_off};
use crate::control::ToSupervisor;
use crate::health::{Health, Sound};

pub use clock::{AudioClock, AudioStamp, Basis};

/// A ring is asked for again when the supervisor did not answer: it had no memory for it.
const ASK_AGAIN_NS: u64 = 30_000_000_000;

/// The sound of one camera. Lives on the network thread.
pub struct AudioTrack {
    wanted: bool,
    writer: Option<PacketWriter>,
    /// When a ring was last asked for, `CLOCK_MONOTONIC` ns.
    asked_ns: Option<u64>,
    clock: AudioClock,
    /// Of the clock: sound has RTP times of its own rate.
    clock_rate: u32,
    /// Frames were dropped since the last one that was kept.
    gap: bool,
    health: Arc<Health>,
    report: ReportSender,
}

impl std::fmt::Debug for AudioTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioTrack")
            .field("wanted", &self.wanted)
            .field("writer", &self.writer)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl AudioTrack {
    /// `wanted`: the stream is recorded with its sound.
    pub fn new(wanted: bool, health: Arc<Health>, report: ReportSender) -> Self {
        Self {
            wanted,
            writer: None,
            asked_ns: None,
            clock: AudioClock::new(PTS_RATE, i64::MIN),
            clock_rate: PTS_RATE,
            gap: false,
            health,
            report,
        }
    }

    /// Takes over a ring: that of this reader's predecessor, or the one that was asked for. One that
    /// cannot be resumed is given up: the next frame asks for another.
    pub fn adopt(&mut self, memory: SealedMemory, present: Vec<SubscriberPages>) {
        let opened = PacketReader::new(&memory).and_then(|history| {
            let newest = left_off(&history);
            Ok((PacketWriter::resume(memory, present)?, newest))
        });
        match opened {
            Ok((writer, newest)) => {
                // A predecessor's frames are not to be repeated.
                let newest = newest.map_or(i64::MIN, |left_off| left_off.pts);
                self.clock = AudioClock::new(self.clock_rate, newest.max(self.clock.newest()));
                self.writer = Some(writer);
                self.gap = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the ring of the sound cannot be used");
                self.writer = None;
            }
        }
    }

    /// Lets a subscriber be woken.
    ///
    /// # Errors
    /// It means another ring, or its pages are not sound.
    pub fn add_subscriber(
        &mut self,
        ring_id: u64,
        pages: SubscriberPages,
    ) -> Result<(), RingError> {
        let id = pages.id;
        match self.writer.as_mut().filter(|w| w.ring_id() == ring_id) {
            Some(writer) => writer.add_subscriber(pages),
            None => Err(RingError::Subscriber {
                id,
                reason: "its ring is being replaced",
            }),
        }
    }

    /// Forgets a subscriber. `false`: there was none.
    pub fn remove_subscriber(&mut self, id: u64) -> bool {
        let writer = self.writer.as_mut();
        writer.is_some_and(|writer| writer.remove_subscriber(id))
    }

    /// A session is up. `sound`: what becomes of the camera's.
    pub fn session_started(&mut self, sound: Option<Sound>) {
        self.clock = AudioClock::new(self.clock_rate, self.clock.newest());
        self.gap = true;
        self.health
            .sound
            .store(sound.map_or(0, |sound| sound as u64), Relaxed);
    }

    /// What becomes of the sound has changed.
    pub fn became(&mut self, sound: Sound) {
        tracing::info!(?sound, "the camera's sound");
        self.health.sound.store(sound as u64, Relaxed);
    }

    /// A clock reading of the pictures.
    pub fn video_report(&mut self, report: &SenderReport) {
        self.clock.video_report(report.ntp_utc_ns, report.rtp_time);
    }

    /// A clock reading of the sound.
    pub fn report(&mut self, report: &SenderReport, timeline: &Timeline) {
        self.clock
            .audio_report(report.ntp_utc_ns, report.rtp_time, timeline);
    }

    /// The next frame, into the ring.
    pub fn frame(&mut self, frame: &AudioFrame, timeline: &Timeline) {
        if !self.wanted {
            return;
        }
        if self.clock_rate != frame.clock_rate {
            self.clock_rate = frame.clock_rate;
            self.clock = AudioClock::new(frame.clock_rate, self.clock.newest());
        }
        let arrival = Arrival {
            monotonic_ns: frame.arrival_ns,
            utc_ns: 0,
        };
        let before = self.clock.basis();
        let stamp = self
            .clock
            .stamp(frame.rtp_time, frame.video_rtp_time, arrival, timeline);
        if self.clock.basis() != before {
            tracing::debug!(basis = ?self.clock.basis(), "sound and pictures are related anew");
        }
        let unit = frame.config.with_header(&frame.data);
        let (Some(stamp), Some(unit)) = (stamp, unit) else {
            self.gap = true;
            return;
        };
        if !self.has_ring(frame.arrival_ns) || !self.append(frame, &stamp, &unit) {
            self.gap = true;
            return;
        }
        self.gap = false;
        self.health.sound.store(Sound::Recorded as u64, Relaxed);
        self.health.audio_frames.fetch_add(1, Relaxed);
    }

    fn append(&mut self, frame: &AudioFrame, stamp: &AudioStamp, unit: &[u8]) -> bool {
        let Some(writer) = &mut self.writer else {
            return false;
        };
        // Decoding can begin with any frame.
        let mut flags = UnitFlags::KEY;
        for (set, flag) in [
            (stamp.discontinuity || self.gap, UnitFlags::DISCONTINUITY),
            (frame.lost_before > 0, UnitFlags::LOSS_BEFORE),
            (
                stamp.from_sender_report,
                UnitFlags::CAPTURE_TIME_FROM_SENDER_REPORT,
            ),
        ] {
            if set {
                flags |= flag;
            }
        }
        let descriptor = UnitDescriptor {
            sequence: 0,
            len: 0,
            codec: Codec::Aac,
            flags,
            pts: stamp.pts,
            dts: stamp.pts,
            time_base_den: PTS_RATE,
            capture_time_ns: stamp.capture_time_ns,
            arrival_ns: frame.arrival_ns,
            width: 0,
            height: 0,
            generation: 0,
        };
        match writer.append(&descriptor, unit) {
            Ok(appended) => matches!(appended, camring_ring::Appended::Stored { .. }),
            Err(error) => {
                tracing::debug!(%error, "a frame of sound is not kept");
                false
            }
        }
    }

    /// Asks for a ring where there is none.
    fn has_ring(&mut self, now_ns: u64) -> bool {
        if self.writer.is_some() {
            return true;
        }
        let again = self
            .asked_ns
            .is_none_or(|asked| now_ns.saturating_sub(asked) >= ASK_AGAIN_NS);
        if again {
            self.asked_ns = Some(now_ns);
            self.report.send(ToSupervisor::NeedAudioRing);
        }
        false
    }
}
