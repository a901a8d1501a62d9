//! Waits for all cameras at once and counts their frames:
//! `cargo run --example many -- front-door yard garage`.

use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&default_socket_path())?;
    let mut cameras = Vec::new();
    for name in std::env::args().skip(1) {
        cameras.push((client.attach(&name, &AttachOptions::default())?, 0u64, 0u64));
    }
    if cameras.is_empty() {
        return Err("usage: many CAMERA…".into());
    }
    let mut report = Instant::now();
    loop {
        // One wait, however many cameras.
        client.wait(Some(Duration::from_secs(1)))?;
        for (camera, frames, missed) in &mut cameras {
            while let Some(frame) = camera.next()? {
                *frames += 1;
                *missed += frame.missed();
            }
        }
        if report.elapsed() >= Duration::from_secs(1) {
            report = Instant::now();
            for (camera, frames, missed) in &mut cameras {
                print!("{} {frames}/s (missed {missed})  ", camera.name());
                (*frames, *missed) = (0, 0);
            }
            println!();
        }
    }
}
