//! One rendition, as the follower sees it: its files, the newest of them as it grows, and what the
//! database is told.
#![deny(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Shared;
use super::edge::{Edge, Place};
use super::minute::{Minute, Reader};
use super::notify::{Folder, Notify};
use super::table::{self, Summary};
use crate::recording::{FileName, IndexError, Rendition};
use crate::serve::StoreError;

/// Segments that are kept in memory, at least: more than a live playlist lists.
const KEPT_SEGMENTS: usize = 40;
/// Parts are kept for so many of the newest segments.
const KEPT_PARTS: u64 = 12;
/// Files that go into the database at once.
const BATCH: usize = 64;

/// A minute file that has a successor.
struct Recent {
    minute: Arc<Minute>,
    /// [`TO_DO`], [`QUEUED`] or [`SAVED`].
    saved: Arc<AtomicU8>,
}

/// Not in the database yet.
const TO_DO: u8 = 0;
const QUEUED: u8 = 1;
const SAVED: u8 = 2;
/// Files that are kept in memory while the database cannot be written. Those before them are read again
/// at the next start.
const MOST_RECENT: usize = 240;

impl Recent {
    pub(super) fn new(minute: Minute, saved: u8) -> Self {
        Self {
            minute: Arc::new(minute),
            saved: Arc::new(AtomicU8::new(saved)),
        }
    }
}

/// A rendition, from the follower's side.
pub(super) struct Followed {
    pub(super) place: Arc<Place>,
    /// Files by their first media sequence.
    pub(super) files: BTreeMap<u64, FileName>,
    /// The newest file, and those before it, oldest first.
    tail: Option<Reader>,
    recent: Vec<Recent>,
    /// Cannot be read; said once.
    bad: HashSet<FileName>,
}

/// The minute files of a rendition, by their first media sequence. Of two with the same, the one that
/// began later: nothing was ever promised of a number by two writers.
///
/// # Errors
/// The kernel's answer: a folder that cannot be read is not an empty one.
pub(super) fn list(rendition: &Rendition) -> io::Result<BTreeMap<u64, FileName>> {
    let mut files: BTreeMap<u64, FileName> = BTreeMap::new();
    for hour in rendition.hours()? {
        for name in hour.files()? {
            let known = files.entry(name.media_sequence).or_insert(name);
            if known.start_ms < name.start_ms {
                *known = name;
            }
        }
    }
    Ok(files)
}

