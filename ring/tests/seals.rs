//! What another user can do with the descriptors it gets: read.
#![cfg(not(loom))]

mod support;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use camring_ring::*;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{Gid, Uid};
use support::process::{play, spawn};
use support::*;

const NOBODY: u32 = 65534;

#[test]
fn child() {
    play(&[("nobody", nobody), ("stranger", stranger)]);
}

/// Gives up being root, for this thread; there is no way back.
fn become_nobody() {
    rustix::thread::set_thread_groups(&[]).unwrap();
    let gid = Gid::from_raw(NOBODY);
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    let uid = Uid::from_raw(NOBODY);
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

/// Tries everything with the descriptor of a ring.
fn attack(ring: &OwnedFd, len: usize) {
    let map = |protection| {
        // SAFETY: a new mapping at an address of the kernel's choice.
        unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                ring,
                0,
            )
        }
    };
    assert_eq!(
        map(ProtFlags::READ | ProtFlags::WRITE).unwrap_err(),
        Errno::ACCESS
    );
    assert_eq!(map(ProtFlags::WRITE).unwrap_err(), Errno::ACCESS);
    let address = map(ProtFlags::READ).unwrap();
    // SAFETY: the mapping just made; nothing else uses it.
    let writable =
        unsafe { rustix::mm::mprotect(address, len, MprotectFlags::READ | MprotectFlags::WRITE) };
    assert_eq!(writable.unwrap_err(), Errno::ACCESS);
    // SAFETY: as above, and not used afterwards.
    unsafe { rustix::mm::munmap(address, len) }.unwrap();
    let path = format!("/proc/thread-self/fd/{}", ring.as_raw_fd());
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDWR | OFlags::TRUNC] {
        let opened = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty());
        assert_eq!(opened.unwrap_err(), Errno::ACCESS);
    }
    assert!(rustix::fs::ftruncate(ring, 0).is_err());
    assert_eq!(
        rustix::fs::fchmod(ring, Mode::from_raw_mode(0o666)).unwrap_err(),
        Errno::PERM
    );
    assert_eq!(rustix::io::pwrite(ring, &[0], 0).unwrap_err(), Errno::BADF);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(
        rustix::fs::fallocate(ring, hole, 0, 4096).unwrap_err(),
        Errno::BADF
    );
    let status = rustix::fs::fcntl_setfl(ring, OFlags::RDWR);
    assert!(status.is_ok(), "the access mode is ignored there");
    assert_eq!(rustix::io::pwrite(ring, &[0], 0).unwrap_err(), Errno::BADF);
}

/// A subscriber of another user.
fn nobody(place: &Path) {
    become_nobody();
    let client = Client::connect(&place.join("attach.sock")).unwrap();
    assert!(client.read_only_enforced());
    assert_eq!(client.read_only_warning(), None);
    let mut yard = client.attach("yard", &AttachOptions::default()).unwrap();
    verify(&yard.next().unwrap().unwrap());
    assert_eq!(
        descriptors("memfd:camring-frames"),
        Vec::<String>::new(),
        "closed once mapped"
    );
    // So get one as it came.
    let (ring, len) = raw_ring(&place.join("attach.sock"));
    attack(&ring, len);
}

/// A user that may not come in at all.
fn stranger(place: &Path) {
    become_nobody();
    let path = place.join("attach.sock");
    let error = Client::connect(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no permission to connect to {}: it belongs to group root with mode 0660, so be a \
             member of that group (usermod -aG root USER, then log in again)",
            path.display()
        )
    );
}

fn descriptors(of: &str) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir("/proc/thread-self/fd") else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.contains(of))
        .collect()
}

fn raw_ring(path: &Path) -> (OwnedFd, usize) {
    let ring = attach_raw(path, "yard", 1).ring;
    let len = rustix::fs::fstat(&ring).unwrap().st_size as usize;
    (ring, len)
}

#[test]
fn another_user_can_read_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root to become another user: not checked");
        return;
    }
    let broker = Broker::start();
    open_to_all(broker.folder());
    open_to_all(&broker.path());
    let writer = broker.frames("yard", SPEC);
    publish(writer.lock().unwrap().as_mut().unwrap()).unwrap();
    assert!(spawn("nobody", broker.folder()).join());
    // Nothing has changed.
    let mut yard = broker
        .connect()
        .attach("yard", &AttachOptions::default())
        .unwrap();
    verify(&yard.next().unwrap().unwrap());
}

#[test]
fn a_user_outside_the_group_is_told_which() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root to become another user: not checked");
        return;
    }
    let broker = Broker::start();
    open_to_all(broker.folder());
    let only_group = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(broker.path(), only_group).unwrap();
    assert!(spawn("stranger", broker.folder()).join());
}

#[test]
fn the_same_user_is_told_that_nothing_stops_it() {
    let broker = Broker::start();
    let _writer = broker.frames("yard", SPEC);
    let client = broker.connect();
    assert!(!client.read_only_enforced());
    let (ring, _) = raw_ring(&broker.path());
    let path = format!("/proc/self/fd/{}", ring.as_raw_fd());
    let reopened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    assert!(reopened.is_ok(), "that is what the warning is about");
    assert!(SealedMemory::from_fd(reopened.unwrap()).is_ok());
    assert!(ring.as_fd().as_raw_fd() >= 0);
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}
