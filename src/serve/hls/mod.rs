//! HLS: `/hls/{camera}/index.m3u8`, and below it the playlists and the media of each rendition.
//!
//! ```text
//! /hls/{camera}/index.m3u8                        multivariant; ?playlist=dvr, or ?from=&to=
//! /hls/{camera}/{stream}/{rendition}/live.m3u8    the newest; low latency: parts, blocking reload, updates
//!                                   /dvr.m3u8     the same, back to the oldest
//!                                   /range.m3u8   ?from=&to=: does not change
//!                                   /init-….mp4, /s/{msn}.m4s, /p/{msn}.{part}.m4s
//! ```
#![deny(unsafe_code)]

mod media;
mod multivariant;
mod playlist;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;

pub use media::{nothing_then, target};
use multivariant::Variant;
pub use multivariant::folder;
use playlist::Report;

use super::api::params::{Params, moment};
use super::deliver::{self, Piece};
use super::index::{Edge, Place, Wanted};
use super::{App, Problem};
use crate::recording::InitId;

/// Of playlists.
const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";
/// A rendition that is so much older than the newest of its camera is not recorded any more.
const LEFT_BEHIND_NS: i64 = 60_000_000_000;

/// The longest that a request waits for what is not recorded yet, however long segments are.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    use axum::routing::get;
    OpenApiRouter::new()
        .route("/hls/{camera}/index.m3u8", get(index))
        .route("/hls/{camera}/{stream}/{rendition}/live.m3u8", get(live))
        .route("/hls/{camera}/{stream}/{rendition}/dvr.m3u8", get(dvr))
        .route("/hls/{camera}/{stream}/{rendition}/range.m3u8", get(range))
        .route("/hls/{camera}/{stream}/{rendition}/s/{name}", get(segment))
        .route("/hls/{camera}/{stream}/{rendition}/p/{name}", get(part))
        .route("/hls/{camera}/{stream}/{rendition}/{init}", get(init))
}

/// Which rendition.
type OfRendition = Path<(String, String, String)>;

async fn place(
    app: &App,
    camera: &str,
    stream: &str,
    rendition: &str,
) -> Result<Arc<Place>, Problem> {
    app.index.listed().await?;
    let named = format!("{camera}/{stream}");
    let found = app.index.place(&named, rendition).or_else(|| {
        let unnamed = stream == super::index::UNNAMED;
        unnamed
            .then(|| app.index.place(camera, rendition))
            .flatten()
    });
    if let Some(place) = found {
        return Ok(place);
    }
    let known = app.index.of_camera(camera);
    if known.is_empty() {
        return Err(nothing(app, camera));
    }
    let names: Vec<String> = known
        .iter()
        .map(|place| multivariant::folder(place))
        .collect();
    Err(Problem::not_found(
        "unknown-rendition",
        "Unknown rendition",
        format!("{camera:?} has recordings of: {}", names.join(", ")),
    ))
}

/// Why a camera has nothing to play.
pub fn nothing(app: &App, camera: &str) -> Problem {
    match app.site().camera(camera) {
        None => Problem::unknown_camera(camera),
        Some(_) => Problem::not_found(
            "nothing-recorded",
            "Nothing recorded",
            format!(
                "nothing of {camera:?} is recorded yet: is its [record] mode set, and is it streaming? \
                 camring status says"
            ),
        ),
    }
}

/// What playlists are asked for by.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    from: Option<String>,
    to: Option<String>,
    playlist: Option<String>,
    #[serde(rename = "_HLS_msn")]
    sequence: Option<String>,
    #[serde(rename = "_HLS_part")]
    part: Option<String>,
    #[serde(rename = "_HLS_skip")]
    skip: Option<String>,
}

