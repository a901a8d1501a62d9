//! Cameras: list, add, change, remove, start, stop, restart.
//!
//! The configuration file belongs to the supervisor: it edits, checks and applies it, and its answer is
//! passed on. Nothing here sees a password, but for one that a client sends.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Body, Names};
use crate::config::{self, show_duration};
use crate::control::serve::Ask;
use crate::serve::{App, CameraView, Fault, Problem, StreamView};

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(get, change, remove))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(restart))
        .merge(super::probe::routes())
}

/// All cameras of the site.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cameras {
    /// `[site] name`.
    site: String,
    /// In the order of the configuration.
    cameras: Vec<Camera>,
}

/// A camera: its configuration, and how it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Camera {
    /// Unique in the site.
    name: String,
    /// Whether any of its streams is read.
    enabled: bool,
    /// At least one.
    streams: Vec<Stream>,
}

/// One stream of a camera.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stream {
    /// `front-door`, or `front-door/sub`.
    id: String,
    /// Where the camera has several.
    name: Option<String>,
    /// Whether it is read.
    enabled: bool,
    /// Without user and password; `***` for what looks like one in path or query.
    url: String,
    username: Option<String>,
    /// Whether there is a password. It is never shown.
    has_password: bool,
    /// `tcp`, `udp`, `multicast`, `http`.
    transport: String,
    /// `always`, `on-demand`, `keyframes`, `activity`.
    decode: String,
    record: Record,
    /// As in `camring status --json`; null while the daemon does not answer.
    #[schema(value_type = Option<Object>)]
    status: Option<Value>,
}

/// Whether and how a stream is recorded, as in `[record]`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Record {
    /// `off`, `copy`, `encode`.
    mode: String,
    segment: String,
    part: String,
    audio: bool,
    renditions: Vec<Rendition>,
}

/// A size and a bitrate.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rendition {
    height: u32,
    /// Bits per second, such as `2M`.
    bitrate: String,
}

/// The keys of `[[camera]]`; see the reference of the configuration for all of them. When a camera is
/// changed, keys that are left out stay as they are, and `null` takes a key away.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(
    clippy::allow_attributes,
    dead_code,
    reason = "describes what is passed on as it came"
)]
pub struct CameraSettings {
    /// Letters, digits, `.`, `_`, `-`; at most 63.
    #[schema(example = "front-door")]
    name: Option<String>,
    /// `rtsp://…`; needed, unless there are streams.
    #[schema(example = "rtsp://192.0.2.10/stream1")]
    url: Option<String>,
    username: Option<String>,
    /// Taken as it is: `${…}` refers to nothing.
    password: Option<String>,
    /// `tcp`, `udp`, `multicast`, `http`.
    transport: Option<String>,
    /// `auto`, `retina`, `ffmpeg`.
    client: Option<String>,
    tls_verify: Option<bool>,
    enabled: Option<bool>,
    /// The keys of `[record]` that a camera can have.
    #[schema(value_type = Option<Object>, example = json!({"mode": "copy"}))]
    record: Option<Value>,
    #[schema(value_type = Option<Object>)]
    decode: Option<Value>,
    #[schema(value_type = Option<Object>)]
    ring: Option<Value>,
    #[schema(value_type = Option<Object>)]
    retry: Option<Value>,
    #[schema(value_type = Option<Object>)]
    network: Option<Value>,
    /// Several streams instead of `url`; a change goes to the stream of the same name.
    #[schema(value_type = Option<Vec<Object>>)]
    stream: Option<Value>,
}

/// Lists the cameras
///
/// What the configuration says of each, and how it is at the moment.
#[utoipa::path(
    get, path = "/api/v1/cameras", tag = "cameras",
    responses((status = 200, body = Cameras)),
)]
async fn list(State(app): State<Arc<App>>) -> Json<Cameras> {
    let mut live = live(&app).await;
    let site = app.site();
    let cameras = site.cameras.iter();
    Json(Cameras {
        site: site.name.clone(),
        cameras: cameras.map(|view| camera(view, &mut live)).collect(),
    })
}

/// Says how a camera is
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Camera),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
    ),
)]
async fn get(
    State(app): State<Arc<App>>,
    Names(name): Names<String>,
) -> Result<Json<Camera>, Problem> {
    shown(&app, &name).await.map(Json)
}

/// Adds a camera
///
/// It is written at the end of the configuration file, and read at once. The comments of the file stay.
#[utoipa::path(
    post, path = "/api/v1/cameras", tag = "cameras",
    request_body = CameraSettings,
    responses(
        (status = 201, body = Camera, description = "Added; Location says where it is"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "There is a camera of that name"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration would be wrong; `errors` says which key"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn add(State(app): State<Arc<App>>, Body(body): Body) -> Result<impl IntoResponse, Problem> {
    let camera = keys(body)?;
    let name = ask(&app, &Ask::AddCamera { camera }).await?;
    let made = shown(&app, &name).await?;
    // Names need no escapes in a path.
    let location = format!("/api/v1/cameras/{name}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(made),
    ))
}

