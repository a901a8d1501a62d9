//! A subscriber of a camera that must not notice: judges what it is given by the numbers burned into the
//! pictures and by the ring's own, and by no clock. A machine that leaves it no time makes it late, which is
//! told from a fault by what the ring still has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use camring_ring::{AttachOptions, Client, FrameFlags, RingError, Subscription};

use crate::clip::{PICTURES, TAG};
use crate::support::framecode;

/// Pictures that the rings keep: as many as can be configured, a good second's.
pub const DEPTH: u64 = 32;

/// What a subscriber saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub frames: AtomicU64,
    /// Frames that were never there, or gone too early: less than [`DEPTH`] newer ones were there.
    pub missed: AtomicU64,
    /// Pictures that the content says were left out between frames.
    pub skipped: AtomicU64,
    pub hidden: AtomicU64,
    pub wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn complain(&self, text: String) {
        self.wrong.lock().expect("no panic").push(text);
    }
}

/// Watches one camera, in a thread of its own.
pub struct Watcher {
    pub name: &'static str,
    pub seen: Arc<Seen>,
    pub thread: JoinHandle<()>,
}

impl Watcher {
    /// Attaches as soon as that can be done.
    pub fn start(socket: &Path, name: &'static str, stop: &Arc<AtomicBool>) -> Self {
        let seen = Arc::new(Seen::default());
        let (socket, into, stop) = (socket.to_owned(), Arc::clone(&seen), Arc::clone(stop));
        let thread = std::thread::spawn(move || {
            if let Some(frames) = attach(&socket, name, &stop) {
                watch(frames, &into, &stop);
            }
        });
        Watcher { name, seen, thread }
    }
}

fn attach(socket: &Path, name: &str, stop: &AtomicBool) -> Option<Subscription> {
    let options = AttachOptions {
        timeout: Duration::from_secs(2),
        ..AttachOptions::default()
    };
    while !stop.load(Ordering::SeqCst) {
        // Until its first picture a camera has no ring.
        if let Ok(frames) = Client::connect(socket).and_then(|c| c.attach(name, &options)) {
            return Some(frames);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Frames that were gone when they were asked for. If only because this thread was too late, the ring was
/// full of newer ones then, and all of those up to `there` can be had without waiting.
struct Overrun {
    missed: u64,
    there: u64,
}

impl Overrun {
    fn new(missed: u64, sequence: u64) -> Self {
        // The newest frame is put in before the oldest is taken out, and one of them may be this one.
        let there = sequence + DEPTH - 3;
        Overrun { missed, there }
    }
}

fn watch(mut frames: Subscription, seen: &Seen, stop: &AtomicBool) {
    let mut last: Option<(u64, u16)> = None;
    let mut overrun: Option<Overrun> = None;
    while !stop.load(Ordering::SeqCst) {
        let next = match frames.next() {
            Ok(None) => {
                let sequence = last.map_or(0, |(sequence, _)| sequence);
                if let Some(overrun) = overrun.take().filter(|one| one.there > sequence) {
                    seen.missed.fetch_add(overrun.missed, Ordering::SeqCst);
                    let Overrun { missed, there } = overrun;
                    seen.complain(format!(
                        "{missed} frames missed, though only {sequence} and not {there} was there"
                    ));
                }
                frames.wait(Some(Duration::from_millis(200))).map(|_| None)
            }
            other => other,
        };
        let frame = match next {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            // The daemon has ended, which whoever ended it answers for.
            Err(RingError::Disconnected) => return,
            Err(error) => return seen.complain(error.to_string()),
        };
        let descriptor = frame.descriptor();
        let (width, height) = (descriptor.width as usize, descriptor.height as usize);
        let stride = frame.plane_stride(0) as usize;
        if frame.missed() > 0 {
            // Of two in a row the later says more.
            overrun = Some(Overrun::new(frame.missed(), frame.sequence()));
        }
        seen.hidden.fetch_add(frame.hidden(), Ordering::SeqCst);
        if descriptor.flags.contains(FrameFlags::CORRUPT) || frame.change().is_some() {
            seen.complain(format!("{:?} {descriptor:?}", frame.change()));
        }
        match framecode::read(frame.plane(0), stride, width, height) {
            Ok(code) if code.tag == TAG => {
                if let Some((_, last)) = last.replace((frame.sequence(), code.index)) {
                    let step = (code.index + PICTURES - last - 1) % PICTURES;
                    let left_out = u64::from(step).saturating_sub(frame.missed() + frame.hidden());
                    seen.skipped.fetch_add(left_out, Ordering::SeqCst);
                }
            }
            other => seen.complain(format!("{other:?} in {descriptor:?}")),
        }
        seen.frames.fetch_add(1, Ordering::SeqCst);
    }
}
