//! A rendition on its way to the disk: access units become parts, segments and minute files.
//!
//! A part is written when its last unit has come: no unit waits for the one after it. So the duration
//! of a part's last picture is a guess (the stream's usual step) unless the next unit is there already;
//! the time of every picture is exact.
//!
//! Promises: what the disk refuses is dropped, counted, and recording goes on with a later key frame;
//! what was committed is never touched again. A file begins with a key frame and has one map, one init
//! segment and one discontinuity number. Memory: one part.
//! Must never: wait for a disk to flush (a thread does that), or write what cannot be decoded.
#![deny(unsafe_code)]

mod disk;
mod early;
mod resume;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::pace::{Pace, PartLength, duration, ticks};
use super::parameters::Sets;
use super::part::Part;
pub use super::part::{Follows, Sample};
use super::sound::SoundTrack;
use crate::media::aac::AacConfig;
use crate::media::{FragmentMuxer, VIDEO_TIMESCALE};
use crate::recording::{
    ChunkFlags, Header, InitId, Lock, MinuteFile, Numbers, Rendition, Tail, recover_open,
    write_init,
};
pub use disk::DiskTrouble;
use early::Early;

/// A step between pictures that makes a break of the next key frame: nothing was sent meanwhile.
const HOLE: i64 = 2 * VIDEO_TIMESCALE as i64;
/// No unit for this long: what is open is written as it is …
const QUIET: Duration = Duration::from_millis(700);
/// … and for this long: the file is finished, and the next one begins after a break.
const SILENCE: Duration = Duration::from_secs(10);
/// A segment ends at a key frame, or here: a camera that sends none would fill one segment, and with it one
/// file, for ever. Longer than any group of pictures that is meant to be looked at; a file is shorter than the
/// 10 minutes that whoever looks for one takes into account.
const LONGEST_SEGMENT: i64 = 5 * 60 * VIDEO_TIMESCALE as i64;
/// Or at so many bytes: 5 minutes of 28 Mbit/s.
const LARGEST_SEGMENT: u64 = 1 << 30;
/// A file is not given up for another part target before it lasts this long, in ticks.
const SHORTEST_FILE: i64 = 10 * VIDEO_TIMESCALE as i64;

/// How a rendition is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// A segment ends at the first key frame after this.
    pub segment: Duration,
    /// Parts are at most this long, and one picture at least.
    pub part: Duration,
}

/// What has come of it so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Segments finished.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Units written.
    pub units: u64,
    /// Units that came and were not written: the disk refused them, or they could not be decoded
    /// without one that is missing.
    pub units_dropped: u64,
    /// Discontinuities begun.
    pub gaps: u64,
    /// When the last segment was finished.
    pub last_segment_unix_ms: Option<u64>,
}

/// The stream as it is now.
#[derive(Debug)]
struct Track {
    sets: Sets,
    muxer: FragmentMuxer,
    init: InitId,
    /// Its second track.
    sound: Option<AacConfig>,
}

#[derive(Debug)]
struct OpenFile {
    minute: MinuteFile,
    length: PartLength,
    /// The minute it belongs to.
    slot: i64,
    first_dts: i64,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    media_sequence: u64,
    first_dts: i64,
    /// Its next part.
    part: u32,
    /// Written of it.
    bytes: u64,
    /// Its first picture, where the map of a new file begins.
    anchor: Sample,
}

/// Writes one rendition. One thread at a time.
#[derive(Debug)]
pub struct RenditionWriter {
    rendition: Rendition,
    lock: Lock,
    cut: Cut,
    /// Spreads the ends of files of many streams over the minute.
    phase_ms: i64,
    /// Numbers that no file has used.
    media_sequence: u64,
    discontinuity_sequence: u64,
    /// A file has that number already.
    number_used: bool,
    /// The first number of the newest file.
    newest_file: u64,
    /// What a former writer left open, until it is clear whether it can be gone on with.
    tail: Option<Tail>,
    /// The next file begins after a break.
    broken: bool,
    track: Option<Track>,
    file: Option<OpenFile>,
    segment: Option<Segment>,
    part: Part,
    /// What is heard, and what is to be added to its times.
    sound: SoundTrack,
    pace: Pace,
    early: Early,
    newest: Option<(i64, Instant)>,
    opened: Instant,
    awaits_key: bool,
    /// The next key frame begins a file.
    new_file: bool,
    trouble: Option<DiskTrouble>,
    counts: Counts,
    write_errors: Arc<AtomicU64>,
}

