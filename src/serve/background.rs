//! What the server does unasked: retention, pictures of markers, samples of health, news of cameras.
//!
//! Promises: nothing here ends the server, or makes a request wait.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::api::recordings::disk_now;
use super::retention::{Look, STUCK_PAUSE, camera_of};
use super::{App, health, markers};
use crate::sys::clock;

/// Between looks at the daemon's status, while somebody listens to events.
const LISTENED: Duration = Duration::from_secs(1);
/// Between samples of health.
const SAMPLES: Duration = Duration::from_secs(health::SAMPLE_S as u64);
/// Between makings of coarser samples.
const COARSE: Duration = Duration::from_secs(health::COARSE_S as u64);
/// Between deletions of markers whose recordings are gone.
const EXPIRE: Duration = Duration::from_secs(60);
/// Markers deleted in one call of the database.
const AT_ONCE: usize = 5000;

/// Starts all of it; it ends with the set.
pub fn start(app: &Arc<App>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(retention(Arc::clone(app)));
    tasks.spawn(markers::run_snapper(Arc::clone(app)));
    tasks.spawn(watch(Arc::clone(app)));
    tasks.spawn(expire(Arc::clone(app)));
    tasks
}

/// Passes, until the server ends.
async fn retention(app: Arc<App>) {
    let mut told = String::new();
    loop {
        let shared = Arc::clone(&app);
        let passed = tokio::task::spawn_blocking(move || {
            let app = shared;
            let protected = || app.library.protected();
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

/// Looks at the daemon's status: tells what has changed, and keeps samples.
async fn watch(app: Arc<App>) {
    let mut known: HashMap<(String, &str), Value> = HashMap::new();
    let mut sampler = health::Sampler::default();
    let (mut sample_due, mut coarse_due) = (Instant::now(), Instant::now());
    let mut since = 0;
    loop {
        let due = Instant::now() >= sample_due;
        if due || app.events.receiver_count() > 0 {
            // Without a daemon there is nothing to say.
            if let Ok(status) = app.attach.status().await {
                tell_changes(&app, &status, &mut known);
                if due {
                    let samples = sampler.samples(&status, clock::boot_ns());
                    let now = clock::realtime_ns() / 1_000_000_000;
                    let stored = app.store.call(move |db| health::store(db, now, &samples));
                    if let Err(error) = stored.await {
                        tracing::debug!("health is not sampled: {error}");
                    }
                }
            }
        }
        if due {
            sample_due = Instant::now() + SAMPLES;
        }
        if Instant::now() >= coarse_due {
            let now = clock::realtime_ns() / 1_000_000_000;
            let tidied = app.store.call(move |db| health::tidy(db, now, since)).await;
            // At the start of all there is, then of what came since; one span more, for those that end late.
            since = now - 2 * health::COARSE_S;
            if let Err(error) = tidied {
                tracing::debug!("health is not tidied: {error}");
            }
            coarse_due = Instant::now() + COARSE;
        }
        tokio::time::sleep(LISTENED).await;
    }
}

/// Tells of each stream whose state, or whose recording's state, is another than before.
fn tell_changes(app: &App, status: &Value, known: &mut HashMap<(String, &'static str), Value>) {
    let cameras = status["cameras"].as_array().map_or(&[][..], Vec::as_slice);
    let mut seen = HashMap::new();
    for camera in cameras {
        let Some(stream) = camera["name"].as_str() else {
            continue;
        };
        for (name, of) in [("camera", camera), ("recording", &camera["recording"])] {
            let state = of["state"].clone();
            let key = (stream.to_owned(), name);
            if known.get(&key).is_some_and(|before| *before != state) {
                let news = json!({
                    "camera": camera_of(stream), "stream": stream, "state": state,
                    "reason": of["reason"], "since": of["since"],
                });
                app.tell(name, None, news);
            }
            seen.insert(key, state);
        }
    }
    *known = seen;
}

/// Deletes markers whose recordings retention has deleted.
async fn expire(app: Arc<App>) {
    loop {
        tokio::time::sleep(EXPIRE).await;
        let library = Arc::clone(&app.library);
        let protected = tokio::task::spawn_blocking(move || library.protected()).await;
        let Ok(Ok(protected)) = protected else {
            continue;
        };
        let (state, limits) = (app.retention.state(), app.retention.limits());
        if state.passes == 0 {
            continue;
        }
        let now_ms = clock::realtime_ns() / 1_000_000;
        let keep_ms = i64::try_from(limits.keep.as_millis()).unwrap_or(i64::MAX);
        let aged = state
            .age_paused
            .is_none()
            .then(|| now_ms.saturating_sub(keep_ms));
        let Ok(cameras) = app.store.call(markers::cameras).await else {
            continue;
        };
        for camera in cameras {
            let oldest = state.oldest.get(&camera).copied();
            let before_ms = match (oldest, aged) {
                // What came before the oldest recording was deleted for want of space.
                (Some(oldest), _) if state.thinned.contains(&camera) => oldest,
                (Some(oldest), Some(aged)) => oldest.min(aged),
                (None, Some(aged)) => aged,
                (_, None) => continue,
            };
            let ranges: Vec<(i64, i64)> = (protected.of(&camera).iter())
                .map(|(from, to)| (from.saturating_mul(1_000_000), to.saturating_mul(1_000_000)))
                .collect();
            loop {
                let (name, kept) = (camera.clone(), ranges.clone());
                let before_ns = before_ms.saturating_mul(1_000_000);
                let gone = app
                    .store
                    .call(move |db| markers::expire(db, &name, (0, before_ns), &kept, AT_ONCE));
                match gone.await {
                    Ok(gone) if gone == AT_ONCE => tokio::task::yield_now().await,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!("markers of {camera} are not deleted: {error}");
                        break;
                    }
                }
            }
        }
    }
}
