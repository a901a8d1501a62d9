//! Cameras through the API of a running daemon: what is asked for happens, the file stays a person's
//! file, and cameras that were not meant do not notice.
#![deny(unsafe_code)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use camring_ring::{AttachOptions, Client, PacketSubscription};
use serde_json::{Value, json};
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};

const HTTP: &str = "[http]\nlisten = \"127.0.0.1:0\"\n\n";

fn camera(farm: &Farm, name: &str) -> String {
    let url = farm.url(name);
    format!("# The camera {name}.\n[[camera]]\nname = \"{name}\"\nurl = \"{url}\" # wired\n\n")
}

const LOGIN: &str = "username = \"viewer\"\npassword = \"canary\"\n";

/// The API of a daemon.
struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    fn of(daemon: &Daemon) -> Self {
        let address = wait_for("the server to listen", PATIENCE, || {
            let http = daemon.status()["http"].clone();
            match http["address"].as_str() {
                Some(address) => Ok(address.to_owned()),
                None => Err(http),
            }
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        Self {
            agent: config.build().into(),
            base: format!("http://{address}/api/v1"),
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let sent = match (method, body) {
            ("GET", _) => self.agent.get(&url).call(),
            ("DELETE", _) => self.agent.delete(&url).call(),
            ("PATCH", body) => self.agent.patch(&url).send_json(body),
            (_, Some(body)) => self.agent.post(&url).send_json(body),
            (_, None) => self.agent.post(&url).send_empty(),
        };
        let mut answer = sent.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().expect("text");
        assert!(!text.contains("canary"), "{method} {path}: {text}");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, None);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, Some(body));
        assert!((200..300).contains(&status), "{status} {answer}");
        answer
    }

    /// The fields that are to blame.
    #[track_caller]
    fn refused(&self, method: &str, path: &str, body: Value, with: u16) -> (Value, Vec<String>) {
        let (status, answer) = self.call(method, path, Some(body));
        assert_eq!(status, with, "{answer}");
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        let pointers = errors.iter().filter_map(|error| error["pointer"].as_str());
        let pointers = pointers.map(str::to_owned).collect();
        (answer, pointers)
    }
}

/// Reads access units one by one; none may be left out. Of these, thousands are kept, so that a slow
/// test misses none.
struct NoGap {
    units: PacketSubscription,
    last: Option<u64>,
}

impl NoGap {
    fn of(daemon: &Daemon, camera: &str) -> Self {
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let client = Client::connect(&daemon.socket()).unwrap();
        let units = client.attach_packets(camera, &options).unwrap();
        let mut this = Self { units, last: None };
        this.read(1);
        this
    }

    #[track_caller]
    fn read(&mut self, count: usize) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let unit = self.units.next_timeout(&mut bytes, PATIENCE).unwrap();
            let number = unit.expect("an access unit").sequence;
            assert!(
                self.last.is_none_or(|last| number == last + 1),
                "{:?} → {number}",
                self.last
            );
            self.last = Some(number);
        }
    }
}

