//! Whether units go on to the decoder: the gate between the packet ring and the decode thread.
//!
//! Promises: every unit that arrives is either handed to the decode thread, or part of what
//! [`ToDecoder::Wanted`] or [`QueuedUnit::held`] tells it to take from the packet ring, or counted
//! as not wanted or quiet; nothing goes two ways.
//! Must never: wait, or know why frames are wanted.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::health::{Activity, Health};
use crate::reader::activity::Detector;
use crate::reader::queue::{Held, Push, QueuedUnit, ToDecoder, UnitQueue};
use crate::sys::clock;

/// How long decoding goes on after the last subscriber has left. A detector that is restarted, or
/// tools that look one after the other, find the camera decoding; and it is short beside a group of
/// pictures, which is what starting again may cost.
pub const LINGER_NS: u64 = 2_000_000_000;

/// The network thread's way to the decode thread.
#[derive(Debug)]
pub struct Gate {
    units: UnitQueue,
    health: Arc<Health>,
    open: bool,
    /// When to close: nobody has looked for a while.
    close_at: Option<u64>,
    /// Number of the first unit of the RTSP session that goes on.
    session: Option<u64>,
    /// Units since the newest key frame, while closed.
    held: u64,
    /// With `mode = "activity"`: tells whether anything moves.
    detector: Option<Detector>,
    /// Units after the newest key frame, which has gone on, while nothing moves.
    quiet: Option<Held>,
}

impl Gate {
    /// Open where frames are wanted from the beginning; the decode thread must begin alike.
    pub fn new(units: UnitQueue, health: Arc<Health>, open: bool) -> Self {
        Self {
            units,
            health,
            open,
            close_at: None,
            session: None,
            held: 0,
            detector: None,
            quiet: None,
        }
    }

    /// From now on, only key frames go on while nothing moves.
    pub fn watching(mut self, detector: Detector) -> Self {
        self.detector = Some(detector);
        self.show_activity();
        self
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Passes anything that is not a unit. When the decode thread is gone, `look_after` says so.
    pub fn tell(&self, message: ToDecoder) {
        self.units.tell(message);
    }

    /// A new session, whose first unit will be number `next`.
    pub fn session_started(&mut self, next: u64) {
        self.count_held();
        if let Some(detector) = &mut self.detector {
            detector.restart();
            self.show_activity();
        }
        self.session = Some(next);
        self.units.session_started();
    }

    /// What is in the packet ring is no longer what the camera shows.
    pub fn session_ended(&mut self) {
        self.count_held();
        self.session = None;
    }

    /// A unit that has been put into the packet ring.
    pub fn unit(&mut self, unit: QueuedUnit) {
        if !self.open {
            if unit.key {
                self.count_held();
            }
            self.held += 1;
            return;
        }
        let Some(unit) = self.unless_quiet(unit) else {
            return;
        };
        let weight = unit.weight();
        if self.units.push(unit) == Push::Skipped {
            self.health.dropped_overload.fetch_add(weight, Relaxed);
        }
        self.health.queue_bytes.store(self.units.bytes(), Relaxed);
    }

    /// The unit, with those before it that are wanted now; none where nothing moves.
    fn unless_quiet(&mut self, mut unit: QueuedUnit) -> Option<QueuedUnit> {
        let Some(detector) = &mut self.detector else {
            return Some(unit);
        };
        let before = detector.activity();
        let activity = detector.picture(unit.data.len(), unit.key, unit.arrival_ns);
        if activity != before {
            self.show_activity();
        }
        if unit.key {
            self.count_quiet();
        } else if activity == Activity::Quiet {
            let held = self.quiet.get_or_insert(Held {
                from: unit.access_unit,
                units: 0,
            });
            held.units += 1;
            return None;
        }
        unit.held = self.quiet.take();
        Some(unit)
    }

    fn show_activity(&self) {
        if let Some(detector) = &self.detector {
            let (health, activity) = (&self.health, detector.activity());
            health.activity.store(activity as u64, Relaxed);
            health
                .activity_since_unix_ms
                .store(clock::unix_ms(), Relaxed);
            tracing::debug!(?activity, "activity");
        }
    }

    /// Frames are wanted, or are no longer. `next` is the number that the next unit gets;
    /// `incomplete`: the newest group of pictures lacks one.
    pub fn demand(&mut self, frames: bool, next: u64, incomplete: bool, now_ns: u64) {
        if !frames {
            if self.open {
                self.close_at
                    .get_or_insert(now_ns.saturating_add(LINGER_NS));
            }
            return;
        }
        self.close_at = None;
        if self.open {
            return;
        }
        self.open = true;
        self.units.forget_skipped();
        let held = std::mem::take(&mut self.held);
        self.tell(ToDecoder::Wanted {
            from: self.session,
            to: next,
            held,
            incomplete,
        });
    }

    /// Closes when it is time to. To be called now and then.
    pub fn tick(&mut self, now_ns: u64) {
        if self.close_at.is_some_and(|at| now_ns >= at) {
            self.close_at = None;
            self.open = false;
            self.tell(ToDecoder::Idle);
        }
    }

    /// No decoder will have them any more.
    fn count_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.health.dropped_not_wanted.fetch_add(held, Relaxed);
        self.count_quiet();
    }

