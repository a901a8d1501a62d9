//! What records a stream: forked from the spawner, an ordinary subscriber.
//!
//! ```text
//! packet ring ─▶ source ─▶ copy ─┬▶ rendition ─▶ DATA_DIR/recordings/…   (`crate::recording`)
//! frame ring ──────────▶ encode ─┘
//! ```
//!
//! Promises: it says how it goes once a second, whatever the disk and the camera do; it ends within a
//! second of being told to, with everything on the disk. It slows no camera and no other subscriber.
//! Must never: read a configuration, or write outside its stream's folder.
#![deny(unsafe_code)]

mod attached;
pub mod copy;
pub mod encode;
pub mod pace;
pub mod parameters;
mod part;
pub mod rendition;
pub mod sound;
pub mod source;

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::RecordMode;
use crate::control::hls::{FromHls, HlsReport, HlsStart, HlsState, ToHls, begin};
use crate::control::{ControlError, ControlSocket};

/// How often the supervisor hears how it goes.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The longest wait for a unit: an order to stop is looked for this often at least.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// What records a stream, in one way or another. One thread at a time.
pub trait Recorder {
    /// Takes what it writes to now, rather than with the first picture.
    ///
    /// # Errors
    /// `WouldBlock`: another process records it. Otherwise the kernel's answer.
    fn open(&mut self) -> io::Result<()>;

    /// Records all that is there, and waits for more: `most` at most.
    fn work(&mut self, most: Duration);

    /// How it goes.
    fn report(&self) -> HlsReport;

    /// Writes what is open and waits until it is on the disk.
    fn finish(&mut self);
}

impl Recorder for copy::Copy {
    fn open(&mut self) -> io::Result<()> {
        self.open()
    }
    fn work(&mut self, most: Duration) {
        self.work(most);
    }
    fn report(&self) -> HlsReport {
        self.report()
    }
    fn finish(&mut self) {
        self.finish();
    }
}

impl Recorder for encode::Encode {
    fn open(&mut self) -> io::Result<()> {
        self.open()
    }
    fn work(&mut self, most: Duration) {
        self.work(most);
    }
    fn report(&self) -> HlsReport {
        self.report()
    }
    fn finish(&mut self) {
        self.finish();
    }
}

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
        RecordMode::Encode => Ok(encode_until_stopped(control, &start)?),
        // Nobody starts such a process.
        RecordMode::Off => Ok(()),
    }
}

fn cut(start: &HlsStart) -> rendition::Cut {
    rendition::Cut {
        segment: start.record.segment,
        part: start.record.part,
    }
}

fn until_stopped(control: &ControlSocket, recorder: &mut dyn Recorder) -> Result<(), ControlError> {
    let mut next_report = Instant::now();
    while !is_told_to_stop(control)? {
        recorder.work(LONGEST_WAIT);
        if Instant::now() >= next_report {
            next_report = Instant::now() + REPORT_EVERY;
            control.send(&FromHls::Report(recorder.report()), &[])?;
        }
    }
    recorder.finish();
    Ok(())
}

fn copy_until_stopped(control: &ControlSocket, start: &HlsStart) -> Result<(), ControlError> {
    let socket = start.socket.clone();
    let mut copy = copy::Copy::new(socket, &start.data_dir, &start.stream, cut(start));
    if start.record.audio {
        copy = copy.with_sound();
    }
    until_stopped(control, &mut copy)
}

/// How many encode at a time is the supervisor's to say.
fn encode_until_stopped(control: &ControlSocket, start: &HlsStart) -> Result<(), ControlError> {
    control.send(&FromHls::NeedEncoder, &[])?;
    let queued = HlsReport {
        state: HlsState::Queued,
        reason: "others encode, as many as [record] max_encoders allows".to_owned(),
        ..HlsReport::default()
    };
    loop {
        match told(control)? {
            Told::Stop => return Ok(()),
            Told::EncoderGranted => break,
            Told::Nothing => {
                control.send(&FromHls::Report(queued.clone()), &[])?;
                wait_for_word(control, REPORT_EVERY);
            }
        }
    }
    let (socket, record) = (start.socket.clone(), &start.record);
    let (data_dir, stream) = (&start.data_dir, &start.stream);
    let mut encode = encode::Encode::new(socket, data_dir, stream, cut(start), record);
    until_stopped(control, &mut encode)
}

fn wait_for_word(control: &ControlSocket, most: Duration) {
    let most = Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(most.subsec_nanos()),
    };
    // Interrupted or not, the caller looks.
    let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&most));
}

/// What the supervisor said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    EncoderGranted,
    /// Or is gone.
    Stop,
}

/// Whether the supervisor said so, or is gone. Does not wait.
fn is_told_to_stop(control: &ControlSocket) -> Result<bool, ControlError> {
    Ok(told(control)? == Told::Stop)
}

fn told(control: &ControlSocket) -> Result<Told, ControlError> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Receiving makes room for the longest message; looking costs nothing.
    match poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&now)) {
        Ok(0) | Err(_) => return Ok(Told::Nothing),
        Ok(_) => {}
    }
    match control.try_recv::<ToHls>() {
        Ok(None) => Ok(Told::Stop),
        Ok(Some(received)) => Ok(match received.message {
            ToHls::Stop => Told::Stop,
            ToHls::EncoderGranted => Told::EncoderGranted,
            ToHls::Start(_) => Told::Nothing,
        }),
        Err(error) if error.would_block() => Ok(Told::Nothing),
        Err(error) => Err(error),
    }
}
