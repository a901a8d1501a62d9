//! Which pieces of which files make up what was asked for. Reads index files: not for the server's own
//! thread.
#![deny(unsafe_code)]

use std::io;
use std::path::Path;

use crate::recording::{FileName, Minute, Rendition, Tree};
use crate::serve::retention::camera_of;
use crate::serve::workers::Piece;
use crate::serve::{Problem, SiteView, time};
use crate::worker::protocol::Span;

/// How long before a moment its picture may have been taken: cameras that send one in five seconds.
const REACH_NS: i64 = 10_000_000_000;

/// A stream is called this in queries where it has no name.
const UNNAMED: &str = "main";

/// The stream of a camera that is meant, as its id.
pub fn stream_id(
    site: &SiteView,
    recorded: &[Rendition],
    camera: &str,
    stream: Option<&str>,
) -> Result<String, Problem> {
    let configured = site.camera(camera).map(|camera| camera.streams.as_slice());
    let ids = || {
        let configured = configured.into_iter().flatten().map(|stream| &stream.id);
        let recorded = recorded.iter().map(|rendition| &rendition.stream);
        configured
            .chain(recorded)
            .filter(|id| camera_of(id) == camera)
    };
    let found = match stream {
        None => ids().next(),
        Some(name) => ids().find(|id| match id.split_once('/') {
            Some((_, stream)) => stream == name,
            None => name == UNNAMED,
        }),
    };
    match (found, stream) {
        (Some(id), _) => Ok(id.clone()),
        (None, None) => Err(Problem::unknown_camera(camera)),
        (None, Some(_)) if ids().next().is_none() => Err(Problem::unknown_camera(camera)),
        (None, Some(stream)) => {
            let mut names: Vec<&str> = ids()
                .map(|id| id.split_once('/').map_or(UNNAMED, |(_, name)| name))
                .collect();
            names.dedup();
            let shown: String = stream.chars().take(64).collect();
            let detail = format!(
                "camera {camera} has no stream {shown:?}, but {}",
                names.join(", ")
            );
            Err(Problem::not_found(
                "unknown-stream",
                "Unknown stream",
                detail,
            ))
        }
    }
}

/// What is recorded of a camera's stream: as the camera sends it, or the largest.
pub fn rendition(
    data_dir: &Path,
    site: &SiteView,
    camera: &str,
    stream: Option<&str>,
    name: Option<&str>,
) -> Result<Rendition, Problem> {
    let mut recorded = Tree::new(data_dir).renditions().map_err(disk)?;
    recorded.retain(|rendition| camera_of(&rendition.stream) == camera);
    let id = match stream {
        // Of several streams, one that is recorded.
        None if !recorded.is_empty() => {
            let first = stream_id(site, &recorded, camera, None)?;
            match recorded.iter().any(|rendition| rendition.stream == first) {
                true => first,
                false => recorded[0].stream.clone(),
            }
        }
        stream => stream_id(site, &recorded, camera, stream)?,
    };
    recorded.retain(|rendition| rendition.stream == id);
    let height = |rendition: &Rendition| match rendition.name.as_str() {
        Rendition::SOURCE => u32::MAX,
        name => name.trim_end_matches('p').parse().unwrap_or(0),
    };
    let found = match name {
        None => recorded.iter().max_by_key(|rendition| height(rendition)),
        Some(name) => recorded.iter().find(|rendition| rendition.name == name),
    };
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = recorded.iter().map(|found| found.name.as_str()).collect();
        let detail = match names.is_empty() {
            true => format!(
                "nothing of {id} is recorded; [record] mode in the configuration says what is"
            ),
            false => format!("{id} is recorded as {}, not as asked for", names.join(", ")),
        };
        Problem::not_found("not-recorded", "Not recorded", detail)
    })
}

/// The picture that was seen at a moment: the last one taken at or before it.
pub fn picture(rendition: &Rendition, at_ns: i64) -> Result<(Piece, i64), Problem> {
    let found = rendition.picture_at(at_ns, REACH_NS).map_err(disk)?;
    let (minute, chunk, frame) = found.ok_or_else(|| {
        let detail = format!(
            "no picture was recorded in the {} s up to {}; GET timeline says where there are some",
            REACH_NS / 1_000_000_000,
            time::rfc3339(at_ns)
        );
        Problem::not_found("not-recorded", "Not recorded", detail)
    })?;
    let piece = piece(rendition, &minute, chunk, chunk, frame.time, i64::MAX);
    let piece = piece.ok_or_else(|| Problem::internal("a minute file without a key frame"))?;
    Ok((piece, frame.capture_ns))
}

/// What is recorded of a range.
#[derive(Debug, Default)]
pub struct Stretch {
    /// In order.
    pub pieces: Vec<Piece>,
    /// When the pictures in it were taken: the first and the last, in ns.
    pub taken: Option<(i64, i64)>,
    /// Where the codec's parameters change, in ns.
    pub changes: Vec<i64>,
}

