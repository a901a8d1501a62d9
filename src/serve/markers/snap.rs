//! Which recorded picture a marker means.
//!
//! A marker made from a frame carries that frame's capture time, and the recording has the same time for the
//! same picture: they are compared. A marker can come before its picture is on the disk, by as long as a
//! part lasts; it waits then, and its picture is told over the live feed. A moment between two pictures
//! means the nearest one.
//!
//! Promises: never waits in a request; a marker waits a minute at most.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Marker, table};
use crate::serve::{App, StoreError};

/// The recording has capture times to the µs; clients that calculate with seconds lose another 0.2 µs.
const SAME_NS: u64 = 1_500;
/// A picture nearer than any other must have been written by then.
const SETTLED_NS: i64 = 2_000_000_000;
/// After this a marker means the nearest picture there is, or none.
const PATIENCE_NS: i64 = 60_000_000_000;
/// Between looks while markers wait.
const PAUSE: Duration = Duration::from_millis(200);
/// After a failure of the database.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Markers looked at together.
const AT_ONCE: usize = 1000;

/// What is known about a moment's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is this (capture time, presentation time in the recording), or there is none; that will not change.
    Known(Option<(i64, i64)>),
    /// It may still be written. The nearest so far.
    Wait(Option<(i64, i64)>),
}

/// Wakes the task that looks for pictures.
#[derive(Debug, Default)]
pub struct Snapper(Notify);

impl Snapper {
    /// Markers wait for their pictures.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// What moments of a camera mean, of one of its streams or of any.
///
/// # Errors
/// The database's.
pub async fn look(
    app: &App,
    camera: &str,
    stream: Option<&str>,
    moments: &[i64],
) -> Result<Vec<Seen>, StoreError> {
    let mut places = app.index.of_camera(camera);
    places.retain(|place| stream.is_none_or(|stream| place.stream_name() == stream));
    // What the camera sent, before what was made of it.
    places.sort_by_key(|place| place.rendition.name != crate::recording::Rendition::SOURCE);
    let mut exact: Vec<Option<(i64, i64)>> = vec![None; moments.len()];
    let mut nearest = exact.clone();
    let mut written_ns = i64::MIN;
    for place in &places {
        let frames = app.index.frames_at(place, moments).await?;
        for (at, frame) in frames.into_iter().enumerate() {
            let Some(frame) = frame else { continue };
            let picture = Some((frame.capture_ns, frame.time));
            if exact[at].is_none() && frame.capture_ns.abs_diff(moments[at]) <= SAME_NS {
                exact[at] = picture;
            }
            nearest[at] = nearest[at].or(picture);
        }
        let end = place.edge().minutes.last().map(|minute| minute.end_ns());
        written_ns = written_ns.max(end.unwrap_or(i64::MIN));
    }
    let each = exact.into_iter().zip(nearest).zip(moments);
    Ok(each
        .map(|((exact, nearest), moment)| match exact {
            Some(picture) => Seen::Known(Some(picture)),
            None if places.is_empty() || written_ns > moment.saturating_add(SETTLED_NS) => {
                Seen::Known(nearest)
            }
            None => Seen::Wait(nearest),
        })
        .collect())
}

/// Looks for the pictures of those that wait, until the server ends.
pub async fn run(app: Arc<App>) {
    loop {
        let pause = match settle(&app).await {
            Ok(0) => {
                app.snapper.0.notified().await;
                continue;
            }
            Ok(_) => PAUSE,
            Err(error) => {
                tracing::warn!("markers wait for their pictures: {error}");
                LONG_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Looks once; how many wait on.
async fn settle(app: &Arc<App>) -> Result<usize, StoreError> {
    let waiting = app.store.call(|db| table::unsettled(db, AT_ONCE)).await?;
    let now_ns = crate::sys::clock::realtime_ns();
    let mut groups: BTreeMap<(String, Option<String>), Vec<Marker>> = BTreeMap::new();
    for marker in waiting {
        let key = (marker.camera.clone(), marker.stream.clone());
        groups.entry(key).or_default().push(marker);
    }
    let (mut found, mut left) = (Vec::new(), 0);
    for ((camera, stream), markers) in groups {
        let moments: Vec<i64> = markers.iter().map(|marker| marker.start_ns).collect();
        let seen = look(app, &camera, stream.as_deref(), &moments).await?;
        for (marker, seen) in markers.into_iter().zip(seen) {
            // From the last change: its start may have been moved.
            let late = now_ns.saturating_sub(marker.updated_ns) > PATIENCE_NS
                || now_ns < marker.created_ns.saturating_sub(PATIENCE_NS);
            match seen {
                Seen::Known(frame) => found.push((marker.camera, marker.id, frame)),
                Seen::Wait(frame) if late => found.push((marker.camera, marker.id, frame)),
                Seen::Wait(_) => left += 1,
            }
        }
    }
    if !found.is_empty() {
        let settled = app.store.call(move |db| table::settle(db, &found)).await?;
        for (marker, change) in settled {
            super::tell(app, "updated", change, &marker);
        }
        // There may be more than were looked at together.
        left += 1;
    }
    Ok(left)
}
