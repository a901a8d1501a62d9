//! Who may do what: users, tokens, sessions, and what is written down of it.

use std::io::{BufRead as _, BufReader, Write as _};

use axum::http::Method;
use camring::config::{Role, proof};
use camring::serve::access::rules::{self, Needs};
use serde_json::{Value, json};

use crate::server::{Answer, Server, data_dir};

const PASSWORD: &str = "canary correct horse";

/// A server with a user of each role, who has that role's name, and a token of each; and the tokens.
fn start(data: &std::path::Path) -> (Server, [String; 3]) {
    let hash = proof::hash_password(PASSWORD).unwrap();
    let mut tokens = [const { String::new() }; 3];
    let mut text = String::new();
    for (role, token) in Role::ALL.into_iter().zip(&mut tokens) {
        let role = role.name();
        let (secret, hashed) = proof::new_token().unwrap();
        *token = format!("Bearer {secret}");
        text += &format!(
            "[[http.user]]\nname = \"{role}\"\npassword_hash = \"{hash}\"\nrole = \"{role}\"\n\
             [[http.token]]\nname = \"t-{role}\"\nhash = \"{hashed}\"\nrole = \"{role}\"\n"
        );
    }
    (Server::start_with(data, &text), tokens)
}

fn log_in(server: &Server, name: &str, password: &str) -> Answer {
    let body = json!({"name": name, "password": password}).to_string();
    let headers = [("Content-Type", "application/json")];
    server.request("POST", "/api/v1/session", &headers, body.as_bytes())
}

/// `name=value` of the cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    set.split(';').next().unwrap().to_owned()
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {coded}")
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
}

#[test]
fn every_route_says_what_it_asks_and_holds_to_it() {
    let (_folder, data) = data_dir();
    let (server, tokens) = start(&data);
    let description = json_of(&server.get("/api/openapi.json"));
    for scheme in ["token", "password", "session"] {
        assert!(description["components"]["securitySchemes"][scheme].is_object());
    }
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name: Method = method.to_uppercase().parse().unwrap();
            let declared = rules::TABLE.iter().any(|(m, p, _)| *m == name && p == path);
            assert!(declared, "{name} {path} is in no rule");
            let needs = rules::needs(&name, path);
            let described = operation["security"].is_array();
            assert_eq!(described, needs != Some(Needs::Nothing), "{name} {path}");
        }
    }
    for (method, path, needs) in rules::TABLE {
        let at: Vec<_> = path
            .split('/')
            .map(|part| match part {
                "{camera}" => "nobody",
                "{*path}" => "x.js",
                part if part.starts_with('{') => "1",
                part => part,
            })
            .collect();
        let at = at.join("/");
        let ask = |authorization: Option<&str>| {
            let headers: Vec<_> = authorization
                .into_iter()
                .map(|value| ("Authorization", value))
                .collect();
            server.request(method.as_str(), &at, &headers, b"").status
        };
        let anonymous = ask(None);
        let Needs::Role(needed) = needs else {
            // There is a route, and it does not ask.
            assert!(
                ![401, 403, 405, 500].contains(&anonymous),
                "{method} {path}: {anonymous}"
            );
            continue;
        };
        assert_eq!(anonymous, 401, "{method} {path}");
        for (role, token) in Role::ALL.into_iter().zip(&tokens) {
            // It would not end.
            if at == "/api/v1/events" {
                continue;
            }
            let status = ask(Some(token));
            match role >= *needed {
                true => assert!(
                    ![401, 403, 405].contains(&status),
                    "{method} {path}: {status}"
                ),
                false => assert_eq!(status, 403, "{method} {path} as {role:?}"),
            }
        }
    }
    // What is not there is not there for anybody, and a method that is none is said to be.
    assert_eq!(server.get("/nothing").status, 404);
    let put = server.request("PUT", "/api/v1/disk", &[("Authorization", &tokens[2])], b"");
    assert_eq!(put.status, 405);
}

