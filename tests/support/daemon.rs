//! A `camring` daemon under test: the built binary, with a configuration and folders of its own.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use serde_json::Value;
use tempfile::TempDir;

use super::process::{self, Process};
use super::{PATIENCE, wait_for};

/// In the environment of the daemon and so of all its children: finds those that outlived it.
const MARK: &str = "CAMRING_TEST_DAEMON";

/// A running daemon. Dropping it sends SIGTERM and checks that nothing is left of it.
///
/// It is killed when the thread that started it ends: keep it in the test's own thread.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: TempDir,
    mark: String,
    /// What it runs under, as `unshare --mount`.
    under: Vec<String>,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Writes a configuration and starts `camring run` with it; returns when clients can attach.
    ///
    /// `config`: the `[[camera]]` and other tables. A `[site]` table with folders of its own is put in
    /// front; a text with a `[site]` table of its own can write `@DIR@` for that folder. There is no HTTP,
    /// unless the text has an `[http]` table.
    #[track_caller]
    pub fn start(config: &str) -> Daemon {
        Daemon::start_with(config, |_| {})
    }

    /// The same, with changes to the command, say its environment.
    #[track_caller]
    pub fn start_with(config: &str, change: impl FnOnce(&mut Command)) -> Daemon {
        Daemon::start_under(&[], config, change)
    }

    /// The same, below another program, which must become this one (`exec`): `["unshare", "--mount"]`.
    /// `@DIR@` in its words is the folder of this daemon.
    #[track_caller]
    pub fn start_under(under: &[&str], config: &str, change: impl FnOnce(&mut Command)) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new()
            .prefix("camring-test-")
            .tempdir()
            .expect("a folder");
        let dir = folder.path().to_str().expect("UTF-8");
        let site =
            "[site]\nname = \"test\"\nruntime_dir = \"@DIR@/run\"\ndata_dir = \"@DIR@/data\"\n\n";
        let site = if config.contains("[site]") { "" } else { site };
        // Daemons of parallel tests would all want the same port.
        let http = "[http]\nlisten = \"off\"\n\n";
        let http = if config.contains("[http]") { "" } else { http };
        // What a process must not do ends it, so that a test sees it.
        let sandbox = "[sandbox]\non_violation = \"kill\"\n\n";
        let sandbox = if config.contains("[sandbox]") {
            ""
        } else {
            sandbox
        };
        let text = format!("{site}{http}{sandbox}{config}").replace("@DIR@", dir);
        for name in ["run", "data"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        fs::write(folder.path().join("config.toml"), text).expect("a configuration");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}", std::process::id());
        let under: Vec<String> = under
            .iter()
            .map(|word| word.replace("@DIR@", dir))
            .collect();
        let mut command = Daemon::command(&under, &folder, &mark);
        change(&mut command);
        let child = command.spawn().expect("setpriv (util-linux) starts");
        let mut daemon = Daemon {
            child,
            folder,
            mark,
            under,
            ended: None,
        };
        daemon.wait_for_its_socket();
        daemon
    }

    fn command(under: &[String], folder: &TempDir, mark: &str) -> Command {
        let log = File::options()
            .append(true)
            .create(true)
            .open(folder.path().join("log"))
            .expect("a log file");
        // Dies with the test even when that is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(under)
            .arg(env!("CARGO_BIN_EXE_camring"))
            .args(["run", "--config"])
            .arg(folder.path().join("config.toml"))
            .env(MARK, mark)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log);
        command
    }

    #[track_caller]
    fn wait_for_its_socket(&mut self) {
        wait_for("the daemon to answer on its socket", PATIENCE, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended = Some(status);
                panic!(
                    "the daemon ended ({status}) instead of starting:\n{}",
                    self.log_tail()
                );
            }
            // Panics of wait_for show this: what the daemon said so far.
            if connects(&self.socket()) {
                Ok(())
            } else {
                Err(self.log())
            }
        });
    }

    /// Ends the daemon with this signal, with the checks of [`Daemon::stop`] or [`Daemon::kill`], and
    /// starts another one in its place: same configuration, same socket. Clients see the old one go.
    #[track_caller]
    pub fn restart(&mut self, signal: Signal) {
        self.end(signal);
        self.child = Daemon::command(&self.under, &self.folder, &self.mark)
            .spawn()
            .expect("setpriv (util-linux) starts");
        self.ended = None;
        self.wait_for_its_socket();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where clients attach.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("attach.sock")
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The folder of all that is this daemon's.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The end of it: what a panic has room for.
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    /// Whether its process has not ended yet.
    pub fn is_running(&self) -> bool {
        Process::of(self.pid()).is_some_and(|process| process.state != 'Z')
    }

    /// A `camring` command that talks to this daemon, say `["tail", "door", "--json"]`.
    pub fn camring<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_camring"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config_path())
            .env("CAMRING_SOCKET", self.socket())
            .stdin(Stdio::null());
        command
    }

    /// `camring status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let output = self
            .camring(["status", "--json"])
            .output()
            .expect("camring starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "camring status: {errors}\n{}",
            self.log()
        );
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("camring status: {e} in {text}"))
    }

    /// The status of one camera or stream, by the name that `status` gives it.
    #[track_caller]
    pub fn camera(&self, name: &str) -> Value {
        let status = self.status();
        let cameras = status["cameras"].as_array().expect("an array of cameras");
        let camera = cameras.iter().find(|camera| camera["name"] == name);
        camera
            .unwrap_or_else(|| panic!("no camera {name} in {status}"))
            .clone()
    }

    /// Waits until `good` accepts the status of a camera, and returns it. The panic shows the last one.
    #[track_caller]
    pub fn wait_for_camera(&self, name: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("camera {name}: {what}"), PATIENCE, || {
            let camera = self.camera(name);
            if good(&camera) {
                Ok(camera)
            } else {
                Err(camera)
            }
        })
    }

    /// Waits until a camera is in this state (`streaming`, `unauthorized` …).
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) -> Value {
        self.wait_for_camera(name, state, |camera| camera["state"] == state)
    }

    /// The process that reads a camera now.
    #[track_caller]
    pub fn reader_pid(&self, name: &str) -> u32 {
        let camera = self.wait_for_camera(name, "has a process", |camera| camera["pid"].is_u64());
        camera["pid"]
            .as_u64()
            .and_then(|pid| pid.try_into().ok())
            .expect("a pid")
    }

    /// SIGTERM, then checks: it ended with status 0, and no process, shared memory or socket is left.
    #[track_caller]
    pub fn stop(mut self) {
        self.end(Signal::SIGTERM);
    }

    /// SIGKILL to the supervisor alone, then checks that no process survives it. Files may stay.
    #[track_caller]
    pub fn kill(mut self) {
        self.end(Signal::SIGKILL);
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        let pid = self.pid();
        let before = process::descendants(pid);
        assert!(
            process::kill(pid, signal),
            "the daemon had ended before:\n{}",
            self.log()
        );
        let status = wait_for("the daemon to end", PATIENCE, || {
            match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err((other, process::descendants(pid))),
            }
        });
        self.ended = Some(status);
        let entry = format!("{MARK}={}", self.mark);
        wait_for("every process of the daemon to end", PATIENCE, || {
            let mut left: Vec<Process> = before.iter().filter(|p| p.is_alive()).cloned().collect();
            left.extend(
                process::with_environment(&entry)
                    .into_iter()
                    .filter(Process::is_alive),
            );
            // Clients that a test started with `camring()` do not carry the mark.
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        if signal == Signal::SIGTERM {
            assert!(
                status.success(),
                "the daemon ended with {status}:\n{}",
                self.log()
            );
            let names = process::shared_memory_names(&format!("camring-{pid}-"));
            assert!(names.is_empty(), "left in /dev/shm: {names:?}");
            assert!(
                !self.socket().exists(),
                "left behind: {}",
                self.socket().display()
            );
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- end of the daemon's log\n{}---", self.log_tail());
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else {
            self.end(Signal::SIGTERM);
        }
    }
}

/// The last lines, and the beginning of each that is long.
fn tail(log: &str) -> String {
    const LINES: usize = 60;
    const COLUMNS: usize = 300;
    let lines: Vec<&str> = log.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    let mut text = match left_out {
        0 => String::new(),
        _ => format!("({left_out} lines before)\n"),
    };
    for line in &lines[left_out..] {
        text.extend(line.chars().take(COLUMNS));
        text.push_str(if line.chars().nth(COLUMNS).is_some() {
            "…\n"
        } else {
            "\n"
        });
    }
    text
}

/// Whether somebody accepts connections on a SOCK_SEQPACKET socket.
fn connects(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(fd) = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None) else {
        return false;
    };
    UnixAddr::new(path).is_ok_and(|address| socket::connect(fd.as_raw_fd(), &address).is_ok())
}
