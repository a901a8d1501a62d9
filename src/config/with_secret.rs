//! A [`Stream`] in a control message, password included:
//! `#[serde(with = "camring::config::with_secret")] camera: Stream`.
//!
//! Only for the inherited descriptor between the supervisor and the one reader that needs it;
//! never for a file, a log or an answer to anybody.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::network::Network;
use super::record::Record;
use super::site::{Client, Cpu, Decode, Retry, Ring, Stream, Transport};
use super::view::View;

/// Every field of a stream: one that is missing here does not compile.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Stream")]
struct Wire {
    camera: String,
    stream: Option<String>,
    id: String,
    alias: Option<String>,
    #[serde(with = "address")]
    url: Url,
    username: Option<String>,
    #[serde(with = "password")]
    password: Option<SecretString>,
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
    Wire::serialize(stream, serializer)
}

/// Reads what [`serialize`] wrote. Never repeats a value in its errors.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stream, D::Error> {
    Wire::deserialize(deserializer)
}

mod address {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use url::Url;

    pub fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        url.as_str().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        let text = String::deserialize(deserializer)?;
        Url::parse(&text).map_err(|_| D::Error::custom("the stream's URL is not one"))
    }
}

mod password {
    use secrecy::{ExposeSecret as _, SecretString};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(
        password: &Option<SecretString>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = password.as_ref().map(|password| password.expose_secret());
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SecretString>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(SecretString::from))
    }
}
