//! A media playlist, as text (RFC 8216bis, draft 17,
//! <https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis>).
//!
//! A pure function of what is recorded. Decisions, with reasons, in `docs/design/playlists.md`.
#![deny(unsafe_code)]

use std::sync::Arc;

use super::text::{date, number, quoted, seconds};
use crate::recording::InitId;
use crate::serve::index::{Edge, Minute, Segment};

/// The version whose tags are used: `EXT-X-SKIP`.
const VERSION: &str = "9";
/// Parts are listed for so many target durations from the end (8216bis, 6.2.5.1: at least three).
const PARTS_FOR: u64 = 3;
/// `CAN-SKIP-UNTIL`, in target durations: the least that is allowed (8216bis, 4.4.3.8).
pub const SKIP_UNTIL: u64 = 6;
/// More numbers than a retention of weeks can have lost; what is behind a larger hole starts anew.
const MOST_LOST: u64 = 1 << 16;
/// Breaks that one hole may have hidden.
const MOST_BREAKS: u64 = 64;

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows at its end.
    Live,
    /// A range: does not change.
    Vod,
}

/// Something that happened, at a moment of the recording.
#[derive(Clone, Debug, PartialEq)]
pub struct DateRange {
    /// Unique in the playlist.
    pub id: String,
    /// UTC in ns, on the playlist's own time line.
    pub start_ns: i64,
    /// Of the end, where it has one.
    pub end_ns: Option<i64>,
    /// What.
    pub label: String,
    /// How certain, 0 to 1.
    pub score: Option<f64>,
    /// Where in the picture: x, y, width, height, each 0 to 1.
    pub area: Option<[f64; 4]>,
}

/// Where another rendition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of its playlist.
    pub uri: String,
    /// Media sequence and place of its newest part.
    pub newest: (u64, usize),
}

