//! A frame's pixels and who keeps them: the frame object, and each buffer made from it.
//!
//! Promises: the pin is given back when the last of them is gone, never before; in a forked child
//! nothing is given back, since the pin is the parent's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camring_ring::Frame;

use crate::errors::Failure;

/// Something that belongs to the process that made it: dropped nowhere else, because its drop
/// writes into memory that it shares with the parent.
#[derive(Debug)]
pub(crate) struct Own<T> {
    value: Option<T>,
    process: u32,
}

impl<T> Own<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            process: std::process::id(),
        }
    }

    /// The value; an error in a forked child.
    #[inline]
    pub(crate) fn get(&self) -> Result<&T, Failure> {
        self.check()?;
        self.value.as_ref().ok_or_else(Failure::closed)
    }

    /// The value, in a forked child too.
    pub(crate) fn even_if_forked(&self) -> Option<&T> {
        self.value.as_ref()
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let process = std::process::id();
        if process == self.process {
            return Ok(());
        }
        Err(Failure::new(
            "ForkedError",
            format!(
                "attached in process {}, used in its forked child {process}: attach in the child, \
                 or start it with multiprocessing's \"spawn\" method",
                self.process
            ),
        ))
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            std::mem::forget(self.value.take());
        }
    }
}

/// A pinned frame, shared by its frame object and the buffers made from it.
#[derive(Debug)]
pub(crate) struct Held {
    frame: Own<Frame>,
    /// Buffers on it that are alive: for messages.
    exports: AtomicUsize,
}

impl Held {
    /// The frame; an error in a forked child.
    #[inline]
    pub(crate) fn frame(&self) -> Result<&Frame, Failure> {
        self.frame.get()
    }

    pub(crate) fn exports(&self) -> usize {
        self.exports.load(Ordering::Relaxed)
    }
}

/// Keeps a frame for a buffer.
#[derive(Debug)]
pub(crate) struct Export(Arc<Held>);

impl Export {
    pub(crate) fn new(held: &Arc<Held>) -> Self {
        // Relaxed: a number for messages; the pin rests on the Arc.
        held.exports.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(held))
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.0
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.0.exports.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a frame object and its camera know of each other.
#[derive(Debug)]
pub(crate) struct Grip {
    held: Mutex<Option<Arc<Held>>>,
    kept: AtomicBool,
}

impl Grip {
    pub(crate) fn new(frame: Frame) -> (Arc<Self>, Arc<Held>) {
        let held = Arc::new(Held {
            frame: Own::new(frame),
            exports: AtomicUsize::new(0),
        });
        let grip = Self {
            held: Mutex::new(Some(Arc::clone(&held))),
            kept: AtomicBool::new(false),
        };
        (Arc::new(grip), held)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pixels, unless released.
    #[inline]
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.lock().clone()
    }

    /// Lets go; buffers that were made keep the frame until they are gone.
    pub(crate) fn release(&self) {
        drop(self.lock().take());
    }

    /// The camera gives out its next frame.
    pub(crate) fn pass(&self) {
        if !self.is_kept() {
            self.release();
        }
    }

    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }
}
