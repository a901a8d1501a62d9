//! The pipe to the server, and through it to a client that may hang up at any time.
#![deny(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use super::protocol::{Trouble, TroubleKind};

/// Where the result goes. Waits for a slow client; an error once it has hung up.
#[derive(Debug)]
pub(super) struct Output(File);

impl Output {
    pub fn new(pipe: OwnedFd) -> Self {
        Self(File::from(pipe))
    }

    /// Writes all of it.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.0.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Trouble::new(TroubleKind::HungUp, "nobody reads any more"),
            _ => Trouble::new(TroubleKind::Internal, format!("output: {error}")),
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
