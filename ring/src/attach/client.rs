//! The client's end of the attach socket: one question at a time, every answer checked.
//!
//! Promises: no wait without a bound; answers that come too late are given back, not leaked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::attach::AttachError;
use crate::attach::access;
use crate::attach::socket::{peer_credentials, recv_with_fds, send_with_fds};
use crate::attach::wire::{
    ATTACH_VERSION, ClientMessage, DaemonMessage, MAX_DESCRIPTORS, MAX_MESSAGE, RefusalCode,
};

/// How long the daemon may take to answer a question.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the daemon listens: `$CAMRING_SOCKET`, or `/run/camring/attach.sock`.
pub fn default_socket_path() -> PathBuf {
    match std::env::var_os("CAMRING_SOCKET") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => PathBuf::from("/run/camring/attach.sock"),
    }
}

/// A connection that has been greeted.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// Number of the last request. Held while a question is open: the protocol has one at a time.
    exchange: Mutex<u32>,
    /// Attachments to give back that did not fit into the socket's buffer at once.
    pending: Mutex<Vec<u64>>,
    /// uids for whom read-only does not hold.
    daemon_uids: Vec<u32>,
}

impl Connection {
    /// Connects and says hello. Returns the bell page's descriptor.
    pub(crate) fn open(path: &Path) -> Result<(Self, OwnedFd), AttachError> {
        let failed = |errno: Errno| {
            let (path, source) = (path.to_owned(), io::Error::from(errno));
            match errno {
                Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR => {
                    AttachError::NoDaemon { path, source }
                }
                Errno::ACCESS | Errno::PERM => {
                    let advice = access::advice(&path);
                    AttachError::PermissionDenied {
                        path,
                        advice,
                        source,
                    }
                }
                _ => AttachError::Connect { path, source },
            }
        };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).map_err(failed)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                // EAGAIN: the backlog is full, the daemon is busy.
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => return Err(failed(e)),
            }
        }
        let listener = peer_credentials(&socket).map_err(AttachError::Io)?.uid;
        let mut connection = Self {
            socket,
            exchange: Mutex::new(0),
            pending: Mutex::new(Vec::new()),
            daemon_uids: vec![listener],
        };
        let hello = ClientMessage::Hello {
            version: ATTACH_VERSION,
        };
        let (answer, fds) = connection.ask(0, &hello, "hello", ANSWER_TIMEOUT)?;
        match answer {
            DaemonMessage::Welcome { version, uid } if version == ATTACH_VERSION => {
                connection.daemon_uids.push(uid);
                let [bell] = descriptors(fds)?;
                Ok((connection, bell))
            }
            DaemonMessage::Welcome { version, .. } => Err(AttachError::Version {
                client: ATTACH_VERSION,
                text: format!(
                    "it speaks version {version}: install the same version on both sides"
                ),
            }),
            DaemonMessage::Refused {
                code: RefusalCode::Version,
                text,
                ..
            } => Err(AttachError::Version {
                client: ATTACH_VERSION,
                text,
            }),
            DaemonMessage::Refused { code, text, .. } => Err(AttachError::Refused { code, text }),
            other => Err(unexpected(&other)),
        }
    }

    /// uids of the daemon, as the kernel and as it says.
    pub(crate) fn daemon_uids(&self) -> &[u32] {
        &self.daemon_uids
    }

    /// Asks a question and waits for its answer, for `timeout` at most.
    pub(crate) fn question(
        &self,
        what: &'static str,
        timeout: Duration,
        message: impl FnOnce(u32) -> ClientMessage,
    ) -> Result<(DaemonMessage, Vec<OwnedFd>), AttachError> {
        let mut last = lock(&self.exchange);
        // 0 is HELLO's.
        *last = last.wrapping_add(1).max(1);
        let request = *last;
        self.ask(request, &message(request), what, timeout)
    }

    /// Gives an attachment back. Never blocks: what does not fit now goes with the next question.
    pub(crate) fn detach(&self, attachment: u64) {
        let mut pending = lock(&self.pending);
        pending.push(attachment);
        self.flush(&mut pending);
    }

    /// Whether the daemon has hung up.
    pub(crate) fn is_closed(&self) -> bool {
        let events = PollFlags::RDHUP;
        let mut fds = [PollFd::new(&self.socket, events)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match rustix::event::poll(&mut fds, Some(&now)) {
            Ok(_) => fds[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP | PollFlags::NVAL),
            Err(_) => false,
        }
    }

    fn flush(&self, pending: &mut Vec<u64>) {
        while let Some(&attachment) = pending.last() {
            let packet = ClientMessage::Detach { attachment }.encode();
            match send_with_fds(&self.socket, &packet, &[]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Hung up: the daemon has detached everything already.
                _ => pending.pop(),
            };
        }
    }

    /// One question and its answer; the exchange is the caller's.
    fn ask(
        &self,
        request: u32,
        message: &ClientMessage,
        what: &'static str,
        timeout: Duration,
    ) -> Result<(DaemonMessage, Vec<OwnedFd>), AttachError> {
        let deadline = Instant::now() + timeout;
        self.flush(&mut lock(&self.pending));
        self.send(message, deadline, what, timeout)?;
        let mut buffer = [0u8; MAX_MESSAGE];
        loop {
            self.wait_for(PollFlags::IN, deadline, what, timeout)?;
            let (len, fds) = match recv_with_fds(&self.socket, &mut buffer, MAX_DESCRIPTORS) {
                Ok((0, _)) => return Err(AttachError::Disconnected),
                Ok(received) => received,
                Err(e) => match e.kind() {
                    // Reset: it hung up without having read everything. Said once; what it sent
                    // before, and then the end, come next.
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => continue,
                    io::ErrorKind::InvalidData => {
                        return Err(AttachError::Protocol {
                            what: e.to_string(),
                        });
                    }
                    _ => return Err(AttachError::Io(e)),
                },
            };
            let answer =
                DaemonMessage::decode(&buffer[..len]).map_err(|e| AttachError::Protocol {
                    what: e.to_string(),
                })?;
            if answer.carries_descriptors() {
                let received = ClientMessage::Received {
                    request: answer.request(),
                };
                self.send(&received, deadline, what, timeout)?;
            }
            if answer.request() == request {
                return Ok((answer, fds));
            }
            // The answer to a question that was given up.
            if let DaemonMessage::Attached { attachment, .. } = answer {
                self.detach(attachment);
            }
        }
    }

    fn send(
        &self,
        message: &ClientMessage,
        deadline: Instant,
        what: &'static str,
        timeout: Duration,
    ) -> Result<(), AttachError> {
        let packet = message.encode();
        loop {
            match send_with_fds(&self.socket, &packet, &[]) {
                Ok(()) => return Ok(()),
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.wait_for(PollFlags::OUT, deadline, what, timeout)?;
                    }
                    // What it said before hanging up (a refusal, an answer) may still be there to
                    // read; receiving finds out.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(()),
                    _ => return Err(AttachError::Io(e)),
                },
            }
        }
    }

    fn wait_for(
        &self,
        events: PollFlags,
        deadline: Instant,
        what: &'static str,
        timeout: Duration,
    ) -> Result<(), AttachError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AttachError::TimedOut { what, timeout });
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&self.socket, events)];
            match rustix::event::poll(&mut fds, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(AttachError::Io(e.into())),
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Exactly `N` descriptors, or a protocol error; all of them are closed then.
pub(crate) fn descriptors<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], AttachError> {
    let found = fds.len();
    <[OwnedFd; N]>::try_from(fds).map_err(|_| AttachError::Protocol {
        what: format!("{found} descriptors where {N} belong"),
    })
}

pub(crate) fn unexpected(message: &DaemonMessage) -> AttachError {
    AttachError::Protocol {
        what: format!("unexpected answer {message:?}"),
    }
}

/// A lock whose data stays usable after a panic elsewhere: both are plain values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
