//! The folders, listed. What has no name of ours is passed over: other programs' files, `lost+found`.
#![deny(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::name::{DATA_ENDING, FileName, InitId, stream_folder, stream_of};

/// All recordings: `DATA_DIR/recordings`.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

/// A stream's rendition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rendition {
    /// `front-door/main`
    pub stream: String,
    /// `source`, `720p`
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// An hour of a rendition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour {
    /// `20261121T08`
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

impl Tree {
    /// Below the site's `data_dir`. Need not be there.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("recordings"),
        }
    }

    /// `DATA_DIR/recordings`
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where everything of a stream lies, there or not, and nothing of another.
    pub fn stream(&self, stream: &str) -> PathBuf {
        self.root.join(stream_folder(stream))
    }

    /// The folder of a stream's rendition, there or not. `rendition` must be one of ours:
    /// [`is_rendition`].
    pub fn rendition(&self, stream: &str, rendition: &str) -> Rendition {
        Rendition {
            stream: stream.to_owned(),
            name: rendition.to_owned(),
            folder: self.stream(stream).join(rendition),
        }
    }

    /// All that are there, in order.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn renditions(&self) -> io::Result<Vec<Rendition>> {
        let mut found = Vec::new();
        for folder in names(&self.root)? {
            let Some(stream) = stream_of(&folder) else {
                continue;
            };
            let below = self.root.join(&folder);
            for name in names(&below)?.into_iter().filter(|name| is_rendition(name)) {
                found.push(Rendition {
                    stream: stream.clone(),
                    folder: below.join(&name),
                    name,
                });
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Whether a rendition can be called this: 1 to 32 of `[a-z0-9]`.
pub fn is_rendition(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&name.len()) && name.bytes().all(known)
}

impl Rendition {
    /// What the camera sends, unchanged.
    pub const SOURCE: &str = "source";

    /// Its hours, oldest first by name. After a clock was set back, names and media sequences may
    /// disagree; sort files by [`FileName::media_sequence`] where that matters.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn hours(&self) -> io::Result<Vec<Hour>> {
        let is_hour = |name: &String| {
            let bytes = name.as_bytes();
            bytes.len() == 11
                && bytes[8] == b'T'
                && (bytes.iter().enumerate()).all(|(at, byte)| at == 8 || byte.is_ascii_digit())
        };
        let mut hours: Vec<Hour> = names(&self.folder)?
            .into_iter()
            .filter(is_hour)
            .map(|name| Hour {
                folder: self.folder.join(&name),
                name,
            })
            .collect();
        hours.sort();
        Ok(hours)
    }

    /// Where its init segment lies.
    pub fn init(&self, id: InitId) -> PathBuf {
        self.folder.join(id.file_name())
    }

    /// Where a minute's media lies.
    pub fn data(&self, name: &FileName) -> PathBuf {
        self.folder.join(name.hour()).join(name.data())
    }

    /// Where a minute's index lies.
    pub fn index(&self, name: &FileName) -> PathBuf {
        self.folder.join(name.hour()).join(name.index())
    }
}

impl Hour {
    /// Its minute files, in order of their media sequence. One without its index counts, until
    /// [`super::recover`] has removed it.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn files(&self) -> io::Result<Vec<FileName>> {
        let mut files: Vec<FileName> = names(&self.folder)?
            .iter()
            .filter(|name| name.ends_with(DATA_ENDING))
            .filter_map(|name| FileName::of_file(name))
            .filter(|name| name.hour() == self.name)
            .collect();
        files.sort_by_key(|name| (name.media_sequence, name.start_ms));
        Ok(files)
    }
}

/// The entries of a folder that have UTF-8 names; none if it is not there, or is somebody's file.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            found.push(name);
        }
    }
    Ok(found)
}
