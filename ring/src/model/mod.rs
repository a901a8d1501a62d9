//! Loom models of the three protocols: the shipped functions over words that loom watches.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p camring-ring --release --lib`
//!
//! The payload of a slot is an `UnsafeCell`, so that any write while a subscriber reads is found,
//! whatever the values. Each `must_fail` test takes one rule away and expects loom to object:
//! nothing in the protocols is there without need. Preemptions are bounded, so that all of it
//! takes about a minute. `Arc` is std's: reference counts are not what is modelled, and loom's
//! cannot be dropped while it unwinds from a deadlock.
#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom's threads are coroutines of one thread"
)]

mod bell;
mod frames;
mod packets;

use crate::sync::{Ordering, Rules};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `body` under every schedule with at most `preemptions` forced switches.
fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(body);
}

/// The payload of the unwinding that stands for `kill -9`.
struct Killed;

/// Stops the writer here. No panic hook runs, nothing is printed.
fn die() -> ! {
    resume_unwind(Box::new(Killed))
}

/// Runs a writer until it ends or is killed. `None`: killed.
fn mortal<T>(body: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

macro_rules! rules {
    ($($(#[$meta:meta])* $name:ident { $constant:ident: $kind:ty = $value:expr })*) => {
        $(
            $(#[$meta])*
            pub(super) struct $name;
            impl Rules for $name {
                const $constant: $kind = $value;
            }
        )*
    };
}

rules! {
    NoSubscriberFence { SUBSCRIBER_FENCE: bool = false }
    NoWriterFence { WRITER_FENCE: bool = false }
    RelaxedPin { PIN_STORE: Ordering = Ordering::Relaxed }
    RelaxedClear { PIN_CLEAR: Ordering = Ordering::Relaxed }
    RelaxedScan { SCAN_LOAD: Ordering = Ordering::Relaxed }
    ScanFirst { SCAN_BEFORE_INVALIDATE: bool = true }
    NoAppendFence { APPEND_FENCE: bool = false }
    NoReadFence { READ_FENCE: bool = false }
    LateOldest { OLDEST_AFTER_WORDS: bool = true }
    NoRingFence { RING_FENCE: bool = false }
    NoWaitFence { WAIT_FENCE: bool = false }
    NoChain { CHAIN: bool = false }
}
