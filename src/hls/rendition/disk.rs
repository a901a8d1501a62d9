//! What a disk does to a recording: it is slow to flush, it is full, it fails.
#![deny(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::RenditionWriter;
use crate::recording::{Lock, Numbers};

/// After the disk refused something it is left alone for this long.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Files that are being flushed. A disk that hangs keeps each of their threads, and two descriptors, for as
/// long; and a camera that is gone every second ends a file as often.
const MOST_FLUSHES: usize = 8;

/// Why the disk took nothing.
#[derive(Clone, Debug)]
pub struct DiskTrouble {
    /// The kernel's answer, and where.
    pub text: String,
    /// There is no room, rather than a fault.
    pub full: bool,
    pub(super) retry_at: Instant,
}

impl RenditionWriter {
    /// In a thread of its own: a disk may take seconds to flush.
    pub(super) fn finish_file(&mut self) {
        let Some(file) = self.file.take() else {
            return;
        };
        // One reference is this writer's, each of the others a thread's.
        if Arc::strong_count(&self.write_errors) > MOST_FLUSHES {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the disk hangs");
            self.refused("flush a file", &error);
            return;
        }
        let errors = Arc::clone(&self.write_errors);
        let finish = move || {
            if let Err(error) = file.minute.finish() {
                errors.fetch_add(1, Relaxed);
                tracing::warn!(%error, "a recorded file could not be flushed to the disk");
            }
        };
        let thread = std::thread::Builder::new()
            .name("flush".into())
            .stack_size(128 << 10);
        if let Err(error) = thread.spawn(finish) {
            self.refused("flush a file", &error);
        }
    }

    /// The disk refused a part: what came before it stays, the rest of the group of pictures is lost.
    pub(super) fn give_up_file(&mut self) {
        if let Some(file) = &mut self.file {
            // Where there is no room for this, the next file says it.
            let _ = file.minute.end_segment();
        }
        self.finish_file();
        self.segment = None;
        self.track = None;
        self.broken = true;
        self.awaits_key = true;
    }

    pub(super) fn refused(&mut self, what: &str, error: &io::Error) {
        self.write_errors.fetch_add(1, Relaxed);
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let text = format!(
            "cannot {what} in {}: {error}",
            self.rendition.folder.display()
        );
        if self.trouble.is_none() {
            tracing::warn!("{text}; tried again, and what comes meanwhile is lost");
        }
        if error.kind() == io::ErrorKind::NotFound {
            self.make_folder();
        }
        self.trouble = Some(DiskTrouble {
            text,
            full,
            retry_at: Instant::now() + DISK_PAUSE,
        });
    }

    /// The folder was deleted, or moved, below the recorder: begun anew at its place, with a lock of its own.
    /// Numbers go on. Where it is there after all, its lock is held already, and nothing changes.
    fn make_folder(&mut self) {
        match Lock::take(&self.rendition) {
            Ok(lock) => {
                self.lock = lock;
                tracing::info!("{} is made anew", self.rendition.folder.display());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::debug!(%error, "the folder of the recording cannot be made"),
        }
    }

    /// For when the newest file has been deleted.
    pub(super) fn keep_numbers(&mut self, media_sequence: u64) {
        let numbers = Numbers {
            newest_file: self.newest_file,
            media_sequence,
            discontinuity_sequence: self.discontinuity_sequence + u64::from(self.number_used),
        };
        if let Err(error) = self.lock.keep_numbers(numbers) {
            tracing::debug!(%error, "the numbers of the recording are not kept");
        }
    }
}
