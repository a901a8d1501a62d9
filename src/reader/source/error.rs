//! What can go wrong with a camera: one kind per cause that a person would treat differently,
//! each with its evidence and its next step.
//!
//! It must never carry a password, a URL path, or more than a line of what the camera sent.

use std::fmt;
use std::time::Duration;

use super::VideoCodec;
use crate::reader::backoff::RetryClass;

/// Longest text taken over from a camera or a library, in characters.
const MAX_FOREIGN_TEXT: usize = 160;

/// Where in its life a session was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the host name.
    Resolve,
    /// TCP connection.
    Connect,
    /// DESCRIBE and its authentication.
    Describe,
    /// SETUP of the video track.
    Setup,
    /// PLAY.
    Play,
    /// Waiting for the first access unit.
    FirstUnit,
    /// Waiting for the first key frame.
    FirstKeyFrame,
    /// Playing.
    Streaming,
    /// The camera's answer to a keepalive (OPTIONS, GET_PARAMETER).
    Keepalive,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Resolve => "resolving the name",
            Stage::Connect => "connecting",
            Stage::Describe => "DESCRIBE",
            Stage::Setup => "SETUP",
            Stage::Play => "PLAY",
            Stage::FirstUnit => "waiting for the first picture",
            Stage::FirstKeyFrame => "waiting for the first key frame",
            Stage::Streaming => "streaming",
            Stage::Keepalive => "keepalive",
        })
    }
}

/// What happened. `Display` gives the evidence, [`SourceErrorKind::hint`] the next step.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The configuration cannot work with this client.
    #[error("{0}")]
    Config(String),
    /// The host name has no address.
    #[error("the host name cannot be resolved: {0}")]
    Resolve(String),
    /// Nobody listens on the port.
    #[error("connection refused")]
    Refused,
    /// No way to the host.
    #[error("host unreachable: {0}")]
    Unreachable(String),
    /// A stage took too long.
    #[error("no answer within {} s", seconds(*.0))]
    Timeout(Duration),
    /// 401, and no credentials are configured.
    #[error("the camera asks for a login (401), none is configured")]
    CredentialsMissing,
    /// 401 in spite of credentials.
    #[error("the camera refuses the login (401)")]
    CredentialsRejected,
    /// 401 with a challenge that is neither Basic nor Digest.
    #[error("the camera asks for a login in a way that is not understood: {0}")]
    AuthScheme(String),
    /// 403.
    #[error("the camera forbids access (403)")]
    Forbidden,
    /// The camera's sound ends the session. The next one goes without, and begins at once.
    #[error("the camera's sound cannot be read: {0}")]
    Sound(String),
    /// 404 or 410.
    #[error("the camera has no such stream (404)")]
    NotFound,
    /// 453 or 503.
    #[error("the camera has no free session ({0})")]
    Busy(u16),
    /// 461.
    #[error("the camera refuses this transport (461)")]
    TransportRefused,
    /// 3xx.
    #[error("the camera redirects to another address ({0}), which is not followed")]
    Redirected(u16),
    /// Another status.
    #[error("the camera answered {status}: {text}")]
    Status {
        /// RTSP status code.
        status: u16,
        /// The cleaned explanation.
        text: String,
    },
    /// There is no video track.
    #[error("no video track; the camera offers {}", list(.offered))]
    NoVideo {
        /// `media/encoding` of each track.
        offered: Vec<String>,
    },
    /// There is video, in codecs that are not read.
    #[error("unsupported codec {codec}; the camera offers {}", list(.offered))]
    UnsupportedCodec {
        /// Encoding of the first video track.
        codec: String,
        /// `media/encoding` of each track.
        offered: Vec<String>,
    },
    /// The session description is unusable.
    #[error("malformed session description: {0}")]
    MalformedSdp(String),
    /// The camera broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The stream has what this client cannot read, and another one can: it has the next try.
    #[error("{0}: the next try is by the other client")]
    OtherClient(&'static str),
    /// More unusable packets than the error budget allows.
    #[error("{errors} unusable packets within {} s; the last: {last}", seconds(*.within))]
    ErrorBudget {
        /// How many.
        errors: u32,
        /// Within how long.
        within: Duration,
        /// The cleaned text of the last one.
        last: String,
    },
    /// The camera closed or reset the connection, or said BYE.
    #[error("the camera ended the stream: {0}")]
    Ended(String),
    /// Access units stopped.
    #[error("no picture for {} s", seconds(*.0))]
    Stalled(Duration),
    /// Access units, but none to start decoding at.
    #[error("pictures, but no key frame within {} s", seconds(*.0))]
    NoKeyFrame(Duration),
    /// Access units with key frames, but nothing comes out of the decoder.
    #[error("pictures arrive, none was decoded for {} s", seconds(*.0))]
    NotDecoding(Duration),
}

fn seconds(d: Duration) -> String {
    let tenths = d.as_millis() / 100;
    match (tenths / 10, tenths % 10) {
        (s, 0) => s.to_string(),
        (s, t) => format!("{s}.{t}"),
    }
}

fn list(offered: &[String]) -> String {
    if offered.is_empty() {
        "nothing".to_owned()
    } else {
        offered.join(", ")
    }
}

