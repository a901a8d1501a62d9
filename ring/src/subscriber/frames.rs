//! A subscription to a camera's frames.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use crate::attach::AttachError;
use crate::attach::wire::RingKind;
use crate::descriptor::FrameFlags;
use crate::error::RingError;
use crate::frames::protocol::{self, Entry};
use crate::frames::words::MappedFrames;
use crate::layout::RingState;
use crate::memory::Mapping;
use crate::pins::Pins;
use crate::subscriber::client::{AttachOptions, Granted, Shared};
use crate::subscriber::frame::{Attachment, Circumstances, Frame, RingChange};
use crate::subscriber::watch::{Watch, Watched};
use crate::sync::Ordering;

/// Longest time that a `next()` or `latest()` spends on attaching to a ring's successor.
const REATTACH_TIMEOUT: Duration = Duration::from_secs(1);

/// One camera's frames. `Send`; each method takes `&mut self`, frames given out live on their own.
#[derive(Debug)]
pub struct Subscription {
    name: String,
    options: AttachOptions,
    attachment: Arc<Attachment>,
    notify: Option<OwnedFd>,
    watch: Arc<Watch>,
    /// Highest number looked at.
    seen: u64,
    /// Number of the last frame given out; before the first, what was there when attaching.
    given: u64,
    /// Damaged frames hidden since.
    hidden: u64,
    generation: Option<u32>,
    change: Option<RingChange>,
    /// The ring attached to last begins, by its header, at this number, which is not after `seen`.
    /// Its first frame tells whether it goes on all the same or counts anew.
    begins: Option<u64>,
}

impl Subscription {
    pub(crate) fn new(
        name: &str,
        options: AttachOptions,
        granted: Granted,
    ) -> Result<Self, RingError> {
        let shared = Arc::clone(granted.attachment.shared());
        let (attachment, notify) = open(granted)?;
        // The newest frame of now is the first that counts as not yet seen.
        let newest = protocol::newest(&**attachment.ring());
        let seen = newest.map_or(0, |newest| newest.sequence - 1);
        let seen = seen.max(attachment.ring().geometry().first_sequence - 1);
        let watch = Arc::new(Watch::new(
            Watched::Frames(Arc::clone(attachment.ring())),
            seen,
        ));
        shared.watch(&watch);
        Ok(Self {
            name: name.to_owned(),
            options,
            attachment: Arc::new(attachment),
            notify,
            watch,
            seen,
            given: seen,
            hidden: 0,
            generation: None,
            change: None,
            begins: None,
        })
    }

    /// What the first frame is to say.
    pub(crate) fn set_change(&mut self, change: RingChange) {
        self.change = Some(change);
    }

    /// The oldest frame that was not given out yet and is still there; `None`: nothing new. Never
    /// waits for a frame. When the ring was replaced this attaches to its successor, which takes
    /// a question to the daemon (1 s at most).
    #[expect(
        clippy::should_implement_trait,
        reason = "the end of an iterator is final, None here is not"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, RingError> {
        self.take(Self::find_next)
    }

    /// The newest frame, if it was not given out yet; the ones before it count as missed. Never
    /// waits, as [`Subscription::next`].
    pub fn latest(&mut self) -> Result<Option<Frame>, RingError> {
        self.take(Self::find_latest)
    }

