//! A site with two cameras that behave, recorded and watched, and what must hold of them whatever
//! happens beside them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camring_ring::{AttachError, Client};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::camera::{Camera, Script};
use crate::clip::{Clip, PICTURES, TAG};
use crate::support::framecode::Witness;
use crate::support::{Daemon, process, wait_for};
use crate::tape::Tape;
use crate::watcher::{DEPTH, Watcher};

/// How long anything may take on a machine that does other things.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The cameras that must not notice.
pub const GOOD: [&str; 2] = ["good-1", "good-2"];

/// Pauses are short, so that tests do not wait.
const SITE: &str = "[ring]\ndepth = @DEPTH@\npins = 60\n\
    [retry]\ninitial = \"200ms\"\nmax = \"1s\"\nunauthorized = \"1s\"\nstall_timeout = \"5s\"\nconnect_timeout = \"10s\"\n\
    [http]\nlisten = \"@LISTEN@\"\n";

/// What a fault may take from the cameras that behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spares {
    /// Nothing: not a picture, not one of the recording, not a process.
    All,
    /// Nothing of pictures and readers; recordings have a gap.
    Pictures,
}

/// Of the good cameras. They are threads of this process: one that the machine leaves no time for seconds has
/// not gone silent.
const PATIENT: &str = "[camera.retry]\nstall_timeout = \"60s\"\n";

/// A daemon with good cameras and victims.
pub struct World {
    pub daemon: Daemon,
    good: Vec<Arc<Camera>>,
    victims: Vec<(String, Arc<Camera>)>,
    watchers: Vec<Watcher>,
    stop: Arc<AtomicBool>,
    /// The disk has refused writes: see [`Tape::refused`].
    pub disk_refused: bool,
    /// Of the good cameras, at the beginning of a fault.
    before: Vec<Value>,
    frames: Vec<u64>,
}

/// A camera's table.
pub fn table(name: &str, url: &str, recorded: bool) -> String {
    let record = match recorded {
        true => "[camera.record]\nmode = \"copy\"\nsegment = \"1s\"\n",
        false => "",
    };
    format!(
        "[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\nusername = \"admin\"\npassword = \"pass\"\n{record}"
    )
}

impl World {
    /// Victims are recorded too, if `true` stands by them.
    pub fn new(victims: Vec<(&str, Script, bool)>) -> World {
        World::start(&[], "", victims)
    }

    /// `under`: see [`Daemon::start_under`]; `more`: tables besides.
    pub fn start(under: &[&str], more: &str, victims: Vec<(&str, Script, bool)>) -> World {
        World::start_with(under, "127.0.0.1:0", more, victims, |_| {})
    }

    /// The same, with HTTP at this address, and changes to the command.
    pub fn start_with(
        under: &[&str],
        listen: &str,
        more: &str,
        victims: Vec<(&str, Script, bool)>,
        change: impl FnOnce(&mut Command),
    ) -> World {
        let usual = Clip::usual();
        let site = SITE.replace("@LISTEN@", listen);
        let mut config = site.replace("@DEPTH@", &DEPTH.to_string()) + more;
        let good: Vec<Arc<Camera>> = GOOD
            .map(|_| Camera::start(Script::default(), &usual))
            .into();
        for (name, camera) in GOOD.iter().zip(&good) {
            config += &table(name, &camera.url(), true);
            config += PATIENT;
        }
        let mut scripted = Vec::new();
        for (name, script, recorded) in victims {
            let camera = Camera::start(script, &usual);
            config += &table(name, &camera.url(), recorded);
            scripted.push((name.to_owned(), camera));
        }
        let daemon = Daemon::start_under(under, &config, change);
        let mut world = World {
            daemon,
            good,
            victims: scripted,
            watchers: Vec::new(),
            stop: Arc::default(),
            disk_refused: false,
            before: Vec::new(),
            frames: Vec::new(),
        };
        world.watch();
        world.settle();
        world
    }

    /// Subscribers of the good cameras.
    fn watch(&mut self) {
        let socket = self.daemon.socket();
        self.watchers = GOOD
            .map(|name| Watcher::start(&socket, name, &self.stop))
            .into();
    }

