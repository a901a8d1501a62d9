//! Codecs that change, codecs with something that one client does not read, pictures with holes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::camera::{Answer, Script, Sdp};
use crate::clip::Clip;
use crate::player::{PERIOD, Player};
use crate::world::{Fault, run};

/// H.264 in the first session, until `until` has ended it; H.265 in the next ones.
fn changing(until: impl Fn(&mut Player) -> std::io::Result<()> + Send + Sync + 'static) -> Script {
    let h265 = Clip::h265();
    let changed = Arc::new(AtomicBool::new(false));
    let sdp = h265.sdp(true);
    let describes = Arc::clone(&changed);
    let mut script = Script::request(move |request, _| {
        if request.method == "DESCRIBE" && describes.load(Ordering::SeqCst) {
            let length = sdp.len();
            let head = format!(
                "RTSP/1.0 200 OK\r\nCSeq: @CSEQ@\r\nContent-Type: application/sdp\r\n\
                 Content-Length: {length}\r\n\r\n{sdp}"
            );
            return Answer::Bytes(head.into_bytes());
        }
        Answer::Usual
    });
    script.play = Arc::new(move |p| {
        if !changed.swap(true, Ordering::SeqCst) {
            p.pictures(20)?;
            return until(p);
        }
        p.clip = Clip::h265();
        while p.faulty() {
            p.picture()?;
        }
        // And back again with the next session.
        p.close()
    });
    script
}

/// Two streams by turns, the parameter sets of both before each key frame.
fn several_sets() -> Script {
    let clips = [0, 1].map(|id| {
        let folder = tempfile::tempdir().expect("a folder");
        let x264 = format!("keyint=25:bframes=0:repeat-headers=1:sps-id={id}");
        Clip::encoded(folder.path(), "128x96", &x264)
    });
    Script::play(move |p| {
        while p.faulty() {
            for clip in &clips {
                for set in clips.iter().flat_map(|clip| [&clip.sps, &clip.pps]) {
                    let packet = p.rtp_packet(set, false);
                    p.packet(0, &packet)?;
                }
                for unit in &clip.units[..25] {
                    let slices: Vec<_> = unit.iter().filter(|n| n[0] & 0x1f < 6).collect();
                    for (i, nal) in slices.iter().enumerate() {
                        let packets = p.nal_packets(nal, i + 1 == slices.len());
                        p.send(&packets)?;
                    }
                    p.time = p.time.wrapping_add(p.step);
                    p.wait(PERIOD)?;
                }
            }
        }
        Ok(())
    })
    .with_sdp(Sdp::NoSets)
}

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::fails(
            "codec-change",
            "backoff",
            &["ended the stream"],
            changing(Player::close),
        )
        .tries(2)
        .frames(60)
        .unverified(),
        Fault::fails(
            "codec-change-in-session",
            "backoff",
            &["retina"],
            changing(|p| {
                p.clip = Clip::h265();
                p.for_ever()
            }),
        )
        .tries(2)
        .frames(60)
        .unverified(),
        Fault::fails(
            "several-parameter-sets",
            "backoff",
            &["parameter set that retina does not keep"],
            several_sets(),
        )
        .tries(2)
        .frames(40)
        .unverified(),
        Fault::fails(
            "time-change-in-fragments",
            "backoff",
            &["retina cannot follow"],
            Script::play(|p| {
                while p.faulty() {
                    let mut packets = p.picture_packets()?;
                    // Of a picture in fragments all but the first.
                    if p.sent > 25 && packets.len() > 3 {
                        for packet in packets.iter_mut().rev().take(2) {
                            packet[7] ^= 1;
                        }
                    }
                    p.send(&packets)?;
                }
                crate::rtp::to_key(p)
            }),
        )
        .tries(2)
        .frames(60)
        // The backtrace of a caught panic, where it is asked for, reads debug information.
        .memory(256),
        Fault::passes(
            "jpeg-hole",
            Script::play(|p| {
                while p.faulty() {
                    let mut packets = p.picture_packets()?;
                    if p.sent.is_multiple_of(3) {
                        packets.remove(packets.len() / 2);
                    }
                    p.send(&packets)?;
                }
                Ok(())
            })
            .with_clip(Clip::jpeg()),
        )
        .seen_as(&["MJPEG"])
        .counted("/frames_dropped/decode_error"),
    ]
}

#[test]
fn codecs_that_change_and_pictures_with_holes() {
    run(faults());
}
