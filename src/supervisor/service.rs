//! A child that is no reader, run for as long as it is wanted: what records a stream, and what serves
//! HTTP.
//!
//! Started, watched by its reports, given time to end, replaced with growing pauses, for ever; nothing
//! that it says or does costs a camera or the supervisor anything. It must never be waited on.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::ends::{Failures, at, crashed, describe, printable};
use super::policy::{self, Backoff, Heartbeat};
use super::reaper::Watched;
use super::{Supervisor, template::ForkError};
use crate::config::Retry;
use crate::control::{AsyncControl, ControlError, Received};
use crate::sys::process::Exit;
use crate::sys::{clock, usage};

/// What the task of a child is to do. [`Order::End`] and [`Order::EndNow`] are the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Run it; another number: anew.
    Run(u64),
    /// Let it end, and start none.
    Rest,
    /// The same for ever.
    End,
    /// The same, without time for goodbyes.
    EndNow,
}

impl Order {
    /// Whether it is one of those after which nothing comes.
    pub fn is_last(self) -> bool {
        matches!(self, Self::End | Self::EndNow)
    }
}

/// Sets an order, unless the last one has been given.
pub(super) fn give(order: &watch::Sender<Order>, new: Order) {
    order.send_if_modified(|order| {
        let change = *order != new && (!order.is_last() || new == Order::EndNow);
        if change {
            *order = new;
        }
        change
    });
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What a message of a child comes to.
pub(super) enum Heard {
    /// It has begun.
    Ready,
    /// It lives.
    Alive,
    /// Why it is about to end.
    Fault(String),
    /// Something that says nothing of itself.
    Other,
}

/// What a child is for.
pub(super) trait Job: 'static {
    /// What it is told.
    type To: Serialize + 'static;
    /// What it says.
    type From: DeserializeOwned + 'static;
    /// How long it may take to begin.
    const READY: Duration;
    /// Whether it is a fork of the template, which is replaced after a crash.
    const FORKED: bool;
    /// For people: `the recorder of front-door`.
    fn name(&self) -> String;
    /// The pauses between tries.
    fn retry(&self, supervisor: &Supervisor) -> Retry;
    /// A process of it.
    async fn launch(&self, supervisor: &Supervisor)
    -> Result<(Watched, AsyncControl), LaunchError>;
    /// What a new process is told at first.
    fn first(&self, supervisor: &Supervisor) -> Vec<Self::To>;
    /// The order to end.
    fn stop() -> Self::To;
    /// What it has said.
    fn hear(&self, supervisor: &Rc<Supervisor>, message: Self::From) -> Heard;
    /// Its process is gone.
    fn ended(&self, supervisor: &Rc<Supervisor>);
}

/// Of a child's life, what does not depend on what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not wanted.
    Off,
    /// Until it says that it has begun.
    Starting,
    Running,
    /// It ended, and the next try has its time.
    Backoff,
}

/// What is known of a child, present or last.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
    reason: String,
    since_unix_ms: u64,
    pid: Option<rustix::process::Pid>,
    restarts: u32,
    failures: Failures,
    rollup: Option<usage::Rollup>,
    memory: Option<u64>,
    ticks: u64,
    cpu: VecDeque<(Instant, u64)>,
    /// CPU time of all earlier processes.
    cpu_before_ns: u64,
}

/// The same, for status.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub phase: Phase,
    pub reason: String,
    pub since_unix_ms: u64,
    pub pid: Option<i32>,
    pub restarts: u32,
    pub failures: Failures,
    pub cpu_percent: f64,
    /// Of all processes so far, as of the last tick.
    pub cpu_ns: u64,
    pub memory_bytes: Option<u64>,
}

/// How far back the use of the CPU is looked at, in ticks.
const WINDOW: usize = 10;
/// How many ticks between looks at the PSS, which is dear.
const PSS_EVERY: u64 = 10;

impl Life {
    fn set(&mut self, phase: Phase, reason: String) {
        if phase != self.phase {
            self.since_unix_ms = clock::unix_ms();
        }
        self.phase = phase;
        self.reason = reason;
    }

    fn look(&mut self) {
        let Some(pid) = self.pid else {
            return;
        };
        if let Some(cpu) = usage::cpu_time_ns(pid) {
            if self.cpu.len() > WINDOW {
                self.cpu.pop_front();
            }
            self.cpu.push_back((Instant::now(), cpu));
        }
        if self.ticks.is_multiple_of(PSS_EVERY) {
            let pss = self.rollup.as_ref().and_then(usage::Rollup::pss_bytes);
            self.memory = pss.or_else(|| usage::resident_bytes(pid));
        }
        self.ticks += 1;
    }

