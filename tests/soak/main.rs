//! A long run: twenty cameras, some of them recorded, viewers that come and go, also over HTTP, faults at
//! random, and the question whether anything grows. Run by `./test --soak DURATION`; without `CAMRING_SOAK` in its environment it only
//! checks its own criterion.
//!
//! It passes when no figure grows by the criterion in [`figures`], every camera streams at the end,
//! no picture was torn, and nothing is left behind. The report goes to `CAMRING_SOAK_OUT`, as text and
//! as JSON; the seed in it repeats the sequence of faults.
#![deny(unsafe_code)]

#[path = "../hostile/camera.rs"]
#[allow(dead_code)]
mod camera;
#[path = "../hostile/clip.rs"]
#[allow(dead_code)]
mod clip;
mod figures;
#[path = "../hostile/player.rs"]
#[allow(dead_code)]
mod player;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use camera::{Camera as Scripted, Script};
use clip::Clip;
use figures::Figures;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, process, wait_until};

const GOOD: usize = 14;
/// Of these, the last ones are spared: no fault befalls them.
const SPARED: usize = 6;
/// Of both kinds, every other one is recorded, and looked at over HTTP.
const fn recorded(camera: usize) -> bool {
    camera.is_multiple_of(2)
}
/// Who look over HTTP.
const WATCHERS: usize = 3;
/// Between faults.
const FAULT_EVERY: Duration = Duration::from_secs(4);
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Viewers in processes of their own: they can be killed and stopped.
const VIEWERS: usize = 6;

/// xorshift: reproducible, and enough.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// `90s`, `10m`, `8h`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * seconds))
}

/// What six of twenty cameras do wrong, again and again.
fn scripts() -> Vec<(&'static str, Script)> {
    vec![
        (
            "bad-flapping",
            Script::play(|p| {
                p.pictures(20)?;
                p.close()
            }),
        ),
        (
            "bad-garbage",
            Script::play(|p| {
                p.pictures(30)?;
                p.broken();
                while p.faulty() {
                    p.raw(&[0x13; 300])?;
                    p.wait(player::PERIOD)?;
                }
                p.close()
            }),
        ),
        (
            "bad-loss",
            Script::play(|p| {
                while p.faulty() {
                    for packet in p.picture_packets()? {
                        if p.random(20) != 0 {
                            p.packet(0, &packet)?;
                        }
                    }
                }
                p.close()
            }),
        ),
        (
            "bad-silent",
            Script::play(|p| {
                p.pictures(30)?;
                while p.faulty() {
                    p.wait(player::PERIOD)?;
                }
                p.close()
            }),
        ),
        (
            "bad-times",
            Script::play(|p| {
                while p.faulty() {
                    p.picture()?;
                    p.time = p.random(1 << 32) as u32;
                }
                p.close()
            }),
        ),
        (
            "bad-login",
            Script::on("DESCRIBE", || {
                camera::Answer::status(
                    401,
                    "WWW-Authenticate: Digest realm=\"cam\", nonce=\"1\"\r\n",
                )
            }),
        ),
    ]
}

struct Soak {
    random: Random,
    daemon: Daemon,
    farm: Farm,
    names: Vec<String>,
    viewers: Vec<Child>,
    inside: Vec<Viewer>,
    /// What to undo, and when.
    later: Vec<(Instant, Undo)>,
    counts: std::collections::BTreeMap<&'static str, u64>,
}

enum Undo {
    PowerOn(String),
    Resume(u32),
    Continue(u32),
}

