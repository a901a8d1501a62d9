//! Which recorded picture a moment means.
//!
//! Each picture's own capture time is in the index files; the file's affine map, by which players
//! calculate, may be some milliseconds off it. A marker is put where the map puts its picture.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Index, Minute, Place, Wanted};
use crate::recording::{FrameTime, IndexReader, Rendition};
use crate::serve::StoreError;

/// Answers that are kept: 48 bytes each.
const KEPT: usize = 64 << 10;
/// How far from the nearest recorded picture a moment may be and still mean it.
const NEAR_NS: i64 = 2_000_000_000;
/// Capture times are recorded to the µs.
const SAME_NS: u64 = 1_000;
/// The most that the map and a picture's own capture time differ, as far as is looked.
const SLACK_NS: i64 = 2_000_000_000;

/// A recorded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of its segment.
    pub media_sequence: u64,
    /// Presentation time, in units of the file's timescale.
    pub time: i64,
    /// Its capture time, to the µs.
    pub capture_ns: i64,
    /// UTC of its presentation by the file's map: where a player puts it by
    /// `EXT-X-PROGRAM-DATE-TIME`.
    pub program_ns: i64,
}

/// What has been found before, by rendition and moment. Pictures do not move.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<(i64, i64), Frame>>);

impl Cache {
    fn get(&self, key: (i64, i64)) -> Option<Frame> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&key).copied()
    }

    fn put(&self, key: (i64, i64), frame: Frame) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, frame);
    }
}

pub(super) async fn find(
    index: &Index,
    cache: &Cache,
    place: &Place,
    moments: &[i64],
) -> Result<Vec<Option<Frame>>, StoreError> {
    let mut found: Vec<Option<Frame>> = moments
        .iter()
        .map(|at| cache.get((place.id, *at)))
        .collect();
    let missing = || (moments.iter().zip(&found)).filter(|(_, frame)| frame.is_none());
    let (Some(first), Some(last)) = (
        missing().map(|(at, _)| *at).min(),
        missing().map(|(at, _)| *at).max(),
    ) else {
        return Ok(found);
    };
    let (from, to) = (
        first.saturating_sub(SLACK_NS),
        last.saturating_add(SLACK_NS),
    );
    let minutes = index.minutes(place, Wanted::Between(from, to)).await?;
    let wanted: Vec<(usize, i64)> = (moments.iter().copied().enumerate())
        .filter(|(at, _)| found[*at].is_none())
        .collect();
    let rendition = place.rendition.clone();
    let read = tokio::task::spawn_blocking(move || read(&rendition, &minutes, wanted)).await;
    for (at, frame) in read.map_err(|_| StoreError::Gone)? {
        // The newest picture may have a nearer one after it, unless it is the very one.
        let next = index_end(place);
        let same = frame.capture_ns.abs_diff(moments[at]) <= SAME_NS;
        if same || next.is_none_or(|end| frame.capture_ns < end.saturating_sub(NEAR_NS)) {
            cache.put((place.id, moments[at]), frame);
        }
        found[at] = Some(frame);
    }
    Ok(found)
}

fn index_end(place: &Place) -> Option<i64> {
    place.edge().minutes.last().map(|minute| minute.end_ns())
}

fn read(
    rendition: &Rendition,
    minutes: &[Arc<Minute>],
    mut wanted: Vec<(usize, i64)>,
) -> Vec<(usize, Frame)> {
    let mut best: HashMap<usize, Frame> = HashMap::new();
    wanted.sort_by_key(|(_, at)| *at);
    for minute in minutes.iter().filter(|minute| !minute.gone) {
        let from = minute.begin_ns().saturating_sub(SLACK_NS);
        let to = minute.end_ns().saturating_add(SLACK_NS);
        let begin = wanted.partition_point(|(_, at)| *at < from);
        let end = wanted.partition_point(|(_, at)| *at <= to);
        if begin == end {
            continue;
        }
        let Ok(mut reader) = IndexReader::open(&rendition.index(&minute.name)) else {
            continue;
        };
        let mut last = None;
        for (at, moment) in &wanted[begin..end] {
            for (n, segment) in near(minute, *moment) {
                let sequence = minute.first() + n as u64;
                // Markers come in bunches.
                if last.as_ref().is_none_or(|(of, _)| *of != sequence) {
                    let next = minute.segments.get(n + 1);
                    let end = next.map_or(minute.index_len, |next| next.records.into());
                    let bytes = end.saturating_sub(segment.records.into());
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let frames = frames_of(&mut reader, segment.records, bytes, sequence);
                    last = Some((sequence, frames));
                }
                let Some((_, frames)) = &last else { continue };
                let off = |frame: &FrameTime| frame.capture_ns.abs_diff(*moment);
                let Some(frame) = frames.iter().min_by_key(|frame| off(frame)) else {
                    continue;
                };
                let nearer = best
                    .get(at)
                    .is_none_or(|best| off(frame) < best.capture_ns.abs_diff(*moment));
                if off(frame) <= NEAR_NS as u64 && nearer {
                    best.insert(
                        *at,
                        Frame {
                            media_sequence: sequence,
                            time: frame.time,
                            capture_ns: frame.capture_ns,
                            program_ns: minute.header.utc_ns(frame.time),
                        },
                    );
                }
            }
        }
    }
    best.into_iter().collect()
}

/// The segments that may have the picture: the one with the moment, by the map, and its neighbours.
fn near(minute: &Minute, moment: i64) -> impl Iterator<Item = (usize, &super::Segment)> {
    let after = (minute.segments).partition_point(|segment| minute.start_ns(segment) <= moment);
    let from = after.saturating_sub(2);
    (minute.segments.iter().enumerate()).skip(from).take(3)
}

fn frames_of(
    reader: &mut IndexReader,
    records: u32,
    bytes: usize,
    sequence: u64,
) -> Vec<FrameTime> {
    reader.seek(records.into());
    let chunks = reader.chunks_within(bytes).unwrap_or_default();
    let of_it = |chunk: &crate::recording::Chunk| chunk.media_sequence == sequence;
    chunks
        .into_iter()
        .take_while(of_it)
        .flat_map(|chunk| chunk.frames)
        .collect()
}
