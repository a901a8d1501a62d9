//! The camera's sound through retina, beside the video of the same session.
//!
//! Promises: an error of the sound is never one of the video's, whose error budget and damage it does not
//! touch; a track that the camera refuses is left out of the session. A few forms of the payload make
//! retina give up a whole session: after one of those the reader's further sessions go without sound
//! ([`SourceErrorKind::Sound`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::retina::Timestamp;
use ::retina::client::{Described, Session, SetupOptions, Stream, Transport as Carrier};
use ::retina::codec::{FrameFormat, ParametersRef};
use bytes::Bytes;
use tokio::time::timeout;

use super::classify::{self, Classifier};
use crate::health::Sound;
use crate::media::aac::AacConfig;
use crate::reader::source::{
    AudioFrame, SourceError, SourceErrorKind, SourceEvent, Stage, clean_text, monotonic_ns,
};

/// Errors in a row after which the sound counts as broken; it may still come to itself.
const BROKEN_AFTER: u32 = 50;

/// Ticks per second of the video's RTP time, where sound is read beside it.
const VIDEO_RATE: i64 = 90_000;

/// Whether a session is to have sound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    IfThere,
    /// And what to say of it.
    Not(Option<Sound>),
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It would have had sound: without, it may be another matter.
    WithSound(SourceError),
    Other(SourceError),
}

impl From<SourceError> for Unopened {
    fn from(error: SourceError) -> Self {
        Self::Other(error)
    }
}

impl From<Unopened> for SourceError {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::WithSound(error) | Unopened::Other(error) => error,
        }
    }
}

/// What the sessions of one camera have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Option<Sound>>>);

impl Known {
    /// Why further sessions go without sound, if they do.
    pub fn given_up(&self) -> Option<Sound> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn give_up(&self, why: Sound) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// A track that can be recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct AudioTrack {
    index: usize,
    config: AacConfig,
    clock_rate: u32,
}

impl AudioTrack {
    /// The first in AAC-LC; without one, what the camera offers.
    pub fn find(tracks: &[Stream]) -> (Option<Self>, Sound) {
        let mut sound = Sound::None;
        for (index, track) in tracks.iter().enumerate() {
            if track.media() != "audio" {
                continue;
            }
            sound = Sound::OtherCodec;
            let clock_rate = track.clock_rate_hz();
            // retina reads no parameters of what it cannot take apart.
            let Some(ParametersRef::Audio(parameters)) = track.parameters() else {
                continue;
            };
            let config = AacConfig::parse(parameters.extra_data());
            if let Some(config) = config.filter(|_| clock_rate > 0)
                && track.encoding_name() == "mpeg4-generic"
            {
                let found = Self {
                    index,
                    config,
                    clock_rate,
                };
                return (Some(found), Sound::Silent);
            }
        }
        (None, sound)
    }

    /// Sends SETUP. A refusal in order is no error: there is no sound then.
    pub async fn set_up(
        self,
        session: &mut Session<Described>,
        carrier: Carrier,
        classifier: &Classifier<'_>,
    ) -> Result<(Option<Self>, Option<Sound>), Unopened> {
        let options = SetupOptions::default()
            .transport(carrier)
            .frame_format(FrameFormat::MP4);
        let limit: Duration = classifier.config.timeouts.setup;
        let error = match timeout(limit, session.setup(self.index, options)).await {
            Ok(Ok(())) => return Ok((Some(self), Some(Sound::Silent))),
            Ok(Err(error)) => match error.status_code() {
                Some(status @ 300..) => {
                    let camera = &classifier.config.id;
                    tracing::info!(%camera, status, "the camera refuses to set up its sound");
                    return Ok((None, Some(Sound::Refused)));
                }
                _ => classifier.error(Stage::Setup, &error),
            },
            Err(_) => {
                let kind = SourceErrorKind::Timeout(limit);
                classifier.config.error(Stage::Setup, kind)
            }
        };
        Err(Unopened::WithSound(error))
    }
}

/// The sound of a playing session.
#[derive(Debug)]
pub(super) struct SoundSource {
    track: AudioTrack,
    known: Known,
    /// RTP times at which PLAY began, of video and sound, where the answer to it says so.
    video_begin: Option<Begin>,
    audio_begin: Option<Begin>,
    /// Errors since the last frame.
    errors: u32,
    /// The last thing that happened was an error.
    failed: Option<String>,
}

