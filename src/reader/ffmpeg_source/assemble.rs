//! Access units out of what came in one RTP packet after the other.
//!
//! libavformat hands over the payloads with their RTP times and without the marker bit: a unit has
//! ended when the next one begins. Promises: a unit never grows beyond its limit; a unit with a
//! loss in it, or at either of its ends, says so, and is left out if it is a key frame (a key frame
//! ends the damage that came before it, so it must be whole).

use bytes::Bytes;

use crate::media::parameters::{self, nal_units};
use crate::reader::source::{AccessUnit, SourceEvent, VideoCodec};

/// Parameter sets kept for key frames that come without: more than any camera sends.
const MAX_SETS_BYTES: usize = 64 << 10;

/// When something was read.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::reader) struct Moment {
    pub monotonic_ns: u64,
    pub utc_ns: i64,
}

#[derive(Debug)]
struct Pending {
    rtp_time: i64,
    data: Vec<u8>,
    lost: u32,
    /// More came than a unit may have; this much in all.
    oversize: usize,
    read: Moment,
}

/// Puts units together.
#[derive(Debug)]
pub(in crate::reader) struct Assembler {
    codec: VideoCodec,
    clock_rate: u32,
    max_bytes: usize,
    pending: Option<Pending>,
    /// Parameter sets in force, Annex B.
    sets: Vec<u8>,
    dimensions: Option<(u32, u32)>,
    first: bool,
    /// Packets lost, or thrown away, since the last unit that was given out.
    damage: u32,
}

impl Assembler {
    /// `sets` is what the session description had.
    pub fn new(codec: VideoCodec, clock_rate: u32, max_bytes: usize, sets: &[u8]) -> Self {
        let mut this = Assembler {
            codec,
            clock_rate,
            max_bytes,
            pending: None,
            sets: Vec::new(),
            dimensions: None,
            first: true,
            damage: 0,
        };
        this.learn(sets);
        this
    }

    /// The next piece, of RTP time `rtp_time`; `lost` packets in front of it never came. Returns the
    /// unit that it ends.
    pub fn piece(
        &mut self,
        data: &[u8],
        rtp_time: Option<i64>,
        lost: u32,
        read: Moment,
    ) -> Option<SourceEvent> {
        // Without a time it belongs to what it came with.
        let rtp_time = rtp_time.or(self.pending.as_ref().map(|p| p.rtp_time))?;
        if self.codec == VideoCodec::Mjpeg {
            // A whole picture, and pictures do not depend on each other.
            self.damage = self.damage.saturating_add(lost);
            self.begin(rtp_time, data, 0, read);
            return self.finish();
        }
        // The rest of a unit in fragments. Its time may be another: where a session has several tracks
        // libavformat counts anew at each sender report, also in the middle of a picture.
        let continues = lost == 0 && !begins_nal(data);
        match &mut self.pending {
            Some(pending) if pending.rtp_time == rtp_time || continues => {
                pending.lost = pending.lost.saturating_add(lost);
                pending.read = read;
                if pending.oversize > 0 || pending.data.len() + data.len() > self.max_bytes {
                    pending.oversize = pending
                        .oversize
                        .max(pending.data.len())
                        .saturating_add(data.len());
                    pending.data = Vec::new();
                } else {
                    pending.data.extend_from_slice(data);
                }
                None
            }
            Some(pending) => {
                // Its end may be missing, or the beginning of the next, or both.
                pending.lost = pending.lost.saturating_add(lost);
                let ended = self.finish();
                self.begin(rtp_time, data, lost.min(1), read);
                ended
            }
            None => {
                // The first of the session: where it begins cannot be missing more than the rest.
                self.damage = self.damage.saturating_add(lost);
                self.begin(rtp_time, data, 0, read);
                None
            }
        }
    }

    fn begin(&mut self, rtp_time: i64, data: &[u8], lost: u32, read: Moment) {
        let oversize = if data.len() > self.max_bytes {
            data.len()
        } else {
            0
        };
        self.pending = Some(Pending {
            rtp_time,
            data: if oversize > 0 {
                Vec::new()
            } else {
                data.to_vec()
            },
            lost,
            oversize,
            read,
        });
    }

