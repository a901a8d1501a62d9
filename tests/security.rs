//! Passwords are shown nowhere: not in logs of any level, not in what commands print, not in what `ps` can
//! see, and not in the messages about configurations that are wrong.
#![deny(unsafe_code)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use axum::http::Method;
use camring::config::proof;
use camring::serve::access::rules;
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};

/// In every password of these tests, and nowhere else.
const CANARY: &str = "canary";
/// `admin:canary` as Basic authentication sends it.
const BASIC: &str = "YWRtaW46Y2FuYXJ5";
/// Where a password comes from the environment.
const VARIABLE: &str = "TEST_CAMERA_PASSWORD";

#[track_caller]
fn check(what: &str, text: &str) {
    if let Some(at) = text.find(CANARY).or_else(|| text.find(BASIC)) {
        let line = text[at..].lines().next().unwrap_or_default();
        let before = text[..at].lines().next_back().unwrap_or_default();
        panic!("{what} shows a password: {before}{line}");
    }
}

/// Both outputs of a command.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Cameras that take the password in each place where one may be written, and refuse others.
fn site(farm: &Farm, folder: &Path) -> String {
    let url = |name: &str| {
        let url = farm.url(name);
        url.strip_prefix("rtsp://").expect("rtsp").to_owned()
    };
    fs::write(folder.join("yard"), "canary-file\n").expect("a credential");
    [
        (
            "in-url",
            format!("rtsp://admin:canary-url@{}", url("in-url")),
            "",
        ),
        (
            "in-keys",
            format!("rtsp://{}", url("in-keys")),
            "username = \"admin\"\npassword = \"canary-keys\"\n",
        ),
        (
            "in-query",
            format!(
                "rtsp://{}?user=admin&password=canary-query",
                url("in-query")
            ),
            "",
        ),
        (
            "in-environment",
            format!("rtsp://admin:${{{VARIABLE}}}@{}", url("in-environment")),
            "",
        ),
        (
            "in-file",
            format!("rtsp://{}", url("in-file")),
            "username = \"admin\"\npassword = \"${credential:yard}\"\n",
        ),
        (
            "wrong",
            format!("rtsp://admin:canary-wrong@{}", url("in-url")),
            "",
        ),
        (
            "gone",
            format!("rtsp://admin:canary-gone@{}", url("gone")),
            "",
        ),
        (
            "absent",
            "rtsp://admin:canary-absent@127.0.0.1:1/x?pwd=canary-absent&token=canary-absent".into(),
            "",
        ),
    ]
    .into_iter()
    .map(|(name, url, keys)| format!("[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n{keys}\n"))
    .chain([
        "[[camera]]\nname = \"in-stream\"\n[[camera.stream]]\nname = \"main\"\nusername = \"admin\"\n\
         password = \"canary-stream\"\nurl = \"rtsp://127.0.0.1:1/y?pwd=canary-stream\"\n"
            .to_owned(),
    ])
    .collect()
}

