//! One camera (one stream of it, where it has several): what is known of it in the supervisor.
//!
//! All on one thread; a `RefCell` here is borrowed for a few lines and never across an `await`.
#![deny(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use camring_ring::attach::wire::RefusalCode;
use rustix::process::Pid;
use tokio::sync::watch;

use super::budget::Refusal;
use super::outbox::Outbox;
use super::policy;
use super::recorder::Recorder;
use super::rings::{self, Outgoing, Rings};
use super::service::{Order, Service};
use crate::config::{DecodeMode, Stream, View};
use crate::control::{RingKind, ToReader};
use crate::health::{ClockSource, Figures, Histogram, Snapshot, State, ViewFigures, Watch};
use crate::sys::{clock, usage};

/// How far back latencies and the rates of slow cameras look.
const WINDOW: usize = 10;
/// How many ticks between looks at a reader's PSS, which is dear.
const PSS_EVERY: u64 = 10;

/// A camera.
#[derive(Debug)]
pub(super) struct Camera {
    pub index: u32,
    /// The stream's: `front-door/sub`.
    pub id: String,
    /// As its running reader knows it, or the next one will.
    stream: RefCell<Rc<Stream>>,
    /// What the next reader is to know, where that is something else.
    next: RefCell<Option<Rc<Stream>>>,
    /// What its task is to do.
    pub order: watch::Sender<Order>,
    /// Gone from the configuration.
    pub removed: Cell<bool>,
    /// What records it.
    pub recorder: Rc<Service<Recorder>>,
    pub rings: RefCell<Rings>,
    /// To the running reader, once it has been told of all rings and subscribers.
    outbox: RefCell<Option<Rc<Outbox>>>,
    pub life: RefCell<Life>,
    /// Why it has no frame ring of the size that its reader asked for last.
    refusal: RefCell<Option<Refused>>,
    /// Until when frames count as wanted because somebody asked for them in vain.
    awaited_until: Cell<Option<Instant>>,
    /// What the running reader was told last.
    told_demand: Cell<bool>,
}

/// State and reason of a camera that has no reader.
fn at_rest(stream: &Stream) -> (State, &'static str) {
    match stream.enabled {
        false => (State::Disabled, "enabled = false"),
        true => (State::Connecting, "starting"),
    }
}

/// A frame ring that could not be made.
#[derive(Debug)]
struct Refused {
    why: Refusal,
    since_unix_ms: u64,
    /// CLOCK_MONOTONIC, the last time.
    last_ns: u64,
    logged: Instant,
}

impl Refused {
    /// No frame has come since.
    fn is_after(&self, last_frame_ns: u64) -> bool {
        last_frame_ns < self.last_ns
    }
}

/// The same refusal is in the log again after this long: a reader asks every few seconds.
const REFUSAL_LOGGED: Duration = Duration::from_secs(600);

impl Camera {
    /// `record`: where to and how, for what records it.
    pub fn new(index: u32, stream: Rc<Stream>, recorder: Recorder) -> Self {
        let (state, reason) = at_rest(&stream);
        let (order, record) = match (stream.enabled, stream.record.is_on()) {
            (false, _) => (Order::Rest, Order::Rest),
            (true, false) => (Order::Run(0), Order::Rest),
            (true, true) => (Order::Run(0), Order::Run(0)),
        };
        Self {
            index,
            id: stream.id.clone(),
            stream: RefCell::new(stream),
            next: RefCell::default(),
            order: watch::Sender::new(order),
            removed: Cell::default(),
            recorder: Rc::new(Service::new(recorder, record)),
            rings: RefCell::default(),
            outbox: RefCell::default(),
            life: RefCell::new(Life::new(state, reason)),
            refusal: RefCell::default(),
            awaited_until: Cell::default(),
            told_demand: Cell::default(),
        }
    }

    /// What its reader reads.
    pub fn stream(&self) -> Rc<Stream> {
        self.stream.borrow().clone()
    }

    /// What the next reader is to read: as the configuration has it now.
    pub fn wanted(&self) -> Rc<Stream> {
        self.next.borrow().clone().unwrap_or_else(|| self.stream())
    }

    /// Something about it has changed that is no concern of its reader's.
    pub fn exchange(&self, stream: Rc<Stream>) {
        *self.stream.borrow_mut() = stream;
    }

    /// The next reader is to read this. Nothing changes before the present one has ended.
    pub fn prepare(&self, stream: Rc<Stream>) {
        *self.next.borrow_mut() = Some(stream);
    }

