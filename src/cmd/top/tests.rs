use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::draw::{Looks, draw, short, sparkline};
use super::explain;
use super::model::{Key, Model, PAST, Sort, View};
use crate::supervisor::status::{CameraStatus, Status};

const PLAIN: Looks = Looks {
    colour: false,
    unicode: true,
};

fn camera(name: &str, state: &str, reason: &str) -> Value {
    let none = json!({
        "no_slot": 0, "no_memory": 0, "overload": 0, "max_fps": 0, "corrupt": 0, "before_key": 0,
        "not_key": 0, "not_wanted": 0, "catch_up": 0, "quiet": 0, "decode_error": 0, "oversize": 0,
    });
    let mut camera = json!({
        "name": name, "state": state, "reason": reason, "since": "2026-11-21T09:00:00.000Z",
        "pid": 4321, "cpus": [1], "client": "retina", "client_reason": "as configured",
        "codec": "h264", "width": 1280, "height": 720, "fps_in": 15.0, "fps_decoded": 15.0,
        "fps_published": 15.0, "decode": "decoding", "activity": null, "activity_since": null,
        "access_units": 900, "frames_decoded": 900, "frames_published": 890, "frames_dropped": none,
    });
    let rest = json!({
        "rtp_packets_lost": 0, "glitches": 0, "reconnects": 0, "restarts": 0, "bytes_in": 5_000_000,
        "last_frame_age_ms": 31, "latency_p50_ms": 3.21, "latency_p99_ms": 8.04, "cpu_percent": 7.5,
        "memory_bytes": 12_582_912, "ring_bytes": 6_291_456, "subscribers": 1, "clock": "sender-report",
        "recording": null,
    });
    for (key, value) in rest.as_object().unwrap() {
        camera[key] = value.clone();
    }
    camera
}

fn status(cameras: Vec<Value>) -> Status {
    let status = json!({
        "version": "0.1.0", "pid": 1, "spawner_pid": 2, "site": "demo", "uptime_ms": 65_000, "clients": 1,
        "memory": {"rings_bytes": 52_428_800, "replaced_bytes": 0, "untouched_bytes": 0, "limit_bytes": null,
                   "available_bytes": null, "available_source": null},
        "http": {"state": "running", "reason": "", "since": "", "address": "127.0.0.1:8080", "pid": 3,
                 "restarts": 0, "cpu_percent": 2.5, "memory_bytes": null},
        "cameras": cameras,
    });
    serde_json::from_value(status).unwrap()
}

/// Two that are well, one in trouble, one that is off.
fn site() -> Status {
    let mut door = camera("front-door", "streaming", "H.264 1280x720 over TCP");
    door["recording"] = json!({
        "mode": "copy", "state": "recording", "reason": "", "since": "", "pid": 5, "segments": 30,
        "bytes": 4_000_000, "units": 890, "units_missed": 0, "gaps": 1, "write_errors": 0,
        "last_segment_age_ms": 900, "restarts": 0, "cpu_percent": 1.0, "memory_bytes": 3_145_728,
    });
    let mut yard = camera(
        "yard/sub",
        "backoff",
        "connection refused\u{1b}[2J; next try in 2.0 s",
    );
    for (key, value) in [
        ("pid", json!(null)),
        ("fps_published", json!(0.0)),
        ("fps_in", json!(0.0)),
        ("cpu_percent", json!(0.0)),
        ("last_frame_age_ms", json!(72_000)),
        ("latency_p50_ms", json!(null)),
        ("latency_p99_ms", json!(null)),
        ("rtp_packets_lost", json!(17)),
        (
            "failures",
            json!({"exit": 0, "crash": 1, "killed": 2, "unresponsive": 0, "not_started": 0}),
        ),
        ("restarts", json!(3)),
    ] {
        yard[key] = value;
    }
    yard["frames_dropped"]["no_slot"] = json!(5);
    let mut gate = camera("gate", "streaming", "");
    gate["fps_published"] = json!(6.2);
    gate["cpu_percent"] = json!(31.5);
    gate["decode"] = json!("idle");
    status(vec![
        door,
        yard,
        gate,
        camera("shed", "disabled", "enabled = false"),
    ])
}

fn model() -> Model {
    let mut model = Model::default();
    for _ in 0..3 {
        model.update(site());
    }
    model
}

/// What a terminal of this size shows.
fn picture(model: &mut Model, width: u16, height: u16, looks: Looks) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, looks)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    let rows = (0..height).map(|y| row(y).trim_end().to_owned() + "\n");
    rows.collect()
}