#[test]
fn a_running_daemon_shows_no_password() {
    let farm = Farm::start(&[
        Camera::new("in-url", "h264-180p").digest("admin", "canary-url"),
        Camera::new("in-keys", "h264-180p").basic("admin", "canary-keys"),
        Camera::new("in-query", "h264-180p"),
        Camera::new("in-environment", "h264-180p").basic("admin", "canary/env@1"),
        Camera::new("in-file", "h264-180p").digest("admin", "canary-file"),
        Camera::new("gone", "h264-180p").basic("admin", "canary-gone"),
    ]);
    farm.remove("gone");
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |command: &mut Command| {
        command
            .env(VARIABLE, "canary/env@1")
            .env("CREDENTIALS_DIRECTORY", folder.path());
    };
    // Who may use HTTP, and its certificate.
    let password = proof::hash_password("canary-user").expect("a hash");
    let (token, hash) = proof::new_token().expect("a token");
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -addext subjectAltName=IP:127.0.0.1".split(' '))
        .arg("-out").arg(&certificate).arg("-keyout").arg(&key)
        .output().expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let secret_key = fs::read_to_string(&key).expect("a key");
    fs::write(&key, format!("canary-key\n{secret_key}")).expect("a key");
    let secret_line = secret_key
        .lines()
        .nth(1)
        .expect("its first line")
        .to_owned();
    let http = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[http.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\
         [[http.user]]\nname = \"anna\"\npassword_hash = \"{password}\"\nrole = \"admin\"\n\
         [[http.token]]\nname = \"t\"\nhash = \"{hash}\"\nrole = \"admin\"\n"
    );
    let config = format!(
        "{http}[retry]\ninitial = \"100ms\"\nmax = \"500ms\"\nunauthorized = \"500ms\"\n\n{}",
        site(&farm, folder.path())
    );
    let daemon = Daemon::start_with(&config, |command| {
        secret(command);
        // What retina logs is left out, unless it is asked for.
        command.env("CAMRING_LOG", "trace,retina=trace");
    });
    for name in ["in-url", "in-keys", "in-query", "in-environment", "in-file"] {
        daemon.wait_for_state(name, "streaming");
    }
    for (name, word) in [("wrong", "401"), ("gone", "404"), ("absent", "refused")] {
        daemon.wait_for_camera(name, word, |c| {
            c["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(word))
        });
    }

    let status = daemon.status();
    check("status --json", &status.to_string());
    check("status", &output(&mut daemon.camring(["status"])));
    for (name, command) in [
        ("in-url", &["tail", "-n", "3", "--json"][..]),
        ("wrong", &["snapshot", "-o", "-", "--timeout", "100ms"]),
        ("absent", &["snapshot", "-o", "-", "--timeout", "100ms"]),
        ("no-such", &["tail"]),
    ] {
        let mut command = daemon.camring(command.iter().copied().chain([name]));
        secret(&mut command);
        check(name, &output(command.env("CAMRING_LOG", "trace")));
    }
    for url in [
        "rtsp://admin:canary-absent@127.0.0.1:1/x?password=canary-absent",
        "rtsp://admin:${TEST_CAMERA_PASSWORD}@127.0.0.1:1/",
        "rtsp://admin:canary@127.0.0.1:port/",
    ] {
        let mut command = daemon.camring(["probe", url]);
        secret(&mut command);
        check("probe", &output(command.env("CAMRING_LOG", "trace")));
    }
    for (arguments, word) in [
        (&["check"][..], "in-environment"),
        (&["check", "--json"], "in-environment"),
        (&["check", "--systemd"], "IPAddressAllow"),
        (&["check", "--hardware"], "software"),
    ] {
        let mut command = daemon.camring(arguments.iter().copied());
        secret(&mut command);
        let plan = output(command.env("CAMRING_LOG", "trace"));
        assert!(plan.contains(word), "{plan}");
        check("check", &plan);
    }

    // Every answer of the API to an administrator, and what is refused.
    let address = daemon.status()["http"]["address"]
        .as_str()
        .expect("an address")
        .to_owned();
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "-i", "--max-time", "60", "--cacert"])
            .arg(&certificate)
            .args(arguments)
            .arg(format!("https://{address}{path}"));
        output(&mut command)
    };
    let bearer = format!("Authorization: Bearer {token}");
    for (_, path, _) in rules::TABLE
        .iter()
        .filter(|(method, ..)| method == Method::GET)
    {
        // It would not end.
        if *path == "/api/v1/events" || path.contains("{*") {
            continue;
        }
        let path = path.replace("{camera}", "in-query").replace(['{', '}'], "");
        let answer = curl(&["-H", &bearer], &path);
        assert!(answer.starts_with("HTTP/2 "), "{path}: {answer}");
        check(&path, &answer);
    }
    assert!(curl(&["-H", &bearer], "/api/v1/cameras").contains("in-query"));
    let json = ["-H", "Content-Type: application/json", "-d"];
    for body in [
        r#"{"name": "anna", "password": "canary-user"}"#,
        r#"{"name": "canary-user", "password": "anna"}"#,
        r#"{"name": "anna", "password": ["canary-user"]}"#,
        r#"{"name": "anna", "password": "canary-user""#,
    ] {
        check(
            "a login",
            &curl(&[&json[..], &[body]].concat(), "/api/v1/session"),
        );
    }
    let probe = r#"{"url": "rtsp://admin:canary@127.0.0.1:1/?token=canary"}"#;
    check(
        "a probe",
        &curl(
            &[&json[..], &[probe, "-H", &bearer]].concat(),
            "/api/v1/probe",
        ),
    );
    check(
        "a refusal",
        &curl(&["-u", "anna:canary-wrong"], "/api/v1/disk"),
    );
    let right = curl(&["-u", "anna:canary-user"], "/api/v1/audit");
    assert!(
        right.starts_with("HTTP/2 200") && right.contains("anna"),
        "{right}"
    );
    check("the audit log", &right);
    let cookie = log_in(&curl);
    let session = cookie.split_once('=').expect("a value").1.to_owned();
    let mine = curl(&["-H", &format!("Cookie: {cookie}")], "/api/v1/session");
    assert!(mine.contains("anna") && !mine.contains(&session), "{mine}");
    cameras_by_api(&daemon, &curl, &bearer);
    a_file_that_is_wrong(&daemon, secret);
    let begun = begin_a_probe(&certificate, &address, &bearer);

    // What ps shows, to root too. The daemon itself was given the variable by whoever started it; what it
    // starts is not.
    let daemon_pid = daemon.pid();
    let spawner = status["spawner_pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    let children = process::descendants(daemon_pid);
    assert!(
        children.len() >= 12,
        "a spawner, nine readers, a server and its probe: {children:?}"
    );
    let probing = wait_for("a probe at work", PATIENCE, || {
        let all = process::descendants(daemon_pid);
        let probe = all.iter().find(|child| child.title.contains("probe"));
        probe.map(|probe| probe.pid).ok_or(all)
    });
    let children = process::descendants(daemon_pid);
    assert!(children.iter().any(|child| child.pid == probing));
    for one in children.iter().map(|child| child.pid).chain([daemon_pid]) {
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{one}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', "\n")
        };
        check("a command line", &read("cmdline"));
        check("a thread's name", &read("comm"));
        let environment: Vec<String> = read("environ")
            .lines()
            .filter(|entry| one != daemon_pid || !entry.starts_with(VARIABLE))
            .map(str::to_owned)
            .collect();
        check("an environment", &environment.join("\n"));
        // No core file, which would have all of them in it: of the daemon and its spawner because the
        // kernel makes none, see below.
        if one != daemon_pid && Some(one) != spawner {
            let limits = read("limits");
            let core = limits.lines().find(|line| line.starts_with("Max core"));
            let words =
                core.map(|line| line.split_whitespace().skip(4).take(2).collect::<Vec<_>>());
            assert!(words.is_none_or(|words| words == ["0", "0"]), "{limits}");
        }
    }
    drop(begun);

    let log = daemon.log();
    assert!(
        log.contains("in-url") && log.contains("TRACE retina::"),
        "a log of the level asked for"
    );
    check("the log", &log);
    let secret = token.strip_prefix("camring_").expect("a token");
    let others = [secret, &secret_line, &password, &session];
    for other in others {
        assert!(!log.contains(other), "the log");
        assert!(!daemon.status().to_string().contains(other), "the status");
    }
    // Nor anything that was written to the disk but the configuration itself.
    let mut folders = vec![
        daemon.runtime_dir(),
        daemon.runtime_dir().with_file_name("data"),
    ];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).expect("a file");
                let text = String::from_utf8_lossy(&bytes);
                check(&entry.path().display().to_string(), &text);
                for other in others {
                    assert!(!text.contains(other), "{}", entry.path().display());
                }
                files += 1;
            }
        }
    }
    assert!(files >= 2, "a database and an audit log");
    daemon.stop();
}

