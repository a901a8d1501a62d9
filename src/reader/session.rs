//! The session loop: keeps one camera streaming, for ever.
//!
//! An explicit state machine ([`State`]): connect, wait for a key frame, stream, and on any
//! failure wait and try again. Promises:
//! - one state and one reason at any time, reported when they change;
//! - every wait is bounded, and the loop beats ([`SessionReport::beat`]) through all of them;
//! - it never gives up and never spins: [`Backoff`] lies between any two sessions;
//! - separate budgets for connecting, the first key frame and steady streaming;
//! - a session is torn down at the camera before the next one and before returning.
//!
//! It must never decode, block, or touch the credentials.

mod watch;

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::watch as flag;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use url::Host;

use super::backoff::{Backoff, BackoffPolicy, RetryClass};
use super::source::{
    AccessUnit, AudioFrame, Connector, Resolve, SenderReport, Source, SourceConfig, SourceError,
    SourceErrorKind, SourceEvent, Stage, StreamInfo, monotonic_ns,
};
use super::ticks::ticks;
use watch::{Progress, Verdict, Watch};

pub use super::ticks::TICK;
pub use crate::health::{Sound, State};

/// A camera that sends more than this thread can take never lets it wait, and timers and the
/// control channel only get their turn when it does: so it does so by itself, this often.
const TURN: Duration = Duration::from_millis(50);

/// The state in which a camera waits after `error`.
fn state_after(error: &SourceError) -> State {
    match error.kind.retry_class() {
        RetryClass::Credentials => State::Unauthorized,
        // Another client's fault, and gone when it leaves.
        _ if matches!(error.kind, SourceErrorKind::Busy(_)) => State::Backoff,
        RetryClass::Slow => State::Failed,
        RetryClass::Soon => State::Backoff,
    }
}

/// What the session loop counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Access units received, those before the first key frame included.
    AccessUnits,
    /// Bytes in them.
    Bytes,
    /// RTP packets lost.
    RtpLost,
    /// Sessions tried after the first.
    Reconnects,
    /// Unusable packets.
    Glitches,
    /// Access units over the size cap.
    Oversize,
}

/// Where the loop reports to: the camera's health page.
pub trait SessionReport {
    /// Called on every change of state or reason.
    fn state(&self, state: State, reason: &str);
    /// Adds to a counter.
    fn add(&self, counter: Counter, n: u64);
    /// The loop is alive. Called about every [`TICK`], also while waiting.
    fn beat(&self);
}

/// Where the video goes. Calls come from the session loop's thread and must not block.
pub trait UnitSink {
    /// A session is up; pictures follow once a key frame has come.
    fn session_started(&mut self, info: &StreamInfo);
    /// The next picture. The first of a session is a key frame.
    fn unit(&mut self, unit: AccessUnit);
    /// A clock reading of the camera.
    fn sender_report(&mut self, report: SenderReport);
    /// A frame of sound. Only where it was asked for, as with the next two.
    fn audio(&mut self, _frame: &AudioFrame) {}
    /// A clock reading of the sound.
    fn audio_report(&mut self, _report: SenderReport) {}
    /// What becomes of the sound has changed.
    fn sound(&mut self, _sound: Sound) {}
    /// The session is over. Not called without [`UnitSink::session_started`] before.
    fn session_ended(&mut self);
    /// `None` while nothing is to be decoded; else `CLOCK_MONOTONIC` ns of the last picture that
    /// came out of the decoder, 0 if none did.
    fn last_decoded_frame_ns(&self) -> Option<u64>;
}

/// Why one session ended.
enum Outcome {
    Stopped,
    Failed {
        error: SourceError,
        /// How long it delivered pictures.
        streamed: Duration,
    },
}

/// Told to stop.
struct Stopped;

/// Waits for things while beating and listening for the stop flag.
struct Pulse<'a, H> {
    report: &'a H,
    stop: flag::Receiver<bool>,
}

impl<H: SessionReport> Pulse<'_, H> {
    /// Runs `work`, drops it when told to stop.
    async fn run<F: Future>(&mut self, work: F) -> Result<F::Output, Stopped> {
        let mut work = pin!(work);
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Err(Stopped),
                out = &mut work => return Ok(out),
                _ = ticks.tick() => self.report.beat(),
            }
        }
    }

    /// Runs `work` to its end; only for work that is bounded by itself.
    async fn finish<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                out = &mut work => return out,
                _ = ticks.tick() => self.report.beat(),
            }
        }
    }
}

