use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::recording::{
    Chunk, ChunkFlags, FrameFlags, FrameTime, Header, InitId, MinuteFile, Rendition, write_init,
};

const START_NS: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Writes as `hls` does: 25 pictures a second, in parts of 200 ms.
struct Writer {
    rendition: Rendition,
    init: InitId,
    file: Option<MinuteFile>,
    sequence: u64,
    part: u32,
    time: i64,
    discontinuity: u64,
}

impl Writer {
    fn new(data_dir: &Path, stream: &str) -> Self {
        let rendition = Tree::new(data_dir).rendition(stream, Rendition::SOURCE);
        fs::create_dir_all(&rendition.folder).unwrap();
        Self {
            init: write_init(&rendition, b"init").unwrap(),
            rendition,
            file: None,
            sequence: 0,
            part: 0,
            time: 0,
            discontinuity: 0,
        }
    }

    fn utc(&self, time: i64) -> i64 {
        START_NS + time * SECOND / 90_000
    }

    fn minute(&mut self) {
        if let Some(file) = self.file.take() {
            file.finish().unwrap();
        }
        let header = Header {
            timescale: 90_000,
            sender_report: true,
            media_sequence: self.sequence,
            discontinuity_sequence: self.discontinuity,
            init: self.init,
            anchor_time: self.time,
            anchor_utc_ns: self.utc(self.time),
            part_target_us: 200_000,
            segment_target_us: 2_000_000,
        };
        let start_ms = self.utc(self.time) / 1_000_000;
        self.file = Some(MinuteFile::create(&self.rendition, start_ms, header).unwrap());
    }

    /// One part. `last`: of its segment.
    fn part(&mut self, last: bool) {
        let header = *self.file.as_ref().unwrap().header();
        let mut flags = ChunkFlags::default();
        if self.part == 0 {
            flags = flags | ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
        }
        if last {
            flags = flags | ChunkFlags::SEGMENT_END;
        }
        let frames = (0..5).map(|n| {
            let time = self.time + n * 3600;
            FrameTime {
                time,
                // Up to 4 ms off the map.
                capture_ns: header.utc_ns(time) + n * 1_000_000,
                flags: FrameFlags(0),
            }
        });
        let chunk = Chunk {
            media_sequence: self.sequence,
            part: self.part,
            flags,
            offset: 0,
            len: 0,
            decode_time: self.time,
            duration: 18_000,
            frames: frames.collect(),
        };
        let bytes = format!("{}.{};", self.sequence, self.part);
        self.file
            .as_mut()
            .unwrap()
            .append(bytes.as_bytes(), chunk)
            .unwrap();
        self.time += 18_000;
        self.part += 1;
        if last {
            self.sequence += 1;
            self.part = 0;
        }
    }

