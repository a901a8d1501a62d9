//! Sessions with a third party's server: GStreamer's, playing pre-encoded clips.

#[path = "support/session.rs"]
mod support;

use std::path::Path;

use camring::reader::session::State;
use camring::reader::source::{AccessUnit, SourceConfig, Transport, VideoCodec};
use camring::reader::timeline::{Arrival, Timeline};
use secrecy::SecretString;
use support::{CameraProcess, Running, clip, decode, patient};
use tempfile::TempDir;
use url::Url;

const GOP: usize = 25;

fn config(port: u16, path: &str) -> SourceConfig {
    let url = Url::parse(&format!("rtsp://127.0.0.1:{port}{path}")).unwrap();
    let mut config = SourceConfig::new("cam", url);
    config.timeouts = patient();
    config
}

fn mount(path: &str, clip: &Path) -> String {
    format!("--mount={path}={}@25", clip.display())
}

/// The first `n` units in a row, from a key frame on, without a loss among them.
fn intact(units: &[AccessUnit], n: usize) -> Option<&[AccessUnit]> {
    (0..units.len()).find_map(|at| {
        let run = units.get(at..at + n)?;
        let whole = run[0].key && run[1..].iter().all(|u| u.lost_before == 0);
        whole.then_some(run)
    })
}

async fn receives(kind: &str, codec: VideoCodec, transport: Transport) {
    let dir = TempDir::new().unwrap();
    let camera = CameraProcess::start(&[&mount("/live", &clip(dir.path(), kind))]);
    let mut config = config(camera.port, "/live");
    config.transport = transport;
    let running = Running::start(config);
    let wanted = 3 * GOP + 5;
    running
        .until("enough pictures in a row", |o| {
            intact(&o.units, wanted).is_some()
        })
        .await;
    running
        .until("a sender report", |o| !o.sender_reports.is_empty())
        .await;
    let reports = running.look(|o| o.sender_reports.clone());
    let had = running.look(|o| o.units.len());
    running
        .until("a key frame after the report", |o| {
            o.units.iter().skip(had).filter(|u| u.key).count() > 1
        })
        .await;
    let observed = running.stop().await;
    camera.until("TEARDOWN", 1).await;

    assert_eq!(observed.sessions_started, 1, "{:?}", observed.states);
    assert_eq!(observed.sessions_ended, 1);
    let units = &observed.units;
    assert!(units[0].key && units[0].parameters_changed);
    let run = intact(units, wanted).unwrap();
    let height = if codec == VideoCodec::Mjpeg { 176 } else { 180 };
    for (i, unit) in run.iter().enumerate() {
        assert_eq!(unit.codec, codec);
        assert_eq!(unit.clock_rate, 90_000);
        assert_eq!(unit.dimensions, Some((320, height)));
        // JPEGs stand for themselves.
        let key = codec == VideoCodec::Mjpeg || i % GOP == 0;
        assert_eq!(unit.key, key, "unit {i} of the run");
        let step = unit.rtp_time - run[0].rtp_time;
        let sent = i as i64 * 3600;
        assert!((step - sent).abs() <= 2, "unit {i} is at {step}");
    }
    let (pictures, complaints) = decode(dir.path(), kind, run);
    assert_eq!(complaints, "");
    assert_eq!(pictures, wanted);
    let state = format!("{codec} 320x{height} over {transport}");
    assert_eq!(observed.reasons(State::Streaming), [state]);

    // The reports and the stamps are on one scale: the timeline believes them.
    let mut timeline = Timeline::new(90_000);
    let mut by_report = false;
    let mut reports = reports.iter().peekable();
    for unit in units {
        while let Some(r) = reports.next_if(|r| r.arrival_ns <= unit.arrival_ns) {
            let arrival = Arrival {
                monotonic_ns: r.arrival_ns,
                utc_ns: r.arrival_utc_ns,
            };
            timeline.sender_report(r.ntp_utc_ns, r.rtp_time, arrival);
        }
        let arrival = Arrival {
            monotonic_ns: unit.arrival_ns,
            utc_ns: unit.arrival_utc_ns,
        };
        by_report |= timeline
            .stamp(unit.rtp_time, arrival, unit.key)
            .from_sender_report;
    }
    assert!(by_report, "the camera's clock was not believed");
}

#[tokio::test]
async fn h264_over_tcp() {
    receives("h264", VideoCodec::H264, Transport::Tcp).await;
}

