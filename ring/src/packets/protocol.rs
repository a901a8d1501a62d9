//! Append, read, resume: the packet ring's protocol over words, wherever they live.
//!
//! Promises: a unit that [`read`] gives out is whole and the one asked for; a writer killed
//! between any two steps leaves a ring that reads well and that [`Log::resume`] goes on with;
//! the newest GOP stays as long as it fits in the capacity.
//!
//! Must never: let any word of a new unit be seen before `oldest` has moved past the units it
//! overwrites. The loom models run exactly these functions.

use std::collections::VecDeque;

use crate::layout::UNIT_WORDS;
use crate::sync::{AtomicU64, Ordering, Rules, fence};

/// The wrap point moves by this many bytes at a time, which is reserved within a fraction of a
/// millisecond. All below the wrap point stays in memory, for each camera: no larger than needed.
pub(crate) const GROWTH_STEP: u64 = 1 << 18;

/// The shared words of a packet ring.
pub(crate) trait PacketWords {
    /// [`crate::sync::Sound`], but for the models.
    type Rules: Rules;
    /// Oldest unit that can be read.
    fn oldest(&self) -> &AtomicU64;
    /// One past the newest.
    fn next(&self) -> &AtomicU64;
    /// Newest key frame, 0 = none.
    fn newest_key(&self) -> &AtomicU64;
    /// Number of index entries, a power of two.
    fn units(&self) -> u64;
    /// Index entry of a unit.
    fn entry(&self, sequence: u64) -> &[AtomicU64];
    /// `len` bytes, rounded up to words, at a multiple of 8 in the data area; `None`: not inside.
    fn data(&self, offset: u64, len: u64) -> Option<&[AtomicU64]>;
    /// Where the models kill the writer.
    #[inline(always)]
    fn step(&self, _: Step) {}
}

/// Between which steps a writer can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    OldestMoved,
    HalfWords,
    Words,
    HalfEntry,
    EntryWritten,
    NextMoved,
    KeyMoved,
}

/// Offset of a unit as its entry says.
pub(crate) fn entry_offset(entry: &[u64; UNIT_WORDS]) -> u64 {
    entry[1]
}

/// Length of a unit as its entry says.
pub(crate) fn entry_len(entry: &[u64; UNIT_WORDS]) -> u64 {
    entry[2] & u64::from(u32::MAX)
}

/// Bytes that a unit takes in the data area.
fn padded(len: u64) -> u64 {
    len.next_multiple_of(8)
}

// ---------------------------------------------------------------------------------- reader ---

/// What became of a unit asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// There, and whole.
    Unit(T),
    /// Not appended yet.
    NotYet,
    /// Overwritten.
    Gone,
}

/// Oldest and next unit now.
pub(crate) fn bounds<W: PacketWords>(words: &W) -> (u64, u64) {
    let next = words.next().load(Ordering::Relaxed);
    // SYNC: pairs with the Release of `next` in `Log::append`.
    fence(Ordering::Acquire);
    (words.oldest().load(Ordering::Relaxed), next)
}

/// Newest key frame that can still be read.
pub(crate) fn newest_key<W: PacketWords>(words: &W) -> Option<u64> {
    let key = words.newest_key().load(Ordering::Relaxed);
    // SYNC: pairs with the Release of `newest_key` in `Log::append`.
    fence(Ordering::Acquire);
    (key != 0 && words.oldest().load(Ordering::Relaxed) <= key).then_some(key)
}

/// Reads unit `sequence`: `copy` gets its index entry (which may be garbage: check it) and copies
/// the data out with relaxed loads; what it returns counts only if the unit was not overwritten
/// meanwhile.
pub(crate) fn read<W: PacketWords, T>(
    words: &W,
    sequence: u64,
    copy: impl FnOnce(&[u64; UNIT_WORDS]) -> T,
) -> Read<T> {
    let (oldest, next) = bounds(words);
    if sequence >= next {
        return Read::NotYet;
    }
    if sequence < oldest {
        return Read::Gone;
    }
    let mut entry = [0u64; UNIT_WORDS];
    for (to, from) in entry.iter_mut().zip(words.entry(sequence)) {
        *to = from.load(Ordering::Relaxed);
    }
    let copied = copy(&entry);
    if W::Rules::READ_FENCE {
        // SYNC: pairs with the Release fence in `Log::append`: if any word above came from a
        // later unit, the load below sees `oldest` past this one.
        fence(Ordering::Acquire);
    }
    if words.oldest().load(Ordering::Relaxed) <= sequence {
        Read::Unit(copied)
    } else {
        Read::Gone
    }
}

