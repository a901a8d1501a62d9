//! The HTTP API of a real `camring serve`: what it takes, what it refuses and how it says so, what survives
//! its death. `check.py` beside this asks it whatever its own description allows and forbids.

mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use server::{PATIENCE, Server, files, record};

const MARKERS: &str = "/api/v1/cameras/door/markers";
const PROTECTIONS: &str = "/api/v1/cameras/door/protections";

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// --- the description

/// What a source file routes: the paths of `utoipa::path` and of `.route(`.
fn routed(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routed(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for mark in ["path = \"/", ".route( \"/", ".route(\"/"] {
                let after = text.split(mark).skip(1);
                found
                    .extend(after.filter_map(|rest| Some(format!("/{}", rest.split('"').next()?))));
            }
        }
    }
}

#[test]
fn every_route_of_the_api_is_described_and_names_its_problems() {
    let server = Server::start("");
    let answer = server.get("/api/openapi.json");
    assert_eq!(answer.status, 200);
    let description = answer.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<String> = description["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let mut routes = BTreeSet::new();
    routed(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve"),
        &mut routes,
    );
    assert!(routes.len() > 20, "{routes:?}");
    let undescribed: Vec<&String> = (routes.difference(&described))
        // The description itself, and what browsers load as pages.
        .filter(|path| {
            let ours = ["/api/v1/", "/hls/", "/dash/", "/metrics"];
            ours.iter().any(|begin| path.starts_with(begin))
        })
        .collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(answers) = operation["responses"].as_object() else {
                continue;
            };
            let what = format!("{method} {path}");
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| text.len() > 5),
                "{what}"
            );
            assert!(operation["tags"][0].is_string(), "{what}");
            assert!(
                answers.keys().any(|status| status.starts_with('2')),
                "{what}"
            );
            for status in ["400", "500", "503"] {
                assert!(answers.contains_key(status), "{what}: {status}");
            }
            for (status, answer) in answers
                .iter()
                .filter(|(status, _)| status.as_str() >= "400")
            {
                let content = answer["content"]
                    .as_object()
                    .unwrap_or_else(|| panic!("{what}: {status}"));
                assert!(
                    content.contains_key("application/problem+json"),
                    "{what}: {status}"
                );
            }
        }
    }
    let page = server.get("/api");
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        text.contains("/api/openapi.json") && text.contains("/api/v1/disk"),
        "{text}"
    );
}

// --- what is refused

