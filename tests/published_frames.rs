//! A picture that has been published does not change: not with lost, cut, repeated, split or flipped
//! units, nor when parameter sets change.
//!
//! Published slots are write-protected (`media/area.rs`), so that a later write traps, and compared
//! with what was published. The last test decodes field-coded H.264 directly, which the reader never
//! does, and finds writes: the others could fail.

#[path = "media/area.rs"]
mod area;
#[path = "media/clips.rs"]
mod clips;
#[path = "media/paff.rs"]
mod paff;

use std::sync::Arc;

use area::{Area, Findings};
use camring::media::parameters::nal_units;
use camring::media::{
    Codec, Decoder, DecoderOptions, Picture, PictureDecoder, PictureDecoderOptions, PictureSlots,
};
use clips::{Clip, Random};
use paff::Paff;

const SLOT_BYTES: usize = 512 << 10;

/// What happens to a stream on its way.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Clean,
    /// One unit in four is lost.
    Loss,
    /// Some units end early.
    Cut,
    /// Some units come twice.
    Repeated,
    /// Each NAL unit comes by itself, some are lost.
    SplitNals,
    /// Each unit comes in two pieces, cut anywhere.
    SplitAnywhere,
    /// Bits flipped anywhere, parameter sets included.
    Flips,
    /// Bits flipped in the first bytes: parameter sets and slice headers.
    HeaderFlips,
    /// Bits flipped in parameter sets only.
    ParameterFlips,
    /// All of it.
    Everything,
}

const DAMAGES: [Damage; 10] = [
    Damage::Clean,
    Damage::Loss,
    Damage::Cut,
    Damage::Repeated,
    Damage::SplitNals,
    Damage::SplitAnywhere,
    Damage::Flips,
    Damage::HeaderFlips,
    Damage::ParameterFlips,
    Damage::Everything,
];

fn flip(unit: &mut [u8], range: usize, random: &mut Random) {
    let range = range.min(unit.len());
    for _ in 0..=random.below(3) {
        if range > 0 {
            unit[random.below(range)] ^= 1 << random.below(8);
        }
    }
}

/// What arrives of one unit.
fn damaged(codec: Codec, unit: &[u8], damage: Damage, random: &mut Random) -> Vec<Vec<u8>> {
    let damage = match damage {
        Damage::Everything => DAMAGES[random.below(DAMAGES.len() - 1)],
        other => other,
    };
    let mut unit = unit.to_vec();
    match damage {
        Damage::Clean | Damage::Everything => vec![unit],
        Damage::Loss if random.one_in(4) => Vec::new(),
        Damage::Cut if random.one_in(4) => {
            unit.truncate(20 + random.below(unit.len().saturating_sub(20)));
            vec![unit]
        }
        Damage::Repeated if random.one_in(6) => vec![unit.clone(), unit],
        Damage::SplitNals if codec != Codec::Mjpeg => nal_units(&unit)
            .filter(|_| !random.one_in(6))
            .map(|nal| [&[0, 0, 1], nal].concat())
            .collect(),
        Damage::SplitAnywhere if unit.len() > 64 => {
            let at = 20 + random.below(unit.len() - 40);
            vec![unit[..at].to_vec(), unit[at..].to_vec()]
        }
        Damage::Flips if random.one_in(3) => {
            let all = unit.len();
            flip(&mut unit, all, random);
            vec![unit]
        }
        Damage::HeaderFlips if random.one_in(3) => {
            flip(&mut unit, 80, random);
            vec![unit]
        }
        Damage::ParameterFlips => {
            flip_parameters(codec, &mut unit, random);
            vec![unit]
        }
        _ => vec![unit],
    }
}

/// Flips bits in a parameter set of the unit, if there is one.
fn flip_parameters(codec: Codec, unit: &mut [u8], random: &mut Random) {
    let start = unit.as_ptr() as usize;
    let set = nal_units(unit).find(|nal| match codec {
        Codec::H264 => nal[0] & 0x1f == 7,
        Codec::H265 => nal[0] >> 1 & 0x3f == 33,
        _ => false,
    });
    if let Some((at, len)) = set.map(|nal| (nal.as_ptr() as usize - start, nal.len())) {
        flip(&mut unit[at + 1..at + len], len - 1, random);
    }
}

#[derive(Debug, Default)]
struct Outcome {
    findings: Findings,
    in_place: usize,
    copied: usize,
    /// Pictures in a slot that had been output before.
    again: usize,
}

impl Outcome {
    fn add(&mut self, other: &Outcome) {
        self.findings.writes += other.findings.writes;
        self.findings.changed += other.findings.changed;
        self.findings.most_lent = self.findings.most_lent.max(other.findings.most_lent);
        self.in_place += other.in_place;
        self.copied += other.copied;
        self.again += other.again;
    }

