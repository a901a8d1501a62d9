//! A SQLite database on a thread of its own, and how it is opened, brought up to date, and set aside
//! when it is damaged.
//!
//! Promises: nobody waits for a disk but this thread and whoever awaits its answer; at most
//! [`QUEUE`] calls wait; a call that panics harms only its caller; a file that is not (or no longer) a
//! database of ours is renamed, and said in [`Store::set_aside`]. The first of them is kept for ever, of others a few.
#![deny(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Sender, TrySendError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::Problem;

/// How many calls may wait. One takes milliseconds.
const QUEUE: usize = 512;
/// How soon a database that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Somebody looks into the database with another program.
const BUSY: Duration = Duration::from_secs(5);

/// How many damaged databases of one name are kept.
const SET_ASIDE: usize = 4;

type Job = Box<dyn FnOnce(Option<&mut Connection>) -> Result<(), Damaged> + Send>;

/// The database turned out to be damaged while it was used.
struct Damaged(rusqlite::Error);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's answer.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its folder.
    #[error("database {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A newer program has used it.
    #[error("database {path} is of version {found}, this program knows {known}: update camring")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest known.
        known: usize,
    },
    /// Another server has the folder.
    #[error(
        "{path} is served already: the daemon's own server does it, or another camring serve; \
         [http] listen says where"
    )]
    InUse {
        /// Of the recordings.
        path: PathBuf,
    },
    /// More callers than it can serve.
    #[error("database: {QUEUE} calls are waiting already; try again")]
    Busy,
    /// It could not be opened.
    #[error("database: the disk refuses it (full, or read-only?); it is tried again")]
    Closed,
    /// Its thread has ended, or the call panicked.
    #[error("database: the call was not answered")]
    Gone,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::unavailable("busy", "Too much at once", error.to_string()),
            // Paths stay in the log.
            StoreError::Sqlite(_) | StoreError::Closed => {
                tracing::error!("{error}");
                Self::unavailable("database", "Database not available", error.to_string())
            }
            _ => {
                tracing::error!("{error}");
                Self::internal("the database does not answer; the log says why")
            }
        }
    }
}

/// A handle; clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Store {
    thread: Arc<Thread>,
    set_aside: Arc<Mutex<Option<String>>>,
    replaced: Arc<AtomicU64>,
}

/// The thread; ended, and its database closed, when the last handle goes.
#[derive(Debug)]
struct Thread {
    jobs: Option<Sender<Job>>,
    handle: Option<thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take()
            && handle.thread().id() != thread::current().id()
        {
            let _ = handle.join();
        }
    }
}

