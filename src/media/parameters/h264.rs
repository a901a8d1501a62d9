//! H.264 headers: sequence parameter set (ITU-T H.264 §7.3.2.1.1), its VUI (Annex E), the recovery
//! point message (§D.1.8).
//!
//! Stricter than libavcodec where it matters: whatever it does not read exactly as libavcodec would
//! is refused, and a refused parameter set is never rendered directly.

use super::bits::Bits;
use super::nal::rbsp;
use super::{MAX_PARAMETER_SET_BYTES, Sps, StreamParameters};
use crate::media::Codec;

pub(super) const SLICE: u8 = 1;
pub(super) const PARTITION_A: u8 = 2;
pub(super) const IDR: u8 = 5;
pub(super) const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;

/// Reads an SPS, its NAL header byte included.
pub(super) fn sps(nal: &[u8]) -> Option<Sps> {
    if nal.len() > MAX_PARAMETER_SET_BYTES {
        return None;
    }
    let rbsp = rbsp(nal.get(1..)?, MAX_PARAMETER_SET_BYTES);
    let mut bits = Bits::new(&rbsp.data);
    let profile = bits.bits(8)?;
    let constraints = bits.bits(8)?;
    let level = bits.bits(8)?;
    let id = bits.ue_max(31)?;
    let mut chroma_format = 1;
    let mut bit_depth = 8;
    if matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 144 | 244
    ) {
        chroma_format = bits.ue_max(3)?;
        if chroma_format == 3 && bits.flag()? {
            return None; // separate colour planes: libavcodec refuses them
        }
        bit_depth = 8 + bits.ue_max(6)?;
        if bits.ue_max(6)? + 8 != bit_depth {
            return None;
        }
        bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.flag()? {
            for index in 0..if chroma_format == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    scaling_list(&mut bits, if index < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.ue_max(12)?; // log2_max_frame_num_minus4
    match bits.ue_max(2)? {
        0 => {
            bits.ue_max(12)?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_max(255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    let reference_frames = bits.ue_max(16)?;
    bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
    let mb_width = bits.ue_max(1023)? + 1;
    let map_height = bits.ue_max(1023)? + 1;
    let frame_mbs_only = bits.flag()?;
    // libavcodec parses a damaged parameter set a second time with the prevention bytes left in: up to
    // here both readings must be the same bits.
    let ambiguous = rbsp.irregular
        || rbsp
            .first_removed
            .is_some_and(|at| at * 8 < bits.position());
    let mb_height = if frame_mbs_only {
        map_height
    } else {
        map_height * 2
    };
    if !frame_mbs_only {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let (mut width, mut height) = (mb_width * 16, mb_height * 16);
    if bits.flag()? {
        let horizontal = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let vertical = if chroma_format == 1 { 2 } else { 1 } * if frame_mbs_only { 1 } else { 2 };
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
    let mut reorder = None;
    let mut buffering = None;
    if bits.flag()? {
        // Damage in here harms no pixel: keep what was read before it.
        if let Some((frames, buffers)) = vui(&mut bits).flatten() {
            reorder = Some(frames.min(16));
            buffering = Some(buffers.min(16));
        }
    }
    if reorder.is_none() && profile == 66 {
        reorder = Some(0);
    }
    let default = max_dpb_frames(level, constraints & 0x10 != 0, mb_width * mb_height);
    Some(Sps {
        id,
        ambiguous,
        parameters: StreamParameters {
            codec: Codec::H264,
            profile,
            level,
            width,
            height,
            coded_width: mb_width * 16,
            coded_height: mb_height * 16,
            chroma_format,
            bit_depth,
            frame_mbs_only,
            reference_frames,
            max_dec_frame_buffering: buffering.unwrap_or(default).max(reference_frames),
            reorder,
            sps_bytes_hash: super::hash(nal),
        },
    })
}

/// Whether a slice, its NAL header byte included, is a B slice.
pub(super) fn is_b_slice(nal: &[u8]) -> bool {
    // Two numbers of at most 32 + 31 bits and 7 bits: nothing beyond is read.
    let start = nal.get(1..).unwrap_or_default();
    let rbsp = rbsp(&start[..start.len().min(16)], 16);
    let mut bits = Bits::new(&rbsp.data);
    // first_mb_in_slice, slice_type
    bits.ue()
        .and_then(|_| bits.ue_max(9))
        .is_some_and(|kind| kind % 5 == 1)
}

fn scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            let delta = bits.se()?;
            if !(-128..=127).contains(&delta) {
                return None;
            }
            next = (last + delta) & 0xff;
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// `Some(Some((max_num_reorder_frames, max_dec_frame_buffering)))` when the stream says.
fn vui(bits: &mut Bits<'_>) -> Option<Option<(u32, u32)>> {
    if bits.flag()? && bits.bits(8)? == 255 {
        bits.skip(32)?; // sar_width, sar_height
    }
    if bits.flag()? {
        bits.skip(1)?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.flag()? {
        bits.skip(65)?; // num_units_in_tick, time_scale, fixed_frame_rate_flag
    }
    let nal_hrd = bits.flag()?;
    if nal_hrd {
        hrd(bits)?;
    }
    let vcl_hrd = bits.flag()?;
    if vcl_hrd {
        hrd(bits)?;
    }
    if nal_hrd || vcl_hrd {
        bits.skip(1)?; // low_delay_hrd_flag
    }
    bits.skip(1)?; // pic_struct_present_flag
    if !bits.flag()? {
        return Some(None);
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.ue()?;
    }
    Some(Some((bits.ue()?, bits.ue()?)))
}

fn hrd(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.ue_max(31)? + 1;
    bits.skip(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

/// MaxDpbFrames (Table A-1).
fn max_dpb_frames(level: u32, constraint_set3: bool, macroblocks: u32) -> u32 {
    let max_macroblocks = match level {
        11 if constraint_set3 => 396,
        0..=10 => 396,
        11 => 900,
        12..=20 => 2376,
        21 => 4752,
        22..=30 => 8100,
        31 => 18_000,
        32 => 20_480,
        40 | 41 => 32_768,
        42 => 34_816,
        50 => 110_400,
        51 | 52 => 184_320,
        _ => 696_320,
    };
    (max_macroblocks / macroblocks.max(1)).clamp(1, 16)
}

/// Frames until pictures are right again after a recovery point SEI; `None` without one.
pub(super) fn recovery_point(nal: &[u8]) -> Option<u32> {
    super::sei_message(nal.get(1..)?, 6, |payload| Bits::new(payload).ue())
}
