//! Stream parameters as `ffprobe` sees them.

use std::collections::HashMap;
use std::process::Command;

use camring::media::Codec;
use camring::media::parameters::{StreamParameters, scan};

use crate::area::Area;
use crate::clips::{self, Clip};
use crate::decode::decode;

fn probe(clip: &Clip) -> HashMap<String, String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "-of", "default=nokey=0"])
        .arg(&clip.path)
        .output()
        .expect("the ffprobe program is needed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn parameters(clip: &Clip) -> StreamParameters {
    let info = scan(clip.codec, &clip.units[0]);
    assert!(info.key && info.picture);
    info.parameters.expect("the first unit has parameter sets")
}

const CASES: &[(&str, Codec, &str, &str)] = &[
    (
        "hd",
        Codec::H264,
        "1920x1080",
        "-c:v libx264 -preset ultrafast -x264-params aud=1 -pix_fmt yuv420p",
    ),
    (
        "base",
        Codec::H264,
        "1366x770",
        "-c:v libx264 -preset veryfast -profile:v baseline -x264-params aud=1 -pix_fmt yuv420p",
    ),
    (
        "high",
        Codec::H264,
        "642x362",
        "-c:v libx264 -preset medium -x264-params aud=1:bframes=3:b-pyramid=normal:ref=4 -pix_fmt yuv420p",
    ),
    (
        "matrices",
        Codec::H264,
        "322x242",
        "-c:v libx264 -x264-params aud=1:cqm=jvt -pix_fmt yuv420p",
    ),
    (
        "hrd",
        Codec::H264,
        "322x242",
        "-c:v libx264 -b:v 1M -maxrate 1M -bufsize 1M -x264-params aud=1:nal-hrd=cbr -pix_fmt yuv420p -color_range pc -colorspace bt709 -aspect 4:3",
    ),
    (
        "mbaff",
        Codec::H264,
        "322x244",
        "-c:v libx264 -flags +ilme+ildct -x264-params aud=1:tff=1 -pix_fmt yuv420p",
    ),
    (
        "i444",
        Codec::H264,
        "321x243",
        "-c:v libx264 -x264-params aud=1:cqm=jvt -pix_fmt yuv444p",
    ),
    (
        "ten",
        Codec::H264,
        "322x242",
        "-c:v libx264 -x264-params aud=1 -pix_fmt yuv420p10le",
    ),
    (
        "main",
        Codec::H265,
        "1366x770",
        "-c:v libx265 -preset ultrafast -x265-params aud=1:log-level=error -pix_fmt yuv420p",
    ),
    (
        "deep",
        Codec::H265,
        "322x242",
        "-c:v libx265 -preset medium -x265-params aud=1:bframes=4:ref=4:log-level=error -pix_fmt yuv420p10le",
    ),
    (
        "full",
        Codec::H265,
        "321x243",
        "-c:v libx265 -preset fast -x265-params aud=1:temporal-layers=1:log-level=error -pix_fmt yuv444p",
    ),
    (
        "jpeg",
        Codec::Mjpeg,
        "321x241",
        "-c:v mjpeg -pix_fmt yuvj422p",
    ),
];

#[test]
fn size_profile_level_and_reordering() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, codec, size, arguments) in CASES {
        let source = format!("testsrc=size={size}:rate=25:duration=1");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let clip = clips::make(folder.path(), name, *codec, &source, &arguments);
        let (ours, theirs) = (parameters(&clip), probe(&clip));
        let number = |key: &str| theirs[key].parse::<u32>().expect("a number");
        assert_eq!(
            (ours.width, ours.height),
            (number("width"), number("height")),
            "{name}"
        );
        let chroma = match theirs["pix_fmt"]
            .trim_start_matches("yuvj")
            .trim_start_matches("yuv")
        {
            format if format.starts_with("420") => 1,
            format if format.starts_with("422") => 2,
            _ => 3,
        };
        assert_eq!(ours.chroma_format, chroma, "{name}");
        assert_eq!(
            ours.bit_depth,
            if theirs["pix_fmt"].contains("10le") {
                10
            } else {
                8
            },
            "{name}"
        );
        if *codec == Codec::Mjpeg {
            continue;
        }
        let profile = match theirs["profile"].as_str() {
            "Constrained Baseline" | "Baseline" => 66,
            "Main" if *codec == Codec::H264 => 77,
            "High" => 100,
            "High 10" => 110,
            "High 4:4:4 Predictive" => 244,
            "Main" => 1,
            "Main 10" => 2,
            "Rext" => 4,
            other => panic!("{name}: unknown profile {other}"),
        };
        assert_eq!(ours.profile, profile, "{name}");
        assert_eq!(ours.level, number("level"), "{name}");
        assert_eq!(ours.reorder.unwrap_or(0), number("has_b_frames"), "{name}");
        assert_eq!(ours.frame_mbs_only, *name != "mbaff", "{name}");
    }
}

/// The number of slots planned for the decoder is enough, and not by far too much.
#[test]
fn the_decoder_keeps_no_more_pictures_than_announced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, codec, size, arguments) in CASES.iter().filter(|(name, ..)| *name != "mbaff") {
        let source = format!("testsrc=size={size}:rate=25:duration=2");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let clip = clips::make(folder.path(), name, *codec, &source, &arguments);
        let area = Area::new(8 << 20);
        let mut decoder =
            camring::media::PictureDecoder::new(camring::media::PictureDecoderOptions {
                codec: *codec,
                threads: 1,
                slots: Some(area.clone()),
                max_pixels: 1 << 22,
            });
        let mut pictures = 0;
        decode(&clip, &mut decoder, |picture| {
            pictures += 1;
            assert!(picture.in_place().is_some(), "{name}");
        });
        assert_eq!(pictures, clip.units.len());
        let (most, planned) = (
            area.findings().most_lent,
            parameters(&clip).decoder_pictures(),
        );
        println!("{name}: at most {most} slots in use, {planned} planned");
        assert!(
            most <= planned as usize,
            "{name}: {most} slots in use, {planned} planned"
        );
    }
}
