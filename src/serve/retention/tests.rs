use std::fs;
use std::time::SystemTime;

use super::*;
use crate::recording::{
    Chunk, ChunkFlags, FileName, Header, InitId, Lock, MinuteFile, Rendition, write_init,
};

const MINUTE: i64 = 60_000;
/// The middle of an hour.
const START: i64 = 1_700_001_000_000;
const BYTES: usize = 1000;

struct Place {
    folder: tempfile::TempDir,
    tree: Tree,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path());
        Self { folder, tree }
    }

    /// A stream's minutes, one after the other from a start, each with one chunk of a minute; the init
    /// segment of each is named by what `init` makes of its number.
    fn record(
        &self,
        stream: &str,
        start_ms: i64,
        count: u64,
        init: impl Fn(u64) -> u8,
    ) -> Rendition {
        let rendition = self.tree.rendition(stream, Rendition::SOURCE);
        fs::create_dir_all(&rendition.folder).unwrap();
        for number in 0..count {
            let id = write_init(&rendition, &[init(number)]).unwrap();
            let start = start_ms + number as i64 * MINUTE;
            let header = Header {
                timescale: 90_000,
                sender_report: false,
                media_sequence: number,
                discontinuity_sequence: 0,
                init: id,
                anchor_time: 0,
                anchor_utc_ns: start * 1_000_000,
                part_target_us: 200_000,
                segment_target_us: 2_000_000,
            };
            let mut file = MinuteFile::create(&rendition, start, header).unwrap();
            let chunk = Chunk {
                media_sequence: number,
                part: 0,
                flags: ChunkFlags::INDEPENDENT
                    | ChunkFlags::SEGMENT_START
                    | ChunkFlags::SEGMENT_END,
                offset: 0,
                len: 0,
                decode_time: 0,
                duration: 60 * 90_000,
                frames: Vec::new(),
            };
            file.append(&vec![7; BYTES], chunk).unwrap();
            file.finish().unwrap();
        }
        rendition
    }

    fn retention(&self, limits: Limits) -> Keeper {
        Keeper::new(self.tree.clone(), limits)
    }
}

const NONE: Limits = Limits {
    keep: Duration::from_secs(10 * 365 * 86_400),
    max_bytes: None,
    min_free: 0,
};

fn at(wall_ms: i64) -> Look {
    Look {
        wall_ns: wall_ms * 1_000_000,
        boot_ns: 1_000_000_000_000,
        synchronised: Some(true),
    }
}

/// Which minutes are left.
fn left(rendition: &Rendition) -> Vec<u64> {
    let hours = rendition.hours().unwrap().into_iter();
    hours
        .flat_map(|hour| hour.files().unwrap())
        .map(|name| name.media_sequence)
        .collect()
}

fn pass(retention: &Keeper, look: Look, protected: Protected) -> (Done, Duration) {
    retention.pass(look, || Ok(protected))
}

fn bytes_of(minutes: u64) -> u64 {
    // 1000 of media, a header and one record without pictures.
    minutes * (BYTES as u64 + 68 + 48)
}

#[test]
fn what_ended_before_the_limit_goes_by_age() {
    let place = Place::new();
    let door = place.record("door", START, 10, |_| 1);
    let yard = place.record("yard/sub", START + 2 * MINUTE, 10, |_| 1);
    let retention = place.retention(Limits {
        keep: Duration::from_secs(3600),
        ..NONE
    });
    let (done, pause) = pass(
        &retention,
        at(START + 3_600_000 + 5 * MINUTE),
        Protected::default(),
    );
    // The fifth ends at the limit.
    assert_eq!(left(&door), [5, 6, 7, 8, 9]);
    assert_eq!(left(&yard), [3, 4, 5, 6, 7, 8, 9]);
    assert!(
        done.deleted
            .iter()
            .all(|(_, reason)| *reason == Reason::Age)
    );
    assert_eq!(pause, PAUSE);
    let state = retention.state();
    assert_eq!(
        state.deleted[&Reason::Age],
        Deleted {
            files: 8,
            bytes: bytes_of(8)
        }
    );
    assert_eq!(state.usage.files, 12);
    assert_eq!(state.usage.bytes, bytes_of(12));
    assert_eq!(state.usage.oldest_ms, Some(START + 5 * MINUTE));
    assert_eq!(
        (state.trouble, state.age_paused, state.errors),
        (None, None, 0)
    );
}

