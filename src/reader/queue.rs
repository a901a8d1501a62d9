//! The queue between the network thread and the decode thread of one reader.
//!
//! Promises: the network thread never waits here, and the queue never holds more than its byte
//! budget. What does not fit is skipped up to the next key frame, and counted.
//! Must never: reorder units, or hand out a unit whose references were skipped.
//!
//! The producer side is a lock-free channel plus one byte counter. The consumer moves everything
//! into a private backlog, where it can look ahead for the newest key frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use camring_ring::{Codec, SealedMemory, SubscriberPages};
use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use crossbeam::sync::{Parker, Unparker};

/// One access unit on its way to the decoder.
#[derive(Clone, Debug)]
pub struct QueuedUnit {
    /// Annex B with parameter sets at key frames, or one whole JPEG.
    pub data: Bytes,
    pub codec: Codec,
    pub key: bool,
    /// Its number in the packet ring.
    pub access_unit: u64,
    /// 90 kHz, monotonic over the life of the reader.
    pub pts: i64,
    pub capture_time_ns: i64,
    pub capture_time_from_sender_report: bool,
    /// `CLOCK_MONOTONIC`, when its last RTP packet was taken from the socket.
    pub arrival_ns: u64,
    /// Time does not go on smoothly from the unit before (reconnect, clock jump, skipped units).
    pub discontinuity: bool,
    /// RTP packets were lost, or units skipped, between the unit before and this one.
    pub loss_before: bool,
    /// Units before it that are in the packet ring only, and are to be decoded first.
    pub held: Option<Held>,
}

/// Units that were kept from the decoder while nothing moved: those after the last key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the first in the packet ring.
    pub from: u64,
    /// How many came; those that did not fit the packet ring have no number.
    pub units: u64,
}

impl QueuedUnit {
    /// This unit and those that only it leads to.
    pub fn weight(&self) -> u64 {
        1 + self.held.map_or(0, |held| held.units)
    }
}

/// What the decode thread is told, in order.
#[derive(Debug)]
pub enum ToDecoder {
    Unit(QueuedUnit),
    /// A new RTSP session: references of the former one are void.
    SessionStarted,
    AddSubscriber {
        ring_id: u64,
        pages: SubscriberPages,
    },
    RemoveSubscriber {
        id: u64,
    },
    /// Decode from here on. Units from number `to` on come through this queue.
    Wanted {
        /// Number of the first unit of the RTSP session that goes on now; `None`: there is none.
        from: Option<u64>,
        to: u64,
        /// Units since the newest key frame that no decoder has had.
        held: u64,
        /// The newest group of pictures lacks a unit.
        incomplete: bool,
    },
    /// Nobody looks: let go of everything. No unit follows before [`ToDecoder::Wanted`].
    Idle,
    CatchUpGranted {
        request: u32,
    },
    /// The frame ring, with every subscriber it has at this moment.
    Ring {
        memory: SealedMemory,
        present: Vec<SubscriberPages>,
        /// As in [`crate::control::ToReader::FrameRing`].
        next_sequence: u64,
    },
    /// The same for a view, by its place in the configuration.
    ViewRing {
        view: u32,
        memory: SealedMemory,
        present: Vec<SubscriberPages>,
        next_sequence: u64,
    },
    RingRefused {
        needed: u64,
        available: u64,
        reason: String,
    },
    Stop,
}

/// Why the producer did not enqueue a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    Queued,
    /// Over budget: skipped, and so is everything up to the next key frame.
    Skipped,
    /// The decode thread is gone.
    Closed,
}

/// The network thread's end.
#[derive(Debug)]
pub struct UnitQueue {
    sender: Sender<ToDecoder>,
    wake: Unparker,
    bytes: Arc<AtomicU64>,
    budget: u64,
    waiting_for_key: bool,
}

/// The decode thread's end.
#[derive(Debug)]
pub struct Backlog {
    receiver: Receiver<ToDecoder>,
    sleep: Parker,
    bytes: Arc<AtomicU64>,
    units: VecDeque<QueuedUnit>,
}

/// A queue that holds at most `budget` bytes of access units.
#[must_use]
pub fn unit_queue(budget: u64) -> (UnitQueue, Backlog) {
    let (sender, receiver) = unbounded();
    let bytes = Arc::new(AtomicU64::new(0));
    let sleep = Parker::new();
    (
        UnitQueue {
            sender,
            wake: sleep.unparker().clone(),
            bytes: Arc::clone(&bytes),
            budget,
            waiting_for_key: false,
        },
        Backlog {
            receiver,
            sleep,
            bytes,
            units: VecDeque::new(),
        },
    )
}

