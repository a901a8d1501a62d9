use super::*;

const SECOND: u64 = 1_000_000_000;
const RATE: u32 = 16_000;

/// Pictures at 25 per second and sound of 16 kHz, whose RTP times begin anywhere; sound arrives so many
/// ticks of 90 kHz after the pictures of its moment.
struct World {
    timeline: Timeline,
    clock: AudioClock,
    /// RTP time of the moment 0.
    video_rtp: i64,
    audio_rtp: i64,
    late_ns: u64,
    /// Moments, ns.
    video_at: u64,
    frame: i64,
    begun_ns: u64,
}

impl World {
    fn new(late_ns: u64) -> Self {
        Self {
            timeline: Timeline::new(PTS_RATE),
            clock: AudioClock::new(RATE, i64::MIN),
            video_rtp: 1_000_000,
            audio_rtp: 777,
            late_ns,
            video_at: 0,
            frame: 0,
            begun_ns: 5 * SECOND,
        }
    }

    fn arrival(&self, at: u64) -> Arrival {
        let monotonic_ns = self.begun_ns + at;
        Arrival {
            monotonic_ns,
            utc_ns: i64::try_from(monotonic_ns).unwrap(),
        }
    }

    /// Pictures and sound up to a moment; the error of each frame's PTS, in ticks.
    fn run(&mut self, until: u64) -> Vec<(i64, bool)> {
        let mut stamps = Vec::new();
        loop {
            let audio_at = self.audio_due();
            if self.video_at.min(audio_at) >= until {
                return stamps;
            }
            if self.video_at <= audio_at {
                let rtp = self.video_rtp + ticks(self.video_at);
                let arrival = self.arrival(self.video_at);
                self.timeline.stamp(rtp, arrival, true);
                self.video_at += SECOND / 25;
            } else {
                let rtp = self.audio_rtp + self.frame * i64::from(FRAME_SAMPLES);
                let arrival = self.arrival(audio_at);
                let stamp = self.clock.stamp(rtp, None, arrival, &self.timeline);
                if let Some(stamp) = stamp {
                    stamps.push((stamp.pts - self.truth(), stamp.discontinuity));
                }
                self.frame += 1;
            }
        }
    }

    /// When the next frame arrives: complete, and late.
    fn audio_due(&self) -> u64 {
        let samples = (self.frame as u64 + 1) * u64::from(FRAME_SAMPLES);
        samples * SECOND / u64::from(RATE) + self.late_ns
    }

    /// PTS of the next frame's first sample.
    fn truth(&self) -> i64 {
        self.frame * i64::from(FRAME_SAMPLES) * 90_000 / i64::from(RATE)
    }

    fn reports(&mut self, at: u64, clock_ns: i64, error_ns: i64) {
        let ntp = clock_ns + i64::try_from(at).unwrap();
        let audio = self.audio_rtp + (at * u64::from(RATE) / SECOND) as i64;
        self.clock.video_report(ntp, self.video_rtp + ticks(at));
        self.clock
            .audio_report(ntp + error_ns, audio, &self.timeline);
    }
}

fn ticks(ns: u64) -> i64 {
    (ns * 9 / 100_000) as i64
}

#[test]
fn without_reports_sound_is_as_late_as_it_arrives() {
    let mut world = World::new(30_000_000);
    let stamps = world.run(5 * SECOND);
    assert!(stamps[0].1, "the first is a discontinuity");
    assert_eq!(stamps.iter().filter(|(_, jump)| *jump).count(), 1);
    for (error, _) in stamps {
        assert!((0..=2700 + 10).contains(&error), "{error}");
    }
    assert_eq!(world.clock.basis(), Some(Basis::Arrival));
}

