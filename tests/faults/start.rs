//! Starts and ends, and what a daemon is started with.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::camera::Script;
use crate::support::{process, wait_for};
use crate::world::{PATIENCE, Spares, World};
use crate::{Fault, Run, Scenario};

pub const START: Scenario = Scenario {
    name: "start",
    faults: &[
        Fault {
            name: "started-twice",
            shows: &["another camring (pid"],
        },
        Fault {
            name: "ended-while-it-starts",
            shows: &[],
        },
        Fault {
            name: "stdin-closed",
            shows: &[],
        },
        Fault {
            name: "log-blocked",
            shows: &["lines of the log were lost"],
        },
        Fault {
            name: "log-closed",
            shows: &[],
        },
        Fault {
            name: "proc-hidden",
            shows: &["no reader could be started"],
        },
    ],
    run: start,
};

fn start(run: &mut Run) {
    // Standard input is closed, as with some container engines.
    let under = ["sh", "-c", "exec \"$@\" <&-", "sh"];
    let mut world = World::start(&under, "", vec![("victim", Script::default(), true)]);
    world.until_records("victim");
    run.fault("stdin-closed", |_| world.unharmed(Spares::All));

    run.fault("started-twice", |shows| {
        let second = world
            .daemon
            .camring(["run"])
            .output()
            .expect("camring starts");
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(
            !second.status.success() && said.contains(shows[0]),
            "{said}"
        );
        world.unharmed(Spares::All);
    });

    run.fault("ended-while-it-starts", |_| {
        let folder = tempfile::tempdir().expect("a folder");
        let text = std::fs::read_to_string(world.daemon.config_path()).expect("a configuration");
        let here = world.daemon.folder().display().to_string();
        let config = folder.path().join("config.toml");
        let text = text.replace(&here, &folder.path().display().to_string());
        // Not the same cameras twice: they have one session each.
        std::fs::write(
            &config,
            text.replace("rtsp://127.0.0.1", "rtsp://127.0.0.2"),
        )
        .expect("written");
        for _ in 0..8 {
            let mut child = Command::new("setpriv")
                .args([
                    "--pdeathsig",
                    "KILL",
                    env!("CARGO_BIN_EXE_camring"),
                    "run",
                    "--config",
                ])
                .arg(&config)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("setpriv (util-linux) starts");
            std::thread::sleep(Duration::from_millis(fastrand::u64(..1500)));
            let below = process::descendants(child.id());
            process::kill(child.id(), Signal::SIGTERM);
            wait_for("its end", PATIENCE, || match child.try_wait() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            });
            wait_for("all of it to end", PATIENCE, || {
                let left: Vec<_> = below.iter().filter(|one| one.is_alive()).collect();
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{left:?}"))
                }
            });
            let run = folder.path().join("run");
            let left = std::fs::read_dir(&run)
                .into_iter()
                .flatten()
                .flatten()
                .count();
            assert_eq!(left, 0, "in {}", run.display());
        }
        world.unharmed(Spares::All);
    });

    let unshared = Command::new("unshare").args(["--mount", "true"]).output();
    let possible = match unshared {
        Ok(output) if output.status.success() => Ok(()),
        other => Err(format!("no mount namespace: {other:?}")),
    };
    run.fault_where(possible, "proc-hidden", |shows| {
        // Needs a mount namespace, so it has a daemon of its own.
        let under = ["unshare", "--mount"];
        let mut hidden = World::start(&under, "", vec![("victim", Script::default(), false)]);
        let mount = |command: &[&str]| {
            let pid = hidden.daemon.pid().to_string();
            let done = Command::new("nsenter")
                .args(["-t", &pid, "--mount"])
                .args(command)
                .status();
            assert!(done.expect("nsenter (util-linux)").success());
        };
        let before = hidden.pid("victim", "/pid", 0);
        mount(&["mount", "-t", "tmpfs", "none", "/proc"]);
        process::kill(before, Signal::SIGKILL);
        hidden.until_logged_by_file(shows[0], 0);
        hidden.until_frames(20);
        mount(&["umount", "/proc"]);
        hidden.pid("victim", "/pid", before);
        hidden.until_streams("victim");
        hidden.unharmed(Spares::All);
        hidden.end(0);
    });
    world.one_session();
    world.end(0);
    logs(run);
}

/// The other end of standard error: full, then closed.
fn logs(run: &mut Run) {
    let (mut read, write) = std::io::pipe().expect("a pipe");
    // A description of its own, so that only this end does not wait.
    let fill = format!("/proc/self/fd/{}", write.as_raw_fd());
    let fill = std::fs::File::options()
        .write(true)
        .open(fill)
        .expect("a pipe");
    let flapping = Script::play(|p| {
        p.pictures(2)?;
        p.close()
    });
    let mut world = World::start_with(
        &[],
        "127.0.0.1:0",
        "",
        vec![("victim", flapping, true)],
        |command| {
            command.env("CAMRING_LOG", "debug").stderr(write);
        },
    );
    run.fault("log-blocked", |shows| {
        // Full, and nobody reads it.
        rustix::io::ioctl_fionbio(&fill, true).expect("a pipe");
        while rustix::io::write(&fill, b"full\n").is_ok() {}
        drop(fill);
        world.until_frames(50);
        // Those who begin now can say nothing either.
        let server = world.server_pid(0);
        process::kill(server, Signal::SIGKILL);
        world.server_pid(server);
        world.unharmed(Spares::All);
        let mut said = Vec::new();
        let mut bytes = [0; 65536];
        wait_for("a word about what was lost", PATIENCE, || {
            let count = read.read(&mut bytes).expect("a pipe");
            said.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&said).into_owned();
            if text.contains(shows[0]) {
                Ok(())
            } else {
                Err(text.len())
            }
        });
        world.victim("victim").behave();
        world.until_streams("victim");
    });
    run.fault("log-closed", |_| {
        drop(read);
        let reader = world.pid("victim", "/pid", 0);
        process::kill(reader, Signal::SIGKILL);
        world.pid("victim", "/pid", reader);
        let server = world.server_pid(0);
        process::kill(server, Signal::SIGKILL);
        world.server_pid(server);
        world.until_streams("victim");
        world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
        world.unharmed(Spares::All);
    });
    world.one_session();
    world.end(0);
}
