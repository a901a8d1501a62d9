//! `POST /api/v1/probe`: what a camera offers and sends, before it is added.
//!
//! `camring probe` in a process of its own: what comes from a camera is not parsed here. The URL, which may
//! have a password, reaches it through a pipe: no command line and no environment has it. Few at a time, each
//! for a limited time.
#![deny(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::child::Running;
use super::params::Body;
use crate::serve::{App, Fault, Problem};

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(probe))
}

/// Probes at a time.
static PROBES: Semaphore = Semaphore::const_new(2);
/// Each stage of a connection has its own limit; this is for all of them.
const LONGEST: Duration = Duration::from_secs(60);
/// More than a report is.
const LONGEST_REPORT: u64 = 256 << 10;
/// Longer than any camera's; fits into a pipe that nobody reads.
const LONGEST_URL: usize = crate::cmd::probe::LONGEST_URL;
/// How long to receive, in seconds.
const USUAL_SECONDS: u64 = 3;
const MOST_SECONDS: u64 = 20;

/// What to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(clippy::allow_attributes, dead_code, reason = "describes the body")]
pub struct ProbeSettings {
    /// `rtsp://…`
    #[schema(example = "rtsp://192.0.2.10/stream1")]
    url: String,
    username: Option<String>,
    password: Option<String>,
    /// `tcp`, `udp`, `multicast`, `http`.
    transport: Option<String>,
    /// `auto`, `retina`, `ffmpeg`.
    client: Option<String>,
    tls_verify: Option<bool>,
    /// How long to receive, 1 to 20 seconds; 3 without it.
    seconds: Option<u64>,
}

/// Contacts a camera and says what it offers and sends
///
/// The report is that of `camring probe --json`.
#[utoipa::path(
    post, path = "/api/v1/probe", tag = "cameras",
    request_body = ProbeSettings,
    responses(
        (status = 200, body = Object, description = "What it offers and sends"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be accepted (`errors` says which), or the camera cannot be read (`/problems/camera-failed`)"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Other cameras are being looked at"),
    ),
)]
async fn probe(Body(body): Body) -> Result<Json<Value>, Problem> {
    let arguments = arguments(&body)?;
    let _place = PROBES.try_acquire().map_err(|_| {
        Problem::unavailable(
            "busy",
            "Busy",
            "other cameras are being looked at: try again in some seconds",
        )
    })?;
    let failed = |error: io::Error| {
        tracing::warn!("probe: {error}");
        Problem::internal("the camera could not be looked at; the log says why")
    };
    let words = ["probe", "--json", "--log", "error", "-"].map(str::to_owned);
    let words = words.into_iter().chain(arguments.options);
    let mut running = Running::start("camring: probe", words, &arguments.url).map_err(failed)?;
    let Ok(report) = timeout(LONGEST, running.report(LONGEST_REPORT)).await else {
        return Err(camera_failed("it took longer than a minute".to_owned()));
    };
    let report: Value = serde_json::from_slice(&report.map_err(failed)?)
        .map_err(|_| camera_failed("the probe ended without a report".to_owned()))?;
    if report["ok"] == true {
        return Ok(Json(report));
    }
    let failure = &report["failure"];
    let text = |key: &str| failure[key].as_str().unwrap_or_default();
    let mut detail = format!("{}: {}", text("stage"), text("error"));
    if !text("hint").is_empty() {
        detail.push_str(&format!(" ({})", text("hint")));
    }
    Err(camera_failed(detail))
}

fn camera_failed(detail: String) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "camera-failed", "The camera cannot be read", detail)
}

/// What a probe is started with.
pub(in crate::serve) struct Arguments {
    url: String,
    options: Vec<String>,
}

