//! Processes killed and stopped: each kind by itself, and all of them at random.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::camera::Script;
use crate::support::process;
use crate::world::{GOOD, Spares, World};
use crate::{Fault, Run, Scenario, random_for};

pub const KILLS: Scenario = Scenario {
    name: "kills",
    faults: &[
        Fault {
            name: "reader-killed",
            shows: &["killed by SIGKILL"],
        },
        Fault {
            name: "recorder-killed",
            shows: &["killed by SIGKILL"],
        },
        Fault {
            name: "server-killed",
            shows: &["killed by SIGKILL"],
        },
        Fault {
            name: "worker-killed",
            shows: &["media-crashed"],
        },
        Fault {
            name: "spawner-killed",
            shows: &["spawner_pid"],
        },
        Fault {
            name: "kills-and-stops-at-random",
            shows: &[],
        },
        Fault {
            name: "supervisor-killed",
            shows: &[],
        },
    ],
    run: kills,
};

pub const STOPS: Scenario = Scenario {
    name: "stops",
    faults: &[
        Fault {
            name: "reader-stopped",
            shows: &["no sign of life of its network thread"],
        },
        Fault {
            name: "reader-paused",
            shows: &[],
        },
        Fault {
            name: "recorder-stopped",
            shows: &[],
        },
        Fault {
            name: "server-stopped",
            shows: &[],
        },
        Fault {
            name: "spawner-stopped",
            shows: &["another spawner"],
        },
        Fault {
            name: "supervisor-stopped",
            shows: &[],
        },
        Fault {
            name: "everything-stopped",
            shows: &[],
        },
    ],
    run: stops,
};

fn kill(pid: u32, signal: Signal) {
    process::kill(pid, signal);
}

/// Stops a process for three seconds: by a program that does nothing else, so that they do not become ten
/// where this one is given no time.
fn pause(pid: u32) {
    let script = format!("kill -STOP {pid}; sleep 3; kill -CONT {pid}");
    let done = Command::new("sh").args(["-c", &script]).status();
    assert!(done.expect("sh").success());
}

fn snapshot(name: &str) -> String {
    format!("/api/v1/cameras/{name}/snapshot.jpg")
}