impl UnitQueue {
    /// Enqueues a unit, or skips it when the budget is spent. Never waits.
    pub fn push(&mut self, unit: QueuedUnit) -> Push {
        let len = unit.data.len() as u64;
        // Relaxed: a budget needs no ordering; the channel orders the units themselves.
        let held = self.bytes.load(Ordering::Relaxed);
        // An empty queue takes any unit: the source has capped its size already.
        let full = held > 0 && held.saturating_add(len) > self.budget;
        if full || (self.waiting_for_key && !unit.key) {
            self.waiting_for_key = true;
            return Push::Skipped;
        }
        let mut unit = unit;
        if self.waiting_for_key {
            unit.discontinuity = true;
            unit.loss_before = true;
            self.waiting_for_key = false;
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        if self.tell(ToDecoder::Unit(unit)) {
            Push::Queued
        } else {
            Push::Closed
        }
    }

    /// A new RTSP session: what was queued of the former one is void.
    pub fn session_started(&mut self) {
        self.waiting_for_key = false;
        self.tell(ToDecoder::SessionStarted);
    }

    /// Passes anything that is not a unit. False when the decode thread is gone.
    pub fn tell(&self, message: ToDecoder) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.wake.unpark();
        sent
    }

    /// What was skipped can be had from the packet ring, if it is wanted again.
    pub fn forget_skipped(&mut self) {
        self.waiting_for_key = false;
    }

    /// Bytes of access units waiting.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Backlog {
    /// The next message other than a unit, or `None` once a unit is at hand or `timeout` is over.
    ///
    /// Units that arrive meanwhile join the backlog. Errors when every sender is gone.
    pub fn next_message(&mut self, timeout: Duration) -> Result<Option<ToDecoder>, Closed> {
        loop {
            let message = if self.units.is_empty() {
                match self.receive(timeout)? {
                    Some(message) => message,
                    None => return Ok(None),
                }
            } else {
                match self.receiver.try_recv() {
                    Ok(m) => m,
                    Err(_) => return Ok(None),
                }
            };
            match message {
                ToDecoder::Unit(u) => self.units.push_back(u),
                other => return Ok(Some(other)),
            }
        }
    }

    /// The same, but waits for a message even while units are at hand.
    pub fn wait_message(&mut self, timeout: Duration) -> Result<Option<ToDecoder>, Closed> {
        match self.receive(timeout)? {
            Some(ToDecoder::Unit(u)) => {
                self.units.push_back(u);
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// Waits for anything. The channel's own waiting spins and yields before it sleeps, which
    /// cost about four `sched_yield` a frame (strace), where frames are a tenth of a second apart.
    fn receive(&self, timeout: Duration) -> Result<Option<ToDecoder>, Closed> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Ok(Some(message)),
                Err(TryRecvError::Disconnected) => return Err(Closed),
                Err(TryRecvError::Empty) if Instant::now() >= deadline => return Ok(None),
                // A message sent since has left its token: this returns at once.
                Err(TryRecvError::Empty) => self.sleep.park_deadline(deadline),
            }
        }
    }

    /// Whether a key frame is among the units at hand.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.units.iter().any(|u| u.key)
    }

    /// The oldest unit.
    pub fn pop(&mut self) -> Option<QueuedUnit> {
        let unit = self.units.pop_front()?;
        self.forget(&unit);
        Some(unit)
    }

    /// How long the oldest unit has waited, in nanoseconds.
    #[must_use]
    pub fn lag_ns(&self, now_ns: u64) -> u64 {
        self.units
            .front()
            .map_or(0, |u| now_ns.saturating_sub(u.arrival_ns))
    }

    /// Takes the units that are to be decoded before the oldest one, whose number this is.
    pub fn take_held(&mut self) -> Option<(Held, u64)> {
        let oldest = self.units.front_mut()?;
        Some((oldest.held.take()?, oldest.access_unit))
    }

    /// Drops every unit before the newest key frame in the backlog; returns how many, those held
    /// back before them included. The key frame then carries the discontinuity.
    pub fn jump_to_newest_key(&mut self) -> u64 {
        let Some(at) = self.units.iter().rposition(|u| u.key) else {
            return 0;
        };
        let mut dropped = 0;
        for _ in 0..at {
            dropped += self.pop().map_or(0, |unit| unit.weight());
        }
        if at > 0
            && let Some(key) = self.units.front_mut()
        {
            key.discontinuity = true;
            key.loss_before = true;
        }
        dropped
    }

    /// Drops every unit; returns how many, as above (a new session makes them stale).
    pub fn clear(&mut self) -> u64 {
        let mut dropped = 0;
        while let Some(unit) = self.pop() {
            dropped += unit.weight();
        }
        dropped
    }

    fn forget(&self, unit: &QueuedUnit) {
        self.bytes
            .fetch_sub(unit.data.len() as u64, Ordering::Relaxed);
    }
}

