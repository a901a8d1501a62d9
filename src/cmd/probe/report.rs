//! What was found, in words and as JSON.

use serde_json::{Value, json};

use super::{Findings, Measured};
use crate::media::Codec;
use crate::media::parameters::StreamParameters;

impl Findings {
    /// One fact per line.
    pub fn text(&self) -> String {
        let mut lines = Lines(String::new());
        let address = self.address.map(|address| address.to_string());
        match address.filter(|address| !self.host.contains(address.as_str())) {
            Some(address) => lines.add("camera", &format!("{} ({address})", self.host)),
            None => lines.add("camera", &self.host),
        }
        if let Some(connected) = self.connected {
            let ms = connected.as_secs_f64() * 1e3;
            lines.add(
                "connected",
                &format!(
                    "after {ms:.0} ms, RTP over {}, by {}",
                    self.transport,
                    self.client.client()
                ),
            );
        }
        for track in &self.offered {
            let chosen = if track.chosen { ", read" } else { "" };
            lines.add(
                "offers",
                &format!(
                    "{} {}, {} Hz{chosen}",
                    track.media, track.encoding, track.clock_rate
                ),
            );
        }
        if let Some(info) = &self.info {
            let mut video = info.codec.to_string();
            if let Some(p) = &self.parameters {
                video += &format!(" {}, {}x{}", profile(p), p.width, p.height);
                video += &details(p);
            } else if let Some((width, height)) = info.dimensions {
                video += &format!(", {width}x{height}");
            }
            lines.add("video", &video);
        }
        if self.measured.units > 0 {
            self.measured.lines(&mut lines);
        }
        lines.0
    }

    /// Field names are stable; what is not known is null.
    pub fn json(&self) -> serde_json::Result<String> {
        let offered: Vec<Value> = self
            .offered
            .iter()
            .map(|track| {
                json!({
                    "media": track.media, "encoding": track.encoding,
                    "clock_rate": track.clock_rate, "read": track.chosen,
                })
            })
            .collect();
        let video = self.info.as_ref().map(|info| {
            let p = self.parameters.as_ref();
            let size = p.map(|p| (p.width, p.height)).or(info.dimensions);
            json!({
                "codec": info.codec.name(),
                "profile": p.map(profile_name),
                "level": p.and_then(level),
                "width": size.map(|s| s.0), "height": size.map(|s| s.1),
                "chroma": p.map(chroma), "bit_depth": p.map(|p| p.bit_depth),
                "interlaced": p.map(|p| !p.frame_mbs_only),
                "reference_frames": p.map(|p| p.reference_frames),
            })
        });
        let failure = self.failure.as_ref().map(|error| {
            json!({
                "stage": error.stage.to_string(), "error": error.kind.to_string(),
                "hint": error.kind.hint(error.stage),
            })
        });
        let ms = |time: Option<std::time::Duration>| time.map(|t| round(t.as_secs_f64() * 1e3, 1));
        let all = json!({
            "ok": self.failure.is_none(),
            "failure": failure,
            "host": self.host,
            "address": self.address.map(|address| address.to_string()),
            "transport": self.transport.to_string().to_lowercase(),
            "client": self.client.client(),
            "client_reason": self.client.reason(),
            "times_ms": {
                "connected": ms(self.connected),
                "first_picture": ms(self.measured.first_unit),
                "first_key_frame": ms(self.measured.first_key),
            },
            "offered": offered,
            "video": video,
            "measured": self.measured.json(),
        });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.0 += &format!("{name:<16} {value}\n");
    }
}

impl Measured {
    fn lines(&self, lines: &mut Lines) {
        let key = match self.first_key {
            Some(time) => format!("key frame {:.0} ms", time.as_secs_f64() * 1e3),
            None => "no key frame".to_owned(),
        };
        let first = self.first_unit.unwrap_or_default().as_secs_f64() * 1e3;
        lines.add("first picture", &format!("after {first:.0} ms, {key}"));
        let fps = self.fps().map_or("?".into(), |fps| format!("{fps:.2}"));
        lines.add(
            "pictures",
            &format!("{} in {:.1} s: {fps} fps", self.units, self.seconds()),
        );
        if let Some(bitrate) = self.bitrate() {
            lines.add(
                "bit rate",
                &format!(
                    "{:.2} Mbit/s, largest picture {} KiB",
                    bitrate / 1e6,
                    self.largest.div_ceil(1024)
                ),
            );
        }
        lines.add("key frames", &self.gop_text());
        let jitter = self.jitter_ms();
        lines.add(
            "jitter",
            &format!("pictures arrive up to {jitter:.1} ms off their beat"),
        );
        lines.add(
            "losses",
            &match (self.lost, self.glitches, self.oversize) {
                (0, 0, 0) => "none".to_owned(),
                (lost, glitches, oversize) => {
                    let last = self.last_glitch.as_ref();
                    let last = last.map(|text| format!(" (the last: {text})"));
                    format!(
                        "{lost} packets lost, {glitches} unusable{}, {oversize} pictures too large",
                        last.unwrap_or_default()
                    )
                }
            },
        );
        let offset = self.clock_offset.map(|ns| ns as f64 / 1e9);
        lines.add(
            "clock",
            &match (self.reports, offset, self.clock_believed) {
                (n, Some(offset), true) => format!(
                    "the camera's, {n} sender reports; {} this machine's",
                    ahead(offset)
                ),
                (n, Some(offset), false) => format!(
                    "of arrival: {n} sender reports are not believed, the camera's clock is {} \
                     this machine's; set its time service",
                    ahead(offset)
                ),
                _ => "of arrival: no sender report came".to_owned(),
            },
        );
    }

