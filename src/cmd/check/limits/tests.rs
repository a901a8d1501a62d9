use std::path::PathBuf;

use super::*;
use crate::config::{self, Environment};

fn site(cameras: usize, transport: &str, more: &str) -> Site {
    let mut text = more.to_owned();
    for n in 0..cameras {
        text.push_str(&format!(
            "[[camera]]\nname = \"c{n}\"\nurl = \"rtsp://192.0.2.1/{n}\"\ntransport = \"{transport}\"\n"
        ));
    }
    let parsed = config::parse(&text, "x".as_ref(), &Environment::empty());
    parsed.unwrap_or_else(|error| panic!("{error}")).0
}

/// A machine on which all is enough.
fn roomy() -> Kernel {
    Kernel {
        rmem_max: Some(64 << 20),
        pid_max: Some(4 << 20),
        threads_max: Some(1 << 20),
        file_max: Some(i64::MAX as u64),
        files_open: Some(2_000),
        max_map_count: Some(65_530),
        commit: None,
        inotify_instances: Some(128),
        inotify_watches: Some(1 << 20),
        tcp_pressure: Some(4 << 30),
        user_processes: Some(1 << 20),
        pids_max: Some((1 << 20, PathBuf::from("/sys/fs/cgroup/a"))),
        cpu_max: Some((8.0, PathBuf::from("/sys/fs/cgroup/a"))),
        memory_max: Some((64 << 30, PathBuf::from("/sys/fs/cgroup/a"))),
    }
}

const RECORD: &str = "[limits]\nmax_processes = 512\n[record]\nmode = \"copy\"\n";

/// The names of the limits that are too small.
fn short(site: &Site, kernel: &Kernel) -> Vec<Limit> {
    let limits = limits(site, kernel, 4, 1_000, 1 << 30);
    for limit in &limits {
        assert_eq!(limit.enough, limit.needed <= limit.limit, "{limit:?}");
        assert_eq!(limit.enough, limit.fix.is_none(), "{limit:?}");
        assert_eq!(limit.enough, limit.doubt.is_none(), "{limit:?}");
    }
    limits.into_iter().filter(|limit| !limit.enough).collect()
}

#[track_caller]
fn only(site: &Site, kernel: &Kernel, name: &str, fix: &str) -> String {
    let short = short(site, kernel);
    let names: Vec<_> = short.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, [name]);
    assert_eq!(short[0].fix.as_deref(), Some(fix));
    short[0].doubt.clone().unwrap()
}

#[test]
fn a_roomy_machine_is_enough_and_says_so() {
    let site = site(100, "tcp", RECORD);
    assert_eq!(short(&site, &roomy()), []);
    assert!(limits(&site, &roomy(), 4, 1_000, 1 << 30).len() >= 10);
    // Where nothing can be read, nothing is said.
    assert_eq!(limits(&site, &Kernel::default(), 4, 1_000, 1 << 30), []);
}

#[test]
fn the_receive_buffer_matters_with_udp_only() {
    let mut kernel = roomy();
    kernel.rmem_max = Some(212_992);
    let fix = "sysctl -w net.core.rmem_max=1048576";
    let said = only(&site(3, "udp", ""), &kernel, "net.core.rmem_max", fix);
    assert!(said.contains("208 KiB") && said.contains("1 MiB"), "{said}");
    assert_eq!(short(&site(3, "tcp", ""), &kernel), []);
    let small = site(3, "multicast", "[network]\nreceive_buffer = \"128KiB\"\n");
    assert_eq!(short(&small, &kernel), []);
}

