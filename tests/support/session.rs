//! What the session tests share: a session loop under observation.
#![allow(dead_code)] // each test binary uses its part

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camring::config::Client;
use camring::reader::backoff::{BackoffPolicy, WaitRange};
use camring::reader::client::AnyConnector;
use camring::reader::session::{Counter, SessionReport, Sound, State, UnitSink, run_session_loop};
use camring::reader::source::{
    AccessUnit, AudioFrame, Resolve, SenderReport, SourceConfig, StreamInfo, Timeouts,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a condition may take to come true before a test fails: far beyond what a loaded
/// machine needs, since nothing is gained by failing early.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that one session loop reported and delivered.
#[derive(Default)]
pub struct Observed {
    pub states: Vec<(State, String)>,
    pub units: Vec<AccessUnit>,
    pub sender_reports: Vec<SenderReport>,
    pub audio: Vec<AudioFrame>,
    /// What became of the sound, at the beginning of each session and later.
    pub sounds: Vec<Sound>,
    pub sessions_started: usize,
    pub sessions_ended: usize,
    pub beats: u64,
    pub reconnects: u64,
    pub lost: u64,
    pub glitches: u64,
    /// What the sink says about the decoder.
    pub last_decoded: Option<u64>,
}

impl Observed {
    pub fn state(&self) -> State {
        self.states.last().map_or(State::Disabled, |(s, _)| *s)
    }

    pub fn was(&self, state: State) -> bool {
        self.states.iter().any(|(s, _)| *s == state)
    }

    /// Reasons given with `state`, the distinct ones.
    pub fn reasons(&self, state: State) -> Vec<String> {
        let mut reasons: Vec<_> = self
            .states
            .iter()
            .filter(|(s, _)| *s == state)
            .map(|(_, r)| r.split("; next try").next().unwrap_or_default().to_owned())
            .collect();
        reasons.dedup();
        reasons
    }
}

type Shared = Arc<Mutex<Observed>>;

struct Report(Shared);

impl SessionReport for Report {
    fn state(&self, state: State, reason: &str) {
        self.0
            .lock()
            .unwrap()
            .states
            .push((state, reason.to_owned()));
    }

    fn add(&self, counter: Counter, n: u64) {
        let mut o = self.0.lock().unwrap();
        match counter {
            Counter::Reconnects => o.reconnects += n,
            Counter::RtpLost => o.lost += n,
            Counter::Glitches => o.glitches += n,
            Counter::AccessUnits | Counter::Bytes | Counter::Oversize => {}
        }
    }

    fn beat(&self) {
        self.0.lock().unwrap().beats += 1;
    }
}

struct Sink(Shared);

impl UnitSink for Sink {
    fn session_started(&mut self, info: &StreamInfo) {
        let mut observed = self.0.lock().unwrap();
        observed.sessions_started += 1;
        observed.sounds.extend(info.sound);
    }

    fn unit(&mut self, unit: AccessUnit) {
        self.0.lock().unwrap().units.push(unit);
    }

    fn sender_report(&mut self, report: SenderReport) {
        self.0.lock().unwrap().sender_reports.push(report);
    }

    fn audio(&mut self, frame: &AudioFrame) {
        self.0.lock().unwrap().audio.push(frame.clone());
    }

    fn sound(&mut self, sound: Sound) {
        self.0.lock().unwrap().sounds.push(sound);
    }

    fn session_ended(&mut self) {
        self.0.lock().unwrap().sessions_ended += 1;
    }

    fn last_decoded_frame_ns(&self) -> Option<u64> {
        self.0.lock().unwrap().last_decoded
    }
}

/// Answers from a table; anything else does not exist.
pub struct Names(pub Vec<(&'static str, Vec<IpAddr>)>);

impl Resolve for Names {
    fn resolve(&self, host: &str) -> impl Future<Output = Result<Vec<IpAddr>, String>> + Send {
        let found = self.0.iter().find(|(name, _)| *name == host);
        let answer = match found {
            // A table entry without addresses never answers.
            Some((_, addresses)) if addresses.is_empty() => None,
            Some((_, addresses)) => Some(Ok(addresses.clone())),
            None => Some(Err("no such name".to_owned())),
        };
        async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }
}

/// Waits small enough for tests, with the shape of the real ones.
pub fn quick_backoff() -> BackoffPolicy {
    let range = |first, max| WaitRange {
        first: Duration::from_millis(first),
        max: Duration::from_millis(max),
    };
    BackoffPolicy {
        soon: range(100, 800),
        slow: range(200, 800),
        credentials: range(400, 1600),
        stable_run: Duration::from_secs(30),
    }
}

/// The most tries that `elapsed` of back-off leaves room for.
pub fn most_tries(range: WaitRange, elapsed: Duration) -> u64 {
    let (mut tries, mut nominal, mut least) = (1, range.first, Duration::ZERO);
    loop {
        least += nominal.min(range.max) / 2;
        if least > elapsed {
            return tries;
        }
        nominal *= 2;
        tries += 1;
    }
}

/// Limits under which nothing good fails on a slow machine.
pub fn patient() -> Timeouts {
    Timeouts {
        resolve: PATIENCE,
        connect: PATIENCE,
        describe: PATIENCE,
        setup: PATIENCE,
        play: PATIENCE,
        first_unit: PATIENCE,
        first_key_frame: PATIENCE,
        show_stalled: PATIENCE,
        stall: PATIENCE,
        decode_stall: PATIENCE,
        ..Timeouts::default()
    }
}

/// A running session loop.
pub struct Running {
    pub observed: Shared,
    pub started: Instant,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(config: SourceConfig) -> Self {
        Self::start_with(config, Names(Vec::new()))
    }

    pub fn start_with(config: SourceConfig, names: Names) -> Self {
        Self::start_by(Client::Retina, config, names)
    }

    pub fn start_by(client: Client, config: SourceConfig, names: Names) -> Self {
        let observed = Shared::default();
        let (stop, stopped) = watch::channel(false);
        let (report, mut sink) = (Report(observed.clone()), Sink(observed.clone()));
        let task = tokio::spawn(async move {
            let connector = AnyConnector::new(client, |_| ());
            run_session_loop(
                &config,
                quick_backoff(),
                &connector,
                &names,
                &report,
                &mut sink,
                stopped,
            )
            .await;
        });
        Running {
            observed,
            started: Instant::now(),
            stop,
            task,
        }
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Observed) -> bool) {
        let since = Instant::now();
        loop {
            {
                let o = self.observed.lock().unwrap();
                if condition(&o) {
                    return;
                }
                assert!(
                    since.elapsed() < PATIENCE,
                    "never happened: {what}; {} units, {} reports, states {:#?}",
                    o.units.len(),
                    o.sender_reports.len(),
                    o.states
                );
            }
            assert!(
                !self.task.is_finished(),
                "the loop ended while waiting for: {what}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn look<T>(&self, f: impl FnOnce(&mut Observed) -> T) -> T {
        f(&mut self.observed.lock().unwrap())
    }

    /// Stops the loop and waits for its return; gives all that it did.
    pub async fn stop(self) -> Observed {
        self.stop.send(true).expect("the loop listens");
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the loop returns")
            .expect("the loop does not panic");
        std::mem::take(&mut *self.observed.lock().unwrap())
    }
}

/// Decodes `units` with the ffmpeg tool; returns the number of pictures and its complaints.
pub fn decode(dir: &Path, kind: &str, units: &[AccessUnit]) -> (usize, String) {
    let path = dir.join(format!("received.{kind}"));
    let bytes: Vec<u8> = units.iter().flat_map(|u| u.data.iter().copied()).collect();
    std::fs::write(&path, bytes).expect("the folder is writable");
    let format = if kind == "h265" { "hevc" } else { kind };
    let done = Command::new("ffmpeg")
        .args(["-v", "warning", "-nostdin", "-f", format, "-i"])
        .arg(&path)
        .args(["-fps_mode", "passthrough", "-f", "framemd5", "-"])
        .output()
        .expect("ffmpeg runs");
    let pictures = String::from_utf8_lossy(&done.stdout)
        .lines()
        .filter(|l| !l.starts_with('#'))
        .count();
    (pictures, String::from_utf8_lossy(&done.stderr).into_owned())
}
