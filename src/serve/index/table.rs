//! The index's tables in `index.db`. Nothing in them is not in the tree too: the file may be deleted.
#![deny(unsafe_code)]

use rusqlite::{Connection, Row, params};

use super::minute::Minute;
use crate::recording::{FileName, Header, InitId};

pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE rendition (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The longest segment there ever was, in us: what players are promised does not shrink.
    longest INTEGER NOT NULL DEFAULT 0,
    UNIQUE (stream, name)
) STRICT;
CREATE TABLE minute (
    id INTEGER PRIMARY KEY,
    rendition INTEGER NOT NULL REFERENCES rendition ON DELETE CASCADE,
    first INTEGER NOT NULL,
    segment_count INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    discontinuity INTEGER NOT NULL,
    init INTEGER NOT NULL,
    timescale INTEGER NOT NULL,
    sender_report INTEGER NOT NULL,
    anchor_time INTEGER NOT NULL,
    anchor_utc INTEGER NOT NULL,
    part_target INTEGER NOT NULL,
    segment_target INTEGER NOT NULL,
    -- UTC in ns, by the file's own map.
    begin_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    index_bytes INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0,
    segments BLOB NOT NULL,
    UNIQUE (rendition, first)
) STRICT;
CREATE INDEX minute_by_time ON minute (rendition, begin_ns);
"];

const COLUMNS: &str = "first, start_ms, discontinuity, init, timescale, sender_report, anchor_time, \
                       anchor_utc, part_target, segment_target, index_bytes, gone, segments";

/// What is known of a minute file without its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is called.
    pub name: FileName,
    /// How many segments.
    pub segments: u64,
    /// UTC of its first picture, in ns.
    pub begin_ns: i64,
    /// UTC of the end of its last picture, in ns.
    pub end_ns: i64,
    /// Of media.
    pub bytes: u64,
    /// Of its index file.
    pub index_bytes: u64,
    /// Segments with missing access units.
    pub losses: u64,
    /// Deleted.
    pub gone: bool,
}

impl Summary {
    /// Of a minute file.
    pub fn of(minute: &Minute) -> Self {
        let lossy = |segment: &&super::Segment| segment.flags & super::Segment::LOSS != 0;
        Self {
            name: minute.name,
            segments: minute.segments.len() as u64,
            begin_ns: minute.begin_ns(),
            end_ns: minute.end_ns(),
            bytes: minute.bytes(),
            index_bytes: minute.index_len,
            losses: minute.segments.iter().filter(lossy).count() as u64,
            gone: minute.gone,
        }
    }
}

/// The number of a rendition in the tables, made where it is not there, and its longest segment in µs.
pub(super) fn rendition(db: &Connection, stream: &str, name: &str) -> rusqlite::Result<(i64, u64)> {
    db.execute(
        "INSERT OR IGNORE INTO rendition (stream, name) VALUES (?1, ?2)",
        params![stream, name],
    )?;
    db.query_row(
        "SELECT id, longest FROM rendition WHERE stream = ?1 AND name = ?2",
        params![stream, name],
        |row| Ok((row.get(0)?, unsigned(row.get(1)?))),
    )
}

/// Removes renditions of which nothing is recorded, other than `kept`.
pub(super) fn drop_renditions(db: &Connection, kept: &[i64]) -> rusqlite::Result<()> {
    let mut all = db.prepare("SELECT id FROM rendition")?;
    let all: Vec<i64> = all
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in all.iter().filter(|id| !kept.contains(id)) {
        db.execute("DELETE FROM minute WHERE rendition = ?1", [id])?;
        db.execute("DELETE FROM rendition WHERE id = ?1", [id])?;
    }
    Ok(())
}

/// Raises what players are promised as the longest segment.
pub(super) fn raise_longest(db: &Connection, rendition: i64, longest: u64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE rendition SET longest = max(longest, ?2) WHERE id = ?1")?
        .execute(params![rendition, signed(longest)])?;
    Ok(())
}

