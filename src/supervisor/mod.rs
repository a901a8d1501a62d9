//! `camring run`: starts, watches and restarts readers, recorders and the server, owns all shared
//! memory, lets subscribers in.
//!
//! One thread. Everything here is a task on it: two per camera (`child` for its reader, `service` for
//! what records it), one for the server, one per client (`broker`), one that keeps the `template` process warm, and the tick. It is also the thread
//! from which the spawner is forked and that adopts the readers; when it ends, the kernel kills
//! them all.
//!
//! Promises:
//! - It never waits on a child, a client or a camera; what they say is an allegation.
//! - A reader's death costs no subscriber its attachment, a subscriber's death no camera a frame,
//!   the spawner's death nobody anything. The supervisor's own death ends everything.
//! - It stops within 5 s, after which no process, name or file of its own is left.
//!
//! It must never decode, open a camera, or serve HTTP.
#![deny(unsafe_code)]

mod audio;
mod broker;
pub mod budget;
mod camera;
mod child;
mod encoders;
mod ends;
mod instance;
mod notify;
mod outbox;
mod permits;
mod place;
pub mod placement;
pub mod policy;
mod reaper;
mod recorder;
mod reload;
mod resolve;
mod rings;
mod server;
mod service;
mod signals;
pub mod spawner;
pub mod status;
mod template;
mod views;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use camring_ring::{FrameRingSpec, PacketRingSpec, SealedMemory};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

use self::budget::{Ledger, Refusal};
use self::camera::Camera;
use self::encoders::Encoders;
pub use self::instance::InstanceError;
use self::notify::Notifier;
use self::permits::Permits;
use self::place::Place;
use self::placement::Placement;
use self::reaper::Reaper;
use self::recorder::Recorder;
use self::rings::{Outgoing, Ring};
use self::server::Server;
use self::service::{Order, Service};
use self::signals::{Asked, Signals};
use self::template::Template;
use crate::config::{Site, Stream};
use crate::control::hls::ToHls;
use crate::control::{RingKind, ToReader};
use crate::health::State;
use crate::{health, sys};

/// How old a status text may be that is served again: a client that asks in a loop gets the same.
const STATUS_AGE: Duration = Duration::from_millis(100);

/// What is not in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The group that may attach, where it exists.
    pub group: Option<String>,
    /// The log filter of the children; without it, `$CAMRING_LOG`.
    pub log: Option<String>,
    /// Where the site was read, to read it again. Without it, nothing can be changed at run time.
    pub config: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: Some("camring".into()),
            log: None,
            config: None,
        }
    }
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime folder, its lock or its socket.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// More processes than allowed.
    #[error(
        "{wanted} processes are needed (one for each enabled stream, one more for each that is \
         recorded, the spawner and the server), but [limits] max_processes is {limit}"
    )]
    Processes {
        /// For this site.
        wanted: u64,
        /// Allowed.
        limit: u32,
    },
    /// The kernel refused something that the daemon cannot do without.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A task of a child, to be waited for at the end.
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What all tasks share.
struct Supervisor {
    site: RefCell<Rc<Site>>,
    options: Options,
    started: Instant,
    /// In the order of the configuration.
    cameras: RefCell<Rc<[Rc<Camera>]>>,
    /// Gone from the configuration, but not at their end.
    leaving: RefCell<Vec<Rc<Camera>>>,
    server: Rc<Service<Server>>,
    reaper: Reaper,
    template: Rc<Template>,
    placement: RefCell<Placement>,
    /// Who decodes what came before somebody looked.
    permits: RefCell<Permits>,
    encoders: RefCell<Encoders>,
    resolver: resolve::Resolver,
    clients: RefCell<broker::Clients>,
    reloads: reload::Reloads,
    /// Tasks to be run.
    tasks: mpsc::UnboundedSender<Task>,
    last_camera: Cell<u32>,
    last_order: Cell<u64>,
    last_ring: Cell<u64>,
    last_attachment: Cell<u64>,
    status: RefCell<Option<(Instant, Rc<str>)>>,
}

