//! A process that decodes what was recorded, so that the server need not.
#![deny(unsafe_code)]

/// The first argument that makes the binary a worker.
pub const ARGUMENT: &str = "__worker";

/// From its standard input to its exit code.
pub fn main() -> i32 {
    2
}
