//! The sockets of this process to the network: found, and set.
//!
//! The clients that speak to cameras open their sockets themselves and show them to nobody, so they
//! are found among the descriptors. A process has those of one camera, and no others but Unix sockets.
//! Must never: read from or write to a socket, or close one.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::net::{AddressFamily, SocketType, sockopt};

/// Descriptors above this are not looked at. A process that speaks to a camera has some ten, and four
/// for each subscriber.
const LOOKED_AT: RawFd = 4096;

/// What came of [`tune`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    /// Sockets that are marked.
    pub marked: u32,
    /// UDP sockets whose buffer was asked for.
    pub buffered: u32,
    /// The smallest buffer that the kernel granted, in bytes.
    pub granted: Option<u64>,
    /// Sockets that refused one of both.
    pub refused: u32,
}

/// Gives all internet sockets of this process this DSCP (0: leaves it), and all UDP sockets among them this
/// receive buffer (`None`: leaves it). Safe to call at any time, from any thread.
pub fn tune(dscp: u8, receive_buffer: Option<u64>) -> Tuned {
    let mut tuned = Tuned::default();
    for fd in 3..LOOKED_AT {
        // SAFETY: the descriptor may be closed, or be closed and opened anew by another thread, while
        // it is looked at. Nothing here touches memory through it: it is an argument of getsockopt and
        // setsockopt, which refuse what is closed or no socket; the borrow ends with this round.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let Ok(family @ (AddressFamily::INET | AddressFamily::INET6)) = sockopt::socket_domain(fd)
        else {
            continue;
        };
        if dscp != 0 {
            match mark(fd, family, dscp) {
                Ok(()) => tuned.marked += 1,
                Err(_) => tuned.refused += 1,
            }
        }
        if let (Some(wanted), Ok(SocketType::DGRAM)) = (receive_buffer, sockopt::socket_type(fd)) {
            match buffer(fd, wanted) {
                Ok(granted) => {
                    tuned.buffered += 1;
                    let least = tuned.granted.map_or(granted, |least| least.min(granted));
                    tuned.granted = Some(least);
                }
                Err(_) => tuned.refused += 1,
            }
        }
    }
    tuned
}

/// The upper six bits of the byte are the DSCP; the lower two are the kernel's (RFC 3168).
fn mark(fd: BorrowedFd<'_>, family: AddressFamily, dscp: u8) -> io::Result<()> {
    let byte = dscp << 2;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_tclass(fd, byte.into())?;
        // What goes to an IPv4 address through it. A socket for IPv6 alone need not have it.
        let _ = sockopt::set_ip_tos(fd, byte);
        return Ok(());
    }
    Ok(sockopt::set_ip_tos(fd, byte)?)
}

/// What the kernel grants, which it doubles for its own bookkeeping (socket(7)).
fn buffer(fd: BorrowedFd<'_>, wanted: u64) -> io::Result<u64> {
    let size = usize::try_from(wanted).unwrap_or(usize::MAX).min(1 << 30);
    sockopt::set_socket_recv_buffer_size(fd, size)?;
    Ok(sockopt::socket_recv_buffer_size(fd)? as u64 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSliceMut;
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};

    #[test]
    fn the_peer_sees_the_mark() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        sockopt::set_ip_recvtos(&peer, true).unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        mark(own.as_fd(), AddressFamily::INET, 34).unwrap();
        own.send_to(b"x", peer.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 8];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!(u8);
        let fd = peer.as_raw_fd();
        let message =
            recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
        let seen: Vec<_> = message.cmsgs().unwrap().collect();
        assert_eq!(seen, [ControlMessageOwned::Ipv4Tos(34 << 2)]);
    }

    #[test]
    fn the_kernel_says_what_it_grants() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let most: u64 = most.trim().parse().unwrap();
        assert_eq!(
            buffer(socket.as_fd(), 64 << 10).unwrap(),
            most.min(64 << 10)
        );
        assert_eq!(buffer(socket.as_fd(), 1 << 40).unwrap(), most.min(1 << 30));
    }

    #[test]
    fn all_internet_sockets_of_the_process_are_found() {
        let sockets = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)),
        );
        let (_unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        // Tests beside this one have sockets, too.
        let tuned = tune(46, None);
        assert!(
            tuned.marked >= 2 + u32::from(sockets.2.is_ok()),
            "{tuned:?}"
        );
        assert_eq!((tuned.buffered, tuned.granted), (0, None));
        assert_eq!(sockopt::ip_tos(&sockets.0).unwrap(), 46 << 2);
        assert_eq!(sockopt::ip_tos(&sockets.1).unwrap(), 46 << 2);
        if let Ok(socket) = &sockets.2 {
            assert_eq!(sockopt::ipv6_tclass(socket).unwrap(), 46 << 2);
        }
    }
}
