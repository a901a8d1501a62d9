//! Views with real cameras: other shapes of the frames, by pixels; made once for everybody, only while
//! somebody looks, and by no means when nobody does.
#![deny(unsafe_code)]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camring_ring::{
    AttachError, AttachOptions, Client, ColorRange, Frame, FrameDescriptor, FrameFlags,
    PixelFormat, RingChange, Subscription,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};

/// One camera, and its views as lines of `name, width, height, format, further keys`.
fn site(farm: &Farm, camera: &str, views: &[(&str, u32, u32, &str, &str)]) -> String {
    let mut text = format!(
        "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\n[[camera]]\nname = \"{camera}\"\n\
         url = \"{}\"\n",
        farm.url(camera)
    );
    for (name, width, height, format, keys) in views {
        text += &format!(
            "[[camera.view]]\nname = \"{name}\"\nwidth = {width}\nheight = {height}\n\
             format = \"{format}\"\n{keys}\n"
        );
    }
    text
}

#[track_caller]
fn attach(daemon: &Daemon, name: &str) -> Subscription {
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let options = AttachOptions {
        timeout: PATIENCE,
        include_corrupt: true,
        ..AttachOptions::default()
    };
    let attached = client.attach(name, &options);
    attached.unwrap_or_else(|error| panic!("{name}: {error}\n{}", daemon.log()))
}

#[track_caller]
fn next(frames: &mut Subscription) -> Frame {
    let until = Instant::now() + PATIENCE;
    loop {
        match frames.next_timeout(Duration::from_millis(500)) {
            Ok(Some(frame)) => return frame,
            Ok(None) => assert!(Instant::now() < until, "{}: no frame", frames.name()),
            Err(error) => panic!("{}: {error}", frames.name()),
        }
    }
}

/// The status of one view of a camera.
#[track_caller]
fn view(daemon: &Daemon, camera: &str, name: &str) -> Value {
    let camera = daemon.camera(camera);
    let mut views = camera["views"].as_array().expect("views").iter();
    let view = views.find(|view| view["name"] == name);
    view.unwrap_or_else(|| panic!("no {name} in {camera}"))
        .clone()
}

/// Pixels without padding.
fn packed(frame: &Frame) -> Vec<u8> {
    let d = frame.descriptor();
    let mut bytes = Vec::new();
    for plane in 0..frame.planes() {
        let (row, rows) = d
            .pixel_format
            .plane_size(plane, d.width, d.height)
            .expect("a plane");
        let stride = frame.plane_stride(plane) as usize;
        for line in 0..rows as usize {
            let start = line * stride;
            bytes.extend_from_slice(&frame.plane(plane)[start..start + row as usize]);
        }
    }
    bytes
}

/// What the `ffmpeg` program makes of an I420 picture of limited range.
#[track_caller]
fn reference(i420: &[u8], size: (u32, u32), filter: &str, format: &str) -> Vec<u8> {
    let size = format!("{}x{}", size.0, size.1);
    let filter = format!("{filter},format={format}");
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
        .args(["-s", &size, "-i", "-", "-vf", &filter])
        .args(["-frames:v", "1", "-f", "rawvideo", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let i420 = i420.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&i420));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success(), "ffmpeg {filter}");
    output.stdout
}

/// Mean and greatest difference of samples.
fn difference(a: &[u8], b: &[u8]) -> (f64, u8) {
    assert_eq!(a.len(), b.len(), "other sizes");
    let each = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    (sum as f64 / a.len() as f64, each().max().unwrap_or(0))
}

