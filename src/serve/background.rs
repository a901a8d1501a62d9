//! What the server does unasked: retention.
#![deny(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::api::recordings::disk_now;
use super::retention::{Look, STUCK_PAUSE};
use super::{App, markers};

/// Starts all of it; it ends with the set.
pub fn start(app: &Arc<App>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(retention(Arc::clone(app)));
    tasks.spawn(markers::run_snapper(Arc::clone(app)));
    tasks
}

/// Passes, until the server ends.
async fn retention(app: Arc<App>) {
    let mut told = String::new();
    loop {
        let shared = Arc::clone(&app);
        let passed = tokio::task::spawn_blocking(move || {
            let app = shared;
            let protected = app.library.protected();
            let (done, pause) = app.retention.pass(Look::now(), protected);
            for (minute, reason) in &done.deleted {
                let (stream, name) = (&minute.rendition.stream, &minute.name);
                tracing::debug!("deleted {stream} {name}: {reason:?}");
            }
            (pause, done.deleted.len())
        });
        let (pause, deleted) = passed.await.unwrap_or((STUCK_PAUSE, 0));
        let state = app.retention.state();
        let trouble = [state.trouble, state.last_error].into_iter().flatten();
        let says = trouble.collect::<Vec<_>>().join("; ");
        if says != told && !says.is_empty() {
            tracing::warn!("retention: {says}");
        }
        if deleted > 0 || says != told {
            let disk = serde_json::to_value(disk_now(&app)).unwrap_or_default();
            app.tell("disk", None, disk);
        }
        told = says;
        tokio::time::sleep(pause.max(Duration::from_millis(100))).await;
    }
}
