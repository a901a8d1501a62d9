//! Where a camera's passwords go after an edit.
//!
//! Promises: a password that stood in the configuration already goes to no other host, port or scheme
//! than before, whichever key of which table leads it there; whoever sends it along knows it anyway.
//! Must never: put a password into a message.

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value as Json};
use url::Url;

use crate::config::{Site, Stream, value};

/// Keys of `patch` that should come with a password: `password`, `stream/0/password`. Empty: `after`
/// sends no password of `camera` to where it was not sent in one of `before`, but for those in `patch`.
pub fn led_astray(
    before: &[&Site],
    camera: &str,
    after: &Site,
    patch: &Map<String, Json>,
) -> Vec<String> {
    let known: Vec<_> = before
        .iter()
        .flat_map(|site| &site.streams)
        .filter(|stream| stream.camera == camera)
        .filter_map(sent)
        .collect();
    let given = given(patch);
    let renamed = patch.get("name").and_then(Json::as_str).unwrap_or(camera);
    let mut keys = Vec::new();
    for stream in after.streams.iter().filter(|s| s.camera == renamed) {
        let Some(sent) = sent(stream) else {
            continue;
        };
        if known.contains(&sent) || given.iter().any(|given| given == sent.0) {
            continue;
        }
        let key = key_for(stream, patch);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// A stream's password, and where it goes.
fn sent(stream: &Stream) -> Option<(&str, &str, Option<&str>, Option<u16>)> {
    let (password, url) = (stream.password.as_ref()?, &stream.url);
    Some((
        password.expose_secret(),
        url.scheme(),
        url.host_str(),
        url.port(),
    ))
}

/// The passwords in a patch: of the camera, of its streams, in URLs.
fn given(patch: &Map<String, Json>) -> Vec<String> {
    let streams = patch.get("stream").and_then(Json::as_array);
    let streams = streams.into_iter().flatten().filter_map(Json::as_object);
    let mut found = Vec::new();
    for keys in std::iter::once(patch).chain(streams) {
        let text = |key| keys.get(key).and_then(Json::as_str);
        found.extend(text("password").map(str::to_owned));
        let url = text("url").and_then(|url| Url::parse(url).ok());
        found.extend(url.and_then(|url| value::percent_decode(url.password()?)));
    }
    found
}

/// Where its password would have to stand in the patch.
fn key_for(stream: &Stream, patch: &Map<String, Json>) -> String {
    let name = stream.stream.as_deref();
    let streams = patch.get("stream").and_then(Json::as_array);
    let place = streams.and_then(|streams| {
        let named = |keys: &Json| keys.get("name").and_then(Json::as_str) == name;
        streams.iter().position(named).filter(|_| name.is_some())
    });
    match place {
        Some(place) => format!("stream/{place}/password"),
        None => "password".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::{Edit, apply};
    use super::*;

    const FILE: &str = r#"
[[camera]]
name = "door"
url = "rtsp://192.0.2.1/"
username = "admin"
password = "canary"

[[camera]]
name = "yard"
username = "admin"
password = "canary"
[[camera.stream]]
name = "main"
url = "rtsp://192.0.2.2/1"
[[camera.stream]]
name = "sub"
url = "rtsp://192.0.2.2/2"
password = "other-canary"
"#;

    fn astray(camera: &str, patch: Json) -> Vec<String> {
        let check = |text: &str| crate::config::check(text, Path::new("/c.toml")).unwrap();
        let patch = patch.as_object().unwrap().clone();
        let after = apply(FILE, &Edit::Patch(camera.into(), patch.clone())).unwrap();
        led_astray(&[&check(FILE)], camera, &check(&after), &patch)
    }

    #[test]
    fn the_same_host_and_whoever_knows_the_password_are_let_through() {
        for patch in [
            json!({"url": "rtsp://192.0.2.1/other"}),
            json!({"name": "gate", "enabled": false}),
            json!({"password": "new"}),
            json!({"url": "rtsp://192.0.2.9/", "password": "canary"}),
            json!({"url": "rtsp://192.0.2.9/", "password": null, "username": null}),
            json!({"url": "rtsp://a:c%20d@192.0.2.9/", "password": null, "username": null}),
        ] {
            assert_eq!(astray("door", patch.clone()), [""; 0], "{patch}");
        }
        let sub = json!([{"name": "sub", "url": "rtsp://192.0.2.9/", "password": "other-canary"}]);
        assert_eq!(astray("yard", json!({"stream": sub})), [""; 0]);
    }

    #[test]
    fn a_password_goes_nowhere_else() {
        for patch in [
            json!({"url": "rtsp://192.0.2.9/"}),
            json!({"url": "rtsp://192.0.2.1:8554/"}),
            json!({"name": "gate", "url": "rtsps://192.0.2.1/", "tls_verify": false}),
        ] {
            assert_eq!(astray("door", patch.clone()), ["password"], "{patch}");
        }
    }

    #[test]
    fn a_stream_inherits_no_password_for_a_stranger() {
        let to = |keys: Json| astray("yard", json!({"stream": [keys]}));
        // A new one takes the camera's …
        let new = json!({"name": "third", "url": "rtsp://192.0.2.9/"});
        assert_eq!(to(new), ["stream/0/password"]);
        // … and so does one that gives its own away.
        let sub = json!({"name": "sub", "url": "rtsp://192.0.2.9/", "password": null});
        assert_eq!(to(sub), ["stream/0/password"]);
        // A password of the camera's says nothing about a stream's own.
        let both = json!({"password": "mine",
            "stream": [{"name": "sub", "url": "rtsp://192.0.2.9/"}]});
        assert_eq!(astray("yard", both), ["stream/0/password"]);
        // Nor may the host of one stream have another's.
        let door = json!({"url": null, "stream": [{"name": "a", "url": "rtsp://192.0.2.9/"}]});
        assert_eq!(astray("door", door), ["stream/0/password"]);
    }
}
