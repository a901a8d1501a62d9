//! The supervisor with readers of its own making: what must hold when processes die.
//!
//! This test has a `main` of its own (`harness = false`), because the supervisor executes its own
//! binary again as spawner: here that is this file. The readers are real processes, forked as in
//! the daemon, with real rings; only their pictures are synthetic (`reader.rs`).
#![deny(unsafe_code)]

mod attach;
mod deaths;
mod life;
mod reader;
mod recorder;
mod recording;
mod reload;
mod shutdown;
mod viewer;
mod world;

use std::panic::catch_unwind;
use std::time::Instant;

use camring::supervisor::{self, Options, spawner};

/// Each test and its name. They run one after the other: each has processes enough of its own.
const TESTS: &[(&str, fn())] = &[
    (
        "life::a_reader_runs_and_status_tells",
        life::a_reader_runs_and_status_tells,
    ),
    ("life::a_reader_is_isolated", life::a_reader_is_isolated),
    (
        "life::pictures_that_grow_move_the_subscribers",
        life::pictures_that_grow_move_the_subscribers,
    ),
    (
        "life::numbers_go_on_in_a_ring_asked_for_earlier",
        life::numbers_go_on_in_a_ring_asked_for_earlier,
    ),
    (
        "life::a_camera_without_room_does_not_stream",
        life::a_camera_without_room_does_not_stream,
    ),
    (
        "life::a_ring_over_the_budget_is_refused_with_numbers",
        life::a_ring_over_the_budget_is_refused_with_numbers,
    ),
    (
        "life::names_are_looked_up_for_the_camera_only",
        life::names_are_looked_up_for_the_camera_only,
    ),
    (
        "life::a_second_daemon_is_told_of_the_first",
        life::a_second_daemon_is_told_of_the_first,
    ),
    ("life::systemd_is_told", life::systemd_is_told),
    (
        "attach::refusals_explain_themselves",
        attach::refusals_explain_themselves,
    ),
    (
        "attach::a_reader_that_refuses_a_subscriber_costs_it_a_moment",
        attach::a_reader_that_refuses_a_subscriber_costs_it_a_moment,
    ),
    (
        "attach::quotas_are_kept_and_given_back",
        attach::quotas_are_kept_and_given_back,
    ),
    (
        "attach::hostile_clients_are_sent_away",
        attach::hostile_clients_are_sent_away,
    ),
    (
        "attach::access_units_are_there_too",
        attach::access_units_are_there_too,
    ),
    (
        "attach::one_client_sees_many_cameras",
        attach::one_client_sees_many_cameras,
    ),
    (
        "deaths::readers_killed_again_and_again",
        deaths::readers_killed_again_and_again,
    ),
    (
        "deaths::a_reader_killed_between_two_rings",
        deaths::a_reader_killed_between_two_rings,
    ),
    (
        "deaths::a_packet_ring_beyond_repair_is_replaced",
        deaths::a_packet_ring_beyond_repair_is_replaced,
    ),
    (
        "deaths::subscribers_killed_and_stopped_holding_pins",
        deaths::subscribers_killed_and_stopped_holding_pins,
    ),
    ("deaths::the_spawner_killed", deaths::the_spawner_killed),
    (
        "deaths::a_crash_takes_a_new_template",
        deaths::a_crash_takes_a_new_template,
    ),
    (
        "deaths::an_exit_is_explained_and_retried",
        deaths::an_exit_is_explained_and_retried,
    ),
    (
        "deaths::a_forbidden_system_call_is_explained",
        deaths::a_forbidden_system_call_is_explained,
    ),
    (
        "deaths::readers_that_hang_are_replaced",
        deaths::readers_that_hang_are_replaced,
    ),
    (
        "deaths::hostile_readers_harm_only_themselves",
        deaths::hostile_readers_harm_only_themselves,
    ),
    (
        "deaths::the_supervisor_killed",
        deaths::the_supervisor_killed,
    ),
    (
        "recording::recorders_run_and_are_replaced",
        recording::recorders_run_and_are_replaced,
    ),
    (
        "recording::no_more_encoders_than_allowed",
        recording::no_more_encoders_than_allowed,
    ),
    (
        "recording::a_recording_that_is_switched_on_costs_the_reader_nothing",
        recording::a_recording_that_is_switched_on_costs_the_reader_nothing,
    ),
    (
        "reload::only_what_differs_is_touched",
        reload::only_what_differs_is_touched,
    ),
    (
        "reload::another_shape_moves_the_subscribers",
        reload::another_shape_moves_the_subscribers,
    ),
    (
        "reload::disabled_and_enabled_again",
        reload::disabled_and_enabled_again,
    ),
    (
        "reload::what_is_wrong_changes_nothing",
        reload::what_is_wrong_changes_nothing,
    ),
    (
        "reload::many_changes_at_once_end_in_the_last",
        reload::many_changes_at_once_end_in_the_last,
    ),
    (
        "shutdown::sigterm_leaves_nothing",
        shutdown::sigterm_leaves_nothing,
    ),
    (
        "shutdown::deaf_readers_are_killed",
        shutdown::deaf_readers_are_killed,
    ),
    (
        "shutdown::a_second_signal_is_at_once",
        shutdown::a_second_signal_is_at_once,
    ),
    (
        "shutdown::a_spawner_that_hangs_is_not_waited_for",
        shutdown::a_spawner_that_hangs_is_not_waited_for,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().map(String::as_str);
    let code = match first {
        Some(spawner::ARGUMENT) => spawner::main(spawner::Roles {
            warm_up: || {},
            reader: reader::main,
            hls: recorder::main,
        }),
        Some(camring::serve::ARGUMENT) => camring::serve::main(),
        Some("__daemon") => daemon(&arguments[1..]),
        Some("__viewer") => viewer::main(&arguments[1..]),
        _ => run_tests(&arguments),
    };
    std::process::exit(code);
}

/// `__daemon PARENT CONFIG`: the supervisor, which ends with the test that started it.
fn daemon(arguments: &[String]) -> i32 {
    let parent = arguments[0]
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    camring::sys::process::die_with_parent(parent.expect("a pid")).expect("the test to be there");
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let (path, site) = camring::config::load(Some(arguments[1].as_ref())).unwrap_or_else(|error| {
        panic!("{error}");
    });
    match supervisor::run(
        site,
        &Options {
            group: None,
            log: None,
            config: Some(path),
        },
    ) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}

/// As much of the usual harness as `cargo test` needs: filters, `--exact`, `--list`.
fn run_tests(arguments: &[String]) -> i32 {
    let exact = arguments.iter().any(|a| a == "--exact");
    let list = arguments.iter().any(|a| a == "--list");
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| {
                if exact {
                    name == **f
                } else {
                    name.contains(f.as_str())
                }
            })
    };
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        if list {
            println!("{name}: test");
            continue;
        }
        let start = Instant::now();
        if catch_unwind(test).is_ok() {
            println!(
                "test {name} ... ok ({:.1} s)",
                start.elapsed().as_secs_f64()
            );
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed.push(name);
        }
    }
    if !list {
        println!("\n{passed} passed; {} failed", failed.len());
    }
    for name in &failed {
        println!("    {name}");
    }
    i32::from(!failed.is_empty())
}
