//! What else runs beside the video, on its scale: the camera's sound.

use super::{Arrival, Clock, Timeline, elapsed_ticks};

impl Timeline {
    /// The PTS of an RTP time of the video. `None`: there is no picture yet, or its stamps are in doubt.
    pub fn place(&self, rtp_time: i64) -> Option<i64> {
        let sound = self.bad == 0 && matches!(self.clock, Clock::Stamps);
        self.last.filter(|_| sound)?;
        self.scale(rtp_time)
    }

    /// The RTP time and the PTS of the newest picture, where they belong together.
    pub fn newest(&self) -> Option<(i64, i64)> {
        let last = self.last?;
        let pts = self.place(last.rtp)?;
        Some((last.rtp, pts))
    }

    /// The PTS that a picture arriving now would have. `None`: there was none yet.
    pub fn at_arrival(&self, arrival: Arrival) -> Option<i64> {
        let last = self.last?;
        let elapsed = elapsed_ticks(last.arrival.monotonic_ns, arrival.monotonic_ns);
        Some(last.pts.saturating_add(elapsed))
    }

    /// The capture time of a PTS near the newest picture's, UTC ns since the Unix epoch, and whether the
    /// camera's clock says so.
    pub fn capture_time(&self, pts: i64) -> (i64, bool) {
        (self.map.capture(pts), self.map.from_sender_report)
    }
}
