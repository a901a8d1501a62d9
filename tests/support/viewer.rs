//! A subscriber that verifies every picture by its content.

use std::time::Instant;

use camring_ring::{AttachOptions, Client, FrameDescriptor, FrameFlags, RingChange, Subscription};

use super::framecode::{self, Witness};
use super::{Daemon, Farm, PATIENCE};

/// Watches one camera; panics at a torn, foreign, repeated or (unless allowed) lost picture.
#[derive(Debug)]
pub struct Viewer {
    frames: Subscription,
    witness: Witness,
    gaps: bool,
    last: Option<FrameDescriptor>,
    /// Frames seen.
    pub seen: u64,
    /// Of these, copied into their slot.
    pub copied: u64,
    /// Frames that this subscriber was too slow for.
    pub missed: u64,
    /// Of the newest frame.
    pub change: Option<RingChange>,
    /// Of the newest frame.
    pub size: Option<(u32, u32)>,
}

impl Viewer {
    /// Attaches to a camera of the farm that has the same name in the daemon.
    #[track_caller]
    pub fn attach(daemon: &Daemon, farm: &Farm, camera: &str) -> Viewer {
        Viewer::attach_as(daemon, farm, camera, camera)
    }

    /// Attaches to `name`, which reads the farm's camera `of`.
    #[track_caller]
    pub fn attach_as(daemon: &Daemon, farm: &Farm, name: &str, of: &str) -> Viewer {
        let client = Client::connect(&daemon.socket()).expect("a connection");
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let frames = match client.attach(name, &options) {
            Ok(frames) => frames,
            Err(error) => panic!("{error}\n{}", daemon.log()),
        };
        Viewer {
            frames,
            witness: farm.witness(of),
            gaps: false,
            last: None,
            seen: 0,
            copied: 0,
            missed: 0,
            change: None,
            size: None,
        }
    }

    /// From now on pictures may be missing: the camera was interrupted, or loses packets.
    pub fn allow_gaps(&mut self) {
        self.gaps = true;
    }

    #[must_use]
    pub fn allowing_gaps(mut self) -> Viewer {
        self.gaps = true;
        self
    }

    /// The next frame, verified.
    #[track_caller]
    pub fn next(&mut self) -> FrameDescriptor {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.try_next() {
                return frame;
            }
            assert!(
                Instant::now() < until,
                "{}: no frame in {PATIENCE:?}",
                self.frames.name()
            );
        }
    }

    /// The next frame, verified, if it comes within half a second.
    #[track_caller]
    pub fn try_next(&mut self) -> Option<FrameDescriptor> {
        let frame = self
            .frames
            .next_timeout(std::time::Duration::from_millis(500))
            .unwrap_or_else(|error| panic!("{}: {error}", self.frames.name()))?;
        let descriptor = *frame.descriptor();
        let (width, height) = (descriptor.width as usize, descriptor.height as usize);
        let stride = frame.plane_stride(0) as usize;
        let code = framecode::read(frame.plane(0), stride, width, height)
            .unwrap_or_else(|error| panic!("{}: {error} in {descriptor:?}", self.frames.name()));
        let step = self.witness.step(code);
        self.missed += frame.missed();
        if let Some(last) = self.last {
            assert!(
                descriptor.sequence > last.sequence,
                "{descriptor:?} after {last:?}"
            );
            assert!(
                descriptor.generation >= last.generation,
                "{descriptor:?} after {last:?}"
            );
            let given = descriptor.sequence - last.sequence;
            assert_eq!(
                frame.missed() + frame.hidden(),
                given - 1,
                "{descriptor:?} after {last:?}"
            );
            if !self.gaps {
                assert_eq!(
                    u64::from(step),
                    given % u64::from(self.witness.pictures()),
                    "{descriptor:?} after {last:?}: {code:?}"
                );
            }
        }
        self.seen += 1;
        self.copied += u64::from(descriptor.flags.contains(FrameFlags::COPIED));
        self.change = frame.change();
        self.size = Some((descriptor.width, descriptor.height));
        self.last = Some(descriptor);
        Some(descriptor)
    }

    /// Verifies so many frames.
    #[track_caller]
    pub fn watch(&mut self, frames: u64) {
        for _ in 0..frames {
            self.next();
        }
    }

    /// Verifies frames until one of a later generation comes: the reader was replaced.
    #[track_caller]
    pub fn watch_until_restarted(&mut self) -> FrameDescriptor {
        let generation = self.last.map_or(0, |last| last.generation);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.try_next()
                && frame.generation > generation
            {
                assert_eq!(self.change, Some(RingChange::WriterRestarted), "{frame:?}");
                return frame;
            }
            assert!(
                Instant::now() < until,
                "{}: no new generation",
                self.frames.name()
            );
        }
    }
}
