//! The media of a rendition: init segments, segments, parts, as byte ranges of the recorder's files.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{place, wait};
use crate::recording::InitId;
use crate::serve::deliver::{self, Piece};
use crate::serve::index::Edge;
use crate::serve::{App, Problem};

/// Their routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(segment))
        .routes(routes!(part))
        .routes(routes!(init))
}

/// Codec parameters of a rendition
///
/// Named by its content; it never changes.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/{init}", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("init" = String, Path, description = "`init-….mp4`, as playlists name it"),
    ),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 206, content_type = "video/mp4", body = Vec<u8>, description = "What `Range` asks for"),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "Nothing of it is in the `Range`"),
    ),
)]
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

/// A segment
///
/// CMAF chunks, as they were recorded.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/s/{name}", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("name" = String, Path, description = "`{media sequence}.m4s`"),
    ),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 206, content_type = "video/mp4", body = Vec<u8>, description = "What `Range` asks for"),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "Nothing of it is in the `Range`"),
    ),
)]
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

/// A part of one of the newest segments
///
/// The next one that will come is waited for.
#[utoipa::path(
    get, path = "/hls/{camera}/{stream}/{rendition}/p/{name}", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("stream" = String, Path, description = "The stream's name; `main` where it has none"),
        ("rendition" = String, Path, description = "`source`: as the camera sends it; `720p` and the like: encoded"),
        ("name" = String, Path, description = "`{media sequence}.{part}.m4s`"),
    ),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 206, content_type = "video/mp4", body = Vec<u8>, description = "What `Range` asks for"),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "Nothing of it is in the `Range`"),
    ),
)]
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
