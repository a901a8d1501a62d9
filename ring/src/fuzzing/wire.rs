//! Packets on the attach socket, from either side.

use crate::attach::wire::{ClientMessage, DaemonMessage, MAX_MESSAGE, MAX_TEXT, WireError};

/// What one side sends. Read or refused in words; what was read is written the same again.
pub fn attach_protocol(packet: &[u8]) {
    match ClientMessage::decode(packet) {
        Ok(message) => {
            let again = message.encode();
            assert!(again.len() <= MAX_MESSAGE);
            assert_eq!(ClientMessage::decode(&again), Ok(message));
        }
        Err(error) => explained(&error),
    }
    match DaemonMessage::decode(packet) {
        Ok(message) => {
            let again = message.encode();
            assert!(again.len() <= MAX_MESSAGE);
            let cut =
                matches!(&message, DaemonMessage::Refused { text, .. } if text.len() > MAX_TEXT);
            let read = DaemonMessage::decode(&again).expect("what this crate writes it reads");
            assert_eq!(read.request(), message.request());
            assert!(cut || read == message);
        }
        Err(error) => explained(&error),
    }
}

fn explained(error: &WireError) {
    assert!((1..300).contains(&error.to_string().len()));
}
