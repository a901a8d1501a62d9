//! Processes: adoption, death with the parent, watching and ending by pidfd, limits.
#![deny(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getppid,
};

/// The limits of a media process.
///
/// - It can gain no privilege by executing anything (`no_new_privs`).
/// - Not dumpable: it holds a camera's password, which must not end up in a core file or be read
///   by another process of the same user. What that costs: `gdb`, `strace` and `perf` need root,
///   and `/proc/<pid>/{fd,environ,maps,smaps_rollup}` belong to root. CPU time and resident memory
///   (`stat`, `statm`) stay readable for all; for the proportional memory figure the process hands
///   its supervisor an open `smaps_rollup` ([`super::usage::open_own_rollup`]).
/// - [`Isolation::OPEN_FILES`] descriptors: three per subscriber and some sockets.
#[derive(Debug)]
pub struct Isolation;

impl Isolation {
    /// The most descriptors a media process can have open: a leak ends there, far from the limits
    /// of the machine.
    pub const OPEN_FILES: u64 = 4096;

    /// Applies the limits to this process, for good.
    ///
    /// # Errors
    /// The kernel refused one of them.
    pub fn apply() -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        not_dumpable()?;
        let files = rustix::process::getrlimit(Resource::Nofile);
        let most = files.maximum.unwrap_or(u64::MAX).min(Self::OPEN_FILES);
        limit(Resource::Nofile, most)?;
        limit(Resource::Core, 0)
    }
}

/// Limits the private memory of this process (heap, stacks; not mapped rings) to `bytes`: one
/// process that leaks fails alone, instead of the machine.
pub fn limit_private_memory(bytes: u64) -> io::Result<()> {
    limit(Resource::Data, bytes)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let rlimit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(rustix::process::setrlimit(resource, rlimit)?)
}

/// No core file, and no look into this process's memory for others of the same user.
pub fn not_dumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

/// As many open descriptors as the hard limit allows: the supervisor keeps some for each camera
/// and subscriber, and the usual soft limit of 1024 is for programs that use `select`.
/// Returns the limit now in force.
pub fn raise_open_files() -> io::Result<u64> {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised)?;
    Ok(now.maximum.unwrap_or(u64::MAX))
}

/// Makes this process the parent of those among its descendants whose own parent ended.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// Has the kernel kill this process when the thread ends that is its parent, and makes sure that
/// this has not happened yet.
///
/// # Errors
/// The parent is not `parent`: it has ended already.
pub fn die_with_parent(parent: Pid) -> io::Result<()> {
    // The order matters: a parent that ends after the check is noticed by the kernel, one that
    // ended before it by the check.
    let orphan = || io::Error::new(io::ErrorKind::NotFound, "the parent process has ended");
    if getppid() != Some(parent) {
        return Err(orphan());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        return Err(orphan());
    }
    Ok(())
}

/// The name of the calling thread in `top`: at most 15 bytes are shown, cut at a character.
pub fn name_thread(name: &str) {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = CString::new(&name[..end]) {
        // Cosmetic: no reason to fail.
        let _ = rustix::thread::set_name(&name);
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned or called `exit` with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
                // Nothing else sends it.
                Ok(nix::sys::signal::Signal::SIGSYS) => f.write_str(
                    "killed by SIGSYS: a system call that the sandbox forbids; the kernel's log has \
                     its number: journalctl -k -g type=1326",
                ),
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// Names the child `pid` so that it can be confused with no other: by a pidfd, readable from the
/// moment the process has ended. The child must not have been reaped yet: until then the number
/// is its.
pub fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The exit status of the child behind a pidfd, if it has ended: taken once, the process is gone
/// then. Never waits.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        return match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
            Ok(status) => {
                Ok(status.map(
                    |status| match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Exit::Code(code),
                        (None, Some(signal)) => Exit::Signal(signal),
                        (None, None) => Exit::Signal(0),
                    },
                ))
            }
        };
    }
}

/// Sends SIGKILL to the process behind a pidfd. Nothing happens where it has ended already.
pub fn kill(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
}

/// Reaps children that ended and that nobody watches: those for which `known` is false. Returns
/// how many. Never waits.
///
/// Adopted processes can be unknown: a spawner that dies between forking a child and telling its
/// pid leaves one.
pub fn reap_unknown(known: impl Fn(Pid) -> bool) -> usize {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let take = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    let mut reaped = 0;
    loop {
        let found = match waitid(Id::All, take | WaitPidFlag::WNOWAIT) {
            Ok(status) => status.pid(),
            Err(_) => None,
        };
        // A known one in front: its own watcher takes it, and the next round sees those behind.
        let unknown = found.filter(|p| pid(p.as_raw()).is_some_and(|p| !known(p)));
        let Some(pid) = unknown else {
            return reaped;
        };
        if waitid(Id::Pid(pid), take).is_err() {
            return reaped;
        }
        reaped += 1;
    }
}

/// A number as a pid, if it can be one.
pub fn pid(number: i32) -> Option<Pid> {
    if number > 0 {
        Pid::from_raw(number)
    } else {
        None
    }
}

/// Whether a process with this number exists (a zombie does).
pub fn exists(number: i32) -> bool {
    pid(number).is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// The numbers of `/proc/<pid>/stat` from the third field on: the second is the program's name in
/// parentheses, in which anything may stand, parentheses and spaces too.
pub(super) fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().collect())
}

/// The state letter of a process as proc(5) lists them (`D`: cannot be killed now).
pub fn state_letter(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat_fields(&stat)?.first()?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    /// Waits as a test may.
    fn reap(pidfd: &OwnedFd) -> Exit {
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
        try_reap(pidfd.as_fd()).unwrap().unwrap()
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped by its pidfd")]
    fn a_child_is_watched_killed_and_reaped_by_its_pidfd() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = open_pidfd(pid).unwrap();
        assert_eq!(try_reap(pidfd.as_fd()).unwrap(), None);
        assert!(exists(pid.as_raw_pid()) && state_letter(pid).is_some());
        kill(pidfd.as_fd());
        let exit = reap(&pidfd);
        assert_eq!(exit, Exit::Signal(9));
        assert_eq!(exit.to_string(), "killed by SIGKILL");
        assert!(try_reap(pidfd.as_fd()).is_err(), "only once");
        kill(pidfd.as_fd());
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaped by its pidfd")]
    fn an_exit_code_is_told() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = open_pidfd(Pid::from_child(&child)).unwrap();
        let exit = reap(&pidfd);
        assert_eq!((exit, &*exit.to_string()), (Exit::Code(7), "exit code 7"));
    }

    #[test]
    fn nobody_is_no_process() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert!(!exists(pid));
        }
    }

    #[test]
    fn a_parent_that_is_another_is_noticed() {
        let own = rustix::process::getpid();
        assert!(die_with_parent(own).is_err());
    }

    #[test]
    fn the_program_name_may_hold_anything() {
        let fields = stat_fields("12 (a) R (b) S 1 2").unwrap();
        assert_eq!(fields, ["S", "1", "2"]);
        assert_eq!(stat_fields("12 a S"), None);
    }
}