impl std::fmt::Debug for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Store {
    /// Opens or makes the database and brings it up to date. `migrations[n]` leads from version `n`
    /// to `n + 1`; what has been released is never changed, only added to.
    ///
    /// # Errors
    /// The disk refuses, or the database is of a newer program.
    pub fn open(path: &Path, migrations: &'static [&'static str]) -> Result<Self, StoreError> {
        let set_aside = Arc::new(Mutex::new(None));
        let connection = open(path, migrations, &set_aside)?;
        Self::start(path, migrations, Some(connection), set_aside)
    }

    /// As [`Store::open`], but where the disk refuses (full, read-only) calls fail until it does not: it
    /// is tried again every [`AGAIN`].
    ///
    /// # Errors
    /// The database is of a newer program; there is no thread.
    pub fn open_now_or_later(
        path: &Path,
        migrations: &'static [&'static str],
    ) -> Result<Self, StoreError> {
        let set_aside = Arc::new(Mutex::new(None));
        let connection = match open(path, migrations, &set_aside) {
            Ok(connection) => Some(connection),
            Err(error @ StoreError::Newer { .. }) => return Err(error),
            Err(error) => {
                tracing::error!("{}: {error}; it is tried again", path.display());
                None
            }
        };
        Self::start(path, migrations, connection, set_aside)
    }

    /// A database that is forgotten in the end.
    ///
    /// # Errors
    /// There is no memory, or no thread.
    pub fn in_memory(migrations: &'static [&'static str]) -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let connection = migrate(path, migrations)?;
        Self::start(path, migrations, Some(connection), Arc::default())
    }

    fn start(
        path: &Path,
        migrations: &'static [&'static str],
        mut connection: Option<Connection>,
        set_aside: Arc<Mutex<Option<String>>>,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = channel::bounded::<Job>(QUEUE);
        let (place, note) = (path.to_owned(), Arc::clone(&set_aside));
        let replaced = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&replaced);
        let run = move || {
            let mut tried = Instant::now();
            while let Ok(job) = queue.recv() {
                if connection.is_none() && tried.elapsed() >= AGAIN {
                    tried = Instant::now();
                    connection = open(&place, migrations, &note).ok();
                    if connection.is_some() {
                        tracing::info!("{}: open", place.display());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                let Err(Damaged(error)) = job(connection.as_mut()) else {
                    continue;
                };
                // The file is closed before it is renamed.
                connection = None;
                put_aside(&place, &error, &note);
                match open(&place, migrations, &note) {
                    Ok(new) => {
                        connection = Some(new);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => tracing::error!("{error}"),
                }
            }
        };
        let name = path
            .file_stem()
            .map_or("database".into(), |name| name.to_string_lossy());
        let handle = thread::Builder::new()
            .name(format!("db-{name}"))
            .spawn(run)
            .map_err(|source| StoreError::Io {
                path: path.to_owned(),
                source,
            })?;
        let thread = Thread {
            jobs: Some(jobs),
            handle: Some(handle),
        };
        Ok(Self {
            thread: Arc::new(thread),
            set_aside,
            replaced,
        })
    }

    /// Runs `work` on the database's thread, after those that wait already. It should take
    /// milliseconds: page through what is long.
    ///
    /// # Errors
    /// What `work` says; too many waiting.
    pub async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, waiting) = oneshot::channel();
        self.post(move |connection| {
            let (result, damage) = run(connection, work);
            // Nobody waits any more: a client that went away.
            let _ = answer.send(result);
            damage
        })?;
        waiting.await.map_err(|_| StoreError::Gone)?
    }

    /// As [`Store::call`], for threads that may wait.
    ///
    /// # Errors
    /// As [`Store::call`].
    pub fn call_blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, waiting) = channel::bounded(1);
        let job: Job = Box::new(move |connection| {
            let (result, damage) = run(connection, work);
            let _ = answer.send(result);
            damage
        });
        self.jobs()?.send(job).map_err(|_| StoreError::Gone)?;
        waiting.recv().map_err(|_| StoreError::Gone)?
    }

    /// Has `work` done after those that wait already, and does not wait for it; its failure is logged.
    ///
    /// # Errors
    /// The database's thread has ended.
    pub fn later<F>(&self, work: F) -> Result<(), StoreError>
    where
        F: FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        let job: Job = Box::new(move |connection| {
            let (result, damage) = run(connection, work);
            if let Err(error) = result {
                tracing::warn!("{error}");
            }
            damage
        });
        self.jobs()?.send(job).map_err(|_| StoreError::Gone)
    }

    /// How often a damaged database has been replaced by an empty one while this handle lived.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// That a damaged database was renamed, and to what; for logs and the status.
    pub fn set_aside(&self) -> Option<String> {
        self.set_aside.lock().ok()?.clone()
    }

    fn jobs(&self) -> Result<&Sender<Job>, StoreError> {
        self.thread.jobs.as_ref().ok_or(StoreError::Gone)
    }

    fn post(
        &self,
        job: impl FnOnce(Option<&mut Connection>) -> Result<(), Damaged> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.jobs()?
            .try_send(Box::new(job))
            .map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => StoreError::Gone,
            })
    }
}

fn run<T>(
    connection: Option<&mut Connection>,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> (Result<T, StoreError>, Result<(), Damaged>) {
    let Some(connection) = connection else {
        return (Err(StoreError::Closed), Ok(()));
    };
    match catch_unwind(AssertUnwindSafe(|| work(connection))) {
        Err(_) => (Err(StoreError::Gone), Ok(())),
        Ok(Ok(value)) => (Ok(value), Ok(())),
        Ok(Err(error)) => {
            let damage = match is_damage(&error) {
                true => Err(Damaged(rusqlite::Error::InvalidQuery).with(&error)),
                false => Ok(()),
            };
            (Err(error.into()), damage)
        }
    }
}

impl Damaged {
    /// rusqlite's errors cannot be cloned: the code is what matters.
    fn with(self, error: &rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, text) => {
                Self(rusqlite::Error::SqliteFailure(*code, text.clone()))
            }
            _ => self,
        }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn open(
    path: &Path,
    migrations: &[&str],
    note: &Mutex<Option<String>>,
) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
            path: folder.to_owned(),
            source,
        })?;
    }
    match migrate(path, migrations) {
        Err(StoreError::Sqlite(error)) if is_damage(&error) => {
            put_aside(path, &error, note);
            migrate(path, migrations)
        }
        other => other,
    }
}

fn migrate(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL: whole after any crash; a power cut may cost the last calls.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(0);
    if found > migrations.len() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: migrations.len(),
        });
    }
    let update = connection.transaction()?;
    for migration in &migrations[found..] {
        update.execute_batch(migration)?;
    }
    update.pragma_update(None, "user_version", migrations.len() as i64)?;
    update.commit()?;
    Ok(connection)
}

