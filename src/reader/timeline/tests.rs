use super::*;
use proptest::prelude::*;

const T0: i64 = 1_800_000_000 * NS;
/// One frame at 25 fps.
const FRAME: i64 = 3_600;
const FRAME_NS: u64 = 40_000_000;

fn at(ns: u64) -> Arrival {
    Arrival {
        monotonic_ns: 1_000 * NS as u64 + ns,
        utc_ns: T0 + i64::try_from(ns).unwrap(),
    }
}

/// A camera at 25 fps, key frame every second, whose units arrive on time unless told otherwise.
struct Camera {
    timeline: Timeline,
    rtp: i64,
    ns: u64,
    n: u64,
}

impl Camera {
    fn new(rtp: i64) -> Self {
        Camera {
            timeline: Timeline::new(PTS_RATE),
            rtp,
            ns: 0,
            n: 0,
        }
    }

    fn next(&mut self) -> Stamp {
        let key = self.n.is_multiple_of(25);
        let stamp = self.timeline.stamp(self.rtp, at(self.ns), key);
        self.n += 1;
        self.rtp += FRAME;
        self.ns += FRAME_NS;
        stamp
    }

    fn run(&mut self, units: usize) -> Vec<Stamp> {
        (0..units).map(|_| self.next()).collect()
    }

    /// A report that puts the *next* unit `offset_ns` after its arrival.
    fn report(&mut self, offset_ns: i64) {
        let now = at(self.ns);
        self.timeline
            .sender_report(now.utc_ns + offset_ns, self.rtp, now);
    }
}

fn discontinuities(stamps: &[Stamp]) -> usize {
    stamps.iter().filter(|s| s.discontinuity).count()
}

#[test]
fn a_steady_camera_is_taken_at_its_word_across_the_wrap() {
    let mut unwrapper = Unwrapper::default();
    let mut timeline = Timeline::new(PTS_RATE);
    let start = u32::MAX - 100 * FRAME as u32;
    for i in 0..1000u32 {
        let rtp = unwrapper.unwrap(start.wrapping_add(i * FRAME as u32));
        let s = timeline.stamp(rtp, at(u64::from(i) * FRAME_NS), i % 25 == 0);
        assert_eq!(s.pts, i64::from(i) * FRAME);
        assert_eq!(s.discontinuity, i == 0, "unit {i}");
        assert_eq!(s.capture_time_ns, T0 + i64::from(i) * FRAME_NS as i64);
        assert!(!s.from_sender_report);
    }
}

#[test]
fn the_unwrapper_goes_both_ways() {
    let mut u = Unwrapper::default();
    assert_eq!(u.unwrap(5), 5);
    assert_eq!(u.unwrap(u32::MAX), -1);
    assert_eq!(u.unwrap(5), 5);
    assert_eq!(u.unwrap(0x8000_0004), 0x8000_0004);
}

#[test]
fn an_outlier_is_restamped_without_a_discontinuity() {
    for out in [3600 * 90_000, -3600 * 90_000, i64::MAX / 2] {
        let mut c = Camera::new(0);
        c.run(50);
        let true_rtp = c.rtp;
        c.rtp = out;
        let mut stamps = vec![c.next()];
        c.rtp = true_rtp + FRAME;
        stamps.extend(c.run(50));
        assert_eq!(discontinuities(&stamps), 0);
        assert_eq!(stamps[0].pts, 50 * FRAME);
        assert_eq!(stamps[1].pts, 51 * FRAME);
    }
}

#[test]
fn a_jump_is_joined_on_with_one_discontinuity() {
    for jump in [3600 * 90_000i64, -3600 * 90_000, -5 * 90_000, 10 * 90_000] {
        let mut c = Camera::new(1 << 40);
        c.run(50);
        c.rtp += jump;
        let stamps = c.run(200);
        assert_eq!(discontinuities(&stamps), 1, "jump by {jump}");
        assert_eq!(stamps[199].pts, 249 * FRAME, "jump by {jump}");
        assert_eq!(stamps[199].capture_time_ns, T0 + 249 * FRAME_NS as i64);
    }
}

#[test]
fn a_small_step_back_becomes_a_jump_when_it_lasts() {
    let mut c = Camera::new(0);
    c.run(50);
    c.rtp -= 45_000;
    let stamps = c.run(200);
    assert_eq!(discontinuities(&stamps), 1);
    // Five units, a tick each, then as sent.
    assert_eq!(stamps[199].pts - stamps[10].pts, 189 * FRAME);
}