#[test]
fn the_table_shows_each_stream_in_one_line() {
    let expected = "\
demo: 2 of 4 streaming, up 1m05s, 0.50 cores, rings 50.0M, http://127.0.0.1:8080/
CAMERA     STATE          FPS     AGE       LATENCY    CPU  MEMORY SUBS   DROP   LOST  RST REC       SIZE      FPS, LAST MIN
front-door streaming     15.0    31ms     3.2/8.0ms   7.5%   12.0M    1      0      0    0 recording 1280x720            ███
yard/sub   backoff        0.0   1m12s             -   0.0%   12.0M    1      5     17    3 -         1280x720
gate       streaming     idle    31ms     3.2/8.0ms  31.5%   12.0M    1      0      0    0 -         1280x720            ███
shed       disabled      15.0    31ms     3.2/8.0ms   7.5%   12.0M    1      0      0    0 -         1280x720            ███


by file  ? help  s sort  / filter  Enter details  q quit
";
    assert_eq!(picture(&mut model(), 124, 9, PLAIN), expected);
}

#[test]
fn what_is_least_missed_goes_first_on_a_narrow_terminal() {
    let mut model = model();
    let expected = "\
demo: 2 of 4 streaming, up 1m05s, 0.50 c
CAMERA     STATE          FPS FPS, LAST
front-door streaming     15.0        ███
yard/sub   backoff        0.0
";
    assert!(picture(&mut model, 40, 7, PLAIN).starts_with(expected));
    // Of every size there is a picture, in every view.
    for view in [View::Table, View::Details, View::Help] {
        model.view = view;
        for (width, height) in [(1, 1), (2, 2), (7, 3), (20, 5), (80, 24), (300, 100)] {
            picture(&mut model, width, height, PLAIN);
        }
    }
}

#[test]
fn nothing_that_a_camera_says_moves_the_cursor() {
    let mut model = model();
    model.press(Key::Down);
    let table = picture(&mut model, 100, 9, PLAIN);
    let last = table.lines().last().unwrap();
    assert_eq!(last, "yard/sub: connection refused [2J; next try in 2.0 s");
    model.press(Key::Enter);
    let details = picture(&mut model, 100, 40, PLAIN);
    assert!(!details.contains('\u{1b}') && details.contains("refused [2J"));
}

#[test]
fn the_details_say_what_is_the_matter_and_what_to_do() {
    let mut model = model();
    model.press(Key::Down);
    model.press(Key::Enter);
    let details = picture(&mut model, 100, 44, PLAIN);
    for line in [
        "It could not be read, and is tried again in a moment.",
        "→ Is the camera on, and its address right? camring probe URL asks it.",
        "Its reader crashed 1 times.",
        "Its reader was killed 2 times.",
        "5 frames dropped: no slot was free.",
        "17 packets never came.",
        "dropped     no_slot 5",
        "restarts    3 (crash 1, killed 2)",
    ] {
        assert!(details.contains(line), "no {line:?} in\n{details}");
    }
    // The next stream, without going back.
    model.press(Key::Right);
    assert!(picture(&mut model, 100, 44, PLAIN).contains("┌ gate "));
    model.press(Key::Left);
    model.press(Key::Left);
    let door = picture(&mut model, 100, 44, PLAIN);
    assert!(door.contains("recording   recording (copy)"), "{door}");
    // A stream that is well needs no advice; every state has some.
    let cameras = site().cameras;
    assert_eq!(explain::of(&cameras[0]), []);
    for state in [
        "connecting",
        "stalled",
        "backoff",
        "unauthorized",
        "failed",
        "disabled",
    ] {
        let camera: CameraStatus = serde_json::from_value(camera("a", state, "")).unwrap();
        assert_eq!(explain::of(&camera).len(), 1, "{state}");
    }
    // The camera leaves while it is looked at.
    model.update(status(vec![camera("gate", "streaming", "")]));
    assert!(picture(&mut model, 80, 9, PLAIN).contains("no longer in the configuration"));
    model.press(Key::Escape);
    assert_eq!(model.selected.as_deref(), Some("gate"));
}

