//! The frame ring: pin, reclaim, publish, kill, resume, attach.

#![allow(
    unsafe_code,
    reason = "loom hands out raw pointers to its cells, and checks them"
)]

use std::marker::PhantomData;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::RwLock;
use loom::thread;

use super::{
    NoSubscriberFence, NoWriterFence, RelaxedClear, RelaxedPin, RelaxedScan, ScanFirst, die,
    explore, mortal,
};
use crate::frames::protocol::{
    Entry, FrameWords, PinWords, Slots, Step, newest, numbered, pin, unpin,
};
use crate::sync::{AtomicU64, Rules, Sound};

struct Slot {
    sequence: AtomicU64,
    descriptor: [AtomicU64; 2],
    payload: UnsafeCell<[u64; 2]>,
}

struct Ring<R> {
    head: AtomicU64,
    order: [AtomicU64; 2],
    slots: Vec<Slot>,
    /// Where the writer dies next. Not loom's: it is no part of the model.
    kill: std::sync::Mutex<Option<Death>>,
    rules: PhantomData<fn() -> R>,
}

/// Where a writer dies: at a step of the protocol, or half way through the payload.
#[derive(Clone, Copy, PartialEq)]
enum Death {
    At(Step),
    InPayload,
}

impl<R> Ring<R> {
    fn new(slots: usize) -> Self {
        let slot = || Slot {
            sequence: AtomicU64::new(0),
            descriptor: [AtomicU64::new(0), AtomicU64::new(0)],
            payload: UnsafeCell::new([0; 2]),
        };
        Self {
            head: AtomicU64::new(0),
            order: [AtomicU64::new(0), AtomicU64::new(0)],
            slots: (0..slots).map(|_| slot()).collect(),
            kill: std::sync::Mutex::new(None),
            rules: PhantomData,
        }
    }

    fn dies_at(&self, death: Death) -> bool {
        *self.kill.lock().expect("no writer panics holding it") == Some(death)
    }
}

impl<R: Rules> FrameWords for Ring<R> {
    type Rules = R;

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn head(&self) -> &AtomicU64 {
        &self.head
    }

    fn order(&self) -> &[AtomicU64] {
        &self.order
    }

    fn sequence(&self, slot: usize) -> &AtomicU64 {
        &self.slots[slot].sequence
    }

    fn descriptor(&self, slot: usize) -> &[AtomicU64] {
        &self.slots[slot].descriptor
    }

    fn step(&self, step: Step) {
        if self.dies_at(Death::At(step)) {
            die();
        }
    }
}

type Pin = Arc<AtomicU64>;

struct Listed(Vec<Pin>);

impl PinWords for Listed {
    fn each(&self, mut visit: impl FnMut(&AtomicU64)) {
        self.0.iter().for_each(|word| visit(word));
    }
}

/// A list that the control thread adds to.
struct Shared(Arc<RwLock<Vec<Pin>>>);

impl PinWords for Shared {
    fn each(&self, mut visit: impl FnMut(&AtomicU64)) {
        let list = self.0.read().expect("no thread panics holding it").clone();
        list.iter().for_each(|word| visit(word));
    }
}

/// One frame as the writer makes it: reserve, draw, publish, let go.
fn frame<R: Rules>(writer: &mut Slots, ring: &Ring<R>, pins: &impl PinWords) -> bool {
    writer.reclaim(ring, pins);
    let Some(slot) = writer.take() else {
        return false;
    };
    let sequence = writer.next_sequence();
    ring.slots[usize::from(slot)].payload.with_mut(|payload| {
        // SAFETY: loom checks that nobody else accesses the cell meanwhile; that is the test.
        unsafe { (*payload)[0] = sequence };
        if ring.dies_at(Death::InPayload) {
            die();
        }
        // SAFETY: as above.
        unsafe { (*payload)[1] = sequence };
    });
    assert_eq!(
        writer.publish(ring, slot, &[sequence, sequence]),
        Some(sequence)
    );
    writer.release(slot);
    true
}

/// Looks once at a frame; what it sees must be whole and must not change. Returns its number.
fn look<R: Rules>(ring: &Ring<R>, word: &AtomicU64, entry: Option<Entry>) -> Option<u64> {
    let entry = entry?;
    let mut descriptor = [0; 2];
    if !pin(ring, word, entry, &mut descriptor) {
        return None;
    }
    assert_eq!(descriptor, [entry.sequence; 2], "torn descriptor");
    ring.slots[usize::from(entry.slot)].payload.with(|payload| {
        // SAFETY: loom checks that nobody writes the cell meanwhile; that is the test.
        assert_eq!(unsafe { (*payload)[0] }, entry.sequence, "torn payload");
        thread::yield_now();
        // SAFETY: as above.
        assert_eq!(unsafe { (*payload)[1] }, entry.sequence, "torn payload");
    });
    unpin::<R>(word);
    Some(entry.sequence)
}

struct Case {
    slots: usize,
    depth: usize,
    publish: u64,
    subscribers: usize,
    looks: usize,
    death: Option<Death>,
}

const CASE: Case = Case {
    slots: 2,
    depth: 1,
    publish: 3,
    subscribers: 1,
    looks: 1,
    death: None,
};

