//! The configuration of a site: one TOML file.
//!
//! `raw.rs` reads what was written, `resolve.rs` makes of it what holds, `site.rs` says what that
//! is, `error.rs` explains what is wrong. Promises: text of any kind is either a whole [`Site`] or
//! an explanation, never a panic; no password is in an explanation, in `Debug` or in a log.
#![deny(unsafe_code)]

pub mod certificate;
pub mod edit;
mod error;
mod http;
mod log;
pub mod mask;
pub mod memory;
mod network;
pub mod proof;
mod raw;
mod record;
mod resolve;
mod sandbox;
mod secretless;
mod site;
mod value;
mod view;
pub mod with_secret;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use error::{ConfigError, Problem, Report, Style, Warnings};
pub use http::{Http, Login, Role, Tls};
pub use log::LogFormat;
pub use network::Network;
pub use record::{Record, RecordMode, RenditionSpec, Retention};
pub use resolve::{camera_url, show_cores};
pub use sandbox::{OnViolation, Sandbox, SandboxMode};
pub use secretless::{Secretless, read_outside, read_secretless, secretless};
pub use site::{
    Client, Cpu, Decode, DecodeBackend, DecodeMode, Limits, Retry, Ring, Site, Stream, Transport,
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use value::expand;
pub use value::{Environment, duration as parse_duration, show_bitrate, show_duration, show_size};
pub use view::{Fit, View, ViewFormat};

/// Where the configuration is looked for when none is named, in this order.
pub const PLACES: [&str; 2] = ["/etc/camring/config.toml", "./config.toml"];

/// Far more than any site needs; less than would hurt.
const LARGEST: u64 = 4 << 20;

/// The path of every table and its keys: `("ring", ["depth", …])`; the path of the top is empty.
pub const KEYS: &[(&str, &[&str])] = raw::ALL;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub site: Site,
    /// What is doubtful about it.
    pub warnings: Warnings,
}

/// Reads the configuration at `path`, or at the first of [`PLACES`] that exists; logs what is
/// doubtful.
///
/// # Errors
/// Says all that is wrong, not only the first thing.
pub fn load(path: Option<&Path>) -> Result<(PathBuf, Site), ConfigError> {
    let loaded = read(path)?;
    for warning in loaded.warnings.report().messages() {
        tracing::warn!("{}: {warning}", loaded.path.display());
    }
    Ok((loaded.path, loaded.site))
}

/// As [`load`], but returns what is doubtful instead of logging it.
///
/// # Errors
/// As [`load`].
pub fn read(path: Option<&Path>) -> Result<Loaded, ConfigError> {
    let (path, text, for_all) = read_text(path)?;
    let (site, warnings) = parse_checked(&text, &path, &Environment::of_process(), for_all)?;
    Ok(Loaded {
        path,
        site,
        warnings,
    })
}

/// As [`read`], of a text that is to become the file at `path`.
///
/// # Errors
/// Says all that is wrong.
pub fn check(text: &str, path: &Path) -> Result<Site, ConfigError> {
    let (site, _) = parse_checked(text, path, &Environment::of_process(), false)?;
    Ok(site)
}

