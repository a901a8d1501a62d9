//! Whether anything moves in front of a camera, told from the sizes of its compressed pictures.
//!
//! An encoder spends bits on what changed. A predicted picture of a still scene is a small and
//! steady share of its key frame; something that moves adds about as large a share as the area it
//! covers and uncovers. So the measure is *bytes of the predicted picture ÷ bytes of its key
//! frame*, which also takes out most of what a rate control does to both; and what is looked for is
//! a lasting change of it against what it was, at the same place of earlier groups of pictures.
//!
//! Where sizes cannot tell (noise costs more than motion would, or a constant rate is filled
//! whatever the scene does), it says so ([`Activity::Blind`]), and nothing is called quiet.
//!
//! Promises: bounded state (a kilobyte), bounded work per picture, no clock of its own; any
//! sequence of sizes and times is safe. A stream that has changed for good (another light, infrared,
//! another rate) is learnt anew, so that no state lasts for ever.
//! Must never: call a stream quiet that it has not learnt, or go quiet anywhere but at a key frame.

use crate::health::Activity;

/// A stream is known after this long, in one go in which it stayed alike. Long enough for the
/// second hand of a burned-in clock and for a rate control to settle.
const LEARN_NS: u64 = 10_000_000_000;
/// And after so many whole groups of pictures: a place of a group is seen once in each.
const LEARN_GROUPS: u32 = 3;
/// And so many predicted pictures, of which the spread is estimated.
const LEARN_PICTURES: u32 = 60;

/// A stream that was known, and has been something else for this long, is known anew. An object
/// that moves this long, as steadily as noise, is then part of the scene.
const LEARN_ANEW_NS: u64 = 30_000_000_000;

/// Back to key frames when nothing has moved for this long: people stop and go on.
const QUIET_AFTER_NS: u64 = 5_000_000_000;

/// The change that is looked for, in standard deviations of the quiet stream. With the sums below,
/// independent normal sizes would give a false alarm in some millions of pictures; real ones
/// have heavier tails, which clipping takes care of.
const DEVIATIONS: f32 = 2.5;
/// The smallest change that is looked for, as a share of the key frame: a few bytes of header more
/// or less are not motion.
const LEAST: f32 = 0.001;
/// A standard deviation is 1.25 mean absolute deviations (of normal values).
const DEVIATION_PER_MAD: f32 = 1.25;

/// A cumulative sum raises the alarm at so many times the change looked for.
const ALARM: f32 = 2.5;
/// One picture counts at most for this many: a single large one (a second hand, a refresh that some
/// encoders send between key frames) is not motion.
const CLIP: f32 = 2.0;
/// Taken off per picture, the textbook's half of the change looked for.
const ALLOWANCE: f32 = 0.5;

/// Levels follow by this share of the difference, once they are known.
const LEVEL_GAIN: f32 = 1.0 / 16.0;
const SPREAD_GAIN: f32 = 1.0 / 128.0;

/// Places with a level of their own: the first pictures after a key frame, which often grow or
/// shrink one by one; then half octaves of the distance, by four phases each, for encoders whose
/// pictures alternate in size (layers in time have periods of 2 and 4).
const SINGLE_PLACES: u32 = 8;
const HALF_OCTAVES: u32 = 18;
const PHASES: u32 = 4;
const PLACES: usize = (SINGLE_PLACES + HALF_OCTAVES * PHASES) as usize;

/// What a stream's predicted pictures are like.
#[derive(Clone, Debug)]
struct Model {
    level: [f32; PLACES],
    seen: [u8; PLACES],
    /// Mean absolute deviation from the levels.
    spread: f32,
    pictures: u32,
    groups: u32,
    since_ns: u64,
    /// Cumulative sums of what was more, and less, than expected.
    up: f32,
    down: f32,
}

impl Model {
    fn new(now_ns: u64) -> Self {
        Self {
            level: [0.0; PLACES],
            seen: [0; PLACES],
            spread: 0.0,
            pictures: 0,
            groups: 0,
            since_ns: now_ns,
            up: 0.0,
            down: 0.0,
        }
    }

    /// The change that this stream lets one see.
    fn visible(&self) -> f32 {
        (self.spread * DEVIATION_PER_MAD * DEVIATIONS).max(LEAST)
    }

    /// Compares a picture with what was expected; the sums are in units of the change looked for.
    fn compare(&mut self, place: usize, share: f32) {
        if self.seen[place] == 0 {
            return;
        }
        let excess = (share - self.level[place]) / self.visible();
        let excess = excess.clamp(-CLIP, CLIP);
        // A little over the alarm, so that the end of a motion shows soon.
        self.up = (self.up + excess - ALLOWANCE).clamp(0.0, ALARM + 1.0);
        self.down = (self.down - excess - ALLOWANCE).clamp(0.0, ALARM + 1.0);
    }

    fn learn(&mut self, place: usize, share: f32) {
        self.pictures = self.pictures.saturating_add(1);
        let seen = self.seen[place].saturating_add(1);
        self.seen[place] = seen;
        if seen == 1 {
            self.level[place] = share;
            return;
        }
        let off = share - self.level[place];
        // Once it is known, one picture moves it little, whatever its size.
        let step = if seen > 3 {
            let most = 3.0 * self.visible();
            off.clamp(-most, most)
        } else {
            off
        };
        self.level[place] += step * (1.0 / f32::from(seen)).max(LEVEL_GAIN);
        let gain = (1.0 / self.pictures as f32).max(SPREAD_GAIN);
        let off = if self.pictures > LEARN_PICTURES {
            off.abs().min(2.0 * self.visible())
        } else {
            off.abs()
        };
        self.spread += (off - self.spread) * gain;
    }

