//! What a process uses: CPU time and memory.
#![deny(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::Pid;

/// CPU time used by all threads of a process since it started, in nanoseconds. Two system calls
/// and no file: `/proc/PID/stat` costs the kernel twenty times as much, and counts in 10 ms.
pub fn cpu_time_ns(pid: Pid) -> Option<u64> {
    let pid = nix::unistd::Pid::from_raw(pid.as_raw_pid());
    let used = nix::time::clock_getcpuclockid(pid).ok()?.now().ok()?;
    u64::try_from(Duration::from(used).as_nanos()).ok()
}

/// Resident memory of a process in bytes; what it shares counts in full.
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_pid())).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Opens this process's own `smaps_rollup`, for another process to read: the right is checked when
/// it is opened, so that figures stay available for a process that is not dumpable.
pub fn open_own_rollup() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/smaps_rollup")?.into())
}

/// statfs(2).
const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// An open `smaps_rollup`: the proportional set size (PSS), in which a page shared by n processes
/// counts as 1/n. Sums over processes are true.
#[derive(Debug)]
pub struct Rollup(File);

impl Rollup {
    /// Wraps what [`open_own_rollup`] returned in the other process. `None` if it is no file of
    /// procfs: that process may be hostile, and reading a pipe of its own could block.
    pub fn new(fd: OwnedFd) -> Option<Self> {
        let system = rustix::fs::fstatfs(&fd).ok()?;
        (system.f_type == PROC_SUPER_MAGIC).then(|| Self(File::from(fd)))
    }

    /// PSS in bytes; `None` once the process has ended. Costs the kernel a walk over the page
    /// tables of the process (some 0.1 ms per 100 MiB): not for a hot loop.
    pub fn pss_bytes(&self) -> Option<u64> {
        // One read from the start gives a fresh figure; the text is under 1 KiB.
        let mut text = [0u8; 4096];
        let len = self.0.read_at(&mut text, 0).ok()?;
        parse_pss(std::str::from_utf8(&text[..len]).ok()?)
    }
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpid;

    #[test]
    fn this_process_uses_some_of_everything() {
        let mut spin = 0u64;
        while cpu_time_ns(getpid()) == Some(0) {
            spin = std::hint::black_box(spin + 1);
        }
        assert!(cpu_time_ns(getpid()).unwrap() > 0);
        assert!(resident_bytes(getpid()).unwrap() > 1 << 16);
        let pss = Rollup::new(open_own_rollup().unwrap()).unwrap();
        let pss = pss.pss_bytes().unwrap();
        assert!(pss > 1 << 16, "{pss}");
    }

    #[test]
    fn a_descriptor_that_is_no_rollup_is_no_figure() {
        assert!(Rollup::new(File::open("/dev/zero").unwrap().into()).is_none());
        let stat = File::open("/proc/self/stat").unwrap();
        assert_eq!(Rollup::new(stat.into()).unwrap().pss_bytes(), None);
    }
}
