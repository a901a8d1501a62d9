//! What is measured every few seconds, and whether it grows.
//!
//! For each kind of process: resident and proportional memory, descriptors and memfds; for all together
//! also threads and processes. Of readers and recorders only those count that no fault befalls, on
//! average: a process that was replaced begins anew, and would hide a leak.
//!
//! The first fifth of a run is warm-up and left out: two minutes at least, as long as that is no more than
//! half. The rest is cut into blocks, of which the medians count, so that neighbouring samples do not pass for
//! independent ones. The slope is that of Theil and Sen, the median over all pairs of blocks, with Sen's
//! 99 % interval, by Kendall's statistic (P. K. Sen, J. Am. Stat. Assoc. 63, 1968): it supposes no distribution, and a
//! quarter of the blocks may be wild. A figure **grows** when that whole interval lies above
//! [`ALLOWED`]. There is no share of the mean that is forgiven: how slow a leak a run can find depends on
//! its length alone, and the report says it, as "found from".

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process;

const BLOCKS: usize = 40;
/// Per hour, MiB or pieces: in a month 72, which nobody would notice.
const ALLOWED: f64 = 0.1;
/// 99 %, two-sided, of the normal distribution.
const Z: f64 = 2.576;

#[derive(Default)]
pub struct Figures {
    samples: usize,
    end: f64,
    /// Each with the times at which it was there.
    values: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
}

/// The line through one figure.
pub struct Verdict {
    pub name: String,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// Per hour, and its interval.
    pub slope: f64,
    pub low: f64,
    pub high: f64,
    pub grows: bool,
}

/// kB lines of smaps_rollup and status, in MiB; none for a process that has just ended.
fn mib(pid: u32, file: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

/// What a process is, and whether it counts by itself.
fn kind(process: &process::Process, supervisor: u32, spared: &[String]) -> Option<&'static str> {
    if process.pid == supervisor {
        return Some("supervisor");
    }
    let words: Vec<&str> = process.title.split_whitespace().collect();
    match words[..] {
        ["camring:", "spawner", ..] => Some("spawner"),
        ["camring:", "serve", ..] => Some("server"),
        ["camring:", "reader", name, ..] if spared.iter().any(|one| one == name) => Some("reader"),
        ["camring:", "hls", name, ..] if spared.iter().any(|one| one == name) => Some("recorder"),
        _ => None,
    }
}

impl Figures {
    pub fn len(&self) -> usize {
        self.samples
    }

    fn push(&mut self, name: String, at: f64, value: f64) {
        let (times, values) = self.values.entry(name).or_default();
        times.push(at);
        values.push(value);
    }

    /// Looks at the daemon and all below it. `spared`: cameras that no fault befalls.
    pub fn sample(&mut self, at: Duration, supervisor: u32, spared: &[String]) {
        let mut processes = process::descendants(supervisor);
        processes.extend(process::Process::of(supervisor));
        let mut all: BTreeMap<&str, f64> = BTreeMap::new();
        let mut kinds: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for process in processes.iter().filter(|p| p.state != 'Z') {
            let pid = process.pid;
            let figures = (|| {
                Some([
                    ("RSS, MiB", mib(pid, "status", "VmRSS:")?),
                    ("PSS, MiB", mib(pid, "smaps_rollup", "Pss:")?),
                    ("descriptors", process::descriptors(pid).len() as f64),
                    ("memfds", process::memfds(pid) as f64),
                ])
            })();
            // It has just ended.
            let Some(figures) = figures else { continue };
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            let heap = mib(pid, "smaps_rollup", "Anonymous:").unwrap_or(0.0);
            let more = [
                ("threads", threads as f64),
                ("heap, MiB", heap),
                ("processes", 1.0),
            ];
            for (name, value) in figures.into_iter().skip(1).chain(more) {
                *all.entry(name).or_default() += value;
            }
            if let Some(kind) = kind(process, supervisor, spared) {
                for (name, value) in figures {
                    kinds.entry((kind, name)).or_default().push(value);
                }
            }
        }
        let at = at.as_secs_f64();
        self.samples += 1;
        self.end = at;
        for (name, value) in all {
            self.push(format!("all: {name}"), at, value);
        }
        for ((kind, name), values) in kinds {
            self.push(format!("{kind}: {name}"), at, mean(&values));
        }
    }

    pub fn series(&self) -> Value {
        let series = self.values.iter();
        let series = series
            .map(|(name, (at, values))| (name.clone(), json!({ "seconds": at, "values": values })));
        Value::Object(series.collect())
    }

