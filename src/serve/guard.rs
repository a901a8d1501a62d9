//! What a request must be to reach a handler: meant for this server, and not sent by a foreign web page.
//!
//! A page of another site can make a browser send requests here, also to loopback. It cannot read the
//! answers (CORS), unless its own name is made to resolve to this machine (DNS rebinding): a request
//! whose `Host` is a name that is not ours is refused, where one need not log in. What changes something also needs an `Origin`
//! that is our own or allowed; programs send none.
#![deny(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::access::Identity;
use super::{App, Problem};

/// The longest body, in bytes: a batch of markers.
pub const LONGEST_BODY: usize = 4 << 20;
/// In which it must have come.
const BODY_TIME: Duration = Duration::from_secs(20);
/// The longest body of somebody who is not known: a login.
const LONGEST_LOGIN: usize = 16 << 10;
/// For all bodies at a time, in KiB: read and as JSON values a body takes many times its length.
const BODIES_KIB: usize = 32 << 10;
static BODIES: Semaphore = Semaphore::const_new(BODIES_KIB);
/// For those of people who are not known, apart: they shall not take the room of others.
static LOGINS: Semaphore = Semaphore::const_new(4 << 10);
/// How long a browser need not ask again whether it may.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// Answers web pages of the allowed origins that they may.
pub fn cors(origins: &[String]) -> CorsLayer {
    let known = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(known))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::RANGE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            header::CONTENT_RANGE,
            header::CONTENT_LENGTH,
            header::DATE,
            header::ETAG,
        ])
        .max_age(PREFLIGHT_AGE)
}

/// Refuses what is not meant for us.
pub async fn middleware(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let host = match host(&request) {
        Ok(host) => host,
        Err(problem) => return problem.into_response(),
    };
    let origins = &app.settings.http.cors_origins;
    // Where one must log in, a page with another name has no cookie of ours: any name may lead here.
    if let Some(host) = &host
        && app.access.is_open()
        && !is_ours(host, origins)
    {
        let shown: String = host.chars().take(128).collect();
        let problem = Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host-not-allowed",
            "Host not allowed",
            format!(
                "the request is for {shown:?}, which is not this server's name: use its address, or add \
                 the origin of that name to [http] cors_origins"
            ),
        );
        return problem.into_response();
    }
    if request.method().is_safe() {
        return next.run(request).await;
    }
    if let Err(problem) = check_origin(request.headers(), host.as_deref(), origins) {
        return problem.into_response();
    }
    next.run(request).await
}

/// Reads the body of what changes something: within [`LONGEST_BODY`] and 20 s, so that no handler waits
/// for a slow client, and within what all bodies together may take: whoever comes when that is taken
/// gets 503. Whoever is not known may send as much as a login is, and what no handler takes is not read.
pub async fn bodies(request: Request, next: Next) -> Response {
    let somewhere = request.extensions().get::<MatchedPath>().is_some();
    if request.method().is_safe() || !somewhere {
        return next.run(request).await;
    }
    let known = request.extensions().get::<Identity>().is_some();
    let (bodies, longest) = match known {
        true => (&BODIES, LONGEST_BODY),
        false => (&LOGINS, LONGEST_LOGIN),
    };
    let _room = match room(bodies, request.body().size_hint().upper(), longest) {
        Ok(room) => room,
        Err(problem) => return problem.into_response(),
    };
    match whole(request, longest).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// `Host`, or the authority of the request line, which stands above it (RFC 9112, 3.2.2).
fn host(request: &Request) -> Result<Option<String>, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.to_string()));
    }
    let malformed = || {
        Problem::bad_request(
            "bad-host",
            "Bad Host",
            "one Host header is needed, and it must be text",
        )
    };
    let mut all = request.headers().get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        // HTTP/1.0 has none, and no browser speaks it.
        (None, _) => Ok(None),
        (Some(host), None) => Ok(Some(host.to_str().map_err(|_| malformed())?.to_owned())),
        _ => Err(malformed()),
    }
}