impl Query {
    /// From here to there, the end open.
    pub(super) fn range(&self) -> Result<Option<(i64, i64)>, Problem> {
        let from = moment("from", self.from.as_deref())?;
        let to = moment("to", self.to.as_deref())?;
        match (from, to) {
            (None, None) => Ok(None),
            (from, to) => {
                let (from, to) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
                if from >= to {
                    let detail = "`to` is not after `from`: nothing is between them";
                    return Err(Problem::bad_request("not-a-range", "Not a range", detail));
                }
                Ok(Some((from, to)))
            }
        }
    }

    /// What the list must have before it is answered.
    pub(super) fn wanted(&self) -> Result<Option<(u64, Option<usize>)>, Problem> {
        let number = |name: &str, text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse::<u64>().ok().filter(|_| digits);
            value.ok_or_else(|| {
                let shown: String = text.chars().take(32).collect();
                let detail = format!("{name} is {shown:?}: it must be a whole number");
                Problem::bad_request("bad-directive", "Bad delivery directive", detail)
            })
        };
        let part = self
            .part
            .as_deref()
            .map(|text| number("_HLS_part", text))
            .transpose()?;
        let part = part.map(|part| usize::try_from(part).unwrap_or(usize::MAX));
        match &self.sequence {
            Some(text) => Ok(Some((number("_HLS_msn", text)?, part))),
            None if part.is_some() => Err(Problem::bad_request(
                "bad-directive",
                "Bad delivery directive",
                "_HLS_part says which part of _HLS_msn, which is missing",
            )),
            None => Ok(None),
        }
    }

    pub(super) fn skips(&self) -> bool {
        matches!(self.skip.as_deref(), Some("YES" | "v2"))
    }
}

async fn index(
    State(app): State<Arc<App>>,
    Path(camera): Path<String>,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.index.listed().await?;
    if app.index.of_camera(&camera).is_empty() {
        return Err(nothing(&app, &camera));
    }
    let range = query.range()?;
    let end = match (range, query.playlist.as_deref()) {
        (Some(_), _) => {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in [("from", &query.from), ("to", &query.to)] {
                if let Some(value) = value {
                    pairs.append_pair(name, value);
                }
            }
            format!("range.m3u8?{}", pairs.finish())
        }
        (None, None | Some("live")) => "live.m3u8".to_owned(),
        (None, Some("dvr")) => "dvr.m3u8".to_owned(),
        (None, Some(other)) => {
            let shown: String = other.chars().take(32).collect();
            let detail = format!("playlist is {shown:?}: it must be live or dvr");
            return Err(Problem::bad_request("bad-query", "Bad query", detail));
        }
    };
    let mut variants = Vec::new();
    for place in current(&app, &camera, range).await? {
        variants.push(variant(&app, &place, range, &end).await?);
    }
    match variants.is_empty() {
        true => Err(media::nothing_then(&camera)),
        false => Ok(text(multivariant::render(variants), &headers, MEDIA_TYPE)),
    }
}

/// The renditions of a camera that have something: in the range, or now.
pub async fn current(
    app: &App,
    camera: &str,
    range: Option<(i64, i64)>,
) -> Result<Vec<Arc<Place>>, Problem> {
    let places = app.index.of_camera(camera);
    if let Some((from, to)) = range {
        app.index.settled().await?;
        let mut found = Vec::new();
        for place in places {
            let there = app.index.summaries(&place, from, to).await?;
            if there.iter().any(|minute| !minute.gone) {
                found.push(place);
            }
        }
        return Ok(found);
    }
    let end = |place: &Place| {
        let edge = place.edge();
        let there = edge.minutes.iter().filter(|minute| !minute.gone);
        there.map(|minute| minute.end_ns()).max()
    };
    let newest = places.iter().filter_map(|place| end(place)).max();
    let patience = LEFT_BEHIND_NS.max(3_000_000_000 * i64::try_from(target(&places)).unwrap_or(20));
    let with_it = |place: &Arc<Place>| match (end(place), newest) {
        (Some(end), Some(newest)) => newest.saturating_sub(end) <= patience,
        _ => false,
    };
    Ok(places.into_iter().filter(with_it).collect())
}

