//! One picture, or a sheet of many.
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::{
    Wanted, blocking, cache, file_name, headers, is_settled, live, range, select, taken, within,
};
use crate::recording::Tree;
use crate::serve::api::params::{Moment, Names, Params, moment};
use crate::serve::retention::camera_of;
use crate::serve::workers::{Class, Order, Piece};
use crate::serve::{App, Problem, time};
use crate::worker::protocol::{Still, Storyboard, Task};

/// How long a picture may take, its group of pictures decoded.
const PICTURE: Duration = Duration::from_secs(30);
/// A sheet.
const SHEET: Duration = Duration::from_secs(120);
/// The largest picture as a JPEG.
const MOST_BYTES: usize = 64 << 20;
/// The longest range of a storyboard: a week.
const LONGEST_BOARD_S: i64 = 7 * 24 * 3600;
/// The most thumbnails on one sheet.
const MOST_CELLS: u32 = 400;
/// Cameras asked for a live picture at the same time: each holds a thread while it waits.
static LIVE: Semaphore = Semaphore::const_new(16);

/// Which picture, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SnapshotParams {
    /// The moment: the picture that was seen then. Without it, the newest of the live stream.
    #[param(value_type = Option<Moment>)]
    at: Option<String>,
    /// One of the camera's streams; `main` where it has no name.
    stream: Option<String>,
    /// `source`, `720p` …; the largest if not given. Only with `at`.
    rendition: Option<String>,
    /// In pixels, if smaller than the picture; the height follows.
    #[param(minimum = 16, maximum = 8192)]
    width: Option<u32>,
    /// Per cent.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u32>,
}

/// A picture as JPEG: of a moment in the recording, or of now
///
/// `Camring-Frame-Time` says when it was taken.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/snapshot.jpg", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), SnapshotParams),
    responses(
        (status = 200, content_type = "image/jpeg", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing was recorded then"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense, or a picture that cannot be decoded"),
        (status = 500, body = Problem, content_type = "application/problem+json", description = "The decoder crashed"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many requests, or no live picture"),
    ),
)]
pub async fn snapshot(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<SnapshotParams>,
) -> Result<Response, Problem> {
    let still = still(params.width, params.quality)?;
    let at = moment("at", params.at.as_deref())?;
    let wanted = Wanted {
        camera: camera.clone(),
        stream: params.stream,
        rendition: params.rendition,
    };
    let (order, taken_ns, settled) = match at {
        Some(at_ns) => {
            let looking = Arc::clone(&app);
            let found = blocking(move || select::picture(&wanted.find(&looking)?, at_ns)).await?;
            let order = Order {
                class: Class::Still,
                task: Task::Snapshot(still),
                pieces: vec![found.0],
                memory: None,
            };
            (order, found.1, is_settled(at_ns))
        }
        None => {
            let waiting = LIVE.acquire().await;
            let _waiting = waiting.map_err(|_| Problem::internal("no live pictures any more"))?;
            let looking = Arc::clone(&app);
            let live = blocking(move || {
                let mut recorded = Vec::new();
                if looking.site().camera(&wanted.camera).is_none() {
                    let tree = Tree::new(&looking.settings.data_dir);
                    recorded = tree.renditions().map_err(select::disk)?;
                    recorded.retain(|found| camera_of(&found.stream) == wanted.camera);
                }
                let stream = wanted.stream.as_deref();
                let site = looking.site();
                let id = select::stream_id(&site, &recorded, &wanted.camera, stream)?;
                live::newest(&looking.settings.socket, &id, still)
            })
            .await?;
            let order = Order {
                class: Class::Still,
                task: Task::Image(live.image),
                pieces: Vec::new(),
                memory: Some(live.memory),
            };
            (order, live.taken_ns, false)
        }
    };
    let bytes = app.workers.whole(order, MOST_BYTES, PICTURE).await?;
    let mut headers = headers("image/jpeg", settled);
    taken(&mut headers, taken_ns);
    file_name(&mut headers, "inline", &camera, &[taken_ns], "jpg");
    Ok((headers, bytes).into_response())
}

fn still(width: Option<u32>, quality: Option<u32>) -> Result<Still, Problem> {
    let width = width
        .map(|width| within("width", Some(width), 16..=8192, 0))
        .transpose()?;
    let quality = within("quality", quality, 1..=100, 80)?;
    Ok(Still {
        width,
        quality: u8::try_from(quality).unwrap_or(80),
    })
}

