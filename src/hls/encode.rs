//! Recording a stream's frames, encoded anew: for cameras whose codec players do not know, or in several
//! sizes.
//!
//! ```text
//! frame ring ─▶ frames ─▶ ladder: (scale ─▶ encode) per rendition ─▶ rendition ─▶ DATA_DIR/recordings/…
//! ```
//!
//! Promises: frames are read where they lie, and let go once every encoder has taken them; each keeps its
//! own time, whatever the camera's rate does; all renditions begin their segments with the same frame. A
//! slow encoder loses frames, which are counted, and holds nobody up. Damaged frames are left out.
#![deny(unsafe_code)]

mod frames;
mod ladder;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camring_ring::FrameFlags;

use super::pace::Pace;
use super::rendition::{Cut, Follows, RenditionWriter, Sample};
use crate::config::{Record, RenditionSpec};
use crate::control::hls::{HlsReport, HlsState};
use crate::media::{Codec, EncoderKind, VIDEO_TIMESCALE};
use crate::recording::{Rendition, Tree};

use frames::{Frames, Taken};
use ladder::Ladder;

/// How long renditions that cannot be opened, and an encoder that fails, are left alone.
const PAUSE: Duration = Duration::from_secs(2);
/// A step between frames that begins a segment: nothing was sent meanwhile.
const HOLE: i64 = 2 * VIDEO_TIMESCALE as i64;
/// How often the encoders hear of the camera's rate.
const TELL_FPS_EVERY: i64 = VIDEO_TIMESCALE as i64;

/// Records one stream in one or more renditions.
#[derive(Debug)]
pub struct Encode {
    frames: Frames,
    tree: Tree,
    stream: String,
    cut: Cut,
    specs: Vec<RenditionSpec>,
    writers: Vec<RenditionWriter>,
    /// Why there are no writers, and when the next try is.
    closed: Option<(io::Error, Instant)>,
    ladder: Option<Ladder>,
    kind: Option<EncoderKind>,
    /// Why nothing is encoded, and when the next try is.
    unable: Option<(String, Instant)>,
    pace: Pace,
    /// The last frame's time.
    newest: Option<i64>,
    /// That of the last one that a segment was to begin with.
    last_key: Option<i64>,
    told_fps: i64,
    /// What is added to the ring's times, so that none is negative.
    shift: i64,
    dropped: u64,
    errors: u64,
}

impl Encode {
    /// Nothing is contacted or written yet.
    pub fn new(socket: PathBuf, data_dir: &Path, stream: &str, cut: Cut, record: &Record) -> Self {
        Self {
            frames: Frames::new(socket, stream.to_owned()),
            tree: Tree::new(data_dir),
            stream: stream.to_owned(),
            cut,
            specs: ladder::renditions(record),
            writers: Vec::new(),
            closed: None,
            ladder: None,
            kind: None,
            unable: None,
            pace: Pace::default(),
            newest: None,
            last_key: None,
            told_fps: 0,
            shift: 0,
            dropped: 0,
            errors: 0,
        }
    }

    /// Opens the renditions now, rather than with the first frame.
    ///
    /// # Errors
    /// As [`RenditionWriter::open`], for any of them.
    pub fn open(&mut self) -> io::Result<()> {
        if self.writers.is_empty() {
            let opened: io::Result<Vec<_>> = self
                .specs
                .iter()
                .map(|spec| RenditionWriter::open(self.rendition(spec), self.cut))
                .collect();
            self.writers = opened?;
            self.closed = None;
        }
        Ok(())
    }

    fn rendition(&self, spec: &RenditionSpec) -> Rendition {
        let name = format!("{}p", spec.height);
        self.tree.rendition(&self.stream, &name)
    }

    /// Encodes all frames that are there, and waits for more: `most` at most.
    pub fn work(&mut self, most: Duration) {
        let due = |at: &Instant| Instant::now() >= *at;
        if self.closed.as_ref().is_none_or(|(_, at)| due(at))
            && let Err(error) = self.open()
        {
            if self.closed.is_none() {
                tracing::warn!("cannot record {}: {error}; tried again", self.stream);
            }
            self.errors += u64::from(error.kind() != io::ErrorKind::WouldBlock);
            self.closed = Some((error, Instant::now() + PAUSE));
        }
        let until = Instant::now() + most;
        // A camera that is faster than the encoder must not keep it from ever looking up.
        while let Some(taken) = self.frames.next() {
            self.take(taken);
            if Instant::now() >= until {
                break;
            }
        }
        for writer in &mut self.writers {
            writer.tick();
        }
        self.frames
            .wait(until.saturating_duration_since(Instant::now()));
    }

    /// Writes what is open and waits until it is on the disk.
    pub fn finish(&mut self) {
        for writer in &mut self.writers {
            writer.finish();
        }
    }

