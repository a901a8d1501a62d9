//! The certificate that is served now, and its exchange while connections go on.
//!
//! Promises: files that cannot be used change nothing but the log; who is connected stays so.
#![deny(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::ServerConfig;

use crate::config::Tls;
use crate::config::certificate::{self, CertificateFault};

/// How often the files are looked at; also whenever the configuration was read again.
const LOOK: Duration = Duration::from_secs(5);

/// What a file is known by: a replaced one has another number.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The certificate, now.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    now: watch::Sender<Arc<ServerConfig>>,
    stamps: [Stamp; 2],
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

fn stamps(tls: &Tls) -> [Stamp; 2] {
    [stamp(&tls.certificate), stamp(&tls.key)]
}

impl Certificates {
    /// Loads it.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn load(tls: &Tls) -> Result<Self, CertificateFault> {
        // First: what changes after it is read is looked at again.
        let stamps = stamps(tls);
        Ok(Self {
            now: watch::Sender::new(certificate::load(tls)?),
            stamps,
            tls: tls.clone(),
        })
    }

    /// What connections begin with.
    pub fn now(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.now.subscribe()
    }

    /// Exchanges it whenever its files have changed.
    pub async fn follow(mut self, look: Arc<Notify>) {
        loop {
            let _ = tokio::time::timeout(LOOK, look.notified()).await;
            let (tls, before) = (self.tls.clone(), self.stamps);
            let looked = tokio::task::spawn_blocking(move || {
                let stamps = stamps(&tls);
                (stamps != before).then(|| (stamps, certificate::load(&tls)))
            });
            match looked.await {
                Ok(Some((stamps, loaded))) => {
                    self.stamps = stamps;
                    match loaded {
                        Ok(config) => {
                            self.now.send_replace(config);
                            tracing::info!("the new certificate is served");
                        }
                        Err(fault) => tracing::error!("{fault}; the old certificate is served on"),
                    }
                }
                _ => continue,
            }
        }
    }
}
