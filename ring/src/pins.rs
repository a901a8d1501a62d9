//! Pin pages: one per subscriber and ring, shared only between that subscriber and the writer.
//!
//! The subscriber may write anything into it. The writer relies on nothing but the page's sealed
//! length, which says how many words it looks at; the broker chose that length, so a subscriber
//! cannot raise its own quota. What is left to a hostile one: to pin up to its quota for as long
//! as it is connected, and to punch holes into its page, which costs the writer a page fault.

use std::mem::offset_of;

use crate::error::RingError;
use crate::frames::protocol::PinWords;
use crate::layout::{LAYOUT_VERSION, MAX_PINS, PIN_MAGIC, PINS_OFFSET, PinPageHeader};
use crate::memory::{Mapping, SealedMemory};
use crate::sync::{AtomicU64, Ordering};

/// Creates pin pages; made by the broker, one for each subscriber and ring.
#[derive(Debug)]
pub struct PinPage(());

impl PinPage {
    /// A page for `pins` frames held at a time, 1 to 64.
    pub fn create(pins: u32) -> Result<SealedMemory, RingError> {
        if pins == 0 || pins > MAX_PINS {
            return Err(RingError::Spec {
                field: "pins",
                found: pins.into(),
                limit: format!("1 to {MAX_PINS} are possible"),
            });
        }
        let len = PINS_OFFSET as u64 + u64::from(pins) * 8;
        let memory = SealedMemory::create("camring-pins", len)?;
        let map = Mapping::read_write(memory.try_clone()?)?;
        map.populate(0, map.len())?;
        map.u32_at(offset_of!(PinPageHeader, version))
            .store(LAYOUT_VERSION, Ordering::Relaxed);
        map.u32_at(offset_of!(PinPageHeader, pins))
            .store(pins, Ordering::Relaxed);
        map.u64_at(offset_of!(PinPageHeader, magic))
            .store(PIN_MAGIC, Ordering::Relaxed);
        Ok(memory)
    }
}

/// A mapped pin page.
#[derive(Debug)]
pub(crate) struct Pins {
    map: Mapping,
    count: usize,
}

impl Pins {
    pub(crate) fn map(memory: SealedMemory) -> Result<Self, RingError> {
        let words = (memory.len().saturating_sub(PINS_OFFSET as u64)) / 8;
        if words == 0 || words > u64::from(MAX_PINS) {
            return Err(RingError::Format(crate::error::FormatError::Header {
                what: "pin page",
                field: "length",
                found: memory.len(),
                expected: format!("room for 1 to {MAX_PINS} pins"),
            }));
        }
        Ok(Self {
            map: Mapping::read_write(memory)?,
            count: words as usize,
        })
    }

    /// Pins granted.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All pin words.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.map.words_at(PINS_OFFSET, self.count)
    }
}

/// The pin pages of all subscribers of a ring, as the writer has them.
#[derive(Debug, Default)]
pub(crate) struct PinList(pub(crate) Vec<(u64, Pins)>);

impl PinWords for PinList {
    #[inline]
    fn each(&self, mut visit: impl FnMut(&AtomicU64)) {
        for (_, pins) in &self.0 {
            for word in pins.words() {
                visit(word);
            }
        }
    }
}
