//! Publish, pin, reclaim, resume: the frame ring's protocol over words, wherever they live.
//!
//! Promises: every step of the writer is bounded by slots + pins, whatever the pins say; a slot
//! is handed out for writing only when no subscriber can be reading it; a writer killed between
//! any two steps leaves nothing visible that is not whole, and [`Slots::resume`] goes on from
//! there.
//!
//! Must never: allocate in a step of the writer that publishes, read a pin word twice in one
//! scan, or look at the pins before the fence. The loom models run exactly these functions, with
//! one rule of [`Rules`] weakened at a time, and killed at every [`Step`].

use std::collections::VecDeque;

use crate::layout::{MAX_SEQUENCE, MAX_SLOTS};
use crate::sync::{AtomicU64, Ordering, Rules, fence};

/// The shared words of a frame ring.
pub(crate) trait FrameWords {
    /// [`crate::sync::Sound`], but for the models.
    type Rules: Rules;
    /// Number of slots, at most [`MAX_SLOTS`].
    fn slots(&self) -> usize;
    /// Newest frame, packed.
    fn head(&self) -> &AtomicU64;
    /// Packed frames by sequence number; the length is a power of two.
    fn order(&self) -> &[AtomicU64];
    /// Sequence number of a slot, 0 = not valid.
    fn sequence(&self, slot: usize) -> &AtomicU64;
    /// Descriptor of a slot.
    fn descriptor(&self, slot: usize) -> &[AtomicU64];
    /// Where the models kill the writer.
    #[inline(always)]
    fn step(&self, _: Step) {}
}

/// The pin words of all subscribers. Hostile: any value, any change.
pub(crate) trait PinWords {
    /// Visits each word once. The list itself must be looked up inside this call: the protocol
    /// calls it after its fence.
    fn each(&self, visit: impl FnMut(&AtomicU64));
}

/// Between which steps a writer can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Invalidated,
    HalfDescriptor,
    Described,
    Sequenced,
    Ordered,
    HeadMoved,
}

/// A frame as an order word names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) slot: u8,
}

impl Entry {
    /// One word, so that it cannot be torn.
    pub(crate) fn pack(self) -> u64 {
        self.sequence << 8 | u64::from(self.slot)
    }

    /// `None`: no frame.
    pub(crate) fn unpack(word: u64) -> Option<Self> {
        let entry = Self {
            sequence: word >> 8,
            slot: word as u8,
        };
        (entry.sequence != 0).then_some(entry)
    }
}

// ------------------------------------------------------------------------------ subscriber ---

/// The newest frame.
#[inline]
pub(crate) fn newest<W: FrameWords>(words: &W) -> Option<Entry> {
    let word = words.head().load(Ordering::Relaxed);
    // SYNC: pairs with the Release of `head` in `Slots::publish`.
    fence(Ordering::Acquire);
    Entry::unpack(word)
}

/// The frame of this number, if its order word still carries it.
#[inline]
pub(crate) fn numbered<W: FrameWords>(words: &W, sequence: u64) -> Option<Entry> {
    let order = words.order();
    let word = order
        .get(sequence as usize & order.len().wrapping_sub(1))?
        .load(Ordering::Relaxed);
    // SYNC: pairs with the Release of `order` in `Slots::publish`.
    fence(Ordering::Acquire);
    Entry::unpack(word).filter(|e| e.sequence == sequence)
}

/// Pins a frame with `pin` and copies its descriptor out. `false`: it is gone, nothing is pinned.
/// After `true` the slot's payload does not change until [`unpin`].
#[inline]
pub(crate) fn pin<W: FrameWords>(
    words: &W,
    pin: &AtomicU64,
    entry: Entry,
    descriptor: &mut [u64],
) -> bool {
    let slot = usize::from(entry.slot);
    if slot >= words.slots() {
        return false;
    }
    // Release: this store must not overtake an earlier clear of the same word, which a writer may
    // still have to see. SYNC: pairs with the Acquire in `Slots::reclaim`.
    pin.store(u64::from(entry.slot) + 1, W::Rules::PIN_STORE);
    if W::Rules::SUBSCRIBER_FENCE {
        // SYNC: with the SeqCst fence in `Slots::reclaim`: either the writer sees this pin, or
        // the load below sees that the writer has invalidated the slot.
        fence(Ordering::SeqCst);
    }
    if words.sequence(slot).load(Ordering::Relaxed) != entry.sequence {
        unpin::<W::Rules>(pin);
        return false;
    }
    // SYNC: pairs with the Release of `sequence` in `Slots::publish`: descriptor and payload.
    fence(Ordering::Acquire);
    for (to, from) in descriptor.iter_mut().zip(words.descriptor(slot)) {
        *to = from.load(Ordering::Relaxed);
    }
    true
}

