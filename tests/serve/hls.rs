//! HLS playlists, and what they lead to.

use std::time::Duration;

use crate::recorder::{Clip, Recorder, SECOND, utc_now};
use crate::rules::{Playlist, utc_ns, variants};
use crate::server::{Server, data_dir};

const START_NS: i64 = 1_795_248_900 * SECOND;
const SOURCE: &str = "/hls/yard/main/source";

#[test]
fn a_camera_with_two_streams_is_a_ladder() {
    let (_folder, data) = data_dir();
    for (stream, clip) in [
        ("yard/main", Clip::of_ffmpeg()),
        ("yard/sub", Clip::small()),
    ] {
        Recorder::new(&data, stream, clip, START_NS).seconds(20);
    }
    let server = Server::start(&data);
    let index = server.get("/hls/yard/index.m3u8");
    assert_eq!(index.status, 200);
    assert_eq!(
        index.header("content-type"),
        "application/vnd.apple.mpegurl"
    );
    let found = variants(&index.text());
    let uris: Vec<&str> = found.iter().map(|(_, uri)| uri.as_str()).collect();
    assert_eq!(uris, ["main/source/live.m3u8", "sub/source/live.m3u8"]);
    let attribute = |n: usize, name: &str| found[n].0[name].clone();
    assert_eq!(attribute(0, "RESOLUTION"), "320x180");
    assert_eq!(attribute(1, "RESOLUTION"), "160x90");
    assert_eq!(attribute(0, "FRAME-RATE"), "25.000");
    assert!(
        attribute(0, "CODECS").starts_with("avc1.42c0"),
        "{}",
        attribute(0, "CODECS")
    );
    for uri in uris {
        let list = Playlist::read(&server.get(&format!("/hls/yard/{uri}")).text());
        assert_eq!(list.reports.len(), 1);
        for segment in &list.segments {
            let folder = uri.strip_suffix("live.m3u8").unwrap();
            let media = server.get(&format!("/hls/yard/{folder}{}", segment.uri));
            assert_eq!((media.status, &media.body[4..8]), (200, &b"moof"[..]));
            // BANDWIDTH is that of the greediest.
            let rate = media.body.len() as f64 * 8.0 / segment.duration;
            let said = &found.iter().find(|(_, other)| other == uri).unwrap().0["BANDWIDTH"];
            assert!(rate <= said.parse::<f64>().unwrap() + 1.0);
        }
    }
    // A range and the whole window are passed on.
    let range = server.get("/hls/yard/index.m3u8?from=2026-11-21T08:15:01Z&to=1795248910");
    let uri = &variants(&range.text())[0].1;
    assert_eq!(
        uri,
        "main/source/range.m3u8?from=2026-11-21T08%3A15%3A01Z&to=1795248910"
    );
    let list = Playlist::read(&server.get(&format!("/hls/yard/{uri}")).text());
    assert_eq!((list.segments.len(), list.start), (5, Some(1.0)));
    let dvr = server.get("/hls/yard/index.m3u8?playlist=dvr").text();
    assert_eq!(variants(&dvr)[0].1, "main/source/dvr.m3u8");
}

