//! No picture that differs from what the camera sent passes as whole: real streams, open groups of
//! pictures and gradual refresh among them, from which units are lost.

use std::collections::HashMap;

use camring::media::parameters::scan;
use camring::media::{Codec, Picture, PictureDecoder, PictureDecoderOptions};
use camring::reader::damage::Damage;

use crate::clips::{self, Clip, Random};

fn clip(name: &str, codec: Codec, arguments: &str) -> Clip {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Everything moves: a picture that refers to what is missing differs.
    let source = "testsrc2=size=192x128:rate=25:duration=6,noise=alls=8:allf=t";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    clips::make(folder.path(), name, codec, source, &arguments)
}

fn decoder(codec: Codec) -> PictureDecoder {
    PictureDecoder::new(PictureDecoderOptions {
        codec,
        threads: 1,
        slots: None,
        max_pixels: 1 << 20,
    })
}

fn pixels(picture: &Picture) -> Vec<u8> {
    let mut copy = vec![0; picture.copied_len().expect("a size")];
    picture.copy_into(&mut copy).expect("room for it");
    copy
}

/// Each picture that comes out, with the number of its unit. False: the decoder refused a unit.
fn take(decoder: &mut PictureDecoder, mut each: impl FnMut(u64, &Picture)) -> bool {
    loop {
        match decoder.next_picture() {
            Ok(Some(picture)) => each(picture.opaque(), &picture),
            Ok(None) => return !decoder.refused(),
            Err(_) => return false,
        }
    }
}

fn clean(clip: &Clip) -> HashMap<u64, Vec<u8>> {
    let mut decoder = decoder(clip.codec);
    let mut all = HashMap::new();
    for (index, unit) in (0u64..).zip(&clip.units) {
        decoder.submit(unit, 0, index).expect("a clean clip");
        assert!(take(&mut decoder, |n, p| drop(all.insert(n, pixels(p)))));
    }
    decoder.finish();
    assert!(take(&mut decoder, |n, p| drop(all.insert(n, pixels(p)))));
    assert_eq!(all.len(), clip.units.len());
    all
}

#[derive(Debug, Default)]
struct Tally {
    /// Came out, not marked as damaged, and are what the camera sent.
    whole: usize,
    /// Came out marked, and do differ.
    damaged: usize,
    /// Came out marked, and are what the camera sent.
    cautious: usize,
}

/// Decodes from unit `start` on without those that `lost` says, as the reader does.
fn play(
    clip: &Clip,
    clean: &HashMap<u64, Vec<u8>>,
    start: usize,
    mut lost: impl FnMut(usize) -> bool,
    tally: &mut Tally,
) {
    let mut decoder = decoder(clip.codec);
    let mut damage = Damage::default();
    let mut corrupt = HashMap::new();
    let mut fresh = true;
    let mut judge = |n: u64, picture: &Picture, corrupt: bool| {
        let same = clean[&n] == pixels(picture);
        // As the publisher has it.
        match (corrupt || picture.decode_error(), same) {
            (false, true) => tally.whole += 1,
            (true, false) => tally.damaged += 1,
            (true, true) => tally.cautious += 1,
            (false, false) => panic!("unit {n} (started at {start}) passes as whole"),
        }
    };
    for (index, unit) in clip.units.iter().enumerate().skip(start) {
        if lost(index) {
            damage.lost();
            continue;
        }
        let info = scan(clip.codec, unit);
        let key = info.key || info.recovery_point.is_some();
        let marked = damage.unit(clip.codec, unit, index as u64, key, fresh);
        fresh &= !key;
        if fresh {
            continue;
        }
        corrupt.insert(index as u64, marked);
        let mut refused = decoder.submit(unit, 0, index as u64).is_err();
        refused |= !take(&mut decoder, |n, p| {
            let early = damage.shown(n);
            judge(n, p, corrupt[&n] || early);
        });
        if refused {
            damage.refused(clip.codec, unit);
        }
    }
    decoder.finish();
    take(&mut decoder, |n, p| {
        let early = damage.shown(n);
        judge(n, p, corrupt[&n] || early);
    });
}