impl RenditionWriter {
    /// Takes the rendition, and puts in order what a former writer left.
    ///
    /// # Errors
    /// `WouldBlock`: another process records it. Otherwise the kernel's answer.
    pub fn open(rendition: Rendition, cut: Cut) -> io::Result<Self> {
        let lock = Lock::take(&rendition)?;
        let (resumed, tail) = recover_open(&rendition)?;
        let resumed = resumed.or_later(lock.numbers()?);
        let phase = InitId::of(rendition.stream.as_bytes()).0 % 60_000;
        Ok(Self {
            phase_ms: i64::try_from(phase).unwrap_or(0),
            media_sequence: resumed.media_sequence,
            discontinuity_sequence: resumed.discontinuity_sequence,
            number_used: false,
            newest_file: 0,
            rendition,
            lock,
            cut,
            tail,
            broken: false,
            track: None,
            file: None,
            segment: None,
            part: Part::default(),
            sound: SoundTrack::default(),
            pace: Pace::default(),
            early: Early::default(),
            newest: None,
            opened: Instant::now(),
            awaits_key: true,
            new_file: true,
            trouble: None,
            counts: Counts::default(),
            write_errors: Arc::default(),
        })
    }

    /// How long a picture lasts, in ticks; 0: not known yet.
    pub fn interval(&self) -> i64 {
        self.pace.interval().unwrap_or(0)
    }

    /// The sound that goes with the pictures.
    pub fn sound(&mut self) -> &mut SoundTrack {
        &mut self.sound
    }

    /// What is written.
    pub fn rendition(&self) -> &Rendition {
        &self.rendition
    }

    /// What has come of it so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Writes that the disk refused.
    pub fn write_errors(&self) -> u64 {
        self.write_errors.load(Relaxed)
    }

    /// Why nothing is written at present.
    pub fn trouble(&self) -> Option<&DiskTrouble> {
        self.trouble.as_ref()
    }

    /// Whether what comes is written.
    pub fn is_recording(&self) -> bool {
        !self.awaits_key && self.trouble.is_none()
    }

    fn take(&mut self, sample: Sample, unit: &[u8]) {
        let now = Instant::now();
        self.end_tail();
        self.follow(&sample);
        self.newest = Some((sample.dts, now));
        if sample.key {
            self.at_key(&sample, unit, now);
        } else if !self.awaits_key && self.is_endless(&sample) {
            tracing::warn!(
                "{}: no key frame for {} s; recording goes on with the next one. Set the camera's key frame \
                 interval (GOP) to 1 to 10 s",
                self.rendition.stream,
                LONGEST_SEGMENT / i64::from(VIDEO_TIMESCALE),
            );
            self.interrupt();
        } else if !self.awaits_key && self.is_past_end(&sample) {
            self.end_part(Some(sample.dts), false);
        }
        if self.awaits_key {
            self.counts.units_dropped += 1;
            return;
        }
        self.part.push(sample, unit);
        if self.is_full() {
            self.end_part(None, false);
        }
    }

    /// To be called now and then, with or without units.
    pub fn tick(&mut self) {
        self.take_early_if_quiet();
        let Some((_, at)) = self.newest else {
            if self.opened.elapsed() > SILENCE {
                self.end_tail();
            }
            return;
        };
        let quiet = at.elapsed();
        let interval = self
            .pace
            .interval()
            .map_or(QUIET, |ticks| duration(2 * ticks));
        if quiet > QUIET.max(interval) && !self.part.is_empty() {
            self.end_part(None, false);
        }
        if quiet > SILENCE && self.file.is_some() {
            self.interrupt();
        }
    }

    /// Units were lost, and those until the next key frame cannot be decoded.
    pub fn interrupt(&mut self) {
        self.take_early();
        self.end_part(None, true);
        self.finish_file();
        self.broken = true;
        self.awaits_key = true;
    }

    /// Writes what is open and waits until it is on the disk.
    pub fn finish(&mut self) {
        self.take_early();
        self.end_tail();
        self.end_part(None, true);
        if let Some(file) = self.file.take()
            && let Err(error) = file.minute.finish()
        {
            self.refused("finish a file", &error);
        }
        if self.counts.units > 0 {
            self.keep_numbers(self.media_sequence);
        }
    }

    /// Whether the unit goes on where the one before ended.
    fn follow(&mut self, sample: &Sample) {
        let Some((newest, _)) = self.newest else {
            return;
        };
        let step = sample.dts.saturating_sub(newest);
        let interval = self.pace.interval().unwrap_or(HOLE);
        let jumped = sample.follows == Follows::Jump;
        let hole = step > HOLE || (jumped && step > interval + interval / 2);
        if step <= 0 || sample.follows == Follows::Break || (hole && (sample.key || jumped)) {
            self.interrupt();
            return;
        }
        // Only the map of UTC changed: it holds from the next file on, which begins with a key frame.
        // Until then each picture's own time in the index says what is right.
        self.new_file |= jumped;
    }

