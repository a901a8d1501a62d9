//! What people have said about recordings: ranges to protect, titles. `DATA_DIR/library.json`.
//!
//! A file and not a table, since retention must know what is protected also when no database can be read,
//! and since it cannot be rebuilt from the recordings: it is written anew as a whole with each change, and
//! easily kept or edited by hand.
//!
//! Promises: a change is on the disk, or refused; a kill leaves the old or the new file, and what is answered
//! from is what the file says. A file that cannot be read is never overwritten, and nothing is deleted
//! meanwhile.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Problem;
use super::retention::Protected;

/// The most ranges of a site.
pub const MAX_PROTECTIONS: usize = 1000;
/// The most titles of a site: more than it has cameras.
const MAX_TITLES: usize = 1000;
/// The longest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// A range of a camera's recording that is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// Names it.
    pub id: String,
    /// Whose recording.
    pub camera: String,
    /// For people.
    pub name: String,
    /// UTC in ns since the Unix epoch.
    pub from_ns: i64,
    /// The end, not included.
    pub to_ns: i64,
    /// When it was made.
    pub created_ns: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    protections: Vec<Protection>,
    /// By camera.
    #[serde(default)]
    titles: BTreeMap<String, String>,
}

/// The file and what it says. Any thread may call anything; changes block on the disk.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    content: Mutex<Result<Content, String>>,
    /// Puts a folder's names on the disk.
    sync_folder: fn(&Path) -> io::Result<()>,
}

