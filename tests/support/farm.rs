//! Test cameras: `tests/farm/farm.py`, a third-party RTSP server with clips that verify themselves.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::framecode::Witness;

/// Making clips is part of the first start.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Send times kept per camera: one for each index that the frame code can express.
const SEND_TIME_SLOTS: u64 = 16384;

/// One camera of a farm. Clips are those of `tests/farm/clips.py --list`.
#[derive(Clone, Debug)]
pub struct Camera {
    name: String,
    clip: String,
    fps: Option<u32>,
    options: Vec<String>,
}

impl Camera {
    pub fn new(name: &str, clip: &str) -> Self {
        Camera {
            name: name.into(),
            clip: clip.into(),
            fps: None,
            options: Vec::new(),
        }
    }

    fn with(mut self, option: String) -> Self {
        self.options.push(option);
        self
    }

    /// Another rate than the clip's own.
    pub fn fps(mut self, fps: u32) -> Self {
        self.fps = Some(fps);
        self
    }

    pub fn digest(self, user: &str, password: &str) -> Self {
        self.with(format!("user={user},password={password},auth=digest"))
    }

    pub fn basic(self, user: &str, password: &str) -> Self {
        self.with(format!("user={user},password={password},auth=basic"))
    }

    /// Every client gets the clip from its beginning, at its own time.
    pub fn unshared(self) -> Self {
        self.with("unshared".into())
    }

    /// Allows [`Farm::lose`].
    pub fn lossy(self) -> Self {
        self.with("lossy".into())
    }

    /// Sound beside the video: `aac`, `latm` or `alaw`.
    pub fn audio(self, codec: &str) -> Self {
        self.with(format!("audio={codec}"))
    }

    /// RTSP over TLS, with a certificate that nobody vouches for.
    pub fn tls(self) -> Self {
        self.with("tls".into())
    }

    fn argument(&self) -> String {
        let fps = self.fps.map(|fps| format!("@{fps}")).unwrap_or_default();
        let options: String = self
            .options
            .iter()
            .map(|option| format!(",{option}"))
            .collect();
        format!("{}={}{fps}{options}", self.name, self.clip)
    }
}

#[derive(Debug)]
struct Mounted {
    number: u64,
    url: String,
    tag: u8,
    pictures: u16,
}

/// A running farm; it ends when this is dropped, or when the test process does.
#[derive(Debug)]
pub struct Farm {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Mutex<Receiver<String>>,
    cameras: HashMap<String, Mounted>,
    folder: TempDir,
    send_times: File,
}

impl Farm {
    /// Starts these cameras and waits until they can be reached.
    #[track_caller]
    pub fn start(cameras: &[Camera]) -> Farm {
        Farm::start_with(cameras, &[])
    }

    /// The same, with further arguments of `farm.py`; they win over those given here.
    #[track_caller]
    pub fn start_with(cameras: &[Camera], arguments: &[&str]) -> Farm {
        let folder = tempfile::Builder::new()
            .prefix("camring-farm-")
            .tempdir()
            .expect("a folder");
        let send_times = folder.path().join("sendts");
        let log = folder.path().join("log");
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/farm/farm.py"))
            .args(["--exit-on-eof", "--rtcp-interval-ms", "300", "--sendts"])
            .arg(&send_times)
            .args(arguments)
            .args(
                cameras
                    .iter()
                    .flat_map(|camera| ["--camera".into(), camera.argument()]),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"));
        let mut child = command.spawn().expect("/usr/bin/python3 starts");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut mounted = HashMap::new();
        loop {
            let Ok(line) = answers.recv_timeout(READY_TIMEOUT) else {
                let log = fs::read_to_string(&log).unwrap_or_default();
                let _ = child.kill();
                let _ = child.wait();
                panic!("the test cameras did not start (./test installs what they need):\n{log}");
            };
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["CAMERA", name, url, tag, pictures] => {
                    let camera = Mounted {
                        number: mounted.len() as u64,
                        url: url.into(),
                        tag: tag.parse().expect("a tag"),
                        pictures: pictures.parse().expect("a number of pictures"),
                    };
                    mounted.insert(name.to_owned(), camera);
                }
                ["READY", ..] => break,
                _ => {}
            }
        }
        let send_times = File::open(send_times).expect("send times");
        Farm {
            child,
            stdin,
            answers: Mutex::new(answers),
            cameras: mounted,
            folder,
            send_times,
        }
    }

