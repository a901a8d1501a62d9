//! Which RTSP client reads a camera, and why: `client = "retina"`, `"ffmpeg"` or `"auto"`.
//!
//! `auto` takes retina, and libavformat for what retina cannot do. When retina cannot make sense of
//! a camera's answers, libavformat has the next try and keeps the camera; if it fares no better,
//! retina is final. So there are two changes at most in the life of a reader, and the camera is never
//! handed to and fro. Must never choose by what the camera *claims* to be.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ffmpeg_source::{FfmpegConnector, FfmpegSource};
use super::retina_source::{RetinaConnector, RetinaSource};
use super::source::{
    Connector, OfferedTrack, Source, SourceConfig, SourceError, SourceErrorKind, SourceEvent,
    StreamInfo, Transport,
};
use crate::config::{Client, show_size};
use crate::sys::sockets;

impl From<crate::config::Transport> for Transport {
    fn from(configured: crate::config::Transport) -> Self {
        match configured {
            crate::config::Transport::Tcp => Transport::Tcp,
            crate::config::Transport::Udp => Transport::Udp,
            crate::config::Transport::Multicast => Transport::Multicast,
            crate::config::Transport::Http => Transport::Http,
        }
    }
}

/// A client and the reason for it. As numbers: what the health page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Choice {
    RetinaAsConfigured = 1,
    Retina = 2,
    FfmpegAsConfigured = 3,
    FfmpegForTls = 4,
    FfmpegForMulticast = 5,
    FfmpegForHttp = 6,
    FfmpegForUdp = 7,
    FfmpegAfterRetina = 8,
    RetinaAfterBoth = 9,
    FfmpegForStream = 10,
}

impl Choice {
    const ALL: [Choice; 10] = [
        Choice::RetinaAsConfigured,
        Choice::Retina,
        Choice::FfmpegAsConfigured,
        Choice::FfmpegForTls,
        Choice::FfmpegForMulticast,
        Choice::FfmpegForHttp,
        Choice::FfmpegForUdp,
        Choice::FfmpegAfterRetina,
        Choice::RetinaAfterBoth,
        Choice::FfmpegForStream,
    ];

    /// What a stream configured like this begins with.
    pub fn plan(client: Client, scheme: &str, transport: Transport) -> Self {
        match (client, scheme, transport) {
            (Client::Retina, _, _) => Choice::RetinaAsConfigured,
            (Client::Ffmpeg, _, _) => Choice::FfmpegAsConfigured,
            (Client::Auto, "rtsps", _) => Choice::FfmpegForTls,
            (Client::Auto, _, Transport::Multicast) => Choice::FfmpegForMulticast,
            (Client::Auto, _, Transport::Http) => Choice::FfmpegForHttp,
            (Client::Auto, _, Transport::Udp) => Choice::FfmpegForUdp,
            (Client::Auto, _, Transport::Tcp) => Choice::Retina,
        }
    }

    /// From a health page: any number at all.
    pub fn from_word(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| *choice as u64 == word)
    }

    /// `retina` or `ffmpeg`.
    pub fn client(self) -> &'static str {
        match self.is_retina() {
            true => "retina",
            false => "ffmpeg",
        }
    }

    fn is_retina(self) -> bool {
        matches!(
            self,
            Choice::RetinaAsConfigured | Choice::Retina | Choice::RetinaAfterBoth
        )
    }

    /// Why, in words.
    pub fn reason(self) -> &'static str {
        match self {
            Choice::RetinaAsConfigured | Choice::FfmpegAsConfigured => "as configured",
            Choice::Retina => "auto: the usual client",
            Choice::FfmpegForTls => "auto: rtsps://",
            Choice::FfmpegForMulticast => "auto: multicast",
            Choice::FfmpegForHttp => "auto: HTTP tunnel",
            Choice::FfmpegForUdp => "auto: UDP, packets are put in order",
            Choice::FfmpegAfterRetina => "auto: retina did not understand the camera",
            Choice::FfmpegForStream => "auto: retina cannot read all of this stream",
            Choice::RetinaAfterBoth => "auto: neither client understood the camera",
        }
    }

    /// Whether a stream that retina reads only in part goes to libavformat, which works on x86-64
    /// only.
    fn hands_over(self) -> bool {
        self == Choice::Retina && cfg!(target_arch = "x86_64")
    }

    /// What `auto` does after a session that could not be opened, or not be read.
    fn after(self, error: &SourceErrorKind) -> Self {
        use SourceErrorKind as K;
        match (self, error) {
            (Choice::Retina, K::OtherClient(_)) => Choice::FfmpegForStream,
            (Choice::Retina, K::MalformedSdp(_) | K::Protocol(_)) => Choice::FfmpegAfterRetina,
            (
                Choice::FfmpegAfterRetina,
                K::MalformedSdp(_)
                | K::Protocol(_)
                | K::Config(_)
                | K::NoVideo { .. }
                | K::UnsupportedCodec { .. },
            ) => Choice::RetinaAfterBoth,
            _ => self,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.client(), self.reason())
    }
}

