//! What the supervisor and the process for HTTP and recordings say to each other.
//!
//! ```text
//! supervisor                               serve
//! Start                              ───▶
//! Site, in one or more parts         ───▶        again whenever the configuration has changed
//! Access                             ───▶        again whenever the configuration was read
//!                                    ◀───  Ready  + fd: its smaps_rollup
//!                                    ◀───  Report, once a second: also its heartbeat
//!                                    ◀───  Ask
//! Answer                             ───▶
//! Stop, or end of file               ───▶  ends what it is answering, exits with code 0
//! ```
//!
//! No secret goes this way: views of the configuration are masked, users and tokens are hashes, and what
//! is asked for is changed by the supervisor. A password in an [`Ask`] came from outside, and goes the other way only.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BeginError, ControlSocket, MAX_MESSAGE, Received};
use crate::config::{Http, Retention, Sandbox};
use crate::serve::{CameraView, SiteView};
use crate::sys;

/// To the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToServe {
    /// The first message.
    Start(Box<ServeStart>),
    /// The configuration, as far as it is shown. A large site comes in parts: [`Sites`].
    Site(Box<SitePart>),
    /// Users and tokens that hold from now on; the certificate may have changed, too.
    Access(Box<Http>),
    /// The answer to [`FromServe::Ask`].
    Answer {
        /// As in the question.
        id: u64,
        /// What there is to say, or why it was not done.
        result: Result<Value, AskError>,
    },
    /// End, and exit with code 0, within [`crate::supervisor::policy::STOP_GRACE`].
    Stop,
}

/// From the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromServe {
    /// Its databases are open, and it answers, if the address was free. Descriptor (where it could be
    /// opened): its own `smaps_rollup`.
    Ready {
        /// Where it listens: `127.0.0.1:8080`.
        address: Option<String>,
    },
    /// How it goes: once a second, whatever happens. One that says nothing for
    /// [`crate::supervisor::policy::RECORDER_HEARTBEAT_TIMEOUT`] is killed.
    Report(ServeReport),
    /// Something that only the supervisor can do.
    Ask {
        /// Numbers its questions.
        id: u64,
        /// What.
        ask: Ask,
    },
    /// Last words before an exit that is not 0.
    Fault {
        /// A sentence with the cause.
        text: String,
    },
}

/// What a server is started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServeStart {
    /// Where to listen, and to whose pages.
    pub http: Http,
    /// Recordings and databases are below.
    pub data_dir: PathBuf,
    /// The daemon's attach socket.
    pub socket: PathBuf,
    /// What is kept.
    pub retention: Retention,
    /// What to give up.
    pub sandbox: Sandbox,
    /// The configuration, which it must not see.
    pub config: Option<PathBuf>,
}

/// How a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeReport {
    /// Where it listens; `None`: nowhere.
    pub address: Option<String>,
    /// Why it does not listen where it should: the port is taken. It goes on trying.
    pub error: Option<String>,
    /// When the certificate that it serves expires, in seconds since 1970; `None`: it serves none.
    pub certificate_expires: Option<u64>,
}

/// What handlers of the API want of the supervisor.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A camera more. Answered by its name.
    AddCamera {
        /// The keys of `[[camera]]`, as JSON.
        camera: Map<String, Value>,
    },
    /// Other keys for a camera; `null` takes a key away. `name` renames it. Answered by its name.
    PatchCamera {
        /// Which.
        camera: String,
        /// What changes.
        patch: Map<String, Value>,
    },
    /// A camera less. What was recorded stays.
    RemoveCamera {
        /// Which.
        camera: String,
    },
    /// End its processes and start them anew.
    RestartCamera {
        /// Which.
        camera: String,
    },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be passwords; keys may be anything, too.
        let key = |key: &String| -> String {
            key.chars().take(40).flat_map(char::escape_debug).collect()
        };
        let keys = |map: &Map<String, Value>| {
            let keys: Vec<_> = map.keys().take(20).map(key).collect();
            keys.join(", ")
        };
        match self {
            Self::AddCamera { camera } => write!(f, "AddCamera({})", keys(camera)),
            Self::PatchCamera { camera, patch } => {
                write!(f, "PatchCamera({camera:?}: {})", keys(patch))
            }
            Self::RemoveCamera { camera } => write!(f, "RemoveCamera({camera:?})"),
            Self::RestartCamera { camera } => write!(f, "RestartCamera({camera:?})"),
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct AskError {
    /// What kind of reason.
    pub kind: AskErrorKind,
    /// A sentence or more, with what to do. No secrets.
    pub detail: String,
    /// What is wrong with what was sent, key by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<KeyFault>,
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFault {
    /// As a path: `url`, `record/mode`; empty: it is about more than one.
    pub field: String,
    /// What is the matter, and what is allowed.
    pub detail: String,
}

/// Kinds of [`AskError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskErrorKind {
    /// There is no such camera.
    UnknownCamera,
    /// There is one of that name.
    Exists,
    /// The configuration that would come of it is wrong.
    Invalid,
    /// It cannot be done in the present state.
    Conflict,
    /// The configuration file, or the kernel.
    Failed,
}

/// A piece of the configuration that fits into a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SitePart {
    /// `[site] name`.
    pub name: String,
    /// The next ones.
    pub cameras: Vec<CameraView>,
    /// Nothing follows.
    pub last: bool,
}

/// What of a message is left for what surrounds the cameras.
const ROOM: usize = MAX_MESSAGE - 1024;

