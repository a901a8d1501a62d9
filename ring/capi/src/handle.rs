//! Handles: numbers dressed as pointers, looked up in a table and never followed.
//!
//! Promises: a handle that was given back is not found again (until its place was used four
//! thousand million times), and one of another kind never is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{CAMRING_E_HANDLE, CAMRING_E_SYSTEM, Failure};

/// Most things of one kind at a time.
const MOST: usize = 1 << 24;

/// All living things of one kind. A handle's bits: 63–32 generation, 31–8 place, 7–0 kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    kind: u8,
    name: &'static str,
    places: Mutex<Places<T>>,
}

#[derive(Debug)]
struct Places<T> {
    all: Vec<(u32, Option<Arc<T>>)>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    /// `kind`: not 0, another one for each table.
    pub(crate) const fn new(kind: u8, name: &'static str) -> Self {
        let places = Places {
            all: Vec::new(),
            free: Vec::new(),
        };
        Self {
            kind,
            name,
            places: Mutex::new(places),
        }
    }

    /// A handle for a new thing.
    pub(crate) fn insert<H>(&self, thing: T) -> Result<*mut H, Failure> {
        let thing = Some(Arc::new(thing));
        let mut places = self.lock();
        let place = match places.free.pop() {
            Some(place) => place as usize,
            None if places.all.len() < MOST => {
                places.all.push((0, None));
                places.all.len() - 1
            }
            None => {
                let text = format!("{MOST} {}s are open, the most possible", self.name);
                return Err(Failure::new(CAMRING_E_SYSTEM, text));
            }
        };
        let entry = &mut places.all[place];
        entry.1 = thing;
        let value = u64::from(entry.0) << 32 | (place as u64) << 8 | u64::from(self.kind);
        Ok(std::ptr::without_provenance_mut(value as usize))
    }

    /// The thing of a handle.
    pub(crate) fn get<H>(&self, handle: *const H) -> Result<Arc<T>, Failure> {
        let places = self.lock();
        let found = self
            .place(&places, handle.addr())
            .and_then(|place| places.all[place].1.clone());
        drop(places);
        found.ok_or_else(|| self.unknown(handle.addr()))
    }

    /// Takes a thing out; its handle is worth nothing afterwards.
    pub(crate) fn remove<H>(&self, handle: *const H) -> Result<Arc<T>, Failure> {
        let mut places = self.lock();
        let place = self.place(&places, handle.addr());
        let Some((place, thing)) = place.and_then(|at| Some((at, places.all[at].1.take()?))) else {
            drop(places);
            return Err(self.unknown(handle.addr()));
        };
        let entry = &mut places.all[place];
        entry.0 = entry.0.wrapping_add(1);
        places.free.push(place as u32);
        Ok(thing)
    }

    fn place(&self, places: &Places<T>, value: usize) -> Option<usize> {
        let value = value as u64;
        let place = (value >> 8 & 0xff_ffff) as usize;
        let entry = places.all.get(place)?;
        let fits = value & 0xff == u64::from(self.kind) && value >> 32 == u64::from(entry.0);
        fits.then_some(place)
    }

    fn unknown(&self, value: usize) -> Failure {
        let name = self.name;
        if value == 0 {
            return Failure::null(name);
        }
        let text = format!("{value:#x} is no {name}, or one that was given back already");
        Failure::new(CAMRING_E_HANDLE, text)
    }

    fn lock(&self) -> MutexGuard<'_, Places<T>> {
        // Each change is whole before anything can panic.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_once() {
        static TABLE: Table<u32> = Table::new(7, "thing");
        let one: *mut u8 = TABLE.insert(1).unwrap();
        let two: *mut u8 = TABLE.insert(2).unwrap();
        assert_eq!(*TABLE.get(one).unwrap(), 1);
        assert_eq!(*TABLE.remove(one).unwrap(), 1);
        assert!(TABLE.get(one).is_err());
        assert!(TABLE.remove(one).is_err());
        let three: *mut u8 = TABLE.insert(3).unwrap();
        assert_ne!(one, three, "the same place, another handle");
        assert!(TABLE.get(one).is_err());
        assert_eq!(*TABLE.get(two).unwrap() + *TABLE.get(three).unwrap(), 5);
        static OTHER: Table<u32> = Table::new(8, "other");
        let _: *mut u8 = OTHER.insert(1).unwrap();
        assert!(OTHER.get(two).is_err());
        for value in [0, 1, 7, usize::MAX, 0x7fff_dead_beef] {
            assert!(
                TABLE
                    .get(std::ptr::without_provenance::<u8>(value))
                    .is_err()
            );
        }
    }
}
