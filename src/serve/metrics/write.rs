//! Metrics as text: OpenMetrics, made by `prometheus-client`, and from it the format before that.
//!
//! Promises: a metric is written with the labels of its table and no others; the order is the caller's.
#![deny(unsafe_code)]

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};

use super::table::Metric;

/// The media type of [`Format::Open`].
pub const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of [`Format::Classic`].
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' text format 0.0.4, which everything reads.
    Classic,
}

impl Format {
    /// What a client asks for. A client that names OpenMetrics at all is a scraper that prefers it, unless
    /// it gives the other more weight.
    pub fn of(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f64 = weight.and_then(|q| q.parse().ok()).unwrap_or(1.0);
            match &*media {
                "application/openmetrics-text" => open = f64::max(open, weight),
                "text/plain" => text = f64::max(text, weight),
                _ => {}
            }
        }
        match open > 0.0 && open >= text {
            true => Self::Open,
            false => Self::Classic,
        }
    }

    /// For `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Open => OPEN,
            Self::Classic => CLASSIC,
        }
    }
}

/// OpenMetrics in the older format: it has no units and no end, and there a counter's name has its
/// `_total` in the description, too.
pub fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described;
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let (_, words) = help.split_once(' ').unwrap_or_default();
            let end = if kind == "counter" { "_total" } else { "" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name}{end} {words}");
            let _ = writeln!(text, "# TYPE {name}{end} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// A label's name and value.
pub type Label<'a> = (&'static str, &'a str);

/// Writes one metric after the other.
#[derive(Debug)]
pub struct Writer<'a>(pub DescriptorEncoder<'a>);

impl Writer<'_> {
    /// All samples of one metric.
    pub fn family(
        &mut self,
        metric: &'static Metric,
        samples: impl FnOnce(&mut Family<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        let unit = metric.unit();
        let kind = metric.metric_type();
        let (stem, help) = (metric.stem, metric.help);
        let mut encoder = self.0.encode_descriptor(stem, help, unit.as_ref(), kind)?;
        samples(&mut Family {
            metric,
            encoder: &mut encoder,
        })
    }

    /// A metric of one sample.
    pub fn one(&mut self, metric: &'static Metric, value: impl Into<f64>) -> fmt::Result {
        let value = value.into();
        self.family(metric, |family| family.value(&[], value))
    }

    /// A metric of one sample, or none.
    pub fn maybe(&mut self, metric: &'static Metric, value: Option<f64>) -> fmt::Result {
        self.family(metric, |family| match value {
            Some(value) => family.value(&[], value),
            None => Ok(()),
        })
    }
}

/// The samples of one metric.
pub struct Family<'a, 'e> {
    metric: &'static Metric,
    encoder: &'a mut MetricEncoder<'e>,
}

impl Family<'_, '_> {
    /// A gauge's or counter's sample.
    pub fn value(&mut self, labels: &[Label<'_>], value: f64) -> fmt::Result {
        let counter = self.metric.kind == "counter";
        self.sample(labels, |encoder| match counter {
            true => encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            false => encoder.encode_gauge(&value),
        })
    }

    /// A counter of whole things: exact, however many.
    pub fn count(&mut self, labels: &[Label<'_>], value: u64) -> fmt::Result {
        self.sample(labels, |encoder| {
            encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)
        })
    }

    fn sample(
        &mut self,
        labels: &[Label<'_>],
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.check(labels);
        match labels.is_empty() {
            // An empty set of labels would be written as one.
            true => write(self.encoder),
            false => write(&mut self.encoder.encode_family(&labels)?),
        }
    }

    /// 1 for the one of `all` that is `now`, 0 for the others.
    pub fn one_of(
        &mut self,
        labels: &[Label<'_>],
        name: &'static str,
        all: &[&str],
        now: &str,
    ) -> fmt::Result {
        let mut labels = labels.to_vec();
        labels.push((name, ""));
        for state in all {
            if let Some(last) = labels.last_mut() {
                *last = (name, state);
            }
            self.value(&labels, f64::from(u8::from(*state == now)))?;
        }
        Ok(())
    }

    /// A histogram's samples: how many up to each limit, in seconds, and beyond the last.
    pub fn histogram(
        &mut self,
        labels: &[Label<'_>],
        sum: f64,
        limits: impl Iterator<Item = f64>,
        counts: &[u64],
    ) -> fmt::Result {
        self.check(labels);
        let limits = limits.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = limits.zip(counts.iter().copied()).collect();
        let count = counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// In debug builds, that is in every test: the labels are those of the table.
    fn check(&self, labels: &[Label<'_>]) {
        debug_assert!(
            labels
                .iter()
                .all(|(name, _)| self.metric.labels.contains(name)),
            "{}: {labels:?}",
            self.metric.stem
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_prefers() {
        // What Prometheus 2.42 and 3 send, and curl, and a browser.
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::of(Some(prometheus)), Format::Open);
        for other in [
            None,
            Some("*/*"),
            Some("text/html,application/xml;q=0.9"),
            Some("text/plain;version=0.0.4, application/openmetrics-text;q=0.5"),
            Some("application/openmetrics-text;q=0"),
        ] {
            assert_eq!(Format::of(other), Format::Classic, "{other:?}");
        }
    }

    #[test]
    fn the_older_format_names_counters_in_full_and_has_no_units() {
        let open = "# HELP a_bytes What # it is\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                    a_bytes_total{x=\"y\"} 1\n# HELP b B\n# TYPE b gauge\nb 2.0\n# EOF\n";
        let expected = "# HELP a_bytes_total What # it is\n# TYPE a_bytes_total counter\n\
                        a_bytes_total{x=\"y\"} 1\n# HELP b B\n# TYPE b gauge\nb 2.0\n";
        assert_eq!(classic(open), expected);
    }
}
