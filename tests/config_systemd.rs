//! The unit and its companions: accepted by systemd where it is installed, and in step with the
//! defaults of the configuration in any case.
#![deny(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use camring::config::Site;

const UNIT: &str = include_str!("../systemd/camring.service");
const SYSUSERS: &str = include_str!("../systemd/camring.sysusers");
const TMPFILES: &str = include_str!("../systemd/camring.tmpfiles");

fn setting(key: &str) -> Option<&'static str> {
    UNIT.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn the_unit_fits_the_program() {
    assert_eq!(setting("ExecStart"), Some("/usr/bin/camring run"));
    assert_eq!(setting("Type"), Some("notify"));
    assert!(setting("WatchdogSec").is_some());
    assert_eq!(setting("KillMode"), Some("mixed"));
    assert_eq!(setting("RestartPreventExitStatus"), Some("2"));
    // `Restart=on-failure` would be stopped by the usual limit after five failures.
    assert_eq!(setting("StartLimitIntervalSec"), Some("0"));
    // One reader out of memory must not end the others.
    assert_eq!(setting("OOMPolicy"), Some("continue"));
    let folder = |key| setting(key).map(str::to_owned).unwrap_or_default();
    assert_eq!(
        format!("/run/{}", folder("RuntimeDirectory")),
        Site::DEFAULT_RUNTIME_DIR
    );
    assert_eq!(
        format!("/var/lib/{}", folder("StateDirectory")),
        Site::DEFAULT_DATA_DIR
    );
    // It would make /etc/camring writable for the daemon.
    assert_eq!(setting("ConfigurationDirectory"), None);
    assert!(camring::config::PLACES[0].starts_with("/etc/camring/"));
    let user = setting("User").unwrap();
    assert!(
        SYSUSERS
            .lines()
            .any(|line| line.starts_with(&format!("u {user} ")))
    );
    assert!(TMPFILES.contains("/etc/camring :0750 :root :camring"));
    for required in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
    ] {
        assert!(UNIT.contains(required), "{required}");
    }
}

/// Whether a program is installed; a machine without systemd gets the checks above only. ./test installs it,
/// and says so: then it must be there.
fn installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        assert!(
            std::env::var_os("CAMRING_EXPECT_SYSTEMD").is_none(),
            "{program} is missing, which the Debian package systemd has"
        );
        eprintln!("{program} is not installed: only checked by text");
    }
    there
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{command:?}: {said}"
    );
}

#[test]
fn systemd_accepts_the_unit() {
    if !installed("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("camring.service");
    // It checks that the program exists, which here is the one just built.
    let text = UNIT.replace("/usr/bin/camring", env!("CARGO_BIN_EXE_camring"));
    fs::write(&unit, text).unwrap();
    succeeds(
        Command::new("systemd-analyze")
            .arg("verify")
            .arg("--man=no")
            .arg(&unit),
    );
}

/// What systemd counts as open, of 10: the service may have this much.
const EXPOSURE: f64 = 1.5;

#[test]
fn the_unit_is_hardened_and_gives_a_reason_for_each_exception() {
    if !installed("systemd-analyze") {
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/camring.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(unit)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let exposure = said
        .lines()
        .find_map(|line| line.split_once("exposure level for camring.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok())
        .unwrap_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("no figure in: {said}{error}")
        });
    assert!(exposure <= EXPOSURE, "exposure {exposure}:\n{said}");
    // "✗ SystemCallFilter=~@resources", "✗ RestrictAddressFamilies=~AF_UNIX", "✗ PrivateUsers="
    let reasons: String = UNIT.lines().filter(|line| line.starts_with('#')).collect();
    let open = said.lines().filter_map(|line| line.strip_prefix("✗ "));
    for setting in open.filter_map(|line| line.split_whitespace().next()) {
        let setting = setting.trim_end_matches('=');
        let names = setting.split_once("=~").map_or(setting, |(_, what)| what);
        let names = names
            .split(['/', '(', '|', ')', '='])
            .filter(|name| name.len() > 4);
        for name in names {
            assert!(
                reasons.contains(name),
                "no reason for {setting} in the unit ({name})"
            );
        }
    }
}

#[test]
fn systemd_accepts_the_user() {
    if !installed("systemd-sysusers") {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/camring.sysusers");
    let output = Command::new("systemd-sysusers")
        .arg("--dry-run")
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("camring") || said.is_empty(), "{said}");
}
