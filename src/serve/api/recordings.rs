//! What is recorded: list, delete, name; and the disk it lies on.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Body, Moment, Names, Params, is_text, known_camera, pointer, range};
use super::protections::blocking;
use crate::serve::retention::{self, Deleted, NotDeleted, Reason, Recorded, camera_of};
use crate::serve::{App, Fault, Problem, markers, time};

/// Markers deleted in one call of the database.
const MARKERS_AT_ONCE: usize = 5000;
/// The longest title, in characters.
const LONGEST_TITLE: usize = 200;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(of_camera, rename, delete))
        .routes(routes!(disk))
}

/// A camera's recording.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recording {
    /// Whose it is; also of a camera that is not configured any more.
    camera: String,
    /// What it is called: the camera's name, unless it was given another.
    title: String,
    /// Whether the configuration still has the camera.
    configured: bool,
    /// Start of the oldest picture; null where nothing is recorded.
    #[schema(format = DateTime)]
    first: Option<String>,
    /// End of the newest, as far as it is written.
    #[schema(format = DateTime)]
    last: Option<String>,
    /// Recorded time, gaps not counted, of the rendition that has the most.
    seconds: f64,
    /// Gaps in that rendition.
    gaps: u64,
    /// On the disk, of all renditions.
    bytes: u64,
    /// Protected ranges.
    protections: usize,
    /// What it consists of.
    renditions: Vec<RenditionView>,
}

/// One rendition of one stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct RenditionView {
    /// `front-door/main`
    stream: String,
    /// `source`, `720p` …
    rendition: String,
    /// Start of the oldest picture.
    #[schema(format = DateTime)]
    first: Option<String>,
    /// End of the newest.
    #[schema(format = DateTime)]
    last: Option<String>,
    /// Recorded time, gaps not counted.
    seconds: f64,
    /// Between them, nothing was recorded.
    gaps: u64,
    /// On the disk.
    bytes: u64,
    /// Minute files.
    files: u64,
}

/// All recordings of the site.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recordings {
    /// By name of the camera: those that are recorded, and those with a title or protected ranges.
    recordings: Vec<Recording>,
}

/// Lists what is recorded of all cameras
#[utoipa::path(
    get, path = "/api/v1/recordings", tag = "recordings",
    responses((status = 200, body = Recordings)),
)]
async fn list(State(app): State<Arc<App>>) -> Result<Json<Recordings>, Problem> {
    let recordings = recordings(&app, None).await?;
    Ok(Json(Recordings { recordings }))
}

/// Says what is recorded of a camera
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/recordings", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Recording),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
    ),
)]
async fn of_camera(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<Json<Recording>, Problem> {
    known_camera(&app, &camera).await?;
    recording(&app, camera).await.map(Json)
}

/// A new title.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct RecordingChange {
    /// For people; null: the camera's name again.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        required
    )]
    title: Option<String>,
}

/// Renames a camera's recording
///
/// Only what people read changes: folders, addresses and the camera keep their names. To name a part of a
/// recording, protect it: protected ranges have names.
#[utoipa::path(
    patch, path = "/api/v1/cameras/{camera}/recordings", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name")),
    request_body = RecordingChange,
    responses(
        (status = 200, body = Recording),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "1000 recordings have titles already"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted; `errors` says which"),
    ),
)]
async fn rename(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Body(body): Body,
) -> Result<Json<Recording>, Problem> {
    known_camera(&app, &camera).await?;
    let title = title_of(&body)?;
    let (library, name) = (Arc::clone(&app.library), camera.clone());
    blocking(move || library.rename(&name, title)).await?;
    recording(&app, camera).await.map(Json)
}

pub(in crate::serve) fn title_of(body: &Value) -> Result<Option<String>, Problem> {
    let mut faults = Vec::new();
    let mut fault = |pointer: &str, detail: &str| {
        let (pointer, detail) = (pointer.to_owned(), detail.to_owned());
        faults.push(Fault { pointer, detail });
    };
    let mut title = None;
    match body.as_object() {
        None => fault("#", "is no object"),
        Some(object) => {
            for key in object.keys().filter(|key| *key != "title") {
                fault(&pointer(key), "is not known");
            }
            match object.get("title") {
                None => fault("#/title", "is missing"),
                Some(Value::Null) => {}
                Some(Value::String(text)) => match is_text(text, LONGEST_TITLE) {
                    Ok(()) => title = Some(text.clone()),
                    Err(detail) => fault("#/title", &detail),
                },
                Some(_) => fault("#/title", "is no text"),
            }
        }
    }
    match faults.is_empty() {
        true => Ok(title),
        false => Err(Problem::invalid("Not a title", faults)),
    }
}