    /// None when the run was too short.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let warm = (self.end / 5.0).max(120.0).min(self.end / 2.0);
        let figures = self.values.iter().filter_map(|(name, (at, values))| {
            let from = at.partition_point(|at| *at < warm);
            (at.len() - from >= BLOCKS).then(|| verdict(name, &at[from..], &values[from..]))
        });
        figures.collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of values in any order.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn blocks(values: &[f64]) -> Vec<f64> {
    let edge = |n: usize| n * values.len() / BLOCKS;
    (0..BLOCKS)
        .map(|n| median(&values[edge(n)..edge(n + 1)]))
        .collect()
}

fn verdict(name: &str, at: &[f64], values: &[f64]) -> Verdict {
    let (x, y) = (blocks(at), blocks(values));
    let mut slopes: Vec<f64> = Vec::new();
    for i in 0..BLOCKS {
        slopes.extend((i + 1..BLOCKS).map(|j| (y[j] - y[i]) / (x[j] - x[i]) * 3600.0));
    }
    slopes.sort_by(f64::total_cmp);
    let n = BLOCKS as f64;
    let spread = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let below = ((slopes.len() as f64 - spread) / 2.0).floor().max(0.0) as usize;
    let (low, high) = (slopes[below], slopes[slopes.len() - 1 - below]);
    Verdict {
        name: name.to_owned(),
        median: median(values),
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(0.0, f64::max),
        slope: median(&slopes),
        low,
        high,
        grows: low > ALLOWED,
    }
}

impl Verdict {
    /// The slowest growth that this run would have found, per hour.
    fn found_from(&self) -> f64 {
        ALLOWED + (self.slope - self.low).max(0.0)
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "median": self.median, "least": self.least, "most": self.most,
            "slope_per_hour": self.slope, "low_per_hour": self.low, "high_per_hour": self.high,
            "found_from_per_hour": self.found_from(), "grows": self.grows,
        })
    }
}

pub fn table(verdicts: &[Verdict]) -> String {
    let mut text = format!(
        "{:<26} {:>9} {:>9} {:>9} {:>10} {:>22} {:>11}\n",
        "", "median", "least", "most", "per hour", "99 %", "found from"
    );
    for v in verdicts {
        text += &format!(
            "{:<26} {:>9.1} {:>9.1} {:>9.1} {:>+10.2} {:>22} {:>11.2}{}\n",
            v.name,
            v.median,
            v.least,
            v.most,
            v.slope,
            format!("{:+.2} to {:+.2}", v.low, v.high),
            v.found_from(),
            if v.grows { "  GROWS" } else { "" }
        );
    }
    text
}

/// The criterion itself: noise, a spike and a step back do not grow; a leak does, however small beside
/// the rest, once the run is long enough for it.
pub fn check_criterion() {
    // Reproducible noise of ±2.
    let noise = |n: usize| ((n * 7919) % 101) as f64 / 101.0 * 4.0 - 2.0;
    let run = |samples: usize, value: &dyn Fn(usize) -> f64| {
        let at: Vec<f64> = (0..samples).map(|n| n as f64 * 2.0).collect();
        let values: Vec<f64> = (0..samples).map(value).collect();
        verdict("x", &at, &values)
    };
    let hours = |n: usize| n as f64 * 2.0 / 3600.0;
    let flat = |n: usize| 130.0 + noise(n);
    assert!(!run(300, &flat).grows, "noise taken for growth");
    assert!(!run(14_400, &flat).grows, "noise taken for growth");
    let spikes = |n: usize| flat(n) + if n.is_multiple_of(37) { 80.0 } else { 0.0 };
    assert!(!run(300, &spikes).grows, "spikes taken for growth");
    let constant = |_: usize| 42.0;
    assert!(!run(300, &constant).grows, "nothing taken for growth");
    assert!(
        run(300, &|n| flat(n) + n as f64 / 30.0).grows,
        "a fast leak"
    );
    assert!(
        run(300, &|n| flat(n) + (n / 50) as f64 * 2.0).grows,
        "a leak in steps"
    );
    // A descriptor now and then, and a quarter of a MiB an hour in 130: 1.5 % of them in eight hours.
    assert!(
        run(14_400, &|n| (hours(n) * 0.5).floor() + 456.0).grows,
        "a slow leak of descriptors"
    );
    let slow = run(14_400, &|n| flat(n) + hours(n) * 0.25);
    assert!(
        slow.grows,
        "a slow leak of memory: {} {} {}",
        slow.low, slow.slope, slow.high
    );
}
