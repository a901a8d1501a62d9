//! The memory of one camera and who looks at it: what outlives its reader.
//!
//! Rings and pin pages belong to the supervisor. A reader gets them when it starts and loses them
//! when it dies; subscribers keep them. So a reader's death costs no subscriber its attachment, and
//! no subscriber's death costs the camera a frame: its pages leave the map, and with them its pins.
#![deny(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use camring_ring::attach::wire::RefusalCode;
use camring_ring::{
    CloseReason, FrameWriter, MemoryError, PacketWriter, PinPage, SealedMemory, SubscriberPages,
    attach::server, layout,
};
use tokio::sync::{Notify, oneshot};

use crate::control::{RingKind, ToReader};

/// Subscribers of one packet ring. They pin nothing, but each costs the writer a wake.
const PACKET_SUBSCRIBERS: usize = 64;

/// A message to a reader with its descriptors.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub message: ToReader,
    pub fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// One without descriptors.
    pub fn plain(message: ToReader) -> Self {
        Self {
            message,
            fds: Vec::new(),
        }
    }
}

/// A ring's memory.
#[derive(Debug)]
pub(super) struct Ring {
    pub kind: RingKind,
    pub id: u64,
    pub memory: SealedMemory,
    /// It says in its header that it has ended: its subscribers know.
    closed: bool,
}

impl Ring {
    pub fn new(kind: RingKind, id: u64, memory: SealedMemory) -> Self {
        Self {
            kind,
            id,
            memory,
            closed: false,
        }
    }

    fn bytes(&self) -> u64 {
        self.memory.len()
    }

    /// Bytes that have no pages yet.
    fn untouched(&self) -> u64 {
        let stat = rustix::fs::fstat(self.memory.as_fd());
        let pages = stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
        self.bytes().saturating_sub(pages)
    }

    fn message(&self, next_sequence: u64) -> Result<Outgoing, MemoryError> {
        let ring_id = self.id;
        Ok(Outgoing {
            message: match self.kind {
                RingKind::Frames => ToReader::FrameRing {
                    ring_id,
                    next_sequence,
                },
                RingKind::Packets => ToReader::PacketRing { ring_id },
                RingKind::Audio => ToReader::AudioRing { ring_id },
                RingKind::View(view) => ToReader::ViewRing {
                    view,
                    ring_id,
                    next_sequence,
                },
            },
            fds: vec![self.memory.try_clone_fd()?],
        })
    }
}

/// One subscription of a client to one ring.
#[derive(Debug)]
struct Attachment {
    kind: RingKind,
    ring_id: u64,
    /// Not for packets.
    pins: Option<(SealedMemory, u32)>,
    bell: Rc<SealedMemory>,
    notify: Option<OwnedFd>,
    /// Ends the client's connection.
    hang_up: Rc<Notify>,
    /// Tells the client's task that the reader knows.
    known: Option<oneshot::Sender<()>>,
}

impl Attachment {
    fn pin_count(&self) -> u32 {
        self.pins.as_ref().map_or(0, |(_, count)| *count)
    }

    /// The message that makes it known to a reader.
    fn message(&self, id: u64) -> io::Result<Outgoing> {
        let mut fds = Vec::new();
        if let Some((page, _)) = &self.pins {
            fds.push(page.as_fd().try_clone_to_owned()?);
        }
        fds.push(self.bell.as_fd().try_clone_to_owned()?);
        if let Some(notify) = &self.notify {
            fds.push(notify.try_clone()?);
        }
        Ok(Outgoing {
            message: ToReader::AddSubscriber {
                id,
                ring: self.kind,
                ring_id: self.ring_id,
                pins: self.pin_count(),
                notify: self.notify.is_some(),
            },
            fds,
        })
    }

    fn pages(&self, id: u64) -> Result<SubscriberPages, MemoryError> {
        let pins = match &self.pins {
            Some((page, _)) => Some(page.try_clone()?),
            None => None,
        };
        let notify = match &self.notify {
            Some(notify) => notify.try_clone().ok(),
            None => None,
        };
        Ok(SubscriberPages {
            id,
            pins,
            bell: self.bell.try_clone()?,
            notify,
        })
    }
}