/// Which thumbnails.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StoryboardParams {
    /// Beginning of the range.
    #[param(value_type = Moment)]
    from: String,
    /// Its end; a week later at most.
    #[param(value_type = Moment)]
    to: String,
    /// One of the camera's streams; `main` where it has no name.
    stream: Option<String>,
    /// `source`, `720p` …; the largest if not given.
    rendition: Option<String>,
    /// Thumbnails in a row; 10 if not given.
    #[param(minimum = 1, maximum = 100)]
    columns: Option<u32>,
    /// Rows; 10 if not given. 400 thumbnails at most.
    #[param(minimum = 1, maximum = 100)]
    rows: Option<u32>,
    /// Of a thumbnail, in pixels; 160 if not given.
    #[param(minimum = 16, maximum = 640)]
    width: Option<u32>,
    /// Of a thumbnail, in pixels; 9/16 of the width if not given.
    #[param(minimum = 16, maximum = 640)]
    height: Option<u32>,
}

/// What a sheet consists of.
#[derive(Debug)]
struct Board {
    camera: String,
    from_ns: i64,
    to_ns: i64,
    sheet: Storyboard,
    found: Vec<Option<(Piece, i64)>>,
    /// The parameters, for the address of the image.
    query: String,
}

async fn board(app: &Arc<App>, camera: String, params: StoryboardParams) -> Result<Board, Problem> {
    let shorter = "ask for parts of it";
    let (from_ns, to_ns) = range(&params.from, &params.to, LONGEST_BOARD_S, shorter)?;
    let columns = within("columns", params.columns, 1..=100, 10)?;
    let rows = within("rows", params.rows, 1..=100, 10)?;
    within("rows", Some(columns * rows), 1..=MOST_CELLS, 100)?;
    let width = within("width", params.width, 16..=640, 160)?.next_multiple_of(2);
    let usual = (width * 9 / 16).max(16);
    let height = within("height", params.height, 16..=640, usual)?.next_multiple_of(2);
    let mut query = form_urlencoded(&[
        ("from", &time::rfc3339(from_ns)),
        ("to", &time::rfc3339(to_ns)),
        ("columns", &columns.to_string()),
        ("rows", &rows.to_string()),
        ("width", &width.to_string()),
        ("height", &height.to_string()),
    ]);
    for (name, value) in [("stream", &params.stream), ("rendition", &params.rendition)] {
        if let Some(value) = value {
            query.push('&');
            query.push_str(&form_urlencoded(&[(name, value)]));
        }
    }
    let wanted = Wanted {
        camera: camera.clone(),
        stream: params.stream,
        rendition: params.rendition,
    };
    let looking = Arc::clone(app);
    let count = (columns * rows) as usize;
    let found =
        blocking(move || select::keys(&wanted.find(&looking)?, from_ns, to_ns, count)).await?;
    let cells = (0u32..)
        .zip(&found)
        .filter(|(_, cell)| cell.is_some())
        .map(|(place, _)| place)
        .collect();
    Ok(Board {
        camera,
        from_ns,
        to_ns,
        sheet: Storyboard {
            columns,
            rows,
            width,
            height,
            cells,
            quality: 70,
        },
        found,
        query,
    })
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// Thumbnails of a range on one sheet, as JPEG
///
/// The range is divided into as many equal parts as there are places, row by row; in each is a key frame
/// of that part. Where nothing was recorded, the place is grey.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/storyboard.jpg", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), StoryboardParams),
    responses(
        (status = 200, content_type = "image/jpeg", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense"),
        (status = 500, body = Problem, content_type = "application/problem+json", description = "The decoder crashed"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many requests"),
    ),
)]
pub async fn storyboard(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<StoryboardParams>,
) -> Result<Response, Problem> {
    let board = board(&app, camera, params).await?;
    let bytes = sheet(&app, &board).await?;
    let mut headers = headers("image/jpeg", is_settled(board.to_ns));
    let times = [board.from_ns, board.to_ns];
    file_name(&mut headers, "inline", &board.camera, &times, "jpg");
    Ok((headers, bytes).into_response())
}

async fn sheet(app: &Arc<App>, board: &Board) -> Result<Bytes, Problem> {
    let pieces: Vec<Piece> = board
        .found
        .iter()
        .flatten()
        .map(|(piece, _)| piece.clone())
        .collect();
    let key = cache::key(&board.sheet, &pieces);
    let data_dir = app.settings.data_dir.clone();
    let looking = data_dir.clone();
    if let Some(kept) = blocking(move || Ok(cache::get(&looking, key))).await? {
        return Ok(kept);
    }
    let order = Order {
        class: Class::Still,
        task: Task::Storyboard(board.sheet.clone()),
        pieces,
        memory: None,
    };
    let bytes = app.workers.whole(order, MOST_BYTES, SHEET).await?;
    let kept = bytes.clone();
    // The answer does not wait for the disk.
    tokio::task::spawn_blocking(move || cache::put(&data_dir, key, &kept));
    Ok(bytes)
}

/// A sheet, described.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoryboardView {
    /// The sheet, as `GET` gives it.
    image: String,
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
    /// Thumbnails in a row.
    columns: u32,
    /// Rows.
    rows: u32,
    /// Of a thumbnail, in pixels.
    width: u32,
    /// Of a thumbnail, in pixels.
    height: u32,
    /// In order of time, those without a picture left out.
    cells: Vec<CellView>,
}

