//! One descriptor for event loops, whatever becomes of the cameras behind it.
//!
//! Cameras have a descriptor each, which is another one after a ring was replaced or the daemon
//! restarted. An epoll descriptor over all of them, and a timer for what nobody rings a bell for,
//! stays the same.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use camring_ring::{RETRY_PAUSE, Receiver};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A look that often when nothing happens: a successor that was not ready is asked for again.
const TICK_SECONDS: i64 = 1;

/// What camring_fd() hands out.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN)?;
        Ok(Self { epoll, timer })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// After a look that found nothing: watches what there is to watch now. Descriptors that were
    /// closed have left the set by themselves.
    pub(crate) fn sync(&self, receiver: &Receiver) -> Result<(), Errno> {
        for fd in receiver.poll_fds() {
            let data = epoll::EventData::new_u64(1);
            match epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other),
            }
        }
        let next = if receiver.is_incomplete() {
            Timespec {
                tv_sec: 0,
                tv_nsec: RETRY_PAUSE.subsec_nanos().into(),
            }
        } else {
            Timespec {
                tv_sec: TICK_SECONDS,
                tv_nsec: 0,
            }
        };
        let timer = Itimerspec {
            it_interval: next,
            it_value: next,
        };
        // Also makes it unreadable, if it had expired.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
    }
}