pub(in crate::serve) fn arguments(body: &Value) -> Result<Arguments, Problem> {
    let mut faults = Vec::new();
    let mut fault = |key: &str, detail: &str| {
        let (pointer, detail) = (format!("#/{key}"), detail.to_owned());
        faults.push(Fault { pointer, detail });
    };
    let mut options = Vec::new();
    let mut url = None;
    let empty = serde_json::Map::new();
    let keys = body.as_object().unwrap_or(&empty);
    let mut login = (None, None);
    let mut seconds = USUAL_SECONDS;
    for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
        let word = |allowed: &[&str]| value.as_str().filter(|word| allowed.contains(word));
        match key.as_str() {
            "url" => match value.as_str().map(Url::parse) {
                Some(Ok(parsed)) if parsed.host_str().is_some_and(|host| !host.is_empty()) => {
                    url = Some(parsed);
                }
                _ => fault(key, "must be a URL such as rtsp://192.0.2.10/stream1"),
            },
            "username" | "password" => match (value.as_str(), key.as_str()) {
                (Some(text), "username") => login.0 = Some(text),
                (Some(text), _) => login.1 = Some(text),
                (None, _) => fault(key, "must be text"),
            },
            "transport" => match word(&["tcp", "udp", "multicast", "http"]) {
                Some(word) => options.extend(["--transport".to_owned(), word.to_owned()]),
                None => fault(key, "must be \"tcp\", \"udp\", \"multicast\" or \"http\""),
            },
            "client" => match word(&["auto", "retina", "ffmpeg"]) {
                Some(word) => options.extend(["--client".to_owned(), word.to_owned()]),
                None => fault(key, "must be \"auto\", \"retina\" or \"ffmpeg\""),
            },
            "tls_verify" => match value.as_bool() {
                Some(true) => {}
                Some(false) => options.push("--no-tls-verify".to_owned()),
                None => fault(key, "must be true or false"),
            },
            "seconds" => match value.as_u64().filter(|n| (1..=MOST_SECONDS).contains(n)) {
                Some(number) => seconds = number,
                None => fault(key, "must be a whole number from 1 to 20"),
            },
            _ => fault(&super::params::pointer(key)[2..], "is not known"),
        }
    }
    if keys.get("url").is_none_or(Value::is_null) {
        fault("url", "is missing");
    }
    if let Some(url) = &mut url {
        if !matches!(url.scheme(), "rtsp" | "rtsps") {
            fault("url", "must begin with rtsp:// or rtsps://");
        }
        // The password of somebody who is not named leads nowhere.
        let set = login.0.is_none_or(|user| url.set_username(user).is_ok());
        let set = set
            && login
                .1
                .is_none_or(|word| url.set_password(Some(word)).is_ok());
        if !set {
            fault("url", "cannot have a user and a password");
        }
        if url.as_str().len() > LONGEST_URL {
            fault("url", "is too long");
        }
    }
    options.extend(["--seconds".to_owned(), seconds.to_string()]);
    match url {
        Some(url) if faults.is_empty() => Ok(Arguments {
            url: url.into(),
            options,
        }),
        _ => Err(Problem::invalid("Not a camera", faults)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(body: Value) -> Vec<String> {
        match arguments(&body) {
            Ok(_) => Vec::new(),
            Err(problem) => problem.errors.into_iter().map(|e| e.pointer).collect(),
        }
    }

    #[test]
    fn every_fault_is_named() {
        let bad = json!({"url": "http://h/", "transport": "pigeon", "seconds": 0, "passwort": "x"});
        let mut named = faults(bad);
        named.sort();
        assert_eq!(named, ["#/passwort", "#/seconds", "#/transport", "#/url"]);
        assert_eq!(faults(json!([])), ["#/url"]);
        assert_eq!(faults(json!({"url": 5})), ["#/url"]);
        assert_eq!(faults(json!({"url": "rtsp:///x"})), ["#/url"]);
        let long = format!("rtsp://h/{}", "x".repeat(LONGEST_URL));
        assert_eq!(faults(json!({ "url": long })), ["#/url"]);
    }

    #[test]
    fn a_login_goes_into_the_url_and_nowhere_else() {
        let body = json!({"url": "rtsp://h/a", "username": "u@x", "password": "p/${HOME}"});
        let arguments = arguments(&body).ok().unwrap();
        assert_eq!(arguments.url, "rtsp://u%40x:p%2F$%7BHOME%7D@h/a");
        assert_eq!(arguments.options, ["--seconds", "3"]);
    }
}
