//! The server: what is recorded, over HTTP.
//!
//! One process, started by the supervisor (`__serve`) or by hand (`camring serve`). It indexes the
//! recordings of `DATA_DIR`, follows the writers, and renders playlists, manifests and the API from the
//! index; media is delivered as byte ranges of the files.
//!
//! Promises: no file, request or database makes it panic, allocate without bound or wait without
//! end; it needs no writer's cooperation and holds none up; it runs no media library. It must never hold
//! a camera's password: those stay in the supervisor.
#![deny(unsafe_code)]

pub mod access;
pub mod api;
mod assets;
pub mod audit;
mod background;
mod confine;
mod dash;
mod deliver;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod headers;
pub mod health;
mod hls;
mod http;
pub mod index;
mod library;
pub mod markers;
pub mod metrics;
mod problem;
mod process;
pub mod retention;
mod room;
mod routes;
mod schema;
mod site;
mod state;
mod store;
pub mod time;
mod tls;
mod tracks;
pub mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use confine::confine;
pub use http::Limits;
pub use index::Index;
pub use library::{Library, Protection};
pub use problem::{Fault, MEDIA_TYPE as PROBLEM_MEDIA_TYPE, Problem};
pub use process::main;
pub use site::{CameraView, SiteView, StreamView};
pub use state::{App, Asked, Attach, Event, FolderLock, Settings, Supervisor};
pub use store::{Store, StoreError};

/// The first argument that makes the binary a server. The second is the supervisor's pid.
pub const ARGUMENT: &str = "__serve";

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address, or the runtime.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// What its handlers share.
    pub app: Arc<App>,
    wanted: Option<SocketAddr>,
    listener: Option<tokio::net::TcpListener>,
    certificates: Option<tls::Certificates>,
}

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Here; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// Why not where it should.
    pub error: Option<String>,
}

/// How often an address that was taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(2);

impl Server {
    /// Opens the databases and tries to bind the address: [`App::listening`] says how that went.
    ///
    /// # Errors
    /// A database cannot be opened, or another server has the folder.
    pub async fn start(
        settings: Settings,
        site: SiteView,
        supervisor: Supervisor,
    ) -> Result<Self, ServeError> {
        let wanted = settings.http.listen;
        // Opening reads the disk.
        let opened = tokio::task::spawn_blocking(|| App::new(settings, site, supervisor)).await;
        let app = opened.map_err(io::Error::other)??;
        let mut server = Self {
            app,
            wanted,
            listener: None,
            certificates: None,
        };
        server.bind().await;
        Ok(server)
    }

    async fn bind(&mut self) {
        let Some(wanted) = self.wanted else {
            return;
        };
        let listening = match self.prepare(wanted).await {
            Ok((listener, address)) => {
                self.listener = Some(listener);
                Listening {
                    address: Some(address),
                    error: None,
                }
            }
            Err(error) => Listening {
                address: None,
                error: Some(error.to_string()),
            },
        };
        let changed = |old: &mut Listening| {
            let changed = *old != listening;
            *old = listening.clone();
            changed
        };
        if self.app.listening.send_if_modified(changed) {
            match (&listening.address, &listening.error) {
                (Some(address), _) => {
                    let scheme = if self.certificates.is_some() {
                        "https"
                    } else {
                        "http"
                    };
                    tracing::info!("listening on {scheme}://{address}/");
                }
                (None, error) => tracing::error!("{}", error.as_deref().unwrap_or_default()),
            }
        }
    }

    /// The certificate, if there is to be one, and the address.
    async fn prepare(
        &mut self,
        wanted: SocketAddr,
    ) -> io::Result<(tokio::net::TcpListener, SocketAddr)> {
        if let Some(tls) = self.app.settings.http.tls.clone() {
            let loaded = tokio::task::spawn_blocking(move || tls::Certificates::load(&tls)).await;
            let loaded = loaded.map_err(io::Error::other)?;
            let loaded = loaded.map_err(io::Error::other)?;
            self.app.certificate_expires.send_replace(loaded.expires());
            self.certificates = Some(loaded);
        }
        http::bind(wanted).await
    }

    /// Answers requests until `stop` becomes true. Where the address is taken, it tries again and again.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let _background = background::start(&self.app);
        let limits = Limits::default();
        let limits = Limits {
            connections: http::room_for(limits.connections),
            ..limits
        };
        while self.wanted.is_some() && self.listener.is_none() {
            // Its sender gone means the same as stop.
            let waited = tokio::time::timeout(BIND_AGAIN, stop.wait_for(|stop| *stop)).await;
            if waited.is_ok() {
                return;
            }
            self.bind().await;
        }
        match self.listener {
            Some(listener) => {
                let app = Arc::clone(&self.app);
                let certificate = self.certificates.as_ref().map(tls::Certificates::now);
                let follow = self.certificates.map(|all| tokio::spawn(all.follow(app)));
                http::serve(listener, routes::all(self.app), limits, stop, certificate).await;
                if let Some(follow) = follow {
                    follow.abort();
                }
            }
            None => {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        }
    }
}