#[test]
fn a_camera_comes_changes_and_goes_and_no_other_notices() {
    let farm = Farm::start(&[
        Camera::new("door", "h264-180p"),
        Camera::new("gate", "h264-180p"),
        Camera::new("yard", "h264-180p").digest("viewer", "canary"),
    ]);
    let config = format!(
        "# A site of mine.\n{HTTP}{}{}# The end.\n",
        camera(&farm, "door"),
        camera(&farm, "gate")
    );
    let daemon = Daemon::start(&config);
    let written = || fs::read_to_string(daemon.config_path()).unwrap();
    let before = written();
    let api = Api::of(&daemon);
    daemon.wait_for_state("door", "streaming");
    let mut door = NoGap::of(&daemon, "door");
    let reader = daemon.reader_pid("door");

    let url = farm.url("yard");
    let yard = json!({"name": "yard", "url": url, "username": "viewer", "password": "canary"});
    let added = api.done("POST", "/cameras", yard);
    assert_eq!(added["name"], "yard");
    assert_eq!(added["streams"][0]["has_password"], true);
    daemon.wait_for_state("yard", "streaming");
    let text = written();
    assert!(
        text.starts_with(before.trim_end_matches("# The end.\n")),
        "{text}"
    );
    assert!(text.ends_with("# The end.\n"), "{text}");
    door.read(20);

    let listed = api.get("/cameras");
    let names: Vec<_> = listed["cameras"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["door", "gate", "yard"]);
    assert_eq!(listed["site"], "test");
    assert_eq!(
        listed["cameras"][0]["streams"][0]["status"]["state"],
        "streaming"
    );

    // Recorded: not read anew for it (as it would be for its sound, which is set up with a session).
    let yard = daemon.reader_pid("yard");
    let changed = api.done(
        "PATCH",
        "/cameras/yard",
        json!({"record": {"mode": "copy", "audio": false}}),
    );
    assert_eq!(changed["streams"][0]["record"]["mode"], "copy");
    daemon.wait_for_camera("yard", "to be recorded", |c| c["recording"].is_object());
    assert_eq!(daemon.reader_pid("yard"), yard);
    api.done("PATCH", "/cameras/yard", json!({"record": null}));

    // Stopped, started, started anew.
    let stopped = api.done("POST", "/cameras/yard/stop", Value::Null);
    assert_eq!(stopped["enabled"], false);
    daemon.wait_for_camera("yard", "to stop", |c| {
        c["state"] == "disabled" && c["pid"].is_null()
    });
    let (status, _) = api.call("POST", "/cameras/yard/restart", None);
    assert_eq!(status, 409);
    let started = api.done("POST", "/cameras/yard/start", Value::Null);
    assert_eq!(started["enabled"], true);
    daemon.wait_for_state("yard", "streaming");
    let pid = daemon.reader_pid("yard");
    api.done("POST", "/cameras/yard/restart", Value::Null);
    daemon.wait_for_camera("yard", "another reader", |c| {
        c["state"] == "streaming" && c["pid"].as_u64().is_some_and(|new| new != u64::from(pid))
    });

    // Renamed, removed.
    let renamed = api.done("PATCH", "/cameras/yard", json!({"name": "garden"}));
    assert_eq!(renamed["name"], "garden");
    daemon.wait_for_state("garden", "streaming");
    assert_eq!(api.call("GET", "/cameras/yard", None).0, 404);
    assert_eq!(api.call("DELETE", "/cameras/garden", None).0, 204);
    assert_eq!(api.call("DELETE", "/cameras/garden", None).0, 404);
    assert_eq!(written().trim_end(), before.trim_end());

    door.read(20);
    assert_eq!(daemon.reader_pid("door"), reader);
    assert_eq!(daemon.camera("door")["restarts"], 0);
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
}

#[test]
fn what_cannot_be_is_said_key_by_key_and_changes_nothing() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").digest("viewer", "canary")]);
    let daemon = Daemon::start(&format!("{HTTP}{}{LOGIN}", camera(&farm, "door")));
    let before = fs::read_to_string(daemon.config_path()).unwrap();
    let api = Api::of(&daemon);
    daemon.wait_for_state("door", "streaming");
    let reader = daemon.reader_pid("door");
    let new = |more: Value| {
        let mut body = json!({"name": "new", "url": "rtsp://127.0.0.1:9/"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (body, field) in [
        (json!({"name": "new"}), "#/url"),
        (new(json!({"name": "a b"})), "#/name"),
        (new(json!({"url": "http://h/"})), "#/url"),
        (new(json!({"colour": "red"})), "#/colour"),
        (new(json!({"transport": "pigeon"})), "#/transport"),
        (new(json!({"enabled": "yes"})), "#/enabled"),
        (new(json!({"record": {"mode": "on"}})), "#/mode"),
        (new(json!({"record": "copy"})), "#/record"),
        (new(json!({"stream": 5})), "#/stream"),
        (json!([]), "#"),
    ] {
        let (answer, fields) = api.refused("POST", "/cameras", body, 422);
        assert!(fields.iter().any(|f| f == field), "{field}: {answer}");
    }
    let (answer, fields) = api.refused("POST", "/cameras", new(json!({"name": "door"})), 409);
    assert_eq!(
        (&answer["type"], &fields[..]),
        (
            &json!("/problems/camera-exists"),
            &["#/name".to_owned()][..]
        )
    );
    api.refused("PATCH", "/cameras/nobody", json!({"enabled": false}), 404);
    // The last one.
    assert_eq!(api.call("DELETE", "/cameras/door", None).0, 422);

    // A password follows its camera to no other host, and no reference to the environment is followed.
    let elsewhere = json!({"url": "rtsp://192.0.2.1/"});
    let (_, fields) = api.refused("PATCH", "/cameras/door", elsewhere, 422);
    assert_eq!(fields, ["#/password"]);
    assert_eq!(fs::read_to_string(daemon.config_path()).unwrap(), before);

    // A file that is broken by hand is left alone.
    let broken = format!("{before}\n[ring]\ndepth = 99\n");
    fs::write(daemon.config_path(), &broken).unwrap();
    let (answer, _) = api.refused("POST", "/cameras", new(json!({})), 422);
    assert!(
        answer["detail"].as_str().unwrap().contains("`depth`"),
        "{answer}"
    );
    assert_eq!(fs::read_to_string(daemon.config_path()).unwrap(), broken);
    // What is added by hand, and right, comes along with the next change.
    let more = format!("{before}\n[[camera]]\nname = \"by-hand\"\nurl = \"rtsp://127.0.0.1:9/\"\n");
    fs::write(daemon.config_path(), more).unwrap();
    api.done("POST", "/cameras", new(json!({})));
    assert_eq!(api.get("/cameras")["cameras"].as_array().unwrap().len(), 3);
    assert_eq!(daemon.reader_pid("door"), reader);
}

#[test]
fn many_changes_at_once_are_all_made() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&format!("{HTTP}{}", camera(&farm, "door")));
    let api = Api::of(&daemon);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let api = &api;
            scope.spawn(move || {
                let body = json!({
                    "name": format!("c{number}"), "url": "rtsp://127.0.0.1:9/", "enabled": false,
                });
                api.done("POST", "/cameras", body);
            });
        }
    });
    let cameras = api.get("/cameras");
    assert_eq!(cameras["cameras"].as_array().unwrap().len(), 9, "{cameras}");
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    assert_eq!(text.matches("[[camera]]").count(), 9, "{text}");
    assert!(text.contains("# The camera door."));
}

