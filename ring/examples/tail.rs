//! Prints every frame of a camera, one line each with a checksum of its picture, or every access unit
//! with `--packets`: `cargo run --example tail -- front-door`. The lines are those of tail.c in the C
//! library.

use std::time::Duration;

use camring_ring::{
    AttachOptions, Client, Frame, FrameFlags, RingChange, UnitFlags, default_socket_path,
};

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
            eprintln!("nothing for 5 s");
            continue;
        };
        let d = frame.descriptor();
        let from_camera = FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT;
        println!(
            "{name} {} generation {} pts {} time {}{} {}x{} missed {} sum {:08x}{}",
            frame.sequence(),
            frame.generation(),
            d.pts,
            d.capture_time_ns,
            if d.flags.contains(from_camera) {
                ""
            } else {
                "?"
            },
            d.width,
            d.height,
            frame.missed(),
            checksum(&frame),
            match frame.change() {
                None => "",
                Some(RingChange::WriterRestarted) => " writer-restarted",
                Some(RingChange::Replaced) => " replaced",
                Some(RingChange::Reconnected) => " reconnected",
                Some(_) => " changed",
            },
        );
    }
}

/// Adler-32 (RFC 1950) of the picture alone: what lies between the rows is not part of it.
fn checksum(frame: &Frame) -> u32 {
    let d = frame.descriptor();
    let (mut a, mut b) = (1u64, 0u64);
    for plane in 0..frame.planes() {
        let size = d.pixel_format.plane_size(plane, d.width, d.height);
        let (row_bytes, rows) = size.expect("a frame has as many planes as its format");
        let rows = frame
            .plane(plane)
            .chunks(frame.plane_stride(plane) as usize)
            .take(rows as usize);
        for row in rows {
            for byte in &row[..row_bytes as usize] {
                a += u64::from(*byte);
                b += a;
            }
            (a, b) = (a % 65521, b % 65521);
        }
    }
    u32::try_from(b << 16 | a).expect("both are below 65521")
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
