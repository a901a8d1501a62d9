//! Sessions with a camera that does everything wrong, one thing at a time: each fault has one
//! state and reason, costs a bounded number of tries, and is over when the camera behaves.

#[path = "support/session_scripted.rs"]
mod scripted;
#[path = "support/session.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use camring::reader::session::State;
use camring::reader::source::{SourceConfig, Timeouts};
use scripted::{AfterPlay, Behaviour, Camera, GOP};
use secrecy::SecretString;
use support::{Names, Running, most_tries, patient, quick_backoff};
use url::Url;

fn config(url: &str) -> SourceConfig {
    let mut config = SourceConfig::new("cam", Url::parse(url).unwrap());
    config.timeouts = patient();
    config
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs against a camera with a fault until it was tried three times, then mends the camera.
/// Returns the reasons given with `state`.
async fn fault(
    behaviour: Behaviour,
    limits: impl FnOnce(&mut Timeouts),
    state: State,
) -> Vec<String> {
    let camera = Camera::start(behaviour).await;
    let mut config = config(&camera.url());
    limits(&mut config.timeouts);
    let running = Running::start(config);
    running
        .until("the fault is shown", |o| o.was(state) && o.reconnects >= 2)
        .await;
    let elapsed = running.started.elapsed();
    let tries = running.look(|o| o.reconnects) + 1;
    let most = most_tries(quick_backoff().soon, elapsed);
    assert!(
        tries <= most,
        "{tries} tries in {elapsed:?}, at most {most} are polite"
    );
    let connections = camera.connections().len() as u64;
    // A second connection tells a dead host from a hanging camera.
    assert!(
        connections <= 2 * tries,
        "{connections} connections in {tries} tries"
    );

    camera.behave(Behaviour::default());
    let before = running.look(|o| o.units.len());
    running
        .until("it recovers", |o| {
            o.state() == State::Streaming && o.units.len() > before + 2 * GOP as usize
        })
        .await;
    let observed = running.stop().await;
    camera.assert_torn_down();
    assert_eq!(observed.sessions_started, observed.sessions_ended);
    for other in [State::Backoff, State::Unauthorized, State::Failed] {
        assert!(
            other == state || !observed.was(other),
            "also {other:?}: {:#?}",
            observed.states
        );
    }
    observed.reasons(state)
}

fn only(reasons: &[String], start: &str) {
    assert!(!reasons.is_empty());
    for r in reasons {
        assert!(r.starts_with(start), "{r:?} does not start with {start:?}");
    }
}

#[tokio::test]
async fn a_good_camera_streams_and_is_told_goodbye() {
    let camera = Camera::start(Behaviour::default()).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 25).await;
    let o = running.stop().await;
    let connections = camera.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!(
        connections[0].requests,
        ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
    );
    let states: Vec<State> = o.states.iter().map(|(s, _)| *s).collect();
    assert_eq!(
        states,
        [State::Connecting, State::Connecting, State::Streaming]
    );
    assert_eq!(o.states[2].1, "H.264 64x64 over TCP");
    for (i, unit) in o.units.iter().enumerate() {
        assert_eq!(unit.key, i % GOP as usize == 0);
        // Across the wrap of the 32-bit stamps.
        assert_eq!(unit.rtp_time - o.units[0].rtp_time, i as i64 * 3600);
    }
    assert_eq!((o.lost, o.glitches, o.reconnects), (0, 0, 0));
}

#[tokio::test]
async fn nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let running = Running::start(config(&format!("rtsp://{address}/stream")));
    running.until("three tries", |o| o.reconnects >= 3).await;
    let (elapsed, tries) = (running.started.elapsed(), running.look(|o| o.reconnects));
    assert!(tries < most_tries(quick_backoff().soon, elapsed) + 1);
    assert_eq!(
        running.look(|o| o.reasons(State::Backoff)),
        [
            "connection refused (connecting); check the port in `url` and that RTSP is enabled in \
          the camera"
        ]
    );
    let camera = Camera::start_at(&address.to_string(), Behaviour::default())
        .await
        .expect("the port is still free");
    running.until("pictures", |o| o.units.len() > 5).await;
    running.stop().await;
    camera.assert_torn_down();
}

#[tokio::test]
async fn a_host_that_swallows_connections() {
    // A full backlog drops SYNs, as a dead host does.
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket_with};
    let flags = rustix::net::SocketFlags::NONBLOCK;
    let open = || socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    let listener = open();
    bind(
        &listener,
        &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
    )
    .unwrap();
    listen(&listener, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let s = open();
            let _ = connect(&s, &address);
            s
        })
        .collect();
    let mut config = config(&format!("rtsp://{address}/stream"));
    config.timeouts.connect = ms(200);
    let running = Running::start(config);
    running.until("two tries", |o| o.reconnects >= 1).await;
    let observed = running.stop().await;
    assert_eq!(
        observed.reasons(State::Backoff),
        [
            "no answer within 0.2 s (connecting); check power, cable and address of the camera, and \
          firewalls"
        ]
    );
}

