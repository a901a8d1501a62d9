//! What a scrape of `/metrics` costs: `cargo bench --bench scrape`.
//!
//! 100 cameras of 320×180 at one picture a second, recorded as they are sent, so that every series is there:
//! as many readers and recorders. CPU time of the supervisor and of the server:
//!
//! - at rest: nobody asks;
//! - a scrape as Prometheus does it: one connection that stays, OpenMetrics, compressed;
//! - beside it, `camring status` of the same daemon, which costs the supervisor as much by design.
//!
//! In turns, several times; what the processes use at rest is taken off. Prints a table and one line of JSON.
//! The cameras run on the same cores; their work is not counted. `CAMRING_SCRAPE_CAMERAS` makes it smaller.
#![deny(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use camring::sys::usage::cpu_time_ns;
use camring_ring::Client;
use rustix::process::Pid;
use serde_json::json;
use support::{Camera, Daemon, Farm, PATIENCE, wait_for};

const ROUNDS: usize = 7;
const SCRAPES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(6);
/// What Prometheus does if not told otherwise is once a minute; most sites say this.
const INTERVAL: Duration = Duration::from_secs(15);

/// CPU time in ms.
#[derive(Clone, Copy)]
struct Used {
    supervisor: f64,
    server: f64,
}

impl Used {
    fn both(&self) -> f64 {
        self.supervisor + self.server
    }
}

fn main() {
    // `cargo test --benches` passes no flag, and is not the time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let cameras = std::env::var("CAMRING_SCRAPE_CAMERAS");
    let cameras: usize = cameras.map_or(100, |text| text.parse().expect("a number"));
    let names: Vec<String> = (0..cameras).map(|n| format!("c{n}")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| Camera::new(name, "h264-180p").fps(1))
        .collect();
    let farm = Farm::start(&all);
    let mut config =
        "[http]\nlisten = \"127.0.0.1:0\"\n[record]\nmode = \"copy\"\nmin_free = \"0B\"\n\n"
            .to_owned();
    for name in &names {
        let url = farm.url(name);
        config.push_str(&format!("[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n"));
    }
    let daemon = Daemon::start(&config);
    // Every metric has a value then.
    wait_for("all cameras to be recorded", 10 * PATIENCE, || {
        let status = daemon.status();
        let cameras = status["cameras"].as_array().expect("cameras");
        let mut waiting = cameras.iter().filter(|camera| {
            !camera["recording"]["last_segment_age_ms"].is_u64()
                || !camera["latency_p99_ms"].is_f64()
        });
        waiting.next().map_or(Ok(()), |camera| Err(camera.clone()))
    });
    let http = daemon.status()["http"].clone();
    let address = http["address"].as_str().expect("it listens").to_owned();
    let server = http["pid"].as_u64().expect("a server");
    let pids = (
        daemon.pid(),
        u32::try_from(server).expect("the server's pid"),
    );
    let scraper = Scraper::new(&address);
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let text = scraper.text();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();

    let (mut rest, mut scrapes, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let idle = window(pids, || {});
        let scraped = window(pids, || scraper.scrape());
        let asked = window(pids, || {
            client.status_json().expect("a status");
        });
        let each = |used: Used| Used {
            supervisor: (used.supervisor - idle.supervisor) / f64::from(SCRAPES),
            server: (used.server - idle.server) / f64::from(SCRAPES),
        };
        rest.push(idle.both() / WINDOW.as_secs_f64() / 10.0);
        scrapes.push(each(scraped));
        statuses.push(each(asked).supervisor);
    }
    let of = |value: fn(&Used) -> f64| median(scrapes.iter().map(value).collect());
    let (supervisor, server, both) = (
        of(|used| used.supervisor),
        of(|used| used.server),
        of(Used::both),
    );
    let (status, rest) = (median(statuses), median(rest));
    let ratios: Vec<_> = scrapes
        .iter()
        .map(|used| used.supervisor / status)
        .collect();
    let share = both / INTERVAL.as_secs_f64() / 10.0;
    println!(
        "{series} series of {cameras} cameras, {} KiB",
        text.len() >> 10
    );
    println!("CPU of one scrape, in ms: median of {ROUNDS} times {SCRAPES}");
    println!("  supervisor                 {supervisor:8.3}");
    println!("  server                     {server:8.3}");
    println!(
        "  both                       {both:8.3}   {}",
        list(scrapes.iter().map(Used::both))
    );
    println!("  both, of each camera       {:8.4}", both / cameras as f64);
    println!("supervisor, camring status   {status:8.3}");
    println!("supervisor, scrape ÷ status  {:8.3}", median(ratios));
    println!("one scrape in {INTERVAL:?}: {share:.3} % of a core; at rest both use {rest:.2} %");
    println!(
        "{}",
        json!({"cameras": cameras, "series": series, "bytes": text.len(), "supervisor_ms": supervisor,
            "server_ms": server, "scrape_ms": both, "status_ms": status,
            "percent_of_core": share, "percent_of_core_at_rest": rest})
    );
}

/// What both processes use in a window in which `ask` is called so many times.
fn window(pids: (u32, u32), mut ask: impl FnMut()) -> Used {
    let now = || {
        let ms = |pid: u32| {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.and_then(cpu_time_ns).expect("it runs") as f64 / 1e6
        };
        (ms(pids.0), ms(pids.1))
    };
    let (begun, before) = (Instant::now(), now());
    for number in 0..SCRAPES {
        ask();
        let next = begun + WINDOW * (number + 1) / SCRAPES;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let after = now();
    Used {
        supervisor: after.0 - before.0,
        server: after.1 - before.1,
    }
}

/// As Prometheus asks.
struct Scraper {
    agent: ureq::Agent,
    url: String,
}

impl Scraper {
    fn new(address: &str) -> Self {
        Self {
            agent: ureq::Agent::new_with_defaults(),
            url: format!("http://{address}/metrics"),
        }
    }

    fn ask(&self, encoding: &str) -> Vec<u8> {
        let request = self
            .agent
            .get(&self.url)
            .header("Accept", "application/openmetrics-text; version=1.0.0")
            .header("Accept-Encoding", encoding);
        let mut answer = request.call().expect("an answer");
        answer.body_mut().read_to_vec().expect("a body")
    }

    fn scrape(&self) {
        let packed = self.ask("gzip");
        assert!(packed.starts_with(&[0x1f, 0x8b]), "compressed");
    }

    fn text(&self) -> String {
        String::from_utf8(self.ask("identity")).expect("UTF-8")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn list(values: impl Iterator<Item = f64>) -> String {
    let all: Vec<_> = values.map(|value| format!("{value:.2}")).collect();
    format!("({})", all.join(", "))
}
