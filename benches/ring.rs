//! What the ring promises about time, measured: `cargo bench -p camring-ring [-- --json|--quick]`.
//!
//! Every figure is the median over several runs, with the range of the runs beside it. Single
//! operations are timed with two clock readings, whose own cost (printed) is taken off; where the
//! operation allows it, batches are timed. Wake-ups are compared with a raw futex between the
//! same two processes, in turns, since the machine's own wake-up time varies more than what is to
//! be measured. Needs two cores that are not busy.

#[path = "../ring/tests/support/mod.rs"]
mod support;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camring_ring::*;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use support::process::{Process, Role, play, say, spawn_main};
use support::*;

/// Pictures: the smallest and the largest that are usual.
const PICTURES: [(&str, u32, u32); 2] = [("360p", 640, 360), ("4K", 3840, 2160)];

struct Settings {
    runs: usize,
    samples: usize,
    json: bool,
}

/// One line of the table.
struct Line {
    what: String,
    unit: &'static str,
    /// One value per run.
    values: Vec<f64>,
    /// At most this.
    goal: Option<f64>,
}

impl Line {
    fn new(what: impl Into<String>, unit: &'static str, goal: Option<f64>) -> Self {
        Self {
            what: what.into(),
            unit,
            values: Vec::new(),
            goal,
        }
    }

    fn median(&self) -> f64 {
        quantile(&mut self.values.clone(), 0.5)
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(goal) if self.median() <= goal => "PASS",
            Some(_) => "over",
        }
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// ns that two clock readings take when there is nothing between them.
fn clock_cost() -> f64 {
    let mut samples: Vec<f64> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    quantile(&mut samples, 0.5)
}

fn pin_to(cpu: Option<usize>) {
    let mut set = CpuSet::new();
    match cpu {
        Some(cpu) => set.set(cpu),
        None => (0..cpus()).for_each(|cpu| set.set(cpu)),
    }
    let _ = sched_setaffinity(None, &set);
}

fn cpus() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize)
}

fn main() {
    let roles: [(&str, Role); 2] = [("woken", woken), ("crowd", crowd)];
    if play(&roles) {
        return;
    }
    let has = |flag| std::env::args().any(|arg| arg == flag);
    let quick = has("--quick");
    let settings = Settings {
        runs: if quick { 2 } else { 7 },
        samples: if quick { 2_000 } else { 20_000 },
        json: has("--json"),
    };
    let mut lines = Vec::new();
    let clock = clock_cost();
    publishing(&settings, clock, &mut lines);
    taking(&settings, clock, &mut lines);
    waking(&settings, &mut lines);
    crowded(&settings, &mut lines);
    packets(&settings, &mut lines);
    print(&settings, clock, &lines);
}

fn print(settings: &Settings, clock: f64, lines: &[Line]) {
    if settings.json {
        let rows: Vec<String> = lines
            .iter()
            .map(|line| {
                let goal = line.goal.map_or("null".to_owned(), |goal| goal.to_string());
                let values: Vec<String> = line.values.iter().map(f64::to_string).collect();
                format!(
                    "    {{\"what\": \"{}\", \"unit\": \"{}\", \"median\": {}, \"goal\": {goal}, \
                     \"runs\": [{}]}}",
                    line.what,
                    line.unit,
                    line.median(),
                    values.join(", ")
                )
            })
            .collect();
        println!(
            "{{\n  \"clock_ns\": {clock},\n  \"lines\": [\n{}\n  ]\n}}",
            rows.join(",\n")
        );
        return;
    }
    println!("two clock readings take {clock:.0} ns; taken off single timings\n");
    println!(
        "{:<58} {:>9} {:>17} {:>9}",
        "", "median", "range of runs", "goal"
    );
    for line in lines {
        let range = (
            line.values.iter().copied().fold(f64::MAX, f64::min),
            line.values.iter().copied().fold(f64::MIN, f64::max),
        );
        let goal = line.goal.map_or(String::new(), |goal| format!("≤ {goal}"));
        println!(
            "{:<58} {:>9.2} {:>8.2}–{:<8.2} {:>9} {} {}",
            line.what,
            line.median(),
            range.0,
            range.1,
            goal,
            line.unit,
            line.verdict()
        );
    }
}

