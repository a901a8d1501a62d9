//! What `decode.mode = "activity"` saves and misses: `cargo bench --bench activity`.
//!
//! Over clips of a fixed camera in which objects come at known times (`scenes.py`), the detector is
//! given the sizes as a reader would give them. Printed for each clip: how many pictures are decoded,
//! the CPU time of decoding them beside that of decoding all (same run, same thread), how many objects
//! that came while the stream was called quiet were missed (not one of their predicted pictures
//! decoded), and how late the others were noticed.
//!
//! `-- --clips DIR` keeps the clips there; `--smallest PERCENT` sets `smallest_motion`; `--scenes A,B`
//! takes only these.
#![deny(unsafe_code)]

#[path = "../density/floor.rs"]
#[allow(dead_code, reason = "density uses the rest")]
mod floor;

use std::path::{Path, PathBuf};
use std::process::Command;

use camring::config::Decode;
use camring::health::Activity;
use camring::media::parameters::scan;
use camring::reader::activity::Detector;
use floor::{Floor, Units};
use serde::Deserialize;

/// The first minute shows nothing, so that the stream can be learnt; it is not counted.
const FROM_SECOND: usize = 58;

#[derive(Debug, Deserialize)]
struct Scene {
    fps: usize,
    codec: String,
    clips: Vec<String>,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    size: String,
    begin: usize,
    end: usize,
}

/// What became of one clip.
struct Outcome {
    /// Which pictures are decoded.
    decoded: Vec<bool>,
    said: Vec<Activity>,
    key: Vec<bool>,
}

fn watch(units: &Units, fps: usize, smallest: f32) -> Outcome {
    let mut detector = Detector::new(smallest);
    let mut outcome = Outcome {
        decoded: Vec::new(),
        said: Vec::new(),
        key: Vec::new(),
    };
    for (n, unit) in units.units.iter().enumerate() {
        let key = scan(units.codec, unit).key;
        let now = (n * 1_000_000_000 / fps) as u64;
        let said = detector.picture(unit.len(), key, now);
        let before = outcome.said.last().copied();
        if said != Activity::Quiet && before == Some(Activity::Quiet) {
            // What the packet ring still has: back to the last key frame.
            let from = outcome.key.iter().rposition(|key| *key).unwrap_or(0);
            outcome.decoded[from..].fill(true);
        }
        outcome.decoded.push(key || said != Activity::Quiet);
        outcome.said.push(said);
        outcome.key.push(key);
    }
    outcome
}

/// `missed / came while all was quiet` (others are decoded from their first picture on), and the
/// longest time from an object's first picture to a word of it.
fn objects(scene: &Scene, outcome: &Outcome, size: &str) -> (String, f64) {
    let (mut all, mut missed, mut latest) = (0, 0, 0.0f64);
    let inside = |event: &&Event| {
        let before = outcome.said.get(event.begin.saturating_sub(1));
        event.size == size && event.end <= outcome.said.len() && before == Some(&Activity::Quiet)
    };
    for event in scene.events.iter().filter(inside) {
        all += 1;
        let mut pictures = event.begin..event.end;
        let shown = pictures.any(|n| outcome.decoded[n] && !outcome.key[n]);
        missed += u32::from(!shown);
        let noticed = (event.begin..event.end).position(|n| outcome.said[n] != Activity::Quiet);
        latest = latest.max(noticed.map_or(0.0, |n| n as f64 / scene.fps as f64));
    }
    (format!("{missed}/{all}"), latest)
}

fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut all) = (0u32, 0u32);
    for one in of {
        yes += u32::from(one);
        all += 1;
    }
    f64::from(yes) / f64::from(all.max(1))
}

fn report(folder: &Path, scene: &Scene, clip: &str, smallest: f32) {
    let units = Units::load(&folder.join(format!("{clip}.{}", scene.codec)));
    let outcome = watch(&units, scene.fps, smallest);
    let from = (FROM_SECOND * scene.fps).min(units.units.len() - 1);
    // Both begin with a key frame.
    let from = (0..=from).rev().find(|n| outcome.key[*n]).unwrap_or(0);
    let busy = |n: &usize| scene.events.iter().any(|e| (e.begin..e.end).contains(n));
    let end = units.units.len();
    let wanted: Vec<Vec<u8>> = (from..end)
        .filter(|n| outcome.decoded[*n])
        .map(|n| units.units[n].clone())
        .collect();
    let (all, part) = (end - from, wanted.len());
    let whole = Units {
        codec: units.codec,
        units: units.units[from..].to_vec(),
        gop: units.gop,
    };
    let chosen = Units {
        codec: units.codec,
        units: wanted,
        gop: units.gop,
    };
    let cpu = Floor::alone(&chosen) * part as f64 / (Floor::alone(&whole) * all as f64);
    let (large, a) = objects(scene, &outcome, "large");
    let (medium, b) = objects(scene, &outcome, "medium");
    let (small, _) = objects(scene, &outcome, "small");
    let idle = (from..end).filter(|n| !busy(n));
    println!(
        "| {clip} | {:.2} | {:.2} | {cpu:.2} | {large} | {medium} | {small} | {:.1} s | {:.2} | {:.2} |",
        share((from..end).map(|n| busy(&n))),
        part as f64 / all as f64,
        a.max(b),
        share(idle.map(|n| outcome.said[n] != Activity::Quiet)),
        share((from..end).map(|n| outcome.said[n] == Activity::Blind)),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let kept = option("--clips").map(PathBuf::from);
    let smallest = option("--smallest").map_or(Decode::DEFAULT_SMALLEST_MOTION, |text| {
        text.parse().expect("--smallest takes percent")
    });
    let own = tempfile::tempdir().expect("a folder");
    let folder = kept.as_deref().unwrap_or(own.path());
    let only = option("--scenes");
    let only: Vec<&str> = only
        .as_deref()
        .map_or(Vec::new(), |s| s.split(',').collect());
    let mut make = Command::new("/usr/bin/python3");
    make.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/activity/scenes.py"))
        .arg("--out")
        .arg(folder);
    if !only.is_empty() {
        make.arg("--scene").args(&only);
    }
    let made = make.status().expect("/usr/bin/python3 starts");
    assert!(made.success(), "the clips were not made");
    println!("smallest_motion = {smallest}");
    println!(
        "| clip | busy | decoded | CPU | large missed | medium | small | latest notice | not quiet \
         of nothing | blind |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut scenes: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    scenes.sort();
    for path in scenes {
        let text = std::fs::read_to_string(&path).expect("it was just made");
        let scene: Scene = serde_json::from_str(&text).expect("JSON as scenes.py writes it");
        for clip in &scene.clips {
            report(folder, &scene, clip, smallest);
        }
    }
}
