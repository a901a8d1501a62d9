//! What server and worker say to each other: one message per packet, JSON, with descriptors.
//!
//! ```text
//! server                          worker
//!   ◀── Ready ──────────────────────
//!   ─── Job [output, (memory)] ────▶
//!   ◀── Need { span } ──────────────   as often as it takes, in order
//!   ─── Span [init, media] or Gone ▶
//!   ◀── Done or Failed ─────────────   the output is complete, or is not
//! ```
#![deny(unsafe_code)]

use serde::{Deserialize, Serialize};

/// To a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// With the descriptor to write to; [`Task::Image`] with the picture's memory, too.
    Job(Box<Job>),
    /// A piece of a recording, with its init segment and its media.
    Span(Span),
    /// That piece has been deleted meanwhile.
    Gone,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// Jobs can come.
    Ready,
    /// This piece is needed now.
    Need {
        /// Its number, from 0.
        span: u32,
    },
    /// The output is whole.
    Done,
    /// It is not.
    Failed(Trouble),
}

/// What is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What.
    pub task: Task,
    /// How many pieces of a recording there are for it.
    pub spans: u32,
}

/// What is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A JPEG of samples in memory.
    Image(Image),
    /// A JPEG of one picture: that of the only span with the time [`Span::from`].
    Snapshot(Still),
    /// A JPEG of many: one span for each cell, the first picture of each.
    Storyboard(Storyboard),
    /// A short clip.
    Preview(Preview),
    /// An MP4 of a range.
    Export(Export),
}

/// Samples in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// [`camring_ring::PixelFormat`], as its number.
    pub format: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// [`camring_ring::ColorRange`], as its number.
    pub range: u8,
    /// ITU-T H.273 MatrixCoefficients.
    pub matrix: u8,
    /// Of each plane: where it begins, its length and stride, in bytes.
    pub planes: Vec<(u64, u64, u32)>,
    /// How it is made.
    pub still: Still,
}

/// How a JPEG is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Still {
    /// In pixels; `None`: as it is. Pictures are not enlarged.
    pub width: Option<u32>,
    /// Per cent.
    pub quality: u8,
}

/// A sheet of thumbnails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storyboard {
    /// Cells in a row.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
    /// Of a cell, in pixels, even.
    pub width: u32,
    /// Of a cell, in pixels, even.
    pub height: u32,
    /// The place of each span's picture, from 0, row by row.
    pub cells: Vec<u32>,
    /// Per cent.
    pub quality: u8,
}

/// What a short clip is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviewFormat {
    /// H.264 in MP4.
    Mp4,
    /// Animated GIF.
    Gif,
}

/// A short clip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preview {
    /// As what.
    pub format: PreviewFormat,
    /// In pixels.
    pub width: u32,
    /// Pictures a second, in the clip.
    pub fps: u32,
    /// When each picture of the clip was taken: the first recorded one that is not before it is
    /// taken; UTC in ns, in order.
    pub picks: Vec<i64>,
    /// The first picture of each span is all that is wanted of it.
    pub keys_only: bool,
}

/// Where an export begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// As recorded, from the key frame before on; players begin where it was asked for.
    Gop,
    /// Encoded anew, so that nothing else is in it.
    Frame,
}

/// An MP4 of a range.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Export {
    /// Where it begins and ends.
    pub cut: Cut,
    /// With sound, where there is any.
    pub audio: bool,
}

/// A piece of one minute file. Times are media times of that file, in units of its timescale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// From where to where in the media file: whole chunks, the first begins with a key frame.
    pub bytes: (u64, u64),
    /// Units per second.
    pub timescale: u32,
    /// A media time and its UTC in ns.
    pub anchor: (i64, i64),
    /// Names the init segment.
    pub init: u64,
    /// Which stretch of continuous media time it is of.
    pub discontinuity: u64,
    /// Pictures from this time on …
    pub from: i64,
    /// … and before this one are wanted.
    pub to: i64,
    /// Decoding time of its first chunk.
    pub start: i64,
    /// Decoding time of what would follow its last chunk.
    pub end: i64,
}

impl Span {
    /// UTC in ns of a media time.
    pub fn utc_ns(&self, time: i64) -> i64 {
        let ticks = i128::from(time) - i128::from(self.anchor.0);
        let utc =
            i128::from(self.anchor.1) + ticks * 1_000_000_000 / i128::from(self.timescale.max(1));
        i64::try_from(utc).unwrap_or(if utc < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Why a job was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Trouble {
    /// What went wrong.
    pub kind: TroubleKind,
    /// A sentence. No paths.
    pub text: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// Nobody reads the output any more.
    HungUp,
    /// What was to be decoded cannot be.
    Damaged,
    /// There is no such picture (any more).
    Gone,
    /// Parameters change inside the range, and nothing was to be encoded anew.
    ParametersChange,
    /// It takes more memory than a worker has.
    TooLarge,
    /// A mistake of this program, or of the machine.
    Internal,
}

impl Trouble {
    /// A mistake of this program.
    pub fn internal(text: &str) -> Self {
        Self::new(TroubleKind::Internal, text)
    }

    /// With a text.
    pub fn new(kind: TroubleKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}