/// What is to be listed.
#[derive(Clone, Debug)]
pub struct Playlist<'a> {
    /// What for.
    pub kind: Kind,
    /// `EXT-X-TARGETDURATION`, in s.
    pub target: u64,
    /// Files, in order; those before `first` may be among them, the growing one may be the last.
    pub minutes: &'a [Arc<Minute>],
    /// Where parts are.
    pub edge: Option<&'a Edge>,
    /// The first segment that is listed.
    pub first: u64,
    /// Segments from `first` on that the client has, and that are not repeated; `minutes` need not
    /// have them. Discontinuities among them are counted by whoever has the list.
    pub skipped: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE` of `first`, where `minutes` does not have it.
    pub discontinuities: Option<u64>,
    /// With a range: its beginning, where players should start.
    pub start_ns: Option<i64>,
    /// With a range: listed up to here.
    pub until_ns: Option<i64>,
    /// To be listed.
    pub ranges: &'a [DateRange],
    /// To be listed.
    pub reports: &'a [Report],
}

/// What stands between two listed segments.
struct Flow {
    out: String,
    init: Option<InitId>,
    discontinuity: Option<u64>,
    /// The next segment needs its time.
    date: bool,
    /// Media sequence of what comes next.
    next: u64,
    listed: u64,
}

impl Playlist<'_> {
    /// The text. `None`: nothing would be in it.
    pub fn render(&self) -> Option<String> {
        let from = self.first + self.skipped;
        let mut flow = Flow {
            out: String::with_capacity(64 << 10),
            init: None,
            discontinuity: None,
            date: true,
            next: from,
            listed: 0,
        };
        let parts_from = self.parts_from();
        for minute in self.minutes {
            if minute.end() <= flow.next {
                // What a client has of it decides whether a break comes next.
                if self.skipped > 0 && minute.end() == from {
                    flow.discontinuity = Some(minute.header.discontinuity_sequence);
                }
                continue;
            }
            if self.skipped > 0 && flow.listed == 0 && minute.first() < from {
                flow.discontinuity = Some(minute.header.discontinuity_sequence);
            }
            self.hole(&mut flow, minute);
            for (n, segment) in minute.whole().iter().enumerate() {
                let sequence = minute.first() + n as u64;
                if (sequence < flow.next) || !self.in_range(minute, segment) {
                    continue;
                }
                if self.kind == Kind::Vod && flow.listed > 0 && sequence > flow.next {
                    flow.hidden_break(minute.header.discontinuity_sequence);
                }
                flow.begin(minute, segment);
                if let Some(edge) = self.edge.filter(|_| sequence >= parts_from) {
                    parts(&mut flow.out, edge, minute, sequence);
                }
                flow.segment(minute, segment, sequence);
            }
            if let Some(edge) = self.edge
                && minute.open
                && let Some(open) = minute.segments.last()
            {
                flow.begin(minute, open);
                parts(&mut flow.out, edge, minute, minute.end() - 1);
            }
        }
        if flow.listed == 0 && self.skipped == 0 && self.kind == Kind::Vod {
            return None;
        }
        let body = flow.out;
        let mut out = String::with_capacity(body.len() + 1024);
        self.head(&mut out);
        out.push_str(&body);
        match self.kind {
            Kind::Vod => out.push_str("#EXT-X-ENDLIST\n"),
            Kind::Live => self.tail(&mut out),
        }
        Some(out)
    }

    fn head(&self, out: &mut String) {
        out.push_str("#EXTM3U\n#EXT-X-VERSION:");
        out.push_str(VERSION);
        out.push_str("\n#EXT-X-TARGETDURATION:");
        number(out, self.target);
        let from = self.first + self.skipped;
        let dependent = |minute: &Arc<Minute>| {
            let skip = usize::try_from(from.saturating_sub(minute.first())).unwrap_or(usize::MAX);
            let mut listed = minute.segments.iter().skip(skip);
            listed.any(|segment| segment.flags & Segment::INDEPENDENT == 0)
        };
        if !self.minutes.iter().any(dependent) {
            out.push_str("\n#EXT-X-INDEPENDENT-SEGMENTS");
        }
        match self.kind {
            Kind::Vod => {
                out.push_str("\n#EXT-X-PLAYLIST-TYPE:VOD\n");
                self.start(out);
            }
            Kind::Live => {
                let part = self.part_target();
                out.push_str("\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=");
                number(out, self.target * SKIP_UNTIL);
                out.push_str(".0,HOLD-BACK=");
                number(out, self.target * 3);
                out.push_str(".0,PART-HOLD-BACK=");
                seconds(out, part * 3, 1_000_000);
                out.push_str("\n#EXT-X-PART-INF:PART-TARGET=");
                seconds(out, part, 1_000_000);
                out.push_str("\n#EXT-X-MEDIA-SEQUENCE:");
                number(out, self.first);
                let first = self.minutes.iter().find(|minute| minute.end() > self.first);
                let known = first.map(|minute| minute.header.discontinuity_sequence);
                if let Some(breaks) = self.discontinuities.or(known) {
                    out.push_str("\n#EXT-X-DISCONTINUITY-SEQUENCE:");
                    number(out, breaks);
                }
                out.push('\n');
                if self.skipped > 0 {
                    out.push_str("#EXT-X-SKIP:SKIPPED-SEGMENTS=");
                    number(out, self.skipped);
                    out.push('\n');
                }
            }
        }
        for range in self.ranges {
            date_range(out, range);
        }
    }

    /// Where a range is to be played from: it begins with a segment, a little before.
    fn start(&self, out: &mut String) {
        let Some(start) = self.start_ns else {
            return;
        };
        let first = self.minutes.iter().find_map(|minute| {
            let mut listed = minute
                .whole()
                .iter()
                .filter(|segment| self.in_range(minute, segment));
            listed.next().map(|segment| minute.start_ns(segment))
        });
        if let Some(first) = first.filter(|first| *first < start) {
            out.push_str("#EXT-X-START:TIME-OFFSET=");
            seconds(out, start.abs_diff(first) / 1000, 1_000_000);
            out.push_str(",PRECISE=YES\n");
        }
    }

    fn tail(&self, out: &mut String) {
        let Some(edge) = self.edge else {
            return;
        };
        let (sequence, part) = edge.next();
        out.push_str("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p/");
        number(out, sequence);
        out.push('.');
        number(out, part as u64);
        out.push_str(".m4s\"\n");
        for report in self.reports {
            out.push_str("#EXT-X-RENDITION-REPORT:URI=");
            quoted(out, &report.uri);
            out.push_str(",LAST-MSN=");
            number(out, report.newest.0);
            out.push_str(",LAST-PART=");
            number(out, report.newest.1 as u64);
            out.push('\n');
        }
    }

    /// No part is longer, in µs.
    fn part_target(&self) -> u64 {
        // Of the newest files only: the same in a whole list and in an update.
        let newest = self.edge.into_iter().flat_map(|edge| &edge.minutes);
        let said = newest.map(|minute| u64::from(minute.header.part_target_us));
        let found = self.edge.into_iter().flat_map(|edge| {
            edge.parts.iter().flat_map(|(of, parts)| {
                let minute = edge.minute_with(*of);
                parts
                    .iter()
                    .filter_map(move |part| Some(minute?.micros(part.duration)))
            })
        });
        said.chain(found).max().unwrap_or(0).max(1)
    }

    /// The first segment whose parts are listed.
    fn parts_from(&self) -> u64 {
        let Some(edge) = self.edge else {
            return u64::MAX;
        };
        let mut left = self.target * PARTS_FOR * 1_000_000;
        let mut from = edge.next().0;
        for minute in edge.minutes.iter().rev() {
            for (n, segment) in minute.whole().iter().enumerate().rev() {
                from = minute.first() + n as u64;
                let long = minute.micros(segment.duration);
                if long >= left {
                    return from;
                }
                left -= long;
            }
        }
        from
    }

    fn in_range(&self, minute: &Minute, segment: &Segment) -> bool {
        if self.kind == Kind::Live {
            return true;
        }
        let begin = minute.start_ns(segment);
        let end = minute
            .header
            .utc_ns(segment.end() + i64::from(segment.shift));
        self.start_ns.is_none_or(|start| end > start)
            && self.until_ns.is_none_or(|until| begin < until)
            && !minute.gone
    }

    /// Numbers that are missing before this file.
    fn hole(&self, flow: &mut Flow, minute: &Minute) {
        let missing = minute.first().saturating_sub(flow.next);
        if missing == 0 {
            return;
        }
        let begun = flow.listed > 0;
        if self.kind == Kind::Live && begun && missing <= MOST_LOST {
            // Nothing says how long they were.
            let each = self.target * 1_000_000;
            flow.discontinuity(minute.header.discontinuity_sequence, false);
            for sequence in flow.next..minute.first() {
                flow.out.push_str("#EXT-X-GAP\n#EXTINF:");
                seconds(&mut flow.out, each, 1_000_000);
                flow.out.push_str(",\ns/");
                number(&mut flow.out, sequence);
                flow.out.push_str(".m4s\n");
                flow.listed += 1;
            }
            flow.date = true;
        }
        if self.kind == Kind::Live {
            flow.next = minute.first();
        }
    }
}

/// The first segment that can be listed, of those from `first` on: behind a hole with more numbers than a
/// playlist can have.
pub fn first_in_reach(minutes: &[Arc<Minute>], first: u64) -> u64 {
    let pairs = minutes.windows(2).rev();
    let mut holes = pairs.filter(|pair| pair[1].first().saturating_sub(pair[0].end()) > MOST_LOST);
    holes
        .next()
        .map_or(first, |pair| pair[1].first().max(first))
}

impl Flow {
    /// What has to be said before a segment.
    fn begin(&mut self, minute: &Minute, segment: &Segment) {
        self.discontinuity(minute.header.discontinuity_sequence, true);
        let new = self.init != Some(minute.name.init);
        if new {
            self.init = Some(minute.name.init);
            self.out.push_str("#EXT-X-MAP:URI=\"");
            self.out.push_str(&minute.name.init.file_name());
            self.out.push_str("\"\n");
        }
        let first = minute
            .segments
            .first()
            .is_some_and(|first| first.time == segment.time);
        if self.date || new || first {
            self.date = false;
            self.out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
            date(&mut self.out, minute.start_ns(segment));
            self.out.push('\n');
        }
    }

    /// As many breaks as the numbers say, so that every client counts the same.
    fn discontinuity(&mut self, now: u64, dated: bool) {
        let before = self.discontinuity.replace(now);
        let Some(before) = before.filter(|before| *before != now) else {
            return;
        };
        let breaks = now.checked_sub(before).unwrap_or(1).min(MOST_BREAKS);
        for _ in 0..breaks {
            self.out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        self.date = dated || self.date;
    }

    /// Segments are missing here, and it is not said: media time goes on, but somewhere else.
    fn hidden_break(&mut self, now: u64) {
        if self.discontinuity == Some(now) {
            self.out.push_str("#EXT-X-DISCONTINUITY\n");
            self.date = true;
        }
    }

    fn segment(&mut self, minute: &Minute, segment: &Segment, sequence: u64) {
        if minute.gone {
            self.out.push_str("#EXT-X-GAP\n");
        }
        self.out.push_str("#EXTINF:");
        seconds(
            &mut self.out,
            segment.duration.into(),
            minute.header.timescale,
        );
        self.out.push_str(",\ns/");
        number(&mut self.out, sequence);
        self.out.push_str(".m4s\n");
        self.next = sequence + 1;
        self.listed += 1;
    }
}

fn parts(out: &mut String, edge: &Edge, minute: &Minute, sequence: u64) {
    if minute.gone {
        return;
    }
    for (n, part) in edge.parts_of(sequence).iter().enumerate() {
        out.push_str("#EXT-X-PART:DURATION=");
        seconds(out, part.duration.into(), minute.header.timescale);
        out.push_str(",URI=\"p/");
        number(out, sequence);
        out.push('.');
        number(out, n as u64);
        out.push_str(".m4s\"");
        if part.independent {
            out.push_str(",INDEPENDENT=YES");
        }
        out.push('\n');
    }
}

fn date_range(out: &mut String, range: &DateRange) {
    out.push_str("#EXT-X-DATERANGE:ID=");
    quoted(out, &range.id);
    out.push_str(",CLASS=\"camring.marker\",START-DATE=\"");
    date(out, range.start_ns);
    out.push('"');
    if let Some(end) = range.end_ns.filter(|end| *end >= range.start_ns) {
        out.push_str(",DURATION=");
        seconds(out, end.abs_diff(range.start_ns) / 1000, 1_000_000);
    }
    out.push_str(",X-LABEL=");
    quoted(out, &range.label);
    if let Some(score) = range.score.filter(|score| score.is_finite()) {
        out.push_str(&format!(",X-SCORE={:.4}", score.clamp(0.0, 1.0)));
    }
    if let Some([x, y, w, h]) = range.area {
        out.push_str(&format!(",X-BOX=\"{x:.5},{y:.5},{w:.5},{h:.5}\""));
    }
    out.push('\n');
}