#[test]
fn a_session_is_for_our_own_pages_and_ends() {
    let (_folder, data) = data_dir();
    let (server, tokens) = start(&data);
    let who = json_of(&server.get("/api/v1/session"));
    assert_eq!(who, json!({"required": true}));
    log_in(&server, "operator", "wrong").is_problem(401, "unauthorized");
    log_in(&server, "nobody", PASSWORD).is_problem(401, "unauthorized");
    let answer = log_in(&server, "operator", PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let set = answer.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure") && !answer.text().contains(&cookie(&answer)));
    let cookie = cookie(&answer);
    let with = |method: &str, path: &str, more: &[(&str, &str)], body: &str| {
        let headers = [&[("Cookie", cookie.as_str())], more].concat();
        server.request(method, path, &headers, body.as_bytes())
    };
    let who = json_of(&with("GET", "/api/v1/session", &[], ""));
    assert_eq!(
        (&who["name"], &who["role"]),
        (&json!("operator"), &json!("operator"))
    );
    assert_eq!(with("GET", "/api/v1/disk", &[], "").status, 200);
    with("GET", "/api/v1/audit", &[], "").is_problem(403, "role-too-low");

    // Changes: from our own pages only, and as only scripts send them.
    let own = format!("http://{}", server.address);
    let start = "/api/v1/cameras/yard/start";
    for (headers, status, slug) in [
        (&[][..], 403, "origin-not-allowed"),
        (
            &[("Origin", "https://evil.example")],
            403,
            "origin-not-allowed",
        ),
        (&[("Origin", "null")], 403, "origin-not-allowed"),
        (
            &[("Sec-Fetch-Site", "same-site")],
            403,
            "origin-not-allowed",
        ),
        (&[("Sec-Fetch-Site", "none")], 403, "origin-not-allowed"),
        (&[("Origin", own.as_str())], 503, "no-daemon"),
        (&[("Sec-Fetch-Site", "same-origin")], 503, "no-daemon"),
    ] {
        with("POST", start, headers, "").is_problem(status, slug);
    }
    let form = [("Origin", own.as_str()), ("Content-Type", "text/plain")];
    with("POST", start, &form, "{}").is_problem(415, "unsupported-media-type");

    // An answer without an end ends with the session.
    let mut stream = server.connect();
    let head = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains("200"));
    let out = with("DELETE", "/api/v1/session", &[("Origin", &own)], "");
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert!(
        lines.by_ref().map_while(Result::ok).any(|line| line == "0"),
        "the last chunk"
    );
    with("GET", "/api/v1/disk", &[], "").is_problem(401, "unauthorized");

    // Who did what, without what was sent.
    let audit = || {
        let headers = [("Authorization", tokens[2].as_str())];
        server.request("GET", "/api/v1/audit", &headers, b"")
    };
    // The disk is not waited for by those who are written down.
    let entries = crate::wait_for("all of the audit log", || {
        let entries = json_of(&audit())["entries"].as_array().unwrap().clone();
        (entries.len() == 12).then_some(entries)
    });
    let audit = audit();
    let of = |path: &str, outcome: &str| {
        let mut all = entries.iter();
        let found = all.find(|entry| entry["path"] == path && entry["outcome"] == outcome);
        found
            .unwrap_or_else(|| panic!("no {outcome} {path}: {entries:#?}"))
            .clone()
    };
    let failed = of(start, "failed");
    assert_eq!(failed["who"], "operator");
    assert_eq!(failed["camera"], "yard");
    assert_eq!(of("/api/v1/session", "done")["who"], "operator");
    let refused = of("/api/v1/session", "refused");
    assert_eq!(refused["status"], 401);
    // A name that is no user's may be a password in the wrong field.
    for text in [audit.text(), server.log()] {
        assert!(
            !text.contains("nobody\"") || text.contains("\"kind\":\"nobody\""),
            "{text}"
        );
        assert!(!text.contains(PASSWORD) && !text.contains(cookie.split('=').nth(1).unwrap()));
    }
}

