use camring_ring::{BellPage, FrameDescriptor, FrameRingSpec, PacketRingSpec, PixelFormat};

use super::*;

fn frames(id: u64) -> Ring {
    let spec = FrameRingSpec {
        depth: 2,
        slots: 8,
        slot_bytes: 4096,
        ring_id: id,
        first_sequence: 1,
    };
    Ring::new(RingKind::Frames, id, spec.create().unwrap())
}

fn packets(id: u64) -> Ring {
    let spec = PacketRingSpec {
        capacity: 1 << 20,
        units: 256,
        ring_id: id,
    };
    Ring::new(RingKind::Packets, id, spec.create().unwrap())
}

fn wish(kind: RingKind, pins: u32) -> Wish {
    Wish {
        kind,
        pins,
        pollable: true,
        bell: Rc::new(BellPage::create().unwrap()),
        hang_up: Rc::default(),
    }
}

/// Publishes as a reader would.
fn publish(rings: &Rings, count: u64) {
    let memory = rings.frames.as_ref().unwrap().memory.try_clone().unwrap();
    let mut writer = FrameWriter::resume(memory, Vec::new()).unwrap();
    let descriptor = FrameDescriptor::packed(PixelFormat::Gray8, 64, 64, 64).unwrap();
    for _ in 0..count {
        let slot = writer.reserve().unwrap();
        writer.publish(slot, &descriptor).unwrap();
        writer.release(slot);
    }
}

#[test]
fn a_new_reader_gets_rings_and_subscribers_in_order() {
    let mut rings = Rings::default();
    rings.install(packets(1)).unwrap();
    rings.install(frames(2)).unwrap();
    let (one, _) = rings.attach(10, wish(RingKind::Frames, 2), 4).unwrap();
    let (two, _) = rings.attach(11, wish(RingKind::Packets, 0), 4).unwrap();
    assert_eq!((one.ring_id, one.pins, one.fds.len()), (2, 2, 3));
    assert_eq!((two.ring_id, two.pins, two.fds.len()), (1, 0, 2));
    let messages = rings.for_new_reader().unwrap();
    let said: Vec<_> = messages
        .iter()
        .map(|m| match m.message {
            ToReader::FrameRing { ring_id, .. } => ("frames", ring_id, m.fds.len()),
            ToReader::PacketRing { ring_id } => ("packets", ring_id, m.fds.len()),
            ToReader::AddSubscriber { id, .. } => ("subscriber", id, m.fds.len()),
            _ => ("?", 0, 0),
        })
        .collect();
    assert_eq!(
        said,
        [
            ("frames", 2, 1),
            ("packets", 1, 1),
            ("subscriber", 10, 3),
            ("subscriber", 11, 2)
        ]
    );
}

#[test]
fn without_a_ring_there_is_nothing_to_attach_to() {
    let refused = Rings::default().attach(1, wish(RingKind::Frames, 1), 4);
    assert_eq!(refused.unwrap_err().0, RefusalCode::NotReady);
}

#[test]
fn pins_are_counted_per_ring_and_come_back() {
    let mut rings = Rings::default();
    rings.install(frames(1)).unwrap();
    rings.attach(1, wish(RingKind::Frames, 3), 4).unwrap();
    let (code, text) = rings.attach(2, wish(RingKind::Frames, 2), 4).unwrap_err();
    assert_eq!(code, RefusalCode::PinsExhausted);
    assert!(text.contains("3 of the camera's 4"), "{text}");
    assert!(rings.detach(1));
    assert!(!rings.detach(1));
    rings.attach(3, wish(RingKind::Frames, 4), 4).unwrap();
    // The next ring has a budget of its own: its subscribers move there one by one.
    rings.install(frames(2)).unwrap();
    rings.attach(4, wish(RingKind::Frames, 4), 4).unwrap();
    assert_eq!(rings.subscribers(), 2);
}

#[test]
fn the_packet_ring_has_a_limit_too() {
    let mut rings = Rings::default();
    rings.install(packets(1)).unwrap();
    for id in 0..PACKET_SUBSCRIBERS as u64 {
        rings.attach(id, wish(RingKind::Packets, 0), 4).unwrap();
    }
    let (code, _) = rings
        .attach(999, wish(RingKind::Packets, 0), 4)
        .unwrap_err();
    assert_eq!(code, RefusalCode::TooManyAttachments);
}

#[test]
fn a_replaced_ring_lasts_as_long_as_it_is_looked_at() {
    let mut rings = Rings::default();
    rings.install(frames(1)).unwrap();
    let size = rings.bytes_in_use();
    rings.install(frames(2)).unwrap();
    assert_eq!(rings.bytes_replaced(), 0, "nobody looked");
    let (mut admitted, _) = rings.attach(5, wish(RingKind::Frames, 1), 4).unwrap();
    rings.install(frames(3)).unwrap();
    assert_eq!((rings.bytes_in_use(), rings.bytes_replaced()), (size, size));
    assert!(rings.bytes_untouched() > size);
    // A new reader is not told of who looks at it; nor does anybody wait for that.
    assert_eq!(rings.for_new_reader().unwrap().len(), 1);
    rings.all_known();
    assert!(admitted.known.try_recv().is_ok());
    rings.close_replaced();
    assert_eq!(rings.bytes_replaced(), size, "still looked at");
    rings.detach(5);
    assert_eq!(rings.bytes_replaced(), 0);
}