/// The beginning of one track.
#[derive(Clone, Copy, Debug)]
struct Begin {
    rtp_time: i64,
    /// The first packet was later or earlier than that: it is the camera's word, not retina's guess.
    said: bool,
}

impl Begin {
    fn of(first: Timestamp) -> Self {
        Self {
            rtp_time: first.timestamp().saturating_sub(first.elapsed()),
            said: first.elapsed() != 0,
        }
    }
}

impl SoundSource {
    pub fn new(track: AudioTrack, known: Known) -> Self {
        Self {
            track,
            known,
            video_begin: None,
            audio_begin: None,
            errors: 0,
            failed: None,
        }
    }

    pub fn is(&self, stream: usize) -> bool {
        stream == self.track.index
    }

    /// A picture came.
    pub fn video(&mut self, time: Timestamp) {
        self.failed = None;
        self.video_begin.get_or_insert(Begin::of(time));
    }

    /// Sound came.
    pub fn frame(&mut self, frame: &::retina::codec::AudioFrame) -> Option<AudioFrame> {
        if !self.is(frame.stream_id()) {
            return None;
        }
        self.failed = None;
        self.errors = 0;
        let time = frame.timestamp();
        let begin = *self.audio_begin.get_or_insert(Begin::of(time));
        let video = self.video_begin.filter(|video| video.said || begin.said);
        let video_rtp_time = video.map(|video| {
            let rate = i64::from(self.track.clock_rate.max(1));
            let since = time.timestamp().saturating_sub(begin.rtp_time);
            let since = i128::from(since) * i128::from(VIDEO_RATE) / i128::from(rate);
            let since = i64::try_from(since).unwrap_or(i64::MAX);
            video.rtp_time.saturating_add(since)
        });
        Some(AudioFrame {
            data: Bytes::copy_from_slice(frame.data()),
            config: self.track.config,
            rtp_time: time.timestamp(),
            clock_rate: self.track.clock_rate,
            video_rtp_time,
            arrival_ns: monotonic_ns(),
            lost_before: frame.loss().into(),
        })
    }

    /// What an error means, if it is one of the sound.
    pub fn error(&mut self, error: &::retina::Error) -> Option<SourceEvent> {
        if !is_of_stream(error, self.track.index) {
            self.failed = None;
            return None;
        }
        let text = clean_text(&error.to_string(), None);
        let harmless = classify::is_rtcp(&text);
        let text = format!("sound: {text}");
        // Broken reports harm no frame.
        if harmless {
            return Some(SourceEvent::Glitch(text));
        }
        self.failed = Some(text.clone());
        self.errors = self.errors.saturating_add(1);
        Some(match self.errors {
            BROKEN_AFTER => SourceEvent::Sound(Sound::Broken),
            _ => SourceEvent::Glitch(text),
        })
    }

    /// Whether the session ended with an error of the sound.
    pub fn ends_session(&self) -> bool {
        self.failed.is_some()
    }

    /// Further sessions go without.
    pub fn end(self, why: &str) -> SourceErrorKind {
        self.known.give_up(Sound::Broken);
        let why = self.failed.unwrap_or_else(|| why.to_owned());
        SourceErrorKind::Sound(why)
    }
}

/// Whether an error is about the track with this number. retina says so in the error's fields alone,
/// which nothing but its `Debug` shows (0.4.21, pinned in Cargo.toml; the session's tests hold it).
fn is_of_stream(error: &::retina::Error, index: usize) -> bool {
    let fields = format!("{error:?}");
    if !fields.starts_with("RtpPacketError") && !fields.starts_with("PacketError") {
        return false;
    }
    let (_, tail) = match fields.split_once(" stream_id: ") {
        Some(found) => found,
        None => return false,
    };
    let digits = tail.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()) == Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_camera_is_shared_by_its_sessions() {
        let known = Known::default();
        let other = known.clone();
        assert_eq!(known.given_up(), None);
        other.give_up(Sound::Refused);
        assert_eq!(known.given_up(), Some(Sound::Refused));
    }
}
