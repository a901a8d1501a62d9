//! A configuration read by somebody who does not have its credentials, and is not to see any.
#![deny(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::site::Site;
use super::value::Environment;
use super::{parse, read_text};

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
    let mut credentials = BTreeSet::new();
    // What is no TOML says so below. Comments are none of its values.
    if let Ok(table) = text.parse::<toml::Table>() {
        collect(&toml::Value::Table(table), &mut credentials);
    }
    let mut without = text.to_owned();
    for name in &credentials {
        without = without.replace(&format!("${{credential:{name}}}"), "x");
    }
    let (site, _) = parse(&without, path, &Environment::of_process())?;
    Ok(Secretless {
        path: path.to_owned(),
        site,
        credentials,
    })
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
