//! What a camera sends, on its way to rings and files: times, access units, text. Called by the fuzzer and
//! by the tests with kept inputs: [`crate::fuzzing`].
#![allow(clippy::missing_panics_doc)]

use arbitrary::Unstructured;

use super::audio::AudioClock;
use super::damage::Damage;
use super::ffmpeg_source::assemble::{Assembler, Moment, ring_codec};
use super::retina_source::{annexb, classify};
use super::source::{SourceErrorKind, SourceEvent, VideoCodec, clean_text};
use super::timeline::{Arrival, LeftOff, Stamp, Timeline, Unwrapper, ticks_to_ns};
use crate::config::mask;
use crate::media::aac::{ADTS_BYTES, AacConfig};
use crate::media::annexb::UnitFormat;
use crate::media::parameters::{self, Observed, ParameterSets};
use crate::media::{Codec, packed_layout};

/// RTP stamps, sender reports and new sessions of a camera whose clocks do anything.
pub fn timeline(data: &[u8]) {
    let _ = times(&mut Unstructured::new(data));
}

fn times(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let clock_rate = match u.arbitrary::<u8>()? % 4 {
        0 => u.arbitrary()?,
        1 => 8000,
        _ => 90_000,
    };
    let mut timeline = match u.arbitrary::<u8>()? % 4 {
        0 => Timeline::resume(
            clock_rate,
            LeftOff {
                pts: u.arbitrary()?,
                monotonic_ns: u.arbitrary()?,
            },
        ),
        _ => Timeline::new(clock_rate),
    };
    let mut sound = AudioClock::new(16_000, i64::MIN);
    let mut unwrapper = Unwrapper::default();
    let mut arrival = Arrival {
        monotonic_ns: u64::from(u.arbitrary::<u32>()?) << (u.arbitrary::<u8>()? % 33),
        utc_ns: 1_795_248_900_000_000_000,
    };
    let mut rtp = u.arbitrary::<u32>()?;
    let mut last: Option<Stamp> = None;
    let mut heard = i64::MIN;
    while !u.is_empty() {
        let now = u.arbitrary::<u8>()?;
        match now % 8 {
            0 => {
                // What the next stamps begin at.
                rtp = u.arbitrary()?;
            }
            1 => {
                let (ntp, at) = match now & 8 {
                    0 => (u.arbitrary()?, u.arbitrary()?),
                    _ => {
                        let off = i64::from(u.arbitrary::<i32>()?);
                        (arrival.utc_ns.saturating_add(off), unwrapper.unwrap(rtp))
                    }
                };
                timeline.sender_report(ntp, at, arrival);
                sound.video_report(ntp, at);
            }
            2 => match now >> 3 & 3 {
                0 => {
                    timeline.restart(clock_rate);
                    unwrapper = Unwrapper::default();
                    last = last.map(|last| Stamp {
                        discontinuity: false,
                        ..last
                    });
                }
                1 => {
                    timeline.set_reorder(u32::from(u.arbitrary::<u8>()?));
                }
                2 => sound.audio_report(u.arbitrary()?, u.arbitrary()?, &timeline),
                _ => arrival.utc_ns = u.arbitrary()?,
            },
            3 => {
                let play = match now & 8 {
                    0 => None,
                    _ => Some(u.arbitrary()?),
                };
                if let Some(stamp) =
                    sound.stamp(u.arbitrary::<u32>()?.into(), play, arrival, &timeline)
                {
                    assert!(
                        stamp.pts > heard,
                        "sound goes back: {} after {heard}",
                        stamp.pts
                    );
                    heard = stamp.pts;
                }
            }
            _ => {
                let passed = match now >> 3 & 3 {
                    0 => u64::from(u.arbitrary::<u8>()?) * 1_000_000,
                    1 => u.arbitrary::<u64>()? >> (u.arbitrary::<u8>()? % 64),
                    _ => 40_000_000,
                };
                arrival.monotonic_ns = arrival.monotonic_ns.saturating_add(passed);
                arrival.utc_ns = arrival.utc_ns.saturating_add(passed.min(1 << 50) as i64);
                rtp = match now >> 5 & 3 {
                    0 => rtp.wrapping_add(3600),
                    1 => rtp.wrapping_add(u32::from(u.arbitrary::<u16>()?)),
                    2 => rtp.wrapping_sub(u32::from(u.arbitrary::<u16>()?)),
                    _ => u.arbitrary()?,
                };
                let wide = match now & 128 {
                    0 => unwrapper.unwrap(rtp),
                    _ => u.arbitrary()?,
                };
                let stamp = timeline.stamp(wide, arrival, u.arbitrary()?);
                follows(last, stamp);
                last = Some(stamp);
            }
        }
    }
    Ok(())
}

