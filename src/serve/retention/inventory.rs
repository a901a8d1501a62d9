//! What lies in the recordings' folders, counted: read from the files, so that it is right after any
//! crash, and when the index cannot be written because the disk is full.
//!
//! Promises: a look costs one listing for each rendition and one `stat` for each hour; an hour is listed
//! again only after its folder has changed. What is not a recording's file is not counted and not touched.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use crate::recording::{FileName, Hour, IndexReader, Rendition, Tree};

/// Folders changed so recently may change again without a new time stamp.
const RACY: Duration = Duration::from_secs(2);

/// Of an hour's folder.
#[derive(Clone, Debug)]
struct HourCount {
    /// The folder's time stamp when it was listed; `None`: list it again.
    listed: Option<SystemTime>,
    files: u64,
    bytes: u64,
    /// The file with the highest media sequence, and its bytes: it may be growing.
    newest: Option<(FileName, u64)>,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Minute files.
    pub files: u64,
    /// Of media and index.
    pub bytes: u64,
    /// Start of the oldest file, UTC in ms.
    pub oldest_ms: Option<i64>,
    /// Start of the newest file.
    pub newest_ms: Option<i64>,
}

/// A minute file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minute {
    /// Whose it is.
    pub rendition: Rendition,
    /// Which.
    pub name: FileName,
    /// Of media and index.
    pub bytes: u64,
}

impl Minute {
    /// UTC of the end of its last picture, in ms. Reads its index; where that is none, a minute after its
    /// start.
    pub fn end_ms(&self) -> i64 {
        let read = || -> Option<i64> {
            let mut reader = IndexReader::open(&self.rendition.index(&self.name)).ok()?;
            let chunks = reader.next_chunks().ok()?;
            let last = chunks.last()?;
            let end = last.decode_time.saturating_add(last.duration.into());
            // Rounded up.
            Some(
                reader
                    .header()
                    .utc_ns(end)
                    .saturating_add(999_999)
                    .div_euclid(1_000_000),
            )
        };
        read()
            .unwrap_or(self.name.start_ms.saturating_add(60_000))
            .max(self.name.start_ms)
    }
}

/// Looks again and again at one tree.
#[derive(Debug)]
pub struct Inventory {
    tree: Tree,
    renditions: BTreeMap<Rendition, BTreeMap<String, HourCount>>,
}

impl Inventory {
    /// Nothing is read yet.
    pub fn new(tree: Tree) -> Self {
        Self {
            tree,
            renditions: BTreeMap::new(),
        }
    }

    /// The tree that is looked at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Looks.
    ///
    /// # Errors
    /// The kernel's answer; what was known stays.
    pub fn refresh(&mut self) -> io::Result<Usage> {
        let mut found = BTreeMap::new();
        for rendition in self.tree.renditions()? {
            let mut old = self.renditions.remove(&rendition).unwrap_or_default();
            let mut hours = BTreeMap::new();
            for hour in rendition.hours()? {
                let count = count(&rendition, &hour, old.remove(&hour.name))?;
                hours.insert(hour.name, count);
            }
            found.insert(rendition, hours);
        }
        self.renditions = found;
        Ok(self.usage())
    }

    /// As of the last look.
    pub fn usage(&self) -> Usage {
        self.usage_of(|_| true)
    }

    /// As of the last look, of some renditions.
    pub fn usage_of(&self, which: impl Fn(&Rendition) -> bool) -> Usage {
        let mut usage = Usage::default();
        let renditions = self
            .renditions
            .iter()
            .filter(|(rendition, _)| which(rendition));
        for hour in renditions.flat_map(|(_, hours)| hours.values()) {
            usage.files += hour.files;
            usage.bytes += hour.bytes;
            usage.oldest_ms = [usage.oldest_ms, hour.first_ms].into_iter().flatten().min();
            usage.newest_ms = [usage.newest_ms, hour.last_ms].into_iter().flatten().max();
        }
        usage
    }

    /// By camera: start of the oldest file.
    pub fn oldest(&self) -> BTreeMap<String, i64> {
        let mut oldest: BTreeMap<String, i64> = BTreeMap::new();
        for (rendition, hours) in &self.renditions {
            let Some(first) = hours.values().filter_map(|hour| hour.first_ms).min() else {
                continue;
            };
            let camera = super::camera_of(&rendition.stream).to_owned();
            let known = oldest.entry(camera).or_insert(first);
            *known = first.min(*known);
        }
        oldest
    }

    /// The file of a rendition that is being written, if one is: the one with the highest media sequence.
    pub fn newest(&self, rendition: &Rendition) -> Option<FileName> {
        let hours = self.renditions.get(rendition)?.values();
        hours
            .filter_map(|hour| hour.newest)
            .map(|(name, _)| name)
            .max_by_key(|name| (name.media_sequence, name.start_ms))
    }

    /// The hours, oldest first, and the renditions that have files in each.
    pub fn hours(&self) -> BTreeMap<String, Vec<Rendition>> {
        let mut by_hour: BTreeMap<String, Vec<Rendition>> = BTreeMap::new();
        for (rendition, hours) in &self.renditions {
            for name in hours.keys() {
                by_hour
                    .entry(name.clone())
                    .or_default()
                    .push(rendition.clone());
            }
        }
        by_hour
    }
}

/// The folder of a rendition's hour.
pub fn hour_of(rendition: &Rendition, name: &str) -> Hour {
    Hour {
        name: name.to_owned(),
        folder: rendition.folder.join(name),
    }
}

/// The files of an hour with their bytes, in order of their media sequence.
///
/// # Errors
/// The kernel's answer, other than that a file has gone meanwhile.
pub fn minutes(rendition: &Rendition, hour: &Hour) -> io::Result<Vec<Minute>> {
    let names = hour.files()?.into_iter();
    names
        .map(|name| {
            Ok(Minute {
                rendition: rendition.clone(),
                bytes: bytes(rendition, &name)?,
                name,
            })
        })
        .collect()
}

fn bytes(rendition: &Rendition, name: &FileName) -> io::Result<u64> {
    let mut sum = 0;
    for path in [rendition.data(name), rendition.index(name)] {
        match fs::metadata(path) {
            Ok(file) => sum += file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

fn count(rendition: &Rendition, hour: &Hour, old: Option<HourCount>) -> io::Result<HourCount> {
    let changed = match fs::metadata(&hour.folder).and_then(|folder| folder.modified()) {
        Ok(changed) => Some(changed),
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(mut old) = old
        && changed.is_some()
        && old.listed == changed
    {
        if let Some((name, was)) = old.newest {
            let now = bytes(rendition, &name)?;
            old.bytes = old.bytes.saturating_sub(was).saturating_add(now);
            old.newest = Some((name, now));
        }
        return Ok(old);
    }
    let minutes = minutes(rendition, hour)?;
    let settled = changed.filter(|changed| {
        SystemTime::now()
            .duration_since(*changed)
            .is_ok_and(|age| age > RACY)
    });
    let starts = || minutes.iter().map(|minute| minute.name.start_ms);
    Ok(HourCount {
        listed: settled,
        files: minutes.len() as u64,
        bytes: minutes.iter().map(|minute| minute.bytes).sum(),
        newest: minutes.last().map(|minute| (minute.name, minute.bytes)),
        first_ms: starts().min(),
        last_ms: starts().max(),
    })
}
