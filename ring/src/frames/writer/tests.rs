use super::*;
use crate::bell::BellPage;
use crate::frames::geometry::FrameRingSpec;
use crate::frames::protocol::{self, Entry, FrameWords};
use crate::layout::{DESCRIPTOR_WORDS, MAX_SEQUENCE};
use crate::pins::PinPage;
use crate::pixel::PixelFormat;
use crate::sync::Sound;
use proptest::prelude::*;

const SPEC: FrameRingSpec = FrameRingSpec {
    depth: 2,
    slots: 6,
    slot_bytes: 5000,
    ring_id: 42,
    first_sequence: 1,
};

/// A subscriber without a connection.
struct Peer {
    ring: MappedFrames,
    pins: Pins,
    id: u64,
}

impl Peer {
    fn join(writer: &mut FrameWriter, memory: &SealedMemory, id: u64, pins: u32) -> Self {
        let (peer, pages) = Self::new(memory, id, pins);
        writer.add_subscriber(pages).unwrap();
        peer
    }

    fn new(memory: &SealedMemory, id: u64, pins: u32) -> (Self, SubscriberPages) {
        let page = PinPage::create(pins).unwrap();
        let pages = SubscriberPages {
            id,
            pins: Some(page.try_clone().unwrap()),
            bell: BellPage::create().unwrap(),
            notify: None,
        };
        let memory = SealedMemory::from_fd(memory.reopen_read_only().unwrap()).unwrap();
        let ring = MappedFrames::new(Mapping::read_only(&memory).unwrap()).unwrap();
        (
            Self {
                ring,
                pins: Pins::map(page).unwrap(),
                id,
            },
            pages,
        )
    }

    /// Pins a frame with word `n`; returns its slot.
    fn pin(&self, n: usize, entry: Option<Entry>) -> Option<u8> {
        let entry = entry?;
        let mut words = [0; DESCRIPTOR_WORDS];
        if !protocol::pin(&self.ring, &self.pins.words()[n], entry, &mut words) {
            return None;
        }
        let d = FrameDescriptor::from_words(entry.sequence, &words).unwrap();
        d.check(SPEC.slot_bytes).unwrap();
        assert_eq!(d.pts as u64, entry.sequence * 10);
        Some(entry.slot)
    }

    fn pin_newest(&self, n: usize) -> Option<u8> {
        self.pin(n, protocol::newest(&self.ring))
    }

    fn unpin(&self, n: usize) {
        protocol::unpin::<Sound>(&self.pins.words()[n]);
    }
}

fn descriptor(writer: &FrameWriter) -> FrameDescriptor {
    let mut d = FrameDescriptor::packed(PixelFormat::Gray8, 64, 64, 1).unwrap();
    d.pts = writer.next_sequence() as i64 * 10;
    d
}

fn publish(writer: &mut FrameWriter) -> Option<(SlotId, u64)> {
    let slot = writer.reserve()?;
    let d = descriptor(writer);
    let sequence = writer.publish(slot, &d).unwrap();
    writer.release(slot);
    Some((slot, sequence))
}

fn fresh() -> (SealedMemory, FrameWriter) {
    let memory = SPEC.create().unwrap();
    let writer = FrameWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
    (memory, writer)
}

#[test]
fn a_fresh_ring_counts_from_its_first_number() {
    let spec = FrameRingSpec {
        first_sequence: 100,
        ..SPEC
    };
    let mut writer = FrameWriter::resume(spec.create().unwrap(), Vec::new()).unwrap();
    assert_eq!(
        (
            writer.generation(),
            writer.next_sequence(),
            writer.ring_id()
        ),
        (1, 100, 42)
    );
    assert_eq!(
        (writer.slots(), writer.depth(), writer.slot_bytes()),
        (6, 2, 5000)
    );
    assert_eq!(publish(&mut writer).unwrap().1, 100);
    assert_eq!(publish(&mut writer).unwrap().1, 101);
}

#[test]
fn slots_are_used_again_last_in_first_out() {
    let (memory, mut writer) = fresh();
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..100 {
        used.insert(publish(&mut writer).unwrap().0);
    }
    assert_eq!(used.len(), 3, "depth + 1 slots, the others stay untouched");
    let populated = rustix::fs::fstat(&memory).unwrap().st_blocks * 512;
    let geometry = *writer.ring.geometry();
    let expected = geometry.payload_offset + 3 * geometry.payload_stride;
    assert_eq!(populated as u64, expected, "and take no memory");
}