async fn variant(
    app: &App,
    place: &Place,
    range: Option<(i64, i64)>,
    end: &str,
) -> Result<Variant, Problem> {
    let sums = app.index.sums(place).await?;
    let edge = place.edge();
    let minutes = match range {
        None => edge.minutes.clone(),
        // The first hour of it says enough.
        Some((from, to)) => {
            let to = to.min(from.saturating_add(3_600_000_000_000));
            app.index.minutes(place, Wanted::Between(from, to)).await?
        }
    };
    let newest = minutes.iter().rev().find(|minute| !minute.gone);
    let newest = newest
        .or(edge.minutes.last())
        .map(|minute| minute.name.init);
    let tracks = match newest {
        Some(init) => tracks(app, place, init).await,
        None => Arc::default(),
    };
    let rate = multivariant::picture_rate(minutes.iter());
    let average = match sums.duration_ns / 1000 {
        0 => sums.peak,
        micros => sums.bytes.saturating_mul(8_000_000) / micros,
    };
    Ok(Variant {
        uri: format!("{}/{end}", multivariant::folder(place)),
        peak: sums.peak,
        average,
        rate,
        tracks,
    })
}

/// What an init segment says; nothing where it cannot be read.
pub async fn tracks(app: &App, place: &Place, init: InitId) -> Arc<super::tracks::Tracks> {
    let (known, rendition) = (Arc::clone(&app.tracks), place.rendition.clone());
    let read = tokio::task::spawn_blocking(move || {
        known.tracks(&rendition, init).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}", rendition.init(init).display());
            Arc::default()
        })
    });
    read.await.unwrap_or_default()
}

async fn live(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition)): OfRendition,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    media::growing(&app, &place, &query, &headers, media::Window::Newest).await
}

async fn dvr(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition)): OfRendition,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    app.index.settled().await?;
    media::growing(&app, &place, &query, &headers, media::Window::All).await
}

async fn range(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition)): OfRendition,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(range) = query.range()? else {
        let detail =
            "say from when, and until when: ?from=2026-11-21T08:00:00Z&to=2026-11-21T08:10:00Z";
        return Err(Problem::bad_request("no-range", "No range", detail));
    };
    let place = place(&app, &camera, &stream, &rendition).await?;
    app.index.settled().await?;
    media::fixed(&app, &place, range, &headers).await
}

async fn init(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    let id = name
        .strip_prefix("init-")
        .and_then(|name| name.strip_suffix(".mp4")?.parse::<InitId>().ok());
    let Some(id) = id else {
        return Err(unknown_file(&name));
    };
    let piece = Piece {
        path: place.rendition.init(id),
        offset: 0,
        len: None,
        tag: id.to_string(),
        cache: deliver::FOR_EVER,
        media_type: "video/mp4",
    };
    deliver::piece(piece, &headers)
        .await?
        .ok_or_else(|| unknown_file(&name))
}

fn unknown_file(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::not_found(
        "unknown-file",
        "Unknown file",
        format!("{shown:?} is no playlist, init segment, segment or part of this rendition"),
    )
}

/// Media that was there once, or never.
fn gone(app: &App, what: String) -> Problem {
    // Somebody deletes files, and the kernel has not told of it.
    app.index.look();
    Problem::not_found(
        "not-recorded",
        "Not recorded",
        format!(
            "{what} is not there: it was deleted, or has not been recorded yet; reload the playlist"
        ),
    )
}

