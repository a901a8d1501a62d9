//! Media time of one camera: from its RTP stamps and clock reports to the pair (PTS, UTC) that
//! every frame carries.
//!
//! Promises, for any input whatever:
//! - DTS (90 kHz) rises strictly from unit to unit and is never later than the unit's PTS; without
//!   B pictures the two are the same;
//! - between two stamps flagged `discontinuity`, UTC is one affine function of PTS: capture time =
//!   constant + PTS / 90 kHz, to the nanosecond. So a marker posted with a frame's capture time
//!   falls on exactly that frame, by arithmetic on PTS alone;
//! - nothing is fatal, nothing panics, no arithmetic wraps.
//!
//! **Repair.** A single stamp out of line is replaced by its expected value. A run of stamps that
//! agree with each other, but not with the past, is a jump: the new scale is joined on where the
//! old one ended, with a discontinuity. When stamps make no sense for longer (all equal, random),
//! the arrival clock takes over until they do again.
//!
//! **UTC.** Without usable sender reports a picture was captured when it arrived (the fastest of
//! recent arrivals, since the network can only delay). A sender report counts when it puts the
//! picture within [`MAX_CLOCK_SKEW`] of its arrival: cameras without time service, or with local
//! time in their UTC clock, are thus ignored. Small corrections are not applied at all; larger
//! ones change the constant at the next key frame, as a discontinuity. The slope is never changed:
//! both clocks of a camera run on one crystal, and the error that is left stays under
//! [`SENDER_REPORT_STEP`].
//!
//! **B pictures** come after pictures that are shown later, so their stamps step back. That is taken
//! for what it is only where the stream says, or shows, that it reorders
//! ([`Timeline::set_reorder`]): elsewhere a step back is a fault of the camera's clock.
//!
//! It must never read a clock itself.

mod beside;
mod decode_order;

use camring_ring::PacketReader;

use decode_order::DecodeOrder;

/// Ticks per second of the PTS given out.
pub const PTS_RATE: u32 = 90_000;

/// A step ahead of the arrival clock by more than this is a jump, not jitter. Buffers in cameras
/// release seconds of video at once after a network hiccup, with steps that are small each.
const MAX_AHEAD: i64 = 2 * PTS_RATE as i64;
/// A step back by no more than this may be reordering or jitter and needs [`SMALL_CONFIRM`] units
/// in agreement to count as a jump.
const SMALL_BACK: i64 = PTS_RATE as i64;
/// Units that must agree with each other, after a first one, to make a small step back a jump.
/// More than the B pictures in a row of any usual encoder.
const SMALL_CONFIRM: u32 = 4;
/// The same for a large step: one that could not be anything else.
const LARGE_CONFIRM: u32 = 1;
/// Units back in decoding order among which the one shown last is (H.264 and H.265 reorder by at
/// most 16).
const MAX_REORDER: u64 = 16;
/// Units in a row without a usable stamp after which the arrival clock takes over.
const GIVE_UP_STAMPS: u32 = 16;
/// Units in a row with steps like the arrival clock's after which stamps are trusted again.
const TRUST_AGAIN: u32 = 32;
/// How far such a step may differ from the arrival clock's.
const TRUST_JITTER: i64 = PTS_RATE as i64 / 4;
/// Longest time that one unit may advance the arrival clock: nothing waits that long for a unit.
const MAX_ELAPSED: i64 = 3600 * PTS_RATE as i64;

/// A sender report that puts a picture further than this from its arrival is not believed, ns.
/// Wider than any network and encoder delay plus the drift of a clock that is served by NTP;
/// narrower than every time zone and every unset clock.
pub const MAX_CLOCK_SKEW: i64 = 10 * NS;
/// Corrections by sender reports apply from here, ns. Under it lies the jitter of cameras that
/// stamp reports in a busy loop; 50 ppm of drift reach it in half an hour.
pub const SENDER_REPORT_STEP: i64 = NS / 10;
/// Two reports in a row must agree within this on a correction, ns.
const SENDER_REPORT_AGREE: i64 = NS / 20;
/// Reports in a row that are not believed, after which the ones believed before are forgotten.
const FORGET_REPORTS: u32 = 3;
/// Arrival-based time is corrected when pictures take longer than this to arrive, ns.
pub const ARRIVAL_STEP: i64 = NS / 4;
/// … or when they arrive earlier than captured by more than this, ns.
const ARRIVAL_EARLY: i64 = NS / 50;
/// Length of the window whose fastest arrival counts, ns.
const ARRIVAL_WINDOW: u64 = 10 * NS as u64;
/// The first window of a scale is shorter: its first unit is often late, the whole burst of a
/// first key frame.
const FIRST_ARRIVAL_WINDOW: u64 = 2 * NS as u64;
/// A correction waits for a key frame, where consumers can cut, but not longer than this, ns.
const MAX_DEFER: u64 = 10 * NS as u64;

