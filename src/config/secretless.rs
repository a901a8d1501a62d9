//! A configuration read by somebody who does not have its credentials, and is not to see any.
#![deny(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::site::Site;
use super::value::Environment;
use super::{Loaded, parse, parse_checked, read_text};

/// What stands where credentials belong.
const STAND_IN: &str = "x";

/// A site in which something stands where credentials belong.
#[derive(Clone, Debug)]
pub struct Secretless {
    /// The file.
    pub path: PathBuf,
    /// Good for everything but logging in.
    pub site: Site,
    /// The credentials that it refers to.
    pub credentials: BTreeSet<String>,
}

/// Reads the file at `path`, or where one is looked for.
///
/// # Errors
/// There is none, or it is wrong.
pub fn read_secretless(path: Option<&Path>) -> Result<Secretless, ConfigError> {
    let (path, text, _) = read_text(path)?;
    secretless(&text, &path)
}

/// The same with a text; `path` is what messages call it.
///
/// # Errors
/// Says all that is wrong.
pub fn secretless(text: &str, path: &Path) -> Result<Secretless, ConfigError> {
    let environment = Environment {
        stand_in: Some(STAND_IN),
        ..Environment::of_process()
    };
    let (site, _) = parse(text, path, &environment)?;
    Ok(Secretless {
        path: path.to_owned(),
        site,
        credentials: credentials_in(text),
    })
}

/// As [`super::read`], for somebody outside of the service: where there are no credentials at all, something
/// stands in for them. Their names are returned, too; none where they were read.
///
/// # Errors
/// As [`super::read`].
pub fn read_outside(path: Option<&Path>) -> Result<(Loaded, BTreeSet<String>), ConfigError> {
    let (path, text, for_all) = read_text(path)?;
    let mut environment = Environment::of_process();
    let mut unread = BTreeSet::new();
    if environment.credentials.is_none() {
        environment.stand_in = Some(STAND_IN);
        unread = credentials_in(&text);
    }
    let (site, warnings) = parse_checked(&text, &path, &environment, for_all)?;
    let loaded = Loaded {
        path,
        site,
        warnings,
    };
    Ok((loaded, unread))
}

/// What is no TOML refers to none. Comments are none of its values.
fn credentials_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        collect(&toml::Value::Table(table), &mut found);
    }
    found
}

fn collect(value: &toml::Value, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::String(text) => {
            for (at, opening) in text.match_indices("${credential:") {
                let rest = &text[at + opening.len()..];
                let escaped = text[..at].ends_with('$');
                if let Some((name, _)) = rest.split_once('}').filter(|_| !escaped) {
                    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                    if !name.is_empty() && name.chars().all(known) {
                        found.insert(name.to_owned());
                    }
                }
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        toml::Value::Table(table) => table.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}
