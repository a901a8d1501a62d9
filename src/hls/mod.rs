//! What records a stream: forked from the spawner, an ordinary subscriber.
#![deny(unsafe_code)]

use crate::control::ControlSocket;

/// A process that records, from its control socket to its exit code.
pub fn main(control: ControlSocket) -> i32 {
    match crate::control::hls::begin(&control) {
        Ok(_) => 0,
        Err(_) => 1,
    }
}
