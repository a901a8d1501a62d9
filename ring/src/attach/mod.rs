//! Attaching over the daemon's Unix socket: messages, descriptors, errors.

mod access;
pub(crate) mod client;
pub mod server;
mod socket;
pub mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::attach::wire::RefusalCode;
use crate::error::RingError;

/// Why attaching did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Nobody listens.
    #[error(
        "no camring daemon listens at {}: is the service running? (systemctl status camring)",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket's permissions forbid it.
    #[error(
        "no permission to connect to {}: {advice}",
        path.display()
    )]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
        /// Who may connect, by what the socket or its folder says, and how to become one of them.
        advice: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Connecting failed otherwise.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The two sides speak different versions.
    #[error(
        "this program speaks version {client} of the attach protocol, but the daemon says: {text}"
    )]
    Version {
        /// Version of this crate.
        client: u32,
        /// What the daemon answered.
        text: String,
    },
    /// No such camera.
    #[error("{text}")]
    UnknownCamera {
        /// Name asked for.
        name: String,
        /// The daemon's answer; lists the cameras there are.
        text: String,
    },
    /// The camera's ring did not come to be in time.
    #[error("camera {name:?} has no ring after {}: {text}", seconds(*waited))]
    NotReady {
        /// Name asked for.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The daemon's answer.
        text: String,
    },
    /// Refused for another reason.
    #[error("{text}")]
    Refused {
        /// Kind of reason.
        code: RefusalCode,
        /// The daemon's answer.
        text: String,
    },
    /// No answer in time.
    #[error("the camring daemon did not answer within {}: {what}", seconds(*timeout))]
    TimedOut {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        timeout: Duration,
    },
    /// The daemon hung up.
    #[error("the camring daemon closed the connection: connect again")]
    Disconnected,
    /// The daemon sent something else than the protocol says.
    #[error("the camring daemon does not keep to the attach protocol: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
    },
    /// Sending or receiving failed.
    #[error("the connection to the camring daemon failed: {0}")]
    Io(#[source] io::Error),
    /// Asked for something impossible.
    #[error("cannot attach with {field} = {found}: {limit}")]
    Options {
        /// Which option.
        field: &'static str,
        /// Asked for.
        found: u64,
        /// What is possible.
        limit: String,
    },
    /// What the daemon passed is no ring that this program can use.
    #[error(transparent)]
    Ring(Box<RingError>),
}

impl From<RingError> for AttachError {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Disconnected => Self::Disconnected,
            other => Self::Ring(Box::new(other)),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