/// Everything from the key frame before the first picture taken in `[from, to)` to the last.
pub fn stretch(rendition: &Rendition, from_ns: i64, to_ns: i64) -> Result<Stretch, Problem> {
    let mut stretch = Stretch::default();
    for name in rendition.files_between(from_ns, to_ns).map_err(disk)? {
        let Some(minute) = Minute::read(rendition, &name) else {
            continue;
        };
        let wanted = |taken: i64| (from_ns..to_ns).contains(&taken);
        let frames = || {
            minute
                .frames()
                .filter(|(_, frame)| wanted(frame.capture_ns))
        };
        let Some(first) = frames().min_by_key(|(_, frame)| frame.time) else {
            continue;
        };
        let last_chunk = frames().map(|(chunk, _)| chunk).max().unwrap_or(first.0);
        let to = minute
            .frames()
            .filter(|(_, frame)| frame.time > first.1.time && frame.capture_ns >= to_ns)
            .map(|(_, frame)| frame.time)
            .min();
        let to = to.unwrap_or(i64::MAX);
        let Some(piece) = piece(rendition, &minute, first.0, last_chunk, first.1.time, to) else {
            continue;
        };
        let last_ns = frames().map(|(_, frame)| frame.capture_ns).max();
        if let Some(before) = stretch.pieces.last()
            && before.span.init != piece.span.init
        {
            stretch.changes.push(first.1.capture_ns);
        }
        let begun = stretch.taken.map_or(first.1.capture_ns, |(begun, _)| begun);
        stretch.taken = Some((begun, last_ns.unwrap_or(begun)));
        stretch.pieces.push(piece);
    }
    Ok(stretch)
}

/// For each of `count` equal parts of a range, a key frame that was on the screen in it.
pub fn keys(
    rendition: &Rendition,
    from_ns: i64,
    to_ns: i64,
    count: usize,
) -> Result<Vec<Option<(Piece, i64)>>, Problem> {
    let files = rendition.files_between(from_ns, to_ns).map_err(disk)?;
    let mut open: Option<Minute> = None;
    let step = (to_ns - from_ns) / i64::try_from(count.max(1)).unwrap_or(1);
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        let begin = from_ns + step * i64::try_from(index).unwrap_or(0);
        found.push(key(rendition, &files, &mut open, begin, step));
    }
    Ok(found)
}

fn key(
    rendition: &Rendition,
    files: &[FileName],
    open: &mut Option<Minute>,
    begin: i64,
    step: i64,
) -> Option<(Piece, i64)> {
    let middle = begin + step / 2;
    // Its middle first; then what else there is in it.
    for at in [middle, begin + step - 1] {
        let name = files
            .iter()
            .filter(|file| file.start_ms <= at.div_euclid(1_000_000))
            .max_by_key(|file| file.start_ms)?;
        if open.as_ref().is_none_or(|open| open.name != *name) {
            *open = Minute::read(rendition, name);
        }
        let Some(minute) = open.as_ref() else {
            continue;
        };
        let (_, last) = minute.captured()?;
        let key = minute
            .keys()
            .filter(|(_, frame)| frame.capture_ns <= at)
            .max_by_key(|(_, frame)| frame.capture_ns);
        // Still on the screen, or taken in this part.
        if let Some((chunk, frame)) = key
            && (last >= begin || frame.capture_ns >= begin)
        {
            let taken = frame.capture_ns;
            let piece = piece(rendition, minute, chunk, chunk, frame.time, i64::MAX)?;
            return Some((piece, taken));
        }
    }
    None
}

/// From the key frame of chunk `first` or before to the end of chunk `last`.
fn piece(
    rendition: &Rendition,
    minute: &Minute,
    first: usize,
    last: usize,
    from: i64,
    to: i64,
) -> Option<Piece> {
    let begin = minute.chunks.get(minute.key_before(first)?)?;
    let end = minute.chunks.get(last)?;
    let header = &minute.header;
    Some(Piece {
        span: Span {
            bytes: (begin.offset, end.offset.checked_add(end.len.into())?),
            timescale: header.timescale,
            anchor: (header.anchor_time, header.anchor_utc_ns),
            init: header.init.0,
            discontinuity: header.discontinuity_sequence,
            from,
            to,
            start: begin.decode_time,
            end: end.decode_time.saturating_add(end.duration.into()),
        },
        init: rendition.init(header.init),
        media: rendition.data(&minute.name),
    })
}

/// The disk does not answer as it should.
pub fn disk(error: io::Error) -> Problem {
    tracing::error!("recordings: {error}");
    Problem::unavailable(
        "disk",
        "The disk cannot be read",
        format!("the recordings cannot be read: {error}"),
    )
}
