//! Processes that die, at any moment and of any kind: what must survive survives, what must end ends.
#![deny(unsafe_code)]

mod support;

use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client};
use nix::sys::signal::Signal;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_until};

/// Quick retries: these tests are about what happens, not about when.
const QUICK: &str = "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\n";

fn site(farm: &Farm, cameras: &[&str]) -> String {
    cameras.iter().fold(QUICK.to_owned(), |text, name| {
        format!(
            "{text}[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
            farm.url(name)
        )
    })
}

fn kills() -> u32 {
    std::env::var("CAMRING_TORTURE")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100)
}

/// A small generator: the moments of the kills differ from run to run, and the seed is printed.
struct Moments(fastrand::Rng);

impl Moments {
    fn new() -> Self {
        let seed = fastrand::u64(..);
        println!("seed of the moments: {seed}");
        Moments(fastrand::Rng::with_seed(seed))
    }

    fn pause(&mut self, most: Duration) {
        std::thread::sleep(most.mul_f64(self.0.f64()));
    }
}

#[test]
fn readers_killed_at_random_tear_nothing_and_keep_their_subscribers() {
    let farm = Farm::start(&[
        Camera::new("victim", "h264-180p").unshared(),
        Camera::new("neighbour", "h264-180p"),
    ]);
    let daemon = Daemon::start(&site(&farm, &["victim", "neighbour"]));
    let mut victim = Viewer::attach(&daemon, &farm, "victim").allowing_gaps();
    let mut neighbour = Viewer::attach(&daemon, &farm, "neighbour");
    victim.next();
    neighbour.next();
    let mut moments = Moments::new();
    let memfds = process::memfds(daemon.pid());
    for _ in 0..kills() {
        let pid = daemon.reader_pid("victim");
        moments.pause(Duration::from_millis(150));
        process::kill(pid, Signal::SIGKILL);
        victim.watch_until_restarted();
    }
    victim.watch(5);
    neighbour.watch(5);
    assert_eq!(daemon.camera("neighbour")["restarts"], 0);
    let restarts = daemon.camera("victim")["restarts"].as_u64();
    assert!(restarts >= Some(u64::from(kills())), "{restarts:?}");
    // Each client that asks for the status has a page for a moment, also when the first count was
    // made: a leak would show a hundredfold.
    wait_until("no more memfds than before", PATIENCE, || {
        process::memfds(daemon.pid()) <= memfds
    });
}

#[test]
fn a_subscriber_killed_or_stopped_with_pins_costs_nobody_anything() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let mut holders: Vec<_> = (0..3)
            .map(|_| {
                daemon
                    .camring(["tail", "door"])
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        daemon.wait_for_camera("door", "four subscribers", |c| c["subscribers"] == 4);
        for holder in &holders {
            assert!(process::kill(holder.id(), signal));
        }
        viewer.watch(25);
        for holder in &mut holders {
            holder.kill().unwrap();
            holder.wait().unwrap();
        }
        daemon.wait_for_camera("door", "one subscriber", |c| c["subscribers"] == 1);
        viewer.watch(5);
    }
    let status = daemon.camera("door");
    assert_eq!(status["frames_dropped"]["no_slot"], 0, "{status}");
}

#[test]
fn a_subscriber_that_holds_all_it_may_learns_so_and_hurts_nobody() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions {
        pins: 3,
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut greedy = client.attach("door", &options).unwrap();
    let held: Vec<_> = (0..3)
        .map(|_| greedy.next_timeout(PATIENCE).unwrap().unwrap())
        .collect();
    let sums: Vec<u64> = held
        .iter()
        .map(|f| f.plane(0).iter().map(|b| u64::from(*b)).sum())
        .collect();
    viewer.watch(30);
    let error = greedy.next_timeout(PATIENCE).unwrap_err().to_string();
    assert!(error.contains('3'), "{error}");
    for (frame, sum) in held.iter().zip(sums) {
        assert_eq!(
            frame.plane(0).iter().map(|b| u64::from(*b)).sum::<u64>(),
            sum,
            "held frames stay"
        );
    }
    drop(held);
    assert!(greedy.next_timeout(PATIENCE).unwrap().is_some());
    assert_eq!(daemon.camera("door")["frames_dropped"]["no_slot"], 0);
}

#[test]
fn nothing_survives_a_killed_supervisor() {
    let farm = Farm::start(&[Camera::new("a", "h264-180p"), Camera::new("b", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["a", "b"]));
    let mut viewer = Viewer::attach(&daemon, &farm, "a");
    viewer.next();
    daemon.wait_for_state("b", "streaming");
    assert!(
        process::descendants(daemon.pid()).len() >= 3,
        "spawner and two readers"
    );
    daemon.kill();
}

#[test]
fn nobody_notices_that_the_spawner_was_killed() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").unshared()]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let reader = daemon.reader_pid("door");
    for _ in 0..3 {
        let spawner = process::children(daemon.pid())
            .into_iter()
            .find(|child| child.pid != reader)
            .expect("the spawner");
        assert!(process::kill(spawner.pid, Signal::SIGKILL));
        wait_until("the spawner's end", PATIENCE, || !spawner.is_alive());
        viewer.watch(10);
        assert_eq!(daemon.reader_pid("door"), reader);
    }
    // And a reader can still be started.
    viewer.allow_gaps();
    process::kill(reader, Signal::SIGKILL);
    viewer.watch_until_restarted();
    viewer.watch(5);
}

#[test]
fn a_reader_that_hangs_is_replaced() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").unshared()]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    viewer.next();
    let reader = daemon.reader_pid("door");
    assert!(process::kill(reader, Signal::SIGSTOP));
    viewer.watch_until_restarted();
    assert_ne!(daemon.reader_pid("door"), reader);
}

#[test]
fn shutdown_says_goodbye_to_the_cameras_and_leaves_nothing() {
    let farm = Farm::start(&[Camera::new("a", "h264-180p"), Camera::new("b", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["a", "b"]));
    for name in ["a", "b"] {
        daemon.wait_for_state(name, "streaming");
        assert_eq!(farm.clients(name), 1);
    }
    let begun = Instant::now();
    daemon.stop();
    println!("shutdown took {:?}", begun.elapsed());
    wait_until("the cameras to have no client", PATIENCE, || {
        farm.clients("a") == 0 && farm.clients("b") == 0
    });
}

/// As a reader taken over by its camera could leave it.
#[test]
fn a_packet_ring_left_in_ruins_is_replaced() {
    use std::os::unix::fs::FileExt as _;
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    daemon.wait_for_state("door", "streaming");
    let reader = daemon.reader_pid("door");
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())) else {
        println!("skipped: the daemon is not dumpable, so this takes root");
        return;
    };
    let ring = descriptors
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            std::fs::read_link(path)
                .is_ok_and(|to| to.to_string_lossy().contains("camring-packets"))
        })
        .expect("a packet ring");
    let ring = std::fs::File::options().write(true).open(ring).unwrap();
    ring.write_all_at(&[0xff; 128], 0).unwrap();
    process::kill(reader, Signal::SIGKILL);
    daemon.wait_for_camera("door", "another reader that reads", |camera| {
        camera["state"] == "streaming" && camera["restarts"].as_u64() >= Some(2)
    });
    let log = daemon.log();
    assert!(log.contains("this memory is no packet ring"), "{log}");
}
