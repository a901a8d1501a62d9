//! The watchdogs of a playing session, as arithmetic on times given by the caller.
//!
//! They judge the age of access units and of decoded frames, not of packets: a camera may answer
//! keepalives and send RTCP for ever without a picture. It must never read a clock itself.

use std::time::Duration;

use super::TICK;
use crate::reader::source::{SourceErrorKind, Stage, Timeouts};

/// A check this late means that this process did not run (stopped, suspended, starved): silence
/// during that time is not the camera's.
const LATE_CHECK: Duration = Duration::from_secs(1);

/// Result of a check.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing to say.
    Fine,
    /// Pictures have stopped for this long; not yet long enough to give up the session.
    Quiet(Duration),
    /// Give up the session.
    Broken(Stage, SourceErrorKind),
}

/// What a unit is to its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// The first, and no key frame.
    FirstUnit,
    /// The first key frame.
    FirstKey,
    /// One of many.
    Another,
}

/// Times of one session, in ns of `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Timeouts,
    started: u64,
    last_check: u64,
    last_unit: Option<u64>,
    first_key: Option<u64>,
    /// Arrival of the oldest key frame since which nothing was decoded.
    undecoded_key: Option<u64>,
}

impl Watch {
    pub fn new(limits: Timeouts, now: u64) -> Self {
        Watch {
            limits,
            started: now,
            last_check: now,
            last_unit: None,
            first_key: None,
            undecoded_key: None,
        }
    }

    /// An access unit arrived at `now`.
    pub fn unit(&mut self, now: u64, key: bool) -> Progress {
        let first = self.last_unit.replace(now).is_none();
        if key {
            self.undecoded_key.get_or_insert(now);
            if self.first_key.is_none() {
                self.first_key = Some(now);
                return Progress::FirstKey;
            }
        }
        if first {
            Progress::FirstUnit
        } else {
            Progress::Another
        }
    }

    pub fn has_key(&self) -> bool {
        self.first_key.is_some()
    }

    /// From the first key frame to the last access unit.
    pub fn streamed(&self) -> Duration {
        match (self.first_key, self.last_unit) {
            (Some(first), Some(last)) => Duration::from_nanos(last.saturating_sub(first)),
            _ => Duration::ZERO,
        }
    }

    /// To be called every [`TICK`]. `decoded`: as of `UnitSink::last_decoded_frame_ns`.
    pub fn check(&mut self, now: u64, decoded: Option<u64>) -> Verdict {
        let since_check = Duration::from_nanos(now.saturating_sub(self.last_check));
        self.last_check = now;
        if since_check > LATE_CHECK {
            self.excuse(since_check.saturating_sub(TICK));
        }
        let age = |then: u64| Duration::from_nanos(now.saturating_sub(then));

        let Some(last_unit) = self.last_unit else {
            let limit = self.limits.first_unit;
            return if age(self.started) > limit {
                Verdict::Broken(Stage::FirstUnit, SourceErrorKind::Timeout(limit))
            } else {
                Verdict::Fine
            };
        };
        if age(last_unit) > self.limits.stall {
            return Verdict::Broken(Stage::Streaming, SourceErrorKind::Stalled(age(last_unit)));
        }
        let limit = self.limits.first_key_frame;
        if self.first_key.is_none() && age(self.started) > limit {
            return Verdict::Broken(Stage::FirstKeyFrame, SourceErrorKind::NoKeyFrame(limit));
        }
        match decoded {
            // Decoding is off: what comes once it is on starts with a later key frame.
            None => self.undecoded_key = None,
            Some(decoded) => {
                if self.undecoded_key.is_some_and(|key| decoded >= key) {
                    self.undecoded_key = None;
                }
                if let Some(key) = self.undecoded_key
                    && age(key) > self.limits.decode_stall
                {
                    return Verdict::Broken(
                        Stage::Streaming,
                        SourceErrorKind::NotDecoding(age(key)),
                    );
                }
            }
        }
        if age(last_unit) > self.limits.show_stalled {
            return Verdict::Quiet(age(last_unit));
        }
        Verdict::Fine
    }

