//! Minute files as their one writer sees them: appended to, cut off after a crash, gone on with.
//!
//! fsync: a finished minute is flushed to the disk, data before index, and so is an init segment before
//! the first file that needs it. A process that is killed loses nothing committed; a power cut may cost
//! the open minute.
#![deny(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::index_file::{Chunk, ChunkFlags, HEADER_BYTES, Header, IndexReader};
use super::name::{FileName, InitId, MOST_NUMBER};
use super::tree::Rendition;

/// Held by the one process that writes a rendition; released when it ends, however it ends. The file
/// also keeps the rendition's numbers, for when every other file has been deleted.
#[derive(Debug)]
pub struct Lock(File);

/// Numbers of a rendition that are free, should its newest file have been deleted: none smaller may be
/// used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The first segment of the newest file. If that file is there, its own numbers hold.
    pub newest_file: u64,
    /// For the next segment.
    pub media_sequence: u64,
    /// For the next file.
    pub discontinuity_sequence: u64,
}

impl Numbers {
    /// More segments than any file has: a number kept while a file is open is so far ahead.
    pub const MOST_IN_A_FILE: u64 = 1000;
    const BYTES: usize = 28;
}

impl Lock {
    /// Makes the rendition's folder, where needed, and takes it.
    ///
    /// # Errors
    /// `WouldBlock`: another process has it. Otherwise the kernel's answer.
    pub fn take(rendition: &Rendition) -> io::Result<Self> {
        fs::create_dir_all(&rendition.folder)?;
        let path = rendition.folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }

    /// What was kept last; zeros where nothing readable was.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn numbers(&self) -> io::Result<Numbers> {
        let mut bytes = [0; Numbers::BYTES];
        if super::index_file::read_at(&self.0, &mut bytes, 0)? < bytes.len() {
            return Ok(Numbers::default());
        }
        let (numbers, crc) = bytes.split_at(24);
        if crc != crc32fast::hash(numbers).to_le_bytes() {
            return Ok(Numbers::default());
        }
        let number = |at: usize| {
            let bytes = numbers.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let all = [number(0), number(8), number(16)];
        if all.iter().any(|number| *number > MOST_NUMBER) {
            return Ok(Numbers::default());
        }
        let [newest_file, media_sequence, discontinuity_sequence] = all;
        Ok(Numbers {
            newest_file,
            media_sequence,
            discontinuity_sequence,
        })
    }

