//! Clients end to end, against a broker and writers in this process.
#![cfg(not(loom))]

mod support;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use camring_ring::attach::server;
use camring_ring::attach::wire::{DaemonMessage, RefusalCode, RingKind};
use camring_ring::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use support::*;

const LONG: Duration = Duration::from_secs(60);

fn options() -> AttachOptions {
    AttachOptions::default()
}

fn put(writer: &LocalFrames) -> u64 {
    publish(writer.lock().unwrap().as_mut().unwrap()).unwrap()
}

fn put_with(writer: &LocalFrames, flags: FrameFlags) -> u64 {
    publish_with(writer.lock().unwrap().as_mut().unwrap(), flags).unwrap()
}

#[test]
fn frames_are_read_in_place_and_in_order() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    assert_eq!((yard.name(), yard.generation()), ("yard", 1));
    assert!(yard.next().unwrap().is_none());
    for n in 1..=3 {
        assert_eq!(put(&writer), n);
    }
    for n in 1..=3 {
        let frame = yard.next().unwrap().unwrap();
        assert_eq!(
            (frame.sequence(), frame.missed(), frame.hidden()),
            (n, 0, 0)
        );
        assert_eq!((frame.generation(), frame.change()), (1, None));
        assert_eq!(
            (frame.planes(), frame.plane_stride(0), frame.plane_stride(1)),
            (1, 64, 0)
        );
        assert_eq!(frame.plane(0), frame.data());
        assert!(frame.plane(1).is_empty());
        assert!(frame.descriptor().publish_ns > 0);
        verify(&frame);
    }
    assert!(yard.next().unwrap().is_none());
}

#[test]
fn what_was_passed_over_is_counted() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    for _ in 0..10 {
        put(&writer);
    }
    // Depth 4, and one more until the next slot is taken; the order words name 4.
    let frame = yard.next().unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (7, 6));
    drop(frame);
    let frame = yard.latest().unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (10, 2));
    verify(&frame);
    assert!(yard.latest().unwrap().is_none());
    assert!(yard.next().unwrap().is_none());
    put(&writer);
    assert_eq!(yard.latest().unwrap().unwrap().missed(), 0);
}

#[test]
fn what_was_there_when_attaching_is_the_first() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    for _ in 0..3 {
        put(&writer);
    }
    let client = broker.connect();
    let mut yard = client.attach("yard", &options()).unwrap();
    let frame = yard.next().unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (3, 0));
}

#[test]
fn damaged_frames_are_hidden_and_counted() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let client = broker.connect();
    let mut yard = client.attach("yard", &options()).unwrap();
    let all = AttachOptions {
        include_corrupt: true,
        ..options()
    };
    let mut raw = client.attach("yard", &all).unwrap();
    let bad = FrameFlags::CORRUPT;

    put(&writer);
    put_with(&writer, bad);
    put_with(&writer, bad);
    put(&writer);
    assert_eq!(yard.next().unwrap().unwrap().sequence(), 1);
    let frame = yard.next().unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.hidden()),
        (4, 0, 2)
    );
    drop(frame);

    // The newest is damaged: the newest before it, once.
    put(&writer);
    put(&writer);
    put_with(&writer, bad);
    let frame = yard.latest().unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.hidden()),
        (6, 1, 0)
    );
    drop(frame);
    assert!(yard.latest().unwrap().is_none());
    assert!(
        !yard.wait(Some(Duration::ZERO)).unwrap(),
        "what was hidden is not new again"
    );
    put(&writer);
    let frame = yard.next().unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.hidden()),
        (8, 0, 1)
    );
    drop(frame);

    // Only damaged ones.
    put_with(&writer, bad);
    assert!(yard.next().unwrap().is_none());
    assert!(yard.latest().unwrap().is_none());
    put_with(&writer, bad);
    assert!(yard.latest().unwrap().is_none());
    put(&writer);
    let frame = yard.latest().unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.hidden()),
        (11, 0, 2)
    );

    // Hidden by one look, not counted again by the next; the rest is missed.
    put_with(&writer, bad);
    assert!(yard.next().unwrap().is_none());
    put_with(&writer, bad);
    assert!(yard.latest().unwrap().is_none());
    for _ in 0..8 {
        put(&writer);
    }
    let frame = yard.latest().unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.hidden()),
        (21, 7, 2)
    );
    drop(frame);

    let frame = raw.latest().unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (21, 20));
    put_with(&writer, bad);
    assert!(
        raw.next()
            .unwrap()
            .unwrap()
            .descriptor()
            .flags
            .contains(bad)
    );
}