    /// The sums say that the stream is not what it was.
    fn alarmed(&self) -> bool {
        self.up.max(self.down) >= ALARM
    }

    fn calm(&self) -> bool {
        self.up.max(self.down) <= ALARM / 4.0
    }

    fn is_learnt(&self, now_ns: u64, after_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= after_ns
            && self.groups > LEARN_GROUPS
            && self.pictures >= LEARN_PICTURES
    }
}

/// Looks at one stream.
#[derive(Clone, Debug)]
pub struct Detector {
    /// The smallest change that must be seen, as a share of the key frame.
    smallest: f32,
    /// The quiet stream, once it is known.
    known: Option<Model>,
    /// What it may have become; learnt while it is not quiet.
    candidate: Option<Model>,
    activity: Activity,
    calm_since: Option<u64>,
    /// The next key frame begins a quiet group.
    rest_at_key: bool,
    key_bytes: f32,
    /// Predicted pictures since the key frame.
    place: u32,
}

impl Detector {
    /// `smallest_motion`: in percent of the picture.
    pub fn new(smallest_motion: f32) -> Self {
        Self {
            smallest: smallest_motion / 100.0,
            known: None,
            candidate: None,
            activity: Activity::Learning,
            calm_since: None,
            rest_at_key: false,
            key_bytes: 1.0,
            place: 0,
        }
    }

    /// Another session: its stream may be another.
    pub fn restart(&mut self) {
        *self = Self::new(self.smallest * 100.0);
    }

    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// A picture of so many bytes came at `now_ns`. Says what is known now; a key frame can end
    /// a motion, a predicted picture can begin one.
    pub fn picture(&mut self, bytes: usize, key: bool, now_ns: u64) -> Activity {
        if key {
            self.key(bytes);
        } else {
            self.predicted(bytes, now_ns);
        }
        self.activity
    }

    fn key(&mut self, bytes: usize) {
        self.key_bytes = (bytes as f32).max(1.0);
        self.place = 0;
        if let Some(candidate) = &mut self.candidate {
            candidate.groups = candidate.groups.saturating_add(1);
        }
        if std::mem::take(&mut self.rest_at_key) {
            self.activity = Activity::Quiet;
            self.candidate = None;
        }
    }

    fn predicted(&mut self, bytes: usize, now_ns: u64) {
        let place = place(self.place);
        self.place = self.place.saturating_add(1);
        // A predicted picture as large as its key frame is one of a new scene; no need to know more.
        let share = (bytes as f32 / self.key_bytes).min(1.0);
        if let Some(known) = &mut self.known {
            known.compare(place, share);
            if known.visible() > self.smallest {
                self.calm_since = None;
                self.leave(Activity::Blind);
            } else if known.alarmed() {
                self.calm_since = None;
                self.leave(Activity::Moving);
            } else if known.calm() {
                self.calm_since.get_or_insert(now_ns);
            }
        }
        // What moves is not learnt as what is quiet.
        if let Some(known) = &mut self.known
            && known.up.max(known.down) <= ALARM / 2.0
        {
            known.learn(place, share);
        }
        if self.activity == Activity::Quiet {
            return;
        }
        self.rest_at_key = self
            .calm_since
            .is_some_and(|since| now_ns.saturating_sub(since) >= QUIET_AFTER_NS);
        if !self.rest_at_key {
            self.learn_anew(place, share, now_ns);
        }
    }

    /// Not quiet any more, for this reason.
    fn leave(&mut self, activity: Activity) {
        self.rest_at_key = false;
        self.activity = activity;
    }

    fn learn_anew(&mut self, place: usize, share: f32, now_ns: u64) {
        let candidate = self.candidate.get_or_insert_with(|| Model::new(now_ns));
        if candidate.pictures >= LEARN_PICTURES / 2 && candidate.groups >= LEARN_GROUPS {
            candidate.compare(place, share);
            if candidate.alarmed() {
                // Whatever it is, it is not steady.
                *candidate = Model::new(now_ns);
            }
        }
        candidate.learn(place, share);
        let after = if self.known.is_some() {
            LEARN_ANEW_NS
        } else {
            LEARN_NS
        };
        if candidate.is_learnt(now_ns, after) {
            let blind = candidate.visible() > self.smallest;
            self.known = self.candidate.take();
            // It has been steady all the time.
            self.calm_since = (!blind).then_some(now_ns);
            if blind {
                self.activity = Activity::Blind;
            }
        }
    }
}

/// Which level belongs to the predicted picture that is so many after the first of its group.
fn place(n: u32) -> usize {
    let place = if n < SINGLE_PLACES {
        n
    } else {
        // Twice the logarithm, rounded down: the bit length, and whether the next bit is set.
        let log = n.ilog2();
        let half = n >> (log - 1) & 1;
        let octave = (2 * (log - SINGLE_PLACES.ilog2()) + half).min(HALF_OCTAVES - 1);
        SINGLE_PLACES + octave * PHASES + n % PHASES
    };
    place as usize
}

#[cfg(test)]
mod tests;
