//! `mode = "on-demand"` with real cameras: nothing is decoded until somebody looks, and whoever looks
//! has a picture before the camera sends its next key frame. By the content of the pictures.
#![deny(unsafe_code)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use camring_ring::{AttachOptions, Client, PacketSubscription, UnitDescriptor, UnitFlags};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, process};

/// A group of pictures of the small clips.
const GOP: u64 = 25;

/// Cameras that send a key frame every five seconds: time to do something between two of them.
fn slow(name: &str) -> Camera {
    Camera::new(name, "h264-180p").fps(5)
}

/// Every eight seconds: time to do it and catch up, too, on a machine that has much else to do.
fn slower(name: &str) -> Camera {
    Camera::new(name, "h264-180p").fps(3)
}

fn site(farm: &Farm, cameras: &[&str]) -> String {
    let common =
        "[decode]\nmode = \"on-demand\"\n\n[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\n";
    cameras.iter().fold(common.to_owned(), |text, name| {
        format!(
            "{text}[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
            farm.url(name)
        )
    })
}

/// Follows a camera's access units: says where in its group of pictures it is.
struct Units {
    packets: PacketSubscription,
    newest_key: u64,
    newest: u64,
}

impl Units {
    #[track_caller]
    fn of(daemon: &Daemon, camera: &str) -> Units {
        let client = Client::connect(&daemon.socket()).unwrap();
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let mut units = Units {
            packets: client.attach_packets(camera, &options).unwrap(),
            newest_key: 0,
            newest: 0,
        };
        while units.newest_key == 0 {
            units.next();
        }
        units
    }

    #[track_caller]
    fn next(&mut self) -> UnitDescriptor {
        self.next_within(PATIENCE).expect("a unit in time")
    }

    /// Reads what is there. True if there was anything.
    #[track_caller]
    fn read_all(&mut self) -> bool {
        let mut any = false;
        while self.next_within(Duration::ZERO).is_some() {
            any = true;
        }
        any
    }

    #[track_caller]
    fn next_within(&mut self, timeout: Duration) -> Option<UnitDescriptor> {
        let mut bytes = Vec::new();
        let unit = self.packets.next_timeout(&mut bytes, timeout).unwrap()?;
        self.newest = unit.sequence;
        if unit.flags.contains(UnitFlags::KEY) {
            self.newest_key = unit.sequence;
        }
        Some(unit)
    }

    /// Waits until the last key frame is just so many units ago. Returns its number.
    #[track_caller]
    fn wait_for_place(&mut self, after_key: u64) -> u64 {
        loop {
            self.next();
            let place = self.newest - self.newest_key;
            // And nothing more is waiting to be read: this is where the camera is.
            if place == after_key && !self.read_all() {
                return self.newest_key;
            }
        }
    }
}

fn idle(camera: &Value) -> bool {
    camera["decode"] == "idle"
}

#[test]
fn nothing_is_decoded_for_nobody_nor_for_those_who_want_packets() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let config =
        site(&farm, &["door"]).replace("[retry]\n", "[retry]\ndecode_timeout = \"1500ms\"\n");
    let daemon = Daemon::start(&config);
    daemon.wait_for_state("door", "streaming");
    let mut units = Units::of(&daemon, "door");
    // Long enough for a watchdog that waits for decoded pictures.
    for _ in 0..5 * GOP {
        units.next();
    }
    let status = daemon.camera("door");
    assert!(idle(&status), "{status}");
    assert_eq!(
        (
            &status["frames_decoded"],
            &status["reconnects"],
            &status["state"]
        ),
        (&0.into(), &0.into(), &"streaming".into()),
        "{status}"
    );
    // Counted by whole groups: all but the newest.
    let not_wanted = status["frames_dropped"]["not_wanted"].as_u64().unwrap();
    assert!(not_wanted >= 3 * GOP, "{status}");
    assert_eq!(not_wanted % GOP, 0, "{status}");
}

