//! All routes, and what every request goes through before it reaches one.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::{App, access, api, assets, audit, dash, guard, headers, hls, metrics, problem};

#[derive(OpenApi)]
#[openapi(info(
    title = "camring",
    description = "Cameras, recordings, markers, playlists of one site. Errors are \
                   application/problem+json (RFC 9457)."
))]
struct Description;

/// Everything that is served.
pub fn all(app: Arc<App>) -> Router {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(hls::routes())
        .merge(dash::routes())
        .merge(api::cameras::routes())
        .merge(api::markers::routes())
        .merge(api::recordings::routes())
        .merge(api::timeline::routes())
        .merge(api::protections::routes())
        .merge(api::health::routes())
        .merge(api::events::routes())
        .merge(api::media::routes())
        .merge(metrics::routes())
        .merge(api::session::routes())
        .merge(api::audit::routes())
        .merge(assets::routes())
        .split_for_parts();
    router
        .merge(api::openapi::routes(description))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        // The last one stands before the others.
        .layer(middleware::from_fn(guard::bodies))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            access::middleware,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::middleware,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            audit::middleware,
        ))
        .layer(guard::cors(&app.settings.http.cors_origins))
        .layer(middleware::from_fn(problem::middleware))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            headers::middleware,
        ))
        // Outside of what rewrites answers, which could not read compressed ones.
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .compress_when(text_only()),
        )
        // Outside of all: what is refused is counted, too.
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            metrics::middleware,
        ))
        .with_state(app)
}

/// Media is compressed already, and its length and ranges must stay.
fn text_only() -> impl Predicate {
    DefaultPredicate::new()
        .and(NotForContentType::const_new("video/"))
        .and(NotForContentType::const_new("audio/"))
}
