//! A range as a short clip to look at, or as a file to keep.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Wanted, blocking, file_name, headers, range, select, taken, within};
use crate::serve::api::params::{Moment, Names, Params};
use crate::serve::workers::{Class, Order, Piece};
use crate::serve::{App, Problem, time};
use crate::worker::protocol::{Cut, Export, Preview, PreviewFormat, Task};

/// A preview's range: a day.
const LONGEST_PREVIEW_S: i64 = 24 * 3600;
/// Of longer ranges only key frames are looked at.
const ALL_PICTURES_S: i64 = 120;
/// An export as recorded: a day.
const LONGEST_COPY_S: i64 = 24 * 3600;
/// An export encoded anew: that takes a core for as long.
const LONGEST_RECODE_S: i64 = 3600;

/// Which clip.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewParams {
    /// Beginning of the range.
    #[param(value_type = Moment)]
    from: String,
    /// Its end; a day later at most.
    #[param(value_type = Moment)]
    to: String,
    /// One of the camera's streams; `main` where it has no name.
    stream: Option<String>,
    /// `source`, `720p` …; the largest if not given.
    rendition: Option<String>,
    /// In pixels; 320 if not given.
    #[param(minimum = 16, maximum = 640)]
    width: Option<u32>,
    /// Pictures a second; 8 if not given.
    #[param(minimum = 1, maximum = 15)]
    fps: Option<u32>,
    /// How long the clip is at most: longer ranges are shown faster. 5 if not given.
    #[param(minimum = 1, maximum = 15)]
    seconds: Option<u32>,
}

async fn preview(
    app: Arc<App>,
    camera: String,
    params: PreviewParams,
    format: PreviewFormat,
) -> Result<Response, Problem> {
    let shorter = "ask for parts of it";
    let (from_ns, to_ns) = range(&params.from, &params.to, LONGEST_PREVIEW_S, shorter)?;
    let width = within("width", params.width, 16..=640, 320)?;
    let fps = within("fps", params.fps, 1..=15, 8)?;
    let seconds = within("seconds", params.seconds, 1..=15, 5)?;
    let wanted = Wanted {
        camera: camera.clone(),
        stream: params.stream,
        rendition: params.rendition,
    };
    let looking = Arc::clone(&app);
    let (pieces, preview) = blocking(move || {
        let rendition = wanted.find(&looking)?;
        let keys_only = to_ns - from_ns > ALL_PICTURES_S * 1_000_000_000;
        let (pieces, picks) = match keys_only {
            true => {
                let count = (fps * seconds) as usize;
                let found = select::keys(&rendition, from_ns, to_ns, count)?;
                let mut found: Vec<(Piece, i64)> = found.into_iter().flatten().collect();
                // A key frame that is on the screen for long is shown once.
                found.dedup_by_key(|(_, taken)| *taken);
                let picks = found.iter().map(|(_, taken)| *taken).collect();
                (found.into_iter().map(|(piece, _)| piece).collect(), picks)
            }
            false => {
                let stretch = select::stretch(&rendition, from_ns, to_ns)?;
                let picks = stretch
                    .taken
                    .map_or(Vec::new(), |taken| picks(taken, fps, seconds));
                (stretch.pieces, picks)
            }
        };
        let preview = Preview {
            format,
            width,
            fps,
            picks,
            keys_only,
        };
        match pieces.is_empty() {
            false => Ok((pieces, preview)),
            true => Err(nothing(from_ns, to_ns)),
        }
    })
    .await?;
    let taken_ns = preview.picks.first().copied();
    let order = Order {
        class: Class::Clip,
        task: Task::Preview(preview),
        pieces,
        memory: None,
    };
    let body = app.workers.stream(order).await?;
    let (kind, ending) = match format {
        PreviewFormat::Mp4 => ("video/mp4", "mp4"),
        PreviewFormat::Gif => ("image/gif", "gif"),
    };
    let mut headers = headers(kind, super::is_settled(to_ns));
    if let Some(taken_ns) = taken_ns {
        taken(&mut headers, taken_ns);
    }
    file_name(&mut headers, "inline", &camera, &[from_ns, to_ns], ending);
    Ok((headers, body).into_response())
}

/// When the pictures of a clip are taken: as many as it has room for, at its speed or faster.
fn picks((first, last): (i64, i64), fps: u32, seconds: u32) -> Vec<i64> {
    let most = i64::from(fps * seconds);
    let real = (last - first) / (1_000_000_000 / i64::from(fps)) + 1;
    let count = real.clamp(1, most);
    let step = match real > most {
        true => (last - first) / most,
        false => 1_000_000_000 / i64::from(fps),
    };
    (0..count).map(|index| first + index * step).collect()
}