    /// Shifts all times by `gap`, in which nobody could have seen anything arrive.
    fn excuse(&mut self, gap: Duration) {
        let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        let now = self.last_check;
        let times = [
            Some(&mut self.started),
            self.last_unit.as_mut(),
            self.undecoded_key.as_mut(),
        ];
        for t in times.into_iter().flatten() {
            *t = t.saturating_add(gap).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Checks every tick over (from, to], as the loop does.
    fn run(w: &mut Watch, from: u64, to: u64, decoded: Option<u64>) -> Verdict {
        let mut now = from;
        while now < to {
            now = (now + S / 4).min(to);
            match w.check(now, decoded) {
                Verdict::Broken(stage, kind) => return Verdict::Broken(stage, kind),
                v if now == to => return v,
                _ => {}
            }
        }
        Verdict::Fine
    }

    #[test]
    fn silence_after_play() {
        let mut w = Watch::new(Timeouts::default(), S);
        assert_eq!(run(&mut w, S, 16 * S, None), Verdict::Fine);
        assert_eq!(
            run(&mut w, 16 * S, 17 * S, None),
            Verdict::Broken(
                Stage::FirstUnit,
                SourceErrorKind::Timeout(Duration::from_secs(15))
            )
        );
    }

    #[test]
    fn pictures_stop_then_come_back_then_stop_for_good() {
        let mut w = Watch::new(Timeouts::default(), 0);
        assert_eq!(w.unit(S, true), Progress::FirstKey);
        assert_eq!(run(&mut w, S, 5 * S, None), Verdict::Fine);
        assert!(matches!(run(&mut w, 5 * S, 6 * S, None), Verdict::Quiet(_)));
        assert_eq!(w.unit(6 * S, true), Progress::Another);
        assert_eq!(run(&mut w, 6 * S, 9 * S, None), Verdict::Fine);
        assert!(matches!(
            run(&mut w, 9 * S, 30 * S, None),
            Verdict::Broken(Stage::Streaming, SourceErrorKind::Stalled(_))
        ));
        assert_eq!(w.streamed(), Duration::from_secs(5));
    }

    #[test]
    fn pictures_without_a_key_frame() {
        let mut w = Watch::new(Timeouts::default(), 0);
        for t in 0..90 {
            w.unit(t * S, false);
            assert_eq!(run(&mut w, t * S, (t + 1) * S, None), Verdict::Fine);
        }
        w.unit(90 * S, false);
        assert!(matches!(
            run(&mut w, 90 * S, 91 * S, None),
            Verdict::Broken(Stage::FirstKeyFrame, SourceErrorKind::NoKeyFrame(_))
        ));
        assert_eq!(w.streamed(), Duration::ZERO);
    }

    #[test]
    fn a_decoder_that_gives_nothing_for_a_key_frame() {
        let mut w = Watch::new(Timeouts::default(), 0);
        let mut verdict = Verdict::Fine;
        for t in 0..20 {
            w.unit(t * S, t % 2 == 0);
            verdict = run(&mut w, t * S, (t + 1) * S, Some(0));
            if verdict != Verdict::Fine {
                break;
            }
        }
        // Key at 0 with "decoded at 0" counts as decoded; the key at 2 s does not.
        let Verdict::Broken(_, SourceErrorKind::NotDecoding(age)) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(age > Duration::from_secs(15) && age < Duration::from_secs(16));
    }

    #[test]
    fn long_gops_and_idle_decoders_are_fine() {
        // A key frame a minute, decoded at once: nothing to decode in between ("keyframes" mode).
        let mut w = Watch::new(Timeouts::default(), 0);
        for t in 0..180 {
            w.unit(t * S, t % 60 == 0);
            let decoded = (t / 60) * 60 * S + 1;
            assert_eq!(
                run(&mut w, t * S, (t + 1) * S, Some(decoded)),
                Verdict::Fine
            );
        }
        // Decoding off for a minute, then on: the clock starts with the next key frame.
        let mut w = Watch::new(Timeouts::default(), 0);
        for t in 0..60 {
            w.unit(t * S, true);
            assert_eq!(run(&mut w, t * S, (t + 1) * S, None), Verdict::Fine);
        }
        for t in 60..70 {
            w.unit(t * S, true);
            assert_eq!(run(&mut w, t * S, (t + 1) * S, Some(0)), Verdict::Fine);
        }
    }

    #[test]
    fn a_stopped_process_does_not_blame_the_camera() {
        let mut w = Watch::new(Timeouts::default(), 0);
        w.unit(S, true);
        assert_eq!(w.check(S + S / 4, Some(S)), Verdict::Fine);
        // SIGSTOP for an hour.
        assert_eq!(w.check(3600 * S, Some(S)), Verdict::Fine);
        assert!(matches!(
            run(&mut w, 3600 * S, 3620 * S, Some(S)),
            Verdict::Broken(Stage::Streaming, SourceErrorKind::Stalled(_))
        ));
    }
}