    /// There is no reader: what was prepared holds from now on. Rings that would be of another
    /// shape are given up, and whoever looks at them moves on.
    pub fn take_up(&self) {
        let Some(next) = self.next.borrow_mut().take() else {
            return;
        };
        let before = self.stream.replace(next.clone());
        let mut rings = self.rings.borrow_mut();
        let (old, new) = (&before.ring, &next.ring);
        let all = before.memory_per_camera != next.memory_per_camera;
        let slots = (old.depth, old.pins) != (new.depth, new.pins);
        rings.give_up(|kind| {
            all || match kind {
                RingKind::Frames => slots,
                RingKind::Packets => old.packets != new.packets,
                RingKind::View(_) => slots || before.views != next.views,
                RingKind::Audio => !next.record.wants_audio(),
            }
        });
        *self.refusal.borrow_mut() = None;
    }

    /// Whether its processes have ended, as they must once it has left the configuration.
    pub fn has_left(&self) -> bool {
        self.life.borrow().pid.is_none() && self.recorder.report().pid.is_none()
    }

    /// What to say while it has no reader and shall have none.
    pub fn rest(&self) {
        let (state, reason) = at_rest(&self.wanted());
        self.life.borrow_mut().set_state(state, reason.to_owned());
    }

    /// Whether it shall have no reader.
    pub fn rests(&self) -> bool {
        !matches!(*self.order.borrow(), Order::Run(_))
    }

    /// Whether frames are to be decoded, where that is not always so.
    fn demand(&self) -> bool {
        let awaited = self.awaited_until.get();
        awaited.is_some_and(|until| Instant::now() < until)
            || self.rings.borrow().frames_looked_at()
    }

    /// Tells the reader whether frames are wanted, if that has changed.
    pub fn tell_demand(&self) {
        if self.stream().decode.mode != DecodeMode::OnDemand {
            return;
        }
        let frames = self.demand();
        if frames != self.told_demand.get()
            && self.tell(Outgoing::plain(ToReader::Demand { frames }))
        {
            self.told_demand.set(frames);
        }
    }

    /// The same for a reader that has not begun; it assumes that nobody wants any.
    pub fn first_demand(&self) -> Option<Outgoing> {
        let frames = self.stream().decode.mode == DecodeMode::OnDemand && self.demand();
        self.told_demand.set(frames);
        frames.then(|| Outgoing::plain(ToReader::Demand { frames }))
    }

    /// Somebody wants frames of a camera that never had any: it is decoded for a while, so that
    /// there is a ring when the client asks again.
    pub fn await_frames(&self) {
        if self.stream().decode.mode != DecodeMode::OnDemand {
            return;
        }
        if !self.told_demand.get() {
            // What was refused when somebody looked last may fit now.
            self.granted();
        }
        self.awaited_until
            .set(Some(Instant::now() + policy::AWAITED_FOR));
        self.tell_demand();
    }

    /// Makes a refusal one that helps: why there is no ring, which camera's pins.
    pub fn explain(&self, name: &str, code: RefusalCode, text: String) -> rings::Refused {
        if code != RefusalCode::NotReady {
            return (code, format!("camera {name:?}: {text}"));
        }
        if let Some(refusal) = self.refusal() {
            let text = format!("camera {name:?}: {refusal}");
            return (RefusalCode::MemoryBudget, text);
        }
        let report = self.report();
        let mut text = format!("camera {name:?} is in state {}", report.state);
        if !report.reason.is_empty() {
            text.push_str(&format!(": {}", report.reason));
        }
        (code, text)
    }

    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow().as_ref().map(|r| r.why.clone())
    }

    /// Its reader has got the ring that it asked for.
    pub fn granted(&self) {
        *self.refusal.borrow_mut() = None;
    }

    /// Its reader cannot have a ring. Says whether that is news, for the log.
    pub fn refused(&self, why: Refusal) -> bool {
        let mut refusal = self.refusal.borrow_mut();
        let last_ns = clock::monotonic_ns();
        match &mut *refusal {
            Some(known) => {
                let news = known.why.needed != why.needed && known.logged.elapsed() > policy::TICK
                    || known.logged.elapsed() > REFUSAL_LOGGED;
                if news {
                    known.logged = Instant::now();
                }
                known.why = why;
                known.last_ns = last_ns;
                news
            }
            None => {
                *refusal = Some(Refused {
                    why,
                    since_unix_ms: clock::unix_ms(),
                    last_ns,
                    logged: Instant::now(),
                });
                true
            }
        }
    }

    /// For status. A camera whose pictures have no ring does not stream, whatever its reader says
    /// of the session.
    pub fn report(&self) -> Report {
        let mut report = self.life.borrow().report();
        if report.state == State::Streaming
            && let Some(refused) = &*self.refusal.borrow()
            && refused.is_after(report.figures.last_frame_ns)
        {
            report.state = State::Failed;
            report.reason = format!("its pictures have no room: {}", refused.why);
            report.since_unix_ms = refused.since_unix_ms;
        }
        report
    }

    /// As of the last tick: what the reader says costs system calls.
    pub fn state_at_tick(&self) -> State {
        let (state, last_frame_ns) = self.life.borrow().state_at_tick();
        match &*self.refusal.borrow() {
            Some(refused) if state == State::Streaming && refused.is_after(last_frame_ns) => {
                State::Failed
            }
            _ => state,
        }
    }

    /// Sends a message to the running reader. `false`: there is none, and the next one will be
    /// told of the state that the message brings about.
    pub fn tell(&self, message: Outgoing) -> bool {
        match &*self.outbox.borrow() {
            Some(outbox) => {
                outbox.push(message);
                true
            }
            None => false,
        }
    }

    /// Opens the way to a new reader, after the messages that it must see first.
    pub fn connect(&self, first: Vec<Outgoing>) -> Rc<Outbox> {
        let outbox = Rc::new(Outbox::new(first));
        *self.outbox.borrow_mut() = Some(outbox.clone());
        outbox
    }

    /// The way to the running reader.
    pub fn outbox(&self) -> Option<Rc<Outbox>> {
        self.outbox.borrow().clone()
    }

    /// The reader is gone, or about to be.
    pub fn disconnect(&self) {
        *self.outbox.borrow_mut() = None;
        self.rings.borrow_mut().all_known();
    }

    /// Ends a subscription.
    pub fn detach(&self, id: u64) {
        if self.rings.borrow_mut().detach(id) {
            self.tell(Outgoing::plain(ToReader::RemoveSubscriber { id }));
            self.tell_demand();
        }
    }
}

