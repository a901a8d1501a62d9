//! Streams recorded in `mode = "encode"`: what is in the recording is told by the numbers burned into the
//! pictures, and when each was taken by an ordinary subscriber of the same camera.

mod support;

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use camring::media::annexb::UnitFormat;
use camring::media::{
    Codec, Mp4Reader, PictureDecoder, PictureDecoderOptions, TrackKind, VIDEO_TIMESCALE,
};
use camring::recording::{Minute, Rendition, Tree};
use camring_ring::{AttachOptions, Client};
use nix::sys::signal::Signal;

use support::{Camera, Daemon, Farm, PATIENCE, framecode, process, wait_for};

/// What a subscriber saw of a frame.
#[derive(Clone, Copy, Debug)]
struct Seen {
    index: u16,
    pts: i64,
}

/// A subscriber that notes every frame, by capture time in µs.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<i64, Seen>>,
}

impl Watcher {
    fn start(daemon: &Daemon, camera: &str) -> Self {
        let client = Client::connect(&daemon.socket()).expect("a connection");
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let mut frames = client.attach(camera, &options).expect("attached");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while !stopped.load(Relaxed) {
                let Ok(frame) = frames.next_timeout(Duration::from_millis(100)) else {
                    break;
                };
                let Some(frame) = frame else { continue };
                let d = frame.descriptor();
                let (width, height) = (d.width as usize, d.height as usize);
                let stride = frame.plane_stride(0) as usize;
                let code = framecode::read(frame.plane(0), stride, width, height).expect("whole");
                let ticks = i128::from(d.pts) * i128::from(d.time_base_num) * 90_000
                    / i128::from(d.time_base_den);
                let pts = i64::try_from(ticks).expect("a time");
                let index = code.index;
                seen.insert(d.capture_time_ns.div_euclid(1000), Seen { index, pts });
            }
            seen
        });
        Self { stop, thread }
    }

    fn seen(self) -> BTreeMap<i64, Seen> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("no torn frame")
    }
}

/// A picture of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Recorded {
    index: u16,
    size: (u32, u32),
    /// Media time, in ticks.
    time: i64,
    capture_ns: i64,
    discontinuity: u64,
    /// First of its segment: the segment's number.
    segment: Option<u64>,
}

/// Decodes everything that was recorded of a rendition.
#[track_caller]
fn read(rendition: &Rendition) -> Vec<Recorded> {
    let mut recorded = Vec::new();
    for name in rendition.files_between(0, i64::MAX).expect("readable") {
        let minute = Minute::read(rendition, &name).expect("an index");
        let mut file = std::fs::read(rendition.init(minute.header.init)).expect("an init segment");
        std::fs::File::open(rendition.data(&name))
            .and_then(|mut media| media.read_to_end(&mut file))
            .expect("media");
        let mut reader = Mp4Reader::open(Box::new(Cursor::new(file))).expect("an MP4");
        let track = reader.track(TrackKind::Video).expect("video");
        assert_eq!(track.timescale, VIDEO_TIMESCALE);
        let format = UnitFormat::parse(Codec::H264, &track.config).expect("avcC");
        let mut decoder = PictureDecoder::new(PictureDecoderOptions {
            codec: Codec::H264,
            threads: 1,
            slots: None,
            max_pixels: 1 << 24,
        });
        let mut unit = Vec::new();
        let chunks = minute.chunks.iter();
        let frames = chunks.flat_map(|chunk| {
            let first = chunk.part == 0;
            (chunk.frames.iter().enumerate()).map(move |(at, frame)| {
                (*frame, (first && at == 0).then_some(chunk.media_sequence))
            })
        });
        for (frame, segment) in frames {
            let sample = reader
                .next_sample()
                .expect("whole")
                .expect("as many as in the index");
            assert_eq!(
                (sample.pts, sample.dts),
                (frame.time, frame.time),
                "no B pictures"
            );
            assert!(
                segment.is_none() || sample.key,
                "segments begin with key frames"
            );
            unit.clear();
            format.append(sample.data, sample.key, &mut unit);
            decoder.submit(&unit, sample.pts, 0).expect("H.264");
            let picture = decoder.next_picture().expect("H.264").expect("no delay");
            let mut copy = vec![0; picture.copied_len().expect("a size")];
            let planes = picture.copy_into(&mut copy).expect("room");
            let size = (picture.width(), picture.height());
            let stride = planes[0].stride as usize;
            let code = framecode::read(&copy, stride, size.0 as usize, size.1 as usize);
            recorded.push(Recorded {
                index: code.expect("a whole picture").index,
                size,
                time: frame.time,
                capture_ns: frame.capture_ns,
                discontinuity: minute.header.discontinuity_sequence,
                segment,
            });
        }
        assert!(
            reader.next_sample().expect("whole").is_none(),
            "more than in the index"
        );
    }
    recorded
}

