//! Markers in `camring.db`. Every function is one transaction, or one query, on the database's thread.
#![deny(unsafe_code)]

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde_json::Value;

use super::{KEPT_CHANGES, MAX_OF_CAMERA, Marker, NewMarker, Patch, Seen, read};

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// All are in the database: each with the number of its change, if it is new.
    All(Vec<(Marker, Option<i64>)>),
    /// Nothing was stored: the marker with this place in the batch has the id of another one.
    Conflict(usize),
    /// Nothing was stored: the camera has this many already.
    Full(i64),
}

/// Camera and id of a marker, and its picture.
pub type Found = (String, String, Option<(i64, i64)>);

/// Which markers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Whose.
    pub camera: String,
    /// Those that begin or last then or later.
    pub from_ns: Option<i64>,
    /// Those that begin before.
    pub to_ns: Option<i64>,
    /// Those that are called so.
    pub label: Option<String>,
    /// After this one.
    pub after: Option<Cursor>,
    /// Newest first.
    pub newest_first: bool,
    /// So many at most.
    pub limit: usize,
}

/// A place in a list: start and number of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub i64, pub i64);

impl Cursor {
    /// As [`Cursor::text`] wrote it.
    pub fn read(text: &str) -> Option<Self> {
        let (start, number) = text.split_once('.')?;
        let cursor = Self(start.parse().ok()?, number.parse().ok()?);
        (cursor.text() == text && cursor.0 >= 0 && cursor.1 >= 0).then_some(cursor)
    }

    /// For clients, who hand it back.
    pub fn text(self) -> String {
        format!("{}.{}", self.0, self.1)
    }
}

const COLUMNS: &str = "number, camera, id, stream, start_ns, end_ns, label, score, region, data, frame_ns, \
                       pts, settled, created_ns, updated_ns";

fn marker(row: &Row<'_>) -> rusqlite::Result<(i64, Marker)> {
    // What was not written here is not there.
    let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    let region: Option<Value> = json(row.get(8)?);
    let frame: (Option<i64>, Option<i64>) = (row.get(10)?, row.get(11)?);
    let marker = Marker {
        camera: row.get(1)?,
        id: row.get(2)?,
        stream: row.get(3)?,
        start_ns: row.get(4)?,
        end_ns: row.get(5)?,
        label: row.get(6)?,
        score: row.get(7)?,
        region: region.and_then(|region| serde_json::from_value(region).ok()),
        data: json(row.get(9)?),
        frame: frame.0.zip(frame.1),
        settled: row.get(12)?,
        created_ns: row.get(13)?,
        updated_ns: row.get(14)?,
    };
    Ok((row.get(0)?, marker))
}

fn find(db: &Connection, camera: &str, id: &str) -> rusqlite::Result<Option<(i64, Marker)>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM marker WHERE camera = ? AND id = ?"
    ))?
    .query_row([camera, id], marker)
    .optional()
}

/// A change for the live feed; its number.
fn changed(db: &Transaction<'_>, camera: &str, id: &str, what: &str) -> rusqlite::Result<i64> {
    db.prepare_cached("INSERT INTO marker_change (camera, id, what) VALUES (?, ?, ?)")?
        .execute([camera, id, what])?;
    let number = db.last_insert_rowid();
    db.prepare_cached("DELETE FROM marker_change WHERE number <= ?")?
        .execute([number - KEPT_CHANGES])?;
    Ok(number)
}

