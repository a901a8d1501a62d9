use std::fs;
use std::io::Write as _;

use super::*;

fn header(init: InitId) -> Header {
    Header {
        timescale: 90_000,
        sender_report: true,
        media_sequence: 12,
        discontinuity_sequence: 3,
        init,
        anchor_time: 1_000,
        anchor_utc_ns: 1_700_000_000_123_456_789,
        part_target_us: 200_000,
        segment_target_us: 2_000_000,
    }
}

fn chunk(header: &Header, media_sequence: u64, part: u32, flags: ChunkFlags) -> Chunk {
    let decode_time = 90_000 + i64::from(part) * 18_000;
    let frames = (0..5).map(|n| {
        let time = decode_time + n * 3_600;
        FrameTime {
            time,
            capture_ns: header.utc_ns(time) + n * 1_000_000,
            flags: FrameFlags(u32::from(n == 0)),
        }
    });
    Chunk {
        media_sequence,
        part,
        flags,
        offset: 0,
        len: 0,
        decode_time,
        duration: 18_000,
        frames: frames.collect(),
    }
}

fn place() -> (tempfile::TempDir, Rendition) {
    let folder = tempfile::tempdir().unwrap();
    let rendition = Tree::new(folder.path()).rendition("front-door/main", Rendition::SOURCE);
    fs::create_dir_all(&rendition.folder).unwrap();
    (folder, rendition)
}

#[test]
fn names_are_read_back_in_one_spelling() {
    let name = FileName {
        start_ms: 1_700_000_000_123,
        media_sequence: 12_345,
        discontinuity_sequence: 3,
        init: InitId(0x0123_4567_89ab_cdef),
    };
    let text = "20231114T221320.123Z-12345-3-0123456789abcdef";
    assert_eq!(name.to_string(), text);
    assert_eq!(name.hour(), "20231114T22");
    assert_eq!(FileName::of_file(&name.data()), Some(name));
    assert_eq!(FileName::of_file(&name.index()), Some(name));
    for wrong in [
        "20231114T221320.123Z-012345-3-0123456789abcdef",
        "20231114T221320.123Z-+12345-3-0123456789abcdef",
        "20231114T221320.123Z-12345-3-0123456789ABCDEF",
        "20231114T221320.123Z-12345-3-0123456789abcdef-",
        "20231314T221320.123Z-12345-3-0123456789abcdef",
        "",
        "../../etc/passwd",
    ] {
        assert_eq!(FileName::of_file(&format!("{wrong}.m4s")), None, "{wrong}");
    }
    assert_eq!(FileName::of_file(text), None);
}

#[test]
fn numbers_from_which_none_can_be_counted_are_nobodys() {
    let (_folder, rendition) = place();
    let init = write_init(&rendition, b"init").unwrap();
    for (segment, number) in [(u64::MAX, 0), (0, u64::MAX), ((1 << 53) + 1, 0)] {
        let name = format!("20261121T080000.000Z-{segment}-{number}-{init}");
        assert!(name.parse::<FileName>().is_err(), "{name}");
        // Neither is the file gone on from, nor an index or a lock that says so.
        let hour = rendition.folder.join("20261121T08");
        fs::create_dir_all(&hour).unwrap();
        fs::write(hour.join(format!("{name}.m4s")), "media").unwrap();
        let header = Header {
            media_sequence: segment,
            discontinuity_sequence: number,
            ..header(init)
        };
        let index = hour.join("x.idx");
        fs::write(&index, header.encode()).unwrap();
        assert!(IndexReader::open(&index).is_err());
        let lock = Lock::take(&rendition).unwrap();
        let numbers = Numbers {
            newest_file: 7,
            media_sequence: segment,
            discontinuity_sequence: number,
        };
        lock.keep_numbers(numbers).unwrap();
        assert_eq!(lock.numbers().unwrap(), Numbers::default());
    }
    assert_eq!(recover(&rendition).unwrap(), Resumed::default());
    let largest = format!("20261121T080000.000Z-{}-0-{init}", 1_u64 << 53);
    assert_eq!(largest.parse::<FileName>().unwrap().media_sequence, 1 << 53);
}