/// The module's promises, from one unit to the next.
fn follows(before: Option<Stamp>, now: Stamp) {
    assert!(now.dts <= now.pts, "decoded after it is shown: {now:?}");
    let Some(before) = before else {
        assert!(now.discontinuity, "the first begins");
        return;
    };
    // At the end of all numbers there is no room left to rise.
    if before.dts < i64::MAX / 2 {
        assert!(now.dts > before.dts, "{now:?} after {before:?}");
    }
    if !now.discontinuity && in_range(before) && in_range(now) {
        let offset = |stamp: Stamp| stamp.capture_time_ns - ticks_to_ns(stamp.pts);
        assert_eq!(
            offset(now),
            offset(before),
            "UTC is no function of PTS: {now:?} after {before:?}"
        );
        assert_eq!(now.from_sender_report, before.from_sender_report);
    }
}

fn in_range(stamp: Stamp) -> bool {
    let limit = i64::MAX / 4;
    stamp.capture_time_ns.unsigned_abs() < limit as u64 && stamp.pts < limit / 11_112
}

/// What comes before or instead of access units: pieces of them, parameter sets, headers of sound.
pub fn access_units(data: &[u8]) {
    let _ = units(&mut Unstructured::new(data));
}

fn units(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let how = u.arbitrary::<u8>()?;
    let video = [VideoCodec::H264, VideoCodec::H265, VideoCodec::Mjpeg][usize::from(how % 3)];
    let codec = ring_codec(video);
    let max_bytes = match how >> 6 {
        0 => 64,
        _ => 1 << 20,
    };
    let mut sets = ParameterSets::new(codec);
    let mut damage = Damage::default();
    let (mut assembler, mut number) = (None, 0);
    while !u.is_empty() {
        let now = u.arbitrary::<u8>()?;
        let len = usize::from(u.arbitrary::<u8>()?) << (now & 1);
        let mut bytes = u.bytes(len.min(u.len()))?.to_vec();
        if now & 2 != 0 {
            bytes.splice(..0, [0, 0, 0, 1]);
        }
        let assembler =
            assembler.get_or_insert_with(|| Assembler::new(video, 90_000, max_bytes, &bytes));
        let time = match now >> 2 & 3 {
            0 => None,
            1 => Some(u.arbitrary()?),
            _ => Some(number),
        };
        let lost = if now & 16 == 0 {
            0
        } else {
            u.arbitrary::<u32>()?
        };
        match assembler.piece(&bytes, time, lost, Moment::default()) {
            Some(SourceEvent::Unit(unit)) => {
                // Its own bytes, and parameter sets in front of it.
                assert!(unit.data.len() <= max_bytes.max(bytes.len()) + (64 << 10) + 4096);
                look(codec, &unit.data, &mut sets, &mut damage, number as u64);
            }
            Some(SourceEvent::Oversize { bytes }) => assert!(bytes > max_bytes),
            _ => {}
        }
        number += 1;
        if now & 32 != 0 {
            look(codec, &bytes, &mut sets, &mut damage, number as u64);
            annexb::is_entry_point(video, &bytes);
            annexb::first_slice(video, &bytes);
            stored(codec, &bytes, u.bytes((now as usize).min(u.len()))?);
            heard(&bytes);
        }
    }
    Ok(())
}

