//! A connection to the daemon, shared by all subscriptions of a program.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::attach::AttachError;
use crate::attach::client::{ANSWER_TIMEOUT, Connection, descriptors, lock, unexpected};
use crate::attach::wire::{ClientMessage, DaemonMessage, MAX_NAME, RefusalCode, RingKind};
use crate::bell::Bell;
use crate::error::RingError;
use crate::layout::MAX_PINS;
use crate::memory::SealedMemory;
use crate::subscriber::frames::Subscription;
use crate::subscriber::packets::PacketSubscription;
use crate::subscriber::watch::{REATTACH_PAUSE, Watch};

/// A wait looks this often whether the daemon is still there: nobody rings a bell for its death.
const WAIT_SLICE: Duration = Duration::from_millis(250);
/// Longest status text that is accepted.
const MAX_STATUS: u64 = 64 << 20;

/// How to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachOptions {
    /// How many frames may be held at a time, 1 to 64. The camera keeps a slot for each, so ask
    /// for what is needed.
    pub pins: u32,
    /// Whether to get a descriptor for `poll`/`epoll`, see [`Subscription::poll_fd`].
    pub pollable: bool,
    /// How long to wait for the camera's ring to exist. It does not before the first picture size
    /// is known.
    pub timeout: Duration,
    /// Also give out frames that are damaged.
    pub include_corrupt: bool,
}

impl Default for AttachOptions {
    /// Two pins, not pollable, 10 s, damaged frames hidden.
    fn default() -> Self {
        Self {
            pins: 2,
            pollable: false,
            timeout: Duration::from_secs(10),
            include_corrupt: false,
        }
    }
}

/// One connection to the daemon. Cheap to clone, `Send` and `Sync`; closed when the last clone,
/// subscription and frame is gone. Not to be used on both sides of a `fork`.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What subscriptions and frames keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    connection: Connection,
    bell: Bell,
    watches: Mutex<Vec<Weak<Watch>>>,
    read_only_enforced: bool,
}

/// What the daemon passed for a ring.
pub(crate) struct Granted {
    pub(crate) attachment: AttachmentId,
    pub(crate) ring_id: u64,
    pub(crate) ring: SealedMemory,
    pub(crate) pins: Option<SealedMemory>,
    pub(crate) notify: Option<std::os::fd::OwnedFd>,
}

/// Gives the attachment back when dropped; keeps the connection alive.
#[derive(Debug)]
pub(crate) struct AttachmentId {
    shared: Arc<Shared>,
    id: u64,
}

