//! Processes that die, at any moment.

use camring::health::State;
use camring_ring::RingChange;
use rustix::process::Signal;

use crate::viewer::{Viewer, next, options};
use crate::world::{Process, World, descendants, descriptors, signal, wait_for};

pub fn readers_killed_again_and_again() {
    let world = World::with_cameras(&[("victim", ""), ("neighbour", "")]);
    let client = world.client();
    let mut victim = client.attach("victim", &options(3)).unwrap();
    let mut neighbour = client.attach("neighbour", &options(1)).unwrap();
    let id = victim.id();
    let mut last = next(&mut victim).sequence();
    let mut generation = victim.generation();
    next(&mut neighbour);
    let mut pid = world.reader("victim", 0);
    let memfds = || {
        descriptors(world.pid())
            .iter()
            .filter(|d| d.starts_with("/memfd:"))
            .count()
    };
    let kills = 40;
    for _ in 0..kills {
        let held = next(&mut victim);
        std::thread::sleep(std::time::Duration::from_micros(fastrand::u64(..20_000)));
        signal(pid, Signal::KILL);
        let frame = loop {
            let frame = next(&mut victim);
            assert!(frame.sequence() > last);
            last = frame.sequence();
            if frame.change() == Some(RingChange::WriterRestarted) {
                break frame;
            }
        };
        assert!(frame.generation() > generation);
        generation = frame.generation();
        crate::viewer::verify(&held);
        drop((held, frame));
        pid = wait_for("the next reader", || {
            let camera = world.camera("victim");
            camera
                .pid
                .filter(|p| *p != pid)
                .ok_or(format!("{camera:?}"))
        });
    }
    assert_eq!(victim.id(), id, "still the same attachment");
    assert_eq!(world.camera("victim").restarts, kills);
    assert_eq!(world.camera("neighbour").restarts, 0);
    for _ in 0..20 {
        assert_eq!(next(&mut neighbour).generation(), 1);
    }
    // Two cameras of two rings, two pin pages, one bell: as before the first kill. Only root can
    // see a process's descriptors that is not dumpable.
    let visible = !descriptors(world.pid()).is_empty();
    wait_for("no leaked memfd", || match memfds() {
        7 => Ok(()),
        _ if !visible => Ok(()),
        now => Err(format!("{now}: {:#?}", descriptors(world.pid()))),
    });
    let zombies = || descendants(world.pid()).len();
    wait_for("no leaked process", || match zombies() {
        3 => Ok(()),
        n => Err(n.to_string()),
    });
    assert!(World::names(world.pid()).is_empty());
}

pub fn a_reader_killed_between_two_rings() {
    // It asks for a bigger ring, gets it, and dies before it can close the old one.
    let plan = "after=50&grow_to=65536&die_between_rings=1&size=4096";
    let world = World::with_cameras(&[("door", plan)]);
    let mut door = world.client().attach("door", &options(1)).unwrap();
    let mut last = 0;
    loop {
        let frame = next(&mut door);
        assert!(frame.sequence() > last);
        last = frame.sequence();
        // Moved by the supervisor, since nobody else could.
        if frame.change() == Some(RingChange::Replaced) {
            break;
        }
    }
    assert!(world.camera("door").restarts >= 1);
}

