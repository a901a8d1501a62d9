//! How each stream has been: sampled from the daemon's status every 10 s, kept for a day; by 5 minutes for
//! a month.
//!
//! Promises: bounded, 8640 rows of each stream and kind; what cannot be written is not sampled, and nobody
//! waits for it.
#![deny(unsafe_code)]

use std::collections::HashMap;

use rusqlite::{Connection, params};
use serde_json::Value;

/// Between samples, in s.
pub const SAMPLE_S: i64 = 10;
/// Of the coarser ones, in s.
pub const COARSE_S: i64 = 300;
/// How long samples are kept, in s.
pub const KEEP_S: i64 = 86_400;
/// How long the coarser ones are.
pub const KEEP_COARSE_S: i64 = 30 * 86_400;
/// Streams whose past is known; a site has a few hundred at most.
const MAX_STREAMS: i64 = 2000;

/// States, from good to bad: the worst of a span is what it shows.
const STATES: [&str; 8] = [
    "streaming",
    "disabled",
    "connecting",
    "stalled",
    "backoff",
    "unauthorized",
    "failed",
    "unknown",
];

/// A stream at one moment, or over a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its place in [`STATES`].
    rank: i64,
    /// Which part of the time it was streaming: 0 to 1.
    pub streaming: f64,
    /// Access units received per second.
    pub fps: f64,
    /// Received, in kbit/s.
    pub kbit_per_s: f64,
    /// From a frame's last packet to its publication, in ms: half took less.
    pub latency_ms: Option<f64>,
    /// 99 % took less; the largest such figure of the span.
    pub latency_p99_ms: Option<f64>,
    /// RTP packets lost in the span.
    pub packets_lost: i64,
    /// RTSP sessions tried in the span.
    pub reconnects: i64,
}

impl Sample {
    /// The worst state of the span.
    pub fn state(&self) -> &'static str {
        let place = usize::try_from(self.rank).unwrap_or(usize::MAX);
        STATES.get(place).copied().unwrap_or("unknown")
    }
}

/// Counters as they were at the last sample.
#[derive(Clone, Copy, Debug)]
struct Counters {
    at_ns: u64,
    bytes: i64,
    lost: i64,
    reconnects: i64,
}

/// Makes samples from one status after the other.
#[derive(Debug, Default)]
pub struct Sampler(HashMap<String, Counters>);

impl Sampler {
    /// One sample for each stream of the daemon's status. `at_ns` is on a clock that is never set.
    pub fn samples(&mut self, status: &Value, at_ns: u64) -> Vec<(String, Sample)> {
        let mut seen = HashMap::new();
        let cameras = status["cameras"].as_array().map_or(&[][..], Vec::as_slice);
        let made = cameras.iter().filter_map(|camera| {
            let name = camera["name"].as_str()?;
            let count = |key: &str| camera[key].as_i64().unwrap_or(0);
            let now = Counters {
                at_ns,
                bytes: count("bytes_in"),
                lost: count("rtp_packets_lost"),
                reconnects: count("reconnects"),
            };
            seen.insert(name.to_owned(), now);
            let last = self.0.get(name).copied();
            let since = |then: fn(&Counters) -> i64| {
                // A daemon that was started anew counts from 0.
                last.map_or(0, |last| (then(&now) - then(&last)).max(0))
            };
            let seconds = last.map_or(0.0, |last| at_ns.saturating_sub(last.at_ns) as f64 / 1e9);
            let kbit_per_s = match seconds > 0.0 {
                true => since(|c| c.bytes) as f64 * 8.0 / 1000.0 / seconds,
                false => 0.0,
            };
            let state = camera["state"].as_str().unwrap_or_default();
            let rank = STATES.iter().position(|known| *known == state);
            let sample = Sample {
                rank: rank.unwrap_or(STATES.len() - 1) as i64,
                streaming: f64::from(u8::from(state == "streaming")),
                fps: camera["fps_in"].as_f64().unwrap_or(0.0),
                kbit_per_s,
                latency_ms: camera["latency_p50_ms"].as_f64(),
                latency_p99_ms: camera["latency_p99_ms"].as_f64(),
                packets_lost: since(|c| c.lost),
                reconnects: since(|c| c.reconnects),
            };
            Some((name.to_owned(), sample))
        });
        let made = made.collect();
        self.0 = seen;
        made
    }
}

