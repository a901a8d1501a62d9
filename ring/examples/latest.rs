//! Takes the newest frame of a camera over and over, as a detector does that is slower than the
//! camera: `cargo run --example latest -- front-door`.

use std::time::Duration;

use camring_ring::{AttachOptions, Client, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: latest CAMERA")?;
    let client = Client::connect(&default_socket_path())?;
    if let Some(warning) = client.read_only_warning() {
        eprintln!("warning: {warning}");
    }
    let mut camera = client.attach(&name, &AttachOptions::default())?;
    loop {
        let Some(frame) = camera.latest()? else {
            camera.wait(Some(Duration::from_secs(1)))?;
            continue;
        };
        let d = frame.descriptor();
        // In place: this reads the camera's own memory, and nothing changes it meanwhile.
        let luma: u64 = frame.plane(0).iter().map(|y| u64::from(*y)).sum();
        println!(
            "{} {}×{} {} mean {:.1}, {} missed",
            frame.sequence(),
            d.width,
            d.height,
            d.pixel_format,
            luma as f64 / frame.plane(0).len().max(1) as f64,
            frame.missed()
        );
    }
}