fn nothing(from_ns: i64, to_ns: i64) -> Problem {
    let detail = format!(
        "nothing was recorded from {} to {}; GET timeline says where there is something",
        time::rfc3339(from_ns),
        time::rfc3339(to_ns)
    );
    Problem::not_found("not-recorded", "Not recorded", detail)
}

/// A range as a short clip, MP4
///
/// Without sound; longer ranges are shown faster. Gaps are left out.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/preview.mp4", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), PreviewParams),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense, or nothing that can be decoded"),
        (status = 500, body = Problem, content_type = "application/problem+json", description = "The decoder crashed"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many requests"),
    ),
)]
pub async fn preview_mp4(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<PreviewParams>,
) -> Result<Response, Problem> {
    preview(app, camera, params, PreviewFormat::Mp4).await
}

/// A range as a short clip, animated GIF
///
/// As the MP4, for programs that show nothing else.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/preview.gif", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), PreviewParams),
    responses(
        (status = 200, content_type = "image/gif", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense, or nothing that can be decoded"),
        (status = 500, body = Problem, content_type = "application/problem+json", description = "The decoder crashed"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many requests"),
    ),
)]
pub async fn preview_gif(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<PreviewParams>,
) -> Result<Response, Problem> {
    preview(app, camera, params, PreviewFormat::Gif).await
}

/// Where a file begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutParam {
    /// As recorded, without loss and without work: from the key frame before on, which players pass
    /// over.
    #[default]
    Gop,
    /// Encoded anew: nothing in it was taken before or after the range.
    Frame,
}

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// Beginning of the range.
    #[param(value_type = Moment)]
    from: String,
    /// Its end, not included; a day later at most, with `cut=frame` an hour.
    #[param(value_type = Moment)]
    to: String,
    /// One of the camera's streams; `main` where it has no name.
    stream: Option<String>,
    /// `source`, `720p` …; the largest if not given.
    rendition: Option<String>,
    /// Where it begins and ends; `gop` if not given.
    #[serde(default)]
    #[param(inline)]
    cut: CutParam,
    /// With sound, where it was recorded.
    #[serde(default = "yes")]
    #[param(default = true)]
    audio: bool,
}

fn yes() -> bool {
    true
}

/// A range as one MP4 file
///
/// Sent while it is made, so its length is not known before; a client that sees the connection end
/// without an end of the body has not got all of it. Gaps are closed up. With `cut=gop`, a range in which
/// the camera's parameters change (another picture size, another profile) is refused: that needs
/// `cut=frame`, or the parts apart. `Camring-Frame-Time` says when the first picture was taken.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/export.mp4", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), ExportParams),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense, or parameters that change inside the range"),
        (status = 500, body = Problem, content_type = "application/problem+json", description = "The decoder crashed"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many requests"),
    ),
)]
pub async fn export(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<ExportParams>,
) -> Result<Response, Problem> {
    let (cut, longest, instead) = match params.cut {
        CutParam::Gop => (Cut::Gop, LONGEST_COPY_S, "ask for parts of it"),
        CutParam::Frame => (
            Cut::Frame,
            LONGEST_RECODE_S,
            "ask for parts of it, or for cut=gop",
        ),
    };
    let (from_ns, to_ns) = range(&params.from, &params.to, longest, instead)?;
    let wanted = Wanted {
        camera: camera.clone(),
        stream: params.stream,
        rendition: params.rendition,
    };
    let looking = Arc::clone(&app);
    let stretch =
        blocking(move || select::stretch(&wanted.find(&looking)?, from_ns, to_ns)).await?;
    let Some((first_ns, _)) = stretch.taken else {
        return Err(nothing(from_ns, to_ns));
    };
    if let (Cut::Gop, Some(change)) = (cut, stretch.changes.first()) {
        let detail = format!(
            "the camera's parameters change at {}: ask for cut=frame, or for the parts before and \
             after",
            time::rfc3339(*change)
        );
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "parameters-change",
            "Parameters change inside the range",
            detail,
        ));
    }
    let order = Order {
        class: Class::Clip,
        task: Task::Export(Export {
            cut,
            audio: params.audio,
        }),
        pieces: stretch.pieces,
        memory: None,
    };
    let body = app.workers.stream(order).await?;
    let mut headers = headers("video/mp4", false);
    taken(&mut headers, first_ns);
    file_name(
        &mut headers,
        "attachment",
        &camera,
        &[from_ns, to_ns],
        "mp4",
    );
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_as_fast_as_life_or_faster() {
        let second = 1_000_000_000;
        let slow = picks((0, 2 * second), 8, 5);
        assert_eq!((slow.len(), slow[1]), (17, second / 8));
        let fast = picks((0, 100 * second), 8, 5);
        assert_eq!((fast.len(), fast[1]), (40, 100 * second / 40));
        assert_eq!(picks((5, 5), 8, 5), [5]);
    }
}
