//! A subscription to a camera's access units.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attach::AttachError;
use crate::attach::wire::RingKind;
use crate::error::RingError;
use crate::layout::RingState;
use crate::packets::reader::PacketReader;
use crate::packets::unit::{UnitDescriptor, UnitFlags};
use crate::subscriber::client::{AttachOptions, AttachmentId, Granted, Shared};
use crate::subscriber::frames::drain;
use crate::subscriber::watch::{Watch, Watched};

/// Longest time that a `next()` spends on attaching to a ring's successor.
const REATTACH_TIMEOUT: Duration = Duration::from_secs(1);

/// One camera's access units, copied out of its packet ring. `Send`.
#[derive(Debug)]
pub struct PacketSubscription {
    name: String,
    options: AttachOptions,
    reader: PacketReader,
    notify: Option<OwnedFd>,
    watch: Arc<Watch>,
    attachment: AttachmentId,
    /// The next unit is the first of another ring.
    replaced: bool,
}

impl PacketSubscription {
    pub(crate) fn new(
        name: &str,
        options: AttachOptions,
        granted: Granted,
    ) -> Result<Self, RingError> {
        let Granted {
            attachment,
            ring,
            notify,
            ..
        } = granted;
        let reader = PacketReader::new(&ring)?;
        let seen = reader.position().saturating_sub(1);
        let watch = Arc::new(Watch::new(
            Watched::Packets(Arc::clone(reader.ring())),
            seen,
        ));
        attachment.shared().watch(&watch);
        Ok(Self {
            name: name.to_owned(),
            options,
            reader,
            notify,
            watch,
            attachment,
            replaced: false,
        })
    }

    /// The next unit in order, as [`PacketReader::next`]. When the ring was replaced this goes on
    /// with the oldest unit of its successor, flagged as a discontinuity.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<UnitDescriptor>, RingError> {
        if let Some(unit) = self.advance(bytes)? {
            return Ok(Some(unit));
        }
        if let Some(fd) = &self.notify {
            drain(fd);
            if let Some(unit) = self.advance(bytes)? {
                return Ok(Some(unit));
            }
        }
        let state = self.reader.state();
        if let Some(unit) = self.advance(bytes)? {
            return Ok(Some(unit));
        }
        match state {
            RingState::Empty | RingState::Open => {
                if self.shared().is_closed() {
                    Err(RingError::Disconnected)
                } else {
                    Ok(None)
                }
            }
            RingState::Removed => Err(RingError::Removed {
                name: self.name.clone(),
            }),
            RingState::Replaced => {
                if self.reattach()? {
                    self.advance(bytes)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Goes to the newest key frame that is still there, then [`PacketSubscription::next`].
    pub fn from_newest_key(
        &mut self,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<UnitDescriptor>, RingError> {
        match self.reader.seek_newest_key() {
            Some(_) => self.next(bytes),
            None => Ok(None),
        }
    }

    /// Goes to the unit with this number: the next one that [`PacketSubscription::next`] gives, if it
    /// is there.
    pub fn seek(&mut self, sequence: u64) {
        self.reader.seek(sequence);
        self.watch.set_seen(sequence.saturating_sub(1));
    }

    /// One unit by number, whatever the position.
    pub fn read(
        &self,
        sequence: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<UnitDescriptor>, RingError> {
        self.reader.read(sequence, bytes)
    }

    /// Waits until there is a new unit (`true`) or the time is over (`false`; `None`: no limit).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, RingError> {
        match self.shared().wait(timeout, || self.watch.is_new()) {
            Ok(new) => Ok(new),
            Err(AttachError::Disconnected) => Err(RingError::Disconnected),
            Err(other) => Err(RingError::Reattach(Box::new(other))),
        }
    }

    /// [`PacketSubscription::next`], waiting for `timeout` at most.
    pub fn next_timeout(
        &mut self,
        bytes: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<Option<UnitDescriptor>, RingError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(unit) = self.next(bytes)? {
                return Ok(Some(unit));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if !self.wait(left)? {
                return Ok(None);
            }
        }
    }

    /// How many units were overwritten before the last `next()` could read them.
    pub fn missed(&self) -> u64 {
        self.reader.missed()
    }

    /// The reader, for positions and numbers.
    pub fn reader(&self) -> &PacketReader {
        &self.reader
    }

    /// A descriptor to poll, if asked for when attaching; see [`crate::Subscription::poll_fd`].
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.notify.as_ref().map(AsFd::as_fd)
    }

    /// Name attached to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the attachment.
    pub fn id(&self) -> u64 {
        self.attachment.get()
    }

    /// How many writers the ring has had.
    pub fn generation(&self) -> u32 {
        self.reader.generation()
    }

    fn shared(&self) -> &Arc<Shared> {
        self.attachment.shared()
    }

    fn advance(&mut self, bytes: &mut Vec<u8>) -> Result<Option<UnitDescriptor>, RingError> {
        let unit = self.reader.next(bytes);
        self.watch
            .set_seen(self.reader.position().saturating_sub(1));
        Ok(unit?.map(|mut unit| {
            if std::mem::take(&mut self.replaced) {
                unit.flags |= UnitFlags::DISCONTINUITY;
            }
            unit
        }))
    }

    /// Attaches to the ring's successor. `false`: there is none yet.
    fn reattach(&mut self) -> Result<bool, RingError> {
        if self.shared().is_closed() {
            return Err(RingError::Disconnected);
        }
        if !self.watch.may_reattach() {
            return Ok(false);
        }
        let kind = RingKind::Packets;
        let granted =
            match self
                .shared()
                .attach_once(&self.name, kind, &self.options, REATTACH_TIMEOUT)
            {
                Ok(granted) if granted.ring_id != self.reader.ring_id() => granted,
                Ok(_) | Err(AttachError::NotReady { .. } | AttachError::TimedOut { .. }) => {
                    self.watch.pause();
                    return Ok(false);
                }
                Err(AttachError::Disconnected) => return Err(RingError::Disconnected),
                Err(other) => {
                    self.watch.pause();
                    return Err(RingError::Reattach(Box::new(other)));
                }
            };
        let Granted {
            attachment,
            ring,
            notify,
            ..
        } = granted;
        let mut reader = PacketReader::new(&ring)?;
        reader.seek(reader.available().start);
        let seen = reader.position().saturating_sub(1);
        self.watch
            .replace(Watched::Packets(Arc::clone(reader.ring())), seen);
        self.reader = reader;
        self.notify = notify;
        self.attachment = attachment;
        self.replaced = true;
        Ok(true)
    }
}