pub fn a_packet_ring_beyond_repair_is_replaced() {
    let world = World::with_cameras(&[("door", "new_packets=1")]);
    // Whoever attached to the first one is moved to the second.
    let mut units = world.client().attach_packets("door", &options(1)).unwrap();
    let mut bytes = Vec::new();
    let unit = units
        .next_timeout(&mut bytes, std::time::Duration::from_secs(60))
        .unwrap();
    assert!(unit.is_some());
    let seen = world.wait_for_camera("door", "one restart", |c| c.restarts == 1);
    assert!(seen.ring_bytes > 0);
    wait_for("the first one to be given back", || {
        match world.status().memory.replaced_bytes {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    });
}

pub fn subscribers_killed_and_stopped_holding_pins() {
    let world = World::with_cameras(&[("door", "fps=100")]);
    let mut other = world.client().attach("door", &options(1)).unwrap();
    let viewers: Vec<_> = (0..5)
        .map(|_| Viewer::start(&world.socket(), "door", 3))
        .collect();
    world.wait_for_camera("door", "six subscribers", |c| c.subscribers == 6);
    signal(viewers[0].pid(), Signal::STOP);
    for _ in 0..50 {
        next(&mut other);
    }
    let Err(refused) = world.client().attach("door", &options(15)) else {
        panic!("31 of 16 pins");
    };
    assert!(refused.to_string().contains("16"), "{refused}");
    for viewer in &viewers {
        signal(viewer.pid(), Signal::KILL);
    }
    world.wait_for_camera("door", "one subscriber", |c| c.subscribers == 1);
    // All 15 pins are back, and can be held.
    let mut greedy = world.client().attach("door", &options(15)).unwrap();
    let held: Vec<_> = (0..15).map(|_| next(&mut greedy)).collect();
    for _ in 0..20 {
        next(&mut other);
        held.iter().for_each(crate::viewer::verify);
    }
    let camera = world.camera("door");
    assert_eq!(
        (camera.restarts, camera.frames_dropped.no_slot),
        (0, 0),
        "{camera:?}"
    );
}

pub fn the_spawner_killed() {
    let world = World::with_cameras(&[("a", ""), ("b", "")]);
    let mut a = world.client().attach("a", &options(1)).unwrap();
    let mut killed = 0;
    for _ in 0..5 {
        let spawner = wait_for("a spawner", || {
            world
                .status()
                .spawner_pid
                .filter(|p| *p != killed)
                .ok_or("none".to_owned())
        });
        killed = spawner;
        signal(spawner, Signal::KILL);
        for _ in 0..20 {
            assert_eq!(next(&mut a).generation(), 1);
        }
    }
    // At the same moment: the reader's restart needs the spawner.
    let spawner = world.status().spawner_pid;
    let reader = world.reader("b", 0);
    if let Some(spawner) = spawner {
        signal(spawner, Signal::KILL);
    }
    signal(reader, Signal::KILL);
    world.reader("b", reader);
    for name in ["a", "b"] {
        let expected = u32::from(name == "b");
        assert_eq!(world.camera(name).restarts, expected, "{name}");
    }
}

pub fn a_crash_takes_a_new_template() {
    let world = World::with_cameras(&[("door", "abort=1&lives=1")]);
    let first = wait_for("a spawner", || {
        world.status().spawner_pid.ok_or("none".to_owned())
    });
    world.wait_for_camera("door", "a second life", |c| {
        c.restarts == 1 && c.fps_published > 0.0
    });
    assert!(world.log().contains("killed by SIGABRT"), "{}", world.log());
    wait_for("another spawner", || {
        let now = world.status().spawner_pid;
        now.filter(|pid| *pid != first).ok_or(format!("{now:?}"))
    });
}

pub fn an_exit_is_explained_and_retried() {
    let world = World::with_cameras(&[("door", "exit=3&lives=2")]);
    let seen = world.wait_for_camera("door", "the reason", |c| {
        c.state == State::Backoff || c.restarts == 2
    });
    if seen.state == State::Backoff {
        assert!(
            seen.reason.contains("exit code 3: the lens fell off"),
            "{}",
            seen.reason
        );
        assert_eq!(seen.pid, None);
        assert!(seen.last_frame_age_ms.is_some());
    }
    let seen = world.wait_for_camera("door", "two restarts", |c| {
        c.restarts == 2 && c.fps_in > 0.0
    });
    assert_eq!(seen.state, State::Streaming);
    assert!(
        seen.frames_published > 40,
        "sums go on: {}",
        seen.frames_published
    );
    assert!(
        !world.log().contains('\u{1b}'),
        "a reader's words reach no terminal as they are"
    );
}

pub fn a_forbidden_system_call_is_explained() {
    let world = World::with_cameras(&[("door", "violate=1&lives=1"), ("good", "")]);
    world.wait_for_camera("door", "a restart", |c| c.restarts == 1 && c.fps_in > 0.0);
    let log = world.log();
    assert!(
        log.contains("killed by SIGSYS: a system call that the sandbox forbids"),
        "{log}"
    );
    world.wait_for_camera("good", "no restart", |c| c.restarts == 0 && c.fps_in > 0.0);
}

pub fn readers_that_hang_are_replaced() {
    let world = World::with_cameras(&[
        ("hangs", "hang=1&lives=1"),
        ("mute", "mute=1"),
        ("stopped", ""),
        ("good", ""),
    ]);
    let mut good = world.client().attach("good", &options(1)).unwrap();
    let stopped = world.reader("stopped", 0);
    signal(stopped, Signal::STOP);
    for name in ["hangs", "mute", "stopped"] {
        world.wait_for_camera(name, "a restart", |c| c.restarts >= 1);
    }
    world.reader("stopped", stopped);
    assert!(
        world
            .log()
            .contains("no sign of life of its network thread"),
        "{}",
        world.log()
    );
    assert!(Process::of(stopped).is_none_or(|p| p.parent != world.pid()));
    assert_eq!(next(&mut good).generation(), 1);
}

pub fn hostile_readers_harm_only_themselves() {
    let world = World::with_cameras(&[
        ("garbage", "garbage=1"),
        ("truncate", "truncate=1"),
        ("flood", "flood=1"),
        ("rings", "rings=1&lives=1"),
        ("good", ""),
    ]);
    let mut good = world.client().attach("good", &options(1)).unwrap();
    for name in ["garbage", "truncate"] {
        world.wait_for_camera(name, "restarts", |c| c.restarts >= 2);
    }
    let log = world.log();
    assert!(log.contains("not a message of this version"), "{log}");
    assert!(log.contains("its health page cannot be read"), "{log}");
    wait_for("the limit on rings", || {
        let log = world.log();
        if log.contains("more than 10 rings") {
            Ok(())
        } else {
            Err(log)
        }
    });
    for _ in 0..100 {
        assert_eq!(next(&mut good).generation(), 1);
    }
    assert_eq!(world.camera("good").restarts, 0);
}

pub fn the_supervisor_killed() {
    let mut world = World::with_cameras(&[("a", ""), ("b", "hang=1")]);
    world.reader("a", 0);
    let client = world.client();
    let mut a = client.attach("a", &options(1)).unwrap();
    next(&mut a);
    let pid = world.pid();
    let before = descendants(pid);
    assert!(before.len() >= 3, "{before:?}");
    signal(pid, Signal::KILL);
    world.wait_end_of(&before);
    wait_for("the subscriber to be told", || match a.next() {
        Err(camring_ring::RingError::Disconnected) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // As if it had been killed between making a page and its reader's opening it.
    std::fs::write(format!("/dev/shm/camring-{pid}-0-0"), b"").unwrap();
    assert!(world.socket().exists(), "nobody was there to remove it");
    world.start();
    assert!(World::names(pid).is_empty(), "swept");
    next(&mut world.client().attach("a", &options(1)).unwrap());
}