/// Copies words out. `to` is as long as the words, in bytes.
#[inline]
pub(crate) fn load_words(from: &[AtomicU64], to: &mut [u8]) {
    for (bytes, word) in to.chunks_exact_mut(8).zip(from) {
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
}

// ---------------------------------------------------------------------------------- writer ---

/// Where a unit goes, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// `oldest` before the unit may be written.
    pub(crate) oldest: u64,
    /// The wrap point that this place needs.
    pub(crate) wrap: u64,
}

/// The writer's private view; rebuilt from shared memory by [`Log::resume`].
#[derive(Debug)]
pub(crate) struct Log {
    capacity: u64,
    units: u64,
    /// Units end before this; only the writer knows it, so that it can grow while others read.
    wrap: u64,
    cursor: u64,
    oldest: u64,
    next: u64,
    newest_key: u64,
    /// Offset and padded length of the units from `oldest` on.
    live: VecDeque<(u64, u64)>,
}

impl Log {
    /// Takes over a ring, fresh or left behind by a writer that has exited. If what it finds
    /// cannot come from a writer that followed the protocol, it starts empty, at a higher number.
    /// `is_key` reads the flags of an entry.
    pub(crate) fn resume<W: PacketWords>(
        words: &W,
        capacity: u64,
        is_key: impl Fn(&[u64; UNIT_WORDS]) -> bool,
    ) -> Self {
        let units = words.units();
        let next = words
            .next()
            .load(Ordering::Acquire)
            .clamp(1, crate::layout::MAX_SEQUENCE);
        let oldest = words.oldest().load(Ordering::Acquire).max(1);
        let mut log = Self {
            capacity,
            units,
            wrap: GROWTH_STEP.min(capacity),
            cursor: 0,
            oldest: next,
            next,
            newest_key: 0,
            live: VecDeque::new(),
        };
        if oldest <= next && next - oldest <= units {
            log.adopt(words, oldest, is_key);
        }
        // SYNC: as in `append`.
        words.oldest().store(log.oldest, Ordering::Relaxed);
        fence(Ordering::Release);
        words.next().store(log.next, Ordering::Release);
        words.newest_key().store(log.newest_key, Ordering::Release);
        log
    }