#[test]
fn b_pictures_cause_no_discontinuity() {
    let mut timeline = Timeline::new(PTS_RATE);
    let mut order = vec![0i64];
    for gop in 0..50 {
        order.extend([3, 1, 2].map(|p| gop * 3 + p));
    }
    let stamps: Vec<_> = order
        .iter()
        .enumerate()
        .map(|(i, p)| timeline.stamp(p * FRAME, at(i as u64 * FRAME_NS), i == 0))
        .collect();
    assert_eq!(discontinuities(&stamps), 1);
}

#[test]
fn equal_stamps_give_way_to_the_arrival_clock_and_back() {
    let mut c = Camera::new(0);
    c.run(50);
    let mut stuck = Vec::new();
    for _ in 0..500 {
        let rtp = c.rtp;
        stuck.push(c.next());
        c.rtp = rtp;
    }
    assert_eq!(discontinuities(&stuck), 1);
    let advanced = stuck[499].pts - stuck[99].pts;
    assert_eq!(advanced, 400 * FRAME, "arrival clock");
    let back = c.run(200);
    assert_eq!(discontinuities(&back), 1);
    assert_eq!(back[199].pts - back[99].pts, 100 * FRAME);
}

#[test]
fn a_burst_after_a_hiccup_keeps_its_stamps() {
    let mut c = Camera::new(0);
    c.run(50);
    // Ten seconds of video arrive at once, ten seconds late.
    c.ns += 10 * NS as u64;
    let mut last = 49 * FRAME;
    for _ in 0..250 {
        let s = c.next();
        c.ns -= FRAME_NS;
        assert_eq!(s.pts, last + FRAME);
        assert!(!s.discontinuity);
        last = s.pts;
    }
}

#[test]
fn a_report_takes_effect_at_the_next_key_frame() {
    let mut c = Camera::new(77);
    c.run(30);
    c.report(-80_000_000);
    let stamps = c.run(30);
    let at_key = stamps.iter().position(|s| s.discontinuity).unwrap();
    assert_eq!(at_key, 20, "unit 50 is the key frame");
    assert_eq!(discontinuities(&stamps), 1);
    assert!(stamps[..20].iter().all(|s| !s.from_sender_report));
    for (i, s) in stamps.iter().enumerate().skip(20) {
        assert!(s.from_sender_report);
        assert_eq!(
            s.capture_time_ns,
            T0 + (30 + i as i64) * FRAME_NS as i64 - 80_000_000
        );
    }
}

#[test]
fn a_report_before_the_first_unit_counts_for_it() {
    let mut c = Camera::new(0);
    c.report(-50_000_000);
    let s = c.next();
    assert!(s.from_sender_report && s.discontinuity);
    assert_eq!(s.capture_time_ns, T0 - 50_000_000);
}

#[test]
fn small_corrections_are_not_applied_and_large_ones_need_two_reports() {
    let mut c = Camera::new(0);
    c.report(0);
    assert!(c.next().from_sender_report);
    let mut stamps = Vec::new();
    for jitter in [20, -40, 60, -90, 30].map(|ms| ms * 1_000_000) {
        c.report(jitter);
        stamps.extend(c.run(50));
    }
    assert_eq!(discontinuities(&stamps), 0);
    // One wild report is ignored.
    c.report(3 * NS);
    assert_eq!(discontinuities(&c.run(50)), 0);
    c.report(0);
    assert_eq!(discontinuities(&c.run(50)), 0);
    // A clock that was set is followed.
    c.report(2 * NS);
    c.run(10);
    c.report(2 * NS + 10_000_000);
    let stamps = c.run(50);
    assert_eq!(discontinuities(&stamps), 1);
    let s = stamps[49];
    assert_eq!(
        s.capture_time_ns - at(c.ns - FRAME_NS).utc_ns,
        2_010_000_000
    );
}

#[test]
fn absurd_clocks_are_not_believed() {
    // No clock, local time in UTC, era overflow.
    for ntp in [0, T0 + 3600 * NS, T0 - 7200 * NS, i64::MAX, i64::MIN] {
        let mut c = Camera::new(0);
        c.run(10);
        for _ in 0..10 {
            c.timeline.sender_report(ntp, c.rtp, at(c.ns));
            let stamps = c.run(50);
            assert_eq!(discontinuities(&stamps), 0);
            assert!(stamps.iter().all(|s| !s.from_sender_report));
        }
    }
    // A right clock with a wild RTP time.
    let mut c = Camera::new(0);
    c.run(10);
    for rtp in [i64::MAX, i64::MIN, 1 << 32] {
        c.timeline.sender_report(at(c.ns).utc_ns, rtp, at(c.ns));
    }
    assert!(c.run(50).iter().all(|s| !s.from_sender_report));
}