#[test]
fn bodies_that_are_no_markers_are_refused_with_the_place() {
    let server = Server::start("");
    let deep = format!(
        "{{\"start\":1,\"label\":\"x\",\"data\":{}{}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let long = format!("{{\"start\":1,\"label\":\"{}\"}}", "x".repeat(5 << 20));
    for (body, status, word) in [
        ("", 400, "EOF"),
        ("{", 400, "EOF"),
        ("nonsense", 400, "expected"),
        ("{\"start\": NaN, \"label\": \"x\"}", 400, "expected"),
        (
            "{\"start\": 1, \"label\": \"x\", \"score\": 1e999}",
            400,
            "range",
        ),
        ("{\"start\": 1, \"label\": \"\\ud800\"}", 400, "escape"),
        ("\u{1}\u{2}", 400, "expected"),
        (deep.as_str(), 400, "recursion"),
        (long.as_str(), 413, "longer than"),
        ("[]", 422, "no object"),
        ("{\"start\": 1}", 422, "#/label"),
        ("{\"start\": 1, \"label\": \"a\\u0000b\"}", 422, "control"),
        ("{\"start\": -1, \"label\": \"x\"}", 422, "out of range"),
        (
            "{\"start\": 1, \"label\": \"x\", \"box\": [0, 0, 2, 2]}",
            422,
            "#/box",
        ),
        (
            "{\"start\": 1, \"end\": 0, \"label\": \"x\"}",
            422,
            "before the start",
        ),
        (
            "{\"markers\": [{\"start\": 1, \"label\": \"x\"}, {\"start\": 1}]}",
            422,
            "#/markers/1/label",
        ),
    ] {
        let problem = server.text("POST", MARKERS, body).problem(status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(word),
            "{detail} of {}",
            &body[..body.len().min(80)]
        );
        assert!(detail.len() < 1000);
    }
    let plain = server.send("POST", MARKERS, &[("Content-Type", "text/plain")], b"{}");
    plain.problem(415);
    // Of all of this, nothing was stored.
    assert_eq!(server.get(MARKERS).json()["markers"], json!([]));
}

#[test]
fn paths_and_parameters_that_lead_nowhere_are_refused() {
    let server = Server::start("");
    let long = format!("/api/v1/cameras/{}/markers", "x".repeat(5000));
    let many = format!("{MARKERS}?label={}", "x".repeat(20_000));
    for (method, path, status) in [
        ("GET", "/api/v1/cameras/nobody/markers", 404),
        ("GET", "/api/v1/cameras/nobody/recordings", 404),
        ("GET", "/api/v1/cameras/nobody/protections", 404),
        ("GET", "/api/v1/cameras/nobody/health", 404),
        ("GET", "/api/v1/cameras/../door/markers", 404),
        ("GET", "/api/v1/cameras/%2e%2e%2f%2e%2e%2fetc/markers", 404),
        ("GET", "/api/v1/cameras/..%2fdoor/markers", 404),
        ("GET", "/api/v1/cameras/door%00/markers", 404),
        ("GET", "/api/v1/cameras/%ff/markers", 404),
        ("GET", "/api/v1/cameras/door@main/recordings", 404),
        ("GET", long.as_str(), 404),
        ("GET", many.as_str(), 200),
        ("GET", "/api/v1/cameras/door/markers/none", 404),
        ("PATCH", "/api/v1/cameras/door/markers/none", 404),
        ("DELETE", "/api/v1/cameras/door/markers/none", 404),
        ("DELETE", "/api/v1/cameras/door/protections/..%2f..", 404),
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/disk", 405),
        ("GET", "/api/v1/cameras/door/markers?form=1", 400),
        ("GET", "/api/v1/cameras/door/markers?from=1&from=2", 400),
        ("GET", "/api/v1/cameras/door/markers?limit=-1", 400),
        ("GET", "/api/v1/cameras/door/markers?limit=1001", 422),
        ("GET", "/api/v1/cameras/door/markers?from=yesterday", 422),
        ("GET", "/api/v1/cameras/door/markers?from=%00", 422),
        (
            "GET",
            "/api/v1/cameras/door/markers?to=999999999999999999999999",
            422,
        ),
        ("GET", "/api/v1/cameras/door/markers?cursor=1", 422),
        (
            "GET",
            "/api/v1/cameras/door/markers?from=0&to=9000000000",
            200,
        ),
        (
            "GET",
            "/api/v1/cameras/door/health?from=0&to=9000000000&points=1000",
            200,
        ),
        ("GET", "/api/v1/cameras/door/health?from=5&to=5", 422),
        ("GET", "/api/v1/cameras/door/health?points=0", 422),
        ("DELETE", "/api/v1/cameras/door/recordings", 400),
        ("DELETE", "/api/v1/cameras/door/recordings?from=5&to=4", 422),
        (
            "DELETE",
            "/api/v1/cameras/door/recordings?from=0&to=9000000000&edges=all",
            400,
        ),
        (
            "DELETE",
            "/api/v1/cameras/door/recordings?from=0&to=9000000000",
            200,
        ),
        ("GET", "/api/v1/events?only=everything", 422),
        ("GET", "/api/v1/events?last_event_id=-5", 422),
    ] {
        let body: &[u8] = if method == "PATCH" { b"{}" } else { b"" };
        let answer = server.send(method, path, &[("Content-Type", "application/json")], body);
        match status {
            200 => assert_eq!(
                answer.status,
                200,
                "{method} {path}: {:?}",
                String::from_utf8_lossy(&answer.body)
            ),
            status => {
                let problem = answer.problem(status);
                assert!(problem.to_string().len() < 6000, "{method} {path}");
            }
        }
    }
    // A path of this machine is in none of the answers.
    let text = server
        .get("/api/v1/cameras/nobody/recordings")
        .json()
        .to_string();
    assert!(
        !text.contains(server.folder.path().to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn only_pages_of_allowed_origins_may_use_the_api() {
    let server = Server::start("[http]\ncors_origins = [\"https://wall.example\"]\n");
    let body = json!({"start": 1000, "label": "x"}).to_string();
    let post = |headers: &[(&str, &str)]| {
        let all = [&[("Content-Type", "application/json")], headers].concat();
        server.send("POST", MARKERS, &all, body.as_bytes())
    };
    let own = format!("http://{}", server.address);
    assert_eq!(post(&[]).status, 201);
    assert_eq!(post(&[("Origin", &own)]).status, 201);
    let allowed = post(&[("Origin", "https://wall.example")]);
    assert_eq!(allowed.status, 201);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://wall.example")
    );
    for foreign in [
        "https://evil.example",
        "null",
        "https://wall.example.evil.example",
        "http://wall.example",
    ] {
        let refused = post(&[("Origin", foreign)]);
        refused.problem(403);
        assert_eq!(
            refused.header("access-control-allow-origin"),
            None,
            "{foreign}"
        );
        let read = server.send("GET", MARKERS, &[("Origin", foreign)], b"");
        assert_eq!(
            read.header("access-control-allow-origin"),
            None,
            "{foreign}"
        );
    }
    let ask = |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "PATCH"),
            ("Access-Control-Request-Headers", "content-type"),
        ];
        server.send("OPTIONS", MARKERS, &headers, b"")
    };
    let preflight = ask("https://wall.example");
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://wall.example")
    );
    assert!(
        preflight
            .header("access-control-allow-methods")
            .unwrap()
            .contains("PATCH")
    );
    assert_eq!(
        ask("https://evil.example").header("access-control-allow-origin"),
        None
    );
    // A name that was made to resolve to this machine.
    server
        .send("GET", "/api/v1/disk", &[("Host", "evil.example")], b"")
        .problem(421);
    assert_eq!(
        server.get(MARKERS).json()["markers"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_problem_is_readable_by_clients_that_take_compressed_answers() {
    let server = Server::start("");
    let path = "/api/v1/cameras/nobody/markers";
    let answer = server.send("GET", path, &[("Accept-Encoding", "identity")], b"");
    let plain = answer.problem(404);
    let packed = server.send("GET", path, &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(packed.status, 404);
    match packed.header("content-encoding") {
        None => assert_eq!(packed.json(), plain),
        // In chunks; what gzip begins with (RFC 1952, 2.3.1).
        Some(coding) => {
            let begins = packed.body.windows(2).any(|bytes| bytes == [0x1f, 0x8b]);
            assert_eq!((coding, begins), ("gzip", true));
        }
    }
}

// --- markers

#[test]
fn a_marker_that_was_answered_survives_any_death_and_can_be_sent_again() {
    let mut server = Server::start("");
    let bodies: Vec<Value> = (0..20)
        .map(|n| json!({"id": format!("m{n}"), "start": 1_795_248_900.5 + f64::from(n), "label": "x"}))
        .collect();
    for body in &bodies {
        let made = server.json("POST", MARKERS, body);
        assert_eq!(made.status, 201);
        let at = made.header("location").unwrap().to_owned();
        assert_eq!(server.get(&at).json(), made.json());
    }
    server.signal(Signal::SIGKILL);
    server.again();
    let found = server.get(&format!("{MARKERS}?limit=1000")).json();
    assert_eq!(found["markers"].as_array().unwrap().len(), 20);
    let all = json!({ "markers": bodies });
    let again = server.json("POST", MARKERS, &all);
    assert_eq!(again.status, 200);
    let mut other = bodies[3].clone();
    other["label"] = json!("y");
    let problem = server.json("POST", MARKERS, &other).problem(409);
    assert_eq!(problem["type"], "/problems/marker-exists");
    let changed = server.json(
        "PATCH",
        &format!("{MARKERS}/m3"),
        &json!({"label": "y", "score": 0.5}),
    );
    assert_eq!(
        (
            changed.json()["label"].clone(),
            changed.json()["score"].clone()
        ),
        (json!("y"), json!(0.5))
    );
    assert_eq!(
        server
            .send("DELETE", &format!("{MARKERS}/m3"), &[], b"")
            .status,
        204
    );
    server.get(&format!("{MARKERS}/m3")).problem(404);
    // Page by page, newest first.
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = server
            .get(&format!("{MARKERS}?limit=7&order=newest{cursor}"))
            .json();
        seen.extend(
            page["markers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|marker| marker["id"].clone()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<Value> = (0..20)
        .rev()
        .filter(|n| *n != 3)
        .map(|n| json!(format!("m{n}")))
        .collect();
    assert_eq!(seen, expected);
    server.signal(Signal::SIGTERM);
}

#[test]
fn the_live_feed_goes_on_where_it_broke_off() {
    let mut server = Server::start("");
    let make = |server: &Server, n: u32| {
        let body = json!({"id": format!("m{n}"), "start": 1000 + n, "label": "x"});
        assert_eq!(server.json("POST", MARKERS, &body).status, 201);
    };
    let next = |events: &mut server::Events| {
        let event = events.next();
        assert_eq!(event.name, "marker");
        (
            event.id.unwrap(),
            event.data["what"].clone(),
            event.data["id"].clone(),
        )
    };
    let mut events = server.events("?only=marker", None);
    let mut of_others = server.events("?camera=yard&only=marker", None);
    make(&server, 1);
    let (first, what, id) = next(&mut events);
    assert_eq!((what, id), (json!("created"), json!("m1")));
    make(&server, 2);
    assert_eq!(next(&mut events).2, json!("m2"));
    server.signal(Signal::SIGKILL);
    drop(events);
    server.again();
    make(&server, 3);
    assert_eq!(
        server
            .send("DELETE", &format!("{MARKERS}/m2"), &[], b"")
            .status,
        204
    );
    // What came meanwhile, as it is now; then what comes.
    let mut events = server.events("", Some(&first.to_string()));
    assert_eq!(
        next(&mut events),
        (first + 1, json!("deleted"), json!("m2"))
    );
    assert_eq!(
        next(&mut events),
        (first + 2, json!("created"), json!("m3"))
    );
    assert_eq!(
        next(&mut events),
        (first + 3, json!("deleted"), json!("m2"))
    );
    make(&server, 4);
    assert_eq!(
        next(&mut events),
        (first + 4, json!("created"), json!("m4"))
    );
    // An id of another database.
    for last in ["999999", "nonsense"] {
        let event = server.events("", Some(last)).next();
        assert_eq!(
            (event.name.as_str(), event.id),
            ("reset", Some(first + 4)),
            "{last}"
        );
    }
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| of_others.next()));
    assert!(ended.is_err(), "an event of another camera");
}

#[test]
fn there_is_room_for_so_many_listeners_and_no_more() {
    let server = Server::start("");
    let mut listeners: Vec<_> = (0..256).map(|_| server.events("", None)).collect();
    let refused = server.get("/api/v1/events").problem(503);
    assert_eq!(refused["type"], "/problems/too-many-readers");
    // Others are answered all the same, and room is made by who goes.
    assert_eq!(server.get("/api/v1/disk").status, 200);
    listeners.truncate(200);
    wait_until("room", || {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = server.connect();
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.contains(" 200 ")
    });
}

// --- recordings

/// A time in the past, an hour's beginning.
const START: i64 = 1_795_200_000_000 / 3_600_000 * 3_600_000;

fn at(minute: i64) -> String {
    format!("{}", START / 1000 + minute * 60)
}

#[test]
fn recordings_are_listed_named_protected_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let door = record(&data, "door", START, 20, 1000);
    let gone = record(&data, "gone/main", START, 5, 1000);
    let server = Server::start_in(folder, "[record]\nkeep = \"87600h\"\nmin_free = \"1MiB\"\n");
    let list = server.get("/api/v1/recordings").json();
    let of = |n: usize| list["recordings"][n].clone();
    assert_eq!(
        (of(0)["camera"].clone(), of(1)["camera"].clone()),
        (json!("door"), json!("gone"))
    );
    assert_eq!(
        (of(0)["configured"].clone(), of(1)["configured"].clone()),
        (json!(true), json!(false))
    );
    assert_eq!(
        (
            of(0)["seconds"].as_f64().unwrap().round(),
            of(0)["gaps"].clone()
        ),
        (1200.0, json!(0))
    );
    assert_eq!(of(0)["renditions"][0]["files"], 20);
    assert_eq!(of(0)["first"], camring::serve::time::rfc3339_ms(START));

    let path = "/api/v1/cameras/door/recordings";
    let named = server.json("PATCH", path, &json!({"title": "Front \"door\" ☃"}));
    assert_eq!(named.json()["title"], "Front \"door\" ☃");
    server
        .json("PATCH", path, &json!({"title": "a\nb"}))
        .problem(422);
    server.json("PATCH", path, &json!({})).problem(422);

    let made = server.json(
        "POST",
        PROTECTIONS,
        &json!({"from": START / 1000 + 600, "to": at(11), "name": "theft"}),
    );
    assert_eq!(made.status, 201, "{}", made.json());
    let clip = made.header("location").unwrap().to_owned();
    let renamed = server
        .json("PATCH", &clip, &json!({"name": "the theft"}))
        .json();
    assert_eq!(
        (renamed["name"].clone(), renamed["from"].clone()),
        (json!("the theft"), made.json()["from"].clone())
    );
    server
        .json("POST", PROTECTIONS, &json!({"from": at(5), "to": at(5)}))
        .problem(422);
    for (minute, id) in [(3, "early"), (10, "protected"), (14, "late")] {
        let body = json!({"start": START / 1000 + minute * 60 + 30, "label": "x", "id": id});
        assert_eq!(server.json("POST", MARKERS, &body).status, 201);
    }

    // From the middle of one minute to the middle of another: whole minutes within go.
    let range = format!(
        "{path}?from={}&to={}",
        START / 1000 + 5 * 60 + 30,
        START / 1000 + 16 * 60 + 30
    );
    let deleted = server.send("DELETE", &range, &[], b"").json();
    assert_eq!(deleted["files"], 9, "{deleted}");
    assert_eq!(
        (
            deleted["kept_protected"].clone(),
            deleted["kept_edges"].clone()
        ),
        (json!(1), json!(2))
    );
    assert_eq!(deleted["markers"], 1);
    assert_eq!(files(&door).len(), 2 * 11);
    let markers = server.get(MARKERS).json()["markers"].clone();
    let ids: Vec<&str> = markers
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|marker| marker["id"].as_str())
        .collect();
    assert_eq!(ids, ["early", "protected"]);
    assert_eq!(files(&gone).len(), 2 * 5);
    let deleted = server
        .send("DELETE", &format!("{range}&edges=delete"), &[], b"")
        .json();
    assert_eq!(
        (deleted["files"].clone(), deleted["kept_edges"].clone()),
        (json!(2), json!(0))
    );

    // Of a camera that is not configured any more, everything.
    let all = format!(
        "/api/v1/cameras/gone/recordings?from={}&to={}",
        at(-5),
        at(60)
    );
    assert_eq!(server.send("DELETE", &all, &[], b"").json()["files"], 5);
    server
        .get("/api/v1/cameras/gone/recordings")
        .problem_or_empty();
    assert_eq!(server.send("DELETE", &clip, &[], b"").status, 204);
    server
        .json("PATCH", &clip, &json!({"name": "x"}))
        .problem(404);
}

impl server::Answer {
    /// An emptied folder may still be known.
    fn problem_or_empty(&self) {
        match self.status {
            200 => assert_eq!(self.json()["bytes"], 0),
            status => drop(self.problem(status)),
        }
    }
}

#[test]
fn retention_holds_its_limits_through_deaths_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cameras = ["door", "yard/main", "shed/sub"];
    let renditions = cameras.map(|stream| record(&data, stream, START, 300, 16 << 10));
    let limit = "[record]\nkeep = \"87600h\"\nmax_size = \"1MiB\"\nmin_free = \"1MiB\"\n";
    let mut server = Server::start_in(folder, limit);
    let protect = json!({"from": at(0), "to": at(2), "name": "kept"});
    let there = || {
        renditions
            .iter()
            .map(|rendition| files(rendition).len())
            .sum::<usize>()
    };
    assert_eq!(server.json("POST", PROTECTIONS, &protect).status, 201);
    let mut kills = 0;
    let disk = loop {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..300)));
        let disk = server.get("/api/v1/disk").json();
        if disk["used_bytes"].as_u64().unwrap() <= 1 << 20 && disk["files"] != 0 && kills > 0 {
            break disk;
        }
        if kills < 12 {
            let before = there();
            server.signal(Signal::SIGKILL);
            server.again();
            kills += 1;
            assert!(there() <= before);
        }
    };
    assert!(
        disk["deleted"]["size"]["files"].as_u64().is_some() || kills > 0,
        "{disk}"
    );
    assert_eq!(disk["limits"]["max_bytes"], 1 << 20);
    // The oldest went first, from all cameras, and what is left is whole: each file with its index.
    for rendition in &renditions {
        let left = files(rendition);
        let stems = |ending: &str| -> BTreeSet<String> {
            let of = left
                .iter()
                .filter_map(|name| Some(name.strip_suffix(ending)?.to_owned()));
            of.collect()
        };
        assert_eq!(stems(".m4s"), stems(".idx"), "{}", rendition.stream);
        let numbers: Vec<u64> = stems(".m4s")
            .iter()
            .map(|stem| stem.split('-').nth(1).unwrap().parse().unwrap())
            .collect();
        assert!(numbers.contains(&299), "{}: {numbers:?}", rendition.stream);
        // Begun before the range was protected, a pass may have taken the first of them.
        let newest: Vec<u64> = numbers.into_iter().filter(|n| *n > 2).collect();
        assert!(
            newest.iter().all(|n| *n > 200),
            "{}: {newest:?}",
            rendition.stream
        );
    }
    // The index follows the files.
    let listed = || {
        let list = server.get("/api/v1/recordings").json();
        let each = list["recordings"].as_array().unwrap().iter();
        each.map(|recording| recording["renditions"][0]["files"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(listed() as usize * 2, there());
}

#[test]
fn what_is_protected_is_kept_and_said_when_it_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let door = record(&data, "door", START, 30, 64 << 10);
    let protections = json!({"protections": [{"id": "a", "camera": "door", "name": "all", "created_ns": 0,
        "from_ns": START * 1_000_000, "to_ns": (START + 3_600_000) * 1_000_000}], "titles": {}});
    fs::write(data.join("library.json"), protections.to_string()).unwrap();
    let limit = "[record]\nkeep = \"1m\"\nmax_size = \"1MiB\"\nmin_free = \"1MiB\"\n";
    let server = Server::start_in(folder, limit);
    let disk = || server.get("/api/v1/disk").json();
    wait_until("a pass", || disk()["last_pass"].is_string());
    let seen = disk();
    let trouble = seen["trouble"].as_str().unwrap();
    assert!(
        trouble.contains("protected (1.9 MiB") && trouble.contains("unprotect"),
        "{trouble}"
    );
    assert_eq!(files(&door).len(), 60);
    assert_eq!(seen["protected_bytes"], seen["used_bytes"]);
    assert_eq!(
        server
            .send("DELETE", &format!("{PROTECTIONS}/a"), &[], b"")
            .status,
        204
    );
    let list = server.get(PROTECTIONS).json();
    assert_eq!(list["protections"], json!([]));
}