impl AttachmentId {
    pub(crate) fn get(&self) -> u64 {
        self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for AttachmentId {
    fn drop(&mut self) {
        self.shared.connection.detach(self.id);
    }
}

impl Client {
    /// Connects to the daemon at `path` (see [`crate::default_socket_path`]) and greets it. Takes
    /// 5 s at most. The error says whether the daemon is absent, forbids it, or has another
    /// version.
    pub fn connect(path: &Path) -> Result<Self, AttachError> {
        let (connection, bell) = Connection::open(path)?;
        let bell = SealedMemory::from_fd(bell).map_err(RingError::from)?;
        let own = rustix::process::geteuid().as_raw();
        let owner = bell.owner();
        // Root opens anything; the owner reopens the ring's descriptor for writing.
        let read_only_enforced =
            own != 0 && owner != Some(own) && !connection.daemon_uids().contains(&own);
        Ok(Self {
            shared: Arc::new(Shared {
                bell: Bell::map(bell)?,
                connection,
                watches: Mutex::new(Vec::new()),
                read_only_enforced,
            }),
        })
    }

    /// Attaches to a camera's frames: `camera` or `camera/stream`. Waits for the ring to exist,
    /// for `options.timeout` at most.
    pub fn attach(&self, name: &str, options: &AttachOptions) -> Result<Subscription, AttachError> {
        check(options)?;
        let granted = self
            .shared
            .attach_patiently(name, RingKind::Frames, options)?;
        Ok(Subscription::new(name, *options, granted)?)
    }

    /// [`Client::attach`] without waiting for the ring to exist.
    pub(crate) fn attach_now(
        &self,
        name: &str,
        options: &AttachOptions,
    ) -> Result<Subscription, AttachError> {
        check(options)?;
        let kind = RingKind::Frames;
        let granted = self
            .shared
            .attach_once(name, kind, options, ANSWER_TIMEOUT)?;
        Ok(Subscription::new(name, *options, granted)?)
    }

    /// Attaches to a camera's access units; `pins` and `include_corrupt` of the options are not
    /// used.
    pub fn attach_packets(
        &self,
        name: &str,
        options: &AttachOptions,
    ) -> Result<PacketSubscription, AttachError> {
        let granted = self
            .shared
            .attach_patiently(name, RingKind::Packets, options)?;
        Ok(PacketSubscription::new(name, *options, granted)?)
    }

    /// The daemon's status: the JSON of `camring status --json`.
    pub fn status_json(&self) -> Result<String, AttachError> {
        let (answer, fds) =
            self.shared
                .connection
                .question("status", ANSWER_TIMEOUT, |request| ClientMessage::Status {
                    request,
                })?;
        let len = match answer {
            DaemonMessage::Status { len, .. } => len,
            DaemonMessage::Refused { code, text, .. } => {
                return Err(AttachError::Refused { code, text });
            }
            other => return Err(unexpected(&other)),
        };
        let [fd] = descriptors(fds)?;
        let memory = SealedMemory::from_fd(fd).map_err(RingError::from)?;
        if len > memory.len().min(MAX_STATUS) {
            return Err(AttachError::Protocol {
                what: format!(
                    "a status of {len} bytes in {} bytes of memory",
                    memory.len()
                ),
            });
        }
        let mut bytes = vec![0; len as usize];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&memory, rest, read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(AttachError::Io(e.into())),
            }
        }
        bytes.truncate(read);
        String::from_utf8(bytes).map_err(|_| AttachError::Protocol {
            what: "the status is not UTF-8".to_owned(),
        })
    }

    /// One wait on all subscriptions of this client: `true` when one of them has something new
    /// since its last `next()` or `latest()`, `false` when the time is over (`None`: never).
    /// Several threads may wait; each is woken by every publication. After `true`, the frame may
    /// turn out to be hidden or gone.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, AttachError> {
        self.shared.wait(timeout, || {
            let mut new = false;
            lock(&self.shared.watches).retain(|watch| match watch.upgrade() {
                Some(watch) => {
                    new |= watch.is_new();
                    true
                }
                None => false,
            });
            new
        })
    }

    /// Whether the kernel keeps this process from writing into the rings. It does not for root
    /// and for the daemon's own user: there read-only is a convention. A program that handles
    /// untrusted input should warn, or run as another user; see [`Client::read_only_warning`].
    pub fn read_only_enforced(&self) -> bool {
        self.shared.read_only_enforced
    }

    /// A warning to show when [`Client::read_only_enforced`] is false.
    pub fn read_only_warning(&self) -> Option<&'static str> {
        (!self.shared.read_only_enforced).then_some(
            "this program runs as root or as the camring daemon's own user, so the kernel does not \
             keep it from writing into the camera rings: run it as a user of its own, in group \
             camring",
        )
    }
}

/// The connection's descriptor, to close its copy in a forked child. Nothing is to be read from or
/// written to it.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.connection.as_fd()
    }
}

fn check(options: &AttachOptions) -> Result<(), AttachError> {
    if options.pins == 0 || options.pins > MAX_PINS {
        return Err(AttachError::Options {
            field: "pins",
            found: options.pins.into(),
            limit: format!("1 to {MAX_PINS} are possible"),
        });
    }
    Ok(())
}

