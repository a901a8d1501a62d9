//! What is newest in a rendition: in memory, and watched by those who wait for the next part.
#![deny(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use super::minute::{Minute, Part, Segment};
use crate::recording::Rendition;

/// A rendition of a stream, as the index follows it.
#[derive(Debug)]
pub struct Place {
    /// Its number in the database.
    pub(super) id: i64,
    /// Where it is.
    pub rendition: Rendition,
    pub(super) edge: watch::Sender<Arc<Edge>>,
    /// See [`Place::longest`].
    pub(super) longest: AtomicU64,
    pub(super) removed: AtomicBool,
}

impl Place {
    pub(super) fn new(id: i64, rendition: Rendition, longest: u64) -> Self {
        Self {
            id,
            rendition,
            edge: watch::Sender::new(Arc::default()),
            longest: AtomicU64::new(longest),
            removed: AtomicBool::new(false),
        }
    }

    /// The camera: a stream's id up to the slash.
    pub fn camera(&self) -> &str {
        camera_of(&self.rendition.stream)
    }

    /// The stream as it stands in URLs: `main` where it has no name.
    pub fn stream_name(&self) -> &str {
        match self.rendition.stream.split_once('/') {
            Some((_, stream)) => stream,
            None => UNNAMED,
        }
    }

    /// The newest, now.
    pub fn edge(&self) -> Arc<Edge> {
        Arc::clone(&self.edge.borrow())
    }

    /// Tells of every part.
    pub fn watch(&self) -> watch::Receiver<Arc<Edge>> {
        self.edge.subscribe()
    }

    /// The longest segment there has been, in µs; never shrinks.
    pub fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    /// Its folder is gone.
    pub fn removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    pub(super) fn raise_longest(&self, longest: u64) {
        self.longest.fetch_max(longest, Ordering::Relaxed);
    }
}

/// What a stream without a name is called in URLs.
pub const UNNAMED: &str = "main";

/// The camera that a stream is of.
pub fn camera_of(stream: &str) -> &str {
    stream.split_once('/').map_or(stream, |(camera, _)| camera)
}

/// The newest of a rendition.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// The newest minute files, in order; the last may be growing. Older ones are in the database.
    pub minutes: Vec<Arc<Minute>>,
    /// Parts of the newest segments, by media sequence.
    pub parts: Vec<(u64, Vec<Part>)>,
}

impl Edge {
    /// Media sequence and place in its segment of the part that comes next.
    pub fn next(&self) -> (u64, usize) {
        let Some(last) = self.minutes.last() else {
            return (0, 0);
        };
        match last.open && !last.segments.is_empty() {
            true => (last.end() - 1, self.parts_of(last.end() - 1).len()),
            false => (last.end(), 0),
        }
    }

    /// The parts of a segment; none where they are not kept any more.
    pub fn parts_of(&self, media_sequence: u64) -> &[Part] {
        let found = self.parts.iter().find(|(of, _)| *of == media_sequence);
        found.map_or(&[], |(_, parts)| parts.as_slice())
    }

    /// A segment that has ended, and its file.
    pub fn segment(&self, media_sequence: u64) -> Option<(&Arc<Minute>, Segment)> {
        let minute = self.minute_with(media_sequence)?;
        Some((minute, *minute.segment(media_sequence)?))
    }

    /// The file with a segment, ended or not.
    pub fn minute_with(&self, media_sequence: u64) -> Option<&Arc<Minute>> {
        let mut newest_first = self.minutes.iter().rev();
        newest_first.find(|minute| (minute.first()..minute.end()).contains(&media_sequence))
    }

    /// Media sequence of the first segment that is in memory.
    pub fn first(&self) -> Option<u64> {
        self.minutes.first().map(|minute| minute.first())
    }
}
