//! The size of a JPEG, from its frame header (ITU-T T.81 §B.2.2).

use super::StreamParameters;
use crate::media::Codec;

/// Reads up to the first SOF marker; `None` if there is none before the first scan.
pub(super) fn parameters(image: &[u8]) -> Option<StreamParameters> {
    let mut rest = image.strip_prefix(&[0xff, 0xd8])?;
    // Each marker segment has at least four bytes: bounded by the length of the image.
    loop {
        let at = rest
            .windows(2)
            .position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff))?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0x01 | 0xd0..=0xd8 => continue, // stand-alone
            0xd9 | 0xda => return None,     // end, or a scan without a frame header
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let segment = rest.get(..length)?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return frame_header(marker, segment);
        }
        rest = &rest[length.max(2)..];
    }
}

fn frame_header(marker: u8, segment: &[u8]) -> Option<StreamParameters> {
    let &[_, _, bit_depth, h1, h0, w1, w0, components, ref table @ ..] = segment else {
        return None;
    };
    let height = u32::from(u16::from_be_bytes([h1, h0]));
    let width = u32::from(u16::from_be_bytes([w1, w0]));
    if width == 0 || height == 0 {
        return None;
    }
    // Sampling of luma against that of the first chroma component, as chroma_format_idc.
    let chroma_format = match (components, table) {
        (1, _) => 0,
        (_, &[_, luma, _, _, chroma, ..]) => {
            let times =
                |shift: u32, factor: u8| luma >> shift & 15 == factor * (chroma >> shift & 15);
            match (times(4, 2), times(0, 2), times(0, 1)) {
                (true, true, _) => 1,
                (true, _, true) => 2,
                _ => 3,
            }
        }
        _ => return None,
    };
    Some(StreamParameters {
        codec: Codec::Mjpeg,
        profile: u32::from(marker),
        level: 0,
        width,
        height,
        coded_width: width,
        coded_height: height,
        chroma_format,
        bit_depth: u32::from(bit_depth),
        frame_mbs_only: true,
        reference_frames: 0,
        max_dec_frame_buffering: 1,
        reorder: Some(0),
        sps_bytes_hash: super::hash(segment),
    })
}
