//! RTP headers, loss, order.

use crate::camera::Script;
use crate::player::Player;
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

/// Up to the next key frame: from there on everything is whole.
pub fn to_key(p: &mut Player) -> std::io::Result<()> {
    while !p.at.is_multiple_of(25) {
        p.picture()?;
    }
    Ok(())
}

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::passes(
            "payload-type-wrong",
            Script::play(|p| {
                p.pictures(10)?;
                p.payload_type = 33;
                p.for_ever()
            }),
        ),
        Fault::fails(
            "ssrc-change",
            "backoff",
            &["unusable packets", "ssrc"],
            Script::play(|p| {
                p.pictures(10)?;
                p.ssrc = 0x8765_4321;
                p.for_ever()
            }),
        ),
        Fault::passes(
            "sequence-forward",
            Script::play(|p| {
                while p.faulty() {
                    p.pictures(30)?;
                    p.sequence = p.sequence.wrapping_add(3000);
                }
                Ok(())
            }),
        )
        .counted("/rtp_packets_lost"),
        Fault::fails(
            "sequence-back",
            "backoff",
            &["unusable packets"],
            Script::play(|p| {
                p.pictures(10)?;
                p.sequence = p.sequence.wrapping_sub(1000);
                p.for_ever()
            }),
        ),
        Fault::passes("loss-1-percent", losing(100)).frames(100),
        Fault::passes("loss-10-percent", losing(10)).counted("/rtp_packets_lost"),
        Fault::fails(
            "reordering",
            "backoff",
            &["unusable packets"],
            Script::play(|p| {
                while p.faulty() {
                    let mut packets = p.picture_packets()?;
                    packets.extend(p.picture_packets()?);
                    let last = packets.len() - 1;
                    packets.swap(last, last - 1);
                    p.send(&packets)?;
                }
                Ok(())
            }),
        ),
        Fault::fails(
            "duplicates",
            "backoff",
            &["unusable packets"],
            Script::play(|p| {
                while p.faulty() {
                    for packet in p.picture_packets()? {
                        p.packet(0, &packet)?;
                        p.packet(0, &packet)?;
                    }
                }
                Ok(())
            }),
        ),
        Fault::passes(
            "no-marker",
            Script::play(|p| {
                p.no_marker = true;
                while p.faulty() {
                    p.picture()?;
                }
                p.no_marker = false;
                Ok(())
            }),
        ),
        Fault::fails(
            "rtp-stops",
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
        Fault::fails(
            "rtp-header-garbage",
            "backoff",
            &["unusable packets"],
            Script::play(|p| {
                p.pictures(10)?;
                loop {
                    p.packet(0, &[0x13; 40])?;
                    p.wait(crate::player::PERIOD)?;
                }
            }),
        ),
    ]
}

#[test]
fn packets_lost_doubled_misnumbered() {
    run(faults());
}
