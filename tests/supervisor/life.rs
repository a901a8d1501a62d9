//! A reader's ordinary life.

use std::fs;

use camring::health::State;
use camring_ring::{AttachError, RingChange};

use crate::viewer::{next, options};
use crate::world::{World, camera, descendants, descriptors, wait_for};

pub fn a_reader_runs_and_status_tells() {
    let world = World::with_cameras(&[("front-door", "fps=100"), ("yard", "")]);
    let mut door = world.client().attach("front-door", &options(2)).unwrap();
    let mut last = 0;
    for _ in 0..50 {
        let frame = next(&mut door);
        assert!(frame.sequence() > last);
        last = frame.sequence();
    }
    let seen = world.wait_for_camera("front-door", "figures", |c| {
        c.fps_published > 1.0 && c.memory_bytes.is_some() && c.cpu_percent > 0.0
    });
    assert_eq!(
        (seen.state, &*seen.reason),
        (State::Streaming, "test pictures")
    );
    assert_eq!((seen.width, seen.height), (Some(64), Some(64)));
    assert_eq!(seen.codec.as_deref(), Some("h264"));
    assert_eq!(
        (seen.subscribers, seen.restarts, seen.reconnects),
        (1, 0, 0)
    );
    assert_eq!(seen.cpus.len(), 1, "one core: {:?}", seen.cpus);
    assert!(seen.frames_published >= 50 && seen.fps_in > 1.0);
    assert!(seen.latency_p50_ms.unwrap() <= seen.latency_p99_ms.unwrap());
    assert!(seen.last_frame_age_ms.is_some() && seen.ring_bytes > 8 << 20);
    assert!(seen.since.ends_with('Z'), "{}", seen.since);

    let status = world.status();
    assert_eq!((status.pid as i32, &*status.site), (world.pid(), "test"));
    assert!(status.memory.rings_bytes >= 2 * seen.ring_bytes);
    assert!(status.memory.untouched_bytes > 0 && status.clients >= 1);
    let names: Vec<_> = status.cameras.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["front-door", "yard"]);

    let pid = seen.pid.unwrap();
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(title.trim_end_matches('\0'), "camring: reader front-door");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "read front-door\n");
    let spawner = status.spawner_pid.unwrap();
    let title = fs::read_to_string(format!("/proc/{spawner}/cmdline")).unwrap();
    assert_eq!(title.trim_end_matches('\0'), "camring: spawner");
    // The readers are the supervisor's own children, and so is the spawner; nobody else is there.
    let mut children: Vec<_> = descendants(world.pid())
        .iter()
        .map(|p| (p.pid, p.parent))
        .collect();
    children.sort_unstable();
    let mut expected = vec![spawner, pid, world.camera("yard").pid.unwrap()];
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|pid| (pid, world.pid())).collect();
    assert_eq!(children, expected);
}

pub fn a_reader_is_isolated() {
    let world = World::with_cameras(&[("door", "")]);
    let pid = world.reader("door", 0);
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let spawner = world.status().spawner_pid.unwrap();
    for pid in [pid, spawner] {
        // Only root can read this of a process that is not dumpable: tests may run as another.
        if let Ok(environment) = fs::read_to_string(format!("/proc/{pid}/environ")) {
            assert!(!environment.contains("canary"), "{environment}");
        }
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!cmdline.contains("canary"));
    }
    assert!(read("status").contains("NoNewPrivs:\t1"));
    let limits = read("limits");
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    let files = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .unwrap();
    assert!(
        files
            .split_whitespace()
            .nth(3)
            .unwrap()
            .parse::<u32>()
            .unwrap()
            <= 4096
    );
    // Its own memory and sockets, the log, and nothing of the supervisor's or another camera's.
    let log = world.path().join("log").display().to_string();
    for descriptor in descriptors(pid) {
        let own = descriptor == "/dev/null"
            || descriptor == log
            || descriptor.starts_with("socket:")
            || descriptor.starts_with("/memfd:camring-")
            || descriptor.starts_with("/dev/shm/camring-");
        assert!(own, "{descriptor}");
    }
    let sockets = descriptors(pid)
        .iter()
        .filter(|d| d.starts_with("socket:"))
        .count();
    assert!(
        sockets <= 1,
        "only its control socket: {:?}",
        descriptors(pid)
    );
    assert!(
        World::names(world.pid()).is_empty(),
        "health pages have no name any more"
    );
    assert!(!world.log().contains("canary"));
}

