//! One pass: which files go, and how they go.
//!
//! Oldest first over all cameras, until nothing is too old, the recordings fit into their bytes and the disk
//! has its free space again. A file that is being written is never deleted: the newest of a rendition goes
//! only to whoever holds the rendition's lock, so no writer can have it. Protected files stay.
//!
//! A file goes index first: what a kill leaves is media without index, which is nobody's recording and the
//! next pass's first find. Nothing here needs a database or free space.
//!
//! Promises: a pass deletes at most [`MAX_FILES`] files; what fails is counted and told, and ends nothing but
//! the pass.
#![deny(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::inventory::{Inventory, Minute, hour_of, minutes};
use super::protected::Protected;
use crate::recording::{FileName, Hour, InitId, Lock, Rendition, hour_name};

/// The most files that one pass deletes: some 100 ms of work.
pub const MAX_FILES: usize = 256;
/// After so many failures a pass ends.
const MAX_ERRORS: u64 = 8;
/// How old an init segment must be that no file needs: it is written before the first that does.
const INIT_AGE: Duration = Duration::from_secs(600);
const HOUR_MS: i64 = 3_600_000;
/// How far before an hour's end its last file may begin and yet go on into the next.
const SLACK_MS: i64 = 600_000;

/// Why a file was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Older than `keep`.
    Age,
    /// The recordings were larger than `max_size`.
    Size,
    /// The disk had less than `min_free`.
    FreeSpace,
    /// Asked for over the API.
    Request,
}

/// What has to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What ended before this, UTC in ms.
    pub before_ms: Option<i64>,
    /// Bytes above `max_size`.
    pub over_size: u64,
    /// Bytes below `min_free`.
    pub under_free: u64,
}

impl Demand {
    /// From the limits and what there is.
    pub fn new(
        before_ms: Option<i64>,
        used: u64,
        max_bytes: Option<u64>,
        free: u64,
        min_free: u64,
    ) -> Self {
        Self {
            before_ms,
            over_size: max_bytes.map_or(0, |max| used.saturating_sub(max)),
            under_free: min_free.saturating_sub(free),
        }
    }

    /// Why a file goes, if it does; the oldest is asked about first.
    pub fn reason(&self, minute: &Minute) -> Option<Reason> {
        let old = |before: i64| minute.name.start_ms < before && minute.end_ms() <= before;
        if self.before_ms.is_some_and(old) {
            Some(Reason::Age)
        } else if self.over_size > 0 {
            Some(Reason::Size)
        } else if self.under_free > 0 {
            Some(Reason::FreeSpace)
        } else {
            None
        }
    }

    /// Whether files that begin at or after this can stay.
    pub fn is_met_from(&self, start_ms: i64) -> bool {
        self.over_size == 0
            && self.under_free == 0
            && self.before_ms.is_none_or(|before| start_ms >= before)
    }

    fn freed(&mut self, bytes: u64) {
        self.over_size = self.over_size.saturating_sub(bytes);
        self.under_free = self.under_free.saturating_sub(bytes);
    }
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What went, and why.
    pub deleted: Vec<(Minute, Reason)>,
    /// It stopped because of [`MAX_FILES`]: there is more to do.
    pub more: bool,
    /// What could not go because it is protected, though a limit asked for it.
    pub spared: u64,
    /// What could not go because it is being written.
    pub writing: u64,
    /// Bytes that still should go; nothing that may go is left then.
    pub short: u64,
    /// What failed.
    pub errors: u64,
    /// The last failure.
    pub error: Option<String>,
}

impl Done {
    /// Counts a failure; true: enough.
    fn failed(&mut self, what: &str, path: &Path, error: &io::Error) -> bool {
        self.errors += 1;
        self.error = Some(format!("{what} {}: {error}", path.display()));
        self.errors >= MAX_ERRORS
    }
}