/// The file's path and text, and whether everybody may read it.
fn read_text(path: Option<&Path>) -> Result<(PathBuf, String, bool), ConfigError> {
    let (path, file) = open(path)?;
    let failed = |source| ConfigError::Read {
        path: path.clone(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(ConfigError::TooLarge {
            path,
            limit: LARGEST,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((path, text, others_may_read(&metadata))),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(ConfigError::NotUtf8 { path, line })
        }
    }
}

/// The attach socket of the site at `path` (or as [`load`] looks for it), for those who only want
/// to talk to its daemon: they may not have the secrets that the rest of the file refers to, so
/// only `[site]` is looked at.
///
/// # Errors
/// The file cannot be read, is not TOML, or its `runtime_dir` is wrong.
pub fn socket_of(path: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let (path, text, _) = read_text(path)?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut problems = syntax(&text, &errors);
    if problems.is_empty() {
        let raw = raw::RawConfig::read(table.get_ref(), &mut problems);
        let environment = Environment::empty();
        let mut resolver = resolve::Resolver::new(&text, &environment);
        let runtime_dir = resolver.runtime_dir(&raw.site);
        if resolver.problems.is_empty() && !matches!(raw.site.runtime_dir, raw::Field::Invalid) {
            return Ok(site::attach_socket(&runtime_dir));
        }
        problems.append(&mut resolver.problems);
    }
    Err(ConfigError::Invalid(Box::new(Report::new(
        &path, &text, problems,
    ))))
}

/// `[log] format` of the site at `path` (or as [`load`] looks for it), if it is written there and is one.
/// What is wrong with the file is for [`load`] to say, which comes next and whose words are logged.
pub fn log_format_of(path: Option<&Path>) -> Option<LogFormat> {
    let (_, text, _) = read_text(path).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let raw = raw::RawConfig::read(table.get_ref(), &mut Vec::new());
    LogFormat::from_name(raw.log.format.set()?.get_ref())
}

fn open(path: Option<&Path>) -> Result<(PathBuf, File), ConfigError> {
    if let Some(path) = path {
        return match File::open(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        };
    }
    for place in PLACES {
        match File::open(place) {
            Ok(file) => return Ok((PathBuf::from(place), file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It is there, and is meant: the next place would be a surprise.
            Err(source) => {
                return Err(ConfigError::Read {
                    path: PathBuf::from(place),
                    source,
                });
            }
        }
    }
    Err(ConfigError::Missing {
        tried: PLACES.map(PathBuf::from).to_vec(),
    })
}

fn others_may_read(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

/// Makes a [`Site`] of a text; `path` is what messages call it.
///
/// # Errors
/// Says all that is wrong.
pub fn parse(
    text: &str,
    path: &Path,
    environment: &Environment,
) -> Result<(Site, Warnings), ConfigError> {
    parse_checked(text, path, environment, false)
}

fn parse_checked(
    text: &str,
    path: &Path,
    environment: &Environment,
    others_may_read: bool,
) -> Result<(Site, Warnings), ConfigError> {
    let invalid = |problems| ConfigError::Invalid(Box::new(Report::new(path, text, problems)));
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(invalid(syntax(text, &errors)));
    }
    let mut problems = Vec::new();
    let raw = raw::RawConfig::read(table.get_ref(), &mut problems);
    let mut resolver = resolve::Resolver::new(text, environment);
    resolver.problems = problems;
    let site = resolver.site(&raw);
    let resolve::Resolver {
        problems,
        mut warnings,
        ..
    } = resolver;
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    if others_may_read {
        warnings.extend(resolve::plain_password(&raw, path));
    }
    Ok((site, Warnings(Report::new(path, text, warnings))))
}

/// Errors of the TOML parser: one for each line, since one often causes the next.
fn syntax(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let start = span.start.min(text.len());
        let line = text.as_bytes()[..start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        if !seen.insert(line) {
            continue;
        }
        let span = start..span.end.clamp(start, text.len());
        let yaml = text
            .lines()
            .nth(line)
            .is_some_and(|line| line.contains(':') && !line.contains('=') && !line.contains('"'));
        let label = explain(error.message(), text.get(span.clone()).unwrap_or_default());
        let mut problem = Problem::new("this is not TOML", span).label(label);
        if yaml && seen.len() == 1 {
            problem = problem.help("in TOML: [table] on a line of its own, then key = value");
        }
        problems.push(problem);
    }
    problems
}

/// The parser's message in words for people who have not read TOML's grammar.
fn explain(message: &str, at: &str) -> String {
    match message {
        _ if message.starts_with("string values must be quoted") => match at.trim() {
            "" => "a value is missing".to_owned(),
            _ => "text must be in quotes".to_owned(),
        },
        _ if message.starts_with("invalid boolean") => {
            "must be true or false, or text in quotes".to_owned()
        }
        _ if message.starts_with("invalid basic string, expected `\"`") => {
            "the quote at the end is missing".to_owned()
        }
        _ if message.starts_with("key with no value") => "`=` and a value are missing".to_owned(),
        "duplicate key" => "this key is written twice".to_owned(),
        _ => message.to_owned(),
    }
}
