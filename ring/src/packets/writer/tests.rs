use super::*;
use crate::bell::BellPage;
use crate::packets::geometry::PacketRingSpec;
use crate::packets::protocol::{GROWTH_STEP, PacketWords};
use crate::packets::reader::PacketReader;
use crate::packets::unit::Codec;
use proptest::prelude::*;

const SPEC: PacketRingSpec = PacketRingSpec {
    capacity: 8 << 20,
    units: 256,
    ring_id: 5,
};

fn unit(flags: UnitFlags) -> UnitDescriptor {
    UnitDescriptor {
        sequence: 0,
        len: 0,
        codec: Codec::H264,
        flags,
        pts: -5,
        dts: -5,
        time_base_den: 90_000,
        capture_time_ns: 1_700_000_000_000_000_000,
        arrival_ns: 99,
        width: 1280,
        height: 720,
        generation: 0,
    }
}

/// Bytes that say which unit they are of.
fn bytes(sequence: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (sequence as usize * 31 + n) as u8)
        .collect()
}

fn append(writer: &mut PacketWriter, len: usize, key: bool) -> Appended {
    let flags = if key { UnitFlags::KEY } else { UnitFlags::NONE };
    let bytes = bytes(writer.next_sequence(), len);
    writer.append(&unit(flags), &bytes).unwrap()
}

fn fresh(spec: PacketRingSpec) -> (SealedMemory, PacketWriter, PacketReader) {
    let memory = spec.create().unwrap();
    let writer = PacketWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
    let reader = PacketReader::new(&memory).unwrap();
    (memory, writer, reader)
}

#[test]
fn units_come_out_as_they_went_in() {
    let (_memory, mut writer, mut reader) = fresh(SPEC);
    let mut out = vec![9; 3];
    assert_eq!(reader.next(&mut out).unwrap(), None);
    assert!(out.is_empty());
    for (n, len) in [1usize, 7, 8, 9, 1000, 70_000].into_iter().enumerate() {
        let sequence = n as u64 + 1;
        let stored = append(&mut writer, len, n == 0);
        assert_eq!(stored, Appended::Stored { sequence });
        let got = reader.next(&mut out).unwrap().unwrap();
        assert_eq!(out, bytes(sequence, len));
        let flags = if n == 0 {
            UnitFlags::KEY
        } else {
            UnitFlags::NONE
        };
        let expected = UnitDescriptor {
            sequence,
            len: len as u32,
            generation: 1,
            ..unit(flags)
        };
        assert_eq!(got, expected);
        assert_eq!(reader.missed(), 0);
    }
    assert_eq!(reader.newest_key(), Some(1));
    assert_eq!(reader.available(), 1..7);
    assert_eq!(reader.read(3, &mut out).unwrap().unwrap().len, 8);
    assert_eq!(reader.read(7, &mut out).unwrap(), None);
    assert_eq!(reader.read(u64::MAX, &mut out).unwrap(), None);
    assert_eq!(reader.read(0, &mut out).unwrap(), None);
}

#[test]
fn a_reader_that_is_late_learns_how_much_it_missed() {
    let (_memory, mut writer, mut reader) = fresh(SPEC);
    for _ in 0..300 {
        append(&mut writer, 10_000, true);
    }
    let oldest = reader.available().start;
    assert!(oldest > 1);
    let mut out = Vec::new();
    let first = reader.next(&mut out).unwrap().unwrap();
    assert_eq!(first.sequence, oldest);
    assert_eq!(reader.missed(), oldest - 1);
    assert_eq!(
        reader.from_newest_key(&mut out).unwrap().unwrap().sequence,
        300
    );
    assert_eq!(reader.next(&mut out).unwrap(), None);
}

#[test]
fn small_gops_stay_within_the_first_mebibyte() {
    let (memory, mut writer, _reader) = fresh(SPEC);
    for n in 0..500 {
        append(&mut writer, 10_000, n % 30 == 0);
        assert!(!writer.gop_incomplete());
    }
    assert!(writer.used_bytes() <= 1 << 20);
    assert!(writer.used_bytes().is_multiple_of(GROWTH_STEP));
    let resident = rustix::fs::fstat(&memory).unwrap().st_blocks * 512;
    assert!(
        resident as u64 <= writer.used_bytes() + 64 * 1024,
        "{resident}"
    );
}

#[test]
fn the_ring_grows_to_keep_the_newest_gop() {
    let (_memory, mut writer, reader) = fresh(SPEC);
    let mut out = Vec::new();
    let mut key = 0;
    // GOPs of 3 MB in a ring that begins with 256 KiB.
    for n in 0..1000u64 {
        let is_key = n % 60 == 0;
        let Appended::Stored { sequence } = append(&mut writer, 50_000, is_key) else {
            panic!("there is room");
        };
        if is_key {
            key = sequence;
        }
        assert_eq!(reader.newest_key(), Some(key));
        if n % 37 == 0 {
            for s in key..=sequence {
                assert!(
                    reader.read(s, &mut out).unwrap().is_some(),
                    "unit {s} of GOP {key}"
                );
                assert_eq!(out, bytes(s, 50_000));
            }
        }
        assert!(!writer.gop_incomplete());
    }
    assert!(writer.used_bytes() > 3_000_000 && writer.used_bytes() <= 7 << 20);
}

