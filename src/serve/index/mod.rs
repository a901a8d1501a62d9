//! What is recorded: an index of the tree, in SQLite and, of what is newest, in memory.
//!
//! The tree is the recording and the index only its image: it is compared with the tree at the start,
//! follows every change, and can be deleted at any time. A unit is a minute file, one row with all its
//! segments packed, so that a day of 50 cameras is 72,000 rows and not two million.
//!
//! Promises: no file is believed (see `minute.rs`); what a query returns was committed by its writer;
//! memory is bounded by the number of renditions, not by what is recorded.
#![deny(unsafe_code)]

mod edge;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing {
    //! What is read of a file, for [`crate::fuzzing`].
    pub(in crate::serve) use super::minute::Reader;
}
mod follow;
mod followed;
mod frames;
mod minute;
mod notify;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking::RwLock;
use tokio::sync::watch;

pub use edge::{Edge, Place, UNNAMED, camera_of};
pub use frames::Frame;
pub use minute::{Minute, Part, Segment};
pub use table::{Summary, Sums, Wanted};

use super::{Problem, Store, StoreError};
use crate::recording::Tree;

/// How long a request waits for the first reading of the tree.
const SETTLE: Duration = Duration::from_secs(10);
/// How often a client that asks for what is gone can have the tree looked at.
const LOOKS: Duration = Duration::from_secs(5);

/// A handle; clones share it. The last one ends the thread that follows the tree.
#[derive(Clone, Debug)]
pub struct Index {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    follower: Option<thread::JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.bell.ring();
        // It looks at `stop` after every file.
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}

/// How far the first reading of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Nothing,
    /// What is newest is known.
    Live,
    /// Everything is.
    Settled,
}

/// What the handles and the follower share.
#[derive(Debug)]
struct Shared {
    tree: Tree,
    store: Store,
    places: RwLock<BTreeMap<(String, String), Arc<Place>>>,
    phase: watch::Sender<Phase>,
    /// Look at everything again, and how often that was done.
    rescan: AtomicBool,
    scans: watch::Sender<u64>,
    looked: RwLock<Option<Instant>>,
    stop: AtomicBool,
    bell: notify::Bell,
    frames: frames::Cache,
}

