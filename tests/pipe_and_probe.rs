//! `camring pipe` and `camring probe`, against real cameras.
#![deny(unsafe_code)]

mod support;

use std::io::Read as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::framecode::{self, Witness};
use support::{Camera, Daemon, Farm};

fn daemon(farm: &Farm, cameras: &[&str]) -> Daemon {
    let tables: Vec<String> = cameras
        .iter()
        .map(|name| {
            format!(
                "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
                farm.url(name)
            )
        })
        .collect();
    Daemon::start(&tables.join("\n"))
}

/// Checks a stream of luma planes: every picture whole, none twice, none left out.
fn verify(mut witness: Witness, luma: &[u8], (width, height): (usize, usize), plane: usize) -> u64 {
    let mut seen = 0;
    for picture in luma.chunks_exact(plane) {
        let code = framecode::read(&picture[..width * height], width, width, height)
            .unwrap_or_else(|error| panic!("picture {seen}: {error}"));
        assert_eq!(witness.step(code), 1, "picture {seen}: {code:?}");
        seen += 1;
    }
    seen
}

#[test]
fn ffmpeg_reads_what_pipe_writes() {
    let farm = Farm::start(&[
        Camera::new("avc", "h264-360p"),
        Camera::new("jpeg", "mjpeg-360p"),
    ]);
    let daemon = daemon(&farm, &["avc", "jpeg"]);
    for (camera, frames, rate) in [("avc", 30, "25/1"), ("jpeg", 12, "10/1")] {
        let count = frames.to_string();
        let mut pipe = daemon
            .camring(["pipe", camera, "--format", "y4m", "-n", &count])
            .stdout(Stdio::piped())
            .spawn()
            .expect("camring starts");
        let stream = pipe.stdout.take().expect("a pipe");
        let output = Command::new("ffmpeg")
            .args(["-v", "info", "-nostdin", "-f", "yuv4mpegpipe", "-i", "-"])
            .args(["-vsync", "passthrough", "-f", "rawvideo", "-"])
            .stdin(stream)
            .output()
            .expect("ffmpeg starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(pipe.wait().expect("it ends").success());
        let rate = rate.split('/').next().unwrap_or_default();
        assert!(
            said.contains("640x360") && said.contains(&format!("{rate} fps")),
            "{said}"
        );
        let size = (640, 360);
        let seen = verify(
            farm.witness(camera),
            &output.stdout,
            size,
            640 * 360 * 3 / 2,
        );
        assert_eq!(seen, frames);
    }
}

#[test]
fn bare_formats_are_rows_without_padding() {
    let farm = Farm::start(&[Camera::new("avc", "h264-180p")]);
    let daemon = daemon(&farm, &["avc"]);
    let run = |format: &str| {
        let output = daemon
            .camring(["pipe", "avc", "--format", format, "-n", "20"])
            .output()
            .expect("camring starts");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let (size, pixels) = ((320, 180), 320 * 180);
    assert_eq!(verify(farm.witness("avc"), &run("gray"), size, pixels), 20);
    let rgb = run("rgb24");
    assert_eq!(rgb.len(), 20 * pixels * 3);
    // The code is black and white: any channel has it, at full range.
    let green: Vec<u8> = rgb.iter().skip(1).step_by(3).copied().collect();
    assert_eq!(verify(farm.witness("avc"), &green, size, pixels), 20);
    assert!(green.iter().any(|sample| *sample > 240) && green.iter().any(|sample| *sample < 10));
}

#[test]
fn pipe_ends_quietly_with_its_reader_and_clearly_with_the_size() {
    let farm = Farm::start(&[
        Camera::new("avc", "h264-180p"),
        Camera::new("resize", "h264-resize"),
    ]);
    let daemon = daemon(&farm, &["avc", "resize"]);
    let mut pipe = daemon
        .camring(["pipe", "avc", "--format", "gray"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("camring starts");
    let mut some = vec![0; 320 * 180];
    let mut stdout = pipe.stdout.take().expect("a pipe");
    stdout.read_exact(&mut some).expect("one picture");
    drop(stdout);
    let output = pipe.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");

    let output = daemon
        .camring(["pipe", "resize", "--format", "y4m"])
        .output()
        .expect("camring starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("640x360 i420") && said.contains("1280x720 i420"),
        "{said}"
    );

    let output = daemon
        .camring(["pipe", "nobody", "--format", "y4m"])
        .output()
        .expect("camring starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

fn probe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_camring"))
        .arg("probe")
        .args(arguments)
        .env("TEST_PASSWORD", "se:cret@1")
        .stdin(Stdio::null())
        .output()
        .expect("camring starts")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn probe_says_what_a_camera_sends() {
    let farm = Farm::start(&[
        Camera::new("avc", "h264-360p").digest("admin", "se:cret@1"),
        Camera::new("hevc", "h265-360p"),
        Camera::new("jpeg", "mjpeg-360p"),
    ]);
    let login = farm
        .url("avc")
        .replace("rtsp://", "rtsp://admin:${TEST_PASSWORD}@");
    let cases: [(&str, &str, &str, Value, f64, u64); 3] = [
        (&login, "tcp", "H.264", "Main".into(), 25.0, 25),
        (farm.url("hevc"), "udp", "H.265", "Main".into(), 25.0, 25),
        (farm.url("jpeg"), "tcp", "MJPEG", "baseline".into(), 10.0, 1),
    ];
    for (url, transport, codec, profile, fps, gop) in cases {
        let output = probe(&[url, "--json", "--seconds", "4", "--transport", transport]);
        assert!(output.status.success(), "{output:?}");
        let all = json(&output);
        let (video, measured) = (&all["video"], &all["measured"]);
        assert_eq!(all["ok"], true, "{all}");
        assert_eq!(all["transport"], transport);
        assert_eq!(all["offered"][0]["media"], "video", "{all}");
        assert_eq!(all["offered"][0]["read"], true, "{all}");
        assert_eq!(
            (&video["codec"], &video["profile"]),
            (&codec.into(), &profile),
            "{all}"
        );
        assert_eq!(
            (&video["width"], &video["height"]),
            (&640.into(), &360.into())
        );
        // By the camera's clock, so a loaded machine does not show, but for a picture or two that the camera
        // itself leaves out when it cannot keep up.
        let off = measured["fps"].as_f64().expect("a rate") - fps;
        assert!((-fps / 20.0..=0.01).contains(&off), "{all}");
        assert_eq!(
            (&measured["gop_min"], &measured["gop_max"]),
            (&gop.into(), &gop.into()),
            "{all}"
        );
        assert!(
            measured["bits_per_second"].as_f64() > Some(100_000.0),
            "{all}"
        );
        assert!(measured["sender_reports"].as_u64() > Some(0), "{all}");
        assert_eq!(measured["clock"], "sender-report", "{all}");
        assert!(all["times_ms"]["first_key_frame"].as_f64() > Some(0.0));
        assert!(!format!("{output:?}").contains("se:cret"), "{output:?}");
    }
    let text = probe(&[&login, "--seconds", "2"]);
    let said = String::from_utf8_lossy(&text.stdout);
    for part in [
        "H.264 Main",
        "640x360",
        "25.00 fps",
        "every 25 pictures (1.0 s)",
        "offers",
    ] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    assert!(!format!("{text:?}").contains("se:cret"), "{text:?}");
}

#[test]
fn probe_says_at_which_stage_it_failed() {
    let farm = Farm::start(&[
        Camera::new("door", "h264-180p").digest("admin", "se:cret@1"),
        Camera::new("gone", "h264-180p"),
        Camera::new("off", "h264-180p"),
    ]);
    farm.remove("gone");
    farm.stop("off");
    let wrong = farm
        .url("door")
        .replace("rtsp://", "rtsp://admin:wr0ng-one@");
    let cases = [
        (
            farm.url("off").to_owned(),
            "connecting",
            "connection refused",
        ),
        (
            farm.url("door").to_owned(),
            "DESCRIBE",
            "none is configured",
        ),
        (wrong, "DESCRIBE", "refuses the login"),
        (farm.url("gone").to_owned(), "DESCRIBE", "no such stream"),
    ];
    for (url, stage, error) in cases {
        let output = probe(&[&url, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let all = json(&output);
        assert_eq!(all["ok"], false, "{all}");
        assert_eq!(all["failure"]["stage"], stage, "{all}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for text in [all["failure"]["error"].as_str().unwrap_or_default(), &said] {
            assert!(text.contains(error), "{text}");
        }
        let hint = all["failure"]["hint"].as_str().unwrap_or_default();
        assert!(!hint.is_empty() && said.contains(hint), "{said}");
        assert!(!format!("{output:?}").contains("wr0ng-one"), "{output:?}");
    }
    for (url, why) in [
        ("http://192.0.2.1/", "web address"),
        (
            "rtsp://admin:wr0ng/1@192.0.2.1/",
            "port that is not a number",
        ),
        (
            "rtsp://a:${CAMRING_TEST_NO_SUCH_VARIABLE}@192.0.2.1/",
            "CAMRING_TEST_NO_SUCH",
        ),
    ] {
        let output = probe(&[url]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && !said.contains("wr0ng"), "{said}");
    }
}
