//! What needs no daemon: help, version, and what is said when none is there.

use crate::{camring, ran};

#[test]
fn no_daemon_is_exit_code_3_and_a_message_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("attach.sock");
    let path = socket.to_str().expect("UTF-8");
    let commands = [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["tail", "front-door"],
        &["snapshot", "front-door", "-o", "x.jpg"],
        &["pipe", "front-door", "--format", "gray"],
    ];
    let told = |arguments: &[&str], change: &dyn Fn(&mut std::process::Command)| {
        let mut command = camring(arguments.iter().copied());
        command.current_dir(folder.path());
        change(&mut command);
        let message = format!("no camring daemon listens at {path}: is the service running?");
        ran(&mut command).failed(3, &[&message]);
    };
    // The place by option, by environment, by configuration; nobody there, and nobody there any more.
    for dead in [false, true] {
        if dead {
            drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
        }
        for arguments in commands {
            told(arguments, &|command| {
                command.args(["--socket", path]);
            });
            told(arguments, &|command| {
                command.env("CAMRING_SOCKET", path);
            });
        }
    }
    let config = folder.path().join("config.toml");
    let text = format!(
        "[site]\nruntime_dir = \"{}\"\n[[camera]]\nname = \"a\"\nurl = \"rtsp://127.0.0.1/\"\n",
        folder.path().display()
    );
    std::fs::write(&config, text).expect("a file");
    for arguments in commands {
        told(arguments, &|command| {
            command.arg("--config").arg(&config);
        });
    }
    assert!(!folder.path().join("x.jpg").exists());
}

#[test]
fn the_version_is_that_of_the_package() {
    for arguments in [&["--version"][..], &["-V"], &["status", "--version"]] {
        let ran = ran(&mut camring(arguments.iter().copied()));
        ran.succeeded();
        let version = ran.text().trim_end().split(' ').next_back();
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")), "{ran:?}");
        assert!(ran.text().starts_with("camring"), "{ran:?}");
    }
}

/// The first line of each command's help, and lines that must be in it.
const HELP: &[(&[&str], &str, &[&str])] = &[
    (
        &[],
        "Reads many RTSP cameras and puts their decoded frames into shared memory, without a copy",
        &[
            "Usage: camring [OPTIONS] <COMMAND>",
            "  run       Run the daemon in the foreground",
            "  check     Check the configuration and show what would be run",
            "  status    Show the state of all cameras",
            "  tail      Print one line for each frame of a camera",
            "  snapshot  Save one frame of a camera as a JPEG",
            "Exit codes: 0 done; 1 failed; 2 wrong configuration or command line; 3 no daemon is there.",
        ],
    ),
    (
        &["run"],
        "Run the daemon in the foreground",
        &[
            "Usage: camring run [OPTIONS]",
            "  camring run --config site.toml --log debug",
        ],
    ),
    (
        &["check"],
        "Check the configuration and show what would be run",
        &[
            "Usage: camring check [OPTIONS]",
            "      --json           Print the plan as JSON",
        ],
    ),
    (
        &["status"],
        "Show the state of all cameras",
        &[
            "Usage: camring status [OPTIONS]",
            "  -w, --watch [<INTERVAL>]",
            "      --socket <PATH>",
        ],
    ),
    (
        &["tail"],
        "Print one line for each frame of a camera",
        &[
            "Usage: camring tail [OPTIONS] <CAMERA>",
            "      --latest           Take the newest frame each time, skipping those in between",
            "  -n, --frames <N>       Stop after N frames",
            "  camring tail front-door/sub -n 100 --json",
        ],
    ),
    (
        &["snapshot"],
        "Save one frame of a camera as a JPEG",
        &[
            "Usage: camring snapshot [OPTIONS] --output <FILE> <CAMERA>",
            "  -o, --output <FILE>",
            "      --timeout <TIME>",
            "      --quality <PERCENT>",
        ],
    ),
    (
        &["pipe"],
        "Write the frames of a camera to standard output, for any program",
        &[
            "Usage: camring pipe [OPTIONS] --format <FORMAT> <CAMERA>",
            "  camring pipe front-door --format y4m | ffplay -",
        ],
    ),
    (
        &["probe"],
        "Contact a camera and show what it offers and sends",
        &[
            "Usage: camring probe [OPTIONS] <URL>",
            "      --seconds <N>",
        ],
    ),
];

/// Without the alignment.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_says_what_each_command_does() {
    for (command, first, lines) in HELP {
        let arguments = command.iter().copied().chain(["--help"]);
        let ran = ran(&mut camring(arguments));
        ran.succeeded();
        let text = ran.text();
        assert_eq!(text.lines().next(), Some(*first));
        for line in *lines {
            let there = text.lines().any(|l| words(l).starts_with(&words(line)));
            assert!(there, "no line {line:?} in\n{text}");
        }
        for option in [
            "-c, --config <FILE>",
            "--log <LEVEL>",
            "-h, --help",
            "-V, --version",
        ] {
            assert!(text.contains(option), "no {option:?} in\n{text}");
        }
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?} columns:\n{text}");
    }
}

#[test]
fn wrong_command_lines_are_exit_code_2() {
    for (arguments, words) in [
        (&["tail"][..], "<CAMERA>"),
        (&["snapshot", "front-door"], "--output <FILE>"),
        (
            &["snapshot", "a", "-o", "-", "--timeout", "soon"],
            "500ms, 10s or 5m",
        ),
        (&["snapshot", "a", "-o", "-", "--quality", "0"], "1..=100"),
        (&["status", "--watch", "0s"], "500ms, 10s or 5m"),
        (&["tail", "a", "-n", "many"], "invalid digit"),
        (&["stat"], "'status'"),
        (&["status", "--log", "loud"], "no log level"),
    ] {
        let ran = ran(&mut camring(arguments.iter().copied()));
        assert_eq!(
            (ran.code, ran.text()),
            (Some(2), ""),
            "{arguments:?}: {ran:?}"
        );
        assert!(ran.err.contains(words), "no {words:?} in {}", ran.err);
    }
}
