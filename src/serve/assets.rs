//! The dashboard, as built into the program.
//!
//! Names of built files carry a hash of their content, so they may be kept for ever; `index.html` is
//! asked for again each time, and answered by its ETag.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;

use super::App;

const PLACEHOLDER: &str = "<!doctype html><title>camring</title><p>This program was built without \
its dashboard. The API is described at <a href=\"/api/openapi.json\">/api/openapi.json</a>.";

/// `/` and what it loads.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .route("/", get(index))
        .route("/assets/{*path}", get(asset))
}

async fn index() -> Html<&'static str> {
    Html(PLACEHOLDER)
}

async fn asset(Path(_path): Path<String>, _headers: HeaderMap) -> Response {
    StatusCode::NOT_FOUND.into_response()
}
