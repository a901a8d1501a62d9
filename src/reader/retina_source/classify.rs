//! Turns retina's opaque errors into causes.
//!
//! retina offers a status code and a text. The text's first line has a fixed beginning per error
//! variant (`retina/src/error.rs`, 0.4.21, pinned in Cargo.toml); the tests of the session hold
//! every beginning used here against the real library. Unknown text is a protocol error, never a
//! panic and never fatal to the daemon.

use super::super::source::{SourceConfig, SourceError, SourceErrorKind, Stage, clean_text};
use secrecy::ExposeSecret as _;

/// Judges the errors of one camera.
pub(super) struct Classifier<'a> {
    pub config: &'a SourceConfig,
}

impl Classifier<'_> {
    /// The first line of the error, cleaned of the password.
    pub fn text(&self, e: &::retina::Error) -> String {
        let secret = self.config.password.as_ref().map(|p| p.expose_secret());
        clean_text(&e.to_string(), secret)
    }

    /// An error of a request.
    pub fn error(&self, stage: Stage, e: &::retina::Error) -> SourceError {
        let text = self.text(e);
        let kind = match e.status_code() {
            Some(401) if text.contains("no credentials supplied") => {
                SourceErrorKind::CredentialsMissing
            }
            Some(401) if text.contains("WWW-Authenticate") => {
                SourceErrorKind::AuthScheme(explanation(&text))
            }
            Some(401) => SourceErrorKind::CredentialsRejected,
            Some(403) => SourceErrorKind::Forbidden,
            Some(404 | 410) => SourceErrorKind::NotFound,
            Some(status @ (453 | 503)) => SourceErrorKind::Busy(status),
            Some(461) => SourceErrorKind::TransportRefused,
            Some(status @ 300..=399) => SourceErrorKind::Redirected(status),
            // A good status and an error: the content is unusable.
            Some(200..=299) if stage != Stage::Describe => {
                SourceErrorKind::Protocol(explanation(&text))
            }
            Some(200..=299) if text.contains("and 0 unparseable streams") => {
                SourceErrorKind::NoVideo {
                    offered: Vec::new(),
                }
            }
            Some(200..=299) => SourceErrorKind::MalformedSdp(explanation(&text)),
            Some(status) => SourceErrorKind::Status {
                status,
                text: explanation(&text),
            },
            None => return self.without_status(stage, text),
        };
        self.config.error(stage, kind)
    }

    fn without_status(&self, stage: Stage, text: String) -> SourceError {
        if let Some(cause) = text.strip_prefix("Unable to connect to RTSP server: ") {
            let (stage, kind) = match stage {
                // In SETUP these are our own UDP sockets.
                Stage::Setup => (stage, SourceErrorKind::Unreachable(cause.to_owned())),
                _ => (Stage::Connect, connect_error(cause)),
            };
            return self.config.error(stage, kind);
        }
        let kind = match connection_lost(&text) {
            Some(how) => SourceErrorKind::Ended(how),
            None => SourceErrorKind::Protocol(text),
        };
        self.config.error(stage, kind)
    }

    /// The error of a playing session, if retina cannot go on after it.
    pub fn fatal_while_streaming(&self, e: &::retina::Error) -> Option<SourceError> {
        let text = self.text(e);
        // retina gives each keepalive half the session's timeout and says so in its text.
        if text.contains("failed to respond to keepalive")
            || text.contains("Unable to write keepalive")
        {
            return Some(self.config.error(
                Stage::Keepalive,
                SourceErrorKind::Ended("it stopped answering".into()),
            ));
        }
        if let Some(how) = connection_lost(&text) {
            return Some(
                self.config
                    .error(Stage::Streaming, SourceErrorKind::Ended(how)),
            );
        }
        if text.contains("Incomplete RTSP message at EOF") {
            let how = "it closed the connection in the middle of a message".to_owned();
            return Some(
                self.config
                    .error(Stage::Streaming, SourceErrorKind::Ended(how)),
            );
        }
        // The parser finds no way back: the same error at once on every poll.
        if text.contains("Invalid RTSP message") {
            return Some(
                self.config
                    .error(Stage::Streaming, SourceErrorKind::Protocol(text)),
            );
        }
        None
    }
}

/// An unusable RTCP packet, from the cleaned text of the error.
pub(in crate::reader) fn is_rtcp(text: &str) -> bool {
    // The complaint about RTP from a foreign source counts both kinds of packets.
    text.contains("RTCP") && !text.starts_with("wrong ssrc")
}

/// What follows "200 OK response to DESCRIBE CSeq=2: ".
fn explanation(text: &str) -> String {
    let tail = text
        .split_once(" CSeq=")
        .and_then(|(_, tail)| tail.split_once(": "));
    tail.map_or(text, |(_, t)| t).to_owned()
}

/// Reading or writing failed: what became of the connection.
fn connection_lost(text: &str) -> Option<String> {
    let cause = text
        .strip_prefix("Error reading from RTSP peer: ")
        .or_else(|| text.strip_prefix("Error writing to RTSP peer: "))
        .or_else(|| text.strip_prefix("Error receiving UDP packet: "))?;
    Some(match os_error(cause) {
        Some(104) => "it reset the connection".to_owned(),
        Some(32) => "it closed the connection".to_owned(),
        _ if cause.starts_with("EOF") => "it closed the connection instead of answering".to_owned(),
        _ => cause.to_owned(),
    })
}

/// Why a TCP connection could not be made, from the text of an `io::Error`.
pub(in crate::reader) fn connect_error(cause: &str) -> SourceErrorKind {
    match os_error(cause) {
        Some(111) => SourceErrorKind::Refused,
        _ => SourceErrorKind::Unreachable(cause.to_owned()),
    }
}

/// The number in "… (os error 111)".
fn os_error(text: &str) -> Option<i32> {
    let (_, tail) = text.rsplit_once("(os error ")?;
    tail.strip_suffix(')')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_errno_from_the_text_that_std_prints() {
        let e = std::io::Error::from_raw_os_error(111);
        assert_eq!(os_error(&e.to_string()), Some(111));
        assert_eq!(connect_error(&e.to_string()), SourceErrorKind::Refused);
        assert!(matches!(
            connect_error(&std::io::Error::from_raw_os_error(113).to_string()),
            SourceErrorKind::Unreachable(_)
        ));
        assert_eq!(os_error("no number (os error x)"), None);
    }

    #[test]
    fn tells_rtcp_from_rtp() {
        assert!(is_rtcp("RTCP packets must be version 2; got 0"));
        assert!(!is_rtcp(
            "wrong ssrc after 12 RTP pkts + 0 RTCP pkts; expecting ssrc=1"
        ));
        assert!(!is_rtcp("corrupt RTP header while expecting seq=None"));
    }

    #[test]
    fn keeps_the_explanation_only() {
        assert_eq!(
            explanation("200 OK response to DESCRIBE CSeq=2: Unable to parse SDP: x: y"),
            "Unable to parse SDP: x: y"
        );
        assert_eq!(explanation("anything else"), "anything else");
    }
}
