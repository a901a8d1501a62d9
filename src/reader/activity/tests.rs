use super::*;
use proptest::prelude::*;

const FRAME_NS: u64 = 100_000_000;
const KEY: usize = 30_000;

/// Ten pictures a second, a key frame every `gop`, noise of a small generator.
struct Stream {
    detector: Detector,
    gop: u32,
    n: u32,
    random: u32,
}

impl Stream {
    fn new(smallest: f32, gop: u32) -> Self {
        Stream {
            detector: Detector::new(smallest),
            gop,
            n: 0,
            random: 1,
        }
    }

    /// From -1 to 1, three values added.
    fn noise(&mut self) -> f64 {
        let mut sum = 0.0;
        for _ in 0..3 {
            self.random = self
                .random
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            sum += f64::from(self.random >> 8) / f64::from(1 << 23) - 1.0;
        }
        sum / 3.0
    }

    fn send(&mut self, bytes: usize) -> Activity {
        let key = self.n.is_multiple_of(self.gop);
        let at = u64::from(self.n) * FRAME_NS;
        self.n += 1;
        let bytes = if key { KEY } else { bytes };
        self.detector.picture(bytes, key, at)
    }

    /// So many pictures of about `bytes`; how many of them were quiet.
    fn run(&mut self, pictures: u32, bytes: f64, noise: f64) -> u32 {
        (0..pictures)
            .filter(|_| {
                let size = bytes + self.noise() * noise;
                self.send(size.max(0.0) as usize) == Activity::Quiet
            })
            .count() as u32
    }
}

#[test]
fn a_still_scene_is_quiet_once_it_is_known_and_stays_so() {
    for gop in [5, 20, 100, 250] {
        let mut stream = Stream::new(0.5, gop);
        let known = (4 * gop).max(100) + 50 + gop;
        assert_eq!(stream.run(100, 200.0, 40.0), 0, "gop {gop}: not known yet");
        stream.run(known, 200.0, 40.0);
        assert_eq!(
            stream.run(36_000, 200.0, 40.0),
            36_000,
            "gop {gop}: an hour"
        );
    }
}

#[test]
fn an_object_is_seen_in_a_few_pictures_and_forgotten_at_a_key_frame_after_a_while() {
    let mut stream = Stream::new(0.5, 20);
    stream.run(405, 200.0, 40.0);
    assert_eq!(stream.detector.activity(), Activity::Quiet);
    // Half a percent of a key frame more.
    assert!(stream.run(15, 350.0, 40.0) <= 6);
    assert_eq!(stream.run(40, 350.0, 40.0), 0);
    assert_eq!(stream.detector.activity(), Activity::Moving);
    // 46 s; 5 s after it has stopped, at the next key frame.
    assert_eq!(stream.run(50, 200.0, 40.0), 0);
    let left = stream.run(40, 200.0, 40.0);
    assert!((1..=39).contains(&left), "{left}");
    assert_eq!((stream.n - left) % 20, 0, "{left}");
}

#[test]
fn one_large_picture_now_and_then_is_not_motion() {
    let mut stream = Stream::new(1.0, 20);
    stream.run(405, 200.0, 40.0);
    for second in 0..600 {
        stream.send(if second % 7 == 0 { 9000 } else { 200 });
        assert_eq!(stream.run(9, 200.0, 40.0), 9, "second {second}");
    }
}

#[test]
fn sizes_that_alternate_are_the_stream_s_own() {
    let mut stream = Stream::new(0.5, 50);
    let mut quiet = 0;
    for n in 0..3000u32 {
        let layer = [1200, 150, 500, 150][((stream.n % 50 + 3) % 4) as usize];
        let activity = stream.send(layer);
        quiet += u32::from(n >= 1000 && activity == Activity::Quiet);
    }
    assert_eq!(quiet, 2000);
}

#[test]
fn where_noise_hides_what_moves_nothing_is_quiet() {
    let mut stream = Stream::new(0.5, 20);
    assert_eq!(stream.run(3000, 6000.0, 2000.0), 0);
    assert_eq!(stream.detector.activity(), Activity::Blind);
    // The same noise may hide less.
    let mut stream = Stream::new(10.0, 20);
    assert!(stream.run(3000, 6000.0, 1500.0) > 2500);
}

#[test]
fn another_light_is_learnt_in_half_a_minute_and_back() {
    let mut stream = Stream::new(0.5, 20);
    stream.run(600, 200.0, 40.0);
    for bytes in [900.0, 200.0, 3000.0, 0.0] {
        stream.run(20, bytes, 40.0);
        assert_eq!(stream.detector.activity(), Activity::Moving, "{bytes}");
        stream.run(450, bytes, 40.0);
        assert_eq!(stream.run(300, bytes, 40.0), 300, "{bytes}");
    }
}

#[test]
fn what_moves_unsteadily_is_never_learnt() {
    let mut stream = Stream::new(0.5, 20);
    stream.run(600, 200.0, 40.0);
    stream.run(20, 3000.0, 500.0);
    // A street: every few seconds another amount of it.
    for block in 0..200 {
        let amount = [2500.0, 900.0, 4000.0, 1500.0, 6000.0][block % 5];
        assert_eq!(stream.run(30, amount, 300.0), 0, "block {block}");
    }
}

#[test]
fn without_predicted_pictures_or_without_key_frames_nothing_is_called_quiet() {
    let mut detector = Detector::new(0.5);
    for n in 0..10_000 {
        assert_eq!(
            detector.picture(KEY, true, n * FRAME_NS),
            Activity::Learning
        );
    }
    let mut detector = Detector::new(0.5);
    for n in 0..10_000 {
        assert_eq!(
            detector.picture(200, n == 0, n * FRAME_NS),
            Activity::Learning
        );
    }
}

#[test]
fn places_are_few_and_each_is_one_level() {
    let mut last = 0;
    for n in 0..2_000_000 {
        let place = place(n);
        assert!(place < PLACES, "{n}");
        // Forward, but for the phases.
        assert!(place + PHASES as usize >= last, "{n}");
        last = place;
    }
    assert!(place(u32::MAX) < PLACES);
}

proptest! {
    /// Whatever comes: no panic, no figure that is not one, quiet begins at key frames only, and
    /// a still scene after it is quiet in the end.
    #[test]
    fn any_sizes_and_times(
        smallest in 0.1f32..20.0,
        pictures in prop::collection::vec(
            (prop_oneof![0usize..2000, Just(0), Just(usize::MAX), any::<usize>()],
             prop::bool::weighted(0.1), 0u64..2_000_000_000),
            0..400),
    ) {
        let mut detector = Detector::new(smallest);
        let mut now = 0u64;
        let mut before = detector.activity();
        for (bytes, key, step) in pictures {
            now = now.wrapping_add(step);
            let activity = detector.picture(bytes, key, now);
            prop_assert!(activity != Activity::Quiet || before == Activity::Quiet || key);
            before = activity;
            for model in [&detector.known, &detector.candidate].into_iter().flatten() {
                prop_assert!(model.spread.is_finite() && model.level.iter().all(|l| l.is_finite()));
                prop_assert!(model.up.is_finite() && model.down.is_finite());
            }
        }
        for n in 0..6000u32 {
            now += FRAME_NS;
            let key = n.is_multiple_of(20);
            detector.picture(if key { KEY } else { 200 }, key, now);
        }
        prop_assert_eq!(detector.activity(), Activity::Quiet);
    }
}
