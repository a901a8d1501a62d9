//! What all handlers share.
#![deny(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camring_ring::Client;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};

use super::access::Access;
use super::audit::Audit;
use super::index::Index;
use super::library::Library;
use super::markers::Snapper;
use super::metrics::Requests;
use super::retention::Keeper;
use super::room::Room;
use super::site::SiteView;
use super::store::{Store, StoreError};
use super::tracks::Known;
use super::workers::Workers;
use super::{Listening, Problem, schema};
use crate::config::certificate::Expiry;
use crate::config::{Http, Retention, Sandbox};
use crate::recording::Tree;

/// What the server is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen, for whose pages, and for whom.
    pub http: Http,
    /// Where recordings and databases are.
    pub data_dir: PathBuf,
    /// The daemon's attach socket.
    pub socket: PathBuf,
    /// What is kept.
    pub retention: Retention,
    /// What the server and its workers give up.
    pub sandbox: Sandbox,
}

/// What all handlers share.
#[derive(Debug)]
pub struct App {
    /// As started with.
    pub settings: Settings,
    /// The configuration as last told by the supervisor.
    pub site: watch::Sender<Arc<SiteView>>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Woken when the configuration was read: a certificate may have changed.
    pub look_at_files: Arc<Notify>,
    /// When the certificate that is served expires; `None`: there is none, or it is not known.
    pub certificate_expires: watch::Sender<Option<Expiry>>,
    /// Who did what.
    pub audit: Audit,
    /// Where the server listens.
    pub listening: watch::Sender<Listening>,
    /// Held while the server lives: one for each folder of recordings.
    _folder: FolderLock,
    /// What is recorded.
    pub index: Index,
    /// What init segments say.
    pub tracks: Arc<Known>,
    /// What people have said about recordings.
    pub library: Arc<Library>,
    /// What keeps the recordings within their limits.
    pub retention: Keeper,
    /// The processes that decode recordings.
    pub workers: Workers,
    /// Room to make playlists of a whole window or range.
    pub long: Room,
    /// Finds the pictures of markers.
    pub snapper: Snapper,
    /// Markers, samples: what the recording does not say. Migrations: `schema.rs`.
    pub store: Store,
    /// What `GET /api/v1/events` passes on.
    pub events: broadcast::Sender<Event>,
    /// What was answered, for `GET /metrics`.
    pub requests: Requests,
    /// Room for those who listen to events.
    pub readers: Arc<Semaphore>,
    /// The daemon's supervisor, if there is one.
    pub supervisor: Supervisor,
    /// The daemon's attach socket.
    pub attach: Attach,
}

/// Something that those who watch should know.
#[derive(Clone, Debug)]
pub struct Event {
    /// `marker`, `camera`, `recording`, `disk` …
    pub name: &'static str,
    /// For `Last-Event-ID`, where it can be told again.
    pub id: Option<i64>,
    /// What.
    pub data: Arc<Value>,
}

/// How many events a slow reader may be behind before it misses some.
const EVENTS: usize = 1024;

/// Playlists and manifests of a whole window or range that are made at a time, at most: each takes some
/// 50 ms of a core and some MB.
const LONG_AT_ONCE: usize = 4;
/// So many more may wait …
const LONG_QUEUE: usize = 64;
/// … for so long.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

fn long_busy(queue: usize) -> Problem {
    let detail = format!(
        "playlists of a whole window or range are made for others, and as many as {queue} requests may wait: \
         try again in a few seconds, or ask for a shorter range"
    );
    Problem::unavailable("playlist-busy", "Too many long playlists", detail)
}

