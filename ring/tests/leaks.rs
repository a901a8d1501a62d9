//! Descriptors, mappings and children come back. One test alone in its process, so that it can
//! count.
#![cfg(not(loom))]

mod support;

use camring_ring::*;
use support::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings of the crate's memory.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:camring"))
        .count()
}

#[test]
fn everything_is_given_back() {
    let broker = Broker::start();
    let writer = broker.frames("yard", SPEC);
    let units = broker.packets("yard", PACKETS);
    broker.state().status = "{}".to_owned();
    let round = || {
        let client = broker.connect();
        let options = AttachOptions {
            pollable: true,
            ..AttachOptions::default()
        };
        let mut frames = client.attach("yard", &options).unwrap();
        let mut packets = client.attach_packets("yard", &options).unwrap();
        let second = client
            .clone()
            .attach("yard", &AttachOptions::default())
            .unwrap();
        publish(writer.lock().unwrap().as_mut().unwrap()).unwrap();
        verify(&frames.next().unwrap().unwrap());
        assert!(packets.next(&mut Vec::new()).unwrap().is_none());
        assert!(client.attach("nowhere", &options).is_err());
        assert!(
            client
                .attach(
                    "yard",
                    &AttachOptions {
                        pins: 64,
                        ..options
                    }
                )
                .is_err()
        );
        client.status_json().unwrap();
        broker.restart("yard", &writer);
        let frame = {
            publish(writer.lock().unwrap().as_mut().unwrap()).unwrap();
            frames.latest().unwrap().unwrap()
        };
        drop((frames, packets, second, client));
        verify(&frame);
        drop(frame);
        broker.until("all are detached", |b| {
            b.clients() == 0 && b.attachments() == 0
        });
    };
    round();
    let before = (descriptors(), mappings());
    for _ in 0..50 {
        round();
    }
    // The broker's thread may be about to close its duplicates of the last connection.
    eventually("as many as before", || {
        (descriptors(), mappings()) == before
    });
    drop((writer, units));
}
