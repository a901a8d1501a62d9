//! `GET /metrics`, for Prometheus: read when asked for, from the daemon's status and what the server counts.
//!
//! Nothing is collected between scrapes. What readers and recorders count lies in their health pages and
//! reports, and the supervisor adds up what processes counted that are no more: a counter does not go back
//! when a process is killed, only when the daemon itself is started anew.
//!
//! Promises: a scrape costs the daemon what `camring status` does; without the daemon, what the server knows
//! by itself is still there. It must never tell a secret: there is none in the status.
#![deny(unsafe_code)]

mod daemon;
mod own;
mod requests;
mod table;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use requests::{Requests, middleware};
pub use table::{ALL, Metric};

use self::own::Own;
use self::write::{Format, Writer};
use super::{App, Problem};
use crate::supervisor::status::Status;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(scrape))
}

/// All there is to tell at one moment.
#[derive(Debug)]
struct Scrape {
    began: Instant,
    /// `None`: no daemon answers.
    status: Option<Status>,
    own: Own,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        daemon::write(&mut writer, self.status.as_ref())?;
        self.own.write(&mut writer)?;
        let took = self.began.elapsed().as_secs_f64();
        writer.one(&table::SCRAPE, took)?;
        own::process(&mut writer)
    }
}

/// All metrics, for Prometheus
///
/// In OpenMetrics where `Accept` prefers that, else in Prometheus' own text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, content(
        (String = "text/plain"),
        (String = "application/openmetrics-text"),
    ))),
)]
async fn scrape(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let began = Instant::now();
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = Format::of(accept);
    let status = app.attach.status().await.ok();
    let own = Own::look(&app);
    // A hundred cameras are a megabyte of text: not on the thread that answers everybody.
    let written = tokio::task::spawn_blocking(move || {
        let status = status.and_then(|status| serde_json::from_value(status).ok());
        text(Scrape { began, status, own }, format)
    });
    let failed = || Problem::internal("the metrics could not be written");
    let text = written.await.map_err(|_| failed())?;
    let text = text.map_err(|_| failed())?;
    let headers = [
        (header::CONTENT_TYPE, format.media_type()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

fn text(scrape: Scrape, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(match format {
        Format::Open => text,
        Format::Classic => write::classic(&text),
    })
}

#[cfg(test)]
mod tests;
