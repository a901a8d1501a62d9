//! A marker out of a body: every fault is named, with the JSON pointer of where it is.
//!
//! Promises: no body makes it panic; what it returns is within all limits.
#![deny(unsafe_code)]

use serde_json::{Map, Value};

use crate::serve::api::params::{is_text, moment_of, pointer};
use crate::serve::{Fault, Problem};

/// In characters.
pub const LONGEST_LABEL: usize = 128;
/// Of `data`, as JSON text, in bytes.
pub const MAX_DATA: usize = 16 << 10;
/// From start to end: a day, in ns.
pub const MAX_LENGTH: i64 = 24 * 3600 * 1_000_000_000;
/// Markers in one request.
pub const MAX_BATCH: usize = 1000;
/// Faults that are told of one request.
const MAX_FAULTS: usize = 32;
/// How much a box may reach over the picture's edge: rounding.
const SLACK: f64 = 1e-6;

/// A marker to be stored. Times are UTC in ns since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewMarker {
    /// As the client wants to name it.
    pub id: Option<String>,
    /// See [`super::Marker`].
    pub stream: Option<String>,
    /// See [`super::Marker`].
    pub start_ns: i64,
    /// See [`super::Marker`].
    pub end_ns: Option<i64>,
    /// See [`super::Marker`].
    pub label: String,
    /// See [`super::Marker`].
    pub score: Option<f64>,
    /// See [`super::Marker`].
    pub region: Option<[f64; 4]>,
    /// See [`super::Marker`].
    pub data: Option<Value>,
    /// Not read: its picture, where it is known, and whether that is the last word.
    pub seen: Option<super::Seen>,
}

/// What is to change: `None` stays, `Some(None)` goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// See [`super::Marker`].
    pub start_ns: Option<i64>,
    /// See [`super::Marker`].
    pub end_ns: Option<Option<i64>>,
    /// See [`super::Marker`].
    pub label: Option<String>,
    /// See [`super::Marker`].
    pub stream: Option<Option<String>>,
    /// See [`super::Marker`].
    pub score: Option<Option<f64>>,
    /// See [`super::Marker`].
    pub region: Option<Option<[f64; 4]>>,
    /// See [`super::Marker`].
    pub data: Option<Option<Value>>,
}

/// What is wrong, collected.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, pointer: String, detail: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            let detail = detail.into();
            self.0.push(Fault { pointer, detail });
        }
    }

    fn result<T>(self, read: T) -> Result<T, Problem> {
        match self.0.is_empty() {
            true => Ok(read),
            false => Err(Problem::invalid("Not a marker", self.0)),
        }
    }
}

/// One marker, or `{"markers": […]}`; true: a batch.
///
/// # Errors
/// 422, with all faults.
pub fn batch(body: &Value) -> Result<(Vec<NewMarker>, bool), Problem> {
    let mut faults = Faults::default();
    let Some(list) = body.get("markers") else {
        let marker = new_marker(body, "#", &mut faults);
        return faults.result((vec![marker], false));
    };
    for key in body.as_object().map(Map::keys).into_iter().flatten() {
        if key != "markers" {
            faults.add(pointer(key), "is not known beside markers");
        }
    }
    let list = list.as_array().map_or(&[][..], |list| {
        if list.is_empty() {
            faults.add("#/markers".into(), "is empty: send at least one");
        }
        list
    });
    if !body["markers"].is_array() {
        faults.add("#/markers".into(), "is no list");
    }
    if list.len() > MAX_BATCH {
        let detail = format!(
            "has {} markers: {MAX_BATCH} is the most at a time",
            list.len()
        );
        faults.add("#/markers".into(), detail);
        return faults.result((Vec::new(), true));
    }
    let numbered = list.iter().enumerate();
    let read: Vec<NewMarker> = numbered
        .map(|(at, value)| new_marker(value, &format!("#/markers/{at}"), &mut faults))
        .collect();
    let mut ids: Vec<(&String, usize)> = (read.iter().enumerate())
        .filter_map(|(at, marker)| Some((marker.id.as_ref()?, at)))
        .collect();
    ids.sort();
    for pair in ids.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let pointer = format!("#/markers/{}/id", pair[1].1);
        faults.add(pointer, format!("is the id of #/markers/{} too", pair[0].1));
    }
    faults.result((read, true))
}

/// One marker.
///
/// # Errors
/// 422, with all faults.
pub fn one(body: &Value) -> Result<NewMarker, Problem> {
    let mut faults = Faults::default();
    let marker = new_marker(body, "#", &mut faults);
    faults.result(marker)
}

