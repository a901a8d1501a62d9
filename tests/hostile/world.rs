//! One daemon, one scripted camera for each [`Fault`] of a family, two cameras that behave, and what
//! must hold for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client, FrameFlags};
use serde_json::Value;

use crate::camera::{Camera, Script};
use crate::clip::Clip;
use crate::support::framecode::{self, CodeError};
use crate::support::{Daemon, process, wait_for};

/// How long anything may take on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(180);

/// First and longest pause of cameras that fail, in ms, as in their configuration below.
const INITIAL: u64 = 500;
const MAX: u64 = 4_000;
const LOGIN: u64 = 2_000;
/// By so much the first connection may have been noticed later than the last.
const SLACK: u64 = 600;

const QUICK: &str = "[camera.retry]\ninitial = \"500ms\"\nmax = \"4s\"\nunauthorized = \"2s\"\n\
    first_frame_timeout = \"3s\"\nstall_timeout = \"4s\"\n\
    decode_timeout = \"5s\"\n";

/// How the daemon may come back to a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// It has no reason to: one session, from first to last.
    Stays,
    /// Soon, then less and less often.
    Soon,
    /// A person must change something, or another client go.
    Slow,
    /// The account might be locked.
    Login,
}

impl Pace {
    /// The shortest pause after so many failures, ms: half of the nominal one.
    fn shortest(self, failures: u32) -> u64 {
        match self {
            Pace::Stays => 0,
            Pace::Soon => (INITIAL << failures.min(10)).min(MAX) / 2,
            Pace::Slow => (MAX << failures.min(10)).min(120_000) / 2,
            Pace::Login => LOGIN / 2,
        }
    }
}

/// A camera that does something wrong, and what must come of it.
pub struct Fault {
    /// As in `docs/reference/faults.md`.
    pub name: &'static str,
    pub script: Script,
    /// It must be seen in this state, for a reason that has all of these words.
    pub state: &'static str,
    pub reason: &'static [&'static str],
    pub pace: Pace,
    /// Sessions that the daemon must have tried before the camera gets well.
    pub tries: usize,
    /// Frames that must have been published before the camera gets well.
    pub frames: u64,
    /// A counter of `status`, as a JSON pointer, that must not be 0.
    pub counted: Option<&'static str>,
    /// CPU time of the reader, in cores.
    pub cores: f64,
    /// Private memory of the reader, MiB.
    pub memory: u64,
    pub login: bool,
    pub udp: bool,
    /// Of the pictures that are not marked as damaged, none is torn.
    pub verify: bool,
}

impl Fault {
    /// Ends each session, or none comes about.
    pub fn fails(
        name: &'static str,
        state: &'static str,
        reason: &'static [&'static str],
        script: Script,
    ) -> Fault {
        let (pace, tries) = match state {
            "failed" => (Pace::Slow, 2),
            "unauthorized" => (Pace::Login, 3),
            _ => (Pace::Soon, 4),
        };
        Fault {
            name,
            script,
            state,
            reason,
            pace,
            tries,
            frames: 0,
            counted: None,
            cores: 0.5,
            memory: 64,
            login: false,
            udp: false,
            verify: true,
        }
    }

    /// Is put up with.
    pub fn passes(name: &'static str, script: Script) -> Fault {
        Fault {
            pace: Pace::Stays,
            tries: 1,
            frames: 25,
            ..Fault::fails(name, "streaming", &["H.264"], script)
        }
    }

    pub fn tries(mut self, tries: usize) -> Self {
        self.tries = tries;
        self
    }

    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    pub fn frames(mut self, frames: u64) -> Self {
        self.frames = frames;
        self
    }

    pub fn counted(mut self, pointer: &'static str) -> Self {
        self.counted = Some(pointer);
        self
    }

    pub fn cores(mut self, cores: f64) -> Self {
        self.cores = cores;
        self
    }

    pub fn memory(mut self, mib: u64) -> Self {
        self.memory = mib;
        self
    }

    pub fn with_login(mut self) -> Self {
        self.login = true;
        self
    }

    pub fn over_udp(mut self) -> Self {
        self.udp = true;
        self
    }

    pub fn seen_as(mut self, reason: &'static [&'static str]) -> Self {
        self.reason = reason;
        self
    }

    pub fn unverified(mut self) -> Self {
        self.verify = false;
        self
    }

    fn configuration(&self, url: &str) -> String {
        let name = self.name;
        let mut text = format!("[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n");
        if self.login {
            text += "username = \"admin\"\npassword = \"wrong\"\n";
        }
        if self.udp {
            text += "transport = \"udp\"\n";
        }
        if self.pace != Pace::Stays {
            text += QUICK;
            // Short only where it is waited out: elsewhere a busy machine must not meet it.
            let waited_out = self.reason.contains(&"no answer within");
            let limit = if waited_out { 1_500 } else { 10_000 };
            text += &format!("connect_timeout = \"{limit}ms\"\n");
        }
        text + "\n"
    }
}