const NS: i64 = 1_000_000_000;

/// When something arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `CLOCK_MONOTONIC`, ns.
    pub monotonic_ns: u64,
    /// UTC, ns since the Unix epoch.
    pub utc_ns: i64,
}

/// The times of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Presentation time, 90 kHz. Rises strictly in output order, so far as the camera's stamps do.
    pub pts: i64,
    /// Decoding time, 90 kHz, strictly rising, at most `pts`.
    pub dts: i64,
    /// When the picture was taken, UTC ns since the Unix epoch.
    pub capture_time_ns: i64,
    /// The capture time comes from the camera's clock rather than from arrival.
    pub from_sender_report: bool,
    /// PTS or UTC do not continue those of the unit before. True for the first.
    pub discontinuity: bool,
}

/// Widens 32-bit RTP times: each is taken as the nearest to the one before, so it may go back or
/// forth by up to 2^31 ticks. For sources that deliver the bare field.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    /// The next time of the stream.
    pub fn unwrap(&mut self, rtp: u32) -> i64 {
        let wide = match self.last {
            None => i64::from(rtp),
            Some(last) => {
                // Truncation and reinterpretation are the point: distance modulo 2^32.
                let distance = rtp.wrapping_sub(last as u32) as i32;
                last.saturating_add(i64::from(distance))
            }
        };
        self.last = Some(wide);
        wide
    }
}

/// Where a timeline left off, for one that goes on with it in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOff {
    /// The latest PTS given out, 90 kHz.
    pub pts: i64,
    /// When its unit arrived, `CLOCK_MONOTONIC` ns.
    pub monotonic_ns: u64,
}

/// The place that the units of a packet ring have come to: the latest PTS among the newest of them,
/// since output order may differ. `None`: there is none that a timeline could have given out.
pub fn left_off(units: &PacketReader) -> Option<LeftOff> {
    let available = units.available();
    let newest = available
        .start
        .max(available.end.saturating_sub(MAX_REORDER))..available.end;
    let mut bytes = Vec::new();
    newest
        .filter_map(|sequence| units.read(sequence, &mut bytes).ok().flatten())
        .map(|unit| LeftOff {
            pts: unit.pts,
            monotonic_ns: unit.arrival_ns,
        })
        .max_by_key(|left_off| left_off.pts)
}

/// UTC = offset + PTS.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Map {
    offset_ns: i64,
    from_sender_report: bool,
}

impl Map {
    fn capture(self, pts: i64) -> i64 {
        self.offset_ns.saturating_add(ticks_to_ns(pts))
    }

    /// The map that gives `utc_ns` for `pts`.
    fn through(pts: i64, utc_ns: i64, from_sender_report: bool) -> Map {
        Map {
            offset_ns: utc_ns.saturating_sub(ticks_to_ns(pts)),
            from_sender_report,
        }
    }
}

/// 90 kHz ticks to ns, rounding down.
pub fn ticks_to_ns(ticks: i64) -> i64 {
    clamp(i128::from(ticks) * 100_000 / 9)
}

fn clamp(v: i128) -> i64 {
    i64::try_from(v).unwrap_or(if v < 0 { i64::MIN } else { i64::MAX })
}

/// A correction that waits for a key frame.
#[derive(Clone, Copy, Debug)]
struct Pending {
    map: Map,
    since_ns: u64,
}

/// The previous unit.
#[derive(Clone, Copy, Debug)]
struct Last {
    rtp: i64,
    pts: i64,
    arrival: Arrival,
}

/// Where RTP time sits on the PTS scale.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    rtp: i64,
    pts: i64,
}

/// Whose clock PTS follows.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Stamps,
    /// Stamps make no sense; this many in a row did lately.
    Arrival {
        sensible: u32,
    },
}

