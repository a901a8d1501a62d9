//! Waits for all cameras at once and counts their frames, across restarts of the daemon:
//! `cargo run --example many -- front-door yard garage`.

use std::time::{Duration, Instant};

use camring_ring::{Receiver, ReceiverOptions, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        return Err("usage: many CAMERA…".into());
    }
    let options = ReceiverOptions::default();
    let mut cameras = Receiver::attach(&default_socket_path(), &names, &options)?;
    let mut counts = vec![(0u64, 0u64); names.len()];
    let mut report = Instant::now();
    loop {
        // One wait, however many cameras; each has its turn.
        if let Some((camera, frame)) = cameras.next_timeout(Duration::from_secs(1))? {
            let (frames, missed) = &mut counts[camera];
            *frames += 1;
            *missed += frame.missed();
        }
        if report.elapsed() >= Duration::from_secs(1) {
            report = Instant::now();
            for (index, (frames, missed)) in counts.iter_mut().enumerate() {
                print!("{} {frames}/s (missed {missed})", names[index]);
                match cameras.trouble(index) {
                    Some(why) => print!(": {why}  "),
                    None => print!("  "),
                }
                (*frames, *missed) = (0, 0);
            }
            println!();
        }
    }
}
