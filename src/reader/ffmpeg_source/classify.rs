//! Turns libavformat's codes, and what it said on the way, into causes.

use secrecy::ExposeSecret as _;

use crate::media::{DemuxError, Notes, Step};
use crate::reader::source::{SourceConfig, SourceError, SourceErrorKind, Stage, clean_text};

/// Where the session was.
pub(super) fn stage(step: Step) -> Stage {
    match step {
        Step::Connect => Stage::Connect,
        Step::Describe => Stage::Describe,
        Step::Setup => Stage::Setup,
        Step::Play => Stage::Play,
        Step::Stream | Step::Teardown => Stage::Streaming,
    }
}

/// The last complaint, cleaned of the password.
pub(super) fn complaint(config: &SourceConfig, notes: &Notes) -> Option<String> {
    let secret = config.password.as_ref().map(|p| p.expose_secret());
    let text = notes.complaint.as_deref()?;
    Some(clean_text(text, secret)).filter(|text| !text.is_empty())
}

/// The cause of a failed call.
pub(super) fn error(config: &SourceConfig, error: &DemuxError) -> SourceError {
    use SourceErrorKind as K;
    let notes = &error.notes;
    let stage = stage(notes.step);
    let text = || complaint(config, notes).unwrap_or_else(|| error.code.to_string());
    if let Some(status) = notes.redirect {
        return config.error(stage, K::Redirected(status));
    }
    let by_status = notes.status.map(|status| match status {
        401 if config.username.is_none() => K::CredentialsMissing,
        401 => K::CredentialsRejected,
        403 => K::Forbidden,
        404 | 410 => K::NotFound,
        453 | 503 => K::Busy(status),
        461 => K::TransportRefused,
        _ => K::Status {
            status,
            text: text(),
        },
    });
    let kind = by_status.unwrap_or_else(|| match error.errno {
        Some(libc::ECONNREFUSED) => K::Refused,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ETIMEDOUT) => {
            K::Unreachable(error.code.to_string())
        }
        Some(libc::ECONNRESET) => K::Ended("it reset the connection".to_owned()),
        Some(libc::EPIPE) => K::Ended("it closed the connection".to_owned()),
        Some(libc::EPROTONOSUPPORT) if stage == Stage::Setup => K::TransportRefused,
        Some(libc::ENOSYS) => K::Config("client = \"ffmpeg\" works on x86-64 only".to_owned()),
        _ if error.is_end() && stage == Stage::Streaming => {
            K::Ended("it closed the connection".to_owned())
        }
        _ if error.is_end() => K::Ended("it closed the connection instead of answering".to_owned()),
        _ if stage == Stage::Connect && config.url.scheme() == "rtsps" => {
            K::Protocol(format!("TLS cannot be set up: {}", text()))
        }
        // Whatever libavformat cannot read, headers as well as the description: it does not say which.
        _ => K::Protocol(text()),
    });
    config.error(stage, kind)
}
