//! `camring snapshot CAMERA -o x.jpg`: the camera's newest frame as a JPEG.
//!
//! Promises: a file appears whole or not at all (written beside its place, then renamed); what is
//! no file, say a pipe, is written to in place.
//! Must never: hold a frame longer than its encoding takes.
#![deny(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use camring_ring::{AttachOptions, Frame};

use crate::cli::{Global, SnapshotArgs};
use crate::cmd;
use crate::media::{MediaError, jpeg};

/// Runs `camring snapshot`.
///
/// # Errors
/// No daemon (exit code 3), no such camera, no frame in time, or the file cannot be written.
pub fn run(args: SnapshotArgs, global: &Global) -> anyhow::Result<()> {
    let until = Instant::now() + args.timeout;
    let name = args.frames_of.name()?;
    let client = cmd::connect(&cmd::socket(&args.socket, global)?)?;
    let options = AttachOptions {
        pins: 1,
        timeout: args.timeout,
        ..AttachOptions::default()
    };
    let mut frames = client.attach(&name, &options)?;
    let frame = loop {
        if let Some(frame) = frames.latest().map_err(cmd::while_attached)? {
            break frame;
        }
        let left = until.saturating_duration_since(Instant::now());
        ensure!(
            !left.is_zero(),
            "{}: no frame within {:?}; camring status says what its camera does",
            name,
            args.timeout
        );
        frames.wait(Some(left)).map_err(cmd::while_attached)?;
    };
    let image = encode(&frame, args.quality)
        .with_context(|| format!("{name}: cannot encode the frame as JPEG"))?;
    drop(frame);
    if args.output == Path::new("-") {
        return io::stdout()
            .lock()
            .write_all(&image)
            .context("cannot write to standard output");
    }
    write(&args.output, &image).with_context(|| format!("cannot write {}", args.output.display()))
}

/// Reads the frame in place; it cannot change while it is held.
fn encode(frame: &Frame, percent: u8) -> Result<Vec<u8>, MediaError> {
    let descriptor = frame.descriptor();
    let planes: Vec<(&[u8], usize)> = (0..frame.planes())
        .map(|n| (frame.plane(n), frame.plane_stride(n) as usize))
        .collect();
    let image = jpeg::Image {
        format: descriptor.pixel_format,
        width: descriptor.width,
        height: descriptor.height,
        range: descriptor.color_range,
        matrix: descriptor.matrix,
        planes: &planes,
    };
    jpeg::encode(&image, jpeg::Quality::percent(percent))
}

/// Writes a file whole or not at all; a device or a pipe is written to, not replaced.
fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        // Where a symbolic link leads to is replaced, not the link.
        Ok(there) if there.is_file() => write_whole(&fs::canonicalize(path)?, data),
        Ok(_) => OpenOptions::new().write(true).open(path)?.write_all(data),
        Err(_) => write_whole(path, data),
    }
}

/// Writes beside the place, then renames over it.
fn write_whole(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let written = fs::File::create_new(&partial)
        .and_then(|mut file| file.write_all(data))
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}
