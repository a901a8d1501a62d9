//! Real players over HTTP: FFmpeg's and GStreamer's.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::recorder::{Clip, Recorder, SECOND, utc_now};
use crate::server::{Server, data_dir};

const START_NS: i64 = 1_795_248_900 * SECOND;

/// Decoded pictures, by ffprobe.
fn pictures(url: &str) -> u64 {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0"])
        .args([
            "-show_entries",
            "stream=nb_read_frames",
            "-of",
            "csv=p=0",
            url,
        ])
        .output()
        .expect("ffprobe is there: scripts/setup.sh installs it");
    let errors = String::from_utf8_lossy(&probe.stderr);
    assert!(
        probe.status.success() && errors.is_empty(),
        "{url}: {errors}"
    );
    let text = String::from_utf8(probe.stdout).unwrap();
    // Once for the program and once for the stream, as FFmpeg's versions like it.
    let first = text.lines().find(|line| !line.trim().is_empty());
    let count = first.and_then(|line| line.trim().trim_end_matches(',').parse().ok());
    count.unwrap_or_else(|| panic!("{url}: {text}"))
}

#[test]
fn every_picture_of_a_range_is_played_over_hls_and_dash() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(70);
    recorder.pause(20);
    recorder.seconds(20);
    recorder.end();
    let server = Server::start(&data);
    for (path, expected) in [
        ("/hls/yard/index.m3u8?from=0", 90 * 25),
        (
            "/hls/yard/main/source/range.m3u8?from=1795248910&to=1795248920",
            10 * 25,
        ),
        // Over the break.
        (
            "/hls/yard/main/source/range.m3u8?from=1795248966&to=1795248994",
            8 * 25,
        ),
        (
            "/dash/yard/manifest.mpd?from=1795248910&to=1795248920",
            10 * 25,
        ),
    ] {
        assert_eq!(pictures(&server.url(path)), expected, "{path}");
    }
    let manifest = server.get("/dash/yard/manifest.mpd?from=0").text();
    assert_eq!(manifest.matches("<Period ").count(), 2, "{manifest}");
    assert!(
        manifest.contains("mediaPresentationDuration=\"PT90.000000S\""),
        "{manifest}"
    );
    // GStreamer, to the end.
    for path in [
        "/hls/yard/main/source/range.m3u8?from=0",
        "/dash/yard/manifest.mpd?from=1795248910&to=1795248920",
    ] {
        let uri = format!("uri={}", server.url(path));
        let played = Command::new("gst-launch-1.0")
            .args(["-q", "uridecodebin3", &uri, "caps=video/x-h264", "!"])
            .args(["fakesink", "sync=false"])
            .output()
            .expect("gst-launch-1.0 is there: scripts/setup.sh installs it");
        let errors = String::from_utf8_lossy(&played.stderr);
        assert!(
            played.status.success() && !errors.contains("ERROR"),
            "{path}: {errors}"
        );
    }
}

#[test]
fn live_playlists_and_manifests_play_while_they_grow() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), utc_now() - 70 * SECOND);
    recorder.seconds(70);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            let begun = Instant::now();
            let mut chunks = 0;
            while !stop.load(Ordering::Relaxed) {
                while begun.elapsed() > Duration::from_millis(200) * chunks {
                    recorder.chunk();
                    chunks += 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let server = Server::start(&data);
        let play = |path: &str| {
            let played = Command::new("ffmpeg")
                .args(["-v", "error", "-nostdin", "-i", &server.url(path)])
                .args(["-frames:v", "150", "-f", "null", "-"])
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&played.stderr).into_owned();
            (played.status.success(), errors)
        };
        for path in [
            "/hls/yard/index.m3u8",
            "/hls/yard/main/source/dvr.m3u8",
            "/dash/yard/manifest.mpd",
        ] {
            let (done, errors) = play(path);
            assert!(done && errors.is_empty(), "{path}: {errors}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}
