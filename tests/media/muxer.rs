//! Fragments, read back by `ffprobe` and `ffmpeg`: the same times to the tick, the same pictures.

use std::fs;
use std::path::Path;
use std::process::Command;

use camring::media::{Codec, FragmentMuxer, MediaError, SampleTime, TrackSpec};

use crate::clips::{self, Clip};

/// Decoding order of a group of ten pictures with two B pictures in a row: places in output order.
const ORDER: [i64; 10] = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
const TICKS: i64 = 3600;
/// Where the recording's time begins: nowhere near 0, and beyond 32 bits.
const START: i64 = 9_000_000_000;

fn clip(folder: &Path, codec: Codec) -> Clip {
    let (encoder, parameters, option) = match codec {
        Codec::H264 => ("libx264", "bframes=2:b-adapt=0:b-pyramid=0", "-x264-params"),
        _ => (
            "libx265",
            "bframes=2:b-adapt=0:b-pyramid=0:open-gop=0:pools=1:frame-threads=1:log-level=1",
            "-x265-params",
        ),
    };
    let parameters =
        format!("{parameters}:keyint=10:min-keyint=10:scenecut=0:aud=1:repeat-headers=1");
    let arguments = ["-pix_fmt", "yuv420p", "-c:v", encoder, option, &parameters];
    let source = "testsrc2=size=320x192:rate=25:duration=1.6";
    clips::make(folder, codec.name(), codec, source, &arguments)
}

fn time(index: usize) -> SampleTime {
    let place = (index / 10 * 10) as i64 + ORDER[index % 10];
    SampleTime {
        dts: START + (index as i64 - 1) * TICKS,
        pts: START + place * TICKS,
        duration: TICKS,
        key: index.is_multiple_of(10),
    }
}

fn spec(clip: &Clip) -> TrackSpec<'_> {
    TrackSpec::Video {
        codec: clip.codec,
        width: 320,
        height: 192,
        parameter_sets: &clip.units[0],
    }
}

fn output(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program)
        .args(["-v", "error"])
        .args(["-i".as_ref(), path.as_os_str()])
        .args(arguments)
        .output()
        .expect("ffmpeg and ffprobe are needed (apt install ffmpeg)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// One hash for each picture, in output order.
fn pictures(path: &Path) -> Vec<String> {
    let text = output(
        "ffmpeg",
        &["-f", "framemd5", "-vsync", "passthrough", "-"],
        path,
    );
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit(',').next())
        .map(|hash| hash.trim().to_owned())
        .collect()
}

fn round_trip(codec: Codec, tag: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let clip = clip(folder.path(), codec);
    assert_eq!(clip.units.len(), 40);
    let mut muxer = FragmentMuxer::open(&[spec(&clip)]).expect("a muxer");
    let mut file = muxer.init().to_vec();
    assert_eq!(
        FragmentMuxer::open(&[spec(&clip)]).expect("another").init(),
        file,
        "the same parameters give the same init segment"
    );
    assert!(muxer.flush().expect("nothing to flush").is_empty());
    // Fragments of 5, 1, 4 pictures in turn, as parts and ends of segments are.
    let mut fragments = 0;
    for index in 0..40 {
        muxer
            .write(0, &clip.units[index], time(index))
            .expect("a sample");
        if matches!(index % 10, 4 | 5 | 9) {
            let bytes = muxer.flush().expect("a fragment");
            let first = index - [4, 0, 3][fragments % 3];
            let times: Vec<i64> = (first..=index).map(|at| time(at).pts).collect();
            assert_eq!(shown(&bytes), times, "fragment {fragments}");
            // A muxer that begins anywhere else makes the same of it.
            if fragments % 3 == 2 {
                muxer = FragmentMuxer::open(&[spec(&clip)]).expect("a muxer");
            }
            file.extend_from_slice(&bytes);
            fragments += 1;
        }
    }
    assert_eq!(fragments, 12);
    let path = folder.path().join("all.mp4");
    fs::write(&path, &file).expect("a file");

    let entries = "packet=pts,dts,duration,flags";
    let text = output(
        "ffprobe",
        &["-show_entries", entries, "-of", "csv=p=0"],
        &path,
    );
    let found: Vec<String> = text
        .lines()
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect();
    let wanted: Vec<String> = (0..40)
        .map(|index| {
            let SampleTime { pts, dts, key, .. } = time(index);
            let flags = if key { "K_" } else { "__" };
            format!("{pts},{dts},{TICKS},{flags}")
        })
        .collect();
    assert_eq!(found, wanted);
    let entries = "stream=codec_tag_string,time_base";
    let text = output(
        "ffprobe",
        &["-show_entries", entries, "-of", "csv=p=0"],
        &path,
    );
    assert_eq!(text.trim(), format!("{tag},1/90000"));
    assert_eq!(pictures(&path), pictures(&clip.path));
}

/// When a fragment's pictures are shown, by its own boxes: `ffprobe` guesses where they are odd.
fn shown(bytes: &[u8]) -> Vec<i64> {
    let word = |at: usize| i64::from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
    let find = |kind: &[u8; 4]| {
        let at = bytes.windows(4).position(|found| found == kind);
        at.expect("the box is there") + 4
    };
    assert_eq!(&bytes[4..8], b"moof");
    let (tfhd, tfdt, trun) = (find(b"tfhd"), find(b"tfdt"), find(b"trun"));
    let (flags, count) = (word(trun) & 0xff_ffff, word(trun + 4));
    let mut at = trun + 8 + [1, 4].iter().filter(|flag| flags & *flag != 0).count() * 4;
    let mut decoded = word(tfdt + 4) << 32 | word(tfdt + 8);
    // Without a field of its own each sample has the default duration: flag 8 alone comes before it.
    let usual = tfhd + 8 + [1, 2].iter().filter(|flag| word(tfhd) & *flag != 0).count() * 8;
    let mut times = Vec::new();
    for _ in 0..count {
        let mut field = |flag: i64| {
            let there = flags & flag != 0;
            at += if there { 4 } else { 0 };
            there.then(|| word(at - 4) as u32 as i32)
        };
        let duration = field(0x100);
        field(0x200);
        field(0x400);
        times.push(decoded + i64::from(field(0x800).unwrap_or(0)));
        decoded += duration.map_or_else(|| word(usual), i64::from);
    }
    times
}

#[test]
fn h264_comes_back_as_it_was() {
    round_trip(Codec::H264, "avc1");
}

#[test]
fn h265_comes_back_as_it_was() {
    round_trip(Codec::H265, "hvc1");
}

#[test]
fn what_cannot_be_muxed_is_an_error() {
    let sets = vec![0, 0, 0, 1, 0x67, 0x42];
    let track = TrackSpec::Video {
        codec: Codec::H264,
        width: 64,
        height: 64,
        parameter_sets: &sets,
    };
    let error = FragmentMuxer::open(&[track]).expect_err("half a parameter set");
    assert!(matches!(error, MediaError::Mux(_)), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("cannot put the access units into MP4")
    );

    let folder = tempfile::tempdir().expect("a folder");
    let clip = clip(folder.path(), Codec::H264);
    let mut muxer = FragmentMuxer::open(&[spec(&clip)]).expect("a muxer");
    let unit = &clip.units[0];
    assert!(muxer.write(1, unit, time(0)).is_err(), "no such track");
    assert!(muxer.write(0, &[], time(0)).is_err(), "no bytes");
    muxer.write(0, unit, time(0)).expect("a sample");
    assert!(
        muxer.write(0, unit, time(0)).is_err(),
        "the same time again"
    );
    assert!(!muxer.flush().expect("the one that was taken").is_empty());
}
