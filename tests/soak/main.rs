//! A long run: twenty cameras, viewers that come and go, faults at random, and the question whether
//! anything grows. Run by `./test --soak DURATION`; without `CAMRING_SOAK` in its environment it only
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
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use camera::{Camera as Scripted, Script};
use clip::Clip;
use figures::Figures;
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, process, wait_until};

const GOOD: usize = 14;
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
        let good = self.names[self.random.below(GOOD)].clone();
        let what = match self.random.below(8) {
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
        connect_timeout = \"5s\"\nstall_timeout = \"5s\"\n\n"
        .to_owned();
    for name in &names {
        config += &format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{}\"\n\n",
            farm.url(name)
        );
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

    let began = Instant::now();
    let mut figures = Figures::default();
    let (mut fault_at, mut sample_at) = (began + FAULT_EVERY, began);
    while began.elapsed() < length {
        soak.look();
        soak.undo(false);
        let now = Instant::now();
        if now >= fault_at {
            soak.inject();
            fault_at = Instant::now() + FAULT_EVERY;
        }
        if now >= sample_at {
            figures.sample(began.elapsed(), supervisor);
            sample_at = Instant::now() + SAMPLE_EVERY;
        }
    }

    soak.undo(true);
    for (_, camera) in &scripted {
        camera.behave();
    }
    wait_until("every camera to stream", Duration::from_secs(300), || {
        let status = soak.daemon.status();
        let cameras = status["cameras"].as_array().expect("cameras");
        cameras.len() == GOOD + scripted.len() && cameras.iter().all(|c| c["state"] == "streaming")
    });
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
        "every camera streams; {frames} frames of the viewers there now verified; {}\n",
        if passed {
            "PASS"
        } else {
            "FAIL: something grows"
        }
    );
    let report = json!({
        "duration": wanted, "seed": seed, "samples": figures.len(), "faults": soak.counts,
        "pass": passed, "figures": verdicts.iter().map(figures::Verdict::json).collect::<Vec<_>>(),
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