fn run<R: Rules + 'static>(case: Case) {
    explore(4, move || {
        let ring = Arc::new(Ring::<R>::new(case.slots));
        let pins: Vec<Pin> = (0..case.subscribers)
            .map(|_| Arc::new(AtomicU64::new(0)))
            .collect();
        let subscribers: Vec<_> = pins
            .iter()
            .cloned()
            .map(|word| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let mut last = 0;
                    for n in 0..case.looks {
                        // By turns the newest, and the one after the last.
                        let entry = if n % 2 == 0 {
                            newest(&*ring)
                        } else {
                            numbered(&*ring, last + 1).or_else(|| newest(&*ring))
                        };
                        if let Some(sequence) = look(&ring, &word, entry) {
                            assert!(sequence >= last, "numbers fell");
                            last = sequence;
                        }
                    }
                })
            })
            .collect();
        let pins = Listed(pins);
        let mut writer = Slots::resume(&*ring, case.depth, 1).expect("a fresh ring");
        for n in 1..=case.publish {
            if n == case.publish {
                *ring.kill.lock().expect("not poisoned") = case.death;
            }
            let alive = mortal(|| frame(&mut writer, &ring, &pins)).is_some();
            assert!(alive || n == case.publish);
        }
        if case.death.is_some() {
            *ring.kill.lock().expect("not poisoned") = None;
            let before = newest(&*ring).map_or(0, |e| e.sequence);
            let mut writer = Slots::resume(&*ring, case.depth, 1).expect("a ring of ours");
            assert!(writer.next_sequence() > before);
            // What is named is there: head and order agree with the slots.
            if let Some(head) = newest(&*ring) {
                assert_eq!(head.sequence + 1, writer.next_sequence());
                assert_eq!(numbered(&*ring, head.sequence), Some(head));
            }
            frame(&mut writer, &ring, &pins);
        }
        for subscriber in subscribers {
            subscriber.join().expect("the subscriber saw nothing torn");
        }
    });
}

#[test]
fn one_subscriber() {
    run::<Sound>(Case { looks: 2, ..CASE });
}

#[test]
fn all_slots_pinned() {
    run::<Sound>(Case {
        slots: 1,
        looks: 2,
        ..CASE
    });
}

#[test]
fn two_subscribers() {
    run::<Sound>(Case {
        publish: 2,
        subscribers: 2,
        ..CASE
    });
}

fn killed(death: Death) {
    run::<Sound>(Case {
        publish: 2,
        looks: 2,
        death: Some(death),
        ..CASE
    });
}

#[test]
fn killed_after_invalidating() {
    run::<Sound>(Case {
        looks: 2,
        death: Some(Death::At(Step::Invalidated)),
        ..CASE
    });
}

#[test]
fn killed_in_the_payload() {
    killed(Death::InPayload);
}

#[test]
fn killed_in_the_descriptor() {
    killed(Death::At(Step::HalfDescriptor));
}

#[test]
fn killed_after_the_descriptor() {
    killed(Death::At(Step::Described));
}

#[test]
fn killed_after_the_sequence() {
    killed(Death::At(Step::Sequenced));
}

#[test]
fn killed_after_the_order() {
    killed(Death::At(Step::Ordered));
}

#[test]
fn killed_after_the_head() {
    killed(Death::At(Step::HeadMoved));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn must_fail_without_the_subscribers_fence() {
    run::<NoSubscriberFence>(CASE);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn must_fail_without_the_writers_fence() {
    run::<NoWriterFence>(CASE);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn must_fail_with_a_relaxed_pin() {
    run::<RelaxedPin>(Case {
        publish: 4,
        looks: 2,
        ..CASE
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn must_fail_with_a_relaxed_clear() {
    run::<RelaxedClear>(CASE);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn must_fail_with_a_relaxed_scan() {
    run::<RelaxedScan>(CASE);
}

#[test]
#[should_panic(expected = "currently reading from cell")]
fn must_fail_when_scanning_before_invalidating() {
    run::<ScanFirst>(CASE);
}

/// A subscriber arrives while the writer publishes. `early`: the writer looks its list up before
/// the fence.
fn attach(early: bool) {
    explore(4, move || {
        let ring = Arc::new(Ring::<Sound>::new(2));
        let list = Arc::new(RwLock::new(Vec::new()));
        let mut writer = Slots::resume(&*ring, 1, 1).expect("a fresh ring");
        frame(&mut writer, &ring, &Listed(Vec::new()));
        let subscriber = thread::spawn({
            let (ring, list) = (Arc::clone(&ring), Arc::clone(&list));
            move || {
                let word: Pin = Arc::new(AtomicU64::new(0));
                // The control thread adds the page, and only then does the subscriber get it.
                list.write().expect("not poisoned").push(Arc::clone(&word));
                look(&ring, &word, numbered(&*ring, 1).or_else(|| newest(&*ring)));
            }
        });
        for _ in 0..2 {
            if early {
                let snapshot = Listed(list.read().expect("not poisoned").clone());
                frame(&mut writer, &ring, &snapshot);
            } else {
                frame(&mut writer, &ring, &Shared(Arc::clone(&list)));
            }
        }
        subscriber.join().expect("the subscriber saw nothing torn");
    });
}

#[test]
fn attached_while_publishing() {
    attach(false);
}

#[test]
#[should_panic(expected = "currently reading from cell")]
fn must_fail_when_the_list_is_read_before_the_fence() {
    attach(true);
}
