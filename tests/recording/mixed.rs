//! Recorders, readers and the server killed at random, one after the other and at once, under one daemon:
//! what was committed is whole and playable, the index says what the files say, each gap is a break, and
//! no picture is recorded twice.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use camring::recording::ChunkFlags;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rules::Playlist;
use crate::server::Server;
use crate::support::process::{self, Process};
use crate::support::{Camera, Daemon, Farm, PATIENCE, wait_for};
use crate::tape::Tape;

/// Recorded, and killed. The first has a clip so long that a number says which picture it is.
const RECORDED: [(&str, &str); 2] = [("door", "h264-still"), ("yard", "h265-b")];

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Reader(&'static str),
    Recorder(&'static str),
    Server,
}

const VICTIMS: [Victim; 5] = [
    Victim::Recorder("door"),
    Victim::Reader("yard"),
    Victim::Server,
    Victim::Recorder("yard"),
    Victim::Reader("door"),
];

impl Victim {
    /// Its process now, if it has one.
    fn pid(self, status: &Value) -> Option<u32> {
        let camera = |name| {
            let all = status["cameras"].as_array().expect("cameras");
            all.iter().find(|camera| camera["name"] == name)
        };
        let pid = match self {
            Self::Reader(name) => &camera(name)?["pid"],
            Self::Recorder(name) => &camera(name)?["recording"]["pid"],
            Self::Server => &status["http"]["pid"],
        };
        pid.as_u64().and_then(|pid| u32::try_from(pid).ok())
    }
}

fn site(farm: &Farm, data: &Path) -> String {
    let mut text = format!(
        "[site]\nname = \"test\"\nruntime_dir = \"@DIR@/run\"\ndata_dir = {data:?}\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[record]\nmin_free = \"1MiB\"\n\
         [retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n"
    );
    for (name, _) in RECORDED {
        let url = farm.url(name);
        // A second session, whose reader nobody kills: the camera goes on while nobody else looks.
        text += &format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n\
             [camera.record]\nmode = \"copy\"\nsegment = \"1s\"\n\
             [[camera]]\nname = \"{name}-neighbour\"\nurl = \"{url}\"\n"
        );
    }
    text
}

/// Waits until more is committed of both.
#[track_caller]
fn wait_for_pictures(daemon: &Daemon, data: &Path, more: usize) {
    let count = |name| Tape::count(data, name);
    let before = RECORDED.map(|(name, _)| count(name));
    wait_for("both cameras to be recorded", PATIENCE, || {
        let now = RECORDED.map(|(name, _)| count(name));
        let good = now.iter().zip(before).all(|(now, was)| *now >= was + more);
        match good {
            true => Ok(()),
            false => Err((before, now, daemon.log())),
        }
    });
}

