//! What is inside the packets: fragments, sizes, parameter sets, pictures.

use std::io;
use std::time::Duration;

use crate::camera::{Script, Sdp};
use crate::clip::{Clip, base64};
use crate::player::Player;
use crate::rtp::to_key;
use crate::world::{Fault, run};

/// A fragment of a NAL unit of type 1 with these bits (start 0x80, end 0x40).
fn fragment(p: &mut Player, bits: u8, size: usize, last: bool) -> io::Result<()> {
    let mut payload = vec![0x7c, bits | 1];
    payload.resize(size, 0x55);
    let packet = p.rtp_packet(&payload, last);
    p.packet(0, &packet)
}

/// One NAL unit of so many bytes as a picture, then an ordinary picture.
fn huge(p: &mut Player, bytes: usize) -> io::Result<()> {
    p.picture()?;
    fragment(p, 0x80, 60_000, false)?;
    for _ in 0..bytes / 60_000 {
        fragment(p, 0, 60_000, false)?;
    }
    fragment(p, 0x40, 60_000, true)?;
    p.time = p.time.wrapping_add(p.step);
    p.wait(Duration::from_secs(2))
}

/// An H.264 SPS, baseline, of 16384 × 16384.
fn sps_16384() -> Vec<u8> {
    let mut bits = String::new();
    let ue = |value: u32| {
        let text = format!("{:b}", value + 1);
        "0".repeat(text.len() - 1) + &text
    };
    for value in [0, 0, 2, 1] {
        bits += &ue(value); // id, log2_max_frame_num - 4, poc type, reference frames
    }
    bits += "0";
    bits += &ue(1023);
    bits += &ue(1023);
    bits += "11001"; // frames only, direct 8x8, no cropping, no VUI, stop bit
    while !bits.len().is_multiple_of(8) {
        bits.push('0');
    }
    let mut sps = vec![0x67, 66, 0xc0, 62];
    for byte in bits.as_bytes().chunks(8) {
        sps.push(byte.iter().fold(0, |b, bit| b << 1 | (bit - b'0')));
    }
    sps
}

fn sdp_with(sps: &[u8], pps: &[u8]) -> Script {
    Script::sdp(&format!(
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;\
         sprop-parameter-sets={},{}\r\na=control:track0\r\n",
        base64(sps),
        base64(pps)
    ))
}

pub fn faults() -> Vec<Fault> {
    let usual = Clip::usual();
    let folder = tempfile::tempdir().expect("a folder");
    let other = Clip::encoded(
        folder.path(),
        "192x128",
        "keyint=25:bframes=3:repeat-headers=1",
    );
    vec![
        Fault::fails(
            "fragment-endless",
            "backoff",
            &["no picture for"],
            Script::play(|p| {
                p.pictures(10)?;
                fragment(p, 0x80, 1200, false)?;
                loop {
                    fragment(p, 0, 1200, false)?;
                    p.wait(Duration::from_millis(10))?;
                }
            }),
        )
        .tries(2),
        Fault::fails(
            "fragment-headless",
            "backoff",
            &["unusable packets", "FU-A"],
            Script::play(|p| {
                p.pictures(10)?;
                loop {
                    fragment(p, 0x40, 1200, true)?;
                    p.time = p.time.wrapping_add(p.step);
                    p.wait(crate::player::PERIOD)?;
                }
            }),
        ),
        Fault::passes(
            "nal-60-mb",
            Script::play(|p| {
                p.pictures(5)?;
                if p.faulty() {
                    huge(p, 60_000_000)?;
                    p.at = p.at.next_multiple_of(25);
                }
                Ok(())
            }),
        )
        .memory(256)
        .counted("/frames_dropped/oversize"),
        Fault::fails(
            "sps-16384",
            "backoff",
            &["none was decoded"],
            Script::play(|p| {
                let sps = sps_16384();
                loop {
                    let clip = Clip::usual();
                    let packet = p.rtp_packet(&sps, false);
                    p.packet(0, &packet)?;
                    let packet = p.rtp_packet(&clip.pps, false);
                    p.packet(0, &packet)?;
                    let packet = p.rtp_packet(&[0x65, 0x88, 0x84, 0x21, 0xa0], true);
                    p.packet(0, &packet)?;
                    p.time = p.time.wrapping_add(p.step);
                    p.wait(crate::player::PERIOD)?;
                }
            }),
        )
        .tries(2),
        Fault::passes("parameter-sets-invalid", sdp_with(&[0x67, 0xff], &[0x68])),
        Fault::passes(
            "parameter-sets-late",
            Script::play(|p| {
                // Slices of a stream joined in the middle, then all in band.
                p.at = 10;
                Ok(())
            })
            .with_sdp(Sdp::NoSets),
        ),
        Fault::passes(
            "parameter-sets-wrong",
            sdp_with(&usual.sps, &[0x68, 0xff, 0xff, 0xff, 0x80]),
        ),
        Fault::passes(
            "one-key-frame",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    if p.at == 25 {
                        // The last picture again and again: a P picture that changes nothing much.
                        while p.faulty() {
                            p.at = 24;
                            p.picture()?;
                        }
                    }
                }
                Ok(())
            }),
        )
        .frames(80)
        .unverified(),
        Fault::passes("b-pictures", Script::default().with_clip(other)).frames(40),
        Fault::fails(
            "no-key-frame",
            "connecting",
            &["waiting for a key frame"],
            Script::play(|p| {
                while p.faulty() {
                    if p.at.is_multiple_of(25) {
                        p.at += 1;
                    }
                    p.picture()?;
                }
                to_key(p)
            }),
        )
        .pace(crate::world::Pace::Stays)
        .tries(1),
        Fault::passes(
            "picture-empty",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    let packet = p.rtp_packet(&[0x41], true);
                    p.packet(0, &packet)?;
                    p.time = p.time.wrapping_add(p.step);
                }
                to_key(p)
            }),
        )
        .unverified(),
    ]
}

#[test]
fn fragments_sizes_and_parameter_sets() {
    run(faults());
}
