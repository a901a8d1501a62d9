//! Bad configuration → the exact message.
//!
//! Each `tests/config/NAME.toml` has its message beside it in `NAME.stderr`. After a change that is
//! meant, `CAMRING_BLESS=1 cargo test --test config_errors` writes the messages anew; read the
//! difference before committing it. Every secret in the fixtures has `canary` in it.
#![deny(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use camring::config::{self, Environment, Style};

/// A machine with four cores, and some variables.
fn environment() -> Environment {
    Environment {
        variable: Box::new(|name| match name {
            "CAMERA_PASSWORD" => Some(OsString::from("canary@/?#%")),
            "CAMERA_URL" => Some(OsString::from("rtsp://admin:canary url@192.0.2.1/")),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        }),
        credentials: Some(PathBuf::from("tests/config/credentials")),
        stand_in: None,
        cores: vec![0, 1, 2, 3],
    }
}

fn message(text: &str, name: &str) -> String {
    match config::parse(text, Path::new(name), &environment()) {
        Ok((_, warnings)) if warnings.report().is_empty() => "no problem".to_owned(),
        Ok((_, warnings)) => warnings.render(Style::Plain),
        Err(error) => {
            let coloured = error.render(Style::Coloured);
            assert!(!coloured.contains("canary"), "{name}: {coloured}");
            assert!(!format!("{error:?}").contains("canary"), "{name}: Debug");
            error.to_string()
        }
    }
}

#[test]
fn bad_input_gives_the_exact_message() {
    let mut fixtures: Vec<_> = std::fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    fixtures.sort();
    assert!(fixtures.len() >= 35, "only {} fixtures", fixtures.len());
    let bless = std::env::var_os("CAMRING_BLESS").is_some();
    let mut wrong = String::new();
    for path in fixtures {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let got = message(&text, name) + "\n";
        assert!(!got.contains("canary"), "{name} shows a secret:\n{got}");
        assert!(!got.contains('\u{1b}'), "{name} has colours:\n{got}");
        let expected = path.with_extension("stderr");
        if bless {
            std::fs::write(&expected, &got).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != got {
            wrong += &format!("{name}: the message is now\n{got}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
