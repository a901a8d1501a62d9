//! Messages between the daemon's processes: a reader that a camera has taken over writes them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::hls::{FromHls, ToHls};
use crate::control::{MAX_MESSAGE, ToReader, ToSupervisor, decode, encode};
use crate::worker::protocol::{FromWorker, ToWorker};

/// Any bytes as a message of each kind: read and written the same again, or refused without being
/// repeated, for a message may hold a password.
pub fn control(data: &[u8]) {
    if data.len() > MAX_MESSAGE {
        return;
    }
    same_again::<ToSupervisor>(data);
    same_again::<ToReader>(data);
    same_again::<FromHls>(data);
    same_again::<ToHls>(data);
    same_again::<FromWorker>(data);
    same_again::<ToWorker>(data);
}

fn same_again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    match decode::<T>(data) {
        Ok(message) => {
            let Ok(written) = encode(&message) else {
                // Numbers take more room than they came in.
                return;
            };
            let read = decode::<T>(&written);
            let again = encode(&read.expect("what was written is read"));
            assert_eq!(again.expect("as before"), written);
        }
        Err(error) => {
            let said = format!("{error} {error:?}");
            assert!(said.len() < 300, "{said}");
        }
    }
}
