//! AAC-LC: how its frames are described, in a session description and in front of each frame.
//!
//! A frame travels through its ring with an ADTS header (ISO/IEC 14496-3 § 1.A.2), so that each one says
//! all that a decoder needs. Bytes come from a camera or from shared memory: nothing here panics.
#![deny(unsafe_code)]

/// Samples in a frame, of each channel.
pub const FRAME_SAMPLES: u32 = 1024;

/// Bytes of an ADTS header without its checksum.
pub const ADTS_BYTES: usize = 7;

/// The longest frame that an ADTS header can announce.
pub const MAX_FRAME_BYTES: usize = (1 << 13) - 1 - ADTS_BYTES;

/// ISO/IEC 14496-3 § 1.6.3.4, table 1.18, in Hz.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// AAC-LC, the one audio object type that all players have.
const LC: u8 = 2;

/// What a decoder must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// Into [`RATES`].
    rate: u8,
    /// 1 to 7, table 1.19.
    channels: u8,
}

impl AacConfig {
    /// Reads an AudioSpecificConfig (§ 1.6.2.1). `None`: not AAC-LC with frames of 1024 samples at one of
    /// the usual rates.
    pub fn parse(config: &[u8]) -> Option<Self> {
        let bits = u16::from_be_bytes(*config.first_chunk()?);
        // frameLengthFlag, which stands for 960 samples, is the third bit from below.
        let usual = (bits >> 11) as u8 == LC && bits & 0b100 == 0;
        let this = Self::new((bits >> 7 & 0xf) as u8, (bits >> 3 & 0xf) as u8)?;
        usual.then_some(this)
    }

    fn new(rate: u8, channels: u8) -> Option<Self> {
        let known = usize::from(rate) < RATES.len() && (1..=7).contains(&channels);
        known.then_some(Self { rate, channels })
    }

    /// Samples per second.
    pub fn sample_rate(self) -> u32 {
        RATES.get(usize::from(self.rate)).copied().unwrap_or(48_000)
    }

    /// Loudspeakers.
    pub fn channels(self) -> u32 {
        match self.channels {
            7 => 8,
            other => other.into(),
        }
    }

    /// The AudioSpecificConfig.
    pub fn specific_config(self) -> [u8; 2] {
        let bits = u16::from(LC) << 11 | u16::from(self.rate) << 7 | u16::from(self.channels) << 3;
        bits.to_be_bytes()
    }

    /// A frame with its ADTS header. `None`: it is empty, or too long for one.
    pub fn with_header(self, frame: &[u8]) -> Option<Vec<u8>> {
        if frame.is_empty() || frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let len = frame.len() + ADTS_BYTES;
        let mut unit = Vec::with_capacity(len);
        // Sync word, MPEG-4, no checksum; profile, rate, channels; length; a full buffer, one frame.
        unit.extend_from_slice(&[
            0xff,
            0xf1,
            (LC - 1) << 6 | self.rate << 2 | self.channels >> 2,
            self.channels << 6 | (len >> 11) as u8 & 0b11,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1f,
            0xfc,
        ]);
        unit.extend_from_slice(frame);
        Some(unit)
    }

    /// Takes a unit with its ADTS header apart. `None`: it is none, not AAC-LC, or more than one frame.
    pub fn of_unit(unit: &[u8]) -> Option<(Self, &[u8])> {
        let head = *unit.first_chunk::<ADTS_BYTES>()?;
        // Layer 0; ID and protection_absent may be either.
        if head[0] != 0xff || head[1] & 0xf6 != 0xf0 || head[2] >> 6 != LC - 1 {
            return None;
        }
        let channels = (head[2] & 1) << 2 | head[3] >> 6;
        let this = Self::new(head[2] >> 2 & 0xf, channels)?;
        let len = usize::from(head[3] & 0b11) << 11
            | usize::from(head[4]) << 3
            | usize::from(head[5] >> 5);
        let begin = match head[1] & 1 {
            1 => ADTS_BYTES,
            _ => ADTS_BYTES + 2,
        };
        let one = len == unit.len() && head[6] & 0b11 == 0;
        let frame = unit.get(begin..).filter(|frame| !frame.is_empty())?;
        one.then_some((this, frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_config_as_cameras_send_it() {
        // AAC-LC, 48 kHz, mono; 16 kHz, stereo with a trailing SBR extension.
        let mono = AacConfig::parse(&[0x11, 0x88]).unwrap();
        assert_eq!((mono.sample_rate(), mono.channels()), (48_000, 1));
        let low = AacConfig::parse(&[0x14, 0x10, 0x56, 0xe5, 0x00]).unwrap();
        assert_eq!((low.sample_rate(), low.channels()), (16_000, 2));
        assert_eq!(low.specific_config(), [0x14, 0x10]);
        // HE-AAC, 960 samples, a rate written out, no channels, nothing.
        for other in [
            &[0x2b, 0x11, 0x88, 0x00][..],
            &[0x11, 0x8c],
            &[0x17, 0x88, 0, 0, 0],
            &[0x11, 0x80],
            &[0x11],
        ] {
            assert_eq!(AacConfig::parse(other), None, "{other:x?}");
        }
    }

    #[test]
    fn what_ffmpeg_writes_is_read() {
        // ffmpeg 5.1, `-f adts`, AAC-LC of 44.1 kHz, stereo: a frame of 16 bytes.
        let mut unit = vec![0xff, 0xf1, 0x50, 0x80, 0x02, 0x1f, 0xfc];
        unit.resize(16, 7);
        let (config, frame) = AacConfig::of_unit(&unit).unwrap();
        assert_eq!((config.sample_rate(), config.channels()), (44_100, 2));
        assert_eq!((frame.len(), config.with_header(frame)), (9, Some(unit)));
    }

    proptest! {
        #[test]
        fn units_come_back_as_they_went(
            rate in 0..13u8,
            channels in 1..=7u8,
            frame in proptest::collection::vec(any::<u8>(), 1..MAX_FRAME_BYTES),
        ) {
            let config = AacConfig { rate, channels };
            prop_assert_eq!(AacConfig::parse(&config.specific_config()), Some(config));
            let unit = config.with_header(&frame).unwrap();
            prop_assert_eq!(AacConfig::of_unit(&unit), Some((config, &frame[..])));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = AacConfig::parse(&bytes);
            if let Some((config, frame)) = AacConfig::of_unit(&bytes) {
                prop_assert!(!frame.is_empty() && config.sample_rate() > 0);
            }
        }
    }
}
