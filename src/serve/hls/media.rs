//! Media playlists: which files are in them, when they are answered, in what encoding.
#![deny(unsafe_code)]

use std::io::Write as _;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::playlist::{DateRange, Kind, Playlist, SKIP_UNTIL, first_in_reach};
use super::{MEDIA_TYPE, Query, reports, text, wait};
use crate::serve::index::{Edge, Minute, Place, Wanted};
use crate::serve::{App, Problem, markers};

/// Playlists that are longer are compressed here, off the thread that answers.
const LONG: usize = 64 << 10;
/// What a live playlist has, in target durations: more than the three that are the least (RFC 8216,
/// 6.2.2), so that a player that stumbles finds its place again.
const LIVE: u64 = 8;
/// The most markers of one playlist: 150 bytes each.
const MOST_MARKERS: usize = 5000;
/// How far ahead a client may ask (8216bis, 6.2.5.2).
const AHEAD: u64 = 2;

/// How far back a growing playlist goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// As far as a player needs.
    Newest,
    /// As far as there is something.
    All,
}

/// `EXT-X-TARGETDURATION` of all playlists of a camera, in s: its longest segment so far, and at least
/// twice what segments are meant to be, since copying cuts at the first key frame *after* that. It is the
/// same for all of them (RFC 8216, 6.2.4), and never shrinks.
pub fn target(places: &[Arc<Place>]) -> u64 {
    let of = |place: &Arc<Place>| {
        let edge = place.edge();
        let meant = edge
            .minutes
            .iter()
            .map(|minute| u64::from(minute.header.segment_target_us));
        place.longest().max(meant.max().unwrap_or(0) * 2)
    };
    let longest = places.iter().map(of).max().unwrap_or(0);
    longest.div_ceil(1_000_000).max(1)
}

/// Why a range has nothing to play.
pub fn nothing_then(camera: &str) -> Problem {
    Problem::not_found(
        "nothing-recorded-then",
        "Nothing recorded then",
        format!(
            "nothing of {camera:?} is recorded in this range; /api/v1/cameras/{camera}/timeline shows \
             what is"
        ),
    )
}

/// The markers of a camera between two moments, each on the picture that it was made from, by the
/// rendition's own map from media time to UTC. Of too many, the newest.
async fn marks(
    app: &App,
    place: &Place,
    from_ns: i64,
    to_ns: i64,
) -> Result<Vec<DateRange>, Problem> {
    let camera = place.camera().to_owned();
    let found = app.store.call(move |db| {
        let mut from_ns = from_ns.max(0);
        loop {
            let found = markers::between(db, &camera, from_ns, to_ns, MOST_MARKERS + 1)?;
            if found.len() <= MOST_MARKERS {
                return Ok(found);
            }
            let half = (to_ns.saturating_sub(from_ns)) / 2;
            if half < 1_000_000_000 {
                return Ok(found);
            }
            from_ns = to_ns.saturating_sub(half);
        }
    });
    let found = found.await?;
    let moments: Vec<i64> = found.iter().map(|marker| marker.start_ns).collect();
    let frames = app.index.frames_at(place, &moments).await?;
    let mut ranges: Vec<DateRange> = (found.into_iter().zip(frames))
        .map(|(marker, frame)| {
            // Of a time without pictures the map says nothing better.
            let start_ns = frame.map_or(marker.start_ns, |frame| frame.program_ns);
            let moved = start_ns.saturating_sub(marker.start_ns);
            DateRange {
                id: marker.id,
                start_ns,
                end_ns: marker.end_ns.map(|end| end.saturating_add(moved)),
                label: marker.label,
                score: marker.score,
                area: marker.region,
            }
        })
        .collect();
    ranges.truncate(MOST_MARKERS);
    Ok(ranges)
}

