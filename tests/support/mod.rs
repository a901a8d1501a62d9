//! What the integration tests share: test cameras, a daemon to test, and ways to look at processes.
//!
//! Everything here is safe to use from many tests at once (ports from the system, unique folders), ends
//! what it started when dropped, by handle, and waits long before it calls something a failure: tests run
//! on loaded machines, and say nothing about speed.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod daemon;
pub mod farm;
pub mod framecode;
pub mod impostor;
pub mod process;
pub mod viewer;

use std::fmt::Debug;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test binary uses a part of this")]
pub use self::{
    daemon::Daemon,
    farm::{Camera, Farm},
};

/// How long something may take that normally takes a second or less.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Waits until the condition holds; panics with `what` when it does not in time.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || {
        if condition() {
            Ok(())
        } else {
            Err("it does not hold")
        }
    });
}

/// Waits for a value. While it is not there, `attempt` says what it sees instead: the last such answer is
/// in the message of the panic.
#[track_caller]
pub fn wait_for<T, E: Debug>(
    what: &str,
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() >= timeout => {
                let seen = shortened(&format!("{seen:?}"));
                panic!("waited {timeout:?} for: {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Beginning and end of a text that may be a whole log.
pub fn shortened(text: &str) -> String {
    const KEPT: usize = 3000;
    let count = text.chars().count();
    if count <= 2 * KEPT {
        return text.to_owned();
    }
    let start: String = text.chars().take(KEPT).collect();
    let end: String = text.chars().skip(count - KEPT).collect();
    format!("{start} … {end}")
}

/// UTC in ns since the Unix epoch.
pub fn unix_ns() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    since.as_nanos().try_into().expect("before 2262")
}

/// Waits until a descriptor is readable.
#[track_caller]
pub fn readable(fd: std::os::fd::BorrowedFd<'_>, timeout: Duration) {
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    let timeout = nix::poll::PollTimeout::try_from(timeout).expect("less than weeks");
    assert_eq!(
        nix::poll::poll(&mut fds, timeout),
        Ok(1),
        "not readable in {timeout:?}"
    );
}
