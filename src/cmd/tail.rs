//! `camring tail CAMERA`: an ordinary subscriber that prints one line per frame.
//!
//! Promises: what it prints comes from the frame descriptors alone; a closed pipe or Ctrl-C ends
//! it quietly; it reconnects to nothing: when the daemon goes, it says so and ends with 3.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use camring_ring::{AttachOptions, Client, Frame, FrameFlags, RingChange};
use serde::Serialize;

use crate::cli::TailArgs;
use crate::cmd::{self, Failure};
use crate::sys::clock;

/// How often an idle `tail` wakes to see whether it was asked to stop.
const TICK: Duration = Duration::from_millis(500);

/// One line of `--json`. Field names are stable.
#[derive(Debug, Serialize)]
struct Line<'a> {
    camera: &'a str,
    sequence: u64,
    generation: u32,
    pts: i64,
    time_base: [u32; 2],
    utc: String,
    clock: &'static str,
    width: u32,
    height: u32,
    pixel_format: &'static str,
    key_frame: bool,
    discontinuity: bool,
    corrupt: bool,
    age_ms: f64,
    missed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
}

/// Runs `camring tail`. Ends after `-n` frames, on Ctrl-C, or when nobody reads its output.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let socket = cmd::socket(args.socket.as_deref(), args.config.as_deref())?;
    let client = Client::connect(&socket)?;
    if let Some(warning) = client.read_only_warning() {
        tracing::debug!("{warning}");
    }
    let options = AttachOptions { include_corrupt: args.corrupt, ..AttachOptions::default() };
    let mut frames = client.attach(&args.camera, &options)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut given = 0u64;
    while args.count.is_none_or(|n| given < n) {
        let frame = if args.latest { newest(&mut frames)? } else { frames.next_timeout(TICK)? };
        let Some(frame) = frame else { continue };
        let line = Line::new(frames.name(), &frame);
        drop(frame);
        given += 1;
        match line.write(&mut out, args.json).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("cannot write to standard output")?,
        }
    }
    Ok(())
}

/// The newest frame not yet given, waiting at most a tick for one.
fn newest(frames: &mut Subscription) -> Result<Option<Frame>, RingError> {
    if let Some(frame) = frames.latest()? {
        return Ok(Some(frame));
    }
    frames.wait(Some(TICK))?;
    frames.latest()
}

impl<'a> Line<'a> {
    fn new(camera: &'a str, frame: &Frame) -> Self {
        let d = frame.descriptor();
        let flags = d.flags;
        Line {
            camera,
            sequence: d.sequence,
            generation: d.generation,
            pts: d.pts,
            time_base: [d.time_base_num, d.time_base_den],
            utc: utc(d.capture_time_ns),
            clock: if flags.contains(FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT) {
                "sender-report"
            } else {
                "arrival"
            },
            width: d.width,
            height: d.height,
            pixel_format: d.pixel_format.name(),
            key_frame: flags.contains(FrameFlags::KEY_FRAME),
            discontinuity: flags.contains(FrameFlags::DISCONTINUITY),
            corrupt: flags.contains(FrameFlags::CORRUPT),
            age_ms: age_ms(clock::monotonic_ns(), d.arrival_ns),
            missed: frame.missed(),
            change: frame.change().map(|change| match change {
                RingChange::WriterRestarted => "writer-restarted",
                RingChange::Replaced => "replaced",
            }),
        }
    }

    fn write(&self, out: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        write!(
            out,
            "{} seq={} pts={} utc={} {}x{} age={:.1}ms missed={}",
            self.camera,
            self.sequence,
            self.pts,
            self.utc,
            self.width,
            self.height,
            self.age_ms,
            self.missed
        )?;
        for (set, word) in [
            (self.key_frame, "key"),
            (self.discontinuity, "discontinuity"),
            (self.corrupt, "corrupt"),
        ] {
            if set {
                write!(out, " {word}")?;
            }
        }
        if let Some(change) = self.change {
            write!(out, " {change}")?;
        }
        writeln!(out)
    }
}

/// RFC 3339 with microseconds; what no calendar can hold is shown as the plain number.
fn utc(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{ns}ns"),
    }
}

fn age_ms(now_ns: u64, arrival_ns: u64) -> f64 {
    (now_ns.saturating_sub(arrival_ns) / 1000) as f64 / 1000.0
}