    fn at_key(&mut self, sample: &Sample, unit: &[u8], now: Instant) {
        if self
            .trouble
            .as_ref()
            .is_some_and(|trouble| now < trouble.retry_at)
        {
            return;
        }
        let sets = Sets::of(sample.codec, unit);
        let sound = self.sound.wanted(now);
        let changed = match (&sets, &self.track) {
            (Some(new), Some(track)) => *new != track.sets || sound != track.sound,
            (None, None) => return,
            (new, _) => new.is_some(),
        };
        if changed || self.is_segment_due(sample) || self.awaits_key {
            self.end_part(Some(sample.dts), true);
            if changed {
                self.broken |= self.track.is_some();
                self.track = None;
            }
            self.begin_segment(sample, sets, now);
        } else if self.is_past_end(sample) {
            self.end_part(Some(sample.dts), false);
        }
    }

    fn is_segment_due(&self, sample: &Sample) -> bool {
        let interval = self.pace.interval().unwrap_or(0);
        self.new_file
            || self.segment.is_none_or(|segment| {
                sample.dts - segment.first_dts + interval / 2 >= ticks(self.cut.segment)
            })
    }

    /// Whether the segment has grown as far as one may without a key frame.
    fn is_endless(&self, sample: &Sample) -> bool {
        self.segment.is_some_and(|segment| {
            sample.dts - segment.first_dts > LONGEST_SEGMENT || segment.bytes > LARGEST_SEGMENT
        })
    }

    fn begin_segment(&mut self, sample: &Sample, sets: Option<Sets>, now: Instant) {
        let wanted = self.part_length();
        let slot = self.slot(sample);
        let keep = self.file.as_ref().is_some_and(|file| {
            let other_target = (file.length.target() - wanted.target()).abs() * 10
                > file.length.target()
                && sample.dts - file.first_dts > SHORTEST_FILE;
            file.slot == slot && !other_target
        });
        if !keep || self.new_file || self.broken || self.track.is_none() {
            self.finish_file();
        }
        if self.track.is_none() || self.broken {
            // libavformat counts from its beginning, so a new time line needs a new one.
            let former = self.track.take().map(|track| track.sets);
            let Some(sets) = sets.or(former) else {
                self.awaits_key = true;
                return;
            };
            if !self.open_track(sets, now) {
                self.awaits_key = true;
                return;
            }
            self.sound.begin(sample.pts);
        }
        self.awaits_key = false;
        self.new_file = false;
        self.segment = Some(Segment {
            media_sequence: self.media_sequence,
            first_dts: sample.dts,
            part: 0,
            bytes: 0,
            anchor: *sample,
        });
    }

    fn open_track(&mut self, sets: Sets, now: Instant) -> bool {
        let sound = self.sound.wanted(now);
        let muxer = match sets.muxer(sound) {
            Ok(muxer) => muxer,
            Err(error) => {
                tracing::warn!(%error, "a key frame's parameter sets cannot be recorded");
                return false;
            }
        };
        match write_init(&self.rendition, muxer.init()) {
            Ok(init) => {
                self.track = Some(Track {
                    sets,
                    muxer,
                    init,
                    sound,
                });
                true
            }
            Err(error) => {
                self.refused("write the init segment", &error);
                false
            }
        }
    }

    fn part_length(&self) -> PartLength {
        let part = ticks(self.cut.part);
        PartLength::new(part, self.pace.interval().unwrap_or(part))
    }

    /// The minute of a picture, with this stream's own beginning of minutes.
    fn slot(&self, sample: &Sample) -> i64 {
        let unix_ms = sample.capture_ns.div_euclid(1_000_000);
        unix_ms.saturating_add(self.phase_ms).div_euclid(60_000)
    }

    fn lasts(&self, until: i64) -> Option<(i64, i64, PartLength)> {
        let interval = self.pace.interval()?;
        let length = match &self.file {
            Some(file) => file.length,
            None => self.part_length(),
        };
        Some((until - self.part.first_dts()?, interval, length))
    }

    /// Whether the open part has no room for a further picture.
    fn is_full(&self) -> bool {
        if self.part.is_at_limit() {
            return true;
        }
        let Some(last) = self.part.last_dts() else {
            return false;
        };
        let next = last.saturating_add(self.pace.interval().unwrap_or(0));
        self.lasts(next)
            .is_some_and(|(ticks, interval, length)| length.is_full(ticks, interval))
    }

    /// Whether a unit came later than expected, so that the open part is full without it.
    fn is_past_end(&self, sample: &Sample) -> bool {
        self.lasts(sample.dts)
            .is_some_and(|(ticks, interval, length)| length.is_full(ticks, interval))
    }