/// Runs a site until SIGTERM or SIGINT; a second one ends it at once. SIGHUP has it read its
/// configuration again. On the main thread.
///
/// The binary must be one that becomes a spawner when its first argument is
/// [`spawner::ARGUMENT`]: it is executed again.
///
/// # Errors
/// Another daemon runs, or the machine lacks what it takes. Once it runs, nothing that a camera, a
/// reader or a client does ends it.
pub fn run(site: Site, options: &Options) -> Result<(), RunError> {
    let system = |what| move |source: io::Error| RunError::System { what, source };
    let wanted = site.processes();
    if wanted > u64::from(site.limits.max_processes) {
        return Err(RunError::Processes {
            wanted,
            limit: site.limits.max_processes,
        });
    }
    // It holds every camera's password: no core file, no look from other processes of this user.
    sys::process::not_dumpable().map_err(system("make this process not dumpable"))?;
    sys::process::become_subreaper().map_err(system("become the parent of orphans"))?;
    match sys::process::raise_open_files() {
        Ok(most) if most < 4096 => {
            tracing::warn!(
                "only {most} descriptors are allowed (LimitNOFILE); some 4096 are better"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!("the limit of open descriptors stays as it is: {error}"),
    }
    let allowed = sys::cpu::allowed().map_err(system("see which cores are allowed"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(policy::RESOLVERS + policy::FILE_THREADS)
        .build()
        .map_err(system("start the runtime"))?;
    // Before there is anything to clear away: from here on a signal ends it in order.
    let signals = {
        let _context = runtime.enter();
        Signals::new().map_err(system("listen to signals"))?
    };
    let group = options.group.as_deref();
    let place = Place::take(&site.runtime_dir, &site.attach_socket(), group)?;
    let swept = health::sweep_stale();
    if swept > 0 {
        tracing::info!("removed {swept} health pages of a daemon that was killed");
    }

    let (spawn, children) = mpsc::unbounded_channel();
    let supervisor = Rc::new(Supervisor::new(site, allowed, options, spawn));
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        tracing::info!(
            site = %supervisor.site().name,
            cameras = supervisor.cameras().len(),
            runtime_dir = %place.dir().display(),
            "running"
        );
        tokio::task::spawn_local(supervisor.clone().let_in(place));
        supervisor.clone().work(signals, children).await;
    });
    // Clients are hung up on, and the socket goes, before the lock does: with the task that has them.
    drop(tasks);
    // A lookup may still hang in libc: not waited for.
    runtime.shutdown_background();
    Ok(())
}

impl Supervisor {
    fn new(
        site: Site,
        allowed: Vec<u32>,
        options: &Options,
        tasks: mpsc::UnboundedSender<Task>,
    ) -> Self {
        let reaper = Reaper::default();
        let server = match site.serves() {
            true => Order::Run(0),
            false => Order::Rest,
        };
        let supervisor = Self {
            started: Instant::now(),
            cameras: RefCell::new(Rc::new([])),
            leaving: RefCell::default(),
            server: Rc::new(Service::new(Server::default(), server)),
            template: Template::new(reaper.clone(), options.log.clone()),
            reaper,
            permits: RefCell::new(Permits::new(allowed.len())),
            placement: RefCell::new(Placement::new(allowed)),
            encoders: RefCell::new(Encoders::new(site.max_encoders)),
            resolver: resolve::Resolver::new(),
            clients: RefCell::default(),
            reloads: reload::Reloads::default(),
            tasks,
            last_camera: Cell::new(0),
            last_order: Cell::new(0),
            last_ring: Cell::new(0),
            last_attachment: Cell::new(0),
            status: RefCell::default(),
            options: options.clone(),
            site: RefCell::new(Rc::new(site)),
        };
        let site = supervisor.site();
        let cameras = site.streams.iter();
        let cameras = cameras
            .map(|stream| supervisor.new_camera(stream))
            .collect();
        *supervisor.cameras.borrow_mut() = cameras;
        supervisor
    }

    /// The configuration, now.
    fn site(&self) -> Rc<Site> {
        self.site.borrow().clone()
    }

    /// All cameras, now.
    fn cameras(&self) -> Rc<[Rc<Camera>]> {
        self.cameras.borrow().clone()
    }

    fn new_camera(&self, stream: &Stream) -> Rc<Camera> {
        let index = self.last_camera.get();
        self.last_camera.set(index + 1);
        let recorder = Recorder::new(index, stream);
        Rc::new(Camera::new(index, Rc::new(stream.clone()), recorder))
    }

    /// Starts the tasks of a camera, after a pause.
    fn keep_camera(self: &Rc<Self>, camera: &Rc<Camera>, pause: Duration) {
        let reader = child::keep(self.clone(), camera.clone(), pause);
        let recorder = service::keep(self.clone(), camera.recorder.clone(), pause);
        // Its receiver ends with the daemon only.
        let _ = self.tasks.send(Box::pin(reader));
        let _ = self.tasks.send(Box::pin(recorder));
    }

    /// To all children.
    fn order_all(&self, order: Order) {
        for camera in self.cameras().iter().chain(&*self.leaving.borrow()) {
            service::give(&camera.order, order);
            service::give(&camera.recorder.order, order);
        }
        service::give(&self.server.order, order);
    }

    /// From the first child to the last.
    async fn work(self: Rc<Self>, mut signals: Signals, mut tasks: mpsc::UnboundedReceiver<Task>) {
        let mut notifier = Notifier::new();
        let warm = tokio::task::spawn_local(self.template.clone().keep());
        let mut children = JoinSet::new();
        let mut pause = Duration::ZERO;
        for camera in self.cameras().iter() {
            self.keep_camera(camera, pause);
            if camera.stream().enabled {
                pause += policy::STAGGER;
            }
        }
        let server = service::keep(self.clone(), self.server.clone(), Duration::ZERO);
        children.spawn_local(server);
        notifier.ready();
        let mut tick = self.ticks();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop(name) => {
                        tracing::info!("{name}: stopping");
                        break;
                    }
                    Asked::Reload => {
                        tokio::task::spawn_local(self.clone().reload("SIGHUP"));
                    }
                },
                Some(task) = tasks.recv() => {
                    children.spawn_local(task);
                }
                // What has ended leaves no trace in it.
                Some(_) = children.join_next() => {}
                _ = tick.tick() => {
                    self.template.sweep();
                    self.grant_permits();
                    self.leaving.borrow_mut().retain(|camera| !camera.has_left());
                    notifier.tick(self.summary());
                }
            }
        }

        notifier.stopping();
        self.order_all(Order::End);
        let all = policy::STOP_GRACE + policy::KILL_GRACE_AT_EXIT;
        let ended = timeout(all, async {
            loop {
                tokio::select! {
                    child = children.join_next() => if child.is_none() { return },
                    asked = signals.next() => if let Asked::Stop(name) = asked {
                        tracing::warn!("{name} again: killing all children");
                        self.order_all(Order::EndNow);
                    }
                }
            }
        });
        if ended.await.is_err() {
            tracing::error!("{} children do not end", children.len());
            children.shutdown().await;
        }
        warm.abort();
        self.template.close(policy::SPAWNER_GRACE).await;
        self.template.sweep();
        tracing::info!("stopped");
    }

    /// Every [`policy::TICK`], at the same moments for all that ask: a hundred cameras are looked
    /// at in one go, not in a hundred wake-ups.
    fn ticks(&self) -> Interval {
        let mut ticks = interval_at(self.started.into(), policy::TICK);
        // Never two in a short time: see `policy::MISSED_TICKS`.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// One line for `systemctl status`.
    fn summary(&self) -> String {
        let cameras = self.cameras();
        let enabled = cameras.iter().filter(|c| !c.rests());
        let mut total = 0;
        let mut streaming = 0;
        let mut others = Vec::new();
        for camera in enabled {
            total += 1;
            let state = camera.state_at_tick();
            if state == State::Streaming {
                streaming += 1;
            } else if others.len() < 8 {
                others.push(format!("{} {state}", camera.id));
            }
        }
        let mut text = format!("{streaming} of {total} cameras streaming");
        if !others.is_empty() {
            text.push_str("; ");
            text.push_str(&others.join(", "));
        }
        text
    }

    /// Tells the readers whose turn it is.
    fn grant_permits(&self) {
        loop {
            let granted = self.permits.borrow_mut().grant(Instant::now());
            let Some((index, request)) = granted else {
                return;
            };
            let cameras = self.cameras();
            let camera = cameras.iter().find(|camera| camera.index == index);
            let message = Outgoing::plain(ToReader::CatchUpGranted { request });
            if !camera.is_some_and(|camera| camera.tell(message)) {
                self.permits.borrow_mut().gone(index);
            }
        }
    }

    /// Tells the recorders whose turn it is to encode.
    fn grant_encoders(&self) {
        loop {
            let granted = self.encoders.borrow_mut().grant();
            let Some(index) = granted else {
                return;
            };
            let cameras = self.cameras();
            match cameras.iter().find(|camera| camera.index == index) {
                Some(camera) => camera.recorder.tell(ToHls::EncoderGranted),
                None => self.encoders.borrow_mut().gone(index),
            }
        }
    }

    /// `camring status --json`.
    fn status_text(&self) -> Rc<str> {
        let mut kept = self.status.borrow_mut();
        match &*kept {
            Some((at, text)) if at.elapsed() < STATUS_AGE => text.clone(),
            _ => {
                let status = status::collect(self);
                // Plain numbers and text: nothing in it can fail to be written.
                let text = serde_json::to_string(&status).unwrap_or_else(|_| "{}".into());
                let text: Rc<str> = text.into();
                *kept = Some((Instant::now(), text.clone()));
                text
            }
        }
    }

    /// Something has changed that whoever brought it about expects to see.
    fn status_is_stale(&self) {
        *self.status.borrow_mut() = None;
    }

    fn next_attachment(&self) -> u64 {
        self.last_attachment.set(self.last_attachment.get() + 1);
        self.last_attachment.get()
    }

    /// Numbers orders to run, so that no two are the same.
    fn next_order(&self) -> u64 {
        self.last_order.set(self.last_order.get() + 1);
        self.last_order.get()
    }

    fn next_ring(&self) -> u64 {
        self.last_ring.set(self.last_ring.get() + 1);
        self.last_ring.get()
    }

    /// What is taken and what there is, for `camera` if it is about one.
    fn ledger(&self, camera: Option<&Camera>) -> Ledger {
        let mut ledger = Ledger {
            site_limit: self.site().limits.memory_total,
            headroom: sys::memory::headroom(),
            ..Ledger::default()
        };
        for other in self.cameras().iter().chain(&*self.leaving.borrow()) {
            let rings = other.rings.borrow();
            ledger.site += rings.bytes_in_use() + rings.bytes_replaced();
            ledger.untouched += rings.bytes_untouched();
        }
        if let Some(camera) = camera {
            ledger.camera = camera.rings.borrow().bytes_in_use();
            ledger.camera_limit = camera.stream().memory_per_camera;
        }
        ledger
    }

    /// Makes a camera's frame ring, hands it to its reader and moves its subscribers there.
    fn make_frame_ring(
        &self,
        camera: &Camera,
        slot_bytes: u64,
        decoder_refs: u32,
        first_sequence: u64,
    ) -> Result<(), Refusal> {
        let stream = camera.stream();
        let ring = &stream.ring;
        let spec = FrameRingSpec {
            depth: ring.depth,
            slots: budget::slots(ring, decoder_refs),
            slot_bytes,
            ring_id: self.next_ring(),
            first_sequence: camera
                .rings
                .borrow()
                .first_sequence(RingKind::Frames, first_sequence),
        };
        let needed = spec
            .file_size()
            .map_err(|error| impossible(slot_bytes, error));
        let made = needed.and_then(|needed| {
            self.make_ring(camera, RingKind::Frames, needed, spec.ring_id, || {
                spec.create()
            })
        });
        if made.is_ok() {
            camera.granted();
        }
        made
    }

    /// Makes a camera's packet ring, and hands it to the reader, if one runs.
    fn make_packet_ring(&self, camera: &Camera) -> Result<(), Refusal> {
        let capacity = camera.stream().ring.packets;
        let spec = PacketRingSpec {
            capacity,
            units: budget::units(capacity),
            ring_id: self.next_ring(),
        };
        let needed = spec
            .file_size()
            .map_err(|error| impossible(capacity, error))?;
        self.make_ring(camera, RingKind::Packets, needed, spec.ring_id, || {
            spec.create()
        })
    }

    fn make_ring(
        &self,
        camera: &Camera,
        kind: RingKind,
        needed: u64,
        ring_id: u64,
        create: impl FnOnce() -> Result<SealedMemory, camring_ring::RingError>,
    ) -> Result<(), Refusal> {
        let mut ledger = self.ledger(Some(camera));
        // The one that it replaces is in use no more.
        let old = camera
            .rings
            .borrow()
            .current(kind)
            .map_or(0, |r| r.memory.len());
        ledger.camera = ledger.camera.saturating_sub(old);
        ledger.check(needed)?;
        let memory = create().map_err(|error| impossible(needed, error))?;
        let mut rings = camera.rings.borrow_mut();
        let installed = rings.install(Ring::new(kind, ring_id, memory));
        let message = installed.map_err(|error| impossible(needed, error))?;
        // Rings that were replaced may be as much again, for as long as somebody looks at them.
        rings.shed_replaced(camera.stream().memory_per_camera);
        drop(rings);
        camera.tell(message);
        Ok(())
    }
}

fn impossible(needed: u64, error: impl std::fmt::Display) -> Refusal {
    Refusal {
        needed,
        available: 0,
        reason: error.to_string(),
    }
}