    /// Their group of pictures has ended, and nothing has moved in it.
    fn count_quiet(&mut self) {
        if let Some(held) = self.quiet.take() {
            self.health.dropped_quiet.fetch_add(held.units, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use camring_ring::Codec;

    use super::*;
    use crate::reader::queue::{Backlog, unit_queue};

    fn unit(n: u64, key: bool) -> QueuedUnit {
        QueuedUnit {
            data: Bytes::from_static(&[0; 8]),
            codec: Codec::H264,
            key,
            access_unit: n,
            pts: 0,
            capture_time_ns: 0,
            capture_time_from_sender_report: false,
            arrival_ns: n,
            discontinuity: false,
            loss_before: false,
            held: None,
        }
    }

    fn gate(open: bool) -> (Gate, Backlog, Arc<Health>) {
        let (units, backlog) = unit_queue(1 << 20);
        let health = Arc::new(Health::private());
        (Gate::new(units, Arc::clone(&health), open), backlog, health)
    }

    fn message(backlog: &mut Backlog) -> Option<ToDecoder> {
        backlog.next_message(Duration::ZERO).unwrap()
    }

    #[test]
    fn while_closed_units_are_held_and_counted_by_whole_groups() {
        let (mut gate, mut backlog, health) = gate(false);
        gate.session_started(1);
        for n in 1..=9 {
            gate.unit(unit(n, n % 4 == 1));
        }
        assert_eq!(health.dropped_not_wanted.load(Relaxed), 8);
        gate.demand(true, 10, false, 0);
        assert!(matches!(
            message(&mut backlog),
            Some(ToDecoder::SessionStarted)
        ));
        assert!(matches!(
            message(&mut backlog),
            Some(ToDecoder::Wanted {
                from: Some(1),
                to: 10,
                held: 1,
                incomplete: false
            })
        ));
        gate.unit(unit(10, false));
        assert!(message(&mut backlog).is_none());
        assert_eq!(backlog.pop().map(|u| u.access_unit), Some(10));
        assert_eq!(health.dropped_not_wanted.load(Relaxed), 8);
    }

    #[test]
    fn it_closes_a_while_after_the_last_has_left_unless_somebody_comes() {
        let (mut gate, mut backlog, _) = gate(true);
        gate.demand(false, 1, false, 100);
        gate.demand(false, 1, false, 200);
        gate.tick(99 + LINGER_NS);
        assert!(gate.is_open());
        gate.demand(true, 1, false, 300);
        gate.tick(100 + LINGER_NS);
        assert!(gate.is_open() && message(&mut backlog).is_none());
        gate.demand(false, 1, false, 400);
        gate.tick(400 + LINGER_NS);
        assert!(!gate.is_open());
        assert!(matches!(message(&mut backlog), Some(ToDecoder::Idle)));
    }

    /// A stream that the detector has learnt, up to unit 999, in groups of ten: 900 bytes, then 10.
    fn quiet_gate() -> (Gate, Backlog, Arc<Health>) {
        let (gate, mut backlog, health) = gate(true);
        let mut gate = gate.watching(Detector::new(1.0));
        gate.session_started(1);
        message(&mut backlog);
        for n in 0..1000 {
            gate.unit(picture(n, 10));
        }
        (gate, backlog, health)
    }

    fn picture(n: u64, bytes: usize) -> QueuedUnit {
        let key = n.is_multiple_of(10);
        QueuedUnit {
            data: Bytes::from(vec![0; if key { 900 } else { bytes }]),
            arrival_ns: n * 100_000_000,
            ..unit(n, key)
        }
    }

    #[test]
    fn while_nothing_moves_key_frames_pass_and_what_moves_brings_its_group() {
        let (mut gate, mut backlog, health) = quiet_gate();
        assert!(message(&mut backlog).is_none());
        let passed: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
        assert_eq!(
            health.activity.load(Relaxed),
            Activity::Quiet as u64,
            "{} of 1000",
            passed.len()
        );
        let last: Vec<_> = passed.iter().rev().take(3).map(|u| u.access_unit).collect();
        assert_eq!(last, [990, 980, 970]);
        assert!(passed.iter().all(|unit| unit.held.is_none()));
        // All but those of the group that goes on are counted.
        let quiet = health.dropped_quiet.load(Relaxed);
        assert_eq!(quiet + passed.len() as u64 + 9, 1000);

        for n in 1000..1005 {
            gate.unit(picture(n, 10));
        }
        assert_eq!(health.dropped_quiet.load(Relaxed), quiet + 9);
        for n in 1005..1010 {
            gate.unit(picture(n, 300));
        }
        assert!(message(&mut backlog).is_none());
        let passed: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
        assert_eq!((passed[0].access_unit, passed[0].held), (1000, None));
        let first = &passed[1];
        let held = first.held.expect("those before it");
        assert_eq!(
            (held.from, held.from + held.units),
            (1001, first.access_unit)
        );
        assert!(first.access_unit < 1009, "{first:?}");
        assert!(
            passed[2..]
                .iter()
                .map(|unit| (unit.access_unit, unit.held))
                .eq((first.access_unit + 1..1010).map(|n| (n, None)))
        );
        assert_eq!(health.dropped_quiet.load(Relaxed), quiet + 9);
        assert_eq!(health.activity.load(Relaxed), Activity::Moving as u64);
    }

    #[test]
    fn a_new_session_is_another_stream() {
        let (mut gate, _backlog, health) = quiet_gate();
        gate.session_ended();
        let quiet = health.dropped_quiet.load(Relaxed);
        gate.session_started(1000);
        assert_eq!(health.activity.load(Relaxed), Activity::Learning as u64);
        for n in 1000..1050 {
            gate.unit(picture(n, 10));
        }
        assert_eq!(health.dropped_quiet.load(Relaxed), quiet);
    }

    #[test]
    fn between_sessions_there_is_nothing_to_begin_with() {
        let (mut gate, mut backlog, health) = gate(false);
        gate.session_started(1);
        gate.unit(unit(1, true));
        gate.session_ended();
        assert_eq!(health.dropped_not_wanted.load(Relaxed), 1);
        gate.demand(true, 2, false, 0);
        message(&mut backlog);
        assert!(matches!(
            message(&mut backlog),
            Some(ToDecoder::Wanted {
                from: None,
                held: 0,
                ..
            })
        ));
    }
}
