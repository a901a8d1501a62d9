//! What the kernel and the control group allow: values of `/proc`, `/sys` and limits of the process, read.
//!
//! Says nothing about enough or too little; that is `limits.rs`. What cannot be read is `None`, and nobody
//! is warned of it. Must never write there.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::{Resource, getrlimit};

/// No file of these is longer.
const LONGEST: u64 = 64 << 10;

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// `net.core.rmem_max`, in bytes.
    pub rmem_max: Option<u64>,
    /// `kernel.pid_max`, `kernel.threads-max`: processes and threads of the machine.
    pub pid_max: Option<u64>,
    pub threads_max: Option<u64>,
    /// Open files of the machine: `fs.file-max`, and how many there are.
    pub file_max: Option<u64>,
    pub files_open: Option<u64>,
    /// `vm.max_map_count`: mappings of one process.
    pub max_map_count: Option<u64>,
    /// `vm.overcommit_memory` is 2: memory must be promised before it is used. Then what may be promised,
    /// and what is, in bytes.
    pub commit: Option<(u64, u64)>,
    /// `fs.inotify`: instances and watches of one user.
    pub inotify_instances: Option<u64>,
    pub inotify_watches: Option<u64>,
    /// `net.ipv4.tcp_mem`, the point from which the kernel saves, in bytes.
    pub tcp_pressure: Option<u64>,
    /// RLIMIT_NPROC, the hard one, where it holds for this user.
    pub user_processes: Option<u64>,
    /// The smallest `pids.max` of the control groups above, and which group has it.
    pub pids_max: Option<(u64, PathBuf)>,
    /// The smallest `cpu.max`, in cores, and which group has it.
    pub cpu_max: Option<(f64, PathBuf)>,
    /// All memory of the control group: the smallest `memory.max`, in bytes, and which group has it.
    pub memory_max: Option<(u64, PathBuf)>,
}

impl Kernel {
    /// Of this machine, as seen by this process.
    pub fn this() -> Self {
        let mut kernel = Self::read(Path::new("/proc"), Path::new("/sys"));
        // Root is not bound by it.
        let bound = !rustix::process::geteuid().is_root();
        kernel.user_processes = bound.then(|| getrlimit(Resource::Nproc).maximum).flatten();
        kernel
    }

    /// Of these folders instead of `/proc` and `/sys`.
    pub fn read(proc: &Path, sys: &Path) -> Self {
        let number = |path: &str| word::<u64>(&proc.join("sys").join(path), 0);
        let group = Groups::of(proc, sys);
        Self {
            rmem_max: number("net/core/rmem_max"),
            pid_max: number("kernel/pid_max"),
            threads_max: number("kernel/threads-max"),
            file_max: number("fs/file-max"),
            files_open: number("fs/file-nr"),
            max_map_count: number("vm/max_map_count"),
            commit: (number("vm/overcommit_memory") == Some(2))
                .then(|| meminfo(proc, "CommitLimit:").zip(meminfo(proc, "Committed_AS:")))
                .flatten(),
            inotify_instances: number("fs/inotify/max_user_instances"),
            inotify_watches: number("fs/inotify/max_user_watches"),
            tcp_pressure: word::<u64>(&proc.join("sys/net/ipv4/tcp_mem"), 1)
                .map(|pages| pages.saturating_mul(rustix::param::page_size() as u64)),
            user_processes: None,
            pids_max: group.least("pids", |group| word(&group.join("pids.max"), 0)),
            cpu_max: group.least("cpu", |group| {
                // v2: "200000 100000"; v1 has a file each, and -1 for no limit.
                let (quota, period) = match word::<f64>(&group.join("cpu.max"), 0) {
                    Some(quota) => (quota, word::<f64>(&group.join("cpu.max"), 1)?),
                    None => (
                        word::<f64>(&group.join("cpu.cfs_quota_us"), 0)?,
                        word::<f64>(&group.join("cpu.cfs_period_us"), 0)?,
                    ),
                };
                (quota > 0.0 && period > 0.0).then(|| quota / period)
            }),
            memory_max: group.least("memory", |group| {
                let limit = word::<u64>(&group.join("memory.max"), 0)
                    .or(word(&group.join("memory.limit_in_bytes"), 0))?;
                // v1 says 2^63 less a page for "no limit".
                (limit < 1 << 62).then_some(limit)
            }),
        }
    }
}

/// The control groups of this process: for each hierarchy its controllers, and its folders from the
/// innermost to the root.
struct Groups(Vec<(Vec<String>, Vec<PathBuf>)>);

impl Groups {
    fn of(proc: &Path, sys: &Path) -> Self {
        let own = text(&proc.join("self/cgroup")).unwrap_or_default();
        let mount = sys.join("fs/cgroup");
        let each = own.lines().filter_map(|line| {
            // cgroups(7): hierarchy:controllers:path; without controllers it is v2.
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let controllers: Vec<_> = controllers.split(',').map(str::to_owned).collect();
            let relative = Path::new(path.trim_start_matches('/'));
            let plain = relative
                .components()
                .all(|c| matches!(c, std::path::Component::Normal(_)));
            // Of a container, the host's path is not mounted: its root is its group.
            let relative = if plain { relative } else { Path::new("") };
            let folders = |root: &Path| relative.ancestors().map(|part| root.join(part)).collect();
            Some(match controllers[0].as_str() {
                "" => (Vec::new(), folders(&mount)),
                first => (controllers.clone(), folders(&mount.join(first))),
            })
        });
        Self(each.take(32).collect())
    }

