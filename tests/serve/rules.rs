//! Playlists, read as a player reads them, and the rules of RFC 8216bis over each of them, and between one
//! and the next. Apple's own checker runs on macOS only.
#![allow(dead_code, reason = "the tests use a part of it each")]

use std::collections::BTreeMap;

use jiff::Timestamp;

#[derive(Clone, Debug, Default)]
pub struct Playlist {
    pub text: String,
    pub target: u64,
    pub version: u64,
    pub sequence: u64,
    pub discontinuity: u64,
    pub part_target: Option<f64>,
    pub control: BTreeMap<String, String>,
    pub vod: bool,
    pub ended: bool,
    pub skipped: u64,
    pub segments: Vec<Segment>,
    /// Of the segment that has not ended.
    pub open_parts: Vec<Part>,
    pub hint: Option<String>,
    pub reports: Vec<BTreeMap<String, String>>,
    pub ranges: Vec<BTreeMap<String, String>>,
    pub start: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub sequence: u64,
    /// Of its discontinuity.
    pub discontinuity: u64,
    pub duration: f64,
    pub uri: String,
    pub map: String,
    /// UTC in ns, written or carried on from the one before.
    pub date: i64,
    pub gap: bool,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub duration: f64,
    pub uri: String,
    pub independent: bool,
}

fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, left) = quoted.split_once('"').expect("the quote ends");
                (value, left.strip_prefix(',').unwrap_or(left))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        let old = found.insert(name.to_owned(), value.to_owned());
        assert!(old.is_none(), "{name} twice in {text}");
        rest = left;
    }
    found
}

pub fn utc_ns(text: &str) -> i64 {
    let time: Timestamp = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    i64::try_from(time.as_nanosecond()).unwrap()
}

