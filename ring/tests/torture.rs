//! Real processes that die at random: writers, and subscribers that hold pins.
//!
//! `CAMRING_TORTURE=n` kills n writers instead of 150.
#![cfg(not(loom))]

mod support;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use camring_ring::*;
use rustix::process::Signal;
use support::process::{Control, Process, Remote, play, say, spawn};
use support::*;

/// Where other processes begin.
#[test]
fn child() {
    play(&[("writer", writer), ("holder", holder)]);
}

/// Publishes as fast as it can, until it is killed.
fn writer(place: &Path) {
    let control = Control::connect(&place.join("control.sock"));
    let Some(mut writer) = control.take_over() else {
        return;
    };
    loop {
        control.obey(&mut writer);
        for _ in 0..20 {
            publish(&mut writer).expect("slots for all that may be pinned");
        }
        std::thread::yield_now();
    }
}

/// Holds all the frames it may, exchanging one at a time, until it is killed.
fn holder(place: &Path) {
    let client = Client::connect(&place.join("attach.sock")).unwrap();
    let options = AttachOptions {
        pins: 4,
        ..AttachOptions::default()
    };
    let mut yard = client.attach("yard", &options).unwrap();
    let mut held = VecDeque::new();
    loop {
        let frame = yard.next_timeout(Duration::from_secs(60)).unwrap().unwrap();
        verify(&frame);
        held.push_back(frame);
        if held.len() == 4 {
            say("full");
            verify(&held.pop_front().unwrap());
        }
    }
}

/// Not good enough for anything but tests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn writer_kills() -> u64 {
    std::env::var("CAMRING_TORTURE")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(150)
}

/// Follows a camera until `stop`, and checks every byte, number and count.
fn follow(client: &Client, style: usize, stop: &AtomicBool, newest: &AtomicU64) -> (u64, u64) {
    let options = AttachOptions {
        pins: 3,
        ..AttachOptions::default()
    };
    let mut yard = client.attach("yard", &options).unwrap();
    let mut held: VecDeque<Frame> = VecDeque::new();
    let (mut given, mut restarts, mut passed) = (0, 0, 0);
    let mut last: Option<(u64, u32)> = None;
    let mut start = 0;
    loop {
        let frame = match style {
            0 => yard.next_timeout(Duration::from_millis(20)).unwrap(),
            1 => yard.latest().unwrap(),
            _ => yard.next().unwrap(),
        };
        let Some(frame) = frame else {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::yield_now();
            continue;
        };
        verify(&frame);
        given += 1;
        passed += frame.missed();
        match last {
            None => {
                start = frame.sequence() - frame.missed() - 1;
                assert_eq!(frame.change(), None);
            }
            Some((sequence, generation)) => {
                assert!(frame.sequence() > sequence, "numbers rise");
                assert_eq!(
                    frame.sequence(),
                    sequence + frame.missed() + 1,
                    "and all are counted"
                );
                assert!(frame.generation() >= generation);
                let restarted = frame.generation() != generation;
                assert_eq!(
                    frame.change(),
                    restarted.then_some(RingChange::WriterRestarted)
                );
                restarts += u64::from(restarted);
            }
        }
        last = Some((frame.sequence(), frame.generation()));
        held.push_back(frame);
        if held.len() == 3 {
            verify(&held.pop_front().unwrap());
        }
    }
    for frame in &held {
        verify(frame);
    }
    let (sequence, _) = last.expect("frames came");
    assert_eq!(
        sequence - start,
        given + passed,
        "every number was given out or missed"
    );
    newest.fetch_max(sequence, Ordering::Relaxed);
    (given, restarts)
}

