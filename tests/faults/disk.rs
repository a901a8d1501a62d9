//! Disks that are full, refuse, fail or dawdle, a clock that is set, a name server that says nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::camera::Script;
use crate::shim::{Folder, inside};
use crate::support::process;
use crate::world::{GOOD, Spares, World, table};
use crate::{Fault, Run, Scenario};

pub const DISK: Scenario = Scenario {
    name: "disk",
    faults: &[
        Fault {
            name: "disk-full",
            shows: &["disk-full", "No space left on device"],
        },
        Fault {
            name: "disk-read-only",
            shows: &["Read-only file system"],
        },
        Fault {
            name: "disk-errors",
            shows: &["Input/output error"],
        },
        Fault {
            name: "disk-slow",
            shows: &[],
        },
        Fault {
            name: "clock-forward",
            shows: &["nothing is deleted by age"],
        },
        Fault {
            name: "clock-back",
            shows: &["nothing is deleted by age"],
        },
        Fault {
            name: "name-server-silent",
            shows: &["no answer within 10 s", "resolving the name"],
        },
    ],
    run: disk,
};

/// The segments of a good camera, by number, and when they begin: seconds since 1970.
fn dates(world: &World) -> BTreeMap<u64, i64> {
    let Ok((200, text)) = world.get("/hls/good-1/main/source/dvr.m3u8") else {
        return BTreeMap::new();
    };
    let mut date = None;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some(written) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            let written: jiff::Timestamp = written.parse().expect("a date");
            date = Some(written.as_second());
        }
        let number = line
            .strip_prefix("s/")
            .and_then(|rest| rest.strip_suffix(".m4s"));
        if let (Some(number), Some(date)) = (number, date.take_if(|_| number.is_some())) {
            found.insert(number.parse().expect("a number"), date);
        }
    }
    found
}

fn disk(run: &mut Run) {
    let folder = Folder::new();
    let shim = folder.shim();
    if let Some(why) = folder.trouble() {
        for fault in DISK.faults {
            run.not_here(fault.name, &why);
        }
        return;
    }
    // A name server of this test's own: an address of the loopback net that nobody else has.
    let server = (0..100).find_map(|_| {
        let address = format!("127.{}.{}.53", fastrand::u8(1..), fastrand::u8(..));
        Some((UdpSocket::bind((address.as_str(), 53)).ok()?, address))
    });
    let (_deaf, name_server) = server.expect("port 53 of some loopback address");
    let named = table("named", "rtsp://camera.example/x", false);
    let mut world = World::start(
        &folder.under("@DIR@/data", &name_server),
        &format!("[record]\nkeep = \"1h\"\nmin_free = \"1MiB\"\n{named}"),
        vec![("victim", Script::default(), true)],
    );
    world.until_records("victim");
    let data = inside(world.daemon.pid(), &world.data_dir());
    let times = |world: &World, words: &str| world.log().matches(words).count();
    let all_record = |world: &mut World| {
        for name in GOOD {
            world.until_records(name);
        }
        world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
        world.unharmed(Spares::Pictures);
    };

    run.fault("disk-full", |shows| {
        let before = times(&world, shows[1]);
        let ballast = data.join("ballast");
        let mut file = File::create(&ballast).expect("a file");
        world.until("it is full", || {
            while file.write_all(&[0; 4096]).is_ok() {}
            GOOD.iter()
                .all(|name| world.camera(name)["recording"]["state"] == shows[0])
                .then_some(())
        });
        assert!(times(&world, shows[1]) > before);
        // Readers and their subscribers do not write.
        world.until_frames(10);
        drop(file);
        fs::remove_file(&ballast).expect("it was there");
        all_record(&mut world);
    });

    for (name, error) in [
        ("disk-read-only", Errno::EROFS),
        ("disk-errors", Errno::EIO),
    ] {
        run.fault(name, |shows| {
            shim.error(error as i32);
            world.until("recordings to be refused", || {
                let refused = |name: &str| {
                    let recording = world.camera(name)["recording"].clone();
                    recording["reason"]
                        .as_str()
                        .is_some_and(|text| text.contains(shows[0]))
                };
                GOOD.iter().all(|name| refused(name)).then_some(())
            });
            world.until_frames(10);
            // Answers go on, of what is there.
            world.until_answered("/hls/good-1/main/source/dvr.m3u8", 200, "#EXTINF");
            // And who begins now must do without a disk.
            let server = world.server_pid(0);
            process::kill(server, Signal::SIGKILL);
            world.server_pid(server);
            let recorder = world.pid("victim", "/recording/pid", 0);
            process::kill(recorder, Signal::SIGKILL);
            world.pid("victim", "/recording/pid", recorder);
            world.until_frames(10);
            shim.error(0);
            world.until_records("victim");
            all_record(&mut world);
        });
    }

    run.fault("disk-slow", |_| {
        shim.delay(Duration::from_millis(300));
        world.until_frames(40);
        shim.delay(Duration::ZERO);
        // The ring waited for it: not a picture is lost.
        for name in GOOD {
            world.until_records(name);
        }
        world.unharmed(Spares::All);
    });

    for (name, step, paused) in [
        ("clock-forward", 7200, "the clock was set forward by"),
        ("clock-back", -3600, "the clock was set back by"),
    ] {
        run.fault(name, |shows| {
            // A server that has just begun knows no other clock: it must have looked at this one.
            world.until_answered("/api/v1/disk", 200, "\"last_pass\":\"");
            let before = dates(&world);
            shim.clock(step);
            // What is kept for an hour would be two hours old, were the clock believed.
            world.until_answered("/api/v1/disk", 200, paused);
            world.until_answered("/api/v1/disk", 200, shows[0]);
            let newest = world.until("dates by the new clock", || {
                let (_, date) = dates(&world).pop_last()?;
                let now = jiff::Timestamp::now().as_second() + step;
                ((now - 600)..(now + 600)).contains(&date).then_some(date)
            });
            assert!(before.values().all(|date| newest.abs_diff(*date) > 1800));
            for name in GOOD {
                world.until_records(name);
            }
            world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
            world.unharmed(Spares::All);
            // Of what was recorded before, nothing is deleted, and nothing has another date.
            let after = dates(&world);
            for (number, date) in &before {
                assert_eq!(after.get(number), Some(date), "segment {number}");
            }
        });
    }

    run.fault("name-server-silent", |shows| {
        world.until_shown("named", "backoff", shows);
        world.unharmed(Spares::All);
    });
    world.one_session();
    world.disk_refused = true;

    let copy = tempfile::tempdir().expect("a folder");
    // The folder goes with the daemon's last process.
    let copied = Command::new("cp")
        .arg("-r")
        .args([data.join("recordings"), copy.path().to_owned()])
        .status();
    assert!(copied.expect("cp").success());
    world.end_at(copy.path(), |tape, name| {
        // One for each time that the disk refused.
        assert!(tape.breaks().len() >= 4, "{name}: {:?}", tape.breaks());
    });
}