    fn cpu_ns(&self) -> u64 {
        let now = self.cpu.back().map_or(0, |(_, used)| *used);
        self.cpu_before_ns.saturating_add(now)
    }

    fn cpu_percent(&self) -> f64 {
        let (Some(first), Some(last)) = (self.cpu.front(), self.cpu.back()) else {
            return 0.0;
        };
        let wall = last.0.duration_since(first.0).as_nanos();
        match wall {
            0 => 0.0,
            wall => last.1.saturating_sub(first.1) as f64 / wall as f64 * 100.0,
        }
    }
}

/// A child and what it is for.
pub(super) struct Service<J: Job> {
    pub job: J,
    pub order: watch::Sender<Order>,
    outbox: RefCell<VecDeque<Rc<J::To>>>,
    wake: Notify,
    life: RefCell<Life>,
}

impl<J: Job> std::fmt::Debug for Service<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.job.name())
            .field("order", &*self.order.borrow())
            .finish_non_exhaustive()
    }
}

impl<J: Job> Service<J> {
    pub fn new(job: J, order: Order) -> Self {
        Self {
            job,
            order: watch::Sender::new(order),
            outbox: RefCell::default(),
            wake: Notify::new(),
            life: RefCell::new(Life {
                phase: Phase::Off,
                reason: String::new(),
                since_unix_ms: clock::unix_ms(),
                pid: None,
                restarts: 0,
                failures: Failures::default(),
                rollup: None,
                memory: None,
                ticks: 0,
                cpu: VecDeque::new(),
                cpu_before_ns: 0,
            }),
        }
    }

    /// Says something to the process, if there is one; the next one begins with
    /// [`Job::first`].
    pub fn tell(&self, message: J::To) {
        if self.life.borrow().pid.is_some() {
            self.outbox.borrow_mut().push_back(Rc::new(message));
            self.wake.notify_one();
        }
    }

    pub fn report(&self) -> Report {
        let life = self.life.borrow();
        Report {
            phase: life.phase,
            reason: life.reason.clone(),
            since_unix_ms: life.since_unix_ms,
            pid: life.pid.map(|pid| pid.as_raw_pid()),
            restarts: life.restarts,
            failures: life.failures,
            cpu_percent: life.cpu_percent(),
            cpu_ns: life.cpu_ns(),
            memory_bytes: life.memory,
        }
    }

    /// Waits for the oldest message. It stays until it has been sent. Cancel-safe.
    async fn front(&self) -> Rc<J::To> {
        loop {
            let front = self.outbox.borrow().front().cloned();
            match front {
                Some(message) => return message,
                None => self.wake.notified().await,
            }
        }
    }
}

/// Keeps a child as ordered until the last order, come what may.
pub(super) async fn keep<J: Job>(
    supervisor: Rc<Supervisor>,
    service: Rc<Service<J>>,
    first_pause: Duration,
) {
    let mut pause = first_pause;
    loop {
        let kept = try_keep(&supervisor, &service, pause);
        if AssertUnwindSafe(kept).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(
            "{}: a fault of this program; starting over",
            service.job.name()
        );
        gone(&supervisor, &service);
        pause = policy::FAULT_PAUSE;
    }
}

/// The process is no more.
fn gone<J: Job>(supervisor: &Rc<Supervisor>, service: &Service<J>) {
    {
        let mut life = service.life.borrow_mut();
        life.pid = None;
        life.rollup = None;
        life.memory = None;
        life.ticks = 0;
        life.cpu_before_ns = life.cpu_ns();
        life.cpu.clear();
    }
    service.outbox.borrow_mut().clear();
    service.job.ended(supervisor);
    supervisor.status_is_stale();
}

