//! What a waiting thread looks at: is there anything new for this subscription?

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::attach::client::lock;
use crate::frames::protocol as frames;
use crate::frames::words::MappedFrames;
use crate::layout::RingState;
use crate::packets::geometry::MappedPackets;
use crate::packets::protocol as packets;
use crate::sync::{AtomicU64, Ordering};

/// How long a replaced ring is left alone before its successor is asked for again.
pub(crate) const REATTACH_PAUSE: Duration = Duration::from_millis(100);

/// A ring as far as waiting is concerned.
#[derive(Debug, Clone)]
pub(crate) enum Watched {
    Frames(Arc<MappedFrames>),
    Packets(Arc<MappedPackets>),
}

/// Shared by a subscription and the waits of its client.
#[derive(Debug)]
pub(crate) struct Watch {
    ring: Mutex<(Watched, Option<Instant>)>,
    /// Highest number that the subscription has looked at.
    seen: AtomicU64,
}

impl Watch {
    pub(crate) fn new(ring: Watched, seen: u64) -> Self {
        Self {
            ring: Mutex::new((ring, None)),
            seen: AtomicU64::new(seen),
        }
    }

    #[inline]
    pub(crate) fn set_seen(&self, seen: u64) {
        // Relaxed: only a hint for waits, which look at the ring itself.
        self.seen.store(seen, Ordering::Relaxed);
    }

    /// The subscription has attached to another ring.
    pub(crate) fn replace(&self, ring: Watched, seen: u64) {
        *lock(&self.ring) = (ring, None);
        self.set_seen(seen);
    }

    /// Attaching to the successor did not work: not again for a while.
    pub(crate) fn pause(&self) {
        lock(&self.ring).1 = Some(Instant::now() + REATTACH_PAUSE);
    }

    /// Whether the successor may be asked for now.
    pub(crate) fn may_reattach(&self) -> bool {
        lock(&self.ring)
            .1
            .is_none_or(|until| Instant::now() >= until)
    }

    /// Whether looking at the ring would find something new.
    pub(crate) fn is_new(&self) -> bool {
        let ring = lock(&self.ring);
        let seen = self.seen.load(Ordering::Relaxed);
        let (newer, state) = match &ring.0 {
            Watched::Frames(words) => (
                frames::newest(&**words).is_some_and(|newest| newest.sequence > seen),
                words.state(),
            ),
            Watched::Packets(words) => (
                packets::bounds(&**words).1 > seen.saturating_add(1),
                words.state(),
            ),
        };
        newer
            || match state {
                RingState::Removed => true,
                RingState::Replaced => ring.1.is_none_or(|until| Instant::now() >= until),
                RingState::Empty | RingState::Open => false,
            }
    }
}
