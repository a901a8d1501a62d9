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

mod files;
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
use utoipa_axum::routes;

pub use media::{nothing_then, target};
use multivariant::Variant;
pub use multivariant::folder;
use playlist::Report;

use super::api::params::{Moment, Params, moment};
use super::deliver;
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
    OpenApiRouter::new()
        .routes(routes!(index))
        .routes(routes!(live))
        .routes(routes!(dvr))
        .routes(routes!(range))
        .merge(files::routes())
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

/// A camera as HLS: the multivariant playlist
///
/// Each stream and rendition is a variant.
#[utoipa::path(
    get, path = "/hls/{camera}/index.m3u8", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("playlist" = Option<String>, Query, description = "`live` (without it) or `dvr`: what the variants are"),
        ("from" = Option<Moment>, Query, description = "The beginning; with it or `to`, the variants are playlists of this range"),
        ("to" = Option<Moment>, Query, description = "The end"),
    ),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A time that is none"),
    ),
)]
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

/// The newest segments of a rendition, with low latency
///
/// Parts, blocking reload and updates as in RFC 8216bis.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/live.m3u8", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("_HLS_msn" = Option<u64>, Query, description = "Answer when this segment has ended …"),
        ("_HLS_part" = Option<u64>, Query, description = "… or when this part of it is there"),
        ("_HLS_skip" = Option<String>, Query, description = "`YES`: leave out what the client has, with `EXT-X-SKIP`"),
    ),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 304, description = "It is what `If-None-Match` says"),
    ),
)]
async fn live(
    State(app): State<Arc<App>>,
    Path((camera, stream, rendition)): OfRendition,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = place(&app, &camera, &stream, &rendition).await?;
    media::growing(&app, &place, &query, &headers, media::Window::Newest).await
}

/// All segments of a rendition that are kept
///
/// As `live.m3u8`, from the oldest segment on.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/dvr.m3u8", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("_HLS_msn" = Option<u64>, Query, description = "Answer when this segment has ended …"),
        ("_HLS_part" = Option<u64>, Query, description = "… or when this part of it is there"),
        ("_HLS_skip" = Option<String>, Query, description = "`YES`: leave out what the client has, with `EXT-X-SKIP`"),
    ),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 304, description = "It is what `If-None-Match` says"),
    ),
)]
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

/// The segments of a range
///
/// Whole segments; `EXT-X-START` says where in the first one the range begins. It does not change.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/range.m3u8", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("from" = Option<Moment>, Query, description = "The beginning; with it or `to`, of what is recorded"),
        ("to" = Option<Moment>, Query, description = "The end"),
    ),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A time that is none"),
    ),
)]
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
