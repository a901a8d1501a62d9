//! Decoding into a real frame ring.

use camring::media::{
    Codec, PictureDecoder, PictureDecoderOptions, PixelFormat, PublishError, RingSlots,
};
use camring_ring::{FrameDescriptor, FrameRingSpec, FrameWriter};

use crate::clips;
use crate::paff::Paff;

fn ring(slot_bytes: u64) -> RingSlots {
    let spec = FrameRingSpec {
        depth: 2,
        slots: 8,
        slot_bytes,
        ring_id: 7,
        first_sequence: 1,
    };
    let memory = spec.create().expect("a small ring");
    RingSlots::new(FrameWriter::resume(memory, Vec::new()).expect("a fresh ring"))
}

fn publish_all(slots: &RingSlots, units: &[Vec<u8>]) -> Vec<Result<(u64, bool), PublishError>> {
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec: Codec::H264,
        threads: 1,
        slots: Some(slots.as_slots()),
        max_pixels: 1 << 22,
    });
    let descriptor = FrameDescriptor::packed(PixelFormat::I420, 16, 16, 64).expect("small");
    let mut out = Vec::new();
    for unit in units {
        decoder.submit(unit, 0, 0).expect("a clean clip");
        while let Some(picture) = decoder.next_picture().expect("a clean clip") {
            let published = slots.publish(&picture, &descriptor);
            out.push(published.map(|published| (published.sequence, published.copied)));
        }
    }
    out
}

#[test]
fn progressive_pictures_are_published_in_place_and_interlaced_ones_copied() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = "testsrc2=size=320x240:rate=10:duration=3";
    let arguments = "-c:v libx264 -preset ultrafast -x264-params aud=1:bframes=0 -pix_fmt yuv420p";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let clip = clips::make(folder.path(), "clip", Codec::H264, source, &arguments);
    let slots = ring(256 << 10);
    let found = publish_all(&slots, &clip.units);
    let found: Vec<(u64, bool)> = found
        .into_iter()
        .map(|one| one.expect("published"))
        .collect();
    assert_eq!(
        found,
        (1..=30)
            .map(|sequence| (sequence, false))
            .collect::<Vec<_>>()
    );
    let fields = Paff {
        width: 160,
        height: 96,
        idr_period: 5,
    }
    .fields(10);
    let found = publish_all(&slots, &fields);
    let found: Vec<(u64, bool)> = found
        .into_iter()
        .map(|one| one.expect("published"))
        .collect();
    assert_eq!(
        found,
        (31..=40)
            .map(|sequence| (sequence, true))
            .collect::<Vec<_>>()
    );
    assert_eq!(slots.next_sequence(), 41);
    assert_eq!(slots.free_slots(), 6, "all but the two that are visible");
}

#[test]
fn a_picture_too_large_for_the_ring_says_so() {
    let fields = Paff {
        width: 320,
        height: 256,
        idr_period: 5,
    }
    .fields(5);
    let found = publish_all(&ring(64 << 10), &fields);
    assert_eq!(found.len(), 5);
    for one in found {
        assert!(
            matches!(
                one,
                Err(PublishError::TooSmall {
                    needed: 131_072,
                    given: 65_536
                })
            ),
            "{one:?}"
        );
    }
}
