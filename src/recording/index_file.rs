//! A minute file's index: a header, then one record for each chunk, in little endian, each with a CRC.
//!
//! ```text
//! header  magic "CAMRIDX1", timescale u32, flags u32, media sequence u64, discontinuity sequence u64,
//!         init u64, anchor time i64, anchor UTC i64 (ns), part target u32 (µs), segment target u32 (µs),
//!         CRC-32 u32                                                                          68 bytes
//! record  mark u16, flags u16, frames u16, reserved u16, media sequence u64, part u32, length u32,
//!         offset u64, decode time i64, duration u32                                           44 bytes
//!         frames × (time − decode time i32, UTC − map(time) i32 in µs, flags u32),  CRC-32 u32
//! ```
#![deny(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::name::{InitId, MOST_NUMBER};

const MAGIC: [u8; 8] = *b"CAMRIDX1";
pub(super) const HEADER_BYTES: usize = 68;
const MARK: u16 = 0xCA4D;
const RECORD_BYTES: usize = 44;
const FRAME_BYTES: usize = 12;
/// The most pictures in one chunk: more than any camera sends in the longest part.
pub const MAX_FRAMES: usize = 4096;
/// How much of an index file is read at a time.
const READ_BYTES: usize = 256 << 10;

/// An index file that is none.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The kernel's answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its beginning is not an index's, or of another version.
    #[error("not the index of a recording: {0}")]
    Header(&'static str),
}

/// What all chunks of a minute file have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Units of media time per second, not 0.
    pub timescale: u32,
    /// UTC comes from the camera's sender reports; else from arrival.
    pub sender_report: bool,
    /// Of the first segment.
    pub media_sequence: u64,
    /// How many breaks came before.
    pub discontinuity_sequence: u64,
    /// What stands before the chunks.
    pub init: InitId,
    /// The map from media time to UTC: this media time …
    pub anchor_time: i64,
    /// … is this UTC, in ns since the Unix epoch.
    pub anchor_utc_ns: i64,
    /// The longest a chunk may be, in µs: `PART-TARGET`.
    pub part_target_us: u32,
    /// How long segments are meant to be, in µs.
    pub segment_target_us: u32,
}

impl Header {
    /// UTC of a media time, in ns since the Unix epoch.
    pub fn utc_ns(&self, time: i64) -> i64 {
        let ticks = i128::from(time) - i128::from(self.anchor_time);
        let ns = ticks * 1_000_000_000 / i128::from(self.timescale.max(1));
        let utc = i128::from(self.anchor_utc_ns) + ns;
        i64::try_from(utc).unwrap_or(if utc < 0 { i64::MIN } else { i64::MAX })
    }

    /// Media time of a UTC: the inverse of [`Header::utc_ns`].
    pub fn time(&self, utc_ns: i64) -> i64 {
        let ns = i128::from(utc_ns) - i128::from(self.anchor_utc_ns);
        let time = i128::from(self.anchor_time)
            + (ns * i128::from(self.timescale)).div_euclid(1_000_000_000);
        i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.timescale.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.sender_report).to_le_bytes());
        bytes.extend_from_slice(&self.media_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.discontinuity_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.init.0.to_le_bytes());
        bytes.extend_from_slice(&self.anchor_time.to_le_bytes());
        bytes.extend_from_slice(&self.anchor_utc_ns.to_le_bytes());
        bytes.extend_from_slice(&self.part_target_us.to_le_bytes());
        bytes.extend_from_slice(&self.segment_target_us.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header[..bytes.len()].copy_from_slice(&bytes);
        header
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut at = Cursor(bytes);
        if at.take::<8>() != Some(MAGIC) {
            return Err(IndexError::Header("it begins otherwise"));
        }
        let read = (|| {
            Some(Self {
                timescale: at.u32()?,
                sender_report: at.u32()? & 1 != 0,
                media_sequence: at.u64()?,
                discontinuity_sequence: at.u64()?,
                init: InitId(at.u64()?),
                anchor_time: at.u64()? as i64,
                anchor_utc_ns: at.u64()? as i64,
                part_target_us: at.u32()?,
                segment_target_us: at.u32()?,
            })
        })();
        let header = read.ok_or(IndexError::Header("it is cut off"))?;
        let covered = bytes.len() - at.0.len();
        match at.u32() {
            Some(crc) if crc == crc32fast::hash(&bytes[..covered]) => {}
            _ => return Err(IndexError::Header("its checksum is wrong")),
        }
        let number = header.media_sequence.max(header.discontinuity_sequence);
        match header.timescale {
            0 => Err(IndexError::Header("no time base")),
            _ if number > MOST_NUMBER => Err(IndexError::Header("a number out of range")),
            _ => Ok(header),
        }
    }
}

