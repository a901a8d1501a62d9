//! What an init segment says of its tracks: codecs as playlists name them (RFC 6381), picture size.
//!
//! Reads ISO BMFF boxes (ISO/IEC 14496-12) of a file of ours, and believes none of it: at most
//! [`LARGEST`] bytes, every box within its parent, no recursion but over the few known containers.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use crate::recording::{InitId, Rendition};

/// An init segment is about 1 KiB.
const LARGEST: u64 = 256 << 10;
/// Answers that are kept.
const KEPT: usize = 1024;

/// The tracks of an init segment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tracks {
    /// `avc1.4d401f`; `None`: there is none, or of a kind that is not known.
    pub video: Option<String>,
    /// `mp4a.40.2`; `None`: there is none.
    pub audio: Option<String>,
    /// Of the picture, in pixels.
    pub width: u32,
    /// See [`Tracks::width`].
    pub height: u32,
    /// Of sound, per second.
    pub sample_rate: u32,
}

impl Tracks {
    /// `CODECS`: all of them. Empty where one is not known: better no attribute than a wrong one.
    pub fn codecs(&self) -> String {
        match (&self.video, &self.audio) {
            (Some(video), Some(audio)) => format!("{video},{audio}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => String::new(),
        }
    }
}

/// What has been read. Init segments do not change: their names are made of their bytes.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<(String, String, InitId), Arc<Tracks>>>);

impl Known {
    /// Of a rendition's init segment; reads it the first time.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn tracks(&self, rendition: &Rendition, init: InitId) -> io::Result<Arc<Tracks>> {
        let key = (rendition.stream.clone(), rendition.name.clone(), init);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut bytes = Vec::new();
        let file = File::open(rendition.init(init))?;
        file.take(LARGEST).read_to_end(&mut bytes)?;
        let tracks = Arc::new(parse(&bytes));
        let mut known = lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, Arc::clone(&tracks));
        Ok(tracks)
    }
}

/// The boxes in `bytes`, one after the other.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, _) = rest.split_first_chunk::<8>()?;
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = [head[4], head[5], head[6], head[7]];
        // 64-bit sizes are not for boxes this small.
        let body = rest.get(8..size)?;
        rest = &rest[size..];
        Some((kind, body))
    })
}

fn find<'b>(bytes: &'b [u8], kind: &[u8; 4]) -> Option<&'b [u8]> {
    boxes(bytes)
        .find(|(of, _)| of == kind)
        .map(|(_, body)| body)
}

/// What can be read of an init segment.
pub fn parse(init: &[u8]) -> Tracks {
    let mut tracks = Tracks::default();
    let Some(movie) = find(init, b"moov") else {
        return tracks;
    };
    for (_, track) in boxes(movie).filter(|(kind, _)| kind == b"trak") {
        let entries = find(track, b"mdia")
            .and_then(|media| find(media, b"minf"))
            .and_then(|info| find(info, b"stbl"))
            .and_then(|table| find(table, b"stsd"))
            .and_then(|descriptions| descriptions.get(8..));
        let Some((kind, entry)) = entries.and_then(|entries| boxes(entries).next()) else {
            continue;
        };
        match &kind {
            b"avc1" | b"avc3" | b"hvc1" | b"hev1" => {
                tracks.video = video(&kind, entry);
                let size = |at: usize| {
                    let two = entry.get(at..at + 2).unwrap_or(&[0, 0]);
                    u32::from(u16::from_be_bytes([two[0], two[1]]))
                };
                (tracks.width, tracks.height) = (size(24), size(26));
            }
            b"mp4a" => {
                tracks.audio = sound(entry);
                let rate = entry.get(24..26).unwrap_or(&[0, 0]);
                tracks.sample_rate = u16::from_be_bytes([rate[0], rate[1]]).into();
            }
            _ => {}
        }
    }
    tracks
}

/// A `VisualSampleEntry` has 78 bytes before its boxes.
fn video(kind: &[u8; 4], entry: &[u8]) -> Option<String> {
    let boxes = entry.get(78..)?;
    let name = std::str::from_utf8(kind).ok()?;
    if let Some(config) = find(boxes, b"avcC") {
        let [profile, flags, level] = *config.get(1..4)?.first_chunk()?;
        return Some(format!("{name}.{profile:02x}{flags:02x}{level:02x}"));
    }
    // ISO/IEC 14496-15, E.3: profile space and number, compatibility in reverse bit order, tier and
    // level, constraints without trailing zero bytes.
    let config = find(boxes, b"hvcC")?.get(..13)?;
    let space = ["", "A", "B", "C"][usize::from(config[1] >> 6)];
    let profile = config[1] & 31;
    let flags = u32::from_be_bytes([config[2], config[3], config[4], config[5]]).reverse_bits();
    let tier = if config[1] & 32 == 0 { 'L' } else { 'H' };
    let level = config[12];
    let mut text = format!("{name}.{space}{profile}.{flags:X}.{tier}{level}");
    let constraints = &config[6..12];
    let used = constraints
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        // Writing to a String cannot fail.
        let _ = write!(text, ".{byte:X}");
    }
    Some(text)
}

/// An `AudioSampleEntry` has 28 bytes before its boxes. The codec is in the descriptors of `esds`
/// (ISO/IEC 14496-1): object type 0x40 is MPEG-4 audio, whose own type is in its first 5 bits.
fn sound(entry: &[u8]) -> Option<String> {
    let esds = find(entry.get(28..)?, b"esds")?.get(4..)?;
    let stream = descriptor(esds, 3)?;
    let flags = *stream.get(2)?;
    let skip = 3
        + if flags & 0x80 != 0 { 2 } else { 0 }
        + if flags & 0x40 != 0 {
            1 + usize::from(*stream.get(3)?)
        } else {
            0
        }
        + if flags & 0x20 != 0 { 2 } else { 0 };
    let decoder = descriptor(stream.get(skip..)?, 4)?;
    let object = *decoder.first()?;
    if object != 0x40 {
        return Some(format!("mp4a.{object:02x}"));
    }
    let specific = descriptor(decoder.get(13..)?, 5)?;
    let kind = match (specific.first()? >> 3, specific.get(1)) {
        // Escape: 6 bits more.
        (31, Some(second)) => 32 + u16::from((specific[0] & 7) << 3 | second >> 5),
        (kind, _) => kind.into(),
    };
    Some(format!("mp4a.40.{kind}"))
}

/// The body of the first descriptor, if it has this tag.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (&found, mut rest) = bytes.split_first()?;
    if found != tag {
        return None;
    }
    let mut length = 0_usize;
    for _ in 0..4 {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(&rest[..length.min(rest.len())])
}

#[cfg(test)]
mod tests;