#[test]
fn media_is_delivered_byte_for_byte_and_by_range() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(10);
    let server = Server::start(&data);
    let list = Playlist::read(&server.get(&format!("{SOURCE}/live.m3u8")).text());
    let init = server.get(&format!("{SOURCE}/{}", list.segments[0].map));
    assert_eq!(init.body, Clip::of_ffmpeg().init);
    assert!(init.header("cache-control").contains("immutable"));
    let mut all = Vec::new();
    for segment in &list.segments {
        all.extend(server.get(&format!("{SOURCE}/{}", segment.uri)).body);
    }
    let name = recorder.rendition.hours().unwrap()[0].files().unwrap()[0];
    assert_eq!(all, std::fs::read(recorder.rendition.data(&name)).unwrap());
    // Parts are the same bytes.
    let last = list.segments.last().unwrap();
    let whole = server.get(&format!("{SOURCE}/{}", last.uri));
    let parts: Vec<u8> = (last.parts.iter())
        .flat_map(|part| server.get(&format!("{SOURCE}/{}", part.uri)).body)
        .collect();
    assert_eq!(parts, whole.body);
    let ask = |headers: &[(&str, &str)]| {
        server.request("GET", &format!("{SOURCE}/{}", last.uri), headers, b"")
    };
    let part = ask(&[("Range", "bytes=10-19")]);
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    let all = format!("bytes 10-19/{}", whole.body.len());
    assert_eq!(part.header("content-range"), all);
    ask(&[("Range", "bytes=99999999-")]).is_problem(416, "no-such-range");
    let known = ask(&[("If-None-Match", whole.header("etag"))]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = server.request("HEAD", &format!("{SOURCE}/{}", last.uri), &[], b"");
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    // Compressed is only what is text.
    let media = ask(&[("Accept-Encoding", "gzip")]);
    assert_eq!(
        (media.header("content-encoding"), &media.body),
        ("", &whole.body)
    );
}

#[test]
fn breaks_and_losses_are_in_the_playlist_and_numbers_stay() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(130);
    recorder.pause(30);
    recorder.seconds(70);
    recorder.end();
    let server = Server::start(&data);
    let read = || Playlist::read(&server.get(&format!("{SOURCE}/dvr.m3u8")).text());
    let whole = read();
    assert_eq!((whole.sequence, whole.segments.len()), (0, 100));
    let breaks: Vec<u64> = whole.segments.iter().map(|one| one.discontinuity).collect();
    assert_eq!((breaks[64], breaks[65], breaks[99]), (0, 1, 1));
    assert_eq!(whole.segments[64].date, START_NS + 128 * SECOND);
    assert_eq!(whole.segments[65].date, START_NS + 160 * SECOND);
    // A file is lost: its numbers stay, as gaps.
    let files: Vec<_> = (recorder.rendition.hours().unwrap().iter())
        .flat_map(|hour| hour.files().unwrap())
        .collect();
    assert_eq!(files.len(), 5);
    std::fs::remove_file(recorder.rendition.data(&files[1])).unwrap();
    server
        .get(&format!("{SOURCE}/s/31.m4s"))
        .is_problem(404, "not-recorded");
    let lost = crate::wait_for("the gap", || {
        let now = read();
        now.segments[30].gap.then_some(now)
    });
    lost.follows(&whole);
    let gaps: Vec<u64> = (lost.segments.iter())
        .filter(|one| one.gap)
        .map(|one| one.sequence)
        .collect();
    assert_eq!(gaps, (30..60).collect::<Vec<u64>>());
    // The oldest goes: the list begins later.
    std::fs::remove_file(recorder.rendition.data(&files[0])).unwrap();
    let later = crate::wait_for("the later beginning", || {
        let now = read();
        (now.sequence == 60).then_some(now)
    });
    later.follows(&lost);
    // As a range, it is a break and no gap.
    drop(server);
    let server = Server::start(&data);
    let range = server.get(&format!("{SOURCE}/range.m3u8?from=0"));
    let range = Playlist::read(&range.text());
    assert!(range.ended && range.segments.iter().all(|one| !one.gap));
    assert_eq!(range.segments[0].uri, "s/60.m4s");
    let again = Playlist::read(&server.get(&format!("{SOURCE}/dvr.m3u8")).text());
    again.follows(&later);
}

