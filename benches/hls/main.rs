//! What recording costs, and whether anything is lost: `cargo bench --bench hls`.
//!
//! Cameras of 1280×720 at 25 pictures and some 2 Mbit/s, recorded as they send (`mode = "copy"`), nothing
//! decoded. CPU of each recorder process whole, in percent of a core, over [`WINDOW`]; then everything
//! recorded is decoded with the `ffmpeg` program, and the numbers burned into the pictures are counted.
//!
//! `CAMRING_HLS_CAMERAS=50` for that many cameras; 1 without. Prints a table and one line of JSON. The
//! cameras run on the same cores; their work, the readers' and the server's are not counted.
#![deny(unsafe_code)]

#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/recording/tape.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod tape;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Camera, Daemon, Farm};
use tape::Tape;

const WINDOW: Duration = Duration::from_secs(10);
const RUNS: usize = 3;

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count = std::env::var("CAMRING_HLS_CAMERAS").ok();
    let count: usize = count.and_then(|text| text.parse().ok()).unwrap_or(1).max(1);
    let names: Vec<String> = (0..count).map(|at| format!("cam{at}")).collect();
    let cameras: Vec<Camera> = names
        .iter()
        .map(|name| Camera::new(name, "h264-720p").fps(25))
        .collect();
    // Each clip begins at PLAY: a free-running camera leaves out pictures after its first, which is no loss.
    let farm = Farm::start(&cameras);
    let mut config = "[decode]\nmode = \"on-demand\"\n[record]\nmode = \"copy\"\n".to_owned();
    for name in &names {
        let url = farm.url(name);
        writeln!(config, "[[camera]]\nname = \"{name}\"\nurl = \"{url}\"").expect("memory");
    }
    let daemon = Daemon::start(&config);
    let data = daemon.runtime_dir().with_file_name("data");
    let pids: Vec<u32> = names
        .iter()
        .map(|name| {
            let camera = daemon.wait_for_camera(name, "recorded", |camera| {
                camera["recording"]["units"].as_u64() > Some(50)
            });
            let pid = camera["recording"]["pid"].as_u64().expect("a pid");
            u32::try_from(pid).expect("a pid")
        })
        .collect();

    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (before, start) = (cpu_ns(&pids), Instant::now());
        std::thread::sleep(WINDOW);
        let spent = cpu_ns(&pids) - before;
        let window = start.elapsed().as_nanos() as f64;
        runs.push(spent as f64 / window / count as f64 * 100.0);
    }
    let memory = pids
        .iter()
        .filter_map(|pid| support::process::pss_bytes(*pid));
    let memory_mib = memory.sum::<u64>() as f64 / count as f64 / f64::from(1 << 20);
    let missed: u64 = names
        .iter()
        .filter_map(|name| daemon.camera(name)["recording"]["units_missed"].as_u64())
        .sum();
    let late = farm.command("stats");
    // What is recorded stays when its daemon has ended; its folder does not.
    let kept = tempfile::tempdir().expect("a folder");
    for name in &names {
        daemon.wait_for_camera(name, "recorded on", |camera| {
            camera["recording"]["units"].is_u64()
        });
    }
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([data.join("recordings"), kept.path().to_owned()])
        .status();
    assert!(status.expect("cp").success());
    daemon.stop();

    let (mut pictures, mut breaks) = (0, 0);
    for name in &names {
        let tape = Tape::read(kept.path(), name);
        // Panics where a picture is missing, twice, damaged or out of order.
        pictures += tape.check(&mut || farm.witness(name));
        breaks += tape.breaks().len() - 1;
    }
    runs.sort_by(f64::total_cmp);
    let each: Vec<String> = runs.iter().map(|run| format!("{run:.2}")).collect();
    let median = runs[RUNS / 2];
    println!("{count} cameras of 720p25 recorded as they send");
    println!(
        "CPU per recorder     {median:.2} % of a core, median of {}",
        each.join(", ")
    );
    println!("memory per recorder  {memory_mib:.1} MiB (PSS)");
    println!("pictures checked     {pictures}, {breaks} breaks, {missed} units missed");
    println!("the cameras themselves: {late}");
    let figures = json!({
        "cameras": count, "cpu_percent": median, "pss_mib": memory_mib, "pictures": pictures,
        "breaks": breaks, "missed": missed,
    });
    println!("{figures}");
}

/// CPU time of these processes so far (proc(5): `schedstat`), ns.
fn cpu_ns(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    pids.iter()
        .map(|pid| of(pid).expect("a recorder that runs"))
        .sum()
}
