//! The thread that follows the tree: reads it at the start, then every change to it.
//!
//! The newest file of each rendition is read as it grows, and published part by part; a file that has
//! a successor is written to the database. What the database says is compared with the tree once, by
//! name and size; from then on the kernel tells what changes, and where it cannot (no more watches),
//! folders are polled.
#![deny(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::edge::Place;
use super::followed::{Followed, list};
use super::notify::{Change, Folder, Notify};
use super::table;
use super::{Phase, Shared};
use crate::recording::{FileName, INDEX_ENDING, Rendition};
use crate::serve::StoreError;

/// How often growing files are looked at where the kernel does not tell, and where it does: a network
/// file system tells nothing.
const POLL: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(2);
/// How often the folders are listed where the kernel does not tell.
const LIST: Duration = Duration::from_secs(1);
const LIST_ALL: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Follower {
    shared: Arc<Shared>,
    notify: Notify,
    renditions: HashMap<i64, Followed>,
    listed: Instant,
    listed_all: Instant,
    looked: Instant,
    /// Since when something cannot be listed.
    failed: Option<Instant>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, notify: Notify) -> Self {
        Self {
            shared,
            notify,
            renditions: HashMap::new(),
            listed: Instant::now(),
            listed_all: Instant::now(),
            looked: Instant::now(),
            failed: None,
        }
    }

    /// Until told to stop.
    pub(super) fn run(mut self) {
        let mut replaced = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = self.shared.store.replaced();
            if replaced != Some(now) {
                // At the start, and after a damaged database was replaced by an empty one.
                replaced = Some(now);
                self.renditions.clear();
                if let Err(error) = self.read_all() {
                    tracing::error!("index: {error}");
                }
                self.shared.phase.send_replace(Phase::Settled);
            }
            let patience = match self.notify.incomplete {
                true => POLL,
                false => LOOK,
            };
            let changes = self.notify.wait(&self.shared.bell, patience);
            let wanted = self.shared.rescan.swap(false, Ordering::Relaxed);
            let lost = wanted || changes.contains(&Change::Lost);
            let done = self.take(changes).and_then(|()| self.look(lost));
            if let Err(error) = done {
                tracing::error!("index: {error}");
            }
            if wanted {
                self.shared.scans.send_modify(|scans| *scans += 1);
            }
        }
    }

    /// The whole tree, at the start: first what is live, then what is not in the database yet.
    fn read_all(&mut self) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut histories = Vec::new();
        let listed = self.list_renditions();
        for rendition in listed.as_deref().unwrap_or_default().iter().cloned() {
            let place = self.open(rendition)?;
            let files = self.list_files(&place.rendition);
            let mut followed = Followed::new(place);
            followed.watch_hours(&mut self.notify);
            if let Some(files) = files {
                followed.follow_newest(&files);
                histories.push((followed.place.id, files));
            }
            self.renditions.insert(followed.place.id, followed);
        }
        if listed.is_some() {
            let kept: Vec<i64> = self.renditions.keys().copied().collect();
            (self.shared.store).call_blocking(move |db| table::drop_renditions(db, &kept))?;
        }
        self.shared.phase.send_replace(Phase::Live);
        let (mut files, mut read) = (0, 0);
        for (id, tree) in histories {
            if let Some(followed) = self.renditions.get_mut(&id) {
                files += tree.len();
                read += followed.catch_up(&self.shared, tree)?;
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            // What is live does not wait.
            let changes = self.notify.wait(&self.shared.bell, Duration::ZERO);
            self.take(changes)?;
        }
        tracing::info!(
            "index: {files} minute files of {} renditions, {read} of them read, in {} ms",
            self.renditions.len(),
            started.elapsed().as_millis()
        );
        Ok(())
    }

    /// Whatever cannot be listed is listed again soon, and until then taken for what it was.
    fn listed<T>(&mut self, folder: &Path, listed: io::Result<T>) -> Option<T> {
        let failed = |error: io::Error| {
            tracing::error!("{}: {error}; it is listed again", folder.display());
            self.failed = Some(Instant::now());
        };
        listed.map_err(failed).ok()
    }

    fn list_files(&mut self, rendition: &Rendition) -> Option<BTreeMap<u64, FileName>> {
        self.listed(&rendition.folder, list(rendition))
    }

    /// `None`: they cannot be listed.
    fn list_renditions(&mut self) -> Option<Vec<Rendition>> {
        let tree = &self.shared.tree;
        // Watched before it is listed: what is made in between is seen by one of both.
        if let Err(error) = fs::create_dir_all(tree.root()) {
            tracing::warn!("{}: {error}", tree.root().display());
        }
        self.notify.watch(tree.root(), Folder::Tree);
        if let Ok(folders) = fs::read_dir(tree.root()) {
            for folder in folders.flatten() {
                self.notify.watch(&folder.path(), Folder::Tree);
            }
        }
        let (root, found) = (tree.root().to_owned(), tree.renditions());
        self.listed(&root, found)
    }

    fn open(&mut self, rendition: Rendition) -> Result<Arc<Place>, StoreError> {
        let key = (rendition.stream.clone(), rendition.name.clone());
        let (id, longest) = {
            let (stream, name) = key.clone();
            (self.shared.store).call_blocking(move |db| table::rendition(db, &stream, &name))?
        };
        self.notify.watch(&rendition.folder, Folder::Rendition(id));
        let place = Arc::new(Place::new(id, rendition, longest));
        self.shared.places.write().insert(key, Arc::clone(&place));
        Ok(place)
    }

    fn take(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut touched = HashSet::new();
        let mut listed = HashSet::new();
        let mut renditions = false;
        for change in changes {
            match change {
                Change::Lost => {}
                Change::Entry {
                    folder: Folder::Tree,
                    ..
                } => renditions = true,
                Change::Entry {
                    folder: Folder::Rendition(id),
                    ..
                } => {
                    listed.insert(id);
                }
                Change::Entry {
                    folder: Folder::Hour(id, _),
                    name,
                    gone,
                } => {
                    let Some(followed) = self.renditions.get_mut(&id) else {
                        continue;
                    };
                    let Some(file) = FileName::of_file(&name) else {
                        continue;
                    };
                    if gone {
                        followed.bury(&self.shared, file.media_sequence)?;
                    } else if name.ends_with(INDEX_ENDING) && !followed.is_tail(&file) {
                        followed.appear(&self.shared, &file)?;
                    }
                    touched.insert(id);
                }
            }
        }
        if renditions {
            self.list_new()?;
        }
        for id in listed {
            self.list_one(id)?;
        }
        for id in touched {
            if let Some(followed) = self.renditions.get_mut(&id) {
                followed.advance(&self.shared)?;
            }
        }
        Ok(())
    }

    /// What is due although nobody told.
    fn look(&mut self, lost: bool) -> Result<(), StoreError> {
        let again = self.failed.take_if(|since| since.elapsed() >= LOOK);
        let lost = lost || again.is_some();
        let polling = self.notify.incomplete;
        let due = |last: &mut Instant, every: Duration| {
            let due = last.elapsed() >= every;
            if due {
                *last = Instant::now();
            }
            due
        };
        if lost || (polling && due(&mut self.listed_all, LIST_ALL)) {
            self.list_new()?;
            let all: Vec<i64> = self.renditions.keys().copied().collect();
            for id in all {
                self.list_one(id)?;
            }
        } else if polling && due(&mut self.listed, LIST) {
            self.list_new()?;
            for followed in self.renditions.values_mut() {
                followed.list_newest(&self.shared)?;
            }
        }
        if polling || due(&mut self.looked, LOOK) {
            for followed in self.renditions.values_mut() {
                followed.advance(&self.shared)?;
            }
        }
        Ok(())
    }

    /// Renditions that came or went.
    fn list_new(&mut self) -> Result<(), StoreError> {
        let Some(found) = self.list_renditions() else {
            return Ok(());
        };
        let gone: Vec<i64> = (self.renditions.values())
            .filter(|followed| !found.contains(&followed.place.rendition))
            .map(|followed| followed.place.id)
            .collect();
        for id in gone {
            let Some(followed) = self.renditions.remove(&id) else {
                continue;
            };
            let of = &followed.place.rendition;
            let key = (of.stream.clone(), of.name.clone());
            self.shared.places.write().remove(&key);
            followed.place.removed.store(true, Ordering::Relaxed);
            followed.place.edge.send_replace(Arc::default());
            let kept: Vec<i64> = self.renditions.keys().copied().collect();
            (self.shared.store).call_blocking(move |db| table::drop_renditions(db, &kept))?;
        }
        for rendition in found {
            let known = |followed: &Followed| followed.place.rendition == rendition;
            if self.renditions.values().any(known) {
                continue;
            }
            let place = self.open(rendition)?;
            let id = place.id;
            self.renditions.insert(id, Followed::new(place));
            self.list_one(id)?;
        }
        Ok(())
    }

    /// All hours of a rendition.
    fn list_one(&mut self, id: i64) -> Result<(), StoreError> {
        let Some(followed) = self.renditions.get(&id) else {
            return Ok(());
        };
        followed.watch_hours(&mut self.notify);
        let place = Arc::clone(&followed.place);
        let files = self.list_files(&place.rendition);
        let (Some(files), Some(followed)) = (files, self.renditions.get_mut(&id)) else {
            return Ok(());
        };
        let gone: Vec<u64> = (followed.files.keys())
            .filter(|first| !files.contains_key(first))
            .copied()
            .collect();
        for first in gone {
            followed.bury(&self.shared, first)?;
        }
        for file in files.values() {
            followed.appear(&self.shared, file)?;
        }
        followed.advance(&self.shared)
    }
}
