//! Which pictures show what the camera saw, and which refer to something that was lost.
//!
//! libavcodec flags little of it: a lost access unit leaves no trace, H.265 none at all. So losses
//! are followed here, from unit to unit, in decoding order.
//!
//! Promises: after a loss every picture is damaged up to one that needs nothing from before it.
//! That is an IDR picture, a CRA or BLA picture, or the picture at which a recovery point says
//! that recovery is complete (H.264 § D.2.8, H.265 § D.3.8), which may be many pictures after the
//! message. Pictures that follow a CRA picture but refer to what precedes it (RASL, H.265
//! § 3.128) are damaged when that was lost. H.264 does not mark such pictures, and recovery is
//! complete in the order of output only (§ D.2.8): what comes out before the picture at which it is
//! complete is damaged, too. A unit that the decoder refused was lost.
//! It must never look into a unit while nothing is wrong: that costs a search of all its bytes.

use crate::media::Codec;
use crate::media::parameters;

/// Recovery points further away than this are taken as this far: H.264 counts `frame_num`, which
/// has 16 bits at most.
const MAX_RECOVERY: u32 = 1 << 16;

/// How much of what was sent is missing from the references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum References {
    #[default]
    Whole,
    /// Until the next place where decoding can start.
    Lost,
    /// So many more reference pictures, and with the next one they are whole.
    Recovering(u32),
}

/// More pictures than this do not change their order: H.264 and H.265 allow 16.
const MAX_REORDERED: u32 = 16;

/// Follows the references of one stream.
#[derive(Debug, Default)]
pub struct Damage {
    references: References,
    /// A CRA picture came after a loss: its RASL pictures refer to what is not there.
    leading_lost: bool,
    /// The unit at which recovery was complete, until its picture comes out, and how many came out
    /// before it.
    recovered_at: Option<(u64, u32)>,
}

impl Damage {
    /// Something was lost after the last unit.
    pub fn lost(&mut self) {
        self.references = References::Lost;
    }

    /// The decoder refused the last unit. If it had a picture, others refer to it in vain.
    pub fn refused(&mut self, codec: Codec, data: &[u8]) {
        if parameters::first_slice(codec, data).is_some() {
            self.lost();
        }
    }

    /// Takes the next picture in the order of output, by the number of its unit, and tells whether
    /// it precedes the one at which recovery was complete.
    pub fn shown(&mut self, number: u64) -> bool {
        let Some((point, before)) = self.recovered_at else {
            return false;
        };
        if number <= point || before >= MAX_REORDERED {
            if number >= point {
                self.recovered_at = None;
            }
            return false;
        }
        self.recovered_at = Some((point, before + 1));
        true
    }

    /// A new stream: nothing is known to be lost.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the next unit, and tells whether its picture is damaged. `number`: greater than those
    /// before; `key`: decoding can start here; `fresh`: the decoder has nothing from before it.
    pub fn unit(&mut self, codec: Codec, data: &[u8], number: u64, key: bool, fresh: bool) -> bool {
        if key {
            let broken = fresh || self.references != References::Whole;
            self.leading_lost = broken && codec == Codec::H265;
            if broken {
                self.enter(codec, data, number);
            }
        } else if self.leading_lost {
            let info = parameters::scan(codec, data);
            if info.rasl {
                return true;
            }
            // Trailing pictures come after all leading ones (H.265 § 7.4.2.2).
            self.leading_lost = info.leading || !info.picture;
        }
        match self.references {
            References::Whole => false,
            References::Lost => true,
            References::Recovering(left) => {
                let info = parameters::scan(codec, data);
                if !info.picture || (codec == Codec::H264 && info.disposable) {
                    return true;
                }
                if let Some(left) = left.checked_sub(1) {
                    self.references = References::Recovering(left);
                    return true;
                }
                self.references = References::Whole;
                self.recovered_at = Some((number, 0));
                false
            }
        }
    }