fn look(codec: Codec, unit: &[u8], sets: &mut ParameterSets, damage: &mut Damage, number: u64) {
    let info = parameters::scan(codec, unit);
    if let Some(found) = &info.parameters {
        assert!(found.width > 0 && found.height > 0 && found.decoder_pictures() <= 40);
        if codec != Codec::Mjpeg {
            let _ = packed_layout(camring_ring::PixelFormat::I420, found.width, found.height);
        }
    }
    sets.observe(unit);
    let again = sets.observe(unit);
    assert!(again == Observed::Same || !sets.direct_rendering_allowed());
    let _ = parameters::has_b_slice(unit);
    let _ = parameters::first_slice(codec, unit);
    for nal in parameters::nal_units(unit) {
        assert!(!nal.is_empty());
        let _ = parameters::picture_parameter_set(codec, nal);
    }
    if let Some(sets) = crate::hls::parameters::Sets::of(codec, unit) {
        let _ = sets.track();
    }
    damage.unit(codec, unit, number * 3, info.key, number == 0);
    damage.shown(number * 3);
    if unit.first() == Some(&7) {
        damage.lost();
        damage.refused(codec, unit);
    }
}

/// As MP4 stores units: nothing is allocated that the input does not pay for.
fn stored(codec: Codec, record: &[u8], unit: &[u8]) {
    let Some(format) = UnitFormat::parse(codec, record) else {
        return;
    };
    assert!(format.parameter_sets().len() <= 2 * record.len() + 8);
    let mut into = Vec::new();
    format.append(unit, true, &mut into);
    assert!(into.len() <= format.parameter_sets().len() + 4 * unit.len() + 8);
}

fn heard(bytes: &[u8]) {
    if let Some(config) = AacConfig::parse(bytes) {
        assert!((1..=8).contains(&config.channels()) && config.sample_rate() >= 7350);
        assert_eq!(AacConfig::parse(&config.specific_config()), Some(config));
        if let Some(unit) = config.with_header(bytes) {
            assert_eq!(unit.len(), bytes.len() + ADTS_BYTES);
            assert_eq!(AacConfig::of_unit(&unit), Some((config, bytes)));
        }
    }
    if let Some((_, frame)) = AacConfig::of_unit(bytes) {
        assert!(frame.len() <= bytes.len() - ADTS_BYTES);
    }
}

/// Text of cameras that gets into errors and logs, and URLs that are shown.
pub fn camera_text(data: &[u8]) {
    const PLANTED: &str = "pL4nt3d-Zw7";
    let text = String::from_utf8_lossy(data);
    if text.contains(PLANTED) {
        return;
    }
    let said = format!("{text}{PLANTED}{text}");
    let clean = clean_text(&said, Some(PLANTED));
    assert!(!clean.contains(PLANTED) && !clean.chars().any(char::is_control));
    assert!(
        clean.chars().count() <= 400,
        "{} characters",
        clean.chars().count()
    );
    let _ = classify::is_rtcp(&clean);
    let kind = classify::connect_error(&clean);
    assert!(matches!(
        kind,
        SourceErrorKind::Refused | SourceErrorKind::Unreachable(_)
    ));
    // A password where passwords stand.
    let (user, rest) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let plain = |text: &str| !text.contains(['/', '?', '#', '@', ':', '$', '{', '}']);
    if plain(user) {
        let shown = mask::url(&format!("rtsp://{user}:{PLANTED}@192.0.2.1/{rest}"));
        assert!(!shown.contains(PLANTED), "{shown}");
    }
    let shown = mask::url(&format!("{text}&password={PLANTED}"));
    let named = !text.contains('@') || !shown.contains(PLANTED);
    assert!(named, "{shown}");
    let _ = mask::url(&text);
}