/// Gives a frame back.
#[inline]
pub(crate) fn unpin<R: Rules>(pin: &AtomicU64) {
    // SYNC: pairs with the Acquire in `Slots::reclaim`: reads of the payload end before the
    // writer finds the slot free.
    pin.store(0, R::PIN_CLEAR);
}

// ---------------------------------------------------------------------------------- writer ---

/// What the writer does with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody's.
    Free,
    /// Handed out, being written.
    Reserved,
    /// Subscribers can find it.
    Visible,
    /// Nobody can find it any more; it may still be pinned or held.
    Retired,
}

/// Numbers that a ring must have left when it is taken over: more than it can use.
const ROOM: u64 = 1 << 48;

/// Memory that no writer following the protocol can have left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impossible {
    pub(crate) sequence: u64,
}

/// The writer's private view of the slots; rebuilt from shared memory by [`Slots::resume`].
#[derive(Debug)]
pub(crate) struct Slots {
    depth: usize,
    next: u64,
    phase: Vec<Phase>,
    held: Vec<bool>,
    /// Last in, first out: the warm slots are used again.
    free: Vec<u8>,
    /// Oldest first.
    visible: VecDeque<(u64, u8)>,
    retired: Vec<u8>,
}

impl Slots {
    /// Takes over a ring, fresh or left behind by a writer that has *exited*. All pin words that
    /// anybody may hold must be among `pins` from the next [`Slots::reclaim`] on.
    pub(crate) fn resume<W: FrameWords>(
        words: &W,
        depth: usize,
        first_sequence: u64,
    ) -> Result<Self, Impossible> {
        let slots = words.slots().min(MAX_SLOTS as usize);
        let mut found: Vec<(u64, u8)> = Vec::with_capacity(slots);
        for slot in 0..slots {
            let sequence = words.sequence(slot).load(Ordering::Acquire);
            if sequence != 0 {
                found.push((sequence, slot as u8));
            }
        }
        found.sort_unstable();
        // The dead writer may have been a hostile one: two slots of one number, or of no possible
        // number, are not shown to anybody.
        let head = Entry::unpack(words.head().load(Ordering::Acquire)).map_or(0, |e| e.sequence);
        let highest = found.last().map_or(0, |(sequence, _)| *sequence).max(head);
        if highest >= MAX_SEQUENCE - ROOM {
            return Err(Impossible { sequence: highest });
        }
        let mut phase = vec![Phase::Retired; slots];
        let mut visible = VecDeque::with_capacity(slots + 1);
        for (sequence, slot) in found {
            if visible.back().is_some_and(|(last, _)| *last == sequence) {
                words
                    .sequence(usize::from(slot))
                    .store(0, Ordering::Relaxed);
            } else {
                visible.push_back((sequence, slot));
                phase[usize::from(slot)] = Phase::Visible;
            }
        }
        // Roll forward: a frame whose sequence was stored is whole, though order and head may
        // not name it yet. SYNC: as in `publish`.
        let order = words.order();
        for &(sequence, slot) in &visible {
            let word = Entry { sequence, slot }.pack();
            order[sequence as usize & (order.len() - 1)].store(word, Ordering::Release);
        }
        if let Some(&(sequence, slot)) = visible.back()
            && sequence > head
        {
            words
                .head()
                .store(Entry { sequence, slot }.pack(), Ordering::Release);
        }
        let retired = (0..slots as u8)
            .rev()
            .filter(|slot| phase[usize::from(*slot)] == Phase::Retired)
            .collect();
        Ok(Self {
            depth: depth.max(1),
            next: (highest + 1).max(first_sequence).max(1),
            phase,
            held: vec![false; slots],
            free: Vec::with_capacity(slots),
            visible,
            retired,
        })
    }

