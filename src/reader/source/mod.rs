//! What a camera session takes and gives, whichever RTSP client runs it.
//!
//! A [`Connector`] opens sessions, a [`Source`] yields the access units and sender reports of
//! one session, and both report every failure as a [`SourceError`]. Promises to the session
//! loop: each await ends within a limit of [`Timeouts`] or can be dropped at any await point
//! (then [`Connector::settle`] finishes the farewell); memory per access unit is capped; text
//! sent by the camera is cleaned before it gets into an error.
//! It must never log or print a password or a URL path (some cameras keep credentials there),
//! and never resolve names itself: readers run without a resolver.

mod error;
pub mod limits;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use url::Url;

use crate::config::Network;
use crate::health::Sound;
use crate::media::aac::AacConfig;

pub use error::{SourceError, SourceErrorKind, Stage, clean_text};
pub use limits::{Limits, Timeouts};

/// A video codec that camring reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// ITU-T H.264 (RFC 6184).
    H264,
    /// ITU-T H.265 (RFC 7798).
    H265,
    /// JPEG pictures (RFC 2435).
    Mjpeg,
}

impl VideoCodec {
    /// Every supported codec, for messages.
    pub const SUPPORTED: &str = "H.264, H.265, MJPEG";

    /// Human-readable name.
    pub fn name(self) -> &'static str {
        match self {
            VideoCodec::H264 => "H.264",
            VideoCodec::H265 => "H.265",
            VideoCodec::Mjpeg => "MJPEG",
        }
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How RTP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    #[default]
    Tcp,
    /// Its own UDP ports.
    Udp,
    /// A multicast group that the camera names.
    Multicast,
    /// Interleaved in an RTSP connection inside of two HTTP connections.
    Http,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
            Transport::Multicast => "multicast",
            Transport::Http => "HTTP",
        })
    }
}

/// Everything needed to open a session with one camera stream.
#[derive(Clone)]
pub struct SourceConfig {
    /// The stream's name in messages, for example `front-door/sub`.
    pub id: String,
    /// `rtsp://host[:port]/path` or `rtsps://…`, without credentials.
    pub url: Url,
    /// Login, if the camera wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// How RTP travels.
    pub transport: Transport,
    /// With `rtsps://`: the camera must prove who it is.
    pub tls_verify: bool,
    /// How long each stage may take.
    pub timeouts: Timeouts,
    /// What a camera may cost.
    pub limits: Limits,
    /// What its sockets are like.
    pub network: Network,
    /// The camera's sound is wanted beside the video, if it is AAC-LC.
    pub sound: bool,
}

impl SourceConfig {
    /// A configuration with default limits, without credentials, over TCP.
    pub fn new(id: impl Into<String>, url: Url) -> Self {
        SourceConfig {
            id: id.into(),
            url,
            username: None,
            password: None,
            transport: Transport::Tcp,
            tls_verify: true,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            network: Network::default(),
            sound: false,
        }
    }

    /// `host:port`, the only part of the URL that may appear in logs.
    pub fn host(&self) -> String {
        match (self.url.host_str(), self.port()) {
            (Some(host), port) => format!("{host}:{port}"),
            (None, _) => "(no host)".to_owned(),
        }
    }

    /// The port that the URL names; else that of RTSP (554), RTSP over TLS (322) or HTTP (80).
    pub fn port(&self) -> u16 {
        self.url
            .port()
            .unwrap_or(match (self.url.scheme(), self.transport) {
                ("rtsps", _) => 322,
                (_, Transport::Http) => 80,
                _ => 554,
            })
    }

    /// An error of this camera.
    pub fn error(&self, stage: Stage, kind: SourceErrorKind) -> SourceError {
        SourceError {
            camera: self.id.clone(),
            host: self.host(),
            stage,
            kind,
        }
    }
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("id", &self.id)
            .field("host", &self.host())
            .field("transport", &self.transport)
            .field("has_credentials", &self.username.is_some())
            .finish_non_exhaustive()
    }
}

/// What is known about the video of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The codec.
    pub codec: VideoCodec,
    /// RTP clock rate in Hz, never 0.
    pub clock_rate: u32,
    /// Picture size in pixels, once parameter sets were seen.
    pub dimensions: Option<(u32, u32)>,
    /// How RTP travels.
    pub transport: Transport,
    /// What is known of the camera's sound; `None`: it was not asked for.
    pub sound: Option<Sound>,
}

impl fmt::Display for StreamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.codec)?;
        if let Some((w, h)) = self.dimensions {
            write!(f, " {w}x{h}")?;
        }
        write!(f, " over {}", self.transport)
    }
}

/// A track of the session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTrack {
    /// `video`, `audio`, `application` …
    pub media: String,
    /// Encoding name, as `h264`.
    pub encoding: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// It is the one that is read.
    pub chosen: bool,
}

/// One picture as the camera sent it.
#[derive(Clone)]
pub struct AccessUnit {
    /// H.264/H.265: Annex B, parameter sets first where `key`. MJPEG: one whole JPEG.
    pub data: Bytes,
    /// The codec.
    pub codec: VideoCodec,
    /// Decoding can start here: IDR/IRAP, a recovery point, any JPEG.
    pub key: bool,
    /// The parameter sets (or JPEG dimensions) changed with this unit, or this is the first.
    pub parameters_changed: bool,
    /// Picture size in pixels according to the parameter sets, when known.
    pub dimensions: Option<(u32, u32)>,
    /// RTP time, unwrapped from 32 bits, in units of `1/clock_rate` s.
    pub rtp_time: i64,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// `CLOCK_MONOTONIC` ns when the last packet of the unit was read.
    pub arrival_ns: u64,
    /// The same moment, UTC ns since the Unix epoch.
    pub arrival_utc_ns: i64,
    /// RTP packets known to be lost since the unit before. At least 1 also when received packets
    /// had to be dropped (unusable content, a unit over the size cap).
    pub lost_before: u32,
}

