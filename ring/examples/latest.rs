//! The newest frame, whenever there is one: for a detector that is slower than its camera.
//!
//! `cargo run -p camring-ring --example latest -- front-door`

use std::time::Duration;

use camring_ring::{AttachOptions, Client, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: latest CAMERA")?;
    let client = Client::connect(&default_socket_path())?;
    let mut camera = client.attach(&name, &AttachOptions::default())?;
    loop {
        camera.wait(Some(Duration::from_secs(1)))?;
        let Some(frame) = camera.latest()? else {
            continue;
        };
        // Any work on the pixels goes here; the camera does not wait for it.
        let luma = frame.plane(0);
        let mean = luma.iter().map(|sample| u64::from(*sample)).sum::<u64>() / luma.len() as u64;
        println!(
            "frame {}: mean brightness {mean}, {} skipped",
            frame.sequence(),
            frame.missed()
        );
    }
}