/// Stores all or none. One whose id is there with the same content is the one that is there.
pub fn insert(
    db: &mut Connection,
    camera: &str,
    new: &[NewMarker],
    now_ns: i64,
    make_id: &mut dyn FnMut() -> String,
) -> rusqlite::Result<Stored> {
    let db = db.transaction()?;
    let count: Option<i64> = db
        .prepare_cached("SELECT count FROM marker_count WHERE camera = ?")?
        .query_row([camera], |row| row.get(0))
        .optional()?;
    let count = count.unwrap_or(0);
    let mut stored = Vec::with_capacity(new.len());
    for (at, new) in new.iter().enumerate() {
        let there = match &new.id {
            Some(id) => find(&db, camera, id)?,
            None => None,
        };
        if let Some((_, there)) = there {
            if !same(&there, new) {
                return Ok(Stored::Conflict(at));
            }
            stored.push((there, None));
            continue;
        }
        let marker = Marker {
            id: new.id.clone().unwrap_or_else(&mut *make_id),
            camera: camera.to_owned(),
            stream: new.stream.clone(),
            start_ns: new.start_ns,
            end_ns: new.end_ns,
            label: new.label.clone(),
            score: new.score,
            region: new.region,
            data: new.data.clone(),
            frame: match new.seen {
                Some(Seen::Known(frame)) => frame,
                _ => None,
            },
            settled: matches!(new.seen, Some(Seen::Known(_))),
            created_ns: now_ns,
            updated_ns: now_ns,
        };
        write(&db, &marker)?;
        let change = changed(&db, camera, &marker.id, "created")?;
        stored.push((marker, Some(change)));
    }
    let added = stored.iter().filter(|(_, change)| change.is_some()).count() as i64;
    if added > 0 && count + added > MAX_OF_CAMERA {
        return Ok(Stored::Full(count));
    }
    db.commit()?;
    Ok(Stored::All(stored))
}

fn same(there: &Marker, new: &NewMarker) -> bool {
    there.stream == new.stream
        && there.start_ns == new.start_ns
        && there.end_ns == new.end_ns
        && there.label == new.label
        && there.score == new.score
        && there.region == new.region
        && there.data == new.data
}

fn write(db: &Connection, marker: &Marker) -> rusqlite::Result<()> {
    let region = marker
        .region
        .map(|region| Value::from(region.to_vec()).to_string());
    let data = marker.data.as_ref().map(Value::to_string);
    db.prepare_cached(
        "INSERT INTO marker (camera, id, stream, start_ns, end_ns, label, score, region, data, frame_ns, pts,
                             settled, created_ns, updated_ns)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (camera, id) DO UPDATE SET
             stream = excluded.stream, start_ns = excluded.start_ns, end_ns = excluded.end_ns,
             label = excluded.label, score = excluded.score, region = excluded.region, data = excluded.data,
             frame_ns = excluded.frame_ns, pts = excluded.pts, settled = excluded.settled,
             updated_ns = excluded.updated_ns",
    )?
    .execute(params![
        marker.camera,
        marker.id,
        marker.stream,
        marker.start_ns,
        marker.end_ns,
        marker.label,
        marker.score,
        region,
        data,
        marker.frame.map(|(ns, _)| ns),
        marker.frame.map(|(_, pts)| pts),
        marker.settled,
        marker.created_ns,
        marker.updated_ns,
    ])?;
    Ok(())
}

/// One.
pub fn get(db: &mut Connection, camera: &str, id: &str) -> rusqlite::Result<Option<Marker>> {
    Ok(find(db, camera, id)?.map(|(_, marker)| marker))
}

