//! What clients ask for, and what lies on the disk. Called by the fuzzer and by the tests with kept inputs:
//! [`crate::fuzzing`].
#![allow(clippy::missing_panics_doc)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use arbitrary::Unstructured;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::Value;

use super::api::markers::ListParams;
use super::api::{params, probe, recordings};
use super::deliver::{self, Ranged};
use super::index::fuzzing::Reader;
use super::{Problem, guard, hls, markers, time, tracks};
use crate::recording::{
    Chunk, ChunkFlags, FileName, FrameFlags, FrameTime, Header, IndexReader, InitId, Minute,
    Rendition, Tree, hour_name,
};

/// A request head: query, moments, `Range`, `Host`, `Origin`.
pub fn http_query(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match how % 6 {
        0 => moment(&text),
        1 => range(&text, u64::from(*how >> 3) * 7),
        2 => playlist(&text),
        3 => {
            let Ok(uri) = format!("/x?{text}").parse::<Uri>() else {
                return;
            };
            let _ = Query::<ListParams>::try_from_uri(&uri);
        }
        4 => origin(&text),
        _ => {
            let (from, to) = text.split_at(text.floor_char_boundary(text.len() / 2));
            match params::range(from, to) {
                Ok((from, to)) => assert!(0 <= from && from < to),
                Err(problem) => told(&problem),
            }
            if params::is_text(&text, 80).is_ok() {
                assert!(!text.chars().any(char::is_control) && !text.trim().is_empty());
            }
            let pointer = params::pointer(&text);
            assert!(pointer.starts_with("#/") && pointer.is_ascii() && pointer.len() < 1000);
        }
    }
}

fn told(problem: &Problem) {
    assert!((400..500).contains(&problem.status), "{problem:?}");
    assert!(problem.to_string().len() < 8192);
}

fn moment(text: &str) {
    match time::parse(text) {
        Ok(ns) => {
            assert!(ns >= 0);
            assert_eq!(time::parse(&time::rfc3339(ns)), Ok(ns), "{text}");
        }
        Err(detail) => assert!(detail.len() < 600, "{detail}"),
    }
}

/// Against the rule in few words: RFC 9110, 14.1.2.
fn range(text: &str, len: u64) {
    let Ok(value) = HeaderValue::from_str(text) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::RANGE, value);
    let found = deliver::range(&headers, "\"t\"", len);
    let _ = deliver::matches(&headers, "\"t\"");
    if let Ranged::Part(from, to) = found {
        assert!(from < to && to <= len, "{text}: {from} to {to} of {len}");
    }
    let digits =
        |text: &str| (!text.is_empty()).then(|| text.parse::<u32>().ok().map(u64::from))?;
    if let Some(Some((first, last))) = text.strip_prefix("bytes=").map(|text| text.split_once('-'))
    {
        // Signs are no digits.
        let expected = match (digits(first), digits(last)) {
            _ if text.contains('+') => None,
            (Some(first), Some(last)) if last < first => Some(Ranged::Whole),
            (Some(first), Some(_)) if first >= len => Some(Ranged::None),
            (Some(first), Some(last)) => Some(Ranged::Part(first, (last + 1).min(len))),
            (Some(first), None) if last.is_empty() && first >= len => Some(Ranged::None),
            (Some(first), None) if last.is_empty() => Some(Ranged::Part(first, len)),
            (None, Some(0)) if first.is_empty() => Some(Ranged::None),
            (None, Some(_)) if first.is_empty() && len == 0 => Some(Ranged::None),
            (None, Some(last)) if first.is_empty() => {
                Some(Ranged::Part(len.saturating_sub(last), len))
            }
            _ => None,
        };
        if let Some(expected) = expected {
            assert_eq!(found, expected, "{text} of {len}");
        }
    } else {
        assert_eq!(found, Ranged::Whole, "{text}");
    }
}

fn playlist(text: &str) {
    let Ok(uri) = format!("/x?{text}").parse::<Uri>() else {
        return;
    };
    let Ok(Query(query)) = Query::<hls::Query>::try_from_uri(&uri) else {
        return;
    };
    match query.range() {
        Ok(Some((from, to))) => assert!(0 <= from && from < to),
        Ok(None) => {}
        Err(problem) => told(&problem),
    }
    if let Err(problem) = query.wanted() {
        told(&problem);
    }
    let _ = query.skips();
}

