//! Bells in mapped memory, and the writer's list of those to ring.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::thread::futex;

use crate::bell::protocol::{self, BellWords, Parked};
use crate::error::{FormatError, RingError};
use crate::layout::{BELL_MAGIC, BellPageLayout, LAYOUT_VERSION};
use crate::memory::{Mapping, SealedMemory};
use crate::sync::{AtomicU32, Ordering, Sound};

/// Creates bell pages; made by the broker, one for each client.
#[derive(Debug)]
pub struct BellPage(());

impl BellPage {
    /// A new, silent bell.
    pub fn create() -> Result<SealedMemory, RingError> {
        let memory = SealedMemory::create("camring-bell", size_of::<BellPageLayout>() as u64)?;
        let map = Mapping::read_write(memory.try_clone()?)?;
        map.populate(0, map.len())?;
        map.u32_at(offset_of!(BellPageLayout, version))
            .store(LAYOUT_VERSION, Ordering::Relaxed);
        map.u64_at(offset_of!(BellPageLayout, magic))
            .store(BELL_MAGIC, Ordering::Relaxed);
        Ok(memory)
    }
}

/// A mapped bell. The broker maps one to wake a client for its own reasons (a ring that was
/// replaced, a camera removed). `Send` and `Sync`.
#[derive(Debug)]
pub struct Bell {
    map: Mapping,
}

impl Bell {
    /// Maps a bell page for ringing and waiting.
    pub fn map(memory: SealedMemory) -> Result<Self, RingError> {
        let needed = size_of::<BellPageLayout>() as u64;
        if memory.len() < needed {
            return Err(RingError::Format(FormatError::Header {
                what: "bell page",
                field: "length",
                found: memory.len(),
                expected: format!("at least {needed}"),
            }));
        }
        Ok(Self {
            map: Mapping::read_write(memory)?,
        })
    }

    /// Wakes every thread of the client that waits. One system call at most; never blocks.
    pub fn ring(&self) {
        protocol::bump(self);
        protocol::wakers_fence::<Sound>();
        protocol::wake_waiting(self);
    }

    /// Waits until `ready` or for `timeout`, whichever is first; returns the last `ready`.
    pub(crate) fn wait(&self, timeout: Duration, ready: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + timeout;
        let park = |expected| {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Parked::TimedOut;
            }
            let left = futex::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match futex::wait(self.word(), futex::Flags::empty(), expected, Some(&left)) {
                Err(rustix::io::Errno::TIMEDOUT) => Parked::TimedOut,
                _ => Parked::Again,
            }
        };
        protocol::wait(self, park, ready)
    }

    fn word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(BellPageLayout, bell))
    }

    fn waiting_word(&self) -> &AtomicU32 {
        self.map.u32_at(offset_of!(BellPageLayout, waiting))
    }
}

impl BellWords for Bell {
    type Rules = Sound;

    #[inline]
    fn bell(&self) -> &AtomicU32 {
        self.word()
    }

    #[inline]
    fn waiting(&self) -> &AtomicU32 {
        self.waiting_word()
    }

    fn wake(&self, threads: u32) {
        // A shared futex (no PRIVATE flag): the waiter is another process. Nothing to do about an
        // error: the page is mapped and aligned.
        let _ = futex::wake(self.word(), futex::Flags::empty(), threads);
    }
}

/// A connected pair for event loops: the writer's end, the subscriber's end. The writer's buffer
/// is as small as the kernel allows, so that a subscriber that never reads costs nothing.
///
/// Never an eventfd: its reader can clear `O_NONBLOCK` on the shared description and fill the
/// counter, and then the writer blocks.
pub(crate) fn notify_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (writer, reader) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::sockopt::set_socket_send_buffer_size(&writer, 1)?;
    rustix::net::shutdown(&writer, rustix::net::Shutdown::Read)?;
    Ok((writer, reader))
}

/// Everything a writer rings: one bell per client, however many of the client's subscriptions are
/// on this ring, and the sockets of pollable subscribers.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    clients: Vec<ClientBell>,
    notify: Vec<(u64, OwnedFd)>,
}

#[derive(Debug)]
struct ClientBell {
    identity: (u64, u64),
    bell: Bell,
    subscribers: Vec<u64>,
}

impl Bells {
    pub(crate) fn add(
        &mut self,
        id: u64,
        memory: SealedMemory,
        notify: Option<OwnedFd>,
    ) -> Result<(), RingError> {
        let identity = memory.identity().ok_or(RingError::Subscriber {
            id,
            reason: "its bell page cannot be examined",
        })?;
        match self.clients.iter_mut().find(|c| c.identity == identity) {
            Some(client) => client.subscribers.push(id),
            None => self.clients.push(ClientBell {
                identity,
                bell: Bell::map(memory)?,
                subscribers: vec![id],
            }),
        }
        if let Some(fd) = notify {
            self.notify.push((id, fd));
        }
        Ok(())
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.clients.iter().any(|c| c.subscribers.contains(&id))
    }

    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let found = self.contains(id);
        for client in &mut self.clients {
            client.subscribers.retain(|s| *s != id);
        }
        self.clients.retain(|c| !c.subscribers.is_empty());
        self.notify.retain(|(s, _)| *s != id);
        found
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.clients.iter().map(|c| c.subscribers.len()).sum()
    }

    /// Rings them all: a bounded number of system calls, none of which can block.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.clients.is_empty() {
            return;
        }
        for client in &self.clients {
            protocol::bump(&client.bell);
        }
        protocol::wakers_fence::<Sound>();
        for client in &self.clients {
            protocol::wake_waiting(&client.bell);
        }
        for (_, fd) in &self.notify {
            // Full, or hung up: it is readable already, or about to be removed by the broker.
            let _ = rustix::net::send(fd.as_fd(), &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}