/// Each recorded picture is the frame that was taken then, at its own media time. Returns how many were
/// seen by both.
#[track_caller]
fn compare(recorded: &[Recorded], seen: &BTreeMap<i64, Seen>) -> usize {
    let mut offsets: BTreeMap<u64, i64> = BTreeMap::new();
    let mut compared = 0;
    for picture in recorded {
        let us = picture.capture_ns.div_euclid(1000);
        // The index keeps µs.
        let Some((_, seen)) = seen.range(us - 1..=us + 1).next() else {
            continue;
        };
        assert_eq!(picture.index, seen.index, "{picture:?}");
        let offset = offsets
            .entry(picture.discontinuity)
            .or_insert(picture.time - seen.pts);
        assert_eq!(picture.time - seen.pts, *offset, "{picture:?} {seen:?}");
        compared += 1;
    }
    compared
}

fn tree(daemon: &Daemon) -> Tree {
    Tree::new(&daemon.runtime_dir().with_file_name("data"))
}

#[track_caller]
fn wait_for_segments(daemon: &Daemon, camera: &str, count: u64) {
    wait_for(
        &format!("{count} segments of {camera}"),
        PATIENCE * 2,
        || {
            let status = daemon.camera(camera);
            match status["recording"]["segments"].as_u64() {
                Some(segments) if segments >= count => Ok(()),
                _ => Err(status["recording"].clone()),
            }
        },
    );
}

/// Reads what is there once the daemon has ended: everything is on the disk then.
#[track_caller]
fn stop(mut daemon: Daemon, read: impl FnOnce(&Tree)) {
    let copy = tempfile::tempdir().expect("a folder");
    // The daemon's folder goes with it, so it is started once more and left with its files.
    let pid = daemon.camera("x")["recording"]["pid"].as_u64();
    assert!(pid.is_some(), "it records");
    drop(copy);
    daemon.restart(Signal::SIGTERM);
    read(&tree(&daemon));
}

#[test]
fn mjpeg_becomes_a_ladder_with_aligned_segments_and_exact_times() {
    let farm = Farm::start(&[Camera::new("x", "mjpeg-720p")]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"off\"\n[[camera]]\nname = \"x\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"encode\"\nsegment = \"1s\"\n\
         renditions = [{{ height = 720, bitrate = \"2M\" }}, {{ height = 360, bitrate = \"600k\" }}]\n",
        farm.url("x")
    ));
    let watcher = Watcher::start(&daemon, "x");
    wait_for_segments(&daemon, "x", 8);
    let status = daemon.camera("x");
    assert_eq!(status["recording"]["state"], "recording", "{status}");
    assert_eq!(status["recording"]["mode"], "encode");
    let seen = watcher.seen();
    stop(daemon, |tree| {
        let tall = read(&tree.rendition("x", "720p"));
        let low = read(&tree.rendition("x", "360p"));
        assert!(tall.iter().all(|picture| picture.size == (1280, 720)));
        assert!(low.iter().all(|picture| picture.size == (640, 360)));
        for recorded in [&tall, &low] {
            assert!(compare(recorded, &seen) > 20, "{} seen", seen.len());
        }
        // The same pictures begin the same segments.
        let starts = |recorded: &[Recorded]| -> Vec<(u64, i64, u16)> {
            (recorded.iter())
                .filter_map(|p| Some((p.segment?, p.capture_ns, p.index)))
                .collect()
        };
        let (tall_starts, low_starts) = (starts(&tall), starts(&low));
        assert!(tall_starts.len() >= 4);
        let both = tall_starts.len().min(low_starts.len());
        assert_eq!(tall_starts[..both], low_starts[..both]);
    });
}

