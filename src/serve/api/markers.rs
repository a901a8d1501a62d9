//! Markers: what was seen, and when.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Body, Moment, Names, Params, known_camera, moment};
use crate::serve::markers::{self, Cursor, Filter, Seen, Stored};
use crate::serve::{App, Fault, Problem};

/// Of one page.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, remove))
        // The guard has read the body, within its own limit.
        .layer(DefaultBodyLimit::disable())
}

/// What was seen, and when.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarkerView {
    /// Names it, at its camera.
    id: String,
    /// Whose picture.
    camera: String,
    /// The camera's stream that it was made from, where said.
    #[schema(nullable = false)]
    stream: Option<String>,
    /// As it was sent: the capture time of a frame, or any moment.
    #[schema(format = DateTime)]
    start: String,
    /// Until when, where it lasts.
    #[schema(format = DateTime, nullable = false)]
    end: Option<String>,
    /// What.
    label: String,
    /// How sure.
    #[schema(nullable = false)]
    score: Option<f64>,
    /// Where in the picture: x, y, width and height, as parts of the whole.
    #[serde(rename = "box")]
    #[schema(min_items = 4, max_items = 4, nullable = false)]
    region: Option<Vec<f64>>,
    /// Anything.
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
    /// Capture time of the recorded picture that it means: the one with exactly that capture time, or the
    /// nearest within 2 s. Absent while that is not written yet, and where nothing was recorded.
    #[schema(format = DateTime, nullable = false)]
    frame_time: Option<String>,
    /// That picture's presentation time in the recording, in 1/90000 s.
    #[schema(nullable = false)]
    pts: Option<i64>,
    /// When it came.
    #[schema(format = DateTime)]
    created: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated: String,
}

/// A page of markers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Markers {
    /// In order of their starts.
    #[schema(value_type = Vec<MarkerView>)]
    markers: Vec<Value>,
    /// For `cursor`, to get the next page; null: there is none.
    next: Option<String>,
}

/// A marker to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct MarkerInput {
    /// To name it oneself: sent again with the same id and content, it is the one there is, so that a request
    /// whose answer was lost can be repeated.
    #[schema(pattern = r"^[A-Za-z0-9_-]{1,64}$")]
    id: Option<String>,
    /// The camera's stream that it was made from.
    #[schema(pattern = r"^[A-Za-z0-9_.-]{1,63}$")]
    stream: Option<String>,
    /// When: a frame's capture time, so that the marker shows on exactly that frame.
    #[schema(value_type = Moment)]
    start: Value,
    /// Until when; at most a day after the start.
    #[schema(value_type = Option<Moment>)]
    end: Option<Value>,
    /// What: up to 128 characters on one line.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    label: String,
    /// How sure.
    score: Option<f64>,
    /// Where in the picture: x, y, width and height, each from 0 to 1.
    #[serde(rename = "box")]
    #[schema(schema_with = region)]
    region: Option<Vec<f64>>,
    /// Anything, up to 16 KiB of JSON.
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
}

/// Several markers to make: all of them, or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct MarkerBatch {
    /// Up to 1000.
    #[schema(min_items = 1, max_items = 1000)]
    markers: Vec<MarkerInput>,
}

/// One marker, or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NewMarkers {
    /// One.
    One(MarkerInput),
    /// Several.
    Batch(MarkerBatch),
}

/// What is to change about a marker (RFC 7396): what is not named stays, what is null goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct MarkerPatch {
    /// The camera's stream that it was made from.
    #[schema(pattern = r"^[A-Za-z0-9_.-]{1,63}$")]
    stream: Option<String>,
    /// When.
    #[schema(value_type = Moment, required = false)]
    start: Option<Value>,
    /// Until when; at most a day after the start.
    #[schema(value_type = Option<Moment>)]
    end: Option<Value>,
    /// What.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        nullable = false
    )]
    label: Option<String>,
    /// How sure.
    score: Option<f64>,
    /// Where in the picture: x, y, width and height, each from 0 to 1.
    #[serde(rename = "box")]
    #[schema(schema_with = region)]
    region: Option<Vec<f64>>,
    /// Anything, up to 16 KiB of JSON.
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
}

/// Four numbers from 0 to 1, or null.
fn region() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
    let number = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(0))
        .maximum(Some(1));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(number)
        .min_items(Some(4))
        .max_items(Some(4))
        .description(Some("x, y, width and height, as parts of the picture"))
        .into()
}

