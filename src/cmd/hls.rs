//! `camring hls CAMERA`: records a stream in the foreground, attached to a running daemon.
//!
//! The same as a recorder under the daemon: an ordinary subscriber that outlives the daemon's restarts.
//! Ends on SIGINT or SIGTERM with everything on the disk.
#![deny(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use camring_ring::{AttachError, AttachOptions};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::{Global, HlsArgs};
use crate::config::{self, Record, RecordMode};
use crate::control::hls::{HlsReport, HlsState};
use crate::hls::Recorder;
use crate::hls::copy::Copy;
use crate::hls::encode::Encode;
use crate::hls::rendition::Cut;
use crate::{cmd, media};

/// How often an order to end is looked for.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How often it says how it goes.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Runs `camring hls`.
///
/// # Errors
/// No daemon (exit code 3), no such camera, a rendition that another process writes, a folder that
/// cannot be written.
pub fn run(args: HlsArgs, global: &Global) -> anyhow::Result<()> {
    let (stream, data_dir, record) = what(&args, global)?;
    let socket = cmd::socket(&args.socket, global)?;
    let client = cmd::connect(&socket)?;
    let options = AttachOptions {
        timeout: Duration::ZERO,
        ..AttachOptions::default()
    };
    match client.attach_packets(&stream, &options) {
        // Its first picture is waited for.
        Ok(_) | Err(AttachError::NotReady { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    drop(client);
    // Before any thread starts, so that all of them leave these to the descriptor.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    media::warm_up();

    let cut = Cut {
        segment: args.segment.unwrap_or(record.segment),
        part: args.part.unwrap_or(record.part),
    };
    let mut recorder: Box<dyn Recorder> = match record.mode {
        RecordMode::Encode => Box::new(Encode::new(socket, &data_dir, &stream, cut, &record)),
        RecordMode::Copy | RecordMode::Off => {
            let copy = Copy::new(socket, &data_dir, &stream, cut);
            Box::new(match record.audio {
                true => copy.with_sound(),
                false => copy,
            })
        }
    };
    recorder.open().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => anyhow::anyhow!(
            "{stream} is recorded already, in {}: leave it to the daemon ([camera.record]), or name \
             another folder with --data-dir",
            data_dir.display()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot record in {}", data_dir.display())),
    })?;
    let mut said = (Instant::now(), HlsState::Waiting);
    while ends.read_signal()?.is_none() {
        recorder.work(LONGEST_WAIT);
        let report = recorder.report();
        if report.state != said.1 || said.0.elapsed() >= SAY_EVERY {
            said = (Instant::now(), report.state);
            say(&stream, &report);
        }
    }
    recorder.finish();
    say(&stream, &recorder.report());
    Ok(())
}

/// The stream's id, the folder and how to record, as far as a configuration says it. With a folder on
/// the command line none is needed.
fn what(args: &HlsArgs, global: &Global) -> anyhow::Result<(String, PathBuf, Record)> {
    let site = match (&args.data_dir, &global.config) {
        (Some(_), None) => None,
        _ => Some(config::load(global.config.as_deref())?.1),
    };
    let stream = site.as_ref().and_then(|site| site.stream(&args.camera));
    let data_dir = (args.data_dir.clone())
        .or_else(|| Some(site.as_ref()?.data_dir.clone()))
        .context("name a folder with --data-dir")?;
    Ok((
        stream.map_or_else(|| args.camera.clone(), |stream| stream.id.clone()),
        data_dir,
        stream
            .map(|stream| stream.record.clone())
            .unwrap_or_default(),
    ))
}

fn say(stream: &str, report: &HlsReport) {
    tracing::info!(
        state = report.state.name(),
        segments = report.segments,
        bytes = report.bytes,
        units = report.units,
        missed = report.units_missed,
        gaps = report.gaps,
        write_errors = report.write_errors,
        "{stream} {}",
        report.reason
    );
}
