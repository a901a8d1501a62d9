//! The packet ring's protocol, step by step: readers look between the steps of the writer, the writer
//! goes on while a reader copies, and is killed.

use std::cell::{Cell, RefCell};

use arbitrary::Unstructured;

use crate::layout::UNIT_WORDS;
use crate::packets::protocol::{
    Log, PacketWords, Read, Step, bounds, entry_len, entry_offset, load_words, newest_key, read,
};
use crate::sync::{AtomicU64, Ordering, Sound};

/// More than two steps of growth.
const CAPACITY: u64 = 640 << 10;
/// Most words of the other rings: whatever units do to each other, they do in little room.
const SMALL_WORDS: u64 = 64;
/// Most bytes that one input appends.
const MOST_BYTES: u64 = 1 << 20;

/// What follows is not looked at: longer stories show nothing new.
const MOST_INPUT: usize = 256;

/// Memory that is used for one input after the other; what is left in it was never appended.
struct Ring {
    oldest: AtomicU64,
    next: AtomicU64,
    newest_key: AtomicU64,
    units: Cell<u64>,
    capacity: Cell<u64>,
    index: Vec<[AtomicU64; UNIT_WORDS]>,
    data: Vec<AtomicU64>,
    /// After so many more steps of the writer somebody reads this unit, or the writer dies.
    script: Cell<Option<(u16, Option<u64>)>>,
    death: RefCell<Option<Death>>,
    /// What the unit that is being appended will take.
    region: Cell<(u64, u64)>,
    scratch: RefCell<Vec<u8>>,
    pattern: Vec<u8>,
}

/// Where the writer died: the words that it was about to change.
struct Death {
    header: [u64; 3],
    sequence: u64,
    entry: Vec<u64>,
    region: (u64, u64),
    data: Vec<u64>,
}