    /// Until the good cameras are watched and recorded.
    pub fn settle(&mut self) {
        wait_for(
            "the good cameras to be watched and recorded",
            PATIENCE,
            || {
                let all = GOOD.map(|name| self.camera(name));
                let watched = self
                    .watchers
                    .iter()
                    .all(|w| w.seen.frames.load(Ordering::SeqCst) > 5);
                let good = all.iter().all(|c| {
                    c["recording"]["state"] == "recording"
                        && c["recording"]["units"].as_u64() > Some(5)
                });
                if good && watched { Ok(()) } else { Err(all) }
            },
        );
        self.begin();
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// A connection, and what is asked over it. A busy machine may take longer than a client waits, so it is
    /// asked again, as long as there is a daemon.
    #[track_caller]
    pub fn ask<T>(&self, mut question: impl FnMut(&Client) -> Result<T, AttachError>) -> T {
        let socket = self.daemon.socket();
        wait_for("an answer of the daemon", PATIENCE, || {
            let answer = Client::connect(&socket).and_then(|client| question(&client));
            answer.map_err(|error| {
                assert!(self.daemon.is_running(), "the daemon has ended: {error}");
                error.to_string()
            })
        })
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        self.ask(|client| Ok(client.clone()))
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        let text = self.ask(Client::status_json);
        serde_json::from_str(&text).expect("JSON")
    }

    #[track_caller]
    pub fn camera(&self, name: &str) -> Value {
        let status = self.status();
        let cameras = status["cameras"].as_array().expect("cameras");
        let camera = cameras.iter().find(|camera| camera["name"] == name);
        camera.unwrap_or_else(|| panic!("no camera {name}")).clone()
    }

    pub fn victim(&self, name: &str) -> &Arc<Camera> {
        let found = self.victims.iter().find(|(one, _)| one == name);
        &found.expect("a victim of this name").1
    }

    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if start.elapsed() >= PATIENCE {
                let status = Client::connect(&self.daemon.socket()).and_then(|c| c.status_json());
                panic!("waited {PATIENCE:?} for: {what}; status: {status:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A state of one camera; the panic shows the last one.
    #[track_caller]
    pub fn until_camera(&self, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{name}: {what}"), PATIENCE, || {
            let camera = self.camera(name);
            if good(&camera) {
                Ok(camera)
            } else {
                Err(camera)
            }
        })
    }

    /// In this state, for a reason with all these words; streaming has any.
    #[track_caller]
    pub fn until_shown(&self, name: &str, state: &str, words: &[&str]) -> Value {
        self.until_camera(name, &format!("{state} {words:?}"), |c| {
            let reason = c["reason"].as_str().unwrap_or_default();
            c["state"] == state && words.iter().all(|word| reason.contains(word))
        })
    }

    #[track_caller]
    pub fn until_streams(&self, name: &str) -> Value {
        self.until_camera(name, "streaming", |c| c["state"] == "streaming")
    }

    #[track_caller]
    pub fn until_records(&self, name: &str) -> Value {
        let units = |c: &Value| c["recording"]["units"].as_u64().unwrap_or(0);
        let before = units(&self.camera(name));
        self.until_camera(name, "recorded", |c| {
            c["recording"]["state"] == "recording" && units(c) > before
        })
    }

    #[track_caller]
    pub fn until_logged(&self, words: &str) {
        self.until_logged_again(words, 0);
    }

    /// More than `times`.
    #[track_caller]
    pub fn until_logged_again(&self, words: &str, times: usize) {
        self.until(&format!("{words:?} in the log"), || {
            (self.log().matches(words).count() > times).then_some(())
        });
    }

    /// The same where status cannot be asked meanwhile.
    #[track_caller]
    pub fn until_logged_by_file(&self, words: &str, times: usize) {
        wait_for(&format!("{words:?} in the log"), PATIENCE, || {
            match self.log().matches(words).count() > times {
                true => Ok(()),
                false => Err("it is not there"),
            }
        });
    }

    /// Of a camera's field, `pid` or `/recording/pid`, once there is one other than `not`.
    #[track_caller]
    pub fn pid(&self, camera: &str, pointer: &str, not: u32) -> u32 {
        let pid = |c: &Value| c.pointer(pointer).and_then(Value::as_u64);
        let found = self.until_camera(camera, "a process", |c| {
            pid(c).is_some_and(|pid| pid != u64::from(not))
        });
        u32::try_from(pid(&found).expect("just seen")).expect("a pid")
    }

    #[track_caller]
    pub fn server_pid(&self, not: u32) -> u32 {
        self.until("a server", || {
            let http = self.status()["http"].clone();
            let pid = http["pid"]
                .as_u64()
                .filter(|_| http["state"] == "running")?;
            u32::try_from(pid).ok().filter(|pid| *pid != not)
        })
    }

    #[track_caller]
    pub fn spawner_pid(&self, not: u32) -> u32 {
        self.until("a spawner", || {
            let pid = self.status()["spawner_pid"].as_u64()?;
            u32::try_from(pid).ok().filter(|pid| *pid != not)
        })
    }

    /// Where it listens now.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.until("an address", || {
            let http = self.status()["http"].clone();
            http["address"]
                .as_str()
                .filter(|_| http["state"] == "running")?
                .parse()
                .ok()
        })
    }

    /// Status and body, or why there is no answer.
    pub fn get(&self, path: &str) -> Result<(u16, String), String> {
        get(self.address(), path)
    }

    /// Until the server answers so.
    #[track_caller]
    pub fn until_answered(&self, path: &str, status: u16, words: &str) {
        wait_for(
            &format!("{path}: {status} {words}"),
            PATIENCE,
            || match self.get(path) {
                Ok((code, text)) if code == status && text.contains(words) => Ok(()),
                other => Err(other),
            },
        );
    }

    /// Ends the daemon by a signal and starts it again: everything begins anew.
    #[track_caller]
    pub fn restart(&mut self, signal: Signal) {
        self.check_watchers();
        self.daemon.restart(signal);
        for watcher in self.watchers.drain(..) {
            watcher.thread.join().expect("watchers do not panic");
        }
        self.watch();
        self.settle();
    }

    /// From here on a fault is looked at.
    pub fn begin(&mut self) {
        self.before = GOOD.map(|name| self.camera(name)).into();
        self.frames = self.frames_seen();
    }

    pub fn frames_seen(&self) -> Vec<u64> {
        let seen = self.watchers.iter();
        seen.map(|w| w.seen.frames.load(Ordering::SeqCst)).collect()
    }

    /// Pictures of the good cameras go on: waits for some more than there are now.
    #[track_caller]
    pub fn until_frames(&self, more: u64) {
        let from = self.frames_seen();
        wait_for("pictures of the good cameras", PATIENCE, || {
            let now = self.frames_seen();
            match now.iter().zip(&from).all(|(now, from)| *now >= from + more) {
                true => Ok(()),
                false => Err((now, from.clone())),
            }
        });
    }

    /// The good cameras have gone on, and nothing happened to them since [`World::begin`].
    #[track_caller]
    pub fn unharmed(&mut self, spares: Spares) {
        self.until_frames(3);
        for name in GOOD {
            self.until_records(name);
        }
        for (name, before) in GOOD.iter().zip(&self.before) {
            // For a moment it may be shown as stalled, if its thread of this process had no time.
            let now = self.until_streams(name);
            let same = |pointer: &str| {
                let (then, now_it_is) = (before.pointer(pointer), now.pointer(pointer));
                assert_eq!(now_it_is, then, "{name} {pointer}: {before}\n{now}");
            };
            for pointer in [
                "/pid",
                "/restarts",
                "/reconnects",
                "/rtp_packets_lost",
                "/glitches",
                "/frames_dropped/no_slot",
                "/frames_dropped/no_memory",
                "/frames_dropped/corrupt",
                "/frames_dropped/decode_error",
            ] {
                same(pointer);
            }
            if spares == Spares::All {
                for pointer in [
                    "/recording/pid",
                    "/recording/restarts",
                    "/recording/gaps",
                    "/recording/units_missed",
                    "/recording/write_errors",
                ] {
                    same(pointer);
                }
            }
        }
        self.check_watchers();
        self.begin();
    }

    #[track_caller]
    fn check_watchers(&self) {
        for watcher in &self.watchers {
            let seen = &watcher.seen;
            let wrong = seen.wrong.lock().expect("no panic");
            assert!(
                wrong.is_empty(),
                "{}: {:#?}",
                watcher.name,
                &wrong[..wrong.len().min(5)]
            );
            drop(wrong);
            let [missed, hidden, skipped] =
                [&seen.missed, &seen.hidden, &seen.skipped].map(|n| n.load(Ordering::SeqCst));
            assert_eq!((missed, hidden), (0, 0), "{}", watcher.name);
            // What the content lacks is what this machine was too slow for, and counts. The status says
            // so within a second or two.
            wait_for("as many pictures skipped as counted", PATIENCE, || {
                let camera = self.camera(watcher.name);
                match camera["frames_dropped"]["overload"].as_u64() >= Some(skipped) {
                    true => Ok(()),
                    false => Err((skipped, camera)),
                }
            });
        }
    }

    /// One session of each good camera, from first to last.
    #[track_caller]
    pub fn one_session(&self) {
        for (name, camera) in GOOD.iter().zip(&self.good) {
            assert_eq!(camera.tries().len(), 1, "{name}: {:?}", camera.tries());
        }
    }

    /// Ends the daemon, and checks what lies on the disk: whole, each picture, and as many breaks in the
    /// recordings of the good cameras as said.
    #[track_caller]
    pub fn end(self, breaks: usize) {
        let path = self.daemon.folder().join("data");
        self.end_at(&path, |tape, name| {
            assert_eq!(
                tape.breaks().len(),
                breaks + 1,
                "{name}: {:?}",
                tape.breaks()
            );
        });
    }

    /// The same where the recordings lie elsewhere, with another check of them.
    #[track_caller]
    pub fn end_at(mut self, data: &Path, check: impl Fn(&Tape, &str)) {
        self.stop.store(true, Ordering::SeqCst);
        for watcher in self.watchers.drain(..) {
            watcher.thread.join().expect("watchers do not panic");
        }
        let zombies: Vec<_> = process::descendants(self.daemon.pid())
            .into_iter()
            .filter(|p| p.state == 'Z')
            .collect();
        // One that has just ended may be about to be waited for.
        for zombie in zombies {
            wait_for(
                "zombies to be gone",
                PATIENCE,
                || match process::Process::of(zombie.pid) {
                    Some(now) if now.started == zombie.started => Err(now),
                    _ => Ok(()),
                },
            );
        }
        let status = self.status();
        assert_eq!(status["memory"]["replaced_bytes"], 0, "{status}");
        for name in GOOD {
            let mut tape = Tape::read(data, name);
            tape.refused = self.disk_refused;
            assert!(tape.pictures() > 20, "{name}: {} pictures", tape.pictures());
            tape.check(&mut || Witness::new(TAG, PICTURES));
            check(&tape, name);
        }
        let log = self.log();
        for words in ["panicked", "a fault of this program"] {
            let line = log.lines().find(|line| line.contains(words));
            assert_eq!(line, None, "in the log");
        }
        // Drop ends the cameras and the daemon, in this order or the other.
    }

    /// All processes below the daemon.
    pub fn processes(&self) -> Vec<u32> {
        let all = process::descendants(self.daemon.pid());
        all.into_iter().map(|one| one.pid).collect()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.daemon.folder().join("data")
    }

    /// Reads the configuration again, and returns what `status` says of it.
    #[track_caller]
    pub fn reload(&self) -> Value {
        let attempts = |status: &Value| status["config"]["attempts"].as_u64();
        let before = attempts(&self.status());
        assert!(process::kill(self.daemon.pid(), Signal::SIGHUP));
        self.until("the configuration to be read", || {
            let status = self.status();
            (attempts(&status) > before).then(|| status["config"].clone())
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for camera in self.good.iter().chain(self.victims.iter().map(|(_, c)| c)) {
            camera.end();
        }
    }
}

/// One request over a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or("no answer")?, text))
}
