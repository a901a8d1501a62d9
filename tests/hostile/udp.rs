//! RTP over UDP: what a network does to packets, and who else may send some.

use std::net::UdpSocket;

use crate::camera::Script;
use crate::player::Player;
use crate::rtp::to_key;
use crate::world::{Fault, run};

/// Loses one packet in so many.
fn losing(one_in: u64) -> Script {
    Script::play(move |p| {
        while p.faulty() {
            for packet in p.picture_packets()? {
                if p.random(one_in) != 0 {
                    p.packet(0, &packet)?;
                }
            }
        }
        to_key(p)
    })
}

/// What somebody else might send: no RTP at all, another version, another payload type.
fn foreign(p: &mut Player, from: &UdpSocket) -> std::io::Result<()> {
    let mut other = p.rtp_packet(&[0x65, 0x88, 0x84], true);
    p.sequence = p.sequence.wrapping_sub(1);
    other[1] = 33;
    let mut old = other.clone();
    old[0] = 0x40;
    if let Some((_, to)) = &p.udp {
        for packet in [&b"hello"[..], &[0xff; 1200], &[0x80], &other, &old] {
            from.send_to(packet, to)?;
        }
    }
    Ok(())
}

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::passes(
            "udp-reordering",
            Script::play(|p| {
                while p.faulty() {
                    // Two pictures at a time, so that also the last of one is overtaken.
                    let mut packets = p.picture_packets()?;
                    packets.extend(p.picture_packets()?);
                    for at in 1..packets.len() {
                        if p.random(5) == 0 {
                            packets.swap(at - 1, at);
                        }
                    }
                    p.send(&packets)?;
                }
                Ok(())
            }),
        )
        .frames(60),
        Fault::passes(
            "udp-duplicates",
            Script::play(|p| {
                while p.faulty() {
                    for packet in p.picture_packets()? {
                        p.packet(0, &packet)?;
                        p.packet(0, &packet)?;
                    }
                }
                Ok(())
            }),
        )
        .frames(60),
        Fault::passes("udp-loss-1-percent", losing(100)).counted("/rtp_packets_lost"),
        Fault::passes("udp-loss-10-percent", losing(10)).counted("/rtp_packets_lost"),
        Fault::passes(
            "udp-foreign-packets",
            Script::play(|p| {
                let other = UdpSocket::bind("127.0.0.2:0")?;
                while p.faulty() {
                    foreign(p, &other)?;
                    p.picture()?;
                }
                Ok(())
            }),
        )
        .frames(60),
        Fault::fails(
            "udp-stops",
            "backoff",
            &["no picture for"],
            Script::play(|p| {
                p.pictures(10)?;
                // Keepalives are answered.
                p.silence()
            })
            .session_timeout(2),
        )
        .tries(2),
    ]
    .into_iter()
    .map(Fault::over_udp)
    .collect()
}

#[test]
fn packets_of_their_own() {
    run(faults());
}
