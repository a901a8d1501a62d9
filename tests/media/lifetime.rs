//! Slots come back when the last reference is gone, whoever has it, and not before.

use std::sync::Arc;

use camring::media::{
    Codec, Decoder, DecoderOptions, Picture, PictureDecoder, PictureDecoderOptions, PictureSlots,
    PixelFormat, SlotBuffer,
};

use crate::area::Area;
use crate::clips::{self, Clip};
use crate::paff::Paff;

fn clip(folder: &std::path::Path) -> Clip {
    let source = "testsrc2=size=320x240:rate=10:duration=1";
    let arguments = "-c:v libx264 -preset ultrafast -x264-params aud=1:bframes=0 -pix_fmt yuv420p";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    clips::make(folder, "clip", Codec::H264, source, &arguments)
}

fn open(slots: Arc<dyn PictureSlots>) -> Decoder {
    Decoder::open(DecoderOptions {
        codec: Codec::H264,
        threads: 2,
        direct: true,
        slots: Some(slots),
        max_pixels: 1 << 22,
    })
    .expect("a decoder")
}

fn first_pictures(decoder: &mut Decoder, clip: &Clip, count: usize) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for unit in &clip.units {
        decoder.send(unit, 0, 0).expect("a clean clip");
        while let Some(picture) = decoder.receive().expect("a clean clip") {
            pictures.push(picture);
        }
        if pictures.len() >= count {
            break;
        }
    }
    pictures
}

#[test]
fn a_picture_outlives_its_decoder_and_may_end_on_another_thread() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = clip(folder.path());
    let area = Area::new(1 << 20);
    let mut decoder = open(area.clone());
    let mut pictures = first_pictures(&mut decoder, &clip, 3);
    assert!(pictures.iter().all(|picture| picture.in_place().is_some()));
    let held = area.lent();
    assert!(held >= 3);
    drop(decoder);
    assert_eq!(area.lent(), 3, "the decoder's own references are gone");
    let last = pictures.pop().expect("three");
    let before = area.rows(
        last.slot().expect("in a slot"),
        &last.planes(),
        PixelFormat::I420,
        (320, 240),
    );
    drop(pictures);
    assert_eq!(area.lent(), 1);
    let mut copy = vec![0; last.copied_len().expect("a size")];
    let planes = last.copy_into(&mut copy).expect("room for it");
    assert_eq!(
        crate::area::visible(&copy, &planes, PixelFormat::I420, (320, 240)),
        before
    );
    std::thread::spawn(move || drop(last))
        .join()
        .expect("no panic");
    assert_eq!(area.lent(), 0);
}

#[test]
fn pictures_are_copied_and_dropped_on_another_thread_while_decoding_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = clip(folder.path());
    let copy = |picture: &Picture| {
        let mut bytes = vec![0; picture.copied_len().expect("a size")];
        picture.copy_into(&mut bytes).expect("room for it");
        bytes
    };
    let area = Area::new(1 << 20);
    let mut decoder = open(area.clone());
    let expected: Vec<Vec<u8>> = first_pictures(&mut decoder, &clip, clip.units.len())
        .iter()
        .map(copy)
        .collect();
    decoder.flush();
    let (to_other, pictures) = std::sync::mpsc::channel::<Picture>();
    let other = std::thread::spawn(move || pictures.iter().map(|p| copy(&p)).collect::<Vec<_>>());
    for unit in &clip.units {
        decoder.send(unit, 0, 0).expect("a clean clip");
        while let Some(picture) = decoder.receive().expect("a clean clip") {
            to_other.send(picture).expect("it listens");
        }
    }
    drop((to_other, decoder));
    assert!(other.join().expect("no panic") == expected);
    assert_eq!(area.lent(), 0);
}

#[test]
fn without_a_free_slot_decoding_goes_on_in_private_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = clip(folder.path());
    let area = Area::new(1 << 20);
    let kept: Vec<SlotBuffer> = std::iter::from_fn(|| area.reserve(1)).collect();
    let mut decoder = open(area.clone());
    let pictures = first_pictures(&mut decoder, &clip, clip.units.len());
    assert_eq!(pictures.len(), clip.units.len());
    assert!(pictures.iter().all(|picture| picture.slot().is_none()));
    assert!(decoder.wanted_slot_bytes().is_some());
    for slot in kept {
        area.release(slot);
    }
}

/// Gives slots that cannot be used, or panics.
struct Bad {
    inner: Arc<Area>,
    panic: bool,
}

impl PictureSlots for Bad {
    fn reserve(&self, _bytes: usize) -> Option<SlotBuffer> {
        assert!(!self.panic, "deliberately");
        self.inner.reserve(1) // too small
    }
    fn release(&self, slot: SlotBuffer) {
        self.inner.release(slot);
    }
    fn id(&self) -> usize {
        0
    }
}

#[test]
fn slots_that_are_too_small_or_panic_are_not_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = clip(folder.path());
    for panic in [false, true] {
        let inner = Area::new(4096);
        let mut decoder = open(Arc::new(Bad {
            inner: inner.clone(),
            panic,
        }));
        let pictures = first_pictures(&mut decoder, &clip, clip.units.len());
        assert_eq!(pictures.len(), clip.units.len());
        assert!(pictures.iter().all(|picture| picture.slot().is_none()));
        assert_eq!(inner.lent(), 0);
    }
}

#[test]
fn a_changed_parameter_set_opens_the_decoder_anew_and_loses_no_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let make = |name, size, extra| {
        let source = format!("testsrc2=size={size}:rate=10:duration=1");
        let parameters = format!("aud=1:keyint=5:bframes={extra}");
        let arguments = [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-x264-params",
            &parameters,
            "-pix_fmt",
            "yuv420p",
        ];
        clips::make(path, name, Codec::H264, &source, &arguments)
    };
    // The first one reorders: pictures are still waiting when the second one begins.
    let small = make("small", "320x240", 3);
    let large = make("large", "640x360", 0);
    let paff = Paff {
        width: 160,
        height: 96,
        idr_period: 5,
    }
    .fields(5);
    let area = Area::new(1 << 20);
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec: Codec::H264,
        threads: 1,
        slots: Some(area.clone()),
        max_pixels: 1 << 22,
    });
    let (mut sizes, mut opened, mut directs) = (Vec::new(), Vec::new(), Vec::new());
    for units in [&small.units, &large.units, &paff, &small.units] {
        for (index, unit) in units.iter().enumerate() {
            let submitted = decoder.submit(unit, 0, 0).expect("clean clips");
            assert_eq!(submitted.opened, index == 0);
            if submitted.opened {
                opened.push(decoder.parameters().expect("read").width);
                directs.push(decoder.direct());
            }
            while let Some(picture) = decoder.next_picture().expect("clean clips") {
                sizes.push((picture.width(), picture.in_place().is_some()));
            }
        }
    }
    decoder.finish();
    while let Some(picture) = decoder.next_picture().expect("clean clips") {
        sizes.push((picture.width(), picture.in_place().is_some()));
    }
    assert_eq!(opened, [320, 640, 160, 320]);
    assert_eq!(directs, [true, true, false, true]);
    let expected: Vec<(u32, bool)> = [
        (320, true, 10),
        (640, true, 10),
        (160, false, 5),
        (320, true, 10),
    ]
    .into_iter()
    .flat_map(|(width, in_place, count)| std::iter::repeat_n((width, in_place), count))
    .collect();
    assert_eq!(sizes, expected);
    assert_eq!(area.lent(), 0);
}
