//! Where in the tree a range of time lies.
//!
//! Read from the files themselves, at each call: a listing of the hours asked for, and the index files
//! that matter. Waits for the disk.
#![deny(unsafe_code)]

use std::io;

use super::index_file::{Chunk, ChunkFlags, FrameFlags, FrameTime, Header, IndexReader};
use super::name::{FileName, hour_name};
use super::tree::Rendition;

/// How far before a moment a minute file may begin that has it: a minute, and what copying cameras with
/// rare key frames adds.
const LONGEST_FILE_MS: i64 = 10 * 60_000;

/// A minute file with its chunks.
#[derive(Clone, Debug)]
pub struct Minute {
    /// What it is called.
    pub name: FileName,
    /// What its chunks have in common.
    pub header: Header,
    /// Those committed, with pictures or not.
    pub chunks: Vec<Chunk>,
}

impl Minute {
    /// Opens one. `None`: it is gone, or has nothing yet.
    pub fn read(rendition: &Rendition, name: &FileName) -> Option<Self> {
        let mut reader = IndexReader::open(&rendition.index(name)).ok()?;
        let chunks = reader.next_chunks().ok()?;
        let header = *reader.header();
        chunks
            .iter()
            .any(|chunk| !chunk.frames.is_empty())
            .then_some(Self {
                name: *name,
                header,
                chunks,
            })
    }

    /// Its pictures with the chunk each is in, in decoding order.
    pub fn frames(&self) -> impl Iterator<Item = (usize, &FrameTime)> {
        self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            let frames = chunk.frames.iter();
            frames.map(move |frame| (index, frame))
        })
    }

    /// When its first and its last picture were taken, in ns.
    pub fn captured(&self) -> Option<(i64, i64)> {
        let times = || self.frames().map(|(_, frame)| frame.capture_ns);
        Some((times().min()?, times().max()?))
    }

    /// The chunk to decode from for what is in chunk `index`.
    pub fn key_before(&self, index: usize) -> Option<usize> {
        (0..=index.min(self.chunks.len().checked_sub(1)?))
            .rev()
            .find(|at| self.chunks[*at].flags.contains(ChunkFlags::INDEPENDENT))
    }

    /// Decoding time behind its last chunk.
    pub fn end(&self) -> i64 {
        self.chunks.last().map_or(0, |last| {
            last.decode_time.saturating_add(last.duration.into())
        })
    }

    /// Its key frames with the chunk each begins.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &FrameTime)> {
        self.chunks
            .iter()
            .enumerate()
            .filter(|(_, chunk)| chunk.flags.contains(ChunkFlags::INDEPENDENT))
            .filter_map(|(index, chunk)| Some((index, chunk.frames.first()?)))
            .filter(|(_, frame)| frame.flags.0 & FrameFlags::KEY.0 != 0)
    }
}

impl Rendition {
    /// The minute files that may have pictures taken from `from_ns` on and before `to_ns`, in order of
    /// their media sequence.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn files_between(&self, from_ns: i64, to_ns: i64) -> io::Result<Vec<FileName>> {
        let from_ms = from_ns
            .div_euclid(1_000_000)
            .saturating_sub(LONGEST_FILE_MS);
        let to_ms = to_ns.div_euclid(1_000_000);
        let (first, last) = (hour_name(from_ms), hour_name(to_ms));
        let mut found = Vec::new();
        for hour in self.hours()? {
            if hour.name < first || hour.name > last {
                continue;
            }
            let files = hour.files()?.into_iter();
            found.extend(files.filter(|file| (from_ms..=to_ms).contains(&file.start_ms)));
        }
        found.sort_by_key(|file| (file.media_sequence, file.start_ms));
        Ok(found)
    }

    /// The last picture taken at or before a moment, with its minute: within `reach_ns` of it.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn picture_at(
        &self,
        at_ns: i64,
        reach_ns: i64,
    ) -> io::Result<Option<(Minute, usize, FrameTime)>> {
        let files = self.files_between(at_ns.saturating_sub(reach_ns), at_ns)?;
        let mut best: Option<(Minute, usize, FrameTime)> = None;
        // The newest first; clocks may have been set back, so one more is looked at.
        let mut looked = 0;
        for name in files.iter().rev() {
            let Some(minute) = Minute::read(self, name) else {
                continue;
            };
            looked += 1;
            let taken = minute
                .frames()
                .filter(|(_, frame)| frame.capture_ns <= at_ns)
                .max_by_key(|(_, frame)| frame.capture_ns)
                .map(|(chunk, frame)| (chunk, *frame));
            if let Some((chunk, frame)) = taken {
                let newer = |(.., best): &(_, _, FrameTime)| best.capture_ns < frame.capture_ns;
                if best.as_ref().is_none_or(newer) {
                    best = Some((minute, chunk, frame));
                }
                if looked > 1 {
                    break;
                }
            }
        }
        let near = |taken: i64| at_ns.saturating_sub(taken) <= reach_ns;
        Ok(best.filter(|(.., frame)| near(frame.capture_ns)))
    }
}
