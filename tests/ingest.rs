//! Real cameras into real rings: every codec and transport, seen by the content of the pictures.
#![deny(unsafe_code)]

mod support;

use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client, Codec, FrameFlags, PixelFormat, RingChange, UnitFlags};
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, wait_until};

/// The `[[camera]]` tables of these cameras of a farm.
fn site(farm: &Farm, cameras: &[(&str, &str)]) -> String {
    cameras
        .iter()
        .map(|(name, more)| {
            format!(
                "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n{more}\n",
                farm.url(name)
            )
        })
        .collect()
}

#[test]
fn every_codec_arrives_whole_and_in_order() {
    let farm = Farm::start(&[
        Camera::new("avc", "h264-360p"),
        Camera::new("hevc", "h265-360p"),
        Camera::new("jpeg", "mjpeg-360p"),
    ]);
    let daemon = Daemon::start(&site(&farm, &[("avc", ""), ("hevc", ""), ("jpeg", "")]));
    for (camera, codec) in [("avc", "h264"), ("hevc", "h265"), ("jpeg", "mjpeg")] {
        let mut viewer = Viewer::attach(&daemon, &farm, camera);
        // The first pictures come before there is a ring for them.
        viewer.watch(8);
        let copied_at_first = viewer.copied;
        viewer.watch(30);
        let status = daemon.wait_for_camera(camera, "figures", |c| {
            c["codec"] == codec && c["subscribers"] == 1 && c["fps_published"].as_f64() > Some(0.0)
        });
        assert_eq!(
            (&status["state"], &status["width"], &status["height"]),
            (&"streaming".into(), &640.into(), &360.into()),
            "{status}"
        );
        // Drawn straight into the ring: nothing was copied.
        assert_eq!(viewer.copied, copied_at_first, "{camera}: {status}");
        assert_eq!(status["frames_dropped"]["no_slot"], 0, "{status}");
        assert_eq!(status["restarts"], 0, "{status}");
    }
}

#[test]
fn udp_and_logins_work() {
    let farm = Farm::start(&[
        Camera::new("udp", "h264-360p"),
        Camera::new("udp-hevc", "h265-360p"),
        Camera::new("udp-jpeg", "mjpeg-360p"),
        Camera::new("digest", "h264-180p").digest("admin", "se:cret@1"),
        Camera::new("basic", "h264-180p").basic("admin", "se:cret@1"),
    ]);
    let login = "username = \"admin\"\npassword = \"${TEST_PASSWORD}\"\n";
    let udp = "transport = \"udp\"\n";
    let config = site(
        &farm,
        &[
            ("udp", udp),
            ("udp-hevc", udp),
            ("udp-jpeg", udp),
            ("digest", login),
            ("basic", login),
        ],
    );
    let daemon = Daemon::start_with(&config, |command| {
        command.env("TEST_PASSWORD", "se:cret@1");
    });
    for camera in ["udp", "udp-hevc", "udp-jpeg", "digest", "basic"] {
        Viewer::attach(&daemon, &farm, camera).watch(15);
    }
    let status = daemon.status().to_string();
    assert!(
        !status.contains("se:cret") && !daemon.log().contains("se:cret"),
        "the password shows"
    );
}

#[test]
fn pictures_sent_out_of_order_come_in_order_and_on_time() {
    let cameras = ["h264-b", "h265-b"];
    let farm = Farm::start(&cameras.map(|clip| Camera::new(clip, clip)));
    let daemon = Daemon::start(&site(&farm, &cameras.map(|clip| (clip, ""))));
    for camera in cameras {
        let mut viewer = Viewer::attach(&daemon, &farm, camera);
        // The decoder learns how much is reordered, and then knows it.
        viewer.watch(30);
        let mut before = viewer.next();
        for _ in 0..60 {
            let frame = viewer.next();
            let pictures = (frame.pts - before.pts) / 3_600;
            let even = (frame.pts - before.pts) % 3_600 == 0;
            assert!(even && pictures > 0, "{frame:?} after {before:?}");
            if !frame.flags.contains(FrameFlags::DISCONTINUITY) {
                // More than one, where this test came too late for what is in the ring.
                let frames = (frame.sequence - before.sequence).cast_signed();
                assert_eq!(pictures, frames, "{frame:?} after {before:?}");
                let step = frame.capture_time_ns - before.capture_time_ns;
                let wanted = pictures * 40_000_000;
                assert!((step - wanted).abs() <= 1, "{frame:?} after {before:?}");
            }
            before = frame;
        }
        // A recorder gets both times, in the order of decoding.
        let client = Client::connect(&daemon.socket()).unwrap();
        let mut packets = client
            .attach_packets(camera, &AttachOptions::default())
            .unwrap();
        let mut times = Vec::new();
        let mut bytes = Vec::new();
        wait_until("two groups of pictures", PATIENCE, || {
            let wait = Duration::from_millis(200);
            if let Some(unit) = packets.next_timeout(&mut bytes, wait).unwrap() {
                times.push((unit.pts, unit.dts));
            }
            times.len() >= 60
        });
        assert!(times.iter().all(|(pts, dts)| dts <= pts), "{times:?}");
        assert!(
            times.windows(2).all(|pair| pair[0].1 < pair[1].1),
            "{times:?}"
        );
        assert!(
            times.windows(2).any(|pair| pair[0].0 > pair[1].0),
            "{times:?}"
        );
        let mut shown: Vec<i64> = times.iter().map(|(pts, _)| *pts).collect();
        shown.sort_unstable();
        // At both ends some of the neighbours are not among them.
        let inner = &shown[4..shown.len() - 4];
        assert!(
            inner.windows(2).all(|pair| pair[1] - pair[0] == 3_600),
            "{shown:?}"
        );
    }
}

