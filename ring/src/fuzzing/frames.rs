//! The frame ring's protocol, step by step: subscribers act between the steps of the writer, pin pages
//! hold nonsense, the writer is killed.

use std::cell::{Cell, RefCell};

use arbitrary::Unstructured;

use crate::frames::protocol::{
    Entry, FrameWords, PinWords, Slots, Step, newest, numbered, pin, unpin,
};
use crate::sync::{AtomicU64, Ordering, Sound};

const MOST_SLOTS: usize = 8;
const SUBSCRIBERS: usize = 3;
/// Pins that any one of them may have.
const PINS: usize = 2;
const HOSTILE_PINS: usize = 2;
/// What follows is not looked at: longer stories show nothing new.
const MOST_INPUT: usize = 256;

struct Slot {
    sequence: AtomicU64,
    descriptor: [AtomicU64; 2],
    payload: [Cell<u64>; 2],
}

struct Ring {
    head: AtomicU64,
    order: Vec<AtomicU64>,
    slots: Vec<Slot>,
    pins: [[AtomicU64; PINS]; SUBSCRIBERS],
    hostile: [AtomicU64; HOSTILE_PINS],
    held: RefCell<[[Option<Held>; PINS]; SUBSCRIBERS]>,
    /// What was published under each number.
    published: RefCell<Vec<(u64, u64)>>,
    /// What subscribers do after so many more steps of the writer.
    script: Cell<Option<(u8, Act)>>,
    /// The words as they were where the writer died.
    death: RefCell<Option<Vec<u64>>>,
}

#[derive(Clone, Copy)]
struct Held {
    slot: u8,
    value: u64,
}

#[derive(Clone, Copy)]
enum Act {
    Newest(u8),
    Numbered(u8, u8),
    Unpin(u8),
    Scribble(u8, u64),
    Die,
}

impl FrameWords for Ring {
    type Rules = Sound;

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

    fn step(&self, _: Step) {
        self.tick();
    }
}

impl PinWords for &Ring {
    fn each(&self, mut visit: impl FnMut(&AtomicU64)) {
        self.pins
            .iter()
            .flatten()
            .chain(&self.hostile)
            .for_each(&mut visit);
    }
}

impl Ring {
    fn new(slots: usize, depth: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            head: zero(),
            order: (0..depth.next_power_of_two()).map(|_| zero()).collect(),
            slots: (0..slots)
                .map(|_| Slot {
                    sequence: zero(),
                    descriptor: [zero(), zero()],
                    payload: [Cell::new(0), Cell::new(0)],
                })
                .collect(),
            pins: Default::default(),
            hostile: Default::default(),
            held: RefCell::default(),
            published: RefCell::default(),
            script: Cell::new(None),
            death: RefCell::default(),
        }
    }

    fn tick(&self) {
        match self.script.get() {
            Some((0, act)) => {
                self.script.set(None);
                self.act(act);
            }
            Some((steps, act)) => self.script.set(Some((steps - 1, act))),
            None => {}
        }
    }

    fn act(&self, act: Act) {
        match act {
            Act::Newest(who) => {
                if let Some(entry) = newest(self) {
                    self.pin(who, entry);
                }
            }
            Act::Numbered(who, back) => {
                let last = newest(self).map_or(0, |entry| entry.sequence);
                if let Some(entry) = numbered(self, last.saturating_sub(back.into())) {
                    self.pin(who, entry);
                }
            }
            Act::Unpin(who) => {
                let (who, which) = place(who);
                if self.held.borrow_mut()[who][which].take().is_some() {
                    unpin::<Sound>(&self.pins[who][which]);
                }
            }
            Act::Scribble(which, value) => {
                self.hostile[usize::from(which) % HOSTILE_PINS].store(value, Ordering::Relaxed);
            }
            Act::Die => *self.death.borrow_mut() = Some(self.words()),
        }
        self.unchanged();
    }

    fn pin(&self, who: u8, entry: Entry) {
        let (who, which) = place(who);
        if self.held.borrow()[who][which].is_some() {
            return;
        }
        let mut words = [0; 2];
        if !pin(self, &self.pins[who][which], entry, &mut words) {
            return;
        }
        let slot = &self.slots[usize::from(entry.slot)];
        let value = slot.payload[0].get();
        assert_eq!([value, slot.payload[1].get()], words, "torn");
        let known = self.published.borrow().contains(&(entry.sequence, value));
        assert!(known, "frame {} was never published", entry.sequence);
        self.held.borrow_mut()[who][which] = Some(Held {
            slot: entry.slot,
            value,
        });
    }

    /// What is held is what it was.
    fn unchanged(&self) {
        for held in self.held.borrow().iter().flatten().flatten() {
            let payload = &self.slots[usize::from(held.slot)].payload;
            assert_eq!(
                [payload[0].get(), payload[1].get()],
                [held.value; 2],
                "changed while held"
            );
        }
    }

    fn is_held(&self, slot: u8) -> bool {
        self.held
            .borrow()
            .iter()
            .flatten()
            .flatten()
            .any(|held| held.slot == slot)
    }

    fn words(&self) -> Vec<u64> {
        let mut words = vec![self.head.load(Ordering::Relaxed)];
        words.extend(self.order.iter().map(|word| word.load(Ordering::Relaxed)));
        for slot in &self.slots {
            words.push(slot.sequence.load(Ordering::Relaxed));
            words.extend(
                slot.descriptor
                    .iter()
                    .map(|word| word.load(Ordering::Relaxed)),
            );
            words.extend(slot.payload.iter().map(Cell::get));
        }
        words
    }

    fn restore(&self, words: &[u64]) {
        let mut words = words.iter().copied();
        let mut next = || words.next().expect("as many as there were");
        self.head.store(next(), Ordering::Relaxed);
        self.order
            .iter()
            .for_each(|word| word.store(next(), Ordering::Relaxed));
        for slot in &self.slots {
            slot.sequence.store(next(), Ordering::Relaxed);
            slot.descriptor
                .iter()
                .for_each(|word| word.store(next(), Ordering::Relaxed));
            slot.payload.iter().for_each(|word| word.set(next()));
        }
    }
}

