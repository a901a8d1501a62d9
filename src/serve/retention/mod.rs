//! How long recordings stay: by age, by bytes and by free space, all three at once, oldest first over all
//! cameras.
//!
//! ```text
//! clock       may age delete now?          inventory   what is there, counted from the files
//! protected   what stays whatever is said  pass        which files go, and how
//! ```
//!
//! Promises: the file tree alone decides, never the index, so it is right after any crash and works on a
//! full disk. The file being written is never deleted. A pass is bounded, and never runs beside another or
//! beside a deletion over the API, nor beside a change of what is protected ([`Keeper::undisturbed`]): what
//! is there when a protection is confirmed stays. What it did, and why it does nothing, is in [`State`].
#![deny(unsafe_code)]

mod clock;
mod inventory;
mod pass;
mod protected;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

pub use clock::Look;
pub use inventory::{Minute, Usage};
pub use pass::{Done, MAX_FILES, Reason};
pub use protected::{Protected, camera_of};
pub use recorded::{Recorded, recorded};

pub use crate::config::Retention as Limits;
use crate::recording::Tree;
use clock::Clock;
use inventory::{Inventory, hour_of, minutes};
use pass::{Demand, hour_ms};

/// Between passes.
pub const PAUSE: Duration = Duration::from_secs(10);
/// Between passes when there is more to do, or too little space.
pub const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// Between passes when a limit is broken and nothing that may go is left: looking costs a listing of all.
pub const STUCK_PAUSE: Duration = Duration::from_secs(60);
/// How often the bytes of protected ranges are counted.
const COUNT_PROTECTED: Duration = Duration::from_secs(60);
/// The most files that one request deletes.
const MAX_REQUEST: usize = 20_000;

/// Files and bytes deleted for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Deleted {
    /// Minute files.
    pub files: u64,
    /// Of media and index.
    pub bytes: u64,
}

/// What the last pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Of the disk.
    pub total: u64,
    /// Of the disk, for the daemon.
    pub free: u64,
    /// Of recordings.
    pub usage: Usage,
    /// Of recordings that are protected.
    pub protected_bytes: u64,
    /// By camera: start of the oldest file, UTC in ms.
    pub oldest: BTreeMap<String, i64>,
    /// Cameras of which something was deleted for want of space, since the process started.
    pub thinned: BTreeSet<String>,
    /// Since the process started.
    pub deleted: BTreeMap<Reason, Deleted>,
    /// Passes since the process started.
    pub passes: u64,
    /// UTC of the last pass, in ms.
    pub last_pass_ms: Option<i64>,
    /// Why nothing is deleted by age, if so.
    pub age_paused: Option<String>,
    /// Why a limit is not kept, if so.
    pub trouble: Option<String>,
    /// What failed since the process started.
    pub errors: u64,
    /// The last failure.
    pub last_error: Option<String>,
}

/// What became of a range that was to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeDeleted {
    /// What went.
    pub files: u64,
    /// Of media and index.
    pub bytes: u64,
    /// UTC in ms, of all that went: from the first file's start to the last one's end.
    pub span_ms: Option<(i64, i64)>,
    /// Files left because they are protected.
    pub protected: u64,
    /// Files left because they are being written.
    pub writing: u64,
    /// Files left because they reach beyond the range.
    pub reaching_out: u64,
    /// There is more: ask again.
    pub more: bool,
}

/// Why a range was not deleted, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum NotDeleted {
    /// It is not known what is protected; the text says why.
    #[error("it is not known what is protected: {0}")]
    Unknown(String),
    /// The kernel's answer.
    #[error("the disk refuses ({0})")]
    Disk(#[from] io::Error),
}

/// Keeps one tree within its limits. Any thread may call anything; deleting calls block, for as long as the
/// disk takes.
#[derive(Debug)]
pub struct Keeper {
    tree: Tree,
    work: Mutex<Work>,
    state: Mutex<State>,
    limits: Mutex<Limits>,
}

#[derive(Debug)]
struct Work {
    inventory: Inventory,
    clock: Clock,
    protected: Option<Protected>,
    protected_counted: Option<Instant>,
    protected_bytes: u64,
}

impl Keeper {
    /// Reads nothing yet.
    pub fn new(tree: Tree, limits: Limits) -> Self {
        Self {
            tree: tree.clone(),
            work: Mutex::new(Work {
                inventory: Inventory::new(tree),
                clock: Clock::default(),
                protected: None,
                protected_counted: None,
                protected_bytes: 0,
            }),
            state: Mutex::default(),
            limits: Mutex::new(limits),
        }
    }