/// Some, in order of their starts, and where the rest begins.
pub fn list(
    db: &mut Connection,
    filter: &Filter,
) -> rusqlite::Result<(Vec<Marker>, Option<Cursor>)> {
    let mut sql = format!("SELECT {COLUMNS} FROM marker WHERE camera = ?1");
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(filter.camera.clone())];
    if let Some(from) = filter.from_ns {
        // Those that begin before it and last until then are found from where the longest could begin.
        let longest: Option<i64> = db
            .prepare_cached(
                "SELECT max(end_ns - start_ns) FROM marker WHERE camera = ? AND end_ns IS NOT NULL",
            )?
            .query_row([&filter.camera], |row| row.get(0))?;
        values.push(Box::new(from.saturating_sub(longest.unwrap_or(0))));
        sql += &format!(" AND start_ns >= ?{}", values.len());
        values.push(Box::new(from));
        sql += &format!(" AND coalesce(end_ns, start_ns) >= ?{}", values.len());
    }
    if let Some(to) = filter.to_ns {
        values.push(Box::new(to));
        sql += &format!(" AND start_ns < ?{}", values.len());
    }
    if let Some(label) = &filter.label {
        values.push(Box::new(label.clone()));
        sql += &format!(" AND label = ?{}", values.len());
    }
    let (than, order) = match filter.newest_first {
        true => ("<", "DESC"),
        false => (">", "ASC"),
    };
    if let Some(Cursor(start, number)) = filter.after {
        values.extend([Box::new(start) as Box<dyn ToSql>, Box::new(number)]);
        let last = values.len();
        sql += &format!(" AND (start_ns, number) {than} (?{}, ?{last})", last - 1);
    }
    values.push(Box::new(filter.limit as i64 + 1));
    sql += &format!(
        " ORDER BY start_ns {order}, number {order} LIMIT ?{}",
        values.len()
    );
    let mut query = db.prepare_cached(&sql)?;
    let values = values.iter().map(|value| &**value as &dyn ToSql);
    let found = query.query_map(rusqlite::params_from_iter(values), marker)?;
    let mut found: Vec<(i64, Marker)> = found.collect::<Result<_, _>>()?;
    let more = found.len() > filter.limit;
    found.truncate(filter.limit);
    let next = (found.last())
        .filter(|_| more)
        .map(|(number, marker)| Cursor(marker.start_ns, *number));
    Ok((found.into_iter().map(|(_, marker)| marker).collect(), next))
}

/// Those of a camera that touch a range, oldest first: for playlists.
pub fn between(
    db: &mut Connection,
    camera: &str,
    from_ns: i64,
    to_ns: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Marker>> {
    let filter = Filter {
        camera: camera.to_owned(),
        from_ns: Some(from_ns),
        to_ns: Some(to_ns),
        limit,
        ..Filter::default()
    };
    list(db, &filter).map(|(found, _)| found)
}

/// Changes one. `Ok(None)`: there is none; `Some(Err)`: why it cannot be.
pub fn patch(
    db: &mut Connection,
    camera: &str,
    id: &str,
    patch: &Patch,
    now_ns: i64,
) -> rusqlite::Result<Option<Result<(Marker, i64), String>>> {
    let db = db.transaction()?;
    let Some((_, mut marker)) = find(&db, camera, id)? else {
        return Ok(None);
    };
    let moved = patch.start_ns.is_some_and(|start| start != marker.start_ns)
        || patch
            .stream
            .as_ref()
            .is_some_and(|stream| *stream != marker.stream);
    if moved {
        (marker.frame, marker.settled) = (None, false);
    }
    marker.start_ns = patch.start_ns.unwrap_or(marker.start_ns);
    marker.end_ns = patch.end_ns.unwrap_or(marker.end_ns);
    if let Err(detail) = read::length(marker.start_ns, marker.end_ns) {
        return Ok(Some(Err(detail)));
    }
    if let Some(label) = &patch.label {
        marker.label.clone_from(label);
    }
    if let Some(stream) = &patch.stream {
        marker.stream.clone_from(stream);
    }
    marker.score = patch.score.unwrap_or(marker.score);
    marker.region = patch.region.unwrap_or(marker.region);
    if let Some(data) = &patch.data {
        marker.data.clone_from(data);
    }
    marker.updated_ns = now_ns;
    write(&db, &marker)?;
    let change = changed(&db, camera, id, "updated")?;
    db.commit()?;
    Ok(Some(Ok((marker, change))))
}

/// Deletes one; the number of the change, if it was there.
pub fn delete(db: &mut Connection, camera: &str, id: &str) -> rusqlite::Result<Option<i64>> {
    let db = db.transaction()?;
    let gone = db.execute(
        "DELETE FROM marker WHERE camera = ? AND id = ?",
        [camera, id],
    )?;
    if gone == 0 {
        return Ok(None);
    }
    let change = changed(&db, camera, id, "deleted")?;
    db.commit()?;
    Ok(Some(change))
}

/// Notes which picture markers mean; returns those that were still there, with their changes' numbers.
pub fn settle(db: &mut Connection, found: &[Found]) -> rusqlite::Result<Vec<(Marker, i64)>> {
    let db = db.transaction()?;
    let mut settled = Vec::new();
    for (camera, id, frame) in found {
        let Some((_, mut marker)) = find(&db, camera, id)? else {
            continue;
        };
        let news = marker.frame != *frame;
        (marker.frame, marker.settled) = (*frame, true);
        write(&db, &marker)?;
        if news {
            let change = changed(&db, camera, id, "updated")?;
            settled.push((marker, change));
        }
    }
    db.commit()?;
    Ok(settled)
}

/// The oldest whose pictures are not known yet.
pub fn unsettled(db: &mut Connection, limit: usize) -> rusqlite::Result<Vec<Marker>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM marker WHERE settled = 0 ORDER BY created_ns LIMIT ?"
    ))?;
    let found = query.query_map([limit as i64], marker)?;
    found.map(|row| row.map(|(_, marker)| marker)).collect()
}

