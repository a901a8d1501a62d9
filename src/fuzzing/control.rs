//! Messages between the daemon's processes: a process that a camera or a client has taken over writes them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::hls::{FromHls, ToHls};
use crate::control::serve::{FromServe, ToServe};
use crate::control::{MAX_MESSAGE, ToReader, ToSupervisor, decode, encode};
use crate::worker::protocol::{FromWorker, ToWorker};

/// What messages are there. The first byte of an input says which: `0` is the first of these.
const KINDS: [fn(&[u8]) -> bool; 8] = [
    same_again::<ToSupervisor>,
    same_again::<ToReader>,
    same_again::<FromHls>,
    same_again::<ToHls>,
    same_again::<FromWorker>,
    same_again::<ToWorker>,
    same_again::<FromServe>,
    same_again::<ToServe>,
];

/// Any bytes as a message: read and written the same again, or refused without being repeated, for a message may
/// hold a password.
pub fn control(data: &[u8]) {
    accepted(data);
}

/// Which kind of message it is, where it is one.
fn accepted(data: &[u8]) -> Option<usize> {
    let (kind, message) = data.split_first()?;
    let kind = usize::from(*kind) % KINDS.len();
    (message.len() <= MAX_MESSAGE && KINDS[kind](message)).then_some(kind)
}

fn same_again<T: Serialize + DeserializeOwned>(data: &[u8]) -> bool {
    match decode::<T>(data) {
        Ok(message) => {
            // Numbers may take more room than they came in: too much for a message.
            if let Ok(written) = encode(&message) {
                let read = decode::<T>(&written);
                let again = encode(&read.expect("what was written is read"));
                assert_eq!(again.expect("as before"), written);
            }
            true
        }
        Err(error) => {
            let said = format!("{error} {error:?}");
            assert!(said.len() < 300, "{said}");
            false
        }
    }
}

/// Messages change; a target whose seeds are all refused would go on to break no promise.
#[cfg(test)]
#[test]
fn every_kind_of_message_has_a_seed_that_is_read() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/control");
    let seeds = std::fs::read_dir(corpus).expect("seeds");
    let read: std::collections::BTreeSet<usize> = seeds
        .filter_map(|seed| accepted(&std::fs::read(seed.expect("a seed").path()).expect("a seed")))
        .collect();
    assert_eq!(read, (0..KINDS.len()).collect());
}
