//! Sheets of thumbnails that were made once, in `DATA_DIR/cache/storyboards`: a player asks for the same
//! one again and again.
//!
//! Promises: no more than [`MOST_BYTES`] on the disk; what cannot be kept is made again; deleting the
//! folder harms nobody. A sheet is named by what is on it, so an old one is never wrong.
#![deny(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use axum::body::Bytes;

use crate::recording::InitId;
use crate::serve::workers::Piece;
use crate::worker::protocol::Storyboard;

/// Some hundred sheets.
const MOST_BYTES: u64 = 64 << 20;

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join("storyboards")
}

/// Names a sheet by its places and by the pictures on them.
pub fn key(sheet: &Storyboard, pieces: &[Piece]) -> u64 {
    let mut text = format!("{sheet:?}");
    for piece in pieces {
        text.push_str(&format!("{:?}{}", piece.span, piece.media.display()));
    }
    InitId::of(text.as_bytes()).0
}

/// One that was kept.
pub fn get(data_dir: &Path, key: u64) -> Option<Bytes> {
    let path = folder(data_dir).join(format!("{key:016x}.jpg"));
    let bytes = fs::read(&path).ok()?;
    // The last used is the last to go. Nothing is lost where that cannot be noted.
    let _ = fs::File::options()
        .append(true)
        .open(&path)
        .and_then(|file| file.set_modified(SystemTime::now()));
    Some(Bytes::from(bytes))
}

/// Keeps one, as far as there is room.
pub fn put(data_dir: &Path, key: u64, bytes: &[u8]) {
    if let Err(error) = try_put(&folder(data_dir), key, bytes) {
        tracing::debug!("a storyboard is not kept: {error}");
    }
}

fn try_put(folder: &Path, key: u64, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    make_room(folder, bytes.len() as u64)?;
    // Whole or not at all; two that make the same one write the same bytes.
    let partial = folder.join(format!("{key:016x}.partial"));
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, folder.join(format!("{key:016x}.jpg"))))
        .inspect_err(|_| {
            let _ = fs::remove_file(&partial);
        })
}

fn make_room(folder: &Path, wanted: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        kept.push((about.modified()?, about.len(), entry.path()));
    }
    kept.sort();
    let mut total = wanted + kept.iter().map(|(_, len, _)| len).sum::<u64>();
    for (_, len, path) in kept {
        if total <= MOST_BYTES {
            break;
        }
        fs::remove_file(path)?;
        total -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let sheet = vec![7; MOST_BYTES as usize / 4];
        for key in 0..6 {
            put(folder.path(), key, &sheet);
            // Times of files must differ.
            let path = self::folder(folder.path()).join(format!("{key:016x}.jpg"));
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + key);
            let file = fs::File::options().append(true).open(path).expect("kept");
            file.set_modified(time).expect("a time");
        }
        let kept: Vec<bool> = (0..6)
            .map(|key| get(folder.path(), key).is_some_and(|bytes| bytes == sheet))
            .collect();
        assert_eq!(kept, [false, false, true, true, true, true]);
        assert_eq!(get(folder.path(), 99), None);
    }
}
