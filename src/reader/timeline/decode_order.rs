//! Decoding times: what a muxer needs beside presentation times where a stream has B pictures.
//!
//! RTP carries presentation times only (RFC 6184 § 5.1). A picture is decoded at the latest when it
//! is shown, and later than its predecessor: with `depth` pictures of reordering, the time at which
//! the picture `depth` places earlier in *output* order is shown is such a time.
//!
//! Promises: DTS rises strictly, and is at most the PTS returned with it, whatever comes in; no
//! more than [`MAX_DEPTH`] + 1 times are kept. Must never look at anything but the times.

/// The most that H.264 and H.265 allow.
const MAX_DEPTH: usize = 16;

/// A stream that shows more reordering than it announced is believed up to here: more than cameras
/// do, and little enough that a clock set back does not pass for B pictures.
const MAX_LEARNT: usize = 4;

/// Picture duration assumed before one was seen: 25 fps, in 90 kHz ticks.
const USUAL_INTERVAL: i64 = 3_600;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DecodeOrder {
    depth: usize,
    /// PTS that have not been a DTS yet, rising; at most `depth` between two calls.
    waiting: Vec<i64>,
    /// The DTS given out last.
    newest: Option<i64>,
}

impl DecodeOrder {
    /// For a new session of the same camera: DTS goes on rising, the rest is to be learnt anew.
    pub fn restart(&self) -> Self {
        Self {
            newest: self.newest,
            ..Self::default()
        }
    }

    /// By how many pictures output order may differ from decoding order.
    pub fn set_depth(&mut self, pictures: u32) {
        self.depth = usize::try_from(pictures).map_or(MAX_DEPTH, |n| n.min(MAX_DEPTH));
        // Times that are due at once now are of pictures long decoded.
        let due = self.waiting.len().saturating_sub(self.depth);
        self.waiting.drain(..due);
    }

    /// Whether a picture that comes now may be shown at `pts`, before one that came earlier: not
    /// where the stream does not reorder, nor before what was due to be shown by its announcement.
    pub fn allows(&self, pts: i64) -> bool {
        let in_time = self.newest.is_none_or(|newest| pts > newest);
        self.depth > 0 && (in_time || self.depth < MAX_LEARNT)
    }

    /// PTS does not go on where it was.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// The next unit's PTS and DTS. The PTS is changed only where it is not after the last DTS.
    /// `interval`: a picture's duration, about. `learn`: a picture that proves a greater depth is
    /// to be believed.
    pub fn stamp(&mut self, pts: i64, interval: i64, learn: bool) -> (i64, i64) {
        let after = self
            .newest
            .map_or(i64::MIN, |newest| newest.saturating_add(1));
        if self.depth == 0 {
            let time = pts.max(after);
            self.newest = Some(time);
            return (time, time);
        }
        let at = self.waiting.partition_point(|waiting| *waiting <= pts);
        self.waiting.insert(at, pts);
        let earliest = self.waiting[0];
        let due = if self.waiting.len() > self.depth {
            self.waiting.remove(0)
        } else {
            // The first pictures are decoded before anything is shown.
            let lead = i64::try_from(self.depth + 1 - self.waiting.len()).unwrap_or(0);
            let each = interval.clamp(1, USUAL_INTERVAL);
            earliest.saturating_sub(each.saturating_mul(lead))
        };
        if pts < after && learn && self.depth < MAX_LEARNT {
            self.depth += 1;
        }
        let dts = due.min(pts).max(after);
        self.newest = Some(dts);
        (pts.max(dts), dts)
    }
}
