//! `[network]`: the sockets of a session are as it says, whichever client has opened them.
#![deny(unsafe_code)]

#[path = "support/session.rs"]
mod session;
mod support;

use std::os::fd::OwnedFd;

use camring::config::{Client, Network};
use camring::reader::source::{SourceConfig, Transport};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use session::{Names, Running, patient};
use support::{Camera, Farm};
use url::Url;

/// This process's internet sockets, duplicated: the type, the mark and the receive buffer of each.
fn sockets() -> Vec<(SocketType, u8, usize)> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("a pidfd");
    let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let each = numbers.into_iter().filter_map(|number| {
        let fd: OwnedFd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
        (sockopt::socket_domain(&fd).ok()? == AddressFamily::INET).then_some(())?;
        Some((
            sockopt::socket_type(&fd).ok()?,
            sockopt::ip_tos(&fd).ok()?,
            sockopt::socket_recv_buffer_size(&fd).ok()?,
        ))
    });
    each.collect()
}

/// One after the other: the sockets of a process are those of one camera.
#[tokio::test]
async fn sockets_of_both_clients_are_marked_and_have_their_buffers() {
    let farm = Farm::start(&[Camera::new("cam", "h264-180p")]);
    let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("a number");
    let most: usize = most.trim().parse().expect("a number");
    for (client, transport, datagrams) in [
        (Client::Retina, Transport::Tcp, 0),
        (Client::Ffmpeg, Transport::Tcp, 0),
        (Client::Retina, Transport::Udp, 2),
        (Client::Ffmpeg, Transport::Udp, 2),
    ] {
        let mut config = SourceConfig::new("cam", Url::parse(farm.url("cam")).expect("a URL"));
        config.timeouts = patient();
        config.transport = transport;
        config.network = Network {
            dscp: 34,
            receive_buffer: 96 << 10,
        };
        let running = Running::start_by(client, config, Names(Vec::new()));
        running.until("pictures", |o| o.units.len() > 2).await;
        let seen = sockets();
        let what = format!("{client:?} over {transport}: {seen:?}");
        assert!(
            !seen.is_empty() && seen.iter().all(|(_, tos, _)| *tos == 34 << 2),
            "{what}"
        );
        let udp: Vec<_> = seen
            .iter()
            .filter(|(kind, _, _)| *kind == SocketType::DGRAM)
            .collect();
        assert_eq!(udp.len(), datagrams, "{what}");
        // The kernel doubles what it grants (socket(7)).
        assert!(
            udp.iter()
                .all(|(_, _, size)| *size == 2 * most.min(96 << 10)),
            "{what}"
        );
        running.stop().await;
    }
}