#[test]
fn a_clock_gone_mad_is_forgotten() {
    let mut c = Camera::new(0);
    c.report(0);
    assert!(c.next().from_sender_report);
    for _ in 0..3 {
        c.report(-86_400 * NS);
        c.run(25);
    }
    let stamps = c.run(50);
    assert!(!stamps[49].from_sender_report);
    assert_eq!(stamps[49].capture_time_ns, at(c.ns - FRAME_NS).utc_ns);
}

#[test]
fn without_reports_drift_is_followed_in_steps() {
    // The camera's crystal is 1000 ppm slow: 0.6 s in ten minutes.
    let mut timeline = Timeline::new(PTS_RATE);
    let mut worst = 0;
    let mut cuts = 0;
    for i in 0..15_000u64 {
        let arrival = at(i * (FRAME_NS + FRAME_NS / 1000));
        let s = timeline.stamp(i as i64 * FRAME, arrival, i % 25 == 0);
        worst = worst.max((arrival.utc_ns - s.capture_time_ns).abs());
        cuts += usize::from(s.discontinuity);
    }
    assert!(worst < ARRIVAL_STEP + NS / 10, "{worst} ns off");
    assert!((2..=5).contains(&cuts), "{cuts} discontinuities");
}

#[test]
fn a_late_first_unit_does_not_delay_all_others() {
    let mut timeline = Timeline::new(PTS_RATE);
    let mut last = None;
    for i in 0..500u64 {
        let late = if i == 0 { 300_000_000 } else { 0 };
        let s = timeline.stamp(i as i64 * FRAME, at(i * FRAME_NS + late), i % 25 == 0);
        last = Some((s, at(i * FRAME_NS)));
    }
    let (s, arrival) = last.unwrap();
    assert_eq!(s.capture_time_ns, arrival.utc_ns);
}

#[test]
fn pts_goes_on_after_a_restart() {
    let mut c = Camera::new(0);
    let before = c.run(50)[49];
    c.timeline.restart(PTS_RATE);
    c.rtp = -5_000_000;
    c.ns += 3 * NS as u64;
    let after = c.next();
    assert!(after.discontinuity);
    assert_eq!(after.pts - before.pts, FRAME + 3 * 90_000);
}

#[test]
fn other_clock_rates_are_scaled_without_drift() {
    let mut timeline = Timeline::new(44_100);
    let mut last = 0;
    for i in 0..100_000i64 {
        let s = timeline.stamp(i * 1764, at(i as u64 * FRAME_NS), i % 25 == 0);
        last = s.pts;
        assert_eq!(s.discontinuity, i == 0);
    }
    assert_eq!(last, 99_999 * FRAME);
}

#[derive(Clone, Debug)]
enum Op {
    Steady(u8),
    Jump(i64),
    Outlier(i64),
    Equal(u8),
    Random(i64),
    Pause(u64),
    Late(u32),
    ClockStep(i64),
    Report(i64),
    Absurd(i64, i64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u8..60).prop_map(Op::Steady),
        1 => prop_oneof![Just(3600 * 90_000i64), Just(-3600 * 90_000), -200_000i64..200_000, any::<i64>()].prop_map(Op::Jump),
        1 => any::<i64>().prop_map(Op::Outlier),
        1 => (1u8..60).prop_map(Op::Equal),
        1 => any::<i64>().prop_map(Op::Random),
        1 => prop_oneof![0u64..100 * NS as u64, any::<u64>()].prop_map(Op::Pause),
        1 => any::<u32>().prop_map(Op::Late),
        1 => prop_oneof![-100 * NS..100 * NS, any::<i64>()].prop_map(Op::ClockStep),
        3 => (-12 * NS..12 * NS).prop_map(Op::Report),
        1 => (any::<i64>(), any::<i64>()).prop_map(|(a, b)| Op::Absurd(a, b)),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any order of decoding within its announced depth comes out as sent.
    #[test]
    fn reordered_pictures_keep_their_times(groups in proptest::collection::vec(0usize..4, 1..40)) {
        let mut order = vec![0i64];
        for b in groups {
            let start = order.iter().max().copied().unwrap_or(0);
            let anchor = start + i64::try_from(b).unwrap() + 1;
            order.push(anchor);
            order.extend(start + 1..anchor);
        }
        let mut timeline = Timeline::new(PTS_RATE);
        timeline.set_reorder(1);
        let stamps = feed(&mut timeline, &order, 0);
        dts_holds(&stamps);
        prop_assert_eq!(discontinuities(&stamps), 1);
        for (s, shown) in stamps.iter().zip(&order) {
            prop_assert_eq!(s.pts, shown * FRAME);
        }
    }