impl fmt::Debug for AccessUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessUnit")
            .field("len", &self.data.len())
            .field("codec", &self.codec)
            .field("key", &self.key)
            .field("rtp_time", &self.rtp_time)
            .field("lost_before", &self.lost_before)
            .finish_non_exhaustive()
    }
}

/// One frame of the camera's sound.
#[derive(Clone)]
pub struct AudioFrame {
    /// AAC, without any header.
    pub data: Bytes,
    /// What a decoder must know.
    pub config: AacConfig,
    /// RTP time, unwrapped from 32 bits, in units of `1/clock_rate` s.
    pub rtp_time: i64,
    /// RTP clock rate in Hz, never 0.
    pub clock_rate: u32,
    /// The RTP time that the *video* has at the same moment, as the answer to PLAY has it. `None`:
    /// it does not say.
    pub video_rtp_time: Option<i64>,
    /// `CLOCK_MONOTONIC` ns when the last packet of the frame was read.
    pub arrival_ns: u64,
    /// RTP packets of sound known to be lost since the frame before.
    pub lost_before: u32,
}

impl fmt::Debug for AudioFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioFrame")
            .field("len", &self.data.len())
            .field("rtp_time", &self.rtp_time)
            .field("lost_before", &self.lost_before)
            .finish_non_exhaustive()
    }
}

/// An RTCP sender report (RFC 3550 § 6.4.1): the camera says which UTC belongs to which RTP time.
/// An allegation: `timeline` judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The camera's UTC clock, ns since the Unix epoch.
    pub ntp_utc_ns: i64,
    /// The RTP time of that moment, on the same unwrapped scale as [`AccessUnit::rtp_time`].
    pub rtp_time: i64,
    /// `CLOCK_MONOTONIC` ns when the report was read.
    pub arrival_ns: u64,
    /// The same moment, UTC ns since the Unix epoch.
    pub arrival_utc_ns: i64,
}

/// What a session yields.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// A picture.
    Unit(AccessUnit),
    /// A clock reading.
    SenderReport(SenderReport),
    /// A frame of sound. Only with [`SourceConfig::sound`].
    Audio(AudioFrame),
    /// A clock reading of the sound: its `rtp_time` is on the scale of [`AudioFrame::rtp_time`].
    AudioReport(SenderReport),
    /// What becomes of the sound has changed.
    Sound(Sound),
    /// A picture larger than [`Limits::max_unit_bytes`] was thrown away.
    Oversize {
        /// Its size.
        bytes: usize,
    },
    /// Something unusable arrived, within the error budget; already cleaned for logs.
    Glitch(String),
}

/// One playing session.
pub trait Source: Send {
    /// What is known about the video; updated as parameter sets arrive.
    fn info(&self) -> &StreamInfo;

    /// The next event. Cancel-safe. It has no time limit of its own: silence is the session
    /// loop's to judge. After an error the session is over.
    fn next(&mut self) -> impl Future<Output = Result<SourceEvent, SourceError>> + Send;
}

/// Opens sessions with one camera and sees them off.
pub trait Connector: Send + Sync {
    /// What [`Connector::connect`] opens.
    type Source: Source;

    /// Opens a session with the camera at `address`, up to the answer to PLAY. Each stage is
    /// bounded by [`Timeouts`]. May be dropped at any await.
    fn connect(
        &self,
        config: &SourceConfig,
        address: IpAddr,
    ) -> impl Future<Output = Result<Self::Source, SourceError>> + Send;

    /// Waits, `limit` at most, until every session that was dropped has been torn down at the
    /// camera (TEARDOWN sent and answered). Some cameras have one session to give.
    fn settle(&self, limit: Duration) -> impl Future<Output = ()> + Send;
}

/// Turns a host name into addresses. In a reader: a question to the supervisor.
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, best first, or why there is none.
    fn resolve(&self, host: &str) -> impl Future<Output = Result<Vec<IpAddr>, String>> + Send;
}

pub use crate::sys::clock::{monotonic_ns, realtime_ns as utc_ns};

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    #[test]
    fn debug_shows_neither_password_nor_path() {
        let mut c = SourceConfig::new(
            "yard",
            Url::parse("rtsp://10.0.0.7/user=admin&password=pathsecret").unwrap(),
        );
        c.username = Some("admin".into());
        c.password = Some(SecretString::from("hunter2"));
        let text = format!(
            "{c:?} {}",
            c.error(Stage::Describe, SourceErrorKind::NotFound)
        );
        assert!(
            !text.contains("hunter2") && !text.contains("pathsecret"),
            "{text}"
        );
        assert!(text.contains("10.0.0.7:554"), "{text}");
    }

    #[test]
    fn ipv6_hosts_keep_their_brackets() {
        let c = SourceConfig::new("v6", Url::parse("rtsp://[fe80::1]:8554/x").unwrap());
        assert_eq!(c.host(), "[fe80::1]:8554");
    }
}