#[test]
fn more_frames_than_pins_is_an_error_and_not_a_wait() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    for _ in 0..3 {
        put(&writer);
    }
    let first = yard.next().unwrap().unwrap();
    let second = yard.next().unwrap().unwrap();
    let error = yard.next().unwrap_err();
    assert!(matches!(error, RingError::PinQuota { held: 2, quota: 2 }));
    assert_eq!(
        error.to_string(),
        "2 frames are held and the quota is 2: drop a frame before taking another, or attach with \
         more pins"
    );
    drop(first);
    assert_eq!(
        yard.next().unwrap().unwrap().sequence(),
        3,
        "nothing was lost by the error"
    );
    verify(&second);
    let impossible = broker.connect().attach(
        "yard",
        &AttachOptions {
            pins: 65,
            ..options()
        },
    );
    assert_eq!(
        impossible.unwrap_err().to_string(),
        "cannot attach with pins = 65: 1 to 64 are possible"
    );
}

#[test]
fn held_frames_do_not_change() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker
        .connect()
        .attach(
            "yard",
            &AttachOptions {
                pins: 8,
                ..options()
            },
        )
        .unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        put(&writer);
        held.push(yard.latest().unwrap().unwrap());
    }
    for _ in 0..500 {
        put(&writer);
    }
    for frame in &held {
        verify(frame);
    }
}

#[test]
fn a_wait_ends_with_the_next_frame() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    assert!(!yard.wait(Some(Duration::ZERO)).unwrap());
    assert!(!yard.wait(Some(Duration::from_millis(5))).unwrap());
    assert!(
        yard.next_timeout(Duration::from_millis(5))
            .unwrap()
            .is_none()
    );
    let publisher = std::thread::spawn({
        let writer = Arc::clone(&writer);
        move || {
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(1));
                put(&writer);
            }
        }
    });
    let mut seen = 0;
    while seen < 100 {
        let frame = yard.next_timeout(LONG).unwrap().expect("it is published");
        assert_eq!(frame.sequence(), seen + frame.missed() + 1);
        seen = frame.sequence();
    }
    publisher.join().unwrap();
}

#[test]
fn one_wait_covers_all_cameras_of_a_client() {
    let broker = Broker::start();
    let client = broker.connect();
    let names: Vec<String> = (0..20).map(|n| format!("camera-{n}")).collect();
    let mut cameras = Vec::new();
    for name in &names {
        let writer = broker.frames(name, SPEC);
        cameras.push((writer, client.attach(name, &options()).unwrap()));
    }
    assert!(!client.wait(Some(Duration::from_millis(1))).unwrap());
    for n in [3, 17, 0, 3] {
        let writer = Arc::clone(&cameras[n].0);
        let publisher = std::thread::spawn(move || put(&writer));
        assert!(client.wait(Some(LONG)).unwrap());
        publisher.join().unwrap();
        let news: Vec<usize> = (0..20)
            .filter(|c| cameras[*c].1.next().unwrap().is_some())
            .collect();
        assert_eq!(news, [n]);
        assert!(!client.wait(Some(Duration::ZERO)).unwrap());
    }
}

