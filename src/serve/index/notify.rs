//! What changes in the tree, as the kernel tells it (inotify(7)), and that it does not.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Whose folder it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// `recordings`, or a stream's.
    Tree,
    /// A rendition's, by its number.
    Rendition(i64),
    /// An hour of a rendition.
    Hour(i64, String),
}

/// Something happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// In this folder, to the entry of this name; whether the entry is gone.
    Entry {
        folder: Folder,
        name: String,
        gone: bool,
    },
    /// More than the kernel could keep: look everywhere.
    Lost,
}

/// Rings the follower's bell: from any thread.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub(super) fn ring(&self) {
        // Full means it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

/// Watches folders.
#[derive(Debug)]
pub(super) struct Notify {
    /// None: the machine has no more of them.
    inotify: Option<OwnedFd>,
    folders: HashMap<i32, Folder>,
    /// Some folder is not watched.
    pub(super) incomplete: bool,
}

impl Notify {
    pub(super) fn new() -> Self {
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &made {
            tracing::warn!("inotify: {error}: recordings are polled");
        }
        Self {
            incomplete: made.is_err(),
            inotify: made.ok(),
            folders: HashMap::new(),
        }
    }

    /// As on a machine that has no inotify to spare.
    #[cfg(test)]
    pub(super) fn blind() -> Self {
        Self {
            inotify: None,
            folders: HashMap::new(),
            incomplete: true,
        }
    }

    /// Watches a folder from now on. Watching it twice is watching it once.
    pub(super) fn watch(&mut self, path: &Path, folder: Folder) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        if matches!(folder, Folder::Hour(..)) {
            flags |= WatchFlags::MODIFY;
        }
        match inotify::add_watch(inotify, path, flags) {
            Ok(watch) => {
                self.folders.insert(watch, folder);
            }
            // It went away again: so its parent's watch says.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => {
                if !self.incomplete {
                    tracing::warn!(
                        "inotify: {error} after {} folders: recordings are polled; more are allowed by \
                         sysctl fs.inotify.max_user_watches",
                        self.folders.len()
                    );
                }
                self.incomplete = true;
            }
        }
    }

    /// Waits for changes, the bell, or `patience`.
    pub(super) fn wait(&mut self, bell: &Bell, patience: Duration) -> Vec<Change> {
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = vec![PollFd::new(&bell.0, PollFlags::IN)];
        if let Some(inotify) = &self.inotify {
            fds.push(PollFd::new(inotify, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Not to spin on what cannot be waited for.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        bell.silence();
        self.read()
    }

    fn read(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(inotify) = &self.inotify else {
            return changes;
        };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Lost);
            } else if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
            } else if let Some(folder) = self.folders.get(&event.wd())
                && let Some(Ok(name)) = event.file_name().map(|name| name.to_str())
            {
                changes.push(Change::Entry {
                    folder: folder.clone(),
                    name: name.to_owned(),
                    gone: flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM),
                });
            }
        }
        changes.dedup();
        changes
    }
}
