//! The life of one camera's readers: started, watched, replaced, for ever.
//!
//! One task per camera. It never waits *on* a child: every wait is also a wait for the child's
//! end, for the shutdown, or for a deadline.
#![deny(unsafe_code)]

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::time::{sleep, timeout};

use super::Supervisor;
use super::camera::Camera;
use super::ends::{at, crashed, describe, printable};
use super::outbox::{Outbox, send_all};
use super::policy::{self, Backoff, Heartbeat};
use super::reaper::Watched;
use super::rings::Outgoing;
use super::service::Order;
use super::spawner::Role;
use super::template::ForkError;
use crate::control::{
    AsyncControl, ControlError, ControlSocket, ReaderStart, Received, RingKind, ToReader,
    ToSupervisor,
};
use crate::health::{HealthError, State, Watch};
use crate::sys::process::{self, Exit};
use crate::sys::{clock, usage};

/// Forks tried in a row with new templates before it counts as a failure of the camera.
const FORK_TRIES: u32 = 3;
/// Frame rings that a reader may ask for in [`RING_PERIOD`]. An honest one asks when the picture
/// size changes.
const RINGS_PER_PERIOD: u32 = 10;
const RING_PERIOD: Duration = Duration::from_secs(10);

/// Why a reader could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("packet ring: {0}")]
    Ring(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// How a reader's life ended.
struct End {
    exit: Option<Exit>,
    /// Its own last words, or what the supervisor held against it.
    reason: Option<String>,
    /// The supervisor ended it.
    condemned: bool,
    ran: Duration,
}

/// Keeps a camera's reader as ordered until the last order, come what may: not even a fault of this
/// program, which a reader's messages might bring about, may leave a camera without.
pub(super) async fn keep(supervisor: Rc<Supervisor>, camera: Rc<Camera>, first_pause: Duration) {
    let mut pause = first_pause;
    loop {
        let kept = try_keep(&supervisor, &camera, pause);
        if AssertUnwindSafe(kept).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(camera = %camera.id, "a fault of this program; starting over");
        // The reader was killed with its `Watched`; whether it has ended is not known.
        camera.disconnect();
        camera.rings.borrow_mut().abandon();
        camera.life.borrow_mut().end();
        supervisor.placement.borrow_mut().remove(camera.index);
        pause = policy::FAULT_PAUSE;
    }
}

async fn try_keep(supervisor: &Rc<Supervisor>, camera: &Rc<Camera>, first_pause: Duration) {
    let mut orders = camera.order.subscribe();
    let mut backoff = Backoff::new(&camera.wanted().retry);
    let mut pause = first_pause;
    let mut started = false;
    loop {
        let order = *orders.borrow_and_update();
        camera.take_up();
        match order {
            Order::End | Order::EndNow => {
                if camera.removed.get() {
                    camera.rings.borrow_mut().remove();
                    supervisor.placement.borrow_mut().forget(camera.index);
                }
                return;
            }
            Order::Rest => {
                camera.rings.borrow_mut().abandon();
                camera.rest();
                supervisor.status_is_stale();
                // The sender is the camera's own.
                let _ = orders.changed().await;
                backoff = Backoff::new(&camera.wanted().retry);
                pause = Duration::ZERO;
                continue;
            }
            Order::Run(_) => {}
        }
        tokio::select! {
            biased;
            _ = orders.wait_for(|now| *now != order) => {
                pause = Duration::ZERO;
                continue;
            }
            () = sleep(pause) => {}
        }
        // A spawner that does not answer is waited for longer than a shutdown may take.
        let reader = tokio::select! {
            biased;
            _ = orders.wait_for(|now| *now != order) => continue,
            reader = Reader::start(supervisor, camera, started, order) => reader,
        };
        let (state, said) = match reader {
            Ok(reader) => {
                started = true;
                let end = reader.live().await;
                supervisor.placement.borrow_mut().remove(camera.index);
                if *orders.borrow() != order {
                    // It ended because it was asked to.
                    let mut life = camera.life.borrow_mut();
                    life.set_state(State::Connecting, "starting anew".into());
                    backoff = Backoff::new(&camera.wanted().retry);
                    pause = Duration::ZERO;
                    continue;
                }
                // In a block: the borrow must not live until the next `await`.
                {
                    let mut life = camera.life.borrow_mut();
                    life.failures.count(end.exit, end.condemned);
                }
                if crashed(end.exit) {
                    // Not while another camera waits for it to fork.
                    tokio::select! {
                        biased;
                        _ = orders.wait_for(|now| *now != order) => continue,
                        () = supervisor.template.replace() => {}
                    }
                }
                pause = backoff.next(end.ran, fastrand::f64());
                let said = describe("the reader", end.exit, end.reason.as_deref());
                (State::Backoff, said)
            }
            Err(error) => {
                supervisor.placement.borrow_mut().remove(camera.index);
                pause = backoff.next(Duration::ZERO, fastrand::f64());
                camera.life.borrow_mut().failures.not_started += 1;
                (
                    State::Failed,
                    format!("no reader could be started: {error}"),
                )
            }
        };
        let reason = format!("{said}; next try in {:.1} s", pause.as_secs_f64());
        tracing::warn!(camera = %camera.id, "{reason}");
        camera.life.borrow_mut().set_state(state, reason);
        supervisor.status_is_stale();
    }
}

/// A running reader.
struct Reader<'a> {
    supervisor: &'a Rc<Supervisor>,
    camera: &'a Rc<Camera>,
    process: Watched,
    control: AsyncControl,
    /// The order that it follows: it ends with any other.
    order: Order,
    begun: Instant,
    /// Why it is being killed.
    verdict: Option<String>,
    last_words: Option<String>,
    rings_asked: (Instant, u32),
    resolving: Rc<Cell<bool>>,
}