#[test]
fn writers_are_killed_and_nobody_sees_a_torn_frame() {
    let kills = writer_kills();
    let broker = Broker::start();
    let spec = FrameRingSpec {
        slots: 4 + 1 + 5 * 3,
        ..SPEC
    };
    let memory = spec.create().unwrap();
    let observer = memory.try_clone().unwrap();
    let remote = Remote::default();
    broker.frames_with("yard", spec, memory, Box::new(remote.clone()));
    let listener = listen(&broker.folder().join("control.sock"));
    let mut dice = Dice(u64::from(std::process::id()));

    let start = |broker: &Broker| {
        let process = spawn("writer", broker.folder());
        let control = Control::accept(&listener);
        broker.hand_over("yard", |memory, pages| {
            control.hand_over(memory, pages).unwrap();
            *remote.0.lock().unwrap() = Some(control);
        });
        process
    };
    let stop = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(AtomicU64::new(0));
    let mut process = start(&broker);
    let followers: Vec<_> = (0..4)
        .map(|n| {
            let (stop, newest) = (Arc::clone(&stop), Arc::clone(&newest));
            let client = broker.connect();
            std::thread::spawn(move || follow(&client, n % 3, &stop, &newest))
        })
        .collect();
    for n in 0..kills {
        // From the middle of resuming to well into publishing.
        std::thread::sleep(Duration::from_micros(dice.below(6000)));
        process.kill();
        process = start(&broker);
        if n % 25 == 0 {
            // Clients come and go all the while.
            let client = broker.connect();
            let mut yard = client.attach("yard", &AttachOptions::default()).unwrap();
            verify(&yard.next_timeout(Duration::from_secs(60)).unwrap().unwrap());
        }
    }
    // The last writer is alive: its frames come, and nearly every writer before it was one too
    // (some are killed before they have the ring).
    let client = broker.connect();
    let mut yard = client.attach("yard", &AttachOptions::default()).unwrap();
    let generation = loop {
        let frame = yard.next_timeout(Duration::from_secs(60)).unwrap().unwrap();
        verify(&frame);
        if frame.generation() == yard.generation() {
            break u64::from(frame.generation());
        }
    };
    assert!(
        generation <= kills + 1 && generation > kills / 4,
        "{generation} of {kills} lives"
    );
    process.kill();
    stop.store(true, Ordering::Relaxed);
    let mut seen = 0;
    for follower in followers {
        let (given, restarts) = follower.join().unwrap();
        assert!(given > kills / 10, "{given} frames in {kills} lives");
        seen = seen.max(restarts);
    }
    assert!(seen > 0, "restarts are visible");

    // After all of that the ring is as good as new.
    drop(yard);
    drop(client);
    broker.until("no attachment is left", |b| b.attachments() == 0);
    let mut writer = FrameWriter::resume(observer, Vec::new()).unwrap();
    assert!(writer.next_sequence() > newest.load(Ordering::Relaxed));
    for _ in 0..100 {
        publish(&mut writer).unwrap();
    }
    assert_eq!(
        writer.free_slots() as u32,
        spec.slots - spec.depth,
        "no slot is lost"
    );
}

#[test]
fn subscribers_are_killed_and_stopped_and_the_camera_goes_on() {
    let broker = Broker::start();
    let spec = FrameRingSpec {
        slots: 4 + 1 + 6 * 4 + 2,
        ..SPEC
    };
    let writer = broker.frames("yard", spec);
    let stop = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    let publisher = std::thread::spawn({
        let (writer, stop, published) = (
            Arc::clone(&writer),
            Arc::clone(&stop),
            Arc::clone(&published),
        );
        move || {
            while !stop.load(Ordering::Relaxed) {
                let sequence = publish(writer.lock().unwrap().as_mut().unwrap());
                published.store(sequence.expect("a slot is always free"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    let full = |process: &mut Process| assert_eq!(process.listen().as_deref(), Some("full"));
    let advances = |n: u64| {
        let start = published.load(Ordering::Relaxed);
        eventually("frames are published", || {
            published.load(Ordering::Relaxed) > start + n
        });
    };
    let honest = broker.connect();
    let mut yard = honest.attach("yard", &AttachOptions::default()).unwrap();
    let mut dice = Dice(7);
    for round in 0..8 {
        let mut holders: Vec<Process> = (0..6).map(|_| spawn("holder", broker.folder())).collect();
        holders.iter_mut().for_each(full);
        for (n, holder) in holders.iter().enumerate() {
            if (n + round) % 2 == 0 {
                holder.signal(Signal::STOP);
            }
        }
        advances(50);
        verify(&yard.latest().unwrap().unwrap());
        while !holders.is_empty() {
            let index = dice.below(holders.len() as u64) as usize;
            holders.swap_remove(index).kill();
        }
        // The kernel closes their connections; their pins are back at once.
        broker.until("the dead are detached", |b| b.attachments() == 1);
        advances(20);
    }
    stop.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    drop(yard);
    broker.until("all are detached", |b| b.attachments() == 0);
    let mut writer = writer.lock().unwrap().take().unwrap();
    assert_eq!(
        writer.free_slots() as u32,
        spec.slots - spec.depth,
        "no slot is lost"
    );
}
