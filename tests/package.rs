//! What is installed beside the program: manual pages and completions for every command, and a list of
//! files that fits the repository. Installing the package for real is `./test --package`.
#![deny(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use camring::cli::Cli;
use clap::CommandFactory as _;

/// Its `main` is not called here.
#[allow(dead_code)]
#[path = "../examples/manual.rs"]
mod manual;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `run`, …, `user`, `user hash`, …; with the options of each.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut cli = Cli::command();
    cli.build();
    let mut found = Vec::new();
    let mut left = vec![(String::new(), &cli)];
    while let Some((above, command)) = left.pop() {
        for part in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = format!("{above} {}", part.get_name()).trim().to_owned();
            let shown = part.get_arguments().filter(|option| !option.is_hide_set());
            let long = shown.filter_map(|option| option.get_long().map(str::to_owned));
            found.push((name.clone(), long.filter(|long| long != "help").collect()));
            left.push((name, part));
        }
    }
    assert!(
        found.iter().any(|(name, _)| name == "token new"),
        "{found:?}"
    );
    found
}

#[test]
fn every_command_and_the_configuration_have_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let made = manual::man(folder.path()).unwrap();
    for (name, options) in commands() {
        let file = format!("camring-{}.1", name.replace(' ', "-"));
        let page = fs::read_to_string(folder.path().join(&file)).unwrap();
        assert!(page.contains(&format!("\\fBcamring {name}\\fR")), "{page}");
        for long in options {
            let written = format!("\\-\\-{}", long.replace('-', "\\-"));
            assert!(page.contains(&written), "{file} lacks --{long}");
        }
    }
    let keys = fs::read_to_string(folder.path().join("camring.toml.5")).unwrap();
    assert!(
        keys.contains("[limits]") && keys.contains("[[camera]]"),
        "{keys}"
    );
    for page in &made {
        rendered_without_warnings(page);
    }
}

/// By the program that shows them, where there is one.
fn rendered_without_warnings(page: &Path) {
    let Ok(output) = Command::new("groff")
        .args(["-man", "-ww", "-K", "utf8", "-T", "utf8"])
        .arg(page)
        .output()
    else {
        eprintln!("groff is not installed: {} is not rendered", page.display());
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let good = output.status.success() && said.is_empty() && output.stdout.len() > 500;
    assert!(good, "{}: {said}", page.display());
}

#[test]
fn completions_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let made = manual::completions(folder.path()).unwrap();
    for file in &made {
        let text = fs::read_to_string(file).unwrap();
        for (name, options) in commands() {
            let last = name.rsplit(' ').next().unwrap_or_default().to_owned();
            for word in options.iter().chain([&last]) {
                assert!(
                    text.contains(word.as_str()),
                    "{}: {name}: {word}",
                    file.display()
                );
            }
        }
    }
    let script = "source \"$1\"; COMP_WORDS=(camring sna); COMP_CWORD=1; _camring camring sna camring; \
                  echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(folder.path().join("camring"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "snapshot", "{error}");
}

#[test]
fn the_package_lists_files_that_are_there() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<[String; 3]> = deb["assets"].clone().try_into().unwrap();
    for [from, to, mode] in &assets {
        let mode_there = if to.starts_with("etc/") { "640" } else { "644" };
        let program = to.starts_with("usr/bin/");
        assert_eq!(mode, if program { "755" } else { mode_there }, "{to}");
        if from.starts_with("target/") {
            continue; // made by scripts/package.sh
        }
        let found = match from.strip_suffix("*.md") {
            Some(folder) => {
                fs::read_dir(root().join(folder)).is_ok_and(|mut all| all.next().is_some())
            }
            None => root().join(from).is_file(),
        };
        assert!(found, "{from}");
    }
    let installed = |path: &str| -> Option<PathBuf> {
        let (folder, name) = path.trim_start_matches('/').rsplit_once('/')?;
        let mut from = assets.iter().filter_map(|[from, to, _]| {
            let whole = to.trim_end_matches('/') == format!("{folder}/{name}");
            match from.strip_suffix("*.md") {
                Some(source) if to.trim_end_matches('/') == folder => {
                    Some(root().join(source).join(name))
                }
                None if whole => Some(root().join(from)),
                _ => None,
            }
        });
        from.next()
    };
    // What installed texts point to.
    for text in [
        "packaging/debian/postinst",
        "packaging/debian/edit-cameras.conf",
        "packaging/debian/hardware-decoding.conf",
    ] {
        let text = fs::read_to_string(root().join(text)).unwrap();
        for word in text
            .split_whitespace()
            .filter(|word| word.starts_with("/usr/share/doc/camring/"))
        {
            let there = installed(word).unwrap_or_else(|| panic!("{word} is not in the package"));
            assert!(there.is_file(), "{word} is {}", there.display());
        }
    }
    let config: Vec<String> = deb["conf-files"].clone().try_into().unwrap();
    assert_eq!(config, ["/etc/camring/config.toml"]);
    for script in ["postinst", "prerm", "postrm"] {
        let text = fs::read_to_string(root().join("packaging/debian").join(script)).unwrap();
        assert!(
            text.starts_with("#!/bin/sh\n") && text.contains("\n#DEBHELPER#\n"),
            "{script}"
        );
    }
}

/// The page is an overview: every command is in it, and no option that there is not.
#[test]
fn the_reference_names_every_command() {
    let text = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    let known = commands();
    for (name, _) in &known {
        let below = known
            .iter()
            .any(|(other, _)| other.starts_with(&format!("{name} ")));
        let listed = text.contains(&format!("| `camring {name}"));
        assert!(
            listed || below,
            "docs/reference/cli.md lacks camring {name}"
        );
    }
    for row in text
        .lines()
        .filter_map(|line| line.strip_prefix("| `camring "))
    {
        let called = row.split('`').next().unwrap_or_default();
        let found = known
            .iter()
            .filter(|(name, _)| called.starts_with(name.as_str()));
        let (_, options) = found.max_by_key(|(name, _)| name.len()).unwrap();
        let named = called.split("--").skip(1);
        for option in named.map(|rest| rest.split([' ', ']', '`']).next().unwrap_or_default()) {
            assert!(
                options.iter().any(|long| long == option),
                "camring {called}: --{option}"
            );
        }
    }
}

/// Debian 12's npm (9.2) cannot read a lock file beside overrides that name another package: `npm ci` says that there
/// is none. The Dockerfile and ./run build the dashboard with it.
#[test]
fn the_dashboard_is_built_by_debians_npm() {
    let text = fs::read_to_string(root().join("web/package.json")).unwrap();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(package.get("overrides"), None);
    let node = package["engines"]["node"].as_str();
    assert!(
        node.is_some_and(|node| node.starts_with(">=18.")),
        "{node:?}"
    );
}