#[test]
fn bodies_of_strangers_take_nobody_elses_room() {
    let (_folder, data) = data_dir();
    let (server, tokens) = start(&data);
    // More than would fill the room of all, if they counted as other bodies do, and never ending.
    let head = "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    let held: Vec<_> = (0..20)
        .flat_map(|_| ["/api/v1/session", "/nowhere"])
        .map(|path| {
            let mut stream = std::net::TcpStream::connect(server.address).unwrap();
            write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\n\r\n1\r\n{{\r\n").unwrap();
            stream
        })
        .collect();
    let metrics = [("Authorization", tokens[0].as_str())];
    crate::wait_for("their requests", || {
        let text = server.request("GET", "/metrics", &metrics, b"").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("camring_http_requests_in_progress "));
        // The scrape is one itself.
        (line?.parse::<f64>().ok()? > 20.0).then_some(())
    });
    let known = [
        ("Authorization", tokens[1].as_str()),
        ("Content-Type", "application/json"),
    ];
    // It is read, whatever comes of it.
    let answer = server.request("POST", "/api/v1/cameras/yard/markers", &known, b"{}");
    assert!([404, 422].contains(&answer.status), "{}", answer.text());
    drop(held);
    // And a login is no place to send more than that.
    let long = "x".repeat(20 << 10);
    log_in(&server, "operator", &long).is_problem(413, "body-too-large");
}

#[test]
fn programs_come_with_tokens_and_guessing_gets_slow() {
    let (_folder, data) = data_dir();
    let (server, tokens) = start(&data);
    let get = |authorization: &str| {
        server.request(
            "GET",
            "/api/v1/disk",
            &[("Authorization", authorization)],
            b"",
        )
    };
    let token = tokens[0].strip_prefix("Bearer ").unwrap();
    assert_eq!(get(&tokens[0]).status, 200);
    assert_eq!(get(&basic("viewer", PASSWORD)).status, 200);
    assert_eq!(get(&basic("whoever", token)).status, 200);
    let refused = get("Bearer camring_0000");
    refused.is_problem(401, "unauthorized");
    // So that players ask for a name and a password, and browsers that show the dashboard do not.
    assert!(refused.header("www-authenticate").starts_with("Basic "));
    let browser = server.request("GET", "/api/v1/disk", &[("Sec-Fetch-Mode", "cors")], b"");
    assert!(browser.header("www-authenticate").starts_with("Bearer "));
    for odd in [
        "",
        "x",
        "Basic",
        "Basic !",
        "Basic eA==",
        "Negotiate x",
        "Bearer ",
    ] {
        assert_eq!(get(odd).status, 401, "{odd:?}");
    }
    // The address has logged in before, so it is its own wrong ones that count.
    let mut waits = 0;
    for _ in 0..20 {
        let answer = log_in(&server, "admin", "wrong");
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
            waits += 1;
        }
    }
    assert!(waits > 0);
    // Another address behind a web server of this machine is not held up.
    let body = json!({"name": "viewer", "password": PASSWORD}).to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "192.0.2.9"),
        ("Origin", &format!("https://{}", server.address)),
    ];
    let other = server.request("POST", "/api/v1/session", &headers, body.as_bytes());
    assert_eq!(other.status, 200, "{}", other.text());
    // The page came by HTTPS, as its origin says.
    assert!(other.header("set-cookie").contains("; Secure"));
    assert!(other.header("set-cookie").starts_with("__Host-"));
    // Tokens are never held up.
    assert_eq!(get(&tokens[0]).status, 200);
}