/// `live.m3u8` and `dvr.m3u8`.
pub(super) async fn growing(
    app: &App,
    place: &Arc<Place>,
    query: &Query,
    headers: &HeaderMap,
    window: Window,
) -> Result<Response, Problem> {
    let edge = match query.wanted()? {
        None => place.edge(),
        Some((sequence, part)) => reach(app, place, sequence, part).await?,
    };
    if edge.minutes.is_empty() && window == Window::Newest {
        return Err(nothing_then(place.camera()));
    }
    // Held until the text is made.
    let _room = match window {
        Window::Newest => None,
        Window::All => Some(app.long.enter().await?),
    };
    let target = target(&app.index.of_camera(place.camera()));
    // What a client has and need not be told again ends so far before the end.
    let recent = back(&edge, target * SKIP_UNTIL);
    let (first, minutes, skipped, discontinuities) = match window {
        Window::Newest => {
            let first = first_in_reach(&edge.minutes, back(&edge, target * LIVE));
            let skipped = if query.skips() {
                recent.saturating_sub(first)
            } else {
                0
            };
            (first, edge.minutes.clone(), skipped, None)
        }
        Window::All => all(app, place, &edge, query.skips().then_some(recent)).await?,
    };
    let (Some(oldest), Some(newest)) = (minutes.first(), minutes.last()) else {
        return Err(nothing_then(place.camera()));
    };
    let (from_ns, to_ns) = match skipped {
        0 => (begin_of(&minutes, first), newest.end_ns()),
        _ => (oldest.begin_ns(), newest.end_ns()),
    };
    let from_ns = if window == Window::All {
        i64::MIN
    } else {
        from_ns
    };
    let ranges = marks(app, place, from_ns, to_ns).await?;
    let name = if window == Window::All {
        "dvr.m3u8"
    } else {
        "live.m3u8"
    };
    let reports = reports(app, place, name);
    let many = minutes.len() > 16;
    let render = move || {
        Playlist {
            kind: Kind::Live,
            target,
            minutes: &minutes,
            edge: Some(&edge),
            first,
            skipped,
            discontinuities,
            start_ns: None,
            until_ns: None,
            ranges: &ranges,
            reports: &reports,
        }
        .render()
    };
    let body = match many {
        false => render(),
        true => tokio::task::spawn_blocking(render)
            .await
            .unwrap_or_default(),
    };
    answer(body.ok_or_else(|| nothing_then(place.camera()))?, headers).await
}

/// `range.m3u8`.
pub(super) async fn fixed(
    app: &App,
    place: &Arc<Place>,
    (from_ns, to_ns): (i64, i64),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let _room = app.long.enter().await?;
    let minutes = app
        .index
        .minutes(place, Wanted::Between(from_ns, to_ns))
        .await?;
    let target = target(&app.index.of_camera(place.camera()));
    let ranges = marks(app, place, from_ns, to_ns).await?;
    let render = move || {
        Playlist {
            kind: Kind::Vod,
            target,
            minutes: &minutes,
            edge: None,
            first: 0,
            skipped: 0,
            discontinuities: None,
            start_ns: Some(from_ns),
            until_ns: Some(to_ns),
            ranges: &ranges,
            reports: &[],
        }
        .render()
    };
    let body = tokio::task::spawn_blocking(render)
        .await
        .unwrap_or_default();
    answer(body.ok_or_else(|| nothing_then(place.camera()))?, headers).await
}

fn begin_of(minutes: &[Arc<Minute>], first: u64) -> i64 {
    let found = minutes.iter().find(|minute| minute.end() > first);
    found.map_or(i64::MIN, |minute| {
        let at = usize::try_from(first.saturating_sub(minute.first())).unwrap_or(usize::MAX);
        let segment = minute.segments.get(at).or(minute.segments.first());
        segment.map_or(i64::MIN, |segment| minute.start_ns(segment))
    })
}

