//! `camring tail CAMERA`: an ordinary subscriber that prints one line per frame.
//!
//! Promises: what it prints comes from the frame descriptors alone; a closed pipe or Ctrl-C ends
//! it quietly; it reconnects to nothing: when the daemon goes, it says so and ends with 3.
#![deny(unsafe_code)]

use std::time::Duration;

use camring_ring::{AttachOptions, Frame, FrameFlags, RingChange, RingError, Subscription};
use serde::Serialize;

use crate::cli::{Global, TailArgs};
use crate::cmd;
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
///
/// # Errors
/// No daemon (exit code 3), no such camera, or standard output cannot be written.
pub fn run(args: TailArgs, global: &Global) -> anyhow::Result<()> {
    let client = cmd::connect(&cmd::socket(&args.socket, global)?)?;
    if let Some(warning) = client.read_only_warning() {
        tracing::debug!("{warning}");
    }
    let options = AttachOptions {
        include_corrupt: args.corrupt,
        ..AttachOptions::default()
    };
    let mut frames = client.attach(&args.frames_of.name()?, &options)?;
    let mut given = 0u64;
    while args.frames.is_none_or(|n| given < n) {
        let frame = if args.latest {
            newest(&mut frames)
        } else {
            frames.next_timeout(TICK)
        };
        let Some(frame) = frame.map_err(cmd::while_attached)? else {
            continue;
        };
        let line = Line::new(frames.name(), &frame).text(args.json)?;
        drop(frame);
        given += 1;
        cmd::print(&line)?;
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
                _ => "changed",
            }),
        }
    }

    fn text(&self, json: bool) -> serde_json::Result<String> {
        if json {
            return Ok(serde_json::to_string(self)? + "\n");
        }
        let mut line = format!(
            "{} seq={} pts={} utc={} {}x{} age={:.1}ms missed={}",
            self.camera,
            self.sequence,
            self.pts,
            self.utc,
            self.width,
            self.height,
            self.age_ms,
            self.missed
        );
        let words = [
            (self.key_frame, "key"),
            (self.discontinuity, "discontinuity"),
            (self.corrupt, "corrupt"),
        ];
        let words = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
        for word in words.chain(self.change) {
            line.push(' ');
            line.push_str(word);
        }
        line.push('\n');
        Ok(line)
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
