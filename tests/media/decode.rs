//! The same pixels as the `ffmpeg` program, whether drawn into a slot or copied.

use std::process::Command;
use std::sync::Arc;

use camring::media::{
    Codec, MediaError, Picture, PictureDecoder, PictureDecoderOptions, PictureSlots, PixelFormat,
    Skip,
};

use crate::area::{Area, visible};
use crate::clips::{self, Clip};

/// The clip's pictures by the `ffmpeg` program, as raw video.
fn reference(clip: &Clip, pixel_format: &str) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(&clip.path)
        .args([
            "-f",
            "rawvideo",
            "-vsync",
            "passthrough",
            "-pix_fmt",
            pixel_format,
            "-",
        ])
        .output()
        .expect("the ffmpeg program is needed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn decoder(clip: &Clip, threads: u32, slots: Option<Arc<dyn PictureSlots>>) -> PictureDecoder {
    let codec = clip.codec;
    PictureDecoder::new(PictureDecoderOptions {
        codec,
        threads,
        slots,
        max_pixels: 1 << 24,
    })
}

/// Decodes a clip and hands each picture over while nothing else happens.
pub fn decode(clip: &Clip, decoder: &mut PictureDecoder, mut each: impl FnMut(&Picture)) {
    let mut take = |decoder: &mut PictureDecoder| {
        while let Some(picture) = decoder.next_picture().expect("a clean clip") {
            each(&picture);
        }
    };
    for (index, unit) in clip.units.iter().enumerate() {
        let submitted = decoder
            .submit(unit, index as i64 * 3600, index as u64)
            .expect("a clean clip");
        assert!(submitted.accepted && submitted.info.picture);
        take(decoder);
    }
    decoder.finish();
    take(decoder);
}

fn compare(clip: &Clip, reference: &[u8], expected: PixelFormat, size: (u32, u32)) {
    let area = Area::new(8 << 20);
    for threads in [1, 2] {
        for direct in [true, false] {
            println!(
                "{}, threads {threads}, direct {direct}",
                clip.path.display()
            );
            let slots = direct.then(|| area.clone() as Arc<dyn PictureSlots>);
            let mut decoder = decoder(clip, threads, slots);
            let (mut at, mut in_place, mut seen) = (0, 0, vec![false; clip.units.len()]);
            decode(clip, &mut decoder, |picture| {
                assert_eq!((picture.width(), picture.height()), size);
                assert_eq!(picture.pixel_format(), Ok(expected));
                let pixels = match picture.in_place() {
                    Some(slot) => {
                        in_place += 1;
                        area.rows(slot, &picture.planes(), expected, size)
                    }
                    None => {
                        let mut copy = vec![0; picture.copied_len().expect("a size")];
                        let planes = picture.copy_into(&mut copy).expect("room for it");
                        visible(&copy, &planes, expected, size)
                    }
                };
                let same = reference.get(at..at + pixels.len()) == Some(&pixels[..]);
                assert!(
                    same,
                    "picture at byte {at}, threads {threads}, direct {direct}"
                );
                at += pixels.len();
                assert_eq!(picture.pts(), picture.opaque() as i64 * 3600);
                seen[picture.opaque() as usize] = true;
            });
            assert_eq!(at, reference.len());
            assert!(
                seen.into_iter().all(|seen| seen),
                "each unit's time stamp came back"
            );
            assert_eq!(in_place, if direct { clip.units.len() } else { 0 });
        }
    }
    assert_eq!(area.lent(), 0);
}

/// Name, codec, size, encoder arguments, FFmpeg's name of the pixel format, ours.
type Case<'a> = (&'a str, Codec, (u32, u32), &'a str, &'a str, PixelFormat);

/// Encodes, decodes and compares each of them.
fn check(cases: &[Case<'_>]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, codec, size, arguments, pixel_format, expected) in cases {
        let source = format!("testsrc=size={}x{}:rate=10:duration=0.8", size.0, size.1);
        let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
        arguments.extend(["-pix_fmt", pixel_format]);
        let clip = clips::make(folder.path(), name, *codec, &source, &arguments);
        // libavcodec decodes monochrome H.264 to 4:2:0 without colour; x264 marks it full range.
        let raw = match (codec, *pixel_format) {
            (Codec::H264, "gray") => "yuvj420p",
            (_, as_encoded) => as_encoded,
        };
        compare(&clip, &reference(&clip, raw), *expected, *size);
    }
}