#[test]
fn reports_put_sound_where_it_belongs_whatever_the_cameras_clock_says() {
    // Late by a second and a half; the camera lives in 1970.
    let mut world = World::new(3 * SECOND / 2);
    world.run(3 * SECOND);
    world.reports(2 * SECOND, 0, 0);
    let stamps = world.run(6 * SECOND);
    assert!(
        stamps.iter().all(|(error, _)| error.abs() <= 2),
        "{stamps:?}"
    );
    assert_eq!(stamps.iter().filter(|(_, jump)| *jump).count(), 1);
    assert_eq!(world.clock.basis(), Some(Basis::Reports));
    // One report that jitters changes nothing, two that agree do.
    world.reports(6 * SECOND, 0, 40_000_000);
    assert!(
        world
            .run(7 * SECOND)
            .iter()
            .all(|(error, jump)| error.abs() <= 2 && !jump)
    );
    world.reports(7 * SECOND, 0, 40_000_000);
    let stamps = world.run(8 * SECOND);
    assert!(
        stamps.iter().all(|(error, _)| (error - 3600).abs() <= 2),
        "{stamps:?}"
    );
}

#[test]
fn reports_that_cannot_be_true_are_not_believed() {
    let mut world = World::new(0);
    world.run(2 * SECOND);
    world.reports(SECOND, 0, 30 * 1_000_000_000);
    world.reports(2 * SECOND, 0, 30 * 1_000_000_000);
    let stamps = world.run(4 * SECOND);
    assert!(
        stamps.iter().all(|(error, _)| error.abs() <= 2700),
        "{stamps:?}"
    );
    assert_eq!(world.clock.basis(), Some(Basis::Arrival));
}

#[test]
fn the_answer_to_play_counts_until_there_are_reports() {
    let mut world = World::new(SECOND);
    world.run(2 * SECOND);
    let rtp = world.audio_rtp + world.frame * i64::from(FRAME_SAMPLES);
    let start = world.frame * i64::from(FRAME_SAMPLES) * 90_000 / i64::from(RATE);
    let arrival = world.arrival(world.audio_due());
    let play = world.video_rtp + start;
    let stamp = world.clock.stamp(rtp, Some(play), arrival, &world.timeline);
    // Back by the second that it was late: it lies before frames that were given out.
    assert_eq!(stamp, None);
    assert_eq!(world.clock.basis(), Some(Basis::Play));
    world.frame += 1;
    let stamps = world.run(5 * SECOND);
    assert!(!stamps.is_empty());
    assert!(
        stamps.iter().all(|(error, _)| error.abs() <= 2),
        "{stamps:?}"
    );
}

#[test]
fn a_jump_of_either_begins_anew() {
    let mut world = World::new(0);
    world.run(2 * SECOND);
    world.reports(SECOND, 0, 0);
    world.run(3 * SECOND);
    // The sound's RTP time jumps by an hour.
    world.audio_rtp += 3600 * i64::from(RATE);
    let stamps = world.run(5 * SECOND);
    assert!(
        stamps.iter().all(|(error, _)| error.abs() <= 2710),
        "{stamps:?}"
    );
    assert_eq!(stamps.iter().filter(|(_, jump)| *jump).count(), 1);
    assert_eq!(world.clock.basis(), Some(Basis::Arrival));
    // And the pictures'.
    world.reports(5 * SECOND, 0, 0);
    world.run(6 * SECOND);
    assert_eq!(world.clock.basis(), Some(Basis::Reports));
    world.video_rtp += 3600 * 90_000;
    world.run(8 * SECOND);
    assert_eq!(world.clock.basis(), Some(Basis::Arrival));
}

#[test]
fn pts_rises_whatever_comes() {
    let mut state = 1u64;
    let mut random = || {
        // Knuth's linear congruential generator, MMIX.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    };
    let mut timeline = Timeline::new(PTS_RATE);
    let mut clock = AudioClock::new(0, i64::MIN);
    let mut newest = i64::MIN;
    for _ in 0..20_000 {
        let arrival = Arrival {
            monotonic_ns: random(),
            utc_ns: random() as i64,
        };
        let rtp = random() as i64 - random() as i64;
        match random() % 4 {
            0 => {
                timeline.stamp(rtp, arrival, true);
            }
            1 => clock.video_report(random() as i64, rtp),
            2 => clock.audio_report(random() as i64, rtp, &timeline),
            _ => {
                let play = (rtp % 3 == 0).then_some(rtp);
                if let Some(stamp) = clock.stamp(rtp, play, arrival, &timeline) {
                    assert!(stamp.pts > newest);
                    newest = stamp.pts;
                }
            }
        }
    }
}
