//! A daemon of a test's own, and what is left of it afterwards: nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camring::supervisor::status::{CameraStatus, ConfigStatus, Status};
use camring_ring::Client;
use rustix::process::{Pid, Signal};

/// For what happens at once on an idle machine: not a limit that anything is measured against.
const PATIENCE: Duration = Duration::from_secs(90);

/// Retries that do not make the tests wait.
const QUICK: &str = "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n";

/// Waits until `look` returns something; the panic shows what `look` saw last.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > PATIENCE => panic!("waited for {what}; saw {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A process, told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    started: u64,
    pub parent: i32,
    state: char,
}

impl Process {
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).is_some_and(|p| p.started == self.started && p.state != 'Z')
    }
}

/// Children of a process, their children, and so on.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all: Vec<Process> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Process::of(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1);
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// What the descriptors of a process refer to.
pub fn descriptors(pid: i32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .collect()
}

/// A running supervisor. Dropping it stops it, and checks that nothing is left.
pub struct World {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl World {
    /// `cameras`: tables after `[site]` and `[retry]`.
    pub fn new(cameras: &str) -> Self {
        let mut world = Self::not_started(cameras);
        world.start();
        world
    }

    pub fn not_started(cameras: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("camring-sup-")
            .tempdir()
            .unwrap();
        let path = dir.path().display();
        let text = format!(
            "[site]\nname = \"test\"\nruntime_dir = \"{path}/run\"\ndata_dir = \"{path}/data\"\n\
             [http]\nlisten = \"off\"\n[sandbox]\non_violation = \"kill\"\n\
             {QUICK}{cameras}"
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { child: None, dir }
    }

    /// One camera for each `(name, query of its URL)`.
    pub fn with_cameras(cameras: &[(&str, &str)]) -> Self {
        let tables = cameras.iter().map(|(name, plan)| camera(name, plan));
        Self::new(&tables.collect::<String>())
    }

    pub fn command(&self) -> Command {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("__daemon")
            .arg(std::process::id().to_string())
            .arg(self.dir.path().join("config.toml"))
            // As a configuration's `${SECRET}` would be.
            .env("CAMRING_TEST_SECRET", "canary-environment")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// With changes to the command.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command)) {
        assert!(self.child.is_none());
        let mut command = self.command();
        change(&mut command);
        self.child = Some(command.spawn().unwrap());
        wait_for("the daemon to answer", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            Client::connect(&self.socket())
                .map(drop)
                .map_err(|e| e.to_string())
        });
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Changes the configuration, sends SIGHUP and returns what came of it.
    #[track_caller]
    pub fn reload(&self, change: impl FnOnce(String) -> String) -> ConfigStatus {
        let text = fs::read_to_string(self.config()).unwrap();
        self.reload_to(&change(text))
    }

    /// The same with the whole text.
    #[track_caller]
    pub fn reload_to(&self, text: &str) -> ConfigStatus {
        fs::write(self.config(), text).unwrap();
        let before = self.status().config.attempts;
        signal(self.pid(), Signal::HUP);
        wait_for("the configuration to be read", || {
            let config = self.status().config;
            match config.attempts > before {
                true => Ok(config),
                false => Err(self.log()),
            }
        })
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("attach.sock")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    #[track_caller]
    pub fn status(&self) -> Status {
        serde_json::from_str(&self.client().status_json().unwrap()).unwrap()
    }

    #[track_caller]
    pub fn camera(&self, name: &str) -> CameraStatus {
        let status = self.status();
        let camera = status
            .cameras
            .into_iter()
            .find(|camera| camera.name == name);
        camera.unwrap_or_else(|| panic!("no camera {name}"))
    }

    #[track_caller]
    pub fn wait_for_camera(
        &self,
        name: &str,
        what: &str,
        good: impl Fn(&CameraStatus) -> bool,
    ) -> CameraStatus {
        wait_for(&format!("{name}: {what}"), || {
            let camera = self.camera(name);
            if good(&camera) {
                Ok(camera)
            } else {
                Err(format!("{camera:?}\n{}", self.log()))
            }
        })
    }

    /// The reader of a camera that publishes, other than `not`.
    #[track_caller]
    pub fn reader(&self, name: &str, not: i32) -> i32 {
        let good = |c: &CameraStatus| c.pid.is_some_and(|pid| pid != not) && c.fps_published > 0.0;
        self.wait_for_camera(name, "a reader that publishes", good)
            .pid
            .unwrap()
    }

    /// Waits for the supervisor's end, and for all that it had started.
    #[track_caller]
    pub fn wait_end_of(&mut self, before: &[Process]) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let status = wait_for("the daemon to end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log())),
        });
        wait_for("all processes to end", || {
            let left: Vec<_> = before.iter().filter(|p| p.is_alive()).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        status
    }

    /// Names in `/dev/shm` of the supervisor with this pid.
    pub fn names(pid: i32) -> Vec<String> {
        let prefix = format!("camring-{pid}-");
        let entries = fs::read_dir("/dev/shm").unwrap();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(child) = &self.child else { return };
        let pid = child.id() as i32;
        if std::thread::panicking() {
            eprintln!("--- log\n{}---", self.log());
            signal(pid, Signal::KILL);
            let _ = self.child.take().unwrap().wait();
            return;
        }
        let before = descendants(pid);
        signal(pid, Signal::TERM);
        let status = self.wait_end_of(&before);
        assert!(status.success(), "{status}\n{}", self.log());
        let left: Vec<_> = fs::read_dir(self.runtime_dir()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(World::names(pid).is_empty());
    }
}

/// A camera's table. `plan` is for the reader, see `reader.rs`.
pub fn camera(name: &str, plan: &str) -> String {
    format!(
        "[[camera]]\nname = \"{name}\"\nusername = \"u\"\npassword = \"canary-password\"\n\
         url = \"rtsp://127.0.0.1/x?{plan}\"\n"
    )
}