#[test]
fn h264() {
    const X264: &str =
        "-c:v libx264 -preset ultrafast -x264-params aud=1:keyint=5:bframes=0:slices=2";
    const REORDERED: &str = "-c:v libx264 -preset veryfast -x264-params aud=1:keyint=8:bframes=3";
    check(&[
        (
            "hd",
            Codec::H264,
            (1920, 1080),
            X264,
            "yuv420p",
            PixelFormat::I420,
        ),
        (
            "cropped",
            Codec::H264,
            (1366, 770),
            X264,
            "yuv420p",
            PixelFormat::I420,
        ),
        (
            "reordered",
            Codec::H264,
            (322, 242),
            REORDERED,
            "yuv420p",
            PixelFormat::I420,
        ),
        (
            "i422",
            Codec::H264,
            (322, 243),
            X264,
            "yuv422p",
            PixelFormat::I422,
        ),
        (
            "i444",
            Codec::H264,
            (321, 243),
            X264,
            "yuv444p",
            PixelFormat::I444,
        ),
        (
            "ten",
            Codec::H264,
            (322, 242),
            X264,
            "yuv420p10le",
            PixelFormat::I420p10,
        ),
        (
            "gray",
            Codec::H264,
            (322, 242),
            X264,
            "gray",
            PixelFormat::I420,
        ),
    ]);
}

#[test]
fn h265() {
    const X265: &str = "-c:v libx265 -preset ultrafast -x265-params aud=1:keyint=5:log-level=error";
    check(&[
        (
            "hd",
            Codec::H265,
            (1920, 1080),
            X265,
            "yuv420p",
            PixelFormat::I420,
        ),
        (
            "cropped",
            Codec::H265,
            (1366, 770),
            X265,
            "yuv420p",
            PixelFormat::I420,
        ),
        (
            "ten",
            Codec::H265,
            (322, 242),
            X265,
            "yuv420p10le",
            PixelFormat::I420p10,
        ),
        (
            "i444",
            Codec::H265,
            (321, 243),
            X265,
            "yuv444p",
            PixelFormat::I444,
        ),
        (
            "gray",
            Codec::H265,
            (322, 242),
            X265,
            "gray",
            PixelFormat::Gray8,
        ),
    ]);
}

#[test]
fn mjpeg() {
    const JPEG: &str = "-c:v mjpeg -q:v 4";
    check(&[
        (
            "hd",
            Codec::Mjpeg,
            (1920, 1080),
            JPEG,
            "yuvj420p",
            PixelFormat::I420,
        ),
        (
            "odd",
            Codec::Mjpeg,
            (321, 241),
            JPEG,
            "yuvj420p",
            PixelFormat::I420,
        ),
        (
            "i422",
            Codec::Mjpeg,
            (321, 241),
            JPEG,
            "yuvj422p",
            PixelFormat::I422,
        ),
        (
            "i444",
            Codec::Mjpeg,
            (321, 241),
            JPEG,
            "yuvj444p",
            PixelFormat::I444,
        ),
    ]);
}

#[test]
fn formats_that_the_ring_does_not_know_are_converted_when_copied() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = "color=red:size=64x48:rate=10:duration=0.3";
    let arguments =
        "-c:v libx265 -preset ultrafast -x265-params aud=1:log-level=error -pix_fmt gbrp";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let clip = clips::make(folder.path(), "gbrp", Codec::H265, source, &arguments);
    let area = Area::new(1 << 20);
    let mut decoder = decoder(&clip, 1, Some(area.clone()));
    let mut pictures = 0;
    decode(&clip, &mut decoder, |picture| {
        pictures += 1;
        assert!(picture.slot().is_none() && picture.needs_conversion());
        assert_eq!(picture.pixel_format(), Ok(PixelFormat::Rgb24));
        let mut copy = vec![0; picture.copied_len().expect("a size")];
        let planes = picture.copy_into(&mut copy).expect("room for it");
        let pixels = visible(&copy, &planes, PixelFormat::Rgb24, (64, 48));
        assert!(
            pixels
                .chunks(3)
                .all(|rgb| rgb[0] > 250 && rgb[1] < 5 && rgb[2] < 5)
        );
        let short = copy.len() - 1;
        let error = picture.copy_into(&mut copy[..short]);
        assert!(
            matches!(error, Err(MediaError::TooSmall { .. })),
            "{error:?}"
        );
    });
    assert_eq!(pictures, clip.units.len());
}

