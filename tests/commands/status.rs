//! `camring status`: the table, the JSON and its documentation, and going on.

use std::io::{BufRead as _, BufReader};

use camring::health::State;
use camring::supervisor::status::Status;

use crate::support::Daemon;
use crate::{check_fields, ended, farm, fields, names, piped, ran, site, table};

const DOCUMENT: &str = "docs/reference/status.md";

#[test]
fn every_field_is_documented_and_of_the_documented_type() {
    let farm = farm();
    let view = "[[camera.view]]\nname = \"detect\"\nwidth = 64\nheight = 48\nformat = \"gray\"\n";
    let recorded = "[http]\nlisten = \"127.0.0.1:0\"\n[record]\nmode = \"copy\"\n";
    let daemon = Daemon::start(&(recorded.to_owned() + &site(&farm) + view));
    daemon.wait_for_camera("front-door/main", "all figures", |c| {
        c["fps_published"].as_f64() > Some(0.0)
            && c["latency_p99_ms"].is_f64()
            && c["memory_bytes"].is_u64()
            && c["clock"].is_string()
            && c["audio"].is_string()
            && c["recording"]["last_segment_age_ms"].is_u64()
    });
    let status = daemon.status();
    check_fields(&status, &fields(DOCUMENT, "## The daemon"));
    check_fields(&status["memory"], &fields(DOCUMENT, "## Memory"));
    check_fields(&status["config"], &fields(DOCUMENT, "## The configuration"));
    check_fields(&status["http"], &fields(DOCUMENT, "## HTTP"));
    let failures: Vec<(String, String)> = table(DOCUMENT, "## Failures of a process")
        .iter()
        .flat_map(|row| names(&row[0]))
        .map(|name| (name.to_owned(), "integer".to_owned()))
        .collect();
    check_fields(&status["http"]["failures"], &failures);
    let recording = fields(DOCUMENT, "## A recording");
    let (camera, dropped) = (
        fields(DOCUMENT, "## A camera"),
        table(DOCUMENT, "## Reasons for dropped frames"),
    );
    let dropped: Vec<(String, String)> = dropped
        .iter()
        .flat_map(|row| names(&row[0]))
        .map(|name| (name.to_owned(), "integer".to_owned()))
        .collect();
    let cameras = status["cameras"].as_array().expect("cameras");
    let (view, view_dropped) = (
        fields(DOCUMENT, "## A view"),
        table(DOCUMENT, "## Reasons for dropped frames of a view"),
    );
    let view_dropped: Vec<(String, String)> = view_dropped
        .iter()
        .flat_map(|row| names(&row[0]))
        .map(|name| (name.to_owned(), "integer".to_owned()))
        .collect();
    let views: Vec<_> = cameras
        .iter()
        .flat_map(|camera| camera["views"].as_array().expect("views"))
        .collect();
    assert_eq!(views.len(), 1, "{views:?}");
    check_fields(views[0], &view);
    check_fields(&views[0]["frames_dropped"], &view_dropped);
    let ids: Vec<_> = cameras.iter().map(|c| &c["name"]).collect();
    assert_eq!(ids, ["front-door/main", "front-door/sub", "absent"]);
    for one in cameras {
        check_fields(one, &camera);
        check_fields(&one["recording"], &recording);
        check_fields(&one["frames_dropped"], &dropped);
        check_fields(&one["latency"], &fields(DOCUMENT, "## Latency"));
        check_fields(&one["failures"], &failures);
        check_fields(&one["recording"]["failures"], &failures);
    }
    // Nothing is null of a camera that streams, but what belongs to another decode mode.
    let main = cameras[0].as_object().expect("an object");
    let null = main.iter().filter(|(_, value)| value.is_null());
    let null: Vec<_> = null.map(|(name, _)| name.as_str()).collect();
    assert_eq!(null, ["activity", "activity_since"], "{main:?}");
    assert_eq!(main["codec"], "h264");
    assert!(main["fps_in"].as_f64() > Some(0.0), "{main:?}");
    // The program's own type says the same, nothing is lost on the way through it.
    let typed: Status = serde_json::from_value(status.clone()).expect("a status");
    assert_eq!(serde_json::to_value(&typed).expect("JSON"), status);
    assert_eq!(typed.pid, daemon.pid());
}