    /// The smallest value of all groups that a controller has, and its group.
    fn least<T: PartialOrd>(
        &self,
        controller: &str,
        value: impl Fn(&Path) -> Option<T>,
    ) -> Option<(T, PathBuf)> {
        let mut least: Option<(T, PathBuf)> = None;
        for (controllers, folders) in &self.0 {
            if !controllers.is_empty() && !controllers.iter().any(|c| c == controller) {
                continue;
            }
            for folder in folders {
                if let Some(value) = value(folder)
                    && least.as_ref().is_none_or(|(least, _)| value < *least)
                {
                    least = Some((value, folder.clone()));
                }
            }
        }
        least
    }
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// One of the words of a file, as a number.
fn word<T: FromStr>(path: &Path, index: usize) -> Option<T> {
    if fs::metadata(path).ok()?.is_dir() {
        return None;
    }
    text(path)?
        .split_ascii_whitespace()
        .nth(index)?
        .parse()
        .ok()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(proc: &Path, line: &str) -> Option<u64> {
    let text = text(&proc.join("meminfo"))?;
    let rest = text.lines().find_map(|l| l.strip_prefix(line))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Kernel {
        let folder = tree(files);
        let mut kernel = Kernel::read(&folder.path().join("proc"), &folder.path().join("sys"));
        for group in [
            kernel.pids_max.as_mut().map(|(_, group)| group),
            kernel.cpu_max.as_mut().map(|(_, group)| group),
            kernel.memory_max.as_mut().map(|(_, group)| group),
        ]
        .into_iter()
        .flatten()
        {
            *group = group.strip_prefix(folder.path()).unwrap().to_owned();
        }
        kernel
    }

    #[test]
    fn values_are_read_and_the_nearest_limit_of_a_group_counts() {
        let kernel = read(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/kernel/pid_max", "32768\n"),
            ("proc/sys/kernel/threads-max", "15000\n"),
            ("proc/sys/fs/file-max", "9223372036854775807\n"),
            ("proc/sys/fs/file-nr", "1216\t0\t9223372036854775807\n"),
            ("proc/sys/vm/max_map_count", "65530\n"),
            ("proc/sys/vm/overcommit_memory", "2\n"),
            (
                "proc/meminfo",
                "MemTotal: 1 kB\nCommitLimit:    2048 kB\nCommitted_AS:  1024 kB\n",
            ),
            ("proc/sys/fs/inotify/max_user_instances", "128\n"),
            ("proc/sys/fs/inotify/max_user_watches", "8192\n"),
            ("proc/sys/net/ipv4/tcp_mem", "10\t20\t30\n"),
            ("proc/self/cgroup", "0::/system.slice/camring.service\n"),
            (
                "sys/fs/cgroup/system.slice/camring.service/pids.max",
                "max\n",
            ),
            (
                "sys/fs/cgroup/system.slice/camring.service/cpu.max",
                "50000 100000\n",
            ),
            ("sys/fs/cgroup/system.slice/pids.max", "64\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "1000000\n"),
        ]);
        assert_eq!(kernel.rmem_max, Some(212_992));
        assert_eq!(
            (kernel.pid_max, kernel.threads_max),
            (Some(32_768), Some(15_000))
        );
        assert_eq!(
            (kernel.file_max, kernel.files_open),
            (Some(i64::MAX as u64), Some(1216))
        );
        assert_eq!(kernel.max_map_count, Some(65_530));
        assert_eq!(kernel.commit, Some((2 << 20, 1 << 20)));
        assert_eq!(
            (kernel.inotify_instances, kernel.inotify_watches),
            (Some(128), Some(8192))
        );
        assert_eq!(
            kernel.tcp_pressure,
            Some(20 * rustix::param::page_size() as u64)
        );
        let group = PathBuf::from("sys/fs/cgroup/system.slice");
        assert_eq!(kernel.pids_max, Some((64, group.clone())));
        assert_eq!(kernel.cpu_max, Some((0.5, group.join("camring.service"))));
        assert_eq!(kernel.memory_max, Some((1_000_000, group)));
    }

    #[test]
    fn old_hierarchies_are_read_too() {
        let kernel = read(&[
            (
                "proc/self/cgroup",
                "4:memory:/a\n3:pids:/a\n2:cpu,cpuacct:/a\n1:name=systemd:/\n",
            ),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
            ("sys/fs/cgroup/pids/a/pids.max", "7\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(kernel.memory_max.map(|(bytes, _)| bytes), Some(4096));
        assert_eq!(kernel.pids_max.map(|(n, _)| n), Some(7));
        assert_eq!(kernel.cpu_max, None);
    }

    #[test]
    fn nothing_and_nonsense_are_no_limits() {
        assert_eq!(read(&[("proc/x", "")]), Kernel::default());
        let nonsense = read(&[
            ("proc/sys/net/core/rmem_max", "-1\n"),
            ("proc/sys/kernel/pid_max", "\u{1}\n"),
            ("proc/sys/vm/overcommit_memory", "2\n"),
            ("proc/meminfo", "CommitLimit: x kB\nCommitted_AS:\n"),
            ("proc/sys/net/ipv4/tcp_mem", "1\n"),
            ("proc/self/cgroup", "x\n::\n0::/../../outside\n"),
            ("sys/fs/cgroup/cpu.max", "0 0\n"),
            ("sys/fs/cgroup/pids.max/file", ""),
        ]);
        assert_eq!(nonsense, Kernel::default());
    }

    #[test]
    fn this_machine_has_limits() {
        let kernel = Kernel::this();
        assert!(
            kernel.pid_max.is_some() && kernel.max_map_count.is_some(),
            "{kernel:?}"
        );
    }
}