#[test]
fn a_camera_is_looked_at_before_it_is_added() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").digest("viewer", "canary")]);
    let daemon = Daemon::start(&format!("{HTTP}{}", camera(&farm, "door")));
    let api = Api::of(&daemon);
    let url = farm.url("door");
    let mut body = json!({"url": url, "username": "viewer", "password": "canary", "seconds": 2});
    let server = daemon.status()["http"]["pid"].as_u64().unwrap() as u32;
    let found = std::thread::scope(|scope| {
        let probe = scope.spawn(|| api.done("POST", "/probe", body.clone()));
        let commands = wait_for("the probe", PATIENCE, || {
            let children = process::children(server);
            let mut commands = children.iter().filter_map(|child| {
                let text = fs::read_to_string(format!("/proc/{}/cmdline", child.pid)).ok()?;
                text.contains("probe").then_some(text)
            });
            commands.next().ok_or("no process")
        });
        assert!(!commands.contains("canary"), "{commands}");
        probe.join().expect("an answer")
    });
    assert_eq!(found["video"]["codec"], "H.264", "{found}");
    assert_eq!(found["video"]["height"], 180, "{found}");
    body["password"] = json!("wrong");
    let (answer, _) = api.refused("POST", "/probe", body, 422);
    assert_eq!(answer["type"], "/problems/camera-failed", "{answer}");
    let (answer, fields) = api.refused("POST", "/probe", json!({"url": "file:///etc/passwd"}), 422);
    assert_eq!(fields, ["#/url"], "{answer}");
    wait_for(
        "no probe to be left",
        PATIENCE,
        || match process::children(server).len() {
            0 => Ok(()),
            more => Err(more),
        },
    );
}

#[test]
fn a_port_that_is_taken_costs_nothing_but_http() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!(
        "[http]\nlisten = \"{address}\"\n\n[retry]\nmax = \"1s\"\n\n{}",
        camera(&farm, "door")
    );
    let daemon = Daemon::start(&config);
    daemon.wait_for_state("door", "streaming");
    wait_for("the trouble to be told", PATIENCE, || {
        let http = daemon.status()["http"].clone();
        let told = http["state"] == "failed" || http["state"] == "backoff";
        match told
            && http["reason"]
                .as_str()
                .is_some_and(|r| r.contains("in use"))
        {
            true => Ok(()),
            false => Err(http),
        }
    });
    drop(taken);
    assert_eq!(Api::of(&daemon).get("/cameras")["site"], "test");
}

#[test]
fn reload_says_what_came_of_it() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let daemon = Daemon::start(&camera(&farm, "door"));
    let reload = || {
        let ran = daemon
            .camring(["reload"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
    };
    assert_eq!(
        reload(),
        (Some(0), "applied: 1 unchanged\n".into(), String::new())
    );
    let before = fs::read_to_string(daemon.config_path()).unwrap();
    fs::write(daemon.config_path(), format!("{before}[ring]\ndepth = 0\n")).unwrap();
    let (code, out, error) = reload();
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        error.contains("`depth` is out of range") && error.contains("must be from 1"),
        "{error}"
    );
    let (code, table, _) = {
        let ran = daemon.camring(["status"]).output().unwrap();
        (
            ran.status.code(),
            String::from_utf8_lossy(&ran.stdout).into_owned(),
            (),
        )
    };
    assert_eq!(code, Some(0));
    assert!(
        table.contains("the configuration was refused at"),
        "{table}"
    );
    fs::write(
        daemon.config_path(),
        format!("{before}\n[decode]\nmode = \"keyframes\"\n"),
    )
    .unwrap();
    let (code, out, error) = reload();
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(out, "applied: 1 restarted (door), 0 unchanged\n");
}
