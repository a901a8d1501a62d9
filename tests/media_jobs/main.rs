//! Pictures and clips of recordings over HTTP: the right pictures, exactly, by the number burned into
//! each; and what happens to a server whose workers crash, hang, are too few, or whose clients leave.

mod recorded;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use camring::serve::time;

use recorded::{Recorder, TAG, Taken};
use server::{Server, decode_jpeg, read_jpeg, read_mp4};
use support::framecode;
use support::{PATIENCE, wait_for, wait_until};

const SECOND: i64 = 1_000_000_000;
/// Ten seconds before an hour: recordings here reach into the next. Not long ago, so that they are kept.
static START: LazyLock<i64> = LazyLock::new(|| {
    let hour = 3600 * SECOND;
    support::unix_ns() / hour * hour - hour - 10 * SECOND
});
/// So that pictures of half the size still tell their number.
const SIZE: (u32, u32) = (640, 640);
const OTHER_SIZE: (u32, u32) = (512, 512);

/// 400 pictures, a gap of a minute, 100 more, then 60 of another size.
fn record(data: &Path) -> Recorder {
    let mut recorder = Recorder::new(data, "door", "source");
    recorder.stretch(*START, 400, SIZE);
    recorder.stretch(*START + 75 * SECOND, 100, SIZE);
    recorder.stretch(*START + 90 * SECOND, 60, OTHER_SIZE);
    recorder
}

/// What all tests at one time share.
struct Recorded {
    folder: tempfile::TempDir,
    taken: Vec<Taken>,
}

/// A server on a copy of the recordings.
fn serve() -> (Server, Arc<Recorded>) {
    static SHARED: Mutex<Weak<Recorded>> = Mutex::new(Weak::new());
    let recorded = {
        let mut shared = SHARED.lock().expect("no panic while recording");
        let there = shared.upgrade();
        there.unwrap_or_else(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let recorder = record(folder.path());
            let made = Arc::new(Recorded {
                folder,
                taken: recorder.taken,
            });
            *shared = Arc::downgrade(&made);
            made
        })
    };
    let server = Server::start(|data| copy(recorded.folder.path(), data));
    (server, recorded)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let into = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&into).expect("a folder");
            copy(&entry.path(), &into);
        } else {
            std::fs::copy(entry.path(), into).expect("a file");
        }
    }
}

impl Recorded {
    /// The picture that was seen at a moment.
    fn seen_at(&self, at_ns: i64) -> Taken {
        let before = self.taken.iter().filter(|taken| taken.capture_ns <= at_ns);
        *before
            .max_by_key(|taken| taken.capture_ns)
            .expect("one before")
    }

    /// Those taken in a range.
    fn between(&self, from_ns: i64, to_ns: i64) -> Vec<Taken> {
        let wanted = |taken: &&Taken| (from_ns..to_ns).contains(&taken.capture_ns);
        self.taken.iter().filter(wanted).copied().collect()
    }
}

fn at(ns: i64) -> String {
    time::rfc3339(ns)
}

fn index_of(server: &Server, query: &str) -> (u16, String) {
    let answer = server.get(&format!("snapshot.jpg?{query}"));
    let taken = answer.frame_time.clone().unwrap_or_default();
    let (size, code) = read_jpeg(&answer.good("image/jpeg"));
    let code = code.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(code.tag, TAG);
    assert!(size == SIZE || size == OTHER_SIZE);
    (code.index, taken)
}

#[test]
fn a_snapshot_is_exactly_the_picture_seen_then() {
    let (server, recorder) = serve();
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..60 {
        let taken = recorder.taken[random.usize(..recorder.taken.len())];
        // At its time; just before the next; just before it, which is the one before.
        let moments = [taken.capture_ns, taken.capture_ns + 20_000_000];
        for moment in moments {
            let seen = recorder.seen_at(moment);
            let (index, frame_time) = index_of(&server, &format!("at={}", at(moment)));
            assert_eq!(index, seen.index, "at {moment}");
            let told = time::parse(&frame_time).expect("a time");
            assert!((told - seen.capture_ns).abs() < 2000, "{told} {seen:?}");
        }
    }
    // Unix seconds will do, too.
    let unix = format!("at={}.500", (*START / SECOND) + 2);
    let seen = recorder.seen_at(*START + 2 * SECOND + SECOND / 2);
    assert_eq!(index_of(&server, &unix).0, seen.index);
}