#[tokio::test]
async fn hangs_at_describe() {
    let limits = |t: &mut Timeouts| {
        t.connect = ms(200);
        t.describe = ms(300);
    };
    let reasons = fault(Behaviour::hang("DESCRIBE"), limits, State::Backoff).await;
    only(
        &reasons,
        "no answer within 0.3 s (DESCRIBE); the camera hangs",
    );
}

#[tokio::test]
async fn hangs_at_setup() {
    let limits = |t: &mut Timeouts| t.setup = ms(500);
    let reasons = fault(Behaviour::hang("SETUP"), limits, State::Backoff).await;
    only(&reasons, "no answer within 0.5 s (SETUP)");
}

#[tokio::test]
async fn hangs_at_play() {
    let limits = |t: &mut Timeouts| t.play = ms(500);
    let reasons = fault(Behaviour::hang("PLAY"), limits, State::Backoff).await;
    only(&reasons, "no answer within 0.5 s (PLAY)");
}

#[tokio::test]
async fn never_answers_keepalives() {
    // Sent as OPTIONS, a second after PLAY.
    let behaviour = Behaviour {
        session_timeout: 2,
        ..Behaviour::hang("OPTIONS")
    };
    let reasons = fault(behaviour, |_| {}, State::Backoff).await;
    only(
        &reasons,
        "the camera ended the stream: it stopped answering (keepalive)",
    );
}

#[tokio::test]
async fn never_answers_teardown() {
    let camera = Camera::start(Behaviour::hang("TEARDOWN")).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 5).await;
    // Returns all the same.
    running.stop().await;
    camera.assert_torn_down();
}

#[tokio::test]
async fn silent_after_play() {
    let limits = |t: &mut Timeouts| t.first_unit = ms(700);
    let reasons = fault(
        Behaviour::after_play(AfterPlay::Silent),
        limits,
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "no answer within 0.7 s (waiting for the first picture)",
    );
}

#[tokio::test]
async fn no_key_frame() {
    let limits = |t: &mut Timeouts| t.first_key_frame = ms(900);
    let reasons = fault(
        Behaviour::after_play(AfterPlay::NoKey),
        limits,
        State::Backoff,
    )
    .await;
    only(&reasons, "pictures, but no key frame within 0.9 s");
}

#[tokio::test]
async fn pictures_stop() {
    let limits = |t: &mut Timeouts| {
        t.show_stalled = ms(500);
        t.stall = ms(1500);
    };
    let reasons = fault(
        Behaviour::after_play(AfterPlay::Stop(15)),
        limits,
        State::Backoff,
    )
    .await;
    only(&reasons, "no picture for 1.");
}

#[tokio::test]
async fn a_pause_is_shown_and_over_without_a_new_session() {
    let pause = AfterPlay::Pause(15, Duration::from_secs(3));
    let camera = Camera::start(Behaviour::after_play(pause)).await;
    let mut config = config(&camera.url());
    config.timeouts.show_stalled = ms(500);
    let running = Running::start(config);
    running
        .until("it is shown", |o| o.state() == State::Stalled)
        .await;
    running
        .until("it is over", |o| {
            o.state() == State::Streaming && o.units.len() > 30
        })
        .await;
    let observed = running.stop().await;
    assert_eq!(observed.sessions_started, 1);
    assert_eq!(camera.connections().len(), 1);
}

#[tokio::test]
async fn audio_only() {
    let sdp = "m=audio 0 RTP/AVP 0\r\na=control:track0\r\n\
               m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n";
    let reasons = fault(Behaviour::sdp(sdp), |_| {}, State::Failed).await;
    only(
        &reasons,
        "no video track; the camera offers audio/pcmu, application/vnd.onvif.metadata (DESCRIBE)",
    );
}

#[tokio::test]
async fn no_track_at_all() {
    let reasons = fault(Behaviour::sdp(""), |_| {}, State::Failed).await;
    only(
        &reasons,
        "no video track; the camera offers nothing (DESCRIBE)",
    );
}

#[tokio::test]
async fn an_unsupported_codec() {
    let sdp = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\na=control:track0\r\n";
    let reasons = fault(Behaviour::sdp(sdp), |_| {}, State::Failed).await;
    only(
        &reasons,
        "unsupported codec vp8; the camera offers video/vp8 (DESCRIBE); set the camera's codec to \
         one of H.264, H.265, MJPEG",
    );
}