/// A thumbnail.
#[derive(Debug, Serialize, ToSchema)]
pub struct CellView {
    /// The part of the range that it stands for.
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
    /// When its picture was taken.
    #[schema(format = DateTime)]
    time: String,
    /// Its left edge on the sheet, in pixels.
    x: u32,
    /// Its upper edge.
    y: u32,
}

impl Board {
    fn view(&self) -> StoryboardView {
        StoryboardView {
            image: format!(
                "/api/v1/cameras/{}/storyboard.jpg?{}",
                self.camera, self.query
            ),
            from: time::rfc3339(self.from_ns),
            to: time::rfc3339(self.to_ns),
            columns: self.sheet.columns,
            rows: self.sheet.rows,
            width: self.sheet.width,
            height: self.sheet.height,
            cells: self
                .cells()
                .map(|(place, begin, end, taken)| CellView {
                    from: time::rfc3339(begin),
                    to: time::rfc3339(end),
                    time: time::rfc3339(taken),
                    x: place % self.sheet.columns * self.sheet.width,
                    y: place / self.sheet.columns * self.sheet.height,
                })
                .collect(),
        }
    }

    /// Place, beginning, end and time of each picture.
    fn cells(&self) -> impl Iterator<Item = (u32, i64, i64, i64)> {
        let count = i64::try_from(self.found.len()).unwrap_or(1).max(1);
        let step = (self.to_ns - self.from_ns) / count;
        (0u32..).zip(&self.found).filter_map(move |(place, found)| {
            let begin = self.from_ns + step * i64::from(place);
            Some((place, begin, begin + step, found.as_ref()?.1))
        })
    }
}

/// Says where on a sheet which thumbnail is
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/storyboard.json", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), StoryboardParams),
    responses(
        (status = 200, body = StoryboardView),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The disk cannot be read"),
    ),
)]
pub async fn storyboard_json(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<StoryboardParams>,
) -> Result<Json<StoryboardView>, Problem> {
    Ok(Json(board(&app, camera, params).await?.view()))
}

/// The same as WebVTT, as players take thumbnails
///
/// Times count from `from`; each cue is an address of the sheet with `#xywh=`.
#[utoipa::path(
    get, path = "/api/v1/cameras/{camera}/storyboard.vtt", tag = "media",
    params(("camera" = String, Path, description = "A camera's name"), StoryboardParams),
    responses(
        (status = 200, content_type = "text/vtt", body = String),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "A parameter that is missing or not known"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "Unknown camera or stream, or nothing recorded"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter that makes no sense"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The disk cannot be read"),
    ),
)]
pub async fn storyboard_vtt(
    State(app): State<Arc<App>>,
    Names(camera): Names<String>,
    Params(params): Params<StoryboardParams>,
) -> Result<(HeaderMap, String), Problem> {
    let board = board(&app, camera, params).await?;
    let view = board.view();
    let mut text = String::from("WEBVTT\n");
    for ((_, begin, end, _), cell) in board.cells().zip(&view.cells) {
        let times = [begin, end].map(|at| vtt_time(at - board.from_ns));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{} --> {}\n{}#xywh={},{},{},{}\n",
            times[0], times[1], view.image, cell.x, cell.y, view.width, view.height
        );
    }
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("text/vtt; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    Ok((headers, text))
}

/// `01:02:03.456`
fn vtt_time(ns: i64) -> String {
    let ms = ns.max(0) / 1_000_000;
    let (s, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_cues_have_hours_and_milliseconds() {
        assert_eq!(vtt_time(0), "00:00:00.000");
        assert_eq!(vtt_time(3_723_456_999_999), "01:02:03.456");
        assert_eq!(vtt_time(200 * 3600 * 1_000_000_000), "200:00:00.000");
    }
}