async fn try_keep<J: Job>(
    supervisor: &Rc<Supervisor>,
    service: &Rc<Service<J>>,
    first_pause: Duration,
) {
    let mut orders = service.order.subscribe();
    let mut retry = service.job.retry(supervisor);
    let mut backoff = Backoff::new(&retry);
    let mut pause = first_pause;
    let mut again = false;
    loop {
        let order = *orders.borrow_and_update();
        if order.is_last() {
            return;
        }
        // The configuration may have changed.
        let wanted = service.job.retry(supervisor);
        if wanted != retry {
            retry = wanted;
            backoff = Backoff::new(&retry);
        }
        if order == Order::Rest {
            service.life.borrow_mut().set(Phase::Off, String::new());
            // The sender is the service's own.
            let _ = orders.changed().await;
            pause = Duration::ZERO;
            continue;
        }
        let phase = match again {
            true => Phase::Backoff,
            false => Phase::Starting,
        };
        if !again {
            service.life.borrow_mut().set(phase, "starting".into());
        }
        tokio::select! {
            biased;
            _ = orders.wait_for(|now| *now != order) => {
                pause = Duration::ZERO;
                continue;
            }
            () = sleep(pause) => {}
        }
        let launched = tokio::select! {
            biased;
            _ = orders.wait_for(|now| *now != order) => continue,
            launched = service.job.launch(supervisor) => launched,
        };
        let said = match launched {
            Ok((process, control)) => {
                let child = Child::new(supervisor, service, process, control, order);
                let end = child.live(again).await;
                again = true;
                if *orders.borrow() != order {
                    // Ended because it was asked to.
                    again = false;
                    pause = Duration::ZERO;
                    continue;
                }
                // In a block: the borrow must not live until the next `await`.
                {
                    let mut life = service.life.borrow_mut();
                    life.failures.count(end.exit, end.condemned);
                }
                if J::FORKED && crashed(end.exit) {
                    tokio::select! {
                        biased;
                        _ = orders.wait_for(|now| *now != order) => continue,
                        () = supervisor.template.replace() => {}
                    }
                }
                pause = backoff.next(end.ran, fastrand::f64());
                describe("the process", end.exit, end.reason.as_deref())
            }
            Err(error) => {
                again = true;
                service.life.borrow_mut().failures.not_started += 1;
                pause = backoff.next(Duration::ZERO, fastrand::f64());
                format!("it could not be started: {error}")
            }
        };
        let reason = format!("{said}; next try in {:.1} s", pause.as_secs_f64());
        tracing::warn!("{}: {reason}", service.job.name());
        service.life.borrow_mut().set(Phase::Backoff, reason);
        supervisor.status_is_stale();
    }
}

/// How a process's life ended.
struct End {
    exit: Option<Exit>,
    reason: Option<String>,
    /// The supervisor ended it.
    condemned: bool,
    ran: Duration,
}

/// A running process.
struct Child<'a, J: Job> {
    supervisor: &'a Rc<Supervisor>,
    service: &'a Rc<Service<J>>,
    process: Watched,
    control: AsyncControl,
    order: Order,
    begun: Instant,
    beat_ns: u64,
    /// Why it is being killed.
    verdict: Option<String>,
    last_words: Option<String>,
}

impl<'a, J: Job> Child<'a, J> {
    fn new(
        supervisor: &'a Rc<Supervisor>,
        service: &'a Rc<Service<J>>,
        process: Watched,
        control: AsyncControl,
        order: Order,
    ) -> Self {
        Self {
            supervisor,
            service,
            process,
            control,
            order,
            begun: Instant::now(),
            beat_ns: 0,
            verdict: None,
            last_words: None,
        }
    }

    async fn live(mut self, again: bool) -> End {
        {
            let mut life = self.service.life.borrow_mut();
            life.restarts += u32::from(again);
            life.pid = Some(self.process.pid());
            life.set(Phase::Starting, "starting".into());
        }
        for message in self.service.job.first(self.supervisor) {
            self.service.tell(message);
        }
        self.supervisor.status_is_stale();
        let stopping = self.attend().await;
        let exit = self.await_end(stopping).await;
        while let Ok(Some(Received { message, .. })) = self.control.try_recv::<J::From>() {
            if let Heard::Fault(text) = self.service.job.hear(self.supervisor, message) {
                self.last_words = Some(printable(&text));
            }
        }
        gone(self.supervisor, self.service);
        End {
            exit,
            condemned: self.verdict.is_some(),
            reason: self.verdict.or(self.last_words),
            ran: self.begun.elapsed(),
        }
    }