#[test]
fn a_gop_larger_than_the_ring_is_said_to_be_incomplete() {
    let (_memory, mut writer, mut reader) = fresh(PacketRingSpec {
        capacity: 2 << 20,
        ..SPEC
    });
    let mut out = Vec::new();
    for n in 0..100 {
        append(&mut writer, 50_000, n == 0);
    }
    assert!(writer.gop_incomplete());
    assert_eq!(reader.newest_key(), None, "its key frame is overwritten");
    assert_eq!(reader.from_newest_key(&mut out).unwrap(), None);
    let newest = reader.available().end - 1;
    let last = reader.read(newest, &mut out).unwrap().unwrap();
    assert!(last.flags.contains(UnitFlags::GOP_INCOMPLETE));
    assert_eq!(out, bytes(newest, 50_000));
    append(&mut writer, 50_000, true);
    assert!(!writer.gop_incomplete());
    let key = reader.from_newest_key(&mut out).unwrap().unwrap();
    assert_eq!(key.flags, UnitFlags::KEY);
}

#[test]
fn a_unit_over_the_cap_is_left_out_and_said() {
    let (_memory, mut writer, reader) = fresh(PacketRingSpec {
        capacity: 2 << 20,
        ..SPEC
    });
    append(&mut writer, 1000, true);
    let big = append(&mut writer, (2 << 20) + 1, false);
    assert_eq!(
        big,
        Appended::Skipped {
            len: (2 << 20) + 1,
            limit: 2 << 20
        }
    );
    assert!(writer.gop_incomplete());
    assert!(matches!(
        writer.append(&unit(UnitFlags::NONE), &[]),
        Ok(Appended::Skipped { len: 0, .. })
    ));
    let mut out = Vec::new();
    let flags = |writer: &mut PacketWriter, key: bool, out: &mut Vec<u8>| {
        let Appended::Stored { sequence } = append(writer, 10, key) else {
            panic!("it fits")
        };
        reader.read(sequence, out).unwrap().unwrap().flags
    };
    let gap = UnitFlags::DISCONTINUITY | UnitFlags::GOP_INCOMPLETE;
    assert_eq!(flags(&mut writer, false, &mut out), gap);
    assert_eq!(
        flags(&mut writer, false, &mut out),
        UnitFlags::GOP_INCOMPLETE
    );
    assert_eq!(flags(&mut writer, true, &mut out), UnitFlags::KEY);
    // The largest that fits.
    assert!(matches!(
        append(&mut writer, 2 << 20, true),
        Appended::Stored { .. }
    ));
    assert_eq!(writer.used_bytes(), 2 << 20);
}

#[test]
fn a_successor_goes_on_with_a_discontinuity() {
    let (memory, mut writer, mut reader) = fresh(SPEC);
    for n in 0..20 {
        append(&mut writer, 100_000, n % 10 == 0);
    }
    drop(writer);
    let mut writer = PacketWriter::resume(memory, Vec::new()).unwrap();
    assert_eq!((writer.generation(), writer.next_sequence()), (2, 21));
    assert_eq!(reader.newest_key(), Some(11));
    let mut out = Vec::new();
    assert!(reader.from_newest_key(&mut out).unwrap().is_some());
    append(&mut writer, 500, false);
    let first = reader.read(21, &mut out).unwrap().unwrap();
    assert_eq!(
        first.flags,
        UnitFlags::DISCONTINUITY | UnitFlags::GOP_INCOMPLETE
    );
    assert_eq!(first.generation, 2);
    for sequence in 11..=20 {
        assert!(reader.read(sequence, &mut out).unwrap().is_some());
        assert_eq!(out, bytes(sequence, 100_000));
    }
    assert_eq!(reader.generation(), 2);
}

#[test]
fn a_fresh_ring_begins_without_a_discontinuity() {
    let (_memory, mut writer, reader) = fresh(SPEC);
    assert!(writer.gop_incomplete(), "there is none");
    append(&mut writer, 5, false);
    let mut out = Vec::new();
    let first = reader.read(1, &mut out).unwrap().unwrap();
    assert_eq!(first.flags, UnitFlags::GOP_INCOMPLETE);
}

#[test]
fn decoding_time_lies_at_most_the_delay_before_presentation() {
    let (_memory, mut writer, mut reader) = fresh(SPEC);
    let mut out = Vec::new();
    const MOST: i64 = (1 << 24) - 1;
    for (pts, dts, read) in [
        (7_200, 0, 0),
        (7_200, 7_200, 7_200),
        (MOST, 0, 0),
        (MOST + 1, 0, 1),
        (i64::MAX, i64::MIN, i64::MAX - MOST),
        // A decoding time after the presentation makes no sense.
        (i64::MIN, i64::MAX, i64::MIN),
        (5, 6, 5),
    ] {
        let times = UnitDescriptor {
            pts,
            dts,
            ..unit(UnitFlags::KEY)
        };
        writer.append(&times, &[1]).unwrap();
        let got = reader.next(&mut out).unwrap().unwrap();
        assert_eq!((got.codec, got.pts, got.dts), (Codec::H264, pts, read));
    }
}

