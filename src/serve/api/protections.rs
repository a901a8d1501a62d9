//! Ranges of recordings that are never deleted, with names: clips that somebody wants to keep.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Body, Moment, Names, is_text, known_camera};
use crate::serve::{App, Fault, Problem, Protection, time};

/// The longest name, in characters.
const LONGEST_NAME: usize = 200;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(change, remove))
}

/// A protected range.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProtectionView {
    /// Names it.
    id: String,
    /// Whose recording.
    camera: String,
    /// What it is called.
    name: String,
    /// Its beginning.
    #[schema(format = DateTime)]
    from: String,
    /// Its end, not included.
    #[schema(format = DateTime)]
    to: String,
    /// When it was protected.
    #[schema(format = DateTime)]
    created: String,
}

impl From<Protection> for ProtectionView {
    fn from(range: Protection) -> Self {
        Self {
            id: range.id,
            camera: range.camera,
            name: range.name,
            from: time::rfc3339(range.from_ns),
            to: time::rfc3339(range.to_ns),
            created: time::rfc3339(range.created_ns),
        }
    }
}

/// The protected ranges of a camera.
#[derive(Debug, Serialize, ToSchema)]
pub struct Protections {
    /// In order of time.
    protections: Vec<ProtectionView>,
}

/// A range to protect.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct NewProtection {
    /// Its beginning.
    #[schema(value_type = Moment)]
    from: Value,
    /// Its end, not included; after the beginning.
    #[schema(value_type = Moment)]
    to: Value,
    /// What it is called; without one, by its beginning.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
}

/// What is to change about a protected range; what is not named stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes a body that is read by hand, to say what is wrong where"
)]
pub struct ProtectionChange {
    /// Its beginning.
    #[schema(value_type = Option<Moment>)]
    from: Option<Value>,
    /// Its end, not included; after the beginning.
    #[schema(value_type = Option<Moment>)]
    to: Option<Value>,
    /// What it is called.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
}

/// Lists the protected ranges of a camera
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/protections", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name")),
    responses(
        (status = 200, body = Protections),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
    ),
)]
async fn list(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
) -> Result<Json<Protections>, Problem> {
    known_camera(&app, &camera).await?;
    // A change that is being written holds it up, for as long as the disk takes.
    let library = Arc::clone(&app.library);
    let found = blocking(move || library.protections(Some(&camera))).await?;
    let protections = found.into_iter().map(ProtectionView::from).collect();
    Ok(Json(Protections { protections }))
}

/// Protects a range: nothing of it is deleted, whatever the limits say
///
/// It is kept in whole minute files, so up to a minute more on either side stays. It counts against
/// `max_size` and fills the disk; when everything that is left is protected, /api/v1/disk says so. The range
/// may lie in the future.
#[utoipa::path(
    post, path = "/api/v1/cameras/{camera}/protections", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name")),
    request_body = NewProtection,
    responses(
        (status = 201, body = ProtectionView, headers(("Location" = String, description = "Its address"))),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "There are 1000 of the site already"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted; `errors` says which"),
    ),
)]
async fn create(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Body(body): Body,
) -> Result<Response, Problem> {
    known_camera(&app, &camera).await?;
    let read = Reading::new(&body, true)?;
    let now_ns = crate::sys::clock::realtime_ns();
    let range = Protection {
        id: format!("{:016x}", fastrand::u64(..)),
        name: read.name.unwrap_or_else(|| {
            let from = time::rfc3339_ms(read.from.unwrap_or_default() / 1_000_000);
            format!("{camera} {from}")
        }),
        camera,
        from_ns: read.from.unwrap_or_default(),
        to_ns: read.to.unwrap_or_default(),
        created_ns: now_ns,
    };
    ordered(range.from_ns, range.to_ns)?;
    let made = range.clone();
    // What is there when this is answered stays: nothing is deleted meanwhile.
    let protect = move || app.retention.undisturbed(|| app.library.protect(range));
    blocking(protect).await?;
    // Names of cameras and ids need no escapes in a path.
    let location = format!("/api/v1/cameras/{}/protections/{}", made.camera, made.id);
    let headers = [(header::LOCATION, location)];
    Ok((
        StatusCode::CREATED,
        headers,
        Json(ProtectionView::from(made)),
    )
        .into_response())
}