/// `index.db` → `index.db.damaged`, with its log beside it as SQLite looks for it. What was set aside before
/// stays: the next ones are `.damaged-2` and so on, and only the last of [`SET_ASIDE`] is ever replaced.
fn put_aside(path: &Path, error: &rusqlite::Error, note: &Mutex<Option<String>>) {
    let with = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let ending = |n: usize| match n {
        1 => ".damaged".to_owned(),
        n => format!(".damaged-{n}"),
    };
    let is_free = |n: &usize| {
        let ending = ending(*n);
        !with(&ending).exists() && !with(&format!("{ending}-wal")).exists()
    };
    let ending = ending((1..=SET_ASIDE).find(is_free).unwrap_or(SET_ASIDE));
    let to = with(&ending);
    let text = format!(
        "{} was damaged ({error}) and is now {}",
        path.display(),
        to.display()
    );
    tracing::error!("{text}; a new one is made");
    let log = with(&format!("{ending}-wal"));
    // Of the one that is replaced: not this one's.
    let _ = std::fs::remove_file(&log);
    for (from, to) in [(path.to_owned(), to), (with("-wal"), log)] {
        if let Err(error) = std::fs::rename(&from, &to)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!("{}: {error}", from.display());
        }
    }
    // Rebuilt by SQLite from the log: of no use without it.
    let _ = std::fs::remove_file(with("-shm"));
    if let Ok(mut note) = note.lock() {
        *note = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &[&str] = &[
        "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;",
        "ALTER TABLE thing ADD COLUMN more TEXT;",
    ];

    fn count(store: &Store) -> Result<i64, StoreError> {
        store.call_blocking(|db| db.query_row("SELECT count(*) FROM thing", [], |row| row.get(0)))
    }

    #[test]
    fn an_older_database_is_brought_up_to_date_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/x.db");
        let old = Store::open(&path, &MIGRATIONS[..1]).unwrap();
        old.call_blocking(|db| db.execute("INSERT INTO thing(name) VALUES ('a')", []))
            .unwrap();
        drop(old);
        let new = Store::open(&path, MIGRATIONS).unwrap();
        let more: Option<String> = new
            .call_blocking(|db| db.query_row("SELECT more FROM thing", [], |row| row.get(0)))
            .unwrap();
        assert_eq!((more, count(&new).unwrap()), (None, 1));
        assert_eq!(new.set_aside(), None);
        drop(new);
        let error = Store::open(&path, &MIGRATIONS[..1]).unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { found: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_database_is_set_aside_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        std::fs::write(&path, [b'x'; 8192]).unwrap();
        let store = Store::open(&path, MIGRATIONS).unwrap();
        assert_eq!(count(&store).unwrap(), 0);
        assert!(store.set_aside().unwrap().contains("x.db.damaged"));
        assert_eq!(
            std::fs::read(folder.path().join("x.db.damaged"))
                .unwrap()
                .len(),
            8192
        );
    }

    #[test]
    fn the_first_that_was_set_aside_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        for n in 1..=SET_ASIDE + 2 {
            std::fs::write(&path, vec![n as u8; 4096]).unwrap();
            let store = Store::open(&path, MIGRATIONS).unwrap();
            assert_eq!(count(&store).unwrap(), 0);
        }
        let first = |name: &str| std::fs::read(folder.path().join(name)).unwrap()[0];
        let names = ["", "-2", "-3", "-4"].map(|ending| format!("x.db.damaged{ending}"));
        let last = SET_ASIDE as u8 + 2;
        assert_eq!(names.map(|name| first(&name)), [1, 2, 3, last]);
        assert!(!folder.path().join("x.db.damaged-5").exists());
    }

    #[test]
    fn a_disk_that_refuses_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        // A file where a folder should be.
        let below = folder.path().join("below");
        std::fs::write(&below, "").unwrap();
        let path = below.join("x.db");
        assert!(Store::open(&path, MIGRATIONS).is_err());
        let store = Store::open_now_or_later(&path, MIGRATIONS).unwrap();
        assert!(matches!(count(&store), Err(StoreError::Closed)));
        std::fs::remove_file(&below).unwrap();
        let begun = Instant::now();
        while count(&store).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it stays closed");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(count(&store).unwrap(), 0);
    }

    #[test]
    fn a_call_that_panics_harms_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db"), MIGRATIONS).unwrap();
        let gone = store.call_blocking::<(), _>(|_| panic!("on purpose"));
        assert!(matches!(gone, Err(StoreError::Gone)));
        assert_eq!(count(&store).unwrap(), 0);
    }
}