#[test]
fn processes_and_threads() {
    let site = site(50, "tcp", RECORD);
    let mut kernel = roomy();
    kernel.pid_max = Some(1_000);
    only(
        &site,
        &kernel,
        "kernel.pid_max",
        "sysctl -w kernel.pid_max=4096",
    );
    let mut kernel = roomy();
    kernel.threads_max = Some(1_000);
    only(
        &site,
        &kernel,
        "kernel.threads-max",
        "sysctl -w kernel.threads-max=4096",
    );
    let mut kernel = roomy();
    kernel.user_processes = Some(100);
    let said = only(&site, &kernel, "RLIMIT_NPROC", "ulimit -Hu 2048");
    assert!(said.contains("LimitNPROC=2048"), "{said}");
    let mut kernel = roomy();
    kernel.pids_max = Some((64, PathBuf::from("/sys/fs/cgroup/x")));
    let said = only(
        &site,
        &kernel,
        "pids.max",
        "echo 1348 > /sys/fs/cgroup/x/pids.max",
    );
    assert!(said.contains("TasksMax="), "{said}");
}

#[test]
fn files_and_mappings() {
    let site = site(50, "tcp", "");
    let mut kernel = roomy();
    kernel.file_max = Some(2_500);
    only(&site, &kernel, "fs.file-max", "sysctl -w fs.file-max=8192");
    let mut kernel = roomy();
    kernel.max_map_count = Some(1_024);
    only(
        &site,
        &kernel,
        "vm.max_map_count",
        "sysctl -w vm.max_map_count=4096",
    );
}

#[test]
fn memory() {
    let site = site(10, "tcp", "");
    let mut kernel = roomy();
    kernel.commit = Some((2 << 30, 1 << 30));
    let said = only(
        &site,
        &kernel,
        "vm.overcommit_memory",
        "sysctl -w vm.overcommit_memory=0",
    );
    assert!(said.contains("promised"), "{said}");
    kernel.commit = Some((32 << 30, 1 << 30));
    assert_eq!(short(&site, &kernel), []);
    let mut kernel = roomy();
    kernel.memory_max = Some((1 << 30, PathBuf::from("/g")));
    let fix = format!(
        "echo {} > /g/memory.max",
        ((1u64 << 30) + 13 * (8 << 20)) * 5 / 4
    );
    let said = only(&site, &kernel, "memory.max", &fix);
    assert!(said.contains("MemoryMax="), "{said}");
}

#[test]
fn cores() {
    let mut kernel = roomy();
    kernel.cpu_max = Some((0.5, PathBuf::from("/g")));
    let fix = "echo max > /g/cpu.max";
    // Spread over as many cores as there are cameras, or as there are.
    let said = only(&site(2, "tcp", ""), &kernel, "cpu.max", fix);
    assert!(
        said.contains("CPUQuota=200%") && said.contains("0.50 cores"),
        "{said}"
    );
    let said = only(&site(50, "tcp", ""), &kernel, "cpu.max", fix);
    assert!(said.contains("CPUQuota=400%"), "{said}");
    kernel.cpu_max = Some((1.0, PathBuf::from("/g")));
    assert_eq!(short(&site(1, "tcp", ""), &kernel), []);
}

#[test]
fn inotify_matters_with_recordings_only() {
    let mut kernel = roomy();
    kernel.inotify_watches = Some(100);
    kernel.inotify_instances = Some(2);
    let names: Vec<_> = short(&site(10, "tcp", RECORD), &kernel)
        .into_iter()
        .filter_map(|limit| limit.fix)
        .collect();
    assert_eq!(
        names,
        [
            "sysctl -w fs.inotify.max_user_watches=1024",
            "sysctl -w fs.inotify.max_user_instances=128"
        ]
    );
    assert_eq!(short(&site(10, "tcp", ""), &kernel), []);
}

#[test]
fn tcp_memory_matters_with_tcp_only() {
    let mut kernel = roomy();
    kernel.tcp_pressure = Some(16 << 20);
    let pages = (100u64 << 20) / rustix::param::page_size() as u64;
    let fix = format!(
        "sysctl -w net.ipv4.tcp_mem=\"{} {pages} {}\"",
        pages * 3 / 4,
        pages * 3 / 2
    );
    only(&site(50, "tcp", ""), &kernel, "net.ipv4.tcp_mem", &fix);
    assert_eq!(short(&site(50, "udp", ""), &kernel), []);
}
