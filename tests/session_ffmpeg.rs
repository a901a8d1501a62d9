//! The second RTSP client, libavformat: what it is there for, and what it must not do.

#[path = "support/session_scripted.rs"]
mod scripted;
#[path = "support/session.rs"]
mod session;
mod support;
#[path = "support/session_udp.rs"]
mod udp;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use camring::config::Client;
use camring::reader::session::State;
use camring::reader::source::{AccessUnit, SourceConfig, Transport, VideoCodec};
use scripted::{AfterPlay, Behaviour};
use secrecy::SecretString;
use session::{Names, Observed, Running, decode, patient};
use support::{Camera, Farm, PATIENCE, wait_until};
use tempfile::TempDir;
use url::Url;

fn config(url: &str) -> SourceConfig {
    let mut config = SourceConfig::new("cam", Url::parse(url).unwrap());
    config.timeouts = patient();
    config.tls_verify = false;
    config
}

fn start(client: Client, config: SourceConfig) -> Running {
    Running::start_by(client, config, Names(Vec::new()))
}

/// Threads of libavformat sessions in this process.
fn session_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "rtsp")
        .count()
}

fn intact(units: &[AccessUnit], n: usize) -> Option<&[AccessUnit]> {
    (1..units.len()).find_map(|at| {
        let run = units.get(at..at + n)?;
        let whole = run[0].key && run[1..].iter().all(|u| u.lost_before == 0);
        whole.then_some(run)
    })
}

async fn receives(
    kind: &str,
    codec: VideoCodec,
    client: Client,
    change: fn(Camera) -> Camera,
    transport: Transport,
) {
    let dir = TempDir::new().unwrap();
    let camera = Camera::new("live", &format!("{kind}-360p")).fps(25);
    let farm = Farm::start(&[change(camera)]);
    let mut config = config(farm.url("live"));
    config.transport = transport;
    config.username = Some("viewer".to_owned());
    config.password = Some(SecretString::from("s3:cr@t 50%41"));
    let running = start(client, config);
    let wanted = 55;
    running
        .until("pictures in a row and a sender report", |o| {
            intact(&o.units, wanted).is_some() && !o.sender_reports.is_empty()
        })
        .await;
    let observed = running.stop().await;
    wait_until("TEARDOWN", PATIENCE, || farm.teardowns("live") == 1);

    let units = &observed.units;
    assert!(units[0].key && units[0].parameters_changed);
    let run = intact(units, wanted).unwrap();
    for (i, unit) in run.iter().enumerate() {
        assert_eq!((unit.codec, unit.clock_rate), (codec, 90_000));
        assert_eq!(unit.dimensions, Some((640, 360)));
        let step = unit.rtp_time - run[0].rtp_time;
        assert!((step - i as i64 * 3600).abs() <= 2, "unit {i} is at {step}");
    }
    let (pictures, complaints) = decode(dir.path(), kind, run);
    assert_eq!((complaints.as_str(), pictures), ("", wanted));
    // The camera's clock is this machine's.
    let report = observed.sender_reports[0];
    let off = report.ntp_utc_ns.abs_diff(report.arrival_utc_ns);
    assert!(off < 60_000_000_000, "{off} ns");
}

fn digest(camera: Camera) -> Camera {
    camera.digest("viewer", "s3:cr@t 50%41")
}

fn basic(camera: Camera) -> Camera {
    camera.basic("viewer", "s3:cr@t 50%41")
}

fn tls(camera: Camera) -> Camera {
    digest(camera).tls()
}

#[tokio::test]
async fn h264_over_tcp() {
    receives(
        "h264",
        VideoCodec::H264,
        Client::Ffmpeg,
        digest,
        Transport::Tcp,
    )
    .await;
}

#[tokio::test]
async fn h265_over_udp() {
    receives(
        "h265",
        VideoCodec::H265,
        Client::Auto,
        digest,
        Transport::Udp,
    )
    .await;
}

#[tokio::test]
async fn mjpeg_over_tcp() {
    receives(
        "mjpeg",
        VideoCodec::Mjpeg,
        Client::Ffmpeg,
        basic,
        Transport::Tcp,
    )
    .await;
}

#[tokio::test]
async fn h264_over_tls() {
    receives("h264", VideoCodec::H264, Client::Auto, tls, Transport::Tcp).await;
}