/// What is to be deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// Beginning of the range.
    #[param(value_type = Moment)]
    from: String,
    /// Its end, not included; after the beginning.
    #[param(value_type = Moment)]
    to: String,
    /// Recordings are deleted in whole minute files. What becomes of those that lie in the range only in
    /// part: `keep` (nothing outside the range goes) or `delete` (nothing of the range stays).
    #[serde(default)]
    #[param(inline)]
    edges: Edges,
}

/// What becomes of files that lie in a range only in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Edges {
    /// They stay.
    #[default]
    Keep,
    /// They go.
    Delete,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedRange {
    /// Minute files.
    files: u64,
    /// Freed on the disk.
    bytes: u64,
    /// Start of the first picture that went; null: nothing did.
    #[schema(format = DateTime)]
    first: Option<String>,
    /// End of the last.
    #[schema(format = DateTime)]
    last: Option<String>,
    /// Markers that went with it.
    markers: u64,
    /// Files that stay because they are protected.
    kept_protected: u64,
    /// Files that stay because they are being written: a minute later they can be deleted.
    kept_writing: u64,
    /// Files that stay because they reach beyond the range; `edges=delete` deletes them too.
    kept_edges: u64,
    /// One request deletes so many: ask again for the rest.
    more: bool,
}

/// Deletes a range of a camera's recording, and the markers in it
///
/// Protected files stay, and so does the file that is being written.
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera}/recordings", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name"), DeleteParams),
    responses(
        (status = 200, body = DeletedRange),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The range cannot be accepted"),
    ),
)]
async fn delete(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<DeleteParams>,
) -> Result<Json<DeletedRange>, Problem> {
    known_camera(&app, &camera).await?;
    let (from_ns, to_ns) = range(&params.from, &params.to)?;
    let (shared, of) = (Arc::clone(&app), camera.clone());
    let (gone, kept) = blocking(move || {
        let (app, camera) = (shared, of);
        // Rounded outwards.
        let range = (
            from_ns.div_euclid(1_000_000),
            to_ns.saturating_add(999_999).div_euclid(1_000_000),
        );
        let reach_out = params.edges == Edges::Delete;
        let protected = || app.library.protected();
        let deleted = app
            .retention
            .delete_range(&camera, range, reach_out, protected);
        let (gone, protected) = deleted.map_err(|error| match error {
            NotDeleted::Unknown(why) => Problem::internal(format!(
                "nothing is deleted, since it is not known what is protected: {why}"
            )),
            NotDeleted::Disk(error) => {
                tracing::error!("deleting recordings of {camera}: {error}");
                Problem::unavailable(
                    "not-deleted",
                    "Not deleted",
                    format!("the disk refuses ({error}); what had gone before is gone"),
                )
            }
        })?;
        Ok((gone, protected.of(&camera).to_vec()))
    })
    .await?;
    let markers = match gone.span_ms {
        Some(span) => delete_markers(&app, camera, span, kept).await?,
        None => 0,
    };
    let ms = |ms: i64| Some(time::rfc3339_ms(ms));
    Ok(Json(DeletedRange {
        files: gone.files,
        bytes: gone.bytes,
        first: gone.span_ms.and_then(|span| ms(span.0)),
        last: gone.span_ms.and_then(|span| ms(span.1)),
        markers,
        kept_protected: gone.protected,
        kept_writing: gone.writing,
        kept_edges: gone.reaching_out,
        more: gone.more,
    }))
}

/// Deletes the markers of what was deleted; how many.
async fn delete_markers(
    app: &App,
    camera: String,
    (from_ms, to_ms): (i64, i64),
    kept: Vec<(i64, i64)>,
) -> Result<u64, Problem> {
    let ns = |ms: i64| ms.saturating_mul(1_000_000);
    let kept: Vec<(i64, i64)> = kept
        .into_iter()
        .map(|(from, to)| (ns(from), ns(to)))
        .collect();
    let mut all = 0;
    loop {
        let (name, kept) = (camera.clone(), kept.clone());
        let range = (ns(from_ms), ns(to_ms));
        let gone = app
            .store
            .call(move |db| markers::expire(db, &name, range, &kept, MARKERS_AT_ONCE))
            .await?;
        all += gone as u64;
        if gone < MARKERS_AT_ONCE {
            return Ok(all);
        }
    }
}

/// The disk that recordings lie on, and what is deleted when.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disk {
    /// Size of the disk, in bytes; null until the first look.
    total_bytes: Option<u64>,
    /// Free for the daemon.
    free_bytes: Option<u64>,
    /// Of recordings, protected ones included.
    used_bytes: u64,
    /// Of that, protected; counted once a minute.
    protected_bytes: u64,
    /// Minute files.
    files: u64,
    /// Start of the oldest file of any camera.
    #[schema(format = DateTime)]
    oldest: Option<String>,
    /// Start of the newest.
    #[schema(format = DateTime)]
    newest: Option<String>,
    /// What is kept.
    limits: DiskLimits,
    /// What was deleted since the server started, by reason.
    #[schema(inline)]
    deleted: BTreeMap<Reason, Deleted>,
    /// When retention looked last.
    #[schema(format = DateTime)]
    last_pass: Option<String>,
    /// Why nothing is deleted by age now, if so: the clock is not to be trusted. The other limits hold.
    age_paused: Option<String>,
    /// Why a limit cannot be kept, if so, and what to do.
    trouble: Option<String>,
    /// Failed deletions and looks since the server started.
    errors: u64,
    /// The last of them.
    last_error: Option<String>,
}