    /// The module's promises, over anything.
    #[test]
    fn promises_hold(
        start in any::<i64>(),
        reorder in prop_oneof![3 => Just(0u32), 1 => 1u32..20],
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let mut timeline = Timeline::new(PTS_RATE);
        timeline.set_reorder(reorder);
        let (mut rtp, mut mono, mut utc, mut n) = (start, 0u64, T0, 0u64);
        let mut last: Option<Stamp> = None;
        let mut line: Option<Stamp> = None;
        let mut step = |timeline: &mut Timeline, rtp: i64, mono: u64, utc: i64| {
            n += 1;
            let s = timeline.stamp(rtp, Arrival { monotonic_ns: mono, utc_ns: utc }, n.is_multiple_of(10));
            if let Some(l) = last {
                assert!(s.dts > l.dts, "{l:?} then {s:?}");
            }
            assert!(s.dts <= s.pts, "{s:?}");
            if reorder == 0 {
                assert_eq!(s.dts, s.pts);
            }
            if s.discontinuity {
                line = Some(s);
            }
            let line = line.expect("the first is a discontinuity");
            assert_eq!(s.from_sender_report, line.from_sender_report);
            let expected = i128::from(line.capture_time_ns)
                + i128::from(s.pts - line.pts) * 100_000 / 9;
            // Rounding, and the ends of the scale.
            let off = i128::from(s.capture_time_ns) - expected;
            let saturated = [i64::MIN, i64::MAX].contains(&s.capture_time_ns)
                || [i64::MIN, i64::MAX].contains(&line.capture_time_ns);
            assert!(saturated || off.abs() <= 1, "{off} ns off the line: {s:?}");
            last = Some(s);
        };
        for op in ops {
            let advance = |rtp: &mut i64, mono: &mut u64, utc: &mut i64| {
                *rtp = rtp.wrapping_add(FRAME);
                *mono = mono.saturating_add(FRAME_NS);
                *utc = utc.saturating_add(FRAME_NS as i64);
            };
            match op {
                Op::Steady(k) => for _ in 0..k {
                    advance(&mut rtp, &mut mono, &mut utc);
                    step(&mut timeline, rtp, mono, utc);
                },
                Op::Jump(by) => {
                    rtp = rtp.wrapping_add(by);
                    step(&mut timeline, rtp, mono, utc);
                }
                Op::Outlier(x) => step(&mut timeline, x, mono, utc),
                Op::Equal(k) => for _ in 0..k {
                    let same = rtp;
                    advance(&mut rtp, &mut mono, &mut utc);
                    rtp = same;
                    step(&mut timeline, rtp, mono, utc);
                },
                Op::Random(x) => {
                    rtp = x;
                    step(&mut timeline, rtp, mono, utc);
                }
                Op::Pause(ns) => mono = mono.saturating_add(ns),
                Op::Late(ns) => mono = mono.saturating_sub(u64::from(ns)),
                Op::ClockStep(ns) => utc = utc.saturating_add(ns),
                Op::Report(off) => timeline.sender_report(
                    utc.saturating_add(off), rtp, Arrival { monotonic_ns: mono, utc_ns: utc }),
                Op::Absurd(ntp, at) => timeline.sender_report(
                    ntp, at, Arrival { monotonic_ns: mono, utc_ns: utc }),
                Op::Restart => timeline.restart(PTS_RATE),
            }
        }
    }

    /// Whatever happened before, two minutes of good behaviour give good times again: steps as
    /// sent, capture within the arrival tolerance.
    #[test]
    fn recovers(ops in proptest::collection::vec(any::<i64>(), 0..60)) {
        let mut c = Camera::new(0);
        for rtp in ops {
            c.rtp = rtp;
            c.next();
        }
        c.rtp = 0;
        c.run(3000);
        let stamps = c.run(25);
        for (i, s) in stamps.iter().enumerate() {
            prop_assert_eq!(s.pts - stamps[0].pts, i as i64 * FRAME);
            prop_assert!(!s.discontinuity);
            let delay = at(c.ns - (25 - i as u64) * FRAME_NS).utc_ns - s.capture_time_ns;
            prop_assert!((-ARRIVAL_EARLY..ARRIVAL_STEP).contains(&delay), "{} ns", delay);
        }
    }
}

