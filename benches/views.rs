//! What a view costs, and what it saves: `cargo bench --bench views`.
//!
//! One camera of 1280×720, a view of 640×360 rgb24, and so many programs that want pictures of that
//! shape. CPU time per picture of the camera, in ms: of its reader, and of the programs:
//!
//! - nobody looks;
//! - 1 and 3 programs look at the view: the reader converts once, they take the frame as it is;
//! - 1 and 3 programs look at the camera's own frames, and each converts them itself, with the same
//!   scaler and flags. What copying a frame into padded memory takes is not counted.
//!
//! Prints a table and one line of JSON. The camera runs on the same cores; its work is not counted.
#![deny(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camring_ring::{AttachOptions, Client, Frame, Subscription};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use support::{Camera, Daemon, Farm, PATIENCE};

const WINDOW: Duration = Duration::from_secs(10);
const RUNS: usize = 3;
const VIEW: (u32, u32) = (640, 360);

/// CPU time per picture, in ms.
#[derive(Clone, Copy)]
struct Cost {
    reader: f64,
    programs: f64,
}

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let farm = Farm::start(&[Camera::new("door", "h264-720p").fps(25)]);
    let daemon = Daemon::start(&format!(
        "[[camera]]\nname = \"door\"\nurl = \"{}\"\n[[camera.view]]\nname = \"detect\"\n\
         width = {}\nheight = {}\nformat = \"rgb24\"\n",
        farm.url("door"),
        VIEW.0,
        VIEW.1
    ));
    daemon.wait_for_camera("door", "frames", |c| {
        c["frames_published"].as_u64() > Some(25)
    });
    let cases = [
        ("nobody", "door", 0, false),
        ("view_1", "door:detect", 1, false),
        ("view_3", "door:detect", 3, false),
        ("own_1", "door", 1, true),
        ("own_3", "door", 3, true),
    ];
    let mut all: Vec<Vec<Cost>> = vec![Vec::new(); cases.len()];
    // Interleaved: what else the machine does meets all of them.
    for _ in 0..RUNS {
        for (costs, (_, name, programs, convert)) in all.iter_mut().zip(cases) {
            costs.push(measure(&daemon, name, programs, convert));
        }
    }
    println!("CPU per picture of 1280x720, in ms: median of {RUNS}, and all");
    println!("{:10} {:>8} {:>9} {:>8}", "", "reader", "programs", "both");
    let mut figures = serde_json::Map::new();
    for (costs, (case, ..)) in all.iter_mut().zip(cases) {
        costs.sort_by(|a, b| (a.reader + a.programs).total_cmp(&(b.reader + b.programs)));
        let median = costs[RUNS / 2];
        let each: Vec<_> = costs
            .iter()
            .map(|cost| format!("{:.2}", cost.reader + cost.programs))
            .collect();
        println!(
            "{case:10} {:8.2} {:9.2} {:8.2}   ({})",
            median.reader,
            median.programs,
            median.reader + median.programs,
            each.join(", ")
        );
        figures.insert(
            case.to_owned(),
            json!({ "reader_ms": median.reader, "programs_ms": median.programs }),
        );
    }
    println!("{}", serde_json::Value::Object(figures));
}

/// The reader and so many programs, over one window.
fn measure(daemon: &Daemon, name: &str, programs: u32, convert: bool) -> Cost {
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut reader, mut pictures, mut spent) = (0, 0, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..programs)
            .map(|_| {
                let client = Client::connect(&daemon.socket()).expect("a connection");
                let options = AttachOptions {
                    timeout: PATIENCE,
                    ..AttachOptions::default()
                };
                let frames = client.attach(name, &options).expect("attached");
                scope.spawn(|| program(frames, convert, &go, &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        let pid = daemon.reader_pid("door");
        let published = || {
            let camera = daemon.camera("door");
            camera["frames_published"].as_u64().expect("a count")
        };
        let before = (published(), cpu_ns(pid));
        go.store(true, Ordering::Relaxed);
        std::thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        (pictures, reader) = (published() - before.0, cpu_ns(pid) - before.1);
        spent = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum();
    });
    let per_picture = |ns: u64| ns as f64 / 1e6 / pictures.max(1) as f64;
    Cost {
        reader: per_picture(reader),
        programs: per_picture(spent),
    }
}

/// Looks at every frame between `go` and `stop`; returns the CPU time that took, in ns.
fn program(mut frames: Subscription, convert: bool, go: &AtomicBool, stop: &AtomicBool) -> u64 {
    let mut scaler = None;
    let (mut spent, mut ignored) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let before = thread_ns();
        let frame = frames.next_timeout(Duration::from_millis(200));
        let frame = frame.expect("attached");
        let mut copying = 0;
        if let Some(frame) = &frame
            && convert
        {
            let begun = thread_ns();
            let picture = padded(frame);
            copying = thread_ns() - begun;
            scale(&mut scaler, &picture);
        }
        drop(frame);
        let took = thread_ns() - before - copying;
        let count = if go.load(Ordering::Relaxed) {
            &mut spent
        } else {
            &mut ignored
        };
        *count += took;
    }
    spent
}

fn padded(frame: &Frame) -> Video {
    let d = frame.descriptor();
    let mut picture = Video::new(Pixel::YUV420P, d.width, d.height);
    for plane in 0..frame.planes() {
        let size = d.pixel_format.plane_size(plane, d.width, d.height);
        let (row, rows) = size.expect("a plane");
        let (from, to) = (frame.plane_stride(plane) as usize, picture.stride(plane));
        for line in 0..rows as usize {
            picture.data_mut(plane)[line * to..][..row as usize]
                .copy_from_slice(&frame.plane(plane)[line * from..][..row as usize]);
        }
    }
    picture
}

fn scale(scaler: &mut Option<(Context, Video)>, picture: &Video) {
    let (context, into) = scaler.get_or_insert_with(|| {
        let from = (Pixel::YUV420P, picture.width(), picture.height());
        let to = (Pixel::RGB24, VIEW.0, VIEW.1);
        let context = Context::get(from.0, from.1, from.2, to.0, to.1, to.2, Flags::AREA);
        (context.expect("a scaler"), Video::empty())
    });
    context.run(picture, into).expect("scaled");
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