#[test]
fn a_picture_is_there_before_the_next_key_frame_and_all_that_follow_in_order() {
    let farm = Farm::start(&[slower("door")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut units = Units::of(&daemon, "door");
    // Twice: without a frame ring, and with the one of the first time.
    for _ in 0..2 {
        daemon.wait_for_camera("door", "idle", idle);
        let key = units.wait_for_place(3);
        let mut viewer = Viewer::attach(&daemon, &farm, "door");
        let first = viewer.next();
        assert!(
            (key..key + GOP).contains(&first.access_unit),
            "{first:?}, the key frame was {key}"
        );
        // Into the next group: nothing is missing, nothing comes twice.
        viewer.watch(30);
        let status = daemon.wait_for_camera("door", "decoding", |c| c["decode"] == "decoding");
        let dropped = &status["frames_dropped"];
        assert_eq!(
            (&dropped["catch_up"], &dropped["overload"]),
            (&0.into(), &0.into()),
            "{status}"
        );
    }
}

#[test]
fn pictures_that_come_out_of_order_are_all_caught_up_with() {
    let farm = Farm::start(&[Camera::new("door", "h264-b").fps(5)]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut units = Units::of(&daemon, "door");
    for _ in 0..2 {
        daemon.wait_for_camera("door", "idle", idle);
        let key = units.wait_for_place(8);
        let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
        // A decoder that reorders gives a key frame away with the picture after it: until then the
        // ring ends with what was seen last.
        let mut before = viewer.next();
        while before.access_unit < key {
            before = viewer.next();
        }
        for _ in 0..20 {
            let frame = viewer.next();
            // One number for each picture interval: none is missing, none comes twice.
            let numbers = i64::try_from(frame.sequence - before.sequence).unwrap();
            assert_eq!(
                frame.pts - before.pts,
                numbers * 18_000,
                "{frame:?} after {before:?}"
            );
            before = frame;
        }
    }
}

#[test]
fn decoding_ends_when_the_last_one_has_left_and_goes_on_where_it_ended() {
    let farm = Farm::start(&[slow("door")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let mut units = Units::of(&daemon, "door");
    let mut one = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    let mut two = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    one.watch(3);
    drop(one);
    two.watch(15);
    // Left at the beginning of a group and back before its end: its key frame is in the past.
    units.wait_for_place(1);
    drop(two);
    let status = daemon.wait_for_camera("door", "idle", idle);
    let decoded = status["frames_decoded"].clone();
    units.read_all();
    for _ in 0..4 {
        units.next();
    }
    assert_eq!(daemon.camera("door")["frames_decoded"], decoded);
    units.read_all();
    let key = units.newest_key;
    // Where the next key frame comes before all is caught up with, what is left is left out.
    let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    let first = viewer.next();
    assert!(
        first.access_unit >= key,
        "{first:?}, the key frame was {key}"
    );
    let mut last = first;
    for _ in 0..30 {
        let frame = viewer.next();
        assert!(
            frame.access_unit > last.access_unit && frame.pts > last.pts,
            "{frame:?} after {last:?}"
        );
        last = frame;
    }
}

#[test]
fn those_who_come_and_go_all_get_pictures() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    for round in 0..30 {
        let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
        viewer.watch(1 + round % 4);
        drop(viewer);
        if round % 10 == 9 {
            daemon.wait_for_camera("door", "idle", idle);
        }
    }
    let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    viewer.watch(30);
    let status = daemon.camera("door");
    assert_eq!(status["restarts"], 0, "{status}");
    assert_eq!(status["frames_dropped"]["decode_error"], 0, "{status}");
}

#[test]
fn a_new_reader_knows_whether_somebody_looks() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").unshared()]);
    let daemon = Daemon::start(&site(&farm, &["door"]));
    let kill = || {
        let pid = daemon.reader_pid("door");
        assert!(process::kill(pid, Signal::SIGKILL));
        daemon.wait_for_camera("door", "a new reader", |c| {
            c["pid"].as_u64().is_some_and(|now| now != u64::from(pid)) && c["state"] == "streaming"
        })
    };
    daemon.wait_for_state("door", "streaming");
    let status = kill();
    assert_eq!(
        (idle(&status), &status["frames_decoded"]),
        (true, &0.into()),
        "{status}"
    );
    let mut viewer = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    viewer.watch(5);
    for _ in 0..3 {
        process::kill(daemon.reader_pid("door"), Signal::SIGKILL);
        viewer.watch_until_restarted();
        viewer.watch(30);
    }
    drop(viewer);
    daemon.wait_for_camera("door", "idle", idle);
    let status = kill();
    assert!(idle(&status), "{status}");
    Viewer::attach(&daemon, &farm, "door")
        .allowing_gaps()
        .watch(30);
}

#[test]
fn many_cameras_looked_at_at_once_take_turns_and_all_arrive() {
    let names: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let farm = Farm::start(&names.iter().map(|name| slow(name)).collect::<Vec<_>>());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&site(&farm, &names));
    for name in &names {
        daemon.wait_for_state(name, "streaming");
    }
    Units::of(&daemon, "c9").wait_for_place(10);
    let mut viewers: Vec<_> = names
        .iter()
        .map(|name| Viewer::attach(&daemon, &farm, name).allowing_gaps())
        .collect();
    for viewer in &mut viewers {
        viewer.watch(10);
    }
    // A reader that ends while it has a turn, or waits for one, takes nothing with it.
    for (name, viewer) in names.iter().zip(&mut viewers).take(3) {
        process::kill(daemon.reader_pid(name), Signal::SIGKILL);
        viewer.watch_until_restarted();
    }
    drop(viewers);
    for name in &names {
        daemon.wait_for_camera(name, "idle", idle);
    }
    for name in &names {
        Viewer::attach(&daemon, &farm, name)
            .allowing_gaps()
            .watch(3);
    }
}

#[test]
fn snapshot_and_tail_find_a_camera_that_nobody_looks_at() {
    let farm = Farm::start(&[slow("snapped"), slow("tailed")]);
    let daemon = Daemon::start(&site(&farm, &["snapped", "tailed"]));
    for name in ["snapped", "tailed"] {
        daemon.wait_for_camera(name, "streaming and idle", |c| {
            c["state"] == "streaming" && idle(c)
        });
    }
    let output = daemon
        .camring(["snapshot", "snapped", "-o", "-"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.starts_with(&[0xff, 0xd8]));
    let output = daemon
        .camring(["tail", "tailed", "-n", "5", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && lines.lines().count() == 5,
        "{lines}"
    );
    for name in ["snapped", "tailed"] {
        daemon.wait_for_camera(name, "idle again", idle);
    }
}
