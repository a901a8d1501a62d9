//! Markers: what was seen, and when, exact to the picture.
//!
//! ```text
//! read    a marker out of a body, with every fault named
//! table   markers in the database, and the log of their changes that the live feed resumes from
//! snap    which recorded picture a marker means; the picture may be written later than the marker
//! ```
//!
//! Promises: a batch is stored whole or not at all; what was answered with 201 is in the database; sent
//! again with the same id, a marker is the one there is. At most [`MAX_OF_CAMERA`] of a camera are kept.
#![deny(unsafe_code)]

mod read;
mod snap;
mod table;

use serde_json::{Value, json};

pub use read::{
    LONGEST_LABEL, MAX_BATCH, MAX_DATA, MAX_LENGTH, NewMarker, Patch, batch, one, patch,
};
pub use snap::{Seen, Snapper, look, run as run_snapper};
pub use table::{Cursor, Filter, Stored, between, change_numbers, changes, delete, delete_range};
pub use table::{cameras, expire, get, insert, list, patch as store_patch, settle, unsettled};

use crate::serve::{App, time};

/// Of one camera; further ones are refused.
pub const MAX_OF_CAMERA: i64 = 1_000_000;
/// Changes that the live feed can resume from.
pub const KEPT_CHANGES: i64 = 10_000;

/// A marker, as it is stored. Times are UTC in ns since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// Names it, at its camera.
    pub id: String,
    /// The camera.
    pub camera: String,
    /// The camera's stream that it was made from, where said.
    pub stream: Option<String>,
    /// When: the capture time of a frame, or any moment.
    pub start_ns: i64,
    /// Until when, where it lasts.
    pub end_ns: Option<i64>,
    /// What.
    pub label: String,
    /// How sure.
    pub score: Option<f64>,
    /// Where in the picture: x, y, width, height, of the whole.
    pub region: Option<[f64; 4]>,
    /// Anything.
    pub data: Option<Value>,
    /// The recorded picture that it means: capture time, and presentation time in the recording.
    pub frame: Option<(i64, i64)>,
    /// Whether that will not change any more.
    pub settled: bool,
    /// When it came.
    pub created_ns: i64,
    /// When it was changed last.
    pub updated_ns: i64,
}

impl Marker {
    /// As it is shown.
    pub fn json(&self) -> Value {
        let mut shown = json!({
            "id": self.id,
            "camera": self.camera,
            "start": time::rfc3339(self.start_ns),
            "label": self.label,
            "created": time::rfc3339(self.created_ns),
            "updated": time::rfc3339(self.updated_ns),
        });
        let mut add = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(object)) = (value, shown.as_object_mut()) {
                object.insert(name.to_owned(), value);
            }
        };
        add("stream", self.stream.clone().map(Value::from));
        add("end", self.end_ns.map(|ns| time::rfc3339(ns).into()));
        add("score", self.score.map(Value::from));
        add("box", self.region.map(|region| region.to_vec().into()));
        add("data", self.data.clone());
        add(
            "frame_time",
            self.frame.map(|(ns, _)| time::rfc3339(ns).into()),
        );
        add("pts", self.frame.map(|(_, pts)| pts.into()));
        shown
    }
}

/// Tells the live feed of a change. `what`: `created`, `updated`.
pub fn tell(app: &App, what: &str, change: i64, marker: &Marker) {
    let data =
        json!({ "what": what, "camera": marker.camera, "id": marker.id, "marker": marker.json() });
    app.tell("marker", Some(change), data);
}

/// Tells the live feed that one is gone.
pub fn tell_deleted(app: &App, change: i64, camera: &str, id: &str) {
    let data = json!({ "what": "deleted", "camera": camera, "id": id });
    app.tell("marker", Some(change), data);
}

#[cfg(test)]
mod tests;