#[test]
fn impossible_descriptors_are_refused() {
    let (_memory, mut writer, _reader) = fresh(SPEC);
    let wide = UnitDescriptor {
        width: 70_000,
        ..unit(UnitFlags::KEY)
    };
    assert!(matches!(
        writer.append(&wide, &[1]),
        Err(RingError::Descriptor(_))
    ));
    let timeless = UnitDescriptor {
        time_base_den: 0,
        ..unit(UnitFlags::KEY)
    };
    assert!(matches!(
        writer.append(&timeless, &[1]),
        Err(RingError::Descriptor(_))
    ));
    let error = |spec: PacketRingSpec| spec.create().unwrap_err().to_string();
    assert!(error(PacketRingSpec { units: 100, ..SPEC }).contains("units = 100: a power of two"));
    assert!(error(PacketRingSpec { units: 1, ..SPEC }).contains("units = 1"));
    assert!(
        error(PacketRingSpec {
            capacity: 0,
            ..SPEC
        })
        .contains("capacity = 0")
    );
    assert!(
        error(PacketRingSpec {
            capacity: u64::MAX,
            ..SPEC
        })
        .contains("capacity")
    );
}

#[test]
fn subscribers_are_added_once() {
    let (_memory, mut writer, _reader) = fresh(SPEC);
    let pages = |id| SubscriberPages {
        id,
        pins: None,
        bell: BellPage::create().unwrap(),
        notify: None,
    };
    writer.add_subscriber(pages(1)).unwrap();
    assert!(writer.add_subscriber(pages(1)).is_err());
    assert_eq!(writer.subscribers(), 1);
    assert!(writer.remove_subscriber(1));
    assert!(!writer.remove_subscriber(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the sizes: what is read is what was written, the newest unit is there, and the
    /// newest GOP too while it is said to be complete.
    #[test]
    fn whatever_the_sizes(
        units in proptest::collection::vec((1usize..150_000, any::<u8>()), 1..60),
        capacity in 1u64..2_500_000, index in 1u32..7, restart in 0usize..60,
    ) {
        let spec = PacketRingSpec { capacity, units: 1 << index, ring_id: 1 };
        let (memory, mut writer, reader) = fresh(spec);
        let mut lengths = std::collections::BTreeMap::new();
        let mut out = Vec::new();
        for (n, (len, dice)) in units.iter().enumerate() {
            if n == restart {
                writer = PacketWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
            }
            match append(&mut writer, *len, dice % 8 == 0) {
                Appended::Stored { sequence } => {
                    lengths.insert(sequence, *len);
                    prop_assert!(reader.read(sequence, &mut out).unwrap().is_some());
                    prop_assert_eq!(&out, &bytes(sequence, *len));
                }
                Appended::Skipped { limit, .. } => prop_assert!(*len as u64 > limit),
            }
        }
        for sequence in reader.available() {
            let read = reader.read(sequence, &mut out).unwrap();
            prop_assert!(read.is_some(), "nobody writes now");
            prop_assert_eq!(&out, &bytes(sequence, lengths[&sequence]));
        }
        if !writer.gop_incomplete() {
            prop_assert!(reader.newest_key().is_some());
        }
    }

    /// Neither a reader nor a successor panics, leaves the mapping or allocates without bound,
    /// whatever a ring holds.
    #[test]
    fn a_scribbled_ring_hurts_nobody(
        words in proptest::collection::vec((0usize..120, prop_oneof![any::<u64>(), 0u64..500, Just(u64::MAX)]), 0..40),
        header in any::<bool>(),
    ) {
        let spec = PacketRingSpec { capacity: 65536, units: 8, ring_id: 1 };
        let (memory, mut writer, mut reader) = fresh(spec);
        for n in 0..20 { append(&mut writer, 3000, n % 4 == 0); }
        drop(writer);
        let map = Mapping::read_write(memory.try_clone().unwrap()).unwrap();
        for (word, value) in &words {
            if header || *word >= 16 {
                map.u64_at(word * 8).store(*value, Ordering::Relaxed);
            }
        }
        let mut out = Vec::new();
        for _ in 0..20 { let _ = reader.next(&mut out); }
        for sequence in [0, 1, 19, 20, 21, u64::MAX] { let _ = reader.read(sequence, &mut out); }
        let _ = reader.from_newest_key(&mut out);
        reader.seek(u64::MAX);
        let _ = reader.next(&mut out);
        let _ = reader.available();
        prop_assert!(out.capacity() <= 1 << 20);
        if let Ok(mut reader) = PacketReader::new(&memory) { let _ = reader.next(&mut out); }
        if let Ok(mut writer) = PacketWriter::resume(memory, Vec::new()) {
            for n in 0..20 {
                let key = n % 4 == 0;
                if let Appended::Stored { sequence } = append(&mut writer, 3000, key) {
                    prop_assert!(writer.ring.next().load(Ordering::Relaxed) == sequence + 1);
                }
            }
        }
    }
}