    /// Keeps numbers.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn keep_numbers(&self, numbers: Numbers) -> io::Result<()> {
        let mut bytes = [0; Numbers::BYTES];
        bytes[..8].copy_from_slice(&numbers.newest_file.to_le_bytes());
        bytes[8..16].copy_from_slice(&numbers.media_sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&numbers.discontinuity_sequence.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// Where a writer goes on, after [`recover`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// For the next segment: no smaller one is free.
    pub media_sequence: u64,
    /// For the next file, which is after a break; 0 where nothing was recorded before.
    pub discontinuity_sequence: u64,
    /// Bytes of chunks that were not committed, and cut off.
    pub cut: u64,
    /// The first segment of the newest file there was.
    pub newest_file: Option<u64>,
}

impl Resumed {
    /// With the numbers kept in the lock, where the newest file is gone.
    #[must_use]
    pub fn or_later(self, kept: Numbers) -> Self {
        if self
            .newest_file
            .is_some_and(|file| file >= kept.newest_file)
        {
            return self;
        }
        Self {
            media_sequence: self.media_sequence.max(kept.media_sequence),
            discontinuity_sequence: (self.discontinuity_sequence).max(kept.discontinuity_sequence),
            ..self
        }
    }
}

/// Puts the newest minute file of a rendition in order after a writer's death: cuts off what has no
/// record, ends the open segment, removes a file without a chunk. Only for whoever holds the [`Lock`].
///
/// # Errors
/// The kernel's answer.
pub fn recover(rendition: &Rendition) -> io::Result<Resumed> {
    let (resumed, tail) = recover_open(rendition)?;
    if let Some(mut tail) = tail {
        tail.file.end_segment()?;
        tail.file.finish()?;
    }
    Ok(resumed)
}

/// The newest minute file after [`recover_open`], as its writer left it: to be gone on with, or ended.
#[derive(Debug)]
pub struct Tail {
    /// Behind its last whole chunk.
    pub file: MinuteFile,
    /// The last chunk with pictures.
    pub last: Chunk,
    /// Whether that chunk's segment is still open.
    pub open: bool,
    /// Decoding time of the file's first chunk.
    pub file_start: i64,
    /// Decoding time of the last segment's first chunk.
    pub segment_start: i64,
    /// As in the file's name.
    pub name: FileName,
}

/// As [`recover`], but leaves it to the caller to go on with the file or to end it.
///
/// # Errors
/// The kernel's answer.
pub fn recover_open(rendition: &Rendition) -> io::Result<(Resumed, Option<Tail>)> {
    let mut resumed = Resumed::default();
    let mut newest: Option<FileName> = None;
    // By media sequence, not by hour: the clock may have been set back.
    for hour in rendition.hours()? {
        for name in hour.files()? {
            if newest.is_none_or(|newest| newest.media_sequence <= name.media_sequence) {
                newest = Some(name);
            }
        }
    }
    let Some(name) = newest else {
        return Ok((resumed, None));
    };
    resumed.newest_file = Some(name.media_sequence);
    resumed.media_sequence = name.media_sequence;
    resumed.discontinuity_sequence = name.discontinuity_sequence;
    let (data, index) = (rendition.data(&name), rendition.index(&name));
    let mut reader = match IndexReader::open(&index) {
        Ok(reader) => reader,
        // Killed before the first record: nothing was published. Its numbers are free.
        Err(super::IndexError::Header(_)) => {
            return remove(&data, &index).map(|()| (resumed, None));
        }
        Err(super::IndexError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return remove(&data, &index).map(|()| (resumed, None));
        }
        Err(super::IndexError::Io(error)) => return Err(error),
    };
    let on_disk = fs::metadata(&data)?.len();
    let mut chunks = reader.next_chunks()?;
    // Viewers may have seen all that it names, also what a power cut has taken since: no number twice.
    if let Some(told) = chunks.last() {
        resumed.media_sequence = told.media_sequence.saturating_add(1);
        resumed.discontinuity_sequence = name.discontinuity_sequence.saturating_add(1);
    }
    // After a power cut the index may be ahead of the media.
    let whole = chunks
        .iter()
        .take_while(|chunk| chunk.offset.saturating_add(u64::from(chunk.len)) <= on_disk);
    let count = whole.count();
    chunks.truncate(count);
    let pictures = chunks.iter().rfind(|chunk| !chunk.frames.is_empty());
    let (Some(end), Some(last), Some(first)) = (chunks.last(), pictures, chunks.first()) else {
        return remove(&data, &index).map(|()| (resumed, None));
    };
    let committed = end.offset + u64::from(end.len);
    resumed.cut = on_disk.saturating_sub(committed);
    let kept: u64 = chunks
        .iter()
        .map(|chunk| chunk.encode(reader.header()).len() as u64)
        .sum();
    let segment = chunks
        .iter()
        .find(|c| c.media_sequence == last.media_sequence);
    let (index_len, open) = (HEADER_BYTES as u64 + kept, |path: &Path| {
        OpenOptions::new().write(true).open(path)
    });
    let file = MinuteFile {
        data: open(&data)?,
        index: open(&index)?,
        data_path: data,
        index_path: index,
        header: *reader.header(),
        data_len: committed,
        index_len,
        last: Some(end.clone()),
    };
    file.data.set_len(committed)?;
    file.index.set_len(index_len)?;
    let tail = Tail {
        open: !end.flags.contains(ChunkFlags::SEGMENT_END),
        file_start: first.decode_time,
        segment_start: segment.map_or(last.decode_time, |chunk| chunk.decode_time),
        last: last.clone(),
        file,
        name,
    };
    Ok((resumed, Some(tail)))
}

fn remove(data: &Path, index: &Path) -> io::Result<()> {
    for path in [data, index] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The record that ends a segment after its last chunk was written.
fn end_of(last: &Chunk) -> Chunk {
    Chunk {
        media_sequence: last.media_sequence,
        part: last.part.saturating_add(1),
        flags: ChunkFlags::SEGMENT_END,
        offset: last.offset + u64::from(last.len),
        len: 0,
        decode_time: last.decode_time.saturating_add(last.duration.into()),
        duration: 0,
        frames: Vec::new(),
    }
}

/// Writes an init segment, if it is not there, and returns its name.
///
/// # Errors
/// The kernel's answer.
pub fn write_init(rendition: &Rendition, init: &[u8]) -> io::Result<InitId> {
    let id = InitId::of(init);
    let path = rendition.init(id);
    // Touched: one that is about to be needed must not look forgotten to who deletes those.
    let touch = |path: &Path| -> io::Result<bool> {
        let there = OpenOptions::new().write(true).open(path)?;
        there.set_modified(std::time::SystemTime::now())?;
        Ok(there.metadata()?.len() == init.len() as u64)
    };
    if touch(&path).is_ok_and(|whole| whole) {
        return Ok(id);
    }
    // Whole or not at all, also for who reads it at this moment.
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(init)?;
    file.sync_data()?;
    fs::rename(&part, &path)?;
    Ok(id)
}

/// An open minute file.
#[derive(Debug)]
pub struct MinuteFile {
    data: File,
    index: File,
    data_path: PathBuf,
    index_path: PathBuf,
    header: Header,
    data_len: u64,
    index_len: u64,
    last: Option<Chunk>,
}

impl MinuteFile {
    /// Makes the files, and the hour's folder where needed. `start_ms`: UTC of the first picture.
    ///
    /// # Errors
    /// The kernel's answer; nothing is left then.
    pub fn create(rendition: &Rendition, start_ms: i64, header: Header) -> io::Result<Self> {
        let name = FileName {
            start_ms,
            media_sequence: header.media_sequence,
            discontinuity_sequence: header.discontinuity_sequence,
            init: header.init,
        };
        let (data_path, index_path) = (rendition.data(&name), rendition.index(&name));
        fs::create_dir_all(rendition.folder.join(name.hour()))?;
        let made = (|| {
            let data = File::create(&data_path)?;
            let index = File::create(&index_path)?;
            index.write_all_at(&header.encode(), 0)?;
            Ok((data, index))
        })();
        let (data, index) = match made {
            Ok(files) => files,
            Err(error) => {
                // Nothing to add to the first error.
                let _ = remove(&data_path, &index_path);
                return Err(error);
            }
        };
        Ok(Self {
            data,
            index,
            data_path,
            index_path,
            header,
            data_len: 0,
            index_len: HEADER_BYTES as u64,
            last: None,
        })
    }

    /// Whether both files have still their names.
    pub fn is_there(&self) -> bool {
        [
            (&self.data, &self.data_path),
            (&self.index, &self.index_path),
        ]
        .into_iter()
        .all(|(file, path)| match (file.metadata(), fs::metadata(path)) {
            (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
            // A disk that does not answer says so when it is written to.
            (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), _) => true,
        })
    }

    /// What its chunks have in common.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of media committed.
    pub fn len(&self) -> u64 {
        self.data_len
    }

    /// Whether no chunk has been committed.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Writes a chunk's bytes, then its record. `chunk.offset` and `chunk.len` are set here.
    ///
    /// # Errors
    /// The kernel's answer (a full disk); the file is as before then, and the next try may succeed.
    pub fn append(&mut self, bytes: &[u8], mut chunk: Chunk) -> io::Result<()> {
        chunk.offset = self.data_len;
        chunk.len = u32::try_from(bytes.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a chunk above 4 GiB"))?;
        // At fixed places: what a failed try has left is overwritten by the next, and never counted.
        self.data.write_all_at(bytes, self.data_len)?;
        self.record(&chunk)?;
        self.data_len += bytes.len() as u64;
        self.last = Some(chunk);
        Ok(())
    }

    /// Ends the open segment, where its last chunk did not say so: a gap, the end of a recording.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn end_segment(&mut self) -> io::Result<()> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        if last.flags.contains(ChunkFlags::SEGMENT_END) {
            return Ok(());
        }
        let end = end_of(last);
        self.record(&end)?;
        self.last = Some(end);
        Ok(())
    }

    /// Flushes both files to the disk, media first. One without a chunk is removed instead.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn finish(self) -> io::Result<()> {
        if self.is_empty() {
            return remove(&self.data_path, &self.index_path);
        }
        // A failed try may have left more than is committed.
        self.data.set_len(self.data_len)?;
        self.data.sync_data()?;
        self.index.set_len(self.index_len)?;
        self.index.sync_data()
    }

    fn record(&mut self, chunk: &Chunk) -> io::Result<()> {
        let record = chunk.encode(&self.header);
        self.index.write_all_at(&record, self.index_len)?;
        self.index_len += record.len() as u64;
        Ok(())
    }
}
