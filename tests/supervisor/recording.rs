//! Recorders and the server: started, watched, replaced, bounded.

use std::fs;

use camring::supervisor::status::RecordingStatus;
use rustix::process::Signal;

use crate::viewer::{no_gap, options};
use crate::world::{World, camera, signal, wait_for};

fn recorded(name: &str, mode: &str) -> String {
    camera(name, "") + "[camera.record]\nmode = \"" + mode + "\"\n"
}

/// The recording of a camera, as soon as it is as wanted.
#[track_caller]
fn recording(
    world: &World,
    name: &str,
    good: impl Fn(&RecordingStatus) -> bool,
) -> RecordingStatus {
    let seen = world.wait_for_camera(name, "its recording", |camera| {
        camera.recording.as_ref().is_some_and(&good)
    });
    seen.recording.unwrap()
}

pub fn recorders_run_and_are_replaced() {
    let mut world =
        World::not_started(&(recorded("a", "copy") + &recorded("b", "off") + &camera("c", "")));
    fs::create_dir(world.path().join("data")).unwrap();
    world.start();
    let first = recording(&world, "a", |r| r.state == "recording" && r.segments > 3);
    assert_eq!((&*first.mode, first.restarts), ("copy", 0));
    let pid = first.pid.unwrap();
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(title.trim_end_matches('\0'), "camring: hls a");
    let memory = recording(&world, "a", |r| r.memory_bytes.is_some());
    assert!(memory.memory_bytes > Some(0));
    assert!(world.camera("b").recording.is_none() && world.camera("c").recording.is_none());
    let reader = world.reader("a", 0);

    // Killed: another one, and the sums go on. The reader does not notice.
    signal(pid, Signal::KILL);
    let second = recording(&world, "a", |r| {
        r.pid.is_some_and(|p| p != pid) && r.segments > first.segments + 3
    });
    assert_eq!(second.restarts, 1);
    assert_eq!(world.camera("a").pid, Some(reader));

    // Its own word is heard, and after crashes there is another template.
    fs::write(world.path().join("data/fail"), "").unwrap();
    let failing = recording(&world, "a", |r| {
        r.state == "backoff" && r.reason.contains("disk fell off")
    });
    assert!(failing.reason.contains("exit code 3"), "{failing:?}");
    fs::remove_file(world.path().join("data/fail")).unwrap();
    let spawner = world.status().spawner_pid;
    fs::write(world.path().join("data/abort"), "").unwrap();
    recording(&world, "a", |r| r.reason.contains("SIGABRT"));
    fs::remove_file(world.path().join("data/abort")).unwrap();
    wait_for("another template", || {
        let now = world.status().spawner_pid;
        match now.is_some() && now != spawner {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    });
    recording(&world, "a", |r| r.state == "recording");

    // A stopped one is noticed by its silence only after a minute, but costs the shutdown nothing.
    let pid = recording(&world, "a", |r| r.pid.is_some()).pid.unwrap();
    signal(pid, Signal::STOP);
}

pub fn no_more_encoders_than_allowed() {
    let cameras = ["a", "b", "c"].map(|name| recorded(name, "encode"));
    let mut world =
        World::not_started(&("[record]\nmax_encoders = 2\n".to_owned() + &cameras.concat()));
    fs::create_dir(world.path().join("data")).unwrap();
    world.start();
    let state = |name| world.camera(name).recording.map(|r| r.state);
    let queued = wait_for("two to encode and one to wait", || {
        let states = ["a", "b", "c"].map(|name| (name, state(name)));
        let of = |wanted| {
            let mut names = states.iter();
            let names = names.by_ref();
            let names = names.filter(move |(_, s)| s.as_deref() == Some(wanted));
            names.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        match (of("recording").len(), &of("queued")[..]) {
            (2, [queued]) => Ok(*queued),
            _ => Err(format!("{states:?}")),
        }
    });
    let waits = recording(&world, queued, |r| !r.reason.is_empty());
    assert!(
        waits.reason.contains("in place 1: 2 at a time"),
        "{waits:?}"
    );
    // One of the others ends for good: its place is taken.
    let other = ["a", "b", "c"]
        .into_iter()
        .find(|name| *name != queued)
        .unwrap();
    let applied = world.reload(|text| {
        let (before, table) = text.split_once(&format!("name = \"{other}\"")).unwrap();
        let table = table.replacen("\"encode\"", "\"off\"", 1);
        format!("{before}name = \"{other}\"{table}")
    });
    assert_eq!(applied.error, None);
    recording(&world, queued, |r| r.state == "recording");
    assert!(world.camera(other).recording.is_none());
}

pub fn a_recording_that_is_switched_on_costs_the_reader_nothing() {
    let mut world = World::not_started(&camera("a", "fps=50"));
    fs::create_dir(world.path().join("data")).unwrap();
    world.start();
    let reader = world.reader("a", 0);
    let client = world.client();
    let mut units = client.attach_packets("a", &options(1)).unwrap();
    let last = no_gap(&mut units, None, 1);
    let applied = world.reload(|text| text + "[camera.record]\nmode = \"copy\"\naudio = false\n");
    assert_eq!(
        applied.changes.as_deref(),
        Some("1 changed (a), 0 unchanged")
    );
    recording(&world, "a", |r| r.state == "recording");
    let applied = world.reload(|text| text.replace("\"copy\"", "\"off\""));
    assert_eq!(applied.error, None);
    wait_for("no recording", || match world.camera("a").recording {
        None => Ok(()),
        Some(recording) => Err(format!("{recording:?}")),
    });
    let last = no_gap(&mut units, Some(last), 30);
    let seen = world.camera("a");
    assert_eq!((seen.pid, seen.restarts), (Some(reader), 0), "after {last}");
}
