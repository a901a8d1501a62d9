//! Who changed what: one line of JSON for each request that is no reading, and the same in the log under
//! the target `camring::audit`.
//!
//! `audit.jsonl` in the data folder, and three older ones, each of at most 4 MiB. A line has never
//! anything of a body, nor of a query. Promises: no request waits for the disk; a full or broken disk costs
//! lines of the file, and is in the log; a flood of refused requests pushes nothing out.
#![deny(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{self, Identity};
use super::{App, time};
use crate::sys::clock;

/// The newest lines are here.
pub const FILE: &str = "audit.jsonl";
/// A file becomes an older one then.
const LONGEST_FILE: u64 = 4 << 20;
/// Older ones: `audit.jsonl.1` is the newest of them.
const OLDER: u32 = 3;
/// Lines that wait for the disk.
const WAITING: usize = 1024;
/// Refused requests that are written down, in each [`WINDOW`].
const REFUSED: u64 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Of a path.
const LONGEST_PATH: usize = 256;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// Counts up, through all files.
    pub number: u64,
    /// When it was answered; RFC 3339.
    pub at: String,
    /// The user's or token's name; empty: nobody known.
    pub who: String,
    /// `user`, `token`, `open` (there are no users), `nobody`.
    pub kind: String,
    /// The address that it came from.
    pub from: String,
    /// `POST`, `PATCH`, `DELETE`.
    pub method: String,
    /// Which route: `/api/v1/cameras/{camera}`.
    pub route: String,
    /// The path, without its query.
    pub path: String,
    /// The camera, where the path names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub camera: Option<String>,
    /// What was made, where the answer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub made: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// `done`, `refused` (401, 403, 429), `failed`.
    pub outcome: String,
    /// Refused requests before this one that were too many to be written down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Who a request turns out to come from; filled in on its way.
#[derive(Clone, Debug, Default)]
pub struct Actor(Arc<Mutex<Option<(String, &'static str)>>>);

impl Actor {
    /// It is known.
    pub fn is(&self, identity: &Identity) {
        self.set(&identity.name, identity.kind.name());
    }

    /// Somebody tries to be this user.
    pub fn tried(&self, user: &str) {
        self.set(user, "user");
    }

    fn set(&self, name: &str, kind: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.to_owned(), kind));
    }

    fn get(&self) -> (String, &'static str) {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        known.unwrap_or((String::new(), "nobody"))
    }
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    lines: Option<SyncSender<Entry>>,
    writer: Option<std::thread::JoinHandle<()>>,
    lost: Arc<AtomicU64>,
    refused: Mutex<Refused>,
}

#[derive(Debug)]
struct Refused {
    since: Instant,
    written: u64,
    left_out: u64,
}

impl Audit {
    /// In this folder. Opens nothing yet: a disk that comes later is used then.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let (lines, received) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let (path, count) = (folder.join(FILE), Arc::clone(&lost));
        let writer = std::thread::Builder::new()
            .name("camring-audit".into())
            .spawn(move || write_all(&path, &received, &count))?;
        Ok(Self {
            folder: folder.to_owned(),
            lines: Some(lines),
            writer: Some(writer),
            lost,
            refused: Mutex::new(Refused {
                since: Instant::now(),
                written: 0,
                left_out: 0,
            }),
        })
    }

    /// How many are left out with this refused one; `None`: it is one of them.
    fn may_refuse(&self) -> Option<u64> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.since.elapsed() > WINDOW {
            refused.since = Instant::now();
            refused.written = 0;
        }
        if refused.written >= REFUSED {
            refused.left_out += 1;
            return None;
        }
        refused.written += 1;
        Some(std::mem::take(&mut refused.left_out))
    }

    fn write(&self, mut entry: Entry) {
        if entry.outcome == "refused" {
            match self.may_refuse() {
                Some(left_out) => entry.left_out = left_out,
                None => return,
            }
        }
        tracing::info!(
            target: "camring::audit",
            "{} {:?} from {}: {} {} {} {}",
            entry.kind, entry.who, entry.from, entry.method, entry.path, entry.status, entry.outcome
        );
        let sent = match &self.lines {
            Some(lines) => lines.try_send(entry).is_ok(),
            None => false,
        };
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The newest first, those before `before`, at most `most` of them. Reads files: not for a thread
    /// that others wait for.
    pub fn read(&self, before: Option<u64>, most: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        for older in 0..=OLDER {
            let text = read_bounded(&older_path(&self.folder.join(FILE), older));
            let lines = text.split(|byte| *byte == b'\n').rev();
            let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
            found.extend(
                entries
                    .filter(|entry| before.is_none_or(|before| entry.number < before))
                    .take(most - found.len()),
            );
            if found.len() >= most {
                break;
            }
        }
        found
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // What was answered is written.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn older_path(path: &Path, older: u32) -> PathBuf {
    match older {
        0 => path.to_owned(),
        older => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{older}"));
            name.into()
        }
    }
}

/// Nothing, where it cannot be read. A little more than a file may have: the last line goes over.
fn read_bounded(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(LONGEST_FILE + (64 << 10)).read_to_end(&mut bytes);
    }
    bytes
}

/// The life of the thread that writes.
fn write_all(path: &Path, lines: &Receiver<Entry>, lost: &AtomicU64) {
    let mut writer = None;
    let mut number = None;
    let mut troubled = false;
    for mut entry in lines {
        let next = number.unwrap_or_else(|| last_number(path)) + 1;
        entry.number = next;
        match write_one(path, &mut writer, &entry) {
            Ok(()) => troubled = false,
            Err(error) => {
                writer = None;
                lost.fetch_add(1, Ordering::Relaxed);
                if !troubled {
                    tracing::error!("{}: {error}; the audit log has gaps", path.display());
                }
                troubled = true;
            }
        }
        number = Some(next);
        let gone = lost.swap(0, Ordering::Relaxed);
        if gone > 0 {
            tracing::warn!("{gone} lines of the audit log were lost");
        }
    }
}