/// The messages that tell a site.
pub fn parts(site: &SiteView) -> Vec<ToServe> {
    let part = |cameras, last| {
        let name = site.name.clone();
        ToServe::Site(Box::new(SitePart {
            name,
            cameras,
            last,
        }))
    };
    let mut messages = Vec::new();
    let (mut cameras, mut bytes) = (Vec::new(), 0);
    for camera in &site.cameras {
        let size = serde_json::to_vec(camera).map_or(0, |text| text.len() + 1);
        if bytes + size > ROOM && !cameras.is_empty() {
            messages.push(part(std::mem::take(&mut cameras), false));
            bytes = 0;
        }
        bytes += size;
        cameras.push(camera.clone());
    }
    messages.push(part(cameras, true));
    messages
}

/// Puts the parts of a site together.
#[derive(Debug, Default)]
pub struct Sites {
    cameras: Vec<CameraView>,
}

impl Sites {
    /// The next part; the site, if it was the last.
    pub fn add(&mut self, part: SitePart) -> Option<SiteView> {
        self.cameras.extend(part.cameras);
        part.last.then(|| SiteView {
            name: part.name,
            cameras: std::mem::take(&mut self.cameras),
        })
    }
}

/// A server that knows its task: what [`begin`] returns.
#[derive(Debug)]
pub struct Begun {
    /// What to do.
    pub start: ServeStart,
    /// The configuration.
    pub site: SiteView,
    /// The way to the supervisor.
    pub control: ControlSocket,
}

/// The server's side of the beginning, to be called first thing in `main`, when the first argument is
/// [`crate::serve::ARGUMENT`]: ties its life to the supervisor's, sets its title, takes
/// [`ToServe::Start`] and the site from standard input. The server answers with [`FromServe::Ready`],
/// by [`ready`].
///
/// # Errors
/// Somebody else started it, or the supervisor says something else.
pub fn begin() -> Result<Begun, BeginError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| BeginError::System { what, source }
    };
    let supervisor = std::env::args_os()
        .nth(2)
        .and_then(|pid| pid.to_str()?.parse().ok())
        .and_then(sys::process::pid)
        .ok_or(BeginError::Internal)?;
    sys::process::die_with_parent(supervisor).map_err(system("end with the supervisor"))?;
    let control = sys::take_stdin().and_then(ControlSocket::from_fd);
    let control = control.map_err(|_| BeginError::Internal)?;
    sys::one_malloc_arena();
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| system("give up privileges")(error.into()))?;
    sys::TitleArea::find()
        .map_err(system("set its title"))?
        .set("camring: serve");
    sys::process::name_thread("camring-serve");
    let mut sites = Sites::default();
    let start = match control.recv::<ToServe>()? {
        None => return Err(BeginError::NoStart("end of file")),
        Some(Received {
            message: ToServe::Start(start),
            ..
        }) => *start,
        Some(_) => return Err(BeginError::NoStart("another one")),
    };
    loop {
        match control.recv::<ToServe>()? {
            None => return Err(BeginError::NoStart("end of file")),
            Some(Received {
                message: ToServe::Site(part),
                ..
            }) => {
                if let Some(site) = sites.add(*part) {
                    return Ok(Begun {
                        start,
                        site,
                        control,
                    });
                }
            }
            Some(_) => return Err(BeginError::NoStart("another one")),
        }
    }
}

/// Says [`FromServe::Ready`].
///
/// # Errors
/// The supervisor is gone.
pub fn ready(control: &ControlSocket, address: Option<String>) -> Result<(), super::ControlError> {
    let rollup: Vec<OwnedFd> = sys::usage::open_own_rollup().into_iter().collect();
    let fds: Vec<_> = rollup.iter().map(OwnedFd::as_fd).collect();
    control.send(&FromServe::Ready { address }, &fds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Record;
    use crate::serve::StreamView;

    fn site(cameras: usize) -> SiteView {
        let camera = |index| CameraView {
            name: format!("camera-{index}"),
            streams: vec![StreamView {
                id: format!("camera-{index}"),
                name: None,
                enabled: true,
                url: "rtsp://192.0.2.1/a-rather-long-path/of/a/camera".into(),
                username: Some("admin".into()),
                has_password: true,
                transport: "tcp".into(),
                decode: "always".into(),
                record: Record::default(),
            }],
        };
        SiteView {
            name: "home".into(),
            cameras: (0..cameras).map(camera).collect(),
        }
    }

    #[test]
    fn a_site_of_any_size_comes_over_in_messages_that_fit() {
        for cameras in [0, 1, 100, 1000] {
            let site = site(cameras);
            let (ours, theirs) = ControlSocket::pair().unwrap();
            let messages = parts(&site);
            assert_eq!(messages.len() > 1, cameras == 1000);
            let mut sites = Sites::default();
            let mut told = None;
            for message in messages {
                assert!(told.is_none(), "something follows the last");
                ours.send(&message, &[]).unwrap();
                let Some(Received {
                    message: ToServe::Site(part),
                    ..
                }) = theirs.recv().unwrap()
                else {
                    panic!("another message");
                };
                told = sites.add(*part);
            }
            assert_eq!(told, Some(site));
        }
    }

    #[test]
    fn what_is_asked_for_is_not_in_a_log() {
        let camera = serde_json::json!({"name": "a", "password": "canary"});
        let camera = camera.as_object().unwrap().clone();
        let ask = Ask::AddCamera { camera };
        assert_eq!(format!("{ask:?}"), "AddCamera(name, password)");
        // Nor does it forge lines there, or fill it.
        let mut patch: Map<_, _> = (0..999).map(|n| (format!("z{n}"), Value::Null)).collect();
        patch.insert("a\n\u{1b}[2J".repeat(999), Value::Null);
        let camera = "door".to_owned();
        let text = format!("{:?}", Ask::PatchCamera { camera, patch });
        assert!(
            text.len() < 1000 && !text.contains(char::is_control),
            "{text}"
        );
    }
}