#[test]
fn every_format_and_fit_shows_the_pictures_of_the_camera() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let views = [
        ("a", 160, 120, "i420", "fit = \"stretch\""),
        ("b", 160, 160, "nv12", "fit = \"letterbox\""),
        ("c", 128, 160, "gray", "fit = \"letterbox\""),
        ("d", 200, 80, "rgb24", "fit = \"letterbox\""),
        ("e", 161, 91, "bgr24", "fit = \"stretch\""),
        ("f", 320, 180, "rgb24", "fit = \"letterbox\""),
        ("g", 480, 400, "i420", "fit = \"letterbox\""),
        ("h", 320, 180, "nv12", ""),
    ];
    // What ffmpeg is to do. In a view of 200 × 80 a picture of 16:9 is 142 wide, at 28 (even).
    let filters = [
        "scale=160:120:flags=area",
        "scale=160:90:flags=area,pad=160:160:0:34:black",
        "scale=128:72:flags=area,pad=128:160:0:44:black",
        "scale=142:80:flags=area,pad=200:80:28:0:black",
        "scale=161:91:flags=area",
        "null",
        "scale=480:270:flags=area,pad=480:400:0:64:black",
        "null",
    ];
    let daemon = Daemon::start(&site(&farm, "door", &views));
    let mut main = attach(&daemon, "door");
    let mut attached: Vec<_> = views
        .iter()
        .map(|(name, ..)| attach(&daemon, &format!("door:{name}")))
        .collect();
    let mut frames: BTreeMap<i64, (FrameDescriptor, Vec<u8>)> = BTreeMap::new();
    for (subscription, ((name, width, height, format, _), filter)) in
        attached.iter_mut().zip(views.iter().zip(filters))
    {
        // A picture that has been seen in both rings: here some are left out, for time's sake.
        let (d, seen) = wait_for("a picture in both rings", PATIENCE, || {
            while let Ok(Some(frame)) = main.next() {
                frames.insert(
                    frame.descriptor().pts,
                    (*frame.descriptor(), packed(&frame)),
                );
            }
            let frame = next(subscription);
            let d = *frame.descriptor();
            match frames.contains_key(&d.pts) {
                true => Ok((d, packed(&frame))),
                false => Err(d.pts),
            }
        });
        let (of_main, i420) = &frames[&d.pts];
        assert_eq!((d.width, d.height), (*width, *height), "{name}");
        assert_eq!(
            (d.capture_time_ns, d.arrival_ns, d.access_unit),
            (
                of_main.capture_time_ns,
                of_main.arrival_ns,
                of_main.access_unit
            ),
            "{name}"
        );
        assert!(d.publish_ns > of_main.publish_ns, "{name}: after the frame");
        for flag in [
            FrameFlags::KEY_FRAME,
            FrameFlags::CORRUPT,
            FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT,
        ] {
            assert_eq!(
                d.flags.contains(flag),
                of_main.flags.contains(flag),
                "{name}"
            );
        }
        let rgb = matches!(d.pixel_format, PixelFormat::Rgb24 | PixelFormat::Bgr24);
        if rgb {
            assert_eq!((d.color_range, d.matrix), (ColorRange::Full, 0), "{name}");
        } else {
            assert_ne!(d.color_range, ColorRange::Full, "{name}");
            assert_eq!(d.matrix, of_main.matrix, "{name}");
        }
        let size = (of_main.width, of_main.height);
        let expected = match *format {
            // Luma as it is: to ffmpeg's gray it would be stretched to full range.
            "gray" => {
                let luma = (d.width * d.height) as usize;
                reference(i420, size, filter, "yuv420p")[..luma].to_vec()
            }
            "i420" => reference(i420, size, filter, "yuv420p"),
            other => reference(i420, size, filter, other),
        };
        let (mean, most) = difference(&seen, &expected);
        // The same scaler: the same samples. RGB is put together in two steps there.
        let (least, greatest) = if rgb { (1.5, 16) } else { (0.0, 0) };
        assert!(
            mean <= least && most <= greatest,
            "{name}: differs by {mean:.2} on average, {most} at most"
        );
    }
}