    /// Writes the open part, if there is one, and ends the segment, if that is meant. `until`: the
    /// decoding time of the next unit, where that is known.
    fn end_part(&mut self, until: Option<i64>, ends_segment: bool) {
        let written = match self.part.is_empty() {
            true if ends_segment => self.end_segment(),
            true => Ok(()),
            false => self.write_part(until, ends_segment),
        };
        let lost = self.part.len() as u64;
        self.part.clear();
        match written {
            Ok(()) if ends_segment => self.segment = None,
            Ok(()) => {}
            Err(error) => {
                self.counts.units_dropped += lost;
                self.refused("write a part", &error);
                self.give_up_file();
            }
        }
    }

    fn end_segment(&mut self) -> io::Result<()> {
        let (Some(file), Some(_)) = (&mut self.file, &self.segment) else {
            return Ok(());
        };
        file.minute.end_segment()?;
        self.segment_ended();
        Ok(())
    }

    fn segment_ended(&mut self) {
        self.counts.segments += 1;
        self.counts.last_segment_unix_ms = Some(crate::sys::clock::unix_ms());
    }

    fn write_part(&mut self, until: Option<i64>, ends_segment: bool) -> io::Result<()> {
        let (Some(segment), Some(track)) = (self.segment, &mut self.track) else {
            return Err(io::Error::other("a part without a segment"));
        };
        let usual = self.pace.interval().unwrap_or_else(|| ticks(self.cut.part));
        let sound = &mut self.sound;
        let (bytes, mut chunk) = (self.part)
            .mux(&mut track.muxer, until, usual, |muxer, end| {
                match track.sound {
                    Some(config) => sound.mux(muxer, 1, config, end),
                    None => Ok(()),
                }
            })
            .map_err(io::Error::other)?;
        chunk.media_sequence = segment.media_sequence;
        chunk.part = segment.part;
        if segment.part == 0 {
            chunk.flags = chunk.flags | ChunkFlags::SEGMENT_START;
        }
        if ends_segment {
            chunk.flags = chunk.flags | ChunkFlags::SEGMENT_END;
        }
        let units = chunk.frames.len() as u64;
        self.file(&segment)?.minute.append(&bytes, chunk)?;
        self.counts.bytes += bytes.len() as u64;
        self.counts.units += units;
        // The number is taken from now on.
        self.media_sequence = segment.media_sequence + 1;
        self.segment = Some(Segment {
            part: segment.part + 1,
            bytes: segment.bytes + bytes.len() as u64,
            ..segment
        });
        if self.trouble.take().is_some() {
            tracing::info!("the disk takes recordings again");
        }
        if ends_segment {
            self.segment_ended();
        }
        Ok(())
    }

    /// The open file, made where there is none.
    fn file(&mut self, segment: &Segment) -> io::Result<&mut OpenFile> {
        let file = match self.file.take() {
            // Written to no purpose where nobody will find it; looked at once in a segment.
            Some(file) if segment.part == 0 && !file.minute.is_there() => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the file that is being written is not there any more: was the folder moved or \
                     deleted?",
                ));
            }
            Some(file) => file,
            None => self.begin_file(segment)?,
        };
        Ok(self.file.insert(file))
    }

    fn begin_file(&mut self, segment: &Segment) -> io::Result<OpenFile> {
        let Some(track) = &self.track else {
            return Err(io::Error::other("a file without parameter sets"));
        };
        // Deleted with its folder: without it nothing that follows can be played.
        let init = self.rendition.init(track.init);
        if let Err(error) = std::fs::metadata(&init)
            && error.kind() == io::ErrorKind::NotFound
        {
            let text = format!("{} is not there any more", init.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let next_number = self.broken && self.number_used;
        let discontinuity_sequence = self.discontinuity_sequence + u64::from(next_number);
        let (anchor, length) = (&segment.anchor, self.part_length());
        let micros = |ticks: i64| u32::try_from(ticks * 100 / 9).unwrap_or(u32::MAX);
        let header = Header {
            timescale: VIDEO_TIMESCALE,
            sender_report: anchor.sender_report,
            media_sequence: segment.media_sequence,
            discontinuity_sequence,
            init: track.init,
            anchor_time: anchor.pts,
            anchor_utc_ns: anchor.capture_ns,
            part_target_us: micros(length.target()),
            segment_target_us: micros(ticks(self.cut.segment)),
        };
        let start_ms = anchor.capture_ns.div_euclid(1_000_000);
        let minute = MinuteFile::create(&self.rendition, start_ms, header)?;
        self.counts.gaps += u64::from(self.broken);
        self.broken = false;
        self.number_used = true;
        self.discontinuity_sequence = discontinuity_sequence;
        self.newest_file = segment.media_sequence;
        self.keep_numbers(segment.media_sequence + Numbers::MOST_IN_A_FILE);
        Ok(OpenFile {
            minute,
            length,
            slot: self.slot(anchor),
            first_dts: segment.first_dts,
        })
    }
}

#[cfg(test)]
mod tests;
