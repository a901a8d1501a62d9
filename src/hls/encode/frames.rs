//! A stream's frames, for as long as the recording lasts: attached to the daemon like any detector.
//!
//! Promises: frames come in order, each once; damaged ones are passed over and counted; what the ring
//! no longer had is counted. No call waits for a frame but [`Frames::wait`].
#![deny(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use camring_ring::{AttachOptions, Frame, FrameFlags, RingError, Subscription};

use crate::hls::attached::Attached;
use crate::hls::rendition::Follows;
use crate::media::VIDEO_TIMESCALE;

/// Where frames come from.
#[derive(Debug)]
pub struct Frames {
    attached: Attached<Subscription>,
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
            attached: Attached::new(socket, stream),
            breaks: true,
            missed: 0,
            damaged: 0,
        }
    }

    /// The next frame. `None`: none yet.
    pub fn next(&mut self) -> Option<Taken> {
        if !self.attached.is_attached() && !self.attach() {
            return None;
        }
        match self.attached.subscription()?.next() {
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
                self.attached.lost(&error);
                None
            }
        }
    }

    /// Waits until there may be a frame, or until the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        let wait = |frames: &mut Subscription, most| frames.wait(Some(most));
        self.attached.wait(timeout, wait);
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
        self.attached.trouble()
    }

    fn attach(&mut self) -> bool {
        let options = AttachOptions {
            // One being encoded, one that an encoder on another chip may still read.
            pins: 2,
            // Asked again by ourselves.
            timeout: Duration::ZERO,
            ..AttachOptions::default()
        };
        let ask = |client: &camring_ring::Client, stream: &str| client.attach(stream, &options);
        let attached = self.attached.attach(ask);
        // Another ring, or another reader of it.
        self.breaks |= attached;
        attached
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
