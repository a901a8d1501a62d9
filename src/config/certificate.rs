//! A certificate and its key, as TLS needs them.
//!
//! Promises: what is loaded can be served: the files are PEM, bounded, and belong to each other. The
//! key is in no error and in no `Debug`. Reads regular files only, so that it waits for nobody. When it
//! expires is for people and monitoring to know: an expired certificate is served, as browsers explain it
//! better than a port that is closed.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;
use x509_cert::der::Decode as _;

use super::http::Tls;

/// Longer than any chain.
const LONGEST: u64 = 1 << 20;
/// Certificates in a chain.
const MOST: usize = 16;

/// A certificate that expires so soon should have been renewed: those of 90 days are renewed 30 days before,
/// and those of 47 days some 16.
pub const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What can be served.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// With the certificate and its key.
    pub config: Arc<ServerConfig>,
    /// When the server's own certificate, the first in the file, expires; `None`: it does not say so in a
    /// way that is understood here.
    pub expires: Option<Expiry>,
}

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(pub u64);

impl Expiry {
    /// What people should know of it at a time in seconds since 1970: it expires within [`SOON`], or has
    /// expired. To be put behind "the certificate".
    pub fn trouble(self, now: u64) -> Option<String> {
        let count = |seconds: u64| match (seconds / 3600, seconds / (24 * 3600)) {
            (0, _) => "less than an hour".to_owned(),
            (1, _) => "an hour".to_owned(),
            (hours, 0 | 1) => format!("{hours} hours"),
            (_, days) => format!("{days} days"),
        };
        match self.0.checked_sub(now) {
            None | Some(0) => Some(format!("expired {} ago ({self})", count(now - self.0))),
            Some(left) if left < SOON.as_secs() => {
                Some(format!("expires in {} ({self})", count(left)))
            }
            Some(_) => None,
        }
    }

    /// The same, now.
    pub fn trouble_now(self) -> Option<String> {
        self.trouble(crate::sys::clock::unix_ms() / 1000)
    }
}

impl std::fmt::Display for Expiry {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = i64::try_from(self.0).ok();
        let time = time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        write!(f, "{:.0}", time.unwrap_or(jiff::Timestamp::MAX))
    }
}

/// What the server shows to browsers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// When it expires, RFC 3339, UTC.
    pub expires: String,
    /// What is the matter with that, in words: it is less than two weeks away, or over; null: nothing.
    pub trouble: Option<String>,
}

impl CertificateStatus {
    /// Of a certificate that expires then, now.
    pub fn of(expires: Expiry) -> Self {
        Self {
            expires: expires.to_string(),
            trouble: expires.trouble_now(),
        }
    }
}

/// Which file is to blame, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// `certificate`.
    #[error("the certificate {0}")]
    Certificate(String),
    /// `key`.
    #[error("the key {0}")]
    Key(String),
}

/// Reads both, for HTTP/2 and HTTP/1.1 over TLS 1.2 or 1.3.
///
/// # Errors
/// A file cannot be read, is not what it should be, or they do not belong together.
pub fn load(tls: &Tls) -> Result<Loaded, CertificateFault> {
    let text = read(&tls.certificate).map_err(CertificateFault::Certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .take(MOST + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateFault::Certificate("is not in PEM format".into()))?;
    if chain.is_empty() || chain.len() > MOST {
        let text = match chain.len() {
            0 => "has no `-----BEGIN CERTIFICATE-----` in it".to_owned(),
            _ => format!("has more than {MOST} certificates in it"),
        };
        return Err(CertificateFault::Certificate(text));
    }
    let expires = expires(&chain[0]);
    let mut secret = read(&tls.key).map_err(CertificateFault::Key)?;
    let key = PrivateKeyDer::from_pem_slice(&secret);
    secret.fill(0);
    let key = key.map_err(|_| {
        CertificateFault::Key(
            "has no private key in PEM format in it, or one with a password: `openssl pkey` takes \
             it off"
                .into(),
        )
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CertificateFault::Key(format!("cannot be used: {error}")))?
        .with_no_client_auth();
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateFault::Key("belongs to another certificate".into())
            }
            rustls::Error::InvalidCertificate(_) => {
                CertificateFault::Certificate("is damaged, or of a version before 3".into())
            }
            _ => CertificateFault::Key(
                "is of a kind that cannot be used: RSA, ECDSA or Ed25519".into(),
            ),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        expires,
    })
}

fn expires(certificate: &CertificateDer<'_>) -> Option<Expiry> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let end = parsed.tbs_certificate().validity().not_after;
    Some(Expiry(end.to_unix_duration().as_secs()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed =
        |error: std::io::Error| format!("{shown} cannot be read: {}", super::error::plain(&error));
    // A pipe would be waited for.
    let nonblocking = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path);
    let file = opened.map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(format!("{shown} is longer than 1 MiB")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_two_weeks_before_and_ever_after() {
        let end = Expiry(1_800_000_000);
        let hour = 3600;
        let day = 24 * hour;
        for (now, text) in [
            (end.0 - 14 * day, None),
            (
                end.0 - 14 * day + 1,
                Some("expires in 13 days (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0 - 2 * day,
                Some("expires in 2 days (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0 - 2 * day + 1,
                Some("expires in 47 hours (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0 - hour,
                Some("expires in an hour (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0 - 1,
                Some("expires in less than an hour (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0,
                Some("expired less than an hour ago (2027-01-15T08:00:00Z)"),
            ),
            (
                end.0 + 3 * day,
                Some("expired 3 days ago (2027-01-15T08:00:00Z)"),
            ),
        ] {
            assert_eq!(end.trouble(now).as_deref(), text);
        }
        // A certificate may say any year.
        assert_eq!(Expiry(u64::MAX).trouble(0), None);
        assert!(Expiry(u64::MAX).to_string().starts_with("9999-"));
        assert!(Expiry(0).trouble(u64::MAX).is_some());
    }
}
