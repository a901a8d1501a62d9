//! Pictures encoded, put into an MP4, read back: the same times, and by others' programs, too.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use camring::media::annexb::UnitFormat;
use camring::media::{
    CanvasScaler, Codec, EncoderKind, EncoderOptions, MediaError, Mp4Reader, Mp4Writer, OutSample,
    PictureDecoder, PictureDecoderOptions, Rate, TrackKind, TrackSource, VideoEncoder,
};

use crate::clips;

/// A file in memory that stays when its writer is gone.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const FRAMES: usize = 40;

/// Times as a camera has them: never the same step twice.
fn time(index: usize) -> i64 {
    (0..index).map(|n| 3600 + 97 * (n as i64 % 31)).sum()
}

fn options(rate: Rate, immediate: bool) -> EncoderOptions {
    EncoderOptions {
        kind: EncoderKind::X264,
        width: 160,
        height: 90,
        full_range: false,
        matrix: 2,
        rate,
        immediate,
        threads: 1,
        about_fps: 25,
    }
}

/// `FRAMES` pictures in an MP4, the first shown at `start`; a key frame every ten.
fn make(rate: Rate, immediate: bool, start: i64) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let source = "testsrc2=size=320x180:rate=25:duration=1.6";
    let clip = clips::make(
        folder.path(),
        "clip",
        Codec::Mjpeg,
        source,
        &["-c:v", "mjpeg", "-q:v", "3"],
    );
    assert_eq!(clip.units.len(), FRAMES);
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec: Codec::Mjpeg,
        threads: 1,
        slots: None,
        max_pixels: 1 << 20,
    });
    let mut scaler = CanvasScaler::new(EncoderKind::X264, 160, 90);
    let mut encoder = VideoEncoder::open(options(rate, immediate)).expect("libx264");
    let file = Shared::default();
    let mut writer = Mp4Writer::create(
        Box::new(file.clone()),
        &[(TrackSource::Encoded(&encoder), 90_000)],
    )
    .expect("a muxer");
    let mut taken = 0;
    let mut take = |encoder: &mut VideoEncoder, writer: &mut Mp4Writer| {
        while let Some(packet) = encoder.receive().expect("a working encoder") {
            assert_eq!(packet.pts, start + time(taken), "picture {taken}");
            assert_eq!(packet.key, taken % 10 == 0, "picture {taken}");
            let sample = OutSample {
                track: 0,
                data: packet.data,
                pts: packet.pts,
                dts: packet.pts,
                duration: time(taken + 1) - time(taken),
                key: packet.key,
            };
            writer.write(&sample).expect("room in memory");
            taken += 1;
        }
        taken
    };
    for (index, unit) in clip.units.iter().enumerate() {
        decoder.submit(unit, 0, 0).expect("a clean clip");
        let picture = decoder.next_picture().expect("clean").expect("a picture");
        let mut canvas = scaler.scale_picture(&picture).expect("scaled");
        encoder
            .send(&mut canvas, start + time(index), index % 10 == 0)
            .expect("encoded");
        scaler.recycle(canvas);
        let taken = take(&mut encoder, &mut writer);
        assert!(!immediate || taken == index + 1, "kept back");
    }
    encoder.finish().expect("the end");
    assert_eq!(take(&mut encoder, &mut writer), FRAMES);
    writer.finish().expect("room in memory");
    file.0.lock().expect("no panic").clone()
}

/// What `ffprobe` finds: times of showing in s, of the packets that are shown.
fn shown_by_ffprobe(bytes: &[u8]) -> Vec<f64> {
    let mut child = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "frame=pts_time"])
        .args(["-of", "csv=p=0", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffprobe is needed");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("it ends");
    feed.join().expect("no panic").expect("it reads all");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_end_matches(',').parse().expect("a number"))
        .collect()
}

#[test]
fn times_are_exact_through_encoder_and_file() {
    for immediate in [true, false] {
        let bytes = make(Rate::Bits(400_000), immediate, 0);
        let mut reader = Mp4Reader::open(Box::new(io::Cursor::new(bytes.clone()))).expect("an MP4");
        let track = reader.track(TrackKind::Video).expect("video");
        assert_eq!((track.width, track.height), (160, 90));
        assert_eq!(track.timescale, 90_000);
        let format = UnitFormat::parse(Codec::H264, &track.config).expect("avcC");
        let mut decoder = PictureDecoder::new(PictureDecoderOptions {
            codec: Codec::H264,
            threads: 1,
            slots: None,
            max_pixels: 1 << 20,
        });
        let (mut unit, mut count) = (Vec::new(), 0);
        while let Some(sample) = reader.next_sample().expect("whole") {
            assert_eq!(sample.pts, time(count));
            assert_eq!(sample.dts, time(count));
            assert_eq!(sample.key, count % 10 == 0);
            unit.clear();
            format.append(sample.data, sample.key, &mut unit);
            decoder.submit(&unit, sample.pts, 0).expect("H.264");
            let picture = decoder.next_picture().expect("H.264").expect("no delay");
            assert_eq!((picture.width(), picture.height()), (160, 90));
            count += 1;
        }
        assert_eq!(count, FRAMES);
        let shown = shown_by_ffprobe(&bytes);
        assert_eq!(shown.len(), FRAMES);
        for (index, shown) in shown.iter().enumerate() {
            assert!((shown - time(index) as f64 / 90_000.0).abs() < 1e-5);
        }
    }
}

