//! A subscriber process to be killed and stopped, and checks that any subscriber can make.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use camring_ring::{AttachOptions, Client, Frame, PacketSubscription, Subscription};

/// As many frames held at a time.
pub fn options(pins: u32) -> AttachOptions {
    AttachOptions {
        pins,
        timeout: Duration::from_secs(60),
        ..AttachOptions::default()
    }
}

/// The next frame, whose every word is its number.
#[track_caller]
pub fn next(subscription: &mut Subscription) -> Frame {
    let frame = subscription
        .next_timeout(Duration::from_secs(60))
        .unwrap()
        .expect("a frame within a minute");
    verify(&frame);
    frame
}

/// Reads access units one by one, and checks that no number is left out from `first` on. Returns the
/// last. (Frames would be missed by a test that is slower than its camera; of these, thousands are kept.)
#[track_caller]
pub fn no_gap(units: &mut PacketSubscription, first: Option<u64>, count: usize) -> u64 {
    let mut bytes = Vec::new();
    let mut last = first;
    for _ in 0..count {
        let unit = units
            .next_timeout(&mut bytes, Duration::from_secs(60))
            .unwrap()
            .expect("an access unit within a minute");
        assert!(
            last.is_none_or(|last| unit.sequence == last + 1),
            "{last:?} → {}",
            unit.sequence
        );
        last = Some(unit.sequence);
    }
    last.expect("at least one")
}

/// A torn, stale or overwritten frame has another number somewhere.
#[track_caller]
pub fn verify(frame: &Frame) {
    let words = frame.plane(0).as_chunks::<8>().0;
    assert!(!words.is_empty());
    for word in words {
        assert_eq!(u64::from_le_bytes(*word), frame.sequence(), "torn");
    }
}

/// `__viewer SOCKET CAMERA PINS`: attaches, holds that many frames, says so, and keeps checking
/// that they do not change, until it is killed.
pub fn main(arguments: &[String]) -> i32 {
    let client = Client::connect(Path::new(&arguments[0])).unwrap();
    let pins = arguments[2].parse().unwrap();
    let mut camera = client.attach(&arguments[1], &options(pins)).unwrap();
    let held: Vec<Frame> = (0..pins).map(|_| next(&mut camera)).collect();
    println!("held");
    std::io::stdout().flush().unwrap();
    loop {
        held.iter().for_each(verify);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A `__viewer` process; killed when dropped.
pub struct Viewer {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Viewer {
    pub fn start(socket: &Path, camera: &str, pins: u32) -> Self {
        let mut child = Command::new("/proc/self/exe")
            .arg("__viewer")
            .args([socket.as_os_str(), camera.as_ref()])
            .arg(pins.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self {
            child,
            _stdout: stdout,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