    fn finish(&mut self) -> Option<SourceEvent> {
        let Pending {
            rtp_time,
            mut data,
            lost,
            oversize,
            read,
        } = self.pending.take()?;
        if oversize > 0 {
            self.damage = self.damage.saturating_add(lost).saturating_add(1);
            return Some(SourceEvent::Oversize { bytes: oversize });
        }
        let codec = ring_codec(self.codec);
        let info = parameters::scan(codec, &data);
        let key = info.key || info.recovery_point.is_some();
        if !info.picture {
            // Parameter sets on their own: they come with the next key frame.
            self.learn(&data);
            self.damage = self.damage.saturating_add(lost);
            return None;
        }
        if key && lost > 0 && self.codec != VideoCodec::Mjpeg {
            self.damage = self.damage.saturating_add(lost);
            return None;
        }
        let mut parameters_changed = self.learn(&data);
        if key && info.parameters.is_none() && !self.sets.is_empty() {
            let mut with_sets = self.sets.clone();
            with_sets.append(&mut data);
            data = with_sets;
        }
        if let Some(parameters) = info.parameters {
            let size = Some((parameters.width, parameters.height));
            parameters_changed |= self.dimensions.is_some() && self.dimensions != size;
            self.dimensions = size;
        }
        let lost_before = std::mem::take(&mut self.damage).saturating_add(lost);
        let parameters_changed = parameters_changed || std::mem::take(&mut self.first);
        Some(SourceEvent::Unit(AccessUnit {
            data: Bytes::from(data),
            codec: self.codec,
            key,
            parameters_changed,
            dimensions: self.dimensions,
            rtp_time,
            clock_rate: self.clock_rate,
            arrival_ns: read.monotonic_ns,
            arrival_utc_ns: read.utc_ns,
            lost_before,
        }))
    }

    /// Keeps the parameter sets of a unit; whether they are others than before.
    fn learn(&mut self, unit: &[u8]) -> bool {
        let mut sets = Vec::new();
        for nal in nal_units(unit) {
            let is_set = match self.codec {
                VideoCodec::H264 => matches!(nal[0] & 0x1f, 7 | 8),
                VideoCodec::H265 => matches!((nal[0] >> 1) & 0x3f, 32..=34),
                VideoCodec::Mjpeg => return false,
            };
            if is_set && sets.len() + nal.len() + 4 <= MAX_SETS_BYTES {
                sets.extend_from_slice(&[0, 0, 0, 1]);
                sets.extend_from_slice(nal);
            }
        }
        let info = parameters::scan(ring_codec(self.codec), &sets);
        // A picture parameter set alone does not replace both.
        let Some(found) = info.parameters else {
            return false;
        };
        let changed = !self.sets.is_empty() && self.sets != sets;
        if self.dimensions.is_none() {
            self.dimensions = Some((found.width, found.height));
        }
        self.sets = sets;
        changed
    }

    /// Picture size, once parameter sets were seen.
    pub fn dimensions(&self) -> Option<(u32, u32)> {
        self.dimensions
    }
}

/// libavformat puts a start code before each NAL unit, and before the first fragment of one.
fn begins_nal(data: &[u8]) -> bool {
    data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1])
}

