//! Media out of files: whole byte ranges of them, and what a client wants of these (`Range`).
//!
//! Promises: a range that is not there any more is 404, not a broken answer: its first bytes are read before
//! anything is said. A file is read as the client takes it, [`STEP`] bytes at a time.
#![deny(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;

use super::Problem;

/// How much is read at a time.
const STEP: u64 = 256 << 10;
/// What never changes under its name, as long as one does not start to record anew from nothing.
pub const FOR_AN_HOUR: &str = "max-age=3600, immutable";
/// What is named by its content.
pub const FOR_EVER: &str = "max-age=31536000, immutable";

/// A piece of a file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Which file.
    pub path: PathBuf,
    /// Of the first byte.
    pub offset: u64,
    /// Bytes; `None`: to its end.
    pub len: Option<u64>,
    /// For its `ETag`, without quotes: unique among all that this path of the server ever names.
    pub tag: String,
    /// `Cache-Control`.
    pub cache: &'static str,
    /// `Content-Type`.
    pub media_type: &'static str,
}

/// Answers with a piece of a file, or with what the request wants of it. `None`: it is not there.
pub async fn piece(piece: Piece, headers: &HeaderMap) -> Result<Option<Response>, Problem> {
    let tag = format!("\"{}\"", piece.tag);
    let mut answer = HeaderMap::new();
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    answer.insert(header::ETAG, text(&tag));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(piece.cache));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if matches(headers, &tag) {
        return Ok(Some((StatusCode::NOT_MODIFIED, answer).into_response()));
    }
    answer.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(piece.media_type),
    );
    let opened = {
        let piece = piece.clone();
        tokio::task::spawn_blocking(move || open(&piece)).await
    };
    let (file, len) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Ok(Err(error)) => {
            tracing::warn!("{}: {error}", piece.path.display());
            return Err(Problem::internal(
                "the recording cannot be read; the log says why",
            ));
        }
        Err(_) => return Err(Problem::internal("the server is ending")),
    };
    let wanted = match range(headers, &tag, len) {
        Ranged::Whole => {
            answer.insert(header::CONTENT_LENGTH, len.into());
            let body = body(file, piece.offset, len);
            return Ok(Some((StatusCode::OK, answer, body).into_response()));
        }
        Ranged::None => {
            let detail =
                format!("this has {len} bytes, and the Range header asks for none of them");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let problem = Problem::new(status, "no-such-range", "Range not satisfiable", detail);
            let mut response = problem.into_response();
            let all = text(&format!("bytes */{len}"));
            response.headers_mut().insert(header::CONTENT_RANGE, all);
            return Ok(Some(response));
        }
        Ranged::Part(from, to) => (from, to),
    };
    let (from, to) = wanted;
    answer.insert(header::CONTENT_LENGTH, (to - from).into());
    answer.insert(
        header::CONTENT_RANGE,
        text(&format!("bytes {from}-{}/{len}", to - 1)),
    );
    let body = body(file, piece.offset + from, to - from);
    Ok(Some(
        (StatusCode::PARTIAL_CONTENT, answer, body).into_response(),
    ))
}

/// Whether the client has it already.
pub fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let Some(Ok(known)) = headers.get(header::IF_NONE_MATCH).map(HeaderValue::to_str) else {
        return false;
    };
    let mut tags = known.split(',').map(str::trim);
    // Weak comparison: RFC 9110, 13.1.2.
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/"))
}

fn open(piece: &Piece) -> io::Result<(File, u64)> {
    let file = File::open(&piece.path)?;
    let there = file.metadata()?.len();
    let len = piece.len.unwrap_or(there.saturating_sub(piece.offset));
    match piece
        .offset
        .checked_add(len)
        .is_some_and(|end| end <= there)
    {
        true => Ok((file, len)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn body(file: File, offset: u64, len: u64) -> Body {
    let file = Arc::new(file);
    let steps = stream::unfold((file, offset, len), |(file, offset, left)| async move {
        if left == 0 {
            return None;
        }
        let step = left.min(STEP);
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(step).unwrap_or(0)];
            reader.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        });
        let read: io::Result<Bytes> = read
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        // After an error nothing follows: the connection is cut, and the client sees it.
        let left = if read.is_ok() { left - step } else { 0 };
        Some((read, (file, offset + step, left)))
    });
    Body::from_stream(steps)
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranged {
    Whole,
    /// From here to there, the end not included.
    Part(u64, u64),
    None,
}

/// What the client wants. Several ranges at once, or what cannot be understood, is all of it (RFC 9110,
/// 14.2).
pub(super) fn range(headers: &HeaderMap, tag: &str, len: u64) -> Ranged {
    let Some(Ok(range)) = headers.get(header::RANGE).map(HeaderValue::to_str) else {
        return Ranged::Whole;
    };
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|known| known.as_bytes() != tag.as_bytes())
    {
        return Ranged::Whole;
    }
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Ranged::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are beyond any end.
        true if !text.is_empty() => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        _ => None,
    };
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            None => Ranged::Whole,
            Some(0) => Ranged::None,
            Some(last) if len > 0 => Ranged::Part(len.saturating_sub(last), len),
            Some(_) => Ranged::None,
        },
        (first, last) => {
            let (Some(first), last) = (
                number(first),
                number(last).or(last.is_empty().then_some(u64::MAX)),
            ) else {
                return Ranged::Whole;
            };
            match last {
                None => Ranged::Whole,
                Some(last) if last < first => Ranged::Whole,
                Some(_) if first >= len => Ranged::None,
                Some(last) => Ranged::Part(first, last.saturating_add(1).min(len)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_http_says_they_are() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
            range(&headers, "\"t\"", 100)
        };
        for (text, expected) in [
            ("bytes=0-9", Ranged::Part(0, 10)),
            ("bytes=90-", Ranged::Part(90, 100)),
            ("bytes=90-1000", Ranged::Part(90, 100)),
            ("bytes=90-99999999999999999999999", Ranged::Part(90, 100)),
            ("bytes=-10", Ranged::Part(90, 100)),
            ("bytes=-1000", Ranged::Part(0, 100)),
            ("bytes=100-", Ranged::None),
            ("bytes=99999999999999999999999-", Ranged::None),
            ("bytes=-0", Ranged::None),
            ("bytes=9-1", Ranged::Whole),
            ("bytes=0-1,5-6", Ranged::Whole),
            ("bytes=a-b", Ranged::Whole),
            ("bytes=--", Ranged::Whole),
            ("bytes", Ranged::Whole),
            ("lines=0-1", Ranged::Whole),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(range(&headers, "\"t\"", 100), Ranged::Whole);
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let has = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(text));
            matches(&headers, "\"t\"")
        };
        assert!(has("\"t\"") && has("W/\"t\"") && has("\"a\", \"t\"") && has("*"));
        assert!(!has("\"x\"") && !has("t"));
    }
}
