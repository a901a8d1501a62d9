//! A [`Stream`] in a control message, password included:
//! `#[serde(with = "camring::config::with_secret")] camera: Stream`.
//!
//! Only for the inherited descriptor between the supervisor and the one reader that needs it;
//! never for a file, a log or an answer to anybody.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

use super::network::Network;
use super::record::Record;
use super::site::{Client, Cpu, Decode, Retry, Ring, Stream, Transport};
use super::view::View;

#[derive(Serialize, Deserialize)]
struct Wire {
    camera: String,
    stream: Option<String>,
    id: String,
    alias: Option<String>,
    url: String,
    username: Option<String>,
    password: Option<String>,
    transport: Transport,
    client: Client,
    tls_verify: bool,
    cpu: Cpu,
    enabled: bool,
    decode: Decode,
    ring: Ring,
    retry: Retry,
    record: Record,
    network: Network,
    memory_per_camera: u64,
    views: Vec<View>,
}

/// Writes the stream, password included.
pub fn serialize<S: Serializer>(stream: &Stream, serializer: S) -> Result<S::Ok, S::Error> {
    let Stream {
        camera,
        stream,
        id,
        alias,
        url,
        username,
        password,
        transport,
        client,
        tls_verify,
        cpu,
        enabled,
        decode,
        ring,
        retry,
        record,
        network,
        memory_per_camera,
        views,
    } = stream.clone();
    Wire {
        camera,
        stream,
        id,
        alias,
        url: url.into(),
        username,
        password: password.map(|password| password.expose_secret().to_owned()),
        transport,
        client,
        tls_verify,
        cpu,
        enabled,
        decode,
        ring,
        retry,
        record,
        network,
        memory_per_camera,
        views,
    }
    .serialize(serializer)
}

/// Reads what [`serialize`] wrote. Never repeats a value in its errors.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stream, D::Error> {
    let Wire {
        camera,
        stream,
        id,
        alias,
        url,
        username,
        password,
        transport,
        client,
        tls_verify,
        cpu,
        enabled,
        decode,
        ring,
        retry,
        record,
        network,
        memory_per_camera,
        views,
    } = Wire::deserialize(deserializer)?;
    Ok(Stream {
        camera,
        stream,
        id,
        alias,
        url: Url::parse(&url).map_err(|_| D::Error::custom("the stream's URL is not one"))?,
        username,
        password: password.map(SecretString::from),
        transport,
        client,
        tls_verify,
        cpu,
        enabled,
        decode,
        ring,
        retry,
        record,
        network,
        memory_per_camera,
        views,
    })
}