#[test]
fn too_many_pixels_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = "testsrc2=size=320x240:rate=10:duration=0.2";
    let arguments = ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"];
    let clip = clips::make(folder.path(), "large", Codec::Mjpeg, source, &arguments);
    let (codec, threads, slots) = (Codec::Mjpeg, 1, None);
    let options = PictureDecoderOptions {
        codec,
        threads,
        slots,
        max_pixels: 320 * 239,
    };
    let mut decoder = PictureDecoder::new(options);
    let refused = decoder.submit(&clip.units[0], 0, 0).is_err()
        || !matches!(decoder.next_picture(), Ok(Some(_)));
    assert!(refused);
}

#[test]
fn wanted_bytes_are_what_a_slot_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = "testsrc2=size=640x360:rate=10:duration=0.5";
    let arguments = "-c:v libx264 -preset ultrafast -x264-params aud=1:bframes=0 -pix_fmt yuv420p";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let clip = clips::make(folder.path(), "wanted", Codec::H264, source, &arguments);
    let small = Area::new(4096);
    let mut decoder = decoder(&clip, 1, Some(small));
    decoder.submit(&clip.units[0], 0, 0).expect("a clean clip");
    assert!(
        decoder
            .next_picture()
            .expect("a clean clip")
            .expect("a picture")
            .slot()
            .is_none()
    );
    let wanted = decoder
        .wanted_slot_bytes()
        .expect("the slots are too small");
    assert!(
        (640 * 360 * 3 / 2..640 * 400 * 2).contains(&wanted),
        "{wanted}"
    );
    // The next picture goes into slots of that size, without a new decoder.
    let large = Area::new(wanted);
    decoder.set_slots(Some(large.clone()));
    assert!(
        !decoder
            .submit(&clip.units[1], 0, 0)
            .expect("a clean clip")
            .opened
    );
    let picture = decoder
        .next_picture()
        .expect("a clean clip")
        .expect("a picture");
    let owner = picture.slot_owner().expect("in a slot");
    assert_eq!(owner.id(), large.id());
    assert_eq!(decoder.wanted_slot_bytes(), None);
}

#[test]
fn skipping_and_jumping() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = "testsrc2=size=320x240:rate=10:duration=3";
    let arguments = "-c:v libx264 -preset veryfast -x264-params aud=1:keyint=10:bframes=2:b-adapt=0 -pix_fmt yuv420p";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let clip = clips::make(folder.path(), "skip", Codec::H264, source, &arguments);
    let infos: Vec<_> = clip
        .units
        .iter()
        .map(|unit| camring::media::parameters::scan(Codec::H264, unit))
        .collect();
    let count = |skip| {
        let mut decoder = decoder(&clip, 1, None);
        decoder.set_skip(skip);
        let mut pictures = Vec::new();
        decode(&clip, &mut decoder, |picture| {
            pictures.push((picture.opaque(), picture.key()))
        });
        pictures
    };
    assert_eq!(count(Skip::None).len(), 30);
    let keys: Vec<_> = (0..30)
        .filter(|i| infos[*i].key)
        .map(|i| (i as u64, true))
        .collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(count(Skip::NonKey), keys);
    let referenced = infos.iter().filter(|info| !info.disposable).count();
    assert!(referenced < 30);
    assert_eq!(count(Skip::NonReference).len(), referenced);

    // In the middle of a group nothing can be decoded yet; a jump drops what waits for output.
    let mut decoder = decoder(&clip, 1, None);
    let early = decoder.submit(&clip.units[5], 0, 5).expect("not an error");
    assert!(!early.accepted && !early.opened);
    for unit in &clip.units[..5] {
        decoder.submit(unit, 0, 1).expect("a clean clip");
    }
    decoder.flush();
    for unit in &clip.units[10..20] {
        decoder.submit(unit, 0, 2).expect("a clean clip");
    }
    decoder.finish();
    let mut after = 0;
    while let Some(picture) = decoder.next_picture().expect("a clean clip") {
        assert_eq!(picture.opaque(), 2);
        after += 1;
    }
    assert_eq!(after, 10);
}