/// What a subscriber saw.
#[derive(Debug, Default)]
struct Seen {
    frames: AtomicU64,
    missed: AtomicU64,
    /// Pictures that the content says were left out between frames.
    skipped: AtomicU64,
    hidden: AtomicU64,
    torn: std::sync::Mutex<Vec<String>>,
}

struct Watcher {
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

impl Watcher {
    fn start(client: &Client, name: &str, clip: Option<&Clip>, stop: &Arc<AtomicBool>) -> Watcher {
        let seen = Arc::new(Seen::default());
        let (client, name) = (client.clone(), name.to_owned());
        let (into, stop) = (Arc::clone(&seen), Arc::clone(stop));
        let coded = clip.and_then(|clip| Some((clip.tag?, clip.units.len() as u16)));
        let thread = std::thread::spawn(move || watch(&client, &name, coded, &into, &stop));
        Watcher { seen, thread }
    }
}

/// `coded`: tag and length of the clip, if its pictures carry the frame code.
fn watch(client: &Client, name: &str, coded: Option<(u8, u16)>, seen: &Seen, stop: &AtomicBool) {
    let options = AttachOptions {
        timeout: Duration::from_secs(2),
        ..AttachOptions::default()
    };
    let complain = |text: String| seen.torn.lock().expect("no panic").push(text);
    let mut frames = loop {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // Until its first picture a camera has no ring.
        if let Ok(frames) = client.attach(name, &options) {
            break frames;
        }
    };
    let mut last: Option<u16> = None;
    while !stop.load(Ordering::SeqCst) {
        let frame = match frames.next_timeout(Duration::from_millis(200)) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(error) => return complain(error.to_string()),
        };
        let descriptor = frame.descriptor();
        seen.frames.fetch_add(1, Ordering::SeqCst);
        seen.missed.fetch_add(frame.missed(), Ordering::SeqCst);
        seen.hidden.fetch_add(frame.hidden(), Ordering::SeqCst);
        let Some((tag, pictures)) = coded else {
            continue;
        };
        if descriptor.flags.contains(FrameFlags::CORRUPT) {
            continue;
        }
        let (width, height) = (descriptor.width as usize, descriptor.height as usize);
        let stride = frame.plane_stride(0) as usize;
        match framecode::read(frame.plane(0), stride, width, height) {
            Ok(code) if code.tag != tag => complain(format!("foreign: {code:?}")),
            Ok(code) => {
                if let Some(last) = last.replace(code.index) {
                    let step = (code.index + pictures - last - 1) % pictures;
                    let left_out = u64::from(step).saturating_sub(frame.missed() + frame.hidden());
                    seen.skipped.fetch_add(left_out, Ordering::SeqCst);
                }
            }
            Err(error @ (CodeError::Torn(_) | CodeError::Unreadable { .. })) => {
                complain(format!("{error} in {descriptor:?}"));
            }
            Err(error) => complain(error.to_string()),
        }
    }
}

/// What was noted about a reader over time.
#[derive(Debug, Default)]
struct Noted {
    pids: BTreeSet<u64>,
    states: BTreeMap<String, String>,
    expected: bool,
    memory_mib: u64,
    last: Value,
}

/// User and system time of a process, s.
fn cpu_seconds(pid: u64) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux this runs on.
    Some(ticks as f64 / 100.0)
}