impl Playlist {
    /// Reads a media playlist, and checks what holds for every one.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        Self::parse(text).checked()
    }

    /// Of a camera whose clock may have been corrected between two files: dates are not compared.
    #[track_caller]
    pub fn read_undated(text: &str) -> Self {
        Self::parse(text).checked_but_for_dates()
    }

    /// An update of `before`: what was skipped is taken from it.
    #[track_caller]
    pub fn update(text: &str, before: &Self) -> Self {
        let mut new = Self::parse(text);
        assert!(new.skipped > 0, "no update:\n{text}");
        let from = new.sequence;
        let skipped = from..from + new.skipped;
        let kept: Vec<Segment> = (before.segments.iter())
            .filter(|segment| skipped.contains(&segment.sequence))
            .cloned()
            .collect();
        assert_eq!(
            kept.len() as u64,
            new.skipped,
            "the client has not what is skipped"
        );
        let breaks = kept.last().unwrap().discontinuity - new.discontinuity;
        for segment in &mut new.segments {
            segment.discontinuity += breaks;
        }
        new.segments.splice(0..0, kept);
        new.skipped = 0;
        new.checked()
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let mut list = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"), "{text}");
        let (mut map, mut date) = (String::new(), None);
        let (mut duration, mut gap) = (None, false);
        let mut discontinuity = 0;
        let mut parts = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let once = [
                "#EXT-X-VERSION",
                "#EXT-X-TARGETDURATION",
                "#EXT-X-MEDIA-SEQUENCE",
                "#EXT-X-DISCONTINUITY-SEQUENCE",
                "#EXT-X-PART-INF",
                "#EXT-X-SERVER-CONTROL",
                "#EXT-X-PLAYLIST-TYPE",
                "#EXT-X-ENDLIST",
                "#EXT-X-SKIP",
                "#EXT-X-START",
            ];
            if once.contains(&tag) {
                assert!(!seen.iter().any(|old| old == tag), "{tag} twice");
                seen.push(tag.to_owned());
            }
            match tag {
                "#EXT-X-VERSION" => list.version = value.parse().unwrap(),
                "#EXT-X-TARGETDURATION" => list.target = value.parse().unwrap(),
                "#EXT-X-MEDIA-SEQUENCE" => {
                    assert!(list.segments.is_empty());
                    list.sequence = value.parse().unwrap();
                }
                "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                    assert!(list.segments.is_empty() && discontinuity == 0);
                    list.discontinuity = value.parse().unwrap();
                    discontinuity = list.discontinuity;
                }
                "#EXT-X-PART-INF" => {
                    let target = attributes(value)["PART-TARGET"].parse().unwrap();
                    list.part_target = Some(target);
                }
                "#EXT-X-SERVER-CONTROL" => list.control = attributes(value),
                "#EXT-X-PLAYLIST-TYPE" => list.vod = value == "VOD",
                "#EXT-X-START" => {
                    list.start = Some(attributes(value)["TIME-OFFSET"].parse().unwrap());
                }
                "#EXT-X-SKIP" => {
                    list.skipped = attributes(value)["SKIPPED-SEGMENTS"].parse().unwrap();
                }
                "#EXT-X-INDEPENDENT-SEGMENTS" => {}
                "#EXT-X-ENDLIST" => list.ended = true,
                "#EXT-X-MAP" => map = attributes(value)["URI"].clone(),
                "#EXT-X-DISCONTINUITY" => {
                    // Before the first segment it says nothing, but in an update it does.
                    assert!(!list.segments.is_empty() || list.skipped > 0, "{text}");
                    discontinuity += 1;
                    date = None;
                }
                "#EXT-X-PROGRAM-DATE-TIME" => {
                    date = Some(utc_ns(value));
                }
                "#EXT-X-GAP" => gap = true,
                "#EXTINF" => duration = Some(value.trim_end_matches(',').parse::<f64>().unwrap()),
                "#EXT-X-PART" => {
                    let part = attributes(value);
                    parts.push(Part {
                        duration: part["DURATION"].parse().unwrap(),
                        uri: part["URI"].clone(),
                        independent: part.get("INDEPENDENT").is_some_and(|yes| yes == "YES"),
                    });
                }
                "#EXT-X-PRELOAD-HINT" => {
                    let hint = attributes(value);
                    assert_eq!(hint["TYPE"], "PART");
                    assert!(list.hint.replace(hint["URI"].clone()).is_none());
                }
                "#EXT-X-RENDITION-REPORT" => list.reports.push(attributes(value)),
                "#EXT-X-DATERANGE" => list.ranges.push(attributes(value)),
                _ if line.starts_with('#') => panic!("an unknown tag: {line}"),
                uri => {
                    let sequence = list.sequence + list.skipped + list.segments.len() as u64;
                    let duration = duration.take().expect("EXTINF before each segment");
                    let begin = date.expect("a date before the first segment and after each break");
                    date = Some(begin + (duration * 1e9).round() as i64);
                    list.segments.push(Segment {
                        sequence,
                        discontinuity,
                        duration,
                        uri: uri.to_owned(),
                        map: map.clone(),
                        date: begin,
                        gap: std::mem::take(&mut gap),
                        parts: std::mem::take(&mut parts),
                    });
                }
            }
        }
        list.open_parts = parts;
        list
    }

    #[track_caller]
    fn checked(self) -> Self {
        for pair in self.segments.windows(2) {
            // The date goes on where the one before ends; a millisecond for rounding and jitter.
            if pair[0].discontinuity == pair[1].discontinuity && !pair[0].gap && !pair[1].gap {
                let end = pair[0].date + (pair[0].duration * 1e9).round() as i64;
                let off = (pair[1].date - end).abs();
                assert!(
                    off < 1_000_000,
                    "{off} ns before segment {}",
                    pair[1].sequence
                );
            }
        }
        self.checked_but_for_dates()
    }

    #[track_caller]
    fn checked_but_for_dates(self) -> Self {
        let text = &self.text;
        assert!(self.version >= 9 || self.control.is_empty(), "{text}");
        assert!(self.target > 0);
        for segment in &self.segments {
            let place = format!("segment {}\n{text}", segment.sequence);
            // 4.4.3.1: rounded, no longer than the target duration.
            assert!(segment.duration.round() as u64 <= self.target, "{place}");
            assert!(segment.duration > 0.0, "{place}");
            assert!(
                !segment.map.is_empty() || segment.gap,
                "no EXT-X-MAP: {place}"
            );
            if !segment.parts.is_empty() {
                let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
                assert!((sum - segment.duration).abs() < 0.001, "{sum}: {place}");
                assert!(segment.parts[0].independent, "{place}");
            }
        }
        let last_parts: Vec<&Part> = self.open_parts.iter().collect();
        let whole = self
            .segments
            .iter()
            .map(|segment| segment.parts.iter().collect::<Vec<_>>());
        if let Some(target) = self.part_target {
            for parts in whole {
                for (n, part) in parts.iter().enumerate() {
                    self.part(part, target, n + 1 == parts.len());
                }
            }
            for part in last_parts {
                self.part(part, target, false);
            }
            let hold: f64 = self.control["PART-HOLD-BACK"].parse().unwrap();
            assert!(hold >= 2.0 * target, "4.4.3.8: {hold}");
        } else {
            assert!(self.open_parts.is_empty() && self.hint.is_none());
        }
        if let Some(until) = self.control.get("CAN-SKIP-UNTIL") {
            assert!(
                until.parse::<f64>().unwrap() >= 6.0 * self.target as f64,
                "4.4.3.8"
            );
        }
        if let Some(hold) = self.control.get("HOLD-BACK") {
            assert!(
                hold.parse::<f64>().unwrap() >= 3.0 * self.target as f64,
                "4.4.3.8"
            );
        }
        // 6.2.5.1: parts only for the end of the list; all of these.
        let listed: Vec<bool> = self
            .segments
            .iter()
            .map(|one| !one.parts.is_empty())
            .collect();
        let first = listed.iter().position(|with| *with).unwrap_or(listed.len());
        let closed = &self.segments[first..];
        assert!(
            closed.iter().all(|one| !one.parts.is_empty() || one.gap),
            "{text}"
        );
        assert_eq!(self.vod, self.ended);
        let mut ids: Vec<&String> = self.ranges.iter().map(|range| &range["ID"]).collect();
        ids.sort();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "4.4.5.1: the ID is unique");
        self
    }

    /// 4.4.3.7: no part longer than the target, and all but the last of a segment at least 85 % of it.
    #[track_caller]
    fn part(&self, part: &Part, target: f64, last: bool) {
        assert!(part.duration <= target + 1e-5, "{part:?}");
        assert!(last || part.duration >= 0.85 * target, "{part:?}");
    }

    /// What holds between one reading and the next.
    #[track_caller]
    pub fn follows(&self, before: &Self) {
        assert_eq!(
            self.target, before.target,
            "6.2.1: the target duration does not change"
        );
        assert!(self.sequence >= before.sequence, "6.2.2: it goes on");
        assert!(self.discontinuity >= before.discontinuity);
        for old in &before.segments {
            let Some(new) = self
                .segments
                .iter()
                .find(|new| new.sequence == old.sequence)
            else {
                // 6.2.2: from the front, in order.
                assert!(
                    old.sequence < self.sequence,
                    "segment {} is gone",
                    old.sequence
                );
                continue;
            };
            let same = |segment: &Segment| {
                (
                    segment.uri.clone(),
                    segment.map.clone(),
                    segment.discontinuity,
                    segment.duration,
                )
            };
            assert_eq!(same(new), same(old));
            assert!((new.date - old.date).abs() < 1_000_000);
        }
        let end = |list: &Self| list.sequence + list.segments.len() as u64;
        assert!(
            end(self) >= end(before),
            "it does not get shorter at its end"
        );
    }

    /// Media sequence behind the last segment, and parts of the open one.
    pub fn next(&self) -> (u64, usize) {
        (
            self.sequence + self.segments.len() as u64,
            self.open_parts.len(),
        )
    }
}

/// The variants of a multivariant playlist: attributes and URI.
#[track_caller]
pub fn variants(text: &str) -> Vec<(BTreeMap<String, String>, String)> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"), "{text}");
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(value) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            let uri = lines.next().expect("a URI follows").to_owned();
            let variant = attributes(value);
            for name in ["BANDWIDTH", "AVERAGE-BANDWIDTH"] {
                assert!(variant[name].parse::<u64>().unwrap() > 0, "{text}");
            }
            for name in ["CODECS", "RESOLUTION", "FRAME-RATE"] {
                assert!(variant.contains_key(name), "{name}: {text}");
            }
            found.push((variant, uri));
        }
    }
    found
}
