//! NAL units of an Annex B byte stream (H.264 Annex B, H.265 Annex B).

/// NAL units between start codes, without start code and trailing zero bytes. Bytes before the
/// first start code are skipped, as libavcodec does.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
}

/// Iterates over the NAL units of `unit`.
pub fn nal_units(unit: &[u8]) -> NalUnits<'_> {
    let rest = match start_code(unit) {
        Some(at) => &unit[at + 3..],
        None => &[],
    };
    NalUnits { rest }
}

/// Position of the next 00 00 01.
fn start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + 3 <= data.len() {
        match data[at + 2] {
            // Neither this byte nor the two after it can be the 01 of a start code at `at`…`at + 2`.
            2.. => at += 3,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 1,
        }
    }
    None
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (nal, rest) = match start_code(self.rest) {
                Some(at) => (&self.rest[..at], &self.rest[at + 3..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            let end = nal
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            if end > 0 {
                return Some(&nal[..end]);
            }
        }
        None
    }
}

/// A NAL unit's payload without emulation prevention bytes.
pub(super) struct Rbsp {
    pub(super) data: Vec<u8>,
    /// Index in `data` of the first byte after a removed 03.
    pub(super) first_removed: Option<usize>,
    /// 00 00 00 or 00 00 02 inside: no encoder may write that, and libavcodec ends the unit there.
    pub(super) irregular: bool,
}

/// Removes emulation prevention (H.264 §7.4.1.1) from at most `limit` bytes of `payload`.
pub(super) fn rbsp(payload: &[u8], limit: usize) -> Rbsp {
    let payload = &payload[..payload.len().min(limit)];
    let mut out = Rbsp {
        data: Vec::with_capacity(payload.len()),
        first_removed: None,
        irregular: false,
    };
    let mut zeros = 0;
    for byte in payload {
        if zeros >= 2 {
            match byte {
                3 => {
                    zeros = 0;
                    out.first_removed.get_or_insert(out.data.len());
                    continue;
                }
                0..=2 => out.irregular = true,
                _ => {}
            }
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.data.push(*byte);
    }
    out
}