    /// Until it ends, must be ended, or has been asked to and given its time. Returns whether it was
    /// asked.
    async fn attend(&mut self) -> bool {
        let order = self.order;
        let mut asked = self.service.order.subscribe();
        let mut at_once = self.service.order.subscribe();
        let mut tick = self.supervisor.ticks();
        let mut heartbeat = Heartbeat::new(policy::RECORDER_HEARTBEAT_TIMEOUT);
        let mut ready = false;
        let mut deadline: Option<tokio::time::Instant> = None;
        loop {
            // Not biased: a child that floods its socket must not keep the tick from coming.
            tokio::select! {
                _ = self.process.exited() => return deadline.is_some(),
                _ = at_once.wait_for(|now| *now == Order::EndNow) => {
                    self.verdict = Some("shutdown".into());
                    return true;
                }
                _ = asked.wait_for(|now| *now != order), if deadline.is_none() => {
                    deadline = Some(tokio::time::Instant::now() + policy::STOP_GRACE);
                    self.service.tell(J::stop());
                }
                () = at(deadline), if deadline.is_some() => {
                    self.verdict = Some("it did not stop in time".into());
                    return true;
                }
                message = self.control.recv::<J::From>() => {
                    match self.receive(message, &mut ready) {
                        Ok(()) => {}
                        Err(verdict) => {
                            self.verdict = verdict;
                            return deadline.is_some();
                        }
                    }
                }
                message = self.service.front() => {
                    let sent = timeout(policy::STOP_GRACE, self.control.send(&*message, &[]));
                    match sent.await {
                        Ok(Ok(())) => {
                            self.service.outbox.borrow_mut().pop_front();
                        }
                        Ok(Err(ControlError::Io(_))) => {
                            // Its end closed: it is ending.
                            return deadline.is_some();
                        }
                        Ok(Err(error)) => {
                            tracing::error!("{}: {error}", self.service.job.name());
                            self.service.outbox.borrow_mut().pop_front();
                        }
                        Err(_) => {
                            self.verdict = Some("it does not read its messages".into());
                            return deadline.is_some();
                        }
                    }
                }
                _ = tick.tick() => {
                    self.service.life.borrow_mut().look();
                    if self.service.outbox.borrow().len() > policy::OUTBOX {
                        self.verdict = Some("it does not read its messages".into());
                        return deadline.is_some();
                    }
                    if !ready && self.begun.elapsed() > J::READY {
                        let seconds = J::READY.as_secs();
                        self.verdict = Some(format!("it was not ready within {seconds} s"));
                        return deadline.is_some();
                    }
                    let age = heartbeat.check(self.beat_ns, clock::monotonic_ns());
                    if let Some(age) = age.filter(|_| ready) {
                        let seconds = age.as_secs();
                        self.verdict = Some(format!("no sign of life for {seconds} s"));
                        return deadline.is_some();
                    }
                }
            }
        }
    }

    /// Handles a message. An error ends it, with a verdict if it is not ending by itself.
    fn receive(
        &mut self,
        message: Result<Option<Received<J::From>>, ControlError>,
        ready: &mut bool,
    ) -> Result<(), Option<String>> {
        let Received { message, fds } = match message {
            Ok(None) => return Err(None),
            Ok(Some(received)) => received,
            Err(error) => return Err(Some(error.to_string())),
        };
        match self.service.job.hear(self.supervisor, message) {
            Heard::Ready if *ready => return Err(Some("it said ready twice".into())),
            Heard::Ready => {
                *ready = true;
                self.beat_ns = clock::monotonic_ns();
                let mut life = self.service.life.borrow_mut();
                life.rollup = fds.into_iter().next().and_then(usage::Rollup::new);
                life.ticks = 0;
                life.set(Phase::Running, String::new());
                drop(life);
                self.supervisor.status_is_stale();
            }
            Heard::Alive => self.beat_ns = clock::monotonic_ns(),
            Heard::Fault(text) => self.last_words = Some(printable(&text)),
            Heard::Other => {}
        }
        Ok(())
    }

    /// Sees the process end; kills it when it is condemned or takes too long.
    async fn await_end(&self, stopping: bool) -> Option<Exit> {
        if self.verdict.is_none()
            && let Ok(exit) = timeout(policy::STOP_GRACE, self.process.exited()).await
        {
            return Some(exit);
        }
        self.process.kill();
        let grace = match stopping {
            true => policy::KILL_GRACE_AT_EXIT,
            false => policy::KILL_GRACE,
        };
        timeout(grace, self.process.exited()).await.ok()
    }
}

/// Both ends of a control connection, ours registered with the runtime.
pub(super) fn sockets() -> std::io::Result<(AsyncControl, crate::control::ControlSocket)> {
    let (ours, theirs) = crate::control::ControlSocket::pair()?;
    Ok((AsyncControl::new(ours)?, theirs))
}
