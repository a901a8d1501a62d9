//! Changes of the configuration file by the program: one camera more, less, or other.
//!
//! Promises: comments, order and spelling of everything else stay as they are; the file is replaced
//! whole or not at all, with the same mode and owner; a change made by hand in between is never
//! overwritten. What comes of an edit is not trusted before the normal loader has read it.
//!
//! Values from outside are plain text: `${…}` in them is written so that it refers to nothing, for
//! whoever may change a camera must not thereby read the daemon's environment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use super::LARGEST;
pub use passwords::led_astray;

mod passwords;

/// What is to be changed. Keys and values are those of `[[camera]]`, as JSON.
#[derive(Clone, PartialEq)]
#[expect(missing_debug_implementations, reason = "values may be passwords")]
pub enum Edit {
    /// A camera more, at the end.
    Add(Map<String, Json>),
    /// Other values; `null` takes a key away. Streams go by their names.
    Patch(String, Map<String, Json>),
    /// A camera less.
    Remove(String),
}

/// Why an edit is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file as it is.
    #[error("the configuration file is not TOML at the moment: {0}; correct it first")]
    Broken(String),
    /// `camera = [{…}]`
    #[error(
        "the cameras are written as one list in the configuration file: edit it by hand, or write them \
         as [[camera]]"
    )]
    Inline,
    /// There is none of that name.
    #[error("no camera {0:?} in the configuration file")]
    Unknown(String),
    /// There is one of that name.
    #[error("there is a camera {0:?} already")]
    Exists(String),
    /// A value that TOML cannot hold, or a table where none can be.
    #[error("{detail}")]
    Value {
        /// As a path: `record/mode`.
        field: String,
        /// What is the matter.
        detail: String,
    },
}

/// The text with the change made.
///
/// # Errors
/// It cannot be made.
pub fn apply(text: &str, edit: &Edit) -> Result<String, EditError> {
    let mut document: DocumentMut = text
        .parse()
        // The message alone: with its snippet it would show a line, and the password in it.
        .map_err(|error: toml_edit::TomlError| EditError::Broken(error.message().to_owned()))?;
    if document.get("camera").is_none() {
        document.insert("camera", Item::ArrayOfTables(ArrayOfTables::new()));
    }
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    let cameras = document
        .get_mut("camera")
        .and_then(Item::as_array_of_tables_mut)
        .ok_or(EditError::Inline)?;
    let find = |cameras: &ArrayOfTables, name: &str| {
        let named = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
        cameras.iter().position(named)
    };
    match edit {
        Edit::Add(keys) => {
            if let Some(name) = keys.get("name").and_then(Json::as_str)
                && find(cameras, name).is_some()
            {
                return Err(EditError::Exists(name.to_owned()));
            }
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            merge(&mut table, keys, "", &TABLES)?;
            cameras.push(table);
        }
        Edit::Patch(name, keys) => {
            let place = find(cameras, name).ok_or_else(|| EditError::Unknown(name.clone()))?;
            if let Some(new) = keys.get("name").and_then(Json::as_str)
                && new != name
                && find(cameras, new).is_some()
            {
                return Err(EditError::Exists(new.to_owned()));
            }
            if let Some(table) = cameras.get_mut(place) {
                merge(table, keys, "", &TABLES)?;
            }
        }
        Edit::Remove(name) => {
            let place = find(cameras, name).ok_or_else(|| EditError::Unknown(name.clone()))?;
            let kept = cameras.get(place).map(above).unwrap_or_default();
            cameras.remove(place);
            match cameras.get_mut(place) {
                Some(next) => {
                    let own = prefix(next);
                    next.decor_mut().set_prefix(format!("{kept}{own}"));
                }
                None => document.set_trailing(format!("{kept}{trailing}")),
            }
        }
    }
    Ok(document.to_string())
}

/// The tables that a camera and a stream can have.
const TABLES: [&str; 5] = ["ring", "decode", "retry", "record", "network"];
/// The lists of tables, each element with a name.
const LISTS: [&str; 2] = ["stream", "view"];

fn prefix(table: &Table) -> String {
    let prefix = table.decor().prefix();
    let text = prefix.and_then(|prefix| prefix.as_str());
    text.unwrap_or_default().to_owned()
}

/// What stands above a table, but is not its own comment: all but the last paragraph.
fn above(table: &Table) -> String {
    let prefix = prefix(table);
    match prefix.rfind("\n\n") {
        Some(end) => prefix[..=end].to_owned(),
        None => String::new(),
    }
}

