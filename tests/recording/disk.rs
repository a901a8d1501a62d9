//! Disks that are full, and folders that cannot be written: recording waits and goes on, and what is
//! there stays whole.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use crate::content::config;
use crate::recorder::{Recorder, arguments};
use crate::support::{Camera, Daemon, Farm, PATIENCE, wait_for};
use crate::tape::Tape;

#[test]
fn a_full_disk_is_waited_out() {
    let farm = Farm::start(&[Camera::new("door", "h264-360p")]);
    let daemon = Daemon::start(&config(&farm, &["door"]));
    let folder = tempfile::tempdir().expect("a folder");
    // A small disk of its own, that is gone with the process: in a mount namespace.
    let script = "mount -t tmpfs -o size=8m none \"$0\" && exec \"$@\"";
    let namespace: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["unshare", "--mount"],
        false => &["unshare", "--mount", "--map-root-user"],
    };
    let mut command: Vec<String> = namespace.iter().map(|&word| word.to_owned()).collect();
    command.extend(["sh", "-c", script].map(str::to_owned));
    command.push(folder.path().display().to_string());
    command.extend(arguments(&daemon, "door", folder.path()));
    let log = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::run(&command, log.path().join("log"));
    // The process's view of its files.
    let inside = folder.path().strip_prefix("/").expect("absolute");
    let disk: PathBuf = PathBuf::from(format!("/proc/{}/root", recorder.pid())).join(inside);
    let pictures = || match disk.join("recordings").exists() {
        true => Tape::read(&disk, "door").pictures(),
        false => 0,
    };
    let wait_for_pictures = |more_than: usize| {
        wait_for("pictures to be recorded", PATIENCE, || match pictures() {
            count if count > more_than => Ok(count),
            count => Err((count, recorder.log())),
        })
    };
    let before = wait_for_pictures(40);
    for round in 1..=2 {
        // Every byte that is left.
        let ballast = disk.join("ballast");
        let mut file = File::create(&ballast).expect("a file");
        let zeros = [0; 4096];
        wait_for("the recorder to notice", PATIENCE, || {
            while file.write_all(&zeros).is_ok() {}
            let log = recorder.log();
            match log.matches("what comes meanwhile is lost").count() >= round {
                true => Ok(()),
                false => Err(log),
            }
        });
        let full = Tape::read(&disk, "door");
        assert!(full.pictures() >= before, "what was committed stays");
        drop(file);
        fs::remove_file(&ballast).expect("room again");
        wait_for_pictures(full.pictures() + 40);
    }
    let log = recorder.log();
    assert!(log.contains("No space left on device"), "{log}");
    assert!(log.contains("the disk takes recordings again"), "{log}");
    // It never stopped taking units from the ring: the camera is untouched.
    assert_eq!(daemon.camera("door")["state"], "streaming");
    let copy = tempfile::tempdir().expect("a folder");
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([disk.join("recordings"), copy.path().to_owned()])
        .status();
    assert!(status.expect("cp").success());
    let tape = Tape::read(copy.path(), "door");
    tape.check(&mut || farm.witness("door"));
    assert!(
        tape.breaks().len() >= 3,
        "each time a break: {:?}",
        tape.breaks()
    );
    recorder.stop();
    daemon.stop();
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&config(&farm, &["door"]));
    let data = tempfile::tempdir().expect("a folder");
    // Where hours would lie there is a file, for this hour and the next.
    let rendition = data.path().join("recordings/door/source");
    fs::create_dir_all(&rendition).expect("a folder");
    let now = i64::try_from(camring::sys::clock::unix_ms()).expect("now");
    let hours =
        [0, 3_600_000].map(|later| rendition.join(camring::recording::hour_name(now + later)));
    for hour in &hours {
        fs::write(hour, b"in the way").expect("a file");
    }
    let recorder = Recorder::start(&daemon, "door", data.path());
    wait_for("the recorder to complain", PATIENCE, || {
        let log = recorder.log();
        match log.contains("cannot write a part in ") {
            true => Ok(()),
            false => Err(log),
        }
    });
    for hour in &hours {
        fs::remove_file(hour).expect("it is there");
    }
    wait_for("pictures to be recorded", PATIENCE, || {
        match Tape::read(data.path(), "door").pictures() > 20 {
            true => Ok(()),
            false => Err(recorder.log()),
        }
    });
    recorder.stop();
    let tape = Tape::read(data.path(), "door");
    tape.check(&mut || farm.witness("door"));

    // A folder that cannot be made at all is an error at once.
    let command = arguments(&daemon, "door", &rendition.join("lock"));
    let (status, log) = Recorder::run(&command, data.path().join("second.log")).ends();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("cannot record in "), "{log}");
    daemon.stop();
}