/// What the supervisor knows of a camera's reader, present or last.
#[derive(Debug)]
pub(super) struct Life {
    /// While there is no reader to say so itself.
    state: State,
    reason: String,
    since_unix_ms: u64,
    pub pid: Option<Pid>,
    pub cpus: Vec<u32>,
    pub restarts: u32,
    pub watch: Option<Watch>,
    pub rollup: Option<usage::Rollup>,
    pss: Option<u64>,
    ticks: u64,
    /// Sums of all earlier readers.
    before: Figures,
    views_before: [ViewFigures; View::MAX_VIEWS],
    samples: VecDeque<Sample>,
}

/// A look at a reader.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    snapshot: Snapshot,
    cpu_ns: Option<u64>,
}

/// What a camera's readers did, as of the last tick.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub state: State,
    pub reason: String,
    pub since_unix_ms: u64,
    /// Sums over all readers of the camera; what is not a sum is the present reader's.
    pub figures: Figures,
    pub clock: Option<ClockSource>,
    pub rates: Rates,
    pub latency_ms: Option<(f64, f64)>,
    pub memory_bytes: Option<u64>,
    /// Sums over all readers, by place in the configuration.
    pub views: [ViewReport; View::MAX_VIEWS],
}

/// What a camera's readers did for one view.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ViewReport {
    pub figures: ViewFigures,
    /// Frames published per second, over the last seconds.
    pub rate: f64,
}

/// Per second, over the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub units: f64,
    pub decoded: f64,
    pub published: f64,
    /// Of one core.
    pub cpu_percent: f64,
}

impl Life {
    fn new(state: State, reason: &str) -> Self {
        Self {
            state,
            reason: reason.to_owned(),
            since_unix_ms: clock::unix_ms(),
            pid: None,
            cpus: Vec::new(),
            restarts: 0,
            watch: None,
            rollup: None,
            pss: None,
            ticks: 0,
            before: Figures::default(),
            views_before: <[ViewFigures; View::MAX_VIEWS]>::default(),
            samples: VecDeque::new(),
        }
    }

    /// What to say while no reader says anything.
    pub fn set_state(&mut self, state: State, reason: String) {
        if state != self.state {
            self.since_unix_ms = clock::unix_ms();
        }
        self.state = state;
        self.reason = reason;
    }

    /// A new reader.
    pub fn begin(&mut self, pid: Pid, watch: Watch) {
        self.pid = Some(pid);
        self.watch = Some(watch);
        self.samples.clear();
        self.pss = None;
        self.ticks = 0;
    }

    /// The reader is gone. Its last figures are added to the sums.
    pub fn end(&mut self) {
        if let Some(last) = self.watch.take().and_then(|watch| watch.snapshot()) {
            for (before, last) in self.views_before.iter_mut().zip(&last.views) {
                *before = last.after(before);
            }
            let last_frame_ns = self.before.last_frame_ns;
            self.before = last.figures.after(&self.before);
            if self.before.last_frame_ns == 0 {
                self.before.last_frame_ns = last_frame_ns;
            }
        }
        self.pid = None;
        self.rollup = None;
        self.pss = None;
        self.samples.clear();
    }

