//! Logging in and out, and who one is.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::Body;
use crate::config::Role;
use crate::serve::access::{self, Identity, Kind, LONGEST_SESSION, Peer};
use crate::serve::audit::Actor;
use crate::serve::{App, Problem, time};
use crate::sys::clock;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(who, log_in, log_out))
}

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    /// Whether one must log in to see anything.
    required: bool,
    /// The user's or the token's; not there where nobody is logged in, or nobody needs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `open` (there are no users), `user` or `token`; not there where nobody is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    kind: Option<&'static str>,
    /// `viewer`, `operator` or `admin`; not there where nobody is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// When the session ends, if it is not used before; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl Session {
    fn of(app: &App, identity: Option<&Identity>) -> Self {
        let left = identity.and_then(|identity| match &identity.kind {
            Kind::Session(id) => app.access.left(id),
            _ => None,
        });
        let end = |left: std::time::Duration| {
            let now = i64::try_from(clock::unix_ms()).unwrap_or(0);
            time::rfc3339_ms(now + left.as_millis() as i64)
        };
        Self {
            required: !app.access.is_open(),
            name: identity
                .map(|who| who.name.clone())
                .filter(|name| !name.is_empty()),
            kind: identity.map(|who| who.kind.name()),
            role: identity.map(|who| who.role),
            expires: left.map(end),
        }
    }
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The user's.
    #[schema(max_length = 1024)]
    name: String,
    /// The user's.
    #[schema(max_length = 1024)]
    password: String,
}

/// Tells who one is
///
/// Also for those who are not logged in.
#[utoipa::path(
    get, path = "/api/v1/session", tag = "session",
    responses((status = 200, body = Session)),
)]
async fn who(State(app): State<Arc<App>>, identity: Option<Extension<Identity>>) -> Json<Session> {
    Json(Session::of(&app, identity.as_deref()))
}

/// Logs in
///
/// The answer sets a cookie, for browsers: HttpOnly, SameSite=Strict, and Secure where the page came by
/// HTTPS. A session ends after 12 hours without a request, and after 7 days. Programs use tokens.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session",
    request_body = Credentials,
    responses(
        (status = 200, body = Session, description = "Logged in"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "The name or the password is wrong"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "There are no users: everybody may do everything"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The body is no login"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "Wrong too often; Retry-After says how long to wait"),
    ),
)]
async fn log_in(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    actor: Option<Extension<Actor>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    // The message of a wrong body could repeat what is in it.
    let Ok(Credentials { name, password }) = serde_json::from_value(body) else {
        let detail = "send {\"name\": \"…\", \"password\": \"…\"}, and nothing else";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "invalid", "Not a login", detail));
    };
    if app.access.is_open() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "no-users",
            "No users",
            "there are no users: everybody who reaches this server may do everything",
        ));
    }
    // People type passwords into the wrong field: only names that exist are written down.
    if let Some(actor) = actor
        && app.access.knows(&name)
    {
        actor.tried(&name);
    }
    let peer = peer.map_or_else(|| access::peer(&Request::default()), |Extension(peer)| peer);
    let client = access::client(&headers, peer);
    let (identity, secret) = app.access.log_in(&name, &password, client).await?;
    app.access
        .log_out(&headers, &access::cookie_name(&app, false), peer);
    let mut response = Json(Session::of(&app, Some(&identity))).into_response();
    let age = LONGEST_SESSION.as_secs();
    set_cookies(&app, &mut response, is_secure(&headers, peer), &secret, age);
    Ok(response)
}

/// Logs out
///
/// Ends the session of the cookie, and takes the cookie away. No error where there is none.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    responses((status = 204, description = "Nobody is logged in with this cookie any more")),
)]
async fn log_out(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let peer = peer.map_or_else(|| access::peer(&Request::default()), |Extension(peer)| peer);
    app.access
        .log_out(&headers, &access::cookie_name(&app, false), peer);
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookies(&app, &mut response, is_secure(&headers, peer), "", 0);
    response
}

/// Whether the browser reached us by HTTPS, perhaps through another web server.
fn is_secure(headers: &HeaderMap, peer: Peer) -> bool {
    let origin = headers.get(header::ORIGIN);
    peer.tls || origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn set_cookies(app: &App, response: &mut Response, secure: bool, secret: &str, age: u64) {
    let name = access::cookie_name(app, secure);
    let end = if secure { "; Secure" } else { "" };
    let text = format!("{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{end}");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