/// What a client is to be sent.
#[derive(Debug)]
pub(super) struct Admitted {
    pub id: u64,
    pub ring_id: u64,
    pub pins: u32,
    pub fds: Vec<OwnedFd>,
    /// Completed when the reader, which is told first, knows it; ends without a word when it will
    /// not.
    pub known: oneshot::Receiver<()>,
}

/// Who asks, and for what.
#[derive(Debug)]
pub(super) struct Wish {
    pub kind: RingKind,
    pub pins: u32,
    pub pollable: bool,
    pub bell: Rc<SealedMemory>,
    pub hang_up: Rc<Notify>,
}

/// Why an attach is refused.
pub(super) type Refused = (RefusalCode, String);

/// All memory of one camera.
#[derive(Debug, Default)]
pub(super) struct Rings {
    frames: Option<Ring>,
    packets: Option<Ring>,
    /// Of the views that somebody has looked at, by their place in the configuration. They stay: who
    /// comes back finds the numbers going on, and what they hold is counted.
    views: BTreeMap<u32, Ring>,
    /// Of the camera's sound, once there was any to record.
    audio: Option<Ring>,
    /// Rings with a successor, as long as somebody looks at them.
    replaced: Vec<Ring>,
    attachments: BTreeMap<u64, Attachment>,
    /// Why rings end, where they are not replaced.
    reason: Option<CloseReason>,
    /// The number after the last frame of a ring that was given up.
    next_sequence: HashMap<RingKind, u64>,
}

impl Rings {
    pub fn current(&self, kind: RingKind) -> Option<&Ring> {
        match kind {
            RingKind::Frames => self.frames.as_ref(),
            RingKind::Packets => self.packets.as_ref(),
            RingKind::View(view) => self.views.get(&view),
            RingKind::Audio => self.audio.as_ref(),
        }
    }

    fn all_current(&self) -> impl Iterator<Item = &Ring> {
        let main = self.frames.iter().chain(&self.packets).chain(&self.audio);
        main.chain(self.views.values())
    }

    fn next_sequence(&self, kind: RingKind) -> u64 {
        self.next_sequence.get(&kind).copied().unwrap_or(0)
    }

    /// Bytes of the current rings.
    pub fn bytes_in_use(&self) -> u64 {
        self.all_current().map(Ring::bytes).sum()
    }

    /// Bytes of rings that were replaced and are still looked at.
    pub fn bytes_replaced(&self) -> u64 {
        self.replaced.iter().map(Ring::bytes).sum()
    }

    /// Bytes of all of them that have no pages yet.
    pub fn bytes_untouched(&self) -> u64 {
        let all = self.all_current().chain(&self.replaced);
        all.map(Ring::untouched).sum()
    }

    /// Subscriptions, of all kinds.
    pub fn subscribers(&self) -> usize {
        self.attachments.len()
    }

    /// Subscriptions to rings of one kind, replaced ones included.
    pub fn subscribers_of(&self, kind: RingKind) -> usize {
        let all = self.attachments.values();
        all.filter(|attachment| attachment.kind == kind).count()
    }

    /// Whether anybody looks at frames or views; at those of a ring that was replaced, too: they
    /// move on.
    pub fn frames_looked_at(&self) -> bool {
        let mut all = self.attachments.values();
        all.any(|attachment| attachment.kind.has_pictures())
    }

    /// Where the numbers of a ring begin that continues what a reader has published. The number
    /// is a reader's, who may not know of a ring that was given up.
    pub fn first_sequence(&self, kind: RingKind, claimed: u64) -> u64 {
        claimed.max(self.next_sequence(kind)).max(1)
    }

    /// Makes `ring` the current one of its kind, and returns the message for the reader. The old
    /// one stays for those who look at it; the reader, which closes it, tells them to move.
    pub fn install(&mut self, ring: Ring) -> Result<Outgoing, MemoryError> {
        let message = ring.message(self.next_sequence(ring.kind))?;
        let old = match ring.kind {
            RingKind::Frames => self.frames.replace(ring),
            RingKind::Packets => self.packets.replace(ring),
            RingKind::View(view) => self.views.insert(view, ring),
            RingKind::Audio => self.audio.replace(ring),
        };
        if let Some(old) = old {
            self.replaced.push(old);
            self.drop_unseen();
        }
        Ok(message)
    }

