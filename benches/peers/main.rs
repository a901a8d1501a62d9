//! What people use today, and camring, on the same cameras: starts the driver, and does for it what
//! only Rust code can.
//!
//! `cargo bench --bench peers -- --help`. The driver (`driver.py`) starts cameras and peers one after
//! the other; it calls this binary again as camring's reader (`subscribe FOLDER`) and for the decode
//! floor (`floor CLIP`). It asserts nothing about time. How to read it: docs/reference/benches.md.
#![deny(unsafe_code)]

mod drive;
#[allow(dead_code, reason = "density uses the rest")]
#[path = "../density/floor.rs"]
mod floor;
mod support;
#[path = "../density/viewers.rs"]
mod viewers;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::json;
use support::Farm;
use viewers::Shared;

/// Words of the file `control`, as in `witness.py`.
const FROM: u64 = 0;
const TO: u64 = 1;
const STOP: u64 = 2;
const FIRST: u64 = 8;

/// How often the driver's wishes are looked at. The window is announced long before it opens.
const LOOK: Duration = Duration::from_millis(20);
const SUBSCRIBERS: usize = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["subscribe", folder] => subscribe(Path::new(folder)),
        ["floor", clip] => {
            let units = floor::Units::load(Path::new(clip));
            println!("{}", floor::Floor::alone(&units));
        }
        _ => drive::become_driver("peers/driver.py", &arguments),
    }
}

/// One subscriber per camera of the plan in `folder`, until the driver says stop.
fn subscribe(folder: &Path) {
    let farm = Arc::new(Farm::planned(folder));
    let cameras = farm.cameras();
    let control = File::options()
        .read(true)
        .write(true)
        .open(folder.join("control"))
        .expect("the driver made it");
    let word = |at: u64| {
        let mut bytes = [0; 8];
        control
            .read_exact_at(&mut bytes, at * 8)
            .expect("the driver made it long enough");
        u64::from_le_bytes(bytes)
    };
    let shared = Arc::new(Shared {
        cameras: (0..cameras).map(|_| viewers::Camera::default()).collect(),
        ..Shared::default()
    });
    let socket = folder.join("run/attach.sock");
    let threads = viewers::start(socket, &farm, &shared, SUBSCRIBERS);
    let mut told = vec![false; cameras];
    while word(STOP) == 0 && !threads.iter().any(|thread| thread.is_finished()) {
        shared.from.store(word(FROM), Relaxed);
        shared.to.store(word(TO), Relaxed);
        for (n, camera) in shared.cameras.iter().enumerate() {
            let first = camera.first_at.load(Relaxed);
            if first != 0 && !told[n] {
                told[n] = true;
                control
                    .write_all_at(&first.to_le_bytes(), (FIRST + n as u64) * 8)
                    .expect("the driver made it long enough");
            }
        }
        std::thread::sleep(LOOK);
    }
    shared.stop.store(true, Relaxed);
    for thread in threads {
        thread
            .join()
            .expect("the subscribers saw nothing impossible");
    }
    write_result(folder, &shared);
}

/// The same as `Witness.write` of `witness.py`. Reading frame codes is not measured apart here: it is
/// in camring's figures.
fn write_result(folder: &Path, shared: &Shared) {
    let of = |camera: &viewers::Camera| {
        json!({
            "seen": camera.seen.load(Relaxed),
            "expected": camera.expected.load(Relaxed),
            "torn": camera.torn.load(Relaxed),
            "disorder": camera.disorder.load(Relaxed),
            "first_ns": camera.first_at.load(Relaxed),
            "latencies_us": *camera.latencies_us.lock().expect("no panic"),
            "verify_ns": 0,
        })
    };
    let numbered = shared.cameras.iter().enumerate();
    let all: serde_json::Map<_, _> = numbered.map(|(n, c)| (n.to_string(), of(c))).collect();
    let path = folder.join(format!("result-{}.json", std::process::id()));
    let part = path.with_extension("part");
    let text = serde_json::Value::Object(all).to_string();
    fs::write(&part, text).expect("the folder takes files");
    fs::rename(part, path).expect("the folder takes files");
}
