//! How much is recorded, and with how many gaps: read from the files' names, and from the index of the last
//! file before each gap.
#![deny(unsafe_code)]

use std::io;

use super::camera_of;
use super::inventory::{Minute, minutes};
use crate::recording::{Rendition, Tree};

/// Of so many gaps the exact beginning is looked up; before the others, a file counts as a minute.
const EXACT_GAPS: usize = 200;
const MINUTE_MS: i64 = 60_000;

/// What is recorded of a rendition. Times are UTC in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whose.
    pub rendition: Rendition,
    /// Start of the oldest file.
    pub first_ms: Option<i64>,
    /// End of the newest, as far as it is written.
    pub last_ms: Option<i64>,
    /// Without gaps.
    pub recorded_ms: i64,
    /// Breaks between files.
    pub gaps: u64,
    /// On the disk.
    pub bytes: u64,
    /// Minute files.
    pub files: u64,
}

/// Of all renditions, or of one camera's.
///
/// # Errors
/// The kernel's answer.
pub fn recorded(tree: &Tree, camera: Option<&str>) -> io::Result<Vec<Recorded>> {
    let mut renditions = tree.renditions()?;
    renditions
        .retain(|rendition| camera.is_none_or(|camera| camera_of(&rendition.stream) == camera));
    renditions.into_iter().map(of_rendition).collect()
}

fn of_rendition(rendition: Rendition) -> io::Result<Recorded> {
    let mut files = Vec::new();
    for hour in rendition.hours()? {
        files.extend(minutes(&rendition, &hour)?);
    }
    files.sort_by_key(|minute| (minute.name.media_sequence, minute.name.start_ms));
    let breaks = |pair: &[Minute]| {
        pair[0].name.discontinuity_sequence != pair[1].name.discontinuity_sequence
    };
    let gaps = files.windows(2).filter(|pair| breaks(pair)).count();
    let mut recorded_ms = 0;
    let mut exact = 0;
    for (at, minute) in files.iter().enumerate() {
        let start = minute.name.start_ms;
        let next = files.get(at + 1);
        let end = match next {
            Some(next) if !breaks(&[minute.clone(), next.clone()]) => next.name.start_ms,
            _ if exact < EXACT_GAPS || next.is_none() => {
                exact += 1;
                minute.end_ms()
            }
            Some(next) => next.name.start_ms.min(start + MINUTE_MS),
            None => start + MINUTE_MS,
        };
        recorded_ms += (end - start).max(0);
    }
    Ok(Recorded {
        first_ms: files.iter().map(|minute| minute.name.start_ms).min(),
        last_ms: files.last().map(Minute::end_ms),
        recorded_ms,
        gaps: gaps as u64,
        bytes: files.iter().map(|minute| minute.bytes).sum(),
        files: files.len() as u64,
        rendition,
    })
}
