//! The program itself: `check`, exit codes, help.
#![deny(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use camring::cmd::check::{Kernel, Machine, Plan};
use camring::config;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs camring with nothing in its environment that would matter.
fn camring(folder: &Path, arguments: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_camring"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("CAMRING_TEST_PASSWORD", "canary")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

const SITE: &str = r#"
[site]
name = "home"
[[camera]]
name = "front-door"
url = "rtsp://admin:${CAMRING_TEST_PASSWORD}@192.0.2.1/?token=canary"
[camera.decode]
threads = 4
[[camera]]
name = "yard"
username = "admin"
password = "canary"
memory = "16MiB"
[[camera.stream]]
name = "main"
url = "rtsp://192.0.2.2/1"
cpu = "any"
[[camera.stream]]
name = "sub"
url = "rtsp://192.0.2.2/2"
transport = "udp"
enabled = false
"#;

#[test]
fn check_counts_views_and_shows_them() {
    let camera = "[[camera]]\nname = \"door\"\nurl = \"rtsp://192.0.2.1/\"\n";
    let view =
        "[[camera.view]]\nname = \"detect\"\nwidth = 640\nheight = 360\nformat = \"rgb24\"\n";
    let plan = |text: &str| {
        let (folder, _) = write(text);
        let json = camring(folder.path(), &["check", "--json"]);
        assert_eq!(json.code, Some(0), "{}", json.err);
        let plan: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        (plan, camring(folder.path(), &["check"]).out)
    };
    let (without, text) = plan(camera);
    assert!(!text.contains("VIEW"), "{text}");
    let (with, text) = plan(&format!("{camera}{view}fps = 5\n"));
    let row = text.lines().find(|line| line.starts_with("door:detect"));
    let words: Vec<_> = row.unwrap_or(&text).split_whitespace().collect();
    assert_eq!(
        words[..5],
        ["door:detect", "640x360", "rgb24", "5", "stretch"]
    );
    let bytes =
        |plan: &serde_json::Value, pointer| plan.pointer(pointer).unwrap().as_u64().unwrap();
    let of_view = bytes(&with, "/streams/0/views/0/memory_bytes");
    // 3 + 1 + 16 slots, each with its pixels and at most two pages more, and a header.
    let pixels = 20 * 640 * 360 * 3;
    assert!((pixels..pixels + 22 * 8192).contains(&of_view), "{of_view}");
    for pointer in ["/memory/at_1080p_bytes", "/streams/0/memory_at_1080p_bytes"] {
        let both = (bytes(&with, pointer), bytes(&without, pointer));
        assert_eq!(both.0, both.1 + of_view, "{pointer}");
    }
}

#[test]
fn check_says_what_is_recorded_and_whether_it_fits() {
    let plan = |record: &str| {
        let text = format!(
            "[record]\n{record}\n[[camera]]\nname = \"door\"\nurl = \"rtsp://192.0.2.1/\"\n"
        );
        let (folder, _) = write(&text);
        let json = camring(folder.path(), &["check", "--json"]);
        assert_eq!(json.code, Some(0), "{}", json.err);
        let plan: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        (plan, camring(folder.path(), &["check"]).out)
    };
    let (none, text) = plan("");
    assert_eq!(none["recordings"]["recorded"], 0);
    assert!(text.contains("recordings   none\n"), "{text}");
    assert!(
        text.contains("http         http://127.0.0.1:8080/\n"),
        "{text}"
    );
    let (day, text) = plan("mode = \"copy\"\nmax_size = \"1GiB\"");
    assert_eq!(
        day["recordings"]["likely_bytes"],
        4_000_000 / 8 * 86_400_u64
    );
    assert_eq!(day["streams"][0]["record"]["mode"], "copy");
    assert_eq!(day["processes"]["needed"], 4);
    for part in [
        "recordings   1 stream in /var/lib/camring/recordings, kept 24h, about 40.2 GiB of at most 1 GiB",
        "warning: recordings of 24h take about 40.2 GiB, and have 1 GiB: the oldest will go earlier",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let ladder = "[{ height = 720, bitrate = \"2M\" }, { height = 360, bitrate = \"500k\" }]";
    let (encode, text) = plan(&format!(
        "mode = \"encode\"\nkeep = \"1h\"\nmin_free = \"0B\"\nrenditions = {ladder}"
    ));
    assert_eq!(encode["recordings"]["likely_bytes"], 2_500_000 / 8 * 3600);
    assert!(text.contains("encode 720p 360p"), "{text}");
}

#[test]
fn check_shows_the_plan_and_no_secret() {
    let (folder, _) = write(SITE);
    for arguments in [&["check"][..], &["check", "--json"]] {
        let ran = camring(folder.path(), arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(
            !ran.out.contains("canary") && !ran.err.contains("canary"),
            "{}{}",
            ran.out,
            ran.err
        );
    }
    let text = camring(folder.path(), &["check"]).out;
    for part in [
        "./config.toml: site \"home\", 2 streams enabled, 1 disabled",
        "rtsp://192.0.2.1/?token=*** as admin",
        "yard/main",
        "processes    4 of at most 256",
        "warning: camera `yard/main`: its memory of 16 MiB is enough for pictures up to",
        "warning: camera `front-door`: 4 decoder threads share 1 core",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&camring(folder.path(), &["check", "--json"]).out).unwrap();
    assert_eq!(json["streams"][2]["name"], "yard/sub");
    assert_eq!(json["streams"][2]["enabled"], false);
    assert_eq!(json["streams"][1]["cpu"], "any");
    assert_eq!(json["streams"][1]["alias"], "yard");
    assert_eq!(json["streams"][0]["has_password"], true);
    assert_eq!(json["processes"]["needed"], 4);
    // The file is readable for all.
    assert!(json["warnings"].as_array().unwrap().len() >= 3, "{json}");
}

#[test]
fn every_field_of_the_json_is_in_the_reference() {
    let (folder, _) = write(SITE);
    let json: serde_json::Value =
        serde_json::from_str(&camring(folder.path(), &["check", "--json"]).out).unwrap();
    let reference = include_str!("../docs/reference/config.md");
    let (_, section) = reference.split_once("## `camring check --json`").unwrap();
    fn names(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(name, value)| {
                into.push(name.clone());
                names(value, into);
            }),
            serde_json::Value::Array(values) => values.iter().for_each(|value| names(value, into)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    names(&json, &mut all);
    for name in all {
        let there = [format!("`{name}`"), format!("`{name}[]`")];
        assert!(
            there.iter().any(|name| section.contains(name.as_str())),
            "{name} is not documented"
        );
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_the_message() {
    let (folder, path) = write("[ring]\ndept = 4\n");
    let ran = camring(
        Path::new("/"),
        &["check", "--config", path.to_str().unwrap()],
    );
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.out, "");
    assert_eq!(
        ran.err,
        format!(
            "error: unknown key `dept` in [ring]\n --> {}:2:1\n  |\n2 | dept = 4\n  | ^^^^ did you \
             mean `depth`?\n  |\n  = help: the keys of [ring] are: depth, pins, packets\n",
            path.display()
        )
    );
    drop(folder);
}

/// In a shell there are none; a service must not start without.
#[test]
fn credentials_are_not_needed_to_check_and_are_to_run() {
    let (folder, _) = write(
        "[site]\nruntime_dir = \"/nowhere/run\"\ndata_dir = \"/nowhere/data\"\n[[camera]]\nname = \"yard\"\n\
         url = \"rtsp://192.0.2.1/\"\nusername = \"admin\"\npassword = \"${credential:yard}\"\n",
    );
    let ran = camring(folder.path(), &["check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.ends_with("the credentials yard\n"), "{}", ran.err);
    assert!(ran.out.contains("as admin"), "{}", ran.out);
    // The other mistakes are found, where they are.
    let text = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    fs::write(folder.path().join("bad.toml"), format!("{text}cpu = 7\n")).unwrap();
    let ran = camring(folder.path(), &["check", "--config", "bad.toml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.contains(" --> bad.toml:9:7"), "{}", ran.err);
    let ran = camring(folder.path(), &["run"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(
        ran.err.contains("CREDENTIALS_DIRECTORY is not set"),
        "{}",
        ran.err
    );
}

#[test]
fn exit_codes_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let ran = camring(folder.path(), &["check", "--config", "none.toml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    for wrong in [
        &["nonsense"][..],
        &["tail"],
        &["check", "--what"],
        &["snapshot", "c"],
    ] {
        assert_eq!(camring(folder.path(), wrong).code, Some(2), "{wrong:?}");
    }
    let ran = camring(folder.path(), &["check", "--log", "loud"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.err.starts_with("camring: --log has \"loud\""),
        "{}",
        ran.err
    );
    for command in ["run", "check", "status", "tail", "snapshot"] {
        let ran = camring(folder.path(), &[command, "--help"]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.out.contains("Examples:"), "{command}: {}", ran.out);
    }
    assert!(
        camring(folder.path(), &["--help"])
            .out
            .contains("3 no daemon is there")
    );
    assert!(
        camring(folder.path(), &["--version"])
            .out
            .starts_with("camring 0.")
    );
}

#[test]
fn output_into_a_closed_pipe_is_no_error() {
    let (folder, _) = write(SITE);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_camring"))
        .args(["check", "--config", "config.toml"])
        .current_dir(folder.path())
        .env("CAMRING_TEST_PASSWORD", "canary")
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        !said.contains("panic") && !said.contains("Broken pipe"),
        "{said}"
    );
}

#[test]
fn the_plan_compares_with_what_the_machine_has() {
    let (_folder, path) = write(
        "[limits]\nmemory_total = \"100MiB\"\n[[camera]]\nname = \"a\"\nurl = \"rtsp://h/\"\n\
         [[camera]]\nname = \"b\"\nurl = \"rtsp://h/\"\n[[camera]]\nname = \"c\"\n\
         url = \"rtsp://h/\"\n",
    );
    let loaded = config::read(Some(&path)).unwrap();
    let small = Machine {
        sandbox: camring::sandbox::Kernel::default(),
        cores: vec![2, 5],
        memory: Some(50 << 20),
        available: Some(camring::sys::memory::Headroom {
            bytes: 40 << 20,
            source: "cgroup /x".into(),
        }),
        descriptors: (Some(50), Some(100)),
        kernel: Kernel::default(),
    };
    let text = Plan::new(&loaded, &small).to_text();
    for part in [
        "if all cameras are 1920x1080, [limits] memory_total is 100 MiB",
        "[limits] memory_total is 100 MiB, the machine has 50 MiB",
        "and 40 MiB is to be had (cgroup /x)",
        "open files, the limit here is 100: `LimitNOFILE=256`",
        "cores        2,5",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Round and round over the cores that are allowed.
    let json = serde_json::to_value(Plan::new(&loaded, &small)).unwrap();
    let cores: Vec<_> = (0..3)
        .map(|i| json["streams"][i]["cores"][0].as_u64())
        .collect();
    assert_eq!(cores, [Some(2), Some(5), Some(2)]);
}

#[test]
fn check_says_which_limit_is_too_small_and_strict_makes_it_an_error() {
    // Nothing is said of what cannot be read, and a machine may have anything: so the site is the one
    // that is sure to be too large.
    let camera = "[[camera]]\nname = \"door\"\nurl = \"rtsp://192.0.2.1/\"\ntransport = \"udp\"\n";
    let (folder, _) = write(&format!("[network]\nreceive_buffer = \"64MiB\"\n{camera}"));
    let json = camring(folder.path(), &["check", "--json"]);
    assert_eq!(json.code, Some(0), "{}", json.err);
    let plan: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let limits = plan["limits"].as_array().unwrap();
    assert!(limits.len() >= 3, "{limits:#?}");
    let name = |limit: &&serde_json::Value| limit["name"] == "net.core.rmem_max";
    if let Some(limit) = limits.iter().find(name) {
        assert_eq!(limit["needed"], 64 << 20);
        let enough = limit["limit"].as_u64().unwrap() >= 64 << 20;
        assert_eq!(limit["enough"], enough);
        let said = "sysctl -w net.core.rmem_max=67108864";
        assert_eq!(limit["fix"].as_str(), (!enough).then_some(said));
        let text = camring(folder.path(), &["check"]);
        assert_eq!(
            (text.code, text.out.contains(said)),
            (Some(0), !enough),
            "{}",
            text.out
        );
    }
    // A doubt on any machine.
    let (folder, _) = write(&format!("{camera}username = \"u\"\n"));
    for (arguments, code) in [(vec!["check"], 0), (vec!["check", "--strict"], 1)] {
        let ran = camring(folder.path(), &arguments);
        assert_eq!(ran.code, Some(code), "{}", ran.err);
        assert_eq!(ran.err.contains("--strict"), code == 1, "{}", ran.err);
    }
}