impl<'a> Reader<'a> {
    async fn start(
        supervisor: &'a Rc<Supervisor>,
        camera: &'a Rc<Camera>,
        again: bool,
        order: Order,
    ) -> Result<Self, StartError> {
        if camera.rings.borrow().current(RingKind::Packets).is_none() {
            let ring = supervisor.make_packet_ring(camera);
            ring.map_err(|refusal| StartError::Ring(refusal.to_string()))?;
        }
        let cpus = supervisor
            .placement
            .borrow_mut()
            .place(camera.index, &camera.stream().cpu);
        let mut tries = 0;
        let (process, control, watch) = loop {
            tries += 1;
            // Everything anew: a process that nobody knows may have the last try's.
            let watch = Watch::create(camera.index)?;
            let (ours, theirs) = ControlSocket::pair()?;
            let title = format!("camring: reader {}", camera.id);
            let name = format!("read {}", camera.id);
            match supervisor
                .template
                .fork(Role::Reader, &title, &name, theirs)
                .await
            {
                Ok(process) => break (process, AsyncControl::new(ours)?, watch),
                Err(error) if tries == FORK_TRIES => return Err(error.into()),
                Err(error) => {
                    tracing::info!(camera = %camera.id, "{error}; trying a new one");
                }
            }
        };
        // Counted now that it runs: a try without a process is no restart.
        camera.life.borrow_mut().restarts += u32::from(again);
        let start = ToReader::Start(Box::new(ReaderStart {
            camera: camera.stream().as_ref().clone(),
            health_name: watch.name().to_owned(),
            index: camera.index,
            cpus: cpus.clone(),
            restarts: camera.life.borrow().restarts,
            sandbox: supervisor.site().sandbox,
        }));
        {
            let mut life = camera.life.borrow_mut();
            life.cpus = cpus;
            life.begin(process.pid(), watch);
            life.set_state(State::Connecting, "the reader is starting".into());
        }
        let reader = Self {
            supervisor,
            camera,
            process,
            control,
            order,
            begun: Instant::now(),
            verdict: None,
            last_words: None,
            rings_asked: (Instant::now(), 0),
            resolving: Rc::default(),
        };
        // It fits the empty socket's buffer; an error is the child's death, seen next.
        let _ = timeout(policy::READY_TIMEOUT, reader.control.send(&start, &[])).await;
        Ok(reader)
    }

