//! `camring serve` over HTTP: playlists, media, bad input, restarts. The recordings are written by
//! `recorder.rs`, so that every picture and moment is known.

mod recorder;
mod rules;
mod server;

mod access;
mod hls;
mod hostile;
mod markers;
mod players;
mod restarts;

use std::time::{Duration, Instant};

/// Waits for something that comes by itself.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < server::PATIENCE, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
