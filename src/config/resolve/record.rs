//! `[record]`: lengths and renditions, each checked.

use std::ops::{Range, RangeInclusive};

use serde_spanned::Spanned;

use super::super::error::Problem;
use super::super::raw::{Field, RawCount, RawRecord, RawRendition, RawRenditions, RawStreamRecord};
use super::super::record::{Record, RecordMode, RenditionSpec, Retention};
use super::super::value;
use super::Resolver;

/// What recordings may take altogether.
const STORED: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// What must stay free.
const FREE: RangeInclusive<u64> = 0..=1 << 50;
/// A bound for a typing error.
const MAX_ENCODERS: u32 = 256;

impl Resolver<'_> {
    /// `[record]`: what streams begin with, what is kept, and how many encoders may run.
    pub(super) fn record_site(&mut self, raw: &RawRecord) -> (Record, Retention, u32) {
        let of_streams = RawStreamRecord {
            span: raw.span.clone(),
            mode: raw.mode.clone(),
            segment: raw.segment.clone(),
            part: raw.part.clone(),
            audio: raw.audio.clone(),
            renditions: raw.renditions.clone(),
        };
        let record = self.record(Record::default(), &of_streams, None);
        let mut retention = Retention::default();
        let keep = Retention::MIN_KEEP..=Retention::MAX_KEEP;
        if let Some(keep) = self.duration_in("keep", &raw.keep, keep, None) {
            retention.keep = keep;
        }
        match raw.max_size.set() {
            Some(written) if written.get_ref().0 == "unlimited" => {}
            _ => retention.max_bytes = self.size("max_size", &raw.max_size, STORED, None),
        }
        if let Some(free) = self.size("min_free", &raw.min_free, FREE, None) {
            retention.min_free = free;
        }
        (record, retention, self.max_encoders(&raw.max_encoders))
    }

    fn max_encoders(&mut self, written: &Field<RawCount>) -> u32 {
        let cores = self.environment.cores.len().clamp(1, MAX_ENCODERS as usize) as u32;
        let Some(written) = written.set() else {
            return cores;
        };
        let number = match written.get_ref() {
            RawCount::Word(word) if word == "auto" => return cores,
            RawCount::Word(_) => None,
            RawCount::Number(number) => u32::try_from(*number)
                .ok()
                .filter(|number| (1..=MAX_ENCODERS).contains(number)),
        };
        number.unwrap_or_else(|| {
            self.problems.push(
                Problem::new("`max_encoders` is out of range", written.span())
                    .label(format!("must be \"auto\", or from 1 to {MAX_ENCODERS}")),
            );
            cores
        })
    }

    /// What is written over what held without it.
    pub(super) fn record(
        &mut self,
        base: Record,
        raw: &RawStreamRecord,
        camera: Option<&str>,
    ) -> Record {
        let mut record = base;
        let modes = RecordMode::ALL.map(|mode| (mode.name(), mode));
        if let Some(mode) = self.word("mode", &raw.mode, &modes, camera) {
            record.mode = mode;
        }
        let segment = Record::MIN_SEGMENT..=Record::MAX_SEGMENT;
        if let Some(segment) = self.duration_in("segment", &raw.segment, segment, camera) {
            record.segment = segment;
        }
        let part = Record::MIN_PART..=Record::MAX_PART;
        if let Some(part) = self.duration_in("part", &raw.part, part, camera) {
            record.part = part;
        }
        let span = [&raw.part, &raw.segment]
            .into_iter()
            .find_map(|field| field.set().map(Spanned::span));
        if record.part > record.segment
            && let Some(span) = span
        {
            self.problems.push(
                Problem::new("`part` is longer than `segment`", span)
                    .camera(camera)
                    .label(format!(
                        "`part` is {}, `segment` is {}",
                        value::show_duration(record.part),
                        value::show_duration(record.segment)
                    )),
            );
        }
        if let Some(audio) = raw.audio.set() {
            record.audio = *audio.get_ref();
        }
        if let Some(renditions) = raw.renditions.set() {
            record.renditions = self.renditions(renditions, camera);
        }
        record
    }

    fn renditions(
        &mut self,
        written: &Spanned<RawRenditions>,
        camera: Option<&str>,
    ) -> Vec<RenditionSpec> {
        let all = &written.get_ref().0;
        let mut problems = Vec::new();
        let mut problem = |message: &str, span: Range<usize>, label: String| {
            problems.push(Problem::new(message, span).camera(camera).label(label));
        };
        if let Some(extra) = all.get(Record::MAX_RENDITIONS) {
            let label = format!("a stream has at most {}", Record::MAX_RENDITIONS);
            problem("too many renditions", extra.span.clone(), label);
        }
        let mut renditions: Vec<RenditionSpec> = Vec::new();
        for raw in all.iter().take(Record::MAX_RENDITIONS) {
            let Some(rendition) = rendition(raw, &mut problem) else {
                continue;
            };
            if renditions.iter().any(|r| r.height == rendition.height) {
                let label = "the height names it, and must be another one".to_owned();
                problem(
                    "there are two renditions of one height",
                    raw.span.clone(),
                    label,
                );
            } else {
                renditions.push(rendition);
            }
        }
        self.problems.append(&mut problems);
        renditions.sort_by_key(|rendition| std::cmp::Reverse(rendition.height));
        renditions
    }
}

/// One of the list; what is wrong with it goes to `problem`.
fn rendition(
    raw: &RawRendition,
    problem: &mut impl FnMut(&str, Range<usize>, String),
) -> Option<RenditionSpec> {
    for (span, fault) in &raw.faults {
        problem("this is no rendition", span.clone(), fault.clone());
    }
    if !raw.faults.is_empty() {
        return None;
    }
    let (Some(height), Some(bitrate)) = (&raw.height, &raw.bitrate) else {
        let label = "needs both, such as { height = 720, bitrate = \"2M\" }".to_owned();
        problem("a rendition is incomplete", raw.span.clone(), label);
        return None;
    };
    let heights = Record::MIN_HEIGHT..=Record::MAX_HEIGHT;
    let lines = u32::try_from(*height.get_ref())
        .ok()
        .filter(|lines| heights.contains(lines) && lines.is_multiple_of(2));
    if lines.is_none() {
        let label = format!(
            "must be even, and from {} to {}",
            Record::MIN_HEIGHT,
            Record::MAX_HEIGHT
        );
        problem("`height` is out of range", height.span(), label);
    }
    let rates = Record::MIN_BITRATE..=Record::MAX_BITRATE;
    let rate = value::bitrate(bitrate.get_ref()).filter(|rate| rates.contains(rate));
    if rate.is_none() {
        let label = "must be bits per second from \"50k\" to \"200M\", such as \"2M\" or \"800k\"";
        problem("`bitrate` is not one", bitrate.span(), label.to_owned());
    }
    Some(RenditionSpec {
        height: lines?,
        bitrate: rate?,
    })
}