    /// Admits a subscriber: makes its pages and remembers them. It is attached from now on, until
    /// [`Rings::detach`]; but the pages must not reach it before the running reader knows them.
    ///
    /// Returns what the client gets, and the message for the reader.
    pub fn attach(
        &mut self,
        id: u64,
        wish: Wish,
        quota: u32,
    ) -> Result<(Admitted, Outgoing), Refused> {
        let ring = self.current(wish.kind);
        let (ring_id, ring) = match ring {
            Some(ring) => (ring.id, ring),
            None => return Err((RefusalCode::NotReady, "there is no ring yet".into())),
        };
        let peers = self.attachments.values().filter(|a| a.ring_id == ring_id);
        let pins = match wish.kind {
            RingKind::Frames | RingKind::View(_) => {
                let asked = wish.pins.clamp(1, layout::MAX_PINS);
                let taken: u32 = peers.clone().map(Attachment::pin_count).sum();
                if taken + asked > quota {
                    let holders = peers.count();
                    return Err((
                        RefusalCode::PinsExhausted,
                        format!(
                            "{asked} frames to hold were asked for, but {taken} of the camera's \
                             {quota} are granted to {holders} other subscribers: ask for fewer, \
                             or raise [ring] pins"
                        ),
                    ));
                }
                asked
            }
            RingKind::Packets | RingKind::Audio => {
                if peers.count() >= PACKET_SUBSCRIBERS {
                    let text = format!("the ring has {PACKET_SUBSCRIBERS} subscribers");
                    return Err((RefusalCode::TooManyAttachments, text));
                }
                0
            }
        };
        let internal = |error: String| (RefusalCode::Internal, error);
        let mut fds = vec![
            ring.memory
                .reopen_read_only()
                .map_err(|e| internal(e.to_string()))?,
        ];
        let page = if pins > 0 {
            let page = PinPage::create(pins).map_err(|e| internal(e.to_string()))?;
            fds.push(page.try_clone_fd().map_err(|e| internal(e.to_string()))?);
            Some((page, pins))
        } else {
            None
        };
        let notify = if wish.pollable {
            let (ours, theirs) = server::notify_pair().map_err(|e| internal(e.to_string()))?;
            fds.push(theirs);
            Some(ours)
        } else {
            None
        };
        let (known, wait) = oneshot::channel();
        let attachment = Attachment {
            kind: wish.kind,
            ring_id,
            pins: page,
            bell: wish.bell,
            notify,
            hang_up: wish.hang_up,
            known: Some(known),
        };
        let message = attachment
            .message(id)
            .map_err(|e| internal(e.to_string()))?;
        self.attachments.insert(id, attachment);
        let admitted = Admitted {
            id,
            ring_id,
            pins,
            fds,
            known: wait,
        };
        Ok((admitted, message))
    }

    /// Ends a subscription: its pages, and with them its pins, are gone. `false`: there was none.
    pub fn detach(&mut self, id: u64) -> bool {
        let there = self.attachments.remove(&id).is_some();
        self.drop_unseen();
        there
    }

    /// The reader knows a subscriber.
    pub fn known(&mut self, id: u64) {
        let attachment = self.attachments.get_mut(&id);
        if let Some(known) = attachment.and_then(|attachment| attachment.known.take()) {
            let _ = known.send(());
        }
    }

    /// The reader will not know a subscriber: whoever waits for that is told so.
    pub fn refused(&mut self, id: u64) {
        if let Some(attachment) = self.attachments.get_mut(&id) {
            attachment.known = None;
        }
    }

    /// The reader is gone: its successor will be told of everybody before it begins, so all of
    /// them count as known.
    pub fn all_known(&mut self) {
        for attachment in self.attachments.values_mut() {
            if let Some(known) = attachment.known.take() {
                let _ = known.send(());
            }
        }
    }