/// Returns when told to stop, or when nobody is left who could tell.
async fn stopped(stop: &mut flag::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Keeps the camera of `config` streaming into `sink` until `stop` holds `true` or its sender is
/// dropped; returns after TEARDOWN.
///
/// Must run within a tokio runtime with time and I/O enabled; `connector` belongs to this loop
/// alone. Never returns otherwise: failures are reported, waited out and tried again.
pub async fn run_session_loop<C, K, R, H>(
    config: &SourceConfig,
    backoff: BackoffPolicy,
    connector: &C,
    resolver: &R,
    report: &H,
    sink: &mut K,
    stop: flag::Receiver<bool>,
) where
    C: Connector,
    K: UnitSink,
    R: Resolve,
    H: SessionReport,
{
    let mut backoff = Backoff::new(backoff, seed(&config.id));
    let mut pulse = Pulse { report, stop };
    let mut attempt = 0usize;
    let mut last_reason = String::new();
    let mut deaf = false;
    loop {
        report.state(
            State::Connecting,
            &format!("connecting to {}", config.host()),
        );
        let outcome = session(config, connector, resolver, &mut pulse, sink, attempt).await;
        let Outcome::Failed { error, streamed } = outcome else {
            pulse
                .finish(connector.settle(config.timeouts.teardown_on_stop))
                .await;
            return;
        };
        if matches!(error.kind, SourceErrorKind::Sound(_)) && !deaf {
            // Its pictures are not to wait for it. Once: a client that does not leave the sound out
            // after this waits as after any error.
            deaf = true;
            warn!(camera = %config.id, "{error}");
            let settled = pulse.run(connector.settle(config.timeouts.teardown)).await;
            if settled.is_ok() {
                report.add(Counter::Reconnects, 1);
                continue;
            }
        }
        backoff.session_ran(streamed);
        let wait = backoff.next_wait(error.kind.retry_class());
        let reason = error.reason();
        // A camera that stays away says so once, not at every try.
        if reason == last_reason {
            debug!(camera = %config.id, %error, ?wait, "still failing");
        } else {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            warn!(camera = %config.id, wait_ms, "{error}");
            last_reason = reason.clone();
        }
        let shown = format!("{reason}; next try in {:.0} s", wait.as_secs_f32().ceil());
        report.state(state_after(&error), &shown);
        let rest = async {
            connector.settle(config.timeouts.teardown).await;
            sleep(wait).await;
        };
        if pulse.run(rest).await.is_err() {
            pulse
                .finish(connector.settle(config.timeouts.teardown_on_stop))
                .await;
            return;
        }
        attempt = attempt.wrapping_add(1);
        report.add(Counter::Reconnects, 1);
    }
}

/// Differs between cameras, processes and runs; needs no random device.
fn seed(id: &str) -> u64 {
    // FNV-1a: the standard library's hashers share their keys between forked processes.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ monotonic_ns() ^ (u64::from(std::process::id()) << 32)
}

/// One session, from resolving the name to its end. The source is dropped on return; the caller
/// settles it.
async fn session<C, K, R, H>(
    config: &SourceConfig,
    connector: &C,
    resolver: &R,
    pulse: &mut Pulse<'_, H>,
    sink: &mut K,
    attempt: usize,
) -> Outcome
where
    C: Connector,
    K: UnitSink,
    R: Resolve,
    H: SessionReport,
{
    let connecting = async {
        let address = address(config, resolver, attempt).await?;
        connector.connect(config, address).await
    };
    let source = match pulse.run(connecting).await {
        Err(Stopped) => return Outcome::Stopped,
        Ok(Err(error)) => {
            return Outcome::Failed {
                error,
                streamed: Duration::ZERO,
            };
        }
        Ok(Ok(source)) => source,
    };
    sink.session_started(source.info());
    pulse
        .report
        .state(State::Connecting, "waiting for the first picture");
    let outcome = stream(config, source, pulse, sink).await;
    sink.session_ended();
    outcome
}

/// The camera's address: its own, or by turns those of its name.
async fn address<R: Resolve>(
    config: &SourceConfig,
    resolver: &R,
    attempt: usize,
) -> Result<IpAddr, SourceError> {
    let fail = |kind| config.error(Stage::Resolve, kind);
    let name = match config.url.host() {
        None => {
            return Err(fail(SourceErrorKind::Config(
                "the URL names no host".into(),
            )));
        }
        Some(Host::Ipv4(ip)) => return Ok(ip.into()),
        Some(Host::Ipv6(ip)) => return Ok(ip.into()),
        // The url crate knows addresses in special schemes only, and rtsp is none of them.
        Some(Host::Domain(name)) => name,
    };
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(ip);
    }
    let limit = config.timeouts.resolve;
    let addresses = match timeout(limit, resolver.resolve(name)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(why)) => {
            let why = super::source::clean_text(&why, None);
            return Err(fail(SourceErrorKind::Resolve(why)));
        }
        Err(_) => return Err(fail(SourceErrorKind::Timeout(limit))),
    };
    addresses
        .get(attempt.checked_rem(addresses.len()).unwrap_or(0))
        .copied()
        .ok_or_else(|| fail(SourceErrorKind::Resolve("no address".into())))
}