/// The oldest and the newest change that is kept.
pub fn change_numbers(db: &mut Connection) -> rusqlite::Result<(Option<i64>, i64)> {
    let oldest = db.query_row("SELECT min(number) FROM marker_change", [], |row| {
        row.get(0)
    })?;
    let newest: Option<i64> = db
        .query_row(
            "SELECT seq FROM sqlite_sequence WHERE name = 'marker_change'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok((oldest, newest.unwrap_or(0)))
}

/// Changes after a number: number, what, camera, id, and the marker as it is now, if it still is.
#[expect(clippy::type_complexity, reason = "a row")]
pub fn changes(
    db: &mut Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, String, String, String, Option<Marker>)>> {
    let mut query = db.prepare_cached(
        "SELECT number, what, camera, id FROM marker_change WHERE number > ? ORDER BY number LIMIT ?",
    )?;
    let rows = query.query_map(params![after, limit as i64], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let rows: Vec<(i64, String, String, String)> = rows.collect::<Result<_, _>>()?;
    let with = |(number, what, camera, id): (i64, String, String, String)| {
        let now = find(db, &camera, &id)?.map(|(_, marker)| marker);
        Ok((number, what, camera, id, now))
    };
    rows.into_iter().map(with).collect()
}

/// Deletes what lies wholly in a range of a camera, some at most; how many that were.
pub fn delete_range(
    db: &mut Connection,
    camera: &str,
    from_ns: i64,
    to_ns: i64,
    limit: usize,
) -> rusqlite::Result<usize> {
    db.execute(
        "DELETE FROM marker WHERE number IN (
             SELECT number FROM marker
             WHERE camera = ?1 AND start_ns >= ?2 AND start_ns < ?3 AND coalesce(end_ns, start_ns) < ?3
             ORDER BY start_ns LIMIT ?4)",
        params![camera, from_ns, to_ns, limit as i64],
    )
}

/// Deletes what lies wholly in a range of a camera, but for what touches a protected range, some at most; how
/// many that were.
pub fn expire(
    db: &mut Connection,
    camera: &str,
    (mut from, before_ns): (i64, i64),
    protected: &[(i64, i64)],
    limit: usize,
) -> rusqlite::Result<usize> {
    // Between the protected ranges.
    let mut gone = 0;
    let ends = protected.iter().copied().chain([(before_ns, before_ns)]);
    for (start, end) in ends {
        if from >= before_ns || gone >= limit {
            break;
        }
        gone += delete_range(db, camera, from, start.min(before_ns), limit - gone)?;
        from = from.max(end);
    }
    Ok(gone)
}

/// The cameras that have markers.
pub fn cameras(db: &mut Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT camera FROM marker_count WHERE count > 0")?;
    let found = query.query_map([], |row| row.get(0))?;
    found.collect()
}
