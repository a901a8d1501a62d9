//! Recording a stream as the camera sends it: nothing is decoded or encoded.
#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camring_ring::{Codec, UnitDescriptor, UnitFlags};

use super::parameters::Sets;
use super::rendition::{Cut, Follows, RenditionWriter, Sample};
use super::sound::SoundSource;
use super::source::{Source, Unit};
use crate::control::hls::{HlsReport, HlsState};
use crate::media::VIDEO_TIMESCALE;
use crate::recording::{Rendition, Tree};

/// How long a rendition that cannot be opened (another writer has it, the disk is read-only) is left
/// alone.
const OPEN_PAUSE: Duration = Duration::from_secs(2);

/// How often the sound is looked at while pictures wait for it.
const LISTEN_EVERY: Duration = Duration::from_millis(20);

/// Units that are held at most: more than come in [`super::sound::PATIENCE`].
const MOST_HELD: usize = 64;
/// And bytes: as many as a part may have.
const MOST_HELD_BYTES: usize = 16 << 20;

/// Records one stream, in rendition `source`.
#[derive(Debug)]
pub struct Copy {
    source: Source,
    sound: Option<SoundSource>,
    /// Units that wait for the sound that is heard with them, and since when.
    held: VecDeque<(Unit, Vec<u8>, Instant)>,
    rendition: Rendition,
    cut: Cut,
    writer: Option<RenditionWriter>,
    /// Why there is no writer, and when the next try is.
    closed: Option<(io::Error, Instant)>,
    unit: Vec<u8>,
    /// The last decoding time that was made up; see [`not_negative`].
    made_up: i64,
    unplayable: Option<Codec>,
    /// Whether the ring was asked for what a former process left off at.
    asked: bool,
    before: Counted,
}

/// Of writers that are gone, and of units without one.
#[derive(Debug, Default)]
struct Counted {
    errors: u64,
    dropped: u64,
}

impl Copy {
    /// Nothing is contacted or written yet.
    pub fn new(socket: PathBuf, data_dir: &Path, stream: &str, cut: Cut) -> Self {
        Self {
            source: Source::new(socket, stream.to_owned()),
            sound: None,
            held: VecDeque::new(),
            rendition: Tree::new(data_dir).rendition(stream, Rendition::SOURCE),
            cut,
            writer: None,
            closed: None,
            unit: Vec::new(),
            made_up: -1,
            unplayable: None,
            asked: false,
            before: Counted::default(),
        }
    }

    /// With the camera's sound, wherever there is any.
    #[must_use]
    pub fn with_sound(mut self) -> Self {
        let (socket, stream) = (self.source.socket(), &self.rendition.stream);
        self.sound = Some(SoundSource::new(socket.to_owned(), stream));
        self
    }

    /// Opens the rendition now, rather than with the first unit.
    ///
    /// # Errors
    /// As [`RenditionWriter::open`].
    pub fn open(&mut self) -> io::Result<()> {
        if self.writer.is_none() {
            self.writer = Some(RenditionWriter::open(self.rendition.clone(), self.cut)?);
            self.closed = None;
        }
        Ok(())
    }

    /// Takes all units that are there, and waits for more: `most` at most.
    pub fn work(&mut self, most: Duration) {
        let due = self
            .closed
            .as_ref()
            .is_none_or(|(_, at)| Instant::now() >= *at);
        if due && let Err(error) = self.open() {
            if self.closed.is_none() {
                let folder = self.rendition.folder.display();
                tracing::warn!("cannot record in {folder}: {error}; tried again");
            }
            self.before.errors += u64::from(error.kind() != io::ErrorKind::WouldBlock);
            self.closed = Some((error, Instant::now() + OPEN_PAUSE));
        }
        if !self.asked && self.writer.is_some() && self.source.ready() {
            self.asked = true;
            self.listen();
            self.go_on();
        }
        self.listen();
        let until = Instant::now() + most;
        let mut unit = std::mem::take(&mut self.unit);
        while let Some(next) = self.source.next(&mut unit) {
            let now = Instant::now();
            if !self.held.is_empty() || self.waits_for_sound(&next, now) {
                self.held.push_back((next, std::mem::take(&mut unit), now));
                let bytes: usize = self.held.iter().map(|(_, bytes, _)| bytes.len()).sum();
                if self.held.len() > MOST_HELD || bytes > MOST_HELD_BYTES {
                    self.release();
                }
            } else {
                self.take(&next, &unit);
            }
            // A camera that is faster than the disk must not keep it from ever looking up.
            if now >= until {
                break;
            }
        }
        self.unit = unit;
        self.let_go();
        if let Some(writer) = &mut self.writer {
            writer.tick();
        }
        // Sound rings no bell here.
        let left = until.saturating_duration_since(Instant::now());
        let most = match self.held.is_empty() {
            true => left,
            false => left.min(LISTEN_EVERY),
        };
        self.source.wait(most);
    }

    /// Takes the sound that has come.
    fn listen(&mut self) {
        if let (Some(sound), Some(writer)) = (&mut self.sound, &mut self.writer) {
            sound.poll(writer.sound());
        }
    }

    /// Whether sound is still to come that is heard while a unit, which came at `since`, is seen.
    fn waits_for_sound(&mut self, unit: &Unit, since: Instant) -> bool {
        let (Some(_), Some(writer)) = (&self.sound, &mut self.writer) else {
            return false;
        };
        let now = Instant::now();
        let end = sample(&unit.descriptor)
            .pts
            .saturating_add(writer.interval());
        let waited = now.duration_since(since);
        writer.sound().is_awaited(end, waited, now)
    }