#[test]
fn a_pinned_slot_is_not_reused_and_the_writer_goes_on() {
    let (memory, mut writer) = fresh();
    let peer = Peer::join(&mut writer, &memory, 1, 2);
    publish(&mut writer);
    let pinned = peer.pin_newest(0).unwrap();
    for _ in 0..50 {
        assert_ne!(publish(&mut writer).unwrap().0.0, pinned);
    }
    let free = writer.free_slots();
    peer.unpin(0);
    assert_eq!(writer.free_slots(), free + 1, "it is back");
}

#[test]
fn with_every_slot_taken_nothing_is_reserved() {
    let (memory, mut writer) = fresh();
    let peer = Peer::join(&mut writer, &memory, 1, 4);
    for n in 0..4 {
        publish(&mut writer);
        peer.pin_newest(n).unwrap();
    }
    // 4 pinned (2 of them visible), 2 left.
    assert!(publish(&mut writer).is_some());
    assert!(publish(&mut writer).is_some());
    assert!(writer.reserve().is_none());
    assert!(writer.memory_error().is_none());
    peer.unpin(0);
    assert!(publish(&mut writer).is_some(), "one is back at once");
    // What is visible stays readable.
    assert!(peer.pin_newest(0).is_some());
}

#[test]
fn a_slot_that_the_decoder_holds_is_not_reused() {
    let (_memory, mut writer) = fresh();
    let held = writer.reserve().unwrap();
    let d = descriptor(&writer);
    writer.publish(held, &d).unwrap();
    for _ in 0..20 {
        assert_ne!(publish(&mut writer).unwrap().0, held);
    }
    let free = writer.free_slots();
    writer.release(held);
    assert_eq!(writer.free_slots(), free + 1);
}

#[test]
fn an_unpublished_slot_is_free_at_once_and_is_not_published_twice() {
    let (_memory, mut writer) = fresh();
    let slot = writer.reserve().unwrap();
    writer.payload_mut(slot).unwrap().fill(1);
    writer.release(slot);
    assert!(writer.payload_mut(slot).is_none(), "given back");
    assert_eq!(writer.reserve(), Some(slot));
    let d = descriptor(&writer);
    writer.publish(slot, &d).unwrap();
    assert!(
        writer.payload_mut(slot).is_none(),
        "published: subscribers read it"
    );
    let again = writer.publish(slot, &d).unwrap_err();
    assert!(
        matches!(again, RingError::NotReserved { slot: 0..=5 }),
        "{again}"
    );
    assert!(matches!(
        writer.publish(SlotId(200), &d).unwrap_err(),
        RingError::NotReserved { slot: 200 }
    ));
    writer.release(slot);
    writer.release(slot);
    writer.release(SlotId(200));
    assert_eq!(writer.payload(SlotId(200)).1, 0);
    assert_eq!(writer.payload(slot).1, 5000);
    assert_eq!(writer.payload(slot).0.as_ptr() as usize % 4096, 0);
}

#[test]
fn an_impossible_descriptor_is_refused() {
    let (_memory, mut writer) = fresh();
    let slot = writer.reserve().unwrap();
    let too_large = FrameDescriptor::packed(PixelFormat::Gray8, 100, 51, 1).unwrap();
    let error = writer.publish(slot, &too_large).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing published: the picture takes 5100 bytes, its slot has 5000"
    );
    let d = descriptor(&writer);
    assert_eq!(
        writer.publish(slot, &d).unwrap(),
        1,
        "the slot can still be used"
    );
}

#[test]
fn removed_subscribers_pin_nothing() {
    let (memory, mut writer) = fresh();
    let peer = Peer::join(&mut writer, &memory, 7, 4);
    for n in 0..4 {
        publish(&mut writer);
        peer.pin_newest(n).unwrap();
    }
    publish(&mut writer);
    publish(&mut writer);
    assert!(writer.reserve().is_none());
    assert_eq!(writer.subscribers(), 1);
    assert!(writer.remove_subscriber(peer.id));
    assert!(!writer.remove_subscriber(peer.id));
    assert_eq!(writer.subscribers(), 0);
    assert!(publish(&mut writer).is_some());
}

#[test]
fn a_subscriber_is_added_once_and_with_its_pages() {
    let (memory, mut writer) = fresh();
    let _peer = Peer::join(&mut writer, &memory, 7, 1);
    let error = writer
        .add_subscriber(Peer::new(&memory, 7, 1).1)
        .unwrap_err();
    assert_eq!(error.to_string(), "subscriber 7: is there already");
    let pages = SubscriberPages {
        pins: None,
        ..Peer::new(&memory, 8, 1).1
    };
    let error = writer.add_subscriber(pages).unwrap_err();
    assert_eq!(error.to_string(), "subscriber 8: comes without a pin page");
    let small = SealedMemory::create("camring-test", 64).unwrap();
    let pages = SubscriberPages {
        pins: Some(small),
        ..Peer::new(&memory, 9, 1).1
    };
    assert!(writer.add_subscriber(pages).is_err());
    let small = SealedMemory::create("camring-test", 64).unwrap();
    let pages = SubscriberPages {
        bell: small,
        ..Peer::new(&memory, 10, 1).1
    };
    assert!(writer.add_subscriber(pages).is_err());
    assert_eq!(
        writer.subscribers(),
        1,
        "what was refused left nothing behind"
    );
    assert_eq!(writer.pins.0.len(), 1);
}