pub fn pictures_that_grow_move_the_subscribers() {
    let world = World::with_cameras(&[("door", "after=100&grow_to=65536&fps=100")]);
    let mut door = world.client().attach("door", &options(3)).unwrap();
    let first = next(&mut door);
    assert_eq!(first.plane(0).len(), 4096);
    let mut last = first.sequence();
    let moved = loop {
        let frame = next(&mut door);
        assert_eq!(frame.sequence(), last + 1 + frame.missed());
        last = frame.sequence();
        if frame.change() == Some(RingChange::Replaced) {
            break frame;
        }
    };
    assert_eq!(moved.plane(0).len(), 65536);
    // The old ring is held, and counted, by its one frame that is still in use.
    crate::viewer::verify(&first);
    assert!(world.status().memory.replaced_bytes > 0);
    drop(first);
    wait_for("the old ring to be given back", || {
        match world.status().memory.replaced_bytes {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    });
    for _ in 0..20 {
        next(&mut door);
    }
    assert_eq!(world.camera("door").restarts, 0);
}

/// A reader goes on publishing in the old ring while the new one is being made for it, and may die
/// before it has begun to use it: numbers rise all the same, and nothing counts as missed.
pub fn numbers_go_on_in_a_ring_asked_for_earlier() {
    for plan in ["", "&die_between_rings=1"] {
        let plan = format!("after=50&grow_to=65536&fps=50&late=10{plan}");
        let world = World::with_cameras(&[("door", &plan)]);
        let mut door = world.client().attach("door", &options(1)).unwrap();
        let mut last = next(&mut door).sequence();
        loop {
            let frame = next(&mut door);
            assert_eq!(frame.sequence(), last + 1 + frame.missed());
            last = frame.sequence();
            if frame.change() == Some(RingChange::Replaced) {
                // As large pictures, the first of which came after ten late ones.
                assert!(frame.sequence() > 60, "{}", frame.sequence());
                assert!(frame.missed() < 10, "{}", frame.missed());
                break;
            }
        }
    }
}

/// The session is well, but no picture gets through: that is not streaming.
pub fn a_camera_without_room_does_not_stream() {
    let table = camera("big", "size=1048576&boast=1") + "memory = \"16 MiB\"\n";
    let world = World::new(&table);
    let seen = world.wait_for_camera("big", "the state", |c| c.state == State::Failed);
    assert!(seen.reason.contains("memory_per_camera"), "{}", seen.reason);
}

pub fn a_ring_over_the_budget_is_refused_with_numbers() {
    let small = "memory = \"16 MiB\"\n";
    let big = camera("big", "size=1048576") + small;
    let world = World::new(&(big + &camera("small", "") + small));
    next(&mut world.client().attach("small", &options(1)).unwrap());
    let refused = wait_for("the refusal", || {
        match world.client().attach("big", &options(1)) {
            Err(AttachError::Refused { text, .. }) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(refused.contains("memory_per_camera"), "{refused}");
    assert!(refused.contains("of its 16777216 bytes"), "{refused}");
    let seen = world.wait_for_camera("big", "the reason", |c| c.state == State::Failed);
    assert!(seen.reason.contains("memory_per_camera"), "{}", seen.reason);
}

pub fn names_are_looked_up_for_the_camera_only() {
    let world = World::new(
        "[[camera]]\nname = \"own\"\nurl = \"rtsp://localhost/x?resolve=localhost\"\n\
         [[camera]]\nname = \"other\"\nurl = \"rtsp://localhost/x?resolve=example.invalid\"\n",
    );
    world.wait_for_camera("own", "its address", |c| {
        c.reason.starts_with("resolved: Ok([")
    });
    let seen = world.wait_for_camera("other", "no answer", |c| c.reason.starts_with("resolved"));
    assert!(
        seen.reason.contains("only the camera's own host"),
        "{}",
        seen.reason
    );
}

pub fn a_second_daemon_is_told_of_the_first() {
    let world = World::with_cameras(&[("door", "")]);
    let output = world
        .command()
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "another camring (pid {}) runs with runtime_dir",
        world.pid()
    );
    assert!(text.contains(&expected), "{text}");
    next(&mut world.client().attach("door", &options(1)).unwrap());
}

pub fn systemd_is_told() {
    let mut world = World::not_started(&camera("door", ""));
    let path = world.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    world.start_with(|command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "2000000");
    });
    let mut heard = String::new();
    let mut hear_until = |what: &str| {
        let mut buffer = [0; 1024];
        while !heard.contains(what) {
            let len = socket.recv(&mut buffer).unwrap();
            heard.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
        heard.clone()
    };
    let first = hear_until("READY=1");
    assert!(!first.contains("WATCHDOG=1"), "{first}");
    hear_until("STATUS=1 of 1 cameras streaming");
    hear_until("WATCHDOG=1");
    let pid = world.reader("door", 0);
    if let Ok(environment) = fs::read_to_string(format!("/proc/{pid}/environ")) {
        assert!(!environment.contains("NOTIFY") && !environment.contains("WATCHDOG"));
    }
    drop(world);
    let all = hear_until("STOPPING=1");
    assert!(all.find("READY=1") < all.find("STOPPING=1"), "{all}");
}
