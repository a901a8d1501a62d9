//! Markers in playlists: on the picture that they were made from.

use std::collections::BTreeMap;

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

fn rfc3339(secs: i64, ns: i64) -> String {
    let time = jiff::Timestamp::new(secs, i32::try_from(ns).unwrap()).unwrap();
    time.to_string()
}
