//! The tables of `camring.db`: what the recording does not say, and what cannot be rebuilt from it.
//!
//! Each step leads from one version to the next. A released step is never changed; a change is a new step.
#![deny(unsafe_code)]

/// Step `n` leads from version `n` to `n + 1`.
pub const MIGRATIONS: &[&str] = &[MARKERS, HEALTH];

/// 1: markers, how many a camera has, and what changed. Times are UTC in ns since the Unix epoch; `region` and
/// `data` are JSON.
const MARKERS: &str = "
CREATE TABLE marker (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    id TEXT NOT NULL,
    stream TEXT,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER,
    label TEXT NOT NULL,
    score REAL,
    region TEXT,
    data TEXT,
    frame_ns INTEGER,
    pts INTEGER,
    settled INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    UNIQUE (camera, id)
) STRICT;
CREATE INDEX marker_by_time ON marker (camera, start_ns, number);
CREATE INDEX marker_by_label ON marker (camera, label, start_ns, number);
CREATE INDEX marker_by_length ON marker (camera, end_ns - start_ns) WHERE end_ns IS NOT NULL;
CREATE INDEX marker_unsettled ON marker (created_ns) WHERE settled = 0;
CREATE TABLE marker_count (camera TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER marker_counted AFTER INSERT ON marker BEGIN
    INSERT INTO marker_count VALUES (new.camera, 1) ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER marker_uncounted AFTER DELETE ON marker BEGIN
    UPDATE marker_count SET count = count - 1 WHERE camera = old.camera;
END;
CREATE TABLE marker_change (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    id TEXT NOT NULL,
    what TEXT NOT NULL
) STRICT;
";

/// 2: samples of how streams are. `width`: s that a row is about; `at`: UTC in s.
const HEALTH: &str = "
CREATE TABLE health_stream (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE health (
    stream INTEGER NOT NULL,
    width INTEGER NOT NULL,
    at INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    streaming REAL NOT NULL,
    fps REAL NOT NULL,
    kbit_per_s REAL NOT NULL,
    latency_ms REAL,
    latency_p99_ms REAL,
    packets_lost INTEGER NOT NULL,
    reconnects INTEGER NOT NULL,
    PRIMARY KEY (width, stream, at)
) STRICT, WITHOUT ROWID;
";