    /// Decoding starts here, or is mended from here on.
    fn enter(&mut self, codec: Codec, data: &[u8], number: u64) {
        let info = parameters::scan(codec, data);
        let wait = match info.recovery_point {
            Some(pictures) if !info.key => pictures.min(MAX_RECOVERY),
            _ => 0,
        };
        // Nothing follows an IDR picture and comes out before it; H.265 says which pictures do.
        self.recovered_at = match info.key {
            false if wait == 0 => Some((number, 0)),
            _ => None,
        };
        self.references = match (wait, self.references) {
            (0, _) => References::Whole,
            // A camera that refreshes all the time says so at each refresh.
            (wait, References::Recovering(left)) => References::Recovering(left.min(wait)),
            (wait, _) => References::Recovering(wait),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDR: &[u8] = &[0, 0, 1, 0x65, 0x88, 0x84];
    const P: &[u8] = &[0, 0, 1, 0x41, 0x9a, 0x02];
    /// Not a reference.
    const B: &[u8] = &[0, 0, 1, 0x01, 0x9a, 0x02];
    /// A recovery point SEI with `recovery_frame_cnt` 3 (ue 00100), then a slice.
    const RECOVERY_3: &[u8] = &[0, 0, 1, 0x06, 6, 1, 0x24, 0x80, 0, 0, 1, 0x41, 0x9a, 0x02];
    const RECOVERY_0: &[u8] = &[0, 0, 1, 0x06, 6, 1, 0xc0, 0x80, 0, 0, 1, 0x41, 0x9a, 0x02];

    fn h264(damage: &mut Damage, units: &[(&[u8], bool)]) -> Vec<bool> {
        units
            .iter()
            .map(|(data, key)| damage.unit(Codec::H264, data, 0, *key, false))
            .collect()
    }

    #[test]
    fn a_loss_lasts_until_an_idr_picture() {
        let mut damage = Damage::default();
        assert_eq!(h264(&mut damage, &[(IDR, true), (P, false)]), [false; 2]);
        damage.lost();
        let units = [(P, false), (P, false), (IDR, true), (P, false)];
        assert_eq!(h264(&mut damage, &units), [true, true, false, false]);
    }

    #[test]
    fn a_recovery_point_mends_only_after_as_many_pictures_as_it_says() {
        let mut damage = Damage::default();
        damage.lost();
        let units = [
            (P, false),
            (RECOVERY_3, true),
            (B, false),
            (P, false),
            (P, false),
            (P, false),
        ];
        assert_eq!(
            h264(&mut damage, &units),
            [true, true, true, true, true, false]
        );
        damage.lost();
        assert_eq!(h264(&mut damage, &[(RECOVERY_0, true)]), [false]);
        damage.lost();
        // Lost again while recovering.
        assert_eq!(h264(&mut damage, &[(RECOVERY_3, true)]), [true]);
        damage.lost();
        let units = [(P, false), (P, false), (P, false), (P, false), (IDR, true)];
        assert_eq!(h264(&mut damage, &units), [true, true, true, true, false]);
    }

    #[test]
    fn refresh_after_refresh_does_not_put_recovery_off() {
        let mut damage = Damage::default();
        damage.lost();
        let units = [
            (RECOVERY_3, true),
            (RECOVERY_3, true),
            (RECOVERY_3, true),
            (RECOVERY_3, true),
        ];
        assert_eq!(h264(&mut damage, &units), [true, true, true, false]);
    }

    #[test]
    fn decoding_that_starts_at_a_recovery_point_is_damaged_at_first() {
        let mut damage = Damage::default();
        assert!(damage.unit(Codec::H264, RECOVERY_3, 0, true, true));
        assert!(damage.unit(Codec::H264, P, 0, false, false));
        assert!(damage.unit(Codec::H264, P, 0, false, false));
        assert!(!damage.unit(Codec::H264, P, 0, false, false));
        // In an unbroken stream it says nothing new.
        assert!(!damage.unit(Codec::H264, RECOVERY_3, 0, true, false));
    }

    #[test]
    fn what_comes_out_before_the_recovery_point_is_damaged() {
        let mut damage = Damage::default();
        damage.lost();
        assert!(!damage.unit(Codec::H264, RECOVERY_0, 10, true, false));
        // Two B pictures follow it, and come out before it.
        assert!(!damage.unit(Codec::H264, B, 11, false, false));
        assert!(!damage.unit(Codec::H264, B, 12, false, false));
        let shown: Vec<bool> = [9, 11, 12, 10, 14, 13].map(|n| damage.shown(n)).into();
        assert_eq!(shown, [false, true, true, false, false, false]);
        // After an IDR picture there is nothing like it.
        damage.lost();
        assert!(!damage.unit(Codec::H264, IDR, 20, true, false));
        assert!(!damage.shown(21));
        // A picture that never comes out does not hold the others for ever.
        damage.lost();
        assert!(!damage.unit(Codec::H264, RECOVERY_0, 30, true, false));
        let marked = (31..60).filter(|n| damage.shown(*n)).count();
        assert_eq!(marked, MAX_REORDERED as usize);
    }

    #[test]
    fn a_refused_picture_is_a_loss_and_a_refused_scrap_is_not() {
        let mut damage = Damage::default();
        assert!(!damage.unit(Codec::H264, IDR, 0, true, true));
        damage.refused(Codec::H264, &[0, 0, 1, 0x41]);
        assert!(!damage.unit(Codec::H264, P, 1, false, false));
        damage.refused(Codec::H264, P);
        assert!(damage.unit(Codec::H264, P, 2, false, false));
    }

    /// An H.265 slice of this type.
    fn h265(kind: u8) -> Vec<u8> {
        vec![0, 0, 1, kind << 1, 1, 0xd0, 0x12]
    }

    #[test]
    fn pictures_that_refer_past_a_cra_picture_are_damaged_after_a_loss() {
        const CRA: u8 = 21;
        const RASL: u8 = 9;
        const RADL: u8 = 7;
        const TRAIL: u8 = 1;
        let run = |damage: &mut Damage, kinds: &[u8]| -> Vec<bool> {
            kinds
                .iter()
                .map(|kind| damage.unit(Codec::H265, &h265(*kind), 0, *kind >= 16, false))
                .collect()
        };
        let gop = [CRA, RASL, RADL, RASL, TRAIL, TRAIL];
        let mut damage = Damage::default();
        assert_eq!(run(&mut damage, &gop), [false; 6], "nothing was lost");
        damage.lost();
        assert_eq!(
            run(&mut damage, &gop),
            [false, true, false, true, false, false]
        );
        assert_eq!(run(&mut damage, &gop), [false; 6], "all is well again");
    }
}
