//! The fault matrix: what happens to a site, each fault against the real daemon, which records and
//! serves, beside cameras that must not notice.
//!
//! For each fault it is asserted what the user sees (status, log, answers over HTTP), that everything
//! recovers by itself, and that the cameras beside lose nothing: not a picture of their subscribers, by
//! the numbers burned into them, not one of their recordings, not a process. Where a fault is one of
//! something that all share (a disk, the daemon itself), its row in `docs/reference/fault-matrix.md`
//! says what is lost to it, and no more is lost here. A test holds that table equal to these faults.
//!
//! Scenarios run beside each other, each with a daemon of its own. `CAMRING_FAULTS` is how long the
//! random ones last (`20s`, `10m`); `CAMRING_TORTURE` makes them a minute, and storms larger.
#![deny(unsafe_code)]

#[path = "../hostile/camera.rs"]
#[allow(dead_code)]
mod camera;
mod cameras;
mod clients;
#[path = "../hostile/clip.rs"]
#[allow(dead_code)]
mod clip;
mod disk;
mod http;
mod limits;
#[path = "../hostile/player.rs"]
#[allow(dead_code)]
mod player;
mod processes;
mod shim;
mod site;
mod start;
#[path = "../support/mod.rs"]
mod support;
#[path = "../recording/tape.rs"]
#[allow(dead_code)]
mod tape;
mod watcher;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A fault, as a row of the table.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// What is asserted to be shown, and is in its row.
    pub shows: &'static [&'static str],
}

/// Faults that share a daemon.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub faults: &'static [Fault],
    pub run: fn(&mut Run),
}

/// A scenario while it runs.
#[derive(Debug)]
pub struct Run {
    scenario: &'static Scenario,
    passed: Vec<&'static str>,
    not_here: Vec<&'static str>,
    failed: bool,
}

thread_local! {
    /// What this thread is about, for whoever reads of its panic.
    static ABOUT: Cell<&'static str> = const { Cell::new("") };
}

impl Run {
    /// Runs one of the scenario's faults; `fault` is given what must be shown.
    pub fn fault(&mut self, name: &str, fault: impl FnOnce(&'static [&'static str])) {
        let of = self.scenario.faults.iter().find(|one| one.name == name);
        let of = of.unwrap_or_else(|| panic!("{name} is no fault of {}", self.scenario.name));
        let start = Instant::now();
        let before = ABOUT.replace(of.name);
        fault(of.shows);
        ABOUT.set(before);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "test {}::{name} ... ok ({seconds:.1} s)",
            self.scenario.name
        );
        self.passed.push(of.name);
    }

    /// A fault that cannot be brought about on this machine: it has not passed.
    pub fn not_here(&mut self, name: &'static str, why: &str) {
        println!(
            "test {}::{name} ... ignored, not here: {why}",
            self.scenario.name
        );
        self.not_here.push(name);
    }

    /// The same, where something about this machine decides.
    pub fn fault_where(
        &mut self,
        possible: Result<(), String>,
        name: &'static str,
        fault: impl FnOnce(&'static [&'static str]),
    ) {
        match possible {
            Ok(()) => self.fault(name, fault),
            Err(why) => self.not_here(name, &why),
        }
    }
}

/// What was said by panics of scenarios, to be said again at the end, where it is found.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// As much of a panic as is read. The log of the daemon follows where it happened.
fn note(panic: &PanicHookInfo<'_>) {
    const LINES: usize = 12;
    const COLUMNS: usize = 400;
    let text = panic.payload_as_str().unwrap_or("(no message)");
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let mut said = format!(
        "{} {} at {}:\n",
        thread.name().unwrap_or("a thread of a test"),
        ABOUT.get(),
        at.unwrap_or_default()
    );
    for line in text.lines().take(LINES) {
        said.extend("    ".chars().chain(line.chars().take(COLUMNS)));
        said.push('\n');
    }
    if let Ok(mut all) = SAID.lock() {
        all.push(said);
    }
}

/// The longest first: they run beside each other.
const SCENARIOS: &[Scenario] = &[
    disk::DISK,
    cameras::CAMERAS,
    processes::STOPS,
    processes::KILLS,
    site::SITE,
    limits::LIMITS,
    clients::CLIENTS,
    http::HTTP,
    start::START,
];

/// At a time.
const BESIDE: usize = 3;

pub fn torture() -> bool {
    std::env::var_os("CAMRING_TORTURE").is_some()
}

