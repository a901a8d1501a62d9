//! The configuration file, as somebody wrote it, and as the program changes it.

use std::ffi::OsString;
use std::path::Path;

use arbitrary::Unstructured;
use serde_json::{Map, Value as Json};

use crate::config::edit::{self, Edit};
use crate::config::{self, ConfigError, Environment, Style};

/// In every configuration that is tried, and in nothing that is said about it.
const PLANTED: &str = "pL4nt3d-Zw7";

fn environment() -> Environment {
    Environment {
        variable: Box::new(|name| match name {
            "DOOR" => Some(OsString::from(PLANTED)),
            "GATE" => Some(OsString::from("192.0.2.9")),
            _ => None,
        }),
        ..Environment::empty()
    }
}

/// Lines in which the secret stands, each as people write it.
const SECRETS: [&str; 4] = [
    "\n[[camera]]\nname = \"planted\"\nurl = \"rtsp://192.0.2.1/\"\npassword = \"pL4nt3d-Zw7\"\n",
    "\n[[camera]]\nname = \"planted\"\nurl = \"rtsp://admin:pL4nt3d-Zw7@192.0.2.1/stream\"\n",
    "\n[[camera]]\nname = \"planted\"\nurl = \"rtsp://192.0.2.1/\"\npassword = \"${DOOR}\"\n",
    "\n[[camera]]\nname = \"planted\"\nurl = \"rtsp://192.0.2.1/live?user=a&password=pL4nt3d-Zw7\"\n",
];

/// Text of any kind is a site or an explanation, and no explanation shows the password in it.
pub fn config(data: &[u8]) {
    let Some((how, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    // Where it stands besides, it is no secret.
    if text.contains(PLANTED) || text.contains("DOOR") {
        return;
    }
    let secret = SECRETS[usize::from(how % 4)];
    let text = match how / 4 % 4 {
        0 => text.to_owned(),
        1 => format!("{secret}{text}"),
        2 => format!("{text}{secret}"),
        _ => {
            // In the middle, between two lines.
            let middle = text.len() / 2;
            let at = text.bytes().skip(middle).position(|byte| byte == b'\n');
            let (before, after) = text.split_at(at.map_or(text.len(), |at| middle + at + 1));
            format!("{before}{secret}{after}")
        }
    };
    let path = Path::new("site.toml");
    let style = match how / 16 % 2 {
        0 => Style::Plain,
        _ => Style::Coloured,
    };
    let said = match config::parse(&text, path, &environment()) {
        Ok((site, warnings)) => format!("{site:?}\n{}", warnings.render(style)),
        Err(error) => explained(&error, style),
    };
    assert!(!said.contains(PLANTED), "the password is shown:\n{said}");
}

fn explained(error: &ConfigError, style: Style) -> String {
    // In the plain style it is what `Display` says.
    let rendered = match style {
        Style::Plain => error.to_string(),
        Style::Coloured => error.render(style),
    };
    assert!(!rendered.is_empty());
    format!("{rendered}\n{error:?}")
}

/// A file that is good stays good, keeps its other cameras, and says exactly what was asked for.
pub fn config_edit(data: &[u8]) {
    let _ = edited(&mut Unstructured::new(data));
}

const FILE: &str = r#"# The site.
[site]
name = "yard" # comment

[[camera]]
name = "door"
url = "rtsp://192.0.2.1/"  # first
[[camera.stream]]
name = "main"
url = "rtsp://192.0.2.1/1"

[camera.ring]
depth = 4

[[camera]]
name = "gate"
url = "rtsp://192.0.2.2/"
"#;

fn edited(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let how = u.arbitrary::<u8>()?;
    let text = match how & 4 {
        0 => FILE.to_owned(),
        _ => u.arbitrary::<String>()?,
    };
    let mut keys = Map::new();
    for _ in 0..u.arbitrary::<u8>()? % 5 {
        let key = [
            "name", "url", "password", "record", "stream", "ring", "enabled", "x",
        ][usize::from(u.arbitrary::<u8>()? % 8)];
        keys.insert(key.to_owned(), value(u, 3)?);
    }
    let name = ["door", "gate", "new", "planted"][usize::from(how >> 3 & 3)];
    let url = keys.get("url").and_then(Json::as_str).map(str::to_owned);
    let edit = match how % 4 {
        0 => {
            keys.insert("name".to_owned(), Json::String(name.to_owned()));
            Edit::Add(keys)
        }
        1 | 2 => Edit::Patch(name.to_owned(), keys),
        _ => Edit::Remove(name.to_owned()),
    };
    let Ok(after) = edit::apply(&text, &edit) else {
        return Ok(());
    };
    let read: toml::Table = after.parse().expect("what was written is TOML");
    let was: toml::Table = text.parse().expect("it was read before");
    let (was, now) = (cameras(&was), cameras(&read));
    match &edit {
        Edit::Add(_) => assert_eq!(now.len(), was.len() + 1),
        Edit::Patch(..) => assert_eq!(now.len(), was.len()),
        Edit::Remove(_) => assert!(now.len() < was.len() || was.is_empty()),
    }
    // The others are as they were.
    let others = |cameras: &[toml::Value]| {
        let mut others = cameras.to_vec();
        others.retain(|camera| camera.get("name").and_then(toml::Value::as_str) != Some(name));
        others
    };
    let renamed = matches!(&edit, Edit::Patch(_, keys) if keys.contains_key("name"));
    if !renamed {
        assert_eq!(others(&was), others(&now));
    }
    // What came from outside refers to nothing.
    if how.is_multiple_of(4)
        && let Some(url) = url
    {
        let written = now.last().and_then(|camera| camera.get("url")?.as_str());
        let expanded = config::expand(written.unwrap_or_default(), &environment());
        assert_eq!(
            expanded.as_deref(),
            Ok(&*url),
            "it would be read as something else"
        );
    }
    Ok(())
}

fn cameras(table: &toml::Table) -> Vec<toml::Value> {
    table
        .get("camera")
        .and_then(toml::Value::as_array)
        .cloned()
        .unwrap_or_default()
}

fn value(u: &mut Unstructured<'_>, depth: u8) -> arbitrary::Result<Json> {
    Ok(match u.arbitrary::<u8>()? % 8 {
        0 => Json::Null,
        1 => Json::Bool(u.arbitrary()?),
        2 => Json::from(u.arbitrary::<i64>()?),
        3 => Json::from(u.arbitrary::<f64>()?),
        4 if depth > 0 => {
            let many = u.arbitrary::<u8>()? % 3;
            Json::Array(
                (0..many)
                    .map(|_| value(u, depth - 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        5 if depth > 0 => {
            let mut map = Map::new();
            for _ in 0..u.arbitrary::<u8>()? % 3 {
                map.insert(text(u)?, value(u, depth - 1)?);
            }
            Json::Object(map)
        }
        _ => Json::String(text(u)?),
    })
}

fn text(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    Ok(match u.arbitrary::<u8>()? % 6 {
        0 => "${DOOR}".to_owned(),
        1 => "$${DOOR}".to_owned(),
        2 => format!(
            "{}${{DOOR}}{}",
            u.arbitrary::<char>()?,
            u.arbitrary::<char>()?
        ),
        3 => "main".to_owned(),
        _ => u.arbitrary::<String>()?,
    })
}
