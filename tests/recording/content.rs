//! What is recorded is what the camera sent: every picture, with its own time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client};

use crate::recorder::Recorder;
use crate::support::{Camera, Daemon, Farm, PATIENCE, wait_for};
use crate::tape::Tape;

/// Rates, codecs and orders of decoding.
const CLIPS: [(&str, &str); 4] = [
    ("plain", "h264-360p"),
    ("reordered", "h264-b"),
    ("hevc", "h265-b"),
    ("slow", "h264-720p6"),
];

pub fn config(farm: &Farm, cameras: &[&str]) -> String {
    let camera = |name: &&str| {
        format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
            farm.url(name)
        )
    };
    cameras.iter().map(camera).collect()
}

/// Waits until so many segments are finished.
#[track_caller]
pub fn wait_for_segments(recorder: &Recorder, data: &std::path::Path, camera: &str, count: usize) {
    wait_for("segments to be finished", PATIENCE, || {
        let tape = Tape::read(data, camera);
        match tape.segments() >= count {
            true => Ok(()),
            false => Err((tape.segments(), tape.pictures(), recorder.log())),
        }
    });
}

#[test]
fn every_picture_is_recorded_with_its_own_time() {
    let farm = Farm::start(&CLIPS.map(|(name, clip)| Camera::new(name, clip)));
    let names = CLIPS.map(|(name, _)| name);
    let daemon = Daemon::start(&config(&farm, &names));
    let data = tempfile::tempdir().expect("a folder");
    let recorders: Vec<Recorder> = names
        .iter()
        .map(|name| Recorder::start(&daemon, name, data.path()))
        .collect();

    // What detectors see of these pictures meanwhile: in frame rings and in packet rings.
    let client = Client::connect(&daemon.socket()).expect("a daemon");
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut frames: Vec<_> = names
        .map(|name| client.attach(name, &options).expect("frames"))
        .into();
    let mut units: Vec<_> = names
        .map(|name| client.attach_packets(name, &options).expect("units"))
        .into();
    let mut seen: [HashMap<i64, i64>; 4] = Default::default();
    let mut bytes = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        client
            .wait(Some(Duration::from_millis(200)))
            .expect("a daemon");
        for at in 0..names.len() {
            while let Some(frame) = frames[at].next().expect("a frame") {
                let descriptor = frame.descriptor();
                seen[at].insert(descriptor.pts, descriptor.capture_time_ns);
            }
            while let Some(unit) = units[at].next(&mut bytes).expect("a unit") {
                seen[at].insert(unit.pts, unit.capture_time_ns);
            }
        }
    }
    for (recorder, name) in recorders.iter().zip(names) {
        wait_for_segments(recorder, data.path(), name, 3);
    }
    for recorder in recorders {
        recorder.stop();
    }

    for (at, name) in names.into_iter().enumerate() {
        let tape = Tape::read(data.path(), name);
        let decoded = tape.check(&mut || farm.witness(name));
        assert!(decoded >= 30, "{name}: {decoded} pictures");
        assert_eq!(tape.breaks(), [0], "{name}");
        tape.files.iter().for_each(crate::tape::File::check_parts);
        // All that lie between the first and the last picture recorded were recorded, at the same
        // time to the µs, and on the file's map.
        let recorded: HashMap<i64, i64> = (tape.files.iter())
            .flat_map(|file| file.frames())
            .map(|frame| (frame.time, frame.capture_ns))
            .collect();
        let (first, last) = (recorded.keys().min(), recorded.keys().max());
        let mut compared = 0;
        for (pts, capture) in &seen[at] {
            if Some(pts) < first || Some(pts) > last {
                continue;
            }
            let found = recorded
                .get(pts)
                .unwrap_or_else(|| panic!("{name}: {pts} is missing"));
            assert!(
                (found - capture).abs() <= 1_000,
                "{name}: {found} for {capture}"
            );
            compared += 1;
        }
        assert!(compared >= 20, "{name}: {compared} pictures compared");
        for file in &tape.files {
            for frame in file.frames() {
                let off = (file.header.utc_ns(frame.time) - frame.capture_ns).abs();
                assert!(off <= 1_000, "{name}: {off} ns off the map");
            }
        }
    }
    drop((frames, units, client));
    daemon.stop();
}
