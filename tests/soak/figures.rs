//! What is measured every few seconds, and whether it grows.
//!
//! The first fifth of a run, a minute at least where it is long enough, is warm-up and left out. What
//! is left is averaged in blocks, so that neighbouring samples do not pass for independent ones, and a
//! line is fitted through the blocks by least squares. A figure **grows** when the 95 % interval of
//! that line's slope lies above zero *and* the line rises by more than 2 % of its mean over the run:
//! less than that is what allocators and caches do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process;

const BLOCKS: usize = 20;
/// Of a mean, over the run.
const TOLERATED: f64 = 0.02;
/// Student's t, 97.5 %, for `BLOCKS - 2` degrees of freedom.
const T: f64 = 2.101;

#[derive(Default)]
pub struct Figures {
    at: Vec<f64>,
    values: BTreeMap<String, Vec<f64>>,
}

/// The line through one figure.
pub struct Verdict {
    pub name: String,
    pub mean: f64,
    pub least: f64,
    pub most: f64,
    /// Per hour.
    pub slope: f64,
    /// Half of the 95 % interval.
    pub uncertainty: f64,
    pub grows: bool,
}

/// kB lines of smaps_rollup and status, in MiB; 0 for a process that has just ended.
fn mib(pid: u32, file: &str, key: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

impl Figures {
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Looks at the daemon and all below it.
    pub fn sample(&mut self, at: Duration, supervisor: u32) {
        let mut processes = process::descendants(supervisor);
        processes.extend(process::Process::of(supervisor));
        let mut now: BTreeMap<&str, f64> = BTreeMap::new();
        let mut readers = 0.0;
        let mut reader_rss = 0.0;
        for process in processes.iter().filter(|p| p.state != 'Z') {
            let pid = process.pid;
            let rss = mib(pid, "status", "VmRSS:");
            let class = if pid == supervisor {
                "supervisor RSS, MiB"
            } else if process.title.contains("spawner") {
                "spawner RSS, MiB"
            } else {
                readers += 1.0;
                reader_rss += rss;
                ""
            };
            if !class.is_empty() {
                *now.entry(class).or_default() += rss;
            }
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            for (name, value) in [
                ("PSS of all, MiB", mib(pid, "smaps_rollup", "Pss:")),
                ("heap of all, MiB", mib(pid, "smaps_rollup", "Anonymous:")),
                ("descriptors", process::descriptors(pid).len() as f64),
                ("memfds", process::memfds(pid) as f64),
                ("threads", threads as f64),
                ("processes", 1.0),
            ] {
                *now.entry(name).or_default() += value;
            }
        }
        // Right after a kill there is no spawner, or a reader less: the others say what one takes.
        if readers > 0.0 {
            now.insert("RSS of a reader, MiB", reader_rss / readers);
        }
        let at = at.as_secs_f64();
        self.at.push(at);
        let length = self.at.len();
        for name in [
            "PSS of all, MiB",
            "heap of all, MiB",
            "supervisor RSS, MiB",
            "spawner RSS, MiB",
            "RSS of a reader, MiB",
            "descriptors",
            "memfds",
            "threads",
            "processes",
        ] {
            let series = self.values.entry(name.to_owned()).or_default();
            let last = series.last().copied().unwrap_or(0.0);
            series.push(now.get(name).copied().unwrap_or(last));
            debug_assert_eq!(series.len(), length);
        }
    }

    pub fn series(&self) -> Value {
        json!({ "seconds": self.at, "values": self.values })
    }

    /// None when the run was too short.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let Some(end) = self.at.last() else {
            return Vec::new();
        };
        let warm = (end / 5.0).max(60.0).min(end / 2.0);
        let from = self.at.partition_point(|at| *at < warm);
        if self.at.len() - from < 2 * BLOCKS {
            return Vec::new();
        }
        let at = blocks(&self.at[from..]);
        self.values
            .iter()
            .map(|(name, values)| verdict(name, &at, &values[from..]))
            .collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn blocks(values: &[f64]) -> Vec<f64> {
    let edge = |n: usize| n * values.len() / BLOCKS;
    (0..BLOCKS)
        .map(|n| mean(&values[edge(n)..edge(n + 1)]))
        .collect()
}

fn verdict(name: &str, at: &[f64], values: &[f64]) -> Verdict {
    let y = blocks(values);
    let (mx, my) = (mean(at), mean(&y));
    let sxx: f64 = at.iter().map(|x| (x - mx).powi(2)).sum();
    let sxy: f64 = at.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    let slope = sxy / sxx;
    let residue: f64 = at
        .iter()
        .zip(&y)
        .map(|(x, y)| (y - my - slope * (x - mx)).powi(2))
        .sum();
    let uncertainty = T * (residue / (BLOCKS - 2) as f64 / sxx).sqrt();
    let rise = slope * (at[at.len() - 1] - at[0]);
    Verdict {
        name: name.to_owned(),
        mean: my,
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(0.0, f64::max),
        slope: slope * 3600.0,
        uncertainty: uncertainty * 3600.0,
        grows: slope > uncertainty && rise > TOLERATED * my,
    }
}

impl Verdict {
    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "mean": self.mean, "least": self.least, "most": self.most,
            "slope_per_hour": self.slope, "uncertainty_per_hour": self.uncertainty,
            "grows": self.grows,
        })
    }
}

pub fn table(verdicts: &[Verdict]) -> String {
    let mut text = format!(
        "{:<22} {:>9} {:>9} {:>9} {:>12} {:>9}\n",
        "", "mean", "least", "most", "per hour", "±95 %"
    );
    for v in verdicts {
        text += &format!(
            "{:<22} {:>9.1} {:>9.1} {:>9.1} {:>+12.2} {:>9.2}{}\n",
            v.name,
            v.mean,
            v.least,
            v.most,
            v.slope,
            v.uncertainty,
            if v.grows { "  GROWS" } else { "" }
        );
    }
    text
}

/// The criterion itself: noise does not grow, a leak of a tenth under the same noise does.
pub fn check_criterion() {
    let at: Vec<f64> = (0..300).map(|n| f64::from(n) * 2.0).collect();
    let noise = |n: usize| ((n * 7919) % 101) as f64 / 101.0 * 4.0;
    let flat: Vec<f64> = (0..300).map(|n| 100.0 + noise(n)).collect();
    let leak: Vec<f64> = (0..300).map(|n| flat[n] + n as f64 / 30.0).collect();
    let steps: Vec<f64> = (0..300).map(|n| flat[n] + (n / 50) as f64 * 2.0).collect();
    let grows = |values: &[f64]| verdict("x", &blocks(&at), values).grows;
    assert!(!grows(&flat), "noise taken for growth");
    assert!(grows(&leak) && grows(&steps), "growth not seen");
}