async fn segment(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    let sequence = name.strip_suffix(".m4s").and_then(number);
    let sequence = sequence.ok_or_else(|| unknown_file(&name))?;
    let found = app.index.segment(&place, sequence).await?;
    let Some((minute, segment)) = found.filter(|(minute, _)| !minute.gone) else {
        return Err(gone(&app, format!("segment {sequence}")));
    };
    let piece = Piece {
        path: place.rendition.data(&minute.name),
        offset: segment.offset,
        len: Some(segment.len.into()),
        tag: format!("{:x}-{sequence}", minute.name.start_ms),
        cache: deliver::FOR_AN_HOUR,
        media_type: "video/mp4",
    };
    let answer = deliver::piece(piece, &headers).await?;
    answer.ok_or_else(|| gone(&app, format!("segment {sequence}")))
}

async fn part(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    let numbers = name
        .strip_suffix(".m4s")
        .and_then(|name| name.split_once('.'));
    let numbers = numbers.and_then(|(of, part)| Some((number(of)?, number(part)?)));
    let Some((sequence, wanted)) = numbers else {
        return Err(unknown_file(&name));
    };
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let missing = || gone(&app, format!("part {wanted} of segment {sequence}"));
    let mut edge = place.edge();
    if edge.next() == (sequence, wanted) {
        // The preload hint. If the segment ends with the part before, this part will never be.
        let passed = |edge: &Arc<Edge>| edge.next() != (sequence, wanted);
        edge = wait(&app, &place, passed).await?;
    }
    let found = edge.parts_of(sequence).get(wanted).copied();
    let (Some(part), Some(minute)) = (found, edge.minute_with(sequence)) else {
        return Err(missing());
    };
    let piece = Piece {
        path: place.rendition.data(&minute.name),
        offset: part.offset,
        len: Some(part.len.into()),
        tag: format!("{:x}-{sequence}.{wanted}", minute.name.start_ms),
        cache: deliver::FOR_AN_HOUR,
        media_type: "video/mp4",
    };
    deliver::piece(piece, &headers).await?.ok_or_else(missing)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Waits for the newest to be as wanted, three target durations at most (8216bis, 6.2.5.2), and never
/// longer than [`LONGEST_WAIT`]: one gap in a file can make a segment of an hour.
async fn wait(
    app: &App,
    place: &Place,
    wanted: impl FnMut(&Arc<Edge>) -> bool,
) -> Result<Arc<Edge>, Problem> {
    let mut watch = place.watch();
    let target = target(&app.index.of_camera(place.camera()));
    let patience = Duration::from_secs(target.saturating_mul(3)).min(LONGEST_WAIT);
    let waited = tokio::time::timeout(patience, watch.wait_for(wanted)).await;
    match waited {
        Ok(Ok(edge)) => Ok(Arc::clone(&edge)),
        _ => Err(Problem::unavailable(
            "nothing-new",
            "Nothing new",
            format!(
                "nothing was recorded for {} s: is the camera streaming? camring status says",
                patience.as_secs()
            ),
        )),
    }
}

/// A playlist that is asked for again and again.
pub fn text(body: String, headers: &HeaderMap, media_type: &'static str) -> Response {
    let tag = format!(
        "W/\"{:08x}-{:x}\"",
        crc32fast::hash(body.as_bytes()),
        body.len()
    );
    let mut answer = HeaderMap::new();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if deliver::matches(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    (StatusCode::OK, answer, body).into_response()
}

/// Where the other renditions of a camera stand.
fn reports(app: &App, place: &Place, name: &str) -> Vec<Report> {
    let others = app.index.of_camera(place.camera()).into_iter();
    let others = others.filter(|other| other.rendition != place.rendition);
    let report = |other: Arc<Place>| {
        let edge = other.edge();
        let newest = match edge.next() {
            (0, 0) => return None,
            (sequence, 0) => {
                let before = edge.segment(sequence - 1).map(|(_, segment)| segment.parts);
                (sequence - 1, usize::from(before?).checked_sub(1)?)
            }
            (sequence, part) => (sequence, part - 1),
        };
        Some(Report {
            uri: format!("../../{}/{name}", multivariant::folder(&other)),
            newest,
        })
    };
    others.filter_map(report).collect()
}
