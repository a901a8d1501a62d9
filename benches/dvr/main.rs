//! How long a day's playlist, a seek, and the start of the index take.
//!
//! A day of one camera (43,200 segments of 2 s in 1,440 files) is written once; fifty cameras are made of
//! it with hard links. The server is the release build, over HTTP on loopback, a new connection for each
//! request. Measures; asserts nothing. `CAMRING_DVR_HOURS` and `CAMRING_DVR_CAMERAS` make it smaller.

#[path = "../../tests/serve/recorder.rs"]
mod recorder;
#[path = "../../tests/serve/server.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use recorder::{Clip, Recorder, SECOND};
use server::{Server, data_dir};

const START_NS: i64 = 1_795_219_200 * SECOND;
const SOURCE: &str = "/hls/yard/main/source";

fn setting(name: &str, usual: i64) -> i64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn main() {
    // `cargo test --benches` runs it too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let hours = setting("CAMRING_DVR_HOURS", 24);
    let cameras = setting("CAMRING_DVR_CAMERAS", 50);
    let (_folder, data) = data_dir();
    let begun = Instant::now();
    let mut recorder = Recorder::new(&data, "yard", Clip::tiny(), START_NS);
    recorder.seconds(hours * 3600);
    recorder.end();
    let segments = recorder.sequence;
    println!(
        "# {hours} h, {segments} segments, written in {:.1} s",
        begun.elapsed().as_secs_f64()
    );

    let server = Server::start(&data);
    ready(&server, "yard");
    let dvr = format!("{SOURCE}/dvr.m3u8");
    let whole = server.get(&dvr).body.len();
    let gzip = [("Accept-Encoding", "gzip")];
    let packed = server.request("GET", &dvr, &gzip, b"").body.len();
    report(&format!("dvr.m3u8, {} KiB", whole >> 10), 100, || {
        server.get(&dvr);
    });
    report(
        &format!("dvr.m3u8, gzip, {} KiB", packed >> 10),
        100,
        || {
            server.request("GET", &dvr, &gzip, b"");
        },
    );
    let update = format!("{dvr}?_HLS_skip=YES");
    let len = server.get(&update).body.len();
    report(&format!("dvr.m3u8, update, {len} B"), 100, || {
        server.get(&update);
    });
    report("live.m3u8", 100, || {
        server.get(&format!("{SOURCE}/live.m3u8"));
    });
    let span = hours * 3600 - 20;
    let mut seed = 7_u64;
    let mut anywhere = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        START_NS / SECOND + i64::try_from(seed >> 33).unwrap() % span
    };
    let mut moments: Vec<i64> = (0..100).map(|_| anywhere()).collect();
    let mut next = moments.clone().into_iter();
    report("seek: range, init, first segment", 100, || {
        let at = next.next().unwrap();
        let list = server
            .get(&format!("{SOURCE}/range.m3u8?from={at}&to={}", at + 10))
            .text();
        let map = list
            .split("URI=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap();
        let first = list.lines().find(|line| line.starts_with("s/")).unwrap();
        assert_eq!(server.get(&format!("{SOURCE}/{map}")).status, 200);
        assert_eq!(server.get(&format!("{SOURCE}/{first}")).status, 200);
    });
    moments.truncate(20);
    let mut next = moments.clone().into_iter();
    report("seek: ffmpeg, to the first decoded picture", 20, || {
        let at = next.next().unwrap();
        let url = server.url(&format!("{SOURCE}/range.m3u8?from={at}&to={}", at + 10));
        let done = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-nostdin",
                "-i",
                &url,
                "-frames:v",
                "1",
                "-f",
                "null",
                "-",
            ])
            .status();
        assert!(done.unwrap().success());
    });
    report("of that, ffmpeg itself (no input)", 20, || {
        let done = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-nostdin",
                "-f",
                "lavfi",
                "-i",
                "color=size=320x180",
            ])
            .args(["-frames:v", "1", "-f", "null", "-"])
            .status();
        assert!(done.unwrap().success());
    });
    drop(server);

    for n in 1..cameras {
        copy(
            &recorder.rendition.folder,
            &data.join(format!("recordings/cam{n}/source")),
        );
    }
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    for what in [
        "first start: everything read",
        "restart: compared with the tree",
    ] {
        let begun = Instant::now();
        let mut server = Server::start(&data);
        let camera = match cameras {
            1 => "yard".to_owned(),
            more => format!("cam{}", more - 1),
        };
        server.get(&format!("/hls/{camera}/index.m3u8"));
        let live = begun.elapsed();
        ready(&server, &camera);
        println!(
            "{cameras} cameras, {what}: live after {:.2} s, all after {:.2} s, {} MiB of memory",
            live.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            memory(server.pid()) >> 10,
        );
        server.stop();
    }
    println!(
        "index.db: {} MiB",
        fs::metadata(data.join("index.db")).unwrap().len() >> 20
    );
}

/// Until the whole tree is indexed.
fn ready(server: &Server, camera: &str) {
    let path = format!("/hls/{camera}/main/source/dvr.m3u8?_HLS_skip=YES");
    while server.get(&path).status != 200 {}
}

fn report(what: &str, times: usize, mut once: impl FnMut()) {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            once();
            begun.elapsed()
        })
        .collect();
    took.sort();
    let ms = |at: usize| took[at.min(took.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "{what}: median {:.1} ms, p95 {:.1} ms",
        ms(times / 2),
        ms(times * 95 / 100)
    );
}

/// The same files once more.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => fs::hard_link(entry.path(), target).unwrap(),
        }
    }
}

/// Resident, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
