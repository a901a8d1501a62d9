//! The certificate that is served now, and its exchange while connections go on.
//!
//! Promises: files that cannot be used change nothing but the log; who is connected stays so. One that
//! expires soon, or has expired, is in the log once a day.
#![deny(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::App;
use crate::config::Tls;
use crate::config::certificate::{self, CertificateFault, Expiry};

/// How often the files are looked at; also whenever the configuration was read again.
const LOOK: Duration = Duration::from_secs(5);

/// How often the log says that it expires.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// What a file is known by: a replaced one has another number.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The certificate, now.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    now: watch::Sender<Arc<ServerConfig>>,
    stamps: [Stamp; 2],
    expires: Option<Expiry>,
    /// When the log said last that it expires.
    reminded: Option<Instant>,
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
        let loaded = certificate::load(tls)?;
        // Whoever read the configuration has been warned by that already.
        let trouble = loaded.expires.and_then(Expiry::trouble_now);
        Ok(Self {
            now: watch::Sender::new(loaded.config),
            stamps,
            tls: tls.clone(),
            expires: loaded.expires,
            reminded: trouble.map(|_| Instant::now()),
        })
    }

    /// What connections begin with.
    pub fn now(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.now.subscribe()
    }

    /// When it expires, if that is known.
    pub fn expires(&self) -> Option<Expiry> {
        self.expires
    }

    /// Says that it expires, if it is time to.
    fn remind(&mut self) {
        let Some(trouble) = self.expires.and_then(Expiry::trouble_now) else {
            return;
        };
        let due = self.reminded.is_none_or(|then| then.elapsed() >= REMIND);
        if due {
            self.reminded = Some(Instant::now());
            tracing::warn!("the certificate that is served {trouble}: renew it");
        }
    }

    /// Exchanges it whenever its files have changed.
    pub async fn follow(mut self, app: Arc<App>) {
        loop {
            self.remind();
            let _ = tokio::time::timeout(LOOK, app.look_at_files.notified()).await;
            let (tls, before) = (self.tls.clone(), self.stamps);
            let looked = tokio::task::spawn_blocking(move || {
                let stamps = stamps(&tls);
                (stamps != before).then(|| (stamps, certificate::load(&tls)))
            });
            match looked.await {
                Ok(Some((stamps, loaded))) => {
                    self.stamps = stamps;
                    match loaded {
                        Ok(loaded) => {
                            self.now.send_replace(loaded.config);
                            self.expires = loaded.expires;
                            self.reminded = None;
                            app.certificate_expires.send_replace(loaded.expires);
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
