//! A small broker, so that clients can be tested end to end without the daemon, and frames that
//! say by their content which they are.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod process;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camring_ring::attach::server;
use camring_ring::attach::wire::{
    ATTACH_VERSION, ClientMessage, DaemonMessage, MAX_MESSAGE, RefusalCode, RingKind,
};
use camring_ring::*;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

// ------------------------------------------------------------------------------- frames ---

/// Word `n` of the picture of frame `sequence`.
fn word(sequence: u64, n: usize) -> u64 {
    (sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n as u64).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// Draws frame `sequence`.
pub fn draw(payload: &mut [u8], sequence: u64) {
    for (n, bytes) in payload.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(sequence, n).to_le_bytes());
    }
}

/// Panics unless every byte of the frame is of the picture that its number says.
pub fn verify(frame: &Frame) {
    let data = frame.data();
    assert!(data.len() >= 4096, "a picture of {} bytes", data.len());
    for (n, bytes) in data.chunks_exact(8).enumerate() {
        let found = u64::from_le_bytes(bytes.try_into().unwrap());
        assert_eq!(
            found,
            word(frame.sequence(), n),
            "word {n} of frame {}",
            frame.sequence()
        );
    }
    assert_eq!(
        frame.descriptor().pts,
        frame.sequence() as i64 * 100,
        "descriptor"
    );
    assert_eq!(
        frame.descriptor().access_unit,
        frame.sequence() * 7,
        "descriptor"
    );
}

/// The largest grey picture that fits in a slot, 64 pixels wide.
pub fn describe(slot_bytes: usize, sequence: u64) -> FrameDescriptor {
    let rows = (slot_bytes / 64) as u32;
    let mut d = FrameDescriptor::packed(PixelFormat::Gray8, 64, rows, 1).unwrap();
    d.pts = sequence as i64 * 100;
    d.access_unit = sequence * 7;
    d
}

/// Publishes one frame; `None`: no slot.
pub fn publish(writer: &mut FrameWriter) -> Option<u64> {
    publish_with(writer, FrameFlags::NONE)
}

pub fn publish_with(writer: &mut FrameWriter, flags: FrameFlags) -> Option<u64> {
    let slot = writer.reserve()?;
    let sequence = writer.next_sequence();
    draw(writer.payload_mut(slot).unwrap(), sequence);
    let mut d = describe(writer.slot_bytes(), sequence);
    d.flags = flags;
    assert_eq!(writer.publish(slot, &d).unwrap(), sequence);
    writer.release(slot);
    Some(sequence)
}

pub const SPEC: FrameRingSpec = FrameRingSpec {
    depth: 4,
    slots: 64,
    slot_bytes: 8192,
    ring_id: 1,
    first_sequence: 1,
};

pub const PACKETS: PacketRingSpec = PacketRingSpec {
    capacity: 4 << 20,
    units: 256,
    ring_id: 2,
};

// ------------------------------------------------------------------------------- broker ---

/// How a broker reaches a writer.
pub trait Writer: Send {
    fn add(&mut self, pages: SubscriberPages);
    fn remove(&mut self, id: u64);
}

pub type LocalFrames = Arc<Mutex<Option<FrameWriter>>>;
pub type LocalPackets = Arc<Mutex<Option<PacketWriter>>>;

