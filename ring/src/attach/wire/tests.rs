use super::*;
use proptest::prelude::*;

fn client_messages() -> Vec<ClientMessage> {
    let name = "front-door/sub".to_owned();
    vec![
        ClientMessage::Hello { version: 1 },
        ClientMessage::Attach {
            request: 7,
            kind: RingKind::Frames,
            pins: 2,
            pollable: true,
            name: name.clone(),
        },
        ClientMessage::Attach {
            request: 8,
            kind: RingKind::Packets,
            pins: 0,
            pollable: false,
            name: "ü".repeat(64),
        },
        ClientMessage::Detach {
            attachment: u64::MAX,
        },
        ClientMessage::Status { request: 9 },
        ClientMessage::Received { request: 10 },
    ]
}

fn daemon_messages() -> Vec<DaemonMessage> {
    vec![
        DaemonMessage::Welcome {
            version: 1,
            uid: 998,
        },
        DaemonMessage::Attached {
            request: 7,
            attachment: 12,
            ring_id: 3,
            pins: 2,
        },
        DaemonMessage::Refused {
            request: 8,
            code: RefusalCode::UnknownCamera,
            text: "no camera \"x\"; there are: yard".to_owned(),
        },
        DaemonMessage::Refused {
            request: 8,
            code: RefusalCode::Internal,
            text: String::new(),
        },
        DaemonMessage::Status {
            request: 9,
            len: 4000,
        },
    ]
}

#[test]
fn messages_survive_the_wire() {
    for message in client_messages() {
        assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
    }
    for message in daemon_messages() {
        let packet = message.encode();
        assert!(packet.len() <= MAX_MESSAGE);
        assert_eq!(DaemonMessage::decode(&packet), Ok(message));
    }
}

#[test]
fn every_other_length_is_refused() {
    let packets = client_messages().into_iter().map(|m| m.encode());
    let packets = packets.chain(daemon_messages().into_iter().map(|m| m.encode()));
    for packet in packets {
        for len in 0..packet.len() {
            assert!(ClientMessage::decode(&packet[..len]).is_err());
            assert!(DaemonMessage::decode(&packet[..len]).is_err());
        }
        let longer = [&packet[..], &[0]].concat();
        assert!(ClientMessage::decode(&longer).is_err());
        assert!(DaemonMessage::decode(&longer).is_err());
    }
}

#[test]
fn impossible_fields_are_named() {
    let attach = |at: usize, value: u8| {
        let mut packet = client_messages()[1].encode();
        packet[at] = value;
        ClientMessage::decode(&packet).unwrap_err().to_string()
    };
    assert_eq!(attach(8, 3), "message of kind 2: ring is 3");
    assert_eq!(attach(10, 2), "message of kind 2: pollable is 2");
    assert_eq!(attach(11, 0), "message of kind 2: name length is 0");
    assert_eq!(attach(11, 193), "message of kind 2: name length is 193");
    assert_eq!(attach(12, 0xff), "message of kind 2: name is not UTF-8");
    assert_eq!(attach(0, 77), "unknown message kind 77");
    let mut hello = client_messages()[0].encode();
    hello[8] = 0;
    assert!(
        ClientMessage::decode(&hello)
            .unwrap_err()
            .to_string()
            .contains("magic is")
    );
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let text = "é".repeat(4000);
    let message = DaemonMessage::Refused {
        request: 1,
        code: RefusalCode::Internal,
        text,
    };
    let packet = message.encode();
    assert!(packet.len() <= MAX_MESSAGE);
    let Ok(DaemonMessage::Refused { text, .. }) = DaemonMessage::decode(&packet) else {
        panic!("it decodes");
    };
    assert_eq!(text, "é".repeat(MAX_TEXT / 2));
}

#[test]
fn a_refusal_from_the_future_keeps_its_text() {
    let mut packet = daemon_messages()[2].encode();
    packet[8..10].copy_from_slice(&999u16.to_le_bytes());
    let Ok(DaemonMessage::Refused { code, text, .. }) = DaemonMessage::decode(&packet) else {
        panic!("it decodes");
    };
    assert_eq!(code, RefusalCode::Internal);
    assert!(text.contains("yard"));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_panic(kind in 0u32..140, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let packet = [&kind.to_le_bytes()[..], &rest].concat();
        if let Ok(message) = ClientMessage::decode(&packet) {
            let again = ClientMessage::decode(&message.encode());
            prop_assert_eq!(again, Ok(message));
        }
        if let Ok(message) = DaemonMessage::decode(&packet) {
            let again = DaemonMessage::decode(&message.encode());
            prop_assert_eq!(again, Ok(message));
        }
    }
}
