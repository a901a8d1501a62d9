//! The times of the camera's sound, on the scale of its pictures.
//!
//! Both have RTP times of their own, which begin anywhere. What relates them, the best first:
//! 1. sender reports of both: the camera's clock puts both at the same moment. It need not be right;
//! 2. the answer to PLAY (RTP-Info, RFC 2326 § 12.33): both RTP times of the moment at which it begins;
//! 3. arrival: a frame is as late as the pictures that come with it.
//!
//! Promises: PTS (90 kHz) rises strictly; between two stamps flagged `discontinuity` it is an affine
//! function of the sound's RTP time, so that sound is as even as the camera made it; no relation is
//! believed that puts sound further than [`MAX_APART`] from the pictures it arrived with; nothing is
//! fatal. Must never read a clock itself, nor touch the pictures' timeline.

use super::super::timeline::{Arrival, PTS_RATE, Timeline};
use crate::media::aac::FRAME_SAMPLES;

/// A relation that puts sound further than this from pictures that arrive with it is not believed, in
/// PTS ticks: encoders of pictures are up to some seconds behind.
const MAX_APART: i64 = 4 * PTS_RATE as i64;
/// From here on a better or newer relation is put into effect, in PTS ticks: a quarter of a picture at
/// 25 per second. Under it lie the rounding of reports, and their jitter in decent cameras.
const STEP: i64 = PTS_RATE as i64 / 100;
/// Two reports in a row must agree within this on a correction, in PTS ticks.
const AGREE: i64 = PTS_RATE as i64 / 200;
/// By arrival alone corrections are coarser, since whole frames of sound arrive at once.
const ARRIVAL_STEP: i64 = PTS_RATE as i64 / 12;
/// Frames among which the middle one says how late sound arrives.
const ARRIVALS: usize = 31;
/// Sender reports older than this, compared with the other track's, say nothing about it, in ns.
const REPORTS_APART: i64 = 120 * NS;

const NS: i64 = 1_000_000_000;

/// What the relation of sound and pictures is known from, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    Arrival,
    Play,
    Reports,
}

/// The times of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioStamp {
    /// 90 kHz, on the pictures' scale.
    pub pts: i64,
    /// UTC ns since the Unix epoch.
    pub capture_time_ns: i64,
    pub from_sender_report: bool,
    /// It does not go on smoothly from the frame before.
    pub discontinuity: bool,
}

/// The camera's clock at an RTP time.
#[derive(Clone, Copy, Debug)]
struct Report {
    ntp_ns: i64,
    rtp: i64,
}

/// See the module's promises.
#[derive(Debug)]
pub struct AudioClock {
    clock_rate: u32,
    /// PTS minus RTP time in PTS ticks, and how it is known.
    relation: Option<(i64, Basis)>,
    /// A picture whose PTS follows from its RTP time: where it no longer does, the pictures' scale is
    /// another one, and all that was known of it is void.
    picture: Option<(i64, i64)>,
    video: Option<Report>,
    audio: Option<Report>,
    /// What the last pair of reports said, where it differs from what is in effect.
    suspected: Option<i64>,
    arrivals: Vec<i64>,
    newest: i64,
    /// The next frame that is given out does not go on from the one before.
    jumped: bool,
}

impl AudioClock {
    /// For a session whose sound has RTP times of `clock_rate` Hz (0 counts as 90000). PTS goes on after
    /// `newest`, that of the last frame of the sessions before.
    pub fn new(clock_rate: u32, newest: i64) -> Self {
        Self {
            clock_rate: if clock_rate == 0 {
                PTS_RATE
            } else {
                clock_rate
            },
            relation: None,
            picture: None,
            video: None,
            audio: None,
            suspected: None,
            arrivals: Vec::new(),
            newest,
            jumped: true,
        }
    }

    /// The PTS of the newest frame; `i64::MIN`: there was none.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// What sound and pictures are related by.
    pub fn basis(&self) -> Option<Basis> {
        self.relation.map(|(_, basis)| basis)
    }

    /// A sender report of the pictures.
    pub fn video_report(&mut self, ntp_ns: i64, rtp_time: i64) {
        self.video = Some(Report {
            ntp_ns,
            rtp: rtp_time,
        });
    }

    /// A sender report of the sound.
    pub fn audio_report(&mut self, ntp_ns: i64, rtp_time: i64, timeline: &Timeline) {
        self.audio = Some(Report {
            ntp_ns,
            rtp: rtp_time,
        });
        self.compare_reports(timeline);
    }