/// 0: nothing was written yet.
fn last_number(path: &Path) -> u64 {
    let last = |path: PathBuf| {
        let text = read_bounded(&path);
        let mut lines = text.split(|byte| *byte == b'\n').rev();
        lines.find_map(|line| serde_json::from_slice::<Entry>(line).ok())
    };
    let found = (0..=OLDER).find_map(|older| last(older_path(path, older)));
    found.map_or(0, |entry| entry.number)
}

fn write_one(path: &Path, open: &mut Option<(File, u64)>, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if open
        .as_ref()
        .is_some_and(|(_, len)| len + line.len() as u64 > LONGEST_FILE)
    {
        *open = None;
        for older in (0..OLDER).rev() {
            match std::fs::rename(older_path(path, older), older_path(path, older + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    let (file, len) = match open {
        Some(open) => open,
        None => open.insert(open_file(path)?),
    };
    file.write_all(&line)?;
    *len += line.len() as u64;
    file.sync_data()
}

/// Ready for the next line, also where the last one was cut off.
fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let mut len = file.metadata()?.len();
    if len > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            len += 1;
        }
    }
    Ok((file, len))
}

/// Writes down what changes something, or tries to.
pub async fn middleware(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let Some(route) = route.filter(|_| !request.method().is_safe()) else {
        return next.run(request).await;
    };
    let actor = Actor::default();
    request.extensions_mut().insert(actor.clone());
    let from = access::client(request.headers(), access::peer(&request));
    let method = request.method().to_string();
    let path: String = request.uri().path().chars().take(LONGEST_PATH).collect();
    let response = next.run(request).await;
    let status = response.status();
    let outcome = match status.as_u16() {
        401 | 403 | 429 => "refused",
        400.. => "failed",
        _ => "done",
    };
    let made = response.headers().get(header::LOCATION);
    let (who, kind) = actor.get();
    app.audit.write(Entry {
        number: 0,
        at: time::rfc3339_ms(i64::try_from(clock::unix_ms()).unwrap_or(0)),
        who,
        kind: kind.to_owned(),
        from: from.to_canonical().to_string(),
        method,
        camera: camera(route.as_str(), &path),
        route: route.as_str().to_owned(),
        path,
        made: made.and_then(|made| Some(made.to_str().ok()?.chars().take(LONGEST_PATH).collect())),
        status: status.as_u16(),
        outcome: outcome.to_owned(),
        left_out: 0,
    });
    response
}

/// What stands in the path where the route has `{camera}`.
fn camera(route: &str, path: &str) -> Option<String> {
    let mut parts = route.split('/').zip(path.split('/'));
    parts.find_map(|(name, value)| (name == "{camera}").then(|| value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, outcome: &str) -> Entry {
        Entry {
            number: 0,
            at: String::new(),
            who: "anna".into(),
            kind: "user".into(),
            from: "192.0.2.1".into(),
            method: "POST".into(),
            route: String::new(),
            path: path.into(),
            camera: None,
            made: None,
            status: 200,
            outcome: outcome.into(),
            left_out: 0,
        }
    }

    #[test]
    fn what_was_written_is_read_back_newest_first_and_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path()).unwrap();
        for number in 1..=5 {
            audit.write(entry(&format!("/{number}"), "done"));
        }
        drop(audit);
        // A crash in the middle of a line.
        let path = folder.path().join(FILE);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"number\": 6, \"at").unwrap();
        let audit = Audit::new(folder.path()).unwrap();
        audit.write(entry("/6", "done"));
        drop(audit);
        let audit = Audit::new(folder.path()).unwrap();
        let of = |before, most| -> Vec<_> {
            let found = audit.read(before, most);
            found
                .iter()
                .map(|entry| (entry.number, entry.path.clone()))
                .collect()
        };
        assert_eq!(of(None, 2), [(6, "/6".into()), (5, "/5".into())]);
        assert_eq!(of(Some(2), 10), [(1, "/1".into())]);
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn files_are_bounded_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut open = None;
        let mut number = 0;
        let long = "x".repeat(60_000);
        while !older_path(&path, OLDER).exists() || number % 100 != 0 {
            number += 1;
            let line = Entry {
                number,
                ..entry(&long, "done")
            };
            write_one(&path, &mut open, &line).unwrap();
        }
        let files = std::fs::read_dir(folder.path()).unwrap();
        let sizes: Vec<u64> = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), OLDER as usize + 1);
        assert!(sizes.iter().all(|size| *size <= LONGEST_FILE), "{sizes:?}");
        assert_eq!(last_number(&path), number);
    }

    #[test]
    fn a_flood_of_refused_requests_pushes_nothing_out() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path()).unwrap();
        for _ in 0..3 * REFUSED {
            audit.write(entry("/refused", "refused"));
        }
        audit.write(entry("/done", "done"));
        drop(audit);
        let audit = Audit::new(folder.path()).unwrap();
        let found = audit.read(None, 1000);
        assert_eq!(found.len() as u64, REFUSED + 1);
        assert_eq!(found[0].path, "/done");
    }

    #[test]
    fn the_camera_is_the_part_of_the_path_that_names_it() {
        let route = "/api/v1/cameras/{camera}/start";
        assert_eq!(
            camera(route, "/api/v1/cameras/door/start"),
            Some("door".into())
        );
        assert_eq!(camera("/api/v1/session", "/api/v1/session"), None);
    }
}
