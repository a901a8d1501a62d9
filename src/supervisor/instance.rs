//! One daemon per runtime folder: the folder, the lock in it, the listening socket.
#![deny(unsafe_code)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A former daemon takes its lock's name away once: more often it is somebody else's doing.
const LOCK_TRIES: u32 = 100;

/// Why the daemon cannot be the one of its runtime folder.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another one is.
    #[error(
        "another camring{} runs with runtime_dir {}: stop it first, or give this site another \
         runtime_dir",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        dir.display()
    )]
    Running {
        /// Its pid, if it could be read.
        pid: Option<u32>,
        /// The folder.
        dir: PathBuf,
    },
    /// The folder, the lock or the socket cannot be made.
    #[error("cannot {what} {}: {source}{hint}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
}

/// The runtime folder, taken by this process. The lock is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    lock: PathBuf,
    locked: File,
}

impl Instance {
    /// Creates the folder where it is missing and takes it.
    pub fn take(dir: &Path) -> Result<Self, InstanceError> {
        fs::create_dir_all(dir).map_err(|source| InstanceError::Io {
            what: "create the folder",
            path: dir.to_owned(),
            source,
            hint: "; set [site] runtime_dir to a folder that this user may write",
        })?;
        let lock = dir.join("camring.lock");
        let failed = |what| {
            let path = lock.clone();
            move |source: io::Error| InstanceError::Io {
                what,
                path,
                source,
                hint: "",
            }
        };
        for _ in 0..LOCK_TRIES {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&lock)
                .map_err(failed("open"))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    let _ = (&file).take(32).read_to_string(&mut text);
                    return Err(InstanceError::Running {
                        pid: text.trim().parse().ok(),
                        dir: dir.to_owned(),
                    });
                }
                Err(error) => return Err(failed("lock")(error.into())),
            }
            // The one before may have removed the name between open and lock; then this is a lock
            // on nothing.
            if !same_file(file.metadata(), &lock) {
                continue;
            }
            let written = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()));
            written.map_err(failed("write"))?;
            return Ok(Self { lock, locked: file });
        }
        Err(failed("lock")(io::Error::other(
            "somebody removes it again and again",
        )))
    }

    /// Listens at `path`, mode 0660, for `group` where it exists. A socket that is there already
    /// is a dead daemon's: this one has the lock.
    pub fn listen(&self, path: &Path, group: Option<&str>) -> Result<Listener, InstanceError> {
        let failed = |what, source: io::Error| InstanceError::Io {
            what,
            path: path.to_owned(),
            source,
            hint: "",
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the old socket", error));
            }
            _ => {}
        }
        let address = SocketAddrUnix::new(path).map_err(|error| InstanceError::Io {
            what: "use the socket path",
            path: path.to_owned(),
            source: error.into(),
            hint: "; a socket path has 107 bytes at most: choose a shorter [site] runtime_dir",
        })?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|error| failed("create a socket for", error.into()))?;
        rustix::net::bind(&socket, &address).map_err(|e| failed("bind the socket", e.into()))?;
        let mut listener = Listener {
            path: path.to_owned(),
            name: None,
            socket: Some(socket),
        };
        // Nobody gets in before the mode is right: until `listen`, connections are refused.
        fs::set_permissions(path, Permissions::from_mode(0o660))
            .map_err(|e| failed("set the mode of", e))?;
        listener.name = name_of(path);
        if let Some(group) = group {
            give_to_group(path, group);
        }
        if let Some(socket) = &listener.socket {
            rustix::net::listen(socket, BACKLOG).map_err(|e| failed("listen on", e.into()))?;
        }
        Ok(listener)
    }

    /// Whether the lock file has still its name: nobody deleted it, or the folder.
    pub fn is_there(&self) -> bool {
        same_file(self.locked.metadata(), &self.lock)
    }
}

/// Whether the file at `path` is this one.
fn same_file(ours: io::Result<fs::Metadata>, path: &Path) -> bool {
    match (ours, fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // While the lock is still held: whoever opened the file meanwhile sees that it is gone. If it
        // was deleted before, what has its name now is another's.
        if self.is_there() {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

/// The listening socket. Its name is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    path: PathBuf,
    /// Device and number of the name in the file system.
    name: Option<(u64, u64)>,
    socket: Option<OwnedFd>,
}

fn name_of(path: &Path) -> Option<(u64, u64)> {
    let there = fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

impl Listener {
    /// The socket itself, to accept from, once.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }

    /// Whether clients find it: nobody deleted its name, or put something else there.
    pub fn is_there(&self) -> bool {
        self.name.is_some() && self.name == name_of(&self.path)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.name.is_none() || self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn give_to_group(path: &Path, name: &str) {
    let gid = match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => group.gid.as_raw(),
        Ok(None) => {
            tracing::info!(
                "no group {name}: only this user and root can attach to {}",
                path.display()
            );
            return;
        }
        Err(error) => {
            tracing::warn!("group {name}: {error}");
            return;
        }
    };
    // As under systemd, where the process is of that group, and may not call chown.
    if fs::metadata(path).is_ok_and(|made| made.gid() == gid) {
        return;
    }
    if let Err(error) = std::os::unix::fs::chown(path, None, Some(gid)) {
        tracing::warn!(
            "cannot give {} to group {name}: {error}; its members cannot attach",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a/b");
        let first = Instance::take(&run).unwrap();
        let error = Instance::take(&run).unwrap_err();
        let pid = std::process::id();
        let expected = format!(
            "another camring (pid {pid}) runs with runtime_dir {}",
            run.display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(first);
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "the lock is gone");
        Instance::take(&run).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_killed_daemon_is_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("camring.lock"), "1234567890123456789\n").unwrap();
        let instance = Instance::take(dir.path()).unwrap();
        assert!(instance.is_there());
        let text = fs::read_to_string(dir.path().join("camring.lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_the_mode_is_0660() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::take(dir.path()).unwrap();
        let path = dir.path().join("attach.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = instance.listen(&path, None).unwrap();
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::take(dir.path()).unwrap();
        let path = dir.path().join("x".repeat(120));
        let error = instance.listen(&path, None).unwrap_err();
        assert!(error.to_string().contains("107 bytes"), "{error}");
    }
}