fn kills(run: &mut Run) {
    let mut world = World::new(vec![("victim", Script::default(), true)]);
    world.until_records("victim");

    run.fault("reader-killed", |shows| {
        let before = world.pid("victim", "/pid", 0);
        kill(before, Signal::SIGKILL);
        world.until_logged(shows[0]);
        world.pid("victim", "/pid", before);
        let now = world.until_streams("victim");
        assert_eq!(now["restarts"], 1, "{now}");
        // A break, no more: the same process records on.
        let now = world.until_records("victim");
        assert_eq!(now["recording"]["restarts"], 0, "{now}");
        world.unharmed(Spares::All);
    });

    run.fault("recorder-killed", |shows| {
        let times = world.log().matches(shows[0]).count();
        let before = world.pid("victim", "/recording/pid", 0);
        kill(before, Signal::SIGKILL);
        world.until_logged_again(shows[0], times);
        world.pid("victim", "/recording/pid", before);
        let now = world.until_records("victim");
        assert_eq!(
            (&now["restarts"], &now["recording"]["restarts"]),
            (&1.into(), &1.into()),
            "{now}"
        );
        world.unharmed(Spares::All);
    });

    run.fault("server-killed", |shows| {
        let times = world.log().matches(shows[0]).count();
        let before = world.server_pid(0);
        kill(before, Signal::SIGKILL);
        world.until_logged_again(shows[0], times);
        world.server_pid(before);
        world.until_answered("/hls/good-1/index.m3u8", 200, "#EXTM3U");
        assert_eq!(world.status()["http"]["restarts"], 1);
        world.unharmed(Spares::All);
    });

    run.fault("worker-killed", |shows| {
        let server = world.server_pid(0);
        let workers = || -> Vec<u32> {
            // One that has ended is waited for when its place is needed.
            let below = process::descendants(world.server_pid(0)).into_iter();
            below
                .filter(|one| one.state != 'Z')
                .map(|one| one.pid)
                .collect()
        };
        // Of the recording: decoded by a worker, which is kept.
        let recorded = || {
            let at = crate::support::unix_ns() / 1_000_000_000 - 3;
            format!("{}?at={at}", snapshot("good-1"))
        };
        let address = world.address();
        let lost = world.until("an answer that is lost with its worker", || {
            let _ = world.get(&recorded());
            let kept = workers();
            // Stopped, it is at work for as long as it is let live. One that is killed before it was
            // given the work, or that the machine let finish, costs nothing: once more.
            kept.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
            let path = recorded();
            let asking = std::thread::spawn(move || crate::world::get(address, &path));
            std::thread::sleep(Duration::from_millis(300));
            kept.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
            let answer = asking.join().expect("no panic").ok()?;
            (!kept.is_empty() && answer.0 != 200).then_some(answer)
        });
        assert!(lost.0 == 500 && lost.1.contains(shows[0]), "{lost:?}");
        world.until_answered(&recorded(), 200, "image/jpeg");
        assert_eq!(world.server_pid(0), server, "it is the same server");
        world.unharmed(Spares::All);
    });

    run.fault("spawner-killed", |_| {
        let before = world.spawner_pid(0);
        kill(before, Signal::SIGKILL);
        let reader = world.pid("victim", "/pid", 0);
        kill(reader, Signal::SIGKILL);
        world.pid("victim", "/pid", reader);
        world.spawner_pid(before);
        world.until_streams("victim");
        world.unharmed(Spares::All);
    });

    run.fault("kills-and-stops-at-random", |_| {
        let until = Instant::now() + random_for();
        let mut counts = std::collections::BTreeMap::new();
        while Instant::now() < until {
            let pid = match fastrand::u8(..5) {
                0 => world.camera("victim")["pid"].as_u64(),
                1 => world.camera("victim")["recording"]["pid"].as_u64(),
                2 => world.status()["http"]["pid"].as_u64(),
                3 => world.status()["spawner_pid"].as_u64(),
                _ => {
                    let _ = world.get(&snapshot("victim"));
                    let server = world.status()["http"]["pid"].as_u64();
                    let below = server.map(|pid| process::descendants(pid as u32));
                    below.and_then(|all| Some(u64::from(all.first()?.pid)))
                }
            };
            let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            let what = if fastrand::bool() { "kill" } else { "stop" };
            *counts.entry(what).or_insert(0) += 1;
            let pause = Duration::from_millis(fastrand::u64(..700));
            if what == "kill" {
                kill(pid, Signal::SIGKILL);
            } else {
                kill(pid, Signal::SIGSTOP);
                std::thread::sleep(pause);
                // Its own still, or that of a process that was never stopped.
                kill(pid, Signal::SIGCONT);
            }
            std::thread::sleep(pause);
        }
        println!("at random: {counts:?}");
        world.until_streams("victim");
        world.until_records("victim");
        world.until_answered("/hls/victim/index.m3u8", 200, "#EXTM3U");
        world.unharmed(Spares::All);
    });

    run.fault("supervisor-killed", |_| {
        // Everything ends with it, which `restart` sees, and another one begins where it stopped.
        world.one_session();
        world.restart(Signal::SIGKILL);
        world.until_streams("victim");
        world.until_records("victim");
        world.until_answered("/hls/good-1/index.m3u8", 200, "#EXTM3U");
        world.unharmed(Spares::All);
    });
    // The daemon's own.
    world.end(1);
}

