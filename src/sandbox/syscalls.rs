//! System calls by what they are for. Which kind of process has which, `seccomp` says; those with
//! conditions on their arguments are in `rules`.
//!
//! The lists are wider than what the tests need, which run with `kill`: the C library of another release
//! takes another call for the same thing, and a process that is refused memory or a clock is worse than
//! one that could have asked for a timer. What a list must never have: a way to another process, to a
//! file by its name, to another kind of socket, or into a young part of the kernel.
#![deny(unsafe_code)]

use libc::*;

/// The same number on all architectures, and not in all releases of `libc`.
const SYS_MAP_SHADOW_STACK: i64 = 453;
const SYS_FUTEX_WAKE: i64 = 454;
const SYS_FUTEX_WAIT: i64 = 455;
const SYS_FUTEX_REQUEUE: i64 = 456;
const SYS_MSEAL: i64 = 462;

/// Memory, threads, clocks, signals to itself, and what is done with a descriptor that is open.
pub(super) const COMMON: &[i64] = &[
    // Memory.
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_msync,
    SYS_mincore,
    SYS_mlock,
    SYS_mlock2,
    SYS_munlock,
    SYS_membarrier,
    SYS_get_mempolicy,
    SYS_MAP_SHADOW_STACK,
    SYS_MSEAL,
    // Threads and their waits.
    SYS_futex,
    SYS_futex_waitv,
    SYS_FUTEX_WAKE,
    SYS_FUTEX_WAIT,
    SYS_FUTEX_REQUEUE,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_getattr,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_rr_get_interval,
    SYS_getpriority,
    SYS_getcpu,
    SYS_exit,
    SYS_exit_group,
    // Who it is.
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_getpgid,
    SYS_getsid,
    SYS_capget,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrusage,
    SYS_times,
    SYS_getrlimit,
    SYS_getcwd,
    SYS_umask,
    SYS_getrandom,
    // Clocks: most of these are the vDSO's, which falls back to the kernel on some machines.
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_timer_getoverrun,
    SYS_timer_delete,
    SYS_setitimer,
    SYS_getitimer,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    // Signals.
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_sigaltstack,
    SYS_restart_syscall,
    // Descriptors that are open.
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_preadv2,
    SYS_pwritev2,
    SYS_lseek,
    SYS_close,
    SYS_close_range,
    SYS_dup,
    SYS_dup3,
    SYS_fcntl,
    SYS_fstat,
    // Of a descriptor, too: what `fstat` is in the C library. Of a path they tell metadata at most.
    SYS_newfstatat,
    SYS_statx,
    SYS_fstatfs,
    SYS_fallocate,
    SYS_fadvise64,
    SYS_fsync,
    SYS_fdatasync,
    SYS_sync_file_range,
    SYS_getdents64,
    SYS_sendfile,
    SYS_splice,
    SYS_tee,
    SYS_copy_file_range,
    SYS_pipe2,
    SYS_eventfd2,
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    // Sockets that are open.
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
];

/// What younger architectures do without.
#[cfg(target_arch = "x86_64")]
pub(super) const COMMON_OLD: &[i64] = &[
    SYS_arch_prctl,
    SYS_alarm,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_getpgrp,
    SYS_lstat,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_select,
    SYS_stat,
    SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const COMMON_OLD: &[i64] = &[];

/// Files by name, opened and looked at. Landlock says which.
pub(super) const OPEN: &[i64] = &[
    SYS_openat,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_statfs,
];

/// The same, as older programs call it.
#[cfg(target_arch = "x86_64")]
pub(super) const OPEN_OLD: &[i64] = &[SYS_open, SYS_access, SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OPEN_OLD: &[i64] = &[];

/// What drivers of devices take besides.
pub(super) const DRIVER: &[i64] = &[SYS_memfd_create, SYS_socketpair];

/// Files made, changed and removed. Landlock says which.
pub(super) const FILES: &[i64] = &[
    SYS_openat2,
    SYS_mkdirat,
    SYS_unlinkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_ftruncate,
    SYS_truncate,
    SYS_flock,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_utimensat,
];

/// The same, as older programs call it.
#[cfg(target_arch = "x86_64")]
pub(super) const FILES_OLD: &[i64] = &[
    SYS_creat, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename, SYS_chmod,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FILES_OLD: &[i64] = &[];

/// The way to a peer, and to be one.
pub(super) const CONNECT: &[i64] = &[SYS_connect, SYS_bind];

/// What the server needs beyond files: to listen, to start workers and to watch them, to look at
/// folders as they change. Its workers live under its filter, too: what they do before they enter theirs
/// (load, link, give up) is here.
pub(super) const SERVER: &[i64] = &[
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_socketpair,
    SYS_execve,
    SYS_wait4,
    SYS_waitid,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_setpgid,
    SYS_setsid,
    SYS_sched_setaffinity,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_setpriority,
    SYS_prlimit64,
    SYS_setrlimit,
    SYS_capset,
    SYS_seccomp,
    SYS_landlock_create_ruleset,
    SYS_landlock_add_rule,
    SYS_landlock_restrict_self,
    SYS_chdir,
    SYS_fchdir,
    SYS_inotify_init1,
    SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
    SYS_memfd_create,
    SYS_signalfd4,
    // Whether the clock is kept right; to set it takes a capability.
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_linkat,
    SYS_symlinkat,
    SYS_fchownat,
    SYS_sync,
    SYS_syncfs,
    SYS_readahead,
    SYS_set_mempolicy,
    SYS_mbind,
];

/// The same, as older programs call it.
#[cfg(target_arch = "x86_64")]
pub(super) const SERVER_OLD: &[i64] = &[
    SYS_vfork,
    SYS_inotify_init,
    SYS_link,
    SYS_symlink,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const SERVER_OLD: &[i64] = &[];

/// Besides [`OPEN`], [`FILES`], [`CONNECT`] and [`DRIVER`], refused with EACCES to whom they are not allowed,
/// in every mode: libraries try them and cope (`/proc/cpuinfo`, `/sys/devices/system/cpu`, time zones,
/// locales, a look at their own limits). To end a process for these would end it for nothing.
pub(super) const REFUSED: &[i64] = &[
    SYS_fchownat,
    SYS_chdir,
    SYS_fchdir,
    SYS_linkat,
    SYS_symlinkat,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_set_mempolicy,
    SYS_mbind,
    SYS_inotify_init1,
    SYS_setrlimit,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sync,
    SYS_syncfs,
    SYS_readahead,
    SYS_tkill,
];

/// The same, as older programs call it.
#[cfg(target_arch = "x86_64")]
pub(super) const REFUSED_OLD: &[i64] = &[
    SYS_link,
    SYS_symlink,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_inotify_init,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const REFUSED_OLD: &[i64] = &[];

/// Answered as by a kernel that does not have them: `clone3`, whose flags a filter cannot see, so that
/// the C library takes `clone`; and all that are younger than this list, for which there is always an
/// older way.
pub(super) fn unknown() -> impl Iterator<Item = i64> {
    const YOUNGEST_ASKED_FOR: i64 = 512;
    let newer = SYS_futex_waitv..YOUNGEST_ASKED_FOR;
    newer.chain([SYS_clone3])
}