// ------------------------------------------------------------------------------ publishing ---

fn spec(width: u32, height: u32) -> FrameRingSpec {
    let slot_bytes = u64::from(width) * u64::from(height) * 3 / 2;
    FrameRingSpec {
        depth: 4,
        slots: 4 + 1 + 2 + 64,
        slot_bytes,
        ring_id: 1,
        first_sequence: 1,
    }
}

fn picture(width: u32, height: u32) -> FrameDescriptor {
    FrameDescriptor::packed(PixelFormat::I420, width, height, 1).unwrap()
}

/// One frame, without drawing it.
fn put(writer: &mut FrameWriter, d: &FrameDescriptor) {
    let slot = writer.reserve().unwrap();
    writer.publish_stores_only(slot, d).unwrap();
    writer.release(slot);
}

/// A ring with subscribers, each of which holds a frame.
fn attended(
    broker: &Broker,
    (width, height): (u32, u32),
    subscribers: usize,
) -> (
    LocalFrames,
    FrameDescriptor,
    Vec<(Client, Subscription, Frame)>,
) {
    let writer = broker.frames("camera", spec(width, height));
    let d = picture(width, height);
    put(writer.lock().unwrap().as_mut().unwrap(), &d);
    let attended = (0..subscribers)
        .map(|_| {
            // A client each: bells and pin pages of their own.
            let client = broker.connect();
            let mut camera = client.attach("camera", &AttachOptions::default()).unwrap();
            let frame = camera.next().unwrap().unwrap();
            (client, camera, frame)
        })
        .collect();
    (writer, d, attended)
}

fn publishing(settings: &Settings, clock: f64, lines: &mut Vec<Line>) {
    for (name, width, height) in PICTURES {
        for subscribers in [1, 32] {
            let broker = Broker::start();
            let (writer, d, _held) = attended(&broker, (width, height), subscribers);
            let mut writer = writer.lock().unwrap();
            let writer = writer.as_mut().unwrap();
            let of = format!("{name}, {subscribers} subscribers");
            let mut p50 = Line::new(format!("publish, stores only, p50, {of}"), "µs", None);
            let mut p99 = Line::new(format!("publish, stores only, p99, {of}"), "µs", Some(1.0));
            let mut whole = Line::new(format!("reserve + publish + bells, p99, {of}"), "µs", None);
            for _ in 0..settings.runs {
                let mut samples: Vec<f64> = (0..settings.samples)
                    .map(|_| {
                        let slot = writer.reserve().unwrap();
                        let start = Instant::now();
                        writer.publish_stores_only(slot, &d).unwrap();
                        let took = start.elapsed().as_nanos() as f64 - clock;
                        writer.release(slot);
                        took.max(0.0) / 1000.0
                    })
                    .collect();
                p50.values.push(quantile(&mut samples, 0.5));
                p99.values.push(quantile(&mut samples, 0.99));
                let mut samples: Vec<f64> = (0..settings.samples)
                    .map(|_| {
                        let start = Instant::now();
                        let slot = writer.reserve().unwrap();
                        writer.publish(slot, &d).unwrap();
                        writer.release(slot);
                        (start.elapsed().as_nanos() as f64 - clock).max(0.0) / 1000.0
                    })
                    .collect();
                whole.values.push(quantile(&mut samples, 0.99));
            }
            lines.extend([p50, p99, whole]);
        }
    }
}

// ---------------------------------------------------------------------------------- taking ---