    fn gop_text(&self) -> String {
        let length = |pictures: u64| match self.fps() {
            Some(fps) => format!("{pictures} pictures ({:.1} s)", pictures as f64 / fps),
            None => format!("{pictures} pictures"),
        };
        match (self.gops.iter().min(), self.gops.iter().max()) {
            (Some(1), Some(1)) => "every picture".to_owned(),
            (Some(least), Some(most)) if least == most => format!("every {}", length(*most)),
            (Some(least), Some(most)) => format!("every {least} to {}", length(*most)),
            _ if self.keys > 0 => format!(
                "one; the next is more than {} away",
                length(self.since_key.unwrap_or(0))
            ),
            _ => "none: decoding cannot begin".to_owned(),
        }
    }

    fn jitter_ms(&self) -> f64 {
        let (least, most) = self.jitter.unwrap_or_default();
        most.saturating_sub(least) as f64 / 1e6
    }

    fn json(&self) -> Value {
        json!({
            "seconds": round(self.seconds(), 3),
            "pictures": self.units,
            "fps": self.fps().map(|fps| round(fps, 3)),
            "bits_per_second": self.bitrate().map(f64::round),
            "largest_picture_bytes": self.largest,
            "key_frames": self.keys,
            "gop_min": self.gops.iter().min(),
            "gop_max": self.gops.iter().max(),
            "jitter_ms": round(self.jitter_ms(), 1),
            "packets_lost": self.lost,
            "packets_unusable": self.glitches,
            "pictures_too_large": self.oversize,
            "parameter_changes": self.parameter_changes,
            "sender_reports": self.reports,
            "clock": if self.clock_believed { "sender-report" } else { "arrival" },
            "clock_offset_seconds": self.clock_offset.map(|ns| round(ns as f64 / 1e9, 3)),
        })
    }
}

fn ahead(seconds: f64) -> String {
    match seconds {
        s if s.abs() < 0.0005 => "equal to".to_owned(),
        s if s > 0.0 => format!("{s:.3} s ahead of"),
        s => format!("{:.3} s behind", -s),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// "High profile, level 4.1"; JPEG has no levels.
fn profile(p: &StreamParameters) -> String {
    match level(p) {
        Some(level) => format!("{}, level {level}", profile_name(p)),
        None => profile_name(p),
    }
}

/// ITU-T H.264 table A.3 ff., H.265 annex A.3; JPEG by its SOF marker (T.81 table B.1).
fn profile_name(p: &StreamParameters) -> String {
    let known = match (p.codec, p.profile) {
        (Codec::H264, 66) => "Baseline",
        (Codec::H264, 77) => "Main",
        (Codec::H264, 88) => "Extended",
        (Codec::H264, 100) => "High",
        (Codec::H264, 110) => "High 10",
        (Codec::H264, 122) => "High 4:2:2",
        (Codec::H264, 244) => "High 4:4:4",
        (Codec::H265, 1) => "Main",
        (Codec::H265, 2) => "Main 10",
        (Codec::H265, 3) => "Main Still Picture",
        (Codec::H265, 4) => "Range Extensions",
        (Codec::Mjpeg, 0xc0) => "baseline",
        (Codec::Mjpeg, 0xc1) => "extended",
        (Codec::Mjpeg, 0xc2) => "progressive",
        (_, other) => return format!("profile {other}"),
    };
    known.to_owned()
}

fn level(p: &StreamParameters) -> Option<f64> {
    match p.codec {
        Codec::H264 => Some(f64::from(p.level) / 10.0),
        Codec::H265 => Some(f64::from(p.level) / 30.0),
        _ => None,
    }
}

fn chroma(p: &StreamParameters) -> &'static str {
    match p.chroma_format {
        0 => "4:0:0",
        1 => "4:2:0",
        2 => "4:2:2",
        _ => "4:4:4",
    }
}

/// What is not as it is with nearly every camera.
fn details(p: &StreamParameters) -> String {
    let mut text = String::new();
    if p.chroma_format != 1 {
        text += &format!(", {}", chroma(p));
    }
    if p.bit_depth != 8 {
        text += &format!(", {} bit", p.bit_depth);
    }
    if !p.frame_mbs_only {
        text += ", interlaced";
    }
    if p.reorder.is_some_and(|n| n > 0) {
        text += ", reordered (B pictures)";
    }
    text
}
