//! Cameras: list, change, start, stop.
#![deny(unsafe_code)]

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::serve::App;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
}
