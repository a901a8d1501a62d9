//! The camera's sound, on its way into the parts of the recording.
//!
//! Promises: a picture waits for the sound that is heard with it, so that both lie in the same part, for
//! [`PATIENCE`] at most, and not at all for sound that stays away; what waits is bounded; sound is recorded as even as it came, with
//! holes where frames are missing.
#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::source::Source;
use crate::media::aac::{AacConfig, FRAME_SAMPLES};
use crate::media::{Codec, FragmentMuxer, MediaError, SampleTime, VIDEO_TIMESCALE};
use crate::sys::clock;

/// How long a picture waits for its sound: longer than a frame of 8 kHz takes to come
/// (128 ms), and a small part of what a live player keeps.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// Sound that stays away for this long is gone: the next segment has no track for it.
const GONE: Duration = Duration::from_secs(2);
/// How often it is looked for where there is none …
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// … and at first, so that a recording begins with it.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOKS_FIRST: u32 = 50;
/// Frames that wait for their part: more than the longest part has, at the highest rate.
const MOST_FRAMES: usize = 1024;

/// A frame and when it begins, in ticks of 90 kHz as in the ring.
#[derive(Clone, Debug)]
pub struct Frame {
    pub pts: i64,
    pub data: Vec<u8>,
}

/// Where sound comes from.
#[derive(Debug)]
pub struct SoundSource {
    source: Source,
    look_at: Option<Instant>,
    looked: u32,
    unit: Vec<u8>,
}

impl SoundSource {
    /// Nothing is contacted yet.
    pub fn new(socket: PathBuf, stream: &str) -> Self {
        Self {
            // What a former process left open is gone on with: its sound, too.
            source: Source::new(socket, format!("{stream}#audio")).from_oldest(),
            look_at: None,
            looked: 0,
            unit: Vec::new(),
        }
    }

    /// Hands all frames that are there to the track. Never waits.
    pub fn poll(&mut self, track: &mut SoundTrack) {
        let now = Instant::now();
        if self.look_at.is_some_and(|at| now < at) {
            return;
        }
        if !self.source.ready() {
            self.looked = self.looked.saturating_add(1);
            self.look_at = Some(match self.looked {
                ..LOOKS_FIRST => now + LOOK_FIRST,
                _ => now + LOOK_EVERY,
            });
            return;
        }
        self.look_at = None;
        while let Some(unit) = self.source.next(&mut self.unit) {
            let time = unit.descriptor.pts;
            let whole = AacConfig::of_unit(&self.unit);
            if let Some((config, data)) = whole.filter(|_| unit.descriptor.codec == Codec::Aac) {
                let data = data.to_vec();
                // Some of what a ring has is old.
                let age = clock::monotonic_ns().saturating_sub(unit.descriptor.arrival_ns);
                let came = now.checked_sub(Duration::from_nanos(age)).unwrap_or(now);
                track.push(config, Frame { pts: time, data }, came);
            }
        }
    }
}

/// The frames that wait for their part.
#[derive(Debug, Default)]
pub struct SoundTrack {
    config: Option<AacConfig>,
    waiting: VecDeque<Frame>,
    /// When the last frame came, and where it ends.
    newest: Option<(Instant, i64)>,
    /// Where the frame that comes next would begin if it followed smoothly, in samples.
    next: Option<i64>,
    written: u64,
    dropped: u64,
}

