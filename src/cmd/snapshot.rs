//! `camring snapshot CAMERA -o x.jpg`: the camera's newest frame as a JPEG.
//!
//! Promises: the file appears whole or not at all (written beside its place, then renamed).
//! Must never: hold a frame longer than its encoding takes.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use camring_ring::{AttachOptions, Client};

use crate::cli::SnapshotArgs;
use crate::cmd::{self, Failure};
use crate::media::jpeg;

/// Runs `camring snapshot`.
pub fn run(args: &SnapshotArgs) -> Result<(), Failure> {
    let socket = cmd::socket(args.socket.as_deref(), args.config.as_deref())?;
    let client = Client::connect(&socket)?;
    let mut options = AttachOptions::default();
    options.pins = 1;
    options.timeout = args.timeout;
    let until = Instant::now() + args.timeout;
    let mut frames = client.attach(&args.camera, &options)?;
    let frame = loop {
        if let Some(frame) = frames.latest()? {
            break frame;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::timed_out(&args.camera, args.timeout));
        }
        frames.wait(Some(left))?;
    };
    let image = jpeg::encode(&frame, args.quality)
        .with_context(|| format!("{}: cannot encode the frame as JPEG", args.camera))?;
    drop(frame);
    if args.output == Path::new("-") {
        io::stdout().lock().write_all(&image).context("cannot write to standard output")?;
        return Ok(());
    }
    write_whole(&args.output, &image)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    Ok(())
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