fn place(who: u8) -> (usize, usize) {
    let who = usize::from(who);
    (who % SUBSCRIBERS, who / SUBSCRIBERS % PINS)
}

fn act(u: &mut Unstructured<'_>) -> arbitrary::Result<Act> {
    Ok(match u.arbitrary::<u8>()? % 8 {
        0 | 1 => Act::Newest(u.arbitrary()?),
        2 => Act::Numbered(u.arbitrary()?, u.arbitrary::<u8>()? % 8),
        3 | 4 => Act::Unpin(u.arbitrary()?),
        5 => Act::Scribble(u.arbitrary()?, u.arbitrary::<u8>()?.into()),
        6 => Act::Scribble(u.arbitrary()?, u.arbitrary()?),
        _ => Act::Die,
    })
}

/// Frames are published, pinned, held by the decoder, given back; the writer dies in between.
pub fn frame_ring(data: &[u8]) {
    let mut u = Unstructured::new(&data[..data.len().min(MOST_INPUT)]);
    let _ = run(&mut u);
}

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let slots = 2 + usize::from(u.arbitrary::<u8>()?) % (MOST_SLOTS - 1);
    let depth = 1 + usize::from(u.arbitrary::<u8>()?) % (slots - 1);
    let first = 1 + u64::from(u.arbitrary::<u8>()?);
    let ring = Ring::new(slots, depth);
    let resume = || Slots::resume(&ring, depth, first).expect("an honest writer left it");
    let mut writer = resume();
    let mut reserved: Vec<u8> = Vec::new();
    let (mut last, mut drawn) = (0, 0);
    while !u.is_empty() {
        let now = u.arbitrary::<u8>()?;
        match now % 8 {
            // Between two steps of what the writer does next.
            0 => ring.script.set(Some((u.arbitrary::<u8>()? % 10, act(u)?))),
            1 | 2 => ring.act(act(u)?),
            3 | 4 => {
                writer.reclaim(&ring, &&ring);
                if let Some(slot) = writer.take() {
                    assert!(
                        !ring.is_held(slot),
                        "handed out while a subscriber reads it"
                    );
                    assert!(!reserved.contains(&slot), "handed out twice");
                    reserved.push(slot);
                }
            }
            5 | 6 => {
                let Some(slot) = reserved
                    .get(usize::from(now >> 3) % reserved.len().max(1))
                    .copied()
                else {
                    continue;
                };
                if !writer.is_reserved(slot) {
                    continue;
                }
                drawn += 1;
                let payload = &ring.slots[usize::from(slot)].payload;
                payload[0].set(drawn);
                ring.tick();
                payload[1].set(drawn);
                let sequence = writer.next_sequence();
                ring.published.borrow_mut().push((sequence, drawn));
                assert_eq!(writer.publish(&ring, slot, &[drawn; 2]), Some(sequence));
                assert!(sequence > last && sequence >= first, "numbers rise");
                last = sequence;
                assert_eq!(newest(&ring).map(|entry| entry.sequence), Some(sequence));
            }
            _ => {
                if !reserved.is_empty() {
                    let slot = reserved.swap_remove(usize::from(now >> 3) % reserved.len());
                    writer.release(slot);
                }
            }
        }
        if let Some(words) = ring.death.take() {
            let before = newest(&ring).map_or(0, |entry| entry.sequence);
            ring.restore(&words);
            let seen = newest(&ring).map_or(0, |entry| entry.sequence);
            writer = resume();
            reserved.clear();
            ring.script.set(None);
            let after = newest(&ring).map_or(0, |entry| entry.sequence);
            assert!(
                (seen..=before).contains(&after),
                "what was seen stays: {seen} {after} {before}"
            );
            last = last.min(after);
            assert!(writer.next_sequence() > after);
            ring.published
                .borrow_mut()
                .retain(|(sequence, _)| *sequence <= after);
        }
        ring.unchanged();
    }
    // Everybody lets go, and does nothing any more: only what is visible is not free.
    ring.script.set(None);
    for slot in reserved {
        writer.release(slot);
    }
    ring.pins
        .iter()
        .flatten()
        .chain(&ring.hostile)
        .for_each(|word| word.store(0, Ordering::Relaxed));
    writer.reclaim(&ring, &&ring);
    assert!(writer.free() >= slots - depth, "a slot was lost");
    Ok(())
}