/// Kills so many processes, and says how many of each.
#[track_caller]
fn kill_at_random(daemon: &Daemon, data: &Path, kills: u32) -> [u32; VICTIMS.len()] {
    let seed = fastrand::u64(..);
    println!("seed of the kills: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut killed = [0; VICTIMS.len()];
    let mut order: Vec<usize> = Vec::new();
    while killed.iter().sum::<u32>() < kills {
        // Half of them at once, or into the restart of the one before; the others at any time.
        let most = if random.bool() { 20_000 } else { 600_000 };
        std::thread::sleep(Duration::from_micros(random.u64(..most)));
        let status = daemon.status();
        for _ in 0..=random.u32(..6) / 4 {
            // Each has its turn.
            if order.is_empty() {
                order = (0..VICTIMS.len()).collect();
                random.shuffle(&mut order);
            }
            let at = *order.last().expect("filled");
            let Some(pid) = VICTIMS[at].pid(&status) else {
                continue;
            };
            // Dead since, and the number another's? Only children of the daemon are killed.
            let ours = Process::of(pid).is_some_and(|found| found.parent == daemon.pid());
            if ours && process::kill(pid, Signal::SIGKILL) {
                killed[at] += 1;
                order.pop();
            }
        }
        if random.u32(..4) == 0 {
            wait_for_pictures(daemon, data, 1);
        }
    }
    killed
}

/// The index of the folder: every row, without the numbers that the tables give themselves.
fn rows(data: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(data.join("index.db")).expect("an index");
    let mut select = db
        .prepare(
            "SELECT stream, name, longest, minute.* FROM rendition JOIN minute \
             ON minute.rendition = rendition.id ORDER BY stream, name, first",
        )
        .expect("the tables");
    let own = |name: &&str| ["id", "rendition"].contains(name);
    let names: Vec<String> = select.column_names().map(str::to_owned).collect();
    let row = |row: &rusqlite::Row<'_>| {
        let mut text = String::new();
        for (at, name) in names.iter().enumerate() {
            if !own(&name.as_str()) {
                text += &format!("{name}={:?} ", row.get_ref(at)?);
            }
        }
        Ok(text)
    };
    let rows = select.query_map([], row).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

/// What the server says of a camera's segments is what the files say.
#[track_caller]
fn check_served(server: &Server, name: &str, tape: &Tape) {
    let mut expected = Vec::new();
    let mut dates = Vec::new();
    for file in &tape.files {
        let mut bytes = 0;
        for chunk in &file.chunks {
            bytes += u64::from(chunk.len);
            if chunk.flags.contains(ChunkFlags::SEGMENT_START) {
                let shown = chunk.frames.iter().map(|frame| frame.time).min();
                // At media time 0 there is no room for what is decoded before it is shown: the first
                // segment is shorter by that, and the dates that are carried on from it with it.
                let slack = match file.header.anchor_time {
                    0 => 200_000_000,
                    _ => 1_000_000,
                };
                dates.push((file.header.utc_ns(shown.expect("pictures")), slack));
            }
            if chunk.flags.contains(ChunkFlags::SEGMENT_END) {
                let number = file.name.discontinuity_sequence;
                expected.push((chunk.media_sequence, number, std::mem::take(&mut bytes)));
            }
        }
    }
    let list = server.get(&format!("/hls/{name}/main/source/dvr.m3u8"));
    let list = Playlist::read_undated(&list.text());
    let listed: Vec<(u64, u64)> = (list.segments.iter())
        .map(|one| (one.sequence, one.discontinuity))
        .collect();
    let numbers: Vec<(u64, u64)> = expected.iter().map(|&(n, d, _)| (n, d)).collect();
    assert!(
        listed == numbers,
        "{name}: listed {listed:?}, on the disk {numbers:?}"
    );
    for (segment, (date, slack)) in list.segments.iter().zip(dates) {
        let off = (segment.date - date).abs();
        assert!(off < slack, "{name}: {off} ns off: {segment:?}");
    }
    for (sequence, _, bytes) in expected.iter().step_by(expected.len() / 20 + 1) {
        let media = server.get(&format!("/hls/{name}/main/source/s/{sequence}.m4s"));
        assert_eq!(media.body.len() as u64, *bytes, "{name}: {sequence}");
    }
}

#[test]
fn recorders_readers_and_the_server_killed_in_any_order_leave_a_whole_recording() {
    let farm = Farm::start(&RECORDED.map(|(name, clip)| Camera::new(name, clip)));
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    let daemon = Daemon::start(&site(&farm, data));
    wait_for("both recordings to begin", PATIENCE, || {
        match RECORDED.map(|(name, _)| Tape::count(data, name)) {
            counts if counts.iter().all(|count| *count > 0) => Ok(()),
            counts => Err((counts, daemon.log())),
        }
    });
    let killed = kill_at_random(&daemon, data, crate::kills(12));
    // A second and more: a whole segment after the last kill.
    wait_for_pictures(&daemon, data, 35);
    for (name, _) in RECORDED {
        assert_eq!(daemon.camera(&format!("{name}-neighbour"))["restarts"], 0);
    }
    daemon.stop();

    let mut tapes = Vec::new();
    for (name, _) in RECORDED {
        let tape = Tape::read(data, name);
        let pictures = tape.check_pictures(&mut || farm.witness(name));
        let mut known = HashSet::new();
        for picture in &pictures {
            let new = known.insert(picture.capture_ns);
            assert!(new, "{name}: {picture:?} is recorded twice");
        }
        println!(
            "{name}: {} pictures, {} segments, {} files, {} breaks",
            pictures.len(),
            tape.segments(),
            tape.files.len(),
            tape.breaks().len() - 1
        );
        if name == "door" {
            // Over breaks, too: how many clips have gone by is known from the time, to 15 s.
            let clip = i64::from(farm.witness(name).pictures());
            for pair in pictures.windows(2) {
                let step = i64::from(pair[1].code.index) - i64::from(pair[0].code.index);
                let passed = (pair[1].capture_ns - pair[0].capture_ns) / 40_000_000;
                let clips = (passed - step + clip / 2).div_euclid(clip);
                assert!(step + clips * clip > 0, "{name} goes back: {pair:?}");
            }
        }
        tapes.push((name, tape));
    }

    // What the killed servers have left is gone on with, and what is made anew is the same.
    let more = "[[camera]]\nname = \"door\"\nurl = \"rtsp://127.0.0.1/door\"\n";
    let mut server = Server::start_with(data, more);
    for (name, tape) in &tapes {
        check_served(&server, name, tape);
    }
    assert!(!server.log().contains("damaged"), "{}", server.log());
    let config = server.config_path();
    assert_eq!(server.stop(), Some(0));
    let before = rows(data);
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_camring"))
        .args(["reindex", "--config"])
        .arg(&config)
        .output()
        .expect("camring starts");
    assert!(run.status.success(), "{run:?}");
    let after = rows(data);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    for (victim, count) in VICTIMS.iter().zip(killed) {
        println!("{victim:?}: killed {count} times");
        assert!(count > 0, "{victim:?} was never killed");
    }
}
