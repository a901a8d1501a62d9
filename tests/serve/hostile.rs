//! Requests that nobody should make. Every answer is a problem with a reason, and the server goes on.

use std::io::Write as _;
use std::net::TcpStream;

use crate::recorder::{Clip, Recorder, SECOND};
use crate::server::{Server, data_dir};

const START_NS: i64 = 1_795_248_900 * SECOND;

#[test]
fn what_is_not_there_is_said_not_to_be() {
    let (_folder, data) = data_dir();
    Recorder::new(&data, "gate/main", Clip::of_ffmpeg(), START_NS).seconds(6);
    std::fs::write(data.join("secret"), "secret").unwrap();
    let server = Server::start(&data);
    let base = "/hls/gate/main/source";
    for (path, status, slug) in [
        ("/hls/nobody/index.m3u8", 404, "unknown-camera"),
        ("/hls/nobody/main/source/live.m3u8", 404, "unknown-camera"),
        ("/hls/yard/index.m3u8", 404, "nothing-recorded"),
        ("/hls/yard/main/source/dvr.m3u8", 404, "nothing-recorded"),
        ("/hls/gate/sub/source/live.m3u8", 404, "unknown-rendition"),
        ("/hls/gate/main/720p/live.m3u8", 404, "unknown-rendition"),
        ("/hls/gate/index.m3u8?playlist=all", 400, "bad-query"),
        ("/hls/gate/index.m3u8?from=x", 422, "invalid"),
        ("/hls/gate/index.m3u8?from=2&to=1", 400, "not-a-range"),
        (
            "/hls/gate/index.m3u8?from=1&to=2",
            404,
            "nothing-recorded-then",
        ),
        ("/dash/nobody/manifest.mpd", 404, "unknown-camera"),
        ("/dash/yard/manifest.mpd", 404, "nothing-recorded"),
        ("/dash/gate/manifest.mpd?from=9&to=9", 400, "not-a-range"),
        (
            "/dash/gate/manifest.mpd?from=1&to=2",
            404,
            "nothing-recorded-then",
        ),
        ("/api/v1/cameras/nobody/timeline", 404, "unknown-camera"),
        (
            "/api/v1/cameras/gate/timeline?from=9&to=1",
            400,
            "not-a-range",
        ),
        ("/api/v1/cameras/gate/timeline?nonsense=1", 400, "bad-query"),
        ("/nothing", 404, "not-found"),
        ("/hls", 404, "not-found"),
    ] {
        server.get(path).is_problem(status, slug);
    }
    for (path, status, slug) in [
        ("range.m3u8", 400, "no-range"),
        ("range.m3u8?from=1&to=2", 404, "nothing-recorded-then"),
        ("range.m3u8?from=4000000000", 404, "nothing-recorded-then"),
        ("range.m3u8?from=99999999999999999999", 422, "invalid"),
        ("range.m3u8?from=1&from=2", 400, "bad-query"),
        ("range.m3u8?from=2026-11-21T08:15:00+01:00", 422, "invalid"),
        ("s/3.m4s", 404, "not-recorded"),
        ("s/18446744073709551615.m4s", 404, "not-recorded"),
        ("s/99999999999999999999.m4s", 404, "unknown-file"),
        ("s/-1.m4s", 404, "unknown-file"),
        ("s/1", 404, "unknown-file"),
        ("s/.m4s", 404, "unknown-file"),
        ("s/1.mp4", 404, "unknown-file"),
        ("p/1.m4s", 404, "unknown-file"),
        ("p/1.99.m4s", 404, "not-recorded"),
        ("p/1.99999999999999999999.m4s", 404, "unknown-file"),
        ("p/a.b.m4s", 404, "unknown-file"),
        ("init-0123456789abcdef.mp4", 404, "unknown-file"),
        ("init-xyz.mp4", 404, "unknown-file"),
        ("lock", 404, "unknown-file"),
        ("..%2f..%2f..%2fsecret", 404, "unknown-file"),
        ("s/..%2f..%2f..%2f..%2fsecret", 404, "unknown-file"),
        ("init-..%2f..%2fsecret.mp4", 404, "unknown-file"),
        ("s/%00.m4s", 404, "unknown-file"),
    ] {
        server
            .get(&format!("{base}/{path}"))
            .is_problem(status, slug);
    }
    // Ways out of the tree, in every name of a path.
    for path in [
        "/hls/..%2f..%2fetc/main/source/live.m3u8",
        "/hls/gate/..%2f..%2f/source/live.m3u8",
        "/hls/gate/main/..%2f..%2f/live.m3u8",
        "/hls/../../../etc/passwd",
        "/hls/gate/../../../secret",
        "//etc/passwd",
        "/assets/..%2f..%2fsecret",
        "/%2e%2e/%2e%2e/secret",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("root:"), "{path}");
    }
    // What is there is served still, and a range may be as wide as it likes.
    let wide = server.get(&format!("{base}/range.m3u8?from=0&to=9000000000"));
    assert_eq!(wide.text().matches("#EXTINF").count(), 3);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = server.request(method, "/hls/gate/index.m3u8", &[], b"{}");
        answer.is_problem(405, "method-not-allowed");
        assert!(answer.header("allow").contains("GET"));
    }
}

