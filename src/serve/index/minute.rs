//! A minute file as the index knows it: its segments, and of the newest one also its parts.
//!
//! Made from the records of the `.idx` file, none of which is believed: a record that does not follow
//! from the one before ends the file. Segments are packed into 32 bytes for the database.
#![deny(unsafe_code)]

use crate::recording::{Chunk, ChunkFlags, FileName, Header, IndexError, IndexReader, Rendition};

/// More segments than a minute can have.
const MAX_SEGMENTS: usize = 4096;
/// More parts than a segment can have; of those that a playlist lists only.
const MAX_PARTS: usize = 4096;
/// Media times and moments that can be calculated with: far beyond any clock.
const MAX_TIME: i64 = 1 << 60;
/// The longest chunk, in seconds.
const LONGEST: u64 = 3600;
const PACKED: usize = 32;

/// A segment: chunks next to each other in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment {
    /// Of its first byte in the media file.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// Where its records begin in the index file.
    pub records: u32,
    /// `baseMediaDecodeTime` of its first chunk.
    pub time: i64,
    /// From there to the presentation of its first picture.
    pub shift: i32,
    /// In units of the timescale.
    pub duration: u32,
    /// Pictures.
    pub frames: u16,
    /// Parts.
    pub parts: u16,
    /// See [`Segment::INDEPENDENT`], [`Segment::LOSS`].
    pub flags: u8,
}

impl Segment {
    /// Begins with a key frame.
    pub const INDEPENDENT: u8 = 1;
    /// Access units are missing in it, or before it.
    pub const LOSS: u8 = 2;

    /// Presentation time of its first picture.
    pub fn shown(&self) -> i64 {
        self.time + i64::from(self.shift)
    }

    /// Decoding time of what comes behind it.
    pub fn end(&self) -> i64 {
        self.time + i64::from(self.duration)
    }
}

/// A part: one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of its first byte in the media file.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// In units of the timescale.
    pub duration: u32,
    /// Begins with a key frame.
    pub independent: bool,
}

/// A minute file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minute {
    /// What it is called.
    pub name: FileName,
    /// What its chunks have in common.
    pub header: Header,
    /// The media sequence of `segments[n]` is `name.media_sequence + n`.
    pub segments: Vec<Segment>,
    /// The last segment has not ended.
    pub open: bool,
    /// The files are not there any more; the numbers are kept so that others need not change.
    pub gone: bool,
    /// Bytes of its index file that are known.
    pub index_len: u64,
}

impl Minute {
    /// Media sequence of its first segment.
    pub fn first(&self) -> u64 {
        self.name.media_sequence
    }

    /// Media sequence behind its last segment, the open one included.
    pub fn end(&self) -> u64 {
        self.first() + self.segments.len() as u64
    }

    /// Its segments that have ended.
    pub fn whole(&self) -> &[Segment] {
        let open = usize::from(self.open).min(self.segments.len());
        &self.segments[..self.segments.len() - open]
    }

    /// The segment with this media sequence, if it has ended.
    pub fn segment(&self, media_sequence: u64) -> Option<&Segment> {
        let at = usize::try_from(media_sequence.checked_sub(self.first())?).ok()?;
        self.whole().get(at)
    }

    /// UTC of a segment's first picture by the file's map, in ns.
    pub fn start_ns(&self, segment: &Segment) -> i64 {
        self.header.utc_ns(segment.shown())
    }

    /// UTC of the end of its last picture by the file's map, in ns.
    pub fn end_ns(&self) -> i64 {
        match self.segments.last() {
            Some(last) => self.header.utc_ns(last.end() + i64::from(last.shift)),
            None => self.header.anchor_utc_ns,
        }
    }

    /// UTC of its first picture.
    pub fn begin_ns(&self) -> i64 {
        match self.segments.first() {
            Some(first) => self.start_ns(first),
            None => self.header.anchor_utc_ns,
        }
    }

