//! Sessions with a third party's server: GStreamer's, playing pre-encoded clips.

#[path = "support/session.rs"]
mod session;
mod support;

use camring::reader::session::State;
use camring::reader::source::{AccessUnit, SourceConfig, Transport, VideoCodec};
use camring::reader::timeline::{Arrival, Timeline};
use secrecy::SecretString;
use session::{Running, decode, patient};
use support::{Camera, Farm, PATIENCE, wait_until};
use tempfile::TempDir;
use url::Url;

const GOP: usize = 25;

fn config(url: &str) -> SourceConfig {
    let mut config = SourceConfig::new("cam", Url::parse(url).unwrap());
    config.timeouts = patient();
    config
}

/// The first `n` units in a row, from a key frame on, without a loss among them. Not the very first
/// unit, which a camera may hold back until PLAY comes: the next one can be several periods later.
fn intact(units: &[AccessUnit], n: usize) -> Option<&[AccessUnit]> {
    (1..units.len()).find_map(|at| {
        let run = units.get(at..at + n)?;
        let whole = run[0].key && run[1..].iter().all(|u| u.lost_before == 0);
        whole.then_some(run)
    })
}

fn wait_for_teardown(farm: &Farm) {
    wait_until("TEARDOWN", PATIENCE, || farm.teardowns("live") == 1);
}

async fn receives(kind: &str, codec: VideoCodec, transport: Transport) {
    let dir = TempDir::new().unwrap();
    let farm = Farm::start(&[Camera::new("live", &format!("{kind}-360p")).fps(25)]);
    let mut config = config(farm.url("live"));
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
    wait_for_teardown(&farm);

    assert_eq!(observed.sessions_started, 1, "{:?}", observed.states);
    assert_eq!(observed.sessions_ended, 1);
    let units = &observed.units;
    assert!(units[0].key && units[0].parameters_changed);
    let run = intact(units, wanted).unwrap();
    for (i, unit) in run.iter().enumerate() {
        assert_eq!(unit.codec, codec);
        assert_eq!(unit.clock_rate, 90_000);
        assert_eq!(unit.dimensions, Some((640, 360)));
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
    let state = format!("{codec} 640x360 over {transport}");
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
    let camera = Camera::new("live", "h264-180p");
    let farm = Farm::start(&[match method {
        "digest" => camera.digest("viewer", "s3cr3t wörd"),
        _ => camera.basic("viewer", "s3cr3t wörd"),
    }]);
    let with = |user: Option<&str>, password: &str| {
        let mut c = config(farm.url("live"));
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
    let farm = Farm::start(&[Camera::new("live", "h264-180p")]);
    let running = Running::start(config(&format!("{}/nothing-here", farm.url("live"))));
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
    let farm = Farm::start(&[Camera::new("live", "h264-180p")]);
    let running = Running::start(config(farm.url("live")));
    running.until("pictures", |o| o.units.len() > 5).await;
    farm.stop("live");
    running
        .until("the camera is missed", |o| {
            o.state() == State::Backoff
                && o.reasons(State::Backoff)
                    .iter()
                    .any(|r| r.starts_with("connection refused"))
        })
        .await;
    let before = running.look(|o| o.units.len());
    farm.restart("live");
    running
        .until("pictures again", |o| o.units.len() > before + 5)
        .await;
    let first = running.look(|o| o.units[before].clone());
    assert!(first.key && first.parameters_changed);
    let observed = running.stop().await;
    wait_for_teardown(&farm);
    assert!(observed.reasons(State::Backoff)[0].starts_with("the camera ended the stream"));
    assert!(!observed.was(State::Failed) && !observed.was(State::Unauthorized));
}