#[test]
fn foreign_pages_and_names_are_refused() {
    let (_folder, data) = data_dir();
    let server = Server::start_with(&data, "[http]\ncors_origins = [\"https://wall.example\"]\n");
    let get = |headers: &[(&str, &str)]| server.request("GET", "/api/openapi.json", headers, b"");
    get(&[("Host", "evil.example")]).is_problem(421, "host-not-allowed");
    get(&[("Host", "127.0.0.1"), ("Host", "127.0.0.1")]).is_problem(400, "bad-host");
    assert_eq!(get(&[("Host", "localhost:1")]).status, 200);
    // Answers can be read by the allowed page, and by no other.
    let allowed = get(&[("Origin", "https://wall.example")]);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        "https://wall.example"
    );
    let other = get(&[("Origin", "https://evil.example")]);
    assert_eq!(other.header("access-control-allow-origin"), "");
    let post = |headers: &[(&str, &str)]| {
        server.request("POST", "/api/v1/cameras/yard/markers", headers, b"[]")
    };
    post(&[("Origin", "https://evil.example")]).is_problem(403, "origin-not-allowed");
    post(&[("Origin", "null")]).is_problem(403, "origin-not-allowed");
    post(&[("Sec-Fetch-Site", "cross-site")]).is_problem(403, "origin-not-allowed");
    assert_ne!(post(&[("Origin", "https://wall.example")]).status, 403);
    let preflight = server.request(
        "OPTIONS",
        "/api/v1/cameras/yard/markers",
        &[
            ("Origin", "https://wall.example"),
            ("Access-Control-Request-Method", "POST"),
        ],
        b"",
    );
    assert!(
        preflight
            .header("access-control-allow-methods")
            .contains("POST")
    );
}

#[test]
fn malformed_requests_end_only_themselves() {
    let (_folder, data) = data_dir();
    Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS).seconds(4);
    let server = Server::start(&data);
    let long = "x".repeat(60_000);
    let many: String = (0..2000).map(|n| format!("h{n}: x\r\n")).collect();
    for (request, statuses) in [
        ("\r\n\r\nGARBAGE\r\n\r\n".to_owned(), &[400][..]),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), &[400, 505]),
        ("GET  /  HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        ("GET / HTTP/1.1\r\nHo st: x\r\n\r\n".to_owned(), &[400]),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), &[400, 404, 414, 431]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), &[400, 431]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), &[400, 431]),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345"
                .to_owned(),
            &[400],
        ),
        (
            "POST /api/v1/cameras/yard/markers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: 99999999999\r\n\r\n"
                .to_owned(),
            &[413],
        ),
        (
            "POST /api/v1/cameras/yard/markers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\nzz\r\n"
                .to_owned(),
            &[400],
        ),
    ] {
        let answer = server.raw(request.as_bytes());
        let shown: String = request.chars().take(60).collect();
        assert!(statuses.contains(&answer.status), "{}: {shown:?}", answer.status);
    }
    // Gone in the middle of an answer, and of a request.
    for request in [
        "GET /hls/yard/main/source/s/0.m4s HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /hl",
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        drop(stream);
    }
    assert_eq!(server.get("/hls/yard/main/source/live.m3u8").status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_thousand_clients_that_say_nothing_keep_nobody_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit
            .maximum
            .map_or(Some(8192), |most| Some(most.min(8192))),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(4);
    let server = Server::start(&data);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = memory();
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..1000 {
        let mut stream = server.connect();
        if n % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(server.get("/hls/yard/main/source/live.m3u8").status, 200);
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for 1000 idle clients");
    recorder.chunk();
    let waited = server.get("/hls/yard/main/source/live.m3u8?_HLS_msn=2&_HLS_part=0");
    assert_eq!(waited.status, 200);
}
