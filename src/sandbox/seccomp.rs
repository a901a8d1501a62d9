//! The filter of system calls: an allow-list for each kind of process.
//!
//! Three filters on top of each other; of their answers the kernel takes the strictest.
//! 1. What no kernel needs to have is answered with ENOSYS.
//! 2. What libraries try, and do without, is refused with EACCES.
//! 3. Whatever is not on the list is a violation: EPERM and a line in the kernel's log, or the end of
//!    the process.
//!
//! A call that all three let pass without a look at its arguments costs next to nothing: the kernel
//! keeps a table of those (since 5.11).
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use libc::*;
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::Profile;
use super::rules::{self, Rules};
use super::syscalls::*;
use crate::config::OnViolation;
use crate::sys::install_filter;

/// System calls, and with which arguments.
type List = BTreeMap<i64, Rules>;

/// Installs the filters of a kind of process. Nothing further can be installed after that, but by what the
/// server starts.
/// `executable`: memory that can be executed is not refused.
pub(super) fn install(
    on_violation: OnViolation,
    profile: &Profile,
    executable: bool,
) -> io::Result<()> {
    let programs = programs(on_violation, profile, executable).map_err(io::Error::other)?;
    let last = programs.len() - 1;
    for (at, program) in programs.iter().enumerate() {
        install_filter(program, at == last)?;
    }
    Ok(())
}

/// The filters, in the order in which they are installed.
fn programs(
    on_violation: OnViolation,
    profile: &Profile,
    executable: bool,
) -> Result<[BpfProgram; 3], BackendError> {
    let pid = std::process::id();
    let allowed = allowed(profile, pid)?;
    let unknown: List = unknown()
        .filter(|call| !allowed.contains_key(call))
        .map(|call| (call, Vec::new()))
        .collect();
    let mut refused = refused(profile, &allowed, pid)?;
    if executable {
        refused.remove(&SYS_mmap);
        refused.remove(&SYS_mprotect);
    }
    let mut passed = allowed;
    // Decided by the other two: this one must not call it a violation.
    for call in unknown.keys() {
        passed.entry(*call).or_default();
    }
    for call in refused.keys() {
        passed.entry(*call).or_default();
    }
    let violation = match on_violation {
        OnViolation::Errno => SeccompAction::Errno(EPERM as u32),
        OnViolation::Kill => SeccompAction::KillProcess,
    };
    let deny = |list, errno| program(list, SeccompAction::Allow, SeccompAction::Errno(errno));
    Ok([
        deny(unknown, ENOSYS as u32)?,
        deny(refused, EACCES as u32)?,
        program(passed, violation, SeccompAction::Allow)?,
    ])
}

fn program(
    list: List,
    others: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(list, others, listed, arch)?.try_into()
}

/// What a kind of process may call.
fn allowed(profile: &Profile, pid: u32) -> Result<List, BackendError> {
    let mut list = List::new();
    let mut add = |calls: &[i64]| list.extend(calls.iter().map(|&call| (call, Vec::new())));
    add(COMMON);
    add(COMMON_OLD);
    // With conditions that `refused` has.
    add(&[
        SYS_mmap,
        SYS_mprotect,
        SYS_ioctl,
        SYS_prctl,
        SYS_prlimit64,
        SYS_setpriority,
        SYS_sched_setaffinity,
    ]);
    match profile {
        Profile::Reader { devices, .. } => {
            add(CONNECT);
            if *devices {
                add(OPEN);
                add(OPEN_OLD);
                add(DRIVER);
            }
        }
        Profile::Recorder { devices, .. } => {
            add(CONNECT);
            add(OPEN);
            add(OPEN_OLD);
            add(FILES);
            add(FILES_OLD);
            if *devices {
                add(DRIVER);
            }
        }
        Profile::Server { .. } => {
            add(CONNECT);
            add(OPEN);
            add(OPEN_OLD);
            add(FILES);
            add(FILES_OLD);
            add(SERVER);
            add(SERVER_OLD);
        }
        Profile::Worker => {}
    }
    let mut with = |call, rules| {
        list.insert(call, rules);
    };
    match profile {
        Profile::Server { .. } => {
            with(SYS_clone, rules::process()?);
        }
        _ => {
            with(SYS_clone, rules::thread()?);
            with(SYS_kill, rules::to_itself(pid)?);
            with(SYS_tgkill, rules::to_itself(pid)?);
        }
    }
    with(
        SYS_socket,
        match profile {
            Profile::Reader { .. } => [rules::internet()?, rules::local()?].concat(),
            Profile::Recorder { .. } => [rules::attach()?, rules::local()?].concat(),
            Profile::Server { .. } => [rules::internet()?, rules::local()?].concat(),
            Profile::Worker => rules::local()?,
        },
    );
    Ok(list)
}

/// What libraries try, and do without where it is refused.
const TRIED: &[&[i64]] = &[
    OPEN,
    OPEN_OLD,
    FILES,
    FILES_OLD,
    CONNECT,
    DRIVER,
    REFUSED,
    REFUSED_OLD,
];