    /// From the start message to the end of the process.
    async fn live(mut self) -> End {
        let mut stopping = false;
        if self.introduce().await {
            stopping = self.attend().await;
        }
        self.camera.disconnect();
        self.supervisor.permits.borrow_mut().gone(self.camera.index);
        self.supervisor.grant_permits();
        let exit = self.await_end(stopping).await;
        self.hear_last_words();
        let ran = self.begun.elapsed();
        {
            let mut rings = self.camera.rings.borrow_mut();
            match exit {
                Some(_) => rings.close_replaced(),
                // SIGKILL is pending: it can execute no further instruction of its own, so its
                // rings can be marked; but its mappings are still there, and it is not waited for.
                None => rings.abandon(),
            }
        }
        self.camera.life.borrow_mut().end();
        if exit.is_none() {
            self.leave_behind();
        }
        End {
            exit,
            condemned: self.verdict.is_some(),
            reason: self.verdict.or(self.last_words),
            ran,
        }
    }

    /// Waits for Ready, then sends rings, subscribers and Go. `false`: it is over.
    async fn introduce(&mut self) -> bool {
        let order = self.order;
        let mut orders = self.camera.order.subscribe();
        let ready = tokio::select! {
            biased;
            _ = self.process.exited() => return false,
            _ = orders.wait_for(|now| *now != order) => return true,
            ready = timeout(policy::READY_TIMEOUT, self.control.recv::<ToSupervisor>()) => ready,
        };
        let mut life = self.camera.life.borrow_mut();
        if let Some(watch) = &mut life.watch {
            watch.unlink();
        }
        match ready {
            Ok(Ok(Some(Received {
                message: ToSupervisor::Ready,
                fds,
            }))) => {
                life.rollup = fds.into_iter().next().and_then(usage::Rollup::new);
            }
            Ok(Ok(Some(Received {
                message: ToSupervisor::Fault { text },
                ..
            }))) => {
                self.last_words = Some(printable(&text));
                return false;
            }
            // It is ending; how, its exit status tells.
            Ok(Ok(None)) => return false,
            Ok(Ok(Some(_))) => {
                self.verdict = Some("its first message was not ready".into());
                return false;
            }
            Ok(Err(error)) => {
                self.verdict = Some(error.to_string());
                return false;
            }
            Err(_) => {
                let seconds = policy::READY_TIMEOUT.as_secs();
                self.verdict = Some(format!("it was not ready within {seconds} s"));
                return false;
            }
        }
        drop(life);
        // From here to `connect` nothing else runs on this thread: every subscriber is either in
        // the list or sent through the outbox, after it.
        let first = self.camera.rings.borrow().for_new_reader();
        match first {
            Ok(mut first) => {
                first.extend(self.camera.first_demand());
                first.push(Outgoing::plain(ToReader::Go));
                self.camera.connect(first);
                true
            }
            Err(error) => {
                self.verdict = Some(format!("its rings cannot be handed to it: {error}"));
                false
            }
        }
    }

    /// Serves the reader until it ends, must be ended, or has been asked to stop and given its
    /// time. Returns whether it was asked.
    async fn attend(&mut self) -> bool {
        let outbox = self.camera.outbox();
        let order = self.order;
        let mut orders = self.camera.order.subscribe();
        let mut at_once = self.camera.order.subscribe();
        let mut tick = self.supervisor.ticks();
        let mut network = Heartbeat::new(policy::HEARTBEAT_TIMEOUT);
        let mut decoder = Heartbeat::new(policy::DECODE_HEARTBEAT_TIMEOUT);
        let mut deadline: Option<tokio::time::Instant> = None;
        loop {
            // Not biased: a reader that floods its socket must not keep the tick from coming.
            tokio::select! {
                _ = self.process.exited() => return deadline.is_some(),
                _ = at_once.wait_for(|now| *now == Order::EndNow) => {
                    self.verdict = Some("shutdown".into());
                    return true;
                }
                _ = orders.wait_for(|now| *now != order), if deadline.is_none() => {
                    deadline = Some(tokio::time::Instant::now() + policy::STOP_GRACE);
                    if self.camera.tell(Outgoing::plain(ToReader::Stop)) {
                        continue;
                    }
                    // Not introduced yet: it has no camera to say goodbye to.
                    let _ = timeout(policy::TICK, self.control.send(&ToReader::Stop, &[])).await;
                }
                () = at(deadline), if deadline.is_some() => {
                    self.verdict = Some("it did not stop in time".into());
                    return true;
                }
                message = self.control.recv::<ToSupervisor>() => {
                    if let Err(verdict) = self.receive(message) {
                        self.verdict = verdict;
                        return deadline.is_some();
                    }
                }
                error = send_all(&self.control, outbox.as_deref()) => {
                    // Its end closed: it is ending, or has closed what it must not.
                    tracing::debug!(camera = %self.camera.id, "{error}");
                    let grace = timeout(policy::STOP_GRACE, self.process.exited()).await;
                    if grace.is_err() {
                        self.verdict = Some("it closed its control socket".into());
                    }
                    return deadline.is_some();
                }
                _ = tick.tick() => {
                    self.camera.tell_demand();
                    if let Some(verdict) = self.look(outbox.as_deref(), &mut network, &mut decoder) {
                        self.verdict = Some(verdict);
                        return deadline.is_some();
                    }
                }
            }
        }
    }

