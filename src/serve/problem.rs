//! What a client is told when it does not get what it asked for: `application/problem+json`
//! (RFC 9457, <https://www.rfc-editor.org/rfc/rfc9457>), for every answer of 400 and above, also
//! those that the HTTP library makes by itself.
//!
//! `detail` has the evidence and the next step; it never has a secret, and no path of this machine.
#![deny(unsafe_code)]

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is wrong with a request, or with the machine that should answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// What kind of problem: `/problems/<slug>`. Stable; programs go by it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of this type.
    pub title: String,
    /// The HTTP status, once more.
    pub status: u16,
    /// What happened this time, and what to do.
    pub detail: String,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub instance: Option<Box<str>>,
    /// Which parts of the request are wrong, where it is more than one value.
    #[serde(default, skip_serializing_if = "is_empty")]
    #[schema(value_type = Vec<Fault>)]
    pub errors: Box<[Fault]>,
    /// When to come again, in seconds: the header `Retry-After`.
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<u32>,
}

fn is_empty(faults: &[Fault]) -> bool {
    faults.is_empty()
}

/// Something wrong in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Where in the body: a JSON pointer (RFC 6901) as a URI fragment, `#/markers/3/score`. Of a parameter
    /// of the query: its name.
    pub pointer: String,
    /// What is wrong there, and what would be right.
    pub detail: String,
}

/// The media type of [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The longest text of an answer that is made into a problem.
const LONGEST_DETAIL: usize = 4096;

impl Problem {
    /// `slug` is the end of its type: lower case, with dashes.
    pub fn new(status: StatusCode, slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: None,
            errors: Box::default(),
            retry_after: None,
        }
    }

    /// It may be tried again so many seconds later.
    pub fn after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            ..self
        }
    }

    /// 422: JSON that is understood and cannot be accepted. Each fault says where.
    pub fn invalid(title: &str, faults: Vec<Fault>) -> Self {
        let first = faults.first();
        let detail = first.map_or_else(String::new, |fault| {
            format!("{}: {}", fault.pointer, fault.detail)
        });
        let detail = match faults.len() {
            0 | 1 => detail,
            count => format!("{detail} (and {} more, see errors)", count - 1),
        };
        Self {
            errors: faults.into(),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail)
        }
    }

    /// 400: a parameter or a body that cannot be understood.
    pub fn bad_request(slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, slug, title, detail)
    }

    /// 404: nothing has this name.
    pub fn not_found(slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, slug, title, detail)
    }

    /// 404: neither configured nor recorded.
    pub fn unknown_camera(camera: &str) -> Self {
        let shown: String = camera.chars().take(64).collect();
        let detail = format!(
            "no camera is called {shown:?}, neither in the configuration nor among the recordings; \
             GET /api/v1/cameras lists them"
        );
        Self::not_found("unknown-camera", "Unknown camera", detail)
    }

    /// 503: something that will pass.
    pub fn unavailable(slug: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, title, detail)
    }

    /// 503: `camring serve` runs without a daemon.
    pub fn no_daemon() -> Self {
        Self::unavailable(
            "no-daemon",
            "No daemon",
            "this server runs without the daemon, which alone can do this: start camring run",
        )
    }

    /// 500: what should not happen; the log has more.
    pub fn internal(detail: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "Internal error", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let usual = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        if let Some(seconds) = self.retry_after.or(usual) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes every answer of 400 and above a [`Problem`] with the path that was asked for: also those
/// of the router and of extractors, which are plain text.
pub async fn middleware(request: Request, next: Next) -> Response {
    let instance: String = request.uri().path().chars().take(256).collect();
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    // A page for people is one already.
    let page = response.headers().get(header::CONTENT_TYPE);
    if page.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None => from_text(status, body).await,
    };
    let mut made = Problem {
        instance: Some(instance.into()),
        ..problem
    }
    .into_response();
    // `Allow`, `Retry-After`, `Content-Range` and the like stay.
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            made.headers_mut().insert(name, value.clone());
        }
    }
    made
}

async fn from_text(status: StatusCode, body: Body) -> Problem {
    let bytes = axum::body::to_bytes(body, LONGEST_DETAIL).await;
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (slug, title, usual) = match status {
        StatusCode::NOT_FOUND => (
            "not-found",
            "Not found",
            "nothing is served under this path; GET /api/openapi.json lists what is",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            "method-not-allowed",
            "Method not allowed",
            "this path does not take this method; the Allow header lists those that it takes",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "body-too-large",
            "Body too large",
            "the body is longer than this server takes: send less at a time",
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "unsupported-media-type",
            "Unsupported media type",
            "send JSON, with Content-Type: application/json",
        ),
        status if status.is_server_error() => (
            "internal",
            "Internal error",
            "the server failed; its log says how",
        ),
        _ => ("bad-request", "Bad request", "the request is malformed"),
    };
    let detail = match text {
        Ok(text) if !text.trim().is_empty() => text,
        _ => usual.to_owned(),
    };
    Problem::new(status, slug, title, detail)
}
