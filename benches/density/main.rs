//! How many cameras fit on this machine, and what each costs: the real daemon, real RTSP sessions,
//! one verifying subscriber per camera, beside the decode floor of the same access units.
//!
//! `cargo bench --bench density -- --help`. It asserts nothing about time: it prints figures, and
//! beside each goal PASS or "over". What the figures mean: docs/reference/benches.md.
#![deny(unsafe_code)]

mod floor;
mod machine;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod viewers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use floor::{Floor, Units};
use machine::{Cpu, Memory, Part, busy};
use nix::sys::signal::Signal;
use report::{Figures, Goal, Report};
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_until};
use viewers::{Shared, name, now_ns};

/// Pictures that are still on their way when the window closes.
const DRAIN: Duration = Duration::from_secs(2);
/// Readers killed, one after the other.
const KILLS: usize = 3;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures cameras per machine: CPU against the decode floor, delivery, latency, memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many cameras
    #[arg(long, default_value_t = 8)]
    cameras: usize,
    /// What each sends: a name of tests/farm/clips.py
    #[arg(long, default_value = "h264-720p6")]
    clip: String,
    /// Pictures a second, instead of the clip's own
    #[arg(long)]
    fps: Option<u32>,
    /// The three cases that have goals: 8 and 50 × 720p at 6 fps, 100 × 640×360 at 10 fps
    #[arg(long)]
    all: bool,
    /// Length of the measuring window
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Before it
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// How often; figures are medians
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// When key frames come, as of tests/farm/farm.py: spread, random, aligned, play
    #[arg(long, default_value = "spread")]
    phase: String,
    /// RTP over UDP
    #[arg(long)]
    udp: bool,
    /// Threads of the subscribers
    #[arg(long, default_value_t = 2)]
    subscribers: usize,
    /// Further lines for the configuration of every camera, such as 'decode = { mode = "always" }'
    #[arg(long, default_value = "")]
    camera_config: String,
    /// Print JSON after the tables
    #[arg(long)]
    json: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One line-up of cameras.
#[derive(Clone, Debug)]
struct Case {
    cameras: usize,
    clip: String,
    fps: Option<u32>,
    /// When the cameras' key frames come.
    phase: String,
}

impl Case {
    fn title(&self) -> String {
        let fps = self
            .fps
            .map(|fps| format!(" at {fps} fps"))
            .unwrap_or_default();
        let (cameras, clip, phase) = (self.cameras, &self.clip, &self.phase);
        format!("{cameras} × {clip}{fps}, key frames: {phase}")
    }

    /// The goals of the specification are for these.
    fn is(&self, cameras: usize, clip: &str) -> bool {
        self.cameras == cameras && self.clip == clip
    }
}

fn main() {
    let arguments = Arguments::parse();
    let case = |cameras, clip: &str, fps| Case {
        cameras,
        clip: clip.to_owned(),
        fps,
        phase: arguments.phase.clone(),
    };
    let cases = if arguments.all {
        vec![
            case(8, "h264-720p6", None),
            case(50, "h264-720p6", None),
            case(100, "h264-360p", Some(10)),
        ]
    } else {
        vec![case(arguments.cameras, &arguments.clip, arguments.fps)]
    };
    println!("{}", machine::describe());
    let mut reports = Vec::new();
    for case in cases {
        let units = Units::load(&support::farm::clip_path(&case.clip));
        let mut report = Report {
            title: case.title(),
            runs: Vec::new(),
        };
        for run in 1..=arguments.runs.max(1) {
            eprintln!("{}, run {run} of {} …", case.title(), arguments.runs.max(1));
            report.runs.push(measure(&case, &units, &arguments));
        }
        report.print();
        reports.push(report.json());
    }
    if arguments.json {
        let all = serde_json::json!({"machine": machine::describe(), "cases": reports});
        println!("{all:#}");
    }
}

