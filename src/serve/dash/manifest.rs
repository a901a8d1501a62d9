//! An MPD, as text (ISO/IEC 23009-1): a period for each run of segments without a break, in which each
//! rendition that has it whole is a representation.
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::sync::Arc;

use crate::recording::InitId;
use crate::serve::index::{Minute, Segment};
use crate::serve::time;
use crate::serve::tracks::Tracks;

/// A rendition.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// `main-source`
    pub id: String,
    /// Where its media is, seen from the manifest.
    pub folder: String,
    /// Bit/s.
    pub peak: u64,
    /// Files, in order.
    pub minutes: Vec<Arc<Minute>>,
    /// What their init segments say, by their names in order.
    pub inits: Vec<(InitId, Arc<Tracks>)>,
}

/// What is to be described.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// From here to there; `None`: what is newest, as it grows.
    pub range: Option<(i64, i64)>,
    /// The longest segment, in s.
    pub target: u64,
    /// UTC.
    pub now_ns: i64,
    /// Renditions of one camera.
    pub tracks: Vec<Track>,
}

/// Segments one after the other: one init segment, no break, one map to UTC (the first file's).
#[derive(Debug)]
struct Run<'m> {
    first: &'m Minute,
    /// Media sequence of the first segment.
    sequence: u64,
    segments: Vec<Segment>,
}

impl Run<'_> {
    fn begin_ns(&self) -> i64 {
        (self.segments.first()).map_or(i64::MAX, |segment| self.first.header.utc_ns(segment.time))
    }

    fn end_ns(&self) -> i64 {
        (self.segments.last()).map_or(i64::MIN, |segment| self.first.header.utc_ns(segment.end()))
    }
}

/// The runs of a rendition by their times: of thousands, each period has to find its own. Times may go back
/// from one run to the next, where a camera's clock was set.
#[derive(Debug)]
struct ByTime<'r, 'm> {
    /// By their beginnings, each with the latest end up to it.
    runs: Vec<(&'r Run<'m>, i64)>,
}

impl<'r, 'm> ByTime<'r, 'm> {
    fn new(runs: &'r [Run<'m>]) -> Self {
        let mut sorted: Vec<&Run<'m>> = runs.iter().collect();
        sorted.sort_by_key(|run| run.begin_ns());
        let mut latest = i64::MIN;
        let with_latest = |run: &'r Run<'m>| {
            latest = latest.max(run.end_ns());
            (run, latest)
        };
        Self {
            runs: sorted.into_iter().map(with_latest).collect(),
        }
    }

    /// The one run that has something between two moments; `None` also where there are several.
    fn only_within(&self, begin_ns: i64, end_ns: i64) -> Option<&'r Run<'m>> {
        let before = self
            .runs
            .partition_point(|(run, _)| run.begin_ns() < end_ns);
        let mut within = self.runs[..before]
            .iter()
            .rev()
            .take_while(|(_, latest)| *latest > begin_ns)
            .filter(|(run, _)| run.end_ns() > begin_ns);
        match (within.next(), within.next()) {
            (Some((run, _)), None) => Some(run),
            _ => None,
        }
    }
}

