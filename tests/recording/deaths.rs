//! Recorders killed at any moment: what was committed is whole and playable, and the next one goes on
//! where it stopped.

use std::time::Duration;

use crate::content::config;
use crate::recorder::Recorder;
use crate::support::{Camera, Daemon, Farm, PATIENCE, wait_for};
use crate::tape::Tape;

#[test]
fn a_recorder_killed_at_random_loses_at_most_the_open_part() {
    let farm = Farm::start(&[
        Camera::new("door", "h264-360p"),
        Camera::new("yard", "h265-b"),
    ]);
    let daemon = Daemon::start(&config(&farm, &["door", "yard"]));
    let data = tempfile::tempdir().expect("a folder");
    let mut resumed = 0;
    for name in ["door", "yard"] {
        let mut committed = 0;
        for _ in 0..crate::kills(15) {
            let recorder = Recorder::start(&daemon, name, data.path());
            // It has gone on, and then anything may happen at any time.
            wait_for("another part", PATIENCE, || {
                let tape = Tape::read(data.path(), name);
                match tape.pictures() > committed {
                    true => Ok(()),
                    false => Err(recorder.log()),
                }
            });
            std::thread::sleep(Duration::from_micros(fastrand::u64(..600_000)));
            recorder.kill();
            let tape = Tape::read(data.path(), name);
            assert!(tape.pictures() >= committed, "what was committed stays");
            committed = tape.pictures();
        }
        let recorder = Recorder::start(&daemon, name, data.path());
        wait_for("a last part", PATIENCE, || {
            match Tape::read(data.path(), name).pictures() > committed {
                true => Ok(()),
                false => Err(recorder.log()),
            }
        });
        resumed += recorder.log().matches("resumed=true").count();
        recorder.stop();
        let tape = Tape::read(data.path(), name);
        let decoded = tape.check(&mut || farm.witness(name));
        assert_eq!(decoded, tape.pictures());
    }
    // On a machine without a second to spare a ring may have been overwritten meanwhile; not always.
    assert!(resumed > 0, "no recorder went on where another stopped");
    daemon.stop();
}

#[test]
fn a_rendition_has_one_writer() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&config(&farm, &["door"]));
    let data = tempfile::tempdir().expect("a folder");
    let first = Recorder::start(&daemon, "door", data.path());
    wait_for("the first to record", PATIENCE, || {
        match Tape::read(data.path(), "door").pictures() > 0 {
            true => Ok(()),
            false => Err(first.log()),
        }
    });
    let command = crate::recorder::arguments(&daemon, "door", data.path());
    let second = Recorder::run(&command, data.path().join("second.log"));
    let (status, log) = second.ends();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("door is recorded already, in "), "{log}");
    let mut command = crate::recorder::arguments(&daemon, "door", data.path());
    command[2] = "nowhere".to_owned();
    let (status, log) = Recorder::run(&command, data.path().join("third.log")).ends();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("nowhere"), "{log}");
    first.stop();
    Tape::read(data.path(), "door").check(&mut || farm.witness("door"));
    daemon.stop();
}
