//! The page as the supervisor sees it: a file to read.
#![deny(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, Mode};
use rustix::shm;
use shared_memory::{Shmem, ShmemConf};

use super::page::{self, PAGE_BYTES, PAGE_WORDS};
use super::{ClockSource, Figures, HealthError, Histogram, State, ViewFigures};
use crate::config::View;
use crate::sys::process;

const PREFIX: &str = "camring-";
/// Copies taken at most until one shows the state whole. A reader that was killed while writing leaves it
/// half for ever; then that is what there is.
const COPIES: usize = 16;

/// A copy of a health page.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The counters.
    pub figures: Figures,
    /// Latencies since the process started, from arrival to publication.
    pub latency: Histogram,
    /// What the reader says it is doing.
    pub state: State,
    /// Why.
    pub reason: String,
    /// Since when, in milliseconds of Unix time. 0: it has said nothing yet.
    pub since_unix_ms: u64,
    /// Where capture times come from.
    pub clock: Option<ClockSource>,
    /// Of the views, by their place in the configuration.
    pub views: [ViewFigures; View::MAX_VIEWS],
}

/// The supervisor's end of one reader's health page.
pub struct Watch {
    name: String,
    file: File,
    /// Owns the name, until it is unlinked. The mapping in it is never touched.
    named: Option<Shmem>,
}

impl Watch {
    /// Creates a page for a reader to open by [`Watch::name`].
    ///
    /// # Errors
    /// `/dev/shm` is missing or full (the page is reserved now: touching it later cannot fail), or
    /// out of descriptors.
    pub fn create(index: u32) -> Result<Self, HealthError> {
        // Not to be guessed: whoever could make the name first would keep readers from starting.
        let n = fastrand::u64(..);
        let name = format!("{PREFIX}{}-{index}-{n}", std::process::id());
        let create = |source: io::Error| HealthError::Create {
            name: name.clone(),
            source,
        };
        let named = ShmemConf::new().os_id(&name).size(PAGE_BYTES).create();
        let named = named.map_err(|source| HealthError::Map {
            name: name.clone(),
            source,
        })?;
        let flags = shm::OFlags::RDWR;
        let fd = shm::open(&*name, flags, Mode::empty()).map_err(|e| create(e.into()))?;
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, PAGE_BYTES as u64)
            .map_err(|e| create(e.into()))?;
        Ok(Self {
            name,
            file: File::from(fd),
            named: Some(named),
        })
    }

    /// What the reader opens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the name: the reader has opened it, or never will. Done on drop, too.
    pub fn unlink(&mut self) {
        // The owner's drop unlinks, unmaps and closes; `file` stays.
        self.named = None;
    }

    /// A copy of the page. `None`: the reader has truncated it, which no honest one does.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let mut before = self.read_text_seq()?;
        let mut words = self.read()?;
        for _ in 0..COPIES {
            let next = self.read()?;
            let (seq, after) = (page::text_seq(&words), page::text_seq(&next));
            // Nobody wrote the state from the end of one copy to the beginning of the second next:
            // the copy between them has it whole.
            if before & 1 == 0 && before == seq && seq == after {
                break;
            }
            (before, words) = (seq, next);
        }
        let figures = Figures::from_words(&words);
        let (state, reason, since_unix_ms) = page::parse_state(&words);
        Some(Snapshot {
            figures,
            latency: page::parse_latency(&words),
            state,
            reason,
            since_unix_ms,
            clock: page::parse_clock(&figures),
            views: page::parse_views(&words),
        })
    }

    /// The one word of it that the first copy is compared by.
    fn read_text_seq(&self) -> Option<u64> {
        let mut bytes = [0u8; 8];
        let at = page::TEXT_SEQ_OFFSET as u64;
        self.file.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }

    fn read(&self) -> Option<[u64; PAGE_WORDS]> {
        let mut bytes = [0u8; PAGE_BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let mut words = [0u64; PAGE_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        Some(words)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).finish()
    }
}

/// Removes the pages that a killed supervisor left in `/dev/shm`: those whose name has the pid of
/// a process that is no more, or this one's from before it existed. Returns how many. Call it
/// before the first [`Watch::create`].
pub fn sweep_stale() -> usize {
    let own = std::process::id();
    sweep(|pid| pid == own || !i32::try_from(pid).is_ok_and(process::exists))
}

pub(super) fn sweep(is_dead: impl Fn(u32) -> bool) -> usize {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(&is_dead) && shm::unlink(name).is_ok() {
            removed += 1;
        }
    }
    removed
}

/// The pid in the name of a health page.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let rest: Vec<_> = parts.collect();
    let numbers = rest.iter().all(|part| part.parse::<u64>().is_ok());
    (rest.len() == 2 && numbers).then_some(pid)
}