    /// Looks at the reader, once a second. `None`: the page cannot be read, which only a hostile
    /// reader brings about.
    pub fn look(&mut self) -> Option<Snapshot> {
        let snapshot = self.watch.as_ref()?.snapshot()?;
        if self.samples.len() > WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at: Instant::now(),
            snapshot: snapshot.clone(),
            cpu_ns: self.pid.and_then(usage::cpu_time_ns),
        });
        if self.ticks.is_multiple_of(PSS_EVERY) {
            self.pss = self.rollup.as_ref().and_then(usage::Rollup::pss_bytes);
        }
        self.ticks += 1;
        Some(snapshot)
    }

    /// With the time of the last frame.
    fn state_at_tick(&self) -> (State, u64) {
        let before = self.before.last_frame_ns;
        match self.samples.back().map(|last| &last.snapshot) {
            Some(last) if last.since_unix_ms != 0 => {
                (last.state, last.figures.last_frame_ns.max(before))
            }
            _ => (self.state, before),
        }
    }

    /// What it costs to decode the camera, in pixels per second.
    pub fn pixels_per_second(&self) -> Option<f64> {
        let last = &self.samples.back()?.snapshot.figures;
        let rate = self.rates().units;
        Some(last.width as f64 * last.height as f64 * rate).filter(|pixels| *pixels > 0.0)
    }

    /// For status.
    pub fn report(&self) -> Report {
        let now = self.watch.as_ref().and_then(Watch::snapshot);
        let (state, reason, since_unix_ms) = match &now {
            // It has not said anything yet.
            Some(now) if now.since_unix_ms != 0 => {
                (now.state, now.reason.clone(), now.since_unix_ms)
            }
            _ => (self.state, self.reason.clone(), self.since_unix_ms),
        };
        let mut figures = match &now {
            Some(now) => now.figures.after(&self.before),
            None => self.before,
        };
        if figures.last_frame_ns == 0 {
            // The last frame is a former reader's.
            figures.last_frame_ns = self.before.last_frame_ns;
        }
        let views = std::array::from_fn(|index| {
            let before = &self.views_before[index];
            ViewReport {
                figures: match &now {
                    Some(now) => now.views[index].after(before),
                    None => *before,
                },
                rate: self.view_rate(index),
            }
        });
        Report {
            views,
            state,
            reason,
            since_unix_ms,
            figures,
            clock: now.as_ref().and_then(|now| now.clock),
            rates: self.rates(),
            latency_ms: now.as_ref().and_then(|now| self.latency_ms(&now.latency)),
            memory_bytes: self.pss.or_else(|| usage::resident_bytes(self.pid?)),
        }
    }

    /// From the oldest sample that is kept to the newest: a camera with one frame a second would
    /// show 0 and 2 in turns otherwise.
    fn rates(&self) -> Rates {
        let Some((first, last, seconds)) = self.span() else {
            return Rates::default();
        };
        let rate = |figure: fn(&Figures) -> u64| {
            self.per_second(|snapshot| figure(&snapshot.figures))
                .unwrap_or(0.0)
        };
        let cpu = match (first.cpu_ns, last.cpu_ns) {
            (Some(first), Some(last)) => last.saturating_sub(first),
            _ => 0,
        };
        Rates {
            units: rate(|f| f.access_units),
            decoded: rate(|f| f.frames_decoded),
            published: rate(|f| f.frames_published),
            cpu_percent: Duration::from_nanos(cpu).as_secs_f64() / seconds * 100.0,
        }
    }

    /// The oldest and the newest sample, and the seconds between them.
    fn span(&self) -> Option<(&Sample, &Sample, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        (seconds >= policy::TICK.as_secs_f64() / 2.0).then_some((first, last, seconds))
    }

    fn per_second(&self, figure: impl Fn(&Snapshot) -> u64) -> Option<f64> {
        let (first, last, seconds) = self.span()?;
        let delta = figure(&last.snapshot).saturating_sub(figure(&first.snapshot));
        Some(delta as f64 / seconds)
    }

    fn view_rate(&self, index: usize) -> f64 {
        self.per_second(|snapshot| snapshot.views[index].published)
            .unwrap_or(0.0)
    }

    /// Of the last seconds, or, where nothing was published in them, of all.
    fn latency_ms(&self, now: &Histogram) -> Option<(f64, f64)> {
        let both = |h: &Histogram| Some((h.quantile_ms(0.5)?, h.quantile_ms(0.99)?));
        let recent = self
            .samples
            .front()
            .and_then(|first| both(&now.since(&first.snapshot.latency)));
        recent.or_else(|| both(now))
    }
}
