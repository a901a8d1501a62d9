//! The newest picture of a camera, from its ring: as any detector gets it.
#![deny(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use camring_ring::{AttachError, AttachOptions, Client, Frame};

use crate::serve::Problem;
use crate::sys::clock;
use crate::worker::protocol::{Image, Still};

/// How long a camera that decodes on demand may need to begin.
const PATIENCE: Duration = Duration::from_secs(12);
/// A frame this young is taken at once; else the next one is waited for.
const FRESH: Duration = Duration::from_secs(2);
/// How long it is waited for, where an older one is there.
const WAIT: Duration = Duration::from_secs(3);
/// What is older is no live picture.
const STALE: Duration = Duration::from_secs(30);

/// A picture, copied out of the ring.
#[derive(Debug)]
pub struct Live {
    /// What the memory holds.
    pub image: Image,
    /// Its samples.
    pub memory: OwnedFd,
    /// UTC in ns.
    pub taken_ns: i64,
}

/// Waits for a picture of a stream. Blocks, for [`PATIENCE`] at most.
pub fn newest(socket: &Path, stream: &str, still: Still) -> Result<Live, Problem> {
    let until = Instant::now() + PATIENCE;
    let client = Client::connect(socket).map_err(|_| Problem::no_daemon())?;
    let options = AttachOptions {
        pins: 1,
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let failed = |error: &dyn std::fmt::Display| {
        let detail = format!("no live picture of {stream}: {error}; its status says what it does");
        Problem::unavailable("no-picture", "No live picture", detail)
    };
    let mut frames = client
        .attach(stream, &options)
        .map_err(|error| match error {
            AttachError::Disconnected => Problem::no_daemon(),
            error => failed(&error),
        })?;
    let since = Instant::now();
    let frame = loop {
        if let Some(frame) = frames.latest().map_err(|error| failed(&error))? {
            let age = age(&frame);
            if age <= FRESH || (since.elapsed() >= WAIT && age <= STALE) {
                break frame;
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let detail = format!("no picture in {} s", PATIENCE.as_secs());
            return Err(failed(&detail));
        }
        let pause = left.min(Duration::from_millis(250));
        frames.wait(Some(pause)).map_err(|error| failed(&error))?;
    };
    copy(&frame, still).map_err(|error| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "no-picture", "No live picture", error.to_string())
    })
}

fn age(frame: &Frame) -> Duration {
    let published = frame.descriptor().publish_ns;
    Duration::from_nanos(clock::monotonic_ns().saturating_sub(published))
}

fn copy(frame: &Frame, still: Still) -> std::io::Result<Live> {
    let memory = rustix::fs::memfd_create("camring-still", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    let descriptor = frame.descriptor();
    let (mut planes, mut at) = (Vec::new(), 0u64);
    for index in 0..frame.planes() {
        let plane = frame.plane(index);
        file.write_all(plane)?;
        let len = plane.len() as u64;
        planes.push((at, len, frame.plane_stride(index)));
        at += len;
    }
    Ok(Live {
        image: Image {
            format: descriptor.pixel_format as u32,
            width: descriptor.width,
            height: descriptor.height,
            range: descriptor.color_range as u8,
            matrix: descriptor.matrix,
            planes,
            still,
        },
        memory: file.into(),
        taken_ns: descriptor.capture_time_ns,
    })
}
