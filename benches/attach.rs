//! What on-demand decoding costs and saves: `cargo bench --bench attach`.
//!
//! - attach → first frame of a camera that nobody looked at: 1280×720, key frames every 2 s;
//! - CPU of the daemon and its readers while nobody looks ÷ while everything is decoded, 20 cameras of
//!   1280×720 at 6 pictures a second, one subscriber each.
//!
//! Prints a table and one line of JSON. The cameras run on the same cores; their work is not counted.
#![deny(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client, Subscription};
use serde_json::json;
use support::{Camera, Daemon, Farm, PATIENCE, process};

const ROUNDS: u32 = 15;
const CAMERAS: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (first, later) = attach();
    let (idle, decoding) = cpu();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (p50, most) = (later[later.len() / 2], later[later.len() - 1]);
    println!("attach → first frame, 720p, key frames every 2 s");
    println!("  without a frame ring   {:8.1} ms", ms(first));
    println!("  p50 of {ROUNDS:2}              {:8.1} ms", ms(p50));
    println!("  slowest                {:8.1} ms", ms(most));
    println!("CPU of {CAMERAS} cameras, 720p at 6 per second, in cores");
    println!("  nobody looks           {idle:8.3}");
    println!("  all are looked at      {decoding:8.3}");
    println!("  ratio                  {:8.3}", idle / decoding);
    let figures = json!({
        "attach_first_ms": ms(first), "attach_p50_ms": ms(p50), "attach_max_ms": ms(most),
        "cores_idle": idle, "cores_decoding": decoding, "idle_ratio": idle / decoding,
    });
    println!("{figures}");
}

fn site(farm: &Farm, cameras: &[String]) -> String {
    cameras.iter().fold(
        "[decode]\nmode = \"on-demand\"\n\n".to_owned(),
        |text, name| {
            format!(
                "{text}[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
                farm.url(name)
            )
        },
    )
}

fn options() -> AttachOptions {
    AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    }
}

fn wait_until_idle(daemon: &Daemon, camera: &str) {
    daemon.wait_for_camera(camera, "streaming and idle", |c| {
        c["state"] == "streaming" && c["decode"] == "idle"
    });
}

/// The first attach, and the others in order of time.
fn attach() -> (Duration, Vec<Duration>) {
    let farm = Farm::start(&[Camera::new("door", "h264-720p")]);
    let daemon = Daemon::start(&site(&farm, &["door".to_owned()]));
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let mut times: Vec<Duration> = (0..=ROUNDS)
        .map(|_| {
            wait_until_idle(&daemon, "door");
            // Anywhere in a group of pictures.
            std::thread::sleep(Duration::from_secs(2).mul_f64(fastrand::f64()));
            let begun = Instant::now();
            let mut frames = client.attach("door", &options()).expect("attached");
            let frame = frames.next_timeout(PATIENCE).expect("attached");
            let time = begun.elapsed();
            assert!(frame.is_some(), "a frame");
            time
        })
        .collect();
    let first = times.remove(0);
    times.sort();
    (first, times)
}

/// Cores used while nobody looks, and while all cameras are decoded.
fn cpu() -> (f64, f64) {
    let names: Vec<String> = (0..CAMERAS).map(|n| format!("c{n}")).collect();
    let cameras: Vec<_> = names
        .iter()
        .map(|name| Camera::new(name, "h264-720p").fps(6))
        .collect();
    let farm = Farm::start(&cameras);
    let daemon = Daemon::start(&site(&farm, &names));
    for name in &names {
        wait_until_idle(&daemon, name);
    }
    let idle = cores(&daemon);
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let mut viewers: Vec<Subscription> = names
        .iter()
        .map(|name| client.attach(name, &options()).expect("attached"))
        .collect();
    for viewer in &mut viewers {
        viewer.next_timeout(PATIENCE).expect("attached");
    }
    std::thread::sleep(Duration::from_secs(2));
    let before = published(&daemon);
    let decoding = cores(&daemon);
    let pictures = published(&daemon) - before;
    println!(
        "{pictures} of about {} pictures were decoded in {WINDOW:?}",
        u64::from(CAMERAS) * 6 * WINDOW.as_secs()
    );
    (idle, decoding)
}

fn published(daemon: &Daemon) -> u64 {
    let status = daemon.status();
    let cameras = status["cameras"].as_array().expect("cameras");
    cameras
        .iter()
        .filter_map(|camera| camera["frames_published"].as_u64())
        .sum()
}

fn cores(daemon: &Daemon) -> f64 {
    let pids: Vec<u32> = std::iter::once(daemon.pid())
        .chain(process::descendants(daemon.pid()).iter().map(|p| p.pid))
        .collect();
    let ns = || pids.iter().map(|pid| cpu_ns(*pid)).sum::<u64>();
    let (begun, before) = (Instant::now(), ns());
    std::thread::sleep(WINDOW);
    let spent = Duration::from_nanos(ns().saturating_sub(before));
    spent.as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// Of all threads of a process: exact, where /proc/PID/stat has ticks of 10 ms.
fn cpu_ns(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    threads
        .filter_map(|thread| {
            let path = thread.ok()?.path().join("schedstat");
            let text = fs::read_to_string(path).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}