    /// What the last pass found.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// What is kept.
    pub fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    /// From the next pass on.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.limits) = limits;
    }

    /// Runs `change` while nothing is deleted, waiting for what is being deleted first: a pass, or a request
    /// of [`MAX_REQUEST`] files at most. A change of what is protected belongs here: else a file could go
    /// after its protection was confirmed, to a pass that had asked before.
    pub fn undisturbed<T>(&self, change: impl FnOnce() -> T) -> T {
        let _work = lock(&self.work);
        change()
    }

    /// Deletes what has to go, some of it at most; returns what went, and how long to wait for the next pass.
    /// `protected` says what stays, or why that is not known; then what was known last goes on to count, and
    /// if nothing ever was, nothing is deleted. It is asked while nobody can be in [`Keeper::undisturbed`].
    pub fn pass(
        &self,
        look: Look,
        protected: impl FnOnce() -> Result<Protected, String>,
    ) -> (Done, Duration) {
        let limits = self.limits();
        let mut work = lock(&self.work);
        let protected = protected();
        let mut state = self.state();
        state.passes += 1;
        let now_ms = look.wall_ns.div_euclid(1_000_000);
        state.last_pass_ms = Some(now_ms);
        let done = work.pass(look, limits, protected, &mut state);
        let pause = match () {
            () if done.more || (state.free < limits.min_free && done.short == 0) => SHORT_PAUSE,
            () if done.short > 0 => STUCK_PAUSE,
            () => PAUSE,
        };
        *lock(&self.state) = state;
        (done, pause)
    }

    /// Deletes a camera's recording from `from_ms` to `to_ms`, in whole files. `reach_out`: also the files
    /// that begin before it or end after it; they stay else. Protected files stay, and what is being written.
    /// `protected` is asked as by [`Keeper::pass`]; its answer is returned, too.
    ///
    /// # Errors
    /// What is protected is not known: nothing is deleted. The kernel's answer: what went before stays gone.
    pub fn delete_range(
        &self,
        camera: &str,
        (from_ms, to_ms): (i64, i64),
        reach_out: bool,
        protected: impl FnOnce() -> Result<Protected, String>,
    ) -> Result<(RangeDeleted, Protected), NotDeleted> {
        let mut work = lock(&self.work);
        let protected = protected().map_err(NotDeleted::Unknown)?;
        work.inventory.refresh()?;
        let mut gone = RangeDeleted::default();
        let result = work.delete_range(camera, from_ms, to_ms, reach_out, &protected, &mut gone);
        let usage = work.inventory.refresh().ok();
        drop(work);
        let mut state = lock(&self.state);
        state.usage = usage.unwrap_or(state.usage);
        let deleted = state.deleted.entry(Reason::Request).or_default();
        deleted.files += gone.files;
        deleted.bytes += gone.bytes;
        result?;
        Ok((gone, protected))
    }

    /// The tree that is kept.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

impl Work {
    fn pass(
        &mut self,
        look: Look,
        limits: Limits,
        protected: Result<Protected, String>,
        state: &mut State,
    ) -> Done {
        let now_ms = look.wall_ns.div_euclid(1_000_000);
        let trust = self.clock.trust(look, limits.keep);
        let usage = match self.inventory.refresh() {
            Ok(usage) => usage,
            Err(error) => return self.failed(state, &error),
        };
        state.usage = usage;
        match space(self.inventory.tree().root()) {
            Ok((total, free)) => (state.total, state.free) = (total, free),
            Err(error) => return self.failed(state, &error),
        }
        let keep_ms = i64::try_from(limits.keep.as_millis()).unwrap_or(i64::MAX);
        let before_ms = trust.is_ok().then(|| now_ms.saturating_sub(keep_ms));
        state.age_paused = trust.err();
        let unknown = match protected {
            Ok(protected) => {
                if self.protected.as_ref() != Some(&protected) {
                    self.protected_counted = None;
                }
                self.protected = Some(protected);
                None
            }
            Err(why) => Some(why),
        };
        let Some(protected) = &self.protected else {
            state.trouble = unknown.map(|why| {
                format!("nothing is deleted, since it is not known what is protected: {why}")
            });
            return Done::default();
        };
        let demand = Demand::new(
            before_ms,
            usage.bytes,
            limits.max_bytes,
            state.free,
            limits.min_free,
        );
        let done = pass::run(&self.inventory, protected, demand, now_ms);
        for (minute, reason) in &done.deleted {
            let deleted = state.deleted.entry(*reason).or_default();
            deleted.files += 1;
            deleted.bytes += minute.bytes;
            if matches!(reason, Reason::Size | Reason::FreeSpace) {
                let camera = camera_of(&minute.rendition.stream);
                state.thinned.insert(camera.to_owned());
            }
        }
        if self
            .protected_counted
            .is_none_or(|at| at.elapsed() >= COUNT_PROTECTED)
        {
            self.protected_bytes = protected_bytes(&self.inventory, protected);
            self.protected_counted = Some(Instant::now());
        }
        state.protected_bytes = self.protected_bytes;
        if !done.deleted.is_empty() {
            // A failure shows in the next pass.
            state.usage = self.inventory.refresh().unwrap_or(usage);
            if let Ok((total, free)) = space(self.inventory.tree().root()) {
                (state.total, state.free) = (total, free);
            }
        }
        state.oldest = self.inventory.oldest();
        state.errors += done.errors;
        if done.error.is_some() {
            state.last_error.clone_from(&done.error);
        }
        state.trouble = trouble(&done, demand, limits, state);
        done
    }