/// Display numbers in decoding order: groups of `b` B pictures before their anchor, and with
/// `pyramid` the middle one of three first.
fn decoding_order(groups: usize, b: usize, pyramid: bool) -> Vec<i64> {
    let mut order = vec![0];
    for group in 0..groups {
        let start = i64::try_from(group * (b + 1)).unwrap();
        let anchor = start + i64::try_from(b).unwrap() + 1;
        order.push(anchor);
        let mut middle: Vec<i64> = (start + 1..anchor).collect();
        if pyramid && b == 3 {
            middle.swap(0, 1);
        }
        order.extend(middle);
    }
    order
}

/// Feeds units at 25 fps whose stamps follow `order`.
fn feed(timeline: &mut Timeline, order: &[i64], from: i64) -> Vec<Stamp> {
    order
        .iter()
        .enumerate()
        .map(|(n, shown)| {
            let arrival = at((u64::try_from(from).unwrap() + n as u64) * FRAME_NS);
            timeline.stamp((from + shown) * FRAME, arrival, n == 0)
        })
        .collect()
}

fn dts_holds(stamps: &[Stamp]) {
    for pair in stamps.windows(2) {
        assert!(pair[1].dts > pair[0].dts, "{pair:?}");
    }
    for s in stamps {
        assert!(s.dts <= s.pts, "{s:?}");
    }
}

#[test]
fn b_pictures_keep_their_times_where_the_stream_says_that_it_has_them() {
    for (b, pyramid, depth) in [(1, false, 1), (2, false, 1), (3, true, 2), (3, false, 1)] {
        let order = decoding_order(30, b, pyramid);
        let mut timeline = Timeline::new(PTS_RATE);
        timeline.set_reorder(depth);
        let stamps = feed(&mut timeline, &order, 0);
        for (s, shown) in stamps.iter().zip(&order) {
            assert_eq!(s.pts, shown * FRAME, "{b} {pyramid}");
            let frame_ns = i64::try_from(FRAME_NS).unwrap();
            assert_eq!(s.capture_time_ns, T0 + shown * frame_ns);
        }
        assert_eq!(discontinuities(&stamps), 1);
        dts_holds(&stamps);
        // As early as the depth allows: no muxer needs a longer lead.
        let lead = stamps.iter().map(|s| s.pts - s.dts).max().unwrap();
        let most = i64::try_from(b).unwrap() + i64::from(depth);
        assert!(lead <= most * FRAME, "{b}: {lead}");
    }
}

#[test]
fn deeper_reordering_than_announced_is_learnt() {
    let order = decoding_order(40, 3, true);
    let mut timeline = Timeline::new(PTS_RATE);
    timeline.set_reorder(1);
    let stamps = feed(&mut timeline, &order, 0);
    dts_holds(&stamps);
    assert_eq!(discontinuities(&stamps), 1);
    for (s, shown) in stamps.iter().zip(&order).skip(8) {
        assert_eq!(s.pts, shown * FRAME);
    }
}

#[test]
fn a_clock_set_back_is_a_jump_even_where_there_are_b_pictures() {
    let order = decoding_order(20, 2, false);
    let mut timeline = Timeline::new(PTS_RATE);
    timeline.set_reorder(1);
    let mut stamps = feed(&mut timeline, &order, 100);
    let next = at(100 * FRAME_NS + order.len() as u64 * FRAME_NS);
    for n in 0..60u64 {
        let arrival = Arrival {
            monotonic_ns: next.monotonic_ns + n * FRAME_NS,
            utc_ns: next.utc_ns + i64::try_from(n * FRAME_NS).unwrap(),
        };
        let stamp = (141 + i64::try_from(n).unwrap()) * FRAME;
        stamps.push(timeline.stamp(stamp, arrival, false));
    }
    dts_holds(&stamps);
    assert_eq!(discontinuities(&stamps), 2);
    let last = stamps[stamps.len() - 1];
    assert_eq!(last.pts - stamps[stamps.len() - 11].pts, 10 * FRAME);
}

#[test]
fn a_new_process_goes_on_where_the_former_one_left_off() {
    let before = LeftOff {
        pts: 5_000_000,
        monotonic_ns: at(0).monotonic_ns,
    };
    let mut timeline = Timeline::resume(PTS_RATE, before);
    timeline.restart(PTS_RATE);
    let s = timeline.stamp(77, at(2 * NS as u64), true);
    assert_eq!(s.pts, 5_000_000 + 2 * i64::from(PTS_RATE));
    assert!(s.discontinuity);
    for impossible in [-1, i64::MAX, i64::MIN] {
        let before = LeftOff {
            pts: impossible,
            ..before
        };
        assert_eq!(
            Timeline::resume(PTS_RATE, before).stamp(0, at(0), true).pts,
            0
        );
    }
}