/// Opens sessions with one camera through whichever client it is to have.
pub struct AnyConnector {
    client: Client,
    retina: RetinaConnector,
    ffmpeg: FfmpegConnector,
    choice: Arc<Mutex<Option<Choice>>>,
    /// What retina said of a camera that it did not understand.
    misunderstood: Mutex<Option<SourceError>>,
    tell: Box<dyn Fn(Choice) + Send + Sync>,
    /// It has been said that buffers are smaller than they should be.
    short: AtomicBool,
}

impl fmt::Debug for AnyConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyConnector")
            .field("client", &self.client)
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}

impl AnyConnector {
    /// `tell` hears of each choice before it is put into effect.
    pub fn new(client: Client, tell: impl Fn(Choice) + Send + Sync + 'static) -> Self {
        AnyConnector {
            client,
            retina: RetinaConnector::new(),
            ffmpeg: FfmpegConnector::new(),
            choice: Arc::default(),
            misunderstood: Mutex::new(None),
            tell: Box::new(tell),
            short: AtomicBool::new(false),
        }
    }

    fn choose(&self, config: &SourceConfig) -> Choice {
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        *choice
            .get_or_insert_with(|| Choice::plan(self.client, config.url.scheme(), config.transport))
    }

    /// Sets what the sockets of a new session are to be like: neither client can be told.
    fn tune(&self, config: &SourceConfig) {
        let datagrams = matches!(config.transport, Transport::Udp | Transport::Multicast);
        let wanted = datagrams.then_some(config.network.receive_buffer);
        if config.network.dscp == 0 && wanted.is_none() {
            return;
        }
        let tuned = sockets::tune(config.network.dscp, wanted);
        tracing::debug!(camera = %config.id, ?tuned, "sockets are set");
        if tuned.refused > 0 {
            tracing::warn!(
                camera = %config.id,
                "{} sockets could not be set as [network] says", tuned.refused
            );
        }
        if let (Some(wanted), Some(granted)) = (wanted, tuned.granted)
            && granted < wanted
            && !self.short.swap(true, Relaxed)
        {
            tracing::warn!(
                camera = %config.id,
                "the kernel grants {} of the {} of [network] receive_buffer: `sysctl -w \
                 net.core.rmem_max={wanted}`, or bursts may be lost",
                show_size(granted),
                show_size(wanted),
            );
        }
    }

    /// What the next try is by, and the error to report: where neither client understands the
    /// camera, that of the one which keeps it, so that the camera has one state and one reason.
    fn failed(&self, config: &SourceConfig, choice: Choice, error: SourceError) -> SourceError {
        let next = choice.after(&error.kind);
        if next == choice {
            return error;
        }
        *self.choice.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        tracing::warn!(camera = %config.id, "the next try is by {next}");
        let mut misunderstood = self
            .misunderstood
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match next {
            Choice::RetinaAfterBoth => misunderstood.take().unwrap_or(error),
            _ => {
                *misunderstood = Some(error.clone());
                error
            }
        }
    }
}

impl Connector for AnyConnector {
    type Source = AnySource;

    async fn connect(
        &self,
        config: &SourceConfig,
        address: IpAddr,
    ) -> Result<AnySource, SourceError> {
        let choice = self.choose(config);
        (self.tell)(choice);
        let opened = if choice.is_retina() {
            let hand_over = choice.hands_over();
            let source = self.retina.open(config, address, hand_over).await;
            source.map(|source| AnySource::Retina {
                source: Box::new(source),
                camera: config.id.to_string(),
                choice: Arc::clone(&self.choice),
            })
        } else {
            let source = self.ffmpeg.connect(config, address).await;
            source.map(|source| AnySource::Ffmpeg(Box::new(source)))
        };
        if opened.is_ok() {
            self.tune(config);
        }
        opened.map_err(|error| self.failed(config, choice, error))
    }

