//! JPEGs made by us, read back by the decoder.

use camring::media::jpeg::{Image, Quality, encode};
use camring::media::{
    Codec, ColorRange, Decoder, DecoderOptions, MediaError, PixelFormat, packed_layout,
};

/// Decodes a JPEG; its visible samples by plane.
fn decode(jpeg: &[u8], size: (u32, u32)) -> (PixelFormat, Vec<Vec<u8>>) {
    let mut decoder = Decoder::open(DecoderOptions {
        codec: Codec::Mjpeg,
        threads: 1,
        direct: false,
        slots: None,
        max_pixels: 1 << 22,
    })
    .expect("a decoder");
    decoder.send(jpeg, 0, 0).expect("a valid JPEG");
    let picture = decoder.receive().expect("a valid JPEG").expect("a picture");
    assert_eq!((picture.width(), picture.height()), size);
    assert_eq!(picture.color_range(), ColorRange::Full);
    let format = picture.pixel_format().expect("a known format");
    let mut copy = vec![0; picture.copied_len().expect("a size")];
    let planes = picture.copy_into(&mut copy).expect("room for it");
    let samples = (0..format.planes())
        .map(|index| {
            let mut one = [camring::media::Plane::default(); 4];
            one[0] = planes[index];
            let (row, rows) = format.plane_size(index, size.0, size.1).expect("a plane");
            crate::area::visible(&copy, &one, PixelFormat::Gray8, (row, rows))
        })
        .collect();
    (format, samples)
}

fn solid(
    format: PixelFormat,
    size: (u32, u32),
    sample: &[u16],
) -> (Vec<u8>, Vec<(usize, usize, usize)>) {
    let (planes, bytes) = packed_layout(format, size.0, size.1).expect("small");
    let mut data = vec![0; bytes];
    let mut slices = Vec::new();
    for index in 0..format.planes() {
        let (row, rows) = format.plane_size(index, size.0, size.1).expect("a plane");
        let stride = planes[index].stride as usize;
        let start = planes[index].offset as usize;
        for line in 0..rows as usize {
            let target = &mut data[start + line * stride..][..row as usize];
            match format {
                PixelFormat::I420p10 | PixelFormat::I422p10 | PixelFormat::I444p10 => {
                    for two in target.chunks_mut(2) {
                        two.copy_from_slice(&sample[index].to_le_bytes());
                    }
                }
                PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
                    for three in target.chunks_mut(3) {
                        three.copy_from_slice(&[sample[0] as u8, sample[1] as u8, sample[2] as u8]);
                    }
                }
                PixelFormat::Nv12 if index == 1 => {
                    for two in target.chunks_mut(2) {
                        two.copy_from_slice(&[sample[1] as u8, sample[2] as u8]);
                    }
                }
                _ => target.fill(sample[index] as u8),
            }
        }
        slices.push((start, stride * (rows as usize - 1) + row as usize, stride));
    }
    (data, slices)
}

/// Encodes one colour; the mean of each plane of the JPEG.
fn through(
    format: PixelFormat,
    range: ColorRange,
    matrix: u8,
    sample: &[u16],
) -> (PixelFormat, Vec<u8>) {
    let size = (67, 45);
    let (data, slices) = solid(format, size, sample);
    let planes: Vec<(&[u8], usize)> = slices
        .iter()
        .map(|(start, len, stride)| (&data[*start..start + len], *stride))
        .collect();
    let (width, height) = size;
    let image = Image {
        format,
        width,
        height,
        range,
        matrix,
        planes: &planes,
    };
    let jpeg = encode(&image, Quality::new(2)).expect("an encodable picture");
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let (format, planes) = decode(&jpeg, size);
    let means = planes
        .iter()
        .map(|plane| (plane.iter().map(|s| u64::from(*s)).sum::<u64>() / plane.len() as u64) as u8)
        .collect();
    (format, means)
}

fn near(found: &[u8], expected: [u8; 3]) {
    let close = found
        .iter()
        .zip(expected)
        .all(|(found, expected)| found.abs_diff(expected) <= 2);
    assert!(
        close && found.len() == 3,
        "{found:?}, expected {expected:?}"
    );
}

#[test]
fn range_is_stretched_to_full() {
    for format in [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::Nv12,
    ] {
        let (out, white) = through(format, ColorRange::Limited, 6, &[235, 128, 128]);
        near(&white, [255, 128, 128]);
        let chroma = if format == PixelFormat::Nv12 {
            PixelFormat::I420
        } else {
            format
        };
        assert_eq!(out, chroma);
        let (_, full) = through(format, ColorRange::Full, 6, &[235, 128, 128]);
        near(&full, [235, 128, 128]);
    }
    let (_, black) = through(PixelFormat::I420, ColorRange::Unknown, 2, &[16, 128, 128]);
    near(&black, [0, 128, 128]);
}

#[test]
fn ten_bits_become_eight() {
    for format in [
        PixelFormat::I420p10,
        PixelFormat::I422p10,
        PixelFormat::I444p10,
    ] {
        let (_, white) = through(format, ColorRange::Limited, 6, &[940, 512, 512]);
        near(&white, [255, 128, 128]);
    }
}

#[test]
fn matrix_is_converted_to_that_of_jpeg() {
    // Pure red: BT.709 full range (54, 99, 255), BT.601 full range (76, 85, 255).
    let (_, red) = through(PixelFormat::I444, ColorRange::Full, 1, &[54, 99, 255]);
    near(&red, [76, 85, 255]);
    let (_, red) = through(PixelFormat::I444, ColorRange::Full, 6, &[76, 85, 255]);
    near(&red, [76, 85, 255]);
}

#[test]
fn rgb_and_gray() {
    let (out, red) = through(PixelFormat::Rgb24, ColorRange::Unknown, 0, &[255, 0, 0]);
    assert_eq!(out, PixelFormat::I444);
    near(&red, [76, 85, 255]);
    let (_, red) = through(PixelFormat::Bgr24, ColorRange::Full, 0, &[0, 0, 255]);
    near(&red, [76, 85, 255]);
    let (_, gray) = through(PixelFormat::Gray8, ColorRange::Full, 2, &[200]);
    near(&gray, [200, 128, 128]);
    let (_, gray) = through(PixelFormat::Gray8, ColorRange::Limited, 2, &[235]);
    near(&gray, [255, 128, 128]);
}

#[test]
fn contradictions_are_errors() {
    let data = [0u8; 64 * 64];
    let planes = |n| vec![(&data[..], 64); n];
    let try_encode = |width, height, count| {
        let image = Image {
            format: PixelFormat::Gray8,
            width,
            height,
            range: ColorRange::Full,
            matrix: 2,
            planes: &planes(count),
        };
        encode(&image, Quality::default())
    };
    assert!(try_encode(64, 64, 1).is_ok());
    for (width, height, count) in [
        (0, 64, 1),
        (64, 0, 1),
        (65, 64, 1),
        (64, 65, 1),
        (64, 64, 2),
        (70_000, 1, 1),
    ] {
        let error = try_encode(width, height, count);
        assert!(
            matches!(error, Err(MediaError::Geometry(_))),
            "{width} {height} {count}: {error:?}"
        );
    }
    let overflow = Image {
        format: PixelFormat::Gray8,
        width: 1,
        height: 64,
        range: ColorRange::Full,
        matrix: 2,
        planes: &[(&data[..], usize::MAX)],
    };
    assert!(encode(&overflow, Quality::default()).is_err());
}