#[tokio::test]
async fn h264_through_http() {
    receives(
        "h264",
        VideoCodec::H264,
        Client::Auto,
        basic,
        Transport::Http,
    )
    .await;
}

/// In a network of its own, since others must not get these packets: loopback with a route for
/// groups, made by this test's second process.
#[test]
fn packets_to_a_group() {
    const INSIDE: &str = "CAMRING_TEST_MULTICAST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let (good, torn, all, lost) = runtime.block_on(over_udp_by(
            Client::Auto,
            udp::Network::default(),
            Transport::Multicast,
            100,
        ));
        assert_eq!((torn, lost), (0, 0));
        assert!(good == all && all >= 100, "{good} of {all}");
        return;
    }
    let network =
        "ip link set lo up multicast on && ip route add 239.77.0.0/16 dev lo src 127.0.0.1";
    let isolated = |script: &str| {
        std::process::Command::new("unshare")
            .args(["--net", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "packets_to_a_group", "--nocapture"])
            .env(INSIDE, "1")
            .output()
    };
    match isolated(network) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            return println!("skipped: no network of its own here (needs root): {why}");
        }
        Err(error) => return println!("skipped: unshare (util-linux): {error}"),
    }
    let output = isolated(&format!("{network} && exec \"$@\"")).unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_checked_is_refused() {
    let farm = Farm::start(&[Camera::new("live", "h264-180p").tls()]);
    let mut config = config(farm.url("live"));
    config.tls_verify = true;
    let running = start(Client::Auto, config);
    running
        .until("it is refused", |o| o.was(State::Failed))
        .await;
    let observed = running.stop().await;
    let reason = &observed.reasons(State::Failed)[0];
    assert!(reason.contains("tls_verify = false"), "{reason}");
    assert_eq!(farm.clients("live"), 0);
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_path() {
    let farm = Farm::start(&[digest(Camera::new("live", "h264-180p"))]);
    let mut wrong = config(farm.url("live"));
    wrong.username = Some("viewer".to_owned());
    wrong.password = Some(SecretString::from("guessed-wrong"));
    let running = start(Client::Ffmpeg, wrong.clone());
    running
        .until("it is refused", |o| o.was(State::Unauthorized))
        .await;
    let observed = running.stop().await;
    let reason = &observed.reasons(State::Unauthorized)[0];
    assert!(
        reason.starts_with("the camera refuses the login (401) (DESCRIBE)"),
        "{reason}"
    );
    assert!(!format!("{:?}", observed.states).contains("guessed"));

    wrong.url = Url::parse(&format!("{}/nothing-here", farm.url("live"))).unwrap();
    wrong.password = Some(SecretString::from("s3:cr@t 50%41"));
    let running = start(Client::Ffmpeg, wrong);
    running
        .until("it is not found", |o| o.was(State::Failed))
        .await;
    let reason = running.stop().await.reasons(State::Failed)[0].clone();
    assert!(
        reason.starts_with("the camera has no such stream (404)"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_camera_that_dies_and_comes_back() {
    let farm = Farm::start(&[Camera::new("live", "h264-180p")]);
    let running = start(Client::Ffmpeg, config(farm.url("live")));
    for _ in 0..3 {
        let before = running.look(|o| o.units.len());
        running
            .until("pictures", |o| o.units.len() > before + 5)
            .await;
        farm.stop("live");
        running
            .until("the camera is missed", |o| {
                o.state() == State::Backoff && o.states.last().unwrap().1.contains("refused")
            })
            .await;
        farm.restart("live");
    }
    let before = running.look(|o| o.units.len());
    running
        .until("pictures again", |o| o.units.len() > before)
        .await;
    assert!(running.look(|o| o.units[before].key && o.units[before].parameters_changed));
    running.stop().await;
}

#[tokio::test]
async fn hangs_are_bounded_and_stop_ends_them_at_once() {
    for (method, stage) in [
        ("DESCRIBE", "DESCRIBE"),
        ("SETUP", "SETUP"),
        ("PLAY", "PLAY"),
    ] {
        let camera = scripted::Camera::start(Behaviour::hang(method)).await;
        let mut short = config(&camera.url());
        // Of the other stages the patience stays: they are answered, but perhaps not so soon.
        let limits = &mut short.timeouts;
        *match method {
            "DESCRIBE" => &mut limits.describe,
            "SETUP" => &mut limits.setup,
            _ => &mut limits.play,
        } = Duration::from_millis(300);
        let running = start(Client::Ffmpeg, short);
        running
            .until("it is tried again", |o| o.reconnects >= 1)
            .await;
        let observed = running.stop().await;
        let reason = &observed.reasons(State::Backoff)[0];
        let expected = format!("no answer within 0.3 s ({stage})");
        assert!(reason.starts_with(&expected), "{method}: {reason}");

        // Its limits are longer than this test's patience.
        let running = start(Client::Ffmpeg, config(&camera.url()));
        let asked = |o: &Observed| o.beats > 1;
        running.until("it hangs", asked).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn losses_are_seen_over_tcp() {
    let camera = scripted::Camera::start(Behaviour::after_play(AfterPlay::Loss(15))).await;
    let running = start(Client::Ffmpeg, config(&camera.url()));
    running
        .until("the loss, and the next key frame", |o| {
            o.lost > 0 && o.units.iter().filter(|u| u.key).count() > 2
        })
        .await;
    let observed = running.stop().await;
    assert!(observed.lost >= 7, "{}", observed.lost);
    let marked = observed
        .units
        .iter()
        .position(|u| u.lost_before > 0)
        .unwrap();
    assert!(!observed.units[marked].key);
    assert_eq!(observed.sessions_started, 1);
    // Its answer is not waited for.
    let torn_down = || {
        let all = camera.connections();
        all.iter()
            .all(|c| c.requests.iter().any(|r| r == "TEARDOWN"))
    };
    let since = std::time::Instant::now();
    while !torn_down() {
        assert!(since.elapsed() < PATIENCE, "no TEARDOWN");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_unit_without_end_costs_no_more_than_its_limit() {
    let camera = scripted::Camera::start(Behaviour::after_play(AfterPlay::Large(30_000))).await;
    let mut config = config(&camera.url());
    config.limits.max_unit_bytes = 20_000;
    let running = start(Client::Ffmpeg, config);
    running.until("pictures with gaps", |o| o.lost >= 3).await;
    let observed = running.stop().await;
    assert!(observed.units.iter().all(|u| u.data.len() <= 20_000));
}

/// Answers every request with `answer`, after the request's CSeq.
fn redirecting(answer: impl Fn(&str) -> String + Send + 'static) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                let head = String::from_utf8_lossy(&buffer[..n]).into_owned();
                if stream.write_all(answer(&head).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// A listener that nobody may reach, and how many did.
fn forbidden_host() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, Relaxed);
        }
    });
    (address, reached)
}

async fn is_not_followed(
    address: std::net::SocketAddr,
    transport: Transport,
    reached: &AtomicUsize,
) {
    let mut config = config(&format!("rtsp://{address}/stream"));
    config.transport = transport;
    config.username = Some("viewer".to_owned());
    config.password = Some(SecretString::from("secret"));
    let running = start(Client::Ffmpeg, config);
    running.until("two tries", |o| o.reconnects >= 2).await;
    let observed = running.stop().await;
    let reason = &observed.reasons(State::Failed)[0];
    assert!(
        reason.starts_with("the camera redirects to another address (302), which is not followed"),
        "{reason}"
    );
    assert_eq!(reached.load(Relaxed), 0, "a connection was made");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (other, reached) = forbidden_host();
    let camera = redirecting(move |head| {
        let cseq = head
            .lines()
            .find(|line| line.starts_with("CSeq"))
            .unwrap_or("CSeq: 1");
        match head.starts_with("OPTIONS") {
            true => format!("RTSP/1.0 200 OK\r\n{cseq}\r\nPublic: DESCRIBE\r\n\r\n"),
            false => format!("RTSP/1.0 302 Moved\r\n{cseq}\r\nLocation: rtsp://{other}/x\r\n\r\n"),
        }
    });
    is_not_followed(camera, Transport::Tcp, &reached).await;
}

#[tokio::test]
async fn a_redirect_of_the_tunnel_is_not_followed() {
    let (other, reached) = forbidden_host();
    let camera = redirecting(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: http://{other}/x\r\nContent-Length: 0\r\n\r\n")
    });
    is_not_followed(camera, Transport::Http, &reached).await;
}

/// Pictures whose bytes are all their own, and those that are not although nothing says so.
fn judge(units: &[AccessUnit]) -> (usize, usize) {
    let whole = |unit: &AccessUnit| {
        let tail = &unit.data[unit.data.len().saturating_sub(udp::PICTURE)..];
        let number = (unit.rtp_time - units[0].rtp_time) / 900;
        tail.len() == udp::PICTURE && tail.iter().all(|b| *b == tail[0]) && number >= 0
    };
    let mut damaged = false;
    let (mut good, mut torn) = (0, 0);
    for unit in units {
        damaged = (damaged || unit.lost_before > 0) && !unit.key;
        match (whole(unit), damaged) {
            (true, false) => good += 1,
            (false, false) => torn += 1,
            _ => {}
        }
    }
    (good, torn)
}

async fn over_udp(
    client: Client,
    network: udp::Network,
    pictures: i64,
) -> (usize, usize, usize, u64) {
    over_udp_by(client, network, Transport::Udp, pictures).await
}

async fn over_udp_by(
    client: Client,
    network: udp::Network,
    transport: Transport,
    pictures: i64,
) -> (usize, usize, usize, u64) {
    let camera = udp::Camera::start(network);
    let mut config = config(&camera.url());
    config.transport = transport;
    let running = start(client, config);
    running
        .until("enough time of the stream", |o| {
            let span = o
                .units
                .last()
                .map_or(0, |u| u.rtp_time - o.units[0].rtp_time);
            span >= pictures * 900 || o.reconnects > 0
        })
        .await;
    let observed = running.stop().await;
    let (good, torn) = judge(&observed.units);
    (good, torn, observed.units.len(), observed.lost)
}

#[tokio::test]
async fn packets_that_overtake_each_other_are_put_in_order() {
    let network = udp::Network {
        swap_every: 5,
        lose_every: 0,
    };
    // A machine that holds the camera or this test up for as long as a late packet is waited for has
    // another try.
    for attempt in 1.. {
        let (good, torn, all, lost) = over_udp(Client::Auto, network, 400).await;
        assert_eq!(torn, 0);
        if lost > 0 && attempt < 5 {
            continue;
        }
        assert_eq!(lost, 0, "{good} of {all}");
        assert!(good == all && all >= 400, "{good} of {all}");
        break;
    }
}

#[tokio::test]
async fn no_picture_with_a_hole_passes_for_whole() {
    let network = udp::Network {
        swap_every: 7,
        lose_every: 101,
    };
    let (good, torn, _, lost) = over_udp(Client::Auto, network, 600).await;
    assert_eq!(torn, 0);
    assert!(lost > 0 && good > 100, "{good} good, {lost} lost");
}

/// The figures of docs/design/rtsp-clients.md: `CAMRING_FIGURES=1 cargo test --test session_ffmpeg
/// figures -- --nocapture`. Without the variable it takes a short look at both clients.
#[tokio::test]
async fn figures_of_both_clients_over_udp() {
    let long = std::env::var_os("CAMRING_FIGURES").is_some();
    let pictures = if long { 1000 } else { 100 };
    for (name, network) in [
        ("clean", udp::Network::default()),
        (
            "20 % swapped",
            udp::Network {
                swap_every: 5,
                lose_every: 0,
            },
        ),
        (
            "1 % lost",
            udp::Network {
                swap_every: 0,
                lose_every: 101,
            },
        ),
        (
            "both",
            udp::Network {
                swap_every: 5,
                lose_every: 101,
            },
        ),
    ] {
        for client in [Client::Retina, Client::Ffmpeg] {
            let (good, torn, all, lost) = over_udp(client, network, pictures).await;
            println!(
                "{name}, {}: {good} good of {pictures}, {all} delivered, {torn} torn unmarked, \
                 {lost} counted lost",
                client.name()
            );
            if name == "clean" {
                assert!(torn == 0 && good > 0, "{}: {torn} torn", client.name());
            }
        }
    }
}

#[tokio::test]
async fn no_thread_is_left_behind() {
    let camera = scripted::Camera::start(Behaviour::after_play(AfterPlay::Eof(3))).await;
    let running = start(Client::Ffmpeg, config(&camera.url()));
    running.until("many sessions", |o| o.reconnects >= 5).await;
    running.stop().await;
    // Other tests of this binary have sessions of their own, which end, too.
    wait_until("the threads to end", PATIENCE, || session_threads() == 0);
}