fn stops(run: &mut Run) {
    let mut world = World::new(vec![
        ("stopped", Script::default(), false),
        ("paused", Script::default(), true),
        ("waiting", Script::default(), false),
    ]);
    world.until_streams("stopped");
    world.until_streams("waiting");
    world.until_records("paused");
    // These take more than ten seconds, and thirty, so they begin first.
    let stopped = world.pid("stopped", "/pid", 0);
    kill(stopped, Signal::SIGSTOP);
    let spawner = world.spawner_pid(0);
    kill(spawner, Signal::SIGSTOP);
    let waiting = world.pid("waiting", "/pid", 0);
    kill(waiting, Signal::SIGKILL);

    run.fault("reader-paused", |_| {
        let pid = world.pid("paused", "/pid", 0);
        pause(pid);
        world.until_records("paused");
        let now = world.until_streams("paused");
        assert_eq!(
            (&now["pid"], &now["restarts"]),
            (&pid.into(), &0.into()),
            "{now}"
        );
        world.unharmed(Spares::All);
    });

    run.fault("recorder-stopped", |_| {
        let pid = world.pid("paused", "/recording/pid", 0);
        let gaps = world.camera("paused")["recording"]["gaps"].clone();
        pause(pid);
        let now = world.until_records("paused");
        let recording = &now["recording"];
        assert_eq!(
            (
                &recording["pid"],
                &recording["gaps"],
                &recording["units_missed"]
            ),
            (&pid.into(), &gaps, &0.into()),
            "{now}"
        );
        world.unharmed(Spares::All);
    });

    run.fault("server-stopped", |_| {
        let pid = world.server_pid(0);
        let address = world.address();
        kill(pid, Signal::SIGSTOP);
        let waiting =
            std::thread::spawn(move || crate::world::get(address, "/hls/good-1/index.m3u8"));
        std::thread::sleep(Duration::from_secs(2));
        assert!(!waiting.is_finished(), "who answered?");
        kill(pid, Signal::SIGCONT);
        let (code, text) = waiting.join().expect("no panic").expect("an answer");
        assert_eq!(code, 200, "{text}");
        assert_eq!(world.server_pid(0), pid);
        world.unharmed(Spares::All);
    });

    run.fault("supervisor-stopped", |_| {
        let pid = world.daemon.pid();
        kill(pid, Signal::SIGSTOP);
        // Nothing needs it for its pictures.
        world.until_frames(25);
        kill(pid, Signal::SIGCONT);
        world.unharmed(Spares::All);
    });

    run.fault("spawner-stopped", |_| {
        world.until_camera("waiting", "no reader", |c| c["pid"] != u64::from(waiting));
        world.unharmed(Spares::All);
        // Nobody lets it go on.
        let another = world.spawner_pid(spawner);
        assert!(process::Process::of(spawner).is_none_or(|old| old.state == 'Z'));
        world.pid("waiting", "/pid", waiting);
        let now = world.until_streams("waiting");
        assert_eq!(now["restarts"], 1, "{now}");
        assert_eq!(world.spawner_pid(0), another);
        world.unharmed(Spares::All);
    });

    run.fault("reader-stopped", |shows| {
        world.until_logged(shows[0]);
        world.pid("stopped", "/pid", stopped);
        let now = world.until_streams("stopped");
        assert_eq!(now["restarts"], 1, "{now}");
        world.unharmed(Spares::All);
    });

    run.fault("everything-stopped", |_| {
        let restarts = world.camera("stopped")["restarts"].clone();
        let mut all = vec![world.daemon.pid()];
        all.extend(world.processes());
        all.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
        // Longer than a reader may be silent.
        std::thread::sleep(Duration::from_secs(12));
        all.iter().rev().for_each(|pid| kill(*pid, Signal::SIGCONT));
        let now = world.until_streams("stopped");
        assert_eq!(now["restarts"], restarts, "{now}");
        // What cameras sent meanwhile comes at once: more than a ring holds.
        for name in GOOD {
            world.until_records(name);
        }
        world.unharmed(Spares::Pictures);
    });
    world.one_session();
    let data = world.data_dir();
    // Silence of ten seconds is a break, if the camera was silent for as long.
    world.end_at(&data, |tape, _| assert!(tape.breaks().len() <= 2));
}
