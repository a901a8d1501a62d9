//! `[http]`: where the API and the dashboard are served, to whose pages, and to whom.
//!
//! Promises: an address that other machines can reach has users or tokens, or the configuration is
//! refused; a hash is in no `Debug` and in no message. Says what holds; opens no socket.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// Where to listen; port 0: any that is free. `None`: nowhere. Beyond loopback only with users or
    /// tokens.
    pub listen: Option<SocketAddr>,
    /// Origins of web pages that may call the API, besides those it serves itself:
    /// `https://cameras.example`, as browsers write them.
    pub cors_origins: Vec<String>,
    /// People, who have passwords.
    pub users: Vec<Login>,
    /// Programs, which have tokens.
    pub tokens: Vec<Login>,
    /// HTTPS instead of HTTP.
    pub tls: Option<Tls>,
}

impl Http {
    /// What people expect of something that is not the system's own web server.
    pub const DEFAULT_LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    /// More are a list that nobody keeps in mind.
    pub const MAX_ORIGINS: usize = 32;
    /// Of users, and of tokens. All of them fit into one message to the server.
    pub const MAX_LOGINS: usize = 64;

    /// How browsers come: `http`, `https`.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Whether everybody who reaches the address may do everything.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Some(Self::DEFAULT_LISTEN),
            cors_origins: Vec::new(),
            users: Vec::new(),
            tokens: Vec::new(),
            tls: None,
        }
    }
}

/// One `[[http.user]]`, or one `[[http.token]]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Unique among users and tokens.
    pub name: String,
    /// What the password or the token is compared with: an Argon2 hash in PHC format, or
    /// `sha256:` and 64 hexadecimal digits.
    pub hash: String,
    /// What it may do.
    pub role: Role,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hash can be tried against a list of passwords.
        f.debug_struct("Login")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// `[http.tls]`: where the certificate and its key are. Both are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// PEM: the server's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// What somebody may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See cameras, recordings, markers, states.
    Viewer,
    /// Set markers, protect recordings, start and stop cameras, export.
    Operator,
    /// Add and remove cameras, delete recordings, read the audit log.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_in_no_debug() {
        let login = Login {
            name: "anna".into(),
            hash: "canary".into(),
            role: Role::Admin,
        };
        let http = Http {
            users: vec![login],
            ..Http::default()
        };
        let text = format!("{http:?}");
        assert!(text.contains("anna") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn roles_have_an_order() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
