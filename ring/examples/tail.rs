//! Prints every frame of a camera, one line each, or every access unit with `--packets`:
//! `cargo run --example tail -- front-door`.

use std::time::Duration;

use camring_ring::{AttachOptions, Client, UnitFlags, default_socket_path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let packets = arguments.iter().any(|a| a == "--packets");
    arguments.retain(|a| a != "--packets");
    let [name] = &arguments[..] else {
        return Err("usage: tail [--packets] CAMERA".into());
    };
    let client = Client::connect(&default_socket_path())?;
    if packets {
        units(&client, name)
    } else {
        frames(&client, name)
    }
}

fn frames(client: &Client, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut camera = client.attach(name, &AttachOptions::default())?;
    loop {
        let Some(frame) = camera.next_timeout(Duration::from_secs(5))? else {
            println!("nothing for 5 s");
            continue;
        };
        let d = frame.descriptor();
        let change = frame
            .change()
            .map(|c| format!(", {c:?}"))
            .unwrap_or_default();
        println!(
            "{} pts {} {}×{} missed {}{change}",
            frame.sequence(),
            d.pts,
            d.width,
            d.height,
            frame.missed()
        );
    }
}

fn units(client: &Client, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut camera = client.attach_packets(name, &AttachOptions::default())?;
    let mut bytes = Vec::new();
    // From the newest key frame on, so that a decoder could start here.
    let mut unit = camera.from_newest_key(&mut bytes)?;
    loop {
        if let Some(unit) = unit {
            let key = if unit.flags.contains(UnitFlags::KEY) {
                " key"
            } else {
                ""
            };
            println!(
                "{} {} {} bytes{key}",
                unit.sequence,
                unit.codec,
                bytes.len()
            );
        }
        unit = camera.next_timeout(&mut bytes, Duration::from_secs(5))?;
    }
}