impl Writer for LocalFrames {
    fn add(&mut self, pages: SubscriberPages) {
        if let Some(writer) = &mut *self.lock().unwrap() {
            writer.add_subscriber(pages).unwrap();
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(writer) = &mut *self.lock().unwrap() {
            writer.remove_subscriber(id);
        }
    }
}

impl Writer for LocalPackets {
    fn add(&mut self, pages: SubscriberPages) {
        if let Some(writer) = &mut *self.lock().unwrap() {
            writer.add_subscriber(pages).unwrap();
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(writer) = &mut *self.lock().unwrap() {
            writer.remove_subscriber(id);
        }
    }
}

struct Attachment {
    id: u64,
    client: u64,
    pages: SubscriberPages,
    pins: u32,
}

struct Ring {
    memory: SealedMemory,
    ring_id: u64,
    /// Pins that fit.
    pins: u32,
    attachments: Vec<Attachment>,
    writer: Box<dyn Writer>,
}

struct Connected {
    id: u64,
    socket: OwnedFd,
    bell: Option<SealedMemory>,
    /// Answers with descriptors that the client has not acknowledged.
    unanswered: u32,
}

#[derive(Default)]
pub struct State {
    rings: BTreeMap<(String, u8), Ring>,
    /// Cameras without a ring yet.
    pub pending: Vec<String>,
    clients: Vec<Connected>,
    next: u64,
    /// Breaches of the protocol by clients.
    pub violations: Vec<String>,
    pub status: String,
    stop: bool,
}

/// Listens in a folder of its own; everything is gone when it is dropped.
pub struct Broker {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

pub fn temp_folder() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("camring-ring-{}-{n}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

pub fn listen(path: &Path) -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 128).unwrap();
    socket
}

impl Broker {
    pub fn start() -> Self {
        let folder = temp_folder();
        let listener = listen(&folder.join("attach.sock"));
        let state = Arc::new(Mutex::new(State::default()));
        let (woken, wake) = rustix::pipe::pipe().unwrap();
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || serve(&listener, &woken, &state)
        });
        Self {
            folder,
            state,
            wake,
            thread: Some(thread),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("attach.sock")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.path()).unwrap()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a camera's frame ring and a writer in this process.
    pub fn frames(&self, name: &str, spec: FrameRingSpec) -> LocalFrames {
        let memory = spec.create().unwrap();
        let writer = FrameWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
        let writer = Arc::new(Mutex::new(Some(writer)));
        self.frames_with(name, spec, memory, Box::new(Arc::clone(&writer)));
        writer
    }

    /// Adds a camera's frame ring whose writer is elsewhere.
    pub fn frames_with(
        &self,
        name: &str,
        spec: FrameRingSpec,
        memory: SealedMemory,
        writer: Box<dyn Writer>,
    ) {
        let ring = Ring {
            memory,
            ring_id: spec.ring_id,
            pins: spec.slots - spec.depth - 1,
            attachments: Vec::new(),
            writer,
        };
        self.state()
            .rings
            .insert((name.to_owned(), RingKind::Frames as u8), ring);
    }

    pub fn packets(&self, name: &str, spec: PacketRingSpec) -> LocalPackets {
        let memory = spec.create().unwrap();
        let writer = PacketWriter::resume(memory.try_clone().unwrap(), Vec::new()).unwrap();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let ring = Ring {
            memory,
            ring_id: spec.ring_id,
            pins: 0,
            attachments: Vec::new(),
            writer: Box::new(Arc::clone(&writer)),
        };
        self.state()
            .rings
            .insert((name.to_owned(), RingKind::Packets as u8), ring);
        writer
    }

    /// A camera's frame ring, and the pages of all its subscribers: what a writer resumes with.
    pub fn resume_with(&self, name: &str) -> (SealedMemory, Vec<SubscriberPages>) {
        let state = self.state();
        let ring = &state.rings[&(name.to_owned(), RingKind::Frames as u8)];
        let pages = ring
            .attachments
            .iter()
            .map(|a| clone_pages(&a.pages))
            .collect();
        (ring.memory.try_clone().unwrap(), pages)
    }

    /// As [`Broker::resume_with`], while no client can come or go.
    pub fn hand_over(&self, name: &str, to: impl FnOnce(SealedMemory, Vec<SubscriberPages>)) {
        let state = self.state();
        let ring = &state.rings[&(name.to_owned(), RingKind::Frames as u8)];
        let pages = ring
            .attachments
            .iter()
            .map(|a| clone_pages(&a.pages))
            .collect();
        to(ring.memory.try_clone().unwrap(), pages);
    }

    /// Ends a camera's writer without a word and starts another on the same ring.
    pub fn restart(&self, name: &str, writer: &LocalFrames) {
        let mut writer = writer.lock().unwrap();
        *writer = None;
        let (memory, pages) = self.resume_with(name);
        *writer = Some(FrameWriter::resume(memory, pages).unwrap());
    }

    /// Forgets a camera; its attachments stay the clients'.
    pub fn forget(&self, name: &str, kind: RingKind) {
        self.state().rings.remove(&(name.to_owned(), kind as u8));
    }

    pub fn attachments(&self) -> usize {
        self.state()
            .rings
            .values()
            .map(|r| r.attachments.len())
            .sum()
    }

    pub fn clients(&self) -> usize {
        self.state().clients.len()
    }

    /// Waits until `condition`; the limit is only there to end a broken test.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        eventually(what, || condition(self));
    }
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.state.lock().unwrap().stop = true;
        let _ = rustix::io::write(&self.wake, &[1]);
        if let Some(thread) = self.thread.take() {
            let served = thread.join();
            if !std::thread::panicking() {
                served.unwrap();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert_eq!(self.state.lock().unwrap().violations, Vec::<String>::new());
        }
    }
}