impl Shared {
    /// Waits in slices, each followed by a look at the connection.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut() -> bool,
    ) -> Result<bool, AttachError> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            let slice = match deadline {
                Some(deadline) => {
                    WAIT_SLICE.min(deadline.saturating_duration_since(Instant::now()))
                }
                None => WAIT_SLICE,
            };
            if self.bell.wait(slice, &mut ready) {
                return Ok(true);
            }
            if self.connection.is_closed() {
                return Err(AttachError::Disconnected);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(crate) fn watch(&self, watch: &Arc<Watch>) {
        let mut watches = lock(&self.watches);
        watches.retain(|old| old.strong_count() > 0);
        watches.push(Arc::downgrade(watch));
    }

    /// Asks once. `NotReady` comes back as an error with `waited` zero.
    pub(crate) fn attach_once(
        self: &Arc<Self>,
        name: &str,
        kind: RingKind,
        options: &AttachOptions,
        timeout: Duration,
    ) -> Result<Granted, AttachError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(AttachError::Options {
                field: "name length",
                found: name.len() as u64,
                limit: format!("1 to {MAX_NAME} bytes are possible"),
            });
        }
        let frames = kind == RingKind::Frames;
        let pins = if frames {
            options.pins.min(MAX_PINS)
        } else {
            0
        };
        let (answer, fds) =
            self.connection
                .question("attach", timeout, |request| ClientMessage::Attach {
                    request,
                    kind,
                    pins: pins as u8,
                    pollable: options.pollable,
                    name: name.to_owned(),
                })?;
        let (id, ring_id) = match answer {
            DaemonMessage::Attached {
                attachment,
                ring_id,
                ..
            } => (attachment, ring_id),
            DaemonMessage::Refused { code, text, .. } => {
                let name = name.to_owned();
                return Err(match code {
                    RefusalCode::UnknownCamera => AttachError::UnknownCamera { name, text },
                    RefusalCode::NotReady => AttachError::NotReady {
                        name,
                        waited: Duration::ZERO,
                        text,
                    },
                    code => AttachError::Refused { code, text },
                });
            }
            other => return Err(unexpected(&other)),
        };
        let attachment = AttachmentId {
            shared: Arc::clone(self),
            id,
        };
        let mut fds = fds.into_iter();
        let mut sealed = |what: &str| match fds.next() {
            Some(fd) => SealedMemory::from_fd(fd)
                .map_err(|e| AttachError::Ring(Box::new(RingError::Memory(e)))),
            None => Err(AttachError::Protocol {
                what: format!("no descriptor for the {what}"),
            }),
        };
        let ring = sealed("ring")?;
        let pins = if frames {
            Some(sealed("pin page")?)
        } else {
            None
        };
        let notify = if options.pollable {
            let missing = || AttachError::Protocol {
                what: "no descriptor to poll".to_owned(),
            };
            Some(fds.next().ok_or_else(missing)?)
        } else {
            None
        };
        if fds.next().is_some() {
            return Err(AttachError::Protocol {
                what: "too many descriptors".to_owned(),
            });
        }
        Ok(Granted {
            attachment,
            ring_id,
            ring,
            pins,
            notify,
        })
    }

    /// Asks until the ring exists.
    fn attach_patiently(
        self: &Arc<Self>,
        name: &str,
        kind: RingKind,
        options: &AttachOptions,
    ) -> Result<Granted, AttachError> {
        let start = Instant::now();
        loop {
            match self.attach_once(name, kind, options, ANSWER_TIMEOUT) {
                Err(AttachError::NotReady { name, text, .. }) => {
                    let waited = start.elapsed();
                    let Some(left) = options.timeout.checked_sub(waited).filter(|l| !l.is_zero())
                    else {
                        return Err(AttachError::NotReady { name, waited, text });
                    };
                    std::thread::sleep(REATTACH_PAUSE.min(left));
                }
                other => return other,
            }
        }
    }
}