#[test]
fn a_snapshot_can_be_smaller_and_worse() {
    let (server, recorder) = serve();
    let when = at(recorder.taken[33].capture_ns);
    let best = server.get(&format!("snapshot.jpg?at={when}&quality=100"));
    assert!(best.disposition.contains("door_20"), "{best:?}");
    let best = best.good("image/jpeg");
    let worst = server
        .get(&format!("snapshot.jpg?at={when}&quality=1"))
        .good("image/jpeg");
    assert!(worst.len() < best.len(), "{} {}", worst.len(), best.len());
    let small = server.get(&format!("snapshot.jpg?at={when}&width=128"));
    assert_eq!(decode_jpeg(&small.good("image/jpeg")).0, (128, 128));
    // Never enlarged.
    let large = server.get(&format!("snapshot.jpg?at={when}&width=4000"));
    assert_eq!(decode_jpeg(&large.good("image/jpeg")).0, SIZE);
}

#[test]
fn what_makes_no_sense_is_a_problem() {
    let (server, _) = serve();
    let gap = at(*START + 60 * SECOND);
    server
        .get(&format!("snapshot.jpg?at={gap}"))
        .problem(404, "not-recorded");
    server
        .get("snapshot.jpg?at=yesterday")
        .problem(422, "invalid");
    server
        .get("snapshot.jpg?at=2026-11-20T09:00:00Z&width=7")
        .problem(422, "invalid");
    server
        .get("snapshot.jpg?at=2026-11-20T09:00:00Z&colour=red")
        .problem(400, "bad-query");
    server.get("snapshot.jpg").problem(503, "no-daemon");
    let unknown = server.get_of("attic", "snapshot.jpg?at=2026-11-20T09:00:00Z");
    unknown.problem(404, "unknown-camera");
    let traversal = server.get_of("..%2Fdoor", "snapshot.jpg?at=2026-11-20T09:00:00Z");
    traversal.problem(404, "unknown-camera");
    let stream = server.get("snapshot.jpg?at=2026-11-20T09:00:00Z&stream=sub");
    let problem = stream.problem(404, "unknown-stream");
    assert!(problem["detail"].as_str().expect("text").contains("main"));
    let rendition = server.get("snapshot.jpg?at=2026-11-20T09:00:00Z&rendition=..");
    rendition.problem(404, "not-recorded");
    for (path, slug) in [
        (
            "export.mp4?from=2026-11-20T09:00:10Z&to=2026-11-20T09:00:09Z",
            "invalid",
        ),
        (
            "export.mp4?from=2026-11-20T09:00:00Z&to=2026-11-22T09:00:00Z",
            "invalid",
        ),
        (
            "export.mp4?cut=frame&from=2026-11-20T09:00:00Z&to=2026-11-20T11:00:00Z",
            "invalid",
        ),
        (
            "preview.mp4?from=2026-11-20T09:00:00Z&to=2027-11-20T09:00:00Z",
            "invalid",
        ),
        (
            "storyboard.jpg?from=2026-11-20T09:00:00Z&to=2026-11-20T09:01:00Z&columns=100&rows=100",
            "invalid",
        ),
    ] {
        server.get(path).problem(422, slug);
    }
    let empty = "from=2026-11-20T11:00:00Z&to=2026-11-20T11:01:00Z";
    for path in ["export.mp4", "preview.mp4", "preview.gif"] {
        server
            .get(&format!("{path}?{empty}"))
            .problem(404, "not-recorded");
    }
    assert_eq!(server.workers().len(), 0, "nothing of this needs a worker");
}