    /// What a new reader is told before it begins: the rings, and all who look at them.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn for_new_reader(&self) -> io::Result<Vec<Outgoing>> {
        let mut messages = Vec::new();
        for ring in self.all_current() {
            let message = ring.message(self.next_sequence(ring.kind));
            messages.push(message.map_err(io::Error::other)?);
        }
        for (id, attachment) in &self.attachments {
            let current = self.current(attachment.kind);
            // Who looks at a replaced ring has nothing to expect from a new reader.
            if current.is_some_and(|ring| ring.id == attachment.ring_id) {
                messages.push(attachment.message(*id)?);
            }
        }
        Ok(messages)
    }

    /// Makes sure that every replaced ring says so, and that its subscribers hear it: the reader
    /// may have died between getting the new ring and closing the old one. Only when the reader
    /// has exited (or can execute no instruction any more).
    pub fn close_replaced(&mut self) {
        let mut rings = std::mem::take(&mut self.replaced);
        for ring in &mut rings {
            if ring.closed {
                continue;
            }
            ring.closed = true;
            match self.close(ring) {
                Ok(next) => {
                    let known = self.next_sequence.entry(ring.kind).or_default();
                    *known = next.max(*known);
                }
                Err(error) => {
                    // Left in an impossible state, by a reader taken over by its camera. Its
                    // subscribers cannot be told through it, so their connection ends.
                    tracing::warn!("ring {}: {error}; its subscribers are sent away", ring.id);
                    self.hang_up_on(ring.id);
                }
            }
        }
        self.replaced = rings;
        self.drop_unseen();
    }

    /// Gives up the current rings: the reader cannot be waited for, and might come back.
    pub fn abandon(&mut self) {
        self.give_up(|_| true);
    }

    /// Gives up some of the current rings; those who look at them are told to move on. There must be
    /// no reader, or one that can execute no instruction any more.
    pub fn give_up(&mut self, which: impl Fn(RingKind) -> bool) {
        let frames = self.frames.take_if(|_| which(RingKind::Frames));
        let packets = self.packets.take_if(|_| which(RingKind::Packets));
        let audio = self.audio.take_if(|_| which(RingKind::Audio));
        self.replaced
            .extend([frames, packets, audio].into_iter().flatten());
        for (view, ring) in std::mem::take(&mut self.views) {
            match which(RingKind::View(view)) {
                true => self.replaced.push(ring),
                false => {
                    self.views.insert(view, ring);
                }
            }
        }
        self.close_replaced();
    }

    /// The camera is gone from the configuration: so are its rings, and whoever looks at them is told.
    /// There must be no reader.
    pub fn remove(&mut self) {
        self.close_replaced();
        self.reason = Some(CloseReason::Removed);
        self.abandon();
    }

    /// Ends the connections of those who look at the oldest replaced rings, until these take at
    /// most `most` bytes: a subscriber that does not move on must not keep a camera from it.
    pub fn shed_replaced(&mut self, most: u64) {
        let mut bytes = self.bytes_replaced();
        let mut gone = Vec::new();
        for ring in &self.replaced {
            if bytes <= most {
                break;
            }
            bytes -= ring.bytes();
            gone.push(ring.id);
        }
        for ring in gone {
            tracing::warn!("ring {ring}: subscribers that did not leave it are sent away");
            self.hang_up_on(ring);
            self.attachments.retain(|_, a| a.ring_id != ring);
        }
        self.drop_unseen();
    }

    /// Ends the connections of those who look at a ring.
    pub fn hang_up_on(&self, ring_id: u64) {
        for attachment in self.attachments.values() {
            if attachment.ring_id == ring_id {
                attachment.hang_up.notify_one();
            }
        }
    }

    /// Marks a ring as ended and rings its subscribers' bells. Returns the number that its next
    /// frame would have had (0 for packets).
    fn close(&self, ring: &Ring) -> Result<u64, camring_ring::RingError> {
        let mut pages = Vec::new();
        for (id, attachment) in &self.attachments {
            if attachment.ring_id == ring.id {
                pages.push(attachment.pages(*id)?);
            }
        }
        let memory = ring.memory.try_clone()?;
        let reason = self.reason.unwrap_or(CloseReason::Replaced);
        match ring.kind {
            RingKind::Frames | RingKind::View(_) => {
                let mut writer = FrameWriter::resume(memory, pages)?;
                let next = writer.next_sequence();
                writer.close(reason);
                Ok(next)
            }
            RingKind::Packets | RingKind::Audio => {
                PacketWriter::resume(memory, pages)?.close(reason);
                Ok(0)
            }
        }
    }

    fn drop_unseen(&mut self) {
        let attachments = &self.attachments;
        let seen = |ring: &Ring| attachments.values().any(|a| a.ring_id == ring.id);
        self.replaced.retain(seen);
    }
}

#[cfg(test)]
mod tests;