fn taking(settings: &Settings, clock: f64, lines: &mut Vec<Line>) {
    for (name, width, height) in PICTURES {
        for subscribers in [1, 32] {
            let broker = Broker::start();
            let (writer, d, held) = attended(&broker, (width, height), subscribers);
            let mut cameras: Vec<_> = held.into_iter().map(|(c, s, _)| (c, s)).collect();
            let mut writer = writer.lock().unwrap();
            let writer = writer.as_mut().unwrap();
            let of = format!("{name}, {subscribers} subscribers");
            let mut line = Line::new(
                format!("latest(): pin, check, release, p50, {of}"),
                "ns",
                Some(200.0),
            );
            for _ in 0..settings.runs {
                let mut samples: Vec<f64> = (0..settings.samples / subscribers)
                    .map(|_| {
                        put(writer, &d);
                        // All subscribers in one batch.
                        let start = Instant::now();
                        for (_, camera) in &mut cameras {
                            let frame = camera.latest().unwrap();
                            assert!(frame.is_some());
                        }
                        let took = start.elapsed().as_nanos() as f64 - clock;
                        took.max(0.0) / subscribers as f64
                    })
                    .collect();
                line.values.push(quantile(&mut samples, 0.5));
            }
            lines.push(line);
        }
    }
}

// ---------------------------------------------------------------------------------- waking ---

const RAW: u32 = 0;
const RING: u32 = 1;
const END: u32 = 2;
const NOTHING: u32 = 9;

/// A page shared by the two processes of a comparison.
#[repr(C)]
struct Page {
    /// Futex of the raw side.
    word: AtomicU32,
    /// What is next: [`RAW`], [`RING`], [`END`]; [`NOTHING`] in between.
    turn: AtomicU32,
    /// How many samples the other process has taken.
    taken: AtomicU32,
    sent_ns: AtomicU64,
    samples: [AtomicU64; 500],
}

fn map_page(fd: &OwnedFd) -> &'static Page {
    let len = size_of::<Page>();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, of a memory at least that long.
    let address = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            len,
            protection,
            MapFlags::SHARED,
            fd,
            0,
        )
    };
    // SAFETY: mapped for ever, aligned to a page, all atomics, zero is valid.
    unsafe { &*address.unwrap().cast::<Page>() }
}

/// Sleeps on a word of the page until it changes. The other process may have failed.
fn sleep_on(word: &AtomicU32, old: u32) {
    let start = Instant::now();
    let limit = futex::Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    while word.load(Ordering::Acquire) == old {
        assert!(start.elapsed().as_secs() < 60, "the other process is gone");
        let _ = futex::wait(word, futex::Flags::empty(), old, Some(&limit));
    }
}

fn set_and_wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// The other process: is woken by turns by a bare futex and by a frame.
fn woken(place: &Path) {
    let page = rustix::fs::open(
        place.join("page"),
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    );
    let page = map_page(&page.unwrap());
    if let Ok(cpu) = std::fs::read_to_string(place.join("cpu")) {
        pin_to(cpu.trim().parse().ok());
    }
    let client = Client::connect(&place.join("attach.sock")).unwrap();
    let mut camera = client.attach("camera", &AttachOptions::default()).unwrap();
    say("ready");
    let mut turn = NOTHING;
    loop {
        sleep_on(&page.turn, turn);
        turn = page.turn.load(Ordering::Acquire);
        if turn == END {
            return;
        }
        if turn == NOTHING {
            continue;
        }
        for (n, sample) in (0..).zip(&page.samples) {
            if turn == RAW {
                sleep_on(&page.word, n);
            } else {
                camera
                    .next_timeout(Duration::from_secs(60))
                    .unwrap()
                    .unwrap();
            }
            sample.store(
                now() - page.sent_ns.load(Ordering::Acquire),
                Ordering::Relaxed,
            );
            let taken = page.taken.load(Ordering::Relaxed);
            set_and_wake(&page.taken, taken + 1);
        }
    }
}

