//! H.265 headers: sequence parameter set (ITU-T H.265 §7.3.2.2), the recovery point message
//! (§D.2.8).

use super::bits::Bits;
use super::nal::rbsp;
use super::{MAX_PARAMETER_SET_BYTES, Sps, StreamParameters};
use crate::media::Codec;

/// RADL_N (Table 7-1).
pub(super) const FIRST_LEADING: u8 = 6;
pub(super) const RASL_N: u8 = 8;
pub(super) const RASL_R: u8 = 9;
pub(super) const LAST_LEADING: u8 = RASL_R;
pub(super) const FIRST_IRAP: u8 = 16;
pub(super) const LAST_IRAP: u8 = 23;
pub(super) const LAST_SLICE: u8 = 31;
pub(super) const SPS: u8 = 33;
pub(super) const PREFIX_SEI: u8 = 39;

/// `nal_unit_type` and `nuh_layer_id`.
pub(super) fn header(nal: &[u8]) -> Option<(u8, u8)> {
    let [first, second, ..] = *nal else {
        return None;
    };
    Some((first >> 1 & 0x3f, (first & 1) << 5 | second >> 3))
}

/// Reads an SPS of the base layer, its NAL header bytes included.
pub(super) fn sps(nal: &[u8]) -> Option<Sps> {
    if nal.len() > MAX_PARAMETER_SET_BYTES {
        return None;
    }
    let rbsp = rbsp(nal.get(2..)?, MAX_PARAMETER_SET_BYTES);
    let mut bits = Bits::new(&rbsp.data);
    bits.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.bits(3)?; // minus 1
    if sub_layers > 6 {
        return None;
    }
    bits.skip(1)?; // sps_temporal_id_nesting_flag
    let (profile, level) = profile_tier_level(&mut bits, sub_layers)?;
    let id = bits.ue_max(15)?;
    let chroma_format = bits.ue_max(3)?;
    if chroma_format == 3 && bits.flag()? {
        return None; // separate colour planes
    }
    let coded_width = bits.ue_max(65_535).filter(|width| *width > 0)?;
    let coded_height = bits.ue_max(65_535).filter(|height| *height > 0)?;
    let (mut width, mut height) = (coded_width, coded_height);
    if bits.flag()? {
        let horizontal = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let vertical = if chroma_format == 1 { 2 } else { 1 };
        let mut sides = [0u64; 4];
        for side in &mut sides {
            *side = u64::from(bits.ue()?);
        }
        let [left, right, top, bottom] = sides;
        let across = (left + right) * horizontal;
        let down = (top + bottom) * vertical;
        // libavcodec ignores a window that leaves nothing; so do we.
        if across < u64::from(width) && down < u64::from(height) {
            width -= u32::try_from(across).ok()?;
            height -= u32::try_from(down).ok()?;
        }
    }
    let bit_depth = 8 + bits.ue_max(8)?;
    bits.ue_max(8)?; // bit_depth_chroma_minus8
    bits.ue_max(12)?; // log2_max_pic_order_cnt_lsb_minus4
    let first = if bits.flag()? { 0 } else { sub_layers };
    let (mut buffering, mut reorder) = (1, 0);
    for _ in first..=sub_layers {
        // The last one is the highest sub-layer's: what is needed to decode everything.
        buffering = bits.ue_max(15)? + 1;
        reorder = bits.ue_max(15)?;
        bits.ue()?; // sps_max_latency_increase_plus1
    }
    Some(Sps {
        id,
        ambiguous: rbsp.irregular,
        parameters: StreamParameters {
            codec: Codec::H265,
            profile,
            level,
            width,
            height,
            coded_width,
            coded_height,
            chroma_format,
            bit_depth,
            frame_mbs_only: true,
            reference_frames: buffering - 1,
            max_dec_frame_buffering: buffering,
            reorder: Some(reorder),
            sps_bytes_hash: super::hash(nal),
        },
    })
}

/// §7.3.3: `(general_profile_idc, general_level_idc)`.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<(u32, u32)> {
    bits.skip(3)?; // profile space, tier
    let profile = bits.bits(5)?;
    bits.skip(80)?; // compatibility flags, source flags, constraints
    let level = bits.bits(8)?;
    let mut skip = 0;
    for _ in 0..sub_layers {
        if bits.flag()? {
            skip += 88;
        }
        if bits.flag()? {
            skip += 8;
        }
    }
    if sub_layers > 0 {
        skip += 2 * (8 - sub_layers as usize);
    }
    bits.skip(skip)?;
    Some((profile, level))
}

/// Pictures until everything is right again after a recovery point SEI; `None` without one.
pub(super) fn recovery_point(nal: &[u8]) -> Option<u32> {
    super::sei_message(nal.get(2..)?, 6, |payload| {
        Bits::new(payload)
            .se()
            .map(|count| count.max(0).unsigned_abs())
    })
}
