//! `/api/openapi.json`: the description of the API, generated from its handlers.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::http::header;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::OpenApi;

use crate::serve::App;

/// The description is fixed when the program is built.
pub fn routes(description: OpenApi) -> Router<Arc<App>> {
    let description = Arc::new(description);
    let answer = move || async move {
        (
            [(header::CACHE_CONTROL, "no-cache")],
            Json((*description).clone()),
        )
    };
    Router::new().route("/api/openapi.json", get(answer))
}