impl Index {
    /// Opens the database and starts to follow the tree, which goes on after this returned: see
    /// [`Index::settled`].
    ///
    /// # Errors
    /// The database cannot be opened, or no thread made.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::follow(data_dir, notify::Notify::new())
    }

    fn follow(data_dir: &Path, told: notify::Notify) -> Result<Self, StoreError> {
        let path = Self::path(data_dir);
        let io = |source| StoreError::Io {
            path: path.clone(),
            source,
        };
        let shared = Arc::new(Shared {
            tree: Tree::new(data_dir),
            store: match Store::open(&path, table::MIGRATIONS) {
                Ok(store) => store,
                // Retention needs it most when the disk is full.
                Err(error) => {
                    tracing::error!("{error}; the index is kept in memory until the next start");
                    Store::in_memory(table::MIGRATIONS)?
                }
            },
            places: RwLock::default(),
            phase: watch::Sender::new(Phase::Nothing),
            rescan: AtomicBool::new(false),
            scans: watch::Sender::new(0),
            looked: RwLock::default(),
            stop: AtomicBool::new(false),
            bell: notify::Bell::new().map_err(io)?,
            frames: frames::Cache::default(),
        });
        let follower = follow::Follower::new(Arc::clone(&shared), told);
        let follower = thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || follower.run())
            .map_err(io)?;
        let follower = Some(follower);
        Ok(Self {
            inner: Arc::new(Inner { shared, follower }),
        })
    }

    /// Its database. May be deleted while no server runs.
    pub fn path(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join("index.db")
    }

    /// The recordings.
    pub fn tree(&self) -> &Tree {
        &self.shared().tree
    }

    /// Its database, for queries of others.
    pub fn store(&self) -> &Store {
        &self.shared().store
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Waits until it is known which renditions there are, and the newest of each; but not long.
    ///
    /// # Errors
    /// 503: they still are looked for.
    pub async fn listed(&self) -> Result<(), Problem> {
        self.reached(Phase::Live).await
    }

    /// Waits until the tree was read once, but not long.
    ///
    /// # Errors
    /// 503: it still is read.
    pub async fn settled(&self) -> Result<(), Problem> {
        self.reached(Phase::Settled).await
    }

    /// Whether the tree was read once.
    pub fn is_settled(&self) -> bool {
        *self.shared().phase.borrow() >= Phase::Settled
    }

    /// Waits until the tree was read once, however long that takes.
    pub async fn read_once(&self) {
        let mut phase = self.shared().phase.subscribe();
        // The follower ends only with the last handle.
        let _ = phase.wait_for(|phase| *phase >= Phase::Settled).await;
    }

    async fn reached(&self, wanted: Phase) -> Result<(), Problem> {
        let mut phase = self.shared().phase.subscribe();
        let waited = tokio::time::timeout(SETTLE, phase.wait_for(|phase| *phase >= wanted)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Problem::unavailable(
                "indexing",
                "Recordings are being indexed",
                "the recordings are being read, as after a long pause or the loss of the index: live \
                 playlists come first, the others follow; try again in a few seconds",
            )),
        }
    }

    /// Looks at the whole tree again, and returns when that is done.
    pub async fn rescan(&self) {
        let shared = self.shared();
        let mut scans = shared.scans.subscribe();
        let before = *scans.borrow_and_update();
        shared.rescan.store(true, Ordering::Relaxed);
        shared.bell.ring();
        // The follower ends only with the last handle.
        let _ = scans.wait_for(|scans| *scans > before).await;
    }

    /// Has the whole tree looked at again, soon; not more often than every [`LOOKS`].
    pub fn look(&self) {
        let mut last = self.shared().looked.write();
        if last.is_some_and(|last| last.elapsed() < LOOKS) {
            return;
        }
        *last = Some(Instant::now());
        self.shared().rescan.store(true, Ordering::Relaxed);
        self.shared().bell.ring();
    }

    /// All renditions, in order of their streams.
    pub fn places(&self) -> Vec<Arc<Place>> {
        self.shared().places.read().values().cloned().collect()
    }

    /// The renditions of a camera.
    pub fn of_camera(&self, camera: &str) -> Vec<Arc<Place>> {
        let mut places = self.places();
        places.retain(|place| place.camera() == camera);
        places
    }

    /// A rendition of a stream.
    pub fn place(&self, stream: &str, rendition: &str) -> Option<Arc<Place>> {
        let key = (stream.to_owned(), rendition.to_owned());
        self.shared().places.read().get(&key).cloned()
    }

    /// Minute files of a rendition, in order, each beginning where the one before ends or later;
    /// those that are gone among them.
    ///
    /// # Errors
    /// The database's.
    pub async fn minutes(
        &self,
        place: &Place,
        wanted: Wanted,
    ) -> Result<Vec<Arc<Minute>>, StoreError> {
        // Before the query: what leaves memory is in the database by then.
        let edge = place.edge();
        let fits = |minute: &Minute| match wanted {
            Wanted::From(first) => minute.end() > first,
            Wanted::Between(from, to) => minute.begin_ns() < to && minute.end_ns() > from,
            Wanted::With(sequence) => (minute.first()..minute.end()).contains(&sequence),
        };
        let newest = edge.minutes.iter().filter(|minute| fits(minute));
        let in_memory = edge.first().unwrap_or(u64::MAX);
        let older_are_wanted = match wanted {
            Wanted::From(first) | Wanted::With(first) => first < in_memory,
            Wanted::Between(from, _) => {
                (edge.minutes.first()).is_none_or(|minute| from < minute.begin_ns())
            }
        };
        let mut found: Vec<Arc<Minute>> = Vec::new();
        if older_are_wanted {
            let id = place.id;
            let rows = self
                .store()
                .call(move |db| table::minutes(db, id, wanted))
                .await?;
            found.extend(rows.into_iter().map(Arc::new));
            found.retain(|minute| minute.end() <= in_memory);
        }
        found.extend(newest.cloned());
        // Of files with the same numbers only the first counts.
        let mut next = 0;
        found.retain(|minute| {
            let follows = minute.first() >= next;
            if follows {
                next = minute.end();
            }
            follows
        });
        Ok(found)
    }

    /// What there is between two moments, without the segments: all of it for the widest ones.
    ///
    /// # Errors
    /// The database's.
    pub async fn summaries(
        &self,
        place: &Place,
        from_ns: i64,
        to_ns: i64,
    ) -> Result<Vec<Summary>, StoreError> {
        let edge = place.edge();
        let id = place.id;
        let rows =
            move |db: &mut rusqlite::Connection| table::summaries_between(db, id, from_ns, to_ns);
        let mut found = self.store().call(rows).await?;
        let in_memory = edge.first().unwrap_or(u64::MAX);
        found.retain(|summary| summary.name.media_sequence < in_memory);
        let newest = edge.minutes.iter().map(|minute| Summary::of(minute));
        found.extend(newest.filter(|new| new.begin_ns < to_ns && new.end_ns > from_ns));
        Ok(found)
    }

    /// Sums over a rendition; what is in memory only is not in them.
    ///
    /// # Errors
    /// The database's.
    pub async fn sums(&self, place: &Place) -> Result<Sums, StoreError> {
        let edge = place.edge();
        let id = place.id;
        let mut sums = self.store().call(move |db| table::sums(db, id)).await?;
        let there = edge.minutes.iter().filter(|minute| !minute.gone);
        for minute in there {
            sums.peak = sums.peak.max(minute.peak());
            if sums.duration_ns == 0 {
                sums.bytes += minute.bytes();
            }
        }
        Ok(sums)
    }

    /// Media sequence of the first segment of a rendition that is there.
    ///
    /// # Errors
    /// The database's.
    pub async fn oldest(&self, place: &Place) -> Result<Option<u64>, StoreError> {
        let edge = place.edge();
        let mut there = edge.minutes.iter().filter(|minute| !minute.gone);
        let newest = there.next().map(|minute| minute.first());
        let id = place.id;
        let row = self.store().call(move |db| table::oldest(db, id)).await?;
        Ok(row.into_iter().chain(newest).min())
    }

    /// The segment with this media sequence, if it has ended, and its file.
    ///
    /// # Errors
    /// The database's.
    pub async fn segment(
        &self,
        place: &Place,
        media_sequence: u64,
    ) -> Result<Option<(Arc<Minute>, Segment)>, StoreError> {
        if let Some((minute, segment)) = place.edge().segment(media_sequence) {
            return Ok(Some((Arc::clone(minute), segment)));
        }
        let found = self.minutes(place, Wanted::With(media_sequence)).await?;
        Ok(found.into_iter().find_map(|minute| {
            let segment = *minute.segment(media_sequence)?;
            Some((minute, segment))
        }))
    }

    /// The recorded picture nearest to a capture time (UTC in ns), of a rendition.
    ///
    /// # Errors
    /// The database's. `None`: nothing was recorded then.
    pub async fn frame_at(
        &self,
        place: &Place,
        capture_ns: i64,
    ) -> Result<Option<Frame>, StoreError> {
        Ok(self.frames_at(place, &[capture_ns]).await?.pop().flatten())
    }

    /// As [`Index::frame_at`], for many at once, in their order.
    ///
    /// # Errors
    /// The database's.
    pub async fn frames_at(
        &self,
        place: &Place,
        capture_ns: &[i64],
    ) -> Result<Vec<Option<Frame>>, StoreError> {
        frames::find(self, &self.shared().frames, place, capture_ns).await
    }
}

/// A lock whose holder's panic harms nobody: what it guards is replaced whole.
mod parking {
    use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

    #[derive(Debug, Default)]
    pub(super) struct RwLock<T>(std::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
