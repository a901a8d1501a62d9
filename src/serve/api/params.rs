//! What handlers of several areas take from a request: times, names of cameras, JSON bodies.
#![deny(unsafe_code)]

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::serve::retention::camera_of;
use crate::serve::{App, Fault, Problem, time};

/// How a moment is described: RFC 3339, or Unix seconds with decimals.
#[derive(Debug)]
pub struct Moment;

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339, to the nanosecond"));
        let number = ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(0))
            .maximum(Some(time::MAX_SECONDS))
            .description(Some("Unix seconds, with decimals"));
        AnyOfBuilder::new().item(text).item(number).into()
    }
}

impl ToSchema for Moment {}

/// A parameter that is a moment.
pub fn moment(name: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let read = text.map(time::parse).transpose();
    read.map_err(|detail| {
        let pointer = name.to_owned();
        Problem::invalid("Not a time", vec![Fault { pointer, detail }])
    })
}

/// `from` and `to`, where both are needed; the end is after the beginning.
pub fn range(from: &str, to: &str) -> Result<(i64, i64), Problem> {
    let from_ns = moment("from", Some(from))?.unwrap_or_default();
    let to_ns = moment("to", Some(to))?.unwrap_or_default();
    match from_ns < to_ns {
        true => Ok((from_ns, to_ns)),
        false => {
            let detail = format!("{to} is not after {from}, where the range begins");
            let pointer = "to".to_owned();
            Err(Problem::invalid(
                "Not a range",
                vec![Fault { pointer, detail }],
            ))
        }
    }
}

/// Whether a text is fit for people to read: not empty, not too long, nothing that controls a terminal.
pub fn is_text(text: &str, longest: usize) -> Result<(), String> {
    let count = text.chars().count();
    if count == 0 || text.trim().is_empty() {
        return Err("is empty: write some words".to_owned());
    }
    if count > longest {
        return Err(format!("is {count} characters long: {longest} is the most"));
    }
    match text.chars().any(char::is_control) {
        true => Err("has control characters: write it on one line, without escapes".to_owned()),
        false => Ok(()),
    }
}

/// The query, with every parameter known and given once.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|rejection: QueryRejection| {
            let source = std::error::Error::source(&rejection).map(ToString::to_string);
            let detail = source.unwrap_or_else(|| rejection.to_string());
            Problem::bad_request("bad-query", "Bad query", detail)
        })?;
        Ok(Self(query))
    }
}

/// A JSON body, not looked into yet.
#[derive(Debug)]
pub struct Body(pub Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        // The most that reaches a handler is set by the guard.
        let read = axum::Json::<Value>::from_request(request, state).await;
        let axum::Json(value) = read.map_err(|rejection| match rejection {
            JsonRejection::MissingJsonContentType(_) => Problem::new(
                axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type",
                "send JSON, with Content-Type: application/json",
            ),
            other => {
                let source = std::error::Error::source(&other).map(ToString::to_string);
                let detail = source.unwrap_or_else(|| other.to_string());
                Problem::bad_request("bad-json", "Not JSON", detail)
            }
        })?;
        Ok(Self(value))
    }
}

/// Names from the path.
#[derive(Debug)]
pub struct Names<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;
    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|_| {
            Problem::not_found("not-found", "Not found", "a name in this path is not UTF-8")
        })?;
        Ok(Self(path))
    }
}

/// Refuses a camera that is neither configured nor recorded nor spoken of.
pub async fn known_camera(app: &std::sync::Arc<App>, camera: &str) -> Result<(), Problem> {
    if app.site().camera(camera).is_some() {
        return Ok(());
    }
    let (app, name) = (std::sync::Arc::clone(app), camera.to_owned());
    let looked = tokio::task::spawn_blocking(move || {
        app.library.cameras().contains(&name) || is_recorded(&app, &name)
    });
    match looked.await {
        Ok(true) => Ok(()),
        _ => Err(Problem::unknown_camera(camera)),
    }
}

fn is_recorded(app: &App, camera: &str) -> bool {
    let renditions = app.retention.tree().renditions().unwrap_or_default();
    let mut streams = renditions.iter().map(|rendition| &rendition.stream);
    streams.any(|stream| camera_of(stream) == camera)
}

/// A moment in a body: text or a number.
pub fn moment_of(value: &Value) -> Result<i64, String> {
    match value {
        Value::String(text) => time::parse(text),
        Value::Number(number) => time::from_seconds(number.as_f64().unwrap_or(f64::NAN)),
        _ => Err("is no time: write RFC 3339 text, or Unix seconds as a number".to_owned()),
    }
}

/// Of a member of the body's object: RFC 6901, as a URI fragment; cut where it is long.
pub fn pointer(key: &str) -> String {
    let mut pointer = "#/".to_owned();
    for character in key.chars().take(64) {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c if c.is_ascii_alphanumeric() || "-._".contains(c) => pointer.push(c),
            c => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    pointer.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    pointer
}