/// Which markers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Those that begin then or later, or last until then.
    #[param(value_type = Option<Moment>)]
    from: Option<String>,
    /// Those that begin before.
    #[param(value_type = Option<Moment>)]
    to: Option<String>,
    /// Those with exactly this label.
    label: Option<String>,
    /// So many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `oldest` first or `newest` first.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// `next` of the page before, with the same order and filters.
    #[param(pattern = r"^(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})$")]
    cursor: Option<String>,
}

/// Which comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The oldest.
    #[default]
    Oldest,
    /// The newest.
    Newest,
}

/// Lists markers of a camera
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/markers", tag = "markers",
    params(("camera" = String, Path, description = "A camera's name"), ListParams),
    responses(
        (status = 200, body = Markers),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be accepted"),
    ),
)]
async fn list(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<ListParams>,
) -> Result<Json<Markers>, Problem> {
    let wrong = |pointer: &str, detail: String| {
        let pointer = pointer.to_owned();
        Problem::invalid("Bad parameter", vec![Fault { pointer, detail }])
    };
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(wrong(
            "limit",
            format!("is {limit}: 1 to {MAX_LIMIT} is possible"),
        ));
    }
    let read = |text: String| {
        let cursor = Cursor::read(&text);
        cursor.ok_or_else(|| {
            wrong(
                "cursor",
                "is none: send `next` of the page before".to_owned(),
            )
        })
    };
    let filter = Filter {
        from_ns: moment("from", params.from.as_deref())?,
        to_ns: moment("to", params.to.as_deref())?,
        label: params.label,
        after: params.cursor.map(read).transpose()?,
        newest_first: params.order == Order::Newest,
        limit,
        camera: camera.clone(),
    };
    known_camera(&app, &camera).await?;
    let (found, next) = app.store.call(move |db| markers::list(db, &filter)).await?;
    Ok(Json(Markers {
        markers: found.iter().map(markers::Marker::json).collect(),
        next: next.map(Cursor::text),
    }))
}

/// Makes a marker, or several at once
///
/// All of a batch are stored, or none. A marker may come before its picture is recorded: `frame_time` is
/// told by the live feed then.
#[utoipa::path(
    post, path = "/api/v1/cameras/{camera}/markers", tag = "markers",
    params(("camera" = String, Path, description = "A camera's name")),
    request_body = NewMarkers,
    responses(
        (status = 201, body = CreatedMarkers, description = "Stored: the marker, or `markers` of a batch"),
        (status = 200, body = CreatedMarkers, description = "All of them were there already, with the same ids and content"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "An id is another marker's, or the camera has a million markers; nothing was stored"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted; `errors` says which. Nothing was stored"),
    ),
)]
async fn create(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    known_camera(&app, &camera).await?;
    let (mut new, is_batch) = markers::batch(&body)?;
    drop(body);
    see(&app, &camera, &mut new).await?;
    let (of, now_ns) = (camera.clone(), crate::sys::clock::realtime_ns());
    let stored = app
        .store
        .call(move |db| markers::insert(db, &of, &new, now_ns, &mut || make_id(now_ns)));
    let conflict = |slug, title, detail| Problem::new(StatusCode::CONFLICT, slug, title, detail);
    let stored = match stored.await? {
        Stored::All(stored) => stored,
        Stored::Conflict(at) => {
            let pointer = match is_batch {
                true => format!("#/markers/{at}/id"),
                false => "#/id".to_owned(),
            };
            let detail = format!(
                "{pointer} is the id of another marker: PATCH that one, or choose another id"
            );
            return Err(conflict("marker-exists", "Marker exists", detail));
        }
        Stored::Full(count) => {
            let detail = format!(
                "{camera} has {count} markers: delete some, or keep recordings for a shorter time"
            );
            return Err(conflict("too-many-markers", "Too many markers", detail));
        }
    };
    if stored.iter().any(|(marker, _)| !marker.settled) {
        app.snapper.wake();
    }
    for (marker, change) in &stored {
        if let Some(change) = change {
            markers::tell(&app, "created", *change, marker);
        }
    }
    let status = match stored.iter().any(|(_, change)| change.is_some()) {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    if is_batch {
        let shown: Vec<Value> = stored.iter().map(|(marker, _)| marker.json()).collect();
        return Ok((status, Json(json!({ "markers": shown }))).into_response());
    }
    let Some((marker, _)) = stored.into_iter().next() else {
        return Err(Problem::internal("a marker was lost"));
    };
    // Names of cameras and ids need no escapes in a path.
    let location = format!("/api/v1/cameras/{camera}/markers/{}", marker.id);
    Ok((status, [(header::LOCATION, location)], Json(marker.json())).into_response())
}

/// What a request for markers is answered by: the marker, or all of the batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CreatedMarkers {
    /// Of one.
    One(Box<MarkerView>),
    /// Of several.
    Batch {
        /// In the order of the request.
        markers: Vec<MarkerView>,
    },
}