fn origin(text: &str) {
    let origins = ["https://wall.example".to_owned()];
    let (host, origin) = text.split_at(text.floor_char_boundary(text.len() / 2));
    if guard::is_ours(host, &origins) {
        let lower = host.to_ascii_lowercase();
        let name = lower.trim_end_matches(|end: char| end.is_ascii_digit() || end == ':');
        assert!(!name.ends_with("evil.example"), "{host} is ours");
    }
    let Ok(value) = HeaderValue::from_str(origin) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ORIGIN, value);
    if guard::check_origin(&headers, Some("127.0.0.1:8080"), &origins).is_ok() {
        let lower = origin.to_ascii_lowercase();
        assert!(
            lower.ends_with("://127.0.0.1:8080") || lower == origins[0],
            "{origin} may write"
        );
    }
}

/// JSON bodies of requests that change something.
pub fn http_body(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match markers::batch(&body) {
        Ok((list, many)) => {
            assert!(many || list.len() == 1);
            for marker in &list {
                acceptable(marker);
            }
        }
        Err(problem) => refused(&problem),
    }
    if let Ok(marker) = markers::one(&body) {
        acceptable(&marker);
    }
    if let Err(problem) = markers::patch(&body) {
        refused(&problem);
    }
    match recordings::title_of(&body) {
        Ok(title) => assert!(title.is_none_or(|title| !title.chars().any(char::is_control))),
        Err(problem) => refused(&problem),
    }
    match probe::arguments(&body) {
        Ok(arguments) => drop(arguments),
        Err(problem) => refused(&problem),
    }
    if let Ok(ns) = params::moment_of(&body) {
        assert!(ns >= 0);
    }
}

fn refused(problem: &Problem) {
    told(problem);
    assert!(
        !problem.errors.is_empty() && problem.errors.len() <= 64,
        "{problem:?}"
    );
}

fn acceptable(marker: &markers::NewMarker) {
    assert!(marker.start_ns >= 0 && marker.label.chars().count() <= 128);
    assert!(
        marker
            .end_ns
            .is_none_or(|end| (marker.start_ns..=i64::MAX).contains(&end))
    );
    let inside = |number: &f64| (0.0..=1.0).contains(number);
    assert!(marker.region.is_none_or(|region| region.iter().all(inside)));
    assert!(marker.score.is_none_or(f64::is_finite));
}

/// An init segment of ours, or what a disk made of it.
pub fn init_segment(data: &[u8]) {
    let tracks = tracks::parse(data);
    let codecs = tracks.codecs();
    assert!(codecs.len() < 200 && codecs.is_ascii());
    let mark = |byte: u8| byte.is_ascii_alphanumeric() || b"., ".contains(&byte);
    assert!(codecs.bytes().all(mark), "{codecs}");
}