/// How long faults at random go on.
pub fn random_for() -> Duration {
    let usual = if torture() { 60 } else { 8 };
    let Ok(text) = std::env::var("CAMRING_FAULTS") else {
        return Duration::from_secs(usual);
    };
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("CAMRING_FAULTS is a duration: 20s, 10m, 8h"),
    };
    Duration::from_secs(number.parse::<u64>().expect("CAMRING_FAULTS is a duration") * scale)
}

/// Rows are `| fault | what is seen | what is lost |`, the fault in backquotes.
fn the_table_is_that_of_these_faults() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/reference/fault-matrix.md"
    );
    let text = std::fs::read_to_string(path).expect("docs/reference/fault-matrix.md");
    let rows: Vec<(&str, Vec<&str>)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.trim_end_matches('|').split(" | ").collect()))
        .collect();
    let faults: Vec<&Fault> = SCENARIOS.iter().flat_map(|s| s.faults).collect();
    for fault in &faults {
        let found = rows.iter().filter(|(name, _)| *name == fault.name);
        let found: Vec<_> = found.collect();
        let [(_, columns)] = found[..] else {
            panic!("{} rows for {}", found.len(), fault.name);
        };
        assert_eq!(columns.len(), 2, "{}: {columns:?}", fault.name);
        assert!(
            columns.iter().all(|text| !text.trim().is_empty()),
            "{}",
            fault.name
        );
        for shown in fault.shows {
            assert!(
                columns[0].contains(shown),
                "{}: {:?} not in {:?}",
                fault.name,
                shown,
                columns[0]
            );
        }
    }
    assert_eq!(rows.len(), faults.len(), "rows that no fault stands for");
    assert!(faults.len() >= 40);
    println!(
        "{} faults, as in docs/reference/fault-matrix.md",
        faults.len()
    );
}

fn run(scenario: &'static Scenario) -> Run {
    let start = Instant::now();
    let mut run = Run {
        scenario,
        passed: Vec::new(),
        not_here: Vec::new(),
        failed: false,
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        (scenario.run)(&mut run);
        for fault in scenario.faults {
            let done = run.passed.iter().chain(&run.not_here);
            let times = done.filter(|done| **done == fault.name).count();
            assert_eq!(times, 1, "{} was left out, or done twice", fault.name);
        }
    }));
    run.failed = ran.is_err();
    let ended = if run.failed { "FAILED" } else { "ok" };
    let seconds = start.elapsed().as_secs_f64();
    println!("test {} ... {ended} ({seconds:.1} s)", scenario.name);
    run
}

/// A thousand clients are a thousand descriptors, of this process too.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

/// As much of the usual harness as `cargo test` needs: filters and `--list`.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exact = arguments.iter().any(|a| a == "--exact");
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let fits = |name: &str| {
        let fits = |filter: &&String| match exact {
            true => name == **filter,
            false => name.contains(filter.as_str()),
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    // A filter may name a fault: its scenario runs.
    let wanted = |s: &&Scenario| fits(s.name) || s.faults.iter().any(|fault| fits(fault.name));
    let scenarios: Vec<&'static Scenario> = SCENARIOS.iter().filter(wanted).collect();
    if arguments.iter().any(|a| a == "--list") {
        scenarios.iter().for_each(|s| println!("{}: test", s.name));
        return;
    }
    let table = "the_table_is_that_of_these_faults";
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        note(panic);
        usual(panic);
    }));
    let (mut passed, mut failed) = (0, Vec::new());
    let mut not_here: Vec<&str> = Vec::new();
    if fits(table) {
        match catch_unwind(the_table_is_that_of_these_faults) {
            Ok(()) => passed += 1,
            Err(_) => failed.push(table),
        }
    }
    allow_descriptors();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..BESIDE.min(scenarios.len()) {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::SeqCst)) {
                    // In a thread of its own: its daemon dies with it.
                    let ran = std::thread::scope(|inner| {
                        let thread = std::thread::Builder::new().name(scenario.name.into());
                        let ran = thread.spawn_scoped(inner, || run(scenario));
                        ran.expect("a thread").join()
                    });
                    results.lock().expect("no panic").push((scenario.name, ran));
                }
            });
        }
    });
    for (name, ran) in results.into_inner().expect("no panic") {
        if let Ok(run) = &ran {
            passed += run.passed.len();
            not_here.extend(&run.not_here);
        }
        if ran.map_or(true, |run| run.failed) {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:");
        for said in SAID.lock().map(|all| all.clone()).unwrap_or_default() {
            println!("  {said}");
        }
    }
    if !not_here.is_empty() {
        println!("\nnot here: {}", not_here.join(", "));
    }
    failed.iter().for_each(|name| println!("    {name}"));
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {} failed; {} ignored",
        failed.len(),
        not_here.len()
    );
    std::process::exit(i32::from(!failed.is_empty()));
}
