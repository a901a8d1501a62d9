//! `camring discover`, against scripted ONVIF devices on loopback addresses.
#![deny(unsafe_code)]

mod device;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use device::{Auth, Device, PASSWORD, Quirk, Responder, Script, USER, answer};
use serde_json::Value;
use support::{Camera, Daemon, Farm};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `camring discover` in a folder with the password in a variable. The password is nowhere in
/// what it prints.
#[track_caller]
fn discover(folder: &Path, arguments: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_camring"))
        .arg("discover")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("CAM_PASSWORD", PASSWORD)
        // It must not be used: nobody listens there.
        .env("http_proxy", "http://127.0.0.1:1/")
        .env("HTTP_PROXY", "http://127.0.0.1:1/")
        .stdin(Stdio::null())
        .output()
        .expect("camring starts");
    let ran = Ran {
        code: status.code(),
        out: String::from_utf8(stdout).expect("UTF-8"),
        err: String::from_utf8(stderr).expect("UTF-8"),
    };
    for text in [&ran.out, &ran.err] {
        assert!(!text.contains("canary"), "{text}");
        let bad = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(bad), "{text:?}");
    }
    ran
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

const LOGIN: [&str; 4] = ["--user", USER, "--password-env", "CAM_PASSWORD"];

/// From the probe to the pictures: what is printed is pasted, checked, and played.
#[test]
fn the_printed_cameras_play() {
    let farm = Farm::start(&[
        Camera::new("main", "h264-360p").digest(USER, PASSWORD),
        Camera::new("sub", "h264-180p").digest(USER, PASSWORD),
    ]);
    let mut script = Script::new([127, 0, 0, 1], "X100");
    script.auth = Auth::Token;
    script.ahead = -3600;
    script.streams = vec![
        ("low", "s", "H264", 320, 180, farm.url("sub").to_owned()),
        ("high", "s", "H264", 640, 360, farm.url("main").to_owned()),
    ];
    let device = Device::start(script);
    let front = answer("1", "Front%20Door", &device.service());
    let responder = Responder::start(vec![([127, 0, 0, 1], front)]);
    let folder = folder();
    let port = responder.port.to_string();
    let mut arguments = vec!["--interface", "lo", "--discovery-port", &port];
    arguments.extend(LOGIN);
    let ran = discover(folder.path(), &arguments);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(responder.probes.load(Relaxed) >= 2);
    for part in [
        "# Acme X100, firmware 1.2 [31m, serial SN1, at 127.0.0.1",
        "name = \"front-door\"",
        "password = \"${CAM_PASSWORD}\"",
        "# H264 640x360, 25 fps, profile \"high\"",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!device.said().contains("canary"), "the password was sent");

    let config = folder.path().join("config.toml");
    fs::write(&config, format!("[http]\nlisten = \"off\"\n{}", ran.out)).expect("a file");
    let check = Command::new(env!("CARGO_BIN_EXE_camring"))
        .args(["check", "--json", "--config"])
        .arg(&config)
        .env("CAM_PASSWORD", PASSWORD)
        .output()
        .expect("camring starts");
    let plan: Value = serde_json::from_slice(&check.stdout).expect("JSON");
    let streams = plan["streams"].as_array().expect("a list").iter();
    let names: Vec<_> = streams
        .map(|s| s["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["front-door/main", "front-door/sub"]);

    let daemon = Daemon::start_with(&ran.out, |command| {
        command.env("CAM_PASSWORD", PASSWORD);
    });
    for (camera, width) in [("front-door/main", 640), ("front-door/sub", 320)] {
        let output = daemon
            .camring(["tail", camera, "-n", "3", "--json"])
            .output()
            .expect("camring starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let first = text.lines().next().unwrap_or_default();
        let frame: Value = serde_json::from_str(first).expect("a frame");
        assert_eq!(frame["width"], width, "{text}");
        assert_eq!(text.lines().count(), 3);
    }
    daemon.stop();

    // Another time it is known, and left out.
    let ran = discover(folder.path(), &arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.out.contains("[[camera]]"), "{}", ran.out);
    assert!(
        ran.out
            .contains("# is in the configuration already, as \"front-door\""),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("configured"), "{}", ran.err);
}

/// Good, old, broken, slow and hostile devices together: each has what it deserves.
#[test]
fn a_network_of_all_kinds() {
    let trap = TcpListener::bind("127.0.0.99:0").expect("a port");
    trap.set_nonblocking(true).expect("a socket");
    let trap_url = format!("http://{}", trap.local_addr().expect("an address"));
    let quirk = |last: u8, name, quirk| {
        let mut script = Script::new([127, 0, 2, last], name);
        script.quirk = quirk;
        script.claims = (quirk == Quirk::Redirects).then(|| format!("{trap_url}/onvif"));
        script
    };
    let auth = |last: u8, name, auth| {
        let mut script = Script::new([127, 0, 2, last], name);
        script.auth = auth;
        script
    };
    let mut old = auth(2, "old", Auth::Digest);
    old.old = true;
    let once = auth(9, "once", Auth::DigestOnce);
    let mut wanders = auth(3, "wanders", Auth::Token);
    wanders.claims = Some(trap_url.clone());
    let mut newest = auth(4, "newest", Auth::Token);
    newest.media = &["ver20"];
    newest.streams[0].2 = "H265";
    newest.ahead = 86_400 * 365;
    let mut recorder = auth(5, "recorder", Auth::None);
    let url = |n: u8| format!("rtsp://user:canary@127.0.2.5:554/ch{n}");
    recorder.streams = (0..6)
        .map(|n| {
            let token = ["a", "b", "c", "d", "e", "f"][usize::from(n)];
            let source = ["1", "1", "2", "2", "3", "3"][usize::from(n)];
            (
                token,
                source,
                "H264",
                1920 >> (n % 2),
                1080 >> (n % 2),
                url(n),
            )
        })
        .collect();
    let mut elsewhere = auth(6, "elsewhere", Auth::None);
    elsewhere.streams[0].5 = "rtsp://127.0.0.99/${HOME}".to_owned();
    let mut leaks = auth(7, "leaks", Auth::None);
    leaks.streams[0].5 = "rtsp://127.0.2.7/?user=a&password=canary".to_owned();
    let devices: Vec<_> = [
        old,
        once,
        wanders,
        newest,
        recorder,
        elsewhere,
        leaks,
        auth(8, "basic", Auth::Basic),
        quirk(10, "silent", Quirk::Silent),
        quirk(11, "drips", Quirk::Drips),
        quirk(12, "bomb", Quirk::Bomb),
        quirk(13, "endless", Quirk::Endless),
        quirk(14, "redirects", Quirk::Redirects),
        quirk(15, "garbage", Quirk::Garbage),
        quirk(16, "empty", Quirk::Empty),
    ]
    .into_iter()
    .map(Device::start)
    .collect();
    let mut answers: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(n, device)| {
            let reference = format!("id-{n}");
            let text = answer(&reference, device.script.name, &device.service());
            (device.script.ip, text)
        })
        .collect();
    // Twice; at another address than it says; what is no answer; one that takes another's identity.
    answers.push(answers[0].clone());
    let lies = answer(
        "id-lies",
        "lies",
        &format!("{trap_url}/onvif/device_service"),
    );
    answers.push(([127, 0, 2, 20], lies));
    answers.push(([127, 0, 2, 21], b"\xff\xfe no XML".to_vec()));
    answers.push((
        [127, 0, 2, 22],
        b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".to_vec(),
    ));
    answers.push((
        [127, 0, 2, 23],
        answer("id-0", "twin", "http://127.0.2.23:1/"),
    ));
    let responder = Responder::start(answers);
    let folder = folder();
    let port = responder.port.to_string();
    let mut arguments = vec![
        "--interface",
        "127.0.0.1",
        "--discovery-port",
        &port,
        "--json",
    ];
    arguments.extend(LOGIN);
    let ran = discover(folder.path(), &arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("datagrams were no answer"), "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let found = report["devices"].as_array().expect("a list");
    let device = |name: &str| {
        let mut named = found.iter().filter(|d| d["name"] == name);
        let device = named
            .next()
            .unwrap_or_else(|| panic!("no {name}: {report:#}"));
        assert!(named.next().is_none(), "{name} is there twice");
        device
    };
    assert_eq!(found.len(), devices.len() + 2, "{report:#}");
    assert_eq!(
        (&device("old")["media"], &device("old")["failure"]),
        (&"ver10".into(), &Value::Null)
    );
    assert_eq!(device("newest")["media"], "ver20");
    assert_eq!(device("newest")["profiles"][0]["codec"], "H265");
    assert!(device("newest")["clock_offset_seconds"].as_i64() > Some(86_400 * 364));
    let once = device("once");
    assert!(once["cameras"][0]["config"].is_string(), "{once:#}");
    let wanders = device("wanders");
    assert_eq!(wanders["failure"], Value::Null, "{wanders:#}");
    assert!(
        wanders["warnings"][0]
            .as_str()
            .expect("text")
            .contains("127.0.0.99")
    );
    let cameras = device("recorder")["cameras"].as_array().expect("a list");
    let names: Vec<_> = cameras
        .iter()
        .map(|c| c["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["recorder-1", "recorder-2", "recorder-3"]);
    assert_eq!(
        (&cameras[2]["main"], &cameras[2]["sub"]),
        (&"e".into(), &"f".into())
    );
    for name in ["elsewhere", "leaks"] {
        let camera = &device(name)["cameras"][0];
        assert!(camera["warning"].is_string(), "{name}: {camera:#}");
        let block = camera["config"].as_str().expect("text");
        assert!(block.lines().all(|line| line.starts_with('#')), "{block}");
    }
    for (name, what) in [
        ("basic", "Basic"),
        ("silent", "in time"),
        ("drips", "in time"),
        ("bomb", "document type"),
        ("endless", "more than 1024 KiB"),
        ("redirects", "not followed"),
        ("garbage", "is not XML"),
        ("empty", "cannot be reached"),
        ("lies", "no address of its own"),
        ("twin", "cannot be reached"),
    ] {
        let failure = device(name)["failure"].as_str().unwrap_or_default();
        assert!(failure.contains(what), "{name}: {failure}");
    }
    assert!(
        device("twin")["warnings"][0]
            .as_str()
            .expect("text")
            .contains("127.0.2.2")
    );
    assert!(
        trap.accept().is_err(),
        "somebody was sent to the trap and went"
    );
    for device in &devices {
        assert!(
            !device.said().contains("canary-pass"),
            "{}",
            device.script.name
        );
    }
}

#[test]
fn a_wrong_password_is_shown_once() {
    for auth in [Auth::Token, Auth::Digest] {
        let mut script = Script::new([127, 0, 3, 1], "locked");
        script.auth = auth;
        let device = Device::start(script);
        let folder = folder();
        let file = folder.path().join("password");
        fs::write(&file, "wrong\nnot this\n").expect("a file");
        let address = device.address.to_string();
        let file = file.to_str().expect("UTF-8");
        let ran = discover(
            folder.path(),
            &[
                "--address",
                &address,
                "--user",
                USER,
                "--password-file",
                file,
            ],
        );
        assert_eq!(ran.code, Some(1), "{}", ran.out);
        assert!(
            ran.err.contains("refuses the login") && ran.err.contains("login\n"),
            "{}",
            ran.err
        );
        // HTTP digest needs the question before the answer.
        let shown = if auth == Auth::Token { 1 } else { 2 };
        assert_eq!(device.refusals.load(Relaxed), shown, "{auth:?}");
        let ran = discover(folder.path(), &["--address", &address]);
        assert!(ran.err.contains("--user NAME"), "{}", ran.err);
        assert_eq!(device.refusals.load(Relaxed), shown, "{auth:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let folder = folder();
    let ran = |arguments: &[&str]| discover(folder.path(), arguments);
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("an address").to_string();
    drop(closed);
    for (arguments, code, said) in [
        (vec!["--address", &address], 1, "cannot be reached"),
        (
            vec!["--address", "https://127.0.0.1/"],
            1,
            "https:// is not supported",
        ),
        (vec!["--interface", "none0"], 1, "lo (127.0.0.1)"),
        (
            vec!["--user", "u", "--address", &address],
            1,
            "--password-file",
        ),
        (vec!["--user", "u", "--password", "p"], 2, "--password"),
        (
            vec![
                "--interface",
                "lo",
                "--discovery-port",
                "9",
                "--timeout",
                "1s",
            ],
            1,
            "nobody answered",
        ),
        (vec!["--config", "missing.toml"], 1, "missing.toml"),
        (
            vec![
                "--user",
                "u",
                "--password-env",
                "NO_SUCH",
                "--address",
                &address,
            ],
            1,
            "NO_SUCH",
        ),
    ] {
        let ran = ran(&arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(said), "{arguments:?}: {}", ran.err);
    }
    fs::write(folder.path().join("config.toml"), "password = \"canary").expect("a file");
    assert!(ran(&["--address", &address]).err.contains("not TOML"));
}