#[test]
fn rows_are_sorted_filtered_and_followed() {
    let mut model = model();
    let names = |model: &Model| {
        let rows = model.rows();
        rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&model), ["front-door", "yard/sub", "gate", "shed"]);
    model.press(Key::End);
    assert_eq!(model.selected.as_deref(), Some("shed"));
    for (sort, first) in [
        (Sort::State, "yard/sub"),
        (Sort::Name, "front-door"),
        (Sort::Fps, "yard/sub"),
        (Sort::Age, "yard/sub"),
        (Sort::Cpu, "gate"),
        (Sort::Dropped, "yard/sub"),
        (Sort::Lost, "yard/sub"),
        (Sort::Restarts, "yard/sub"),
    ] {
        while model.sort != sort {
            model.press(Key::Char('s'));
        }
        assert_eq!(names(&model)[0], first, "{sort:?}");
        assert_eq!(
            model.selected.as_deref(),
            Some("shed"),
            "the selection stays"
        );
    }
    model.press(Key::Char('r'));
    assert_eq!(names(&model).last().unwrap(), "yard/sub");
    model.press(Key::Char('p'));
    assert_eq!(names(&model), ["yard/sub"]);
    assert_eq!(model.selected.as_deref(), Some("yard/sub"));
    model.press(Key::Escape);
    for key in [
        Key::Char('/'),
        Key::Char('g'),
        Key::Char('a'),
        Key::Char('q'),
        Key::Backspace,
        Key::Enter,
    ] {
        model.press(key);
    }
    assert!(!model.done, "q was typed, not pressed");
    assert_eq!(names(&model), ["gate"]);
    model.press(Key::Char('/'));
    model.press(Key::Char('x'));
    assert!(picture(&mut model, 80, 9, PLAIN).contains("no camera fits; Esc shows all"));
    model.press(Key::Escape);
    assert_eq!(names(&model).len(), 4);
    model.press(Key::Char('q'));
    assert!(model.done);
}

#[test]
fn a_daemon_that_is_gone_is_said_and_what_it_said_stays() {
    let mut model = Model::default();
    assert!(picture(&mut model, 60, 5, PLAIN).starts_with("camring\n"));
    model.lost("no daemon".into(), std::time::Duration::ZERO);
    let nothing = picture(&mut model, 60, 5, PLAIN);
    assert!(
        nothing.contains("no answer: no daemon; trying again"),
        "{nothing}"
    );
    model.update(site());
    model.lost("gone".into(), std::time::Duration::from_secs(75));
    let old = picture(&mut model, 80, 9, PLAIN);
    let line = "no answer: gone; what is shown is 1m15s old; trying again";
    assert!(old.contains(line) && old.contains("front-door"), "{old}");
    model.update(site());
    assert!(!picture(&mut model, 80, 9, PLAIN).contains("no answer"));
    // Held still, it stays as it is.
    model.press(Key::Char(' '));
    model.update(status(Vec::new()));
    let held = picture(&mut model, 80, 9, PLAIN);
    assert!(
        held.contains("PAUSED") && held.contains("front-door"),
        "{held}"
    );
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let colours = |looks| {
        let mut terminal = Terminal::new(TestBackend::new(80, 9)).unwrap();
        let mut model = model();
        model.lost("gone".into(), std::time::Duration::ZERO);
        terminal
            .draw(|frame| draw(frame, &mut model, looks))
            .unwrap();
        let cells = terminal.backend().buffer().content.clone();
        let coloured = |cell: &ratatui::buffer::Cell| {
            let reset = ratatui::style::Color::Reset;
            cell.fg != reset || cell.bg != reset
        };
        cells.iter().filter(|cell| coloured(cell)).count()
    };
    assert_eq!(colours(PLAIN), 0);
    assert!(
        colours(Looks {
            colour: true,
            ..PLAIN
        }) > 20
    );
}

#[test]
fn lines_are_as_high_as_their_values_and_the_past_is_bounded() {
    assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 4, true), " ▁▄█");
    assert_eq!(sparkline(&[1.0, 2.0, 8.0, 8.0, 4.0], 3, false), "@@=");
    assert_eq!(sparkline(&[0.0], 3, true), "   ");
    let mut model = model();
    for _ in 0..PAST + 10 {
        model.update(site());
    }
    assert_eq!(model.past("gate").unwrap().fps.len(), PAST);
    model.update(status(Vec::new()));
    assert!(model.past("gate").is_none());
    for (count, text) in [
        (0, "0"),
        (99_999, "99999"),
        (123_456, "123k"),
        (u64::MAX, "18446744073G"),
    ] {
        assert_eq!(short(count), text);
    }
}

#[test]
fn help_names_every_key_that_does_something() {
    let mut model = model();
    model.press(Key::Char('?'));
    let help = picture(&mut model, 80, 30, PLAIN);
    for key in [
        "s S", "/ ", "p ", "f ", "r ", "Space", "Esc", "Enter d", "q Ctrl-C",
    ] {
        assert!(help.contains(&format!("│{key}")), "{key}\n{help}");
    }
    model.press(Key::Escape);
    assert_eq!(model.view, View::Table);
}