    /// Gives the next frame its times. `play`: the RTP time of the pictures at the same moment, as the
    /// answer to PLAY has it. `None`: there is nothing to relate it to, or it lies before the last one.
    pub fn stamp(
        &mut self,
        rtp_time: i64,
        play: Option<i64>,
        arrival: Arrival,
        timeline: &Timeline,
    ) -> Option<AudioStamp> {
        self.watch_scale(timeline);
        let ticks = self.ticks(i128::from(rtp_time))?;
        // It was complete when its last sample had been taken.
        let length = self.ticks(FRAME_SAMPLES.into())?;
        let by_arrival = timeline
            .at_arrival(arrival)?
            .saturating_sub(length)
            .saturating_sub(ticks);
        let before = self.relation;
        let (offset, basis) = match before {
            // A jump of its RTP times, or of the pictures': whatever was known is of the past.
            Some((offset, _)) if apart(offset, by_arrival) > MAX_APART => {
                self.forget();
                (by_arrival, Basis::Arrival)
            }
            Some(known) => known,
            None => (by_arrival, Basis::Arrival),
        };
        let (offset, basis) = self.improve(offset, basis, ticks, play, by_arrival, timeline);
        self.jumped |= before.is_none_or(|(before, _)| before != offset);
        self.relation = Some((offset, basis));
        let pts = offset.saturating_add(ticks);
        if pts <= self.newest {
            return None;
        }
        self.newest = pts;
        let (capture_time_ns, from_sender_report) = timeline.capture_time(pts);
        Some(AudioStamp {
            pts,
            capture_time_ns,
            from_sender_report,
            discontinuity: std::mem::take(&mut self.jumped),
        })
    }

    /// A better relation, if there is one by now.
    fn improve(
        &mut self,
        offset: i64,
        basis: Basis,
        ticks: i64,
        play: Option<i64>,
        by_arrival: i64,
        timeline: &Timeline,
    ) -> (i64, Basis) {
        let credible = |wanted: &i64| apart(*wanted, by_arrival) <= MAX_APART;
        if basis < Basis::Reports
            && let Some(wanted) = self.by_reports(timeline).filter(credible)
        {
            return (step(offset, wanted, STEP), Basis::Reports);
        }
        if basis < Basis::Play
            && let Some(pts) = play.and_then(|play| timeline.place(play))
            && let Some(wanted) = Some(pts.saturating_sub(ticks)).filter(credible)
        {
            return (step(offset, wanted, STEP), Basis::Play);
        }
        if basis == Basis::Arrival {
            self.arrivals.push(by_arrival);
            if self.arrivals.len() == ARRIVALS {
                let middle = *self.arrivals.select_nth_unstable(ARRIVALS / 2).1;
                self.arrivals.clear();
                return (step(offset, middle, ARRIVAL_STEP), basis);
            }
        }
        (offset, basis)
    }

    /// Once the relation is known by reports, later ones correct it: clocks drift apart.
    fn compare_reports(&mut self, timeline: &Timeline) {
        let (Some((offset, Basis::Reports)), Some(wanted)) =
            (self.relation, self.by_reports(timeline))
        else {
            return;
        };
        if apart(offset, wanted) < STEP {
            self.suspected = None;
            return;
        }
        let agreed = self
            .suspected
            .replace(wanted)
            .is_some_and(|suspected| apart(suspected, wanted) <= AGREE);
        if agreed {
            self.suspected = None;
            // Put into effect by the next frame, which shows it as a discontinuity.
            self.relation = Some((offset, Basis::Play));
        }
    }

    fn by_reports(&self, timeline: &Timeline) -> Option<i64> {
        let (video, audio) = (self.video?, self.audio?);
        let between = audio.ntp_ns.checked_sub(video.ntp_ns)?;
        if between.saturating_abs() > REPORTS_APART {
            return None;
        }
        let pts = timeline
            .place(video.rtp)?
            .saturating_add(between.saturating_mul(9) / 100_000);
        Some(pts.saturating_sub(self.ticks(i128::from(audio.rtp))?))
    }

    /// Notices when the pictures' RTP times mean something else than before.
    fn watch_scale(&mut self, timeline: &Timeline) {
        let now = timeline.newest();
        if let Some((rtp, pts)) = self.picture
            && let Some(place) = timeline.place(rtp)
            && place != pts
        {
            self.forget();
        }
        if now.is_some() {
            self.picture = now;
        }
    }

    fn forget(&mut self) {
        self.relation = None;
        self.picture = None;
        self.video = None;
        self.audio = None;
        self.suspected = None;
        self.arrivals.clear();
    }

    /// RTP time in PTS ticks.
    fn ticks(&self, rtp_time: i128) -> Option<i64> {
        i64::try_from(rtp_time * i128::from(PTS_RATE) / i128::from(self.clock_rate)).ok()
    }
}

/// `wanted`, where it differs enough.
fn step(offset: i64, wanted: i64, least: i64) -> i64 {
    if apart(offset, wanted) < least {
        offset
    } else {
        wanted
    }
}

fn apart(a: i64, b: i64) -> i64 {
    a.saturating_sub(b).saturating_abs()
}

#[cfg(test)]
mod tests;