#[test]
fn every_answer_tells_browsers_what_not_to_do() {
    let (_folder, data) = data_dir();
    let server = Server::start(&data);
    for path in [
        "/",
        "/api",
        "/api/openapi.json",
        "/api/v1/cameras",
        "/nothing",
        "/favicon.svg",
    ] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(
            answer.header("permissions-policy").contains("camera=()"),
            "{path}"
        );
        // Not without TLS.
        assert_eq!(answer.header("strict-transport-security"), "", "{path}");
    }
    // What a browser has kept stays under the policy that came with it.
    let icon = server.get("/favicon.svg");
    let known = [("If-None-Match", icon.header("etag"))];
    let again = server.request("GET", "/favicon.svg", &known, b"");
    assert_eq!(
        (again.status, again.header("content-security-policy")),
        (304, "")
    );
    assert_eq!(
        server.get("/api/v1/cameras").header("cache-control"),
        "no-store"
    );
    // Without users everybody is an administrator, as before.
    let who = json_of(&server.get("/api/v1/session"));
    assert_eq!(
        who,
        json!({"required": false, "kind": "open", "role": "admin"})
    );
    log_in(&server, "anna", "whatever it is").is_problem(409, "no-users");
    assert_eq!(server.get("/api/v1/audit").status, 200);
}

/// A certificate for `localhost` and its key, by `openssl`.
fn certificate(folder: &std::path::Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let files = ["crt", "key"].map(|end| folder.join(format!("{name}.{end}")));
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30".split(' '))
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-out")
        .arg(&files[0])
        .arg("-keyout")
        .arg(&files[1])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let [certificate, key] = files;
    (certificate, key)
}

/// What `curl` says of an answer, and its headers.
fn curl(server: &Server, authority: &std::path::Path, more: &[&str]) -> String {
    let port = server.address.port();
    let asked = std::process::Command::new("curl")
        .args([
            "-sS",
            "-D",
            "-",
            "-o",
            "/dev/null",
            "--max-time",
            "60",
            "--cacert",
        ])
        .arg(authority)
        .args(["-w", "%{http_version} %{http_code}"])
        .args(more)
        .arg(format!("https://localhost:{port}/api/v1/session"))
        .output()
        .expect("curl");
    String::from_utf8([asked.stdout, asked.stderr].concat()).unwrap()
}

#[test]
fn https_goes_on_while_its_certificate_is_exchanged() {
    let (folder, data) = data_dir();
    let (first, first_key) = certificate(folder.path(), "first");
    let (second, second_key) = certificate(folder.path(), "second");
    let (served, key) = (
        folder.path().join("served.crt"),
        folder.path().join("served.key"),
    );
    std::fs::copy(&first, &served).unwrap();
    std::fs::copy(&first_key, &key).unwrap();
    let server = Server::start_with(
        &data,
        &format!("[http.tls]\ncertificate = {served:?}\nkey = {key:?}\n"),
    );
    let answer = curl(&server, &first, &["--http2"]);
    assert!(answer.ends_with("2 200"), "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );
    let answer = curl(&server, &first, &["--http1.1"]);
    assert!(answer.ends_with("1.1 200"), "{answer}");
    let plain = server.get("/");
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("https://"), "{}", plain.text());
    assert_eq!(plain.header("x-content-type-options"), "nosniff");

    // A connection that goes on through all of it.
    let mut events = std::process::Command::new("curl")
        .args(["-sSN", "--http2", "--cacert"])
        .arg(&first)
        .arg(format!(
            "https://localhost:{}/api/v1/events",
            server.address.port()
        ))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().is_ok());
    // A key that is not the certificate's: refused, and the old ones are served on.
    std::fs::copy(&second_key, &key).unwrap();
    crate::wait_for("the refusal", || {
        server
            .log()
            .contains("the old certificate is served on")
            .then_some(())
    });
    assert!(curl(&server, &first, &[]).ends_with("200"));
    std::fs::copy(&second, &served).unwrap();
    crate::wait_for("the new certificate", || {
        server
            .log()
            .contains("the new certificate is served")
            .then_some(())
    });
    assert!(curl(&server, &second, &[]).ends_with("200"));
    assert!(!curl(&server, &first, &[]).ends_with("200"));
    assert!(events.try_wait().unwrap().is_none(), "it was disconnected");
    events.kill().unwrap();
    events.wait().unwrap();
    assert!(!server.log().contains("PRIVATE KEY"));
}
