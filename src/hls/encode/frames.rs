//! A stream's frames, for as long as the recording lasts: attached to the daemon like any detector, and
//! again when the daemon, the ring or the camera has gone.
//!
//! Promises: frames come in order, each once; damaged ones are passed over and counted; what the ring
//! no longer had is counted. No call waits for a frame but [`Frames::wait`].
#![deny(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use camring_ring::{
    AttachError, AttachOptions, Client, Frame, FrameFlags, RETRY_PAUSE, RingError, Subscription,
};

use crate::hls::rendition::Follows;
use crate::media::VIDEO_TIMESCALE;

/// Where frames come from.
#[derive(Debug)]
pub struct Frames {
    socket: PathBuf,
    stream: String,
    client: Option<Client>,
    frames: Option<Subscription>,
    retry_at: Option<Instant>,
    trouble: String,
    /// The next frame has its own times.
    breaks: bool,
    missed: u64,
    damaged: u64,
}

/// A frame and its times.
#[derive(Debug)]
pub struct Taken {
    pub frame: Frame,
    /// In ticks of [`VIDEO_TIMESCALE`].
    pub pts: i64,
    /// How it follows the one before.
    pub follows: Follows,
}

impl Frames {
    /// Nothing is contacted yet.
    pub fn new(socket: PathBuf, stream: String) -> Self {
        Self {
            socket,
            stream,
            client: None,
            frames: None,
            retry_at: None,
            trouble: String::new(),
            breaks: true,
            missed: 0,
            damaged: 0,
        }
    }

    /// The next frame. `None`: none yet.
    pub fn next(&mut self) -> Option<Taken> {
        if self.frames.is_none() && !self.attach() {
            return None;
        }
        match self.frames.as_mut()?.next() {
            Ok(frame) => {
                let frame = frame?;
                self.missed += frame.missed();
                self.damaged += frame.hidden();
                // Another writer or ring has times of its own.
                let breaks = std::mem::take(&mut self.breaks) || frame.change().is_some();
                let flags = frame.descriptor().flags;
                let follows = match (breaks, flags.contains(FrameFlags::DISCONTINUITY)) {
                    (true, _) => Follows::Break,
                    (_, true) => Follows::Jump,
                    _ => Follows::On,
                };
                let pts = ticks(&frame);
                Some(Taken {
                    frame,
                    pts,
                    follows,
                })
            }
            Err(RingError::BadFrame { .. }) => {
                self.missed += 1;
                None
            }
            Err(error) => {
                self.detach(&error);
                None
            }
        }
    }

    /// Waits until there may be a frame, or until the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        let Some(frames) = &mut self.frames else {
            let pause = self.retry_at.map_or(RETRY_PAUSE, |at| {
                at.saturating_duration_since(Instant::now())
            });
            std::thread::sleep(pause.min(timeout));
            return;
        };
        if let Err(error) = frames.wait(Some(timeout)) {
            self.detach(&error);
        }
    }

    /// Frames that were overwritten before they could be encoded.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Frames that were damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Why there are none: empty while attached.
    pub fn trouble(&self) -> &str {
        &self.trouble
    }

    fn detach(&mut self, error: &RingError) {
        if matches!(error, RingError::Disconnected) {
            self.client = None;
        }
        self.frames = None;
        self.breaks = true;
        self.failed(error.to_string());
    }

    fn failed(&mut self, text: String) {
        if text != self.trouble {
            tracing::debug!("not attached: {text}");
        }
        self.trouble = text;
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
    }

    fn attach(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match self.try_attach() {
            Ok(frames) => {
                self.frames = Some(frames);
                self.retry_at = None;
                self.trouble.clear();
                true
            }
            Err(error) => {
                if matches!(error, AttachError::Disconnected | AttachError::Io(_)) {
                    self.client = None;
                }
                self.failed(error.to_string());
                false
            }
        }
    }

    fn try_attach(&mut self) -> Result<Subscription, AttachError> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(&self.socket)?),
        };
        let options = AttachOptions {
            // One being encoded, one that an encoder on another chip may still read.
            pins: 2,
            // Asked again by ourselves.
            timeout: Duration::ZERO,
            ..AttachOptions::default()
        };
        client.attach(&self.stream, &options)
    }
}

/// A frame's time, as exact as 90 kHz can say it.
fn ticks(frame: &Frame) -> i64 {
    let descriptor = frame.descriptor();
    let (num, den) = (descriptor.time_base_num, descriptor.time_base_den.max(1));
    let scaled = i128::from(descriptor.pts) * i128::from(num) * i128::from(VIDEO_TIMESCALE)
        / i128::from(den);
    // Room for sums and differences.
    let most = i128::from(i64::MAX / 4);
    i64::try_from(scaled.clamp(-most, most)).unwrap_or(0)
}