/// µs from just before waking until the other process runs; median of one block.
fn block(page: &Page, turn: u32, writer: &mut FrameWriter, d: &FrameDescriptor) -> f64 {
    page.taken.store(0, Ordering::Release);
    page.word.store(0, Ordering::Release);
    set_and_wake(&page.turn, turn);
    for n in 0..page.samples.len() as u32 {
        // Until it surely sleeps.
        std::thread::sleep(Duration::from_millis(1));
        if turn == RAW {
            page.sent_ns.store(now(), Ordering::Release);
            page.word.fetch_add(1, Ordering::Release);
            let _ = futex::wake(&page.word, futex::Flags::empty(), 1);
        } else {
            let slot = writer.reserve().unwrap();
            page.sent_ns.store(now(), Ordering::Release);
            writer.publish(slot, d).unwrap();
            writer.release(slot);
        }
        // Blocks at once: on one core the other process runs now, if the scheduler did not let it
        // run when it was woken. Which of the two it does changes every few hundred wake-ups.
        sleep_on(&page.taken, n);
    }
    let mut samples: Vec<f64> = page
        .samples
        .iter()
        .map(|s| s.load(Ordering::Relaxed) as f64 / 1000.0)
        .collect();
    // The next turn begins when the other process has gone back to the page.
    page.turn.store(NOTHING, Ordering::Release);
    quantile(&mut samples, 0.5)
}

fn waking(settings: &Settings, lines: &mut Vec<Line>) {
    let last = cpus() - 1;
    let placements = [
        ("two cores", Some(0), Some(last)),
        ("one core", Some(0), Some(0)),
        ("unpinned", None, None),
    ];
    for (name, ours, theirs) in placements {
        let broker = Broker::start();
        let memory = broker.folder().join("page");
        let file = std::fs::File::create_new(&memory).unwrap();
        file.set_len(size_of::<Page>() as u64).unwrap();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&memory)
            .unwrap();
        let page = map_page(&OwnedFd::from(file));
        page.turn.store(NOTHING, Ordering::Release);
        if let Some(cpu) = theirs {
            std::fs::write(broker.folder().join("cpu"), cpu.to_string()).unwrap();
        }
        let writer = broker.frames("camera", spec(640, 360));
        let d = picture(640, 360);
        let mut other = spawn_main("woken", broker.folder());
        assert_eq!(other.listen().as_deref(), Some("ready"));
        pin_to(ours);
        let mut writer = writer.lock().unwrap();
        let writer = writer.as_mut().unwrap();
        let mut raw = Line::new(format!("raw futex, woken after, p50, {name}"), "µs", None);
        let mut ring = Line::new(format!("subscriber, woken after, p50, {name}"), "µs", None);
        let mut ratio = Line::new(format!("subscriber ÷ raw futex, {name}"), "×", Some(1.5));
        for _ in 0..settings.runs {
            let bare = block(page, RAW, writer, &d);
            let framed = block(page, RING, writer, &d);
            raw.values.push(bare);
            ring.values.push(framed);
            ratio.values.push(framed / bare);
        }
        set_and_wake(&page.turn, END);
        assert!(other.join());
        pin_to(None);
        lines.extend([raw, ring, ratio]);
    }
}

// --------------------------------------------------------------------------------- crowded ---

