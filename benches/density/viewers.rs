//! The subscribers: one per camera, few threads, each picture verified by its content.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camring_ring::{AttachError, AttachOptions, Client, Subscription};

use crate::support::framecode;
use crate::support::{Farm, PATIENCE};

/// Between two tries to attach to cameras that have no picture yet.
const RETRY: Duration = Duration::from_millis(10);

/// What the threads and the bench say to each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// The window, in `CLOCK_MONOTONIC` ns of the camera's sending; end 0 while it is not over.
    pub from: AtomicU64,
    pub to: AtomicU64,
    pub stop: AtomicBool,
    pub cameras: Vec<Camera>,
    pub threads: Mutex<Vec<u32>>,
}

/// One camera, seen by its subscriber.
#[derive(Debug, Default)]
pub struct Camera {
    /// When its first picture was held, `CLOCK_MONOTONIC` ns; 0: not yet.
    pub first_at: AtomicU64,
    /// The newest generation, and when its first picture was held.
    pub generation: AtomicU32,
    pub generation_at: AtomicU64,
    /// In the window: pictures held, pictures that there were between the first and the last of
    /// them, and from when to when they took to get here.
    pub seen: AtomicU64,
    pub expected: AtomicU64,
    /// At any time.
    pub torn: AtomicU64,
    pub disorder: AtomicU64,
    pub missed: AtomicU64,
    pub latencies_us: Mutex<Vec<u32>>,
}

pub fn now_ns() -> u64 {
    camring::sys::clock::monotonic_ns()
}

/// The name of a camera, in the farm and in the daemon.
pub fn name(n: usize) -> String {
    format!("cam{n}")
}

/// Starts `threads` subscribers with an equal share of the cameras each.
pub fn start(
    socket: PathBuf,
    farm: &Arc<Farm>,
    shared: &Arc<Shared>,
    threads: usize,
) -> Vec<JoinHandle<()>> {
    (0..threads)
        .map(|thread| {
            let (farm, shared, socket) = (Arc::clone(farm), Arc::clone(shared), socket.clone());
            std::thread::spawn(move || {
                let tid = rustix::thread::gettid()
                    .as_raw_nonzero()
                    .get()
                    .unsigned_abs();
                shared.threads.lock().expect("no panic").push(tid);
                let mine = (thread..shared.cameras.len()).step_by(threads);
                watch(&socket, &farm, &shared, mine.collect());
            })
        })
        .collect()
}

fn watch(socket: &std::path::Path, farm: &Farm, shared: &Shared, mut absent: Vec<usize>) {
    let client = Client::connect(socket).expect("the daemon is there");
    let options = AttachOptions {
        timeout: Duration::ZERO,
        ..AttachOptions::default()
    };
    let mut present = BTreeMap::new();
    let until = Instant::now() + PATIENCE;
    while !shared.stop.load(Relaxed) {
        absent.retain(|n| match client.attach(&name(*n), &options) {
            Ok(frames) => {
                present.insert(*n, Subscriber::new(frames, farm, *n));
                false
            }
            Err(AttachError::NotReady { .. }) if Instant::now() < until => true,
            Err(error) => panic!("{error}"),
        });
        for subscriber in present.values_mut() {
            subscriber.take_all(farm, shared);
        }
        let slice = if absent.is_empty() {
            Duration::from_millis(250)
        } else {
            RETRY
        };
        client.wait(Some(slice)).expect("the daemon lives");
    }
}

struct Subscriber {
    camera: usize,
    name: String,
    frames: Subscription,
    tag: u8,
    pictures: u16,
    last: Option<(u64, u16)>,
    in_window: bool,
}

impl Subscriber {
    fn new(frames: Subscription, farm: &Farm, camera: usize) -> Subscriber {
        let name = name(camera);
        let witness = farm.witness(&name);
        Subscriber {
            camera,
            tag: witness.tag(),
            pictures: witness.pictures(),
            name,
            frames,
            last: None,
            in_window: false,
        }
    }

    fn take_all(&mut self, farm: &Farm, shared: &Shared) {
        let counts = &shared.cameras[self.camera];
        while let Some(frame) = self.frames.next().expect("the ring is sound") {
            let held = now_ns();
            if counts.first_at.load(Relaxed) == 0 {
                counts.first_at.store(held, Relaxed);
            }
            if frame.generation() > counts.generation.load(Relaxed) {
                counts.generation.store(frame.generation(), Relaxed);
                counts.generation_at.store(held, Relaxed);
                // A new reader begins anew, with a key frame: the content jumps.
                self.last = None;
                self.in_window = false;
            }
            let d = frame.descriptor();
            let (stride, width, height) = (frame.plane_stride(0), d.width, d.height);
            let code = framecode::read(
                frame.plane(0),
                stride as usize,
                width as usize,
                height as usize,
            );
            let sequence = frame.sequence();
            counts.missed.fetch_add(frame.missed(), Relaxed);
            drop(frame);
            let Ok(code) = code else {
                counts.torn.fetch_add(1, Relaxed);
                continue;
            };
            let last = self.last.replace((sequence, code.index));
            let step = last.map_or(1, |(_, index)| {
                (code.index + self.pictures - index) % self.pictures
            });
            let rises = last.is_none_or(|(before, _)| sequence > before);
            if code.tag != self.tag || !rises || step == 0 || step > self.pictures / 2 {
                counts.disorder.fetch_add(1, Relaxed);
                continue;
            }
            let Some(sent) = farm.sent_ns(&self.name, code.index) else {
                continue;
            };
            let (from, to) = (shared.from.load(Relaxed), shared.to.load(Relaxed));
            if from == 0 || sent < from || (to != 0 && sent >= to) {
                continue;
            }
            // What was missing before the first picture of the window is not the window's.
            let step = if self.in_window { step } else { 1 };
            self.in_window = true;
            counts.seen.fetch_add(1, Relaxed);
            counts.expected.fetch_add(u64::from(step), Relaxed);
            let latency = u32::try_from(held.saturating_sub(sent) / 1000).unwrap_or(u32::MAX);
            counts.latencies_us.lock().expect("no panic").push(latency);
        }
    }
}