#[test]
fn every_stream_has_one_folder_and_no_folder_leads_elsewhere() {
    for id in ["front-door", "front-door/main", "..", "./x", "-", "a.b/c.d"] {
        let folder = stream_folder(id);
        assert!(
            !folder.starts_with('.') && !folder.contains('/'),
            "{folder}"
        );
        assert_eq!(stream_of(&folder).as_deref(), Some(id));
    }
    for folder in ["..", ".", "", "a@b@c", "lost+found", "@", "a b", ".hidden"] {
        let stream = stream_of(folder);
        assert!(stream.is_none(), "{folder}: {stream:?}");
    }
}

#[test]
fn the_map_from_media_time_to_utc_goes_both_ways() {
    let header = header(InitId(1));
    assert_eq!(header.utc_ns(1_000), header.anchor_utc_ns);
    assert_eq!(header.utc_ns(91_000), header.anchor_utc_ns + 1_000_000_000);
    for time in [-90_000_000_000, 0, 1_001, 3_723_000_001] {
        assert!(
            (header.time(header.utc_ns(time)) - time).abs() <= 1,
            "{time}"
        );
    }
    // Absurd ones do not overflow.
    assert_eq!(header.utc_ns(i64::MAX), i64::MAX);
    header.time(i64::MIN);
}

#[test]
fn what_is_committed_is_read_while_the_file_grows() {
    let (_folder, rendition) = place();
    let init = write_init(&rendition, b"init").unwrap();
    assert_eq!(write_init(&rendition, b"init").unwrap(), init);
    let header = header(init);
    let mut file = MinuteFile::create(&rendition, 1_700_000_000_000, header).unwrap();
    let hours = rendition.hours().unwrap();
    let names = hours[0].files().unwrap();
    assert_eq!((hours.len(), names.len()), (1, 1));
    let mut reader = IndexReader::open(&rendition.index(&names[0])).unwrap();
    assert_eq!(*reader.header(), header);
    assert_eq!(reader.next_chunks().unwrap(), []);
    let start = ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
    file.append(b"first", chunk(&header, 12, 0, start)).unwrap();
    file.append(b"second!", chunk(&header, 12, 1, ChunkFlags::default()))
        .unwrap();
    let chunks = reader.next_chunks().unwrap();
    assert_eq!(chunks.len(), 2);
    assert_eq!((chunks[1].offset, chunks[1].len), (5, 7));
    // Capture times to the microsecond.
    let made = chunk(&header, 12, 0, start);
    for (read, made) in chunks[0].frames.iter().zip(&made.frames) {
        assert_eq!((read.time, read.flags), (made.time, made.flags));
        assert!((read.capture_ns - made.capture_ns).abs() <= 500);
    }
    assert_eq!(reader.next_chunks().unwrap(), []);
    file.end_segment().unwrap();
    file.end_segment().unwrap();
    let end = reader.next_chunks().unwrap();
    assert_eq!(end.len(), 1);
    assert_eq!((end[0].len, end[0].flags), (0, ChunkFlags::SEGMENT_END));
    file.finish().unwrap();
    let found = Tree::new(_folder.path()).renditions().unwrap();
    assert_eq!(found, [rendition]);
}