/// Renames a protected range, or moves its ends
#[utoipa::path(
    patch, path = "/api/v1/cameras/{camera}/protections/{id}", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name"), ("id" = String, Path, description = "The range's id")),
    request_body = ProtectionChange,
    responses(
        (status = 200, body = ProtectionView),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or range"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted; `errors` says which"),
    ),
)]
async fn change(
    State(app): State<Arc<App>>,
    Names((camera, id)): Names<(String, String)>,
    Body(body): Body,
) -> Result<Json<ProtectionView>, Problem> {
    let read = Reading::new(&body, false)?;
    let edit = move |range: &mut Protection| {
        range.from_ns = read.from.unwrap_or(range.from_ns);
        range.to_ns = read.to.unwrap_or(range.to_ns);
        if let Some(name) = read.name {
            range.name = name;
        }
        ordered(range.from_ns, range.to_ns)
    };
    // As for a new range.
    let change = move || {
        let edited = || app.library.edit(&camera, &id, edit);
        app.retention.undisturbed(edited)
    };
    Ok(Json(blocking(change).await?.into()))
}

/// Ends the protection of a range: it is deleted when its time comes
#[utoipa::path(
    delete, path = "/api/v1/cameras/{camera}/protections/{id}", tag = "recordings",
    params(("camera" = String, Path, description = "A camera's name"), ("id" = String, Path, description = "The range's id")),
    responses(
        (status = 204, description = "It is not protected any more"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or range"),
    ),
)]
async fn remove(
    State(app): State<Arc<App>>,
    Names((camera, id)): Names<(String, String)>,
) -> Result<StatusCode, Problem> {
    let library = Arc::clone(&app.library);
    blocking(move || library.unprotect(&camera, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Writes to the disk where that may take its time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::internal("the server failed; its log says how"))?
}

fn ordered(from_ns: i64, to_ns: i64) -> Result<(), Problem> {
    if from_ns < to_ns {
        return Ok(());
    }
    let (pointer, detail) = ("#/to".to_owned(), "is not after the beginning".to_owned());
    Err(Problem::invalid(
        "Not a range",
        vec![Fault { pointer, detail }],
    ))
}

/// A body, read field by field.
struct Reading {
    from: Option<i64>,
    to: Option<i64>,
    name: Option<String>,
}

impl Reading {
    fn new(body: &Value, whole: bool) -> Result<Self, Problem> {
        let mut faults = Vec::new();
        let mut fault = |pointer: &str, detail: String| {
            let pointer = pointer.to_owned();
            faults.push(Fault { pointer, detail });
        };
        let mut read = Self {
            from: None,
            to: None,
            name: None,
        };
        let empty = serde_json::Map::new();
        let object = body.as_object().unwrap_or_else(|| {
            fault("#", "is no object".to_owned());
            &empty
        });
        for (key, value) in object {
            match (key.as_str(), value) {
                ("name", Value::Null) => {}
                ("from" | "to", Value::Null) if !whole => {}
                ("from" | "to", value) => match super::params::moment_of(value) {
                    Ok(ns) if key == "from" => read.from = Some(ns),
                    Ok(ns) => read.to = Some(ns),
                    Err(detail) => fault(&format!("#/{key}"), detail),
                },
                ("name", Value::String(name)) => match is_text(name, LONGEST_NAME) {
                    Ok(()) => read.name = Some(name.clone()),
                    Err(detail) => fault("#/name", detail),
                },
                ("name", _) => fault("#/name", "is no text".to_owned()),
                _ => fault(&super::params::pointer(key), "is not known".to_owned()),
            }
        }
        for key in ["from", "to"] {
            if whole && body.is_object() && !object.contains_key(key) {
                fault(&format!("#/{key}"), "is missing".to_owned());
            }
        }
        match faults.is_empty() {
            true => Ok(read),
            false => Err(Problem::invalid("Not a protected range", faults)),
        }
    }
}