pub fn clone_pages(pages: &SubscriberPages) -> SubscriberPages {
    SubscriberPages {
        id: pages.id,
        pins: pages.pins.as_ref().map(|p| p.try_clone().unwrap()),
        bell: pages.bell.try_clone().unwrap(),
        notify: pages.notify.as_ref().map(|n| n.try_clone().unwrap()),
    }
}

fn serve(listener: &OwnedFd, woken: &OwnedFd, state: &Mutex<State>) {
    loop {
        // Duplicates, so that the state is not locked while waiting.
        let sockets: Vec<(u64, OwnedFd)> = {
            let state = state.lock().unwrap();
            if state.stop {
                return;
            }
            state
                .clients
                .iter()
                .map(|c| (c.id, c.socket.try_clone().unwrap()))
                .collect()
        };
        let mut fds = vec![
            PollFd::new(woken, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        fds.extend(
            sockets
                .iter()
                .map(|(_, socket)| PollFd::new(socket, PollFlags::IN)),
        );
        rustix::event::poll(&mut fds, None).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut state = state.lock().unwrap();
        if ready[1]
            && let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
        {
            server::peer_credentials(&socket).unwrap();
            state.next += 1;
            let id = state.next;
            state.clients.push(Connected {
                id,
                socket,
                bell: None,
                unanswered: 0,
            });
        }
        for ((id, _), _) in sockets.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
            state.client_spoke(*id);
        }
    }
}

impl State {
    fn client_spoke(&mut self, id: u64) {
        let index = self.clients.iter().position(|c| c.id == id).unwrap();
        let mut buffer = [0; MAX_MESSAGE];
        let message = match server::recv_with_fds(&self.clients[index].socket, &mut buffer, 0) {
            Ok((len, _)) if len > 0 => server::decode(&buffer[..len]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
            _ => return self.hang_up(id),
        };
        match message {
            Ok(message) => self.answer(id, index, message),
            Err(e) => {
                self.violations.push(e.to_string());
                self.hang_up(id);
            }
        }
    }

    fn answer(&mut self, id: u64, index: usize, message: ClientMessage) {
        match message {
            ClientMessage::Hello { version } => {
                if version != ATTACH_VERSION {
                    self.violations.push(format!("version {version}"));
                }
                let bell = BellPage::create().unwrap();
                let uid = rustix::process::geteuid().as_raw();
                let welcome = DaemonMessage::Welcome {
                    version: ATTACH_VERSION,
                    uid,
                };
                self.send(index, &welcome, &[bell.as_fd()]);
                self.clients[index].bell = Some(bell);
            }
            ClientMessage::Attach {
                request,
                kind,
                pins,
                pollable,
                name,
            } => {
                if let Err((code, text)) =
                    self.attach(index, request, kind, u32::from(pins), pollable, &name)
                {
                    self.send(
                        index,
                        &DaemonMessage::Refused {
                            request,
                            code,
                            text,
                        },
                        &[],
                    );
                }
            }
            ClientMessage::Detach { attachment } => {
                let mut found = false;
                for ring in self.rings.values_mut() {
                    let owned = |a: &Attachment| a.id == attachment && a.client == id;
                    if ring.attachments.iter().any(owned) {
                        ring.writer.remove(attachment);
                        ring.attachments.retain(|a| !owned(a));
                        found = true;
                    }
                }
                // An attachment of a ring that was replaced is gone from the table: not checked.
                let _ = found;
            }
            ClientMessage::Status { request } => {
                let memory = server::text_memory(&self.status).unwrap();
                let status = DaemonMessage::Status {
                    request,
                    len: memory.len(),
                };
                let fd = memory.reopen_read_only().unwrap();
                self.send(index, &status, &[fd.as_fd()]);
            }
            ClientMessage::Received { .. } => self.clients[index].unanswered -= 1,
            other => self.violations.push(format!("{other:?}")),
        }
    }

    fn attach(
        &mut self,
        index: usize,
        request: u32,
        kind: RingKind,
        pins: u32,
        pollable: bool,
        name: &str,
    ) -> Result<(), (RefusalCode, String)> {
        let client = self.clients[index].id;
        let bell = self.clients[index]
            .bell
            .as_ref()
            .unwrap()
            .try_clone()
            .unwrap();
        if self.pending.iter().any(|p| p == name) {
            return Err((RefusalCode::NotReady, "no picture yet".to_owned()));
        }
        let known: Vec<String> = self.rings.keys().map(|(name, _)| name.clone()).collect();
        self.next += 1;
        let attachment = self.next;
        let Some(ring) = self.rings.get_mut(&(name.to_owned(), kind as u8)) else {
            let text = format!("no camera {name:?}; there are: {}", known.join(", "));
            return Err((RefusalCode::UnknownCamera, text));
        };
        let taken: u32 = ring.attachments.iter().map(|a| a.pins).sum();
        if taken + pins > ring.pins {
            let text = format!(
                "{pins} pins asked for, {} of {} left",
                ring.pins - taken,
                ring.pins
            );
            return Err((RefusalCode::PinsExhausted, text));
        }
        let (notify, polled) = match pollable {
            true => server::notify_pair()
                .map(|(ours, theirs)| (Some(ours), Some(theirs)))
                .unwrap(),
            false => (None, None),
        };
        let page = (kind == RingKind::Frames).then(|| PinPage::create(pins).unwrap());
        let pages = SubscriberPages {
            id: attachment,
            pins: page,
            bell,
            notify,
        };
        ring.writer.add(clone_pages(&pages));
        let read_only = ring.memory.reopen_read_only().unwrap();
        let page = pages.pins.as_ref().map(|p| p.try_clone_fd().unwrap());
        let ring_id = ring.ring_id;
        ring.attachments.push(Attachment {
            id: attachment,
            client,
            pages,
            pins,
        });
        let mut fds = vec![read_only.as_fd()];
        fds.extend(page.as_ref().map(AsFd::as_fd));
        fds.extend(polled.as_ref().map(AsFd::as_fd));
        self.send(
            index,
            &DaemonMessage::Attached {
                request,
                attachment,
                ring_id,
                pins,
            },
            &fds,
        );
        Ok(())
    }

    fn send(&mut self, index: usize, message: &DaemonMessage, fds: &[BorrowedFd<'_>]) {
        if message.carries_descriptors() {
            if self.clients[index].unanswered != 0 {
                self.violations
                    .push("a question before RECEIVED".to_owned());
            }
            self.clients[index].unanswered += 1;
        }
        // The client may be gone.
        let _ = server::send_with_fds(&self.clients[index].socket, &server::encode(message), fds);
    }

    fn hang_up(&mut self, id: u64) {
        for ring in self.rings.values_mut() {
            for attachment in ring.attachments.iter().filter(|a| a.client == id) {
                ring.writer.remove(attachment.id);
            }
            ring.attachments.retain(|a| a.client != id);
        }
        self.clients.retain(|c| c.id != id);
    }
}

// ------------------------------------------------------------------- clients by hand ---

/// Asks a daemon without the crate's client.
pub fn ask(socket: &OwnedFd, message: &ClientMessage) -> (DaemonMessage, Vec<OwnedFd>) {
    server::send_with_fds(socket, &message.encode(), &[]).unwrap();
    rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
    let mut buffer = [0; MAX_MESSAGE];
    let (len, fds) = server::recv_with_fds(socket, &mut buffer, 3).unwrap();
    let answer = DaemonMessage::decode(&buffer[..len]).unwrap();
    let received = ClientMessage::Received {
        request: answer.request(),
    };
    server::send_with_fds(socket, &received.encode(), &[]).unwrap();
    (answer, fds)
}

/// What a client by hand has: its connection, its bell page, its pin page, its ring.
pub struct Raw {
    pub socket: OwnedFd,
    pub bell: OwnedFd,
    pub page: OwnedFd,
    pub ring: OwnedFd,
}

/// Attaches to a camera without the crate's client.
pub fn attach_raw(path: &Path, name: &str, pins: u8) -> Raw {
    let kind = SocketType::SEQPACKET;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let socket = socket.unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let (_, bell) = ask(
        &socket,
        &ClientMessage::Hello {
            version: ATTACH_VERSION,
        },
    );
    let attach = ClientMessage::Attach {
        request: 1,
        kind: RingKind::Frames,
        pins,
        pollable: false,
        name: name.to_owned(),
    };
    let (_, fds) = ask(&socket, &attach);
    let [ring, page] = fds.try_into().unwrap();
    let [bell] = bell.try_into().unwrap();
    Raw {
        socket,
        bell,
        page,
        ring,
    }
}
