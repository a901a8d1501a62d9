//! A daemon of another kind: what it says is up to the test.

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use camring_ring::attach::server::{decode, encode, recv_with_fds, send_with_fds};
use camring_ring::attach::wire::{ATTACH_VERSION, ClientMessage, DaemonMessage, RefusalCode};
use camring_ring::layout::{FrameRingHeader, LAYOUT_VERSION};
use camring_ring::{BellPage, FrameRingSpec, PinPage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It welcomes in a version of its own.
    WelcomesInVersion(u32),
    /// It refuses the client's version.
    RefusesVersion,
    /// Its rings have a later layout.
    LaterLayout,
    /// It hangs up at once.
    HangsUp,
    /// It sends no message of the protocol.
    Babbles,
}

/// Listens until dropped.
pub struct Impostor {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Impostor {
    pub fn new(oddity: Oddity) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("camring-impostor-")
            .tempdir()
            .expect("a folder");
        let path = folder.path().join("attach.sock");
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("an address");
        rustix::net::bind(&socket, &address).expect("bound");
        rustix::net::listen(&socket, 16).expect("listening");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if readable(&socket)
                    && let Ok(client) = rustix::net::accept(&socket)
                {
                    serve(&client, oddity, &stopped);
                }
            }
        });
        Self {
            path,
            stop,
            thread: Some(thread),
            _folder: folder,
        }
    }

    pub fn socket(&self) -> &Path {
        &self.path
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn readable(fd: impl AsFd) -> bool {
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: Duration::from_millis(50).subsec_nanos().into(),
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).is_ok_and(|ready| ready > 0)
}

fn serve(client: &OwnedFd, oddity: Oddity, stop: &AtomicBool) {
    if oddity == Oddity::HangsUp {
        return;
    }
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        if !readable(client) {
            continue;
        }
        let Ok((len @ 1.., _)) = recv_with_fds(client, &mut buffer, 0) else {
            return;
        };
        match decode(&buffer[..len]).expect("a message") {
            ClientMessage::Hello { .. } => hello(client, oddity),
            ClientMessage::Attach { request, pins, .. } => attach(client, request, pins.into()),
            _ => {}
        }
    }
}

fn hello(client: &OwnedFd, oddity: Oddity) {
    let version = match oddity {
        Oddity::Babbles => {
            let _ = send_with_fds(client, b"HTTP/1.1 400 Bad Request", &[]);
            return;
        }
        Oddity::RefusesVersion => {
            let refusal = DaemonMessage::Refused {
                request: 0,
                code: RefusalCode::Version,
                text: "camring 9.0 speaks version 7".into(),
            };
            let _ = send_with_fds(client, &encode(&refusal), &[]);
            return;
        }
        Oddity::WelcomesInVersion(version) => version,
        _ => ATTACH_VERSION,
    };
    let bell = BellPage::create().expect("a page");
    let welcome = DaemonMessage::Welcome {
        version,
        uid: 12345,
    };
    let _ = send_with_fds(client, &encode(&welcome), &[bell.as_fd()]);
}

fn attach(client: &OwnedFd, request: u32, pins: u32) {
    let spec = FrameRingSpec {
        depth: 2,
        slots: 8,
        slot_bytes: 4096,
        ring_id: 1,
        first_sequence: 1,
    };
    let ring = spec.create().expect("a ring");
    let version = (LAYOUT_VERSION + 1).to_le_bytes();
    let at = offset_of!(FrameRingHeader, version) as u64;
    rustix::io::pwrite(ring.as_fd(), &version, at).expect("written");
    let page = PinPage::create(pins).expect("a page");
    let answer = DaemonMessage::Attached {
        request,
        attachment: 1,
        ring_id: 1,
        pins,
    };
    let ring = ring.reopen_read_only().expect("a descriptor");
    let _ = send_with_fds(client, &encode(&answer), &[ring.as_fd(), page.as_fd()]);
}
