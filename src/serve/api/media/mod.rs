//! Pictures and clips: of what is recorded, and of what is seen now. The work is done by
//! [`crate::serve::workers`].
#![deny(unsafe_code)]

mod cache;
mod clips;
mod live;
mod select;
mod stills;

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::recording::Rendition;
use crate::serve::{App, Fault, Problem, time};
use crate::sys::clock;

/// When the picture in an answer was taken.
const FRAME_TIME: HeaderName = HeaderName::from_static("camring-frame-time");

/// Pictures this old do not change any more; younger ones may be followed by later ones with earlier
/// times.
const SETTLED_NS: i64 = 60_000_000_000;

/// This area's routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(stills::snapshot))
        .routes(routes!(stills::storyboard))
        .routes(routes!(stills::storyboard_json))
        .routes(routes!(stills::storyboard_vtt))
        .routes(routes!(clips::preview_mp4))
        .routes(routes!(clips::preview_gif))
        .routes(routes!(clips::export))
}

/// A number that must lie between others.
fn within(
    name: &str,
    given: Option<u32>,
    allowed: RangeInclusive<u32>,
    usual: u32,
) -> Result<u32, Problem> {
    let value = given.unwrap_or(usual);
    if allowed.contains(&value) {
        return Ok(value);
    }
    let (least, most) = allowed.into_inner();
    let pointer = name.to_owned();
    let detail = format!("{value} is not between {least} and {most}");
    Err(Problem::invalid(
        "Out of range",
        vec![Fault { pointer, detail }],
    ))
}

/// A range that is not longer than a limit.
fn range(from: &str, to: &str, longest_s: i64, instead: &str) -> Result<(i64, i64), Problem> {
    let (from_ns, to_ns) = super::params::range(from, to)?;
    if to_ns - from_ns <= longest_s * 1_000_000_000 {
        return Ok((from_ns, to_ns));
    }
    let detail = format!(
        "the range is {} s long, {longest_s} s is the most; {instead}",
        (to_ns - from_ns) / 1_000_000_000
    );
    let pointer = "to".to_owned();
    Err(Problem::invalid(
        "Too long a range",
        vec![Fault { pointer, detail }],
    ))
}

/// Work that reads the disk, or waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Problem::internal("looking into the recordings failed")))
}

/// What of a camera is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    camera: String,
    stream: Option<String>,
    rendition: Option<String>,
}

impl Wanted {
    /// Which rendition that is. Reads the disk.
    fn find(&self, app: &App) -> Result<Rendition, Problem> {
        let data_dir = &app.settings.data_dir;
        let (stream, rendition) = (self.stream.as_deref(), self.rendition.as_deref());
        select::rendition(data_dir, &app.site(), &self.camera, stream, rendition)
    }
}

/// Headers of an answer with media in it.
fn headers(kind: &'static str, settled: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let cache = match settled {
        true => "private, max-age=3600",
        false => "no-cache",
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers
}

/// Says when a picture was taken.
fn taken(headers: &mut HeaderMap, taken_ns: i64) {
    if let Ok(value) = HeaderValue::from_str(&time::rfc3339(taken_ns)) {
        headers.insert(FRAME_TIME, value);
    }
}

/// What a browser saves an answer as.
fn file_name(
    headers: &mut HeaderMap,
    disposition: &str,
    camera: &str,
    times: &[i64],
    ending: &str,
) {
    let mut name = camera.to_owned();
    for ns in times {
        let compact: String = time::rfc3339_ms(ns.div_euclid(1_000_000))
            .chars()
            .filter(|c| c.is_ascii_alphanumeric())
            .collect();
        name.push('_');
        name.push_str(&compact);
    }
    name.retain(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let text = format!("{disposition}; filename=\"{name}.{ending}\"");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
}

/// Whether nothing will be added at this time any more.
fn is_settled(at_ns: i64) -> bool {
    clock::realtime_ns().saturating_sub(at_ns) > SETTLED_NS
}