/// What is to be known about a chunk; bits, part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ChunkFlags(pub u16);

impl ChunkFlags {
    /// Begins with a key frame: `INDEPENDENT=YES`.
    pub const INDEPENDENT: Self = Self(1);
    /// First of its segment.
    pub const SEGMENT_START: Self = Self(2);
    /// Last of its segment. A record without pictures and bytes ends the segment of the one before.
    pub const SEGMENT_END: Self = Self(4);
    /// Access units are missing before it.
    pub const LOSS_BEFORE: Self = Self(8);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for ChunkFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is to be known about a picture; bits, part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FrameFlags(pub u32);

impl FrameFlags {
    /// Decoding can start here.
    pub const KEY: Self = Self(1);
}

/// When a picture was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTime {
    /// Presentation time in the file, in units of the timescale.
    pub time: i64,
    /// Its own capture time, exactly as frames in the ring carry it but for fractions of a µs; UTC in
    /// ns since the Unix epoch. The file's map may be some ms off.
    pub capture_ns: i64,
    /// See [`FrameFlags`].
    pub flags: FrameFlags,
}

/// One `moof` and `mdat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of its segment.
    pub media_sequence: u64,
    /// Its place in the segment, from 0.
    pub part: u32,
    /// See [`ChunkFlags`].
    pub flags: ChunkFlags,
    /// Of its first byte in the media file.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// `baseMediaDecodeTime` of the video track.
    pub decode_time: i64,
    /// Until the next chunk's, in units of the timescale.
    pub duration: u32,
    /// Its pictures, in decoding order.
    pub frames: Vec<FrameTime>,
}

impl Chunk {
    /// Bytes of its record in the index file.
    pub fn record_len(&self) -> usize {
        RECORD_BYTES + FRAME_BYTES * self.frames.len() + 4
    }

    /// Presentation time of the picture that is seen first; without pictures, the decoding time.
    pub fn first_time(&self) -> i64 {
        let times = self.frames.iter().map(|frame| frame.time);
        times.min().unwrap_or(self.decode_time)
    }

