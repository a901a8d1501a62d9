//! Sender reports, or what is sent in their place. Most cameras of this suite send none at all.

use crate::camera::Script;
use crate::world::{Fault, run};

/// An empty receiver report, then BYE, as compound packets begin with a report.
pub fn bye() -> Vec<u8> {
    let mut packets = vec![0x80, 201, 0, 1, 0x12, 0x34, 0x56, 0x78];
    packets.extend_from_slice(&[0x81, 203, 0, 1, 0x12, 0x34, 0x56, 0x78]);
    packets
}

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::passes("no-sender-reports", Script::default()),
        Fault::passes(
            "sender-reports-absurd",
            Script::play(|p| {
                while p.faulty() {
                    p.pictures(3)?;
                    // 1900, 2036, and anything between.
                    let ntp = match p.sent % 4 {
                        0 => 0,
                        1 => u64::MAX,
                        _ => p.random(u64::MAX),
                    };
                    p.sender_report(ntp)?;
                }
                Ok(())
            }),
        )
        .frames(40),
        Fault::passes(
            "rtcp-garbage",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    p.packet(1, &[0x13, 200, 0, 1])?;
                }
                Ok(())
            }),
        )
        .counted("/glitches"),
        Fault::fails(
            "bye",
            "backoff",
            &["goodbye"],
            Script::play(|p| {
                p.pictures(10)?;
                p.packet(1, &bye())?;
                p.silence()
            }),
        ),
    ]
}

#[test]
fn reports_that_are_absent_or_absurd() {
    run(faults());
}
