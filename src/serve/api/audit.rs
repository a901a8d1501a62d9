//! Who changed what, for administrators.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::Params;
use crate::serve::audit::Entry;
use crate::serve::{App, Fault, Problem};

/// Without `limit`.
const USUAL: u32 = 100;
/// In one answer.
const MOST: u32 = 1000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// At most so many, 1 to 1000; usually 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only those with a smaller number than this: the last number of the page before.
    #[param(minimum = 0)]
    before: Option<i64>,
}

/// The log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditLog {
    /// The newest first.
    entries: Vec<Entry>,
}

/// Lists who changed what
///
/// Also what was refused, at most 60 of those a minute. Bodies and queries are not in it. What is older
/// than the last 16 MiB is gone.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit",
    params(AuditParams),
    responses(
        (status = 200, body = AuditLog),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be accepted"),
    ),
)]
async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<AuditParams>,
) -> Result<Json<AuditLog>, Problem> {
    let limit = params.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        let fault = Fault {
            pointer: "limit".into(),
            detail: format!("must be from 1 to {MOST}"),
        };
        return Err(Problem::invalid("Bad parameter", vec![fault]));
    }
    let before = params.before.map(u64::try_from).transpose();
    let before = before.map_err(|_| {
        let fault = Fault {
            pointer: "before".into(),
            detail: "must not be negative".into(),
        };
        Problem::invalid("Bad parameter", vec![fault])
    })?;
    let read = tokio::task::spawn_blocking(move || app.audit.read(before, limit as usize));
    let entries = read
        .await
        .map_err(|_| Problem::internal("the log could not be read"))?;
    Ok(Json(AuditLog { entries }))
}