/// Many losses, and many places to begin at.
fn check(clip: &Clip) -> Tally {
    let clean = clean(clip);
    let mut tally = Tally::default();
    play(clip, &clean, 0, |_| false, &mut tally);
    assert_eq!((tally.whole, tally.damaged), (clip.units.len(), 0));
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let one_in = [8, 20, 60][seed as usize % 3];
        play(clip, &clean, 0, |_| random.one_in(one_in), &mut tally);
    }
    for start in 1..clip.units.len() - 60 {
        play(clip, &clean, start, |n| n > start + 60, &mut tally);
    }
    // Each unit lost by itself.
    for only in 1..90 {
        play(clip, &clean, 0, |n| n == only || n > 110, &mut tally);
    }
    println!("{}: {tally:?}", clip.path.display());
    assert!(tally.damaged > 100 && tally.whole > 1000, "{tally:?}");
    tally
}

#[test]
fn h264_with_gradual_refresh() {
    let clip = clip(
        "refresh",
        Codec::H264,
        "-c:v libx264 -preset veryfast -x264-params \
         aud=1:intra-refresh=1:keyint=20:bframes=0:ref=2:repeat-headers=1 -pix_fmt yuv420p",
    );
    let infos: Vec<_> = clip.units.iter().map(|u| scan(clip.codec, u)).collect();
    assert_eq!(infos.iter().filter(|info| info.key).count(), 1);
    assert!(infos.iter().filter(|i| i.recovery_point > Some(0)).count() > 4);
    check(&clip);
}

#[test]
fn h264_with_b_pictures_in_open_groups() {
    let clip = clip(
        "open",
        Codec::H264,
        "-c:v libx264 -preset veryfast -x264-params \
         aud=1:open-gop=1:keyint=12:min-keyint=12:bframes=3:b-pyramid=normal:ref=3:scenecut=0:\
         repeat-headers=1 -pix_fmt yuv420p",
    );
    check(&clip);
}

#[test]
fn h265_with_open_groups() {
    let clip = clip(
        "open",
        Codec::H265,
        "-c:v libx265 -preset ultrafast -x265-params \
         aud=1:open-gop=1:keyint=12:min-keyint=12:bframes=3:ref=3:scenecut=0:repeat-headers=1:\
         log-level=error -pix_fmt yuv420p",
    );
    let rasl = clip.units.iter().filter(|u| scan(clip.codec, u).rasl);
    assert!(rasl.count() > 10, "no leading pictures");
    check(&clip);
}

/// A packet lost in the middle of a JPEG picture: nothing but the picture itself says so.
#[test]
fn jpeg_with_a_hole() {
    for quality in ["3", "12"] {
        let clip = clip(
            "holes",
            Codec::Mjpeg,
            &format!("-c:v mjpeg -q:v {quality} -pix_fmt yuvj420p"),
        );
        let clean = clean(&clip);
        let mut random = Random::new(5);
        let (mut refused, mut whole) = (0, 0);
        for round in 0..10 {
            let mut decoder = decoder(clip.codec);
            for (index, unit) in (0u64..).zip(&clip.units) {
                let mut unit = unit.clone();
                // After the headers; the end of image is there.
                let at = 700 + random.below(unit.len() - 900);
                let length = (200 + random.below(1200)).min(unit.len() - at - 2);
                let hole = (index + round) % 3 != 0;
                if hole {
                    unit.drain(at..at + length);
                }
                let mut seen = 0;
                refused += usize::from(decoder.submit(&unit, 0, index).is_err());
                loop {
                    match decoder.next_picture() {
                        Ok(Some(picture)) => {
                            seen += 1;
                            let same = clean[&index] == pixels(&picture);
                            assert!(
                                same,
                                "picture {index}: {length} bytes from {at} on are missing"
                            );
                        }
                        Ok(None) => break,
                        Err(_) => refused += 1,
                    }
                }
                assert!(hole || seen == 1, "picture {index} is whole");
                whole += seen;
            }
        }
        println!("quality {quality}: {refused} refused, {whole} whole");
        assert!(
            refused > 500 && whole >= 500,
            "{refused} refused, {whole} whole"
        );
    }
}
