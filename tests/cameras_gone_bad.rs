//! Cameras that do not work: one clear state and reason each, recovery by itself, no spinning, and
//! nothing of it touches the camera beside.
#![deny(unsafe_code)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm};

/// Short limits, so that the faults show in seconds.
const QUICK: &str = "[retry]\ninitial = \"200ms\"\nmax = \"500ms\"\nunauthorized = \"500ms\"\n\
    connect_timeout = \"2s\"\nfirst_frame_timeout = \"3s\"\nstall_timeout = \"2s\"\n\n";

fn camera(name: &str, url: &str, more: &str) -> String {
    format!("[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n")
}

/// Waits for the state with all of these words in its reason.
#[track_caller]
fn wait_for_reason(daemon: &Daemon, name: &str, states: &[&str], words: &[&str]) -> Value {
    daemon.wait_for_camera(name, &format!("{states:?} because {words:?}"), |c| {
        let reason = c["reason"].as_str().unwrap_or_default().to_lowercase();
        states.iter().any(|s| c["state"] == *s)
            && words
                .iter()
                .all(|word| reason.contains(&word.to_lowercase()))
    })
}

#[test]
fn a_camera_that_is_not_there_is_retried_without_spinning() {
    let farm = Farm::start(&[Camera::new("good", "h264-180p")]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let config = format!(
        "{QUICK}{}{}{}",
        camera("good", farm.url("good"), ""),
        camera("absent", &format!("rtsp://127.0.0.1:{port}/x"), ""),
        camera("unknown", "rtsp://no-such-host.invalid/x", ""),
    );
    let daemon = Daemon::start(&config);
    let mut good = Viewer::attach(&daemon, &farm, "good");
    wait_for_reason(&daemon, "absent", &["backoff"], &["refused"]);
    wait_for_reason(&daemon, "unknown", &["backoff"], &["no-such-host.invalid"]);
    let before = daemon.camera("absent")["reconnects"].as_u64().unwrap();
    good.watch(50);
    let tries = daemon.camera("absent")["reconnects"].as_u64().unwrap() - before;
    // Two seconds of watching, half a second at least between tries (jitter halves it).
    assert!(tries <= 40, "{tries} tries");
    let absent = daemon.camera("absent");
    assert_eq!(
        absent["restarts"], 0,
        "a camera's fault restarts no process: {absent}"
    );
}

#[test]
fn wrong_logins_and_paths_have_states_of_their_own() {
    let farm = Farm::start(&[
        Camera::new("login", "h264-180p").digest("admin", "right"),
        Camera::new("good", "h264-180p"),
        Camera::new("gone", "h264-180p"),
    ]);
    farm.remove("gone");
    let config = format!(
        "{QUICK}{}{}{}{}",
        camera(
            "wrong",
            farm.url("login"),
            "username = \"admin\"\npassword = \"canary-wrong\"\n"
        ),
        camera("none", farm.url("login"), ""),
        camera("gone", farm.url("gone"), ""),
        camera("good", farm.url("good"), ""),
    );
    let daemon = Daemon::start(&config);
    let mut good = Viewer::attach(&daemon, &farm, "good");
    wait_for_reason(&daemon, "wrong", &["unauthorized"], &["password"]);
    wait_for_reason(&daemon, "none", &["unauthorized"], &["username"]);
    wait_for_reason(&daemon, "gone", &["failed"], &["404"]);
    good.watch(10);
    assert!(!daemon.log().contains("canary") && !daemon.status().to_string().contains("canary"));
    farm.restart("gone");
    daemon.wait_for_state("gone", "streaming");
}

#[test]
fn a_camera_that_goes_silent_or_away_comes_back_by_itself() {
    let farm = Farm::start(&[
        Camera::new("silent", "h264-180p"),
        Camera::new("off", "h264-180p"),
        Camera::new("hung", "h264-180p"),
        Camera::new("good", "h264-180p"),
    ]);
    let names = ["silent", "off", "hung", "good"];
    let config = names.iter().fold(QUICK.to_owned(), |text, name| {
        text + &camera(name, farm.url(name), "")
    });
    let daemon = Daemon::start(&config);
    let mut viewers: Vec<_> = names
        .iter()
        .map(|name| Viewer::attach(&daemon, &farm, name))
        .collect();
    for viewer in &mut viewers {
        viewer.watch(3);
    }
    farm.pause("silent");
    farm.stop("off");
    farm.hang("hung");
    let pids: Vec<_> = names.iter().map(|name| daemon.reader_pid(name)).collect();
    daemon.wait_for_camera("silent", "stalled or waiting", |c| {
        c["state"] != "streaming"
    });
    wait_for_reason(&daemon, "off", &["backoff"], &["refused"]);
    daemon.wait_for_camera("hung", "not streaming", |c| {
        c["state"] == "backoff" || c["state"] == "connecting"
    });
    viewers[3].watch(25);
    farm.resume("silent");
    farm.restart("off");
    farm.restart("hung");
    for (viewer, name) in viewers.iter_mut().zip(names) {
        daemon.wait_for_state(name, "streaming");
        viewer.allow_gaps();
        // What was still in the ring, then what came after.
        viewer.watch(20);
    }
    let after: Vec<_> = names.iter().map(|name| daemon.reader_pid(name)).collect();
    assert_eq!(pids, after, "sessions reconnect without a new process");
    assert_eq!(daemon.camera("good")["reconnects"], 0);
}

#[test]
fn a_disabled_camera_is_listed_and_has_no_process() {
    let farm = Farm::start(&[Camera::new("good", "h264-180p")]);
    let config = camera("good", farm.url("good"), "")
        + &camera("off", "rtsp://127.0.0.1:1/x", "enabled = false\n");
    let daemon = Daemon::start(&config);
    daemon.wait_for_state("good", "streaming");
    let off = daemon.wait_for_state("off", "disabled");
    assert!(off["pid"].is_null(), "{off}");
    let refused = daemon.camring(["tail", "off", "-n", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).to_lowercase();
    assert!(
        !refused.status.success() && text.contains("disabled"),
        "{text}"
    );
}

/// Answers every DESCRIBE with this SDP until the connection ends.
fn describe(stream: TcpStream, sdp: &str) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let (mut cseq, mut method) = (String::from("0"), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(number) = line.strip_prefix("CSeq:") {
            cseq = number.trim().to_owned();
        } else if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        } else if line.is_empty() {
            let body = if method == "DESCRIBE" { sdp } else { "" };
            write!(
                out,
                "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            method.clear();
        }
    }
    Ok(())
}

/// The URL of a camera that describes itself so, and counts how often it is asked.
fn camera_offering(media: &'static str) -> (String, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
    let (asked, count) = std::sync::mpsc::channel();
    // Ends with the test process; each connection ends with its reader.
    std::thread::spawn(move || {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n{media}");
        for stream in listener.incoming().flatten() {
            let _ = asked.send(());
            let sdp = sdp.clone();
            std::thread::spawn(move || describe(stream, &sdp));
        }
    });
    (url, count)
}

#[test]
fn a_camera_without_usable_video_says_what_it_offers() {
    let farm = Farm::start(&[Camera::new("good", "h264-180p")]);
    let (audio, audio_asked) = camera_offering("m=audio 0 RTP/AVP 0\r\na=control:a\r\n");
    let (vp8, _) =
        camera_offering("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:v\r\n");
    let config = format!(
        "{QUICK}{}{}{}",
        camera("good", farm.url("good"), ""),
        camera("audio", &audio, ""),
        camera("vp8", &vp8, ""),
    );
    let daemon = Daemon::start(&config);
    let mut good = Viewer::attach(&daemon, &farm, "good");
    wait_for_reason(&daemon, "audio", &["failed"], &["no video"]);
    wait_for_reason(&daemon, "vp8", &["failed"], &["vp8", "H.264"]);
    good.watch(25);
    let tries = audio_asked.try_iter().count();
    assert!(tries <= 20, "{tries} tries in a second or two");
    assert_eq!(daemon.camera("audio")["restarts"], 0);
}