    /// Takes what was held, as far as its sound has come.
    fn let_go(&mut self) {
        while let Some((unit, bytes, since)) = self.held.pop_front() {
            if self.waits_for_sound(&unit, since) {
                self.held.push_front((unit, bytes, since));
                return;
            }
            self.take(&unit, &bytes);
        }
    }

    /// Takes all that was held.
    fn release(&mut self) {
        while let Some((unit, bytes, _)) = self.held.pop_front() {
            self.take(&unit, &bytes);
        }
    }

    /// Writes what is open and waits until it is on the disk.
    pub fn finish(&mut self) {
        self.release();
        if let Some(writer) = &mut self.writer {
            writer.finish();
        }
    }

    /// How it goes.
    pub fn report(&self) -> HlsReport {
        let counts = self.writer.as_ref().map(|writer| writer.counts().clone());
        let counts = counts.unwrap_or_default();
        let errors = self
            .writer
            .as_ref()
            .map_or(0, RenditionWriter::write_errors);
        let (state, reason) = self.state();
        HlsReport {
            state,
            reason,
            segments: counts.segments,
            bytes: counts.bytes,
            units: counts.units,
            units_missed: self.source.missed() + counts.units_dropped + self.before.dropped,
            gaps: counts.gaps,
            write_errors: errors + self.before.errors,
            last_segment_unix_ms: counts.last_segment_unix_ms,
        }
    }

    fn state(&self) -> (HlsState, String) {
        if let Some((error, _)) = &self.closed {
            let folder = self.rendition.folder.display();
            return match error.kind() {
                io::ErrorKind::WouldBlock => (
                    HlsState::Failed,
                    format!("another process records in {folder}: stop it (camring hls?)"),
                ),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    (HlsState::DiskFull, format!("no room in {folder}"))
                }
                _ => (
                    HlsState::Failed,
                    format!("cannot record in {folder}: {error}"),
                ),
            };
        }
        if let Some(codec) = self.unplayable {
            let reason = format!("{codec} cannot be copied: set mode = \"encode\"");
            return (HlsState::Failed, reason);
        }
        let writer = self.writer.as_ref();
        if let Some(trouble) = writer.and_then(RenditionWriter::trouble) {
            let state = match trouble.full {
                true => HlsState::DiskFull,
                false => HlsState::Failed,
            };
            return (state, trouble.text.clone());
        }
        match writer.is_some_and(RenditionWriter::is_recording) {
            true => (HlsState::Recording, String::new()),
            false if self.source.trouble().is_empty() => (
                HlsState::Waiting,
                "for a key frame of the camera".to_owned(),
            ),
            false => (HlsState::Waiting, self.source.trouble().to_owned()),
        }
    }

    /// Goes on where a killed process left off, if the ring still has what came next.
    fn go_on(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let Some(left_off) = writer.left_off() else {
            return;
        };
        let found = self.source.go_on_after(|unit| {
            // The index keeps µs.
            let off = unit.capture_time_ns.abs_diff(left_off.capture_ns);
            off <= 1_000 && sample(unit).pts == left_off.time
        });
        let Some((last, key)) = found else {
            return;
        };
        let last_sample = sample(&last);
        let sets = Sets::of(last.codec, &key);
        let resumed = sets.is_some_and(|sets| writer.go_on(&last_sample, sets));
        tracing::debug!(
            resumed,
            unit = last.sequence,
            "a former process's recording"
        );
    }

    fn take(&mut self, unit: &Unit, bytes: &[u8]) {
        let descriptor = &unit.descriptor;
        let Some(writer) = &mut self.writer else {
            self.before.dropped += 1;
            return;
        };
        if !matches!(descriptor.codec, Codec::H264 | Codec::H265) {
            self.unplayable = Some(descriptor.codec);
            self.before.dropped += 1;
            return;
        }
        self.unplayable = None;
        let mut sample = sample(descriptor);
        let key = sample.key;
        if unit.breaks {
            sample.follows = Follows::Break;
            self.made_up = -1;
        } else if !key && descriptor.flags.contains(UnitFlags::GOP_INCOMPLETE) {
            writer.interrupt();
        }
        if sample.dts <= self.made_up || sample.dts < 0 {
            sample = not_negative(sample, &mut self.made_up);
        }
        writer.push(sample, bytes);
    }
}

/// The first pictures of a stream with B pictures are decoded before time 0, which a file cannot say:
/// they get times a tick apart, from 0 on. When they are shown does not change.
fn not_negative(sample: Sample, made_up: &mut i64) -> Sample {
    *made_up += 1;
    Sample {
        dts: *made_up,
        pts: sample.pts.max(*made_up),
        ..sample
    }
}

fn sample(unit: &UnitDescriptor) -> Sample {
    let flag = |flag| unit.flags.contains(flag);
    let rate = i128::from(VIDEO_TIMESCALE);
    let scale = |time: i64| {
        let ticks = i128::from(time) * rate / i128::from(unit.time_base_den.max(1));
        // Room for sums and differences.
        let most = i128::from(i64::MAX / 4);
        i64::try_from(ticks.clamp(-most, most)).unwrap_or(0)
    };
    Sample {
        codec: unit.codec,
        dts: scale(unit.dts),
        pts: scale(unit.pts),
        key: flag(UnitFlags::KEY),
        capture_ns: unit.capture_time_ns,
        sender_report: flag(UnitFlags::CAPTURE_TIME_FROM_SENDER_REPORT),
        follows: match flag(UnitFlags::DISCONTINUITY) {
            true => Follows::Jump,
            false => Follows::On,
        },
        loss_before: flag(UnitFlags::LOSS_BEFORE),
    }
}
