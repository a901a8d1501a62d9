//! A certificate and its key, as TLS needs them.
//!
//! Promises: what is loaded can be served: the files are PEM, bounded, and belong to each other. The
//! key is in no error and in no `Debug`. Reads regular files only, so that it waits for nobody.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls;

use super::http::Tls;

/// Longer than any chain.
const LONGEST: u64 = 1 << 20;
/// Certificates in a chain.
const MOST: usize = 16;

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
pub fn load(tls: &Tls) -> Result<Arc<ServerConfig>, CertificateFault> {
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
    Ok(Arc::new(config))
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