/// Every sender is gone: the network thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the network thread of this reader has ended")]
pub struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(n: u64, key: bool, len: usize) -> QueuedUnit {
        QueuedUnit {
            data: Bytes::from(vec![0; len]),
            codec: Codec::H264,
            key,
            access_unit: n,
            pts: 0,
            capture_time_ns: 0,
            capture_time_from_sender_report: false,
            arrival_ns: n * 1000,
            discontinuity: false,
            loss_before: false,
            held: None,
        }
    }

    fn drain(b: &mut Backlog) -> Vec<(u64, bool)> {
        assert!(b.next_message(Duration::ZERO).unwrap().is_none());
        std::iter::from_fn(|| b.pop())
            .map(|u| (u.access_unit, u.discontinuity))
            .collect()
    }

    #[test]
    fn over_budget_skips_up_to_the_next_key_frame() {
        let (mut q, mut b) = unit_queue(100);
        assert_eq!(q.push(unit(1, true, 60)), Push::Queued);
        assert_eq!(q.push(unit(2, false, 60)), Push::Skipped);
        assert_eq!(
            q.push(unit(3, false, 1)),
            Push::Skipped,
            "its reference was skipped"
        );
        assert_eq!(q.push(unit(4, true, 30)), Push::Queued);
        assert_eq!(drain(&mut b), [(1, false), (4, true)]);
        assert_eq!(q.bytes(), 0);
    }

    #[test]
    fn one_unit_larger_than_the_budget_still_passes() {
        let (mut q, mut b) = unit_queue(10);
        assert_eq!(q.push(unit(1, true, 60)), Push::Queued);
        assert_eq!(q.push(unit(2, true, 1)), Push::Skipped);
        assert_eq!(drain(&mut b), [(1, false)]);
        assert_eq!(q.push(unit(3, true, 60)), Push::Queued);
    }

    #[test]
    fn jump_keeps_the_newest_key_frame_and_what_follows() {
        let (mut q, mut b) = unit_queue(1 << 20);
        for n in 1..=9 {
            q.push(unit(n, n % 3 == 1, 10));
        }
        assert!(b.next_message(Duration::ZERO).unwrap().is_none());
        assert_eq!(b.lag_ns(5000), 4000);
        assert_eq!(b.jump_to_newest_key(), 6);
        assert_eq!(b.jump_to_newest_key(), 0);
        assert_eq!(drain(&mut b), [(7, true), (8, false), (9, false)]);
        assert_eq!(q.bytes(), 0);
    }

    #[test]
    fn units_held_back_are_taken_once_or_dropped_with_the_one_that_leads_to_them() {
        let (mut q, mut b) = unit_queue(1 << 20);
        let held = Held { from: 2, units: 4 };
        q.push(unit(1, true, 10));
        q.push(QueuedUnit {
            held: Some(held),
            ..unit(6, false, 10)
        });
        assert!(b.next_message(Duration::ZERO).unwrap().is_none());
        assert_eq!(b.take_held(), None);
        b.pop();
        assert_eq!(b.take_held(), Some((held, 6)));
        assert_eq!(b.take_held(), None);
        b.pop();
        q.push(QueuedUnit {
            held: Some(held),
            ..unit(7, false, 10)
        });
        q.push(unit(8, true, 10));
        assert!(b.next_message(Duration::ZERO).unwrap().is_none());
        assert_eq!((b.jump_to_newest_key(), b.clear()), (5, 1));
    }

    #[test]
    fn messages_overtake_units_but_keep_their_own_order() {
        let (mut q, mut b) = unit_queue(1 << 20);
        q.push(unit(1, true, 10));
        q.tell(ToDecoder::RemoveSubscriber { id: 7 });
        q.tell(ToDecoder::Stop);
        let wait = Duration::from_secs(5);
        assert!(matches!(
            b.next_message(wait),
            Ok(Some(ToDecoder::RemoveSubscriber { id: 7 }))
        ));
        assert!(matches!(b.next_message(wait), Ok(Some(ToDecoder::Stop))));
        assert!(matches!(b.next_message(wait), Ok(None)));
        drop(q);
        assert_eq!(b.clear(), 1);
        assert!(b.next_message(wait).is_err());
    }
}
