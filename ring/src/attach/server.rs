//! What a daemon needs to speak the attach protocol: codec and helpers, no loop of its own.
//!
//! The daemon's duties, which these helpers do not take over: at most one packet with descriptors
//! unanswered per client (wait for RECEIVED), caps per uid, and handing pages to the writer before
//! they go to the client.

use std::io;
use std::os::fd::OwnedFd;

use crate::attach::wire::{ClientMessage, DaemonMessage, WireError};
use crate::memory::{MemoryError, SealedMemory};

pub use crate::attach::socket::{PeerCredentials, peer_credentials, recv_with_fds, send_with_fds};

/// Reads a packet from a client.
pub fn decode(packet: &[u8]) -> Result<ClientMessage, WireError> {
    ClientMessage::decode(packet)
}

/// The packet of an answer.
pub fn encode(message: &DaemonMessage) -> Vec<u8> {
    message.encode()
}

/// A pair for a pollable attachment: the writer's end, the client's end.
pub fn notify_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    crate::bell::notify_pair()
}

/// A sealed memory that holds `text`, for the answer to STATUS. `text` must not be empty.
pub fn text_memory(text: &str) -> Result<SealedMemory, MemoryError> {
    let memory = SealedMemory::create("camring-status", text.len() as u64)?;
    let mut written = 0;
    while let Some(rest) = text
        .as_bytes()
        .get(written..)
        .filter(|rest| !rest.is_empty())
    {
        match rustix::io::pwrite(&memory, rest, written as u64) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                return Err(MemoryError::Populate {
                    len: text.len() as u64,
                    source: e.into(),
                });
            }
        }
    }
    Ok(memory)
}