#[test]
fn after_a_crash_the_tail_is_cut_off_wherever_it_came() {
    let (_folder, rendition) = place();
    assert_eq!(recover(&rendition).unwrap(), Resumed::default());
    let header = header(write_init(&rendition, b"init").unwrap());
    let mut file = MinuteFile::create(&rendition, 1_700_000_000_000, header).unwrap();
    let start = ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
    file.append(b"first", chunk(&header, 12, 0, start)).unwrap();
    file.append(b"second", chunk(&header, 12, 1, ChunkFlags::default()))
        .unwrap();
    drop(file);
    let name = rendition.hours().unwrap()[0].files().unwrap()[0];
    let (data, index) = (rendition.data(&name), rendition.index(&name));
    let whole = fs::read(&index).unwrap();
    let record = (whole.len() - 68) / 2;
    for cut in (68..=whole.len()).rev() {
        fs::write(&index, &whole[..cut]).unwrap();
        fs::write(&data, b"firstsecondhalf").unwrap();
        let resumed = recover(&rendition).unwrap();
        let records = (cut - 68) / record;
        let kept = [0, 5, 11][records];
        if records == 0 {
            assert!(!data.exists() && !index.exists());
            assert_eq!(resumed.media_sequence, 12);
            continue;
        }
        assert_eq!(resumed.media_sequence, 13);
        assert_eq!(resumed.discontinuity_sequence, 4);
        assert_eq!(resumed.cut, 15 - kept);
        assert_eq!(fs::metadata(&data).unwrap().len(), kept);
        let chunks = IndexReader::open(&index).unwrap().next_chunks().unwrap();
        assert_eq!(chunks.len(), records + 1);
        assert_eq!(chunks[records].flags, ChunkFlags::SEGMENT_END);
        // Once more changes nothing.
        assert_eq!(recover(&rendition).unwrap().cut, 0);
        let again = IndexReader::open(&index).unwrap().next_chunks().unwrap();
        assert_eq!(again, chunks);
    }
}

#[test]
fn media_that_a_power_cut_has_lost_is_not_listed() {
    let (_folder, rendition) = place();
    let header = header(write_init(&rendition, b"init").unwrap());
    let mut file = MinuteFile::create(&rendition, 1_700_000_000_000, header).unwrap();
    let start = ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
    file.append(b"first", chunk(&header, 12, 0, start)).unwrap();
    file.append(b"second", chunk(&header, 13, 0, start))
        .unwrap();
    drop(file);
    let name = rendition.hours().unwrap()[0].files().unwrap()[0];
    fs::write(rendition.data(&name), b"firstsec").unwrap();
    let resumed = recover(&rendition).unwrap();
    // Segment 13 was told of: what comes is none that a viewer has seen.
    assert_eq!((resumed.media_sequence, resumed.cut), (14, 3));
    let mut reader = IndexReader::open(&rendition.index(&name)).unwrap();
    assert_eq!(reader.next_chunks().unwrap().len(), 2);
    // Nothing of the media is left.
    fs::write(rendition.data(&name), b"").unwrap();
    let resumed = recover(&rendition).unwrap();
    assert_eq!(rendition.hours().unwrap()[0].files().unwrap(), []);
    assert_eq!(
        (resumed.media_sequence, resumed.discontinuity_sequence),
        (13, header.discontinuity_sequence + 1)
    );
}

#[test]
fn no_index_file_panics_its_reader() {
    let (folder, rendition) = place();
    let header = header(write_init(&rendition, b"init").unwrap());
    let mut file = MinuteFile::create(&rendition, 1_700_000_000_000, header).unwrap();
    let start = ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
    file.append(b"first", chunk(&header, 12, 0, start)).unwrap();
    file.finish().unwrap();
    let name = rendition.hours().unwrap()[0].files().unwrap()[0];
    let whole = fs::read(rendition.index(&name)).unwrap();
    let path = folder.path().join("broken.idx");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        let mut broken = fs::File::create(&path).unwrap();
        broken.write_all(&bytes).unwrap();
        // Every byte is covered by a checksum.
        let chunks = IndexReader::open(&path).map(|mut r| r.next_chunks().unwrap());
        assert!(chunks.is_err() || chunks.unwrap().is_empty(), "byte {at}");
    }
}

#[test]
fn a_rendition_has_one_writer() {
    let (_folder, rendition) = place();
    let lock = Lock::take(&rendition).unwrap();
    let second = Lock::take(&rendition).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    drop(lock);
    Lock::take(&rendition).unwrap();
}