#[test]
fn a_storyboard_shows_a_key_frame_of_each_part() {
    let (server, recorder) = serve();
    // 100 s in 20 parts; the gap is from 15 to 75 s.
    let (from, to) = (*START, *START + 100 * SECOND);
    let query = format!(
        "from={}&to={}&columns=5&rows=4&width=320&height=320",
        at(from),
        at(to)
    );
    let sheet = server
        .get(&format!("storyboard.jpg?{query}"))
        .good("image/jpeg");
    let ((width, height), stride, luma) = decode_jpeg(&sheet);
    assert_eq!((width, height), (1600, 1280));
    let text = server
        .get(&format!("storyboard.json?{query}"))
        .good("application/json");
    let view: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let cells = view["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 3 + 3, "{view}");
    for cell in cells {
        let (x, y) = (
            cell["x"].as_u64().expect("x"),
            cell["y"].as_u64().expect("y"),
        );
        let corner = y as usize * stride + x as usize;
        let code = framecode::read(&luma[corner..], stride, 320, 320).expect("a picture");
        let taken = time::parse(cell["time"].as_str().expect("a time")).expect("a time");
        let seen = recorder.seen_at(taken + 1000);
        assert_eq!(code.index, seen.index);
        assert_eq!(usize::from(code.index) % recorded::GROUP, 0, "a key frame");
        let begin = time::parse(cell["from"].as_str().expect("a time")).expect("a time");
        assert!((taken - begin).abs() <= 5 * SECOND, "{cell}");
    }
    // Grey where nothing was recorded.
    let dark = (2 * 320 + 100) * stride + 2 * 320 + 100;
    assert!((20..60).contains(&luma[dark]), "{}", luma[dark]);
    let vtt = server
        .get(&format!("storyboard.vtt?{query}"))
        .good("text/vtt; charset=utf-8");
    let vtt = String::from_utf8(vtt).expect("text");
    assert!(
        vtt.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:05.000\n"),
        "{vtt}"
    );
    assert!(vtt.contains("#xywh=320,0,320,320\n"), "{vtt}");
    // Kept: the same again, also without its recording's files.
    wait_until("the sheet to be kept", PATIENCE, || {
        let kept = server.data_dir().join("cache/storyboards");
        std::fs::read_dir(kept).is_ok_and(|kept| {
            kept.flatten()
                .any(|file| file.path().extension().is_some_and(|e| e == "jpg"))
        })
    });
    assert_eq!(
        server
            .get(&format!("storyboard.jpg?{query}"))
            .good("image/jpeg"),
        sheet
    );
}

/// Times relative to the first, in s, of what was recorded.
fn times(taken: &[Taken]) -> Vec<f64> {
    let first = taken[0].capture_ns;
    taken
        .iter()
        .map(|taken| (taken.capture_ns - first) as f64 / 1e9)
        .collect()
}

#[test]
fn an_export_of_whole_groups_is_what_was_recorded_and_begins_where_it_was_asked_for() {
    let (server, recorder) = serve();
    let (from, to) = (
        *START + 2 * SECOND + 100_000_000,
        *START + 9 * SECOND + 70_000_000,
    );
    let answer = server.get(&format!("export.mp4?from={}&to={}", at(from), at(to)));
    assert!(
        answer
            .disposition
            .starts_with("attachment; filename=\"door_20"),
        "{answer:?}"
    );
    let bytes = answer.good("video/mp4");
    let shown = read_mp4(&bytes);
    let wanted = recorder.between(from, to);
    // All from the key frame before on are in it, without another loss.
    let lead = usize::from(wanted[0].index) % recorded::GROUP;
    assert!(lead > 0, "the test wants a beginning inside a group");
    assert_eq!(shown.len(), wanted.len() + lead);
    for (place, shown) in shown.iter().enumerate() {
        let index = usize::from(wanted[0].index) - lead + place;
        assert_eq!(shown.index, Some(index as u16));
    }
    // What others show of it: the edit list is what makes them begin there.
    let played = played_by_ffmpeg(&bytes);
    assert_eq!(played.len(), wanted.len(), "shown by ffmpeg");
    for ((time, index), (taken, expected)) in played.iter().zip(wanted.iter().zip(times(&wanted))) {
        assert_eq!(*index, taken.index);
        assert!((time - expected).abs() < 0.000_05, "{time} {expected}");
    }
}

/// Times in s and numbers of the pictures of a file that are to be shown, by the `ffmpeg` program: it
/// decodes those before the edit list's beginning, too, and gives them times before 0.
fn played_by_ffmpeg(bytes: &[u8]) -> Vec<(f64, u16)> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("export.mp4");
    std::fs::write(&path, bytes).expect("written");
    let output = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "info", "-copyts", "-i"])
        .arg(&path)
        .args(["-vf", "format=gray,showinfo", "-fps_mode", "passthrough"])
        .args(["-f", "rawvideo", "-"])
        .output()
        .expect("the ffmpeg program is needed");
    assert!(output.status.success());
    let log = String::from_utf8_lossy(&output.stderr);
    let times = log.lines().filter_map(|line| {
        let rest = line.split("pts_time:").nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    });
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let pictures = output.stdout.chunks_exact(width * height);
    times
        .zip(pictures)
        .map(|(time, luma)| {
            let code = framecode::read(luma, width, width, height).expect("a whole picture");
            (time, code.index)
        })
        .filter(|(time, _): &(f64, u16)| *time > -1e-6)
        .collect()
}