#[test]
fn a_successor_goes_on_in_the_same_memory() {
    let (memory, mut writer) = fresh();
    let (peer, pages) = Peer::new(&memory, 1, 2);
    writer.add_subscriber(pages).unwrap();
    for _ in 0..5 {
        publish(&mut writer);
    }
    let pinned = peer.pin_newest(0).unwrap();
    let _never_published = writer.reserve().unwrap();
    drop(writer);
    // The broker still has the page.
    let again = SubscriberPages {
        id: 1,
        pins: Some(SealedMemory::create("camring-test", 72).unwrap()),
        bell: BellPage::create().unwrap(),
        notify: None,
    };
    let mut writer = FrameWriter::resume(memory.try_clone().unwrap(), vec![again]).unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 6));
    assert_eq!(
        protocol::newest(&peer.ring),
        Some(Entry {
            sequence: 5,
            slot: pinned
        })
    );
    assert!(protocol::numbered(&peer.ring, 4).is_some(), "still visible");
    for _ in 0..20 {
        publish(&mut writer).unwrap();
    }
    assert_eq!(writer.next_sequence(), 26);
}

#[test]
fn pins_outlive_the_writer() {
    let (memory, mut writer) = fresh();
    let page = PinPage::create(1).unwrap();
    let bell = BellPage::create().unwrap();
    let pages = || SubscriberPages {
        id: 1,
        pins: Some(page.try_clone().unwrap()),
        bell: bell.try_clone().unwrap(),
        notify: None,
    };
    writer.add_subscriber(pages()).unwrap();
    let ring = MappedFrames::new(Mapping::read_only(&memory).unwrap()).unwrap();
    let peer = Peer {
        ring,
        pins: Pins::map(page.try_clone().unwrap()).unwrap(),
        id: 1,
    };
    publish(&mut writer);
    let pinned = peer.pin_newest(0).unwrap();
    drop(writer);
    let mut writer = FrameWriter::resume(memory, vec![pages()]).unwrap();
    for _ in 0..30 {
        assert_ne!(publish(&mut writer).unwrap().0.0, pinned);
    }
}

#[test]
fn closing_is_seen() {
    for (reason, state) in [
        (CloseReason::Replaced, RingState::Replaced),
        (CloseReason::Removed, RingState::Removed),
    ] {
        let (memory, mut writer) = fresh();
        let peer = Peer::join(&mut writer, &memory, 1, 1);
        publish(&mut writer);
        assert_eq!(peer.ring.state(), RingState::Open);
        writer.close(reason);
        assert_eq!(peer.ring.state(), state);
        assert!(
            peer.pin_newest(0).is_some(),
            "what was visible can still be read"
        );
    }
}

#[test]
fn impossible_specs_are_named() {
    let error = |spec: FrameRingSpec| spec.create().unwrap_err().to_string();
    assert!(error(FrameRingSpec { slots: 256, ..SPEC }).contains("slots = 256: 2 to 255"));
    assert!(error(FrameRingSpec { slots: 1, ..SPEC }).contains("slots = 1"));
    assert!(error(FrameRingSpec { depth: 6, ..SPEC }).contains("depth = 6: 1 to slots - 1 = 5"));
    assert!(error(FrameRingSpec { depth: 0, ..SPEC }).contains("depth = 0"));
    assert!(
        error(FrameRingSpec {
            slot_bytes: 0,
            ..SPEC
        })
        .contains("slot_bytes = 0")
    );
    assert!(
        error(FrameRingSpec {
            slot_bytes: u64::MAX,
            ..SPEC
        })
        .contains("slot_bytes")
    );
    assert!(
        error(FrameRingSpec {
            first_sequence: 0,
            ..SPEC
        })
        .contains("first_sequence = 0")
    );
    assert!(
        error(FrameRingSpec {
            first_sequence: MAX_SEQUENCE,
            ..SPEC
        })
        .contains("first_sequence")
    );
    let largest = FrameRingSpec {
        depth: 254,
        slots: 255,
        slot_bytes: 2 << 30,
        ..SPEC
    };
    assert_eq!(largest.file_size().unwrap() % 4096, 0);
}

