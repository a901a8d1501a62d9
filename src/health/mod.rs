//! How a reader is doing, told through a page of memory that it shares with the supervisor alone.
//!
//! The reader counts on its hot path with plain atomics ([`Health`], one page per incarnation of
//! the process); the supervisor looks once a second ([`Watch`]). No message can queue up, nothing
//! is lost when the reader is killed, and the page can be read after that.
//!
//! Promises: writing costs one relaxed atomic operation; the state with its reason is read whole
//! or not at all. The reader is in another trust zone (what a camera sends may have taken it
//! over), so the supervisor never touches the mapping: it *reads the file*, because a mapping of a
//! file that the other side truncates would be a SIGBUS. Every figure is an allegation: used for
//! display, placement and the decision to kill this one reader, nothing else.
#![deny(unsafe_code)]

mod histogram;
#[allow(unsafe_code)]
mod page;
mod watch;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use histogram::{BUCKETS, Histogram, LIMITS_NS};
pub use page::{Counters, Figures, Health, ViewCounters, ViewFigures};
pub use watch::{Snapshot, Watch, sweep_stale};

/// What a camera's reader is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum State {
    /// On the way: from the start of the process to the first access unit.
    Connecting = 0,
    /// Access units arrive.
    Streaming = 1,
    /// Connected, but nothing usable arrives; about to reconnect.
    Stalled = 2,
    /// Waiting before the next try.
    Backoff = 3,
    /// The camera refused the credentials. Tries are rare, so as not to lock the account.
    Unauthorized = 4,
    /// It cannot work as configured (no video, unsupported codec, too little memory). Tried again
    /// all the same, rarely.
    Failed = 5,
    /// `enabled = false`.
    Disabled = 6,
}

impl State {
    /// As in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Streaming => "streaming",
            State::Stalled => "stalled",
            State::Backoff => "backoff",
            State::Unauthorized => "unauthorized",
            State::Failed => "failed",
            State::Disabled => "disabled",
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        [
            State::Connecting,
            State::Streaming,
            State::Stalled,
            State::Backoff,
            State::Unauthorized,
            State::Failed,
            State::Disabled,
        ]
        .into_iter()
        .find(|state| *state as u64 == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where frames' capture times come from: the values of [`Counters::clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum ClockSource {
    /// No sender report yet, or the camera's clock is not plausible: time of arrival.
    Arrival = 1,
    /// RTCP sender reports.
    SenderReport = 2,
}

impl ClockSource {
    fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Arrival),
            2 => Some(Self::SenderReport),
            _ => None,
        }
    }
}

/// What the decode thread is doing: the values of [`Counters::decoding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum Decoding {
    /// Nothing: nobody looks, and the mode is `on-demand`.
    Idle = 1,
    /// The pictures since the newest key frame, to be where the camera is.
    CatchingUp = 2,
    /// What the camera sends, as it comes.
    Decoding = 3,
}

impl Decoding {
    /// From [`Figures::decoding`].
    pub fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Idle),
            2 => Some(Self::CatchingUp),
            3 => Some(Self::Decoding),
            _ => None,
        }
    }
}

/// What decodes: the values of [`Counters::decodes_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u64)]
pub enum DecodesWith {
    /// libavcodec on the processor.
    Software = 1,
    /// NVIDIA's NVDEC.
    Cuda = 2,
    /// A driver of libva.
    Vaapi = 3,
    /// Intel Quick Sync.
    Qsv = 4,
    /// A V4L2 memory-to-memory device.
    V4l2m2m = 5,
}

impl DecodesWith {
    /// As in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Cuda => "cuda",
            Self::Vaapi => "vaapi",
            Self::Qsv => "qsv",
            Self::V4l2m2m => "v4l2m2m",
        }
    }

    /// From [`Figures::decodes_with`].
    pub fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Software),
            2 => Some(Self::Cuda),
            3 => Some(Self::Vaapi),
            4 => Some(Self::Qsv),
            5 => Some(Self::V4l2m2m),
            _ => None,
        }
    }
}

/// What the sizes of a stream's pictures say: the values of [`Counters::activity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum Activity {
    /// Nothing yet: what it is like when nothing moves is not known.
    Learning = 1,
    /// Nothing moves.
    Quiet = 2,
    /// Something moves, or did a moment ago.
    Moving = 3,
    /// Nothing: noise, or a rate control that fills a constant rate, would hide what moves.
    Blind = 4,
}

impl Activity {
    /// From [`Figures::activity`].
    pub fn from_word(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Learning),
            2 => Some(Self::Quiet),
            3 => Some(Self::Moving),
            4 => Some(Self::Blind),
            _ => None,
        }
    }
}

/// What becomes of a camera's sound, where it is to be recorded: the values of [`Counters::sound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u64)]
pub enum Sound {
    /// The camera offers none.
    None = 1,
    /// None of a kind that is recorded: that is AAC-LC.
    OtherCodec = 2,
    /// The camera does not let its sound be set up.
    Refused = 3,
    /// What the camera sends could not be understood: it is left out until the reader starts anew.
    Broken = 4,
    /// Set up, but nothing has come yet.
    Silent = 5,
    /// It goes into the recording.
    Recorded = 6,
    /// The session is libavformat's, which is asked for pictures alone.
    OtherClient = 7,
}

impl Sound {
    /// From [`Figures::sound`].
    pub fn from_word(word: u64) -> Option<Self> {
        [
            Self::None,
            Self::OtherCodec,
            Self::Refused,
            Self::Broken,
            Self::Silent,
            Self::Recorded,
            Self::OtherClient,
        ]
        .into_iter()
        .find(|sound| *sound as u64 == word)
    }
}

/// Why a health page cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The page could not be created: `/dev/shm` is missing or full, mostly.
    #[error("health page {name}: {source}; is /dev/shm there and not full?")]
    Create {
        /// Its name in `/dev/shm`.
        name: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The page could not be mapped by the `shared_memory` crate.
    #[error("health page {name}: {source}")]
    Map {
        /// Its name in `/dev/shm`.
        name: String,
        /// Which step failed.
        source: shared_memory::ShmemError,
    },
    /// The page is not one of this version.
    #[error("health page {name}: {len} bytes, where this version has {expected}")]
    Size {
        /// Its name in `/dev/shm`.
        name: String,
        /// What is there.
        len: usize,
        /// What should be.
        expected: usize,
    },
}

#[cfg(test)]
mod tests;