    /// Retires what is older than the depth, then frees every retired slot that is neither pinned
    /// nor held. Bounded by slots + pin words.
    pub(crate) fn reclaim<W: FrameWords>(&mut self, words: &W, pins: &impl PinWords) {
        let mut pinned = [0u64; 4];
        if W::Rules::SCAN_BEFORE_INVALIDATE {
            pinned = scan::<W::Rules>(pins);
        }
        while self.visible.len() > self.depth {
            let Some((_, slot)) = self.visible.pop_front() else {
                break;
            };
            words
                .sequence(usize::from(slot))
                .store(0, Ordering::Relaxed);
            self.phase[usize::from(slot)] = Phase::Retired;
            self.retired.push(slot);
            words.step(Step::Invalidated);
        }
        if self.retired.is_empty() {
            return;
        }
        if W::Rules::WRITER_FENCE {
            // SYNC: with the SeqCst fence in `pin`.
            fence(Ordering::SeqCst);
        }
        if !W::Rules::SCAN_BEFORE_INVALIDATE {
            pinned = scan::<W::Rules>(pins);
        }
        let Self {
            retired,
            held,
            phase,
            free,
            ..
        } = self;
        retired.retain(|&slot| {
            let index = usize::from(slot);
            let keep = held[index] || pinned[index / 64] & (1 << (index % 64)) != 0;
            if !keep {
                phase[index] = Phase::Free;
                free.push(slot);
            }
            keep
        });
    }

    /// Takes a free slot: reserved, with one hold.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let slot = self.free.pop()?;
        self.phase[usize::from(slot)] = Phase::Reserved;
        self.held[usize::from(slot)] = true;
        Some(slot)
    }

    /// Drops the hold. A slot that was never published is free again at once: nobody can have
    /// found it.
    pub(crate) fn release(&mut self, slot: u8) {
        let index = usize::from(slot);
        let Some(held) = self.held.get_mut(index) else {
            return;
        };
        if std::mem::replace(held, false) && self.phase[index] == Phase::Reserved {
            self.phase[index] = Phase::Free;
            self.free.push(slot);
        }
    }

    /// Publishes a reserved slot whose payload is written. `None`: it was not reserved, or the
    /// numbers are used up.
    #[inline]
    pub(crate) fn publish<W: FrameWords>(
        &mut self,
        words: &W,
        slot: u8,
        descriptor: &[u64],
    ) -> Option<u64> {
        let index = usize::from(slot);
        if self.phase.get(index) != Some(&Phase::Reserved) || self.next > MAX_SEQUENCE {
            return None;
        }
        let sequence = self.next;
        for (word, value) in words.descriptor(index).iter().zip(descriptor) {
            word.store(*value, Ordering::Relaxed);
            words.step(Step::HalfDescriptor);
        }
        words.step(Step::Described);
        // SYNC: pairs with the Acquire fence in `pin`: descriptor and payload before it.
        words.sequence(index).store(sequence, Ordering::Release);
        words.step(Step::Sequenced);
        let word = Entry { sequence, slot }.pack();
        let order = words.order();
        // SYNC: pairs with the Acquire fence in `numbered`.
        order[sequence as usize & (order.len() - 1)].store(word, Ordering::Release);
        words.step(Step::Ordered);
        // SYNC: pairs with the Acquire fence in `newest`.
        words.head().store(word, Ordering::Release);
        words.step(Step::HeadMoved);
        self.next += 1;
        self.phase[index] = Phase::Visible;
        self.visible.push_back((sequence, slot));
        Some(sequence)
    }

    /// Number of the next frame.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The next frame gets this number, unless it is used already.
    pub(crate) fn go_on_at(&mut self, sequence: u64) {
        self.next = self.next.max(sequence);
    }

    /// Whether the slot is handed out and not yet published.
    pub(crate) fn is_reserved(&self, slot: u8) -> bool {
        self.phase.get(usize::from(slot)) == Some(&Phase::Reserved)
    }

    /// Slots free for [`Slots::take`] without another scan.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }
}

/// Which slots are pinned, one bit each. Every word is read once: a hostile one blocks at most
/// one slot, for one scan.
fn scan<R: Rules>(pins: &impl PinWords) -> [u64; 4] {
    let mut pinned = [0u64; 4];
    pins.each(|word| {
        // SYNC: pairs with the Release in `unpin` and in `pin`.
        let value = word.load(R::SCAN_LOAD);
        if (1..=u64::from(MAX_SLOTS)).contains(&value) {
            let index = (value - 1) as usize;
            pinned[index / 64] |= 1 << (index % 64);
        }
    });
    pinned
}
