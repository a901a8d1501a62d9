//! A daemon with cameras, views and recordings, scraped as Prometheus does it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::prometheus::Prometheus;
use crate::support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};
use crate::{dashboard_queries, tools};
use camring::serve::metrics::ALL;
use nix::sys::signal::Signal;

/// Asks for the metrics in one of the formats.
#[track_caller]
fn scrape(address: &str, accept: &str) -> (String, String) {
    let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(120)));
    let agent: ureq::Agent = agent.build().into();
    let url = format!("http://{address}/metrics");
    let mut answer = agent
        .get(&url)
        .header("Accept", accept)
        .call()
        .expect("an answer");
    let media = answer.headers()["content-type"].to_str().expect("text");
    let media = media.to_owned();
    (media, answer.body_mut().read_to_string().expect("text"))
}

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    samples.map(pair).collect()
}

/// The label names of a sample.
fn labels(sample: &str) -> Vec<&str> {
    let inside = sample.split_once('{').map_or("", |(_, rest)| rest);
    let names = inside.trim_end_matches('}').split("\",");
    let names = names.filter_map(|pair| Some(pair.split_once('=')?.0));
    names.collect()
}

/// Every sample is one of a metric of the table, by its type; and every metric is described.
fn compare_with_the_table(classic: &str) {
    let described: Vec<(String, String)> = classic
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let mut expected: Vec<_> = ALL
        .iter()
        .map(|metric| (metric.name(), metric.kind.to_owned()))
        .collect();
    let mut there = described;
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
    for sample in samples(classic).keys() {
        let name = sample.split('{').next().unwrap_or_default();
        let metric = ALL.iter().find(|metric| {
            let of = metric.name();
            let part = name.strip_prefix(&*of);
            match metric.kind {
                "histogram" => part.is_some_and(|end| ["_sum", "_count", "_bucket"].contains(&end)),
                _ => part == Some(""),
            }
        });
        let metric = metric.unwrap_or_else(|| panic!("{sample} is of no metric"));
        for label in labels(sample) {
            let bucket = label == "le" && name.ends_with("_bucket");
            assert!(bucket || metric.labels.contains(&label), "{sample}");
        }
    }
}

/// Whether a sample must never go back.
fn counts(sample: &str) -> bool {
    let name = sample.split('{').next().unwrap_or_default();
    ALL.iter().any(|metric| match metric.kind {
        "counter" => name == metric.name(),
        "histogram" => {
            let of = metric.name();
            name.strip_prefix(&*of)
                .is_some_and(|end| ["_sum", "_count", "_bucket"].contains(&end))
        }
        _ => false,
    })
}

