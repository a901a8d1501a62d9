//! Many cameras in one thread, with one wait.
//!
//! `cargo run -p camring-ring --example many -- front-door yard garage`

use camring_ring::{AttachOptions, Client, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        return Err("usage: many CAMERA...".into());
    }
    let client = Client::connect(&default_socket_path())?;
    let mut cameras = Vec::new();
    for name in &names {
        cameras.push(client.attach(name, &AttachOptions::default())?);
    }
    loop {
        client.wait(None)?;
        for camera in &mut cameras {
            while let Some(frame) = camera.next()? {
                let (sequence, missed) = (frame.sequence(), frame.missed());
                println!("{} {sequence} missed {missed}", camera.name());
            }
        }
    }
}
