//! What happens when a device is there, is not, and goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::media::ffi::Pretended;
use crate::media::{Canvas, EncoderKind, EncoderOptions, Rate, VideoEncoder};

/// Access units of H.264, a key frame every ten.
fn units(count: i64) -> Vec<Vec<u8>> {
    let mut encoder = VideoEncoder::open(EncoderOptions {
        kind: EncoderKind::X264,
        width: 64,
        height: 64,
        full_range: false,
        matrix: 1,
        rate: Rate::Quality(23),
        immediate: true,
        threads: 1,
        about_fps: 10,
    })
    .expect("libx264");
    let mut picture = Canvas::grey(64, 64).expect("memory");
    let mut units = Vec::new();
    for number in 0..count {
        encoder
            .send(&mut picture, number * 9000, number % 10 == 0)
            .expect("room");
        let encoded = encoder.receive().expect("H.264").expect("no delay");
        let (data, key) = (encoded.data.to_vec(), encoded.key);
        let mut unit = match key {
            true => encoder.parameter_sets().to_vec(),
            false => Vec::new(),
        };
        unit.extend(data);
        units.push(unit);
    }
    units
}

fn decoder(device: Option<Pretended>) -> PictureDecoder {
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec: Codec::H264,
        threads: 1,
        slots: None,
        max_pixels: 1 << 20,
    });
    if let Some(pretended) = device {
        decoder.set_hardware(Arc::new(HardwareDevice::pretend(pretended)));
    }
    decoder
}

/// The numbers of the pictures that come of a unit.
fn decode(decoder: &mut PictureDecoder, unit: &[u8], number: usize) -> Vec<u64> {
    let _ = decoder.submit(unit, number as i64, number as u64);
    let mut out = Vec::new();
    while let Ok(Some(picture)) = decoder.next_picture() {
        out.push(picture.opaque());
    }
    out
}

#[test]
fn a_device_that_takes_the_stream_decodes_it() {
    let mut decoder = decoder(Some(Pretended::default()));
    for (number, unit) in units(12).iter().enumerate() {
        assert_eq!(decode(&mut decoder, unit, number), [number as u64]);
        assert_eq!(decoder.hardware(), Some(HardwareKind::V4l2m2m));
    }
    assert_eq!(decoder.take_fallback(), None);
}

#[test]
fn a_stream_that_the_device_does_not_take_loses_no_picture() {
    let mut decoder = decoder(Some(Pretended {
        refuses: true,
        ..Pretended::default()
    }));
    for (number, unit) in units(12).iter().enumerate() {
        assert_eq!(decode(&mut decoder, unit, number), [number as u64]);
        assert_eq!(decoder.hardware(), None);
    }
    let why = decoder.take_fallback().expect("it is told");
    assert!(why.starts_with("v4l2m2m: "), "{why}");
    assert_eq!(decoder.take_fallback(), None, "once");
}

#[test]
fn a_device_that_goes_gives_way_to_software_at_the_next_key_frame() {
    let pretended = Pretended::default();
    let broken = pretended.broken.clone();
    let mut decoder = decoder(Some(pretended));
    let mut shown = Vec::new();
    for (number, unit) in units(30).iter().enumerate() {
        broken.store(number >= 5, Relaxed);
        shown.extend(decode(&mut decoder, unit, number));
    }
    assert_eq!(decoder.hardware(), None);
    assert!(
        decoder
            .take_fallback()
            .expect("it is told")
            .contains("v4l2m2m")
    );
    assert_eq!(shown[..5], [0, 1, 2, 3, 4]);
    let after: Vec<u64> = shown.into_iter().filter(|number| *number >= 10).collect();
    assert_eq!(
        after,
        (10..30).collect::<Vec<u64>>(),
        "from the key frame on"
    );
}

#[test]
fn one_damaged_unit_is_no_reason_to_leave_the_device() {
    let pretended = Pretended::default();
    let broken = pretended.broken.clone();
    let mut decoder = decoder(Some(pretended));
    for (number, unit) in units(20).iter().enumerate() {
        broken.store(number % 4 == 3, Relaxed);
        decode(&mut decoder, unit, number);
    }
    assert_eq!(decoder.hardware(), Some(HardwareKind::V4l2m2m));
    assert_eq!(decoder.take_fallback(), None);
}
