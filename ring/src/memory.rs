//! Sealed memory and its mappings: the only place that turns a descriptor into addresses.
//!
//! Promises: whatever is mapped is a memfd sealed against shrinking and growing, so no access
//! inside the mapping can raise SIGBUS by truncation; every word is bounds-checked; memory that is
//! going to be written is reserved first, and lack of it is an error with the number of bytes.
//!
//! Must never: hand out a `&mut [u8]` or `&[u8]` of shared memory by itself (the slot modules do,
//! with their own argument), or map anything unsealed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use crate::sync::{AtomicU32, AtomicU64};

/// Seals that every memory of this crate carries.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// What can go wrong with memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// `memfd_create`, `ftruncate` or sealing failed.
    #[error("cannot create shared memory {name:?} of {len} bytes: {source}")]
    Create {
        /// Name of the memfd.
        name: String,
        /// Bytes asked for.
        len: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A descriptor was passed that is no sealed memfd.
    #[error(
        "the descriptor is not sealed memory (it must be a memfd with F_SEAL_SHRINK, F_SEAL_GROW \
         and F_SEAL_SEAL): {reason}"
    )]
    NotSealed {
        /// What was found instead.
        reason: String,
    },
    /// `mmap` failed.
    #[error("cannot map {len} bytes of shared memory: {source}")]
    Map {
        /// Bytes.
        len: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel could not give the memory behind a mapping.
    #[error(
        "cannot reserve {len} bytes of shared memory: {source} (lower ring depth or picture size, \
         or raise the memory limit)"
    )]
    Populate {
        /// Bytes.
        len: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Duplicating or reopening a descriptor failed.
    #[error("cannot duplicate a shared memory descriptor: {source}")]
    Duplicate {
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A memfd with `F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL`, mode 0600: its length is fixed for
/// ever. Only the broker creates any; everybody else receives one and has it checked.
///
/// Sparse: creating one reserves nothing. `Send` and `Sync`.
#[derive(Debug)]
pub struct SealedMemory {
    fd: OwnedFd,
    len: u64,
}

impl SealedMemory {
    /// Creates `len` bytes of zeroes. `name` shows in `/proc/PID/maps` only. Whether the machine
    /// can afford it is the caller's question: a memfd over the cgroup's limit ends in an OOM
    /// kill, not in an error.
    pub fn create(name: &str, len: u64) -> Result<Self, MemoryError> {
        let wrap = |source: rustix::io::Errno| MemoryError::Create {
            name: name.to_owned(),
            len,
            source: source.into(),
        };
        if len == 0 {
            return Err(wrap(rustix::io::Errno::INVAL));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // NOEXEC_SEAL is Linux 6.3; older kernels say EINVAL.
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            other => other,
        }
        .map_err(wrap)?;
        rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
        rustix::fs::ftruncate(&fd, len).map_err(wrap)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(wrap)?;
        Ok(Self { fd, len })
    }

    /// Takes a received descriptor, if it is sealed as [`SealedMemory::create`] seals.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, MemoryError> {
        let not_sealed = |reason: String| MemoryError::NotSealed { reason };
        let seals = rustix::fs::fcntl_get_seals(&fd)
            .map_err(|e| not_sealed(format!("F_GET_SEALS: {e}")))?;
        if !seals.contains(SEALS) {
            return Err(not_sealed(format!("its seals are {:#x}", seals.bits())));
        }
        let stat = rustix::fs::fstat(&fd).map_err(|e| not_sealed(format!("fstat: {e}")))?;
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if len == 0 {
            return Err(not_sealed("its length is 0".to_owned()));
        }
        Ok(Self { fd, len })
    }

    /// A new open file description of the same memory that can only be read and mapped read-only.
    /// Needs `/proc`.
    pub fn reopen_read_only(&self) -> Result<OwnedFd, MemoryError> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| MemoryError::Duplicate { source: e.into() })
    }

    /// A duplicate descriptor of the same open file description.
    pub fn try_clone_fd(&self) -> Result<OwnedFd, MemoryError> {
        self.fd
            .try_clone()
            .map_err(|source| MemoryError::Duplicate { source })
    }

    /// A second handle on the same memory.
    pub fn try_clone(&self) -> Result<Self, MemoryError> {
        Ok(Self {
            fd: self.try_clone_fd()?,
            len: self.len,
        })
    }

    /// The descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes; sealed.
    #[allow(
        clippy::len_without_is_empty,
        reason = "never empty: creation and from_fd refuse 0"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Device and inode: tells whether two descriptors are the same memory.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        rustix::fs::fstat(&self.fd)
            .ok()
            .map(|s| (s.st_dev, s.st_ino))
    }

    /// Owner of the memory, the uid for whom read-only does not hold.
    pub(crate) fn owner(&self) -> Option<u32> {
        rustix::fs::fstat(&self.fd).ok().map(|s| s.st_uid)
    }
}