/// Waits until the list has this part, or the whole segment.
async fn reach(
    app: &App,
    place: &Place,
    sequence: u64,
    part: Option<usize>,
) -> Result<Arc<Edge>, Problem> {
    let edge = place.edge();
    let (next, parts) = edge.next();
    let last = if parts > 0 {
        next
    } else {
        next.saturating_sub(1)
    };
    let ahead = |detail: String| Problem::bad_request("too-far-ahead", "Too far ahead", detail);
    if sequence > last.saturating_add(AHEAD) {
        return Err(ahead(format!(
            "_HLS_msn is {sequence}, and the newest segment is {last}"
        )));
    }
    let part_target = edge
        .minutes
        .last()
        .map_or(0, |minute| minute.header.part_target_us);
    // Three seconds' worth.
    let limit = match u64::from(part_target) {
        short @ 1..1_000_000 => 3_000_000_u64.div_ceil(short),
        _ => 3,
    };
    if let Some(part) = part
        && sequence >= next
        && part as u64 > parts as u64 + limit
    {
        return Err(ahead(format!(
            "_HLS_part is {part}, and the newest has {parts}"
        )));
    }
    let reached = |edge: &Arc<Edge>| {
        let (next, parts) = edge.next();
        match part {
            None => next > sequence,
            Some(part) if next == sequence => parts > part,
            // A part behind the last of its segment is the first of the next (8216bis, 6.2.5.2).
            Some(part) if next == sequence + 1 && parts == 0 => {
                let of_it = edge
                    .segment(sequence)
                    .map(|(_, segment)| usize::from(segment.parts));
                of_it.is_none_or(|parts| part < parts)
            }
            Some(_) => next > sequence,
        }
    };
    match reached(&edge) {
        true => Ok(edge),
        false => wait(app, place, reached).await,
    }
}

/// The first segment of those that begin at most so long before the end, in s.
fn back(edge: &Edge, seconds: u64) -> u64 {
    let mut left = seconds.saturating_mul(1_000_000);
    let mut first = edge.next().0;
    for minute in edge.minutes.iter().rev() {
        for (n, segment) in minute.whole().iter().enumerate().rev() {
            let long = minute.micros(segment.duration);
            if long > left {
                return first;
            }
            left -= long;
            first = minute.first() + n as u64;
        }
    }
    first
}

/// What the longest list has: its first segment, the files, what is skipped, and the discontinuity
/// sequence of the first segment.
type Whole = (u64, Vec<Arc<Minute>>, u64, Option<u64>);

async fn all(
    app: &App,
    place: &Place,
    edge: &Edge,
    skip_until: Option<u64>,
) -> Result<Whole, Problem> {
    let oldest = app.index.oldest(place).await?.unwrap_or(0);
    let skip_until = skip_until.filter(|until| *until > oldest);
    let from = skip_until.map_or(oldest, |until| until - 1);
    let mut minutes = app.index.minutes(place, Wanted::From(from)).await?;
    // The edge may have grown since it was looked at: a list is of one moment.
    minutes.retain(|minute| edge.first().is_none_or(|first| minute.first() < first));
    minutes.extend(
        edge.minutes
            .iter()
            .filter(|minute| minute.end() > from)
            .cloned(),
    );
    let reachable = first_in_reach(&minutes, oldest);
    match skip_until {
        Some(until) if reachable == oldest => {
            let first = app.index.minutes(place, Wanted::With(oldest)).await?;
            let breaks = first
                .first()
                .map(|minute| minute.header.discontinuity_sequence);
            Ok((oldest, minutes, until - oldest, breaks))
        }
        _ => Ok((reachable, minutes, 0, None)),
    }
}

async fn answer(body: String, headers: &HeaderMap) -> Result<Response, Problem> {
    let takes_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|accepted| accepted.to_str().ok())
        .is_some_and(|accepted| {
            let mut all = accepted.split(',').map(str::trim);
            all.any(|one| one == "gzip" || (one.starts_with("gzip;") && !one.ends_with("q=0")))
        });
    if body.len() < LONG || !takes_gzip {
        return Ok(text(body, headers, MEDIA_TYPE));
    }
    let packed = tokio::task::spawn_blocking(move || {
        let tag = format!(
            "W/\"{:08x}-{:x}\"",
            crc32fast::hash(body.as_bytes()),
            body.len()
        );
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
        encoder.write_all(body.as_bytes())?;
        std::io::Result::Ok((encoder.finish()?, tag))
    });
    let packed = packed.await.map_err(std::io::Error::other).flatten();
    let (packed, tag) = packed.map_err(|_| Problem::internal("the server is ending"))?;
    let mut answer = HeaderMap::new();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    if crate::serve::deliver::matches(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, answer).into_response());
    }
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok((StatusCode::OK, answer, packed).into_response())
}