    /// Waits until there is something new (`true`) or the time is over (`false`; `None`: no
    /// limit). After `true` the frame may turn out to be hidden or gone.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, RingError> {
        match self.shared().wait(timeout, || self.is_new()) {
            Ok(new) => Ok(new),
            Err(AttachError::Disconnected) => Err(RingError::Disconnected),
            Err(other) => Err(RingError::Reattach(Box::new(other))),
        }
    }

    /// [`Subscription::next`], waiting for `timeout` at most. `None`: no frame in that time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Frame>, RingError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(frame) = self.next()? {
                return Ok(Some(frame));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if !self.wait(left)? {
                return Ok(None);
            }
        }
    }

    /// A descriptor for `poll`, `epoll` and the like, if asked for when attaching. It is readable
    /// when something was published: then call `next()` until it says `None`, which makes it
    /// unreadable again. Another one after the ring was replaced.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.notify.as_ref().map(AsFd::as_fd)
    }

    /// Name attached to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the attachment, unique in the daemon; another one after the ring was replaced.
    pub fn id(&self) -> u64 {
        self.attachment.id().get()
    }

    /// How many writers the ring has had. Rises when the camera's reader process is restarted.
    pub fn generation(&self) -> u32 {
        self.attachment
            .ring()
            .generation_word()
            .load(Ordering::Relaxed)
    }

    fn shared(&self) -> &Arc<Shared> {
        self.attachment.id().shared()
    }

    /// As [`Watch::is_new`], on the shortest way for the usual case: this is what stands between
    /// being woken and having the frame.
    #[inline]
    fn is_new(&self) -> bool {
        protocol::newest(&**self.attachment.ring()).is_some_and(|n| n.sequence > self.seen)
            || self.watch.is_new()
    }

    fn take(
        &mut self,
        find: fn(&mut Self) -> Result<Option<Frame>, RingError>,
    ) -> Result<Option<Frame>, RingError> {
        if let Some(frame) = find(self)? {
            return Ok(Some(frame));
        }
        // Nothing new. The poll descriptor is drained before the last look, so that a frame
        // published after it makes it readable again.
        if let Some(fd) = &self.notify {
            drain(fd);
            if let Some(frame) = find(self)? {
                return Ok(Some(frame));
            }
        }
        // The state first: frames from before the end are still given out.
        match self.attachment.ring().state() {
            RingState::Empty | RingState::Open => {
                if self.shared().is_closed() {
                    Err(RingError::Disconnected)
                } else {
                    Ok(None)
                }
            }
            RingState::Removed => match find(self)? {
                Some(frame) => Ok(Some(frame)),
                None => Err(RingError::Removed {
                    name: self.name.clone(),
                }),
            },
            RingState::Replaced => match find(self)? {
                Some(frame) => Ok(Some(frame)),
                None => {
                    if self.reattach()? {
                        find(self)
                    } else {
                        Ok(None)
                    }
                }
            },
        }
    }

    /// Attaches to the ring's successor. `false`: there is none yet.
    fn reattach(&mut self) -> Result<bool, RingError> {
        if self.shared().is_closed() {
            return Err(RingError::Disconnected);
        }
        if !self.watch.may_reattach() {
            return Ok(false);
        }
        let kind = RingKind::Frames;
        let old_ring = self.attachment.ring().geometry().ring_id;
        let granted =
            match self
                .shared()
                .attach_once(&self.name, kind, &self.options, REATTACH_TIMEOUT)
            {
                Ok(granted) => granted,
                Err(AttachError::NotReady { .. } | AttachError::TimedOut { .. }) => {
                    self.watch.pause();
                    return Ok(false);
                }
                Err(AttachError::Disconnected) => return Err(RingError::Disconnected),
                Err(other) => {
                    self.watch.pause();
                    return Err(RingError::Reattach(Box::new(other)));
                }
            };
        if granted.ring_id == old_ring {
            // The daemon has not made the successor yet.
            self.watch.pause();
            return Ok(false);
        }
        let (attachment, notify) = open(granted)?;
        let first = attachment.ring().geometry().first_sequence;
        // Frames were published in the old ring after the new one had been made, usually.
        self.begins = (first <= self.seen).then_some(first);
        self.watch.replace(
            Watched::Frames(Arc::clone(attachment.ring())),
            self.seen.min(first - 1),
        );
        self.attachment = Arc::new(attachment);
        self.notify = notify;
        self.change = Some(RingChange::Replaced);
        Ok(true)
    }

    /// The newest frame of the ring.
    #[inline]
    fn newest(&mut self) -> Option<Entry> {
        let newest = protocol::newest(&**self.attachment.ring())?;
        if let Some(first) = self.begins.take() {
            if newest.sequence <= self.seen {
                // It does not go on where the old ring ended: count anew.
                self.seen = first - 1;
                self.given = first - 1;
                self.hidden = 0;
            }
            self.watch.set_seen(self.seen);
        }
        Some(newest)
    }

    /// Looks for the oldest unseen frame.
    fn find_next(&mut self) -> Result<Option<Frame>, RingError> {
        let order_len = u64::from(self.attachment.ring().geometry().order_len);
        // A frame can vanish while it is being looked for, but a writer that makes them all
        // vanish for ever is not followed for ever.
        for _ in 0..4 {
            let Some(newest) = self.newest() else {
                return Ok(None);
            };
            if newest.sequence <= self.seen {
                return Ok(None);
            }
            let oldest = newest.sequence.saturating_sub(order_len - 1);
            for sequence in oldest.max(self.seen + 1)..=newest.sequence {
                let found = if sequence == newest.sequence {
                    Some(newest)
                } else {
                    protocol::numbered(&**self.attachment.ring(), sequence)
                };
                let Some(entry) = found else { continue };
                match self.try_give(entry, sequence, self.hidden)? {
                    Look::Frame(frame) => return Ok(Some(frame)),
                    Look::Gone | Look::Hidden => {}
                }
            }
        }
        Ok(None)
    }

    /// Looks for the newest frame, or the newest before it that is not hidden.
    fn find_latest(&mut self) -> Result<Option<Frame>, RingError> {
        for _ in 0..4 {
            let Some(newest) = self.newest() else {
                return Ok(None);
            };
            if newest.sequence <= self.seen {
                return Ok(None);
            }
            let (unseen, hidden) = (self.seen + 1, self.hidden);
            match self.try_give(newest, newest.sequence, hidden)? {
                Look::Frame(frame) => return Ok(Some(frame)),
                Look::Gone => {}
                Look::Hidden => return self.find_before(newest, unseen, hidden),
            }
        }
        Ok(None)
    }

    /// The newest frame is damaged: the newest before it, from `unseen` on, that is not. All of
    /// them count as seen. `hidden`: how many had been hidden before this look.
    fn find_before(
        &mut self,
        newest: Entry,
        unseen: u64,
        hidden: u64,
    ) -> Result<Option<Frame>, RingError> {
        let order_len = u64::from(self.attachment.ring().geometry().order_len);
        let oldest = newest.sequence.saturating_sub(order_len - 1).max(unseen);
        for sequence in (oldest..newest.sequence).rev() {
            let Some(entry) = protocol::numbered(&**self.attachment.ring(), sequence) else {
                continue;
            };
            if let Look::Frame(frame) = self.try_give(entry, newest.sequence, hidden)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Pins one frame and gives it out unless it is to be hidden. Afterwards all up to `seen`
    /// count as looked at. `older_hidden`: how many hidden frames since the last one given out are
    /// older than this one; the others are counted with the next.
    #[inline]
    fn try_give(&mut self, entry: Entry, seen: u64, older_hidden: u64) -> Result<Look, RingError> {
        let pin = self.attachment.take_pin()?;
        let descriptor = match pin.pin(entry) {
            Ok(Some(descriptor)) => descriptor,
            Ok(None) => return Ok(Look::Gone),
            Err(reason) => {
                drop(pin);
                self.mark_seen(entry.sequence);
                return Err(RingError::BadFrame {
                    sequence: entry.sequence,
                    reason,
                });
            }
        };
        if !self.options.include_corrupt && descriptor.flags.contains(FrameFlags::CORRUPT) {
            pin.unpin();
            drop(pin);
            self.hidden += 1;
            self.mark_seen(entry.sequence);
            return Ok(Look::Hidden);
        }
        let sequence = entry.sequence;
        let passed = sequence.saturating_sub(self.given).saturating_sub(1);
        let hidden = older_hidden.min(passed);
        let restarted = self.generation.is_some_and(|g| g != descriptor.generation);
        let change = match self.change.take() {
            Some(change) => Some(change),
            None => restarted.then_some(RingChange::WriterRestarted),
        };
        let circumstances = Circumstances {
            missed: passed - hidden,
            hidden,
            change,
        };
        let frame = Frame::new(&self.attachment, pin, entry.slot, descriptor, circumstances);
        self.generation = Some(frame.generation());
        self.given = sequence;
        self.hidden = self.hidden.saturating_sub(older_hidden);
        self.mark_seen(seen);
        Ok(Look::Frame(frame))
    }

    #[inline]
    fn mark_seen(&mut self, sequence: u64) {
        if sequence > self.seen {
            self.seen = sequence;
            self.watch.set_seen(sequence);
        }
    }
}

enum Look {
    Frame(Frame),
    Gone,
    Hidden,
}

/// Maps and checks what the daemon passed.
fn open(granted: Granted) -> Result<(Attachment, Option<OwnedFd>), RingError> {
    let Granted {
        attachment,
        ring,
        pins,
        notify,
        ..
    } = granted;
    let Some(pins) = pins else {
        return Err(RingError::Subscriber {
            id: attachment.get(),
            reason: "has no pin page",
        });
    };
    let ring = Arc::new(MappedFrames::new(Mapping::read_only(&ring)?)?);
    Ok((Attachment::new(ring, Pins::map(pins)?, attachment), notify))
}

/// Empties a notify socket. Bounded: what comes in meanwhile is left for the next time.
pub(crate) fn drain(fd: &OwnedFd) {
    let mut buffer = [0u8; 64];
    for _ in 0..16 {
        match rustix::net::recv(fd, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((n, _)) if n == buffer.len() => {}
            _ => return,
        }
    }
}