impl SoundTrack {
    /// The next frame, and when it came.
    pub fn push(&mut self, config: AacConfig, frame: Frame, came: Instant) {
        if self.config != Some(config) {
            self.dropped += self.waiting.len() as u64;
            self.waiting.clear();
            self.config = Some(config);
        }
        if self.waiting.len() == MOST_FRAMES {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.newest = Some((came, frame.pts.saturating_add(length(config))));
        self.waiting.push_back(frame);
    }

    /// What a file that begins now is to have: `None` where no sound comes.
    pub fn wanted(&self, now: Instant) -> Option<AacConfig> {
        let (at, _) = self.newest?;
        self.config
            .filter(|_| now.saturating_duration_since(at) < GONE)
    }

    /// Whether sound up to this time is still to be expected, for a picture that came so long ago.
    pub fn is_awaited(&self, pts: i64, waited: Duration, now: Instant) -> bool {
        let Some((_, end)) = self.newest.filter(|_| self.wanted(now).is_some()) else {
            return false;
        };
        end < pts && waited < PATIENCE
    }

    /// Frames written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Frames that came and were not written: too early for the first picture, or twice.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A new track begins at this time.
    pub fn begin(&mut self, pts: i64) {
        self.next = None;
        self.skip(pts);
    }

    /// Goes on in a track that a former process wrote up to this time.
    pub fn go_on(&mut self, pts: i64) {
        self.begin(pts);
    }

    /// Drops what begins before this time: players take the earlier of both beginnings for that of the
    /// pictures.
    fn skip(&mut self, pts: i64) {
        while let Some(frame) = self.waiting.front()
            && frame.pts < pts
        {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }

    /// Writes the frames that begin before `until` into the open fragment.
    ///
    /// # Errors
    /// libavformat refuses one.
    pub fn mux(
        &mut self,
        muxer: &mut FragmentMuxer,
        track: usize,
        config: AacConfig,
        until: i64,
    ) -> Result<(), MediaError> {
        if self.config != Some(config) {
            return Ok(());
        }
        let rate = i64::from(config.sample_rate());
        let due = self
            .waiting
            .iter()
            .take_while(|frame| frame.pts < until)
            .count();
        for frame in self.waiting.drain(..due) {
            let ticks = i128::from(frame.pts);
            let samples = ticks * i128::from(rate) / i128::from(VIDEO_TIMESCALE);
            let at = i64::try_from(samples).unwrap_or(i64::MAX / 4).max(0);
            // The ring's ticks round, and the relation to the pictures is corrected by small steps: up
            // to 20 ms sound stays even instead.
            let dts = match self.next {
                Some(next) if (at - next).abs() <= rate / 50 => next,
                Some(next) if at < next => {
                    self.dropped += 1;
                    continue;
                }
                _ => at,
            };
            let time = SampleTime {
                dts,
                pts: dts,
                duration: FRAME_SAMPLES.into(),
                key: true,
            };
            muxer.write(track, &frame.data, time)?;
            self.next = Some(dts + i64::from(FRAME_SAMPLES));
            self.written += 1;
        }
        Ok(())
    }
}

/// How long a frame is, in ticks of 90 kHz.
fn length(config: AacConfig) -> i64 {
    i64::from(FRAME_SAMPLES) * i64::from(VIDEO_TIMESCALE) / i64::from(config.sample_rate().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(frames: std::ops::Range<i64>, now: Instant) -> SoundTrack {
        let config = AacConfig::parse(&[0x14, 0x08]).unwrap();
        let mut track = SoundTrack::default();
        for n in frames {
            let data = vec![1, 2, 3];
            let pts = n * length(config);
            track.push(config, Frame { pts, data }, now);
        }
        track
    }

    #[test]
    fn a_picture_waits_for_sound_that_comes_and_for_no_other() {
        let now = Instant::now();
        let none = SoundTrack::default();
        assert!(!none.is_awaited(0, Duration::ZERO, now));
        let some = track(0..10, now);
        assert!(some.is_awaited(10 * 5760 + 1, Duration::ZERO, now));
        assert!(
            !some.is_awaited(10 * 5760, Duration::ZERO, now),
            "it is there"
        );
        assert!(!some.is_awaited(90_000, PATIENCE, now), "long enough");
        assert!(some.wanted(now).is_some());
        let later = now + GONE;
        assert!(
            !some.is_awaited(90_000, Duration::ZERO, later),
            "it is gone"
        );
        assert_eq!(some.wanted(later), None);
    }

    #[test]
    fn what_waits_is_bounded_and_begins_with_the_picture() {
        let now = Instant::now();
        let mut many = track(0..5000, now);
        assert_eq!(many.waiting.len(), MOST_FRAMES);
        many.begin(4499 * 5760 + 1);
        assert_eq!(many.waiting.len(), 500);
        assert_eq!(many.dropped(), 4500);
        // Another configuration: what waits cannot be decoded with it.
        let other = AacConfig::parse(&[0x11, 0x88]).unwrap();
        let frame = Frame {
            pts: 0,
            data: vec![1],
        };
        many.push(other, frame, now);
        assert_eq!((many.waiting.len(), many.dropped()), (1, 5000));
    }
}
