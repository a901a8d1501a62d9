//! What processes cost, from /proc.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// Which part of the daemon a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Supervisor,
    Spawner,
    Network,
    Decode,
}

/// CPU time so far of every thread of some processes.
#[derive(Debug, Default)]
pub struct Cpu {
    /// Thread id: nanoseconds, and how often it was put on a core.
    threads: HashMap<u32, (Part, u64, u64)>,
}

/// What was used between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub seconds: f64,
    pub switches: f64,
}

/// Nanoseconds on a core and number of times put there (Documentation/scheduler/sched-stats.rst):
/// exact, where utime and stime are counted in ticks of 10 ms.
pub fn thread_cpu(pid: u32, tid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let mut words = text.split_whitespace();
    let nanoseconds = words.next()?.parse().ok()?;
    Some((nanoseconds, words.nth(1)?.parse().ok()?))
}

pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

impl Cpu {
    /// Of the daemon `supervisor` and its children, which are `readers` but for one.
    pub fn of(supervisor: u32, children: &[u32], readers: &[u32]) -> Cpu {
        let mut all = Cpu::default();
        for pid in children.iter().copied().chain([supervisor]) {
            for tid in threads(pid) {
                let part = if pid == supervisor {
                    Part::Supervisor
                } else if !readers.contains(&pid) {
                    Part::Spawner
                } else if tid == pid {
                    Part::Network
                } else {
                    Part::Decode
                };
                if let Some((ns, switches)) = thread_cpu(pid, tid) {
                    all.threads.insert(tid, (part, ns, switches));
                }
            }
        }
        all
    }

    /// What each part used since an earlier look.
    pub fn since(&self, earlier: &Cpu) -> BTreeMap<Part, Used> {
        let mut parts = BTreeMap::<Part, Used>::new();
        for (tid, (part, ns, switches)) in &self.threads {
            let before = earlier.threads.get(tid).map_or((0, 0), |t| (t.1, t.2));
            let used = parts.entry(*part).or_default();
            used.seconds += ns.saturating_sub(before.0) as f64 / 1e9;
            used.switches += switches.saturating_sub(before.1) as f64;
        }
        parts
    }
}

/// Seconds that all cores together were busy, and that the hypervisor took away, since boot.
pub fn busy() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let at = |n: usize| ticks.get(n).copied().unwrap_or(0.0) / 100.0;
    // user nice system idle iowait irq softirq steal
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Proportional share, without memfds.
    pub beside_rings: u64,
    /// Allocated in memfds: rings, pin and bell pages; each once.
    pub rings: u64,
    /// The largest private part of one of `readers`, and the mean.
    pub private_worst: u64,
    pub private_mean: u64,
}

impl Memory {
    pub fn of(processes: &[u32], readers: &[u32]) -> Memory {
        let mut memory = Memory::default();
        let mut memfds = HashMap::new();
        let mut private_sum = 0;
        for pid in processes {
            let (pss, private) = mappings(*pid);
            memory.beside_rings += pss;
            if readers.contains(pid) {
                private_sum += private;
                memory.private_worst = memory.private_worst.max(private);
            }
            let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
                continue;
            };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let memfd = fs::read_link(&path)
                    .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"));
                // Through the link: of the file itself.
                if let (true, Ok(file)) = (memfd, fs::metadata(&path)) {
                    memfds.insert((file.dev(), file.ino()), file.blocks() * 512);
                }
            }
        }
        memory.rings = memfds.values().sum();
        memory.private_mean = private_sum / readers.len().max(1) as u64;
        memory
    }
}

/// PSS and private memory of a process, without its memfds.
fn mappings(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut pss, mut private, mut memfd) = (0, 0, false);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(key) = words.next() else { continue };
        if !key.ends_with(':') {
            memfd = line.contains("/memfd:");
            continue;
        }
        let kilobytes: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        match key {
            _ if memfd => {}
            "Pss:" => pss += kilobytes * 1024,
            "Private_Clean:" | "Private_Dirty:" => private += kilobytes * 1024,
            _ => {}
        }
    }
    (pss, private)
}

/// The machine in a line.
pub fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches(['\t', ' ', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
