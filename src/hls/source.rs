//! A stream's access units, for as long as the recording lasts.
//!
//! Promises: every unit that the ring still has is given out, in order, once; a unit says when it does
//! not follow the one before. No call waits for a unit but [`Source::wait`].
#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use camring_ring::{
    AttachError, AttachOptions, Client, PacketSubscription, RingError, UnitDescriptor, UnitFlags,
};

use super::attached::Attached;

/// Where units come from.
#[derive(Debug)]
pub struct Source {
    attached: Attached<PacketSubscription>,
    /// The last unit given out, and the ring it was in.
    last: Option<(u64, UnitDescriptor)>,
    missed: u64,
    /// Begins with the oldest unit that there is, rather than with the newest key frame.
    from_oldest: bool,
}

/// A unit, its bytes aside.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// As in the ring.
    pub descriptor: UnitDescriptor,
    /// It is not the successor of the unit given out before: units are missing, or another reader
    /// process or ring has its own times.
    pub breaks: bool,
}

impl Source {
    /// Nothing is contacted yet.
    pub fn new(socket: PathBuf, stream: String) -> Self {
        Self {
            attached: Attached::new(socket, stream),
            last: None,
            missed: 0,
            from_oldest: false,
        }
    }

    /// The same, with all that the ring still has.
    #[must_use]
    pub fn from_oldest(self) -> Self {
        Self {
            from_oldest: true,
            ..self
        }
    }

    /// The next unit, its bytes in `bytes`. `None`: none yet.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> Option<Unit> {
        if !self.ready() {
            return None;
        }
        let units = self.attached.subscription()?;
        let found = units.next(bytes);
        self.missed += units.missed();
        match found {
            Ok(found) => {
                let descriptor = found?;
                let ring = units.reader().ring_id();
                let breaks = self.last.is_none_or(|(last_ring, last)| {
                    last_ring != ring
                        || last.generation != descriptor.generation
                        || last.sequence + 1 != descriptor.sequence
                });
                self.last = Some((ring, descriptor));
                Some(Unit { descriptor, breaks })
            }
            Err(RingError::BadFrame { .. }) => {
                self.missed += 1;
                None
            }
            Err(error) => {
                self.attached.lost(&error);
                None
            }
        }
    }

    /// Waits until there may be a unit, or until the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        let wait = |units: &mut PacketSubscription, most| units.wait(Some(most));
        self.attached.wait(timeout, wait);
    }

    /// Attaches, where that is not done yet. Does not wait for what is not there.
    pub fn ready(&mut self) -> bool {
        if self.attached.is_attached() {
            return true;
        }
        let (last, from_oldest) = (self.last, self.from_oldest);
        let ask = |client: &Client, stream: &str| subscribe(client, stream, last, from_oldest);
        self.attached.attach(ask)
    }

    /// Looks for a unit that was given out in a former life, and goes on after it: its descriptor, and
    /// the bytes of the key frame that begins its group of pictures. `None`: the ring has one of them
    /// no longer, and nothing has changed.
    pub fn go_on_after(
        &mut self,
        is_it: impl Fn(&UnitDescriptor) -> bool,
    ) -> Option<(UnitDescriptor, Vec<u8>)> {
        let units = self.attached.subscription()?;
        let mut bytes = Vec::new();
        let mut last = None;
        for sequence in units.reader().available().rev() {
            let unit = units.read(sequence, &mut bytes).ok()??;
            if last.is_none() && is_it(&unit) {
                last = Some(unit);
            }
            if let Some(last) = last
                && unit.flags.contains(UnitFlags::KEY)
            {
                units.seek(last.sequence + 1);
                self.last = Some((units.reader().ring_id(), last));
                return Some((last, bytes));
            }
        }
        None
    }

    /// Where it attaches.
    pub fn socket(&self) -> &Path {
        self.attached.socket()
    }

    /// Units that the ring no longer had.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Why there are none: empty while attached.
    pub fn trouble(&self) -> &str {
        self.attached.trouble()
    }
}

/// `last`: the unit given out last, and the ring it was in.
fn subscribe(
    client: &Client,
    stream: &str,
    last: Option<(u64, UnitDescriptor)>,
    from_oldest: bool,
) -> Result<PacketSubscription, AttachError> {
    let options = AttachOptions {
        // Asked again by ourselves.
        timeout: Duration::ZERO,
        ..AttachOptions::default()
    };
    let mut units = client.attach_packets(stream, &options)?;
    let from = match last {
        // The same ring: go on where we were. Its number alone does not say so: another daemon
        // begins to count anew.
        Some((ring, last)) if ring == units.reader().ring_id() => {
            let known = units.read(last.sequence, &mut Vec::new());
            let same = known.is_ok_and(|unit| unit == Some(last));
            same.then_some(last.sequence + 1)
        }
        _ => None,
    };
    let available = units.reader().available();
    units.seek(match (from, last) {
        (Some(from), _) => from,
        // Another ring: all of it is new.
        (None, Some(_)) => available.start,
        (None, None) if from_oldest => available.start,
        (None, None) => units.reader().newest_key().unwrap_or(available.start),
    });
    Ok(units)
}
