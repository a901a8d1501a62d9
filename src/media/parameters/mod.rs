//! Stream parameters and the kind of each access unit, read without FFmpeg.
//!
//! Promises: no panic, no recursion, time linear in the unit, and no allocation beyond
//! [`MAX_PARAMETER_SET_BYTES`] per parameter set, on any input. What is not understood is `None`.
//!
//! Direct rendering rests on this: [`direct_rendering_allowed`] and [`ParameterSets`] decide whether
//! libavcodec may draw into memory that others read.

mod bits;
mod h264;
mod h265;
mod jpeg;
mod nal;
mod sets;
#[cfg(test)]
mod tests;

pub use nal::{NalUnits, nal_units};
pub use sets::{Observed, ParameterSets};

use super::Codec;

/// Parameter sets longer than this are not read (the largest seen from a camera: 120 bytes).
pub const MAX_PARAMETER_SET_BYTES: usize = 4096;

/// Only so much of a supplemental message is looked at.
const MAX_SEI_BYTES: usize = 4096;

/// What a sequence parameter set (or a JPEG frame header) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamParameters {
    pub codec: Codec,
    /// `profile_idc`; for JPEG the SOF marker's second byte (0xc0 baseline).
    pub profile: u32,
    /// `level_idc`: level × 10 for H.264, × 30 for H.265, 0 for JPEG.
    pub level: u32,
    /// Size after cropping, in pixels.
    pub width: u32,
    pub height: u32,
    /// Size before cropping.
    pub coded_width: u32,
    pub coded_height: u32,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4 or anything else.
    pub chroma_format: u32,
    /// Of luma.
    pub bit_depth: u32,
    /// H.264 `frame_mbs_only_flag`: every picture is a whole frame. True for other codecs.
    pub frame_mbs_only: bool,
    /// Pictures that may be referenced at once.
    pub reference_frames: u32,
    /// Size of the decoded picture buffer in frames, from the stream or from its level.
    pub max_dec_frame_buffering: u32,
    /// By how many pictures output order may differ from decoding order; `None`: not said.
    pub reorder: Option<u32>,
    /// To compare parameter sets in logs. Not collision-resistant: [`ParameterSets`] compares bytes.
    pub sps_bytes_hash: u64,
}

impl StreamParameters {
    /// How many pictures the decoder may hold while a further one is decoded: what the frame ring
    /// must have beyond its own depth. An estimate from above for streams that keep to what they
    /// announce; for others the decoder falls back to private memory.
    pub fn decoder_pictures(&self) -> u32 {
        match self.codec {
            // The one being decoded, its references, those waiting for output. libavcodec also keeps
            // the last picture for error concealment.
            Codec::H264 => self.reference_frames + self.reorder.unwrap_or(0) + 2,
            Codec::H265 => self.max_dec_frame_buffering + 1,
            Codec::Mjpeg => 2,
            _ => 0, // never in place
        }
    }
}

/// Whether pictures of this stream stay as they are once they have been output.
///
/// Not so for field-coded H.264: when fields are lost, libavcodec outputs a frame, then draws the
/// next field of the opposite parity into it and outputs it again.
pub fn direct_rendering_allowed(parameters: &StreamParameters) -> bool {
    match parameters.codec {
        Codec::H264 => parameters.frame_mbs_only,
        Codec::H265 | Codec::Mjpeg => true,
        _ => false,
    }
}

/// What one access unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitInfo {
    /// Decoding can start here: IDR (H.264), IRAP (H.265: IDR, CRA, BLA), any JPEG.
    pub key: bool,
    /// A recovery point: pictures are right again after so many further pictures.
    pub recovery_point: Option<u32>,
    /// It contains a picture (not only parameter sets).
    pub picture: bool,
    /// No later picture needs this one.
    pub disposable: bool,
    /// H.265: shown before the key frame that it follows in the stream (RASL or RADL).
    pub leading: bool,
    /// H.265: a leading picture that may refer to pictures before that key frame.
    pub rasl: bool,
    /// Of the last parameter set in the unit that can be read.
    pub parameters: Option<StreamParameters>,
}

/// Looks at one access unit: Annex B for H.264 and H.265, a whole image for JPEG. AV1 and MPEG-4
/// are not looked into: `picture` is set, everything else is left out.
pub fn scan(codec: Codec, unit: &[u8]) -> UnitInfo {
    match codec {
        Codec::H264 => scan_h264(unit),
        Codec::H265 => scan_h265(unit),
        Codec::Mjpeg => {
            let parameters = jpeg::parameters(unit);
            let picture = parameters.is_some();
            UnitInfo {
                key: picture,
                picture,
                disposable: true,
                parameters,
                ..UnitInfo::default()
            }
        }
        _ => UnitInfo {
            picture: true,
            ..UnitInfo::default()
        },
    }
}

