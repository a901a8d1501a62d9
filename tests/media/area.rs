//! Slots to decode into, whose pages are write-protected as soon as a picture is published.
//!
//! A write to a published slot traps; the handler counts it and lets it happen, so that it shows in
//! the bytes too. Published slots stay protected until `KEPT` newer ones are published and the decoder
//! has let go of them, then their bytes are compared with what was published.
#![allow(dead_code)] // each test binary uses a part

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once};

use camring::media::{PictureSlots, PixelFormat, Plane, SlotBuffer};

pub const SLOTS: usize = 32;
/// Published slots that stay protected although the decoder has let go of them.
const KEPT: usize = 4;
/// Areas that can exist at once.
const MAX_AREAS: usize = 64;

/// What the signal handler may look at: plain atomics, never freed.
struct Region {
    start: AtomicUsize,
    slot_bytes: AtomicUsize,
    protected: [AtomicBool; SLOTS],
    writes: AtomicUsize,
}

static REGIONS: [Region; MAX_AREAS] = [const {
    Region {
        start: AtomicUsize::new(0),
        slot_bytes: AtomicUsize::new(0),
        protected: [const { AtomicBool::new(false) }; SLOTS],
        writes: AtomicUsize::new(0),
    }
}; MAX_AREAS];

static HANDLER: Once = Once::new();

fn install_handler() {
    HANDLER.call_once(|| {
        // SAFETY: a zeroed sigaction is a valid one; the handler has the type that SA_SIGINFO asks
        // for and uses nothing but atomics and two system calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            assert_eq!(
                libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()),
                0
            );
        }
    });
}

extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo_t, and for SIGSEGV it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    for region in &REGIONS {
        let start = region.start.load(SeqCst);
        let bytes = region.slot_bytes.load(SeqCst);
        if start == 0 || address < start || address >= start + bytes * SLOTS {
            continue;
        }
        let slot = (address - start) / bytes;
        if region.protected[slot].swap(false, SeqCst) {
            region.writes.fetch_add(1, SeqCst);
        }
        // SAFETY: the slot's pages, which stay mapped as long as the region is registered.
        let done = unsafe {
            libc::mprotect(
                (start + slot * bytes) as *mut libc::c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if done == 0 {
            return;
        }
    }
    // A fault of another kind: the instruction faults again, and this time it is deadly.
    // SAFETY: resets a signal to its default.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
}

pub struct Area {
    region: &'static Region,
    start: NonNull<u8>,
    slot_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<u8>,
    lent: [bool; SLOTS],
    /// Bytes at the time of publishing.
    published: [Option<Vec<u8>>; SLOTS],
    /// Oldest first.
    order: VecDeque<u8>,
    most_lent: usize,
    changed: usize,
}

// SAFETY: the memory behind `start` is only touched under the rules of SlotBuffer and the lock.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

/// What a run found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Published slots that were written to.
    pub writes: usize,
    /// Published slots whose bytes changed.
    pub changed: usize,
    /// Slots in the decoder's hands at once.
    pub most_lent: usize,
}

impl Area {
    pub fn new(slot_bytes: usize) -> Arc<Self> {
        install_handler();
        let slot_bytes = slot_bytes.next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slot_bytes * SLOTS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(
            start,
            libc::MAP_FAILED,
            "no memory for {SLOTS} slots of {slot_bytes}"
        );
        let region = REGIONS
            .iter()
            .find(|region| {
                region
                    .start
                    .compare_exchange(0, start as usize, SeqCst, SeqCst)
                    .is_ok()
            })
            .expect("fewer areas at once");
        region.writes.store(0, SeqCst);
        region.slot_bytes.store(slot_bytes, SeqCst);
        Arc::new(Self {
            region,
            start: NonNull::new(start.cast()).expect("mmap gives no null"),
            slot_bytes,
            state: Mutex::new(State {
                free: (0..SLOTS as u8).collect(),
                ..State::default()
            }),
        })
    }

    fn address(&self, slot: u8) -> NonNull<u8> {
        // SAFETY: slot < SLOTS: within the mapping.
        unsafe { self.start.add(usize::from(slot) * self.slot_bytes) }
    }

    /// The bytes of a slot. Call it only while nothing draws.
    fn bytes(&self, slot: u8) -> &[u8] {
        // SAFETY: mapped as long as self; tests read between calls into the decoder.
        unsafe { std::slice::from_raw_parts(self.address(slot).as_ptr(), self.slot_bytes) }
    }

    /// The visible rows of all planes of a picture in a slot, one after the other.
    pub fn rows(
        &self,
        slot: u8,
        planes: &[Plane; 4],
        format: PixelFormat,
        size: (u32, u32),
    ) -> Vec<u8> {
        visible(self.bytes(slot), planes, format, size)
    }