/// Logs in as a browser does; `name=value` of the cookie.
#[track_caller]
fn log_in(curl: &dyn Fn(&[&str], &str) -> String) -> String {
    let answer = curl(
        &[
            "-H",
            "Content-Type: application/json",
            "-d",
            r#"{"name": "anna", "password": "canary-user"}"#,
        ],
        "/api/v1/session",
    );
    check("a login", &answer);
    let set = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    let set = set.unwrap_or_else(|| panic!("{answer}"));
    set.split(';').next().expect("a pair").to_owned()
}

/// Cameras with passwords are added, changed, refused and removed over HTTP.
#[track_caller]
fn cameras_by_api(daemon: &Daemon, curl: &dyn Fn(&[&str], &str) -> String, bearer: &str) {
    let send = |method: &str, path: &str, body: &str, status: &str| {
        let json = "Content-Type: application/json";
        let arguments = ["-X", method, "-H", bearer, "-H", json, "-d", body];
        let answer = curl(&arguments, path);
        check(path, &answer);
        assert!(answer.starts_with(&format!("HTTP/2 {status}")), "{answer}");
    };
    let (all, one) = ("/api/v1/cameras", "/api/v1/cameras/added");
    let url = "rtsp://admin:canary-api@127.0.0.1:1/x?token=canary-api";
    send(
        "POST",
        all,
        &format!(r#"{{"name": "added", "url": "{url}"}}"#),
        "201",
    );
    send(
        "PATCH",
        one,
        r#"{"username": "admin", "password": "canary-twice"}"#,
        "4",
    );
    send(
        "PATCH",
        one,
        r#"{"url": "rtsp://127.0.0.1:1/z", "username": "a", "password": "canary-changed"}"#,
        "2",
    );
    let written = fs::read_to_string(daemon.config_path()).expect("the configuration");
    assert!(written.contains("canary-changed"), "{written}");
    for (body, status) in [
        (
            r#"{"name": "b", "url": "http://a:canary-bad@192.0.2.1/"}"#,
            "4",
        ),
        (
            r#"{"name": "b", "url": "rtsp://192.0.2.1/", "password": ["canary"]}"#,
            "4",
        ),
        (
            r#"{"name": "b", "url": "rtsp://192.0.2.1/", "pasword": "canary"}"#,
            "4",
        ),
        (
            r#"{"name": "added", "url": "rtsp://a:canary@192.0.2.1/"}"#,
            "409",
        ),
    ] {
        send("POST", all, body, status);
    }
    send("DELETE", one, "", "2");
}

/// `camring reload` with a file that is wrong, next to its passwords; then with the old one again.
#[track_caller]
fn a_file_that_is_wrong(daemon: &Daemon, secret: impl Fn(&mut Command)) {
    let path = daemon.config_path();
    let good = fs::read_to_string(&path).expect("the configuration");
    let bad = "[[camera]]\nname = \"bad\"\nurl = \"rtsp://a:canary@192.0.2.1:x/\"\npasword = \"canary\"\n";
    fs::write(&path, format!("{good}\n{bad}")).expect("written");
    let mut reload = daemon.camring(["reload"]);
    secret(&mut reload);
    check("reload", &output(&mut reload));
    let status = daemon.status();
    assert!(status["config"]["error"].is_string(), "{status}");
    check("status after a refusal", &status.to_string());
    check("status", &output(&mut daemon.camring(["status"])));
    fs::write(&path, good).expect("written");
    check("reload", &output(&mut daemon.camring(["reload"])));
    assert!(daemon.status()["config"]["error"].is_null());
}

/// A camera that accepts and never says a word, and a probe of it over HTTP. Dropping it ends both.
struct Probe {
    curl: Child,
    _silent: TcpListener,
}

fn begin_a_probe(authority: &Path, address: &str, bearer: &str) -> Probe {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let camera = silent.local_addr().expect("an address");
    let body = format!(r#"{{"url": "rtsp://admin:canary-probe@{camera}/?token=canary-probe"}}"#);
    let curl = Command::new("curl")
        .args(["-sS", "--max-time", "60", "--cacert"])
        .arg(authority)
        .args([
            "-H",
            bearer,
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
        ])
        .arg(format!("https://{address}/api/v1/probe"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl");
    Probe {
        curl,
        _silent: silent,
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// Started as a user of its own, it shows nothing to that user's other programs either: neither
/// `/proc/PID/environ` nor memory, and so no core file.
#[test]
fn others_of_the_same_user_cannot_look_into_it() {
    // What may not be where others reach it is opened before.
    let script = "chown -R 65534:65534 @DIR@ && bin=$1 && shift && exec 9<\"$bin\" && exec setpriv --reuid 65534 \
                  --regid 65534 --clear-groups --pdeathsig KILL /proc/self/fd/9 \"$@\"";
    let root = rustix::process::geteuid().is_root();
    let under: &[&str] = if root {
        &["sh", "-c", script, "sh"]
    } else {
        &[]
    };
    let config = "[http]\nlisten = \"127.0.0.1:0\"\n[record]\nmode = \"copy\"\n[[camera]]\nname = \"a\"\n\
                  url = \"rtsp://a:${TEST_CAMERA_PASSWORD}@127.0.0.1:1/\"\n";
    let daemon = Daemon::start_under(under, config, |command| {
        command.env(VARIABLE, "canary-environment");
    });
    let pid = daemon.pid();
    let children = wait_for("all kinds of processes", PATIENCE, || {
        let children = process::descendants(pid);
        let status = daemon.status();
        let serving = status["http"]["address"].is_string();
        let all =
            serving && status["cameras"][0]["recording"]["pid"].is_u64() && children.len() >= 4;
        if all { Ok(children) } else { Err(status) }
    });
    for one in children.iter().map(|child| child.pid).chain([pid]) {
        for file in ["environ", "maps"] {
            let mut command = Command::new("setpriv");
            if root {
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            }
            let path = format!("/proc/{one}/{file}");
            let ran = command.args(["cat", &path]).output().expect("setpriv");
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(
                ran.stdout.is_empty() && said.contains("Permission denied"),
                "{one}, {file}: {said}\n{children:?}"
            );
        }
    }
    daemon.stop();
}

/// A folder with a configuration that is wrong somewhere near its password.
fn messages(config: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    fs::write(&path, config).expect("a file");
    ["check", "run"]
        .map(|command| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_camring"));
            program
                .args([command, "--config"])
                .arg(&path)
                .env_clear()
                .env(VARIABLE, "canary/env@1")
                .env("CAMRING_LOG", "trace")
                .stdin(Stdio::null());
            let output = program.output().expect("the program starts");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{config}\n{text}");
            text
        })
        .concat()
}

#[test]
fn messages_about_wrong_configurations_show_no_password() {
    let camera = |lines: &str| format!("[[camera]]\nname = \"door\"\n{lines}\n");
    let url = |url: &str| camera(&format!("url = \"{url}\""));
    for config in [
        url("http://admin:canary@192.0.2.1/"),
        url("rtsp://admin:canary@192.0.2.1:port/"),
        url("rtsp://admin:canary@"),
        url("admin:canary@192.0.2.1/"),
        url("rtsp://admin:canary"),
        url("rtsp://admin:can@canary@192.0.2.1:x/"),
        url("rtsp://192.0.2.1:x/?password=canary"),
        url("rtsp://192.0.2.1:x/user=admin_password=canary_channel=1"),
        url("rtsp://admin:${TEST_CAMERA_PASSWORD}@192.0.2.1:x/"),
        url("rtsp://admin:${TEST_CAMERA_PASSWORD}${MISSING}@192.0.2.1/"),
        url("rtsp://admin:canary@192.0.2.1/\\q"),
        // Twice: in the URL and as a key.
        camera("url = \"rtsp://admin:canary@192.0.2.1/\"\npassword = \"canary\""),
        // Another key of the same camera, and of the same line.
        camera("url = \"rtsp://admin:canary@192.0.2.1/\"\ncolour = \"red\""),
        camera("url = \"rtsp://192.0.2.1/\"\npassword = \"canary\"\ntransport = \"tpc\""),
        camera("url = \"rtsp://192.0.2.1/\"\npassword = \"canary"),
        camera("url = \"rtsp://192.0.2.1/\"\npassword = canary"),
        camera("url = \"rtsp://192.0.2.1/\"\npassword = [\"canary\"]"),
        camera("url = \"rtsp://192.0.2.1/\"\npasword = \"canary\""),
        camera("url = \"rtsp://192.0.2.1/\"\npassword = \"canary\" colour = 1"),
        "camera = [{ name = \"door\", url = \"rtsp://a:canary@192.0.2.1/\", colour = 1 }]\n".into(),
        "[[camera]]\nname = \"door\"\nurl = \"rtsp://a:canary@192.0.2.1/\"\n[[camera]\n".into(),
    ] {
        check(&config, &messages(&config));
    }
}

/// A uid of nobody's, to run a daemon as where root runs the tests.
const OTHER: &str = "65534";

/// Nobody, not even another process of the daemon's own user, can look into one that may hold a secret.
#[test]
fn no_process_can_be_looked_into() {
    // To root nothing is forbidden, so nothing can be seen of it. The program is opened before the privilege
    // is gone: its folder may be root's own.
    let script = "chown -R \"$2\" \"$1\" && shift && user=$1 && shift && program=$1 && shift && \
        exec 9<\"$program\" && exec setpriv --reuid \"$user\" --regid \"$user\" --clear-groups \
        --pdeathsig KILL /proc/self/fd/9 \"$@\"";
    let as_other = ["sh", "-c", script, "sh", "@DIR@", OTHER];
    let root = rustix::process::geteuid().is_root();
    let under: &[&str] = if root { &as_other } else { &[] };
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nname = \"door\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"copy\"\nsegment = \"1s\"\n",
        farm.url("door")
    );
    let daemon = Daemon::start_under(under, &config, |_| {});
    // A picture that was recorded is decoded by a worker, which is kept.
    let begun = support::unix_ns() / 1_000_000_000;
    support::wait_until("a recorded picture", support::PATIENCE, || {
        let address = daemon.status()["http"]["address"].clone();
        let at = (support::unix_ns() / 1_000_000_000 - 2).max(begun);
        let url = format!(
            "http://{}/api/v1/cameras/door/snapshot.jpg?at={at}",
            address.as_str().unwrap_or_default()
        );
        let curl = Command::new("curl")
            .args(["-sSf", "-o", "/dev/null", &url])
            .output();
        curl.expect("curl").status.success()
    });
    let mut all = process::descendants(daemon.pid());
    all.extend(process::Process::of(daemon.pid()));
    for kind in ["run", "spawner", "read", "hls", "serve", "worker"] {
        let found = all.iter().any(|one| one.title.contains(kind));
        assert!(found, "no {kind} among {all:#?}");
    }
    // What is in /proc of a process that cannot be looked into is root's, else its user's.
    let owner = |pid: u32| fs::metadata(format!("/proc/{pid}/maps")).map(|there| there.uid());
    for process in &all {
        assert_eq!(owner(process.pid).expect("it lives"), 0, "{process:?}");
    }
    let mut other = Command::new("sleep");
    if root {
        other.uid(OTHER.parse().expect("a number"));
    }
    let mut other = other.arg("60").spawn().expect("sleep (coreutils)");
    let seen = owner(other.id());
    other.kill().expect("a child");
    other.wait().expect("a child");
    assert_ne!(seen.expect("it lives"), 0, "the test would see nothing");
    daemon.stop();
}