/// Keeps samples of one moment (UTC in s).
pub fn store(db: &mut Connection, at: i64, samples: &[(String, Sample)]) -> rusqlite::Result<()> {
    let db = db.transaction()?;
    for (stream, sample) in samples {
        db.prepare_cached(
            "INSERT INTO health_stream (id) SELECT ?1
             WHERE NOT EXISTS (SELECT 1 FROM health_stream WHERE id = ?1)
               AND (SELECT count(*) FROM health_stream) < ?2",
        )?
        .execute(params![stream, MAX_STREAMS])?;
        db.prepare_cached(
            "INSERT OR REPLACE INTO health
             SELECT number, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM health_stream WHERE id = ?1",
        )?
        .execute(params![
            stream,
            SAMPLE_S,
            at.div_euclid(SAMPLE_S) * SAMPLE_S,
            sample.rank,
            sample.streaming,
            sample.fps,
            sample.kbit_per_s,
            sample.latency_ms,
            sample.latency_p99_ms,
            sample.packets_lost,
            sample.reconnects,
        ])?;
    }
    db.commit()
}

const SPANS: &str = "max(rank), avg(streaming), avg(fps), avg(kbit_per_s), avg(latency_ms), \
                     max(latency_p99_ms), sum(packets_lost), sum(reconnects)";

/// Makes the coarser samples that are due, of what came `since` (UTC in s), and deletes what is too old.
pub fn tidy(db: &mut Connection, now: i64, since: i64) -> rusqlite::Result<()> {
    let db = db.transaction()?;
    db.execute(
        &format!(
            "INSERT OR REPLACE INTO health
             SELECT stream, ?1, at / ?1 * ?1, {SPANS} FROM health
             WHERE width = ?2 AND at >= ?3 / ?1 * ?1 AND at < ?4 / ?1 * ?1 GROUP BY stream, at / ?1"
        ),
        params![COARSE_S, SAMPLE_S, since, now],
    )?;
    for (width, keep) in [(SAMPLE_S, KEEP_S), (COARSE_S, KEEP_COARSE_S)] {
        // Also what was sampled while the clock was ahead.
        db.execute(
            "DELETE FROM health WHERE width = ? AND (at < ? OR at > ?)",
            [width, now - keep, now + keep],
        )?;
    }
    db.execute(
        "DELETE FROM health_stream WHERE number NOT IN (SELECT stream FROM health)",
        [],
    )?;
    db.commit()
}