#[test]
fn the_states_are_those_of_the_document() {
    let states = [
        State::Connecting,
        State::Streaming,
        State::Stalled,
        State::Backoff,
        State::Unauthorized,
        State::Failed,
        State::Disabled,
    ];
    // One that is added must be in the list above and in the document.
    for state in states {
        match state {
            State::Connecting
            | State::Streaming
            | State::Stalled
            | State::Backoff
            | State::Unauthorized
            | State::Failed
            | State::Disabled => {}
        }
    }
    let rows = table(DOCUMENT, "## States");
    let documented: Vec<&str> = rows.iter().flat_map(|row| names(&row[0])).collect();
    assert_eq!(documented, states.map(State::name));
}

#[test]
fn a_person_gets_a_table_with_the_reasons() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    for (name, state) in [
        ("front-door/main", "streaming"),
        ("front-door/sub", "streaming"),
        ("absent", "backoff"),
    ] {
        daemon.wait_for_camera(name, state, |c| {
            c["state"] == state && (state != "streaming" || c["width"].is_u64())
        });
    }
    let ran = ran(&mut daemon.camring(["status"]));
    ran.succeeded();
    let lines: Vec<&str> = ran.text().lines().collect();
    assert!(
        lines[0].starts_with("test: 2 of 3 streaming, up "),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("CAMERA           STATE"), "{lines:?}");
    for (line, words) in lines[2..4].iter().zip([
        ["front-door/main", "streaming", "h264", "640x360"],
        ["front-door/sub", "streaming", "h264", "320x180"],
    ]) {
        let begin: Vec<&str> = line.split_whitespace().take(4).collect();
        assert_eq!(begin, words);
    }
    // It tries again five times a second: between two tries it is connecting.
    assert!(lines[4].starts_with("absent           "), "{lines:?}");
    assert!(lines[5].starts_with("  └ connect"), "{lines:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
}

#[test]
fn watch_goes_on_until_nobody_reads() {
    let daemon = Daemon::start("[[camera]]\nname = \"off\"\nurl = \"rtsp://127.0.0.1:1/\"\n");
    for (arguments, start) in [
        (
            &["status", "--watch", "100ms"][..],
            "test: 0 of 1 streaming",
        ),
        (&["status", "--watch", "100ms", "--json"][..], "{"),
    ] {
        let mut child = piped(&mut daemon.camring(arguments.iter().copied()));
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut times = 0;
        while times < 3 {
            let line = lines.next().expect("it goes on").expect("UTF-8");
            assert!(!line.contains('\x1b'), "a pipe is no terminal: {line:?}");
            times += u32::from(line.starts_with(start));
        }
        drop(lines);
        ended(child).succeeded();
    }
}

#[test]
fn watch_ends_when_the_daemon_does() {
    let daemon = Daemon::start("[[camera]]\nname = \"off\"\nurl = \"rtsp://127.0.0.1:1/\"\n");
    let mut child = piped(&mut daemon.camring(["status", "--watch", "100ms"]));
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    output.read_line(&mut String::new()).expect("a line");
    let socket = daemon.socket();
    daemon.kill();
    // It keeps its output open until it ends: what is left of it is read here.
    let _ = std::io::copy(&mut output, &mut std::io::sink());
    let path = socket.to_str().expect("UTF-8");
    ended(child).failed(3, &["no camring daemon listens at", path]);
}

#[test]
fn a_camera_whose_pictures_do_not_fit_says_so() {
    let farm = farm();
    let config = site(&farm).replacen(
        "[[camera.stream]]\nname = \"main\"\n",
        "[[camera.stream]]\nname = \"main\"\nmemory = \"6MiB\"\nring = { packets = \"1MiB\" }\n",
        1,
    );
    let daemon = Daemon::start(&config);
    let main = daemon.wait_for_state("front-door/main", "failed");
    let reason = main["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("does not fit") && reason.contains("memory_per_camera"),
        "{reason}"
    );
    assert_eq!(main["frames_published"], 0);
    ran(&mut daemon.camring(["tail", "front-door"])).failed(1, &["does not fit"]);
    let table = ran(&mut daemon.camring(["status"]));
    assert!(table.text().contains(&format!("  └ {reason}")), "{table:?}");
    // The one beside has what it needs.
    daemon.wait_for_state("front-door/sub", "streaming");
}
