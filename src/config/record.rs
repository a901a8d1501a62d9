//! `[record]`: what is recorded, in which shape, and how much of it is kept.
//!
//! Says what holds; writes nothing to disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether a stream is recorded, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordMode {
    /// Not recorded.
    #[default]
    Off,
    /// As the camera sends it: nothing is decoded or encoded.
    Copy,
    /// Encoded anew from the frames, once for each rendition.
    Encode,
}

impl RecordMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Copy, Self::Encode];

    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Copy => "copy",
            Self::Encode => "encode",
        }
    }
}

/// One size and bitrate in which a stream is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionSpec {
    /// In pixels, even. The width follows from the camera's shape.
    pub height: u32,
    /// In bits per second.
    pub bitrate: u64,
}

/// `[record]` of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whether, and how.
    pub mode: RecordMode,
    /// A segment ends at the first key frame after this.
    pub segment: Duration,
    /// The length of a part: the smallest piece that a live player gets.
    pub part: Duration,
    /// Whether the camera's sound is recorded, where it sends any.
    pub audio: bool,
    /// With [`RecordMode::Encode`]: from the tallest to the lowest, no height twice. Empty: one, as
    /// tall as the camera's pictures but at most [`Record::DEFAULT_HEIGHT`].
    pub renditions: Vec<RenditionSpec>,
}

impl Record {
    /// What most players expect, and most cameras have a key frame for.
    pub const DEFAULT_SEGMENT: Duration = Duration::from_secs(2);
    /// Shorter ones are mostly headers.
    pub const MIN_SEGMENT: Duration = Duration::from_secs(1);
    /// As long as a file.
    pub const MAX_SEGMENT: Duration = Duration::from_secs(60);
    /// A live player holds three parts: 600 ms.
    pub const DEFAULT_PART: Duration = Duration::from_millis(200);
    /// One picture at 20 fps.
    pub const MIN_PART: Duration = Duration::from_millis(50);
    /// Longer ones are segments.
    pub const MAX_PART: Duration = Duration::from_secs(2);
    /// The most renditions of one stream: each is an encoder.
    pub const MAX_RENDITIONS: usize = 6;
    /// Without `renditions`: what plays well everywhere.
    pub const DEFAULT_HEIGHT: u32 = 720;
    /// Fewer lines show nothing.
    pub const MIN_HEIGHT: u32 = 90;
    /// 8K.
    pub const MAX_HEIGHT: u32 = 4320;
    /// Less is no picture.
    pub const MIN_BITRATE: u64 = 50_000;
    /// More is no recording, but a master.
    pub const MAX_BITRATE: u64 = 200_000_000;

    /// Whether the camera's sound is read: it is for recordings that copy it.
    pub fn wants_audio(&self) -> bool {
        self.audio && self.mode == RecordMode::Copy
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.mode != RecordMode::Off
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            mode: RecordMode::Off,
            segment: Self::DEFAULT_SEGMENT,
            part: Self::DEFAULT_PART,
            audio: true,
            renditions: Vec::new(),
        }
    }
}

/// How much of what was recorded is kept, for the whole site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// What is older is deleted.
    pub keep: Duration,
    /// What all recordings together may take, in bytes; `None`: as much as there is.
    pub max_bytes: Option<u64>,
    /// What must stay free on the disk, in bytes.
    pub min_free: u64,
}

impl Retention {
    /// A day: what a week-end visitor of an edge box expects, and 1 TB keeps of 40 cameras.
    pub const DEFAULT_KEEP: Duration = Duration::from_secs(24 * 3600);
    /// A minute file must be old before it can go.
    pub const MIN_KEEP: Duration = Duration::from_secs(60);
    /// Ten years.
    pub const MAX_KEEP: Duration = Duration::from_secs(3650 * 24 * 3600);
    /// Room for the system's logs, and for what is written while old recordings are deleted.
    pub const DEFAULT_MIN_FREE: u64 = 2 << 30;
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep: Self::DEFAULT_KEEP,
            max_bytes: None,
            min_free: Self::DEFAULT_MIN_FREE,
        }
    }
}
