//! Looks at processes from outside, through /proc: who is whose child, and what they hold open.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// One process, told from a later one with the same pid by its start time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// As in /proc/PID/stat: R, S, D, T, Z …
    pub state: char,
    /// Clock ticks since boot.
    pub started: u64,
    /// Command line as `ps` shows it, or the thread name in brackets when there is none.
    pub title: String,
}

impl Process {
    /// The process with this pid now, a zombie too.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything, also parentheses.
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title)
            .replace('\0', " ")
            .trim()
            .to_owned();
        let name = head.split_once('(').map_or("", |(_, name)| name);
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            started: fields.get(19)?.parse().ok()?,
            title: if title.is_empty() {
                format!("[{name}]")
            } else {
                title
            },
        })
    }

    /// Whether exactly this process still exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).is_some_and(|now| now.started == self.started && now.state != 'Z')
    }
}

/// Every process there is.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
        .collect()
}

/// Direct children.
pub fn children(pid: u32) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|process| process.parent == pid)
        .collect()
}

/// Children, their children, and so on.
pub fn descendants(pid: u32) -> Vec<Process> {
    let everyone = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in everyone.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// Processes whose environment holds this exact `NAME=value`, wherever they now are in the tree.
pub fn with_environment(entry: &str) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|process| {
            let environment =
                fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|one| one == entry.as_bytes())
        })
        .collect()
}

/// What each open descriptor of a process refers to. Empty when the process has gone.
pub fn descriptors(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .collect()
}

/// How many memfds a process holds open.
pub fn memfds(pid: u32) -> usize {
    descriptors(pid)
        .iter()
        .filter(|path| path.to_string_lossy().starts_with("/memfd:"))
        .count()
}

/// Proportional set size in bytes: shared pages divided among those that share them.
pub fn pss_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Names in /dev/shm that begin so.
pub fn shared_memory_names(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Sends a signal to one process. False: it is not there any more.
pub fn kill(pid: u32, signal: Signal) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    assert!(pid.as_raw() > 1, "refusing to signal pid {pid}");
    signal::kill(pid, signal).is_ok()
}