impl App {
    /// Opens the databases and starts to follow the recordings.
    ///
    /// # Errors
    /// A database cannot be opened.
    pub fn new(
        settings: Settings,
        site: SiteView,
        supervisor: Supervisor,
    ) -> Result<Arc<Self>, StoreError> {
        let folder = FolderLock::take(&settings.data_dir)?;
        let store =
            Store::open_now_or_later(&settings.data_dir.join("camring.db"), schema::MIGRATIONS)?;
        let index = Index::open(&settings.data_dir)?;
        let attach = Attach::new(&settings.socket);
        let access = Arc::new(Access::new(&settings.http).map_err(StoreError::System)?);
        let audit = Audit::new(&settings.data_dir).map_err(StoreError::System)?;
        let library = Arc::new(Library::open(&settings.data_dir));
        let retention = Keeper::new(Tree::new(&settings.data_dir), settings.retention);
        Ok(Arc::new(Self {
            access,
            look_at_files: Arc::default(),
            certificate_expires: watch::Sender::default(),
            audit,
            library,
            retention,
            long: Room::new(
                cores().clamp(1, LONG_AT_ONCE),
                LONG_QUEUE,
                LONG_PATIENCE,
                long_busy,
            ),
            workers: Workers::new(cores(), settings.sandbox),
            snapper: Snapper::default(),
            requests: Requests::default(),
            readers: super::api::events::room(),
            site: watch::Sender::new(Arc::new(site)),
            events: broadcast::Sender::new(EVENTS),
            settings,
            listening: watch::Sender::default(),
            _folder: folder,
            index,
            tracks: Arc::default(),
            store,
            supervisor,
            attach,
        }))
    }

    /// The configuration, now.
    pub fn site(&self) -> Arc<SiteView> {
        Arc::clone(&self.site.borrow())
    }

    /// Tells all who watch. Nobody watching is no error.
    pub fn tell(&self, name: &'static str, id: Option<i64>, data: Value) {
        let data = Arc::new(data);
        let _ = self.events.send(Event { name, id, data });
    }
}

/// How many there are for this process.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Taken by the one server of a folder of recordings: two would spoil each other's databases.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "its life is the lock")] Option<File>);

impl FolderLock {
    /// Makes the folder, where needed, and takes it; waits for a server that is ending. On a disk that
    /// refuses even that, nobody else can write either, and it counts as taken.
    ///
    /// # Errors
    /// Another server has it.
    pub fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join("serve.lock");
        let opened = std::fs::create_dir_all(data_dir).and_then(|()| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).open(&path)
        });
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                tracing::error!("{}: {error}", path.display());
                return Ok(Self(None));
            }
        };
        let since = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(Some(file))),
                Err(Errno::WOULDBLOCK | Errno::INTR) if since.elapsed() < ENDING => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(StoreError::InUse {
                        path: data_dir.to_owned(),
                    });
                }
                Err(errno) => {
                    tracing::error!("{}: {errno}", path.display());
                    return Ok(Self(None));
                }
            }
        }
    }
}

/// How long a server may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// A question to the supervisor and where its answer goes.
pub type Asked = (Value, oneshot::Sender<Result<Value, Problem>>);

/// The daemon's supervisor, as handlers see it.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    questions: Option<mpsc::Sender<Asked>>,
}

impl Supervisor {
    /// There is none: everything is answered by 503.
    pub fn none() -> Self {
        Self::default()
    }

    /// Questions go into `questions`.
    pub fn new(questions: mpsc::Sender<Asked>) -> Self {
        Self {
            questions: Some(questions),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the supervisor says; there is none.
    pub async fn ask(&self, question: Value) -> Result<Value, Problem> {
        let questions = self.questions.as_ref().ok_or_else(Problem::no_daemon)?;
        let (answer, waiting) = oneshot::channel();
        let sent = questions.send((question, answer)).await;
        sent.map_err(|_| Problem::no_daemon())?;
        waiting.await.map_err(|_| Problem::no_daemon())?
    }
}

/// The daemon's attach socket: its status, as any client gets it.
#[derive(Clone, Debug)]
pub struct Attach {
    socket: Arc<Path>,
}

impl Attach {
    /// Nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Where.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's status, as `camring status --json` prints it.
    ///
    /// # Errors
    /// 503: no daemon listens there.
    pub async fn status(&self) -> Result<Value, Problem> {
        let socket = Arc::clone(&self.socket);
        let asked = tokio::task::spawn_blocking(move || {
            let client = Client::connect(&socket).map_err(|error| error.to_string())?;
            client.status_json().map_err(|error| error.to_string())
        });
        let text = asked.await.map_err(|_| Problem::no_daemon())?;
        let text = text.map_err(|error| {
            tracing::debug!("status of the daemon: {error}");
            Problem::no_daemon()
        })?;
        serde_json::from_str(&text).map_err(|_| {
            Problem::internal("the daemon's status is not JSON: is it of another version?")
        })
    }
}
