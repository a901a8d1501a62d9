use super::*;
use std::os::fd::FromRawFd as _;

#[test]
fn created_memory_is_sealed_and_private() {
    let memory = SealedMemory::create("camring-test", 8192).unwrap();
    assert_eq!(memory.len(), 8192);
    assert!(
        rustix::fs::fcntl_get_seals(&memory)
            .unwrap()
            .contains(SEALS)
    );
    let stat = rustix::fs::fstat(&memory).unwrap();
    assert_eq!(stat.st_mode & 0o777, 0o600);
    assert_eq!(stat.st_blocks, 0, "sparse");
    for resized in [0, 4096, 16384] {
        assert_eq!(
            rustix::fs::ftruncate(&memory, resized).unwrap_err(),
            rustix::io::Errno::PERM,
            "its length is fixed"
        );
    }
    let more = rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE);
    assert_eq!(more.unwrap_err(), rustix::io::Errno::PERM);
}

#[test]
fn nothing_unsealed_is_taken() {
    let memfd = |flags| rustix::fs::memfd_create("camring-test", flags).unwrap();
    let open = memfd(MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    rustix::fs::ftruncate(&open, 4096).unwrap();
    let error = SealedMemory::from_fd(open.try_clone().unwrap()).unwrap_err();
    assert!(error.to_string().contains("its seals are 0x"), "{error}");
    rustix::fs::fcntl_add_seals(&open, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    assert!(
        SealedMemory::from_fd(open.try_clone().unwrap()).is_err(),
        "F_SEAL_SEAL is missing"
    );
    rustix::fs::fcntl_add_seals(&open, SealFlags::SEAL).unwrap();
    assert_eq!(SealedMemory::from_fd(open).unwrap().len(), 4096);

    let empty = memfd(MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    rustix::fs::fcntl_add_seals(&empty, SEALS).unwrap();
    assert!(
        SealedMemory::from_fd(empty)
            .unwrap_err()
            .to_string()
            .contains("length is 0")
    );

    let pipe = rustix::pipe::pipe().unwrap().0;
    assert!(
        SealedMemory::from_fd(pipe)
            .unwrap_err()
            .to_string()
            .contains("F_GET_SEALS")
    );
    assert!(SealedMemory::create("camring-test", 0).is_err());
}

#[test]
fn a_read_only_descriptor_maps_read_only() {
    let memory = SealedMemory::create("camring-test", 4096).unwrap();
    let writable = Mapping::read_write(memory.try_clone().unwrap()).unwrap();
    writable.u64_at(8).store(7, crate::sync::Ordering::Relaxed);
    let passed = SealedMemory::from_fd(memory.reopen_read_only().unwrap()).unwrap();
    assert_eq!(passed.identity(), memory.identity());
    let readable = Mapping::read_only(&passed).unwrap();
    assert_eq!(readable.u64_at(8).load(crate::sync::Ordering::Relaxed), 7);
    let refused = Mapping::read_write(passed).unwrap_err();
    assert!(
        matches!(refused, MemoryError::Map { len: 4096, .. }),
        "{refused}"
    );
}

#[test]
fn populating_reserves() {
    let memory = SealedMemory::create("camring-test", 1 << 20).unwrap();
    let map = Mapping::read_write(memory.try_clone().unwrap()).unwrap();
    map.populate(65536, 131072).unwrap();
    assert_eq!(rustix::fs::fstat(&memory).unwrap().st_blocks * 512, 131072);
    map.populate(0, 0).unwrap();
    let error = Mapping::read_only(&memory)
        .unwrap()
        .populate(0, 4096)
        .unwrap_err();
    assert!(error.to_string().contains("4096 bytes"), "{error}");
}

#[test]
fn words_outside_are_refused() {
    let memory = SealedMemory::create("camring-test", 72).unwrap();
    let map = Mapping::read_write(memory).unwrap();
    assert_eq!(map.len(), 72);
    assert_eq!(map.words_at(64, 1).len(), 1);
    assert!(map.address(72, 0).is_some());
    assert!(map.address(73, 0).is_none());
    assert!(map.address(8, 65).is_none());
    assert!(map.address(usize::MAX, 1).is_none());
    for (offset, words) in [
        (64, 2),
        (72, 1),
        (4, 1),
        (usize::MAX - 7, 1),
        (0, usize::MAX),
    ] {
        let outside = std::panic::catch_unwind(|| map.words_at(offset, words).len());
        assert!(outside.is_err(), "{offset} {words}");
    }
    assert!(
        std::panic::catch_unwind(|| map.u64_at(68).load(crate::sync::Ordering::Relaxed)).is_err()
    );
    assert!(
        std::panic::catch_unwind(|| map.u64_at(72).load(crate::sync::Ordering::Relaxed)).is_err()
    );
    assert!(
        std::panic::catch_unwind(|| map.u32_at(72).load(crate::sync::Ordering::Relaxed)).is_err()
    );
}

#[test]
fn a_second_handle_is_the_same_memory() {
    let memory = SealedMemory::create("camring-test", 4096).unwrap();
    let other = memory.try_clone().unwrap();
    assert_eq!(memory.identity(), other.identity());
    assert_eq!(memory.owner(), Some(rustix::process::geteuid().as_raw()));
    let raw = std::os::fd::IntoRawFd::into_raw_fd(OwnedFd::from(other));
    // SAFETY: just released by `into_raw_fd`, owned by nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(raw) });
    assert!(memory.try_clone_fd().is_ok());
}