    fn take(&mut self, taken: Taken) {
        if self.writers.is_empty()
            || self
                .unable
                .as_ref()
                .is_some_and(|(_, at)| Instant::now() < *at)
        {
            self.dropped += 1;
            return;
        }
        let Some(sample) = self.sample(&taken) else {
            // Two frames cannot be shown at the same time.
            self.dropped += 1;
            return;
        };
        let done = ladder::canvas(taken.frame).and_then(|canvas| {
            if self
                .ladder
                .as_ref()
                .is_none_or(|ladder| !ladder.fits(&canvas))
            {
                self.ladder = None;
                let ladder = Ladder::open(&canvas, &self.specs, &mut self.kind)?;
                self.ladder = Some(ladder);
                self.told_fps = 0;
            }
            match &mut self.ladder {
                Some(ladder) => ladder.encode(canvas, sample, &mut self.writers),
                None => Ok(()),
            }
        });
        match done {
            Ok(()) => self.unable = None,
            Err(error) => {
                tracing::warn!("cannot encode {}: {error}; tried again", self.stream);
                self.dropped += 1;
                // Opened anew, begun with a key frame; another kind may be needed by then.
                self.ladder = None;
                self.kind = None;
                self.last_key = None;
                self.unable = Some((error.to_string(), Instant::now() + PAUSE));
            }
        }
        self.tell_fps();
    }

    /// Its times, and whether a segment begins with it. `None`: it is not after the one before.
    fn sample(&mut self, taken: &Taken) -> Option<Sample> {
        let descriptor = taken.frame.descriptor();
        let mut follows = taken.follows;
        if follows == Follows::Break {
            self.shift = taken.pts.saturating_neg().max(0);
        }
        let pts = taken.pts.saturating_add(self.shift);
        let step = self.newest.map(|newest| pts.saturating_sub(newest));
        if follows == Follows::On && step.is_some_and(|step| step <= 0) {
            return None;
        }
        if step.is_some_and(|step| step <= 0) {
            follows = Follows::Break;
        }
        if let Some(step) = step.filter(|_| follows == Follows::On) {
            self.pace.note(step);
        }
        self.newest = Some(pts);
        let half = self.pace.interval().unwrap_or(0) / 2;
        let segment =
            i64::try_from(self.cut.segment.as_micros() * u128::from(VIDEO_TIMESCALE) / 1_000_000);
        let due = self.last_key.is_none_or(|last| {
            pts.saturating_sub(last).saturating_add(half) >= segment.unwrap_or(i64::MAX)
        });
        // Where a writer waits for a key frame it gets one; while the disk is full, not with each.
        let waiting = |writer: usize| {
            let writer = self.writers.get(writer);
            writer.is_some_and(|writer| !writer.is_recording() && writer.trouble().is_none())
        };
        let ladder = self.ladder.as_ref();
        let wanted = ladder.is_none_or(|ladder| ladder.writers().any(waiting));
        let hole = step.is_some_and(|step| step > HOLE);
        let key = due || wanted || hole || follows != Follows::On;
        if key {
            self.last_key = Some(pts);
        }
        Some(Sample {
            codec: Codec::H264,
            dts: pts,
            pts,
            key,
            capture_ns: descriptor.capture_time_ns,
            sender_report: descriptor
                .flags
                .contains(FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT),
            follows,
            loss_before: taken.frame.missed() > 0 || taken.frame.hidden() > 0,
        })
    }

    fn tell_fps(&mut self) {
        let (Some(newest), Some(interval)) = (self.newest, self.pace.interval()) else {
            return;
        };
        if newest.saturating_sub(self.told_fps).abs() < TELL_FPS_EVERY || interval <= 0 {
            return;
        }
        self.told_fps = newest;
        if let Some(ladder) = &mut self.ladder {
            ladder.set_fps(f64::from(VIDEO_TIMESCALE) / interval as f64);
        }
    }

    /// How it goes.
    pub fn report(&self) -> HlsReport {
        let (state, reason) = self.state();
        let mut report = HlsReport {
            state,
            reason,
            units_missed: self.frames.missed() + self.frames.damaged() + self.dropped,
            write_errors: self.errors,
            ..HlsReport::default()
        };
        for writer in &self.writers {
            let counts = writer.counts();
            report.segments += counts.segments;
            report.bytes += counts.bytes;
            report.units = report.units.max(counts.units);
            report.gaps = report.gaps.max(counts.gaps);
            report.write_errors += writer.write_errors();
            report.last_segment_unix_ms =
                report.last_segment_unix_ms.max(counts.last_segment_unix_ms);
        }
        report
    }

    fn state(&self) -> (HlsState, String) {
        if let Some((error, _)) = &self.closed {
            let stream = &self.stream;
            return match error.kind() {
                io::ErrorKind::WouldBlock => (
                    HlsState::Failed,
                    format!("another process records {stream}: stop it (camring hls?)"),
                ),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    (HlsState::DiskFull, format!("no room to record {stream}"))
                }
                _ => (HlsState::Failed, format!("cannot record {stream}: {error}")),
            };
        }
        if let Some((reason, _)) = &self.unable {
            return (HlsState::Failed, reason.clone());
        }
        let trouble = self.writers.iter().find_map(RenditionWriter::trouble);
        if let Some(trouble) = trouble {
            let state = match trouble.full {
                true => HlsState::DiskFull,
                false => HlsState::Failed,
            };
            return (state, trouble.text.clone());
        }
        let recording = self.writers.iter().any(RenditionWriter::is_recording);
        match recording {
            true => (HlsState::Recording, self.encoder_name()),
            false if self.frames.trouble().is_empty() => {
                (HlsState::Waiting, "for a frame of the camera".to_owned())
            }
            false => (HlsState::Waiting, self.frames.trouble().to_owned()),
        }
    }

    fn encoder_name(&self) -> String {
        self.kind.map_or(String::new(), |kind| {
            format!("encoded with {}", kind.name())
        })
    }
}
