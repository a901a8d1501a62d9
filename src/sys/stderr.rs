//! Standard error that never blocks: where its reader (the journal, a pipe, a terminal on hold) does not
//! take lines, they are lost, counted and said later. A camera is worth more than a line about it.
//!
//! Promises: [`Line::write`] waits for nobody and fails never. A line of up to 4096 bytes to a pipe is
//! whole or not there. It must never open a descriptor: children close those that they do not know.
#![deny(unsafe_code)]

use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;

/// Lines that nobody took, not said yet.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes one line at a time; for `tracing_subscriber`'s `with_writer`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line;

/// A writer for one line.
pub fn line() -> Line {
    Line
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = LOST.swap(0, Relaxed);
        if lost > 0
            && !put(format!("{lost} lines of the log were lost: nobody took them\n").as_bytes())
        {
            LOST.fetch_add(lost, Relaxed);
        }
        if !put(line) {
            LOST.fetch_add(1, Relaxed);
        }
        // An error would be complained about, on standard error.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it was taken.
fn put(line: &[u8]) -> bool {
    let stderr = io::stderr();
    let kind = rustix::fs::fstat(&stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        // The journal's.
        Ok(FileType::Socket) => {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            whole(line, |rest| rustix::net::send(&stderr, rest, flags))
        }
        Ok(FileType::Fifo) => {
            let at_once = |rest: &[u8]| {
                let slices = [IoSlice::new(rest)];
                rustix::io::pwritev2(&stderr, &slices, u64::MAX, ReadWriteFlags::NOWAIT)
            };
            match at_once(line) {
                Ok(written) => written == line.len(),
                // A kernel before 6.4: room for a line is looked for first. Another process may take it
                // meanwhile, which is the risk that is left.
                Err(Errno::OPNOTSUPP) => {
                    ready(&stderr) && whole(line, |rest| rustix::io::write(&stderr, rest))
                }
                Err(_) => false,
            }
        }
        // A terminal may be on hold; a file never is.
        Ok(FileType::CharacterDevice) => {
            ready(&stderr) && whole(line, |rest| rustix::io::write(&stderr, rest))
        }
        Ok(_) => whole(line, |rest| rustix::io::write(&stderr, rest)),
        Err(_) => false,
    }
}

/// Writes until all is written, or something is refused.
fn whole(mut line: &[u8], put: impl Fn(&[u8]) -> rustix::io::Result<usize>) -> bool {
    while !line.is_empty() {
        match put(line) {
            Ok(0) => return false,
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Whether there is room for a line now.
fn ready(stderr: &io::Stderr) -> bool {
    let mut fds = [PollFd::new(stderr, PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&at_once)) == Ok(1) && fds[0].revents() == PollFlags::OUT
}