pub(in crate::reader) fn ring_codec(codec: VideoCodec) -> camring_ring::Codec {
    match codec {
        VideoCodec::H264 => camring_ring::Codec::H264,
        VideoCodec::H265 => camring_ring::Codec::H265,
        VideoCodec::Mjpeg => camring_ring::Codec::Mjpeg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPS and PPS of a 64x64 baseline stream by x264.
    const SETS: &[u8] = &[
        0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0a, 0xda, 0x10, 0x9b, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0,
        3, 3, 0x20, 0xf1, 0x22, 0x6a, 0, 0, 0, 1, 0x68, 0xce, 0x0f, 0xc8,
    ];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x88, 0x84, 1, 2, 3];
    const P: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 1, 2, 3];

    fn assembler(max: usize) -> Assembler {
        Assembler::new(VideoCodec::H264, 90_000, max, SETS)
    }

    fn feed(a: &mut Assembler, pieces: &[(&[u8], i64, u32)]) -> Vec<SourceEvent> {
        let read = Moment::default();
        let events = pieces
            .iter()
            .filter_map(|(d, t, l)| a.piece(d, Some(*t), *l, read));
        events.collect()
    }

    fn units(events: &[SourceEvent]) -> Vec<(i64, bool, u32, usize)> {
        let of = |e: &SourceEvent| match e {
            SourceEvent::Unit(u) => Some((u.rtp_time, u.key, u.lost_before, u.data.len())),
            _ => None,
        };
        events.iter().filter_map(of).collect()
    }

    #[test]
    fn a_unit_ends_when_the_next_begins_and_key_frames_carry_parameter_sets() {
        let mut a = assembler(1 << 20);
        assert_eq!(a.dimensions(), Some((64, 64)));
        let events = feed(
            &mut a,
            &[(IDR, 0, 0), (&[9; 5], 0, 0), (P, 1, 0), (P, 2, 0)],
        );
        let whole = SETS.len() + IDR.len() + 5;
        assert_eq!(
            units(&events),
            [(0, true, 0, whole), (1, false, 0, P.len())]
        );
        let SourceEvent::Unit(first) = &events[0] else {
            panic!("a unit")
        };
        assert!(first.parameters_changed && first.data.starts_with(SETS));
    }

    #[test]
    fn a_fragment_belongs_to_what_it_continues_whatever_its_time() {
        let mut a = assembler(1 << 20);
        let pieces: &[(&[u8], i64, u32)] = &[
            (IDR, 0, 0),
            (P, 100, 0),
            // A sender report came in the middle of this picture.
            (&[9; 5], 107, 0),
            (P, 207, 0),
            // Not so where something is missing: it may be the end of another one.
            (&[9; 5], 307, 1),
            (P, 407, 0),
            (P, 507, 0),
        ];
        let events = feed(&mut a, pieces);
        let p = P.len();
        assert_eq!(
            units(&events)[1..],
            [
                (100, false, 0, p + 5),
                (207, false, 1, p),
                (407, false, 1, p)
            ]
        );
    }

    #[test]
    fn a_loss_marks_the_units_on_both_sides_of_it() {
        let mut a = assembler(1 << 20);
        let events = feed(
            &mut a,
            &[(IDR, 0, 0), (P, 1, 0), (P, 2, 3), (P, 3, 0), (P, 4, 0)],
        );
        let lost: Vec<_> = units(&events).iter().map(|u| (u.0, u.2)).collect();
        assert_eq!(lost, [(0, 0), (1, 3), (2, 1), (3, 0)]);
    }

    #[test]
    fn a_damaged_key_frame_is_left_out_and_the_damage_goes_on() {
        for pieces in [
            [
                (IDR, 0, 0),
                (P, 1, 0),
                (IDR, 2, 0),
                (&[7; 9], 2, 2),
                (P, 3, 0),
                (P, 4, 0),
            ],
            // Lost where one unit ends and the next begins.
            [
                (IDR, 0, 0),
                (P, 1, 0),
                (IDR, 2, 1),
                (&[7; 9], 2, 0),
                (P, 3, 0),
                (P, 4, 0),
            ],
            [
                (IDR, 0, 0),
                (P, 1, 0),
                (IDR, 2, 0),
                (&[7; 9], 2, 0),
                (P, 3, 1),
                (P, 4, 0),
            ],
        ] {
            let events = feed(&mut assembler(1 << 20), &pieces);
            let got = units(&events);
            assert_eq!(got.iter().filter(|u| u.1).count(), 1, "{got:?}");
            assert!(got.iter().any(|u| u.0 == 3 && u.2 > 0), "{got:?}");
        }
    }

    #[test]
    fn an_endless_unit_is_given_up() {
        let mut a = assembler(100);
        let part: &[u8] = &[5; 40];
        let events = feed(
            &mut a,
            &[(IDR, 0, 0), (part, 0, 0), (part, 0, 0), (part, 0, 0)],
        );
        assert!(events.is_empty());
        assert_eq!(a.pending.as_ref().unwrap().data.capacity(), 0);
        let events = feed(&mut a, &[(P, 1, 0), (P, 2, 0)]);
        assert!(
            matches!(events[0], SourceEvent::Oversize { bytes: 130 }),
            "{events:?}"
        );
        assert_eq!(units(&events), [(1, false, 1, P.len())]);
    }

    #[test]
    fn parameter_sets_on_their_own_are_no_unit() {
        let mut a = Assembler::new(VideoCodec::H264, 90_000, 1 << 20, &[]);
        let events = feed(&mut a, &[(SETS, 0, 0), (IDR, 1, 0), (P, 2, 0)]);
        assert_eq!(units(&events), [(1, true, 0, SETS.len() + IDR.len())]);
    }
}
