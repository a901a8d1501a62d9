//! `camring tail`: lines and JSON, where it stops, and what it says when it cannot go on.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Daemon, PATIENCE, process, wait_for};
use crate::{check_fields, ended, farm, fields, piped, ran, site};

/// The JSON lines of a command that succeeded.
#[track_caller]
fn frames(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object for each line"))
        .collect()
}

#[test]
fn frames_are_listed_for_people_and_programs() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let ran_plain = ran(&mut daemon.camring(["tail", "front-door", "-n", "5"]));
    ran_plain.succeeded();
    let lines: Vec<&str> = ran_plain.text().lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "front-door", "{line}");
        let keys: Vec<&str> = words[1..4]
            .iter()
            .chain(&words[5..7])
            .map(|word| word.split('=').next().expect("a key"))
            .collect();
        assert_eq!(keys, ["seq", "pts", "utc", "age", "missed"], "{line}");
        assert!(words[3].ends_with('Z') && words[3].contains('T'), "{line}");
        assert_eq!(words[4], "640x360", "{line}");
    }

    let documented = fields("docs/reference/cli.md", "## `camring tail --json`");
    for (name, width) in [
        ("front-door", 640),
        ("front-door/main", 640),
        ("front-door/sub", 320),
    ] {
        let ran = ran(&mut daemon.camring(["tail", name, "--json", "-n", "10"]));
        ran.succeeded();
        let frames = frames(ran.text());
        assert_eq!(frames.len(), 10);
        for frame in &frames {
            // What is only there when something changed is documented as one of them.
            let mut frame = frame.clone();
            let change = frame.as_object_mut().expect("an object").entry("change");
            change.or_insert(Value::Null);
            check_fields(&frame, &documented);
            assert_eq!(
                (&frame["camera"], &frame["width"]),
                (&name.into(), &width.into())
            );
            assert_eq!(frame["time_base"], serde_json::json!([1, 90_000]));
        }
        for pair in frames.windows(2) {
            let at = |frame: &Value| frame["sequence"].as_u64().expect("a number");
            let missed = pair[1]["missed"].as_u64().expect("a number");
            assert_eq!(at(&pair[1]), at(&pair[0]) + 1 + missed, "{pair:?}");
            assert!(
                pair[1]["pts"].as_i64() > pair[0]["pts"].as_i64(),
                "{pair:?}"
            );
        }
    }
}

#[test]
fn the_newest_frame_each_time_if_asked_for() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let latest = ["tail", "front-door/sub", "--latest", "--json", "-n", "5"];
    let ran = ran(&mut daemon.camring(latest));
    ran.succeeded();
    let numbers: Vec<u64> = frames(ran.text())
        .iter()
        .map(|frame| frame["sequence"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers.len(), 5);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    for arguments in [
        &["tail", "front-door"][..],
        &["tail", "front-door", "--json"],
    ] {
        let mut child = piped(&mut daemon.camring(arguments.iter().copied()));
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        assert!(line.contains("front-door"), "{line}");
        drop(output);
        ended(child).succeeded();
    }
    // And nothing of it is left in the daemon.
    daemon.wait_for_camera("front-door/main", "nobody", |c| c["subscribers"] == 0);
}

#[test]
fn a_camera_that_is_not_there_is_answered_with_those_that_are() {
    let daemon = Daemon::start(
        "[[camera]]\nname = \"yard\"\nurl = \"rtsp://127.0.0.1:1/\"\n\
         [[camera]]\nname = \"gate\"\n\
         [[camera.stream]]\nname = \"main\"\nurl = \"rtsp://127.0.0.1:1/\"\n\
         [[camera.stream]]\nname = \"sub\"\nurl = \"rtsp://127.0.0.1:1/\"\n",
    );
    for command in [&["tail"][..], &["snapshot", "-o", "never.jpg"]] {
        for name in ["garage", "gate/other", "YARD"] {
            let arguments = command.iter().copied().chain([name]);
            ran(&mut daemon.camring(arguments)).failed(
                1,
                &[&format!(
                    "no camera {name:?}; there are: yard, gate/main, gate/sub"
                )],
            );
        }
    }
    assert!(!std::path::Path::new("never.jpg").exists());
}

#[test]
fn a_daemon_that_dies_ends_it_with_a_message() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let mut child = piped(&mut daemon.camring(["tail", "front-door/sub"]));
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    output.read_line(&mut String::new()).expect("a line");
    daemon.kill();
    // What it still printed; it may have had frames left.
    let _ = std::io::copy(&mut output, &mut std::io::sink());
    ended(child).failed(3, &["daemon is gone"]);
}

#[test]
fn a_signal_ends_it_and_the_daemon_forgets_it() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let mut child = piped(&mut daemon.camring(["tail", "front-door/sub"]));
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    output.read_line(&mut String::new()).expect("a line");
    daemon.wait_for_camera("front-door/sub", "somebody", |c| c["subscribers"] == 1);
    // Not SIGINT: where tests run in the background, a shell may have them ignore it.
    assert!(process::kill(child.id(), Signal::SIGTERM));
    let status = wait_for("its end", PATIENCE, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(other),
    });
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{status}");
    assert_eq!(ended(child).err, "");
    daemon.wait_for_camera("front-door/sub", "nobody", |c| c["subscribers"] == 0);
}