/// Deletes what has to go.
pub fn run(inventory: &Inventory, protected: &Protected, mut demand: Demand, now_ms: i64) -> Done {
    let mut done = Done::default();
    'hours: for (name, renditions) in inventory.hours() {
        // A file of this hour may have begun at its very start.
        let start_ms = hour_ms(&name);
        if start_ms.is_some_and(|start| demand.is_met_from(start)) {
            continue;
        }
        let mut candidates: Vec<Minute> = Vec::new();
        let mut touched: BTreeSet<Rendition> = BTreeSet::new();
        for rendition in renditions {
            let whole =
                |start: i64| protected.covers(&rendition.stream, start, start + HOUR_MS + SLACK_MS);
            if start_ms.is_some_and(whole) {
                done.spared += 1;
                continue;
            }
            match minutes(&rendition, &hour_of(&rendition, &name)) {
                Ok(found) if found.is_empty() => {
                    touched.insert(rendition);
                }
                Ok(found) => candidates.extend(found),
                Err(error) => {
                    if done.failed("cannot list", &rendition.folder.join(&name), &error) {
                        break 'hours;
                    }
                }
            }
        }
        candidates.sort_by_key(|minute| (minute.name.start_ms, minute.name.media_sequence));
        for minute in candidates {
            if demand.is_met_from(minute.name.start_ms) {
                break;
            }
            let Some(reason) = demand.reason(&minute) else {
                continue;
            };
            let stream = &minute.rendition.stream;
            if protected.touches(stream, minute.name.start_ms, minute.end_ms()) {
                done.spared += 1;
                continue;
            }
            if done.deleted.len() == MAX_FILES {
                done.more = true;
                break 'hours;
            }
            match remove(inventory, &minute) {
                Ok(true) => {
                    demand.freed(minute.bytes);
                    touched.insert(minute.rendition.clone());
                    done.deleted.push((minute, reason));
                }
                Ok(false) => done.writing += 1,
                Err(error) => {
                    let path = minute.rendition.data(&minute.name);
                    if done.failed("cannot delete", &path, &error) {
                        break 'hours;
                    }
                }
            }
        }
        for rendition in touched {
            tidy_hour(&hour_of(&rendition, &name), now_ms);
        }
    }
    if !done.more {
        done.short = demand.over_size.max(demand.under_free);
    }
    let emptied: BTreeSet<&Rendition> = done
        .deleted
        .iter()
        .map(|(minute, _)| &minute.rendition)
        .collect();
    for rendition in emptied {
        tidy_inits(rendition);
    }
    done
}

/// Deletes a file, unless it is being written: false then.
///
/// # Errors
/// The kernel's answer.
pub fn remove(inventory: &Inventory, minute: &Minute) -> io::Result<bool> {
    let Minute {
        rendition, name, ..
    } = minute;
    // Held until the files are gone: no writer takes the rendition up meanwhile.
    let _lock = match inventory.newest(rendition) {
        Some(newest) if newest.media_sequence > name.media_sequence => None,
        _ => match Lock::take(rendition) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    for path in [rendition.index(name), rendition.data(name)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

/// Removes an hour's folder when no file is left in it, and what a kill has left of a deletion.
pub fn tidy_hour(hour: &Hour, now_ms: i64) {
    // A writer may be about to make its first file in these.
    let current = [-HOUR_MS, 0, HOUR_MS].map(|by| hour_name(now_ms.saturating_add(by)));
    let Ok(files) = hour.files() else { return };
    if !files.is_empty() || current.contains(&hour.name) {
        return;
    }
    let Ok(entries) = fs::read_dir(&hour.folder) else {
        return;
    };
    for entry in entries.flatten() {
        // Only what was ours; a folder with anything else stays.
        if entry
            .file_name()
            .to_str()
            .and_then(FileName::of_file)
            .is_some()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    // Fails when something is left, which is as it should be.
    let _ = fs::remove_dir(&hour.folder);
}

/// Removes the init segments that no file of a rendition needs.
pub fn tidy_inits(rendition: &Rendition) {
    let Ok(entries) = fs::read_dir(&rendition.folder) else {
        return;
    };
    let old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|file| file.modified());
        changed.is_ok_and(|at| {
            SystemTime::now()
                .duration_since(at)
                .is_ok_and(|age| age > INIT_AGE)
        })
    };
    let init_of = |path: &Path| -> Option<InitId> {
        let name = path.file_name()?.to_str()?.strip_prefix("init-")?;
        let stem = name
            .strip_suffix(".mp4")
            .or_else(|| name.strip_suffix(".part"))?;
        stem.parse().ok()
    };
    let inits: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| init_of(path).is_some() && old(path))
        .collect();
    if inits.is_empty() {
        return;
    }
    let mut needed: BTreeSet<InitId> = BTreeSet::new();
    let Ok(hours) = rendition.hours() else { return };
    for hour in hours {
        let Ok(files) = hour.files() else { return };
        needed.extend(files.iter().map(|name| name.init));
    }
    for path in inits {
        let part = path.extension().is_some_and(|ending| ending == "part");
        if part || init_of(&path).is_some_and(|id| !needed.contains(&id)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// When an hour began, UTC in ms, from its name.
pub fn hour_ms(name: &str) -> Option<i64> {
    let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M", format!("{name}00")).ok()?;
    let time = time
        .to_datetime()
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    let start = time.timestamp().as_millisecond();
    (hour_name(start) == name).then_some(start)
}
