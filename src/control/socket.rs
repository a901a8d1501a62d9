//! The socket: one message and its descriptors per packet, blocking or in tokio.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// The longest message in bytes: a stream's configuration takes some 1 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most descriptors with one message.
pub const MAX_FDS: usize = 4;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel's answer.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// A message that is longer than allowed, or has more descriptors.
    #[error("control socket: a message of more than {MAX_MESSAGE} bytes or {MAX_FDS} descriptors")]
    TooLong,
    /// Descriptors that came with a message are lost: there were more than allowed, or this process may
    /// not have so many.
    #[error(
        "control socket: descriptors were lost on the way: more than {MAX_FDS}, or more than this process \
         may have open (LimitNOFILE=)"
    )]
    Descriptors,
    /// No message of the protocol. The content is not repeated: it may hold a password.
    #[error("control socket: not a message of this version ({category} at byte {column})")]
    Malformed {
        /// `syntax`, `data` or `eof`.
        category: &'static str,
        /// Where.
        column: usize,
    },
}

impl From<Errno> for ControlError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl ControlError {
    pub(crate) fn would_block(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn malformed(error: &serde_json::Error) -> Self {
        let category = match error.classify() {
            serde_json::error::Category::Io => "io",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "data",
            serde_json::error::Category::Eof => "eof",
        };
        Self::Malformed {
            category,
            column: error.column(),
        }
    }
}

/// A message with its descriptors, at most [`MAX_FDS`], in the order they were sent. Those that
/// the message does not call for are closed when this is dropped.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Its descriptors.
    pub fds: Vec<OwnedFd>,
}

/// One end of a control connection, blocking.
#[derive(Debug)]
pub struct ControlSocket {
    fd: OwnedFd,
}

impl ControlSocket {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { fd: a }, Self { fd: b }))
    }

    /// Takes an inherited end.
    ///
    /// # Errors
    /// The descriptor is not a packet socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&fd)? != SocketType::SEQPACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a packet socket",
            ));
        }
        Ok(Self { fd })
    }

    /// The descriptor itself, to hand it on.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends one message; waits while the socket's buffer is full. Thread-safe: packets are whole.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        let bytes = encode(message)?;
        loop {
            match send_packet(self.fd.as_fd(), &bytes, fds) {
                Err(error) if error.would_block() => self.wait(PollFlags::OUT)?,
                other => return other,
            }
        }
    }

    /// Waits for one message. `None`: the other end is closed. Thread-safe.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>, ControlError> {
        loop {
            match self.try_recv() {
                Err(error) if error.would_block() => self.wait(PollFlags::IN)?,
                other => return other,
            }
        }
    }

    /// As [`ControlSocket::recv`], with an error of kind `WouldBlock` where it would wait.
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>, ControlError> {
        recv_packet(self.fd.as_fd())
    }

    fn wait(&self, what: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.fd, what)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One end of a control connection in tokio: `&self` everywhere, so that one task can send while
/// another receives.
#[derive(Debug)]
pub struct AsyncControl {
    fd: AsyncFd<OwnedFd>,
}

impl AsyncControl {
    /// Registers the socket with the current runtime.
    pub fn new(socket: ControlSocket) -> io::Result<Self> {
        Ok(Self {
            fd: sys::watch_fd(socket.fd, Interest::READABLE | Interest::WRITABLE)?,
        })
    }

    /// Sends one message; waits while the socket's buffer is full, which a hostile or stopped
    /// reader can make last for ever: give it a deadline. Cancel-safe: a message is sent whole or
    /// not at all.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        let bytes = encode(message)?;
        loop {
            let mut ready = self.fd.writable().await?;
            match send_packet(self.fd.as_fd(), &bytes, fds) {
                Err(error) if error.would_block() => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// As [`AsyncControl::recv`], with an error of kind `WouldBlock` where it would wait.
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>, ControlError> {
        recv_packet(self.fd.as_fd())
    }

    /// Waits for one message. `None`: the other end is closed. Cancel-safe.
    pub async fn recv<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>, ControlError> {
        loop {
            let mut ready = self.fd.readable().await?;
            match recv_packet(self.fd.as_fd()) {
                Err(error) if error.would_block() => ready.clear_ready(),
                other => return other,
            }
        }
    }
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ControlError> {
    let bytes = serde_json::to_vec(message).map_err(|error| ControlError::malformed(&error))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(ControlError::TooLong);
    }
    Ok(bytes)
}

/// Sends without waiting.
fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), ControlError> {
    if fds.len() > MAX_FDS {
        return Err(ControlError::TooLong);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives without waiting.
fn recv_packet<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<Received<T>>, ControlError> {
    let mut bytes = vec![0u8; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        let iov = &mut [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, iov, &mut control, flags) {
            Ok(received) => break received,
            Err(Errno::INTR) => continue,
            // What a killed peer leaves behind is the end, too.
            Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    // Taken out before any error return: whatever came is owned, and closed when dropped.
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(ControlError::TooLong);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(ControlError::Descriptors);
    }
    // No message of the protocol is empty.
    if received.bytes == 0 {
        return Ok(None);
    }
    let message = decode(&bytes[..received.bytes])?;
    Ok(Some(Received { message, fds }))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(bytes).map_err(|error| ControlError::malformed(&error))
}