/// The timeline of one camera. See the module's promises.
#[derive(Debug)]
pub struct Timeline {
    clock_rate: u32,
    clock: Clock,
    anchor: Anchor,
    map: Map,
    last: Option<Last>,
    /// Where the scale before a restart ended: it is continued.
    before: Option<LeftOff>,
    /// The latest PTS given out.
    top: i64,
    order: DecodeOrder,
    /// Units in a row without a usable stamp.
    bad: u32,
    /// Of those, how many at the end agree with their predecessor.
    agreeing: u32,
    /// The last usable step between units, PTS ticks.
    interval: i64,
    /// From capture to arrival of the last unit whose stamp was usable, ns.
    delay_ns: i64,
    pending: Option<Pending>,
    /// Reports that came before the first unit.
    early_report: Option<(i64, i64, Arrival)>,
    /// Offset of a report that differs from the map, until a second one agrees.
    suspect_offset: Option<i64>,
    disbelieved: u32,
    window: ArrivalWindow,
}

impl Timeline {
    /// A timeline that starts at PTS 0. `clock_rate` of the RTP stamps in Hz; 0 counts as 90000.
    pub fn new(clock_rate: u32) -> Self {
        Timeline {
            clock_rate: if clock_rate == 0 {
                PTS_RATE
            } else {
                clock_rate
            },
            clock: Clock::Stamps,
            anchor: Anchor { rtp: 0, pts: 0 },
            map: Map {
                offset_ns: 0,
                from_sender_report: false,
            },
            last: None,
            before: None,
            top: i64::MIN,
            order: DecodeOrder::default(),
            bad: 0,
            agreeing: 0,
            interval: MAX_AHEAD,
            delay_ns: 0,
            pending: None,
            early_report: None,
            suspect_offset: None,
            disbelieved: 0,
            window: ArrivalWindow::default(),
        }
    }

    /// A timeline that goes on where another one, perhaps of a process that died, left off: by the
    /// time that passed since. A place that no timeline can have reached is ignored.
    pub fn resume(clock_rate: u32, before: LeftOff) -> Self {
        let possible = (0..=i64::MAX / 4).contains(&before.pts);
        Timeline {
            before: possible.then_some(before),
            ..Timeline::new(clock_rate)
        }
    }

    /// A new session has a new RTP scale. PTS continues by the time that passed; the next stamp
    /// is a discontinuity.
    pub fn restart(&mut self, clock_rate: u32) {
        let last = self.last.map(|last| LeftOff {
            pts: self.top,
            monotonic_ns: last.arrival.monotonic_ns,
        });
        *self = Timeline {
            before: last.or(self.before),
            order: self.order.restart(),
            ..Timeline::new(clock_rate)
        };
    }

    /// How many pictures may come before one that is shown earlier, in the stream from the next
    /// unit on (`max_num_reorder_frames`, ITU-T H.264 § E.2.1; `sps_max_num_reorder_pics`, H.265
    /// § 7.4.3.2.1); 0: none, steps back are faults. Where it is more in truth, that is learnt.
    pub fn set_reorder(&mut self, pictures: u32) {
        self.order.set_depth(pictures);
    }

    /// Gives the next unit, in order of arrival, its times. `rtp_time` in units of the clock rate,
    /// unwrapped; `key`: consumers can cut before this unit.
    pub fn stamp(&mut self, rtp_time: i64, arrival: Arrival, key: bool) -> Stamp {
        let Some(last) = self.last else {
            return self.first(rtp_time, arrival);
        };
        let elapsed = elapsed_ticks(last.arrival.monotonic_ns, arrival.monotonic_ns);
        let (pts, jumped) = match self.clock {
            Clock::Stamps => self.by_stamp(rtp_time, last, elapsed),
            Clock::Arrival { sensible } => self.by_arrival(rtp_time, last, elapsed, sensible),
        };
        if jumped {
            self.order.forget_waiting();
        }
        let (pts, dts) = self.order.stamp(pts, self.interval, self.bad == 0);
        self.top = self.top.max(pts);
        let mut discontinuity = jumped;
        if jumped {
            // The camera's clock may have jumped with its stamps: count from arrival, with the
            // delay seen last, until the next report.
            let captured = arrival.utc_ns.saturating_sub(self.delay_ns);
            self.new_map(Map::through(pts, captured, false));
        } else if let Some(p) = self.pending
            && (key || arrival.monotonic_ns.saturating_sub(p.since_ns) > MAX_DEFER)
        {
            self.new_map(p.map);
            discontinuity = true;
        }
        self.last = Some(Last {
            rtp: rtp_time,
            pts,
            arrival,
        });
        if self.bad == 0 {
            let delay = arrival.utc_ns.saturating_sub(self.map.capture(pts));
            self.delay_ns = delay.clamp(0, MAX_CLOCK_SKEW);
        }
        self.watch_arrival(pts, arrival);
        self.stamped(pts, dts, discontinuity)
    }

