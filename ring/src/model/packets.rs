//! The packet ring: units that overlap, readers that are lapped, writers that are killed.

use std::marker::PhantomData;
use std::sync::Arc;

use loom::thread;

use super::{LateOldest, NoAppendFence, NoReadFence, die, explore, mortal};
use crate::layout::UNIT_WORDS;
use crate::packets::protocol::{
    Log, PacketWords, Read, Step, entry_len, entry_offset, load_words, newest_key, read,
};
use crate::sync::{AtomicU64, Rules, Sound};

/// Room for one and a half units of two words: each overwrites a part of the one before.
const CAPACITY: u64 = 24;

struct Ring<R> {
    oldest: AtomicU64,
    next: AtomicU64,
    newest_key: AtomicU64,
    /// The first three words of an entry: sequence, offset, length.
    index: [[AtomicU64; 3]; 2],
    data: [AtomicU64; 3],
    kill: std::sync::Mutex<Option<Step>>,
    rules: PhantomData<fn() -> R>,
}

impl<R> Ring<R> {
    fn new() -> Self {
        let zeroes = || [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
        Self {
            oldest: AtomicU64::new(1),
            next: AtomicU64::new(1),
            newest_key: AtomicU64::new(0),
            index: [zeroes(), zeroes()],
            data: zeroes(),
            kill: std::sync::Mutex::new(None),
            rules: PhantomData,
        }
    }
}

impl<R: Rules> PacketWords for Ring<R> {
    type Rules = R;

    fn oldest(&self) -> &AtomicU64 {
        &self.oldest
    }

    fn next(&self) -> &AtomicU64 {
        &self.next
    }

    fn newest_key(&self) -> &AtomicU64 {
        &self.newest_key
    }

    fn units(&self) -> u64 {
        self.index.len() as u64
    }

    fn entry(&self, sequence: u64) -> &[AtomicU64] {
        &self.index[sequence as usize % self.index.len()]
    }

    fn data(&self, offset: u64, len: u64) -> Option<&[AtomicU64]> {
        self.data
            .get((offset / 8) as usize..(offset.checked_add(len)? / 8) as usize)
    }

    fn step(&self, step: Step) {
        if *self.kill.lock().expect("no writer panics holding it") == Some(step) {
            die();
        }
    }
}

/// A unit that says its number, twice.
fn append<R: Rules>(log: &mut Log, ring: &Ring<R>) {
    let number = log.next_sequence().to_le_bytes();
    let bytes = [number, number].concat();
    let place = log.place(16, true).expect("it fits");
    let mut entry = [0; UNIT_WORDS];
    entry[2] = 16;
    log.append(ring, place, entry, &bytes, true)
        .expect("it is inside");
}

/// Reads a unit; if it is given out it must be whole.
fn check<R: Rules>(ring: &Ring<R>, sequence: u64) -> bool {
    let unit = read(ring, sequence, |entry| {
        let mut bytes = [0; 16];
        let words = ring
            .data(entry_offset(entry), entry_len(entry))
            .filter(|w| w.len() == 2);
        load_words(words?, &mut bytes);
        Some(bytes)
    });
    match unit {
        Read::Unit(bytes) => {
            let number = sequence.to_le_bytes();
            assert_eq!(
                bytes,
                Some([number, number].concat().try_into().expect("16")),
                "torn"
            );
            true
        }
        Read::NotYet | Read::Gone => false,
    }
}

fn run<R: Rules + 'static>(death: Option<Step>) {
    explore(if death.is_some() { 3 } else { 2 }, move || {
        let ring = Arc::new(Ring::<R>::new());
        let reader = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let newest = crate::packets::protocol::bounds(&*ring).1 - 1;
                if newest > 0 {
                    check(&ring, newest);
                }
                // With a death there are schedules enough.
                if death.is_none()
                    && let Some(key) = newest_key(&*ring)
                {
                    check(&ring, key);
                }
            }
        });
        let resume = || Log::resume(&*ring, CAPACITY, |_| true);
        let mut log = resume();
        append(&mut log, &ring);
        if death.is_none() {
            append(&mut log, &ring);
        }
        *ring.kill.lock().expect("not poisoned") = death;
        assert_eq!(
            mortal(|| append(&mut log, &ring)).is_none(),
            death.is_some()
        );
        if death.is_some() {
            *ring.kill.lock().expect("not poisoned") = None;
            log = resume();
            append(&mut log, &ring);
        }
        reader.join().expect("the reader saw nothing torn");
        assert!(
            check(&ring, log.next_sequence() - 1),
            "the newest unit is there"
        );
    });
}

#[test]
fn lapped() {
    run::<Sound>(None);
}

#[test]
fn killed_after_oldest() {
    run::<Sound>(Some(Step::OldestMoved));
}

#[test]
fn killed_in_the_words() {
    run::<Sound>(Some(Step::HalfWords));
}

#[test]
fn killed_after_the_words() {
    run::<Sound>(Some(Step::Words));
}

#[test]
fn killed_in_the_entry() {
    run::<Sound>(Some(Step::HalfEntry));
}

#[test]
fn killed_after_the_entry() {
    run::<Sound>(Some(Step::EntryWritten));
}

#[test]
fn killed_after_next() {
    run::<Sound>(Some(Step::NextMoved));
}

#[test]
fn killed_after_the_key() {
    run::<Sound>(Some(Step::KeyMoved));
}

#[test]
#[should_panic(expected = "torn")]
fn must_fail_without_the_writers_fence() {
    run::<NoAppendFence>(None);
}

#[test]
#[should_panic(expected = "torn")]
fn must_fail_without_the_readers_fence() {
    run::<NoReadFence>(None);
}

#[test]
#[should_panic(expected = "torn")]
fn must_fail_when_oldest_moves_last() {
    run::<LateOldest>(None);
}
