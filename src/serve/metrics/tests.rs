use super::*;

#[test]
fn names_are_those_that_prometheus_asks_for() {
    let mut seen = std::collections::BTreeSet::new();
    for metric in ALL {
        let name = metric.name();
        assert!(seen.insert(name.clone()), "{name} twice");
        let own = name.starts_with("camring_") || name.starts_with("process_");
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(own && name.chars().all(plain), "{name}");
        assert!(["counter", "gauge", "histogram"].contains(&metric.kind));
        assert!(["", "bytes", "seconds", "pixels"].contains(&metric.unit));
        // What a query would mistake for a part of a histogram or for a counter.
        for end in [
            "_count",
            "_sum",
            "_bucket",
            "_total",
            "_milliseconds",
            "_ms",
        ] {
            assert!(!metric.stem.ends_with(end), "{name}");
        }
        let help = metric.help;
        assert!(!help.is_empty() && !help.ends_with('.') && !help.contains(['\n', '\\', '|']));
    }
}

fn own() -> Own {
    Own {
        retention: Default::default(),
        limits: Default::default(),
        index_ready: true,
        renditions: 3,
        requests: Default::default(),
        running: 1,
        listeners: 0,
        certificate_expires: None,
    }
}

/// A site of as many streams, each recorded and with a view, and nothing in it that is not known.
fn status(streams: usize) -> Status {
    let dropped = serde_json::json!({
        "no_slot": 1, "no_memory": 0, "overload": 0, "max_fps": 0, "corrupt": 0, "before_key": 0,
        "not_key": 0, "not_wanted": 0, "catch_up": 0, "quiet": 0, "decode_error": 0, "oversize": 0,
    });
    let counts = vec![1u64; 13];
    let view = serde_json::json!({
        "name": "detect", "width": 640, "height": 360, "format": "rgb24", "fit": "stretch", "max_fps": 5.0,
        "fps_published": 5.0, "frames_published": 300, "conversions": 300, "conversion_ms": 1.0,
        "frames_dropped": {"no_slot": 0, "no_memory": 0, "failed": 0}, "subscribers": 1, "ring_bytes": 1000,
    });
    let recording = serde_json::json!({
        "mode": "copy", "state": "recording", "reason": "", "since": "2026-11-21T09:00:00.000Z", "pid": 5,
        "segments": 30, "bytes": 4_000_000, "units": 890, "units_missed": 0, "gaps": 1, "write_errors": 0,
        "last_segment_age_ms": 900, "restarts": 0, "cpu_percent": 1.0, "memory_bytes": 3_000_000,
    });
    let stream = |index: usize| {
        let mut stream = serde_json::json!({
            "name": format!("camera-{index}/main"), "state": "streaming", "reason": "",
            "since": "2026-11-21T09:00:00.000Z", "pid": 4321, "cpus": [1], "client": "retina",
            "client_reason": "as configured", "codec": "h264", "width": 1280, "height": 720, "fps_in": 15.0,
            "fps_decoded": 15.0, "fps_published": 15.0, "decode": "decoding", "activity": "moving",
            "activity_since": "2026-11-21T09:00:00.000Z", "frames_decoded": 900, "frames_published": 890,
        });
        let rest = serde_json::json!({
            "frames_dropped": dropped, "rtp_packets_lost": 0, "glitches": 0, "reconnects": 0, "restarts": 0,
            "bytes_in": 5_000_000, "last_frame_age_ms": 31, "latency_p50_ms": 3.21, "latency_p99_ms": 8.04,
            "latency": {"sum_ms": 100.0, "counts": counts}, "cpu_percent": 7.5, "memory_bytes": 12_000_000,
            "ring_bytes": 6_000_000, "subscribers": 1, "clock": "sender-report", "views": [view],
            "recording": recording,
        });
        for (key, value) in rest.as_object().unwrap() {
            stream[key] = value.clone();
        }
        stream
    };
    let status = serde_json::json!({
        "version": "0.1.0", "pid": 1, "spawner_pid": 2, "site": "demo", "uptime_ms": 65_000, "clients": 1,
        "memory": {"rings_bytes": 50_000_000, "replaced_bytes": 0, "untouched_bytes": 0, "limit_bytes": 1,
                   "available_bytes": 2, "available_source": "x"},
        "cameras": (0..streams).map(stream).collect::<Vec<_>>(),
    });
    serde_json::from_value(status).unwrap()
}

fn written(status: Option<Status>, format: Format) -> String {
    let began = Instant::now();
    let scrape = Scrape {
        began,
        status,
        own: own(),
    };
    text(scrape, format).unwrap()
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn without_a_daemon_the_server_tells_what_it_knows() {
    let text = written(None, Format::Classic);
    assert!(text.contains("\ncamring_daemon_up 0.0\n"), "{text}");
    assert!(text.contains("\ncamring_index_renditions 3.0\n"));
    assert!(text.contains("\nprocess_open_fds "));
    // Not looked at yet: 0 bytes free would be an alarm.
    assert!(!text.contains("\ncamring_disk_free_bytes "));
    assert!(!text.contains("camring_stream"));
}

#[test]
fn a_histogram_is_cumulative_and_counts_are_whole() {
    let text = written(Some(status(1)), Format::Open);
    let labels = "camera=\"camera-0\",stream=\"camera-0/main\"";
    for line in [
        format!("camring_stream_latency_seconds_bucket{{le=\"0.000524288\",{labels}}} 1\n"),
        format!("camring_stream_latency_seconds_bucket{{le=\"1.073741824\",{labels}}} 12\n"),
        format!("camring_stream_latency_seconds_bucket{{le=\"+Inf\",{labels}}} 13\n"),
        format!("camring_stream_latency_seconds_count{{{labels}}} 13\n"),
        format!("camring_stream_latency_seconds_sum{{{labels}}} 0.1\n"),
        format!("camring_stream_received_bytes_total{{{labels}}} 5000000\n"),
        "# UNIT camring_stream_received_bytes bytes\n".to_owned(),
    ] {
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
}

/// Prints what 100 streams cost, for docs/reference/metrics.md.
#[test]
fn the_number_of_series_is_bounded() {
    let [none, one, hundred] = [0, 1, 100].map(|n| series(&written(Some(status(n)), Format::Open)));
    assert!(one - none <= 93, "{} series for a stream", one - none);
    assert_eq!(hundred - none, 100 * (one - none));
    let status = status(100);
    let json = serde_json::to_string(&status).unwrap();
    let began = Instant::now();
    let parsed: Status = serde_json::from_str(&json).unwrap();
    let read = began.elapsed();
    let text = written(Some(parsed), Format::Classic);
    println!(
        "100 streams, recorded, with a view: {} series, {} KiB; status of {} KiB read in {read:?}, \
         written after {:?}",
        series(&text),
        text.len() >> 10,
        json.len() >> 10,
        began.elapsed()
    );
}