/// Changes a camera
///
/// A new `name` renames it; what was recorded stays under the old one. Only what is different is started
/// anew. A password that would go to another host, port or scheme than before must be sent again.
#[utoipa::path(
    patch, path = "/api/v1/cameras/{camera}", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    request_body = CameraSettings,
    responses(
        (status = 200, body = Camera),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "There is a camera of the new name, or the file was changed at the same moment"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The configuration would be wrong; `errors` says which key"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn change(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Body(body): Body,
) -> Result<Json<Camera>, Problem> {
    let patch = keys(body)?;
    let name = ask(&app, &Ask::PatchCamera { camera, patch }).await?;
    shown(&app, &name).await.map(Json)
}

/// Removes a camera
///
/// From the configuration. What was recorded stays, until it is deleted or too old.
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera}", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The file was changed at the same moment"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "It is the last one"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn remove(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<StatusCode, Problem> {
    ask(&app, &Ask::RemoveCamera { camera }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts a camera
///
/// Writes `enabled = true` into the configuration.
#[utoipa::path(
    post, path = "/api/v1/cameras/{camera}/start", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Camera),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn start(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<Json<Camera>, Problem> {
    enable(&app, camera, true).await
}

/// Stops a camera
///
/// Writes `enabled = false` into the configuration: it is not read, and not recorded.
#[utoipa::path(
    post, path = "/api/v1/cameras/{camera}/stop", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Camera),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn stop(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<Json<Camera>, Problem> {
    enable(&app, camera, false).await
}

/// Starts a camera's processes anew
#[utoipa::path(
    post, path = "/api/v1/cameras/{camera}/restart", tag = "cameras",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Camera),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "It is stopped"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "No daemon"),
    ),
)]
async fn restart(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<Json<Camera>, Problem> {
    let name = ask(&app, &Ask::RestartCamera { camera }).await?;
    shown(&app, &name).await.map(Json)
}

async fn enable(app: &App, camera: String, enabled: bool) -> Result<Json<Camera>, Problem> {
    let mut patch = Map::new();
    patch.insert("enabled".to_owned(), Value::Bool(enabled));
    let name = ask(app, &Ask::PatchCamera { camera, patch }).await?;
    shown(app, &name).await.map(Json)
}

fn keys(body: Value) -> Result<Map<String, Value>, Problem> {
    match body {
        Value::Object(keys) => Ok(keys),
        _ => Err(Problem::invalid(
            "Not a camera",
            vec![Fault {
                pointer: "#".to_owned(),
                detail: "is no object".to_owned(),
            }],
        )),
    }
}

/// Asks the supervisor; returns the camera's name.
async fn ask(app: &App, ask: &Ask) -> Result<String, Problem> {
    let question = serde_json::to_value(ask).map_err(|_| Problem::internal("not a question"))?;
    let answer = app.supervisor.ask(question).await?;
    Ok(answer["camera"].as_str().unwrap_or_default().to_owned())
}

/// A camera of the configuration.
async fn shown(app: &App, name: &str) -> Result<Camera, Problem> {
    let site = app.site();
    let view = site.camera(name).ok_or_else(|| unknown(name))?;
    Ok(camera(view, &mut live(app).await))
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    let detail = format!(
        "no camera is called {shown:?} in the configuration; GET /api/v1/cameras lists them"
    );
    Problem::not_found("unknown-camera", "Unknown camera", detail)
}

/// What the daemon says of each stream, by its id. Nothing, if it does not answer.
async fn live(app: &App) -> HashMap<String, Value> {
    let Ok(mut status) = app.attach.status().await else {
        return HashMap::new();
    };
    let Some(cameras) = status["cameras"].as_array_mut() else {
        return HashMap::new();
    };
    let named = cameras.drain(..).filter_map(|camera| {
        let name = camera["name"].as_str()?.to_owned();
        Some((name, camera))
    });
    named.collect()
}

fn camera(view: &CameraView, live: &mut HashMap<String, Value>) -> Camera {
    Camera {
        name: view.name.clone(),
        enabled: view.streams.iter().any(|stream| stream.enabled),
        streams: view
            .streams
            .iter()
            .map(|view| stream(view, live.remove(&view.id)))
            .collect(),
    }
}

fn stream(view: &StreamView, status: Option<Value>) -> Stream {
    let record = &view.record;
    Stream {
        id: view.id.clone(),
        name: view.name.clone(),
        enabled: view.enabled,
        url: view.url.clone(),
        username: view.username.clone(),
        has_password: view.has_password,
        transport: view.transport.clone(),
        decode: view.decode.clone(),
        record: Record {
            mode: record.mode.name().to_owned(),
            segment: show_duration(record.segment),
            part: show_duration(record.part),
            audio: record.audio,
            renditions: record
                .renditions
                .iter()
                .map(|rendition| Rendition {
                    height: rendition.height,
                    bitrate: config::show_bitrate(rendition.bitrate),
                })
                .collect(),
        },
        status,
    }
}
