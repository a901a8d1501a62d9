//! Small clips made with the `ffmpeg` program, and their access units.
#![allow(dead_code)] // each test binary uses a part

use std::path::{Path, PathBuf};
use std::process::Command;

use camring::media::Codec;
use camring::media::parameters::nal_units;

/// A clip as an elementary stream.
pub struct Clip {
    pub codec: Codec,
    pub path: PathBuf,
    /// One per picture; one per field for field-coded H.264.
    pub units: Vec<Vec<u8>>,
}

/// Makes a clip: `source` is a lavfi source, `arguments` the encoder's.
pub fn make(folder: &Path, name: &str, codec: Codec, source: &str, arguments: &[&str]) -> Clip {
    let (extension, format) = match codec {
        Codec::H264 => ("h264", "h264"),
        Codec::H265 => ("h265", "hevc"),
        Codec::Mjpeg => ("mjpeg", "mjpeg"),
        other => panic!("no clips of {other:?}"),
    };
    let path = folder.join(format!("{name}.{extension}"));
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", source])
        .args(arguments)
        .args(["-f", format])
        .arg(&path)
        .output()
        .expect("the ffmpeg program is needed (apt install ffmpeg)");
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = std::fs::read(&path).expect("the clip was just written");
    let units = match codec {
        Codec::Mjpeg => images(&bytes),
        _ => access_units(codec, &bytes),
    };
    assert!(!units.is_empty(), "{name}: no access unit found");
    Clip { codec, path, units }
}

/// Cuts before each access unit delimiter (H.264 type 9, H.265 type 35): encode with `aud=1`.
fn access_units(codec: Codec, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for nal in nal_units(stream) {
        let delimiter = match codec {
            Codec::H264 => nal[0] & 0x1f == 9,
            _ => nal[0] >> 1 & 0x3f == 35,
        };
        if delimiter || units.is_empty() {
            units.push(Vec::new());
        }
        let unit = units.last_mut().expect("one was pushed");
        unit.extend_from_slice(&[0, 0, 0, 1]);
        unit.extend_from_slice(nal);
    }
    units
}

/// Cuts at each start of image: within a scan 0xff is followed by 0, so that the mark is unambiguous.
fn images(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..stream.len().saturating_sub(1))
        .filter(|at| stream[*at..].starts_with(&[0xff, 0xd8]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| stream[*start..end].to_vec())
        .collect()
}

/// A small, fast, reproducible generator (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
