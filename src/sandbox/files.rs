//! Landlock: which files can be reached, which TCP ports, which processes.
//!
//! Asked for is what the newest known kernel has; an older one gives what it can.
#![deny(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _,
    RulesetError, Scope,
};

use super::Profile;
use crate::sys;

/// The newest whose every right is accounted for here.
const KNOWN: ABI = ABI::V7;

/// Reading: files and lists of folders.
fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Files and folders made, changed and removed; no sockets, pipes, links or device files.
fn write() -> BitFlags<AccessFs> {
    read()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Devices that decode and encode.
const DEVICES: [&str; 3] = ["dri", "nvidia", "video"];

/// Closes off what the profile does not name. Returns the version of Landlock; an error where there
/// is none.
pub(super) fn close_off(profile: &Profile) -> io::Result<u32> {
    let abi = sys::landlock_abi();
    if abi == 0 {
        return Err(io::Error::other(
            "this kernel has no Landlock, or it is not switched on",
        ));
    }
    restrict(profile).map_err(io::Error::other)?;
    Ok(abi.min(KNOWN as u32))
}

fn restrict(profile: &Profile) -> Result<(), RulesetError> {
    let mut ports = AccessNet::BindTcp | AccessNet::ConnectTcp;
    if let Profile::Server { .. } = profile {
        // `POST /api/v1/probe` starts a program that connects to a camera that is not known yet.
        ports = AccessNet::BindTcp.into();
    }
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(ports)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let rules = match profile {
        Profile::Reader { port, devices } => {
            let rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
            match devices {
                true => drivers(rules)?,
                false => rules,
            }
        }
        Profile::Recorder { folder, devices } => {
            let rules = allow(rules, folder, write())?;
            match devices {
                true => drivers(rules)?,
                false => rules,
            }
        }
        Profile::Server {
            data_dir,
            read,
            hidden,
            port,
        } => server(rules, data_dir, read, hidden, *port)?,
        Profile::Worker => rules,
    };
    rules.restrict_self()?;
    Ok(())
}

/// Adds a rule for what is there; what is not there needs none.
fn allow(
    rules: RulesetCreated,
    path: impl AsRef<Path>,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    let (path, access) = (path.as_ref(), access.into());
    let Ok(folder) = fs::metadata(path).map(|there| there.is_dir()) else {
        return Ok(rules);
    };
    let access = match folder {
        true => access,
        // The kernel refuses rights of folders for a file.
        false => access & AccessFs::from_file(KNOWN),
    };
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}

/// Devices that decode and encode. Their drivers are libraries, and ask the system what there is.
fn drivers(mut rules: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
    for path in [
        "/usr",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        "/proc",
        "/sys",
    ] {
        rules = allow(rules, path, read())?;
    }
    rules = allow(rules, "/dev", AccessFs::ReadDir)?;
    for path in devices() {
        let access = read() | AccessFs::WriteFile | AccessFs::IoctlDev;
        rules = allow(rules, path, access)?;
    }
    Ok(rules)
}

/// What of this machine may decode or encode: `/dev/dri`, `/dev/nvidia0`, `/dev/video10`.
pub fn devices() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        DEVICES.iter().any(|device| name.starts_with(device))
    })
}

fn server(
    rules: RulesetCreated,
    data_dir: &Path,
    further: &[PathBuf],
    hidden: &[PathBuf],
    port: Option<u16>,
) -> Result<RulesetCreated, RulesetError> {
    let mut rules = allow(rules, data_dir, write())?;
    // What it executes is itself, which the kernel has the loader load.
    rules = allow(rules, "/proc/self/exe", read() | AccessFs::Execute)?;
    let mapped = mapped();
    for path in mapped.iter().filter(|path| is_loader(path)) {
        rules = allow(rules, path, read() | AccessFs::Execute)?;
    }
    // The libraries that it has itself, wherever they are.
    let folders: BTreeSet<_> = mapped.iter().filter_map(|path| path.parent()).collect();
    for path in folders.into_iter().filter(|path| *path != Path::new("/")) {
        rules = allow(rules, path, read())?;
    }
    for path in ["/usr", "/lib", "/lib64", "/proc", "/sys"] {
        rules = allow(rules, path, read())?;
    }
    // Names are looked up by the resolver's rules; where those are made anew in a folder of their own,
    // the folder.
    for path in [
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/NetworkManager",
    ] {
        rules = allow(rules, path, read())?;
    }
    for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
        let path = entry.path();
        if !hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            rules = allow(rules, path, read())?;
        }
    }
    for path in ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"] {
        rules = allow(rules, path, read() | AccessFs::WriteFile)?;
    }
    for path in further {
        rules = allow(rules, path, read())?;
    }
    if let Some(port) = port {
        rules = rules.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(rules)
}

/// Files that this process has mapped.
pub(super) fn mapped() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.split_once(" /"))
        .map(|(_, path)| PathBuf::from(format!("/{path}")))
        .filter(|path| path.extension().is_some() || is_loader(path))
        .filter(|path| path.to_string_lossy().contains(".so"))
        .collect()
}

/// The dynamic loader: `ld-linux-x86-64.so.2`.
fn is_loader(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with("ld-") || name.starts_with("ld."))
}