    async fn settle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.retina.settle(limit).await;
        let left = until.saturating_duration_since(Instant::now());
        self.ffmpeg.settle(left).await;
    }
}

/// A session of either client.
#[derive(Debug)]
pub enum AnySource {
    Retina {
        source: Box<RetinaSource>,
        camera: String,
        /// The connector's: a stream may show that it needs another client.
        choice: Arc<Mutex<Option<Choice>>>,
    },
    Ffmpeg(Box<FfmpegSource>),
}

impl AnySource {
    /// What the camera offers, the first few tracks of it; names are cleaned.
    pub fn offered(&self) -> Vec<OfferedTrack> {
        match self {
            AnySource::Retina { source, .. } => source.offered(),
            AnySource::Ffmpeg(source) => source.offered(),
        }
    }
}

impl Source for AnySource {
    fn info(&self) -> &StreamInfo {
        match self {
            AnySource::Retina { source, .. } => source.info(),
            AnySource::Ffmpeg(source) => source.info(),
        }
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        match self {
            AnySource::Retina {
                source,
                camera,
                choice,
            } => {
                let event = source.next().await;
                if let Err(SourceError {
                    kind: kind @ SourceErrorKind::OtherClient(_),
                    ..
                }) = &event
                {
                    let next = Choice::Retina.after(kind);
                    *choice.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
                    tracing::warn!(camera, "the next try is by {next}");
                }
                event
            }
            AnySource::Ffmpeg(source) => source.next().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_choices() {
        for choice in Choice::ALL {
            assert_eq!(Choice::from_word(choice as u64), Some(choice));
        }
        assert_eq!(Choice::from_word(0), None);
        assert_eq!(Choice::from_word(u64::MAX), None);
    }

    #[test]
    fn a_camera_that_neither_understands_keeps_one_reason() {
        let url = url::Url::parse("rtsp://192.0.2.1/").unwrap();
        let config = SourceConfig::new("yard", url);
        let connector = AnyConnector::new(Client::Auto, |_| {});
        let error = |kind| config.error(super::super::source::Stage::Describe, kind);
        let first = error(SourceErrorKind::MalformedSdp("by retina".into()));
        let choice = connector.choose(&config);
        assert_eq!(connector.failed(&config, choice, first.clone()), first);
        let choice = connector.choose(&config);
        assert_eq!(choice, Choice::FfmpegAfterRetina);
        let second = error(SourceErrorKind::Protocol("by the other".into()));
        assert_eq!(connector.failed(&config, choice, second.clone()), first);
        let choice = connector.choose(&config);
        assert_eq!(choice, Choice::RetinaAfterBoth);
        assert_eq!(connector.failed(&config, choice, second.clone()), second);
    }

    #[test]
    fn auto_changes_twice_at_most_and_never_for_the_network_or_the_login() {
        let broken = SourceErrorKind::MalformedSdp("x".into());
        let mut choice = Choice::plan(Client::Auto, "rtsp", Transport::Tcp);
        let mut seen = vec![choice];
        for _ in 0..5 {
            choice = choice.after(&broken);
            seen.push(choice);
        }
        let (a, b, c) = (
            Choice::Retina,
            Choice::FfmpegAfterRetina,
            Choice::RetinaAfterBoth,
        );
        assert_eq!(seen, [a, b, c, c, c, c]);
        for error in [
            SourceErrorKind::Refused,
            SourceErrorKind::CredentialsRejected,
            SourceErrorKind::Timeout(Duration::ZERO),
            SourceErrorKind::Busy(453),
        ] {
            assert_eq!((a.after(&error), b.after(&error)), (a, b));
        }
        let other = SourceErrorKind::OtherClient("x");
        let sets = a.after(&other);
        assert_eq!(sets, Choice::FfmpegForStream);
        assert_eq!((sets.after(&broken), sets.after(&other)), (sets, sets));
        for client in [Client::Retina, Client::Ffmpeg] {
            let fixed = Choice::plan(client, "rtsp", Transport::Tcp);
            assert_eq!(fixed.after(&broken), fixed);
        }
    }
}