#[test]
fn every_waiting_thread_of_a_client_is_woken() {
    let broker = Broker::start();
    let client = broker.connect();
    let done = Arc::new(AtomicU32::new(0));
    let mut writers = Vec::new();
    let mut threads = Vec::new();
    for n in 0..8 {
        let name = format!("camera-{n}");
        writers.push(broker.frames(&name, SPEC));
        let mut camera = client.attach(&name, &options()).unwrap();
        let done = Arc::clone(&done);
        threads.push(std::thread::spawn(move || {
            for expected in 1..=50 {
                let frame = camera.next_timeout(LONG).unwrap().expect("it is published");
                assert_eq!(frame.sequence(), expected);
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for round in 1..=50 {
        for writer in &writers {
            put(writer);
        }
        // Each round is one wake-up per thread: one lost would stop here.
        eventually("all threads have their frame", || {
            done.load(Ordering::SeqCst) == round * 8
        });
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_pollable_subscription_becomes_readable() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let pollable = AttachOptions {
        pollable: true,
        ..options()
    };
    let mut yard = broker.connect().attach("yard", &pollable).unwrap();
    let readable = |yard: &Subscription, wait: Duration| {
        let fd = yard.poll_fd().unwrap();
        let wait = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)).unwrap() == 1
    };
    assert!(!readable(&yard, Duration::ZERO));
    for _ in 0..3 {
        put(&writer);
        assert!(readable(&yard, LONG));
        assert!(yard.next().unwrap().is_some());
        assert!(yard.next().unwrap().is_none());
        assert!(!readable(&yard, Duration::ZERO), "read to the end");
    }
    // A subscriber that never reads does not block the writer.
    for _ in 0..5000 {
        put(&writer);
    }
    assert!(readable(&yard, LONG));
    assert!(yard.latest().unwrap().is_some());
    assert!(yard.latest().unwrap().is_none());
    assert!(!readable(&yard, Duration::ZERO));
    assert!(
        broker
            .connect()
            .attach("yard", &options())
            .unwrap()
            .poll_fd()
            .is_none()
    );
}

#[test]
fn a_restarted_writer_is_said() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    put(&writer);
    let held = yard.next().unwrap().unwrap();
    put(&writer);
    broker.restart("yard", &writer);
    assert_eq!(yard.generation(), 2);
    put(&writer);
    let old = yard.next().unwrap().unwrap();
    assert_eq!(
        (old.sequence(), old.generation(), old.change()),
        (2, 1, None)
    );
    drop(old);
    let new = yard.next().unwrap().unwrap();
    assert_eq!((new.sequence(), new.generation(), new.missed()), (3, 2, 0));
    assert_eq!(new.change(), Some(RingChange::WriterRestarted));
    for _ in 0..100 {
        put(&writer);
    }
    verify(&held);
    verify(&new);
    drop(new);
    assert_eq!(yard.latest().unwrap().unwrap().change(), None, "said once");
}

#[test]
fn a_replaced_ring_is_followed() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    let first_id = yard.id();
    put(&writer);
    put(&writer);
    let held = yard.next().unwrap().unwrap();
    let spec = FrameRingSpec {
        ring_id: 9,
        slot_bytes: 20_000,
        first_sequence: 3,
        ..SPEC
    };
    let mut old = writer.lock().unwrap().take().unwrap();
    broker.state().pending.push("yard".to_owned());
    old.close(CloseReason::Replaced);
    // What was published before is still given out, then nothing until the successor is there.
    assert_eq!(yard.next().unwrap().unwrap().sequence(), 2);
    assert!(yard.next().unwrap().is_none());
    assert!(
        !yard.wait(Some(Duration::ZERO)).unwrap(),
        "asking again at once would be a spin"
    );
    let writer = broker.frames("yard", spec);
    broker.state().pending.clear();
    put(&writer);
    let frame = yard.next_timeout(LONG).unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (3, 0));
    assert_eq!(frame.change(), Some(RingChange::Replaced));
    assert!(frame.data().len() > 8192);
    verify(&frame);
    verify(&held);
    drop(frame);
    put(&writer);
    assert_eq!(yard.next_timeout(LONG).unwrap().unwrap().change(), None);
    assert_ne!(yard.id(), first_id);
}

#[test]
fn a_successor_that_counts_anew_is_followed() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let client = broker.connect();
    let mut yard = client.attach("yard", &options()).unwrap();
    for _ in 0..20 {
        put(&writer);
    }
    assert_eq!(yard.latest().unwrap().unwrap().sequence(), 20);
    let mut old = writer.lock().unwrap().take().unwrap();
    let writer = broker.frames("yard", FrameRingSpec { ring_id: 9, ..SPEC });
    old.close(CloseReason::Replaced);
    assert!(client.wait(Some(LONG)).unwrap(), "a replaced ring is news");
    put(&writer);
    let frame = yard.next().unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.missed()), (1, 0));
    assert_eq!(frame.change(), Some(RingChange::Replaced));
}

#[test]
fn a_removed_camera_is_said() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    put(&writer);
    writer
        .lock()
        .unwrap()
        .take()
        .unwrap()
        .close(CloseReason::Removed);
    assert!(yard.wait(Some(LONG)).unwrap());
    assert_eq!(yard.next().unwrap().unwrap().sequence(), 1);
    let error = yard.next().unwrap_err();
    assert_eq!(
        error.to_string(),
        "camera \"yard\" was removed from the configuration"
    );
}