#[test]
fn a_view_of_the_same_size_has_every_picture_of_the_camera_whole() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let config = site(&farm, "door", &[("same", 320, 180, "nv12", "")]);
    let daemon = Daemon::start(&config);
    let mut viewer = Viewer::attach_as(&daemon, &farm, "door:same", "door");
    viewer.watch(60);
    assert_eq!(viewer.copied, 0, "made in place");
    // The colon, the option, and not both.
    let tail = |arguments: &[&str]| {
        let output = daemon.camring(arguments.iter().copied()).output();
        let output = output.expect("camring starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for arguments in [
        ["tail", "door", "--view", "same", "-n", "2", "--json"].as_slice(),
        ["tail", "door:same", "-n", "2", "--json"].as_slice(),
    ] {
        let (code, lines, errors) = tail(arguments);
        assert_eq!(code, Some(0), "{errors}");
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(line["camera"], "door:same", "{line}");
            assert_eq!(line["pixel_format"], "nv12", "{line}");
        }
    }
    let (code, _, errors) = tail(&["tail", "door:same", "--view", "same"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("leave out --view same"), "{errors}");
    let (code, jpeg, errors) = {
        let arguments = ["snapshot", "door", "--view", "same", "-o", "-"];
        let output = daemon.camring(arguments).output().expect("camring starts");
        (output.status.code(), output.stdout, output.stderr)
    };
    let errors = String::from_utf8_lossy(&errors);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(jpeg.get(..2), Some([0xff, 0xd8].as_slice()), "{errors}");
}

#[test]
fn pictures_come_at_the_rate_asked_for_by_their_own_times() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let views = [
        ("five", 160, 90, "gray", "fps = 5"),
        ("some", 160, 90, "gray", "fps = 7.5"),
    ];
    let daemon = Daemon::start(&site(&farm, "door", &views));
    let mut main = attach(&daemon, "door");
    for (name, interval) in [("door:five", 18_000), ("door:some", 12_000)] {
        let mut frames = attach(&daemon, name);
        let mut taken: Vec<FrameDescriptor> = Vec::new();
        let mut all: Vec<i64> = Vec::new();
        let mut whole = true;
        while taken.len() < 25 {
            let d = *next(&mut frames).descriptor();
            if let Some(last) = taken.last() {
                assert_eq!(d.sequence, last.sequence + 1, "no number is left out");
            }
            taken.push(d);
            while let Ok(Some(frame)) = main.next() {
                whole &= all.is_empty() || frame.missed() == 0;
                all.push(frame.descriptor().pts);
            }
        }
        let (first, last) = (taken[0].pts, taken[24].pts);
        // The first may be a picture from before; from the second on there is a grid.
        for pair in taken.windows(2) {
            let step = pair[1].pts - pair[0].pts;
            assert!(step >= interval - 3_600, "{name}: {step} after {pair:?}");
            // The first one of the camera that was due, unless this test was too slow to see all.
            let due = all.iter().find(|pts| **pts >= pair[0].pts + interval);
            if whole && let Some(due) = due {
                assert!(pair[1].pts <= *due, "{name}: {due} was due after {pair:?}");
            }
        }
        // Without drift: over all of them, one interval for each.
        assert!(
            last - first >= 24 * interval - 1_800,
            "{name}: {first} to {last}"
        );
    }
}

