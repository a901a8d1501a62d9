//! Field-coded H.264 (PAFF), written bit by bit: x264 codes interlaced frames as MBAFF only.
//!
//! Each unit is one field. Intra macroblocks are I_PCM, so that every field has content of its own;
//! the second half of a predicted field is skipped macroblocks.

struct BitWriter {
    bytes: Vec<u8>,
    free: u32, // bits unused in the last byte
}

impl BitWriter {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            free: 0,
        }
    }

    fn bits(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.free;
            }
        }
    }

    fn ue(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.bits(0, length - 1);
        self.bits(value + 1, length);
    }

    fn align(&mut self) {
        self.free = 0;
    }

    /// Stop bit, emulation prevention, start code and header.
    fn nal(mut self, header: u8) -> Vec<u8> {
        self.bits(1, 1);
        let mut nal = vec![0, 0, 0, 1, header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

/// A sequence of `width` × `height` pixels (multiples of 16 and 32).
pub struct Paff {
    pub width: u32,
    pub height: u32,
    /// Frames from one IDR picture to the next.
    pub idr_period: u32,
}

const FRAME_NUM_BITS: u32 = 8;
const POC_BITS: u32 = 10;

impl Paff {
    /// `frames` frames, two units each.
    pub fn fields(&self, frames: u32) -> Vec<Vec<u8>> {
        let mut units = Vec::new();
        for frame in 0..frames {
            for bottom in [false, true] {
                let mut unit = Vec::new();
                if frame % self.idr_period == 0 && !bottom {
                    unit.extend(self.sps());
                    unit.extend(pps());
                }
                unit.extend(self.field(frame, bottom));
                units.push(unit);
            }
        }
        units
    }

    fn sps(&self) -> Vec<u8> {
        let mut w = BitWriter::new();
        w.bits(77, 8); // main profile
        w.bits(0, 8);
        w.bits(40, 8); // level 4.0
        w.ue(0); // id
        w.ue(FRAME_NUM_BITS - 4);
        w.ue(0); // pic_order_cnt_type
        w.ue(POC_BITS - 4);
        w.ue(2); // max_num_ref_frames
        w.bits(0, 1); // gaps_in_frame_num_value_allowed_flag
        w.ue(self.width / 16 - 1);
        w.ue(self.height / 32 - 1);
        w.bits(0, 1); // frame_mbs_only_flag
        w.bits(0, 1); // mb_adaptive_frame_field_flag
        w.bits(1, 1); // direct_8x8_inference_flag
        w.bits(0, 1); // frame_cropping_flag
        w.bits(0, 1); // vui_parameters_present_flag
        w.nal(0x67)
    }

    fn field(&self, frame: u32, bottom: bool) -> Vec<u8> {
        let in_gop = frame % self.idr_period;
        let idr = in_gop == 0 && !bottom;
        let intra = in_gop == 0;
        let mut w = BitWriter::new();
        w.ue(0); // first_mb_in_slice
        w.ue(if intra { 7 } else { 5 });
        w.ue(0); // PPS
        w.bits(in_gop % (1 << FRAME_NUM_BITS), FRAME_NUM_BITS);
        w.bits(1, 1); // field_pic_flag
        w.bits(u32::from(bottom), 1);
        if idr {
            w.ue(frame / self.idr_period % 2); // idr_pic_id
        }
        w.bits((in_gop * 2 + u32::from(bottom)) % (1 << POC_BITS), POC_BITS);
        if !intra {
            w.bits(0, 1); // num_ref_idx_active_override_flag
            w.bits(0, 1); // ref_pic_list_modification_flag_l0
        }
        if idr {
            w.bits(0, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
        } else {
            w.bits(0, 1); // adaptive_ref_pic_marking_mode_flag
        }
        w.ue(0); // slice_qp_delta
        w.ue(1); // disable_deblocking_filter_idc
        let macroblocks = self.width / 16 * (self.height / 32);
        let coded = if intra { macroblocks } else { macroblocks / 2 };
        for macroblock in 0..coded {
            if intra {
                w.ue(25); // I_PCM
            } else {
                w.ue(0); // mb_skip_run
                w.ue(30); // I_PCM in a P slice
            }
            w.align();
            let shade = (frame * 37 + u32::from(bottom) * 91 + macroblock * 5) as u8;
            w.bytes.extend(std::iter::repeat_n(shade, 256));
            w.bytes
                .extend(std::iter::repeat_n(shade.wrapping_mul(3), 128));
        }
        if coded < macroblocks {
            w.ue(macroblocks - coded); // skipped to the end
        }
        w.nal(if idr { 0x65 } else { 0x61 })
    }
}

fn pps() -> Vec<u8> {
    let mut w = BitWriter::new();
    w.ue(0); // id
    w.ue(0); // SPS
    w.bits(0, 2); // CAVLC, bottom_field_pic_order_in_frame_present_flag
    w.ue(0); // num_slice_groups_minus1
    w.ue(0); // num_ref_idx_l0_default_active_minus1
    w.ue(0); // num_ref_idx_l1_default_active_minus1
    w.bits(0, 3); // no weighted prediction
    w.ue(0); // pic_init_qp_minus26
    w.ue(0); // pic_init_qs_minus26
    w.ue(0); // chroma_qp_index_offset
    w.bits(1, 1); // deblocking_filter_control_present_flag
    w.bits(0, 2); // constrained_intra_pred_flag, redundant_pic_cnt_present_flag
    w.nal(0x68)
}