fn start_farm(case: &Case) -> Farm {
    let cameras: Vec<Camera> = (0..case.cameras)
        .map(|n| {
            let mut camera = Camera::new(&name(n), &case.clip).unshared();
            if let Some(fps) = case.fps {
                camera = camera.fps(fps);
            }
            camera
        })
        .collect();
    // Sender reports as often as cameras send them.
    let arguments = ["--rtcp-interval-ms", "5000", "--phase", &case.phase];
    let farm = Farm::start_with(&cameras, &arguments);
    // Cameras are other machines: those here shall not be slowed down by the load they cause.
    for tid in machine::threads(farm.pid()) {
        let tid = rustix::process::Pid::from_raw(i32::try_from(tid).expect("a thread"));
        let _ = rustix::process::setpriority_process(tid, -10);
    }
    farm
}

/// What a daemon consists of now.
struct Processes {
    children: Vec<u32>,
    readers: Vec<u32>,
    all: Vec<u32>,
}

impl Processes {
    fn of(daemon: &Daemon) -> Processes {
        let status = daemon.status();
        let cameras = status["cameras"].as_array().expect("an array");
        let readers = cameras
            .iter()
            .filter_map(|camera| u32::try_from(camera["pid"].as_u64()?).ok())
            .collect();
        let children: Vec<u32> = process::descendants(daemon.pid())
            .iter()
            .map(|child| child.pid)
            .collect();
        let all = children.iter().copied().chain([daemon.pid()]).collect();
        Processes {
            children,
            readers,
            all,
        }
    }
}

fn own_cpu(threads: &[u32]) -> f64 {
    let pid = std::process::id();
    let of = |tid: &u32| machine::thread_cpu(pid, *tid).map_or(0, |(ns, _)| ns);
    threads.iter().map(of).sum::<u64>() as f64 / 1e9
}

