//! The commands as people run them: the built program against a real daemon and test cameras, its output,
//! its messages and its exit codes.
#![deny(unsafe_code)]

mod alone;
mod run;
mod snapshot;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod tail;
mod top;

use std::process::{Child, Command, Output, Stdio};

use support::{Farm, PATIENCE, wait_for};

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    #[track_caller]
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8")
    }

    /// It failed with this exit code, said all of these words, and printed nothing else.
    #[track_caller]
    fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.text()), (Some(code), ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {:?}", self.err);
        }
        assert!(
            !self.err.contains("panicked") && self.err.lines().count() == 1,
            "{}",
            self.err
        );
    }

    /// It succeeded and had nothing to complain about.
    #[track_caller]
    fn succeeded(&self) {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
    }
}

/// Runs a command to its end.
#[track_caller]
fn ran(command: &mut Command) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    Ran {
        code: status.code(),
        out: stdout,
        err: String::from_utf8(stderr).expect("UTF-8"),
    }
}

/// Starts a command with pipes for its output.
#[track_caller]
fn piped(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Waits for the end of a command that prints little from now on.
#[track_caller]
fn ended(mut child: Child) -> Ran {
    let status = wait_for("a command to end", PATIENCE, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(other),
    });
    let Output { stdout, stderr, .. } = child.wait_with_output().expect("its output");
    Ran {
        code: status.code(),
        out: stdout,
        err: String::from_utf8(stderr).expect("UTF-8"),
    }
}

/// The program alone, without a daemon and with nothing in its environment.
fn camring<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camring"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// A camera with two streams, 640×360 and 320×180, and one that nobody answers for.
fn site(farm: &Farm) -> String {
    format!(
        "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\n\
         [[camera]]\nname = \"front-door\"\n\
         [[camera.stream]]\nname = \"main\"\nurl = \"{}\"\n\
         [[camera.stream]]\nname = \"sub\"\nurl = \"{}\"\n\n\
         [[camera]]\nname = \"absent\"\nurl = \"rtsp://127.0.0.1:1/x\"\n",
        farm.url("main"),
        farm.url("sub")
    )
}

#[track_caller]
fn farm() -> Farm {
    Farm::start(&[
        support::Camera::new("main", "h264-360p"),
        support::Camera::new("sub", "h264-180p"),
    ])
}

/// The lines of a table in a document: the cells of each row. `heading` is the line above it, with the
/// heading's `#`.
#[track_caller]
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).expect("the document");
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| *line != heading)
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table under {heading:?} in {document}");
    rows
}

/// The names in backticks in a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The fields that a table documents: name and type.
#[track_caller]
fn fields(document: &str, heading: &str) -> Vec<(String, String)> {
    let rows = table(document, heading);
    rows.iter()
        .flat_map(|row| {
            let kind = row[1].clone();
            names(&row[0])
                .into_iter()
                .map(move |name| (name.to_owned(), kind.clone()))
        })
        .collect()
}

/// An object has exactly these fields, each of its type.
#[track_caller]
fn check_fields(object: &serde_json::Value, fields: &[(String, String)]) {
    let map = object.as_object().expect("an object");
    let mut there: Vec<&str> = map.keys().map(String::as_str).collect();
    let mut documented: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
    there.sort_unstable();
    documented.sort_unstable();
    assert_eq!(there, documented, "what is there, what is documented");
    for (name, kind) in fields {
        let value = &map[name];
        let (kind, nullable) = match kind.strip_suffix(" or null") {
            Some(kind) => (kind, true),
            None => (&**kind, false),
        };
        let integers = |value: &serde_json::Value| {
            let array = value.as_array();
            array.is_some_and(|array| array.iter().all(serde_json::Value::is_u64))
        };
        let right = match kind {
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "true or false" => value.is_boolean(),
            "object" => value.is_object(),
            "array of objects" => value
                .as_array()
                .is_some_and(|array| array.iter().all(serde_json::Value::is_object)),
            "array of integers" => integers(value),
            other => panic!("{name}: what is {other:?}?"),
        };
        assert!(right || nullable && value.is_null(), "{name}: {value}");
    }
}
