//! Disks that are full, refuse, fail or dawdle, a clock that is set, a name server that says nothing.

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
            shows: &[],
        },
        Fault {
            name: "clock-back",
            shows: &[],
        },
        Fault {
            name: "name-server-silent",
            shows: &["no answer within 10 s", "resolving the name"],
        },
    ],
    run: disk,
};

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
        &format!("[record]\nmin_free = \"1MiB\"\n{named}"),
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

    for (name, step) in [("clock-forward", 7200), ("clock-back", -3600)] {
        run.fault(name, |_| {
            shim.clock(step);
            world.until_frames(30);
            for name in GOOD {
                world.until_records(name);
            }
            world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
            world.unharmed(Spares::All);
            // Sums over a jump make no sense of age: nothing is deleted for it.
            world.until_answered("/hls/good-1/main/source/dvr.m3u8", 200, "s/0.m4s");
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