    pub(crate) fn encode(&self, header: &Header) -> Vec<u8> {
        let frames = &self.frames[..self.frames.len().min(MAX_FRAMES)];
        let mut bytes = Vec::with_capacity(RECORD_BYTES + FRAME_BYTES * frames.len() + 4);
        bytes.extend_from_slice(&MARK.to_le_bytes());
        bytes.extend_from_slice(&self.flags.0.to_le_bytes());
        // At most MAX_FRAMES.
        bytes.extend_from_slice(&(frames.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        bytes.extend_from_slice(&self.media_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.part.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.decode_time.to_le_bytes());
        bytes.extend_from_slice(&self.duration.to_le_bytes());
        let small = |wide: i64| wide.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        for frame in frames {
            let shift = small(frame.time.saturating_sub(self.decode_time));
            let off = frame.capture_ns.saturating_sub(header.utc_ns(frame.time));
            let off_us = small(off.saturating_add(500).div_euclid(1000));
            bytes.extend_from_slice(&shift.to_le_bytes());
            bytes.extend_from_slice(&off_us.to_le_bytes());
            bytes.extend_from_slice(&frame.flags.0.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The record that `bytes` begin with, and its length. `None`: not whole, or none.
    fn decode(bytes: &[u8], header: &Header) -> Option<(Self, usize)> {
        let mut at = Cursor(bytes);
        if u16::from_le_bytes(at.take()?) != MARK {
            return None;
        }
        let flags = ChunkFlags(u16::from_le_bytes(at.take()?));
        let count = usize::from(u16::from_le_bytes(at.take()?));
        at.take::<2>()?;
        let len = RECORD_BYTES + FRAME_BYTES * count;
        let crc = bytes.get(len..len + 4)?;
        if count > MAX_FRAMES || crc != crc32fast::hash(&bytes[..len]).to_le_bytes() {
            return None;
        }
        let mut chunk = Self {
            flags,
            media_sequence: at.u64()?,
            part: at.u32()?,
            len: at.u32()?,
            offset: at.u64()?,
            decode_time: at.u64()? as i64,
            duration: at.u32()?,
            frames: Vec::with_capacity(count),
        };
        // Written by nobody of ours; so sums with any of them have room.
        let far = chunk.decode_time.unsigned_abs() > i64::MAX.unsigned_abs() / 4;
        if chunk.media_sequence > 2 * MOST_NUMBER || chunk.part == u32::MAX || far {
            return None;
        }
        for _ in 0..count {
            let shift = i64::from(at.u32()? as i32);
            let off_us = i64::from(at.u32()? as i32);
            let time = chunk.decode_time.saturating_add(shift);
            chunk.frames.push(FrameTime {
                time,
                capture_ns: header.utc_ns(time).saturating_add(off_us * 1000),
                flags: FrameFlags(at.u32()?),
            });
        }
        Some((chunk, len + 4))
    }
}

/// Reads an index file as it grows. Never waits.
#[derive(Debug)]
pub struct IndexReader {
    file: File,
    header: Header,
    position: u64,
}

impl IndexReader {
    /// Opens an index file.
    ///
    /// # Errors
    /// It is not there, or its header is none (a writer that was killed leaves less than one).
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let file = File::open(path)?;
        let mut bytes = [0; HEADER_BYTES];
        let read = read_at(&file, &mut bytes, 0)?;
        Ok(Self {
            header: Header::decode(&bytes[..read])?,
            file,
            position: HEADER_BYTES as u64,
        })
    }

    /// What its chunks have in common.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Goes on at `position`, where a record begins: read from [`IndexReader::position`] before. Anywhere
    /// else nothing is found.
    pub fn seek(&mut self, position: u64) {
        self.position = position.max(HEADER_BYTES as u64);
    }

    /// As [`IndexReader::next_chunks`], but only of the next `bytes` of the file, at most 1 MiB.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn chunks_within(&mut self, bytes: usize) -> io::Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut buffer = vec![0; bytes.min(1 << 20)];
        self.read(&mut buffer, &mut chunks)?;
        Ok(chunks)
    }

    /// One reading; how much was read, and how much of it was whole records.
    fn read(&mut self, buffer: &mut [u8], chunks: &mut Vec<Chunk>) -> io::Result<(usize, usize)> {
        let read = read_at(&self.file, buffer, self.position)?;
        let mut used = 0;
        while let Some((chunk, len)) = Chunk::decode(&buffer[used..read], &self.header) {
            chunks.push(chunk);
            used += len;
        }
        self.position += used as u64;
        Ok((read, used))
    }

    /// Where the next record begins: behind the last whole one.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The chunks that came since the last call, whose bytes are all in the media file. What is not a
    /// whole record yet is left for the next call.
    ///
    /// # Errors
    /// The kernel's answer. What was read before is returned by the next call.
    pub fn next_chunks(&mut self) -> io::Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let (read, used) = self.read(&mut buffer, &mut chunks)?;
            // The longest record is far shorter than the buffer: nothing more is whole.
            if used == 0 || read < buffer.len() {
                return Ok(chunks);
            }
        }
    }
}

/// Fills as much of the buffer as there is.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