    /// Committed bytes of its media.
    pub fn bytes(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |last| last.offset + u64::from(last.len))
    }

    /// Units of its timescale, in µs, rounded up.
    pub fn micros(&self, ticks: u32) -> u64 {
        (u64::from(ticks) * 1_000_000).div_ceil(u64::from(self.header.timescale.max(1)))
    }

    /// Its longest segment that has ended, in µs.
    pub fn longest(&self) -> u64 {
        let longest = self.whole().iter().map(|segment| segment.duration).max();
        self.micros(longest.unwrap_or(0))
    }

    /// Bit/s of its greediest segment. Of one that is too short to say, 0.
    pub fn peak(&self) -> u64 {
        let rate = |segment: &Segment| match segment.duration {
            short if u64::from(short) * 4 < u64::from(self.header.timescale) => 0,
            long => {
                let bits = u128::from(segment.len) * 8 * u128::from(self.header.timescale);
                u64::try_from(bits / u128::from(long)).unwrap_or(u64::MAX)
            }
        };
        self.whole().iter().map(rate).max().unwrap_or(0)
    }

    /// The segments, for the database.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.segments.len() * PACKED);
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.len.to_le_bytes());
            bytes.extend_from_slice(&segment.records.to_le_bytes());
            bytes.extend_from_slice(&segment.time.to_le_bytes());
            bytes.extend_from_slice(&segment.shift.to_le_bytes());
            bytes.extend_from_slice(&segment.duration.to_le_bytes());
            bytes.extend_from_slice(&segment.frames.to_le_bytes());
            bytes.extend_from_slice(&segment.parts.to_le_bytes());
            bytes.extend_from_slice(&[segment.flags, 0, 0, 0]);
        }
        bytes
    }

    /// The inverse of [`Minute::pack`].
    pub fn unpack(bytes: &[u8]) -> Vec<Segment> {
        fn at<const N: usize>(row: &[u8], from: usize) -> [u8; N] {
            let mut field = [0; N];
            field.copy_from_slice(&row[from..from + N]);
            field
        }
        let mut offset = 0_u64;
        let read = bytes.chunks_exact(PACKED).map(|row| {
            let segment = Segment {
                offset,
                len: u32::from_le_bytes(at(row, 0)),
                records: u32::from_le_bytes(at(row, 4)),
                time: i64::from_le_bytes(at(row, 8)).clamp(-MAX_TIME, MAX_TIME),
                shift: i32::from_le_bytes(at(row, 16)),
                duration: u32::from_le_bytes(at(row, 20)),
                frames: u16::from_le_bytes(at(row, 24)),
                parts: u16::from_le_bytes(at(row, 26)),
                flags: row[28],
            };
            offset += u64::from(segment.len);
            segment
        });
        read.take(MAX_SEGMENTS).collect()
    }
}

/// A minute file that is being read, perhaps while it is written.
#[derive(Debug)]
pub struct Reader {
    reader: IndexReader,
    minute: Minute,
    /// The last segment has ended.
    ended: bool,
    /// Parts of the newest segments, by media sequence.
    parts: Vec<(u64, Vec<Part>)>,
    broken: Option<&'static str>,
}

impl Reader {
    /// Opens the index of a minute file.
    ///
    /// # Errors
    /// It is not there, is none, or belongs to another file.
    pub fn open(rendition: &Rendition, name: &FileName) -> Result<Self, IndexError> {
        let reader = IndexReader::open(&rendition.index(name))?;
        let header = *reader.header();
        let same = header.media_sequence == name.media_sequence
            && header.discontinuity_sequence == name.discontinuity_sequence
            && header.init == name.init;
        if !same {
            return Err(IndexError::Header("it belongs to another file"));
        }
        if header.anchor_time.unsigned_abs() > MAX_TIME as u64
            || header.media_sequence > MAX_TIME as u64
        {
            return Err(IndexError::Header("its numbers are out of range"));
        }
        let minute = Minute {
            name: *name,
            header,
            segments: Vec::new(),
            open: false,
            gone: false,
            index_len: reader.position(),
        };
        Ok(Self {
            reader,
            minute,
            ended: true,
            parts: Vec::new(),
            broken: None,
        })
    }