/// Private memory that is no file's, MiB: rings are shared, and not counted here.
fn anonymous_mib(pid: u64) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Runs all faults of a family beside two cameras that behave.
pub fn run(faults: Vec<Fault>) {
    let usual = Clip::usual();
    let good: Vec<(String, Arc<Camera>)> = ["good-1", "good-2"]
        .map(|name| (name.to_owned(), Camera::start(Script::default(), &usual)))
        .into();
    let mut config = "[ring]\ndepth = 16\n\n".to_owned();
    for (name, camera) in &good {
        config += &format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n\n",
            camera.url()
        );
    }
    let cameras: Vec<Arc<Camera>> = faults
        .iter()
        .map(|fault| Camera::start(fault.script.clone(), &usual))
        .collect();
    for (fault, camera) in faults.iter().zip(&cameras) {
        config += &fault.configuration(&camera.url());
    }
    let _ending = Ending(
        good.iter()
            .map(|(_, c)| c)
            .chain(&cameras)
            .cloned()
            .collect(),
    );
    let daemon = Daemon::start(&config);
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let stop = Arc::new(AtomicBool::new(false));
    let good_watchers: Vec<Watcher> = good
        .iter()
        .map(|(name, _)| Watcher::start(&client, name, Some(&usual), &stop))
        .collect();
    let watchers: Vec<Watcher> = faults
        .iter()
        .zip(&cameras)
        .map(|(fault, camera)| {
            let clip = fault.verify.then_some(&*camera.clip);
            Watcher::start(&client, fault.name, clip, &stop)
        })
        .collect();

    let mut world = World {
        client: &client,
        daemon: &daemon,
        noted: BTreeMap::new(),
    };
    let began = Instant::now();
    world.until_each_fault_shows(&faults, &cameras);
    let lasted = began.elapsed().as_secs_f64();
    for fault in &faults {
        world.judge(fault, lasted);
    }
    let tries: Vec<Vec<Instant>> = cameras.iter().map(|camera| camera.tries()).collect();
    for camera in &cameras {
        camera.behave();
    }
    world.until_all_are_well(&faults, &watchers);
    stop.store(true, Ordering::SeqCst);
    let saw: Vec<Arc<Seen>> = good_watchers.iter().map(|w| Arc::clone(&w.seen)).collect();
    for Watcher { seen, thread } in watchers.into_iter().chain(good_watchers) {
        thread.join().expect("watchers do not panic");
        let torn = seen.torn.lock().expect("no panic");
        assert!(
            torn.is_empty(),
            "{} torn: {:#?}",
            torn.len(),
            &torn[..torn.len().min(5)]
        );
    }
    for ((name, _), seen) in good.iter().zip(&saw) {
        let [frames, skipped, hidden] =
            [&seen.frames, &seen.skipped, &seen.hidden].map(|count| count.load(Ordering::SeqCst));
        assert!(
            frames > 0 && hidden == 0,
            "{name}: {frames} seen, {hidden} hidden"
        );
        // What the content lacks is what this machine was too slow for. The status says so within
        // a second or two.
        wait_for("as many pictures skipped as counted", PATIENCE, || {
            let camera = world.look()[name.as_str()].clone();
            let overload = camera["frames_dropped"]["overload"].as_u64().unwrap_or(0);
            if skipped <= overload {
                Ok(())
            } else {
                Err((skipped, camera))
            }
        });
    }
    let status = world.look();
    for (name, _) in &good {
        let camera = &status[name.as_str()];
        assert_eq!(camera["reconnects"], 0, "{camera}");
        assert_eq!(camera["restarts"], 0, "{camera}");
        assert_eq!(camera["rtp_packets_lost"], 0, "{camera}");
        assert_eq!(camera["frames_dropped"]["corrupt"], 0, "{camera}");
        assert_eq!(camera["frames_dropped"]["decode_error"], 0, "{camera}");
    }
    drop(client);
    daemon.stop();
    for ((fault, camera), tries) in faults.iter().zip(&cameras).zip(&tries) {
        assert_pace(fault, tries);
        assert_torn_down(fault.name, camera);
    }
    for (name, camera) in &good {
        assert_eq!(
            camera.tries().len(),
            1,
            "{name}: one session from first to last"
        );
        assert_torn_down(name, camera);
    }
}

/// Ends the cameras also when a test fails.
struct Ending(Vec<Arc<Camera>>);

impl Drop for Ending {
    fn drop(&mut self) {
        for camera in &self.0 {
            camera.end();
        }
    }
}

struct World<'a> {
    client: &'a Client,
    daemon: &'a Daemon,
    noted: BTreeMap<&'static str, Noted>,
}

