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

pub mod api;
mod assets;
mod background;
mod dash;
mod deliver;
mod guard;
mod hls;
mod http;
pub mod index;
mod library;
pub mod markers;
mod problem;
mod process;
pub mod retention;
mod routes;
mod schema;
mod site;
mod state;
mod store;
pub mod time;
mod tracks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

pub use http::Limits;
pub use library::{Library, Protection};
pub use problem::{Fault, MEDIA_TYPE as PROBLEM_MEDIA_TYPE, Problem};
pub use process::main;
pub use site::{CameraView, SiteView, StreamView};
pub use state::{App, Asked, Attach, Event, Settings, Supervisor};
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

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// What its handlers share.
    pub app: Arc<App>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    listener: Option<tokio::net::TcpListener>,
}

impl Server {
    /// Opens the databases and binds the address.
    ///
    /// # Errors
    /// Either fails.
    pub async fn start(
        settings: Settings,
        site: SiteView,
        supervisor: Supervisor,
    ) -> Result<Self, ServeError> {
        let listen = settings.listen;
        // Opening reads the disk.
        let opened = tokio::task::spawn_blocking(|| App::new(settings, site, supervisor)).await;
        let app = opened.map_err(io::Error::other)??;
        let (listener, address) = match listen {
            None => (None, None),
            Some(address) => {
                let (listener, address) = http::bind(address).await?;
                (Some(listener), Some(address))
            }
        };
        Ok(Self {
            app,
            address,
            listener,
        })
    }

    /// Answers requests until `stop` becomes true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let _background = background::start(&self.app);
        let limits = Limits::default();
        let limits = Limits {
            connections: http::room_for(limits.connections),
            ..limits
        };
        match self.listener {
            Some(listener) => http::serve(listener, routes::all(self.app), limits, stop).await,
            None => {
                // Its sender gone means the same.
                let _ = stop.wait_for(|stop| *stop).await;
            }
        }
    }
}
