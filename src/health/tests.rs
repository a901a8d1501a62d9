use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn names_of_this_process() -> Vec<String> {
    let prefix = format!("camring-{}-", std::process::id());
    std::fs::read_dir("/dev/shm")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

#[test]
fn what_the_reader_counts_the_supervisor_sees() {
    let mut watch = Watch::create(3).unwrap();
    let name = watch.name().to_owned();
    assert!(names_of_this_process().contains(&name));
    let health = Health::open(&name).unwrap();
    watch.unlink();
    assert!(!names_of_this_process().contains(&name), "the name is gone");

    health.frames_published.fetch_add(5, Ordering::Relaxed);
    health
        .clock
        .store(ClockSource::SenderReport as u64, Ordering::Relaxed);
    health.record_latency_ns(3_000_000);
    health.set_state(State::Streaming, "1280×720");
    let seen = watch.snapshot().unwrap();
    assert_eq!(seen.figures.frames_published, 5);
    assert_eq!(seen.clock, Some(ClockSource::SenderReport));
    assert_eq!((seen.state, &*seen.reason), (State::Streaming, "1280×720"));
    assert!(seen.since_unix_ms > 0);
    assert!(seen.latency.quantile_ms(0.5).unwrap() > 2.0);
    assert_eq!(
        health.state(),
        (seen.state, seen.reason, seen.since_unix_ms)
    );

    drop(health);
    let after = watch.snapshot().unwrap();
    assert_eq!(
        after.figures.frames_published, 5,
        "readable after its death"
    );
}

#[test]
fn a_page_nobody_opened_leaves_no_name() {
    let watch = Watch::create(4).unwrap();
    let name = watch.name().to_owned();
    drop(watch);
    assert!(!names_of_this_process().contains(&name));
    let error = Health::open(&name).unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn since_starts_anew_only_with_another_state() {
    let health = Health::private();
    health.set_state(State::Backoff, "refused");
    let (_, _, since) = health.state();
    health.set_state(State::Backoff, "refused again");
    assert_eq!(
        health.state(),
        (State::Backoff, "refused again".into(), since)
    );
}

#[test]
fn a_long_reason_is_cut_at_a_character_and_control_characters_go() {
    let health = Health::private();
    health.set_state(State::Failed, &"é".repeat(200));
    assert_eq!(health.state().1, "é".repeat(128));
    health.set_state(State::Failed, "a\u{1b}[2Jb\nc");
    assert_eq!(health.state().1, "a [2Jb c");
    health.set_state(State::Failed, "");
    assert_eq!(health.state().1, "");
}

#[test]
fn a_state_is_never_seen_half_written() {
    let watch = Watch::create(5).unwrap();
    let health = Arc::new(Health::open(watch.name()).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (health, stop) = (health.clone(), stop.clone());
            std::thread::spawn(move || {
                loop {
                    health.set_state(State::Streaming, &"a".repeat(250));
                    health.set_state(State::Stalled, &"b".repeat(100));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    for _ in 0..2000 {
        let (state, reason, _) = health.state();
        match state {
            State::Streaming => assert_eq!(reason, "a".repeat(250)),
            State::Stalled => assert_eq!(reason, "b".repeat(100)),
            _ => assert_eq!(reason, ""),
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(watch.snapshot().unwrap().reason, "b".repeat(100));
}

#[test]
fn a_truncated_page_is_no_snapshot_and_no_crash() {
    let watch = Watch::create(6).unwrap();
    let path = format!("/dev/shm/{}", watch.name());
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    assert!(watch.snapshot().is_none());
}

#[test]
fn a_hostile_page_is_only_wrong() {
    use std::os::unix::fs::FileExt;
    let watch = Watch::create(7).unwrap();
    let path = format!("/dev/shm/{}", watch.name());
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xff; page::PAGE_BYTES], 0).unwrap();
    let seen = watch.snapshot().unwrap();
    assert_eq!(seen.state, State::Failed);
    assert!(seen.reason.len() <= 3 * page::REASON_BYTES);
    assert_eq!(seen.clock, None);
    assert!(seen.latency.quantile_ms(0.5).is_some());
}

#[test]
fn names_of_the_dead_are_swept_and_no_others() {
    // A number above the largest pid there can be: nobody's.
    let stale = "camring-2000000001-0-0";
    let others = [
        "camring-2000000001-x-0",
        "camring-2000000001-0",
        "camring-nobody-0-0",
    ];
    let path = |name: &str| format!("/dev/shm/{name}");
    for name in others.iter().chain([&stale]) {
        std::fs::write(path(name), b"").unwrap();
    }
    let parent = std::os::unix::process::parent_id();
    let living = format!("camring-{parent}-0-0");
    std::fs::write(path(&living), b"").unwrap();
    // Not this process's: other tests' pages are being used right now.
    let exists = |pid: u32| crate::sys::process::exists(pid as i32);
    super::watch::sweep(|pid| pid != std::process::id() && !exists(pid));
    let left = |name: &str| std::fs::remove_file(path(name)).is_ok();
    assert!(!left(stale));
    for name in others {
        assert!(left(name), "{name}");
    }
    assert!(left(&living));
}
