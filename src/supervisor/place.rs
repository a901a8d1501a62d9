//! Where clients find the daemon: its folder, the lock and the attach socket in it, made anew when
//! somebody deletes them below a running daemon.
//!
//! Promises: looked at once in a tick; clients that are attached notice nothing; while the folder cannot
//! be made, that is said and tried again.
#![deny(unsafe_code)]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::instance::{Instance, InstanceError, Listener};
use super::{Supervisor, broker, policy};

/// The runtime folder with all that is in it, made anew when it is deleted below the daemon: without
/// the socket no program could attach any more, and without the lock a second daemon could start.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    socket: PathBuf,
    group: Option<String>,
    instance: Option<Instance>,
    listener: Option<Listener>,
}

impl Place {
    /// Takes the folder and listens in it.
    pub fn take(dir: &Path, socket: &Path, group: Option<&str>) -> Result<Self, InstanceError> {
        let instance = Instance::take(dir)?;
        let listener = instance.listen(socket, group)?;
        Ok(Self {
            dir: dir.to_owned(),
            socket: socket.to_owned(),
            group: group.map(str::to_owned),
            instance: Some(instance),
            listener: Some(listener),
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The listening socket, to accept from, once.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        self.listener.as_mut()?.take_socket()
    }

    /// What is missing.
    pub fn missing(&self) -> Option<&Path> {
        let locked = self.instance.as_ref().is_some_and(Instance::is_there);
        let listens = self.listener.as_ref().is_some_and(Listener::is_there);
        match (locked, listens) {
            (true, true) => None,
            (true, false) => Some(&self.socket),
            (false, _) => Some(&self.dir),
        }
    }

    /// Makes anew what is missing. The old socket, which nobody can find, is to be closed then.
    pub fn mend(&mut self) -> Result<(), InstanceError> {
        // In this order: an old lock must not remove a new one's name.
        if !self.instance.as_ref().is_some_and(Instance::is_there) {
            self.instance = None;
            self.instance = Some(Instance::take(&self.dir)?);
        }
        self.listener = None;
        if let Some(instance) = &self.instance {
            self.listener = Some(instance.listen(&self.socket, self.group.as_deref())?);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The socket goes before the lock does.
        self.listener = None;
        self.instance = None;
    }
}

impl Supervisor {
    /// Lets clients in, for ever; when the socket or its folder is deleted, by another one.
    pub(super) async fn let_in(self: Rc<Self>, mut place: Place) {
        loop {
            let accepting = place.take_socket().map(|socket| {
                let accepting = broker::accept(self.clone(), socket);
                tokio::task::spawn_local(async {
                    if let Err(error) = accepting.await {
                        tracing::error!("the attach socket is lost: {error}");
                    }
                })
            });
            let mut ticks = self.ticks();
            let missing = loop {
                ticks.tick().await;
                if let Some(missing) = place.missing() {
                    break missing.display().to_string();
                }
            };
            match place.mend() {
                Ok(()) => tracing::warn!("{missing} was deleted: it is made anew"),
                Err(error) => {
                    tracing::error!("{missing} was deleted, and nobody can attach: {error}");
                    tokio::time::sleep(policy::FAULT_PAUSE).await;
                }
            }
            if let Some(accepting) = accepting {
                accepting.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_deleted_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let socket = run.join("attach.sock");
        let mut place = Place::take(&run, &socket, None).unwrap();
        assert_eq!(place.missing(), None);
        fs::remove_file(&socket).unwrap();
        assert_eq!(place.missing(), Some(&*socket));
        place.mend().unwrap();
        assert_eq!(place.missing(), None);
        assert!(place.take_socket().is_some());
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(place.missing(), Some(&*run));
        place.mend().unwrap();
        assert_eq!(place.missing(), None);
        assert!(Instance::take(&run).is_err(), "locked");
        // Somebody else's by now: it stays.
        fs::remove_file(run.join("camring.lock")).unwrap();
        fs::write(run.join("camring.lock"), "").unwrap();
        drop(place);
        assert_eq!(fs::read_dir(&run).unwrap().count(), 1);
    }
}