    fn protect(&self, slot: u8, protection: libc::c_int) {
        // SAFETY: the slot's own pages.
        let done = unsafe {
            libc::mprotect(
                self.address(slot).as_ptr().cast(),
                self.slot_bytes,
                protection,
            )
        };
        assert_eq!(done, 0, "mprotect");
    }

    /// Publishes a slot in which a picture lies. False: it is published already.
    pub fn publish(&self, slot: u8) -> bool {
        let mut state = self.state.lock().expect("no panic under it");
        if state.published[usize::from(slot)].is_some() {
            return false;
        }
        state.published[usize::from(slot)] = Some(self.bytes(slot).to_vec());
        self.protect(slot, libc::PROT_READ);
        self.region.protected[usize::from(slot)].store(true, SeqCst);
        state.order.push_back(slot);
        self.recycle(&mut state);
        true
    }

    /// Fills a free slot and publishes it. False: there was none, or `fill` did not.
    pub fn publish_copy(&self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let Some(buffer) = self.reserve(bytes) else {
            return false;
        };
        // SAFETY: the slot is reserved: nobody else has it, and the decoder never hears of it.
        let slot = unsafe { std::slice::from_raw_parts_mut(buffer.start().as_ptr(), buffer.len()) };
        let done = fill(slot) && self.publish(buffer.id());
        self.release(buffer);
        done
    }

    fn recycle(&self, state: &mut State) {
        let old = state.order.len().saturating_sub(KEPT);
        for index in 0..old {
            let slot = state.order[index];
            if !state.lent[usize::from(slot)] {
                self.retire(state, slot);
                state.free.push(slot);
            }
        }
        let State {
            order, published, ..
        } = state;
        order.retain(|slot| published[usize::from(*slot)].is_some());
    }

    fn retire(&self, state: &mut State, slot: u8) {
        if let Some(before) = state.published[usize::from(slot)].take() {
            state.changed += usize::from(before != self.bytes(slot));
        }
        self.region.protected[usize::from(slot)].store(false, SeqCst);
        self.protect(slot, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Slots that the decoder and pictures refer to.
    pub fn lent(&self) -> usize {
        let state = self.state.lock().expect("no panic under it");
        state.lent.iter().filter(|lent| **lent).count()
    }

    /// Compares what is still published, and says what was found since the beginning.
    pub fn findings(&self) -> Findings {
        let mut state = self.state.lock().expect("no panic under it");
        for slot in 0..SLOTS as u8 {
            let changed = state.published[usize::from(slot)]
                .as_ref()
                .is_some_and(|before| before != self.bytes(slot));
            state.changed += usize::from(changed);
        }
        Findings {
            writes: self.region.writes.load(SeqCst),
            changed: state.changed,
            most_lent: state.most_lent,
        }
    }
}

/// The visible rows of all planes, one after the other.
pub fn visible(
    bytes: &[u8],
    planes: &[Plane; 4],
    format: PixelFormat,
    size: (u32, u32),
) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, plane) in planes.iter().enumerate().take(format.planes()) {
        let (row, rows) = format
            .plane_size(index, size.0, size.1)
            .expect("a plane of the format");
        for line in 0..rows as usize {
            let start = plane.offset as usize + line * plane.stride as usize;
            out.extend_from_slice(&bytes[start..start + row as usize]);
        }
    }
    out
}

impl PictureSlots for Area {
    fn reserve(&self, bytes: usize) -> Option<SlotBuffer> {
        if bytes > self.slot_bytes {
            return None;
        }
        let mut state = self.state.lock().expect("no panic under it");
        let slot = state.free.pop()?;
        state.lent[usize::from(slot)] = true;
        let lent = state.lent.iter().filter(|lent| **lent).count();
        state.most_lent = state.most_lent.max(lent);
        // SAFETY: the slot was free: nobody else has it until it comes back. Areas outlive their
        // slots because Drop checks that none is lent.
        Some(unsafe { SlotBuffer::new(slot, self.address(slot), self.slot_bytes, Arc::new(())) })
    }

    fn release(&self, buffer: SlotBuffer) {
        let mut state = self.state.lock().expect("no panic under it");
        let slot = buffer.id();
        state.lent[usize::from(slot)] = false;
        if state.published[usize::from(slot)].is_none() {
            state.free.push(slot);
        }
        self.recycle(&mut state);
    }

    fn id(&self) -> usize {
        self.start.as_ptr() as usize
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        assert_eq!(
            self.lent(),
            0,
            "slots are lent with a reference to their owner"
        );
        for protected in &self.region.protected {
            protected.store(false, SeqCst);
        }
        self.region.slot_bytes.store(0, SeqCst);
        self.region.start.store(0, SeqCst);
        // SAFETY: our mapping, to which nothing refers any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.slot_bytes * SLOTS) };
    }
}