    /// Takes what has been committed since; whether there was anything.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn advance(&mut self) -> std::io::Result<bool> {
        if self.broken.is_some() {
            return Ok(false);
        }
        let mut at = self.reader.position();
        let chunks = self.reader.next_chunks()?;
        let any = !chunks.is_empty();
        for chunk in &chunks {
            if let Err(why) = self.take(chunk, at) {
                self.broken = Some(why);
                break;
            }
            at += chunk.record_len() as u64;
        }
        self.minute.index_len = self.reader.position();
        self.minute.open = !self.ended;
        Ok(any)
    }

    /// Why the rest of the file is not read.
    pub fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// What is known so far.
    pub fn minute(&self) -> &Minute {
        &self.minute
    }

    /// Nothing more will come: the last segment has ended.
    pub fn finish(mut self) -> Minute {
        self.minute.open = false;
        self.minute
    }

    /// Parts of the newest segments: those with at least this media sequence; others are forgotten.
    pub fn parts_from(&mut self, media_sequence: u64) -> &[(u64, Vec<Part>)] {
        self.parts.retain(|(of, _)| *of >= media_sequence);
        &self.parts
    }

    fn take(&mut self, chunk: &Chunk, record: u64) -> Result<(), &'static str> {
        let next = self.minute.end();
        let timescale = u64::from(self.minute.header.timescale);
        if chunk.decode_time.unsigned_abs() > MAX_TIME as u64
            || u64::from(chunk.duration) > LONGEST * timescale
        {
            return Err("a time out of range");
        }
        if chunk.len == 0 {
            // Only says that the segment has ended.
            let newest = chunk.media_sequence.checked_add(1) == Some(next);
            if newest && chunk.flags.contains(ChunkFlags::SEGMENT_END) {
                self.ended = true;
            }
            return Ok(());
        }
        if chunk.offset != self.minute.bytes() {
            return Err("a chunk that does not follow the one before");
        }
        let first = chunk.frames.iter().map(|frame| frame.time).min();
        let shift = first
            .unwrap_or(chunk.decode_time)
            .saturating_sub(chunk.decode_time);
        let shift = i32::try_from(shift).map_err(|_| "a picture far from its chunk")?;
        let frames = u16::try_from(chunk.frames.len()).unwrap_or(u16::MAX);
        let independent = chunk.flags.contains(ChunkFlags::INDEPENDENT);
        let loss = match chunk.flags.contains(ChunkFlags::LOSS_BEFORE) {
            true => Segment::LOSS,
            false => 0,
        };
        let part = Part {
            offset: chunk.offset,
            len: chunk.len,
            duration: chunk.duration,
            independent,
        };
        match self.minute.segments.last_mut() {
            Some(last) if chunk.media_sequence.checked_add(1) == Some(next) && !self.ended => {
                // How long the picture before it lasts may have been a guess, and too long.
                if chunk.decode_time < last.time {
                    return Err("media time that goes back");
                }
                last.len = last
                    .len
                    .checked_add(chunk.len)
                    .ok_or("a segment above 4 GiB")?;
                let end = chunk.decode_time + i64::from(chunk.duration);
                last.duration =
                    u32::try_from(end - last.time).map_err(|_| "a segment without end")?;
                last.frames = last.frames.saturating_add(frames);
                last.parts = last.parts.saturating_add(1);
                last.flags |= loss;
                if let Some((_, parts)) = self.parts.last_mut()
                    && parts.len() < MAX_PARTS
                {
                    parts.push(part);
                }
            }
            last if chunk.media_sequence == next => {
                if let Some(last) = last {
                    if chunk.decode_time <= last.time {
                        return Err("media time that goes back");
                    }
                    let length = u32::try_from(chunk.decode_time - last.time);
                    last.duration = last.duration.min(length.unwrap_or(u32::MAX));
                }
                if self.minute.segments.len() == MAX_SEGMENTS {
                    return Err("too many segments");
                }
                self.minute.segments.push(Segment {
                    offset: chunk.offset,
                    len: chunk.len,
                    records: u32::try_from(record).map_err(|_| "an index above 4 GiB")?,
                    time: chunk.decode_time,
                    shift,
                    duration: chunk.duration,
                    frames,
                    parts: 1,
                    flags: loss | u8::from(independent),
                });
                self.parts.push((chunk.media_sequence, vec![part]));
            }
            _ => return Err("a media sequence that does not follow the one before"),
        }
        self.ended = chunk.flags.contains(ChunkFlags::SEGMENT_END);
        Ok(())
    }
}