#[test]
fn a_daemon_that_is_gone_is_said_and_frames_stay() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let client = broker.connect();
    let mut yard = client.attach("yard", &options()).unwrap();
    put(&writer);
    put(&writer);
    let frame = yard.next().unwrap().unwrap();
    let waiting = std::thread::spawn({
        let client = client.clone();
        move || client.wait(None)
    });
    drop(broker);
    verify(&frame);
    assert_eq!(
        yard.next().unwrap().unwrap().sequence(),
        2,
        "what is there is given out"
    );
    assert!(matches!(yard.next(), Err(RingError::Disconnected)));
    assert!(matches!(
        yard.wait(Some(LONG)),
        Err(RingError::Disconnected)
    ));
    assert!(matches!(
        yard.next_timeout(LONG),
        Err(RingError::Disconnected)
    ));
    // It may have been woken by the frame before.
    let woken = waiting.join().unwrap();
    assert!(matches!(woken, Ok(true) | Err(AttachError::Disconnected)));
    assert!(matches!(
        client.status_json(),
        Err(AttachError::Disconnected)
    ));
    assert!(client.attach("yard", &options()).is_err());
}

#[test]
fn dropping_detaches_and_a_frame_keeps_its_attachment() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let subscribers = || writer.lock().unwrap().as_ref().unwrap().subscribers();
    let client = broker.connect();
    let mut yard = client.attach("yard", &options()).unwrap();
    let other = client.attach("yard", &options()).unwrap();
    assert_eq!(subscribers(), 2);
    drop(other);
    broker.until("one is detached", |b| b.attachments() == 1);
    put(&writer);
    let frame = yard.next().unwrap().unwrap();
    drop(yard);
    drop(client);
    for _ in 0..100 {
        put(&writer);
    }
    verify(&frame);
    assert_eq!(
        (broker.clients(), broker.attachments()),
        (1, 1),
        "the frame needs both"
    );
    drop(frame);
    broker.until("the connection is closed", |b| {
        b.clients() == 0 && b.attachments() == 0
    });
    assert_eq!(subscribers(), 0);
}

