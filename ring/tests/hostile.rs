//! Peers that write nonsense into the memory they share, as fast as they can.
#![cfg(not(loom))]

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camring_ring::*;
use support::*;

struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Anything, but often something that could be meant.
    fn value(&mut self) -> u64 {
        match self.word() % 4 {
            0 => self.word(),
            1 => self.word() % 70,
            2 => ((self.word() % 500) << 8) | (self.word() % 70),
            _ => [0, u64::MAX, 1 << 63, u64::from(u32::MAX)][self.word() as usize % 4],
        }
    }
}

fn scribble(fd: impl AsFd, at: u64, value: u64) {
    rustix::io::pwrite(fd, &value.to_le_bytes(), at).unwrap();
}

#[test]
fn scribbled_pins_and_bells_hurt_only_the_scribbler() {
    let broker = Broker::start();
    // Exactly the slots that the budget asks for: every one of them counts.
    let spec = FrameRingSpec {
        slots: 4 + 1 + 3 * 4 + 2,
        ..SPEC
    };
    let writer = broker.frames("yard", spec);
    let client = broker.connect();
    let mut yard = client.attach("yard", &AttachOptions::default()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let scribblers: Vec<_> = (0..3)
        .map(|n| {
            let Raw {
                socket, bell, page, ..
            } = attach_raw(&broker.path(), "yard", 4);
            let len = rustix::fs::fstat(&page).unwrap().st_size as u64;
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut dice = Dice(n + 99);
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..64 {
                        // The header of the page too, and past its end as far as that is possible.
                        scribble(&page, dice.word() % (len / 8) * 8, dice.value());
                        scribble(&bell, dice.word() % 32 * 8, dice.value());
                    }
                    std::thread::yield_now();
                }
                drop(socket);
            })
        })
        .collect();
    let mut looked = 0;
    for n in 0..20_000 {
        let sequence = publish(writer.lock().unwrap().as_mut().unwrap());
        assert!(
            sequence.is_some(),
            "frame {n}: nobody pins more than its quota"
        );
        if n % 7 == 0 {
            let frame = yard.latest().unwrap().unwrap();
            verify(&frame);
            looked += 1;
        }
    }
    assert!(looked > 2000);
    stop.store(true, Ordering::Relaxed);
    for scribbler in scribblers {
        scribbler.join().unwrap();
    }
    broker.until("they are detached", |b| b.attachments() == 1);
    let free = writer.lock().unwrap().as_mut().unwrap().free_slots();
    assert_eq!(free as u32, spec.slots - spec.depth);
}

#[test]
fn a_page_cannot_be_made_to_hold_more_pins() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let Raw {
        socket: _socket,
        page,
        ring,
        ..
    } = attach_raw(&broker.path(), "yard", 2);
    let size = rustix::fs::fstat(&page).unwrap().st_size as u64;
    assert!(
        rustix::fs::ftruncate(&page, size + 8).is_err(),
        "its length is sealed"
    );
    assert!(rustix::io::pwrite(&page, &[1; 8], size).is_err());
    assert!(rustix::fs::ftruncate(&ring, 0).is_err());
    // What the page claims about itself.
    scribble(&page, 12, u64::from(u32::MAX));
    for pin in 0..2 {
        scribble(&page, 64 + pin * 8, pin + 1);
    }
    let mut free = Vec::new();
    let mut writer = writer.lock().unwrap();
    let writer = writer.as_mut().unwrap();
    while let Some(slot) = writer.reserve() {
        free.push(slot);
    }
    // A free slot is not taken away by a pin; a used one is, two at the most.
    assert_eq!(free.len() as u32, SPEC.slots);
    for slot in free {
        writer.release(slot);
    }
    for _ in 0..1000 {
        publish(writer).unwrap();
    }
    assert!(writer.free_slots() as u32 >= SPEC.slots - SPEC.depth - 2);
}

#[test]
fn a_ring_that_is_scribbled_on_cannot_hurt_its_readers() {
    let broker = Broker::start();
    let spec = FrameRingSpec { slots: 16, ..SPEC };
    let writer = broker.frames("yard", spec);
    let (memory, _) = broker.resume_with("yard");
    let client = broker.connect();
    let mut subscriptions: Vec<_> = (0..2)
        .map(|n| {
            let options = AttachOptions {
                include_corrupt: n == 0,
                ..AttachOptions::default()
            };
            client.attach("yard", &options).unwrap()
        })
        .collect();
    for _ in 0..5 {
        publish(writer.lock().unwrap().as_mut().unwrap()).unwrap();
    }
    let mut dice = Dice(4242);
    let (mut frames, mut errors) = (0, 0);
    for round in 0..20_000u64 {
        // Header words from the state on, order words, slot headers.
        scribble(memory.as_fd(), 128 + dice.word() % 320 * 8, dice.value());
        if round % 50 == 0 {
            // Something that can be found at times.
            publish(writer.lock().unwrap().as_mut().unwrap());
            scribble(memory.as_fd(), 128, 1 | 7 << 32);
        }
        if round % 100 == 50 {
            // The newest frame's descriptor, whichever slot it is in: the headers begin at 512.
            for slot in 0..16 {
                let word = 8 * (1 + dice.word() % 15);
                scribble(memory.as_fd(), 512 + slot * 128 + word, dice.value());
            }
        }
        for yard in &mut subscriptions {
            let result = if round % 2 == 0 {
                yard.next()
            } else {
                yard.latest()
            };
            match result {
                Ok(Some(frame)) => {
                    frames += 1;
                    // Whatever it says, it lies inside its slot.
                    assert!(frame.data().len() <= 8192);
                    for plane in 0..4 {
                        assert!(frame.plane(plane).len() <= frame.data().len());
                        std::hint::black_box(
                            frame
                                .plane(plane)
                                .iter()
                                .map(|b| u64::from(*b))
                                .sum::<u64>(),
                        );
                    }
                }
                Ok(None) => {}
                Err(_) => errors += 1,
            }
            let _ = yard.generation();
        }
    }
    assert!(frames > 0 && errors > 0, "{frames} frames, {errors} errors");
    assert!(client.wait(Some(Duration::ZERO)).is_ok());
}

#[test]
fn a_ring_made_of_anything_is_refused() {
    let mut dice = Dice(1);
    let good = SPEC.create().unwrap();
    let mut bytes = vec![0; 4096];
    rustix::io::pread(&good, &mut bytes, 0).unwrap();
    let mut refused = 0;
    for _ in 0..3000 {
        let length = [1, 8, 383, 384, 4096, good.len()][dice.word() as usize % 6];
        let memory = SealedMemory::create("camring-test", length).unwrap();
        let mut header = bytes[..bytes.len().min(length as usize)].to_vec();
        for _ in 0..=dice.word() % 3 {
            let at = dice.word() as usize % header.len().min(128);
            header[at] = dice.word() as u8;
        }
        rustix::io::pwrite(&memory, &header, 0).unwrap();
        // As a writer, and as a reader of the other kind.
        match FrameWriter::resume(memory.try_clone().unwrap(), Vec::new()) {
            Ok(mut writer) => {
                publish(&mut writer);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
        assert!(PacketReader::new(&memory).is_err());
        assert!(PacketWriter::resume(memory, Vec::new()).is_err());
    }
    assert!(refused > 1000);
}
