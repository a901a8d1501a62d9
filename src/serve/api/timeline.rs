//! When a camera was recorded, and when not.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Moment, Names, Params, known_camera, moment};
use crate::serve::{App, Problem, time};
use crate::sys::clock;

/// What is shorter is no gap: between two files of a camera with jitter.
const GAP_NS: i64 = 1_000_000_000;
/// More spans are not drawn by anybody.
const MOST_SPANS: usize = 10_000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(timeline))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Query {
    /// The beginning; without it, of the recording.
    #[param(value_type = Option<Moment>)]
    from: Option<String>,
    /// The end, not included; without it, now.
    #[param(value_type = Option<Moment>)]
    to: Option<String>,
    /// One stream of the camera; without it, any.
    stream: Option<String>,
}

/// When a camera was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Timeline {
    /// The camera.
    camera: String,
    /// Where it begins; null: nothing is recorded.
    from: Option<String>,
    /// Where it ends.
    to: Option<String>,
    /// Recorded, in order.
    spans: Vec<Span>,
    /// Not recorded, between the spans and before and after them.
    gaps: Vec<Gap>,
}

/// Recorded without a gap.
#[derive(Debug, Serialize, ToSchema)]
pub struct Span {
    /// Of its first picture.
    start: String,
    /// Of the end of its last picture.
    end: String,
    /// Segments in which pictures are missing.
    losses: u64,
}

/// Not recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Gap {
    /// From here.
    start: String,
    /// To there.
    end: String,
}

/// Says when a camera was recorded, and when not
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/timeline", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name"), Query),
    responses(
        (status = 200, body = Timeline),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Not a time, or not a range"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "Not a time"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The recordings are being indexed"),
    ),
)]
async fn timeline(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(query): Params<Query>,
) -> Result<Json<Timeline>, Problem> {
    let from = moment("from", query.from.as_deref())?;
    let to = moment("to", query.to.as_deref())?;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let detail = "`to` is not after `from`: nothing is between them";
        return Err(Problem::bad_request("not-a-range", "Not a range", detail));
    }
    known_camera(&app, &camera).await?;
    app.index.settled().await?;
    let mut found: Vec<(i64, i64, u64)> = Vec::new();
    let wanted = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
    for place in app.index.of_camera(&camera) {
        if query
            .stream
            .as_deref()
            .is_some_and(|stream| stream != place.stream_name())
        {
            continue;
        }
        let there = app.index.summaries(&place, wanted.0, wanted.1).await?;
        let there = there.iter().filter(|minute| !minute.gone);
        found.extend(there.map(|minute| (minute.begin_ns, minute.end_ns, minute.losses)));
    }
    found.sort_unstable();
    let mut spans: Vec<(i64, i64, u64)> = Vec::new();
    for (begin, end, losses) in found {
        match spans.last_mut() {
            Some(last) if begin <= last.1.saturating_add(GAP_NS) => {
                last.1 = last.1.max(end);
                last.2 = last.2.saturating_add(losses);
            }
            _ => spans.push((begin, end, losses)),
        }
    }
    // The newest ones.
    let spans = spans.split_off(spans.len().saturating_sub(MOST_SPANS));
    let from = from.or(spans.first().map(|span| span.0));
    let to = to.or_else(|| from.map(|from| clock::realtime_ns().max(from)));
    let within = |at: i64| at.clamp(from.unwrap_or(at), to.unwrap_or(at).max(from.unwrap_or(at)));
    let mut gaps = Vec::new();
    let mut at = from.unwrap_or(0);
    let mut gap = |start: i64, end: i64| {
        if end.saturating_sub(start) > GAP_NS {
            gaps.push(Gap {
                start: time::rfc3339(start),
                end: time::rfc3339(end),
            });
        }
    };
    for span in &spans {
        gap(at, within(span.0));
        at = within(span.1);
    }
    if let Some(to) = to {
        gap(at, to);
    }
    Ok(Json(Timeline {
        camera,
        from: from.map(time::rfc3339),
        to: to.map(time::rfc3339),
        spans: (spans.iter())
            .map(|span| Span {
                start: time::rfc3339(within(span.0)),
                end: time::rfc3339(within(span.1)),
                losses: span.2,
            })
            .collect(),
        gaps,
    }))
}