impl PacketWords for Ring {
    type Rules = Sound;

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
        self.units.get()
    }

    fn entry(&self, sequence: u64) -> &[AtomicU64] {
        &self.index[(sequence & (self.units.get() - 1)) as usize]
    }

    fn data(&self, offset: u64, len: u64) -> Option<&[AtomicU64]> {
        let end = offset.checked_add(len.checked_next_multiple_of(8)?)?;
        let inside = offset.is_multiple_of(8) && end <= self.capacity.get();
        inside.then(|| &self.data[(offset / 8) as usize..(end / 8) as usize])
    }

    fn step(&self, _: Step) {
        match self.script.get() {
            Some((0, Some(sequence))) => {
                self.script.set(None);
                self.look(sequence, || {});
            }
            Some((0, None)) => {
                self.script.set(None);
                *self.death.borrow_mut() = Some(self.die());
            }
            Some((steps, what)) => self.script.set(Some((steps - 1, what))),
            None => {}
        }
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// Words of one unit that are in no other; longer ones exist in large rings only.
const OWN_WORDS: u64 = SMALL_WORDS + 1;
/// Units that differ from each other: more than one input appends.
const OWN_UNITS: u64 = 256;

/// What units are made of. Every word says where it is, so that none can be taken for another's.
fn pattern() -> Vec<u8> {
    (0..OWN_UNITS * OWN_WORDS + CAPACITY / 8)
        .flat_map(|index| {
            (index + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect()
}

fn len_of(entry: &[u64; UNIT_WORDS]) -> u64 {
    entry_len(entry)
}

impl Ring {
    fn new() -> Self {
        Self {
            oldest: AtomicU64::new(1),
            next: AtomicU64::new(1),
            newest_key: AtomicU64::new(0),
            units: Cell::new(2),
            capacity: Cell::new(8),
            index: (0..32).map(|_| Default::default()).collect(),
            data: (0..CAPACITY / 8).map(|_| AtomicU64::new(0)).collect(),
            script: Cell::new(None),
            death: RefCell::default(),
            region: Cell::new((0, 0)),
            scratch: RefCell::default(),
            pattern: pattern(),
        }
    }

    /// The bytes of a unit.
    fn unit(&self, sequence: u64, len: u64) -> &[u8] {
        let from = (sequence % OWN_UNITS * OWN_WORDS * 8) as usize;
        &self.pattern[from..][..len as usize]
    }

    fn refresh(&self, units: u64, capacity: u64) {
        self.oldest.store(1, Ordering::Relaxed);
        self.next.store(1, Ordering::Relaxed);
        self.newest_key.store(0, Ordering::Relaxed);
        self.index
            .iter()
            .flatten()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        self.units.set(units);
        self.capacity.set(capacity);
        self.script.set(None);
        self.death.take();
    }

    fn die(&self) -> Death {
        let sequence = load(&self.next);
        // It may have been counted already.
        let sequence = if self.entry_is(sequence - 1) {
            sequence - 1
        } else {
            sequence
        };
        let region = self.region.get();
        let data = self.data(region.0, region.1).unwrap_or_default();
        Death {
            header: [load(&self.oldest), load(&self.next), load(&self.newest_key)],
            sequence,
            entry: self.entry(sequence).iter().map(load).collect(),
            region,
            data: data.iter().map(load).collect(),
        }
    }

    /// Whether this is the unit that is being appended.
    fn entry_is(&self, sequence: u64) -> bool {
        load(&self.entry(sequence)[0]) == sequence
            && load(&self.entry(sequence)[1]) == self.region.get().0
    }

    fn restore(&self, death: &Death) {
        self.oldest.store(death.header[0], Ordering::Relaxed);
        self.next.store(death.header[1], Ordering::Relaxed);
        self.newest_key.store(death.header[2], Ordering::Relaxed);
        for (word, old) in self.entry(death.sequence).iter().zip(&death.entry) {
            word.store(*old, Ordering::Relaxed);
        }
        let data = self
            .data(death.region.0, death.region.1)
            .unwrap_or_default();
        for (word, old) in data.iter().zip(&death.data) {
            word.store(*old, Ordering::Relaxed);
        }
    }

    /// Reads a unit; what is given out is whole and the one asked for. `meanwhile` happens in the
    /// middle of the copy.
    fn look(&self, sequence: u64, meanwhile: impl FnOnce()) -> bool {
        let mut bytes = self.scratch.take();
        let unit = read(self, sequence, |entry| {
            let (offset, len) = (entry_offset(entry), entry_len(entry));
            let words = self
                .data(offset, len)
                .filter(|_| entry[0] == sequence && len > 0);
            let Some(words) = words else {
                meanwhile();
                return None;
            };
            bytes.resize(words.len() * 8, 0);
            let half = words.len() / 2;
            load_words(&words[..half], &mut bytes[..half * 8]);
            meanwhile();
            load_words(&words[half..], &mut bytes[half * 8..]);
            Some(len)
        });
        let given = match unit {
            Read::Unit(Some(len)) => {
                let whole = bytes[..len as usize] == *self.unit(sequence, len);
                assert!(whole, "unit {sequence} of {len} bytes is torn");
                true
            }
            Read::Unit(None) => panic!("unit {sequence} was given out with another's entry"),
            Read::NotYet | Read::Gone => false,
        };
        *self.scratch.borrow_mut() = bytes;
        given
    }
}

thread_local! {
    static RING: Ring = Ring::new();
}

/// Units are appended and read, also while they are overwritten, and the writer dies in between.
pub fn packet_ring(data: &[u8]) {
    let mut u = Unstructured::new(&data[..data.len().min(MOST_INPUT)]);
    RING.with(|ring| {
        let _ = run(ring, &mut u);
    });
}

/// The newest group of pictures, as the promise counts it.
#[derive(Default)]
struct Group {
    key: u64,
    bytes: u64,
    longest: u64,
}

fn run(ring: &Ring, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let units = 2 << (u.arbitrary::<u8>()? % 5);
    // Growth takes a hundred times as long, and is rare in life too.
    let large = u.arbitrary::<u8>()? == 0x4c;
    let capacity = match large {
        true => CAPACITY,
        false => 8 * (1 + u64::from(u.arbitrary::<u8>()?) % SMALL_WORDS),
    };
    ring.refresh(units, capacity);
    let resume = || Log::resume(ring, capacity, |entry| entry[7] == 1);
    let mut log = resume();
    let (mut total, mut group, mut highest) = (0, Group::default(), 0);
    while !u.is_empty() && total < MOST_BYTES {
        let now = u.arbitrary::<u8>()?;
        let back = u64::from(now >> 4);
        let wanted = log.next_sequence().saturating_sub(back).max(1);
        match now % 8 {
            0 => drop(ring.look(wanted, || {})),
            1 => {
                let steps = u.arbitrary::<u16>()? % if large { 4096 } else { 40 };
                ring.script
                    .set(Some((steps, (now & 16 != 0).then_some(wanted))));
            }
            2 => {
                // The writer goes on while this one is copied.
                let many = 1 + u.arbitrary::<u8>()? % 3;
                let mut sizes = [(0, false); 3];
                for size in &mut sizes[..many.into()] {
                    *size = (size_of(u, large, capacity)?, u.arbitrary()?);
                }
                ring.script.set(None);
                ring.look(wanted, || {
                    for (len, key) in &sizes[..many.into()] {
                        total += append(ring, &mut log, &mut group, *len, *key);
                    }
                });
            }
            _ => {
                let (len, key) = (size_of(u, large, capacity)?, now & 128 != 0);
                total += append(ring, &mut log, &mut group, len, key);
            }
        }
        if let Some(death) = ring.death.take() {
            ring.restore(&death);
            ring.script.set(None);
            let seen = load(&ring.next);
            log = resume();
            assert!(log.next_sequence() >= seen, "numbers rise");
            group = Group::default();
        }
        assert!(log.next_sequence() >= highest);
        highest = log.next_sequence();
        consistent(ring, &log, &group);
    }
    Ok(())
}

fn size_of(u: &mut Unstructured<'_>, large: bool, capacity: u64) -> arbitrary::Result<u64> {
    let size = u64::from(u.arbitrary::<u16>()?);
    Ok(match (large, size % 16) {
        (true, 0) => 1 + size * 4,
        (true, _) => 1 + size / 64,
        (false, _) => 1 + size % (capacity + 8),
    })
}

/// Appends a unit, if there is room; returns its bytes.
fn append(ring: &Ring, log: &mut Log, group: &mut Group, len: u64, key: bool) -> u64 {
    // Death was on its way: nothing comes after it.
    if ring.death.borrow().is_some() {
        return 0;
    }
    let sequence = log.next_sequence();
    let Some(place) = log.place(len, true) else {
        assert!(
            len > ring.capacity.get(),
            "no room for {len} of {} bytes",
            ring.capacity.get()
        );
        return 0;
    };
    assert!(
        place.offset + len <= place.wrap.next_multiple_of(8) && place.wrap <= ring.capacity.get()
    );
    ring.region.set((place.offset, len));
    let mut entry = [0; UNIT_WORDS];
    entry[2] = len;
    entry[7] = key.into();
    assert_eq!(len_of(&entry), len);
    let appended = log.append(ring, place, entry, ring.unit(sequence, len), key);
    assert_eq!(appended, Some(sequence));
    if key {
        *group = Group {
            key: sequence,
            ..Group::default()
        };
    }
    group.bytes += len.next_multiple_of(8);
    group.longest = group.longest.max(len.next_multiple_of(8));
    len
}

fn consistent(ring: &Ring, log: &Log, group: &Group) {
    let (oldest, next) = bounds(ring);
    assert!(oldest <= next && next == log.next_sequence());
    assert!(next - oldest <= ring.units.get());
    // In a large ring that takes too long each time.
    let small = ring.capacity.get() < CAPACITY;
    if next > oldest && (small || next.is_multiple_of(8)) {
        assert!(ring.look(next - 1, || {}), "the newest unit is there");
        assert!(ring.look(oldest, || {}), "the oldest unit is there");
    }
    if let Some(key) = newest_key(ring) {
        assert!((oldest..next).contains(&key));
    }
    // The newest group stays as long as it fits; where it goes around the end there are gaps.
    let fits = group.bytes + 4 * group.longest <= ring.capacity.get()
        && group.key + ring.units.get() > next;
    if group.key != 0 && fits {
        assert!(
            log.gop_is_whole(),
            "a group of {} bytes was cut",
            group.bytes
        );
    }
}