fn new_marker(value: &Value, at: &str, faults: &mut Faults) -> NewMarker {
    let mut marker = NewMarker::default();
    let mut begun = false;
    let Some(object) = value.as_object() else {
        faults.add(at.to_owned(), "is no object");
        return marker;
    };
    for key in ["start", "label"] {
        if !object.contains_key(key) {
            faults.add(format!("{at}/{key}"), "is missing");
        }
    }
    for (key, value) in object {
        let at = || format!("{at}{}", &pointer(key)[1..]);
        let mut check = |result: Result<(), String>| {
            if let Err(detail) = result {
                faults.add(at(), detail);
            }
        };
        match key.as_str() {
            "start" => check(moment_of(value).map(|ns| (marker.start_ns, begun) = (ns, true))),
            "label" => check(label(value).map(|label| marker.label = label)),
            "id" => check(optional(value, id).map(|id| marker.id = id)),
            "stream" => check(optional(value, stream).map(|name| marker.stream = name)),
            "end" => check(optional(value, moment_of).map(|ns| marker.end_ns = ns)),
            "score" => check(optional(value, score).map(|score| marker.score = score)),
            "box" => check(optional(value, region).map(|region| marker.region = region)),
            "data" => check(optional(value, data).map(|data| marker.data = data)),
            _ => faults.add(at(), format!("is not known: {KNOWN}")),
        }
    }
    // Without a start there is nothing to measure from; 1970 is one.
    if begun && let Err(detail) = length(marker.start_ns, marker.end_ns) {
        faults.add(format!("{at}/end"), detail);
    }
    marker
}

const KNOWN: &str = "id, stream, start, end, label, score, box, data are";

/// Changes, as a JSON merge patch (RFC 7396): what is null goes.
///
/// # Errors
/// 422, with all faults.
pub fn patch(body: &Value) -> Result<Patch, Problem> {
    let mut faults = Faults::default();
    let mut patch = Patch::default();
    let empty = Map::new();
    let object = body.as_object().unwrap_or_else(|| {
        faults.add("#".into(), "is no object");
        &empty
    });
    for (key, value) in object {
        let mut check = |result: Result<(), String>| {
            if let Err(detail) = result {
                faults.add(pointer(key), detail);
            }
        };
        match key.as_str() {
            "start" => check(moment_of(value).map(|ns| patch.start_ns = Some(ns))),
            "label" => check(label(value).map(|label| patch.label = Some(label))),
            "stream" => check(optional(value, stream).map(|name| patch.stream = Some(name))),
            "end" => check(optional(value, moment_of).map(|ns| patch.end_ns = Some(ns))),
            "score" => check(optional(value, score).map(|score| patch.score = Some(score))),
            "box" => check(optional(value, region).map(|region| patch.region = Some(region))),
            "data" => check(optional(value, data).map(|data| patch.data = Some(data))),
            "id" => faults.add(
                pointer(key),
                "cannot be changed: delete the marker, and make another",
            ),
            _ => faults.add(pointer(key), format!("is not known: {KNOWN}")),
        }
    }
    faults.result(patch)
}

/// Whether a marker may last so long.
///
/// # Errors
/// Why not.
pub fn length(start_ns: i64, end_ns: Option<i64>) -> Result<(), String> {
    match end_ns {
        Some(end) if end < start_ns => Err("is before the start".to_owned()),
        Some(end) if end - start_ns > MAX_LENGTH => {
            Err("is more than a day after the start: make several markers".to_owned())
        }
        _ => Ok(()),
    }
}

fn optional<T>(
    value: &Value,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match value {
        Value::Null => Ok(None),
        value => read(value).map(Some),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "is no text".to_owned())
}

fn label(value: &Value) -> Result<String, String> {
    let label = text(value)?;
    is_text(label, LONGEST_LABEL).map(|()| label.to_owned())
}

/// What may stand in a path without escapes.
fn id(value: &Value) -> Result<String, String> {
    let id = text(value)?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match (1..=64).contains(&id.len()) && id.bytes().all(known) {
        true => Ok(id.to_owned()),
        false => Err("is no id: 1 to 64 of A-Z a-z 0-9 - _".to_owned()),
    }
}

fn stream(value: &Value) -> Result<String, String> {
    let name = text(value)?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=63).contains(&name.len()) && name.bytes().all(known) {
        true => Ok(name.to_owned()),
        false => Err("is no stream's name: 1 to 63 of A-Z a-z 0-9 - _ .".to_owned()),
    }
}

fn score(value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| "is no number".to_owned())
}

fn region(value: &Value) -> Result<[f64; 4], String> {
    const WRONG: &str =
        "is no box: four numbers from 0 to 1, x, y, width, height, as parts of the picture";
    let list = value.as_array().ok_or(WRONG)?;
    let numbers: Vec<f64> = list.iter().filter_map(Value::as_f64).collect();
    let region: [f64; 4] = match numbers.try_into() {
        Ok(region) if list.len() == 4 => region,
        _ => return Err(WRONG.to_owned()),
    };
    if !region.iter().all(|number| (0.0..=1.0).contains(number)) {
        return Err(WRONG.to_owned());
    }
    match region[0] + region[2] <= 1.0 + SLACK && region[1] + region[3] <= 1.0 + SLACK {
        true => Ok(region),
        false => {
            Err("reaches out of the picture: x + width and y + height are at most 1".to_owned())
        }
    }
}

fn data(value: &Value) -> Result<Value, String> {
    // Written once to be counted: cheap beside the body's own limit.
    let length = value.to_string().len();
    match length <= MAX_DATA {
        true => Ok(value.clone()),
        false => Err(format!("is {length} bytes of JSON: {MAX_DATA} is the most")),
    }
}