impl SourceErrorKind {
    /// What to do about it.
    pub fn hint(&self, stage: Stage) -> String {
        use SourceErrorKind as K;
        match self {
            K::Config(_) => "correct this camera's entry in the configuration".into(),
            K::Resolve(_) => "check the name in `url`, or use the camera's IP address".into(),
            K::Refused => "check the port in `url` and that RTSP is enabled in the camera".into(),
            K::Unreachable(_) => "check power, cable, address and route of the camera".into(),
            K::Timeout(_) => match stage {
                Stage::Resolve => "check this machine's DNS server".into(),
                Stage::Connect => "check power, cable and address of the camera, and firewalls".into(),
                Stage::FirstUnit => {
                    "over UDP check firewalls, or set transport = \"tcp\"; else restart the camera".into()
                }
                _ => "the camera hangs: if this persists, restart it".into(),
            },
            K::CredentialsMissing => "set `username` and `password` for this camera".into(),
            K::CredentialsRejected if matches!(stage, Stage::Connect | Stage::Describe) => {
                "check `username` and `password`; tries are slowed down so as not to lock the account"
                    .into()
            }
            K::CredentialsRejected => {
                "the login was accepted before: check the account's rights for live video".into()
            }
            K::AuthScheme(_) => "enable Basic or Digest authentication in the camera".into(),
            K::Forbidden => "check the account's rights, and the camera's list of allowed addresses".into(),
            K::Sound(_) => "nothing need be done; audio = false in [record] avoids the first try".into(),
            K::NotFound => "check the path in `url`: channel and stream number".into(),
            K::Busy(_) => "close other viewers, or raise the camera's limit of connections".into(),
            K::TransportRefused => "set the other `transport` (\"tcp\" or \"udp\")".into(),
            K::Redirected(_) => "put the address it redirects to into `url`".into(),
            K::NoVideo { .. } => "check the path in `url`, and that video is enabled in the camera".into(),
            K::UnsupportedCodec { .. } => format!(
                "set the camera's codec to one of {}",
                VideoCodec::SUPPORTED
            ),
            K::MalformedSdp(_) | K::Protocol(_) | K::Status { .. } | K::ErrorBudget { .. } => {
                "if this persists, update the camera's firmware".into()
            }
            K::OtherClient(_) => "nothing need be done; client = \"ffmpeg\" avoids the first try".into(),
            K::Ended(_) => "the camera restarts, or limits the session: see its log".into(),
            K::Stalled(_) => "check the network, and the load of the camera".into(),
            K::NoKeyFrame(_) => "shorten the key frame interval (GOP) in the camera".into(),
            K::NotDecoding(_) => "check codec and profile in the camera".into(),
        }
    }

    /// How patiently to try again.
    pub fn retry_class(&self) -> RetryClass {
        use SourceErrorKind as K;
        match self {
            K::CredentialsMissing | K::CredentialsRejected | K::AuthScheme(_) | K::Forbidden => {
                RetryClass::Credentials
            }
            K::Config(_)
            | K::NotFound
            | K::Busy(_)
            | K::TransportRefused
            | K::Redirected(_)
            | K::NoVideo { .. }
            | K::UnsupportedCodec { .. }
            | K::MalformedSdp(_) => RetryClass::Slow,
            _ => RetryClass::Soon,
        }
    }
}

/// A failed session: who, where, at what, why, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceError {
    /// The stream's configured name.
    pub camera: String,
    /// `host:port`.
    pub host: String,
    /// Where it happened.
    pub stage: Stage,
    /// What happened.
    pub kind: SourceErrorKind,
}

impl SourceError {
    /// What happened and what to do, without camera and host: for places that show those anyway.
    pub fn reason(&self) -> String {
        format!(
            "{} ({}); {}",
            self.kind,
            self.stage,
            self.kind.hint(self.stage)
        )
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.camera, self.host, self.reason())
    }
}

impl std::error::Error for SourceError {}

/// Makes foreign text fit for logs: its first line, without control characters, without `secret`,
/// cut to a bounded length.
pub fn clean_text(text: &str, secret: Option<&str>) -> String {
    let line = text.lines().next().unwrap_or("").trim();
    let line = match secret {
        Some(s) if !s.is_empty() => line.replace(s, "***"),
        _ => line.to_owned(),
    };
    let mut out: String = line
        .chars()
        .map(|c| if c.is_control() { '.' } else { c })
        .take(MAX_FOREIGN_TEXT)
        .collect();
    if line.chars().count() > MAX_FOREIGN_TEXT {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_why_and_what_next() {
        let e = SourceError {
            camera: "front-door".into(),
            host: "10.0.0.5:554".into(),
            stage: Stage::Describe,
            kind: SourceErrorKind::NoVideo {
                offered: vec!["audio/pcmu".into()],
            },
        };
        assert_eq!(
            e.to_string(),
            "front-door: 10.0.0.5:554: no video track; the camera offers audio/pcmu (DESCRIBE); \
             check the path in `url`, and that video is enabled in the camera"
        );
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(10_000)), "10");
        assert_eq!(seconds(Duration::from_millis(350)), "0.3");
    }

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(
            clean_text("a\u{7}b pw1 c\nsecond", Some("pw1")),
            "a.b *** c"
        );
        assert_eq!(clean_text(&"x".repeat(500), None).chars().count(), 161);
        assert_eq!(clean_text("", Some("")), "");
    }
}
