//! The tools of the other tests are tested first: the frame code, the test cameras, the look at processes.
#![deny(unsafe_code)]

mod support;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::framecode::{self, Code, CodeError, Witness};
use support::{Camera, Farm, PATIENCE, farm, process, wait_until};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;

fn picture(index: u16) -> Vec<u8> {
    let mut luma = vec![100; WIDTH * HEIGHT];
    framecode::burn(&mut luma, WIDTH, WIDTH, HEIGHT, Code { tag: 5, index });
    luma
}

/// Reads every picture of a decoded clip and checks that they are whole, in order and complete.
fn check_decoded(clip: &str, tag: u8, width: usize, height: usize, pictures: u16) {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(farm::clip_path(clip))
        .args([
            "-vsync",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "pipe:1",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg starts");
    let mut raw = Vec::new();
    ffmpeg
        .stdout
        .take()
        .expect("a pipe")
        .read_to_end(&mut raw)
        .expect("pictures");
    assert!(ffmpeg.wait().expect("ffmpeg ends").success());
    let mut witness = Witness::new(tag, pictures);
    let mut count = 0;
    for luma in raw.chunks_exact(width * height) {
        let code = framecode::read(luma, width, width, height).expect("an intact picture");
        assert_eq!(witness.step(code), 1);
        count += 1;
    }
    assert_eq!(count, pictures, "{clip}");
}

#[test]
fn pictures_decoded_by_ffmpeg_are_read() {
    check_decoded("h264-360p", 5, 640, 360, 100);
    check_decoded("h264-180p", 6, 320, 180, 100);
    check_decoded("h265-360p", 7, 640, 360, 100);
    check_decoded("mjpeg-360p", 8, 640, 360, 40);
    check_decoded("h264-baseline", 9, 640, 360, 60);
    check_decoded("h264-mbaff", 10, 640, 360, 100);
    check_decoded("h264-paff", 11, 320, 192, 40);
}

#[test]
fn a_tear_anywhere_is_seen() {
    let (old, new) = (picture(7), picture(8));
    assert_eq!(
        framecode::read(&old, WIDTH, WIDTH, HEIGHT),
        Ok(Code { tag: 5, index: 7 })
    );
    for row in (20..340).step_by(8) {
        let torn = [&new[..row * WIDTH], &old[row * WIDTH..]].concat();
        let error = framecode::read(&torn, WIDTH, WIDTH, HEIGHT).expect_err("a torn picture");
        assert!(matches!(
            error,
            CodeError::Torn(_) | CodeError::Unreadable { .. }
        ));
    }
    let mut woven = old.clone();
    for row in (1..HEIGHT).step_by(2) {
        woven[row * WIDTH..][..WIDTH].copy_from_slice(&new[row * WIDTH..][..WIDTH]);
    }
    assert!(matches!(
        framecode::read(&woven, WIDTH, WIDTH, HEIGHT),
        Err(CodeError::Torn(_))
    ));
}

#[test]
fn what_is_no_test_picture_is_refused() {
    for shade in [0, 128, 255] {
        let plane = vec![shade; WIDTH * HEIGHT];
        let read = framecode::read(&plane, WIDTH, WIDTH, HEIGHT);
        assert!(matches!(read, Err(CodeError::Unreadable { band: 0, .. })));
    }
    assert_eq!(
        framecode::read(&picture(1), WIDTH, WIDTH, HEIGHT + 1),
        Err(CodeError::TooShort)
    );
    assert_eq!(framecode::read(&[], 0, 0, 0), Err(CodeError::TooShort));
}

#[test]
fn a_witness_counts_what_is_lost_and_repeated() {
    let mut witness = Witness::new(5, 100);
    let steps: Vec<u16> = [98, 99, 0, 0, 4]
        .map(|index| witness.step(Code { tag: 5, index }))
        .into();
    assert_eq!(steps, [1, 1, 1, 0, 4]);
}

#[test]
fn cameras_start_send_stop_and_refuse() {
    let cameras = [
        Camera::new("door", "h264-180p"),
        Camera::new("yard", "mjpeg-360p")
            .fps(20)
            .digest("user", "secret")
            .unshared(),
    ];
    let farm = Farm::start(&cameras);
    assert!(farm.url("door").starts_with("rtsp://127.0.0.1:"));
    assert_ne!(farm.url("door"), farm.url("yard"));
    assert_eq!(farm.sent_ns("door", 0), None);
    let mut ffprobe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-rtsp_transport",
            "tcp",
            "-show_packets",
            farm.url("door"),
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("ffprobe starts");
    wait_until("the camera to be watched", PATIENCE, || {
        farm.clients("door") == 1
    });
    wait_until("pictures to be sent", PATIENCE, || farm.sent("door") > 5);
    assert!(farm.sent_ns("door", 3).is_some());
    assert_eq!(farm.clients("yard"), 0);
    ffprobe.kill().expect("ffprobe runs");
    ffprobe.wait().expect("ffprobe ends");
    wait_until("the client to be gone", PATIENCE, || {
        farm.clients("door") == 0
    });

    let address = farm
        .url("door")
        .trim_start_matches("rtsp://")
        .split('/')
        .next()
        .expect("a host");
    TcpStream::connect(address).expect("it listens");
    farm.stop("door");
    let refused = TcpStream::connect(address).expect_err("it is off");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    farm.restart("door");
    TcpStream::connect(address).expect("it listens again");
    let pid = farm.pid();
    drop(farm);
    assert!(process::Process::of(pid).is_none());
}

#[test]
fn processes_are_seen_from_outside() {
    let mut shell = Command::new("sh")
        .args(["-c", "sleep 600 & sleep 600 & wait"])
        .env("CAMRING_TEST_MARK", "seen-from-outside")
        .spawn()
        .expect("sh starts");
    let pid = shell.id();
    wait_until("both children to sleep", PATIENCE, || {
        let sleeping = |p: &process::Process| p.title == "sleep 600";
        process::children(pid)
            .iter()
            .filter(|p| sleeping(p))
            .count()
            == 2
    });
    assert_eq!(
        process::with_environment("CAMRING_TEST_MARK=seen-from-outside").len(),
        3
    );
    assert!(
        process::descendants(std::process::id())
            .iter()
            .any(|p| p.pid == pid)
    );
    assert!(process::descriptors(pid).len() >= 3);
    assert_eq!(process::memfds(pid), 0);
    assert!(process::pss_bytes(pid).is_some_and(|bytes| bytes > 4096));
    let sleepers = process::children(pid);
    for sleeper in &sleepers {
        assert!(sleeper.is_alive());
        assert!(process::kill(sleeper.pid, Signal::SIGKILL));
    }
    shell.wait().expect("sh ends");
    wait_until("the children to be gone", PATIENCE, || {
        !sleepers.iter().any(|p| p.is_alive())
    });
    assert!(!process::kill(sleepers[0].pid, Signal::SIGTERM));
}

#[test]
#[should_panic(expected = "waited 10ms for: the moon; last seen: \"clouds\"")]
fn a_failed_wait_says_what_it_saw() {
    let start = Instant::now();
    support::wait_for(
        "the moon",
        Duration::from_millis(10),
        || -> Result<(), _> {
            assert!(start.elapsed() < PATIENCE);
            Err("clouds")
        },
    );
}
