//! The attach socket: who may look at which camera, and the descriptors to do so with.
//!
//! Promises:
//! - A connection *is* its attachments: when the client hangs up, is killed or breaks the protocol,
//!   its pins are back at once.
//! - A client can cost at most one unanswered packet with descriptors (in-flight descriptors are
//!   limited per user: one that never reads would starve all others), a bounded queue, its quota of
//!   pins and one connection of its user's share. Nothing it does can block the supervisor.
//! - A reader knows a subscriber's pages before the subscriber has them: pins it sets are seen.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use camring_ring::attach::server::{self, PeerCredentials};
use camring_ring::attach::wire::{self, ATTACH_VERSION, ClientMessage, DaemonMessage, RefusalCode};
use camring_ring::{BellPage, SealedMemory};
use rustix::net::SocketFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::camera::Camera;
use super::rings::{Admitted, Refused, Wish};
use super::{Supervisor, audio, policy, views};
use crate::control::RingKind;
use crate::sys;

/// Connections at a time. Each takes two descriptors here.
const MAX_CLIENTS: usize = 1024;
/// Of one user: half, so that one user's runaway script leaves room for the others.
const MAX_CLIENTS_PER_USER: usize = 512;
/// Attachments of one connection: a process that looks at all cameras of the biggest site.
const MAX_ATTACHMENTS: usize = 1024;
/// Requests that wait while one is being answered. Clients ask one thing at a time.
const MAX_QUEUE: usize = 64;
/// From connecting to HELLO.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// After accepting failed (out of descriptors, mostly): the backlog stays readable meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Camera names in a refusal.
const NAMES_LISTED: usize = 40;

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Clients {
    per_user: BTreeMap<u32, usize>,
    /// Users for whom read-only does not hold, and who were told so in the log.
    warned: BTreeSet<u32>,
}

impl Clients {
    /// Connections now.
    pub fn total(&self) -> usize {
        self.per_user.values().sum()
    }
}

/// Accepts connections, for ever.
pub(super) async fn accept(supervisor: Rc<Supervisor>, socket: OwnedFd) -> io::Result<()> {
    let listener = sys::watch_fd(socket, Interest::READABLE)?;
    loop {
        let mut ready = listener.readable().await?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(listener.as_fd(), flags) {
            Ok(socket) => match welcome(&supervisor, socket) {
                Ok(()) => {}
                // Out of descriptors for it: as if it could not be accepted.
                Err(Unwelcome::NoRoom(error)) => cannot_accept(&error).await,
                Err(Unwelcome::Gone(error)) => tracing::debug!("attach: {error}"),
            },
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => cannot_accept(&error.into()).await,
        }
    }
}

async fn cannot_accept(error: &io::Error) {
    tracing::warn!("attach: no connection can be accepted: {error}");
    sleep(ACCEPT_PAUSE).await;
}

/// Why a connection did not become one.
enum Unwelcome {
    /// By itself, or sent away.
    Gone(io::Error),
    NoRoom(io::Error),
}

