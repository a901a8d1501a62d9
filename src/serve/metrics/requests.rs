//! What the server answered, counted by route.
//!
//! Promises: memory is bounded by the number of routes and of status codes that they give; a path that is
//! no route is counted as `none`, so that nobody can make labels up.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::serve::App;

/// Limits of the durations' histogram, in seconds. The upper ones: waits for parts of live video.
pub const LIMITS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Label values of what no route takes.
const NONE: &str = "none";
/// Label value of a method that no route takes.
const OTHER: &str = "other";

/// Durations of one route's answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Together, in seconds.
    pub sum: f64,
    /// By [`LIMITS`], and beyond.
    pub counts: [u64; LIMITS.len() + 1],
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By route, method and status.
    pub answers: BTreeMap<(Arc<str>, &'static str, u16), u64>,
    /// By route.
    pub durations: BTreeMap<Arc<str>, Durations>,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Requests {
    counted: Mutex<Counted>,
    running: AtomicU64,
}

impl Requests {
    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        self.lock().clone()
    }

    /// Requests whose answer has not begun.
    pub fn running(&self) -> u64 {
        self.running.load(Relaxed)
    }

    fn add(&self, route: Arc<str>, method: &Method, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = LIMITS.partition_point(|limit| *limit < seconds);
        let mut counted = self.lock();
        let answers = (Arc::clone(&route), name(method), code);
        *counted.answers.entry(answers).or_default() += 1;
        let durations = counted.durations.entry(route).or_default();
        durations.sum += seconds;
        durations.counts[place] += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client may send any word.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}

/// Counted out again also when the client hangs up.
struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Counts every answer, refusals among them: outside of everything else.
pub async fn middleware(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route: Arc<str> = route.map_or(NONE, MatchedPath::as_str).into();
    let method = request.method().clone();
    let since = Instant::now();
    app.requests.running.fetch_add(1, Relaxed);
    let running = Running(&app.requests.running);
    let response = next.run(request).await;
    drop(running);
    let code = response.status().as_u16();
    app.requests.add(route, &method, code, since.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_and_a_made_up_method_makes_no_label() {
        let requests = Requests::default();
        let made_up = Method::from_bytes(b"BREW").unwrap();
        for (method, code, ms) in [
            (&Method::GET, 200, 1),
            (&Method::GET, 200, 30),
            (&made_up, 405, 60_000),
        ] {
            requests.add("/x".into(), method, code, Duration::from_millis(ms));
        }
        let counted = requests.counted();
        let answers: Vec<_> = counted.answers.iter().collect();
        let of = |method, code| ("/x".into(), method, code);
        assert_eq!(answers, [(&of("GET", 200), &2), (&of("other", 405), &1)]);
        let durations = &counted.durations["/x"];
        assert_eq!(durations.counts, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert!((durations.sum - 60.031).abs() < 1e-9);
    }
}