#[tokio::test]
async fn a_malformed_description() {
    let reasons = fault(Behaviour::sdp("hello"), |_| {}, State::Failed).await;
    only(&reasons, "malformed session description: ");
    let sdp = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/8000\r\n";
    let reasons = fault(Behaviour::sdp(sdp), |_| {}, State::Failed).await;
    only(
        &reasons,
        "malformed session description: H.264 with a clock rate of 8000 Hz",
    );
}

#[tokio::test]
async fn refusals() {
    for (method, status, state, reason) in [
        (
            "DESCRIBE",
            403,
            State::Unauthorized,
            "the camera forbids access (403)",
        ),
        (
            "DESCRIBE",
            404,
            State::Failed,
            "the camera has no such stream (404)",
        ),
        (
            "SETUP",
            453,
            State::Backoff,
            "the camera has no free session (453) (SETUP)",
        ),
        (
            "DESCRIBE",
            503,
            State::Backoff,
            "the camera has no free session (503)",
        ),
        (
            "SETUP",
            461,
            State::Failed,
            "the camera refuses this transport (461)",
        ),
        (
            "DESCRIBE",
            302,
            State::Failed,
            "the camera redirects to another address (302)",
        ),
        ("PLAY", 500, State::Backoff, "the camera answered 500: "),
        (
            "DESCRIBE",
            401,
            State::Unauthorized,
            "the camera asks for a login in a way",
        ),
    ] {
        let reasons = fault(Behaviour::refuse(method, status), |_| {}, state).await;
        only(&reasons, reason);
    }
}

#[tokio::test]
async fn asks_questions_of_its_own() {
    // retina falls asleep at each; the tick wakes it.
    let camera = Camera::start(Behaviour::after_play(AfterPlay::Asks(5))).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 25).await;
    let o = running.stop().await;

    assert_eq!((o.sessions_started, o.reconnects), (1, 0));
    assert!(o.units.iter().all(|u| u.lost_before == 0));
    camera.assert_torn_down();
}

#[tokio::test]
async fn garbage_between_the_packets() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::Garbage(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(&reasons, "protocol error: RTSP framing error");
}

#[tokio::test]
async fn another_ssrc() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::NewSsrc(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "21 unusable packets within 10 s; the last: wrong ssrc",
    );
}

#[tokio::test]
async fn the_sequence_falls_back() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::SequenceBack(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "21 unusable packets within 10 s; the last: Out-of-order",
    );
}

#[tokio::test]
async fn closes_in_the_middle_of_a_packet() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::EofMidFrame(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "the camera ended the stream: it closed the connection in the middle of a message",
    );
}

#[tokio::test]
async fn closes_the_connection() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::Eof(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "the camera ended the stream: it closed the connection (streaming)",
    );
}

#[tokio::test]
async fn says_goodbye() {
    let reasons = fault(
        Behaviour::after_play(AfterPlay::Bye(12)),
        |_| {},
        State::Backoff,
    )
    .await;
    only(
        &reasons,
        "the camera ended the stream: it said goodbye (RTCP BYE)",
    );
}

#[tokio::test]
async fn losses_and_oversize_pictures_are_counted() {
    let camera = Camera::start(Behaviour::after_play(AfterPlay::Loss(15))).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 25).await;
    let o = running.stop().await;

    assert_eq!((o.lost, o.units[15].lost_before), (7, 7));

    let camera = Camera::start(Behaviour::after_play(AfterPlay::Large(4000))).await;
    let mut config = config(&camera.url());
    config.limits.max_unit_bytes = 2000;
    let running = Running::start(config);
    running.until("pictures", |o| o.units.len() > 12).await;
    let o = running.stop().await;

    for (i, unit) in o.units.iter().enumerate() {
        assert!(unit.data.len() <= 2000);
        // Every fifth picture is missing.
        assert_eq!(unit.lost_before, u32::from(i > 0 && i % 4 == 0), "unit {i}");
    }
}

#[tokio::test]
async fn broken_reports_harm_no_picture() {
    let camera = Camera::start(Behaviour::after_play(AfterPlay::BadRtcp)).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 50).await;
    let o = running.stop().await;

    assert!(o.glitches >= 50);
    assert_eq!((o.lost, o.sessions_started), (0, 1));
}

#[tokio::test]
async fn intra_refresh_has_entry_points() {
    let camera = Camera::start(Behaviour::after_play(AfterPlay::IntraRefresh)).await;
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 12).await;
    let o = running.stop().await;

    for (i, unit) in o.units.iter().enumerate() {
        assert_eq!(unit.key, i % GOP as usize == 0);
        // Parameter sets in front: SPS is NAL type 7.
        assert_eq!(unit.data[4] & 0x1f == 7, unit.key);
    }
}