/// Gets a marker
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/markers/{id}", tag = "markers",
    params(("camera" = String, Path, description = "A camera's name"), ("id" = String, Path, description = "The marker's id")),
    responses(
        (status = 200, body = MarkerView),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown marker"),
    ),
)]
async fn one(
    State(app): State<Arc<App>>,
    Names((camera, id)): Names<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let unknown = unknown(&camera, &id);
    let found = app
        .store
        .call(move |db| markers::get(db, &camera, &id))
        .await?;
    Ok(Json(found.ok_or(unknown)?.json()))
}

/// Changes a marker
#[utoipa::path(
    patch, path = "/api/v1/cameras/{camera}/markers/{id}", tag = "markers",
    params(("camera" = String, Path, description = "A camera's name"), ("id" = String, Path, description = "The marker's id")),
    request_body = MarkerPatch,
    responses(
        (status = 200, body = MarkerView),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown marker"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted; `errors` says which"),
    ),
)]
async fn change(
    State(app): State<Arc<App>>,
    Names((camera, id)): Names<(String, String)>,
    Body(body): Body,
) -> Result<Json<Value>, Problem> {
    let patch = markers::patch(&body)?;
    let unknown = unknown(&camera, &id);
    let now_ns = crate::sys::clock::realtime_ns();
    let work = move |db: &mut _| markers::store_patch(db, &camera, &id, &patch, now_ns);
    let (marker, change) = match app.store.call(work).await? {
        None => return Err(unknown),
        Some(Ok(changed)) => changed,
        Some(Err(detail)) => {
            let pointer = "#/end".to_owned();
            return Err(Problem::invalid(
                "Not a marker",
                vec![Fault { pointer, detail }],
            ));
        }
    };
    if !marker.settled {
        app.snapper.wake();
    }
    markers::tell(&app, "updated", change, &marker);
    Ok(Json(marker.json()))
}

/// Deletes a marker
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera}/markers/{id}", tag = "markers",
    params(("camera" = String, Path, description = "A camera's name"), ("id" = String, Path, description = "The marker's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown marker"),
    ),
)]
async fn remove(
    State(app): State<Arc<App>>,
    Names((camera, id)): Names<(String, String)>,
) -> Result<StatusCode, Problem> {
    let unknown = unknown(&camera, &id);
    let (of, which) = (camera.clone(), id.clone());
    let gone = app
        .store
        .call(move |db| markers::delete(db, &of, &which))
        .await?;
    let change = gone.ok_or(unknown)?;
    markers::tell_deleted(&app, change, &camera, &id);
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(camera: &str, id: &str) -> Problem {
    let shown = |text: &str| text.chars().take(64).collect::<String>();
    let detail = format!(
        "the camera {:?} has no marker {:?}; GET its markers for those it has",
        shown(camera),
        shown(id)
    );
    Problem::not_found("unknown-marker", "Unknown marker", detail)
}

/// Looks for the pictures of new markers.
async fn see(app: &App, camera: &str, new: &mut [markers::NewMarker]) -> Result<(), Problem> {
    let mut streams: Vec<Option<String>> = new.iter().map(|new| new.stream.clone()).collect();
    streams.sort();
    streams.dedup();
    for stream in streams {
        let of: Vec<usize> = (0..new.len())
            .filter(|at| new[*at].stream == stream)
            .collect();
        let moments: Vec<i64> = of.iter().map(|at| new[*at].start_ns).collect();
        // Without the index they wait.
        let seen = markers::look(app, camera, stream.as_deref(), &moments).await;
        for (at, seen) in of.into_iter().zip(seen.unwrap_or_default()) {
            new[at].seen = match seen {
                Seen::Known(frame) => Some(Seen::Known(frame)),
                Seen::Wait(_) => None,
            };
        }
    }
    Ok(())
}

/// In order of time, and nobody's guess.
fn make_id(now_ns: i64) -> String {
    format!("{:012x}{:016x}", now_ns / 1_000_000, fastrand::u64(..))
}
