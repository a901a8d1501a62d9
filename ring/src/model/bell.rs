//! The bell: no wake-up is lost. The futex is a mutex and a condition variable; a lost wake-up is
//! a deadlock, which loom reports.

use std::marker::PhantomData;
use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::{NoChain, NoRingFence, NoWaitFence, explore};
use crate::bell::protocol::{BellWords, Parked, bump, wait, wake_waiting, wakers_fence};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Rules, Sound};

struct Bell<R> {
    bell: AtomicU32,
    waiting: AtomicU32,
    futex: Mutex<()>,
    sleepers: Condvar,
    rules: PhantomData<fn() -> R>,
}

impl<R> Bell<R> {
    fn new() -> Self {
        Self {
            bell: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            futex: Mutex::new(()),
            sleepers: Condvar::new(),
            rules: PhantomData,
        }
    }

    /// `FUTEX_WAIT`: compares under the lock that `FUTEX_WAKE` takes too.
    fn park(&self, expected: u32) -> Parked {
        let guard = self.futex.lock().expect("not poisoned");
        if self.bell.load(Ordering::Relaxed) == expected {
            drop(self.sleepers.wait(guard).expect("not poisoned"));
        }
        Parked::Again
    }
}

impl<R: Rules> BellWords for Bell<R> {
    type Rules = R;

    fn bell(&self) -> &AtomicU32 {
        &self.bell
    }

    fn waiting(&self) -> &AtomicU32 {
        &self.waiting
    }

    fn wake(&self, threads: u32) {
        let _guard = self.futex.lock().expect("not poisoned");
        if threads == 1 {
            self.sleepers.notify_one();
        } else {
            self.sleepers.notify_all();
        }
    }
}

fn publish<R: Rules>(bell: &Bell<R>, head: &AtomicU64) {
    head.store(1, Ordering::Release);
    bump(bell);
    wakers_fence::<R>();
    wake_waiting(bell);
}

/// `threads` of one client, each waiting for a ring of its own; one writer publishes on each.
fn run<R: Rules + 'static>(preemptions: usize, threads: usize) {
    explore(preemptions, move || {
        let bell = Arc::new(Bell::<R>::new());
        let heads: Vec<_> = (0..threads).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let waiters: Vec<_> = heads
            .iter()
            .cloned()
            .map(|head| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let ready = || head.load(Ordering::Relaxed) >= 1;
                    assert!(wait(&*bell, |expected| bell.park(expected), ready));
                })
            })
            .collect();
        for head in &heads {
            publish(&bell, head);
        }
        for waiter in waiters {
            waiter.join().expect("it was woken");
        }
        assert_eq!(bell.waiting.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn one_thread() {
    run::<Sound>(5, 1);
}

#[test]
fn two_threads_of_a_client() {
    run::<Sound>(3, 2);
}

#[test]
#[should_panic(expected = "deadlock")]
fn must_fail_without_the_ringers_fence() {
    run::<NoRingFence>(4, 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn must_fail_without_the_waiters_fence() {
    run::<NoWaitFence>(4, 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn must_fail_when_the_woken_thread_wakes_nobody() {
    run::<NoChain>(2, 2);
}
