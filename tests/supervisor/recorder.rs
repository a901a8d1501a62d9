//! A process that records nothing, but says that it does: what the supervisor sees of one.
#![deny(unsafe_code)]

use camring::control::ControlSocket;

/// From its control socket to its exit code.
pub fn main(_control: ControlSocket) -> i32 {
    1
}