#[test]
fn numbers_that_cannot_be_counted_on_end_the_ring() {
    let (memory, writer) = fresh();
    writer.ring.sequence(3).store(u64::MAX, Ordering::Relaxed);
    drop(writer);
    let error = FrameWriter::resume(memory, Vec::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("sequence is 18446744073709551615"),
        "{error}"
    );
}

#[test]
fn all_slots_can_be_used() {
    let spec = FrameRingSpec {
        depth: 254,
        slots: 255,
        slot_bytes: 1,
        ..SPEC
    };
    let memory = spec.create().unwrap();
    let mut writer = FrameWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
    let d = FrameDescriptor::packed(PixelFormat::Gray8, 1, 1, 1).unwrap();
    for n in 1..1000 {
        let slot = writer.reserve().unwrap();
        writer.payload_mut(slot).unwrap()[0] = n as u8;
        assert_eq!(writer.publish(slot, &d).unwrap(), n);
        writer.release(slot);
    }
    let ring = MappedFrames::new(Mapping::read_only(&memory).unwrap()).unwrap();
    for sequence in 999 - 254..1000 {
        assert!(protocol::numbered(&ring, sequence).is_some(), "{sequence}");
    }
}

/// What may be written anywhere in a ring's header by a writer gone bad.
fn scribbles() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let value = prop_oneof![
        any::<u64>(),
        0u64..1000,
        Just(u64::MAX),
        Just(1 << 63),
        (0u64..60).prop_map(|n| 1 << n),
        (0u64..300, 0u64..300).prop_map(|(sequence, slot)| sequence << 8 | slot),
    ];
    proptest::collection::vec((0usize..200, value), 0..40)
}

fn scribble(memory: &SealedMemory, words: &[(usize, u64)]) {
    let map = Mapping::read_write(memory.try_clone().unwrap()).unwrap();
    for (word, value) in words {
        if word * 8 + 8 <= map.len() {
            map.u64_at(word * 8).store(*value, Ordering::Relaxed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Neither a subscriber nor a successor panics or leaves the mapping, whatever a ring holds.
    #[test]
    fn a_scribbled_ring_hurts_nobody(words in scribbles(), header in any::<bool>()) {
        let (memory, mut writer) = fresh();
        let peer = Peer::join(&mut writer, &memory, 1, 2);
        for _ in 0..4 { publish(&mut writer); }
        drop(writer);
        let mut words = words;
        if !header {
            // Past the constant part, so that it still looks like a ring.
            words.retain(|(word, _)| *word >= 16);
        }
        scribble(&memory, &words);
        // A subscriber that was there already: its geometry is its own copy.
        for sequence in 0..10 {
            for entry in [protocol::newest(&peer.ring), protocol::numbered(&peer.ring, sequence)] {
                let Some(entry) = entry else { continue };
                let mut raw = [0; DESCRIPTOR_WORDS];
                if protocol::pin(&peer.ring, &peer.pins.words()[0], entry, &mut raw) {
                    prop_assert!(peer.ring.payload(entry.slot).is_some());
                    if let Ok(d) = FrameDescriptor::from_words(entry.sequence, &raw) {
                        let _ = d.check(SPEC.slot_bytes);
                    }
                }
            }
        }
        let _ = peer.ring.state();
        // One that comes now.
        if let Ok(ring) = MappedFrames::new(Mapping::read_only(&memory).unwrap()) {
            let geometry = *ring.geometry();
            prop_assert_eq!(geometry.file_bytes, memory.len());
            let _ = protocol::newest(&ring);
        }
        // A successor.
        if let Ok(mut writer) = FrameWriter::resume(memory, Vec::new()) {
            let mut last = 0;
            for _ in 0..10 {
                if let Some((_, sequence)) = publish(&mut writer) {
                    prop_assert!(sequence > last);
                    last = sequence;
                }
            }
            prop_assert!(last != 0, "it recovers");
        }
    }

    /// The writer loses at most as many slots as there are hostile words.
    #[test]
    fn scribbled_pins_cost_their_quota_only(values in proptest::collection::vec(any::<u64>(), 2..60), small in any::<bool>()) {
        let (memory, mut writer) = fresh();
        let peer = Peer::join(&mut writer, &memory, 1, 2);
        for pair in values.chunks_exact(2) {
            for (word, value) in peer.pins.words().iter().zip(pair) {
                word.store(if small { value % 8 } else { *value }, Ordering::Relaxed);
            }
            prop_assert!(publish(&mut writer).is_some(), "depth 2 + 1 + 2 pins of 6 slots");
        }
    }
}