/// Whether `Host` can be a name of this server: an address (no rebinding without a name), a loopback
/// name, this machine's name, or the host of an allowed origin.
pub(super) fn is_ours(host: &str, origins: &[String]) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    let allowed = origins.iter().any(|origin| {
        (origin.split_once("://"))
            .is_some_and(|(_, host)| without_port(host).eq_ignore_ascii_case(&name))
    });
    literal.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || allowed
        || rustix::system::uname()
            .nodename()
            .to_str()
            .is_ok_and(|machine| {
                let machine = machine.to_ascii_lowercase();
                !machine.is_empty() && (name == machine || name == format!("{machine}.local"))
            })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

pub(super) fn check_origin(
    headers: &HeaderMap,
    host: Option<&str>,
    origins: &[String],
) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Browsers that send no Origin still say where a request comes from.
        return match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            Some(b"cross-site") => Err(foreign("another site")),
            _ => Ok(()),
        };
    };
    let origin = origin.to_str().unwrap_or_default();
    let same = host.is_some_and(|host| {
        origin.split_once("://").is_some_and(|(scheme, of)| {
            matches!(scheme, "http" | "https") && of.eq_ignore_ascii_case(host)
        })
    });
    match same || origins.iter().any(|allowed| allowed == origin) {
        true => Ok(()),
        false => Err(foreign(&origin.chars().take(128).collect::<String>())),
    }
}

fn foreign(origin: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin-not-allowed",
        "Origin not allowed",
        format!(
            "a web page of {origin:?} may not change anything here: add its origin to [http] cors_origins"
        ),
    )
}

/// Room for a body of at most this many bytes (`None`: it does not say), until it is answered.
fn room(
    bodies: &Semaphore,
    announced: Option<u64>,
    longest: usize,
) -> Result<SemaphorePermit<'_>, Problem> {
    let most = longest as u64;
    let kib = announced
        .map_or(most, |bytes| bytes.min(most))
        .div_ceil(1024);
    let permit = bodies.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX));
    permit.map_err(|_| {
        let detail = "many large bodies are being read at this moment: try again in some seconds";
        Problem::unavailable("busy", "Too much at once", detail)
    })
}

async fn whole(request: Request, longest: usize) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_long = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "Body too large",
            format!("the body is longer than {longest} bytes: send less at a time"),
        )
    };
    if announced.is_some_and(|length| length > longest as u64) {
        return Err(too_long());
    }
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, longest)).await;
    match read {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error);
            match cause.is_some_and(|cause| cause.to_string().contains("length limit")) {
                true => Err(too_long()),
                false => Err(Problem::bad_request(
                    "bad-body",
                    "Bad body",
                    "the body broke off or is malformed",
                )),
            }
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "Body too slow",
            format!("the body had not come after {} s", BODY_TIME.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_ours_is_no_host_of_ours() {
        let origins = ["https://wall.example".to_owned()];
        for ours in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "192.0.2.7",
            "wall.example",
            "wall.example:8443",
            "a.localhost",
        ] {
            assert!(is_ours(ours, &origins), "{ours}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "",
            ":80",
        ] {
            assert!(!is_ours(foreign, &origins), "{foreign}");
        }
    }

    #[test]
    fn all_bodies_together_have_a_limit_too() {
        let bodies = Semaphore::new(2 * LONGEST_BODY / 1024);
        let room = |announced| room(&bodies, announced, LONGEST_BODY);
        let held = [Some(1 << 40), None].map(|announced| room(announced).unwrap());
        let refused = room(Some(1)).unwrap_err();
        assert_eq!(refused.status, 503);
        // What has no body is not held up.
        assert!(room(Some(0)).is_ok());
        drop(held);
        assert!(room(Some(1)).is_ok());
    }

    #[test]
    fn only_our_own_and_allowed_pages_may_change_something() {
        let origins = ["https://wall.example".to_owned()];
        let check = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            check_origin(&headers, Some("127.0.0.1:8080"), &origins).is_ok()
        };
        assert!(check("origin", "http://127.0.0.1:8080"));
        assert!(check("origin", "https://wall.example"));
        assert!(check("x-other", "y"));
        assert!(check("sec-fetch-site", "same-origin"));
        assert!(!check("origin", "http://127.0.0.1:9090"));
        assert!(!check("origin", "null"));
        assert!(!check("origin", "https://wall.example.evil.example"));
        assert!(!check("sec-fetch-site", "cross-site"));
    }
}