#[test]
fn an_export_cut_to_the_frame_has_nothing_else_in_it() {
    let (server, recorder) = serve();
    let (from, to) = (
        *START + 2 * SECOND + 100_000_000,
        *START + 5 * SECOND + 70_000_000,
    );
    let path = format!("export.mp4?from={}&to={}&cut=frame", at(from), at(to));
    let shown = read_mp4(&server.get(&path).good("video/mp4"));
    let wanted = recorder.between(from, to);
    assert_eq!(shown.len(), wanted.len());
    for (shown, (taken, expected)) in shown.iter().zip(wanted.iter().zip(times(&wanted))) {
        assert_eq!(shown.index, Some(taken.index));
        assert!(
            (shown.pts - expected).abs() < 0.000_05,
            "{shown:?} {expected}"
        );
    }
}

#[test]
fn gaps_in_an_export_are_closed_up() {
    let (server, recorder) = serve();
    let (from, to) = (*START + 8 * SECOND, *START + 77 * SECOND);
    let wanted = recorder.between(from, to);
    let before = recorder.between(from, *START + 60 * SECOND).len();
    for cut in ["gop", "frame"] {
        let path = format!("export.mp4?from={}&to={}&cut={cut}", at(from), at(to));
        let bytes = server.get(&path).good("video/mp4");
        let played = played_by_ffmpeg(&bytes);
        let indices: Vec<u16> = played.iter().map(|(_, index)| *index).collect();
        let expected: Vec<u16> = wanted.iter().map(|taken| taken.index).collect();
        assert_eq!(indices, expected, "{cut}");
        for pair in played.windows(2) {
            let step = pair[1].0 - pair[0].0;
            assert!((0.02..0.06).contains(&step), "{cut}: {pair:?}");
        }
        // Inside a stretch times are exact.
        let after = times(&wanted[before..]);
        let first_after = played[before].0;
        for (played, expected) in played[before..].iter().zip(after) {
            let time = played.0 - first_after;
            assert!((time - expected).abs() < 0.000_05, "{cut}");
        }
    }
}

#[test]
fn a_change_of_parameters_is_refused_or_encoded_anew() {
    let (server, recorder) = serve();
    let (from, to) = (*START + 76 * SECOND, *START + 100 * SECOND);
    let path = format!("export.mp4?from={}&to={}", at(from), at(to));
    let problem = server.get(&path).problem(422, "parameters-change");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains(&at(*START + 90 * SECOND)), "{detail}");
    let shown = read_mp4(&server.get(&format!("{path}&cut=frame")).good("video/mp4"));
    let wanted = recorder.between(from, to);
    let indices: Vec<Option<u16>> = shown.iter().map(|shown| shown.index).collect();
    let expected: Vec<Option<u16>> = wanted.iter().map(|taken| Some(taken.index)).collect();
    assert_eq!(indices, expected);
    assert!(shown.iter().all(|shown| shown.size == SIZE));
}

#[test]
fn previews_are_short_small_and_play() {
    let (server, recorder) = serve();
    let query = |to: i64| {
        format!(
            "from={}&to={}&seconds=2&fps=10&width=320",
            at(*START),
            at(*START + to * SECOND)
        )
    };
    // All of twelve seconds, six times as fast.
    let bytes = server
        .get(&format!("preview.mp4?{}", query(12)))
        .good("video/mp4");
    let shown = read_mp4(&bytes);
    assert_eq!(shown.len(), 20);
    for (place, shown) in shown.iter().enumerate() {
        assert!((shown.pts - place as f64 / 10.0).abs() < 0.001, "{shown:?}");
        assert_eq!(shown.size, (320, 320));
        let index = shown.index.expect("a picture of the recording");
        let taken = recorder.taken[usize::from(index)].capture_ns;
        let meant = *START + (12 * SECOND) / 20 * place as i64;
        assert!((taken - meant).abs() < 100_000_000, "{taken} {meant}");
    }
    // Of a day, key frames are enough.
    let bytes = server
        .get(&format!("preview.mp4?{}", query(3600)))
        .good("video/mp4");
    assert!(!read_mp4(&bytes).is_empty());
    let gif = server
        .get(&format!("preview.gif?{}", query(3)))
        .good("image/gif");
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(&gif[..]).expect("a GIF");
    assert_eq!((decoder.width(), decoder.height()), (320, 320));
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().expect("whole") {
        let luma: Vec<u8> = frame.buffer.chunks_exact(4).map(|pixel| pixel[1]).collect();
        framecode::read(&luma, 320, 320, 320).expect("a picture of the recording");
        delays.push(frame.delay);
    }
    assert_eq!(
        delays.iter().map(|delay| u32::from(*delay)).sum::<u32>(),
        200,
        "{delays:?}"
    );
}

