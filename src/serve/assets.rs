//! The dashboard, as built into the program from `web/dist`.
//!
//! Names of built files carry a hash of their content, so they may be kept for ever; everything else is
//! asked for again each time, and answered by its ETag. A page of the dashboard is any path that its own
//! router knows: all of them are `index.html`. A program built without the dashboard says how to build it.
//!
//! What browsers may do with them: `headers.rs`.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use utoipa_axum::router::OpenApiRouter;

use super::App;

/// What `npm run build` in `web/` made; in debug builds, too: the server's sandbox reads no folder of
/// sources.
#[derive(RustEmbed)]
#[folder = "web/dist"]
struct Built;

const NOT_BUILT: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>camring</title>\n\
<h1>This camring was built without its dashboard</h1>\n\
<p>In a checkout of the sources, with Node.js 18 or newer:</p>\n\
<pre>npm --prefix web ci\nnpm --prefix web run build\ncargo build --release</pre>\n\
<p><code>./run</code> does all of it. The API works without: \
<a href=\"/api/openapi.json\">/api/openapi.json</a>.</p></html>\n";

/// `/`, the dashboard's other pages, and what they load.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .route("/", get(page))
        .route("/recordings", get(page))
        .route("/camera/{name}", get(page))
        .route("/favicon.svg", get(icon))
        .route("/assets/{*path}", get(asset))
}

async fn page(headers: HeaderMap) -> Response {
    match Built::get("index.html") {
        Some(file) => answer(file, "text/html; charset=utf-8", false, &headers),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [
                (CONTENT_TYPE, "text/html; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
            ],
            NOT_BUILT,
        )
            .into_response(),
    }
}

async fn icon(headers: HeaderMap) -> Response {
    match Built::get("favicon.svg") {
        Some(file) => answer(file, "image/svg+xml", false, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // No way out of what is embedded, whatever rust-embed checks.
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match Built::get(&format!("assets/{path}")) {
        Some(file) => answer(file, media_type(&path), true, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

fn answer(file: EmbeddedFile, kind: &str, for_ever: bool, headers: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
    // Weak: the same content may be sent compressed.
    let tag = format!("W/\"{hex}\"");
    let cache = if for_ever {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|each| each.trim() == tag));
    let common = [(ETAG, tag.as_str()), (CACHE_CONTROL, cache)];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(CONTENT_TYPE, kind)], file.data).into_response()
}
