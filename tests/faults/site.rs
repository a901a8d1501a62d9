//! Files and folders of a running daemon, changed, damaged and taken away below it.

use std::fs;

use nix::sys::signal::Signal;

use crate::camera::Script;
use crate::support::process;
use crate::world::{GOOD, Spares, World, table};
use crate::{Fault, Run, Scenario};

pub const SITE: Scenario = Scenario {
    name: "site",
    faults: &[
        Fault {
            name: "config-garbage",
            shows: &["the configuration stays as it was"],
        },
        Fault {
            name: "config-gone",
            shows: &["the configuration stays as it was"],
        },
        Fault {
            name: "config-unreadable",
            shows: &["the configuration stays as it was"],
        },
        Fault {
            name: "credential-gone",
            shows: &["the configuration stays as it was"],
        },
        Fault {
            name: "sighup-storm",
            shows: &[],
        },
        Fault {
            name: "cameras-change",
            shows: &[],
        },
        Fault {
            name: "attach-socket-deleted",
            shows: &["it is made anew"],
        },
        Fault {
            name: "runtime-dir-deleted",
            shows: &["it is made anew"],
        },
        Fault {
            name: "data-dir-moved",
            shows: &["is not there any more"],
        },
        Fault {
            name: "data-dir-deleted",
            shows: &["is not there any more"],
        },
    ],
    run: site,
};

fn site(run: &mut Run) {
    let under = ["env", "CREDENTIALS_DIRECTORY=@DIR@/credentials"];
    let mut world = World::start(&under, "", vec![("victim", Script::default(), true)]);
    world.until_records("victim");
    let path = world.daemon.config_path();
    let good = fs::read_to_string(&path).expect("a configuration");

    // Refused with a reason; what was configured goes on; put right, it is applied.
    let refused = |world: &mut World, shows: &[&str], says: &str| {
        let times = world.log().matches(shows[0]).count();
        let config = world.reload();
        let error = config["error"].as_str().unwrap_or_default();
        assert!(error.contains(says), "{config}");
        world.until_logged_again(shows[0], times);
        world.unharmed(Spares::All);
        if path.is_dir() {
            fs::remove_dir(&path).expect("an empty folder");
        }
        fs::write(&path, &good).expect("written");
        let config = world.reload();
        assert_eq!(config["error"], serde_json::Value::Null, "{config}");
        assert_eq!(config["changes"], "3 unchanged", "{config}");
    };

    run.fault("config-garbage", |shows| {
        let garbage: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(4096)
            .collect();
        fs::write(&path, garbage).expect("written");
        refused(&mut world, shows, "UTF-8");
    });
    run.fault("config-gone", |shows| {
        fs::remove_file(&path).expect("it was there");
        refused(&mut world, shows, "No such file");
    });
    run.fault("config-unreadable", |shows| {
        // To root nothing is forbidden, but a folder is no file to anybody.
        fs::remove_file(&path).expect("it was there");
        fs::create_dir(&path).expect("a folder");
        refused(&mut world, shows, "directory");
    });
    run.fault("credential-gone", |shows| {
        let text = good.replace("password = \"pass\"", "password = \"${credential:gone}\"");
        fs::write(&path, text).expect("written");
        refused(&mut world, shows, "gone");
    });

    run.fault("sighup-storm", |_| {
        let before = world.status()["config"]["attempts"].as_u64();
        for _ in 0..200 {
            assert!(process::kill(world.daemon.pid(), Signal::SIGHUP));
        }
        world.until("the last to be read", || {
            let config = world.status()["config"].clone();
            (config["attempts"].as_u64() > before && config["error"].is_null()).then_some(())
        });
        world.unharmed(Spares::All);
    });

    run.fault("cameras-change", |_| {
        let url = world.victim("victim").url();
        for round in 0..4 {
            let more: String = (0..4)
                .map(|n| table(&format!("new-{round}-{n}"), &url, n == 0))
                .collect();
            fs::write(&path, format!("{good}{more}")).expect("written");
            let config = world.reload();
            assert_eq!(config["error"], serde_json::Value::Null, "{config}");
            world.until_streams(&format!("new-{round}-3"));
        }
        fs::write(&path, &good).expect("written");
        world.reload();
        world.until("four to leave", || {
            let cameras = world.status()["cameras"].as_array().map(Vec::len);
            (cameras == Some(3)).then_some(())
        });
        world.until_streams("victim");
        world.unharmed(Spares::All);
    });

    run.fault("attach-socket-deleted", |shows| {
        let times = world.log().matches(shows[0]).count();
        fs::remove_file(world.daemon.socket()).expect("it was there");
        world.until_logged_by_file(shows[0], times);
        world.unharmed(Spares::All);
    });

    run.fault("runtime-dir-deleted", |shows| {
        let times = world.log().matches(shows[0]).count();
        fs::remove_dir_all(world.daemon.runtime_dir()).expect("it was there");
        world.until_logged_by_file(shows[0], times);
        // A recorder that begins now attaches there.
        let recorder = world.pid("victim", "/recording/pid", 0);
        process::kill(recorder, Signal::SIGKILL);
        world.pid("victim", "/recording/pid", recorder);
        world.until_records("victim");
        // And the folder is this daemon's.
        let second = world
            .daemon
            .camring(["run"])
            .output()
            .expect("camring starts");
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another camring"), "{said}");
        world.unharmed(Spares::All);
    });

    let recorded_anew = |world: &mut World| {
        for name in GOOD {
            world.until_records(name);
        }
        for name in GOOD {
            let folder = world.data_dir().join("recordings").join(name);
            world.until("files where they belong", || folder.exists().then_some(()));
        }
        world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
        world.unharmed(Spares::Pictures);
    };
    run.fault("data-dir-moved", |shows| {
        let times = world.log().matches(shows[0]).count();
        fs::rename(world.data_dir(), world.daemon.folder().join("moved")).expect("renamed");
        world.until_logged_again(shows[0], times);
        recorded_anew(&mut world);
    });
    run.fault("data-dir-deleted", |shows| {
        let times = world.log().matches(shows[0]).count();
        // Files may be made while this goes through the folders.
        while fs::remove_dir_all(world.data_dir()).is_err() && world.data_dir().exists() {}
        world.until_logged_again(shows[0], times);
        recorded_anew(&mut world);
    });
    world.one_session();
    let data = world.data_dir();
    world.end_at(&data, |_, _| {});
}
