use super::*;
use crate::media::Codec;
use crate::recording::{Chunk, IndexReader, Tree};

/// 1280 × 720, main profile, as a camera sends it.
const SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x4d, 0x40, 0x1f, 0xec, 0xa0, 0x28, 0x02, 0xdd, 0x80, 0xb5, 0x01, 0x01, 0x01,
    0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x03, 0xc6, 0x0c, 0x65, 0x80, 0, 0, 0, 1,
    0x68, 0xef, 0xbc, 0x80,
];
/// Two pictures a second.
const STEP: i64 = VIDEO_TIMESCALE as i64 / 2;

fn push(writer: &mut RenditionWriter, number: i64, key: bool, len: usize) {
    let sample = Sample {
        codec: Codec::H264,
        dts: number * STEP,
        pts: number * STEP,
        key,
        capture_ns: 1_700_000_000_000_000_000 + number * 500_000_000,
        sender_report: false,
        follows: Follows::On,
        loss_before: false,
    };
    let mut unit = match key {
        true => SETS.to_vec(),
        false => Vec::new(),
    };
    unit.extend_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
    unit.resize(unit.len() + len, 0x88);
    writer.push(sample, &unit);
}

fn writer(folder: &std::path::Path) -> RenditionWriter {
    let cut = Cut {
        segment: Duration::from_secs(2),
        part: Duration::from_millis(200),
    };
    let rendition = Tree::new(folder).rendition("door", Rendition::SOURCE);
    RenditionWriter::open(rendition, cut).unwrap()
}

/// The files with their chunks, in order.
fn files(writer: &RenditionWriter) -> Vec<(u64, Vec<Chunk>)> {
    let rendition = writer.rendition();
    let hours = rendition.hours().unwrap().into_iter();
    let names = hours.flat_map(|hour| hour.files().unwrap());
    let mut files: Vec<(u64, Vec<Chunk>)> = names
        .map(|name| {
            let mut index = IndexReader::open(&rendition.index(&name)).unwrap();
            (name.discontinuity_sequence, index.next_chunks().unwrap())
        })
        .collect();
    files.sort_by_key(|(_, chunks)| chunks[0].media_sequence);
    files
}

#[test]
fn without_key_frames_a_segment_ends_all_the_same_and_the_next_waits_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    // 15 minutes without a key frame but the first, then one.
    let last = 15 * 60 * 2;
    for number in 0..last {
        push(&mut writer, number, number == 0, 10);
    }
    assert!(!writer.is_recording());
    let recorded = writer.counts().units;
    assert!((600..=603).contains(&recorded), "{recorded}");
    assert_eq!(recorded + writer.counts().units_dropped, last as u64);
    for number in last..last + 8 {
        push(&mut writer, number, number == last, 10);
    }
    assert!(writer.is_recording());
    writer.finish();
    let files = files(&writer);
    assert_eq!(files.len(), 2);
    // What is missing is a break.
    assert_eq!((files[0].0, files[1].0), (0, 1));
    let end = files[0].1.last().unwrap();
    assert!(end.flags.contains(ChunkFlags::SEGMENT_END));
    assert!(end.decode_time <= LONGEST_SEGMENT + STEP);
    assert!(files[1].1[0].flags.contains(ChunkFlags::INDEPENDENT));
    assert_eq!(files[1].1[0].decode_time, last * STEP);
}

#[test]
fn a_segment_has_so_many_bytes_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for number in 0..6 {
        push(&mut writer, number, number == 0, 10);
    }
    assert!(writer.is_recording());
    let segment = writer.segment.as_mut().unwrap();
    assert!(segment.bytes > 0);
    segment.bytes = LARGEST_SEGMENT + 1;
    push(&mut writer, 6, false, 10);
    assert!(!writer.is_recording());
}

/// A disk that hangs must not cost a thread and two descriptors for each file.
#[test]
fn so_many_files_are_flushed_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for number in 0..4 {
        push(&mut writer, number, number == 0, 10);
    }
    assert!(writer.is_recording());
    // What threads that wait for the disk hold.
    let hanging = vec![Arc::clone(&writer.write_errors); 64];
    writer.interrupt();
    let trouble = writer.trouble().unwrap();
    assert!(trouble.text.contains("the disk hangs"), "{trouble:?}");
    assert!(writer.file.is_none() && writer.write_errors() == 1);
    drop(hanging);
    // It takes files again: what was committed is there, and recording goes on behind a break.
    writer.trouble = None;
    for number in 4..12 {
        push(&mut writer, number, number == 4, 10);
    }
    assert!(writer.is_recording());
    writer.finish();
    let files = files(&writer);
    assert_eq!(files.len(), 2);
    assert_eq!((files[0].0, files[1].0), (0, 1));
    let pictures: usize = files[0].1.iter().map(|chunk| chunk.frames.len()).sum();
    assert_eq!(pictures, 4);
}