#[test]
fn h265_with_b_pictures_is_recorded_in_the_order_of_showing() {
    let farm = Farm::start(&[Camera::new("x", "h265-b")]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"off\"\n[[camera]]\nname = \"x\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"encode\"\nsegment = \"1s\"\n",
        farm.url("x")
    ));
    let watcher = Watcher::start(&daemon, "x");
    wait_for_segments(&daemon, "x", 4);
    let seen = watcher.seen();
    stop(daemon, |tree| {
        // Not enlarged: as tall as the camera's pictures.
        let recorded = read(&tree.rendition("x", "720p"));
        assert!(recorded.iter().all(|picture| picture.size == (640, 360)));
        assert!(compare(&recorded, &seen) > 30, "{} seen", seen.len());
        assert!(recorded.windows(2).all(|pair| {
            pair[0].discontinuity != pair[1].discontinuity || pair[0].time < pair[1].time
        }));
    });
}

#[test]
fn another_size_of_pictures_begins_a_new_init_segment() {
    let farm = Farm::start(&[Camera::new("x", "h264-resize")]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"off\"\n[[camera]]\nname = \"x\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"encode\"\nsegment = \"1s\"\n\
         renditions = [{{ height = 1080, bitrate = \"3M\" }}]\n",
        farm.url("x")
    ));
    let watcher = Watcher::start(&daemon, "x");
    let both = |tree: &Tree| -> (bool, Vec<(u32, u32)>) {
        let recorded = read(&tree.rendition("x", "1080p"));
        let mut sizes: Vec<(u32, u32)> = recorded.iter().map(|picture| picture.size).collect();
        sizes.dedup();
        (
            sizes.contains(&(1280, 720)) && sizes.contains(&(640, 360)),
            sizes,
        )
    };
    // The clip is six seconds long, and changes its size twice.
    wait_for_segments(&daemon, "x", 9);
    let seen = watcher.seen();
    stop(daemon, |tree| {
        let (found, sizes) = both(tree);
        assert!(found, "{sizes:?}");
        let recorded = read(&tree.rendition("x", "1080p"));
        assert!(compare(&recorded, &seen) > 30);
        for pair in recorded.windows(2) {
            let breaks = pair[0].discontinuity != pair[1].discontinuity;
            assert!(breaks || pair[0].size == pair[1].size, "{pair:?}");
        }
    });
}

#[test]
fn an_encoder_that_is_stopped_loses_frames_and_holds_up_nobody() {
    let farm = Farm::start(&[Camera::new("x", "h264-360p")]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"off\"\n[[camera]]\nname = \"x\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"encode\"\nsegment = \"1s\"\n",
        farm.url("x")
    ));
    wait_for_segments(&daemon, "x", 2);
    let recorder = daemon.camera("x")["recording"]["pid"]
        .as_u64()
        .expect("a pid");
    let recorder = u32::try_from(recorder).expect("a pid");
    assert!(process::kill(recorder, Signal::SIGSTOP));
    let watcher = Watcher::start(&daemon, "x");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(process::kill(recorder, Signal::SIGCONT));
    let meanwhile = watcher.seen();
    assert!(meanwhile.len() > 10, "{}", meanwhile.len());
    let watcher = Watcher::start(&daemon, "x");
    wait_for("missed frames to be counted", PATIENCE, || {
        let status = daemon.camera("x");
        match status["recording"]["units_missed"].as_u64() {
            Some(missed) if missed > 10 => Ok(()),
            _ => Err(status["recording"].clone()),
        }
    });
    let segments = daemon.camera("x")["recording"]["segments"]
        .as_u64()
        .expect("a number");
    wait_for_segments(&daemon, "x", segments + 2);
    let seen = watcher.seen();
    stop(daemon, |tree| {
        let recorded = read(&tree.rendition("x", "720p"));
        assert!(compare(&recorded, &seen) > 10);
    });
}
