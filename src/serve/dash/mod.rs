//! DASH: `/dash/{camera}/manifest.mpd`, live or `?from=&to=`, over the segments that HLS has.
#![deny(unsafe_code)]

mod manifest;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use manifest::{Manifest, Track};

use super::api::params::{Moment, Params, moment};
use super::index::{Minute, Wanted};
use super::{App, Problem, hls};
use crate::sys::clock;

/// How far back a live manifest goes.
const LIVE_NS: i64 = 60_000_000_000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(manifest))
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
}

/// A camera as DASH
///
/// Over the segments that HLS has, live or of a range.
#[utoipa::path(
    get, path = "/dash/{camera}/manifest.mpd", tag = "playback",
    params(
        ("camera" = String, Path, description = "A camera's name"),
        ("from" = Option<Moment>, Query, description = "The beginning; with it or `to`, a manifest of this range, which does not change"),
        ("to" = Option<Moment>, Query, description = "The end"),
    ),
    responses(
        (status = 200, content_type = "application/dash+xml", body = String),
        (status = 304, description = "It is what `If-None-Match` says"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A time that is none"),
    ),
)]
async fn manifest(
    State(app): State<Arc<App>>,
    Path(camera): Path<String>,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from = moment("from", query.from.as_deref())?;
    let to = moment("to", query.to.as_deref())?;
    let range = match (from, to) {
        (None, None) => None,
        (from, to) => {
            let (from, to) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
            if from >= to {
                let detail = "`to` is not after `from`: nothing is between them";
                return Err(Problem::bad_request("not-a-range", "Not a range", detail));
            }
            Some((from, to))
        }
    };
    app.index.listed().await?;
    if app.index.of_camera(&camera).is_empty() {
        return Err(hls::nothing(&app, &camera));
    }
    // Held until the text is made.
    let _room = match range {
        None => None,
        Some(_) => Some(app.long.enter().await?),
    };
    let places = hls::current(&app, &camera, range).await?;
    let target = hls::target(&places);
    let mut tracks = Vec::new();
    for place in &places {
        let minutes = match range {
            None => {
                let edge = place.edge();
                let end = edge.minutes.last().map_or(0, |minute| minute.end_ns());
                let recent = |minute: &&Arc<Minute>| minute.end_ns() > end.saturating_sub(LIVE_NS);
                edge.minutes.iter().filter(recent).cloned().collect()
            }
            Some((from, to)) => app.index.minutes(place, Wanted::Between(from, to)).await?,
        };
        let mut inits: Vec<_> = minutes.iter().map(|minute| minute.name.init).collect();
        inits.sort_unstable();
        inits.dedup();
        let mut known = Vec::new();
        for init in inits {
            known.push((init, hls::tracks(&app, place, init).await));
        }
        let sums = app.index.sums(place).await?;
        tracks.push(Track {
            id: format!("{}-{}", place.stream_name(), place.rendition.name),
            folder: format!("../../hls/{camera}/{}", hls::folder(place)),
            peak: sums.peak.max(1),
            minutes,
            inits: known,
        });
    }
    let now_ns = clock::realtime_ns();
    let render = move || {
        Manifest {
            range,
            target,
            now_ns,
            tracks,
        }
        .render()
    };
    let body = tokio::task::spawn_blocking(render)
        .await
        .unwrap_or_default();
    let body = body.ok_or_else(|| hls::nothing_then(&camera))?;
    Ok(hls::text(body, &headers, "application/dash+xml"))
}