#[test]
fn a_worker_is_used_again_and_its_death_costs_nothing_later() {
    let (server, recorder) = serve();
    let query = format!("at={}", at(recorder.taken[50].capture_ns));
    assert_eq!(index_of(&server, &query).0, 50);
    let first: Vec<u32> = server.workers().iter().map(|p| p.pid).collect();
    assert_eq!(first.len(), 1);
    assert_eq!(index_of(&server, &query).0, 50);
    let again: Vec<u32> = server.workers().iter().map(|p| p.pid).collect();
    assert_eq!(again, first, "kept");
    let status = std::fs::read_to_string(format!("/proc/{}/status", first[0])).expect("alive");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    support::process::kill(first[0], nix::sys::signal::Signal::SIGKILL);
    wait_until("the worker to end", PATIENCE, || {
        !server.workers().iter().any(|p| p.pid == first[0])
    });
    assert_eq!(index_of(&server, &query).0, 50);
}

#[test]
fn a_damaged_recording_costs_one_answer() {
    let (server, recorder) = serve();
    let folder = server.data_dir().join("recordings/door/source");
    for hour in std::fs::read_dir(folder).expect("recorded").flatten() {
        let Ok(files) = std::fs::read_dir(hour.path()) else {
            continue;
        };
        for file in files.flatten().map(|file| file.path()) {
            if file.extension().is_some_and(|ending| ending == "m4s") {
                let len = std::fs::metadata(&file).expect("there").len();
                let noise: Vec<u8> = (0..len).map(|n| (n * n % 251) as u8).collect();
                std::fs::write(&file, noise).expect("written");
            }
        }
    }
    let when = at(recorder.taken[50].capture_ns);
    let answer = server.get(&format!("snapshot.jpg?at={when}"));
    assert!([404, 422, 500].contains(&answer.status), "{answer:?}");
    let range = format!("from={}&to={}", at(*START), at(*START + 5 * SECOND));
    for path in ["export.mp4", "preview.mp4", "preview.gif"] {
        let answer = server.get(&format!("{path}?{range}"));
        assert!([422, 500].contains(&answer.status), "{answer:?}");
    }
    let board = server.get(&format!("storyboard.jpg?{range}"));
    board.good("image/jpeg");
}

#[test]
fn a_client_that_hangs_up_stops_its_worker() {
    let (server, _) = serve();
    let path = format!(
        "/api/v1/cameras/door/export.mp4?cut=frame&from={}&to={}",
        at(*START),
        at(*START + 100 * SECOND)
    );
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address());
    stream.write_all(head.as_bytes()).expect("sent");
    let mut first = [0; 1000];
    let read = stream.read(&mut first).expect("an answer");
    assert!(first[..read].starts_with(b"HTTP/1.1 200"));
    drop(stream);
    // Its place is free again: exports, of which few run at once, do not wait for it.
    for _ in 0..3 {
        let range = format!("from={}&to={}", at(*START), at(*START + SECOND));
        server.get(&format!("export.mp4?{range}")).good("video/mp4");
    }
}

#[test]
fn too_many_requests_are_told_when_to_come_again() {
    let (server, _) = serve();
    let path = format!(
        "/api/v1/cameras/door/export.mp4?from={}&to={}",
        at(*START),
        at(*START + 12 * SECOND)
    );
    // Exports whose clients do not read hold their places; the pipe alone holds less than one.
    let held: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).expect("a connection");
            let head = format!(
                "GET {path}&cut=frame HTTP/1.1\r\nHost: {}\r\n\r\n",
                server.address()
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        })
        .collect();
    let refused = wait_for("an answer that says so", PATIENCE, || {
        let mut found = Err(0);
        for mut stream in &held {
            stream.set_nonblocking(true).expect("a socket");
            let mut text = [0; 400];
            if let Ok(read) = stream.peek(&mut text) {
                let text = String::from_utf8_lossy(&text[..read]).into_owned();
                if text.starts_with("HTTP/1.1 503") {
                    found = Ok(text);
                    break;
                }
            }
            let _ = stream.flush();
        }
        found
    });
    assert!(
        refused.to_lowercase().contains("retry-after: "),
        "{refused}"
    );
    assert!(server.workers().len() <= 8, "{}", server.workers().len());
    // Pictures have places of their own.
    let query = format!("at={}", at(*START + SECOND));
    assert!(index_of(&server, &query).0 > 0);
    drop(held);
    std::thread::sleep(Duration::from_millis(10));
}