impl Followed {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            files: BTreeMap::new(),
            tail: None,
            recent: Vec::new(),
            bad: HashSet::new(),
        }
    }

    pub(super) fn watch_hours(&self, notify: &mut Notify) {
        for hour in self.place.rendition.hours().unwrap_or_default() {
            notify.watch(&hour.folder, Folder::Hour(self.place.id, hour.name));
        }
    }

    pub(super) fn is_tail(&self, name: &FileName) -> bool {
        self.tail
            .as_ref()
            .is_some_and(|tail| tail.minute().name == *name)
    }

    /// The newest file and enough before it, from the files alone: at the start.
    pub(super) fn follow_newest(&mut self, tree: &BTreeMap<u64, FileName>) {
        let mut newest_first = tree.values().rev();
        if let Some(newest) = newest_first.next() {
            self.follow(newest);
        }
        let mut kept = 0;
        let mut older = Vec::new();
        for name in newest_first.take(KEPT_SEGMENTS) {
            if kept >= KEPT_SEGMENTS {
                break;
            }
            if let Some(minute) = self.read(name) {
                self.place.raise_longest(minute.longest());
                kept += minute.segments.len();
                older.push(Recent::new(minute, SAVED));
            }
        }
        older.reverse();
        self.recent = older;
        self.publish();
    }

    /// Only the newest hour: where the kernel does not tell.
    pub(super) fn list_newest(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let hours = self.place.rendition.hours().unwrap_or_default();
        for hour in hours.iter().rev().take(2).rev() {
            for file in hour.files().unwrap_or_default() {
                self.appear(shared, &file)?;
            }
        }
        Ok(())
    }

    /// Compares the database with the tree, and reads what differs. Returns how many files were read.
    pub(super) fn catch_up(
        &mut self,
        shared: &Shared,
        mut tree: BTreeMap<u64, FileName>,
    ) -> Result<usize, StoreError> {
        let id = self.place.id;
        let tail = self.tail.as_ref().map(|tail| tail.minute().first());
        let rows = shared
            .store
            .call_blocking(move |db| table::summaries(db, id))?;
        let mut buried = Vec::new();
        // Newer ones came while others were read.
        let newest = tree.keys().next_back().copied().unwrap_or(u64::MAX);
        for row in rows {
            let first = row.name.media_sequence;
            match tree.get(&first) {
                _ if first > newest => {}
                _ if Some(first) == tail => {}
                Some(name) if *name == row.name && !row.gone && self.unchanged(&row) => {
                    self.files.insert(first, *name);
                    tree.remove(&first);
                }
                Some(_) => {}
                None => buried.push(first),
            }
        }
        let mut batch = Vec::new();
        let mut read = 0;
        for (first, name) in tree {
            if Some(first) == tail {
                continue;
            }
            if let Some(minute) = self.read(&name) {
                read += 1;
                batch.push(minute);
            }
            if batch.len() == BATCH {
                self.save(shared, std::mem::take(&mut batch))?;
            }
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(read);
            }
        }
        self.save(shared, batch)?;
        if let Some(first) = tail {
            // It is read from the file until it has a successor.
            shared
                .store
                .call_blocking(move |db| table::remove(db, id, first))?;
        }
        for first in buried {
            shared
                .store
                .call_blocking(move |db| table::bury(db, id, first))?;
        }
        self.fill_recent(shared)?;
        self.publish();
        Ok(read)
    }

    /// Both files are as long as they were.
    fn unchanged(&self, row: &Summary) -> bool {
        let rendition = &self.place.rendition;
        let len = |path| fs::metadata(path).map_or(0, |file: fs::Metadata| file.len());
        len(rendition.index(&row.name)) == row.index_bytes
            && len(rendition.data(&row.name)) >= row.bytes
    }

    /// Enough before the newest file that a live playlist needs no database.
    fn fill_recent(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let id = self.place.id;
        let tail = self.tail.as_ref().map(|tail| tail.minute().first());
        let first = tail.unwrap_or(u64::MAX);
        let Some((newest, _)) = self.files.range(..first).next_back() else {
            return Ok(());
        };
        let from = newest.saturating_sub(KEPT_SEGMENTS as u64);
        let minutes = (shared.store)
            .call_blocking(move |db| table::minutes(db, id, table::Wanted::From(from)))?;
        let older = minutes.into_iter().filter(|minute| minute.end() <= first);
        self.recent = older.map(|minute| Recent::new(minute, SAVED)).collect();
        Ok(())
    }

    /// A file that has a successor, whole. `None`: nothing of use.
    fn read(&mut self, name: &FileName) -> Option<Minute> {
        if self.bad.contains(name) {
            return None;
        }
        let rendition = &self.place.rendition;
        let read = Reader::open(rendition, name).and_then(|mut reader| {
            reader.advance()?;
            Ok(reader)
        });
        let why = match read {
            Ok(reader) => {
                if let Some(why) = reader.broken() {
                    tracing::warn!("{}: cut off: {why}", rendition.index(name).display());
                }
                let there = fs::metadata(rendition.data(name)).map_or(0, |file| file.len());
                let minute = clip(reader.finish(), there);
                if !minute.segments.is_empty() {
                    self.files.insert(name.media_sequence, *name);
                    return Some(minute);
                }
                "nothing is in it".to_owned()
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!("{}: passed over: {why}", rendition.index(name).display());
        self.bad.insert(*name);
        None
    }

    fn save(&mut self, shared: &Shared, minutes: Vec<Minute>) -> Result<(), StoreError> {
        let id = self.place.id;
        for minute in &minutes {
            self.place.raise_longest(minute.longest());
        }
        if minutes.is_empty() {
            return Ok(());
        }
        shared.store.call_blocking(move |db| {
            let update = db.transaction()?;
            for minute in &minutes {
                table::put(&update, id, minute)?;
            }
            update.commit()
        })
    }

    /// A file is there: a new one, or one that is known.
    pub(super) fn appear(&mut self, shared: &Shared, name: &FileName) -> Result<(), StoreError> {
        let first = name.media_sequence;
        if self.is_tail(name) || self.files.get(&first) == Some(name) {
            return Ok(());
        }
        let newest = self.tail.as_ref().map(|tail| tail.minute().first());
        if newest.is_none_or(|newest| newest < first) {
            if let Some(tail) = &mut self.tail
                && let Err(error) = tail.advance()
            {
                tracing::warn!("{}: {error}", self.place.rendition.index(name).display());
            }
            self.follow(name);
            self.publish();
            self.keep(shared)?;
        } else if newest != Some(first)
            && let Some(minute) = self.read(name)
        {
            // Copied in from elsewhere, or slow to appear.
            self.save(shared, vec![minute])?;
        }
        Ok(())
    }

    /// Follows this file from now on, if its index can be read yet.
    pub(super) fn follow(&mut self, name: &FileName) {
        let rendition = &self.place.rendition;
        match Reader::open(rendition, name) {
            Ok(mut reader) => {
                if let Err(error) = reader.advance() {
                    tracing::warn!("{}: {error}", rendition.index(name).display());
                }
                let before = self.tail.replace(reader).map(Reader::finish);
                if let Some(minute) = before.filter(|minute| !minute.segments.is_empty()) {
                    self.files.insert(minute.first(), minute.name);
                    self.recent.push(Recent::new(minute, TO_DO));
                }
            }
            // Not written yet: its next change is seen, or its place is listed again.
            Err(IndexError::Header(_)) => {}
            Err(IndexError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(IndexError::Io(error)) => {
                tracing::warn!("{}: {error}", rendition.index(name).display());
            }
        }
    }

    /// Reads on in the newest file.
    pub(super) fn advance(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let Some(tail) = &mut self.tail else {
            return Ok(());
        };
        let whole = tail.broken().is_none();
        match tail.advance() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                let path = self.place.rendition.index(&tail.minute().name);
                tracing::warn!("{}: {error}", path.display());
                return Ok(());
            }
        }
        if let (true, Some(why)) = (whole, tail.broken()) {
            let path = self.place.rendition.index(&tail.minute().name);
            tracing::warn!("{}: not read on: {why}", path.display());
        }
        self.publish();
        self.keep(shared)
    }

    pub(super) fn publish(&mut self) {
        let mut minutes: Vec<Arc<Minute>> = self
            .recent
            .iter()
            .map(|recent| Arc::clone(&recent.minute))
            .collect();
        let mut parts = Vec::new();
        if let Some(tail) = &mut self.tail
            && !tail.minute().segments.is_empty()
        {
            let minute = tail.minute();
            self.place.raise_longest(minute.longest());
            self.files.insert(minute.first(), minute.name);
            minutes.push(Arc::new(minute.clone()));
            // Those of the file before are needed until this one has enough.
            let end = minute.end();
            let before = self.place.edge();
            let from = end.saturating_sub(KEPT_PARTS);
            let first = minute.first();
            parts.extend(
                (before.parts.iter())
                    .filter(|(of, _)| (from..first).contains(of))
                    .cloned(),
            );
            parts.extend(tail.parts_from(from).iter().cloned());
        }
        self.place
            .edge
            .send_replace(Arc::new(Edge { minutes, parts }));
    }

    /// Writes what has a successor to the database, and forgets what is there and not needed.
    fn keep(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let id = self.place.id;
        for recent in &self.recent {
            if recent.saved.load(Ordering::Acquire) != TO_DO || recent.minute.gone {
                continue;
            }
            recent.saved.store(QUEUED, Ordering::Release);
            let (minute, saved) = (Arc::clone(&recent.minute), Arc::clone(&recent.saved));
            shared.store.later(move |db| {
                let put = table::put(db, id, &minute);
                // Pairs with the Acquire loads here: SAVED is seen only after the row is there.
                saved.store(if put.is_ok() { SAVED } else { TO_DO }, Ordering::Release);
                put
            })?;
        }
        let mut kept: usize = (self.recent.iter())
            .map(|recent| recent.minute.segments.len())
            .sum();
        while let Some(oldest) = self.recent.first() {
            let without = kept - oldest.minute.segments.len();
            let saved = oldest.saved.load(Ordering::Acquire) == SAVED || oldest.minute.gone;
            if without < KEPT_SEGMENTS || !(saved || self.recent.len() > MOST_RECENT) {
                break;
            }
            kept = without;
            self.recent.remove(0);
        }
        Ok(())
    }

    /// A file is gone.
    pub(super) fn bury(&mut self, shared: &Shared, first: u64) -> Result<(), StoreError> {
        let known = self.files.remove(&first).is_some();
        let of_tail = (self.tail.as_ref()).is_some_and(|tail| tail.minute().first() == first);
        if of_tail && let Some(tail) = self.tail.take() {
            let minute = tail.finish();
            if !minute.segments.is_empty() {
                self.recent.push(Recent::new(minute, TO_DO));
            }
        }
        if !known && !of_tail {
            return Ok(());
        }
        let id = self.place.id;
        let same = |recent: &&mut Recent| recent.minute.first() == first;
        for recent in self.recent.iter_mut().filter(same) {
            let buried = Minute {
                gone: true,
                ..Minute::clone(&recent.minute)
            };
            recent.minute = Arc::new(buried);
            let row = Arc::clone(&recent.minute);
            shared.store.later(move |db| table::put(db, id, &row))?;
        }
        shared.store.later(move |db| table::bury(db, id, first))?;
        // At the front there is nobody whose numbers depend on it.
        let oldest = self.files.keys().next().copied().unwrap_or(u64::MAX);
        (self.recent).retain(|recent| !recent.minute.gone || recent.minute.first() > oldest);
        self.publish();
        Ok(())
    }
}

/// After a power cut the index may be ahead of the media: what is not there is not listed.
fn clip(mut minute: Minute, there: u64) -> Minute {
    let there = |segment: &super::Segment| segment.offset + u64::from(segment.len) <= there;
    let whole = minute
        .segments
        .iter()
        .take_while(|segment| there(segment))
        .count();
    minute.segments.truncate(whole);
    minute
}
