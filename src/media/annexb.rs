//! Access units as MP4 stores them (each NAL unit behind its length, parameter sets apart in `avcC`
//! or `hvcC`: ISO/IEC 14496-15) made into what a decoder is given here: Annex B.
//!
//! Promises: no panic on any input, no more allocated than the input is long (parameter sets are kept
//! once); what makes no sense is left out.

use super::Codec;

const START: [u8; 4] = [0, 0, 0, 1];

/// What stands before a track's units: how long its lengths are, and its parameter sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFormat {
    length_bytes: usize,
    /// Annex B.
    sets: Vec<u8>,
}

impl UnitFormat {
    /// From the `avcC` or `hvcC` of a track. `None`: not one.
    pub fn parse(codec: Codec, record: &[u8]) -> Option<Self> {
        match codec {
            Codec::H264 => avc(record),
            Codec::H265 => hevc(record),
            _ => None,
        }
    }

    /// The parameter sets, in Annex B.
    pub fn parameter_sets(&self) -> &[u8] {
        &self.sets
    }

    /// Appends a unit in Annex B; with the parameter sets before it where decoding may start at it.
    pub fn append(&self, unit: &[u8], key: bool, into: &mut Vec<u8>) {
        if key {
            into.extend_from_slice(&self.sets);
        }
        let mut rest = unit;
        while let Some((length, after)) = rest.split_at_checked(self.length_bytes) {
            let length = number(length);
            let Some((nal, after)) = after.split_at_checked(length) else {
                return;
            };
            if !nal.is_empty() {
                into.extend_from_slice(&START);
                into.extend_from_slice(nal);
            }
            rest = after;
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// ISO/IEC 14496-15, 5.3.3.1: version, profile, compatibility, level, length size, then the sets.
fn avc(record: &[u8]) -> Option<UnitFormat> {
    let length_bytes = usize::from(record.get(4)? & 3) + 1;
    let mut sets = Vec::new();
    let mut rest = record.get(5..)?;
    for mask in [0x1f, 0xff] {
        let (count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            rest = take_set(rest, &mut sets)?;
        }
    }
    Some(UnitFormat { length_bytes, sets })
}

/// ISO/IEC 14496-15, 8.3.3.1: 21 bytes of what the sets say, too, then arrays of NAL units.
fn hevc(record: &[u8]) -> Option<UnitFormat> {
    let length_bytes = usize::from(record.get(21)? & 3) + 1;
    let mut sets = Vec::new();
    let arrays = *record.get(22)?;
    let mut rest = record.get(23..)?;
    for _ in 0..arrays {
        let count = number(rest.get(1..3)?);
        rest = rest.get(3..)?;
        for _ in 0..count {
            rest = take_set(rest, &mut sets)?;
        }
    }
    Some(UnitFormat { length_bytes, sets })
}

fn take_set<'a>(from: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (length, rest) = from.split_at_checked(2)?;
    let (nal, rest) = rest.split_at_checked(number(length))?;
    into.extend_from_slice(&START);
    into.extend_from_slice(nal);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_get_start_codes_and_key_frames_their_parameter_sets() {
        let record = [1, 77, 0, 31, 0xff, 0xe1, 0, 2, 0x67, 9, 1, 0, 1, 0x68];
        let format = UnitFormat::parse(Codec::H264, &record).unwrap();
        let unit = [0, 0, 0, 2, 0x65, 7, 0, 0, 0, 1, 0x06];
        let mut out = Vec::new();
        format.append(&unit, true, &mut out);
        let sets = [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68];
        let nals = [0, 0, 0, 1, 0x65, 7, 0, 0, 0, 1, 0x06];
        assert_eq!(out, [&sets[..], &nals].concat());
        out.clear();
        format.append(&unit, false, &mut out);
        assert_eq!(out, nals);
    }

    #[test]
    fn the_arrays_of_h265_are_all_taken() {
        let mut record = vec![0; 23];
        (record[21], record[22]) = (3, 2);
        record.extend([32, 0, 1, 0, 1, 0x40, 34, 0, 2, 0, 1, 0x44, 0, 1, 0x45]);
        let format = UnitFormat::parse(Codec::H265, &record).unwrap();
        let sets = [0, 0, 0, 1, 0x40, 0, 0, 0, 1, 0x44, 0, 0, 0, 1, 0x45];
        assert_eq!(format.parameter_sets(), sets);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let record = [1, 77, 0, 31, 0xff, 0xe1, 0, 2, 0x67, 9, 1, 0, 1, 0x68];
        for len in 0..record.len() {
            assert_eq!(UnitFormat::parse(Codec::H264, &record[..len]), None);
            assert_eq!(UnitFormat::parse(Codec::H265, &record[..len]), None);
        }
        let format = UnitFormat::parse(Codec::H264, &record).unwrap();
        let mut out = Vec::new();
        format.append(&[0, 0, 0, 9, 1, 2], false, &mut out);
        format.append(&[0xff, 0xff, 0xff, 0xff, 1], false, &mut out);
        format.append(&[0, 0], false, &mut out);
        assert!(out.is_empty());
    }
}
