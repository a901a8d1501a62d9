//! What records a stream: forked from the spawner, an ordinary subscriber.
//!
//! ```text
//! packet ring ─▶ source ─▶ copy ─▶ rendition ─▶ DATA_DIR/recordings/…   (`crate::recording`)
//! ```
//!
//! Promises: it says how it goes once a second, whatever the disk and the camera do; it ends within a
//! second of being told to, with everything on the disk. It slows no camera and no other subscriber.
//! Must never: read a configuration, or write outside its stream's folder.
#![deny(unsafe_code)]

pub mod copy;
pub mod pace;
pub mod parameters;
mod part;
pub mod rendition;
pub mod sound;
pub mod source;

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::RecordMode;
use crate::control::hls::{FromHls, HlsReport, HlsStart, HlsState, ToHls, begin};
use crate::control::{ControlError, ControlSocket};

/// How often the supervisor hears how it goes.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The longest wait for a unit: an order to stop is looked for this often at least.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// A process that records, from its control socket to its exit code.
pub fn main(control: ControlSocket) -> i32 {
    match run(&control) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "recording ends");
            let text = error.to_string();
            // If the supervisor is gone, nobody is left to be told.
            let _ = control.send(&FromHls::Fault { text }, &[]);
            1
        }
    }
}

fn run(control: &ControlSocket) -> Result<(), Box<dyn std::error::Error>> {
    let start = begin(control)?;
    let _span = tracing::info_span!("hls", stream = start.stream).entered();
    match start.record.mode {
        RecordMode::Copy => Ok(copy_until_stopped(control, &start)?),
        RecordMode::Encode | RecordMode::Off => {
            let reason = "this build records in mode = \"copy\" only".to_owned();
            Ok(say_until_stopped(control, HlsState::Failed, &reason)?)
        }
    }
}

fn copy_until_stopped(control: &ControlSocket, start: &HlsStart) -> Result<(), ControlError> {
    let cut = rendition::Cut {
        segment: start.record.segment,
        part: start.record.part,
    };
    let mut copy = copy::Copy::new(start.socket.clone(), &start.data_dir, &start.stream, cut);
    if start.record.audio {
        copy = copy.with_sound();
    }
    let mut next_report = Instant::now();
    while !is_told_to_stop(control)? {
        copy.work(LONGEST_WAIT);
        if Instant::now() >= next_report {
            next_report = Instant::now() + REPORT_EVERY;
            control.send(&FromHls::Report(copy.report()), &[])?;
        }
    }
    copy.finish();
    Ok(())
}

fn say_until_stopped(
    control: &ControlSocket,
    state: HlsState,
    reason: &str,
) -> Result<(), ControlError> {
    while !is_told_to_stop(control)? {
        let report = HlsReport {
            state,
            reason: reason.to_owned(),
            ..HlsReport::default()
        };
        control.send(&FromHls::Report(report), &[])?;
        std::thread::sleep(REPORT_EVERY);
    }
    Ok(())
}

/// Whether the supervisor said so, or is gone. Does not wait.
fn is_told_to_stop(control: &ControlSocket) -> Result<bool, ControlError> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Receiving makes room for the longest message; looking costs nothing.
    match poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&now)) {
        Ok(0) | Err(_) => return Ok(false),
        Ok(_) => {}
    }
    match control.try_recv::<ToHls>() {
        Ok(None) => Ok(true),
        Ok(Some(received)) => Ok(matches!(received.message, ToHls::Stop)),
        Err(error) if error.would_block() => Ok(false),
        Err(error) => Err(error),
    }
}