/// A hostile client: as many threads as it can have wait on its bell, and it says so for ever.
fn crowd(place: &Path) {
    let Raw {
        socket: _socket,
        bell,
        ..
    } = attach_raw(&place.join("attach.sock"), "camera", 1);
    // Its bell page: `bell` at 128, `waiting` at 132.
    rustix::io::pwrite(&bell, &u32::MAX.to_le_bytes(), 132).unwrap();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; the page is 256 bytes long.
    let address = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            256,
            protection,
            MapFlags::SHARED,
            &bell,
            0,
        )
    };
    // SAFETY: mapped for ever, and inside the page.
    let word = unsafe { &*address.unwrap().cast::<AtomicU32>().add(32) };
    let mut threads = 0;
    for _ in 0..4000 {
        let waits = move || {
            loop {
                let value = word.load(Ordering::Relaxed);
                let _ = futex::wait(word, futex::Flags::empty(), value, None);
            }
        };
        if std::thread::Builder::new()
            .stack_size(65536)
            .spawn(waits)
            .is_err()
        {
            break;
        }
        threads += 1;
    }
    std::thread::sleep(Duration::from_millis(500));
    say(&threads.to_string());
    std::thread::sleep(Duration::from_secs(600));
}

fn crowded(settings: &Settings, lines: &mut Vec<Line>) {
    let broker = Broker::start();
    let writer = broker.frames("camera", spec(640, 360));
    let d = picture(640, 360);
    let mut other: Process = spawn_main("crowd", broker.folder());
    let threads = other.listen().unwrap();
    let mut writer = writer.lock().unwrap();
    let writer = writer.as_mut().unwrap();
    let mut p50 = Line::new(
        format!("publish with wakes, {threads} hostile waiters, p50"),
        "µs",
        None,
    );
    let mut p99 = Line::new(
        format!("publish with wakes, {threads} hostile waiters, p99"),
        "µs",
        Some(50.0),
    );
    for _ in 0..settings.runs {
        let mut samples: Vec<f64> = (0..settings.samples / 20)
            .map(|_| {
                std::thread::sleep(Duration::from_micros(500));
                let slot = writer.reserve().unwrap();
                let start = Instant::now();
                writer.publish(slot, &d).unwrap();
                let took = start.elapsed().as_nanos() as f64 / 1000.0;
                writer.release(slot);
                took
            })
            .collect();
        p50.values.push(quantile(&mut samples, 0.5));
        p99.values.push(quantile(&mut samples, 0.99));
    }
    lines.extend([p50, p99]);
    other.kill();
}

// --------------------------------------------------------------------------------- packets ---

fn packets(settings: &Settings, lines: &mut Vec<Line>) {
    let ring = PacketRingSpec {
        capacity: 16 << 20,
        units: 1024,
        ring_id: 1,
    };
    let memory = ring.create().unwrap();
    let mut writer = PacketWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
    let mut reader = PacketReader::new(&memory).unwrap();
    let unit = UnitDescriptor {
        sequence: 0,
        len: 0,
        codec: Codec::H264,
        flags: UnitFlags::KEY,
        pts: 0,
        dts: 0,
        time_base_den: 90_000,
        capture_time_ns: 0,
        arrival_ns: 0,
        width: 0,
        height: 0,
        generation: 0,
    };
    for (name, len) in [("10 kB", 10_000usize), ("200 kB", 200_000)] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let mut out = Vec::new();
        let mut append = Line::new(
            format!("packet ring, append, units of {name}"),
            "GB/s",
            None,
        );
        let mut read = Line::new(format!("packet ring, read, units of {name}"), "GB/s", None);
        for _ in 0..settings.runs {
            // As many as stay in the cache, so that the copy is measured and not the memory.
            let batch = 400_000 / len;
            let (mut appending, mut reading) = (Duration::ZERO, Duration::ZERO);
            let rounds = settings.samples / 20;
            for _ in 0..rounds {
                let start = Instant::now();
                for _ in 0..batch {
                    writer.append(&unit, &bytes).unwrap();
                }
                appending += start.elapsed();
                let start = Instant::now();
                for _ in 0..batch {
                    assert!(reader.next(&mut out).unwrap().is_some());
                }
                reading += start.elapsed();
            }
            let total = (batch * rounds * len) as f64 / 1e9;
            append.values.push(total / appending.as_secs_f64());
            read.values.push(total / reading.as_secs_f64());
        }
        lines.extend([append, read]);
    }
}