#[test]
fn nothing_is_converted_for_nobody_and_once_for_many() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let views = [
        ("detect", 160, 90, "rgb24", ""),
        ("never", 1600, 900, "rgb24", ""),
    ];
    let daemon = Daemon::start(&site(&farm, "door", &views));
    let mut main = attach(&daemon, "door");
    for _ in 0..10 {
        next(&mut main);
    }
    let before = view(&daemon, "door", "detect");
    assert_eq!(
        (&before["conversions"], &before["ring_bytes"]),
        (&0.into(), &0.into()),
        "{before}"
    );

    // Once for many.
    let mut many: Vec<_> = (0..3).map(|_| attach(&daemon, "door:detect")).collect();
    let mut last = 0;
    for frames in &mut many {
        for _ in 0..10 {
            last = next(frames).sequence().max(last);
        }
    }
    // Counted one after the other: a look in between finds a conversion that is not published yet.
    let during = wait_for("as many frames as conversions", PATIENCE, || {
        let during = view(&daemon, "door", "detect");
        match during["conversions"] == during["frames_published"] {
            true => Ok(during),
            false => Err(during),
        }
    });
    assert_eq!(during["subscribers"], 3, "{during}");
    assert!(during["ring_bytes"].as_u64() > Some(0), "{during}");
    // One number for each conversion, however many look.
    assert!(during["conversions"].as_u64() >= Some(last), "{during}");

    // Not for nobody.
    drop(many);
    let until = Instant::now() + PATIENCE;
    let stopped = loop {
        let one = view(&daemon, "door", "detect");
        for _ in 0..25 {
            next(&mut main);
        }
        let other = view(&daemon, "door", "detect");
        if one["conversions"] == other["conversions"] {
            break other;
        }
        assert!(Instant::now() < until, "{one} then {other}");
    };
    assert_eq!(stopped["subscribers"], 0, "{stopped}");

    // Who comes back finds the newest picture at once, and the numbers going on. The camera sends no
    // other meanwhile.
    farm.pause("door");
    let mut newest = next(&mut main).descriptor().pts;
    while let Some(frame) = main.next_timeout(Duration::from_secs(1)).expect("a ring") {
        newest = frame.descriptor().pts;
    }
    let frame = attach(&daemon, "door:detect").latest().expect("a ring");
    let frame = frame.expect("a picture at once");
    assert_eq!(frame.descriptor().pts, newest);
    assert_eq!(
        Some(frame.sequence()),
        stopped["conversions"].as_u64().map(|n| n + 1)
    );
    let flags = frame.descriptor().flags;
    assert!(flags.contains(FrameFlags::DISCONTINUITY), "{flags:?}");
    let never = view(&daemon, "door", "never");
    assert_eq!(
        (&never["conversions"], &never["ring_bytes"]),
        (&0.into(), &0.into()),
        "{never}"
    );
}

#[test]
fn readers_killed_cost_a_view_no_subscriber_and_no_number() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").unshared()]);
    let views = [
        ("same", 320, 180, "i420", ""),
        ("small", 64, 48, "gray", "fps = 5"),
    ];
    let daemon = Daemon::start(&site(&farm, "door", &views));
    let mut same = Viewer::attach_as(&daemon, &farm, "door:same", "door").allowing_gaps();
    let mut small = attach(&daemon, "door:small");
    let mut last = *next(&mut small).descriptor();
    same.next();
    for _ in 0..5 {
        process::kill(daemon.reader_pid("door"), Signal::SIGKILL);
        same.watch_until_restarted();
        loop {
            let frame = next(&mut small);
            let d = *frame.descriptor();
            assert!(d.sequence > last.sequence, "{d:?} after {last:?}");
            let restarted = d.generation > last.generation;
            last = d;
            if restarted {
                assert_eq!(frame.change(), Some(RingChange::WriterRestarted));
                break;
            }
        }
    }
    assert_eq!(view(&daemon, "door", "small")["subscribers"], 1);
}

#[test]
fn a_view_keeps_its_size_when_the_camera_changes_its_own() {
    let farm = Farm::start(&[Camera::new("resize", "h264-resize")]);
    let views = [
        ("same", 640, 360, "i420", ""),
        ("box", 320, 320, "bgr24", "fit = \"letterbox\""),
    ];
    let daemon = Daemon::start(&site(&farm, "resize", &views));
    let mut main = attach(&daemon, "resize");
    let mut same = attach(&daemon, "resize:same");
    let mut boxed = attach(&daemon, "resize:box");
    let (mut sizes, mut changes) = (Vec::new(), 0);
    let until = Instant::now() + PATIENCE;
    while changes < 3 {
        assert!(Instant::now() < until, "{sizes:?}");
        let size = {
            let frame = next(&mut main);
            (frame.descriptor().width, frame.descriptor().height)
        };
        changes += u32::from(sizes.last().is_some_and(|last| *last != size));
        sizes.push(size);
        for (frames, expected) in [(&mut same, (640, 360)), (&mut boxed, (320, 320))] {
            while let Ok(Some(frame)) = frames.next() {
                let d = frame.descriptor();
                assert_eq!((d.width, d.height), expected);
                assert_eq!(frame.change(), None, "the ring is the same: {d:?}");
                // Bars above and below, pictures in between, whatever the camera sends.
                if expected == (320, 320) {
                    let row =
                        |y: usize| &frame.plane(0)[y * frame.plane_stride(0) as usize..][..960];
                    assert!(row(0).iter().chain(row(69)).all(|sample| *sample == 0));
                    assert!(row(250).iter().chain(row(319)).all(|sample| *sample == 0));
                    assert!(row(160).iter().any(|sample| *sample != 0));
                }
            }
        }
    }
}

