//! What the configuration has already: cameras that need not be found, and names that are taken.
//!
//! Reads addresses and names only, and leniently: a configuration that lacks a secret, or is half
//! written, still says which cameras are in it. Must never repeat anything of it in an error.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};
use url::Url;

use crate::config::PLACES;

/// Names and addresses of a configuration.
#[derive(Debug, Default)]
pub struct Known {
    pub names: HashSet<String>,
    /// Camera, and the address of one of its streams without login.
    streams: Vec<(String, Url)>,
}

impl Known {
    /// Of the file at `path`, or of the first of [`PLACES`] that exists; of none, nothing.
    ///
    /// # Errors
    /// One is named, or there is one, and it cannot be read.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut places: Vec<&Path> = PLACES.iter().map(Path::new).collect();
        if let Some(path) = path {
            places = vec![path];
        }
        for place in places {
            let shown = place.display();
            match std::fs::read_to_string(place) {
                Ok(text) => {
                    // Its `Display` shows the line, in which there may be a password.
                    let table: Table = text.parse().map_err(|_| {
                        anyhow::anyhow!("{shown} is not TOML: `camring check` says where")
                    })?;
                    return Ok(Self::of(&table));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
            }
        }
        Ok(Self::default())
    }

    fn of(table: &Table) -> Self {
        let mut known = Self::default();
        let list = |table: &Table, key: &str| {
            let all = table.get(key).and_then(Value::as_array);
            let tables = all.into_iter().flatten().filter_map(Value::as_table);
            tables.cloned().collect::<Vec<_>>()
        };
        for camera in list(table, "camera") {
            let name = camera.get("name").and_then(Value::as_str);
            let name = name.unwrap_or_default().to_owned();
            for stream in std::iter::once(camera.clone()).chain(list(&camera, "stream")) {
                let url = stream.get("url").and_then(Value::as_str);
                if let Some(url) = url.and_then(bare) {
                    known.streams.push((name.clone(), url));
                }
            }
            known.names.insert(name);
        }
        known
    }

    /// The camera that has this very stream.
    pub fn stream(&self, url: &Url) -> Option<&str> {
        let place = |url: &Url| {
            let host = url.host_str().map(str::to_ascii_lowercase);
            let path = url.path().trim_end_matches('/').to_owned();
            (
                host,
                url.port().unwrap_or(554),
                path,
                url.query().map(str::to_owned),
            )
        };
        let found = self
            .streams
            .iter()
            .find(|(_, known)| place(known) == place(url));
        found.map(|(name, _)| name.as_str())
    }

    /// A camera at this host and port.
    pub fn host(&self, url: &Url) -> Option<&str> {
        let place = |url: &Url| {
            let host = url.host_str().map(str::to_ascii_lowercase);
            (host, url.port().unwrap_or(554))
        };
        let found = self
            .streams
            .iter()
            .find(|(_, known)| place(known) == place(url));
        found.map(|(name, _)| name.as_str())
    }
}

/// The URL without its login, which may be a reference that is no good in a URL.
fn bare(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    Url::parse(&format!("{scheme}://{}", &rest[host..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_known_by_their_streams_and_hosts() {
        let text = "[[camera]]\nname = \"a\"\nurl = \"rtsp://u:${PW}x@192.0.2.1/1/\"\n\
                    [[camera]]\nname = \"b\"\n[[camera.stream]]\nname = \"main\"\n\
                    url = \"rtsp://192.0.2.2:8554/?x=1\"\n[[camera]]\nurl = 5\n";
        let known = Known::of(&text.parse().unwrap());
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(known.stream(&url("rtsp://192.0.2.2:8554/?x=1")), Some("b"));
        assert_eq!(known.stream(&url("rtsp://192.0.2.2:8554/?x=2")), None);
        assert_eq!(known.host(&url("rtsp://192.0.2.2:8554/?x=2")), Some("b"));
        assert_eq!(known.host(&url("rtsp://192.0.2.2/")), None);
        assert!(known.names.contains("a") && known.names.contains("b"));
        let bare = bare("rtsp://u:${PW}@192.0.2.1/1").unwrap();
        assert_eq!(bare.as_str(), "rtsp://192.0.2.1/1");
    }
}