impl Manifest {
    /// The text. `None`: nothing would be in it.
    pub(super) fn render(&self) -> Option<String> {
        let mut tracks: Vec<&Track> = self.tracks.iter().collect();
        tracks.sort_by_key(|track| std::cmp::Reverse(track.peak));
        let runs: Vec<(&Track, Vec<Run<'_>>)> = tracks
            .into_iter()
            .map(|track| (track, self.runs(track)))
            .collect();
        let (_, periods) = runs.iter().find(|(_, runs)| !runs.is_empty())?;
        let times: Vec<ByTime<'_, '_>> = runs.iter().map(|(_, runs)| ByTime::new(runs)).collect();
        let newest = periods.last().map_or(0, Run::end_ns);
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD ");
        out.push_str("xmlns=\"urn:mpeg:dash:schema:mpd:2011\" ");
        out.push_str("profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" ");
        let buffer = self.target.max(2);
        // Writing to a String cannot fail: all of these results are Ok.
        let _ = match self.range {
            Some(_) => {
                let total: i64 = periods
                    .iter()
                    .map(|run| run.end_ns().saturating_sub(run.begin_ns()))
                    .fold(0, i64::saturating_add);
                write!(
                    out,
                    "type=\"static\" minBufferTime=\"PT{buffer}S\" mediaPresentationDuration=\"{}\"",
                    duration(total)
                )
            }
            None => {
                let oldest = periods.first().map_or(newest, Run::begin_ns);
                write!(
                    out,
                    "type=\"dynamic\" availabilityStartTime=\"1970-01-01T00:00:00Z\" \
                     publishTime=\"{}\" minimumUpdatePeriod=\"PT2S\" minBufferTime=\"PT{buffer}S\" \
                     timeShiftBufferDepth=\"{}\" suggestedPresentationDelay=\"PT{}S\" \
                     maxSegmentDuration=\"PT{}S\"",
                    time::rfc3339_ms(self.now_ns / 1_000_000),
                    duration(newest.saturating_sub(oldest)),
                    self.target * 3,
                    self.target,
                )
            }
        };
        out.push_str(">\n");
        let mut start = 0;
        for (n, period) in periods.iter().enumerate() {
            let (begin, end) = (period.begin_ns(), period.end_ns());
            if self.range.is_none() {
                start = begin;
            }
            let id = format!(
                "{}-{}",
                period.first.header.discontinuity_sequence, period.sequence
            );
            // A period that something follows is known to its end.
            let ends = self.range.is_some() || n + 1 < periods.len();
            let length = match ends {
                true => format!(" duration=\"{}\"", duration(end.saturating_sub(begin))),
                false => String::new(),
            };
            let id = if ends {
                id
            } else {
                period.first.header.discontinuity_sequence.to_string()
            };
            let _ = writeln!(
                out,
                " <Period id=\"p{id}\" start=\"{}\"{length}>",
                duration(start)
            );
            out.push_str(
                "  <AdaptationSet contentType=\"video\" mimeType=\"video/mp4\" \
                 segmentAlignment=\"true\" startWithSAP=\"1\">\n",
            );
            for ((track, _), runs) in runs.iter().zip(&times) {
                // One that breaks within the period, or begins after it did, cannot be in it.
                let Some(run) = runs.only_within(begin, end) else {
                    continue;
                };
                let slack = i64::try_from(self.target).unwrap_or(60) * 1_000_000_000;
                if run.begin_ns() <= begin.saturating_add(slack) {
                    represent(&mut out, track, run, begin, ends.then_some(end));
                }
            }
            out.push_str("  </AdaptationSet>\n </Period>\n");
            start = start.saturating_add(end.saturating_sub(begin));
        }
        if self.range.is_none() {
            let _ = writeln!(
                out,
                " <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"{}\"/>",
                time::rfc3339_ms(self.now_ns / 1_000_000)
            );
        }
        out.push_str("</MPD>\n");
        Some(out)
    }

    fn runs<'m>(&self, track: &'m Track) -> Vec<Run<'m>> {
        let mut runs: Vec<Run<'m>> = Vec::new();
        for minute in track.minutes.iter().filter(|minute| !minute.gone) {
            for (n, segment) in minute.whole().iter().enumerate() {
                let sequence = minute.first() + n as u64;
                let end = minute.header.utc_ns(segment.end());
                let outside = self.range.is_some_and(|(from, to)| {
                    end <= from || minute.header.utc_ns(segment.time) >= to
                });
                if outside {
                    continue;
                }
                match runs.last_mut() {
                    Some(run)
                        if run.first.name.init == minute.name.init
                            && run.first.header.discontinuity_sequence
                                == minute.header.discontinuity_sequence
                            && run.sequence + run.segments.len() as u64 == sequence =>
                    {
                        run.segments.push(*segment);
                    }
                    _ => runs.push(Run {
                        first: minute,
                        sequence,
                        segments: vec![*segment],
                    }),
                }
            }
        }
        runs
    }
}

/// One representation of a period that begins (and ends) at this UTC.
fn represent(out: &mut String, track: &Track, run: &Run<'_>, begin_ns: i64, end_ns: Option<i64>) {
    let header = &run.first.header;
    let offset = header.time(begin_ns).max(0);
    // Media time rises within a run.
    let skipped = run
        .segments
        .partition_point(|segment| segment.end() <= offset);
    let segments = &run.segments[skipped..];
    let wanted = segments
        .partition_point(|segment| end_ns.is_none_or(|end| header.utc_ns(segment.time) < end));
    let segments = &segments[..wanted];
    if segments.is_empty() {
        return;
    }
    let init = run.first.name.init;
    let known = track.inits.binary_search_by_key(&init, |(of, _)| *of);
    let tracks = known.map_or_else(|_| Arc::default(), |at| Arc::clone(&track.inits[at].1));
    let _ = write!(
        out,
        "   <Representation id=\"{}\" bandwidth=\"{}\"",
        track.id, track.peak
    );
    let codecs = tracks.codecs();
    if !codecs.is_empty() {
        let _ = write!(out, " codecs=\"{codecs}\"");
    }
    if tracks.width > 0 && tracks.height > 0 {
        let _ = write!(
            out,
            " width=\"{}\" height=\"{}\"",
            tracks.width, tracks.height
        );
    }
    let _ = write!(
        out,
        ">\n    <SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{offset}\" \
         startNumber=\"{}\" initialization=\"{}/{}\" media=\"{}/s/$Number$.m4s\">\n     \
         <SegmentTimeline>\n",
        header.timescale,
        run.sequence + skipped as u64,
        track.folder,
        init.file_name(),
        track.folder,
    );
    let mut at = 0;
    let mut next = None;
    while let Some(segment) = segments.get(at) {
        // As long as each begins where the one before ends.
        let same = segments[at..].windows(2).take_while(|pair| {
            pair[1].duration == segment.duration && pair[1].time == pair[0].end()
        });
        let repeats = same.count();
        out.push_str("      <S");
        if next != Some(segment.time) {
            let _ = write!(out, " t=\"{}\"", segment.time);
        }
        let _ = write!(out, " d=\"{}\"", segment.duration);
        if repeats > 0 {
            let _ = write!(out, " r=\"{repeats}\"");
        }
        out.push_str("/>\n");
        at += repeats + 1;
        next = Some(segments[at - 1].end());
    }
    out.push_str("     </SegmentTimeline>\n    </SegmentTemplate>\n   </Representation>\n");
}

