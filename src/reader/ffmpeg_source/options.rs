//! What libavformat is asked to open, out of a camera's configuration. Must never let a login be cut
//! off, or get into an error.

use std::ffi::CString;
use std::fmt::Write as _;
use std::net::IpAddr;

use secrecy::ExposeSecret as _;

use super::REORDER;
use crate::media::{Carrier, DemuxOptions};
use crate::reader::source::{SourceConfig, SourceError, SourceErrorKind, Stage, Transport};

/// Room for the login and for the URL in libavformat; what is longer would be cut off.
const MAX_LOGIN_BYTES: usize = 127;
const MAX_URL_BYTES: usize = 1000;

/// What libavformat is asked to open.
pub(super) fn options(config: &SourceConfig, address: IpAddr) -> Result<DemuxOptions, SourceError> {
    let refuse =
        |what: &str| Err(config.error(Stage::Connect, SourceErrorKind::Config(what.to_owned())));
    let scheme = config.url.scheme();
    if !matches!(scheme, "rtsp" | "rtsps") || !config.url.has_host() {
        return refuse("the URL must be rtsp://host/path or rtsps://host/path");
    }
    if scheme == "rtsps" {
        if config.tls_verify {
            return refuse(
                "this machine's FFmpeg cannot check the camera's certificate: rtsps:// needs \
                 tls_verify = false, which encrypts but trusts whoever answers",
            );
        }
        if config.transport != Transport::Tcp {
            return refuse("rtsps:// needs transport = \"tcp\"");
        }
    }
    if !config.url.username().is_empty() || config.url.password().is_some() {
        return refuse("credentials belong in `username` and `password`, not in the URL");
    }
    let mut login = String::new();
    if let Some(username) = &config.username {
        percent_encode(&mut login, username);
        login.push(':');
        if let Some(password) = &config.password {
            percent_encode(&mut login, password.expose_secret());
        }
        if login.len() > MAX_LOGIN_BYTES {
            return refuse(
                "`username` and `password` together are too long for client = \"ffmpeg\"",
            );
        }
        login.push('@');
    }
    let host = match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut url = format!(
        "{scheme}://{login}{host}:{}{}",
        config.port(),
        config.url.path()
    );
    if let Some(query) = config.url.query() {
        let _ = write!(url, "?{query}");
    }
    if url.len() > MAX_URL_BYTES {
        return refuse("`url` is too long for client = \"ffmpeg\"");
    }
    let (Ok(url), Ok(user_agent)) = (
        CString::new(url),
        CString::new(concat!("camring/", env!("CARGO_PKG_VERSION"))),
    ) else {
        return refuse("`url` contains a zero byte");
    };
    Ok(DemuxOptions {
        url,
        carrier: match config.transport {
            Transport::Tcp => Carrier::Tcp,
            Transport::Udp => Carrier::Udp,
            Transport::Multicast => Carrier::Multicast,
            Transport::Http => Carrier::Http,
        },
        user_agent,
        reorder: REORDER,
    })
}

fn percent_encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
