//! How a camera has been.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Moment, Names, Params, known_camera, moment};
use crate::serve::{App, Fault, Problem, health, time};

const DEFAULT_SPAN_NS: i64 = 3_600_000_000_000;
const NS: i64 = 1_000_000_000;
const DEFAULT_POINTS: i64 = 300;
const MAX_POINTS: i64 = 1000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(of_camera))
}

/// Of when, and how fine.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HealthParams {
    /// Without it: an hour before the end.
    #[param(value_type = Option<Moment>)]
    from: Option<String>,
    /// Without it: now.
    #[param(value_type = Option<Moment>)]
    to: Option<String>,
    /// Spans of each stream, at most.
    #[param(minimum = 1, maximum = 1000, default = 300)]
    points: Option<i64>,
}

/// How a camera has been.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Which.
    camera: String,
    /// Beginning of what was asked for.
    #[schema(format = DateTime)]
    from: String,
    /// Its end.
    #[schema(format = DateTime)]
    to: String,
    /// How long each span is.
    step_seconds: i64,
    /// Each stream that has samples.
    streams: Vec<StreamHealth>,
}

/// How a stream has been.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamHealth {
    /// `front-door`, or `front-door/sub`.
    stream: String,
    /// Oldest first. A span without samples is missing: the daemon or the server did not run.
    spans: Vec<HealthSpan>,
}

/// A span of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthSpan {
    /// Its beginning.
    #[schema(format = DateTime)]
    time: String,
    /// The worst state in it.
    state: String,
    /// Which part of it the stream was streaming, 0 to 1.
    streaming: f64,
    /// Access units received per second.
    fps: f64,
    /// Received.
    kbit_per_s: f64,
    /// From a frame's last packet to its publication: half took less.
    latency_ms: Option<f64>,
    /// 99 % took less.
    latency_p99_ms: Option<f64>,
    /// RTP packets.
    packets_lost: i64,
    /// RTSP sessions tried.
    reconnects: i64,
}

/// Says how a camera has been
///
/// Sampled every 10 s and kept for a day, by 5 minutes for 30 days.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/health", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name"), HealthParams),
    responses(
        (status = 200, body = Health),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be accepted"),
    ),
)]
async fn of_camera(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<HealthParams>,
) -> Result<Json<Health>, Problem> {
    let wrong = |pointer: &str, detail: String| {
        let pointer = pointer.to_owned();
        Problem::invalid("Bad parameter", vec![Fault { pointer, detail }])
    };
    let now_ns = crate::sys::clock::realtime_ns();
    let to_ns = moment("to", params.to.as_deref())?.unwrap_or(now_ns);
    let from_ns = moment("from", params.from.as_deref())?;
    let from_ns = from_ns
        .unwrap_or(to_ns.saturating_sub(DEFAULT_SPAN_NS))
        .max(0);
    if from_ns >= to_ns {
        return Err(wrong("to", "is not after the beginning".to_owned()));
    }
    let points = params.points.unwrap_or(DEFAULT_POINTS);
    if !(1..=MAX_POINTS).contains(&points) {
        return Err(wrong(
            "points",
            format!("is {points}: 1 to {MAX_POINTS} is possible"),
        ));
    }
    known_camera(&app, &camera).await?;
    let (from, to) = (from_ns / NS, to_ns.saturating_add(NS - 1) / NS);
    let (width, step) = health::resolution(now_ns / NS, from, to, points);
    let name = camera.clone();
    let found = app
        .store
        .call(move |db| health::spans(db, &name, (from, to), (width, step)))
        .await?;
    let streams = found.into_iter().map(|(stream, spans)| StreamHealth {
        stream,
        spans: spans
            .into_iter()
            .map(|(at, sample)| span(at, &sample))
            .collect(),
    });
    Ok(Json(Health {
        camera,
        from: time::rfc3339(from_ns),
        to: time::rfc3339(to_ns),
        step_seconds: step,
        streams: streams.collect(),
    }))
}

fn span(at: i64, sample: &health::Sample) -> HealthSpan {
    // To what the figures are good for.
    let short = |number: f64| (number * 1000.0).round() / 1000.0;
    HealthSpan {
        time: time::rfc3339_ms(at.saturating_mul(1000)),
        state: sample.state().to_owned(),
        streaming: short(sample.streaming),
        fps: short(sample.fps),
        kbit_per_s: short(sample.kbit_per_s),
        latency_ms: sample.latency_ms.map(short),
        latency_p99_ms: sample.latency_p99_ms.map(short),
        packets_lost: sample.packets_lost,
        reconnects: sample.reconnects,
    }
}