fn measure(case: &Case, units: &Units, arguments: &Arguments) -> Figures {
    let mut figures = Figures::default();
    let alone_before = Floor::alone(units);
    let farm = Arc::new(start_farm(case));
    let mut config = String::new();
    for n in 0..case.cameras {
        let transport = if arguments.udp {
            "transport = \"udp\"\n"
        } else {
            ""
        };
        config += &format!(
            "[[camera]]\nname = \"{0}\"\nurl = \"{1}\"\n{transport}{2}\n\n",
            name(n),
            farm.url(&name(n)),
            arguments.camera_config
        );
    }
    let started = AtomicU64::new(0);
    let daemon = Daemon::start_with(&config, |_| started.store(now_ns(), Relaxed));
    let shared = Arc::new(Shared {
        cameras: (0..case.cameras)
            .map(|_| viewers::Camera::default())
            .collect(),
        ..Shared::default()
    });
    let subscribers = viewers::start(
        daemon.socket(),
        &farm,
        &shared,
        arguments.subscribers.max(1),
    );
    wait_until("a picture of each camera", PATIENCE, || {
        shared
            .cameras
            .iter()
            .all(|camera| camera.first_at.load(Relaxed) != 0)
            || subscribers.iter().any(|thread| thread.is_finished())
    });
    let last_first = shared
        .cameras
        .iter()
        .map(|c| c.first_at.load(Relaxed))
        .max();
    let start_s = last_first
        .unwrap_or(0)
        .saturating_sub(started.load(Relaxed)) as f64
        / 1e9;
    std::thread::sleep(Duration::from_secs(arguments.warm_up));

    let threads = shared.threads.lock().expect("no panic").clone();
    let before = Processes::of(&daemon);
    let (farm_before, own_before, busy_before) = (farm.command("stats"), own_cpu(&threads), busy());
    let cpu_before = Cpu::of(daemon.pid(), &before.children, &before.readers);
    let begin = Instant::now();
    shared.from.store(now_ns(), Relaxed);
    let over = AtomicBool::new(false);
    let (wall, used, farm_after, beside) = std::thread::scope(|scope| {
        let bursts = scope.spawn(|| Floor::beside(units, &over));
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        shared.to.store(now_ns(), Relaxed);
        let wall = begin.elapsed().as_secs_f64();
        let used = Cpu::of(daemon.pid(), &before.children, &before.readers).since(&cpu_before);
        let farm_after = farm.command("stats");
        over.store(true, Relaxed);
        (wall, used, farm_after, bursts.join().expect("the floor"))
    });
    let (own_after, busy_after) = (own_cpu(&threads), busy());
    std::thread::sleep(DRAIN);
    let after = Processes::of(&daemon);
    let memory = Memory::of(&after.all, &after.readers);
    let restarts = after
        .readers
        .iter()
        .filter(|pid| !before.readers.contains(pid))
        .count();
    let next_frame = kill_readers(&daemon, &shared, case.cameras);

    shared.stop.store(true, Relaxed);
    for thread in subscribers {
        thread
            .join()
            .expect("the subscribers saw nothing impossible");
    }
    daemon.stop();
    let farm_s = |stats: &serde_json::Value| stats["cpu_seconds"].as_f64().unwrap_or(0.0);
    let farm_used = farm_s(&farm_after) - farm_s(&farm_before);
    let late = farm_after["late"].as_u64().unwrap_or(0) - farm_before["late"].as_u64().unwrap_or(0);
    drop(farm);
    let alone = (alone_before + Floor::alone(units)) / 2.0;

    // What the farm counts covers slightly more than the window: up to 2 pictures are not missed.
    let (mut seen, mut expected) = (0, 0);
    for (n, camera) in shared.cameras.iter().enumerate() {
        let sent = |stats: &serde_json::Value| {
            stats["cameras"][name(n)]["sent"].as_u64().expect("a count")
        };
        let pushed = (sent(&farm_after) - sent(&farm_before)).saturating_sub(2);
        seen += camera.seen.load(Relaxed);
        expected += camera.expected.load(Relaxed).max(pushed);
    }
    let total: f64 = used.values().map(|part| part.seconds).sum();
    // What was skipped on a busy machine was not decoded either: it must not make frames look cheap.
    let frames = seen.max(1) as f64;
    let expected = expected.max(1) as f64;
    let sum = |count: fn(&viewers::Camera) -> &AtomicU64| {
        shared
            .cameras
            .iter()
            .map(|c| count(c).load(Relaxed))
            .sum::<u64>() as f64
    };
    let mut latencies: Vec<u32> = Vec::new();
    for camera in &shared.cameras {
        latencies.append(&mut camera.latencies_us.lock().expect("no panic"));
    }
    latencies.sort_unstable();
    let percentile = |p: f64| {
        let at = (latencies.len() as f64 * p) as usize;
        latencies
            .get(at.min(latencies.len().saturating_sub(1)))
            .map_or(f64::NAN, |us| f64::from(*us) / 1e3)
    };

    let (eight, fifty, hundred) = (
        case.is(8, "h264-720p6"),
        case.is(50, "h264-720p6"),
        case.is(100, "h264-360p"),
    );
    let ratio = match () {
        () if fifty => Some(Goal::AtMost(1.10)),
        () if hundred => Some(Goal::AtMost(1.30)),
        () => None,
    };
    figures.goal(
        "CPU ÷ floor beside it",
        total * 1e3 / frames / beside,
        "",
        ratio,
    );
    figures.add("CPU ÷ floor alone", total * 1e3 / frames / alone, "");
    figures.add("CPU of everything camring runs", total / wall, "cores");
    figures.add("  per frame", total * 1e3 / frames, "ms");
    figures.add("floor beside the daemon, per frame", beside, "ms");
    figures.add("floor alone, per frame", alone, "ms");
    for (part, title, switches) in [
        (
            Part::Decode,
            "  decode threads, per frame",
            "    times put on a core, per frame",
        ),
        (
            Part::Network,
            "  network threads, per frame",
            "    times put on a core, per frame ",
        ),
        (
            Part::Supervisor,
            "  supervisor, per frame",
            "    times put on a core, per second",
        ),
        (Part::Spawner, "  spawner, per frame", ""),
    ] {
        let part_used = used.get(&part).copied().unwrap_or_default();
        figures.add(title, part_used.seconds * 1e3 / frames, "ms");
        match part {
            Part::Supervisor => figures.add(switches, part_used.switches / wall, ""),
            Part::Spawner => {}
            _ => figures.add(switches, part_used.switches / frames, ""),
        }
    }
    figures.goal(
        "delivered",
        100.0 * seen as f64 / expected,
        "%",
        Some(Goal::AtLeast(99.9)),
    );
    figures.goal("torn", sum(|c| &c.torn), "frames", Some(Goal::AtMost(0.0)));
    figures.goal(
        "out of order",
        sum(|c| &c.disorder),
        "frames",
        Some(Goal::AtMost(0.0)),
    );
    figures.add(
        "overwritten before they were read",
        sum(|c| &c.missed),
        "frames",
    );
    figures.add("readers restarted", restarts as f64, "");
    let (p50, p99) = match () {
        () if eight => (Some(Goal::AtMost(beside + 1.0)), Some(Goal::AtMost(20.0))),
        () if fifty => (Some(Goal::AtMost(12.0)), Some(Goal::AtMost(50.0))),
        () => (None, None),
    };
    figures.goal(
        "camera pushes → subscriber holds, p50",
        percentile(0.5),
        "ms",
        p50,
    );
    figures.goal(
        "camera pushes → subscriber holds, p99",
        percentile(0.99),
        "ms",
        p99,
    );
    figures.add(
        "camera pushes → subscriber holds, worst",
        percentile(1.0),
        "ms",
    );
    let pss = (memory.beside_rings + memory.rings) as f64;
    let limit = fifty.then_some(Goal::AtMost(500e6 / MIB));
    figures.goal("memory of everything (PSS)", pss / MIB, "MiB", limit);
    figures.add("  rings", memory.rings as f64 / MIB, "MiB");
    let limit = fifty.then_some(Goal::AtMost(3e6 / MIB));
    figures.goal(
        "  private of a reader besides, mean",
        memory.private_mean as f64 / MIB,
        "MiB",
        limit,
    );
    figures.add(
        "  private of a reader besides, worst",
        memory.private_worst as f64 / MIB,
        "MiB",
    );
    let limit = eight.then_some(Goal::AtMost(1.2));
    figures.goal(
        "start of camring run → a frame of each",
        start_s,
        "s",
        limit,
    );
    let title = "reader killed → next frame, worst";
    figures.goal(title, next_frame, "s", Some(Goal::AtMost(1.0)));
    figures.add(
        "subscribers, per frame",
        (own_after - own_before) * 1e3 / frames,
        "ms",
    );
    figures.add("cameras", farm_used / wall, "cores");
    figures.add("  pictures sent more than 20 ms late", late as f64, "");
    let measured =
        total + (own_after - own_before) + farm_used + beside * units.gop as f64 / 1e3 * wall;
    let others = (busy_after.0 - busy_before.0 - measured) / wall;
    figures.add("others on this machine", others.max(0.0), "cores");
    figures.add(
        "taken by the hypervisor",
        (busy_after.1 - busy_before.1) / wall,
        "cores",
    );
    figures.add(
        "stream, per camera",
        units.bytes_per_unit() * 8.0 * expected / wall / 1e6 / case.cameras as f64,
        "Mbit/s",
    );
    figures
}

/// kill -9, one reader after the other. The longest time until a frame of its successor, in s.
fn kill_readers(daemon: &Daemon, shared: &Shared, cameras: usize) -> f64 {
    let mut worst = 0.0f64;
    for n in 0..KILLS.min(cameras) {
        let camera = &shared.cameras[n];
        let pid = daemon.reader_pid(&name(n));
        let generation = camera.generation.load(Relaxed);
        let killed = now_ns();
        assert!(process::kill(pid, Signal::SIGKILL), "the reader is there");
        wait_until("a frame after a kill", PATIENCE, || {
            camera.generation.load(Relaxed) > generation
                && camera.generation_at.load(Relaxed) > killed
        });
        let took = camera.generation_at.load(Relaxed).saturating_sub(killed);
        worst = worst.max(took as f64 / 1e9);
    }
    worst
}