#[test]
fn what_is_before_zero_is_not_shown() {
    // The sixth picture is the first to be shown.
    let bytes = make(Rate::Quality(28), false, -time(5));
    let shown = shown_by_ffprobe(&bytes);
    let first = shown.iter().position(|shown| *shown >= 0.0);
    assert!(
        first.is_some_and(|first| shown[first].abs() < 1e-5),
        "{shown:?}"
    );
    let last = shown.last().expect("some");
    let expected = (time(FRAMES - 1) - time(5)) as f64 / 90_000.0;
    assert!((last - expected).abs() < 1e-5, "{last} {expected}");
}

#[test]
fn damaged_files_are_errors_or_end_early() {
    let whole = make(Rate::Quality(30), true, 0);
    let mut random = clips::Random::new(7);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        if random.one_in(2) {
            bytes.truncate(random.below(whole.len()));
        }
        for _ in 0..random.below(20) {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
        let Ok(mut reader) = Mp4Reader::open(Box::new(io::Cursor::new(bytes))) else {
            continue;
        };
        let config = reader.track(TrackKind::Video).expect("video").config;
        let format = UnitFormat::parse(Codec::H264, &config);
        for _ in 0..10_000 {
            let Ok(Some(sample)) = reader.next_sample() else {
                break;
            };
            let mut unit = Vec::new();
            if let Some(format) = &format {
                format.append(sample.data, sample.key, &mut unit);
            }
        }
    }
}

#[test]
fn an_encoder_that_is_not_there_is_an_error_and_the_next_is_taken() {
    let mut missing = Vec::new();
    let encoder = VideoEncoder::open_first(options(Rate::Bits(100_000), true), |kind, why| {
        missing.push((kind, why.to_owned()));
    })
    .expect("libx264 at last");
    assert!(!encoder.parameter_sets().is_empty());
    if encoder.options().kind == EncoderKind::X264 {
        let names: Vec<_> = missing.iter().map(|(kind, _)| kind.name()).collect();
        assert_eq!(names, ["h264_nvenc", "h264_qsv", "h264_v4l2m2m"]);
        assert!(
            missing.iter().all(|(_, why)| !why.is_empty()),
            "{missing:?}"
        );
    }
    let none = EncoderOptions {
        width: 3,
        ..options(Rate::Bits(1000), true)
    };
    assert!(matches!(
        VideoEncoder::open(none),
        Err(MediaError::OpenEncoder { .. })
    ));
}

#[test]
fn times_are_exact_however_wrong_the_guess_of_a_last_duration_was() {
    use camring::media::{FragmentMuxer, SampleTime, TrackSpec};
    let encoder = VideoEncoder::open(options(Rate::Bits(400_000), true)).expect("libx264");
    let sets = encoder.parameter_sets().to_vec();
    for guess in [1, 3600, 3601, 7200, 40_000] {
        let mut muxer = FragmentMuxer::open(&[TrackSpec::Video {
            codec: Codec::H264,
            width: 160,
            height: 90,
            parameter_sets: &sets,
        }])
        .expect("a muxer");
        let mut file = muxer.init().to_vec();
        let mut random = clips::Random::new(3);
        let (mut dts, mut times) = (25_200, Vec::new());
        for part in 0..20 {
            let count = 1 + random.below(5);
            for at in 0..count {
                let step = 3600 * (1 + random.below(4) as i64);
                let duration = if at + 1 == count { guess } else { step };
                let key = part == 0 && at == 0;
                let unit = [0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 7, 7, 7];
                let time = SampleTime {
                    dts,
                    pts: dts,
                    duration,
                    key,
                };
                muxer.write(0, &unit, time).expect("muxed");
                times.push(dts);
                dts += step;
            }
            file.extend(muxer.flush().expect("a fragment"));
        }
        let mut reader = Mp4Reader::open(Box::new(io::Cursor::new(file))).expect("an MP4");
        let mut read = Vec::new();
        while let Some(sample) = reader.next_sample().expect("whole") {
            assert_eq!(sample.pts, sample.dts);
            read.push(sample.dts);
        }
        assert_eq!(read, times, "guess {guess}");
    }
}