impl World<'_> {
    /// Status of each camera by name.
    fn look(&self) -> BTreeMap<String, Value> {
        let text = self.client.status_json().expect("the daemon answers");
        let status: Value = serde_json::from_str(&text).expect("JSON");
        let cameras = status["cameras"].as_array().expect("cameras");
        cameras
            .iter()
            .map(|c| (c["name"].as_str().expect("a name").to_owned(), c.clone()))
            .collect()
    }

    fn note(&mut self, fault: &Fault, now: &Value) {
        let noted = self.noted.entry(fault.name).or_default();
        noted.last = now.clone();
        let state = now["state"].as_str().unwrap_or_default();
        let reason = now["reason"].as_str().unwrap_or_default();
        noted.states.insert(state.to_owned(), reason.to_owned());
        noted.expected |= state == fault.state && fault.reason.iter().all(|w| reason.contains(w));
        if let Some(pid) = now["pid"].as_u64() {
            noted.pids.insert(pid);
            let memory = anonymous_mib(pid).unwrap_or(0);
            noted.memory_mib = noted.memory_mib.max(memory);
        }
    }

    fn until_each_fault_shows(&mut self, faults: &[Fault], cameras: &[Arc<Camera>]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.look();
            let mut waiting = Vec::new();
            for (fault, camera) in faults.iter().zip(cameras) {
                let now = &status[fault.name];
                self.note(fault, now);
                let noted = &self.noted[fault.name];
                let tries = camera.tries().len();
                let frames = now["frames_published"].as_u64().unwrap_or(0);
                let counted = fault.counted.is_none_or(|pointer| {
                    now.pointer(pointer).and_then(Value::as_u64).unwrap_or(0) > 0
                });
                if !noted.expected || tries < fault.tries || frames < fault.frames || !counted {
                    waiting.push(format!(
                        "{}: expected {} {:?}, {} tries, {} frames, {:?}; {tries} tries; {noted:#?}",
                        fault.name, fault.state, fault.reason, fault.tries, fault.frames, fault.counted
                    ));
                }
            }
            if waiting.is_empty() {
                return;
            }
            assert!(
                Instant::now() < until,
                "after {PATIENCE:?}:\n{}",
                waiting.join("\n")
            );
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    fn judge(&self, fault: &Fault, lasted: f64) {
        let noted = &self.noted[fault.name];
        let name = fault.name;
        assert_eq!(noted.last["restarts"], 0, "{name}: {noted:#?}");
        assert_eq!(noted.pids.len(), 1, "{name}: one process: {noted:#?}");
        let allowed = match fault.state {
            // Also when this machine holds the camera itself up.
            "streaming" => vec!["connecting", "streaming", "stalled"],
            state => vec!["connecting", "streaming", "stalled", state],
        };
        for (state, reason) in &noted.states {
            assert!(
                allowed.contains(&state.as_str()),
                "{name}: also {state}: {reason}"
            );
            assert!(!reason.is_empty(), "{name}: {state} without a reason");
        }
        let cpu = noted.pids.first().copied().and_then(cpu_seconds);
        let cpu = cpu.expect("the reader lives");
        // What it costs to come into being, and then a share of the time.
        let limit = 1.0 + fault.cores * lasted;
        assert!(
            cpu <= limit,
            "{name}: {cpu} s of CPU time in {lasted} s, limit {limit}"
        );
        let memory = noted.memory_mib;
        assert!(
            memory <= fault.memory,
            "{name}: {memory} MiB, limit {}",
            fault.memory
        );
        println!(
            "{name}: {cpu:.2} s CPU in {lasted:.1} s, {memory} MiB, {:?}",
            noted.states
        );
    }

    /// Each streams, and frames come, by their content those of the camera.
    fn until_all_are_well(&mut self, faults: &[Fault], watchers: &[Watcher]) {
        let until = Instant::now() + PATIENCE;
        let seen = |watcher: &Watcher| watcher.seen.frames.load(Ordering::SeqCst);
        let mut before: Option<Vec<u64>> = None;
        loop {
            let status = self.look();
            let ill: Vec<&Value> = faults
                .iter()
                .map(|fault| &status[fault.name])
                .filter(|now| now["state"] != "streaming" || now["restarts"] != 0)
                .collect();
            let now: Vec<u64> = watchers.iter().map(seen).collect();
            let mut still = String::new();
            if ill.is_empty() {
                let before = before.get_or_insert_with(|| now.clone());
                let waits = before.iter().zip(&now).position(|(b, n)| n < &(b + 5));
                match waits {
                    None => return,
                    Some(at) => still = format!("{}: no new frames", faults[at].name),
                }
            }
            assert!(
                Instant::now() < until,
                "not well after {PATIENCE:?}: {still} {ill:#?}"
            );
            assert!(process::Process::of(self.daemon.pid()).is_some());
            std::thread::sleep(Duration::from_millis(150));
        }
    }
}

/// From first to last the tries took as long as their pauses must add up to.
fn assert_pace(fault: &Fault, tries: &[Instant]) {
    let name = fault.name;
    if fault.pace == Pace::Stays {
        assert_eq!(tries.len(), 1, "{name}: one session from first to last");
        return;
    }
    let (Some(first), Some(last)) = (tries.first(), tries.last()) else {
        panic!("{name}: never tried");
    };
    let took = u64::try_from((*last - *first).as_millis()).expect("seconds");
    let least: u64 = (0..tries.len() as u32 - 1)
        .map(|n| fault.pace.shortest(n))
        .sum();
    assert!(
        took + SLACK >= least,
        "{name}: {} tries in {took} ms, must take {least}",
        tries.len()
    );
}

fn assert_torn_down(name: &str, camera: &Camera) {
    assert_eq!(
        camera.log().refused,
        0,
        "{name}: came back without TEARDOWN"
    );
    // One client does not wait for the answer to it.
    wait_for("TEARDOWN of each session", PATIENCE, || {
        let log = camera.log();
        let done = |s: &&crate::camera::SessionLog| !s.torn_down && !s.broken;
        let open: Vec<_> = log.sessions.iter().filter(done).cloned().collect();
        match open.is_empty() {
            true => Ok(()),
            false => Err((name.to_owned(), open, log.connections.clone())),
        }
    });
}