#[tokio::test]
async fn nothing_comes_out_of_the_decoder() {
    let camera = Camera::start(Behaviour::default()).await;
    let mut config = config(&camera.url());
    config.timeouts.decode_stall = ms(700);
    let running = Running::start(config);
    running.look(|o| o.last_decoded = Some(0));
    running
        .until("it is noticed twice", |o| o.sessions_ended >= 2)
        .await;
    only(
        &running.look(|o| o.reasons(State::Backoff)),
        "pictures arrive, none was decoded for ",
    );
    // The decoder works again.
    running.look(|o| o.last_decoded = Some(u64::MAX));
    let sessions = running.look(|o| o.sessions_started);
    let units = running.look(|o| o.units.len());
    running
        .until("it streams", |o| o.units.len() > units + 50)
        .await;
    assert!(running.look(|o| o.sessions_started) <= sessions + 1);
    running.stop().await;
    camera.assert_torn_down();
}

#[tokio::test]
async fn stopping_is_possible_at_every_stage() {
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        let camera = Camera::start(Behaviour::hang(method)).await;
        let running = Running::start(config(&camera.url()));
        while !camera
            .connections()
            .iter()
            .any(|c| c.requests.iter().any(|r| r == method))
        {
            tokio::time::sleep(ms(10)).await;
        }
        running.until("it beats", |o| o.beats > 2).await;
        running.stop().await;
        camera.assert_torn_down();
    }
    // While waiting to try again.
    let camera = Camera::start(Behaviour::refuse("DESCRIBE", 403)).await;
    let running = Running::start(config(&camera.url()));
    running
        .until("it waits", |o| o.state() == State::Unauthorized)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn names_are_resolved_outside_and_tried_by_turns() {
    let camera = Camera::start(Behaviour::default()).await;
    let port = camera.address.port();
    let named = |name: &str| {
        let mut c = config(&format!("rtsp://{name}:{port}/stream?x=1"));
        c.username = Some("u".into());
        c.password = Some(SecretString::from("p"));
        c
    };
    let names = || {
        Names(vec![
            (
                "two.example",
                vec![
                    IpAddr::V6(Ipv6Addr::LOCALHOST),
                    IpAddr::V4(Ipv4Addr::LOCALHOST),
                ],
            ),
            ("slow.example", vec![]),
        ])
    };
    // Nobody listens at the first address.
    let running = Running::start_with(named("two.example"), names());
    running.until("pictures", |o| o.units.len() > 5).await;
    let observed = running.stop().await;
    assert_eq!(observed.reconnects, 1);
    let head = camera.connections()[0].heads[0].clone();
    assert!(
        head.starts_with(&format!("DESCRIBE rtsp://127.0.0.1:{port}/stream?x=1 ")),
        "{head}"
    );

    let running = Running::start_with(named("nowhere.example"), names());
    running.until("tries", |o| o.reconnects >= 1).await;
    let observed = running.stop().await;
    assert_eq!(
        observed.reasons(State::Backoff),
        [
            "the host name cannot be resolved: no such name (resolving the name); check the name in \
          `url`, or use the camera's IP address"
        ]
    );

    let mut slow = named("slow.example");
    slow.timeouts.resolve = ms(300);
    let running = Running::start_with(slow, names());
    running.until("tries", |o| o.reconnects >= 1).await;
    let observed = running.stop().await;
    only(
        &observed.reasons(State::Backoff),
        "no answer within 0.3 s (resolving the name)",
    );
}

#[tokio::test]
async fn ipv6() {
    // Where the machine has no IPv6 there is nothing to test.
    let Ok(camera) = Camera::start_at("[::1]:0", Behaviour::default()).await else {
        return;
    };
    let running = Running::start(config(&camera.url()));
    running.until("pictures", |o| o.units.len() > 5).await;
    running.stop().await;
    camera.assert_torn_down();
}

#[tokio::test]
async fn urls_that_cannot_work() {
    for (url, reason) in [
        (
            "rtsp://u:pw-in-url@127.0.0.1/x",
            "credentials belong in `username` and `password`",
        ),
        (
            "rtsps://127.0.0.1/x",
            "client = \"retina\" reads rtsp:// only",
        ),
        (
            "http://127.0.0.1/x",
            "client = \"retina\" reads rtsp:// only",
        ),
    ] {
        let running = Running::start(config(url));
        running
            .until("it fails", |o| o.state() == State::Failed)
            .await;
        let o = running.stop().await;

        only(&o.reasons(State::Failed), reason);
        assert!(!format!("{:?}", o.states).contains("pw-in-url"));
    }
}