    #[track_caller]
    fn camera(&self, name: &str) -> &Mounted {
        self.cameras
            .get(name)
            .unwrap_or_else(|| panic!("the farm has no camera {name}"))
    }

    /// `rtsp://127.0.0.1:PORT/NAME`, without credentials.
    #[track_caller]
    pub fn url(&self, name: &str) -> &str {
        &self.camera(name).url
    }

    /// To follow the camera by the content of its pictures.
    #[track_caller]
    pub fn witness(&self, name: &str) -> Witness {
        let camera = self.camera(name);
        Witness::new(camera.tag, camera.pictures)
    }

    /// CLOCK_MONOTONIC in ns just before the camera last sent the picture with this index.
    #[track_caller]
    pub fn sent_ns(&self, name: &str, index: u16) -> Option<u64> {
        let slot = self.camera(name).number * SEND_TIME_SLOTS + u64::from(index);
        let mut bytes = [0; 8];
        self.send_times.read_exact_at(&mut bytes, slot * 8).ok()?;
        Some(u64::from_le_bytes(bytes)).filter(|time| *time != 0)
    }

    /// Gives one command of `farm.py --help` and returns its answer.
    #[track_caller]
    pub fn command(&self, line: &str) -> Value {
        // One command at a time: the lock is held until its answer is there.
        let answers = self
            .answers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut stdin = self.stdin.as_ref().expect("open until dropped");
        writeln!(stdin, "{line}").expect("the farm reads its commands");
        let answer = answers.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| {
            panic!("the farm does not answer {line:?}:\n{}", self.log());
        });
        match answer.strip_prefix("OK ") {
            Some(json) => serde_json::from_str(json).expect("JSON"),
            None => panic!("the farm refuses {line:?}: {answer}"),
        }
    }

    /// Power off: drops the clients, refuses connections.
    pub fn stop(&self, name: &str) {
        self.command(&format!("stop {name}"));
    }

    /// Power on after [`Farm::stop`], [`Farm::hang`] or [`Farm::remove`].
    pub fn restart(&self, name: &str) {
        self.command(&format!("start {name}"));
    }

    /// Accepts connections and never answers.
    pub fn hang(&self, name: &str) {
        self.command(&format!("hang {name}"));
    }

    /// Answers 404.
    pub fn remove(&self, name: &str) {
        self.command(&format!("remove {name}"));
    }

    /// Sends no picture, but answers keepalives.
    pub fn pause(&self, name: &str) {
        self.command(&format!("pause {name}"));
    }

    /// Goes on with a key frame.
    pub fn resume(&self, name: &str) {
        self.command(&format!("resume {name}"));
    }

    /// Loses each RTP packet with this probability; the camera must be [`Camera::lossy`].
    pub fn lose(&self, name: &str, probability: f64) {
        self.command(&format!("lose {name} {probability}"));
    }

    /// Clients connected to a camera now.
    pub fn clients(&self, name: &str) -> u64 {
        self.command("clients")[name].as_u64().expect("a count")
    }

    /// Pictures that a camera has sent so far.
    pub fn sent(&self, name: &str) -> u64 {
        self.counter(name, "sent")
    }

    /// Sessions that clients have ended in order, by TEARDOWN.
    pub fn teardowns(&self, name: &str) -> u64 {
        self.counter(name, "teardowns")
    }

    fn counter(&self, name: &str, what: &str) -> u64 {
        self.command("stats")["cameras"][name][what]
            .as_u64()
            .expect("a count")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.stdin = None; // the end of its input is its end
        let start = std::time::Instant::now();
        while start.elapsed() < super::PATIENCE {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(super::POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a clip lies, made first if need be: for tests that feed a decoder without RTSP.
#[track_caller]
pub fn clip_path(name: &str) -> PathBuf {
    let output = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/farm/clips.py"))
        .args(["--make", name])
        .stdin(Stdio::null())
        .output()
        .expect("/usr/bin/python3 starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "clip {name}: {log}");
    PathBuf::from(text.trim())
}