/// What is refused without ado: all of a list that is not allowed, and of what is allowed some
/// arguments.
fn refused(profile: &Profile, allowed: &List, pid: u32) -> Result<List, BackendError> {
    let mut list: List = TRIED
        .iter()
        .copied()
        .flatten()
        .filter(|call| !allowed.contains_key(call))
        .map(|&call| (call, Vec::new()))
        .collect();
    if let Profile::Server { .. } = profile {
        // What it starts does as it likes, within the list.
        return Ok(list);
    }
    if !profile.drives() {
        list.insert(SYS_mmap, rules::executable()?);
        list.insert(SYS_mprotect, rules::executable()?);
        list.insert(SYS_ioctl, rules::devices()?);
    }
    if let Profile::Reader { devices: true, .. } = profile {
        // Opened, but not made: without Landlock, which says which files, this is what is left of it.
        list.insert(SYS_openat, rules::creation(2)?);
        #[cfg(target_arch = "x86_64")]
        list.insert(SYS_open, rules::creation(1)?);
    }
    list.insert(SYS_prctl, rules::other_settings()?);
    list.insert(SYS_prlimit64, rules::others_limits(pid)?);
    list.insert(SYS_setpriority, rules::others_priority()?);
    list.insert(SYS_sched_setaffinity, rules::others_cores()?);
    let local = match profile {
        Profile::Recorder { .. } => rules::local_but_attach()?,
        _ => rules::local()?,
    };
    list.insert(SYS_socket, local);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most instructions that the kernel takes (`BPF_MAXINSNS`).
    const MOST: usize = 4096;

    fn all() -> Vec<Profile> {
        vec![
            Profile::Reader {
                port: 554,
                devices: false,
            },
            Profile::Reader {
                port: 554,
                devices: true,
            },
            Profile::Recorder {
                folder: "/".into(),
                devices: false,
            },
            Profile::Recorder {
                folder: "/".into(),
                devices: true,
            },
            Profile::Server {
                data_dir: "/".into(),
                read: Vec::new(),
                hidden: Vec::new(),
                port: None,
            },
            Profile::Worker,
        ]
    }

    #[test]
    fn every_filter_can_be_made_and_is_short_enough() {
        for profile in all() {
            for on_violation in OnViolation::ALL {
                for program in programs(on_violation, &profile, false).unwrap() {
                    assert!(!program.is_empty() && program.len() < MOST, "{profile:?}");
                }
            }
        }
    }

    /// What must be on no list, whoever asks.
    #[test]
    fn ways_out_are_on_no_list() {
        let never = [
            SYS_ptrace,
            SYS_process_vm_readv,
            SYS_process_vm_writev,
            SYS_process_madvise,
            SYS_pidfd_getfd,
            SYS_kcmp,
            SYS_mount,
            SYS_umount2,
            SYS_pivot_root,
            SYS_chroot,
            SYS_setns,
            SYS_unshare,
            SYS_bpf,
            SYS_perf_event_open,
            SYS_userfaultfd,
            SYS_io_uring_setup,
            SYS_io_uring_enter,
            SYS_keyctl,
            SYS_add_key,
            SYS_request_key,
            SYS_init_module,
            SYS_finit_module,
            SYS_kexec_load,
            SYS_reboot,
            SYS_swapon,
            SYS_setuid,
            SYS_setresuid,
            SYS_personality,
            SYS_open_by_handle_at,
            SYS_syslog,
        ];
        for profile in all() {
            let allowed = allowed(&profile, 7).unwrap();
            let refused = refused(&profile, &allowed, 7).unwrap();
            for call in never {
                assert!(!allowed.contains_key(&call), "{profile:?}: {call}");
                assert!(!refused.contains_key(&call), "{profile:?}: {call}");
            }
            let runs = matches!(profile, Profile::Server { .. });
            assert_eq!(allowed.contains_key(&SYS_execve), runs, "{profile:?}");
        }
    }

    #[test]
    fn no_call_is_listed_twice_and_a_worker_is_refused_all_that_is_tried() {
        let mut seen = std::collections::BTreeSet::new();
        let lists = TRIED.iter().copied().chain([COMMON, COMMON_OLD]);
        for call in lists.flatten() {
            assert!(seen.insert(call), "{call}");
        }
        let allowed = allowed(&Profile::Worker, 7).unwrap();
        let refused = refused(&Profile::Worker, &allowed, 7).unwrap();
        for call in TRIED.iter().copied().flatten() {
            assert_eq!(refused.get(call), Some(&Vec::new()), "{call}");
        }
    }

    /// A worker lives under the server's filter and its own: what it may do, the server may.
    #[test]
    fn a_server_may_what_its_workers_may() {
        let profiles = all();
        let server = profiles.iter().find(|p| p.name() == "server").unwrap();
        let server = allowed(server, 7).unwrap();
        for call in allowed(&Profile::Worker, 8).unwrap().keys() {
            assert!(server.contains_key(call), "{call}");
        }
    }
}
