//! What `camring check` says of recordings: what is recorded, where to, and whether it fits there.
//!
//! An estimate: nobody knows what a camera sends before it has sent it. Writes nothing to the disk.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::config::{RecordMode, RenditionSpec, Site, Stream, show_duration, show_size};
use crate::recording::Tree;

/// What a camera sends, as long as nothing is known: 1080p of a usual camera.
const USUAL_BITS_PER_SECOND: u64 = 4_000_000;
/// What the encoder makes of a stream without `renditions`.
const USUAL_ENCODED: u64 = 2_000_000;

/// The disk on which recordings are.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// All of it, in bytes.
    pub bytes: u64,
    /// What this user may still write, in bytes.
    pub free_bytes: u64,
}

impl Disk {
    /// Of the folder, or of the first above it that exists.
    pub fn of(folder: &Path) -> Option<Self> {
        let there = folder.ancestors().find(|folder| folder.exists())?;
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(Self {
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PlannedRecord {
    mode: &'static str,
    segment_seconds: f64,
    part_seconds: f64,
    audio: bool,
    renditions: Vec<RenditionSpec>,
}

impl PlannedRecord {
    pub fn new(stream: &Stream) -> Self {
        let record = &stream.record;
        Self {
            mode: record.mode.name(),
            segment_seconds: record.segment.as_secs_f64(),
            part_seconds: record.part.as_secs_f64(),
            audio: record.audio,
            renditions: record.renditions.clone(),
        }
    }

    /// `encode 720p 360p`
    pub fn text(&self) -> String {
        let mut out = self.mode.to_owned();
        if self.mode == RecordMode::Encode.name() {
            for rendition in &self.renditions {
                let _ = write!(out, " {}p", rendition.height);
            }
        }
        out
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PlannedRecordings {
    folder: PathBuf,
    /// How many streams.
    recorded: usize,
    /// Of those, how many are encoded, and how many may be at a time.
    encoded: usize,
    max_encoders: u32,
    keep_seconds: u64,
    max_bytes: Option<u64>,
    min_free_bytes: u64,
    /// What `keep` takes if cameras send what is usual.
    likely_bytes: u64,
    disk_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
}

impl PlannedRecordings {
    pub fn new(site: &Site, disk: Option<Disk>) -> Self {
        let keep = site.retention.keep.as_secs();
        let bits: u64 = site.recorded().map(bits_per_second).sum();
        let encoded = |stream: &&Stream| stream.record.mode == RecordMode::Encode;
        Self {
            folder: Tree::new(&site.data_dir).root().to_owned(),
            recorded: site.recorded().count(),
            encoded: site.recorded().filter(encoded).count(),
            max_encoders: site.max_encoders,
            keep_seconds: keep,
            max_bytes: site.retention.max_bytes,
            min_free_bytes: site.retention.min_free,
            likely_bytes: (bits / 8).saturating_mul(keep),
            disk_bytes: disk.map(|disk| disk.bytes),
            disk_free_bytes: disk.map(|disk| disk.free_bytes),
        }
    }

    /// What is legal, but will not go well.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.recorded == 0 {
            return doubts;
        }
        if let Some(disk) = self.disk_bytes {
            let room = disk.saturating_sub(self.min_free_bytes);
            let most = self.max_bytes.map_or(room, |most| most.min(room));
            if self.likely_bytes > most {
                doubts.push(format!(
                    "recordings of {} take about {}, and have {}: the oldest will go earlier; set \
                     [record] keep lower, or data_dir to a larger disk",
                    show_duration(Duration::from_secs(self.keep_seconds)),
                    show_size(self.likely_bytes),
                    show_size(most),
                ));
            }
        }
        if self.encoded > self.max_encoders as usize {
            doubts.push(format!(
                "{} streams are to be encoded, {} at a time may be ([record] max_encoders): the \
                 others will wait; record them with mode = \"copy\", if browsers can play them",
                self.encoded, self.max_encoders,
            ));
        }
        doubts
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = "recordings   ".to_owned();
        if self.recorded == 0 {
            out.push_str("none\n");
            return out;
        }
        let _ = write!(
            out,
            "{} stream{} in {}, kept {}, about {}",
            self.recorded,
            if self.recorded == 1 { "" } else { "s" },
            self.folder.display(),
            show_duration(Duration::from_secs(self.keep_seconds)),
            show_size(self.likely_bytes),
        );
        if let Some(most) = self.max_bytes {
            let _ = write!(out, " of at most {}", show_size(most));
        }
        if let (Some(disk), Some(free)) = (self.disk_bytes, self.disk_free_bytes) {
            let (disk, free) = (show_size(disk), show_size(free));
            let _ = write!(out, "; the disk has {disk}, {free} free");
        }
        out.push('\n');
        out
    }
}

fn bits_per_second(stream: &Stream) -> u64 {
    match stream.record.mode {
        RecordMode::Off => 0,
        RecordMode::Copy => USUAL_BITS_PER_SECOND,
        RecordMode::Encode if stream.record.renditions.is_empty() => USUAL_ENCODED,
        RecordMode::Encode => stream.record.renditions.iter().map(|r| r.bitrate).sum(),
    }
}