#[test]
fn numbers_go_on_after_a_ring_was_given_up() {
    let mut rings = Rings::default();
    rings.install(packets(1)).unwrap();
    rings.install(frames(2)).unwrap();
    rings.attach(5, wish(RingKind::Frames, 1), 4).unwrap();
    publish(&rings, 7);
    rings.abandon();
    assert!(rings.current(RingKind::Frames).is_none());
    assert!(rings.current(RingKind::Packets).is_none());
    let frames = RingKind::Frames;
    assert_eq!(
        rings.first_sequence(frames, 1),
        8,
        "the next reader knows nothing of it"
    );
    assert_eq!(rings.first_sequence(frames, 20), 20);
    assert_eq!(rings.first_sequence(RingKind::View(0), 1), 1, "its own");
    assert!(rings.bytes_replaced() > 0);
}

#[test]
fn views_are_rings_of_their_own() {
    let view = |index, id| Ring {
        kind: RingKind::View(index),
        ..frames(id)
    };
    let mut rings = Rings::default();
    rings.install(packets(1)).unwrap();
    rings.install(frames(2)).unwrap();
    let before = rings.bytes_in_use();
    let told = rings.install(view(1, 3)).unwrap().message;
    assert!(matches!(
        told,
        ToReader::ViewRing {
            view: 1,
            ring_id: 3,
            ..
        }
    ));
    assert!(rings.bytes_in_use() > before);
    assert!(rings.current(RingKind::View(0)).is_none());
    // Each ring has its pins; whoever looks at a view looks at frames.
    let kind = RingKind::View(1);
    assert!(!rings.frames_looked_at());
    let (one, told) = rings.attach(10, wish(kind, 4), 4).unwrap();
    assert_eq!((one.ring_id, one.fds.len(), told.fds.len()), (3, 3, 3));
    assert!(rings.attach(11, wish(kind, 1), 4).is_err());
    assert!(rings.attach(12, wish(RingKind::Frames, 4), 4).is_ok());
    assert!(rings.frames_looked_at());
    assert_eq!((rings.subscribers_of(kind), rings.subscribers()), (1, 2));
    // A new reader gets all rings before all subscribers.
    let messages = rings.for_new_reader().unwrap();
    let ring = |m: &Outgoing| !matches!(m.message, ToReader::AddSubscriber { .. });
    let order: Vec<bool> = messages.iter().map(ring).collect();
    assert_eq!(order, [true, true, true, false, false]);
    // Given up with the others, and its numbers known.
    rings.abandon();
    assert!(rings.current(kind).is_none());
    rings.detach(10);
    rings.detach(12);
    assert_eq!((rings.bytes_in_use(), rings.bytes_replaced()), (0, 0));
}

#[test]
fn who_does_not_leave_a_replaced_ring_is_sent_away() {
    let mut rings = Rings::default();
    let mut gates = Vec::new();
    for id in 1..=3 {
        rings.install(frames(id)).unwrap();
        let wish = wish(RingKind::Frames, 1);
        gates.push(wish.hang_up.clone());
        rings.attach(id, wish, 4).unwrap();
    }
    let size = rings.bytes_in_use();
    assert_eq!(rings.bytes_replaced(), 2 * size);
    rings.shed_replaced(2 * size);
    assert_eq!(rings.subscribers(), 3);
    rings.shed_replaced(size);
    assert_eq!((rings.bytes_replaced(), rings.subscribers()), (size, 2));
    let is_sent_away = |gate: &Notify| {
        let mut notified = Box::pin(gate.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    };
    use std::future::Future;
    let sent_away: Vec<_> = gates.iter().map(|gate| is_sent_away(gate)).collect();
    assert_eq!(sent_away, [true, false, false], "the oldest first");
}

#[test]
fn who_waits_for_a_reader_that_refuses_is_told_at_once() {
    let mut rings = Rings::default();
    rings.install(frames(1)).unwrap();
    let (mut one, _) = rings.attach(1, wish(RingKind::Frames, 1), 4).unwrap();
    let (mut two, _) = rings.attach(2, wish(RingKind::Frames, 1), 4).unwrap();
    rings.refused(1);
    rings.refused(99);
    use tokio::sync::oneshot::error::TryRecvError;
    assert_eq!(one.known.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(two.known.try_recv(), Err(TryRecvError::Empty));
    // What the reader says later changes nothing.
    rings.known(1);
    rings.known(2);
    assert_eq!(two.known.try_recv(), Ok(()));
}