impl Soak {
    fn viewer(&mut self) -> Child {
        let name = self.names[self.random.below(self.names.len())].clone();
        self.daemon
            .camring(["tail", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("camring starts")
    }

    /// Ends one viewer and starts another, somewhere else.
    fn replace_viewer(&mut self, signal: Signal) {
        let at = self.random.below(self.viewers.len());
        let fresh = self.viewer();
        let mut old = std::mem::replace(&mut self.viewers[at], fresh);
        process::kill(old.id(), signal);
        // A stopped one takes its end only when it goes on.
        process::kill(old.id(), Signal::SIGCONT);
        let _ = old.wait();
    }

    fn inject(&mut self) {
        let good = self.names[self.random.below(GOOD - SPARED)].clone();
        let what = match self.random.below(10) {
            0 => {
                self.farm.stop(&good);
                let on = Instant::now() + Duration::from_secs(3);
                self.later.push((on, Undo::PowerOn(good)));
                "camera off and on"
            }
            1 | 2 => {
                if let Some(pid) = self.daemon.camera(&good)["pid"].as_u64() {
                    process::kill(pid as u32, Signal::SIGKILL);
                }
                "reader kill -9"
            }
            3 => {
                if let Some(pid) = self.daemon.status()["spawner_pid"].as_u64() {
                    process::kill(pid as u32, Signal::SIGKILL);
                }
                "spawner kill -9"
            }
            4 => {
                self.replace_viewer(Signal::SIGKILL);
                "viewer kill -9"
            }
            5 => {
                self.replace_viewer(Signal::SIGTERM);
                "viewer detaches"
            }
            6 => {
                let at = self.random.below(self.viewers.len());
                let pid = self.viewers[at].id();
                process::kill(pid, Signal::SIGSTOP);
                let on = Instant::now() + Duration::from_secs(6);
                self.later.push((on, Undo::Resume(pid)));
                "viewer SIGSTOP"
            }
            7 => {
                if let Some(pid) = self.daemon.camera(&good)["recording"]["pid"].as_u64() {
                    process::kill(pid as u32, Signal::SIGKILL);
                }
                "recorder kill -9"
            }
            8 => {
                // Not killed: a server of its own age is what is measured.
                if let Some(pid) = self.daemon.status()["http"]["pid"].as_u64() {
                    process::kill(pid as u32, Signal::SIGSTOP);
                    let on = Instant::now() + Duration::from_secs(2);
                    self.later.push((on, Undo::Continue(pid as u32)));
                }
                "server SIGSTOP"
            }
            _ => {
                let at = self.random.below(self.inside.len());
                // The camera may be off: then this waits for its next ring, which it has already.
                self.inside[at] = Viewer::attach(&self.daemon, &self.farm, &good).allowing_gaps();
                "verifying viewer moves"
            }
        };
        *self.counts.entry(what).or_default() += 1;
    }

    fn undo(&mut self, all: bool) {
        let now = Instant::now();
        for (when, what) in std::mem::take(&mut self.later) {
            if when > now && !all {
                self.later.push((when, what));
                continue;
            }
            match what {
                Undo::PowerOn(name) => self.farm.restart(&name),
                Undo::Continue(pid) => {
                    process::kill(pid, Signal::SIGCONT);
                }
                Undo::Resume(pid) => {
                    // Unless it was replaced meanwhile.
                    if self.viewers.iter().any(|v| v.id() == pid) {
                        process::kill(pid, Signal::SIGCONT);
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        for viewer in &mut self.inside {
            // Verified by its content; panics at a torn one.
            let _ = viewer.try_next();
        }
    }
}

/// Looks at one recording after the other over HTTP, as players do, until it is told to stop. Returns the
/// number of answers.
fn watch(address: &str, names: &[String], stop: &AtomicBool) -> u64 {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let get = |path: &str| -> Option<String> {
        let mut answer = agent.get(format!("http://{address}{path}")).call().ok()?;
        let bytes = answer.body_mut().read_to_vec().ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut answers = 0;
    for name in names.iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let folder = format!("/hls/{name}/main/source");
        let Some(playlist) = get(&format!("{folder}/live.m3u8")) else {
            continue;
        };
        let segment = playlist.lines().rfind(|line| line.ends_with(".m4s"));
        let segment = segment.map(|line| format!("{folder}/{line}"));
        for path in segment.into_iter().chain([
            format!("{folder}/dvr.m3u8"),
            format!("/api/v1/cameras/{name}/snapshot.jpg"),
            format!("/api/v1/cameras/{name}/timeline"),
        ]) {
            answers += u64::from(get(&path).is_some());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    answers
}

fn main() {
    figures::check_criterion();
    let Ok(wanted) = std::env::var("CAMRING_SOAK") else {
        return;
    };
    let length = duration(&wanted).expect("CAMRING_SOAK is a duration: 90s, 10m, 8h");
    let seed = std::env::var("CAMRING_SOAK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| support::unix_ns() as u64 | 1);
    println!("soak for {wanted}, CAMRING_SOAK_SEED={seed}");
    let out = std::env::var("CAMRING_SOAK_OUT").map_or_else(
        |_| PathBuf::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/soak")),
        PathBuf::from,
    );

    let names: Vec<String> = (0..GOOD).map(|n| format!("cam-{n}")).collect();
    let mounted: Vec<Camera> = names
        .iter()
        .map(|name| Camera::new(name, "h264-360p").fps(10))
        .collect();
    let farm = Farm::start(&mounted);
    let mut config = "[retry]\ninitial = \"200ms\"\nmax = \"2s\"\nunauthorized = \"2s\"\n\
        connect_timeout = \"5s\"\nstall_timeout = \"5s\"\n\n\
        [record]\nkeep = \"1m\"\nmin_free = \"64MiB\"\n\n\
        [http]\nlisten = \"127.0.0.1:0\"\n\n"
        .to_owned();
    for (n, name) in names.iter().enumerate() {
        config += &format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
            farm.url(name)
        );
        if recorded(n) {
            config += "[camera.record]\nmode = \"copy\"\n";
        }
        config += "\n";
    }
    let usual = Clip::usual();
    let scripted: Vec<(&str, Arc<Scripted>)> = scripts()
        .into_iter()
        .map(|(name, script)| (name, Scripted::start(script, &usual)))
        .collect();
    for (name, camera) in &scripted {
        config += &format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n",
            camera.url()
        );
        config += "username = \"admin\"\npassword = \"wrong\"\n\n";
    }
    let daemon = Daemon::start(&config);
    let supervisor = daemon.pid();
    for name in &names {
        daemon.wait_for_state(name, "streaming");
    }
    let inside = names[..2]
        .iter()
        .map(|name| Viewer::attach(&daemon, &farm, name).allowing_gaps())
        .collect();
    let mut soak = Soak {
        random: Random(seed),
        daemon,
        farm,
        names,
        viewers: Vec::new(),
        inside,
        later: Vec::new(),
        counts: Default::default(),
    };
    for _ in 0..VIEWERS {
        let viewer = soak.viewer();
        soak.viewers.push(viewer);
    }

    let kept: Vec<String> = (0..GOOD)
        .filter(|n| recorded(*n))
        .map(|n| soak.names[n].clone())
        .collect();
    let spared = soak.names[GOOD - SPARED..].to_vec();
    let address = support::wait_for("the server to listen", support::PATIENCE, || {
        let http = soak.daemon.status()["http"].clone();
        http["address"].as_str().map(str::to_owned).ok_or(http)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|n| {
            let (address, stop, mut names) = (address.clone(), Arc::clone(&stop), kept.clone());
            names.rotate_left(n);
            std::thread::spawn(move || watch(&address, &names, &stop))
        })
        .collect();

    let began = Instant::now();
    // In a thread of its own: faults take their time, and samples are to come evenly.
    let sampler = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut figures = Figures::default();
            while !stop.load(Ordering::SeqCst) {
                figures.sample(began.elapsed(), supervisor, &spared);
                std::thread::sleep(SAMPLE_EVERY);
            }
            figures
        })
    };
    let mut fault_at = began + FAULT_EVERY;
    while began.elapsed() < length {
        soak.look();
        soak.undo(false);
        let now = Instant::now();
        if now >= fault_at {
            soak.inject();
            fault_at = Instant::now() + FAULT_EVERY;
        }
    }

    // What follows is the end of the faults, no part of what is measured.
    stop.store(true, Ordering::SeqCst);
    let figures = sampler.join().expect("no panic");
    soak.undo(true);
    for (_, camera) in &scripted {
        camera.behave();
    }
    wait_until("every camera to stream", Duration::from_secs(300), || {
        let status = soak.daemon.status();
        let cameras = status["cameras"].as_array().expect("cameras");
        cameras.len() == GOOD + scripted.len() && cameras.iter().all(|c| c["state"] == "streaming")
    });
    let answers: u64 = watchers
        .into_iter()
        .map(|one| one.join().expect("no panic"))
        .sum();
    for name in &kept {
        let recording = soak.daemon.camera(name)["recording"].clone();
        assert_eq!(recording["state"], "recording", "{name}: {recording}");
    }
    let frames: u64 = soak.inside.iter().map(|v| v.seen).sum();
    for viewer in &mut soak.viewers {
        process::kill(viewer.id(), Signal::SIGCONT);
        let _ = viewer.kill();
        let _ = viewer.wait();
    }
    let verdicts = figures.verdicts();
    let grows: Vec<_> = verdicts.iter().filter(|v| v.grows).collect();
    let passed = grows.is_empty() && !verdicts.is_empty();
    let mut text = format!(
        "soak: {wanted}, seed {seed}, {} samples, faults {:?}\n{}",
        figures.len(),
        soak.counts,
        figures::table(&verdicts)
    );
    text += &format!(
        "every camera streams; {frames} frames of the viewers there now verified; {answers} answers over \
         HTTP; {}\n",
        match (passed, verdicts.is_empty()) {
            (true, _) => "PASS",
            (false, true) => "FAIL: too short to say whether anything grows",
            (false, false) => "FAIL: something grows",
        }
    );
    let report = json!({
        "duration": wanted, "seed": seed, "samples": figures.len(), "faults": soak.counts,
        "answers": answers, "pass": passed, "figures": verdicts.iter().map(figures::Verdict::json).collect::<Vec<_>>(),
        "series": figures.series(),
    });
    soak.inside.clear();
    // Checks that nothing is left: processes, memory, sockets.
    soak.daemon.stop();
    for (_, camera) in &scripted {
        camera.end();
    }
    std::fs::write(out.with_extension("txt"), &text).expect("the report is written");
    std::fs::write(out.with_extension("json"), report.to_string()).expect("the report is written");
    println!("{text}\nreport: {}.txt and .json", out.display());
    let (ok, bad) = if passed { (1, 0) } else { (0, 1) };
    println!(
        "test result: {}. {ok} passed; {bad} failed",
        if passed { "ok" } else { "FAILED" }
    );
    std::process::exit(bad);
}