struct Folder {
    rendition: Rendition,
    path: PathBuf,
    file: File,
    name: FileName,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

thread_local! {
    static FOLDER: Folder = Folder::new();
}

impl Folder {
    fn new() -> Self {
        // fuzz/run has it in memory: a disk would be written to some ten thousand times a second.
        let unique = format!(
            "camring-fuzz-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(unique.replace(['(', ')'], ""));
        let rendition = Tree::new(&path).rendition("yard/main", "source");
        let name = FileName {
            start_ms: 1_795_248_900_000,
            media_sequence: 7,
            discontinuity_sequence: 1,
            init: InitId(9),
        };
        let index = rendition.index(&name);
        fs::create_dir_all(index.parent().expect("an hour")).expect("a folder");
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&index);
        Self {
            rendition,
            path,
            file: file.expect("a file"),
            name,
        }
    }
}

/// A minute file's commit log, as a writer, a power cut or somebody else left it.
pub fn recording_index(data: &[u8]) {
    let _ = FOLDER.with(|folder| read(folder, &mut Unstructured::new(data)));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(name) = FileName::of_file(text)
    {
        assert_eq!(FileName::of_file(&name.index()), Some(name), "{text}");
        assert!(name.hour().len() == 11 && name.hour() == hour_name(name.start_ms));
    }
}

fn read(folder: &Folder, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let how = u.arbitrary::<u8>()?;
    let mut bytes = match how % 4 {
        0 => Vec::new(),
        _ => log(folder, u, how)?,
    };
    // Behind it, or instead of it.
    bytes.extend_from_slice(u.bytes(u.len().min(2048))?);
    folder.file.write_all_at(&bytes, 0).expect("a file of ours");
    let len = bytes.len() as u64;
    folder.file.set_len(len).expect("a file of ours");
    let path = folder.rendition.index(&folder.name);
    if let Ok(mut index) = IndexReader::open(&path) {
        let chunks = index.next_chunks().expect("it can be read");
        assert!(index.position() <= bytes.len() as u64);
        for chunk in &chunks {
            let again = chunk.encode(index.header());
            assert_eq!(again.len(), chunk.record_len());
            let _ = chunk.first_time();
        }
    }
    if let Some(minute) = Minute::read(&folder.rendition, &folder.name) {
        let (first, last) = minute.captured().expect("it has pictures");
        assert!(first <= last);
        let _ = (minute.end(), minute.keys().count());
        for chunk in 0..minute.chunks.len() {
            assert!(minute.key_before(chunk).is_none_or(|key| key <= chunk));
        }
    }
    let Ok(mut reader) = Reader::open(&folder.rendition, &folder.name) else {
        return Ok(());
    };
    reader.advance().expect("it can be read");
    let _ = reader.broken();
    let minute = reader.minute().clone();
    let mut end = 0;
    for segment in &minute.segments {
        assert_eq!(segment.offset, end, "segments lie next to each other");
        end = segment.offset + u64::from(segment.len);
        let _ = (
            minute.start_ns(segment),
            segment.shown(),
            segment.end(),
            minute.micros(segment.duration),
        );
    }
    assert_eq!(minute.bytes(), end);
    let _ = (
        minute.longest(),
        minute.peak(),
        minute.begin_ns(),
        minute.end_ns(),
        minute.whole().len(),
    );
    let _ = (minute.segment(u64::MAX), minute.first(), minute.end());
    let unpacked = super::index::Minute::unpack(&minute.pack());
    assert_eq!(
        unpacked, minute.segments,
        "what the database gets is what it gives"
    );
    Ok(())
}

/// A log with the right checksums; what it says may be right or not.
fn log(folder: &Folder, u: &mut Unstructured<'_>, how: u8) -> arbitrary::Result<Vec<u8>> {
    let sane = how & 4 == 0;
    let header = Header {
        timescale: if sane {
            90_000
        } else {
            u.arbitrary::<u32>()?.max(1)
        },
        sender_report: how & 8 != 0,
        media_sequence: folder.name.media_sequence,
        discontinuity_sequence: folder.name.discontinuity_sequence,
        init: folder.name.init,
        anchor_time: if sane { 0 } else { u.arbitrary()? },
        anchor_utc_ns: u.arbitrary()?,
        part_target_us: 500_000,
        segment_target_us: 2_000_000,
    };
    let mut bytes = header.encode().to_vec();
    let (mut sequence, mut part, mut offset, mut time) =
        (folder.name.media_sequence, 0, 0_u64, 0_i64);
    for _ in 0..u.arbitrary::<u8>()? % 12 {
        let kind = u.arbitrary::<u8>()?;
        let mut chunk = Chunk {
            media_sequence: sequence,
            part,
            flags: ChunkFlags(u16::from(u.arbitrary::<u8>()?) & 15),
            offset,
            len: if kind & 1 == 0 { 1000 } else { u.arbitrary()? },
            decode_time: time,
            duration: if kind & 2 == 0 {
                45_000
            } else {
                u.arbitrary()?
            },
            frames: Vec::new(),
        };
        match kind >> 2 & 15 {
            0 => chunk.media_sequence = u.arbitrary()?,
            1 => chunk.decode_time = u.arbitrary()?,
            2 => chunk.offset = u.arbitrary()?,
            3 => chunk.flags = ChunkFlags(u.arbitrary()?),
            4 => chunk.len = 0,
            _ => {}
        }
        for frame in 0..i64::from(u.arbitrary::<u8>()? % 4) {
            let time = match kind >> 6 {
                0 => u.arbitrary()?,
                _ => chunk.decode_time.saturating_add(frame * 3000),
            };
            chunk.frames.push(FrameTime {
                time,
                capture_ns: header.utc_ns(time),
                flags: FrameFlags(u.arbitrary::<u8>()?.into()),
            });
        }
        bytes.extend_from_slice(&chunk.encode(&header));
        offset = chunk.offset.saturating_add(chunk.len.into());
        time = chunk.decode_time.saturating_add(chunk.duration.into());
        part += 1;
        if chunk.flags.contains(ChunkFlags::SEGMENT_END) {
            (sequence, part) = (chunk.media_sequence.saturating_add(1), 0);
        }
    }
    Ok(bytes)
}