#[test]
fn media_time_goes_on_after_the_reader_died() {
    let farm = Farm::start(&[Camera::new("clock", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &[("clock", "")]));
    let mut viewer = Viewer::attach(&daemon, &farm, "clock").allowing_gaps();
    viewer.watch(30);
    let before = viewer.next();
    support::process::kill(
        daemon.reader_pid("clock"),
        nix::sys::signal::Signal::SIGKILL,
    );
    let after = viewer.watch_until_restarted();
    let passed = after.pts - before.pts;
    let arrived = (after.arrival_ns - before.arrival_ns) / 11_111;
    // As much later as it arrived later, give or take what the network makes of it.
    assert!(
        passed > 0 && passed.abs_diff(arrived as i64) < 90_000,
        "{passed} and {arrived} ticks: {after:?} after {before:?}"
    );
    assert!(after.flags.contains(FrameFlags::DISCONTINUITY), "{after:?}");
}

#[test]
fn frames_carry_the_cameras_clock() {
    let farm = Farm::start(&[Camera::new("clock", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &[("clock", "")]));
    let mut viewer = Viewer::attach(&daemon, &farm, "clock");
    wait_until("a frame timed by a sender report", PATIENCE, || {
        let frame = viewer.next();
        frame
            .flags
            .contains(FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT)
    });
    daemon.wait_for_camera("clock", "clock", |c| c["clock"] == "sender-report");
    let frame = viewer.next();
    let age = support::unix_ns() - frame.capture_time_ns;
    // The camera is this machine: its clock is ours, and the frame is as old as it is late.
    assert!(
        (-1_000_000_000..60_000_000_000).contains(&age),
        "{age} ns old"
    );
    // Presentation times follow the camera's rate of 25 fps exactly.
    let next = viewer.next();
    assert_eq!(
        next.pts - frame.pts,
        3600 * i64::try_from(next.sequence - frame.sequence).unwrap()
    );
}

#[test]
fn the_resolution_changes_mid_stream_without_a_restart() {
    let farm = Farm::start(&[Camera::new("resize", "h264-resize")]);
    let daemon = Daemon::start(&site(&farm, &[("resize", "")]));
    let pid = daemon.reader_pid("resize");
    let mut viewer = Viewer::attach(&daemon, &farm, "resize");
    let (mut small, mut large, mut replaced) = (0, 0, 0);
    let until = Instant::now() + PATIENCE;
    while (small < 2 || large < 2) && Instant::now() < until {
        let before = viewer.size;
        let frame = viewer.next();
        if before != Some((frame.width, frame.height)) {
            match frame.width {
                640 => small += 1,
                1280 => large += 1,
                other => panic!("{other} pixels wide"),
            }
        }
        replaced += u32::from(viewer.change == Some(RingChange::Replaced));
    }
    assert!(small >= 2 && large >= 2, "{small} small, {large} large");
    assert!(
        replaced <= 1,
        "the ring grows once, then both sizes fit: {replaced}"
    );
    assert_eq!(daemon.reader_pid("resize"), pid);
    assert_eq!(daemon.camera("resize")["restarts"], 0);
}

#[test]
fn interlaced_pictures_are_copied_not_shared_with_the_decoder() {
    let farm = Farm::start(&[Camera::new("mbaff", "h264-mbaff")]);
    let daemon = Daemon::start(&site(&farm, &[("mbaff", "")]));
    let mut viewer = Viewer::attach(&daemon, &farm, "mbaff");
    viewer.watch(20);
    assert_eq!(viewer.copied, viewer.seen);
}

#[test]
fn a_lost_packet_hides_what_was_damaged_by_it() {
    let farm = Farm::start(&[Camera::new("lossy", "h264-360p").lossy()]);
    let daemon = Daemon::start(&site(&farm, &[("lossy", "transport = \"udp\"\n")]));
    let mut viewer = Viewer::attach(&daemon, &farm, "lossy");
    viewer.watch(5);
    farm.lose("lossy", 0.02);
    daemon.wait_for_camera("lossy", "losses", |c| {
        c["rtp_packets_lost"].as_u64() > Some(3)
    });
    // What is shown is whole, in order; what was damaged is missing. The viewer panics otherwise.
    viewer.allow_gaps();
    viewer.watch(10);
    farm.lose("lossy", 0.0);
    viewer.watch(30);
}

#[test]
fn max_fps_and_keyframes_thin_the_frames_out() {
    let farm = Farm::start(&[
        Camera::new("slow", "h264-360p"),
        Camera::new("keys", "h264-360p"),
    ]);
    let config = site(
        &farm,
        &[
            ("slow", "[camera.decode]\nmax_fps = 5\n"),
            ("keys", "[camera.decode]\nmode = \"keyframes\"\n"),
        ],
    );
    let daemon = Daemon::start(&config);
    let mut slow = Viewer::attach(&daemon, &farm, "slow").allowing_gaps();
    slow.next();
    let first = slow.next();
    let last = (0..10).map(|_| slow.next()).last().unwrap();
    let frames = i64::try_from(last.sequence - first.sequence).unwrap();
    assert_eq!((last.pts - first.pts) / frames, 90_000 / 5);
    let mut keys = Viewer::attach(&daemon, &farm, "keys").allowing_gaps();
    for _ in 0..3 {
        assert!(keys.next().flags.contains(FrameFlags::KEY_FRAME));
    }
    let dropped =
        |camera: &str, reason: &str| daemon.camera(camera)["frames_dropped"][reason].as_u64();
    assert!(dropped("slow", "max_fps") > Some(10));
    assert!(dropped("keys", "not_key") > Some(10));
}

#[test]
fn streams_of_one_camera_have_a_name_each() {
    let farm = Farm::start(&[
        Camera::new("main", "h264-360p"),
        Camera::new("sub", "h264-180p"),
    ]);
    let config = format!(
        "[[camera]]\nname = \"yard\"\n[[camera.stream]]\nname = \"main\"\nurl = \"{}\"\n[[camera.stream]]\nname = \"sub\"\nurl = \"{}\"\n",
        farm.url("main"),
        farm.url("sub")
    );
    let daemon = Daemon::start(&config);
    assert_ne!(
        daemon.reader_pid("yard/main"),
        daemon.reader_pid("yard/sub")
    );
    for (name, of, width) in [
        ("yard", "main", 640),
        ("yard/main", "main", 640),
        ("yard/sub", "sub", 320),
    ] {
        let mut viewer = Viewer::attach_as(&daemon, &farm, name, of);
        assert_eq!(viewer.next().width, width);
    }
}

#[test]
fn one_wait_covers_many_cameras_and_a_descriptor_can_be_polled() {
    let farm = Farm::start(&[Camera::new("a", "h264-180p"), Camera::new("b", "h264-360p")]);
    let daemon = Daemon::start(&site(&farm, &[("a", ""), ("b", "")]));
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions {
        pollable: true,
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut cameras = [
        client.attach("a", &options).unwrap(),
        client.attach("b", &options).unwrap(),
    ];
    let mut seen = [0; 2];
    let until = Instant::now() + PATIENCE;
    while seen.iter().any(|n| *n < 10) && Instant::now() < until {
        client.wait(Some(Duration::from_secs(1))).unwrap();
        for (camera, seen) in cameras.iter_mut().zip(&mut seen) {
            while camera.next().unwrap().is_some() {
                *seen += 1;
            }
        }
    }
    assert!(seen.iter().all(|n| *n >= 10), "{seen:?}");
    for camera in &mut cameras {
        // A wake-up may be for a frame that was taken meanwhile.
        wait_until("a frame after a wake-up", PATIENCE, || {
            support::readable(camera.poll_fd().expect("asked for"), PATIENCE);
            camera.latest().unwrap().is_some()
        });
    }
}

#[test]
fn packets_can_be_read_beside_the_frames() {
    let farm = Farm::start(&[Camera::new("avc", "h264-180p")]);
    let daemon = Daemon::start(&site(&farm, &[("avc", "")]));
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut packets = client.attach_packets("avc", &options).unwrap();
    let mut bytes = Vec::new();
    let mut units = Vec::new();
    while units.len() < 60 {
        let unit = packets
            .next_timeout(&mut bytes, PATIENCE)
            .unwrap()
            .expect("a unit in time");
        assert_eq!(
            (unit.codec, unit.time_base_den, unit.len as usize),
            (Codec::H264, 90_000, bytes.len())
        );
        assert!(
            bytes.starts_with(&[0, 0, 0, 1]) || bytes.starts_with(&[0, 0, 1]),
            "Annex B"
        );
        units.push(unit);
    }
    assert_eq!(packets.missed(), 0);
    assert!(units.iter().any(|unit| unit.flags.contains(UnitFlags::KEY)));
    let mut next = 0;
    for pair in units.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        let step = pair[1].pts - pair[0].pts;
        assert!(step > 0 && step % 3600 == 0, "{pair:?}");
        next += usize::from(step == 3600);
    }
    // The camera leaves pictures out where this machine gives it no time.
    assert!(next > units.len() / 2, "{units:?}");
    // A frame says which unit it was decoded from.
    let mut frames = client.attach("avc", &options).unwrap();
    let frame = frames
        .next_timeout(PATIENCE)
        .unwrap()
        .expect("a frame in time");
    assert_eq!(frame.descriptor().pixel_format, PixelFormat::I420);
    let unit = packets
        .read(frame.descriptor().access_unit, &mut bytes)
        .unwrap();
    assert_eq!(unit.expect("still there").pts, frame.descriptor().pts);
}