fn scan_h264(unit: &[u8]) -> UnitInfo {
    let mut info = UnitInfo {
        disposable: true,
        ..UnitInfo::default()
    };
    for nal in nal_units(unit) {
        match nal[0] & 0x1f {
            kind @ (h264::SLICE | h264::PARTITION_A | h264::IDR) => {
                info.picture = true;
                info.key |= kind == h264::IDR;
                info.disposable &= nal[0] & 0x60 == 0;
            }
            h264::SEI => info.recovery_point = info.recovery_point.or(h264::recovery_point(nal)),
            h264::SPS => {
                if let Some(sps) = h264::sps(nal) {
                    info.parameters = Some(sps.parameters);
                }
            }
            _ => {}
        }
    }
    info.disposable &= info.picture;
    info
}

fn scan_h265(unit: &[u8]) -> UnitInfo {
    let mut info = UnitInfo {
        disposable: true,
        ..UnitInfo::default()
    };
    for nal in nal_units(unit) {
        match h265::header(nal) {
            Some((kind @ 0..=h265::LAST_SLICE, 0)) => {
                info.picture = true;
                info.key |= (h265::FIRST_IRAP..=h265::LAST_IRAP).contains(&kind);
                // Even types below 16 are not referenced within their sub-layer (Table 7-1).
                info.disposable &= kind < 16 && kind % 2 == 0;
                info.leading |= (h265::FIRST_LEADING..=h265::LAST_LEADING).contains(&kind);
                info.rasl |= matches!(kind, h265::RASL_N | h265::RASL_R);
            }
            Some((h265::PREFIX_SEI, 0)) => {
                info.recovery_point = info.recovery_point.or(h265::recovery_point(nal));
            }
            Some((h265::SPS, 0)) => {
                if let Some(sps) = h265::sps(nal) {
                    info.parameters = Some(sps.parameters);
                }
            }
            _ => {}
        }
    }
    info.disposable &= info.picture;
    info
}

/// Whether an H.264 access unit has a B slice (§ 7.4.3: `slice_type` 1 or 6). Only the first slice is
/// looked at. For streams whose parameter set does not say whether they reorder; H.265's always does.
pub fn has_b_slice(unit: &[u8]) -> bool {
    nal_units(unit)
        .find(|nal| matches!(nal[0] & 0x1f, h264::SLICE | h264::PARTITION_A | h264::IDR))
        .is_some_and(h264::is_b_slice)
}

/// How a slice begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceStart {
    /// It is the first of its picture: nothing is missing before it.
    pub first: bool,
    /// Number of the picture parameter set that it refers to.
    pub parameter_set: u32,
}

/// Reads the beginning of a slice (H.264 § 7.3.3, H.265 § 7.3.6.1); `nal` is the unit, or a
/// beginning of it.
pub fn slice_start(codec: Codec, nal: &[u8]) -> Option<SliceStart> {
    let header = match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
        _ => return None,
    };
    // Three numbers, the longest of them 63 bits: nothing beyond is read.
    let rbsp = nal::rbsp(nal.get(header..)?, 24);
    let mut bits = bits::Bits::new(&rbsp.data);
    let first = match codec {
        Codec::H264 => {
            let first = bits.ue()? == 0;
            bits.ue()?;
            first
        }
        _ => {
            let first = bits.flag()?;
            if (h265::FIRST_IRAP..=h265::LAST_IRAP).contains(&(nal[0] >> 1 & 0x3f)) {
                bits.flag()?;
            }
            first
        }
    };
    Some(SliceStart {
        first,
        parameter_set: bits.ue()?,
    })
}

/// How the first slice of an access unit begins; `None`: it has none, or one that makes no sense.
pub fn first_slice(codec: Codec, unit: &[u8]) -> Option<SliceStart> {
    let nal = nal_units(unit).find(|nal| match codec {
        Codec::H264 => matches!(nal[0] & 0x1f, h264::SLICE | h264::PARTITION_A | h264::IDR),
        Codec::H265 => nal[0] >> 1 & 0x3f <= h265::LAST_SLICE,
        _ => false,
    })?;
    slice_start(codec, nal)
}

/// Number of a picture parameter set, its NAL header included.
pub fn picture_parameter_set(codec: Codec, nal: &[u8]) -> Option<u32> {
    let header = match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
        _ => return None,
    };
    bits::Bits::new(&nal::rbsp(nal.get(header..)?, 8).data).ue()
}

/// One parsed sequence parameter set.
struct Sps {
    id: u32,
    /// Another parser may read other values from these bytes.
    ambiguous: bool,
    parameters: StreamParameters,
}

/// Calls `read` with the payload of the first SEI message of type `kind` (H.264 §7.3.2.3.1, the
/// same in H.265).
fn sei_message<T>(payload: &[u8], kind: u32, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let rbsp = nal::rbsp(payload, MAX_SEI_BYTES);
    let mut rest = rbsp.data.as_slice();
    // The last byte of the RBSP is its stop bit.
    while rest.len() > 2 {
        let this = coded_number(&mut rest)?;
        let length = coded_number(&mut rest)? as usize;
        let message = rest.get(..length)?;
        if this == kind {
            return read(message);
        }
        rest = &rest[length..];
    }
    None
}

fn coded_number(rest: &mut &[u8]) -> Option<u32> {
    let mut sum = 0u32;
    loop {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        sum = sum.checked_add(u32::from(*first))?;
        if *first != 0xff {
            return Some(sum);
        }
    }
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