#[test]
fn unknown_cameras_and_exhausted_pins_are_refused_with_words() {
    let broker = Broker::start();
    let _writer = broker.frames("yard", FrameRingSpec { slots: 10, ..SPEC });
    let client = broker.connect();
    let error = client.attach("gate", &options()).unwrap_err();
    assert!(matches!(&error, AttachError::UnknownCamera { name, .. } if name == "gate"));
    assert_eq!(error.to_string(), "no camera \"gate\"; there are: yard");
    let _held = client
        .attach(
            "yard",
            &AttachOptions {
                pins: 4,
                ..options()
            },
        )
        .unwrap();
    let error = client.attach("yard", &options()).unwrap_err();
    assert!(matches!(
        &error,
        AttachError::Refused {
            code: RefusalCode::PinsExhausted,
            ..
        }
    ));
    assert_eq!(error.to_string(), "2 pins asked for, 1 of 5 left");
    for name in ["", &"x".repeat(193)] {
        let error = client.attach(name, &options()).unwrap_err();
        assert!(
            matches!(
                error,
                AttachError::Options {
                    field: "name length",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn attaching_waits_for_the_ring_to_exist() {
    let broker = Broker::start();
    broker.state().pending.push("yard".to_owned());
    let client = broker.connect();
    let soon = AttachOptions {
        timeout: Duration::from_millis(150),
        ..options()
    };
    let error = client.attach("yard", &soon).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("camera \"yard\" has no ring after 0."),
        "{error}"
    );
    assert!(error.to_string().ends_with("no picture yet"), "{error}");
    let patient = AttachOptions {
        timeout: LONG,
        ..options()
    };
    let attaching = std::thread::spawn(move || client.attach("yard", &patient).map(drop));
    std::thread::sleep(Duration::from_millis(20));
    let _writer = broker.frames("yard", SPEC);
    broker.state().pending.clear();
    attaching.join().unwrap().unwrap();
}

#[test]
fn threads_share_a_client() {
    let broker = Broker::start();
    let writer = broker.frames("yard", FrameRingSpec { slots: 200, ..SPEC });
    let client = broker.connect();
    put(&writer);
    let ids: BTreeSet<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    for _ in 0..20 {
                        let mut yard = client.attach("yard", &options()).unwrap();
                        verify(&yard.next().unwrap().unwrap());
                        ids.push(yard.id());
                    }
                    ids
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), 160);
    broker.until("all are detached", |b| b.attachments() == 0);
}

#[test]
fn the_status_is_passed_on() {
    let broker = Broker::start();
    broker.state().status = format!("{{\"cameras\": [\"{}\"]}}", "ü".repeat(50_000));
    let status = broker.connect().status_json().unwrap();
    assert_eq!(status, broker.state().status);
}

#[test]
fn a_client_of_the_same_user_is_warned() {
    let broker = Broker::start();
    let client = broker.connect();
    assert!(!client.read_only_enforced());
    assert!(
        client
            .read_only_warning()
            .unwrap()
            .contains("run it as a user of its own")
    );
}

#[test]
fn access_units_are_followed_across_rings() {
    let broker = Broker::start();
    let writer = broker.packets("yard", PACKETS);
    let client = broker.connect();
    let mut yard = client.attach_packets("yard", &options()).unwrap();
    let unit = |flags| UnitDescriptor {
        sequence: 0,
        len: 0,
        codec: Codec::H265,
        flags,
        pts: 1,
        dts: 1,
        time_base_den: 90_000,
        capture_time_ns: 0,
        arrival_ns: 0,
        width: 0,
        height: 0,
        generation: 0,
    };
    let append = |writer: &LocalPackets, flags, bytes: &[u8]| {
        writer
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .append(&unit(flags), bytes)
            .unwrap()
    };
    let mut bytes = Vec::new();
    assert!(yard.next(&mut bytes).unwrap().is_none());
    assert!(
        yard.next_timeout(&mut bytes, Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    let publisher = std::thread::spawn({
        let writer = Arc::clone(&writer);
        move || {
            writer
                .lock()
                .unwrap()
                .as_mut()
                .unwrap()
                .append(&unit(UnitFlags::KEY), b"key")
                .unwrap()
        }
    });
    let first = yard.next_timeout(&mut bytes, LONG).unwrap().unwrap();
    publisher.join().unwrap();
    assert_eq!(
        (first.sequence, first.flags, &bytes[..]),
        (1, UnitFlags::KEY, &b"key"[..])
    );
    append(&writer, UnitFlags::NONE, b"second");
    assert!(client.wait(Some(LONG)).unwrap());
    assert_eq!(
        yard.from_newest_key(&mut bytes).unwrap().unwrap().sequence,
        1
    );
    assert_eq!(yard.next(&mut bytes).unwrap().unwrap().sequence, 2);
    assert_eq!(yard.read(1, &mut bytes).unwrap().unwrap().len, 3);
    assert!(!client.wait(Some(Duration::ZERO)).unwrap());

    append(&writer, UnitFlags::NONE, b"third");
    writer
        .lock()
        .unwrap()
        .take()
        .unwrap()
        .close(CloseReason::Replaced);
    broker.forget("yard", RingKind::Packets);
    let writer = broker.packets(
        "yard",
        PacketRingSpec {
            ring_id: 77,
            ..PACKETS
        },
    );
    append(&writer, UnitFlags::KEY, b"anew");
    assert_eq!(yard.next(&mut bytes).unwrap().unwrap().sequence, 3);
    let anew = yard.next_timeout(&mut bytes, LONG).unwrap().unwrap();
    assert_eq!(anew.flags, UnitFlags::KEY | UnitFlags::DISCONTINUITY);
    assert_eq!((anew.sequence, &bytes[..]), (1, &b"anew"[..]));
    append(&writer, UnitFlags::NONE, b"x");
    assert_eq!(
        yard.next(&mut bytes).unwrap().unwrap().flags,
        UnitFlags::NONE
    );
    writer
        .lock()
        .unwrap()
        .take()
        .unwrap()
        .close(CloseReason::Removed);
    assert!(matches!(
        yard.next(&mut bytes),
        Err(RingError::Removed { .. })
    ));
}

#[test]
fn an_absent_daemon_is_said() {
    let folder = temp_folder();
    let path = folder.join("attach.sock");
    let absent = format!(
        "no camring daemon listens at {}: is the service running? (systemctl status camring)",
        path.display()
    );
    assert_eq!(Client::connect(&path).unwrap_err().to_string(), absent);
    drop(listen(&path));
    assert_eq!(
        Client::connect(&path).unwrap_err().to_string(),
        absent,
        "a stale socket"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A daemon that answers the first packets of one client with `answers`, then hangs up.
fn scripted(answers: Vec<(Vec<u8>, Vec<std::os::fd::OwnedFd>)>) -> Result<Client, AttachError> {
    let folder = temp_folder();
    let path = folder.join("attach.sock");
    let listener = listen(&path);
    let daemon = std::thread::spawn(move || {
        rustix::event::poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
        let socket = rustix::net::accept(&listener).unwrap();
        for (packet, fds) in answers {
            rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).unwrap();
            let mut buffer = [0; 4096];
            server::recv_with_fds(&socket, &mut buffer, 0).unwrap();
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            server::send_with_fds(&socket, &packet, &fds).unwrap();
        }
    });
    let client = Client::connect(&path);
    daemon.join().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    client
}

#[test]
fn versions_that_do_not_fit_are_said() {
    let refused = DaemonMessage::Refused {
        request: 0,
        code: RefusalCode::Version,
        text: "this is camring 9.0.0, attach protocol 9".to_owned(),
    };
    assert_eq!(
        scripted(vec![(refused.encode(), vec![])])
            .unwrap_err()
            .to_string(),
        "this program speaks version 1 of the attach protocol, but the daemon says: this is \
         camring 9.0.0, attach protocol 9"
    );
    let bell: std::os::fd::OwnedFd = BellPage::create().unwrap().into();
    let welcome = DaemonMessage::Welcome { version: 2, uid: 0 };
    assert_eq!(
        scripted(vec![(welcome.encode(), vec![bell])])
            .unwrap_err()
            .to_string(),
        "this program speaks version 1 of the attach protocol, but the daemon says: it speaks \
         version 2: install the same version on both sides"
    );
}

#[test]
fn a_daemon_that_breaks_the_protocol_is_an_error() {
    let welcome = DaemonMessage::Welcome { version: 1, uid: 0 }.encode();
    let bell = || std::os::fd::OwnedFd::from(BellPage::create().unwrap());
    let error = |answers| scripted(answers).unwrap_err().to_string();
    let says = "the camring daemon does not keep to the attach protocol: ";
    assert_eq!(
        error(vec![]),
        "the camring daemon closed the connection: connect again"
    );
    assert_eq!(
        error(vec![(welcome.clone(), vec![])]),
        format!("{says}0 descriptors where 1 belong")
    );
    assert_eq!(
        error(vec![(welcome.clone(), vec![bell(), bell()])]),
        format!("{says}2 descriptors where 1 belong")
    );
    let many = error(vec![(welcome.clone(), (0..10).map(|_| bell()).collect())]);
    assert!(many.starts_with(says), "{many}");
    assert!(error(vec![(vec![1, 2, 3], vec![])]).starts_with(says));
    assert!(error(vec![(vec![9; 4000], vec![])]).starts_with(says));
    let not_sealed = rustix::pipe::pipe().unwrap().0;
    assert!(error(vec![(welcome.clone(), vec![not_sealed])]).contains("not sealed memory"));
    let small = std::os::fd::OwnedFd::from(SealedMemory::create("camring-test", 8).unwrap());
    assert!(error(vec![(welcome.clone(), vec![small])]).contains("bell page header"));
    let status = DaemonMessage::Status { request: 0, len: 1 }.encode();
    assert!(error(vec![(status, vec![bell()])]).contains("unexpected answer"));
    assert!(scripted(vec![(welcome, vec![bell()])]).is_ok());
}

#[test]
fn nobody_is_waited_for_without_a_bound() {
    // Accepts and never says a word.
    let folder = temp_folder();
    let path = folder.join("attach.sock");
    let listener = listen(&path);
    let start = Instant::now();
    let error = Client::connect(&path).unwrap_err();
    assert!(start.elapsed() >= Duration::from_secs(5));
    assert_eq!(
        error.to_string(),
        "the camring daemon did not answer within 5.0 s: hello"
    );
    drop(listener);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_bell_of_the_broker_ends_a_wait() {
    let memory = BellPage::create().unwrap();
    let bell = Bell::map(memory).unwrap();
    bell.ring();
    // Rings from the broker make a client look; with nothing new it goes on waiting.
    let broker = Broker::start();
    let _writer = broker.frames("yard", SPEC);
    let mut yard = broker.connect().attach("yard", &options()).unwrap();
    let (_, pages) = broker.resume_with("yard");
    let bell = Bell::map(pages[0].bell.try_clone().unwrap()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ringer = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                bell.ring();
                std::thread::yield_now();
            }
        }
    });
    assert!(!yard.wait(Some(Duration::from_millis(30))).unwrap());
    stop.store(true, Ordering::Relaxed);
    ringer.join().unwrap();
}