    /// Believes the units from `oldest` on, as far as all of them can be true.
    fn adopt<W: PacketWords>(
        &mut self,
        words: &W,
        oldest: u64,
        is_key: impl Fn(&[u64; UNIT_WORDS]) -> bool,
    ) {
        let (mut live, mut key, mut end) = (VecDeque::new(), 0, 0u64);
        for sequence in oldest..self.next {
            let mut entry = [0u64; UNIT_WORDS];
            for (to, from) in entry.iter_mut().zip(words.entry(sequence)) {
                *to = from.load(Ordering::Relaxed);
            }
            let (offset, len) = (entry_offset(&entry), padded(entry_len(&entry)));
            if entry[0] != sequence || words.data(offset, len).is_none() {
                return;
            }
            if is_key(&entry) {
                key = sequence;
            }
            end = end.max(offset + len);
            live.push_back((offset, len));
        }
        self.oldest = oldest;
        self.newest_key = key;
        self.cursor = live.back().map_or(0, |(offset, len)| offset + len);
        self.wrap = end
            .next_multiple_of(GROWTH_STEP)
            .max(self.wrap)
            .min(self.capacity);
        self.live = live;
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    pub(crate) fn wrap(&self) -> u64 {
        self.wrap
    }

    /// Whether the GOP of the newest key frame has lost its beginning.
    pub(crate) fn gop_is_whole(&self) -> bool {
        self.newest_key != 0 && self.newest_key >= self.oldest
    }

    /// Finds room for `len` bytes. With `grow`, the wrap point may move to spare the newest GOP.
    /// `None`: no room at all under the wrap point that is allowed.
    pub(crate) fn place(&self, len: u64, grow: bool) -> Option<Place> {
        let len = padded(len);
        let by_index = (self.next + 1).saturating_sub(self.units).max(self.oldest);
        let at = |offset: u64, wrap: u64| {
            let oldest = self.past_overlap(offset, len).max(by_index);
            Place {
                offset,
                oldest,
                wrap,
            }
        };
        let in_place = if self.cursor + len <= self.wrap {
            Some(at(self.cursor, self.wrap))
        } else if len <= self.wrap {
            Some(at(0, self.wrap))
        } else {
            None
        };
        let spares_gop = |place: &Place| {
            !self.gop_is_whole() || self.past_overlap(place.offset, len) <= self.newest_key
        };
        if in_place.as_ref().is_some_and(spares_gop) || !grow {
            return in_place;
        }
        let grown = |end: u64| {
            end.next_multiple_of(GROWTH_STEP)
                .max(self.wrap)
                .min(self.capacity)
        };
        let top = self
            .live
            .iter()
            .map(|(offset, len)| offset + len)
            .max()
            .unwrap_or(0);
        if top + len <= self.capacity {
            return Some(at(top, grown(top + len)));
        }
        if in_place.is_some() {
            return in_place;
        }
        (len <= self.capacity).then(|| at(0, grown(len)))
    }

    /// One past the newest unit that overlaps `[offset, offset + len)`.
    fn past_overlap(&self, offset: u64, len: u64) -> u64 {
        let overlaps = |(a, l): &(u64, u64)| *a < offset + len && offset < a + l;
        let last = self.live.iter().rposition(overlaps);
        last.map_or(self.oldest, |index| self.oldest + index as u64 + 1)
    }

    /// Appends a unit at a [`Place`] just found. `entry` gets sequence and offset filled in.
    /// Returns the unit's number.
    pub(crate) fn append<W: PacketWords>(
        &mut self,
        words: &W,
        place: Place,
        mut entry: [u64; UNIT_WORDS],
        bytes: &[u8],
        key: bool,
    ) -> Option<u64> {
        let len = padded(bytes.len() as u64);
        let data = words.data(place.offset, len)?;
        let sequence = self.next;
        if !W::Rules::OLDEST_AFTER_WORDS {
            words.oldest().store(place.oldest, Ordering::Relaxed);
        }
        if W::Rules::APPEND_FENCE {
            // SYNC: pairs with the Acquire fence at the end of `read`.
            fence(Ordering::Release);
        }
        words.step(Step::OldestMoved);
        store_words(words, bytes, data);
        words.step(Step::Words);
        entry[0] = sequence;
        entry[1] = place.offset;
        for (word, value) in words.entry(sequence).iter().zip(entry) {
            word.store(value, Ordering::Relaxed);
            words.step(Step::HalfEntry);
        }
        words.step(Step::EntryWritten);
        if W::Rules::OLDEST_AFTER_WORDS {
            words.oldest().store(place.oldest, Ordering::Relaxed);
        }
        // SYNC: pairs with the Acquire fence in `bounds`.
        words.next().store(sequence + 1, Ordering::Release);
        words.step(Step::NextMoved);
        if key {
            // SYNC: pairs with the Acquire fence in `newest_key`.
            words.newest_key().store(sequence, Ordering::Release);
            self.newest_key = sequence;
        }
        words.step(Step::KeyMoved);
        for _ in self.oldest..place.oldest {
            self.live.pop_front();
        }
        self.oldest = place.oldest;
        self.live.push_back((place.offset, len));
        self.cursor = place.offset + len;
        self.wrap = place.wrap;
        self.next = sequence + 1;
        Some(sequence)
    }
}

/// Copies bytes in, the last word padded with zeroes.
#[inline]
fn store_words<W: PacketWords>(words: &W, from: &[u8], to: &[AtomicU64]) {
    let chunks = from.chunks_exact(8);
    let tail = chunks.remainder();
    for (bytes, word) in chunks.zip(to) {
        let mut value = [0; 8];
        value.copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        words.step(Step::HalfWords);
    }
    if !tail.is_empty()
        && let Some(word) = to.last()
    {
        let mut value = [0; 8];
        value[..tail.len()].copy_from_slice(tail);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
}
