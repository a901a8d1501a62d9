//! What comes between and instead of RTP packets on the connection.

use crate::camera::Script;
use crate::world::{Fault, run};

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::fails(
            "garbage",
            "backoff",
            &["protocol error", "streaming"],
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                loop {
                    p.raw(&[0x13; 300])?;
                    p.wait(crate::player::PERIOD)?;
                }
            }),
        ),
        Fault::passes(
            "foreign-channels",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    p.packet(7, &[0x55; 500])?;
                }
                Ok(())
            }),
        ),
        Fault::passes(
            "camera-asks",
            Script::play(|p| {
                while p.faulty() {
                    let ask = format!("OPTIONS * RTSP/1.0\r\nCSeq: {}\r\n\r\n", p.sent);
                    p.raw(ask.as_bytes())?;
                    p.picture()?;
                }
                Ok(())
            }),
        ),
        Fault::fails(
            "fin-mid-frame",
            "backoff",
            &["ended the stream", "middle"],
            Script::play(|p| {
                p.pictures(10)?;
                p.raw(&[b'$', 0, 4, 0, 0x80, 96])?;
                p.close()
            }),
        ),
        Fault::fails(
            "rst-mid-frame",
            "backoff",
            &["ended the stream"],
            Script::play(|p| {
                p.pictures(10)?;
                p.raw(&[b'$', 0, 4, 0, 0x80, 96])?;
                p.reset()
            }),
        ),
        Fault::fails(
            "fin",
            "backoff",
            &["ended the stream", "closed"],
            Script::play(|p| {
                p.pictures(10)?;
                p.close()
            }),
        ),
        Fault::fails(
            "packet-never-completed",
            "backoff",
            &["no picture for"],
            Script::play(|p| {
                p.pictures(10)?;
                p.raw(&[b'$', 0, 0xff, 0xff, 0x80, 96])?;
                p.silence()
            }),
        )
        .tries(2),
        Fault::fails(
            "empty-packets",
            "backoff",
            &["unusable packets"],
            Script::play(|p| {
                p.pictures(10)?;
                loop {
                    p.packet(0, &[])?;
                    p.wait(crate::player::PERIOD)?;
                }
            }),
        ),
    ]
}

#[test]
fn what_comes_between_and_instead_of_packets() {
    run(faults());
}
