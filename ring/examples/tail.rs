//! Every frame of a camera, in order, and why there are gaps.
//!
//! `cargo run -p camring-ring --example tail -- front-door`

use std::time::Duration;

use camring_ring::{AttachOptions, Client, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: tail CAMERA")?;
    let client = Client::connect(&default_socket_path())?;
    if let Some(warning) = client.read_only_warning() {
        eprintln!("{warning}");
    }
    let mut camera = client.attach(&name, &AttachOptions::default())?;
    loop {
        let Some(frame) = camera.next_timeout(Duration::from_secs(5))? else {
            eprintln!("no frame for 5 s; camring status says why");
            continue;
        };
        if let Some(change) = frame.change() {
            eprintln!("{change:?}");
        }
        let about = frame.descriptor();
        println!(
            "{} pts {} utc {} ns {}x{} missed {}",
            frame.sequence(),
            about.pts,
            about.capture_time_ns,
            about.width,
            about.height,
            frame.missed()
        );
    }
}
