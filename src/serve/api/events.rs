//! What happens, as server-sent events: markers, states of cameras and recordings, the disk.
//!
//! Markers have numbers: a client that was away asks for those after the last one it saw, which browsers do
//! by themselves (`Last-Event-ID`). The other events tell how something is now, and need no past.
//!
//! Promises: a reader that falls behind is told so and let go, it never holds anybody up; at most
//! [`MAX_READERS`] at a time.
#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::Params;
use crate::serve::{App, Event, Fault, Problem, markers};

/// Readers at a time.
pub const MAX_READERS: usize = 256;
/// A comment, so that proxies keep the connection and both sides see that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client should come back after the connection broke off.
const RETRY: Duration = Duration::from_secs(2);
/// Past changes read from the database at a time: each reader keeps so many, of up to 16 KiB.
const PAGE: usize = 50;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(events))
}

/// What to hear of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Only what belongs to this camera; the disk belongs to none.
    camera: Option<String>,
    /// Only these, with commas between: `marker`, `camera`, `recording`, `disk`.
    #[param(pattern = r"^(marker|camera|recording|disk)(,(marker|camera|recording|disk))*$")]
    only: Option<String>,
    /// As the header `Last-Event-ID`, for clients that cannot set it.
    #[param(minimum = 0)]
    last_event_id: Option<i64>,
}

/// What can be heard of.
const NAMES: [&str; 4] = ["marker", "camera", "recording", "disk"];

/// Tells what happens, as it happens
///
/// Server-sent events. `marker`: `{what, camera, id, marker}`, with an id to resume from; `what` is
/// `created`, `updated` (also when its picture was found) or `deleted`. `camera` and `recording`: the state
/// of a stream has changed: `{stream, camera, state, reason, since}`. `disk`: as GET /api/v1/disk. `reset`:
/// what came since the last event is not kept any more: read anew what is shown. `behind`: this connection
/// ends, since it was not read fast enough; come again with the last id.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(
        EventParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last marker event that was seen"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String, description = "Events, without end"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be accepted"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "256 clients listen already"),
    ),
)]
async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<EventParams>,
) -> Result<Response, Problem> {
    let wrong = |pointer: &str, detail: &str| {
        let (pointer, detail) = (pointer.to_owned(), detail.to_owned());
        Problem::invalid("Bad parameter", vec![Fault { pointer, detail }])
    };
    let only: Option<Vec<String>> = params
        .only
        .map(|list| list.split(',').map(str::to_owned).collect());
    if let Some(only) = &only
        && !only.iter().all(|name| NAMES.contains(&name.as_str()))
    {
        return Err(wrong(
            "only",
            "names what there is not: marker, camera, recording, disk",
        ));
    }
    if params.last_event_id.is_some_and(|id| id < 0) {
        return Err(wrong("last_event_id", "is no id of an event"));
    }
    // A header that is none of ours is that of another server: all of it is new.
    let header = headers.get("last-event-id");
    let last = header.map(|text| {
        text.to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(-1)
    });
    let permit = Arc::clone(&app.readers).try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_READERS} clients listen already: close some");
        Problem::unavailable("too-many-readers", "Too many readers", detail)
    })?;
    let reader = Reader {
        // Before the past is read, so that nothing falls between.
        live: app.events.subscribe(),
        camera: params.camera,
        only,
        told: last.or(params.last_event_id),
        past: VecDeque::new(),
        caught_up: last.or(params.last_event_id).is_none(),
        ended: false,
        app,
        _permit: permit,
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    let first = Sent::default().retry(RETRY).comment("camring");
    let events = futures::StreamExt::chain(stream::iter([Ok(first)]), events);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect them.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    Ok(response)
}

/// One client.
struct Reader {
    app: Arc<App>,
    live: broadcast::Receiver<Event>,
    camera: Option<String>,
    only: Option<Vec<String>>,
    /// The last marker event it knows.
    told: Option<i64>,
    past: VecDeque<Sent>,
    caught_up: bool,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.past.pop_front() {
                return Some(event);
            }
            if !self.caught_up {
                self.read_past().await;
                continue;
            }
            match self.live.recv().await {
                Ok(event) => {
                    // Told from the past already.
                    let old = event.id.zip(self.told).is_some_and(|(id, told)| id <= told);
                    if !old && self.wants(event.name, &event.data) {
                        return Some(sent(event.name, event.id, &event.data));
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    self.ended = true;
                    let data =
                        json!({ "missed": missed, "hint": "connect again, with Last-Event-ID" });
                    return Some(sent("behind", None, &data));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, name: &str, data: &Value) -> bool {
        let of = |camera: &String| data.get("camera").is_none_or(|of| of == camera.as_str());
        self.only
            .as_ref()
            .is_none_or(|only| only.iter().any(|wanted| wanted == name))
            && self.camera.as_ref().is_none_or(of)
    }

    async fn read_past(&mut self) {
        let told = self.told.unwrap_or(0);
        let read = self.app.store.call(move |db| {
            let (oldest, newest) = markers::change_numbers(db)?;
            let lost = told < oldest.map_or(newest, |oldest| oldest - 1) || told > newest;
            match lost {
                true => Ok((newest, None)),
                false => Ok((newest, Some(markers::changes(db, told, PAGE)?))),
            }
        });
        match read.await {
            Ok((_, Some(changes))) => {
                self.caught_up = changes.len() < PAGE;
                for (number, what, camera, id, marker) in changes {
                    self.told = Some(number);
                    // What became of it since is told after it.
                    let data = match marker {
                        Some(marker) => {
                            json!({ "what": what, "camera": camera, "id": id, "marker": marker.json() })
                        }
                        None => json!({ "what": "deleted", "camera": camera, "id": id }),
                    };
                    if self.wants("marker", &data) {
                        self.past.push_back(sent("marker", Some(number), &data));
                    }
                }
            }
            Ok((newest, None)) => {
                self.caught_up = true;
                self.told = Some(newest);
                let data =
                    json!({ "hint": "what came since is not kept: read anew what is shown" });
                self.past.push_back(sent("reset", Some(newest), &data));
            }
            Err(error) => {
                self.ended = true;
                tracing::warn!("events: {error}");
            }
        }
    }
}

fn sent(name: &str, id: Option<i64>, data: &Value) -> Sent {
    let event = Sent::default().event(name).data(data.to_string());
    match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}

/// The room for readers.
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_READERS))
}
