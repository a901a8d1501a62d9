//! `camring run` and `check`: what starts, and what must not.

use std::fs;
use std::path::Path;

use crate::support::{Daemon, process};
use crate::{camring, ran};

const MARK: &str = "CAMRING_TEST_COMMANDS";

/// A folder with a configuration whose runtime folder is beside it.
fn folder(cameras: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display();
    let text = format!(
        "[site]\nruntime_dir = \"{dir}/run\"\ndata_dir = \"{dir}/data\"\n\
         [http]\nlisten = \"off\"\n{cameras}"
    );
    fs::write(folder.path().join("config.toml"), text).expect("a file");
    folder
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect()
}

/// Bad configurations, and a word that the message must have.
const BAD: &[(&str, &str)] = &[
    ("", "no camera"),
    ("[[camera]]\nname = \"a\"\n", "url"),
    (
        "[[camera]]\nname = \"a\"\nurl = \"http://192.0.2.1/\"\n",
        "rtsp://",
    ),
    (
        "[[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\ncolour = 1\n",
        "colour",
    ),
    (
        "[[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\ntransport = \"tpc\"\n",
        "did you mean",
    ),
    ("[[camera]\n", "config.toml:6:"),
    (
        "[limits]\nmax_processes = 2\n[[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\n\
         [[camera]]\nname = \"b\"\nurl = \"rtsp://192.0.2.1/\"\n",
        "max_processes",
    ),
];

#[test]
fn a_bad_configuration_starts_nothing() {
    for (cameras, word) in BAD {
        let folder = folder(cameras);
        let mark = folder.path().to_str().expect("UTF-8");
        let mut messages = Vec::new();
        for command in ["check", "run"] {
            let arguments = [command, "--config", "config.toml"];
            let ran = ran(camring(arguments)
                .current_dir(folder.path())
                .env(MARK, mark));
            assert_eq!(
                (ran.code, ran.text()),
                (Some(2), ""),
                "{cameras:?}: {ran:?}"
            );
            assert!(ran.err.contains(word), "no {word:?} in {}", ran.err);
            assert!(ran.err.contains("config.toml"), "{}", ran.err);
            messages.push(ran.err);
        }
        assert_eq!(messages[0], messages[1], "check and run say the same");
        assert_eq!(
            names(folder.path()),
            ["config.toml"],
            "no socket, no folder"
        );
        let left = process::with_environment(&format!("{MARK}={mark}"));
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in ["check", "run"] {
        let arguments = [command, "--config", "missing.toml"];
        let ran = ran(camring(arguments).current_dir(folder.path()));
        assert_eq!((ran.code, ran.text()), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains("missing.toml"), "{}", ran.err);
    }
}

#[test]
fn check_of_a_good_configuration_starts_nothing_either() {
    let folder = folder("[[camera]]\nname = \"front-door\"\nurl = \"rtsp://192.0.2.1/1\"\n");
    let mark = folder.path().to_str().expect("UTF-8");
    for arguments in [&["check"][..], &["check", "--json"]] {
        let arguments = arguments.iter().copied().chain(["--config", "config.toml"]);
        let ran = ran(camring(arguments)
            .current_dir(folder.path())
            .env(MARK, mark));
        ran.succeeded();
        assert!(ran.text().contains("front-door"), "{}", ran.text());
    }
    assert_eq!(names(folder.path()), ["config.toml"]);
    assert!(process::with_environment(&format!("{MARK}={mark}")).is_empty());
}

#[test]
fn a_second_daemon_is_told_of_the_first_and_disturbs_nothing() {
    let daemon = Daemon::start("[[camera]]\nname = \"off\"\nurl = \"rtsp://127.0.0.1:1/\"\n");
    let reader = daemon.reader_pid("off");
    let ran = ran(&mut daemon.camring(["run"]));
    assert_eq!((ran.code, ran.text()), (Some(1), ""), "{ran:?}");
    let message = format!(
        "another camring (pid {}) runs with runtime_dir {}: stop it first",
        daemon.pid(),
        daemon.runtime_dir().display()
    );
    assert!(ran.err.contains(&message), "no {message:?} in {}", ran.err);
    assert_eq!(daemon.reader_pid("off"), reader);
    assert_eq!(daemon.camera("off")["restarts"], 0);
}