/// Moves events from `source` to `sink` until something ends the session.
async fn stream<S, K, H>(
    config: &SourceConfig,
    mut source: S,
    pulse: &mut Pulse<'_, H>,
    sink: &mut K,
) -> Outcome
where
    S: Source,
    K: UnitSink,
    H: SessionReport,
{
    let report = pulse.report;
    let mut watch = Watch::new(config.timeouts, monotonic_ns());
    let mut ticks = ticks();
    let mut stalled = false;
    let mut turn = Instant::now();
    loop {
        if turn.elapsed() >= TURN {
            yield_now().await;
            turn = Instant::now();
        }
        // The tick comes before the source: a flood must not silence the heartbeat.
        let event = tokio::select! {
            biased;
            () = stopped(&mut pulse.stop) => return Outcome::Stopped,
            _ = ticks.tick() => {
                report.beat();
                let now = monotonic_ns();
                match watch.check(now, sink.last_decoded_frame_ns()) {
                    Verdict::Fine => {}
                    Verdict::Quiet(age) => {
                        if !stalled {
                            stalled = true;
                            let why = SourceErrorKind::Stalled(age);
                            report.state(State::Stalled, &why.to_string());
                        }
                    }
                    Verdict::Broken(stage, kind) => {
                        return Outcome::Failed {
                            error: config.error(stage, kind),
                            streamed: watch.streamed(),
                        };
                    }
                }
                continue;
            }
            event = source.next() => event,
        };
        match event {
            Ok(SourceEvent::Unit(unit)) => {
                report.add(Counter::AccessUnits, 1);
                report.add(Counter::Bytes, unit.data.len() as u64);
                if unit.lost_before > 0 {
                    report.add(Counter::RtpLost, u64::from(unit.lost_before));
                }
                let progress = watch.unit(unit.arrival_ns, unit.key);
                if progress != Progress::Another || stalled {
                    stalled = false;
                    if watch.has_key() {
                        report.state(State::Streaming, &source.info().to_string());
                    } else {
                        report.state(State::Connecting, "waiting for a key frame");
                    }
                }
                if progress == Progress::FirstKey {
                    info!(camera = %config.id, host = %config.host(), "streaming {}", source.info());
                }
                if watch.has_key() {
                    sink.unit(unit);
                }
            }
            Ok(SourceEvent::SenderReport(r)) => sink.sender_report(r),
            Ok(SourceEvent::Audio(frame)) => sink.audio(&frame),
            Ok(SourceEvent::AudioReport(r)) => sink.audio_report(r),
            Ok(SourceEvent::Sound(sound)) => sink.sound(sound),
            Ok(SourceEvent::Oversize { bytes }) => {
                report.add(Counter::Oversize, 1);
                debug!(camera = %config.id, bytes, "a picture over the size cap was dropped");
            }
            Ok(SourceEvent::Glitch(what)) => {
                report.add(Counter::Glitches, 1);
                debug!(camera = %config.id, "unusable packet: {what}");
            }
            Err(error) => {
                return Outcome::Failed {
                    error,
                    streamed: watch.streamed(),
                };
            }
        }
    }
}
