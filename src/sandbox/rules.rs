//! System calls that are allowed with some arguments only.
#![deny(unsafe_code)]

use libc::*;
use seccompiler::{
    BackendError, SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword, SeccompCmpOp, SeccompCondition,
    SeccompRule,
};

/// Rules for a system call: one of them must hold; none: it is allowed as it is.
pub(super) type Rules = Vec<SeccompRule>;
type Result<T> = std::result::Result<T, BackendError>;

/// An argument that the kernel takes as an `int`.
fn int(argument: u8, comparison: SeccompCmpOp, value: i64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, Dword, comparison, value as u64)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions)
}

/// A rule that holds where an argument is none of these.
fn none_of(argument: u8, values: &[i64]) -> Result<Rules> {
    let conditions = values.iter().map(|&v| int(argument, SeccompCmpOp::Ne, v));
    Ok(vec![rule(conditions.collect::<Result<_>>()?)?])
}

/// Threads, not processes.
pub(super) fn thread() -> Result<Rules> {
    let flag = CLONE_THREAD as u64;
    let condition = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(vec![rule(vec![condition])?])
}

/// Threads and processes, in this process's own namespaces.
pub(super) fn process() -> Result<Rules> {
    let spaces = [
        CLONE_NEWCGROUP,
        CLONE_NEWIPC,
        CLONE_NEWNET,
        CLONE_NEWNS,
        CLONE_NEWPID,
        CLONE_NEWUSER,
        CLONE_NEWUTS,
    ];
    let mask = spaces.iter().fold(0, |mask, space| mask | *space as u64);
    let condition = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(mask), 0)?;
    Ok(vec![rule(vec![condition])?])
}

/// A signal to this process: what `abort` and `raise` are.
pub(super) fn to_itself(pid: u32) -> Result<Rules> {
    Ok(vec![rule(vec![int(0, SeccompCmpOp::Eq, i64::from(pid))?])?])
}

/// The kind of socket, without its flags.
fn of_kind(kind: c_int) -> Result<SeccompCondition> {
    int(1, SeccompCmpOp::MaskedEq(0xf), i64::from(kind))
}

fn of_family(family: c_int) -> Result<SeccompCondition> {
    int(0, SeccompCmpOp::Eq, i64::from(family))
}

/// TCP and UDP.
pub(super) fn internet() -> Result<Rules> {
    let mut rules = Vec::new();
    for family in [AF_INET, AF_INET6] {
        for kind in [SOCK_STREAM, SOCK_DGRAM] {
            rules.push(rule(vec![of_family(family)?, of_kind(kind)?])?);
        }
    }
    Ok(rules)
}

/// Unix sockets of the attach socket's kind.
pub(super) fn attach() -> Result<Rules> {
    Ok(vec![rule(vec![
        of_family(AF_UNIX)?,
        of_kind(SOCK_SEQPACKET)?,
    ])?])
}

/// What the C library asks for by itself: name services, the system's log, the list of interfaces.
pub(super) fn local() -> Result<Rules> {
    [AF_UNIX, AF_NETLINK]
        .into_iter()
        .map(|family| rule(vec![of_family(family)?]))
        .collect()
}

/// The same, but for what [`attach`] allows.
pub(super) fn local_but_attach() -> Result<Rules> {
    let mut rules = vec![rule(vec![of_family(AF_NETLINK)?])?];
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        rules.push(rule(vec![of_family(AF_UNIX)?, of_kind(kind)?])?);
    }
    Ok(rules)
}

/// Memory that can be executed.
pub(super) fn executable() -> Result<Rules> {
    let execute = PROT_EXEC as u64;
    Ok(vec![rule(vec![int(
        2,
        SeccompCmpOp::MaskedEq(execute),
        i64::from(PROT_EXEC),
    )?])?])
}

/// To make a file, or to empty one: this argument has the flags.
pub(super) fn creation(flags: u8) -> Result<Rules> {
    [O_CREAT, O_TRUNC, O_TMPFILE & !O_DIRECTORY]
        .map(|flag| {
            let set = SeccompCmpOp::MaskedEq(flag as u64);
            rule(vec![int(flags, set, i64::from(flag))?])
        })
        .into_iter()
        .collect()
}

/// `ioctl`s for devices: any but those for sockets, pipes and to ask whether something is a terminal.
pub(super) fn devices() -> Result<Rules> {
    let usual = [
        FIONBIO, FIONREAD, FIOCLEX, FIONCLEX, TIOCOUTQ, TCGETS, TIOCGWINSZ,
    ];
    none_of(1, &usual.map(|request| request as i64))
}

/// `prctl` but for names and what was asked for already.
pub(super) fn other_settings() -> Result<Rules> {
    let usual = [
        PR_SET_NAME,
        PR_GET_NAME,
        PR_GET_DUMPABLE,
        PR_SET_VMA,
        PR_GET_NO_NEW_PRIVS,
        PR_GET_SECCOMP,
        PR_GET_TIMERSLACK,
        PR_CAPBSET_READ,
    ];
    none_of(0, &usual.map(i64::from))
}

/// `prlimit64` of another process.
pub(super) fn others_limits(pid: u32) -> Result<Rules> {
    none_of(0, &[0, i64::from(pid)])
}

/// `setpriority` but of the calling thread.
pub(super) fn others_priority() -> Result<Rules> {
    Ok(vec![
        rule(vec![int(0, SeccompCmpOp::Ne, i64::from(PRIO_PROCESS))?])?,
        rule(vec![int(1, SeccompCmpOp::Ne, 0)?])?,
    ])
}

/// `sched_setaffinity` but of the calling thread.
pub(super) fn others_cores() -> Result<Rules> {
    none_of(0, &[0])
}