/// How streams were from one moment to another (UTC in s), in spans of `step` s: of each stream that has
/// samples, the start of each span that has any, and what it was like.
#[expect(clippy::type_complexity, reason = "a list of lists")]
pub fn spans(
    db: &mut Connection,
    camera: &str,
    (from, to): (i64, i64),
    (width, step): (i64, i64),
) -> rusqlite::Result<Vec<(String, Vec<(i64, Sample)>)>> {
    let mut streams = db.prepare_cached(
        "SELECT number, id FROM health_stream WHERE id = ?1 OR substr(id, 1, length(?1) + 1) = ?1 || '/'
         ORDER BY id",
    )?;
    let streams: Vec<(i64, String)> = streams
        .query_map([camera], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut query = db.prepare_cached(&format!(
        "SELECT at / ?1 * ?1, {SPANS} FROM health
         WHERE width = ?2 AND stream = ?3 AND at >= ?4 AND at < ?5 GROUP BY at / ?1 ORDER BY at / ?1"
    ))?;
    let mut found = Vec::new();
    for (number, id) in streams {
        let rows = query.query_map(params![step, width, number, from, to], |row| {
            let sample = Sample {
                rank: row.get(1)?,
                streaming: row.get(2)?,
                fps: row.get(3)?,
                kbit_per_s: row.get(4)?,
                latency_ms: row.get(5)?,
                latency_p99_ms: row.get(6)?,
                packets_lost: row.get(7)?,
                reconnects: row.get(8)?,
            };
            Ok((row.get(0)?, sample))
        })?;
        found.push((id, rows.collect::<Result<_, _>>()?));
    }
    Ok(found)
}

/// Which samples to take, and how many of them make a span, so that there are at most `points`.
pub fn resolution(now: i64, from: i64, to: i64, points: i64) -> (i64, i64) {
    let span = to.saturating_sub(from).clamp(1, i64::MAX / 4);
    let wanted = span.div_euclid(points.max(1)) + 1;
    let fine = from >= now - KEEP_S && wanted < COARSE_S;
    let width = if fine { SAMPLE_S } else { COARSE_S };
    let step = (wanted + width - 1).div_euclid(width).max(1) * width;
    (width, step)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::serve::{Store, schema};

    const NOW: i64 = 1_795_248_900;

    fn status(state: &str, bytes: i64, lost: i64) -> Value {
        json!({"cameras": [
            {"name": "door/main", "state": state, "fps_in": 25.0, "bytes_in": bytes, "reconnects": 0,
             "rtp_packets_lost": lost, "latency_p50_ms": 4.0, "latency_p99_ms": 9.0},
            {"name": "doorbell", "state": "backoff"}, {"no": "name"}, 7,
        ]})
    }

    #[test]
    fn rates_come_from_counters() {
        let mut sampler = Sampler::default();
        let first = sampler.samples(&status("streaming", 1_000_000, 3), 0);
        assert_eq!((first.len(), first[0].1.kbit_per_s), (2, 0.0));
        let then = sampler.samples(&status("streaming", 3_500_000, 5), 10_000_000_000);
        assert_eq!((then[0].1.kbit_per_s, then[0].1.packets_lost), (2000.0, 2));
        assert_eq!((then[1].1.state(), then[1].1.streaming), ("backoff", 0.0));
        // A new daemon counts from 0.
        let new = sampler.samples(&status("weird", 10, 0), 20_000_000_000);
        assert_eq!((new[0].1.kbit_per_s, new[0].1.packets_lost), (0.0, 0));
        assert_eq!(new[0].1.state(), "unknown");
        assert_eq!(sampler.samples(&json!(null), 1), []);
    }

    #[test]
    fn a_month_is_kept_in_bounds_and_shown_in_spans() {
        let folder = tempfile::tempdir().unwrap();
        let store_of = Store::open(&folder.path().join("x.db"), schema::MIGRATIONS).unwrap();
        type Work = Box<dyn FnOnce(&mut Connection) -> rusqlite::Result<i64> + Send>;
        let call = |work: Work| store_of.call_blocking(work).unwrap();
        call(Box::new(|db| {
            let mut sampler = Sampler::default();
            let start = NOW - 2 * KEEP_S;
            for n in 0..2 * KEEP_S / SAMPLE_S {
                let at = start + n * SAMPLE_S;
                // Down for a minute.
                let state = if (NOW - 1000..NOW - 940).contains(&at) {
                    "stalled"
                } else {
                    "streaming"
                };
                let samples = sampler.samples(
                    &status(state, n * 2500, n),
                    (n * SAMPLE_S) as u64 * 1_000_000_000,
                );
                if n % 4 == 0 || at > NOW - 7200 {
                    store(db, at, &samples)?;
                }
                if n % 30 == 0 {
                    tidy(db, at, at - 2 * COARSE_S)?;
                }
            }
            tidy(db, NOW, NOW - 2 * COARSE_S)?;
            db.query_row("SELECT count(*) FROM health WHERE width = 10", [], |row| {
                row.get(0)
            })
        }));
        let oldest = call(Box::new(|db| {
            db.query_row("SELECT min(at) FROM health WHERE width = 10", [], |row| {
                row.get(0)
            })
        }));
        assert!(oldest >= NOW - KEEP_S, "{oldest}");
        let coarse = call(Box::new(|db| {
            db.query_row("SELECT count(*) FROM health WHERE width = 300", [], |row| {
                row.get(0)
            })
        }));
        // Two streams, two days of 5 minutes, the last of which is not over.
        assert!(
            (2 * 2 * 288 - 4..=2 * 2 * 288).contains(&coarse),
            "{coarse}"
        );
        let found = store_of
            .call_blocking(|db| spans(db, "door", (NOW - 3600, NOW), (10, 60)))
            .unwrap();
        // Not the doorbell's.
        assert_eq!(
            found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
            ["door/main"]
        );
        let (_, samples) = &found[0];
        assert!((60..=61).contains(&samples.len()), "{}", samples.len());
        assert!(
            samples
                .iter()
                .all(|(_, sample)| (sample.fps - 25.0).abs() < 1e-9)
        );
        let down: f64 = samples
            .iter()
            .map(|(_, sample)| 1.0 - sample.streaming)
            .sum();
        assert!((down - 1.0).abs() < 0.01, "{down}");
        assert!(
            samples
                .iter()
                .any(|(_, sample)| sample.state() == "stalled")
        );
        assert!(samples.iter().any(|(_, sample)| sample.packets_lost == 6));
    }

    #[test]
    fn the_resolution_fits_the_span() {
        assert_eq!(resolution(NOW, NOW - 3600, NOW, 300), (10, 20));
        assert_eq!(resolution(NOW, NOW - 600, NOW, 1000), (10, 10));
        assert_eq!(resolution(NOW, NOW - 86_400, NOW, 100), (300, 900));
        assert_eq!(
            resolution(NOW, NOW - 90_000, NOW - 86_000, 1000),
            (300, 300)
        );
        assert_eq!(resolution(NOW, 0, i64::MAX, 1).0, 300);
        for points in [1, 7, 300, 1000] {
            let (_, step) = resolution(NOW, NOW - 80_000, NOW, points);
            assert!(80_000 / step <= points, "{points}");
        }
    }
}