impl From<io::Error> for Unwelcome {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Starts the task of a new connection, if there may be one more.
fn welcome(supervisor: &Rc<Supervisor>, socket: OwnedFd) -> Result<(), Unwelcome> {
    let peer = server::peer_credentials(&socket)?;
    // Recorders and the server are this daemon's own: whoever floods it must not keep them out.
    let child = (peer.pid.and_then(|pid| pid.try_into().ok()))
        .is_some_and(|pid| supervisor.reaper.knows(pid));
    let mut clients = supervisor.clients.borrow_mut();
    let of_user = clients.per_user.get(&peer.uid).copied().unwrap_or(0);
    let most = if child {
        None
    } else if of_user >= MAX_CLIENTS_PER_USER {
        Some(format!(
            "user {} has {of_user} connections, the most allowed",
            peer.uid
        ))
    } else if clients.total() >= MAX_CLIENTS {
        Some(format!(
            "{MAX_CLIENTS} clients are connected, the most allowed"
        ))
    } else {
        None
    };
    if let Some(text) = most {
        let refusal = DaemonMessage::Refused {
            request: 0,
            code: RefusalCode::TooManyClients,
            text,
        };
        server::send_with_fds(&socket, &server::encode(&refusal), &[])?;
        // Unread, its HELLO would make the kernel answer with a reset, which hides the reason.
        let _ = server::recv_with_fds(&socket, &mut [0; wire::MAX_MESSAGE], 0);
        return Ok(());
    }
    *clients.per_user.entry(peer.uid).or_insert(0) += 1;
    let own = rustix::process::geteuid().as_raw();
    if (peer.uid == own || peer.uid == 0) && !child && clients.warned.insert(peer.uid) {
        tracing::warn!(
            "a client (pid {}) runs as {}: the kernel does not keep it from writing into the \
             rings; run detectors as a user of their own, in group camring",
            peer.pid.unwrap_or(0),
            if peer.uid == 0 {
                "root"
            } else {
                "the daemon's own user"
            },
        );
    }
    drop(clients);
    let connection = Connection::new(supervisor.clone(), socket, peer);
    let connection = connection.map_err(Unwelcome::NoRoom)?;
    tokio::task::spawn_local(connection.serve());
    Ok(())
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Parting {
    #[error("it hung up")]
    HungUp,
    #[error("it holds on to a ring that was replaced")]
    SentAway,
    #[error("no HELLO within {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
    #[error("it broke the protocol: {0}")]
    Protocol(String),
    #[error("it does not read its answers")]
    Deaf,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One client.
struct Connection {
    supervisor: Rc<Supervisor>,
    socket: AsyncFd<OwnedFd>,
    peer: PeerCredentials,
    greeted: bool,
    bell: Rc<SealedMemory>,
    hang_up: Rc<Notify>,
    /// By attachment.
    attachments: BTreeMap<u64, Rc<Camera>>,
    queue: VecDeque<ClientMessage>,
    /// The request whose descriptors have not been acknowledged.
    unanswered: Option<u32>,
    /// An attachment that the reader does not know yet.
    pending: Option<Pending>,
}

struct Pending {
    request: u32,
    camera: Rc<Camera>,
    admitted: Admitted,
    deadline: Instant,
}

impl Connection {
    fn new(supervisor: Rc<Supervisor>, socket: OwnedFd, peer: PeerCredentials) -> io::Result<Self> {
        let parts = BellPage::create()
            .map_err(io::Error::other)
            .and_then(|bell| {
                let socket = sys::watch_fd(socket, Interest::READABLE)?;
                Ok((bell, socket))
            });
        let (bell, socket) = match parts {
            Ok(parts) => parts,
            Err(error) => {
                forget(&supervisor.clients, peer.uid);
                return Err(error);
            }
        };
        Ok(Self {
            supervisor,
            socket,
            peer,
            greeted: false,
            bell: Rc::new(bell),
            hang_up: Rc::default(),
            attachments: BTreeMap::new(),
            queue: VecDeque::new(),
            unanswered: None,
            pending: None,
        })
    }

    /// Until the end of the connection; then all that it had is given back (by drop: whatever ends
    /// this task).
    async fn serve(mut self) {
        let parting = loop {
            if let Err(parting) = self.turn().await {
                break parting;
            }
        };
        if let Parting::Protocol(text) = &parting {
            let refusal = DaemonMessage::Refused {
                request: 0,
                code: RefusalCode::Protocol,
                text: text.clone(),
            };
            let _ = self.send(&refusal, &[]);
        }
        tracing::debug!(
            uid = self.peer.uid,
            pid = self.peer.pid,
            attachments = self.attachments.len(),
            "client gone: {parting}"
        );
    }

    /// One thing that happens, and what follows from it.
    async fn turn(&mut self) -> Result<(), Parting> {
        // Only before the greeting; later the branch is off.
        let hello = Instant::now() + HELLO_TIMEOUT;
        tokio::select! {
            () = self.hang_up.notified() => return Err(Parting::SentAway),
            message = receive(&self.socket) => self.received(message?)?,
            known = known(&mut self.pending), if self.pending.is_some() => self.attached(&known)?,
            () = sleep_until(hello), if !self.greeted => return Err(Parting::Silent),
        }
        while self.unanswered.is_none() && self.pending.is_none() {
            match self.queue.pop_front() {
                Some(message) => self.answer(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn received(&mut self, message: ClientMessage) -> Result<(), Parting> {
        if !self.greeted && !matches!(message, ClientMessage::Hello { .. }) {
            return Err(Parting::Protocol("the first message must be HELLO".into()));
        }
        match message {
            ClientMessage::Received { request } => {
                if self.unanswered != Some(request) {
                    return Err(Parting::Protocol(format!(
                        "RECEIVED for request {request}, which is not open"
                    )));
                }
                self.unanswered = None;
                Ok(())
            }
            ClientMessage::Detach { attachment } => {
                self.detach(attachment);
                Ok(())
            }
            other if self.queue.len() < MAX_QUEUE => {
                self.queue.push_back(other);
                Ok(())
            }
            _ => Err(Parting::Protocol(format!(
                "more than {MAX_QUEUE} requests without waiting for an answer"
            ))),
        }
    }

    fn answer(&mut self, message: ClientMessage) -> Result<(), Parting> {
        match message {
            ClientMessage::Hello { version } => self.hello(version),
            ClientMessage::Attach {
                request,
                kind,
                pins,
                pollable,
                name,
            } => {
                let kind = match kind {
                    wire::RingKind::Frames => RingKind::Frames,
                    wire::RingKind::Packets => RingKind::Packets,
                };
                match self.attach(request, kind, pins.into(), pollable, &name) {
                    Ok(()) => Ok(()),
                    Err((code, text)) => self.refuse(request, code, text),
                }
            }
            ClientMessage::Status { request } => self.status(request),
            other => Err(Parting::Protocol(format!("unexpected {other:?}"))),
        }
    }

    fn hello(&mut self, version: u32) -> Result<(), Parting> {
        if self.greeted {
            return Err(Parting::Protocol("HELLO twice".into()));
        }
        if version != ATTACH_VERSION {
            let text = format!(
                "camring {} speaks version {ATTACH_VERSION} of the attach protocol, the client \
                 version {version}: install the same version on both sides",
                env!("CARGO_PKG_VERSION")
            );
            self.refuse(0, RefusalCode::Version, text)?;
            return Err(Parting::HungUp);
        }
        self.greeted = true;
        let answer = DaemonMessage::Welcome {
            version: ATTACH_VERSION,
            uid: rustix::process::geteuid().as_raw(),
        };
        let bell = self.bell.clone();
        self.send_with(0, &answer, &[bell.as_fd()])
    }

    /// Admits the client to a ring; the answer follows when the reader knows it.
    fn attach(
        &mut self,
        request: u32,
        kind: RingKind,
        pins: u32,
        pollable: bool,
        name: &str,
    ) -> Result<(), Refused> {
        // `:` and `#` are in no camera's name.
        let (name, part) = match name.find([':', '#']) {
            Some(at) => name.split_at(at),
            None => (name, ""),
        };
        let camera = self.camera(name)?;
        let kind = match part.strip_prefix(':') {
            Some(view) => views::find(&camera, view, kind)?,
            None if part.is_empty() => kind,
            None => audio::find(&camera, part, kind)?,
        };
        if camera.rests() {
            let text = format!("camera {name:?} is disabled in the configuration");
            return Err((RefusalCode::Disabled, text));
        }
        if self.attachments.len() >= MAX_ATTACHMENTS {
            let text =
                format!("this connection has {MAX_ATTACHMENTS} attachments, the most allowed");
            return Err((RefusalCode::TooManyAttachments, text));
        }
        if let RingKind::View(index) = kind {
            self.supervisor.see_to_view_ring(&camera, index)?;
        }
        let id = self.supervisor.next_attachment();
        let wish = Wish {
            kind,
            pins,
            pollable,
            bell: self.bell.clone(),
            hang_up: self.hang_up.clone(),
        };
        let quota = camera.stream().ring.pins;
        let admitted = camera.rings.borrow_mut().attach(id, wish, quota);
        let (admitted, message) = admitted.map_err(|(code, text)| {
            if code == RefusalCode::NotReady && kind == RingKind::Frames {
                camera.await_frames();
            }
            camera.explain(name, code, text)
        })?;
        // Before the reader is told of the subscriber: when it answers, there is a picture to see.
        camera.tell_demand();
        self.attachments.insert(id, camera.clone());
        self.supervisor.status_is_stale();
        if !camera.tell(message) {
            // No reader: the next one will be told before it begins.
            camera.rings.borrow_mut().known(id);
        }
        self.pending = Some(Pending {
            request,
            camera,
            admitted,
            deadline: Instant::now() + policy::ATTACH_DEADLINE,
        });
        Ok(())
    }

    /// The reader knows the client's pages, or refused them, or did not answer in time.
    fn attached(&mut self, known: &Known) -> Result<(), Parting> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let Admitted {
            id,
            ring_id,
            pins,
            fds,
            ..
        } = pending.admitted;
        if !self.attachments.contains_key(&id) {
            // Detached while it was being attached: nobody can know the number yet, but a guess.
            return self.refuse(pending.request, RefusalCode::NotReady, "detached".into());
        }
        let name = &pending.camera.id;
        let text = match known {
            Known::Yes => None,
            Known::Refused => Some(format!("the ring of {name} is being replaced")),
            Known::Late => Some(format!(
                "the reader of {name} did not answer within {} s",
                policy::ATTACH_DEADLINE.as_secs()
            )),
        };
        if let Some(text) = text {
            self.detach(id);
            return self.refuse(pending.request, RefusalCode::NotReady, text);
        }
        let answer = DaemonMessage::Attached {
            request: pending.request,
            attachment: id,
            ring_id,
            pins,
        };
        let borrowed: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        match self.send_with(pending.request, &answer, &borrowed) {
            Err(Parting::Io(error)) => {
                // Too many descriptors in flight for this user, mostly.
                self.detach(id);
                let text = format!("the descriptors cannot be sent: {error}");
                self.refuse(pending.request, RefusalCode::Internal, text)
            }
            other => other,
        }
    }

    fn status(&mut self, request: u32) -> Result<(), Parting> {
        let text = self.supervisor.status_text();
        let memory = server::text_memory(&text).and_then(|memory| memory.reopen_read_only());
        match memory {
            Ok(fd) => {
                let answer = DaemonMessage::Status {
                    request,
                    len: text.len() as u64,
                };
                self.send_with(request, &answer, &[fd.as_fd()])
            }
            Err(error) => self.refuse(request, RefusalCode::Internal, error.to_string()),
        }
    }

    fn camera(&self, name: &str) -> Result<Rc<Camera>, Refused> {
        let cameras = self.supervisor.cameras();
        if let Some(camera) = cameras.iter().find(|c| c.stream().answers_to(name)) {
            return Ok(camera.clone());
        }
        let mut text = format!("no camera {name:?}; there are: ");
        let names: Vec<_> = cameras.iter().map(|c| &*c.id).take(NAMES_LISTED).collect();
        text.push_str(&names.join(", "));
        if cameras.len() > NAMES_LISTED {
            text.push_str(&format!(" and {} more", cameras.len() - NAMES_LISTED));
        }
        Err((RefusalCode::UnknownCamera, text))
    }

    fn detach(&mut self, id: u64) {
        // Only its own: numbers can be guessed.
        if let Some(camera) = self.attachments.remove(&id) {
            camera.detach(id);
            self.supervisor.status_is_stale();
        }
    }

    fn refuse(&self, request: u32, code: RefusalCode, text: String) -> Result<(), Parting> {
        let refusal = DaemonMessage::Refused {
            request,
            code,
            text,
        };
        self.send(&refusal, &[])
    }

    /// Sends an answer with descriptors; the next one waits for RECEIVED.
    fn send_with(
        &mut self,
        request: u32,
        message: &DaemonMessage,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), Parting> {
        self.send(message, fds)?;
        self.unanswered = Some(request);
        Ok(())
    }

    fn send(
        &self,
        message: &DaemonMessage,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), Parting> {
        match server::send_with_fds(&self.socket, &server::encode(message), fds) {
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                // Its buffer has room for hundreds of refusals.
                io::ErrorKind::WouldBlock => Err(Parting::Deaf),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(Parting::HungUp),
                _ => Err(Parting::Io(error)),
            },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for (id, camera) in std::mem::take(&mut self.attachments) {
            camera.detach(id);
        }
        forget(&self.supervisor.clients, self.peer.uid);
        self.supervisor.status_is_stale();
    }
}

fn forget(clients: &RefCell<Clients>, uid: u32) {
    let mut clients = clients.borrow_mut();
    if let Some(count) = clients.per_user.get_mut(&uid) {
        *count -= 1;
        if *count == 0 {
            clients.per_user.remove(&uid);
        }
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> Result<ClientMessage, Parting> {
    let mut buffer = [0u8; wire::MAX_MESSAGE];
    loop {
        let mut ready = socket.readable().await?;
        // A client has no descriptors to send.
        match server::recv_with_fds(socket, &mut buffer, 0) {
            Ok((0, _)) => return Err(Parting::HungUp),
            Ok((len, _)) => {
                let message = server::decode(&buffer[..len]);
                return message.map_err(|error| Parting::Protocol(error.to_string()));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => ready.clear_ready(),
                io::ErrorKind::ConnectionReset => return Err(Parting::HungUp),
                io::ErrorKind::InvalidData => return Err(Parting::Protocol(error.to_string())),
                _ => return Err(Parting::Io(error)),
            },
        }
    }
}

/// What became of a pending attachment.
enum Known {
    /// The reader knows it.
    Yes,
    /// The reader refused it, or the client took it back.
    Refused,
    /// The reader did not answer in time.
    Late,
}

/// Waits until the reader knows the pending attachment, or will not.
async fn known(pending: &mut Option<Pending>) -> Known {
    match pending {
        Some(pending) => match timeout_at(pending.deadline, &mut pending.admitted.known).await {
            Ok(Ok(())) => Known::Yes,
            // A sender dropped without a word.
            Ok(Err(_)) => Known::Refused,
            Err(_) => Known::Late,
        },
        None => std::future::pending().await,
    }
}