#[test]
fn oldest_first_over_all_cameras_until_the_bytes_fit() {
    let place = Place::new();
    // The cameras take turns, 30 s apart, over two hours' boundary.
    let door = place.record("door", START, 60, |_| 1);
    let yard = place.record("yard", START + 30_000, 60, |_| 1);
    let retention = place.retention(Limits {
        max_bytes: Some(bytes_of(20)),
        ..NONE
    });
    let (done, _) = pass(&retention, at(START + 2 * 3_600_000), Protected::default());
    assert_eq!(done.deleted.len(), 100);
    assert!(
        done.deleted
            .iter()
            .all(|(_, reason)| *reason == Reason::Size)
    );
    assert_eq!(left(&door), (50..60).collect::<Vec<_>>());
    assert_eq!(left(&yard), (50..60).collect::<Vec<_>>());
    assert_eq!(retention.state().usage.bytes, bytes_of(20));
    // The emptied hour is gone.
    assert_eq!(door.hours().unwrap().len(), 1);
}

#[test]
fn a_pass_is_bounded_and_the_next_one_goes_on_soon() {
    let place = Place::new();
    let door = place.record("door", START, 300, |_| 1);
    let retention = place.retention(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    let (done, pause) = pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!(
        (done.deleted.len(), done.more, pause),
        (MAX_FILES, true, SHORT_PAUSE)
    );
    let look = at(START + 86_400_000);
    let (done, pause_then) = pass(&retention, look, Protected::default());
    // Nobody writes: the newest file goes too.
    assert_eq!(
        (done.deleted.len(), done.more, pause_then),
        (44, false, PAUSE)
    );
    assert_eq!(left(&door), [] as [u64; 0]);
    assert_eq!(door.hours().unwrap(), []);
}

#[test]
fn the_file_being_written_stays_whatever_is_short() {
    let place = Place::new();
    let door = place.record("door", START, 3, |_| 1);
    let yard = place.record("yard", START, 3, |_| 1);
    let writer = Lock::take(&door).unwrap();
    let retention = place.retention(Limits {
        min_free: u64::MAX,
        ..NONE
    });
    let (done, pause) = pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!((left(&door), left(&yard)), (vec![2], vec![]));
    assert_eq!((done.writing, pause), (1, STUCK_PAUSE));
    assert!(
        done.deleted
            .iter()
            .all(|(_, reason)| *reason == Reason::FreeSpace)
    );
    let trouble = retention.state().trouble.unwrap();
    assert!(
        trouble.contains("something else fills the disk"),
        "{trouble}"
    );
    drop(writer);
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!(left(&door), [] as [u64; 0]);
    // The lock was given back: a writer can begin.
    Lock::take(&door).unwrap();
}

#[test]
fn protected_files_stay_and_count() {
    let place = Place::new();
    let door = place.record("door/main", START, 10, |_| 1);
    let yard = place.record("yard", START, 10, |_| 1);
    let retention = place.retention(Limits {
        keep: Duration::from_secs(60),
        max_bytes: Some(1),
        min_free: 0,
    });
    // From the middle of one minute to the middle of another.
    let range = (START + 2 * MINUTE + 30_000, START + 4 * MINUTE + 30_000);
    let protected = Protected::new([("door".to_owned(), range.0, range.1)]);
    let (done, pause) = pass(&retention, at(START + 86_400_000), protected);
    assert_eq!((left(&door), left(&yard)), (vec![2, 3, 4], vec![]));
    assert_eq!((done.spared, done.short > 0, pause), (3, true, STUCK_PAUSE));
    let state = retention.state();
    assert_eq!(state.protected_bytes, bytes_of(3));
    let trouble = state.trouble.unwrap();
    assert!(
        trouble.contains("the limit is 1 B") && trouble.contains("is protected (3.3 KiB)"),
        "{trouble}"
    );
    // Unprotected, they go.
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!(left(&door), [] as [u64; 0]);
    assert_eq!(retention.state().trouble, None);
}

#[test]
fn nothing_is_deleted_while_it_is_not_known_what_is_protected() {
    let place = Place::new();
    let door = place.record("door", START, 3, |_| 1);
    let retention = place.retention(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    let unreadable = || Err("the database is gone".to_owned());
    let look = at(START + 86_400_000);
    retention.pass(look, unreadable);
    assert_eq!(left(&door).len(), 3);
    let trouble = retention.state().trouble.unwrap();
    assert!(trouble.contains("the database is gone"), "{trouble}");
    // Once it was known, the last answer goes on to count.
    let protected = Protected::new([("door".to_owned(), START, START + 2 * MINUTE)]);
    pass(&retention, look, protected);
    assert_eq!(left(&door), [0, 1]);
    retention.pass(look, unreadable);
    assert_eq!(left(&door), [0, 1]);
}

#[test]
fn a_clock_that_was_set_deletes_nothing_by_age_and_the_other_limits_hold() {
    let place = Place::new();
    let door = place.record("door", START, 10, |_| 1);
    let limits = Limits {
        keep: Duration::from_secs(86_400),
        ..NONE
    };
    let retention = place.retention(limits);
    let now = START + 10 * MINUTE;
    pass(&retention, at(now), Protected::default());
    let look = Look {
        boot_ns: at(now).boot_ns + 10_000_000_000,
        ..at(now + 20 * 365 * 86_400_000)
    };
    pass(&retention, look, Protected::default());
    assert_eq!(left(&door).len(), 10);
    let paused = retention.state().age_paused.unwrap();
    assert!(paused.contains("was set forward"), "{paused}");
    retention.set_limits(Limits {
        max_bytes: Some(bytes_of(4)),
        ..limits
    });
    pass(&retention, look, Protected::default());
    assert_eq!(left(&door), [6, 7, 8, 9]);
}

#[test]
fn what_a_kill_leaves_of_a_deletion_is_finished_by_the_next_pass() {
    let place = Place::new();
    let door = place.record("door", START, 3, |_| 1);
    let names: Vec<FileName> = door.hours().unwrap()[0].files().unwrap();
    // Killed between the two files of the first, and, in another order, an index without media.
    fs::remove_file(door.index(&names[0])).unwrap();
    fs::remove_file(door.data(&names[1])).unwrap();
    let retention = place.retention(Limits {
        keep: Duration::from_secs(60),
        ..NONE
    });
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert!(!door.folder.join(names[0].hour()).exists());
    assert_eq!(retention.state().errors, 0);
}

#[test]
fn init_segments_go_with_the_last_file_that_needs_them() {
    let place = Place::new();
    let door = place.record("door", START, 6, |number| u8::from(number >= 3));
    let (old, new) = (door.init(InitId::of(&[0])), door.init(InitId::of(&[1])));
    let day_ago = SystemTime::now() - Duration::from_secs(86_400);
    for path in [&old, &new] {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(day_ago).unwrap();
    }
    let retention = place.retention(Limits {
        max_bytes: Some(bytes_of(4)),
        ..NONE
    });
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert!(old.exists() && new.exists());
    retention.set_limits(Limits {
        max_bytes: Some(bytes_of(2)),
        ..NONE
    });
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert!(!old.exists() && new.exists());
    // One that is about to be needed is young.
    write_init(&door, &[1]).unwrap();
    retention.set_limits(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!(left(&door), [] as [u64; 0]);
    assert!(new.exists());
}

#[test]
fn foreign_files_are_not_touched() {
    let place = Place::new();
    let door = place.record("door", START, 2, |_| 1);
    let hour = door.hours().unwrap()[0].folder.clone();
    let foreign = [
        place.tree.root().join("notes.txt"),
        door.folder.join("notes.txt"),
        hour.join("notes.txt"),
    ];
    for path in &foreign {
        fs::write(path, "mine").unwrap();
    }
    let outside = place.folder.path().join("precious");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink(&outside, door.folder.join("20230101T00")).unwrap();
    let retention = place.retention(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!(left(&door), [] as [u64; 0]);
    assert!(foreign.iter().all(|path| path.exists()));
    assert!(outside.join("file").exists());
}

#[test]
fn a_tree_that_cannot_be_changed_is_told_and_nothing_hangs() {
    let place = Place::new();
    let door = place.record("door", START, 30, |_| 1);
    // A folder cannot be removed as a file is.
    for name in door.hours().unwrap()[0].files().unwrap() {
        fs::remove_file(door.index(&name)).unwrap();
        fs::create_dir(door.index(&name)).unwrap();
    }
    let retention = place.retention(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    let (done, _) = pass(&retention, at(START + 86_400_000), Protected::default());
    assert_eq!((done.deleted.len(), done.errors), (0, 8));
    let trouble = retention.state().trouble.unwrap();
    assert!(trouble.contains("cannot delete"), "{trouble}");
}

#[test]
fn what_has_grown_or_come_is_counted_by_the_next_look() {
    let place = Place::new();
    let door = place.record("door", START, 2, |_| 1);
    let hour = door.hours().unwrap()[0].clone();
    let past = SystemTime::now() - Duration::from_secs(60);
    fs::File::open(&hour.folder)
        .unwrap()
        .set_modified(past)
        .unwrap();
    let mut inventory = Inventory::new(place.tree.clone());
    assert_eq!(inventory.refresh().unwrap().bytes, bytes_of(2));
    let newest = hour.files().unwrap()[1];
    let file = fs::OpenOptions::new()
        .append(true)
        .open(door.data(&newest))
        .unwrap();
    file.set_len(BYTES as u64 + 500).unwrap();
    assert_eq!(inventory.refresh().unwrap().bytes, bytes_of(2) + 500);
    file.set_len(BYTES as u64).unwrap();
    place.record("door", START, 3, |_| 1);
    let usage = inventory.refresh().unwrap();
    assert_eq!((usage.files, usage.bytes), (3, bytes_of(3)));
    assert_eq!(usage.newest_ms, Some(START + 2 * MINUTE));
    place.record("yard", START - MINUTE, 1, |_| 1);
    let usage = inventory.refresh().unwrap();
    assert_eq!((usage.files, usage.oldest_ms), (4, Some(START - MINUTE)));
    fs::remove_dir_all(&door.folder).unwrap();
    assert_eq!(inventory.refresh().unwrap().files, 1);
}

#[test]
fn a_range_is_deleted_in_whole_files() {
    let place = Place::new();
    let door = place.record("door/main", START, 10, |_| 1);
    let yard = place.record("yard", START, 10, |_| 1);
    let _writer = Lock::take(&door).unwrap();
    let retention = place.retention(NONE);
    let protected = Protected::new([(
        "door".to_owned(),
        START + 5 * MINUTE + 1000,
        START + 5 * MINUTE + 2000,
    )]);
    let range = (START + 2 * MINUTE + 1000, START + 20 * MINUTE);
    let asked = || Ok(protected.clone());
    let (gone, known) = retention.delete_range("door", range, false, asked).unwrap();
    assert_eq!(known, protected);
    assert_eq!(left(&door), [0, 1, 2, 5, 9]);
    assert_eq!((gone.files, gone.bytes), (5, bytes_of(5)));
    assert_eq!((gone.protected, gone.writing, gone.reaching_out), (1, 1, 1));
    let (first, last) = gone.span_ms.unwrap();
    assert_eq!((first, last), (START + 3 * MINUTE, START + 9 * MINUTE));
    assert_eq!(left(&yard).len(), 10);
    assert_eq!(retention.state().deleted[&Reason::Request].files, 5);
    let (gone, _) = retention.delete_range("door", range, true, asked).unwrap();
    assert_eq!((gone.files, gone.reaching_out), (1, 0));
    assert_eq!(left(&door), [0, 1, 5, 9]);
    // Another camera's name leads nowhere.
    for camera in ["doo", "door/main", "", "../yard"] {
        let all = (i64::MIN, i64::MAX);
        let gone = retention.delete_range(camera, all, true, asked);
        assert_eq!(gone.unwrap().0, RangeDeleted::default(), "{camera}");
    }
    let unknown = || Err("the file is damaged".to_owned());
    let error = retention
        .delete_range("door", (0, i64::MAX), true, unknown)
        .unwrap_err();
    assert!(error.to_string().contains("the file is damaged"), "{error}");
    assert_eq!(left(&door), [0, 1, 5, 9]);
}

#[test]
fn what_is_there_when_its_protection_is_confirmed_stays() {
    let all = (START, START + 86_400_000);
    // A pass, and a deletion over the API.
    let deletions: [fn(&Keeper, &Mutex<Protected>); 2] = [
        |retention, known| {
            retention.pass(at(START + 86_400_000), || Ok(lock(known).clone()));
        },
        |retention, known| {
            let known = || Ok(lock(known).clone());
            let range = (0, i64::MAX);
            retention.delete_range("door", range, true, known).unwrap();
        },
    ];
    for delete in deletions {
        let place = Place::new();
        let door = place.record("door", START, 3, |_| 1);
        let retention = place.retention(Limits {
            max_bytes: Some(0),
            ..NONE
        });
        let known = Mutex::new(Protected::default());
        std::thread::scope(|scope| {
            let deletion = retention.undisturbed(|| {
                let (begins, begun) = std::sync::mpsc::channel();
                let (retention, known) = (&retention, &known);
                let deletion = scope.spawn(move || {
                    begins.send(()).unwrap();
                    delete(retention, known);
                });
                begun.recv().unwrap();
                // It has all the time to ask too early.
                std::thread::sleep(Duration::from_millis(50));
                *lock(known) = Protected::new([("door".to_owned(), all.0, all.1)]);
                deletion
            });
            // From here on it is confirmed.
            deletion.join().unwrap();
        });
        assert_eq!(left(&door), [0, 1, 2]);
    }
}

#[test]
fn a_protection_is_not_confirmed_while_its_files_are_deleted() {
    let place = Place::new();
    let door = place.record("door", START, 3, |_| 1);
    let retention = place.retention(Limits {
        max_bytes: Some(0),
        ..NONE
    });
    std::thread::scope(|scope| {
        let mut confirmed = None;
        retention.pass(at(START + 86_400_000), || {
            let (begins, begun) = std::sync::mpsc::channel();
            let retention = &retention;
            let door = &door;
            confirmed = Some(scope.spawn(move || {
                begins.send(()).unwrap();
                retention.undisturbed(|| left(door))
            }));
            begun.recv().unwrap();
            std::thread::sleep(Duration::from_millis(50));
            Ok(Protected::default())
        });
        // Whoever protects now sees what is gone.
        assert!(confirmed.unwrap().join().unwrap().is_empty());
    });
}

#[test]
fn hours_are_read_back_from_their_names() {
    assert_eq!(hour_ms("20231114T22"), Some(1_699_999_200_000));
    assert_eq!(
        hour_ms(&crate::recording::hour_name(START)),
        Some(START / 3_600_000 * 3_600_000)
    );
    for wrong in ["", "20231114T2", "20231414T22", "x"] {
        assert_eq!(hour_ms(wrong), None);
    }
}