impl AsFd for SealedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<SealedMemory> for OwnedFd {
    fn from(memory: SealedMemory) -> Self {
        memory.fd
    }
}

/// A shared mapping of the whole of a [`SealedMemory`]. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    /// Kept by writers, for kernels without `MADV_POPULATE_WRITE`.
    fd: Option<OwnedFd>,
}

impl Mapping {
    /// Maps for reading and writing.
    pub(crate) fn read_write(memory: SealedMemory) -> Result<Self, MemoryError> {
        let raw = options(&memory)?
            .map_raw(memory.fd.as_raw_fd())
            .map_err(|source| MemoryError::Map {
                len: memory.len,
                source,
            })?;
        keep_out_of_core_dumps(&raw);
        Ok(Self {
            raw,
            fd: Some(memory.fd),
        })
    }

    /// Maps for reading. A store into it is a SIGSEGV: callers only load.
    pub(crate) fn read_only(memory: &SealedMemory) -> Result<Self, MemoryError> {
        let raw = options(memory)?
            .map_raw_read_only(memory.fd.as_raw_fd())
            .map_err(|source| MemoryError::Map {
                len: memory.len,
                source,
            })?;
        keep_out_of_core_dumps(&raw);
        Ok(Self { raw, fd: None })
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// The u64 at `offset`. Panics when it is misaligned or not inside the mapping: the geometry
    /// that `offset` comes from has been checked against the length.
    #[inline]
    pub(crate) fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset < self.raw.len() && self.raw.len() - offset >= 8
        );
        // SAFETY: in bounds and aligned (just checked; a mapping starts at a page), and mapped
        // as long as `self` lives. Sealed memory cannot be truncated. In this process, words are
        // only ever accessed as atomics of this size, or (headers being created) before anyone
        // else has the memory. Through a read-only mapping only loads happen; a relaxed load of
        // a pointer-sized word is documented to be fine there.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) }
    }

    /// The u32 at `offset`; as [`Mapping::u64_at`].
    #[inline]
    pub(crate) fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.raw.len() && self.raw.len() - offset >= 4
        );
        // SAFETY: as in `u64_at`; a word used as u32 (bell, waiting, state, generation) is
        // accessed as u32 everywhere.
        unsafe { AtomicU32::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) }
    }

    /// `words` consecutive u64 at `offset`; as [`Mapping::u64_at`], with one check for all.
    #[inline]
    pub(crate) fn words_at(&self, offset: usize, words: usize) -> &[AtomicU64] {
        assert!(
            offset.is_multiple_of(8)
                && offset <= self.raw.len()
                && words <= (self.raw.len() - offset) / 8
        );
        // SAFETY: as in `u64_at`, for each of the words. `AtomicU64` has the size and, on this
        // 64-bit target, the alignment of u64. No reference to the same bytes as anything but
        // atomics exists.
        unsafe {
            std::slice::from_raw_parts(self.raw.as_mut_ptr().add(offset).cast::<AtomicU64>(), words)
        }
    }

    /// Address of `len` bytes at `offset`, or `None` when they are not inside the mapping. Valid
    /// as long as `self` lives.
    #[inline]
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if offset > self.raw.len() || len > self.raw.len() - offset {
            return None;
        }
        // SAFETY: `offset` is at most the mapping's length, so the sum stays in (or one past) it.
        NonNull::new(unsafe { self.raw.as_mut_ptr().add(offset) })
    }

    /// Reserves and maps the pages of `len` bytes at `offset` for writing, so that no later store
    /// into them faults. Only on a mapping made with [`Mapping::read_write`].
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<(), MemoryError> {
        if len == 0 {
            return Ok(());
        }
        let failed = |source| MemoryError::Populate {
            len: len as u64,
            source,
        };
        match self.raw.advise_range(Advice::PopulateWrite, offset, len) {
            Ok(()) => Ok(()),
            // EINVAL: before Linux 5.14. Allocation is what matters; the faults come later.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => match &self.fd {
                Some(fd) => {
                    rustix::fs::fallocate(fd, FallocateFlags::empty(), offset as u64, len as u64)
                        .map_err(|e| failed(e.into()))
                }
                None => Err(failed(e)),
            },
            Err(e) => Err(failed(e)),
        }
    }
}

/// A camera's pictures do not belong into a core dump, and would make it gigabytes long.
fn keep_out_of_core_dumps(raw: &MmapRaw) {
    // Nothing depends on it.
    let _ = raw.advise(Advice::DontDump);
}

fn options(memory: &SealedMemory) -> Result<MmapOptions, MemoryError> {
    let len = usize::try_from(memory.len).map_err(|_| MemoryError::Map {
        len: memory.len,
        source: io::Error::from(io::ErrorKind::OutOfMemory),
    })?;
    let mut options = MmapOptions::new();
    options.len(len);
    Ok(options)
}

#[cfg(test)]
mod tests;
