//! The little that a session must see in an Annex B unit: whether decoding can start at it, whether
//! its beginning is there, and which parameter set it refers to.
//!
//! retina knows IDR pictures only. Encoders with open GOPs send CRA pictures instead (H.265
//! § 3.28; x265 does so by default), and cameras with gradual intra refresh send neither: their
//! entry points are recovery point SEI messages (H.264 § D.1.8, H.265 § D.3.8). Looks only at
//! what precedes the first slice, is total over any bytes, allocates nothing.

use memchr::memmem::Finder;

use super::super::source::VideoCodec;
use crate::media::Codec;
use crate::media::parameters::{self, SliceStart};

const START_CODE: &[u8] = &[0, 0, 1];

/// SEI payload type of a recovery point, the same in H.264 and H.265.
const RECOVERY_POINT: u32 = 6;

/// How the first slice of `unit` begins; `None`: it has none, or one that makes no sense.
pub(in crate::reader) fn first_slice(codec: VideoCodec, unit: &[u8]) -> Option<SliceStart> {
    let finder = Finder::new(START_CODE);
    let mut rest = unit;
    while let Some(at) = finder.find(rest) {
        rest = &rest[at + 3..];
        let header = *rest.first()?;
        let (slice, codec) = match codec {
            VideoCodec::H264 => (matches!(header & 0x1f, 1 | 2 | 5), Codec::H264),
            VideoCodec::H265 => (header >> 1 & 0x3f < 32, Codec::H265),
            VideoCodec::Mjpeg => return None,
        };
        if slice {
            return parameters::slice_start(codec, rest);
        }
    }
    None
}

/// True if the first slice of `unit` is of an IDR, CRA or BLA picture, or follows a recovery
/// point SEI.
pub(in crate::reader) fn is_entry_point(codec: VideoCodec, unit: &[u8]) -> bool {
    let finder = Finder::new(START_CODE);
    let mut rest = unit;
    while let Some(at) = finder.find(rest) {
        rest = &rest[at + 3..];
        let Some(&header) = rest.first() else {
            return false;
        };
        // Slices are recognised by their first byte, so that their bulk is never searched.
        let sei_header = match codec {
            VideoCodec::H264 => match header & 0x1f {
                5 => return true,
                1..=4 => return false,
                6 => 1,
                _ => continue,
            },
            VideoCodec::H265 => match (header >> 1) & 0x3f {
                // IRAP: BLA, IDR, CRA and two reserved types.
                16..=23 => return true,
                0..=31 => return false,
                39 => 2,
                _ => continue,
            },
            VideoCodec::Mjpeg => return false,
        };
        let end = finder.find(rest).unwrap_or(rest.len());
        if rest
            .get(sei_header..end)
            .is_some_and(sei_has_recovery_point)
        {
            return true;
        }
    }
    false
}

/// Walks the messages of an SEI RBSP (H.264 § 7.3.2.3.1). Emulation prevention bytes can only
/// occur within payloads, whose size they would change by a byte: tolerable for a question of
/// presence, since a wrong "no" costs one key frame and a wrong "yes" one damaged start.
fn sei_has_recovery_point(mut rbsp: &[u8]) -> bool {
    // More than the trailing bits must be left.
    while rbsp.len() > 2 {
        let Some(kind) = take_number(&mut rbsp) else {
            return false;
        };
        let Some(size) = take_number(&mut rbsp) else {
            return false;
        };
        if kind == RECOVERY_POINT {
            return true;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(rest) = rbsp.get(size..) else {
            return false;
        };
        rbsp = rest;
    }
    false
}

/// A number coded as a run of 0xff and a last byte.
fn take_number(rbsp: &mut &[u8]) -> Option<u32> {
    let mut n = 0u32;
    loop {
        let (&byte, rest) = rbsp.split_first()?;
        *rbsp = rest;
        n = n.checked_add(u32::from(byte))?;
        if byte != 0xff {
            return Some(n);
        }
    }
}

/// NAL units in Annex B form.
pub(in crate::reader) fn join(nals: &[&bytes::Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nals.iter().map(|n| n.len() + 4).sum());
    for nal in nals {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(nal);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_entry_points_before_the_end_of_the_first_slice_header() {
        let sei = [0, 0, 0, 1, 0x06, 5, 2, 9, 9, 6, 1, 0xc0, 0x80];
        let slice = [0, 0, 0, 1, 0x41, 0x9a, 1, 2, 3];
        let unit = |parts: &[&[u8]]| parts.concat();
        assert!(is_entry_point(VideoCodec::H264, &unit(&[&sei, &slice])));
        assert!(!is_entry_point(VideoCodec::H264, &unit(&[&slice, &sei])));
        assert!(!is_entry_point(VideoCodec::H264, &slice));
        let sei5 = [0, 0, 1, 0x4e, 0x01, 6, 1, 0xd0, 0x80];
        let slice5 = [0, 0, 1, 0x02, 0x01, 0xd0];
        assert!(is_entry_point(VideoCodec::H265, &unit(&[&sei5, &slice5])));
        assert!(!is_entry_point(VideoCodec::H265, &unit(&[&slice5, &sei5])));
        assert!(!is_entry_point(VideoCodec::Mjpeg, &sei));
        let cra = [0, 0, 1, 0x2a, 0x01, 0xaf, 0, 0, 1, 0x2a, 0x01];
        assert!(is_entry_point(VideoCodec::H265, &cra));
    }

    #[test]
    fn says_how_the_first_slice_begins() {
        let start = |first, parameter_set| {
            Some(SliceStart {
                first,
                parameter_set,
            })
        };
        // first_mb 0 (1), slice_type 5 (00110), parameter set 2 (011).
        let sei = [0, 0, 0, 1, 0x06, 5, 1, 9, 0x80];
        let unit = [
            &sei[..],
            &[0, 0, 1, 0x65, 0b1001_1001, 0b1000_0000, 0, 0, 1, 0x65, 0x40],
        ]
        .concat();
        assert_eq!(first_slice(VideoCodec::H264, &unit), start(true, 2));
        // first_mb 1 (010), slice_type 0 (1), parameter set 0 (1).
        let unit = [0, 0, 1, 0x41, 0b0101_1000];
        assert_eq!(first_slice(VideoCodec::H264, &unit), start(false, 0));
        // An IRAP picture has one flag more.
        let unit = [0, 0, 1, 0x26, 1, 0b1001_0000];
        assert_eq!(first_slice(VideoCodec::H265, &unit), start(true, 1));
        let unit = [0, 0, 1, 0x02, 1, 0b0010_0000];
        assert_eq!(first_slice(VideoCodec::H265, &unit), start(false, 1));
        assert_eq!(first_slice(VideoCodec::H264, &sei), None);
        assert_eq!(first_slice(VideoCodec::H264, &[0, 0, 1, 0x65]), None);
    }

    proptest! {
        #[test]
        fn is_total(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(6), Just(0xff), any::<u8>()], 0..200)) {
            for codec in [VideoCodec::H264, VideoCodec::H265, VideoCodec::Mjpeg] {
                is_entry_point(codec, &bytes);
                first_slice(codec, &bytes);
            }
        }
    }
}
