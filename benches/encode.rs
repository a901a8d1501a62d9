//! What `mode = "encode"` costs beside the bare encoder, and how soon a picture of a recording is there:
//! `cargo bench --bench encode`.
//!
//! One camera of 1280×720 at 25 pictures a second, recorded in one rendition of the same size. CPU time
//! per picture, in ms: of the whole recording process, and of x264 alone with the same options on the
//! same pictures (copied out of the ring before, into memory of its own), in the same run.
//!
//! Then 100 pictures of the recording over HTTP, at random moments, one after the other.
//!
//! Prints a table and one line of JSON. The camera runs on the same cores; its work is not counted.
#![deny(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Read as _;
use std::time::{Duration, Instant};

use camring::media::jpeg::Image;
use camring::media::{Canvas, EncoderKind, EncoderOptions, Rate, VideoEncoder};
use camring::serve::time;
use camring_ring::{AttachOptions, Client};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use support::{Camera, Daemon, Farm, PATIENCE, unix_ns, wait_for};

const WINDOW: Duration = Duration::from_secs(10);
const RUNS: usize = 3;
/// Pictures for the bare encoder.
const PICTURES: usize = 100;

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let farm = Farm::start(&[Camera::new("x", "h264-720p").fps(25)]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nname = \"x\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"encode\"\n\
         renditions = [{{ height = 720, bitrate = \"2M\" }}]\n",
        farm.url("x")
    ));
    wait_for("a segment", PATIENCE, || {
        let recording = daemon.camera("x")["recording"].clone();
        match recording["segments"].as_u64() {
            Some(segments) if segments > 0 => Ok(()),
            _ => Err(recording),
        }
    });
    let mut runs: Vec<(f64, f64)> = (0..RUNS)
        .map(|_| (recorder(&daemon), floor(&daemon)))
        .collect();
    runs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (whole, bare) = runs[RUNS / 2];
    let missed = daemon.camera("x")["recording"]["units_missed"].clone();
    println!("recording process   {whole:6.2} ms of CPU per picture");
    println!("bare x264           {bare:6.2} ms");
    println!(
        "ratio               {:6.2}  (missed pictures: {missed})",
        whole / bare
    );
    let mut latency = snapshots(&daemon);
    latency.sort_by(f64::total_cmp);
    let (p50, p95) = (
        latency[latency.len() / 2],
        latency[latency.len() * 95 / 100],
    );
    println!("snapshot over HTTP  {p50:6.1} ms p50, {p95:.1} ms p95");
    println!(
        "{}",
        json!({"recorder_ms": whole, "bare_ms": bare, "ratio": whole / bare,
            "snapshot_p50_ms": p50, "snapshot_p95_ms": p95})
    );
}

/// CPU time of a process, in ns.
fn cpu_ns(pid: u64) -> f64 {
    let mut total = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .expect("alive")
        .flatten()
    {
        let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += stat
            .split(' ')
            .next()
            .and_then(|ns| ns.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    total
}

/// CPU time per picture of the recording process, in ms.
fn recorder(daemon: &Daemon) -> f64 {
    let recording = daemon.camera("x")["recording"].clone();
    let pid = recording["pid"].as_u64().expect("a pid");
    let now = || {
        let units = daemon.camera("x")["recording"]["units"]
            .as_u64()
            .expect("a number");
        (cpu_ns(pid), units)
    };
    let before = now();
    std::thread::sleep(WINDOW);
    let after = now();
    (after.0 - before.0) / (after.1 - before.1) as f64 / 1e6
}

/// CPU time per picture of x264 alone, in ms.
fn floor(daemon: &Daemon) -> f64 {
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut frames = client.attach("x", &options).expect("attached");
    let mut pictures = Vec::new();
    while pictures.len() < PICTURES {
        let frame = frames
            .next_timeout(PATIENCE)
            .expect("attached")
            .expect("a frame");
        let d = *frame.descriptor();
        let planes: Vec<(&[u8], usize)> = (0..frame.planes())
            .map(|n| (frame.plane(n), frame.plane_stride(n) as usize))
            .collect();
        let image = Image {
            format: d.pixel_format,
            width: d.width,
            height: d.height,
            range: d.color_range,
            matrix: d.matrix,
            planes: &planes,
        };
        pictures.push(Canvas::of_image(&image).expect("a copy"));
    }
    let (width, height) = pictures[0].size();
    let mut encoder = VideoEncoder::open(EncoderOptions {
        kind: EncoderKind::X264,
        width,
        height,
        full_range: false,
        matrix: 2,
        rate: Rate::Bits(2_000_000),
        immediate: true,
        threads: 1,
        about_fps: 25,
    })
    .expect("libx264");
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    };
    let before = now();
    for (index, picture) in pictures.iter_mut().enumerate() {
        let key = index % 50 == 0;
        encoder
            .send(picture, index as i64 * 3600, key)
            .expect("encoded");
        while encoder.receive().expect("encoded").is_some() {}
    }
    (now() - before) / PICTURES as f64
}

/// How long pictures of random moments take, in ms.
fn snapshots(daemon: &Daemon) -> Vec<f64> {
    let address = daemon.status()["http"]["address"]
        .as_str()
        .expect("it listens")
        .to_owned();
    let now = unix_ns();
    let mut random = fastrand::Rng::with_seed(1);
    let agent = ureq::Agent::new_with_defaults();
    (0..100)
        .map(|_| {
            let at = time::rfc3339(now - random.i64(2_000_000_000..20_000_000_000));
            let url = format!("http://{address}/api/v1/cameras/x/snapshot.jpg?at={at}");
            let start = Instant::now();
            let mut response = agent.get(&url).call().expect("a picture");
            let mut body = Vec::new();
            let mut reader = response.body_mut().as_reader();
            reader.read_to_end(&mut body).expect("a picture");
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}