    fn assert_unchanged(&self) {
        assert_eq!(
            (self.findings.writes, self.findings.changed),
            (0, 0),
            "{self:?}"
        );
    }
}

/// Publishes as the reader does: in place where allowed, else copied into a slot of its own.
fn publish(area: &Area, picture: &Picture, outcome: &mut Outcome) {
    outcome.again += usize::from(picture.already_output());
    if let Some(slot) = picture.in_place() {
        assert!(area.publish(slot), "one slot is never published twice");
        outcome.in_place += 1;
        return;
    }
    outcome.copied += 1;
    let Ok(bytes) = picture.copied_len() else {
        return;
    };
    area.publish_copy(bytes, |slot| picture.copy_into(slot).is_ok());
}

/// Sends units through a `PictureDecoder`.
fn play(codec: Codec, units: &[Vec<u8>], damage: Damage, threads: u32, seed: u64) -> Outcome {
    let area = Area::new(SLOT_BYTES);
    let mut random = Random::new(seed);
    let mut outcome = Outcome::default();
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec,
        threads,
        slots: Some(area.clone() as Arc<dyn PictureSlots>),
        max_pixels: 1 << 20,
    });
    let mut take = |decoder: &mut PictureDecoder| {
        // Each error used a packet up: it ends.
        loop {
            match decoder.next_picture() {
                Ok(Some(picture)) => publish(&area, &picture, &mut outcome),
                Ok(None) => break,
                Err(_) => {}
            }
        }
    };
    for unit in units {
        for piece in damaged(codec, unit, damage, &mut random) {
            let _ = decoder.submit(&piece, 0, 0);
            take(&mut decoder);
        }
        if matches!(damage, Damage::Everything) && random.one_in(30) {
            decoder.flush();
        }
    }
    decoder.finish();
    take(&mut decoder);
    drop(decoder);
    assert_eq!(area.lent(), 0, "every slot came back");
    outcome.findings = area.findings();
    outcome
}

/// Every damage with `seeds` seeds and one and two threads.
fn play_all(codec: Codec, units: &[Vec<u8>], seeds: u64) -> Outcome {
    let mut sum = Outcome::default();
    for damage in DAMAGES {
        for seed in 0..seeds {
            for threads in [1, 2] {
                let outcome = play(codec, units, damage, threads, seed);
                assert!(
                    outcome.findings.writes + outcome.findings.changed == 0,
                    "{damage:?}, seed {seed}, {threads} threads: {outcome:?}"
                );
                sum.add(&outcome);
            }
        }
    }
    println!("{codec}: {sum:?}");
    sum
}

fn clip(name: &str, codec: Codec, size: &str, arguments: &str) -> Clip {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = format!("testsrc2=size={size}:rate=25:duration=1.6,noise=alls=6:allf=t");
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    clips::make(folder.path(), name, codec, &source, &arguments)
}

#[test]
fn progressive_h264() {
    let few = clip(
        "few",
        Codec::H264,
        "320x240",
        "-c:v libx264 -preset ultrafast -x264-params aud=1:keyint=10:bframes=0:slices=3 -pix_fmt yuv420p",
    );
    let many = clip(
        "many",
        Codec::H264,
        "320x240",
        "-c:v libx264 -preset veryfast -x264-params aud=1:keyint=12:bframes=3:b-pyramid=normal:ref=4 -pix_fmt yuv420p",
    );
    for units in [&few.units, &many.units] {
        let sum = play_all(Codec::H264, units, 6);
        sum.assert_unchanged();
        assert!(sum.in_place > 2000, "{sum:?}");
    }
}

#[test]
fn h265() {
    let clip = clip(
        "hevc",
        Codec::H265,
        "320x240",
        "-c:v libx265 -preset ultrafast -x265-params aud=1:keyint=10:slices=2:log-level=error -pix_fmt yuv420p",
    );
    let sum = play_all(Codec::H265, &clip.units, 6);
    sum.assert_unchanged();
    assert!(sum.in_place > 2000, "{sum:?}");
}

#[test]
fn mjpeg() {
    for format in ["yuvj420p", "yuvj422p"] {
        let arguments = format!("-c:v mjpeg -q:v 6 -pix_fmt {format}");
        let clip = clip("jpeg", Codec::Mjpeg, "320x240", &arguments);
        let sum = play_all(Codec::Mjpeg, &clip.units, 3);
        sum.assert_unchanged();
        assert!(sum.in_place > 1000, "{sum:?}");
    }
}