    fn failed(&self, state: &mut State, error: &io::Error) -> Done {
        let text = format!(
            "cannot look at {}: {error}",
            self.inventory.tree().root().display()
        );
        state.errors += 1;
        state.last_error = Some(text.clone());
        state.trouble = Some(text);
        Done::default()
    }

    fn delete_range(
        &self,
        camera: &str,
        from_ms: i64,
        to_ms: i64,
        reach_out: bool,
        protected: &Protected,
        gone: &mut RangeDeleted,
    ) -> io::Result<()> {
        let now_ms = Look::now().wall_ns.div_euclid(1_000_000);
        let mut touched = Vec::new();
        for (name, renditions) in self.inventory.hours() {
            // Files of the hour before may reach into the range.
            let outside =
                |start: i64| start >= to_ms || start.saturating_add(2 * 3_600_000) < from_ms;
            if hour_ms(&name).is_none_or(outside) {
                continue;
            }
            for rendition in renditions {
                if camera_of(&rendition.stream) != camera {
                    continue;
                }
                let hour = hour_of(&rendition, &name);
                for minute in minutes(&rendition, &hour)? {
                    let (start, end) = (minute.name.start_ms, minute.end_ms());
                    if start >= to_ms || end <= from_ms {
                        continue;
                    }
                    if protected.touches(&rendition.stream, start, end) {
                        gone.protected += 1;
                    } else if !reach_out && (start < from_ms || end > to_ms) {
                        gone.reaching_out += 1;
                    } else if gone.files as usize == MAX_REQUEST {
                        gone.more = true;
                    } else if pass::remove(&self.inventory, &minute)? {
                        gone.files += 1;
                        gone.bytes += minute.bytes;
                        let (first, last) = gone.span_ms.unwrap_or((start, end));
                        gone.span_ms = Some((first.min(start), last.max(end)));
                    } else {
                        gone.writing += 1;
                    }
                }
                pass::tidy_hour(&hour, now_ms);
                touched.push(rendition);
            }
        }
        touched.sort();
        touched.dedup();
        touched.iter().for_each(pass::tidy_inits);
        Ok(())
    }
}

/// What a limit that is not kept is put down to.
fn trouble(done: &Done, demand: Demand, limits: Limits, state: &State) -> Option<String> {
    if let (Some(error), true) = (&done.error, done.deleted.is_empty()) {
        return Some(error.clone());
    }
    if done.short == 0 {
        return None;
    }
    let limit = if demand.under_free >= demand.over_size {
        format!(
            "the disk has {} free, {} are to be kept free",
            size(state.free),
            size(limits.min_free)
        )
    } else {
        format!(
            "the recordings take {}, the limit is {}",
            size(state.usage.bytes),
            size(limits.max_bytes.unwrap_or(u64::MAX))
        )
    };
    let why = match (state.usage.files, done.spared) {
        (0, _) => "nothing is recorded: something else fills the disk".to_owned(),
        (_, 0) => "what is left is being written: something else fills the disk".to_owned(),
        _ => format!(
            "what is left is protected ({}) or being written: unprotect or delete something, or raise the limit",
            size(state.protected_bytes)
        ),
    };
    Some(format!("{limit}, and nothing more can be deleted: {why}"))
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// Bytes of the files that a protected range touches.
fn protected_bytes(inventory: &Inventory, protected: &Protected) -> u64 {
    if protected.is_empty() {
        return 0;
    }
    let mut sum = 0;
    for (name, renditions) in inventory.hours() {
        let Some(start) = hour_ms(&name) else {
            continue;
        };
        for rendition in renditions {
            if !protected.touches(&rendition.stream, start, start + 2 * 3_600_000) {
                continue;
            }
            let found = minutes(&rendition, &hour_of(&rendition, &name)).unwrap_or_default();
            let kept = found.iter().filter(|minute| {
                let start = minute.name.start_ms;
                // Its index is read only where that can matter.
                protected.touches(&rendition.stream, start, start + 1)
                    || (protected.touches(&rendition.stream, start, start + 3_600_000)
                        && protected.touches(&rendition.stream, start, minute.end_ms()))
            });
            sum += kept.map(|minute| minute.bytes).sum::<u64>();
        }
    }
    sum
}

/// Bytes of the disk, and free for this process, where a folder is or will be.
fn space(folder: &Path) -> io::Result<(u64, u64)> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let disk = rustix::fs::statvfs(there.unwrap_or(Path::new("/")))?;
    Ok((
        disk.f_blocks.saturating_mul(disk.f_frsize),
        disk.f_bavail.saturating_mul(disk.f_frsize),
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
