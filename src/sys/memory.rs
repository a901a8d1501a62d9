//! How much memory there is: the machine's, and what the cgroups around this process allow.
#![deny(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// What can still be allocated, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headroom {
    /// Bytes.
    pub bytes: u64,
    /// Where the figure is from, for messages: `MemAvailable`, or a cgroup's path.
    pub source: String,
}

/// The least of MemAvailable and of what is left in each memory cgroup around this process
/// (v1 or v2). `None` where the machine's memory cannot be read: then nothing can be promised.
pub fn headroom() -> Option<Headroom> {
    let machine = Headroom {
        bytes: machine()?.available_memory(),
        source: "MemAvailable".into(),
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = cgroup_headroom(Path::new("/sys/fs/cgroup"), &own);
    let least = groups.into_iter().chain([machine]);
    least.min_by_key(|h| h.bytes).filter(|h| h.bytes > 0)
}

/// The machine's memory in bytes.
pub fn total() -> Option<u64> {
    Some(machine()?.total_memory()).filter(|bytes| *bytes > 0)
}

/// The machine's memory at this moment.
fn machine() -> Option<System> {
    let ram = MemoryRefreshKind::nothing().with_ram();
    System::new_with_specifics(RefreshKind::nothing().with_memory(ram)).ok()
}

/// What is left in the group nearest to its limit, from this process's up to the root.
/// `own` is `/proc/self/cgroup`, `mount` where cgroups are mounted.
fn cgroup_headroom(mount: &Path, own: &str) -> Option<Headroom> {
    let mut least: Option<Headroom> = None;
    for line in own.lines() {
        // cgroups(7): hierarchy:controllers:path; hierarchy 0 without controllers is v2.
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, files) = if controllers.is_empty() {
            (mount.to_path_buf(), &V2)
        } else if controllers.split(',').any(|c| c == "memory") {
            (mount.join("memory"), &V1)
        } else {
            continue;
        };
        // In a container the path may be the host's, with only the inner part mounted: then the
        // folders on the way do not exist, and the root of the mount is the container's group.
        for group in groups(&root, path) {
            if let Some(bytes) = left_in(&group, files)
                && least.as_ref().is_none_or(|l| bytes < l.bytes)
            {
                least = Some(Headroom {
                    bytes,
                    source: format!("cgroup {}", group.display()),
                });
            }
        }
    }
    least
}

struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with what the kernel drops before it kills anybody.
    droppable: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    droppable: "total_inactive_file ",
};
const V2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    droppable: "inactive_file ",
};

fn groups(root: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let climbs = relative
        .components()
        .any(|c| !matches!(c, std::path::Component::Normal(_)));
    let start = if climbs { Path::new("") } else { relative };
    start.ancestors().map(|part| root.join(part)).collect()
}

/// Bytes left under the limit of one group; `None`: no limit, or not readable.
fn left_in(group: &Path, files: &Files) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    // "max" in v2 is no number; v1 says 2^63 less a page for "no limit".
    let limit = number(files.limit).filter(|&limit| limit < 1 << 62)?;
    let usage = number(files.usage)?;
    let droppable = fs::read_to_string(group.join("memory.stat"))
        .ok()
        .and_then(|stat| {
            let line = stat.lines().find_map(|l| l.strip_prefix(files.droppable))?;
            line.trim().parse::<u64>().ok()
        })
        .unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(droppable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn this_machine_has_some_memory() {
        let headroom = headroom().unwrap();
        assert!(headroom.bytes > 1 << 20, "{headroom:?}");
        assert!(headroom.bytes <= total().unwrap());
    }

    #[test]
    fn the_nearest_limit_of_a_v2_tree_counts_and_cache_is_not_use() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("a/memory.max"), "1000000\n");
        write(&root.join("a/memory.current"), "900000\n");
        write(
            &root.join("a/memory.stat"),
            "anon 1\ninactive_file 300000\n",
        );
        write(&root.join("a/b/memory.max"), "max\n");
        write(&root.join("a/b/memory.current"), "5\n");
        let found = cgroup_headroom(root, "0::/a/b\n").unwrap();
        assert_eq!(found.bytes, 400_000);
        assert!(found.source.ends_with("/a"), "{}", found.source);
    }

    #[test]
    fn the_v1_memory_controller_counts_and_no_limit_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let group = root.join("memory/x");
        write(
            &group.join("memory.limit_in_bytes"),
            "9223372036854771712\n",
        );
        write(&group.join("memory.usage_in_bytes"), "77\n");
        let own = "9:name=systemd:/\n4:memory:/x\n1:cpu:/\n0::/\n";
        assert_eq!(cgroup_headroom(root, own), None);
        write(&group.join("memory.limit_in_bytes"), "100\n");
        assert_eq!(cgroup_headroom(root, own).unwrap().bytes, 23);
    }

    #[test]
    fn a_path_from_outside_the_container_means_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("memory.max"), "10\n");
        write(&root.join("memory.current"), "20\n");
        let found = cgroup_headroom(root, "0::/../../outside\n").unwrap();
        assert_eq!(found.bytes, 0, "over the limit is none left");
    }
}