    /// Takes note of a sender report: at `rtp_time` the camera's clock showed `ntp_utc_ns`.
    pub fn sender_report(&mut self, ntp_utc_ns: i64, rtp_time: i64, arrival: Arrival) {
        let Some(last) = self.last else {
            self.early_report = Some((ntp_utc_ns, rtp_time, arrival));
            return;
        };
        // While stamps are in doubt, so is what a report says about them.
        if self.bad > 0 || !matches!(self.clock, Clock::Stamps) {
            return;
        }
        let Some(map) = self.believe(ntp_utc_ns, rtp_time, last) else {
            self.disbelieved = self.disbelieved.saturating_add(1);
            self.suspect_offset = None;
            if self.disbelieved >= FORGET_REPORTS && self.map.from_sender_report {
                self.pending = Some(Pending {
                    map: Map::through(last.pts, last.arrival.utc_ns, false),
                    since_ns: arrival.monotonic_ns,
                });
            }
            return;
        };
        self.disbelieved = 0;
        let wanted = self.pending.map_or(self.map, |p| p.map);
        let off_by = map.offset_ns.saturating_sub(wanted.offset_ns);
        if wanted.from_sender_report {
            if off_by.saturating_abs() < SENDER_REPORT_STEP {
                self.suspect_offset = None;
                return;
            }
            let agreed = self.suspect_offset.replace(map.offset_ns).is_some_and(|o| {
                o.saturating_sub(map.offset_ns).saturating_abs() <= SENDER_REPORT_AGREE
            });
            if !agreed {
                return;
            }
            self.suspect_offset = None;
        }
        self.pending = Some(Pending {
            map,
            since_ns: arrival.monotonic_ns,
        });
    }

    /// The map of a report, if it is plausible for the last unit.
    fn believe(&self, ntp_utc_ns: i64, rtp_time: i64, last: Last) -> Option<Map> {
        let pts = self.scale(rtp_time)?;
        if pts.saturating_sub(last.pts).saturating_abs() > MAX_ELAPSED {
            return None;
        }
        let map = Map::through(pts, ntp_utc_ns, true);
        let skew = last.arrival.utc_ns.saturating_sub(map.capture(last.pts));
        (skew.saturating_abs() <= MAX_CLOCK_SKEW).then_some(map)
    }

    fn first(&mut self, rtp_time: i64, arrival: Arrival) -> Stamp {
        let pts = self.before.map_or(0, |b| {
            b.pts
                .saturating_add(elapsed_ticks(b.monotonic_ns, arrival.monotonic_ns).max(1))
        });
        let (pts, dts) = self.order.stamp(pts, self.interval, true);
        self.top = pts;
        self.anchor = Anchor { rtp: rtp_time, pts };
        let last = Last {
            rtp: rtp_time,
            pts,
            arrival,
        };
        self.last = Some(last);
        let by_report = self
            .early_report
            .take()
            .and_then(|(ntp, rtp, _)| self.believe(ntp, rtp, last));
        self.new_map(by_report.unwrap_or(Map::through(pts, arrival.utc_ns, false)));
        self.stamped(pts, dts, true)
    }

    fn stamped(&self, pts: i64, dts: i64, discontinuity: bool) -> Stamp {
        Stamp {
            pts,
            dts,
            capture_time_ns: self.map.capture(pts),
            from_sender_report: self.map.from_sender_report,
            discontinuity,
        }
    }

    fn new_map(&mut self, map: Map) {
        self.map = map;
        self.pending = None;
        self.suspect_offset = None;
        self.disbelieved = 0;
        self.window = ArrivalWindow::default();
    }

    /// RTP time on the PTS scale; `None` beyond it.
    fn scale(&self, rtp: i64) -> Option<i64> {
        let ticks = (i128::from(rtp) - i128::from(self.anchor.rtp)) * i128::from(PTS_RATE)
            / i128::from(self.clock_rate);
        i64::try_from(i128::from(self.anchor.pts) + ticks).ok()
    }

    /// Step between two RTP times in PTS ticks, `None` when absurd.
    fn step(&self, from: i64, to: i64) -> Option<i64> {
        let ticks = (i128::from(to) - i128::from(from)) * i128::from(PTS_RATE)
            / i128::from(self.clock_rate);
        i64::try_from(ticks).ok()
    }