/// Writes keys into a table; `null` takes one away.
fn merge(
    table: &mut Table,
    keys: &Map<String, Json>,
    path: &str,
    tables: &[&str],
) -> Result<(), EditError> {
    for (key, json) in keys {
        let field = match path {
            "" => key.clone(),
            path => format!("{path}/{key}"),
        };
        match json {
            Json::Null => {
                table.remove(key);
            }
            Json::Object(inner) if tables.contains(&key.as_str()) => {
                let item = table
                    .entry(key)
                    .or_insert_with(|| Item::Table(Table::new()));
                if let Some(inline) = item.as_inline_table() {
                    // `record = { mode = "copy" }`
                    *item = Item::Table(inline.clone().into_table());
                }
                let Some(sub) = item.as_table_mut() else {
                    let detail = "is not a table in the configuration file".to_owned();
                    return Err(EditError::Value { field, detail });
                };
                merge(sub, inner, &field, &[])?;
                if sub.is_empty() {
                    table.remove(key);
                }
            }
            Json::Array(elements)
                if !tables.is_empty()
                    && LISTS.contains(&key.as_str())
                    && elements.iter().all(Json::is_object) =>
            {
                list(table, key, elements, &field)?;
            }
            json => {
                let mut new = value(json, &field)?;
                // What stands behind it on its line stays there.
                if let Some(old) = table.get(key).and_then(Item::as_value) {
                    *new.decor_mut() = old.decor().clone();
                }
                match table.get_mut(key) {
                    Some(item) => *item = Item::Value(new),
                    None => {
                        table.insert(key, Item::Value(new));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Merges elements into a list of tables by their names.
fn list(table: &mut Table, key: &str, elements: &[Json], field: &str) -> Result<(), EditError> {
    let item = table
        .entry(key)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(list) = item.as_array_of_tables_mut() else {
        let detail = "is written as one list in the configuration file: edit it by hand".to_owned();
        let field = field.to_owned();
        return Err(EditError::Value { field, detail });
    };
    for (index, element) in elements.iter().filter_map(Json::as_object).enumerate() {
        let field = format!("{field}/{index}");
        let name = element.get("name").and_then(Json::as_str);
        let there = name.and_then(|name| {
            let named = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
            list.iter().position(named)
        });
        match there.and_then(|place| list.get_mut(place)) {
            Some(there) => merge(there, element, &field, &TABLES)?,
            None => {
                let mut new = Table::new();
                new.decor_mut().set_prefix("\n");
                merge(&mut new, element, &field, &TABLES)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

fn value(json: &Json, field: &str) -> Result<Value, EditError> {
    let fault = |detail: &str| EditError::Value {
        field: field.to_owned(),
        detail: detail.to_owned(),
    };
    Ok(match json {
        Json::Null => return Err(fault("null is no value here")),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(float)) => Value::from(float),
            (None, None) => return Err(fault("the number is too large")),
        },
        // A reference to a variable of the daemon's is for who writes the file.
        Json::String(text) => Value::from(text.replace("${", "$${")),
        Json::Array(elements) => {
            let mut array = Array::new();
            for element in elements {
                array.push(value(element, field)?);
            }
            Value::Array(array)
        }
        Json::Object(keys) => {
            let mut table = InlineTable::new();
            for (key, json) in keys {
                table.insert(key, value(json, &format!("{field}/{key}"))?);
            }
            Value::InlineTable(table)
        }
    })
}

/// The configuration file, as it was read.
#[derive(Debug)]
pub struct Text {
    /// Where it is, symbolic links followed.
    path: PathBuf,
    text: String,
}

impl Text {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, is too large, or not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        // The link stays; what it points to is replaced.
        let path = fs::canonicalize(path)?;
        let text = read_whole(&path)?;
        Ok(Self { path, text })
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Replaces it, whole or not at all.
    ///
    /// # Errors
    /// `AlreadyExists`: it has changed since it was read. Otherwise what the kernel says.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let new = folder.join(format!(".{name}.{}.new", std::process::id()));
        sweep(folder, &name);
        // Of an edit that a power cut ended.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.write(&new, text).and_then(|()| {
            if read_whole(&self.path)? != self.text {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            fs::rename(&new, &self.path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
            return written;
        }
        // The name, too, must survive a power cut.
        File::open(folder)?.sync_all()
    }

    fn write(&self, new: &Path, text: &str) -> io::Result<()> {
        let old = fs::metadata(&self.path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            // There may be passwords in it: nobody else before the mode is right.
            .mode(0o600)
            .open(new)?;
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()
    }
}

/// Removes what processes left that were killed while they wrote: there may be passwords in it.
fn sweep(folder: &Path, name: &str) {
    let begin = format!(".{name}.");
    let writer = |file: &str| -> Option<u32> {
        let pid = file.strip_prefix(&begin)?.strip_suffix(".new")?;
        pid.parse().ok()
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(writer);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Tried again with the next edit.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn read_whole(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > LARGEST {
        true => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests;