    /// Once a second. A verdict, if it must be killed.
    fn look(
        &mut self,
        outbox: Option<&Outbox>,
        network: &mut Heartbeat,
        decoder: &mut Heartbeat,
    ) -> Option<String> {
        let mut life = self.camera.life.borrow_mut();
        let Some(seen) = life.look() else {
            return Some("its health page cannot be read".into());
        };
        if let Some(pixels) = life.pixels_per_second() {
            let mut placement = self.supervisor.placement.borrow_mut();
            placement.measure(self.camera.index, pixels);
        }
        if outbox.is_some_and(Outbox::overflown) {
            return Some("it does not read its messages".into());
        }
        let now = clock::monotonic_ns();
        if let Some(age) = network.check(seen.figures.heartbeat_ns, now) {
            let seconds = age.as_secs();
            return Some(format!(
                "no sign of life of its network thread for {seconds} s"
            ));
        }
        // 0: it has not started to decode.
        let beat = seen.figures.decode_heartbeat_ns;
        if beat != 0
            && let Some(age) = decoder.check(beat, now)
        {
            let seconds = age.as_secs();
            return Some(format!(
                "no sign of life of its decode thread for {seconds} s"
            ));
        }
        None
    }

    /// Handles a message. An error ends the reader, with a verdict if it is not ending by itself.
    fn receive(
        &mut self,
        message: Result<Option<Received<ToSupervisor>>, ControlError>,
    ) -> Result<(), Option<String>> {
        let message = match message {
            // It is ending: give it the time to do so, `await_end` has the deadline.
            Ok(None) => return Err(None),
            Ok(Some(Received { message, .. })) => message,
            Err(error) => return Err(Some(error.to_string())),
        };
        match message {
            ToSupervisor::Ready => return Err(Some("it said ready twice".into())),
            ToSupervisor::NeedFrameRing {
                slot_bytes,
                decoder_refs,
                first_sequence,
            } => self.need_frame_ring(slot_bytes, decoder_refs, first_sequence),
            ToSupervisor::NeedViewRing { .. } | ToSupervisor::NeedAudioRing
                if self.asks_too_much() => {}
            ToSupervisor::NeedViewRing { view } => {
                self.supervisor.replace_view_ring(self.camera, view);
            }
            ToSupervisor::NeedAudioRing => self.supervisor.see_to_audio_ring(self.camera),
            ToSupervisor::NeedPacketRing => {
                if let Err(refusal) = self.supervisor.make_packet_ring(self.camera) {
                    return Err(Some(format!("no other packet ring: {refusal}")));
                }
            }
            ToSupervisor::SubscriberAdded { id } => self.camera.rings.borrow_mut().known(id),
            ToSupervisor::SubscriberRefused { id } => self.camera.rings.borrow_mut().refused(id),
            ToSupervisor::SubscriberRemoved { id } => {
                tracing::trace!(camera = %self.camera.id, id, "subscriber removed");
            }
            ToSupervisor::CatchUp { request } => {
                let ask = (self.camera.index, request);
                self.supervisor.permits.borrow_mut().ask(ask);
                self.supervisor.grant_permits();
            }
            ToSupervisor::CaughtUp { request } => {
                let ask = (self.camera.index, request);
                self.supervisor.permits.borrow_mut().done(ask);
                self.supervisor.grant_permits();
            }
            ToSupervisor::Resolve { host } => self.resolve(host),
            ToSupervisor::Fault { text } => self.last_words = Some(printable(&text)),
        }
        Ok(())
    }