#[test]
fn a_view_alone_is_reason_enough_to_decode() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(5)]);
    let config = site(&farm, "door", &[("detect", 160, 90, "gray", "")]);
    let config = format!("[decode]\nmode = \"on-demand\"\n{config}");
    let daemon = Daemon::start(&config);
    let idle = |camera: &Value| camera["decode"] == "idle" && camera["fps_in"].as_f64() > Some(1.0);
    let status = daemon.wait_for_camera("door", "idle", idle);
    assert_eq!(status["frames_decoded"], 0, "{status}");
    let mut frames = attach(&daemon, "door:detect");
    // The newest key frame, before the attach was answered.
    let newest = frames.latest().expect("a ring");
    let first = newest.expect("a picture at once").sequence();
    // All that follow, in order, as far as this test keeps up.
    for _ in 0..10 {
        let frame = next(&mut frames);
        assert!(frame.sequence() > first);
    }
    drop(frames);
    daemon.wait_for_camera("door", "idle again", |camera| camera["decode"] == "idle");
    let before = view(&daemon, "door", "detect")["conversions"]
        .as_u64()
        .expect("a count");
    let frames = attach(&daemon, "door:detect").latest().expect("a ring");
    let frame = frames.expect("a picture");
    assert!(frame.sequence() >= before);
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let farm = Farm::start(&[
        Camera::new("door", "h264-180p"),
        Camera::new("yard", "h264-180p"),
    ]);
    let views = [
        ("detect", 160, 90, "gray", ""),
        ("wide", 160, 90, "gray", ""),
    ];
    let mut config = site(&farm, "door", &views);
    config += &format!(
        "[[camera]]\nname = \"yard\"\nurl = \"{}\"\n",
        farm.url("yard")
    );
    let daemon = Daemon::start(&config);
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions::default();
    let unknown = |error: AttachError| match error {
        AttachError::UnknownCamera { text, .. } => text,
        other => panic!("{other}"),
    };
    let text = unknown(client.attach("door:detects", &options).unwrap_err());
    assert!(
        text.contains("no view \"detects\"; there are: door:detect, door:wide"),
        "{text}"
    );
    let text = unknown(client.attach("yard:detect", &options).unwrap_err());
    assert!(text.contains("[[camera.view]]"), "{text}");
    let text = unknown(client.attach("gate:detect", &options).unwrap_err());
    assert!(
        text.contains("no camera \"gate\"; there are: door, yard"),
        "{text}"
    );
    let text = unknown(client.attach_packets("door:detect", &options).unwrap_err());
    assert!(text.contains("has no access units"), "{text}");
    // A client that was refused is none the worse.
    assert!(client.attach("door:wide", &options).is_ok());
}

#[test]
fn a_view_that_does_not_fit_into_the_memory_is_refused_with_the_numbers() {
    let farm = Farm::start(&[Camera::new("door", "h264-720p")]);
    let config = site(&farm, "door", &[("large", 640, 640, "rgb24", "")]);
    // The camera takes some 11 MiB of its 13 with pictures of 720p, the view 6: at 320 × 240 both fit.
    let ring = "[ring]\ndepth = 2\npins = 2\npackets = \"1MiB\"\n[limits]\nmemory_per_camera = \"13MiB\"\n";
    let daemon = Daemon::start(&format!("{ring}{config}"));
    let mut main = attach(&daemon, "door");
    next(&mut main);
    let client = Client::connect(&daemon.socket()).unwrap();
    let error = client
        .attach("door:large", &AttachOptions::default())
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("view \"large\"") && text.contains("memory_per_camera"),
        "{text}"
    );
    next(&mut main);
    assert_eq!(view(&daemon, "door", "large")["ring_bytes"], 0);
}