#[test]
fn a_low_latency_player_gets_each_part_as_it_comes() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), utc_now() - 100 * SECOND);
    recorder.seconds(100);
    let server = Server::start(&data);
    let ask = |query: &str| server.get(&format!("{SOURCE}/live.m3u8{query}"));
    let mut list = Playlist::read(&ask("").text());
    assert_eq!(list.next(), (50, 0));
    assert!(
        list.sequence > 0 && list.segments.len() >= 6,
        "only the newest"
    );
    assert_eq!(list.hint.as_deref(), Some("p/50.0.m4s"));
    let mut dvr = Playlist::read(&server.get(&format!("{SOURCE}/dvr.m3u8")).text());
    assert_eq!((dvr.sequence, dvr.segments.len()), (0, 50));
    for n in 0..25 {
        let (sequence, part) = list.next();
        let hint = list.hint.clone().unwrap();
        let query = format!("?_HLS_msn={sequence}&_HLS_part={part}");
        let (reload, hinted, update) = std::thread::scope(|scope| {
            let reload = scope.spawn(|| ask(&query));
            let hinted = scope.spawn(|| server.get(&format!("{SOURCE}/{hint}")));
            let update =
                scope.spawn(|| server.get(&format!("{SOURCE}/dvr.m3u8{query}&_HLS_skip=YES")));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!reload.is_finished() && !hinted.is_finished() && !update.is_finished());
            recorder.chunk();
            (
                reload.join().unwrap(),
                hinted.join().unwrap(),
                update.join().unwrap(),
            )
        });
        let new = Playlist::read(&reload.text());
        new.follows(&list);
        assert_ne!(new.next(), (sequence, part), "round {n}");
        let newest = match new.open_parts.last() {
            Some(part) => part,
            None => new.segments.last().unwrap().parts.last().unwrap(),
        };
        assert_eq!(newest.uri, hint);
        assert_eq!(&hinted.body[4..8], b"moof");
        list = new;
        let new = Playlist::update(&update.text(), &dvr);
        new.follows(&dvr);
        assert_eq!(new.next(), list.next());
        dvr = new;
    }
    // The same as read as a whole.
    let whole = Playlist::read(&server.get(&format!("{SOURCE}/dvr.m3u8")).text());
    assert!(
        whole.segments == dvr.segments,
        "{}\n{}",
        whole.text,
        dvr.text
    );
    assert_eq!(whole.next(), (52, 5));
    // What was there already is answered at once; a part behind the last is the first of the next.
    for query in [
        "?_HLS_msn=40",
        "?_HLS_msn=51&_HLS_part=3",
        "?_HLS_msn=51&_HLS_part=99",
    ] {
        assert_eq!(
            Playlist::read(&ask(query).text()).next(),
            (52, 5),
            "{query}"
        );
    }
    // A whole segment is waited for.
    std::thread::scope(|scope| {
        let segment = scope.spawn(|| ask("?_HLS_msn=52"));
        for _ in 0..5 {
            assert!(!segment.is_finished());
            recorder.chunk();
        }
        assert_eq!(
            Playlist::read(&segment.join().unwrap().text()).next(),
            (53, 0)
        );
    });
    for (query, slug) in [
        ("?_HLS_msn=56", "too-far-ahead"),
        ("?_HLS_msn=53&_HLS_part=100", "too-far-ahead"),
        ("?_HLS_msn=99999999999999999999999", "bad-directive"),
        ("?_HLS_msn=-1", "bad-directive"),
        ("?_HLS_msn=+1", "bad-directive"),
        ("?_HLS_part=1", "bad-directive"),
        ("?_HLS_msn=1&_HLS_part=x", "bad-directive"),
    ] {
        ask(query).is_problem(400, slug);
    }
    // Nothing comes: it is said after three target durations.
    ask("?_HLS_msn=53&_HLS_part=0").is_problem(503, "nothing-new");
    server
        .get(&format!("{SOURCE}/p/53.0.m4s"))
        .is_problem(503, "nothing-new");
    server
        .get(&format!("{SOURCE}/p/54.0.m4s"))
        .is_problem(404, "not-recorded");
}

#[test]
fn long_segments_are_announced_before_they_come() {
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.segment = 10 * 90_000;
    recorder.seconds(130);
    let server = Server::start(&data);
    let list = Playlist::read(&server.get(&format!("{SOURCE}/live.m3u8")).text());
    assert_eq!(list.target, 20);
    assert_eq!(list.segments.len(), 13);
    assert_eq!(utc_ns("2026-11-21T08:15:00Z"), START_NS);
    assert_eq!(list.segments[0].date, START_NS);
}