    /// PTS while stamps are trusted, and whether it is a jump.
    fn by_stamp(&mut self, rtp: i64, last: Last, elapsed: i64) -> (i64, bool) {
        let allowed = elapsed.saturating_add(MAX_AHEAD);
        let media = self.scale(rtp);
        let step = media.map(|m| m.saturating_sub(last.pts));
        if let (Some(media), Some(step)) = (media, step)
            && ((1..=allowed).contains(&step) || self.is_earlier_picture(media, step))
        {
            self.bad = 0;
            self.agreeing = 0;
            if step > 0 {
                self.interval = step;
            }
            return (media, false);
        }
        // Does it continue the previous unit, itself out of line?
        let own_step = self
            .step(last.rtp, rtp)
            .filter(|s| self.bad > 0 && (1..=allowed).contains(s));
        self.agreeing = if own_step.is_some() {
            self.agreeing + 1
        } else {
            0
        };
        self.bad += 1;
        let small = step.is_some_and(|s| (-SMALL_BACK..1).contains(&s));
        let needed = if small { SMALL_CONFIRM } else { LARGE_CONFIRM };
        if let Some(own_step) = own_step
            && self.agreeing >= needed
        {
            let pts = last.pts.saturating_add(own_step);
            self.anchor = Anchor { rtp, pts };
            self.bad = 0;
            self.agreeing = 0;
            return (pts, true);
        }
        // Small steps back: the true time is about the last one. Else: what the clock says, but
        // not so much that the next usable stamp would lie in the past.
        let guess = if small {
            1
        } else {
            elapsed.clamp(1, self.interval)
        };
        let pts = last.pts.saturating_add(guess);
        if self.bad < GIVE_UP_STAMPS {
            return (pts, false);
        }
        self.clock = Clock::Arrival { sensible: 0 };
        (pts, true)
    }

    /// Whether a step back is that of a B picture: shown before its predecessor in decoding order.
    fn is_earlier_picture(&self, media: i64, step: i64) -> bool {
        (-SMALL_BACK..0).contains(&step) && self.order.allows(media)
    }

    /// PTS while stamps are not trusted, and whether trust has come back: a jump.
    fn by_arrival(&mut self, rtp: i64, last: Last, elapsed: i64, sensible: u32) -> (i64, bool) {
        let pts = last.pts.saturating_add(elapsed.max(1));
        let good = self
            .step(last.rtp, rtp)
            .is_some_and(|s| s >= 1 && s.saturating_sub(elapsed).saturating_abs() <= TRUST_JITTER);
        let sensible = if good { sensible + 1 } else { 0 };
        if sensible < TRUST_AGAIN {
            self.clock = Clock::Arrival { sensible };
            return (pts, false);
        }
        self.clock = Clock::Stamps;
        self.anchor = Anchor { rtp, pts };
        self.bad = 0;
        self.agreeing = 0;
        (pts, true)
    }

    /// Without reports: keeps capture time at the fastest of recent arrivals.
    fn watch_arrival(&mut self, pts: i64, arrival: Arrival) {
        if self.map.from_sender_report || self.pending.is_some() {
            return;
        }
        let delay = arrival.utc_ns.saturating_sub(self.map.capture(pts));
        let Some(fastest) = self.window.add(arrival.monotonic_ns, delay) else {
            return;
        };
        if !(-ARRIVAL_EARLY..ARRIVAL_STEP).contains(&fastest) {
            self.pending = Some(Pending {
                map: Map {
                    offset_ns: self.map.offset_ns.saturating_add(fastest),
                    from_sender_report: false,
                },
                since_ns: arrival.monotonic_ns,
            });
        }
    }
}

/// Time between two arrivals in PTS ticks, within bounds whatever the clock does.
fn elapsed_ticks(from_ns: u64, to_ns: u64) -> i64 {
    let ns = to_ns.saturating_sub(from_ns);
    let ticks = u128::from(ns) * u128::from(PTS_RATE) / NS as u128;
    i64::try_from(ticks).unwrap_or(MAX_ELAPSED).min(MAX_ELAPSED)
}

/// The smallest delay in consecutive windows.
#[derive(Debug, Default)]
struct ArrivalWindow {
    started: Option<u64>,
    minimum: i64,
    not_first: bool,
}

impl ArrivalWindow {
    /// Adds a delay; at the end of a window returns its minimum.
    fn add(&mut self, now: u64, delay: i64) -> Option<i64> {
        let Some(started) = self.started else {
            self.started = Some(now);
            self.minimum = delay;
            return None;
        };
        self.minimum = self.minimum.min(delay);
        let length = if self.not_first {
            ARRIVAL_WINDOW
        } else {
            FIRST_ARRIVAL_WINDOW
        };
        if now.saturating_sub(started) < length {
            return None;
        }
        self.started = None;
        self.not_first = true;
        Some(self.minimum)
    }
}

#[cfg(test)]
mod tests;
