//! The configuration, changed while the daemon runs.

use std::fs;

use camring::health::State;
use camring_ring::{RingChange, RingError};
use rustix::process::Signal;

use crate::viewer::{next, no_gap, options};
use crate::world::{World, camera, signal, wait_for};

pub fn only_what_differs_is_touched() {
    let world = World::with_cameras(&[("a", "fps=100"), ("b", "fps=100"), ("c", "")]);
    let before = ["a", "b", "c"].map(|name| world.reader(name, 0));
    let client = world.client();
    let mut a = client.attach_packets("a", &options(1)).unwrap();
    let mut b = client.attach("b", &options(1)).unwrap();
    let mut c = client.attach("c", &options(1)).unwrap();
    let of_a = no_gap(&mut a, None, 1);
    let of_b = next(&mut b).sequence();
    next(&mut c);

    // b changes, c goes, d comes.
    let applied = world.reload(|text| {
        let (rest, _) = text.split_once(&camera("c", "")).unwrap();
        rest.replace(
            "fps=100\"\n[[camera]]\nname = \"b\"",
            "fps=100\"\n[[camera]]\nname = \"b\"\ncpu = \"any\"",
        ) + &camera("d", "")
    });
    assert_eq!(applied.error, None);
    assert_eq!(
        applied.changes.as_deref(),
        Some("1 added (d), 1 removed (c), 1 restarted (b), 1 unchanged")
    );
    world.reader("d", 0);
    let other = world.reader("b", before[1]);
    assert_ne!(other, before[1]);
    // The untouched one: the same process, and not a number is missing.
    no_gap(&mut a, Some(of_a), 150);
    assert_eq!(world.camera("a").pid, Some(before[0]));
    // The changed one: still attached, in the same memory, and the numbers go on.
    let mut restarted = false;
    wait_for("the writer to be another", || {
        let frame = next(&mut b);
        assert!(frame.sequence() > of_b);
        restarted |= frame.change() == Some(RingChange::WriterRestarted);
        restarted.then_some(()).ok_or_else(|| "the same".to_owned())
    });
    // The removed one is gone, and says so.
    let end = wait_for("c to be removed", || match c.next() {
        Err(end) => Ok(end),
        Ok(frame) => Err(format!("{:?}", frame.map(|frame| frame.sequence()))),
    });
    assert!(matches!(end, RingError::Removed { .. }), "{end}");
    let names: Vec<_> = world.status().cameras.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["a", "b", "d"]);
    wait_for(
        "its process to end",
        || match camring::sys::process::exists(before[2]) {
            true => Err("it is there".to_owned()),
            false => Ok(()),
        },
    );
}

pub fn another_shape_moves_the_subscribers() {
    let world = World::with_cameras(&[("a", "fps=50")]);
    let client = world.client();
    let mut frames = client.attach("a", &options(1)).unwrap();
    let first = next(&mut frames).sequence();
    let applied = world.reload(|text| text + "[camera.ring]\ndepth = 8\n");
    assert_eq!(
        applied.changes.as_deref(),
        Some("1 restarted (a), 0 unchanged")
    );
    let mut last = first;
    wait_for("the ring to be another", || {
        let frame = next(&mut frames);
        assert!(frame.sequence() > last, "{last} → {}", frame.sequence());
        last = frame.sequence();
        match frame.change() {
            Some(RingChange::Replaced) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

pub fn disabled_and_enabled_again() {
    let world = World::with_cameras(&[("a", ""), ("b", "")]);
    let pid = world.reader("a", 0);
    let other = world.reader("b", 0);
    let edit = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        world.reload(move |text| text.replacen(&from, &to, 1))
    };
    let applied = edit("name = \"a\"\n", "name = \"a\"\nenabled = false\n");
    assert_eq!(
        applied.changes.as_deref(),
        Some("1 changed (a), 1 unchanged")
    );
    world.wait_for_camera("a", "to be disabled", |c| {
        c.state == State::Disabled && c.pid.is_none() && c.ring_bytes == 0
    });
    let refused = world.client().attach("a", &options(1));
    assert!(
        matches!(&refused, Err(error) if error.to_string().contains("disabled")),
        "{refused:?}"
    );
    edit("enabled = false", "enabled = true");
    assert_ne!(world.reader("a", pid), pid);
    next(&mut world.client().attach("a", &options(1)).unwrap());
    assert_eq!(world.camera("b").pid, Some(other));
}

pub fn what_is_wrong_changes_nothing() {
    let world = World::with_cameras(&[("a", "")]);
    let pid = world.reader("a", 0);
    let good = fs::read_to_string(world.config()).unwrap();
    let refused = world.reload(|text| text + "dept = 3\n");
    let error = refused.error.unwrap();
    assert!(error.contains("unknown key `dept`"), "{error}");
    assert!(!error.contains("canary-password"), "{error}");
    assert_eq!((refused.changes, refused.applied), (None, 0));
    // What cannot change in a running daemon is named.
    let refused = world.reload(|_| good.replace("/data\"", "/elsewhere\"") + &camera("b", ""));
    let error = refused.error.unwrap();
    assert!(
        error.contains("[site] data_dir") && error.contains("restart"),
        "{error}"
    );
    let refused = world.reload(|_| "# nothing\n".to_owned());
    assert!(refused.error.is_some());
    fs::remove_file(world.config()).unwrap();
    let before = world.status().config.attempts;
    signal(world.pid(), Signal::HUP);
    let refused = wait_for("the attempt", || {
        let config = world.status().config;
        (config.attempts > before)
            .then_some(config)
            .ok_or_else(|| "none".to_owned())
    });
    assert!(refused.error.unwrap().contains("cannot read"));
    assert_eq!(world.camera("a").pid, Some(pid));
    assert_eq!(world.status().cameras.len(), 1);
    let applied = world.reload_to(&good);
    assert_eq!(applied.changes.as_deref(), Some("1 unchanged"));
    assert_eq!((applied.error, applied.applied), (None, 1));
}

pub fn many_changes_at_once_end_in_the_last() {
    let world = World::with_cameras(&[("a", ""), ("b", "")]);
    let other = world.reader("b", 0);
    let good = fs::read_to_string(world.config()).unwrap();
    for round in 0..20 {
        let threads = format!("name = \"a\"\nenabled = {}\n", round % 2 == 0);
        fs::write(world.config(), good.replacen("name = \"a\"\n", &threads, 1)).unwrap();
        signal(world.pid(), Signal::HUP);
    }
    let applied = world.reload_to(&good);
    assert_eq!(applied.error, None);
    world.reader("a", 0);
    assert_eq!(world.camera("b").pid, Some(other));
}
