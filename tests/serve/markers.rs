//! Markers in playlists: on the picture that they were made from.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use crate::recorder::{Clip, PICTURE, Recorder, SECOND};
use crate::rules::{Playlist, utc_ns};
use crate::server::{Server, data_dir};

const START_NS: i64 = 1_795_248_900 * SECOND;

#[test]
fn each_of_a_thousand_markers_is_on_its_picture() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(150);
    recorder.pause(17);
    recorder.seconds(50);
    let server = Server::start(&data);
    // Before and behind the break; a prime apart, so that every place in a segment is met.
    let before = (0..750).map(|n| n * 7 % (150 * 25));
    let after = (0..250).map(|n| (150 + 17) * 25 + n * 3 % (50 * 25));
    let times: BTreeMap<String, i64> = before
        .chain(after)
        .enumerate()
        .map(|(n, picture)| (format!("m{n}"), picture * PICTURE))
        .collect();
    assert_eq!(times.len(), 1000);
    let markers: Vec<String> = times
        .iter()
        .map(|(id, time)| {
            let capture = recorder.capture(*time);
            let (secs, ns) = (capture / SECOND, capture % SECOND);
            format!(
                r#"{{"id":"{id}","label":"person","start":"{}"}}"#,
                rfc3339(secs, ns)
            )
        })
        .collect();
    let body = format!(r#"{{"markers":[{}]}}"#, markers.join(","));
    let posted = server.request(
        "POST",
        "/api/v1/cameras/yard/markers",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert!((200..300).contains(&posted.status), "{}", posted.text());
    for path in ["dvr.m3u8", "range.m3u8?from=0"] {
        let list = server.get(&format!("/hls/yard/main/source/{path}"));
        let list = Playlist::read(&list.text());
        let mut found = 0;
        for range in &list.ranges {
            assert_eq!(
                (range["CLASS"].as_str(), range["X-LABEL"].as_str()),
                ("camring.marker", "person")
            );
            let start = utc_ns(&range["START-DATE"]);
            let of = (list.segments.iter()).find(|segment| {
                let end = segment.date + (segment.duration * 1e9) as i64;
                (segment.date..end).contains(&(start + 1000))
            });
            let of = of.unwrap_or_else(|| panic!("{range:?} is in no segment"));
            // What a player does: the segment's media time, and the distance of the dates from there.
            let begin = (of.date - START_NS) * 90 / 1_000_000;
            let time = begin + (start - of.date) * 90 / 1_000_000;
            let wanted = times[&range["ID"]];
            assert!(
                (time - wanted).abs() <= 1,
                "{range:?}: {time} and not {wanted}"
            );
            found += 1;
        }
        assert_eq!(found, 1000, "{path}");
    }
    // Live, only those of the newest minute or so.
    let live = Playlist::read(&server.get("/hls/yard/main/source/live.m3u8").text());
    assert!(!live.ranges.is_empty() && live.ranges.len() < 1000);
}

/// Of a server-sent event.
fn field<'t>(event: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = event.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_listener_that_does_not_read_is_let_go_and_misses_nothing_when_it_comes_again() {
    let (_folder, data) = data_dir();
    let server = Server::start(&data);
    let listen = |last: Option<&str>| {
        let mut stream = server.connect();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!(
            "GET /api/v1/events?only=marker HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n",
            last.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut slow = listen(None);
    let mut head = [0; 12];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // More than the kernel's buffers take, and 1024 more: then it is behind.
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let buffer = limits
        .split_whitespace()
        .nth(2)
        .and_then(|most| most.parse().ok());
    let (size, each): (i64, i64) = (5_000, 750);
    let needed = (buffer.unwrap_or(4_i64 << 20) + (1 << 20)) / size + 1200;
    let batches = needed / each + 1;
    let data = format!(
        r#"{{"text":"{}"}}"#,
        "x".repeat(usize::try_from(size).unwrap())
    );
    for batch in 0..batches {
        let markers: Vec<String> = (0..each)
            .map(|n| {
                let id = format!("b{batch}-{n}");
                let start = rfc3339(1_795_248_900 + batch * each + n, 0);
                format!(r#"{{"id":"{id}","label":"car","start":"{start}","data":{data}}}"#)
            })
            .collect();
        let body = format!(r#"{{"markers":[{}]}}"#, markers.join(","));
        let json = [("Content-Type", "application/json")];
        let path = "/api/v1/cameras/yard/markers";
        let posted = server.request("POST", path, &json, body.as_bytes());
        assert!((200..300).contains(&posted.status), "{}", posted.text());
        // Slow, and not dead: that one would be hung up on.
        slow.read_exact(&mut [0; 1024]).unwrap();
    }
    let mut text = String::new();
    // Ends by itself.
    slow.read_to_string(&mut text).unwrap();
    let events: Vec<&str> = text.split("\n\n").collect();
    let behind = events
        .iter()
        .rposition(|event| field(event, "event") == Some("behind"));
    let behind = behind.unwrap_or_else(|| panic!("it was never told: {:?}", events.last()));
    let missed = field(events[behind], "data").unwrap();
    assert!(missed.contains("\"missed\":"), "{missed}");
    let told = &events[..behind];
    let last = told.iter().rev().find_map(|event| field(event, "id"));
    let last = last.expect("some came").to_owned();

    // All that came after the last one it saw, once each.
    let all = usize::try_from(batches * each).unwrap();
    let mut known = HashSet::new();
    let mut again = BufReader::new(listen(Some(&last)));
    let mut left = all
        - usize::try_from(last.parse::<u64>().unwrap())
            .unwrap()
            .min(all);
    assert!(left > 0, "{last} of {all}");
    let mut line = String::new();
    while left > 0 {
        line.clear();
        assert!(
            again.read_line(&mut line).unwrap() > 0,
            "{left} are missing"
        );
        if let Some(id) = line.strip_prefix("id: ") {
            let id: usize = id.trim().parse().unwrap();
            assert!(known.insert(id), "{id} twice");
            // Behind them, what else became of them.
            left -= usize::from(id <= all);
        }
        assert!(!line.starts_with("event: reset"), "{line}");
    }
}

fn rfc3339(secs: i64, ns: i64) -> String {
    let time = jiff::Timestamp::new(secs, i32::try_from(ns).unwrap()).unwrap();
    time.to_string()
}
