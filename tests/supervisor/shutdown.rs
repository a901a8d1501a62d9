//! The ends of a supervisor. [`World`]'s drop checks what must be gone.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::viewer::{next, options};
use crate::world::{World, descendants, signal, wait_for};

pub fn sigterm_leaves_nothing() {
    for stop in [Signal::TERM, Signal::INT] {
        let mut world = World::with_cameras(&[("a", ""), ("b", ""), ("gone", "exit=1&after=0")]);
        let client = world.client();
        let mut a = client.attach("a", &options(1)).unwrap();
        next(&mut a);
        let before = descendants(world.pid());
        signal(world.pid(), stop);
        let status = world.wait_end_of(&before);
        assert_eq!(status.code(), Some(0), "{}", world.log());
        let log = world.log();
        assert!(log.contains("stopped"), "{log}");
        assert!(!log.contains("did not stop in time"), "{log}");
        assert_eq!(std::fs::read_dir(world.runtime_dir()).unwrap().count(), 0);
        let end = wait_for("the end", || match a.next() {
            Err(end) => Ok(end),
            Ok(frame) => Err(format!("{frame:?}")),
        });
        assert!(
            matches!(end, camring_ring::RingError::Disconnected),
            "{end}"
        );
    }
}

pub fn deaf_readers_are_killed() {
    let mut world = World::with_cameras(&[("deaf", "deaf=1"), ("stopped", ""), ("good", "")]);
    world.reader("deaf", 0);
    let stopped = world.reader("stopped", 0);
    signal(stopped, Signal::STOP);
    let before = descendants(world.pid());
    signal(world.pid(), Signal::TERM);
    assert_eq!(
        world.wait_end_of(&before).code(),
        Some(0),
        "{}",
        world.log()
    );
}

pub fn a_second_signal_is_at_once() {
    let mut world = World::with_cameras(&[("deaf", "deaf=1")]);
    world.reader("deaf", 0);
    let before = descendants(world.pid());
    signal(world.pid(), Signal::TERM);
    wait_for("the first to be heard", || {
        let log = world.log();
        if log.contains("SIGTERM: stopping") {
            Ok(())
        } else {
            Err(log)
        }
    });
    signal(world.pid(), Signal::TERM);
    assert_eq!(
        world.wait_end_of(&before).code(),
        Some(0),
        "{}",
        world.log()
    );
    assert!(
        world.log().contains("killing all children"),
        "{}",
        world.log()
    );
}

/// The restart of a reader waits for the spawner far longer than a shutdown may take.
pub fn a_spawner_that_hangs_is_not_waited_for() {
    let mut world = World::with_cameras(&[("a", ""), ("b", "")]);
    let a = world.reader("a", 0);
    world.reader("b", 0);
    let spawner = wait_for("a spawner", || {
        world.status().spawner_pid.ok_or_else(|| "none".to_owned())
    });
    signal(spawner, Signal::STOP);
    signal(a, Signal::KILL);
    world.wait_for_camera("a", "a restart on its way", |c| {
        c.pid.is_none() && c.reason.contains("SIGKILL")
    });
    // Its pause is over, and it asks the spawner.
    std::thread::sleep(Duration::from_millis(500));
    let before = descendants(world.pid());
    let start = Instant::now();
    signal(world.pid(), Signal::TERM);
    let status = world.wait_end_of(&before);
    let took = start.elapsed();
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", world.log());
    assert!(
        !world.log().contains("readers do not end"),
        "{}",
        world.log()
    );
}