    fn segments(&mut self, count: usize) {
        for _ in 0..count {
            for part in 0..10 {
                self.part(part == 9);
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until the newest of a rendition is as wanted.
async fn until(place: &Place, wanted: impl FnMut(&Arc<Edge>) -> bool) -> Arc<Edge> {
    let mut watch = place.watch();
    let waited = tokio::time::timeout(Duration::from_secs(60), watch.wait_for(wanted)).await;
    Arc::clone(&waited.expect("it came").unwrap())
}

/// An index that has read all there is, and one rendition in it.
async fn opened(data_dir: &Path, stream: &str) -> (Index, Arc<Place>) {
    let index = Index::open(data_dir).unwrap();
    index.settled().await.unwrap();
    let place = index.place(stream, "source").unwrap();
    (index, place)
}

async fn all(index: &Index, place: &Place) -> Vec<(u64, usize, bool)> {
    let minutes = index.minutes(place, Wanted::From(0)).await.unwrap();
    let seen = |minute: &Arc<Minute>| (minute.first(), minute.segments.len(), minute.gone);
    minutes.iter().map(seen).collect()
}

#[test]
fn what_is_there_and_what_comes_is_indexed_part_by_part() {
    follows(notify::Notify::new());
}

/// A network file system, or a machine without a watch to spare: the kernel tells nothing.
#[test]
fn what_the_kernel_does_not_tell_of_is_found_by_looking() {
    follows(notify::Notify::blind());
}

fn follows(told: notify::Notify) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), "yard/main");
    for _ in 0..3 {
        writer.minute();
        writer.segments(30);
    }
    runtime().block_on(async {
        let index = Index::follow(folder.path(), told).unwrap();
        index.settled().await.unwrap();
        let place = index.place("yard/main", "source").unwrap();
        assert_eq!((place.camera(), place.stream_name()), ("yard", "main"));
        assert_eq!(place.edge().next(), (90, 0));
        let expected = [(0, 30, false), (30, 30, false), (60, 30, false)];
        assert_eq!(all(&index, &place).await, expected);

        writer.part(false);
        let edge = until(&place, |edge| edge.next() == (90, 1)).await;
        let part = edge.parts_of(90)[0];
        assert_eq!(
            (part.len, part.duration, part.independent),
            (5, 18_000, true)
        );
        assert!(edge.segment(90).is_none());
        assert_eq!(edge.segment(89).unwrap().1.parts, 10);
        for part in 1..10 {
            writer.part(part == 9);
        }
        until(&place, |edge| edge.next() == (91, 0)).await;

        // A new file, in a folder that was not there.
        writer.time += 3600 * 90_000;
        writer.discontinuity += 1;
        writer.minute();
        writer.segments(2);
        let edge = until(&place, |edge| edge.next() == (93, 0)).await;
        assert_eq!(
            edge.minutes.last().unwrap().header.discontinuity_sequence,
            1
        );
        assert_eq!(all(&index, &place).await.last(), Some(&(91, 2, false)));

        // And a rendition that was not there.
        let mut other = Writer::new(folder.path(), "gate");
        other.minute();
        other.segments(1);
        let place = loop {
            if let Some(place) = index.place("gate", "source") {
                break place;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        until(&place, |edge| edge.next() == (1, 0)).await;
        assert_eq!(place.stream_name(), "main");
    });
}

#[test]
fn after_a_restart_or_the_loss_of_the_database_the_index_is_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), "yard/main");
    for _ in 0..5 {
        writer.minute();
        writer.segments(30);
    }
    let look = |expected: &[(u64, usize, bool)]| {
        runtime().block_on(async {
            let (index, place) = opened(folder.path(), "yard/main").await;
            assert_eq!(all(&index, &place).await, expected);
            let (minute, segment) = index.segment(&place, 31).await.unwrap().unwrap();
            let bytes = fs::read(place.rendition.data(&minute.name)).unwrap();
            let of_it = &bytes[segment.offset as usize..][..segment.len as usize];
            assert!(of_it.starts_with(b"31.0;31.1;") && of_it.ends_with(b"31.9;"));
            assert_eq!(index.segment(&place, 1000).await.unwrap(), None);
            index.store().set_aside()
        })
    };
    let whole = [
        (0, 30, false),
        (30, 30, false),
        (60, 30, false),
        (90, 30, false),
        (120, 30, false),
    ];
    assert_eq!(look(&whole), None);
    assert_eq!(look(&whole), None);
    // Written while no server runs.
    writer.segments(1);
    writer.minute();
    writer.segments(4);
    let more = [&whole[..4], &[(120, 31, false), (151, 4, false)]].concat();
    assert_eq!(look(&more), None);
    // Deleted while no server runs: in the middle, and at the front.
    let names: Vec<_> = (writer.rendition.hours().unwrap().iter())
        .flat_map(|hour| hour.files().unwrap())
        .collect();
    for name in [&names[0], &names[2]] {
        fs::remove_file(writer.rendition.data(name)).unwrap();
        fs::remove_file(writer.rendition.index(name)).unwrap();
    }
    let holes = [
        (30, 30, false),
        (60, 30, true),
        (90, 30, false),
        (120, 31, false),
        (151, 4, false),
    ];
    assert_eq!(look(&holes), None);
    // The database is no database any more: what the tree does not say is lost.
    fs::write(Index::path(folder.path()), vec![7; 100_000]).unwrap();
    let rebuilt = [holes[0], holes[2], holes[3], holes[4]];
    assert!(look(&rebuilt).unwrap().contains("index.db.damaged"));
    // Nor is it there.
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    assert_eq!(look(&rebuilt), None);
}

#[test]
fn a_file_that_is_deleted_under_it_keeps_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), "yard");
    for _ in 0..4 {
        writer.minute();
        writer.segments(30);
    }
    runtime().block_on(async {
        let (index, place) = opened(folder.path(), "yard").await;
        let minutes = index.minutes(&place, Wanted::From(0)).await.unwrap();
        fs::remove_file(place.rendition.data(&minutes[1].name)).unwrap();
        // Told by the kernel, in a while; and certainly found when asked to look.
        index.rescan().await;
        let buried = [
            (0, 30, false),
            (30, 30, true),
            (60, 30, false),
            (90, 30, false),
        ];
        assert_eq!(all(&index, &place).await, buried);
        fs::remove_file(place.rendition.data(&minutes[0].name)).unwrap();
        index.rescan().await;
        assert_eq!(all(&index, &place).await, buried[2..]);
        assert_eq!(index.oldest(&place).await.unwrap(), Some(60));
        // Its writer goes on.
        writer.segments(1);
        until(&place, |edge| edge.next() == (121, 0)).await;
    });
}