#[test]
fn a_scrape_is_complete_and_no_counter_goes_back_when_processes_are_killed() {
    let farm = Farm::start(&[
        Camera::new("door", "h264-360p").digest("viewer", "canary-7gq"),
        Camera::new("yard", "h264-180p"),
    ]);
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\
         [record]\nmode = \"copy\"\n\
         [[camera]]\nname = \"door\"\nusername = \"viewer\"\npassword = \"canary-7gq\"\nurl = \"{}\"\n\
         [[camera.view]]\nname = \"small\"\nwidth = 64\nheight = 48\nformat = \"gray\"\n\
         [[camera]]\nname = \"yard\"\n[[camera.stream]]\nname = \"main\"\nurl = \"{}\"\n\
         [[camera]]\nname = \"off\"\nenabled = false\nurl = \"rtsp://127.0.0.1:1/x\"\n",
        farm.url("door"),
        farm.url("yard"),
    );
    let daemon = Daemon::start(&config);
    let address = wait_for("the server to listen", PATIENCE, || {
        let http = daemon.status()["http"].clone();
        http["address"].as_str().map(str::to_owned).ok_or(http)
    });
    let streams = ["door", "yard/main"];
    for name in streams {
        daemon.wait_for_camera(name, "records", |c| {
            c["latency_p99_ms"].is_f64()
                && c["recording"]["last_segment_age_ms"].is_u64()
                && c["cpu_ms"].as_u64() > Some(0)
        });
    }

    // Both formats say the same, and it is what the reference says.
    let (media, classic) = scrape(&address, "*/*");
    assert_eq!(media, "text/plain; version=0.0.4; charset=utf-8");
    compare_with_the_table(&classic);
    let (media, open) = scrape(&address, "application/openmetrics-text; version=1.0.0");
    assert!(media.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.ends_with("# EOF\n"));
    let names = |text: &str| samples(text).into_keys().collect::<Vec<_>>();
    let ours = |name: &String| !name.starts_with("camring_http_");
    let both =
        [&classic, &open].map(|text| names(text).into_iter().filter(ours).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);
    assert!(!classic.contains("canary") && !open.contains("canary"));
    check_metrics(&classic);

    // What it says of the cameras is true.
    let first = samples(&classic);
    let get = |name: &str| first.get(name).copied();
    assert_eq!(get("camring_daemon_up"), Some(1.0));
    let state = |stream: &str, state: &str| {
        let camera = stream.split('/').next().unwrap_or_default();
        let labels = format!("camera=\"{camera}\",stream=\"{stream}\",state=\"{state}\"");
        get(&format!("camring_stream_state{{{labels}}}"))
    };
    assert_eq!(state("door", "streaming"), Some(1.0));
    assert_eq!(state("yard/main", "backoff"), Some(0.0));
    assert_eq!(state("off", "disabled"), Some(1.0));
    let yard = "camera=\"yard\",stream=\"yard/main\"";
    let of_yard = |name: &str| get(&format!("{name}{{{yard}}}")).expect("a sample");
    let (frames, latencies) = (
        of_yard("camring_stream_frames_published_total"),
        of_yard("camring_stream_latency_seconds_count"),
    );
    assert!(
        frames > 0.0 && latencies > 0.0 && latencies <= frames + 1.0,
        "{frames} {latencies}"
    );
    assert!(of_yard("camring_stream_latency_seconds_sum") > 0.0);
    let info = format!("{yard},codec=\"h264\",client=\"retina\",backend=\"software\"");
    assert_eq!(get(&format!("camring_stream_info{{{info}}}")), Some(1.0));

    // A real Prometheus takes it, while processes are killed.
    let prometheus = Prometheus::start(&tools(), &address);
    let recorder = daemon.camera("yard/main")["recording"]["pid"].as_u64();
    let (reader, recorder) = (daemon.reader_pid("yard/main"), recorder.expect("a pid"));
    assert!(process::kill(reader, Signal::SIGKILL));
    assert!(process::kill(
        recorder.try_into().expect("a pid"),
        Signal::SIGKILL
    ));
    let failures = |process: &str| {
        format!("camring_process_failures_total{{process=\"{process}\",{yard},reason=\"killed\"}}")
    };
    let mut before = samples(&scrape(&address, "*/*").1);
    wait_for("both to run again", PATIENCE, || {
        let now = samples(&scrape(&address, "*/*").1);
        for (name, then) in before.iter().filter(|(name, _)| counts(name)) {
            let now = now.get(name);
            assert!(now >= Some(then), "{name} went from {then} to {now:?}");
        }
        let published = format!("camring_stream_frames_published_total{{{yard}}}");
        let segments = format!("camring_recording_segments_total{{{yard}}}");
        let more = |name: &str| now[name] > first[name];
        let restarts = format!("camring_process_restarts_total{{process=\"reader\",{yard}}}");
        let done = now[&restarts] == 1.0
            && now[&failures("reader")] == 1.0
            && now[&failures("recorder")] == 1.0
            && more(&published)
            && more(&segments)
            && now[&published] > first[&published] + 20.0;
        before = now;
        if done { Ok(()) } else { Err(before.clone()) }
    });

    // Each query of the dashboard is one that Prometheus can answer, and of what there is here, does.
    for query in dashboard_queries() {
        let query = query
            .replace("$__rate_interval", "60s")
            .replace("$__interval", "60s");
        let query = query.replace("$instance", ".*").replace("$camera", ".*");
        wait_for(&format!("an answer to {query}"), PATIENCE, || {
            let answer = prometheus.query(&query);
            match answer["data"]["result"].as_array().map(Vec::len) {
                Some(1..) => Ok(()),
                _ => Err(answer),
            }
        });
    }
    drop(prometheus);
    daemon.stop();
}

/// promtool has nothing against it.
#[track_caller]
fn check_metrics(classic: &str) {
    use std::io::Write as _;
    let mut promtool = std::process::Command::new(tools().join("promtool"))
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(classic.as_bytes()).expect("it is read");
    drop(input);
    let ran = promtool.wait_with_output().expect("it ends");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success() && said.is_empty(), "{said}");
}
