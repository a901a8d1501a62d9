//! A `camring hls` under test.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use crate::support::{Daemon, PATIENCE, process, wait_for};

/// A recorder; killed when dropped.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    log: PathBuf,
}

/// The command that records a camera of this daemon below `data_dir`.
pub fn arguments(daemon: &Daemon, camera: &str, data_dir: &Path) -> Vec<String> {
    let mut command = vec![env!("CARGO_BIN_EXE_camring").to_owned()];
    command.extend(["hls", camera, "--socket"].map(str::to_owned));
    command.push(daemon.socket().display().to_string());
    command.extend(["--data-dir".to_owned(), data_dir.display().to_string()]);
    command.extend(["--segment", "2s", "--part", "200ms"].map(str::to_owned));
    command
}

impl Recorder {
    #[track_caller]
    pub fn start(daemon: &Daemon, camera: &str, data_dir: &Path) -> Self {
        let log = data_dir.join(format!("{}.log", camera.replace('/', "@")));
        Self::run(&arguments(daemon, camera, data_dir), log)
    }

    /// Any command that ends up as a recorder.
    #[track_caller]
    pub fn run(command: &[String], log: PathBuf) -> Self {
        let file = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .expect("a log file");
        // Dies with the test even when that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(command)
            .env("CAMRING_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second descriptor"))
            .stderr(file)
            .spawn()
            .expect("setpriv (util-linux) starts");
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    fn wait(&mut self, what: &str) -> ExitStatus {
        wait_for(what, PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err((other, fs::read_to_string(&self.log))),
        })
    }

    /// Ctrl-C: ends in order.
    #[track_caller]
    pub fn stop(mut self) {
        assert!(process::kill(self.pid(), Signal::SIGINT), "{}", self.log());
        let status = self.wait("the recorder to end");
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// No chance to do anything.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("a child that runs");
        let status = self.wait("the killed recorder to be gone");
        assert_eq!(
            status.signal(),
            Some(9),
            "it had ended before:\n{}",
            self.log()
        );
    }

    /// Waits for an end of its own.
    #[track_caller]
    pub fn ends(mut self) -> (ExitStatus, String) {
        let status = self.wait("the recorder to end by itself");
        (status, self.log())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the recorder\n{}---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
