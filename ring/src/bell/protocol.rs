//! Ringing and waiting, over a bell wherever it lives.
//!
//! Promises: no wake-up is lost; whoever rings makes at most one wake call per bell, and none
//! when nobody waits; of several threads that wait on one bell each is woken by each ring,
//! because the one that was woken wakes the others (their own process pays for it, not the
//! writer).

use crate::sync::{AtomicU32, Ordering, Rules, fence};

/// A bell's words, and waking on the futex that is the first.
pub(crate) trait BellWords {
    /// [`crate::sync::Sound`], but for the models.
    type Rules: Rules;
    /// Rises with each ring.
    fn bell(&self) -> &AtomicU32;
    /// How many threads wait.
    fn waiting(&self) -> &AtomicU32;
    /// `FUTEX_WAKE` on `bell`.
    fn wake(&self, threads: u32);
}

/// Why parking ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Woken, interrupted, or the bell had moved: look again.
    Again,
    /// The time is over.
    TimedOut,
}

/// First half of ringing: everything stored before is seen by whoever sees this. Several bells
/// may be bumped before one [`wakers_fence`].
#[inline]
pub(crate) fn bump<B: BellWords>(bell: &B) {
    // SYNC: pairs with the Acquire fence in `wait`.
    bell.bell().fetch_add(1, Ordering::Release);
}

/// Between [`bump`] and [`wake_waiting`].
#[inline]
pub(crate) fn wakers_fence<R: Rules>() {
    if R::RING_FENCE {
        // SYNC: with the SeqCst fence in `wait`: either `wake_waiting` sees the waiter, or the
        // waiter sees the bump.
        fence(Ordering::SeqCst);
    }
}

/// Second half of ringing: one wake call, if anybody waits.
#[inline]
pub(crate) fn wake_waiting<B: BellWords>(bell: &B) {
    if bell.waiting().load(Ordering::Relaxed) != 0 {
        bell.wake(1);
    }
}

/// Waits until `ready`, or until `park` says that the time is over. Returns the last `ready`.
/// `park(expected)` is `FUTEX_WAIT` on the bell while it is `expected`; it may return early for
/// any reason.
pub(crate) fn wait<B: BellWords>(
    bell: &B,
    mut park: impl FnMut(u32) -> Parked,
    mut ready: impl FnMut() -> bool,
) -> bool {
    loop {
        let before = bell.bell().load(Ordering::Relaxed);
        // SYNC: pairs with the Release in `bump`: what was published before a bump that `before`
        // includes is seen by `ready`.
        fence(Ordering::Acquire);
        if ready() {
            return true;
        }
        bell.waiting().fetch_add(1, Ordering::Relaxed);
        if B::Rules::WAIT_FENCE {
            // SYNC: with the SeqCst fence in `wakers_fence`, and with the one below.
            fence(Ordering::SeqCst);
        }
        let parked = if bell.bell().load(Ordering::Relaxed) == before {
            park(before)
        } else {
            Parked::Again
        };
        bell.waiting().fetch_sub(1, Ordering::Relaxed);
        // A ring wakes one thread; that thread may be the wrong one, or be just giving up. So
        // whoever leaves after a ring wakes all others of this client.
        if B::Rules::CHAIN && bell.bell().load(Ordering::Relaxed) != before {
            // SYNC: with the SeqCst fence above in another waiting thread: a thread that read the
            // old bell after its fence has its announcement seen here.
            fence(Ordering::SeqCst);
            if bell.waiting().load(Ordering::Relaxed) != 0 {
                bell.wake(u32::MAX >> 1);
            }
        }
        if parked == Parked::TimedOut {
            return ready();
        }
    }
}
