//! What every answer tells browsers not to do, whatever made it.
//!
//! Promises: no answer is taken for something else than it says, none can be framed by another page, none
//! runs a script that is not of this origin; where one must log in, no cache on the way keeps anything.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{App, access};

/// For pages. hls.js makes its worker and its media source from blobs, and pictures are shown as blobs.
pub const PAGE: &str = "default-src 'none'; script-src 'self'; worker-src 'self' blob:; style-src 'self'; \
                        img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; \
                        font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// For everything else.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";
/// Cameras and microphones are elsewhere; a wall may be shown on a whole screen.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), display-capture=(), usb=(), \
                           payment=(), fullscreen=(self), picture-in-picture=(self)";
/// A year, for this name only.
const HSTS: &str = "max-age=31536000";

/// What the listener's own answers say, which no router makes: sentences for those who cannot be served.
pub const WITHOUT_A_ROUTER: &str = "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\
                                    X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
                                    Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\n";

/// Adds them.
pub async fn middleware(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let tls = access::peer(&request).tls;
    let is_api = request.uri().path().starts_with("/api/v1/");
    let is_asset = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let unchanged = response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    // A browser replaces what it kept by the headers of a 304, which says nothing of its kind: the policy of
    // data would block the page that it is for.
    if !unchanged {
        set(
            header::CONTENT_SECURITY_POLICY,
            if is_page { PAGE } else { DATA },
        );
    }
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("permissions-policy"), PERMISSIONS);
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    // Pages that may use the API may also show its pictures.
    if app.settings.http.cors_origins.is_empty() {
        set(
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        );
    }
    if tls {
        set(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    let cache = headers
        .get(header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok());
    let instead = match cache {
        None if is_api => Some("no-store".to_owned()),
        Some(cache)
            if !is_asset
                && !app.access.is_open()
                && !cache.contains("no-store")
                && !cache.contains("private") =>
        {
            Some(format!("private, {cache}"))
        }
        _ => None,
    };
    if let Some(value) = instead.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    response
}
