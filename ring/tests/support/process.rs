//! Other processes: this test binary again, in a role.
//!
//! A test binary that uses it has a test called `child`, which calls [`play`].

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use camring_ring::attach::server::{recv_with_fds, send_with_fds};
use camring_ring::{FrameWriter, SealedMemory, SubscriberPages};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};

use super::Writer;

const ROLE: &str = "CAMRING_TEST_ROLE";
const PLACE: &str = "CAMRING_TEST_PLACE";

/// A child process; killed and reaped when dropped.
pub struct Process {
    child: std::process::Child,
    out: BufReader<ChildStdout>,
    _life_line: ChildStdin,
}

/// Starts this test binary in a role; `place` is for it to find its way.
pub fn spawn(role: &str, place: &Path) -> Process {
    start(
        role,
        place,
        &["--exact", "child", "--nocapture", "--test-threads=1"],
    )
}

/// As [`spawn`], for a binary whose `main` calls [`play`].
pub fn spawn_main(role: &str, place: &Path) -> Process {
    start(role, place, &[])
}

fn start(role: &str, place: &Path, arguments: &[&str]) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env(ROLE, role)
        .env(PLACE, place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let life_line = child.stdin.take().unwrap();
    Process {
        child,
        out,
        _life_line: life_line,
    }
}

impl Process {
    /// Waits for a line that the child said with [`say`]. `None`: it has ended.
    pub fn listen(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            // The test harness talks too, on the same line.
            if let Some((_, said)) = line.trim_end().split_once("@@") {
                return Some(said.to_owned());
            }
            line.clear();
        }
        None
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and returns whether all was well.
    pub fn join(mut self) -> bool {
        while self.listen().is_some() {}
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the parent.
pub fn say(line: &str) {
    println!("@@{line}");
}

/// What a child does.
pub type Role = fn(&Path);

/// In the `child` test: does nothing (`false`), unless this process was started in a role.
pub fn play(roles: &[(&str, Role)]) -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    // Nobody outlives the parent.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let place = std::env::var_os(PLACE).unwrap();
    let (_, body) = roles.iter().find(|(name, _)| *name == role).unwrap();
    body(Path::new(&place));
    true
}

// ------------------------------------------------------------------- a writer elsewhere ---

/// A connection between a broker and a writer process.
pub struct Control(OwnedFd);

impl Control {
    pub fn connect(path: &Path) -> Self {
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let socket = socket.unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    /// `None`: the child ended before it came.
    pub fn accept(listener: &OwnedFd) -> Self {
        rustix::event::poll(&mut [PollFd::new(listener, PollFlags::IN)], None).unwrap();
        Self(rustix::net::accept_with(listener, SocketFlags::CLOEXEC).unwrap())
    }

    fn send(&self, text: &str, fds: &[&OwnedFd]) -> std::io::Result<()> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        send_with_fds(&self.0, text.as_bytes(), &fds)
    }

    /// The next message; `None`: there is none (`wait`: and never will be).
    fn receive(&self, wait: bool) -> Option<(String, Vec<OwnedFd>)> {
        if wait {
            rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None).unwrap();
        }
        let mut buffer = [0; 256];
        match recv_with_fds(&self.0, &mut buffer, 4) {
            Ok((0, _)) | Err(_) => None,
            Ok((len, fds)) => Some((String::from_utf8(buffer[..len].to_vec()).unwrap(), fds)),
        }
    }

    fn send_pages(&self, pages: SubscriberPages) -> std::io::Result<()> {
        let SubscriberPages {
            id,
            pins,
            bell,
            notify,
        } = pages;
        let mut fds = vec![OwnedFd::from(pins.unwrap()), OwnedFd::from(bell)];
        fds.extend(notify);
        self.send(&format!("add {id}"), &fds.iter().collect::<Vec<_>>())
    }

    /// Hands a ring and its subscribers to a writer process.
    pub fn hand_over(
        &self,
        memory: SealedMemory,
        pages: Vec<SubscriberPages>,
    ) -> std::io::Result<()> {
        self.send("ring", &[&OwnedFd::from(memory)])?;
        for pages in pages {
            self.send_pages(pages)?;
        }
        self.send("go", &[])
    }

    /// In the writer process: takes a ring over.
    pub fn take_over(&self) -> Option<FrameWriter> {
        let mut ring = None;
        let mut subscribers = Vec::new();
        loop {
            let (text, fds) = self.receive(true)?;
            match text.as_str() {
                "ring" => {
                    ring = fds
                        .into_iter()
                        .next()
                        .map(|fd| SealedMemory::from_fd(fd).unwrap())
                }
                "go" => return Some(FrameWriter::resume(ring.unwrap(), subscribers).unwrap()),
                add => subscribers.push(pages(add, fds)),
            }
        }
    }

    /// In the writer process: does what the broker asked for meanwhile.
    pub fn obey(&self, writer: &mut FrameWriter) {
        while let Some((text, fds)) = self.receive(false) {
            if let Some(id) = text.strip_prefix("remove ") {
                writer.remove_subscriber(id.parse().unwrap());
            } else {
                writer.add_subscriber(pages(&text, fds)).unwrap();
            }
            let _ = self.send("done", &[]);
        }
    }
}

fn pages(text: &str, fds: Vec<OwnedFd>) -> SubscriberPages {
    let id = text.strip_prefix("add ").unwrap().parse().unwrap();
    let mut fds = fds.into_iter();
    let mut memory = || SealedMemory::from_fd(fds.next().unwrap()).unwrap();
    let (pins, bell) = (memory(), memory());
    SubscriberPages {
        id,
        pins: Some(pins),
        bell,
        notify: fds.next(),
    }
}

/// The broker's end: a writer process that may die at any moment. What it did not hear it gets
/// with the next hand-over.
#[derive(Clone, Default)]
pub struct Remote(pub std::sync::Arc<std::sync::Mutex<Option<Control>>>);

impl Remote {
    fn ask(&self, ask: impl FnOnce(&Control) -> std::io::Result<()>) {
        let mut control = self.0.lock().unwrap();
        if let Some(connection) = &*control
            && (ask(connection).is_err() || connection.receive(true).is_none())
        {
            *control = None;
        }
    }
}

impl Writer for Remote {
    fn add(&mut self, pages: SubscriberPages) {
        self.ask(|control| control.send_pages(pages));
    }

    fn remove(&mut self, id: u64) {
        self.ask(|control| control.send(&format!("remove {id}"), &[]));
    }
}