impl Library {
    /// Reads it, if it is there.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join("library.json");
        let content = Mutex::new(read(&path));
        Self {
            path,
            content,
            sync_folder: |folder| File::open(folder)?.sync_all(),
        }
    }

    /// What retention must leave alone.
    ///
    /// # Errors
    /// The file cannot be read: what is wrong with it. It is tried again at each call.
    pub fn protected(&self) -> Result<Protected, String> {
        let mut content = self.lock();
        if content.is_err() {
            *content = read(&self.path);
        }
        let ranges = content.as_ref().map_err(Clone::clone)?.protections.iter();
        Ok(Protected::new(ranges.map(|range| {
            let to_ms = range.to_ns.saturating_add(999_999).div_euclid(1_000_000);
            let from_ms = range.from_ns.div_euclid(1_000_000);
            (range.camera.clone(), from_ms, to_ms)
        })))
    }

    /// A camera's ranges, in order of time; of all cameras without one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn protections(&self, camera: Option<&str>) -> Result<Vec<Protection>, Problem> {
        let content = self.lock();
        let all = &content.as_ref().map_err(damaged)?.protections;
        let of = |range: &&Protection| camera.is_none_or(|camera| range.camera == camera);
        let mut found: Vec<Protection> = all.iter().filter(of).cloned().collect();
        found.sort_by(|a, b| (a.from_ns, a.to_ns, &a.id).cmp(&(b.from_ns, b.to_ns, &b.id)));
        Ok(found)
    }

    /// What a camera's recording is called, where it was given a title.
    pub fn title(&self, camera: &str) -> Option<String> {
        let content = self.lock();
        content.as_ref().ok()?.titles.get(camera).cloned()
    }

    /// The cameras with titles or protected ranges.
    pub fn cameras(&self) -> Vec<String> {
        let content = self.lock();
        let Ok(content) = content.as_ref() else {
            return Vec::new();
        };
        let ranges = content.protections.iter().map(|range| &range.camera);
        let mut names: Vec<String> = ranges.chain(content.titles.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// Adds a range.
    ///
    /// # Errors
    /// Too many; the file cannot be read or written.
    pub fn protect(&self, range: Protection) -> Result<(), Problem> {
        self.change(|content| {
            if content.protections.len() >= MAX_PROTECTIONS {
                return Err(Problem::new(
                    axum::http::StatusCode::CONFLICT,
                    "too-many-protections",
                    "Too many protected ranges",
                    format!(
                        "there are {MAX_PROTECTIONS} already: remove some, or protect longer ranges"
                    ),
                ));
            }
            content.protections.push(range);
            Ok(())
        })
    }

    /// Changes a range; returns it as it is then.
    ///
    /// # Errors
    /// There is none of that id at that camera; what `change` says; the file.
    pub fn edit(
        &self,
        camera: &str,
        id: &str,
        change: impl FnOnce(&mut Protection) -> Result<(), Problem>,
    ) -> Result<Protection, Problem> {
        self.change(|content| {
            let mut all = content.protections.iter_mut();
            let range = all
                .find(|range| range.id == id && range.camera == camera)
                .ok_or_else(|| unknown(camera, id))?;
            change(range)?;
            Ok(range.clone())
        })
    }

    /// Removes a range: what it covered is deleted when its time comes.
    ///
    /// # Errors
    /// There is none of that id at that camera; the file.
    pub fn unprotect(&self, camera: &str, id: &str) -> Result<(), Problem> {
        self.change(|content| {
            let before = content.protections.len();
            let is = |range: &Protection| range.id == id && range.camera == camera;
            content.protections.retain(|range| !is(range));
            match content.protections.len() == before {
                true => Err(unknown(camera, id)),
                false => Ok(()),
            }
        })
    }

    /// Names a camera's recording; `None`: it has the camera's name again.
    ///
    /// # Errors
    /// The file; too many titles.
    pub fn rename(&self, camera: &str, title: Option<String>) -> Result<(), Problem> {
        self.change(|content| {
            match title {
                None => {
                    content.titles.remove(camera);
                }
                Some(title) => {
                    if content.titles.len() >= MAX_TITLES && !content.titles.contains_key(camera) {
                        return Err(Problem::new(
                            axum::http::StatusCode::CONFLICT,
                            "too-many-titles",
                            "Too many titles",
                            format!("{MAX_TITLES} recordings have titles already: remove some"),
                        ));
                    }
                    content.titles.insert(camera.to_owned(), title);
                }
            }
            Ok(())
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut content = self.lock();
        let mut new = content.as_ref().map_err(damaged)?.clone();
        let result = change(&mut new)?;
        write(&self.path, &new).map_err(|error| {
            tracing::error!("{}: {error}", self.path.display());
            Problem::unavailable(
                "not-saved",
                "Not saved",
                format!(
                    "the change could not be written to the disk ({error}); nothing was changed"
                ),
            )
        })?;
        // The file has it now, whatever comes.
        *content = Ok(new);
        let synced = self.path.parent().map_or(Ok(()), self.sync_folder);
        synced.map_err(|error| {
            tracing::error!("{}: the folder: {error}", self.path.display());
            Problem::unavailable(
                "not-synced",
                "Changed, but perhaps not for good",
                format!(
                    "the change is made, but the disk does not confirm the file's new name ({error}): a \
                     power cut may undo it"
                ),
            )
        })?;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Result<Content, String>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(camera: &str, id: &str) -> Problem {
    let shown: String = id.chars().take(64).collect();
    Problem::not_found(
        "unknown-protection",
        "Unknown protected range",
        format!("{camera} has no protected range {shown:?}; GET its protections for those it has"),
    )
}

fn damaged(text: &String) -> Problem {
    Problem::internal(format!("what is protected cannot be read: {text}"))
}

/// Paths stay in the log.
fn read(path: &Path) -> Result<Content, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(format!("library.json: {error}")),
    };
    let mut text = String::new();
    let read = file.take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("library.json: {error}"))?;
    serde_json::from_str(&text).map_err(|error| {
        format!("library.json in the data folder is damaged ({error}): mend it, or move it away")
    })
}

/// An error leaves the old file. Its new name is not on the disk for sure: the folder is to be synced.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let part = path.with_extension("json.part");
    let mut file = File::create(&part)?;
    let written = (|| {
        serde_json::to_writer_pretty(&mut file, content).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(id: &str, camera: &str) -> Protection {
        Protection {
            id: id.to_owned(),
            camera: camera.to_owned(),
            name: "a \"name\"".to_owned(),
            from_ns: 1_000_000_500,
            to_ns: 2_000_000_500,
            created_ns: 3,
        }
    }

    #[test]
    fn what_is_said_survives_and_is_found_by_camera() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        library.protect(range("a", "door")).unwrap();
        library.protect(range("b", "yard")).unwrap();
        library.rename("yard", Some("The yard".into())).unwrap();
        let library = Library::open(folder.path());
        assert_eq!(
            library.protections(Some("door")).unwrap(),
            [range("a", "door")]
        );
        assert_eq!(library.title("yard").as_deref(), Some("The yard"));
        assert_eq!(library.cameras(), ["door", "yard"]);
        // Rounded outwards.
        let protected = library.protected().unwrap();
        assert!(protected.covers("door/sub", 1000, 2001));
        let renamed = library.edit("door", "a", |range| {
            range.name = "new".into();
            Ok(())
        });
        assert_eq!(renamed.unwrap().name, "new");
        assert_eq!(
            library.edit("yard", "a", |_| Ok(())).unwrap_err().status,
            404
        );
        assert_eq!(library.unprotect("yard", "a").unwrap_err().status, 404);
        library.unprotect("door", "a").unwrap();
        library.rename("yard", None).unwrap();
        assert_eq!(Library::open(folder.path()).cameras(), ["yard"]);
    }

    #[test]
    fn a_damaged_file_protects_everything_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.json");
        fs::write(&path, "{\"protections\": [").unwrap();
        let library = Library::open(folder.path());
        assert!(library.protected().unwrap_err().contains("damaged"));
        assert_eq!(library.protect(range("a", "door")).unwrap_err().status, 500);
        assert_eq!(fs::read(&path).unwrap(), b"{\"protections\": [");
        // Mended by hand.
        fs::write(&path, "{}").unwrap();
        assert!(library.protected().unwrap().is_empty());
        library.protect(range("a", "door")).unwrap();
    }

    #[test]
    fn a_change_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        library.protect(range("a", "door")).unwrap();
        fs::create_dir(folder.path().join("library.json.part")).unwrap();
        let problem = library.unprotect("door", "a").unwrap_err();
        assert_eq!(
            (problem.status, problem.kind.as_str()),
            (503, "/problems/not-saved")
        );
        assert_eq!(library.protections(None).unwrap().len(), 1);
    }

    #[test]
    fn a_change_that_the_folder_does_not_confirm_is_made_and_said_to_be_uncertain() {
        let folder = tempfile::tempdir().unwrap();
        let mut library = Library::open(folder.path());
        library.sync_folder = |_| Err(io::ErrorKind::Other.into());
        let problem = library.protect(range("a", "door")).unwrap_err();
        assert_eq!(
            (problem.status, problem.kind.as_str()),
            (503, "/problems/not-synced")
        );
        // What is answered, what is kept and what the file says are one.
        assert_eq!(library.protections(None).unwrap(), [range("a", "door")]);
        assert!(library.protected().unwrap().touches("door", 1000, 2000));
        let again = Library::open(folder.path());
        assert_eq!(again.protections(None).unwrap(), [range("a", "door")]);
    }

    #[test]
    fn there_are_only_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path());
        let many = Content {
            protections: (0..MAX_PROTECTIONS)
                .map(|n| range(&n.to_string(), "door"))
                .collect(),
            titles: BTreeMap::new(),
        };
        *library.lock() = Ok(many);
        assert_eq!(library.protect(range("x", "door")).unwrap_err().status, 409);
    }
}