    /// Whether it has asked for more rings than any honest reader does.
    fn asks_too_much(&mut self) -> bool {
        let (since, count) = &mut self.rings_asked;
        if since.elapsed() > RING_PERIOD {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        *count > RINGS_PER_PERIOD
    }

    fn need_frame_ring(&mut self, slot_bytes: u64, decoder_refs: u32, first_sequence: u64) {
        let made = if self.asks_too_much() {
            Err(super::budget::Refusal {
                needed: slot_bytes,
                available: 0,
                reason: format!("more than {RINGS_PER_PERIOD} rings in {RING_PERIOD:?}"),
            })
        } else {
            self.supervisor
                .make_frame_ring(self.camera, slot_bytes, decoder_refs, first_sequence)
        };
        if let Err(refusal) = made {
            if self.camera.refused(refusal.clone()) {
                tracing::warn!(camera = %self.camera.id, "{refusal}");
            }
            self.camera
                .tell(Outgoing::plain(ToReader::FrameRingRefused {
                    needed: refusal.needed,
                    available: refusal.available,
                    reason: refusal.reason,
                }));
        }
    }

    fn resolve(&mut self, host: String) {
        let outbox = self.camera.outbox();
        let own = self.camera.stream().url.host_str() == Some(host.as_str());
        if !own || self.resolving.replace(true) {
            // A reader taken over by its camera must not talk to the world through DNS.
            let result = Err("only the camera's own host, one lookup at a time".to_owned());
            self.camera
                .tell(Outgoing::plain(ToReader::Resolved { result }));
            return;
        }
        let resolver = self.supervisor.resolver.clone();
        let resolving = self.resolving.clone();
        tokio::task::spawn_local(async move {
            let result = resolver.resolve(&host).await;
            resolving.set(false);
            // To this reader only: the outbox is its own.
            if let Some(outbox) = outbox {
                outbox.push(Outgoing::plain(ToReader::Resolved { result }));
            }
        });
    }

    /// Sees the process end; kills it when it is condemned or takes too long. `None`: not even
    /// that ended it.
    async fn await_end(&self, stopping: bool) -> Option<Exit> {
        if self.verdict.is_none() {
            // Its socket is closed, or it was asked to stop: it is on its way out.
            if let Ok(exit) = timeout(policy::STOP_GRACE, self.process.exited()).await {
                return Some(exit);
            }
        }
        self.process.kill();
        let grace = if stopping {
            policy::KILL_GRACE_AT_EXIT
        } else {
            policy::KILL_GRACE
        };
        timeout(grace, self.process.exited()).await.ok()
    }

    /// What it said between the last look at the socket and its end.
    fn hear_last_words(&mut self) {
        while let Ok(Some(Received { message, .. })) = self.control.try_recv::<ToSupervisor>() {
            match message {
                ToSupervisor::Fault { text } => self.last_words = Some(printable(&text)),
                ToSupervisor::NeedPacketRing => {
                    if let Err(refusal) = self.supervisor.make_packet_ring(self.camera) {
                        self.last_words = Some(format!("no other packet ring: {refusal}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Hands a process that cannot be killed to a task that reaps it, should it ever end.
    fn leave_behind(&mut self) {
        let pid = self.process.pid();
        tracing::error!(
            camera = %self.camera.id,
            "reader {} does not end after SIGKILL (state {}); its rings are given up",
            pid.as_raw_pid(),
            process::state_letter(pid).unwrap_or('?'),
        );
        // `Reaper::sweep` takes it when it ends: nobody watches it any more.
    }
}
