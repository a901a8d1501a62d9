//! What the kernel limits for any process: sizes, counts, privileges.
#![deny(unsafe_code)]

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Profile;
use crate::sys::process::not_dumpable;

/// Not `RLIMIT_NPROC`: the kernel counts all threads of a user, and so of all cameras, against each
/// process's limit. Nor `RLIMIT_AS`: rings are mapped, not allocated; private memory has its own limit.
pub(super) fn apply(profile: &Profile) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    not_dumpable()?;
    limit(Resource::Core, 0)?;
    // A log that is a file grows by what each process writes into it.
    let writes = matches!(profile, Profile::Recorder { .. } | Profile::Server { .. });
    if !writes && !is_file(io::stderr().as_fd()) && !is_file(io::stdout().as_fd()) {
        limit(Resource::Fsize, 0)?;
    }
    Ok(())
}

fn is_file(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

/// What a kind of process keeps, where it has it: started as root, files of the camring user are not its
/// own; and a server may listen on a port below 1024.
fn kept(profile: &Profile) -> CapabilitySet {
    match profile {
        Profile::Reader { .. } | Profile::Worker => CapabilitySet::empty(),
        Profile::Recorder { .. } => CapabilitySet::DAC_OVERRIDE,
        Profile::Server { .. } => CapabilitySet::DAC_OVERRIDE | CapabilitySet::NET_BIND_SERVICE,
    }
}

/// All of them but those that are [`kept`], out of every set.
pub(super) fn drop_capabilities(profile: &Profile) -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = kept(profile) & now.permitted;
    match rustix::thread::clear_ambient_capability_set() {
        // Kernels without it have nothing in it.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all() - kept {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = CapabilitySets {
        effective: kept & now.effective,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    // A unit without capabilities may forbid the call as well.
    if left == now {
        return Ok(());
    }
    Ok(rustix::thread::set_capabilities(None, left)?)
}