/// `PT1.500000S`
fn duration(ns: i64) -> String {
    let micros = ns.max(0) / 1000;
    format!("PT{}.{:06}S", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{FileName, Header};

    const UTC_NS: i64 = 1_795_248_900_000_000_000;
    const SECOND: i64 = 90_000;

    /// A file of 2 s segments that begins so many seconds after the others' beginning.
    fn minute(first: u64, begin_s: i64, segments: i64, discontinuity: u64) -> Arc<Minute> {
        let header = Header {
            timescale: 90_000,
            sender_report: true,
            media_sequence: first,
            discontinuity_sequence: discontinuity,
            init: InitId(1),
            anchor_time: 0,
            anchor_utc_ns: UTC_NS,
            part_target_us: 200_000,
            segment_target_us: 2_000_000,
        };
        let segment = |n: i64| Segment {
            len: 1000,
            time: (begin_s + 2 * n) * SECOND,
            duration: 2 * 90_000,
            frames: 50,
            parts: 10,
            flags: Segment::INDEPENDENT,
            ..Segment::default()
        };
        Arc::new(Minute {
            name: FileName {
                start_ms: header.utc_ns(begin_s * SECOND) / 1_000_000,
                media_sequence: first,
                discontinuity_sequence: discontinuity,
                init: header.init,
            },
            header,
            segments: (0..segments).map(segment).collect(),
            open: false,
            gone: false,
            index_len: 0,
        })
    }

    fn track(id: &str, peak: u64, minutes: Vec<Arc<Minute>>) -> Track {
        Track {
            id: id.to_owned(),
            folder: id.to_owned(),
            peak,
            minutes,
            inits: vec![(InitId(1), Arc::default())],
        }
    }

    fn render(tracks: Vec<Track>) -> String {
        let manifest = Manifest {
            range: Some((0, i64::MAX)),
            target: 4,
            now_ns: UTC_NS,
            tracks,
        };
        manifest.render().unwrap()
    }

    #[test]
    fn a_rendition_is_in_the_periods_that_it_has_without_a_break() {
        let main = vec![minute(0, 0, 3, 0), minute(3, 10, 3, 1), minute(6, 20, 3, 2)];
        // One run over the first two periods; a break within the third.
        let sub = vec![minute(0, 0, 8, 0), minute(8, 20, 1, 1), minute(9, 24, 1, 2)];
        let text = render(vec![track("main", 2000, main), track("sub", 1000, sub)]);
        let periods: Vec<&str> = text.split("<Period ").skip(1).collect();
        assert_eq!(periods.len(), 3, "{text}");
        let has = |n: usize, id: &str| periods[n].contains(&format!("Representation id=\"{id}\""));
        for n in 0..3 {
            assert!(has(n, "main"), "{text}");
            assert_eq!(has(n, "sub"), n < 2, "{text}");
        }
        // Of the run that goes on, only the period's own segments.
        assert!(periods[1].contains("startNumber=\"5\""), "{}", periods[1]);
        assert!(
            periods[1].contains("t=\"900000\" d=\"180000\" r=\"2\""),
            "{}",
            periods[1]
        );
    }

    #[test]
    fn a_clock_that_was_set_back_mixes_nothing_up() {
        // The second run lies before the first one, by UTC.
        let main = vec![
            minute(0, 100, 3, 0),
            minute(3, 10, 3, 1),
            minute(6, 200, 3, 2),
        ];
        let sub = vec![minute(0, 10, 3, 0), minute(3, 100, 3, 1)];
        let text = render(vec![track("main", 2000, main), track("sub", 1000, sub)]);
        let periods: Vec<&str> = text.split("<Period ").skip(1).collect();
        let with_sub: Vec<bool> = (periods.iter())
            .map(|period| period.contains("id=\"sub\""))
            .collect();
        assert_eq!(with_sub, [true, true, false], "{text}");
    }

    #[test]
    fn tens_of_thousands_of_breaks_are_found_one_by_one() {
        // A day that breaks every two seconds, and a rendition that does not: quadratic, this took minutes.
        let count = 43_200;
        let main = (0..count).map(|n| minute(n, 2 * n as i64, 1, n)).collect();
        let sub = vec![minute(0, 0, count as i64, 0)];
        let text = render(vec![track("main", 2000, main), track("sub", 1000, sub)]);
        assert_eq!(text.matches("<Period ").count(), count as usize);
        assert_eq!(text.matches("id=\"sub\"").count(), count as usize);
    }
}