/// `[record]` of the configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiskLimits {
    /// `keep`
    keep_seconds: u64,
    /// `max_size`; null: unlimited.
    max_bytes: Option<u64>,
    /// `min_free`
    min_free_bytes: u64,
}

/// Says how full the disk is, what is deleted when, and why not
#[utoipa::path(
    get, path = "/api/v1/disk", tag = "recordings",
    responses((status = 200, body = Disk)),
)]
async fn disk(State(app): State<Arc<App>>) -> Json<Disk> {
    Json(disk_now(&app))
}

/// What [`disk`] answers, also told as an event.
pub fn disk_now(app: &App) -> Disk {
    let (state, limits) = (app.retention.state(), app.retention.limits());
    let looked = state.last_pass_ms.is_some() && state.total > 0;
    Disk {
        total_bytes: looked.then_some(state.total),
        free_bytes: looked.then_some(state.free),
        used_bytes: state.usage.bytes,
        protected_bytes: state.protected_bytes,
        files: state.usage.files,
        oldest: state.usage.oldest_ms.map(time::rfc3339_ms),
        newest: state.usage.newest_ms.map(time::rfc3339_ms),
        limits: DiskLimits {
            keep_seconds: limits.keep.as_secs(),
            max_bytes: limits.max_bytes,
            min_free_bytes: limits.min_free,
        },
        deleted: state.deleted,
        last_pass: state.last_pass_ms.map(time::rfc3339_ms),
        age_paused: state.age_paused,
        trouble: state.trouble,
        errors: state.errors,
        last_error: state.last_error,
    }
}

async fn recordings(app: &Arc<App>, only: Option<String>) -> Result<Vec<Recording>, Problem> {
    let app = Arc::clone(app);
    blocking(move || {
        let found =
            retention::recorded(app.retention.tree(), only.as_deref()).map_err(|error| {
                Problem::unavailable(
                    "disk",
                    "Disk not readable",
                    format!("the recordings cannot be listed: {error}"),
                )
            })?;
        let mut cameras: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
        for recorded in found.into_iter().filter(|recorded| recorded.files > 0) {
            let camera = camera_of(&recorded.rendition.stream).to_owned();
            cameras.entry(camera).or_default().push(recorded);
        }
        for camera in app.library.cameras() {
            if only.as_ref().is_none_or(|only| *only == camera) {
                cameras.entry(camera).or_default();
            }
        }
        let each = cameras.into_iter();
        Ok(each
            .map(|(camera, recorded)| view(&app, camera, recorded))
            .collect())
    })
    .await
}

async fn recording(app: &Arc<App>, camera: String) -> Result<Recording, Problem> {
    if let Some(found) = recordings(app, Some(camera.clone())).await?.pop() {
        return Ok(found);
    }
    let app = Arc::clone(app);
    blocking(move || Ok(view(&app, camera, Vec::new()))).await
}

/// Waits for the library: not for the server's own thread.
fn view(app: &App, camera: String, recorded: Vec<Recorded>) -> Recording {
    let longest = recorded.iter().max_by_key(|recorded| recorded.recorded_ms);
    let seconds = |ms: i64| ms as f64 / 1000.0;
    Recording {
        title: app.library.title(&camera).unwrap_or_else(|| camera.clone()),
        configured: app.site().camera(&camera).is_some(),
        first: recorded
            .iter()
            .filter_map(|r| r.first_ms)
            .min()
            .map(time::rfc3339_ms),
        last: recorded
            .iter()
            .filter_map(|r| r.last_ms)
            .max()
            .map(time::rfc3339_ms),
        seconds: seconds(longest.map_or(0, |recorded| recorded.recorded_ms)),
        gaps: longest.map_or(0, |recorded| recorded.gaps),
        bytes: recorded.iter().map(|recorded| recorded.bytes).sum(),
        protections: app
            .library
            .protections(Some(&camera))
            .map_or(0, |ranges| ranges.len()),
        renditions: recorded
            .iter()
            .map(|recorded| RenditionView {
                stream: recorded.rendition.stream.clone(),
                rendition: recorded.rendition.name.clone(),
                first: recorded.first_ms.map(time::rfc3339_ms),
                last: recorded.last_ms.map(time::rfc3339_ms),
                seconds: seconds(recorded.recorded_ms),
                gaps: recorded.gaps,
                bytes: recorded.bytes,
                files: recorded.files,
            })
            .collect(),
        camera,
    }
}
