//! `[http]`: where the API and the dashboard are served, and to whose pages.
//!
//! Listens on the loopback interface only: there are no users yet, so any other address would give
//! the cameras to the whole network. Says what holds; opens no socket.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// Where to listen, an address of the loopback interface; port 0: any that is free. `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Origins of web pages that may call the API, besides those it serves itself:
    /// `https://cameras.example`, as browsers write them.
    pub cors_origins: Vec<String>,
}

impl Http {
    /// What people expect of something that is not the system's own web server.
    pub const DEFAULT_LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    /// More are a list that nobody keeps in mind.
    pub const MAX_ORIGINS: usize = 32;
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Some(Self::DEFAULT_LISTEN),
            cors_origins: Vec::new(),
        }
    }
}