#[tokio::test]
async fn h264_over_udp() {
    receives("h264", VideoCodec::H264, Transport::Udp).await;
}

#[tokio::test]
async fn h265_over_tcp() {
    receives("h265", VideoCodec::H265, Transport::Tcp).await;
}

#[tokio::test]
async fn h265_over_udp() {
    receives("h265", VideoCodec::H265, Transport::Udp).await;
}

#[tokio::test]
async fn mjpeg_over_tcp() {
    receives("mjpeg", VideoCodec::Mjpeg, Transport::Tcp).await;
}

#[tokio::test]
async fn mjpeg_over_udp() {
    receives("mjpeg", VideoCodec::Mjpeg, Transport::Udp).await;
}

/// A right, a wrong and no password at a camera with a login.
async fn login(method: &str) {
    let dir = TempDir::new().unwrap();
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, "s3cr3t wörd").unwrap();
    let camera = CameraProcess::start(&[
        &mount("/live", &clip(dir.path(), "h264")),
        "--login",
        method,
        "--user=viewer",
        &format!("--password-file={}", password_file.display()),
    ]);
    let with = |user: Option<&str>, password: &str| {
        let mut c = config(camera.port, "/live");
        c.username = user.map(str::to_owned);
        c.password = user.map(|_| SecretString::from(password));
        c
    };

    let right = Running::start(with(Some("viewer"), "s3cr3t wörd"));
    right.until("pictures", |o| o.units.len() > 5).await;
    assert!(!right.look(|o| o.was(State::Unauthorized)));
    right.stop().await;

    let wrong = Running::start(with(Some("viewer"), "guessed-wrong"));
    wrong
        .until("it is refused twice", |o| o.reconnects >= 2)
        .await;
    let observed = wrong.stop().await;
    assert_eq!(
        observed.reasons(State::Unauthorized),
        [
            "the camera refuses the login (401) (DESCRIBE); check `username` and `password`; tries \
          are slowed down so as not to lock the account"
        ]
    );
    assert!(!format!("{:?}", observed.states).contains("guessed"));
    assert!(!observed.was(State::Backoff) && !observed.was(State::Failed));

    let none = Running::start(with(None, ""));
    none.until("it is refused", |o| o.was(State::Unauthorized))
        .await;
    let observed = none.stop().await;
    assert_eq!(
        observed.reasons(State::Unauthorized),
        [
            "the camera asks for a login (401), none is configured (DESCRIBE); set `username` and \
          `password` for this camera"
        ]
    );
}

#[tokio::test]
async fn digest_login() {
    login("digest").await;
}

#[tokio::test]
async fn basic_login() {
    login("basic").await;
}

#[tokio::test]
async fn a_path_that_does_not_exist() {
    let dir = TempDir::new().unwrap();
    let camera = CameraProcess::start(&[&mount("/live", &clip(dir.path(), "h264"))]);
    let running = Running::start(config(camera.port, "/nothing-here"));
    running
        .until("it is tried again", |o| o.reconnects >= 2)
        .await;
    let observed = running.stop().await;
    assert_eq!(
        observed.reasons(State::Failed),
        [
            "the camera has no such stream (404) (DESCRIBE); check the path in `url`: channel and \
          stream number"
        ]
    );
}

#[tokio::test]
async fn a_camera_that_dies_and_comes_back() {
    let dir = TempDir::new().unwrap();
    let mount = mount("/live", &clip(dir.path(), "h264"));
    let camera = CameraProcess::start(&[&mount]);
    let port = camera.port;
    let running = Running::start(config(port, "/live"));
    running.until("pictures", |o| o.units.len() > 5).await;
    camera.kill();
    running
        .until("the camera is missed", |o| {
            o.state() == State::Backoff
                && o.reasons(State::Backoff)
                    .iter()
                    .any(|r| r.starts_with("connection refused"))
        })
        .await;
    let before = running.look(|o| o.units.len());
    let camera = CameraProcess::start(&[&mount, &format!("--port={port}")]);
    running
        .until("pictures again", |o| o.units.len() > before + 5)
        .await;
    let first = running.look(|o| o.units[before].clone());
    assert!(first.key && first.parameters_changed);
    let observed = running.stop().await;
    camera.until("TEARDOWN", 1).await;
    assert!(observed.reasons(State::Backoff)[0].starts_with("the camera ended the stream"));
    assert!(!observed.was(State::Failed) && !observed.was(State::Unauthorized));
}