fn exchange(a: &Path, b: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn a_tree_that_cannot_be_listed_for_a_while_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), "yard");
    for _ in 0..3 {
        writer.minute();
        writer.segments(30);
    }
    runtime().block_on(async {
        let (index, place) = opened(folder.path(), "yard").await;
        let before = all(&index, &place).await;
        assert_eq!(before.len(), 3);
        let (root, aside) = (index.tree().root().to_owned(), folder.path().join("aside"));
        let rendition = place.rendition.folder.clone();
        // A link to itself: ELOOP for everybody, root too.
        for broken in [rendition, root] {
            std::os::unix::fs::symlink(&broken, &aside).unwrap();
            // At once: a folder that is not there for a moment is one that went.
            exchange(&broken, &aside);
            index.rescan().await;
            assert!(index.place("yard", "source").is_some(), "{broken:?}");
            assert_eq!(all(&index, &place).await, before, "{broken:?}");
            exchange(&broken, &aside);
            fs::remove_file(&aside).unwrap();
            index.rescan().await;
            assert_eq!(all(&index, &place).await, before, "{broken:?}");
        }
        // It is followed on.
        writer.segments(1);
        until(&place, |edge| edge.next() == (91, 0)).await;
    });
}

#[test]
fn each_picture_is_found_by_its_capture_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path(), "yard");
    for _ in 0..3 {
        writer.minute();
        writer.segments(30);
    }
    runtime().block_on(async {
        let (index, place) = opened(folder.path(), "yard").await;
        let pictures: Vec<i64> = (0..4500).collect();
        let capture = |n: &i64| writer.utc(n * 3600) + (n % 5) * 1_000_000;
        let moments: Vec<i64> = pictures.iter().map(capture).collect();
        for _ in 0..2 {
            let found = index.frames_at(&place, &moments).await.unwrap();
            for (n, frame) in pictures.iter().zip(found) {
                let frame = frame.unwrap();
                assert_eq!(
                    (frame.time, frame.media_sequence),
                    (n * 3600, *n as u64 / 50)
                );
                assert_eq!(frame.program_ns, writer.utc(n * 3600));
            }
        }
        // Near one, and nowhere near.
        let near = index
            .frame_at(&place, moments[7] + 10_000_000)
            .await
            .unwrap();
        assert_eq!(near.unwrap().time, 7 * 3600);
        assert_eq!(
            index.frame_at(&place, START_NS - 3 * SECOND).await.unwrap(),
            None
        );
        assert_eq!(index.frame_at(&place, i64::MAX).await.unwrap(), None);
        assert_eq!(index.frame_at(&place, i64::MIN).await.unwrap(), None);
    });
}

#[test]
fn a_record_that_does_not_follow_ends_its_file_and_nothing_else() {
    type Break = fn(&mut Chunk);
    let wrong: [Break; 5] = [
        |chunk| chunk.media_sequence += 7,
        |chunk| chunk.decode_time -= 900_000,
        |chunk| chunk.decode_time = i64::MAX,
        |chunk| chunk.duration = u32::MAX,
        |chunk| chunk.frames[0].time += 1 << 33,
    ];
    for (case, spoil) in wrong.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), "yard");
        writer.minute();
        writer.segments(2);
        let mut chunk = Chunk {
            media_sequence: writer.sequence,
            part: 0,
            flags: ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START,
            offset: 0,
            len: 0,
            decode_time: writer.time,
            duration: 18_000,
            frames: vec![
                FrameTime {
                    time: writer.time,
                    capture_ns: 0,
                    flags: FrameFlags::KEY
                };
                2
            ],
        };
        spoil(&mut chunk);
        writer.file.as_mut().unwrap().append(b"x", chunk).unwrap();
        writer.sequence += 1;
        writer.time += 18_000;
        writer.minute();
        writer.segments(1);
        runtime().block_on(async {
            let (index, place) = opened(folder.path(), "yard").await;
            let found = all(&index, &place).await;
            // A picture's time is kept as 32 bits beside its chunk's: it is only put near.
            let first = if case == 4 { 3 } else { 2 };
            assert_eq!(found, [(0, first, false), (3, 1, false)], "case {case}");
        });
    }
}
