//! What the sandbox costs: `cargo bench --bench sandbox`.
//!
//! Two daemons read the same cameras at the same time, one with `[sandbox] enabled = "require"`, one with
//! `"off"`:
//!
//! - CPU time of a reader per picture that it publishes, 1280×720 and 320×180 at 25 pictures a second, with
//!   one program that looks;
//! - from the start of `camring run` to the first picture of a camera that sends a key frame at once, and
//!   what that takes of CPU in all processes, in turns.
//!
//! Medians, and all. Prints a table and one line of JSON. The cameras run on the same cores; their work is not
//! counted.
#![deny(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camring::sys::usage::cpu_time_ns;
use camring_ring::{AttachOptions, Client, Subscription};
use rustix::process::Pid;
use serde_json::json;
use support::{Camera, Daemon, Farm, PATIENCE, process};

const WINDOW: Duration = Duration::from_secs(8);
const ROUNDS: usize = 7;
const STARTS: usize = 15;
const MODES: [&str; 2] = ["require", "off"];

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut figures = serde_json::Map::new();
    println!("CPU of a reader per picture, in ms: median of {ROUNDS}, and all");
    for clip in ["h264-720p", "h264-180p"] {
        let rounds = reading(clip);
        let ratios: Vec<f64> = rounds.iter().map(|[on, off]| on / off).collect();
        for (at, mode) in MODES.iter().enumerate() {
            let each: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
            line(&format!("{clip} sandbox {mode}"), &each, &mut figures);
        }
        line(&format!("{clip} on ÷ off"), &ratios, &mut figures);
    }
    let starts = starting();
    println!("camring run → first picture: median of {STARTS}, and all");
    for (at, mode) in MODES.iter().enumerate() {
        let each = |value: fn(&Start) -> f64| -> Vec<f64> {
            starts.iter().map(|round| value(&round[at])).collect()
        };
        line(
            &format!("ms, sandbox {mode}"),
            &each(|start| start.ms),
            &mut figures,
        );
        line(
            &format!("CPU in ms, sandbox {mode}"),
            &each(|start| start.cpu_ms),
            &mut figures,
        );
    }
    println!("{}", serde_json::Value::Object(figures));
}

fn line(what: &str, values: &[f64], figures: &mut serde_json::Map<String, serde_json::Value>) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let all: Vec<_> = sorted.iter().map(|value| format!("{value:.3}")).collect();
    println!("  {what:28} {median:9.3}   ({})", all.join(", "));
    figures.insert(what.to_owned(), json!(median));
}

fn config(farm: &Farm, name: &str, mode: &str) -> String {
    let url = farm.url(name);
    format!("[sandbox]\nenabled = \"{mode}\"\n[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n")
}

fn attach(daemon: &Daemon, name: &str) -> Subscription {
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    client.attach(name, &options).expect("attached")
}

fn cpu_ms(pid: u32) -> f64 {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.and_then(cpu_time_ns).map_or(0.0, |ns| ns as f64 / 1e6)
}

/// CPU time of a reader per picture with the sandbox and without, of several windows.
fn reading(clip: &str) -> Vec<[f64; 2]> {
    let farm = Farm::start(&[Camera::new("door", clip).fps(25)]);
    let daemons = MODES.map(|mode| Daemon::start(&config(&farm, "door", mode)));
    for (daemon, mode) in daemons.iter().zip(MODES) {
        let enabled = daemon.status()["sandbox"]["enabled"].clone();
        assert_eq!(enabled, mode);
        daemon.wait_for_camera("door", "pictures", |camera| {
            camera["frames_published"].as_u64() > Some(25)
        });
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for daemon in &daemons {
            let mut frames = attach(daemon, "door");
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    frames.next_timeout(PATIENCE).expect("attached");
                }
            });
        }
        let now = |daemon: &Daemon| {
            let camera = daemon.camera("door");
            let published = camera["frames_published"].as_u64().expect("a count");
            let pid = camera["pid"].as_u64().expect("a reader");
            (cpu_ms(u32::try_from(pid).expect("a pid")), published)
        };
        let rounds = (0..ROUNDS)
            .map(|_| {
                let before = [0, 1].map(|at: usize| now(&daemons[at]));
                std::thread::sleep(WINDOW);
                [0, 1].map(|at: usize| {
                    let after = now(&daemons[at]);
                    (after.0 - before[at].0) / (after.1 - before[at].1) as f64
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        rounds
    })
}

#[derive(Clone, Copy)]
struct Start {
    ms: f64,
    cpu_ms: f64,
}

/// From the start of a daemon to a picture in another process's hands, with the sandbox and without.
fn starting() -> Vec<[Start; 2]> {
    let farm = Farm::start(&[Camera::new("door", "h264-720p").unshared()]);
    (0..STARTS)
        .map(|_| {
            MODES.map(|mode| {
                let begun = Instant::now();
                let daemon = Daemon::start(&config(&farm, "door", mode));
                let frame = attach(&daemon, "door").next_timeout(PATIENCE);
                assert!(frame.expect("attached").is_some(), "a picture");
                let ms = begun.elapsed().as_secs_f64() * 1e3;
                let all = process::descendants(daemon.pid());
                let pids = all.iter().map(|child| child.pid).chain([daemon.pid()]);
                let cpu_ms = pids.map(cpu_ms).sum();
                daemon.stop();
                Start { ms, cpu_ms }
            })
        })
        .collect()
}