pub(super) fn put(db: &Connection, rendition: i64, minute: &Minute) -> rusqlite::Result<()> {
    let summary = Summary::of(minute);
    let header = &minute.header;
    db.prepare_cached(
        "INSERT OR REPLACE INTO minute (rendition, first, segment_count, start_ms, discontinuity, init, \
         timescale, sender_report, anchor_time, anchor_utc, part_target, segment_target, begin_ns, \
         end_ns, bytes, index_bytes, peak, losses, gone, segments) \
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    )?
    .execute(params![
        rendition,
        signed(minute.first()),
        signed(summary.segments),
        minute.name.start_ms,
        signed(header.discontinuity_sequence),
        // All 64 bits of it.
        header.init.0 as i64,
        header.timescale,
        header.sender_report,
        header.anchor_time,
        header.anchor_utc_ns,
        header.part_target_us,
        header.segment_target_us,
        summary.begin_ns,
        summary.end_ns,
        signed(summary.bytes),
        signed(summary.index_bytes),
        signed(minute.peak()),
        signed(summary.losses),
        minute.gone,
        minute.pack(),
    ])?;
    raise_longest(db, rendition, minute.longest())
}

/// Forgets a minute file.
pub(super) fn remove(db: &Connection, rendition: i64, first: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM minute WHERE rendition = ?1 AND first = ?2")?
        .execute(params![rendition, signed(first)])?;
    Ok(())
}

/// Its files are gone; those before it are not: its numbers stay taken. What is at the front is
/// forgotten.
pub(super) fn bury(db: &Connection, rendition: i64, first: u64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE minute SET gone = 1 WHERE rendition = ?1 AND first = ?2")?
        .execute(params![rendition, signed(first)])?;
    db.prepare_cached(
        "DELETE FROM minute WHERE rendition = ?1 AND gone = 1 AND first < coalesce(\
         (SELECT min(first) FROM minute WHERE rendition = ?1 AND gone = 0), 9223372036854775807)",
    )?
    .execute([rendition])?;
    Ok(())
}

/// All minute files of a rendition, in order of their media sequence.
pub(super) fn summaries(db: &Connection, rendition: i64) -> rusqlite::Result<Vec<Summary>> {
    db.prepare_cached(&format!("{SUMMARY} WHERE rendition = ?1 ORDER BY first"))?
        .query_map([rendition], summary)?
        .collect()
}

/// Those that have pictures between two moments, in order of their media sequence.
pub(super) fn summaries_between(
    db: &Connection,
    rendition: i64,
    from_ns: i64,
    to_ns: i64,
) -> rusqlite::Result<Vec<Summary>> {
    db.prepare_cached(&format!(
        "{SUMMARY} WHERE rendition = ?1 AND begin_ns < ?3 AND end_ns > ?2 ORDER BY first"
    ))?
    .query_map(params![rendition, from_ns, to_ns], summary)?
    .collect()
}

const SUMMARY: &str = "SELECT first, start_ms, discontinuity, init, segment_count, begin_ns, end_ns, \
                       bytes, index_bytes, losses, gone FROM minute";

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        name: FileName {
            media_sequence: unsigned(row.get(0)?),
            start_ms: row.get(1)?,
            discontinuity_sequence: unsigned(row.get(2)?),
            init: InitId(row.get::<_, i64>(3)? as u64),
        },
        segments: unsigned(row.get(4)?),
        begin_ns: row.get(5)?,
        end_ns: row.get(6)?,
        bytes: unsigned(row.get(7)?),
        index_bytes: unsigned(row.get(8)?),
        losses: unsigned(row.get(9)?),
        gone: row.get(10)?,
    })
}

/// Which minute files a query wants.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// All with a media sequence of at least this.
    From(u64),
    /// With pictures between two moments, in ns.
    Between(i64, i64),
    /// The one with this media sequence.
    With(u64),
}

pub(super) fn minutes(
    db: &Connection,
    rendition: i64,
    wanted: Wanted,
) -> rusqlite::Result<Vec<Minute>> {
    let (condition, a, b) = match wanted {
        Wanted::From(first) => (
            "first >= coalesce((SELECT max(first) FROM minute WHERE rendition = ?1 AND first <= ?2), 0) \
             AND ?3 = 0",
            signed(first),
            0,
        ),
        Wanted::Between(from, to) => ("begin_ns < ?3 AND end_ns > ?2", from, to),
        Wanted::With(sequence) => (
            "first <= ?2 AND first + segment_count > ?2 AND ?3 = 0",
            signed(sequence),
            0,
        ),
    };
    let order = match wanted {
        // The newest that begins before it is the only one that can have it.
        Wanted::With(_) => "ORDER BY first DESC LIMIT 1",
        _ => "ORDER BY first",
    };
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM minute WHERE rendition = ?1 AND {condition} {order}"
    ))?
    .query_map(params![rendition, a, b], minute)?
    .collect()
}

fn minute(row: &Row<'_>) -> rusqlite::Result<Minute> {
    let media_sequence = unsigned(row.get(0)?);
    let discontinuity_sequence = unsigned(row.get(2)?);
    let init = InitId(row.get::<_, i64>(3)? as u64);
    Ok(Minute {
        name: FileName {
            start_ms: row.get(1)?,
            media_sequence,
            discontinuity_sequence,
            init,
        },
        header: Header {
            timescale: row.get::<_, u32>(4)?.max(1),
            sender_report: row.get(5)?,
            media_sequence,
            discontinuity_sequence,
            init,
            anchor_time: row.get(6)?,
            anchor_utc_ns: row.get(7)?,
            part_target_us: row.get(8)?,
            segment_target_us: row.get(9)?,
        },
        index_len: unsigned(row.get(10)?),
        gone: row.get(11)?,
        open: false,
        segments: Minute::unpack(row.get_ref(12)?.as_blob()?),
    })
}

/// Media sequence of the first segment that is there.
pub(super) fn oldest(db: &Connection, rendition: i64) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached(
        "SELECT first FROM minute WHERE rendition = ?1 AND gone = 0 ORDER BY first LIMIT 1",
    )?
    .query_map([rendition], |row| row.get(0).map(unsigned))?
    .next()
    .transpose()
}

/// Sums over a rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bit/s of the greediest segment.
    pub peak: u64,
    /// Of media.
    pub bytes: u64,
    /// Recorded time, in ns.
    pub duration_ns: u64,
}

pub(super) fn sums(db: &Connection, rendition: i64) -> rusqlite::Result<Sums> {
    db.prepare_cached(
        "SELECT coalesce(max(peak), 0), coalesce(sum(bytes), 0), \
         coalesce(sum(end_ns - begin_ns), 0) FROM minute WHERE rendition = ?1 AND gone = 0",
    )?
    .query_row([rendition], |row| {
        Ok(Sums {
            peak: unsigned(row.get(0)?),
            bytes: unsigned(row.get(1)?),
            duration_ns: unsigned(row.get(2)?),
        })
    })
}

/// SQLite's integers have a sign.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