#[test]
fn interlaced_h264_is_copied() {
    let mbaff = clip(
        "mbaff",
        Codec::H264,
        "320x256",
        "-c:v libx264 -preset veryfast -flags +ilme+ildct -x264-params aud=1:keyint=12:tff=1 -pix_fmt yuv420p",
    );
    let paff = Paff {
        width: 64,
        height: 64,
        idr_period: 10,
    }
    .fields(40);
    for units in [&mbaff.units, &paff] {
        let sum = play_all(Codec::H264, units, 4);
        sum.assert_unchanged();
        assert!(sum.copied > 1000, "{sum:?}");
        for threads in [1, 2] {
            let clean = play(Codec::H264, units, Damage::Clean, threads, 0);
            assert_eq!(
                (clean.in_place, clean.copied),
                (0, 40),
                "all of them copied"
            );
        }
    }
}

/// Sizes, codings and back again, without a word in between.
#[test]
fn parameter_sets_that_change() {
    let small = clip(
        "small",
        Codec::H264,
        "320x240",
        "-c:v libx264 -preset veryfast -x264-params aud=1:keyint=10:bframes=2:ref=3 -pix_fmt yuv420p",
    );
    let large = clip(
        "large",
        Codec::H264,
        "480x272",
        "-c:v libx264 -preset ultrafast -x264-params aud=1:keyint=10:bframes=0 -pix_fmt yuv420p",
    );
    let interlaced = clip(
        "interlaced",
        Codec::H264,
        "320x256",
        "-c:v libx264 -preset veryfast -flags +ilme+ildct -x264-params aud=1:keyint=10:tff=1 -pix_fmt yuv420p",
    );
    let fields = Paff {
        width: 320,
        height: 256,
        idr_period: 10,
    }
    .fields(10);
    let clips = [&small.units, &fields, &large.units, &interlaced.units];
    // Whole clips, then a switch in the middle of a GOP every few units.
    let whole: Vec<Vec<u8>> = clips
        .iter()
        .flat_map(|units| units.iter().cloned())
        .collect();
    let mut random = Random::new(99);
    let mut mixed = Vec::new();
    for _ in 0..24 {
        let units = clips[random.below(clips.len())];
        let start = random.below(units.len() - 4);
        let end = (start + 2 + random.below(12)).min(units.len());
        // Most begin with parameter sets, some in the middle of nothing.
        let key = if random.one_in(4) {
            start
        } else {
            start / 10 * 10
        };
        mixed.extend_from_slice(&units[key..end]);
    }
    for units in [&whole, &mixed] {
        let sum = play_all(Codec::H264, units, 2);
        sum.assert_unchanged();
        assert!(sum.in_place > 500 && sum.copied > 500, "{sum:?}");
    }
}

/// Field-coded H.264 drawn directly into published slots, lost units by index.
fn play_fields_directly(lost: &[usize], frames: u32, threads: u32) -> Outcome {
    let area = Area::new(SLOT_BYTES);
    let mut outcome = Outcome::default();
    let mut decoder = Decoder::open(DecoderOptions {
        codec: Codec::H264,
        threads,
        direct: true,
        slots: Some(area.clone()),
        max_pixels: 1 << 20,
    })
    .expect("a decoder");
    let fields = Paff {
        width: 64,
        height: 64,
        idr_period: 100,
    }
    .fields(frames);
    for (_, unit) in fields
        .iter()
        .enumerate()
        .filter(|(index, _)| !lost.contains(index))
    {
        let _ = decoder.send(unit, 0, 0);
        while let Ok(Some(picture)) = decoder.receive() {
            outcome.again += usize::from(picture.already_output());
            if let Some(slot) = picture.slot() {
                outcome.in_place += usize::from(area.publish(slot));
            }
        }
    }
    drop(decoder);
    outcome.findings = area.findings();
    outcome
}

/// Why interlaced streams are copied, and proof that the traps work: frame n and the bottom fields of
/// n + 1 and n + 2 are lost, then the top field of n + 3 is output alone and its bottom field is drawn
/// into the published slot.
#[test]
fn control_fields_drawn_directly_do_change_published_pictures() {
    let n = 4;
    let lost = [2 * n, 2 * n + 1, 2 * (n + 1) + 1, 2 * (n + 2) + 1];
    for threads in [1, 2] {
        let clean = play_fields_directly(&[], 12, threads);
        assert!(clean.in_place >= 10, "{clean:?}");
        let outcome = play_fields_directly(&lost, 12, threads);
        assert!(outcome.findings.writes > 0, "{outcome:?}");
        assert!(outcome.findings.changed > 0, "{outcome:?}");
        assert!(outcome.again > 0, "{outcome:?}");
    }
}
