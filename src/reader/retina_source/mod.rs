//! RTSP sessions through the `retina` crate.
//!
//! retina speaks RTSP and RTP well and judges nothing: it has no time limits, stalls on a request
//! from the camera until polled for another reason, and repeats the same error for ever after an
//! SSRC change, a sequence jump or garbage. This module adds what is missing: a limit per stage,
//! a poll tick, an error budget, errors with causes, and the key frames that retina does not know
//! (CRA pictures, recovery points).
//! It must never pass retina a host *name* (it would resolve it here), nor let credentials or
//! retina's packet dumps into an error.

pub(super) mod annexb;
mod budget;
pub(super) mod classify;
mod rtcp;
mod sound;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy,
    PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions, Transport as Carrier,
};
use ::retina::codec::{
    CodecItem, FrameFormat, ParametersRef, VideoFrame, VideoParameters, VideoParametersCodec,
};
use bytes::Bytes;
use futures::Stream as _;
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::source::{
    AccessUnit, Connector, OfferedTrack, Source, SourceConfig, SourceError, SourceErrorKind,
    SourceEvent, Stage, StreamInfo, Transport, VideoCodec, clean_text, monotonic_ns, utc_ns,
};
use crate::health::Sound;
use crate::media::{Codec, parameters};
use budget::ErrorBudget;
use classify::Classifier;
use rtcp::sender_report;
use sound::{AudioTrack, SoundSource, Unopened, Wanted};

/// How often retina is polled when nothing arrives. A request sent by the camera leaves it
/// asleep until the next poll.
const POLL_TICK: Duration = Duration::from_millis(500);

/// A hostile description may have thousands of tracks.
const LISTED_TRACKS: usize = 8;

/// RTCP packet type of BYE, RFC 3550 § 12.1.
const RTCP_BYE: u8 = 203;

/// Opens retina sessions with one camera. One per session loop: it keeps track of sessions that
/// are still being torn down.
#[derive(Default)]
pub struct RetinaConnector {
    group: Arc<SessionGroup>,
    sound: sound::Known,
}

impl std::fmt::Debug for RetinaConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetinaConnector").finish_non_exhaustive()
    }
}

impl RetinaConnector {
    /// A connector without sessions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects and DESCRIBEs. retina does both in one call, so when that takes longer than a
    /// connection may, a second connection finds out which of the two hangs.
    async fn describe(
        &self,
        config: &SourceConfig,
        address: IpAddr,
        classifier: &Classifier<'_>,
    ) -> Result<Session<Described>, SourceError> {
        let mut url = config.url.clone();
        if url.scheme() != "rtsp" || !url.has_host() || url.set_ip_host(address).is_err() {
            let what = format!(
                "client = \"retina\" reads rtsp:// only, the URL's scheme is {:?}",
                clean_text(config.url.scheme(), None)
            );
            return Err(config.error(Stage::Connect, SourceErrorKind::Config(what)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let what = "credentials belong in `username` and `password`, not in the URL".to_owned();
            return Err(config.error(Stage::Connect, SourceErrorKind::Config(what)));
        }
        let credentials = config.username.as_ref().map(|username| Credentials {
            username: username.clone(),
            password: config
                .password
                .as_ref()
                .map(|p| p.expose_secret().to_owned())
                .unwrap_or_default(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .session_group(self.group.clone())
            .user_agent(concat!("camring/", env!("CARGO_PKG_VERSION")).to_owned());

        let limits = &config.timeouts;
        let mut describe = pin!(Session::describe(url, options));
        let failed = |e| classifier.error(Stage::Describe, &e);
        tokio::select! {
            biased;
            r = &mut describe => return r.map_err(failed),
            () = sleep(limits.connect) => {}
        }
        let probe = timeout(
            limits.connect,
            TcpStream::connect(SocketAddr::new(address, config.port())),
        );
        tokio::select! {
            biased;
            r = &mut describe => return r.map_err(failed),
            p = probe => match p {
                Ok(Ok(connection)) => drop(connection),
                Ok(Err(e)) => {
                    return Err(config.error(Stage::Connect, classify::connect_error(&e.to_string())));
                }
                Err(_) => {
                    return Err(config.error(Stage::Connect, SourceErrorKind::Timeout(limits.connect)));
                }
            },
        }
        match timeout(limits.describe, describe).await {
            Ok(r) => r.map_err(failed),
            Err(_) => Err(config.error(Stage::Describe, SourceErrorKind::Timeout(limits.describe))),
        }
    }
}

/// Runs one stage within its limit.
async fn bounded<T>(
    classifier: &Classifier<'_>,
    stage: Stage,
    limit: Duration,
    work: impl Future<Output = Result<T, ::retina::Error>>,
) -> Result<T, SourceError> {
    match timeout(limit, work).await {
        Ok(Ok(t)) => Ok(t),
        Ok(Err(e)) => Err(classifier.error(stage, &e)),
        Err(_) => Err(classifier
            .config
            .error(stage, SourceErrorKind::Timeout(limit))),
    }
}

impl RetinaConnector {
    /// Opens a session. `hand_over`: there is another client, so that a stream that needs more
    /// than one picture parameter set, or makes retina give up, ends with [`SourceErrorKind::OtherClient`].
    pub(super) async fn open(
        &self,
        config: &SourceConfig,
        address: IpAddr,
        hand_over: bool,
    ) -> Result<RetinaSource, SourceError> {
        let wanted = match self.sound.given_up() {
            None if config.sound => Wanted::IfThere,
            Some(sound) if config.sound => Wanted::Not(Some(sound)),
            _ => Wanted::Not(None),
        };
        match self.open_once(config, address, hand_over, wanted).await {
            Err(Unopened::WithSound(error)) => {
                // Perhaps it is the sound that the camera cannot do. The session that was half made is
                // seen off first: some have one to give.
                tracing::debug!(camera = %config.id, %error, "once more, without the sound");
                self.settle(config.timeouts.teardown).await;
                let wanted = Wanted::Not(Some(Sound::Refused));
                let source = self.open_once(config, address, hand_over, wanted).await?;
                self.sound.give_up(Sound::Refused);
                Ok(source)
            }
            opened => Ok(opened?),
        }
    }

    async fn open_once(
        &self,
        config: &SourceConfig,
        address: IpAddr,
        hand_over: bool,
        wanted: Wanted,
    ) -> Result<RetinaSource, Unopened> {
        let classifier = Classifier { config };
        let limits = &config.timeouts;
        let carrier = match config.transport {
            Transport::Tcp => Carrier::Tcp(Default::default()),
            Transport::Udp => Carrier::Udp(Default::default()),
            other => {
                let what = format!("{other} needs client = \"ffmpeg\" or \"auto\"");
                return Err(config
                    .error(Stage::Connect, SourceErrorKind::Config(what))
                    .into());
            }
        };
        let mut session = self.describe(config, address, &classifier).await?;
        let (index, codec) = choose_track(config, session.streams())?;
        let clock_rate = session.streams()[index].clock_rate_hz();

        let setup = SetupOptions::default()
            .transport(carrier.clone())
            .frame_format(FrameFormat::SIMPLE);
        bounded(
            &classifier,
            Stage::Setup,
            limits.setup,
            session.setup(index, setup),
        )
        .await?;

        let (track, sound) = match wanted {
            Wanted::Not(why) => (None, why),
            Wanted::IfThere => match AudioTrack::find(session.streams()) {
                (Some(track), _) => track.set_up(&mut session, carrier, &classifier).await?,
                (None, why) => (None, Some(why)),
            },
        };

        // Both fields of RTP-Info are often wrong or missing, and neither is needed for one
        // stream: a wrong `seq` would make every packet an error.
        let play = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .initial_seq(InitialSequenceNumberPolicy::Ignore);
        let playing = bounded(&classifier, Stage::Play, limits.play, session.play(play)).await;
        let playing = playing.map_err(|error| match track {
            Some(_) => Unopened::WithSound(error),
            None => error.into(),
        })?;
        let demuxed = playing
            .demuxed()
            .map_err(|e| classifier.error(Stage::Describe, &e))?;

        let mut source = RetinaSource {
            config: config.clone(),
            demuxed: Box::pin(demuxed),
            info: StreamInfo {
                codec,
                clock_rate,
                dimensions: None,
                transport: config.transport,
                sound,
            },
            index,
            budget: ErrorBudget::new(config.limits.max_errors, config.limits.error_window),
            last_error: None,
            first: true,
            damage: 0,
            hand_over,
            parameter_set: None,
            sound: track.map(|track| SoundSource::new(track, self.sound.clone())),
        };
        source.read_parameters();
        Ok(source)
    }
}

impl Connector for RetinaConnector {
    type Source = RetinaSource;

    async fn connect(
        &self,
        config: &SourceConfig,
        address: IpAddr,
    ) -> Result<RetinaSource, SourceError> {
        self.open(config, address, false).await
    }

    async fn settle(&self, limit: Duration) {
        // A failed TEARDOWN is not worth a word: most often the camera is gone.
        let _ = timeout(limit, self.group.await_teardown()).await;
    }
}

/// The first video track in a supported codec.
fn choose_track(
    config: &SourceConfig,
    tracks: &[::retina::client::Stream],
) -> Result<(usize, VideoCodec), SourceError> {
    let mut other_video = None;
    for (index, track) in tracks.iter().enumerate() {
        let codec = match (track.media(), track.encoding_name()) {
            ("video", "h264") => VideoCodec::H264,
            ("video", "h265") => VideoCodec::H265,
            ("video" | "image", "jpeg") => VideoCodec::Mjpeg,
            ("video", other) => {
                other_video.get_or_insert_with(|| clean_text(other, None));
                continue;
            }
            _ => continue,
        };
        let rate = track.clock_rate_hz();
        if rate == 0 || (codec != VideoCodec::Mjpeg && rate != 90_000) {
            let what = format!("{codec} with a clock rate of {rate} Hz, must be 90000");
            return Err(config.error(Stage::Describe, SourceErrorKind::MalformedSdp(what)));
        }
        return Ok((index, codec));
    }
    let offered = tracks
        .iter()
        .take(LISTED_TRACKS)
        .map(|t| clean_text(&format!("{}/{}", t.media(), t.encoding_name()), None))
        .collect();
    Err(config.error(
        Stage::Describe,
        match other_video {
            Some(codec) => SourceErrorKind::UnsupportedCodec { codec, offered },
            None => SourceErrorKind::NoVideo { offered },
        },
    ))
}

/// A playing retina session. Dropping it starts TEARDOWN in the background.
pub struct RetinaSource {
    config: SourceConfig,
    demuxed: Pin<Box<Demuxed>>,
    info: StreamInfo,
    /// Of the chosen track.
    index: usize,
    budget: ErrorBudget,
    /// Cleaned text of the last unusable packet, if nothing usable followed.
    last_error: Option<String>,
    first: bool,
    /// Packets lost or dropped since the last unit, besides what retina counts for the next one.
    damage: u32,
    /// Another client could read what this one cannot.
    hand_over: bool,
    /// Number of the picture parameter set in force: retina keeps one.
    parameter_set: Option<u32>,
    /// Set up beside the video.
    sound: Option<SoundSource>,
}

impl std::fmt::Debug for RetinaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetinaSource")
            .field("config", &self.config)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl RetinaSource {
    /// What the camera offers, the first few tracks of it; names are cleaned.
    pub fn offered(&self) -> Vec<OfferedTrack> {
        let tracks = self
            .demuxed
            .streams()
            .iter()
            .enumerate()
            .take(LISTED_TRACKS);
        tracks
            .map(|(index, track)| OfferedTrack {
                media: clean_text(track.media(), None),
                encoding: clean_text(track.encoding_name(), None),
                clock_rate: track.clock_rate_hz(),
                chosen: index == self.index,
            })
            .collect()
    }

    fn is_sound(&self, stream: usize) -> bool {
        self.sound.as_ref().is_some_and(|sound| sound.is(stream))
    }

    fn error(&self, kind: SourceErrorKind) -> SourceError {
        self.config.error(Stage::Streaming, kind)
    }

    fn parameters(&self) -> Option<&VideoParameters> {
        match self.demuxed.streams().get(self.index)?.parameters()? {
            ParametersRef::Video(p) => Some(p),
            _ => None,
        }
    }

    fn read_parameters(&mut self) {
        if let Some(dimensions) = self.parameters().map(VideoParameters::pixel_dimensions) {
            self.info.dimensions = Some(dimensions);
        }
        self.parameter_set = match self.parameters().map(VideoParameters::codec_params) {
            Some(VideoParametersCodec::H264 { pps, .. }) => {
                parameters::picture_parameter_set(Codec::H264, pps)
            }
            Some(VideoParametersCodec::H265 { pps, .. }) => {
                parameters::picture_parameter_set(Codec::H265, pps)
            }
            _ => None,
        };
    }

    /// retina drops parameter sets from the units and repeats them at IDR only; this is the
    /// prefix for a unit that is another kind of entry point.
    fn parameter_sets(&self) -> Vec<u8> {
        match self.parameters().map(VideoParameters::codec_params) {
            Some(VideoParametersCodec::H264 { sps, pps }) => annexb::join(&[sps, pps]),
            Some(VideoParametersCodec::H265 { vps, sps, pps }) => annexb::join(&[vps, sps, pps]),
            _ => Vec::new(),
        }
    }

    /// A unit, an event in its place, or `None` for a key frame that begins with a hole: it would
    /// end the damage that came before it.
    fn unit(&mut self, frame: VideoFrame) -> Result<Option<SourceEvent>, SourceError> {
        let arrival_ns = monotonic_ns();
        let arrival_utc_ns = utc_ns();
        self.last_error = None;
        let lost = self.damage.saturating_add(u32::from(frame.loss()));
        if frame.data().len() > self.config.limits.max_unit_bytes {
            self.damage = lost.saturating_add(1);
            return Ok(Some(SourceEvent::Oversize {
                bytes: frame.data().len(),
            }));
        }
        let start = annexb::first_slice(self.info.codec, frame.data());
        self.damage = 0;
        let parameters_changed = frame.has_new_parameters() || self.first;
        self.first = false;
        if parameters_changed {
            self.read_parameters();
        }
        let rtp_time = frame.timestamp().timestamp();
        if let Some(sound) = &mut self.sound {
            sound.video(frame.timestamp());
        }
        if self.hand_over
            && let (Some(start), Some(known)) = (start, self.parameter_set)
            && start.parameter_set != known
        {
            return Err(self.error(SourceErrorKind::OtherClient(
                "pictures refer to a parameter set that retina does not keep",
            )));
        }
        let holed = frame.loss() > 0 && start.is_some_and(|start| !start.first);
        let mut key = frame.is_random_access_point();
        let mut data = frame.into_data();
        if !key && annexb::is_entry_point(self.info.codec, &data) {
            key = true;
            let mut with_parameters = self.parameter_sets();
            with_parameters.append(&mut data);
            data = with_parameters;
        }
        if key && holed {
            self.damage = lost;
            return Ok(None);
        }
        Ok(Some(SourceEvent::Unit(AccessUnit {
            data: Bytes::from(data),
            codec: self.info.codec,
            key,
            parameters_changed,
            dimensions: self.info.dimensions,
            rtp_time,
            clock_rate: self.info.clock_rate,
            arrival_ns,
            arrival_utc_ns,
            lost_before: lost,
        })))
    }

    /// An error that retina survives counts against the budget; others end the session.
    fn on_error(&mut self, e: &::retina::Error) -> Result<SourceEvent, SourceError> {
        let classifier = Classifier {
            config: &self.config,
        };
        if let Some(fatal) = classifier.fatal_while_streaming(e) {
            return Err(fatal);
        }
        let text = classifier.text(e);
        // Broken reports harm no picture; a camera may send nothing else all day.
        if classify::is_rtcp(&text) {
            return Ok(SourceEvent::Glitch(text));
        }
        self.damage = self.damage.saturating_add(1);
        if self.budget.spend() {
            self.last_error = Some(text.clone());
            Ok(SourceEvent::Glitch(text))
        } else {
            Err(self.error(SourceErrorKind::ErrorBudget {
                errors: self.budget.count(),
                within: self.budget.window(),
                last: text,
            }))
        }
    }
}

impl Source for RetinaSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            // Packets after a depacketizer error can make retina panic (0.4.21, codec/h264.rs, "push
            // with data already pending"). It is not polled again, but dropped with the session.
            let polled = poll_fn(|cx| {
                let poll = || self.demuxed.as_mut().poll_next(cx);
                match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(poll) => poll.map(Ok),
                    Err(_) => Poll::Ready(Err(())),
                }
            });
            let polled = tokio::select! {
                biased;
                polled = polled => polled,
                () = sleep(POLL_TICK) => continue,
            };
            let Ok(item) = polled else {
                if let Some(sound) = self.sound.take() {
                    return Err(self.error(sound.end("retina cannot follow this camera's packets")));
                }
                const WHY: &str = "retina cannot follow this camera's packets";
                return Err(self.error(match self.hand_over {
                    true => SourceErrorKind::OtherClient(WHY),
                    false => SourceErrorKind::Protocol(WHY.to_owned()),
                }));
            };
            match item {
                Some(Ok(CodecItem::VideoFrame(frame))) => {
                    if let Some(event) = self.unit(frame)? {
                        return Ok(event);
                    }
                }
                Some(Ok(CodecItem::AudioFrame(frame))) => {
                    if let Some(frame) = self.sound.as_mut().and_then(|sound| sound.frame(&frame)) {
                        return Ok(SourceEvent::Audio(frame));
                    }
                }
                Some(Ok(CodecItem::Rtcp(compound))) if self.is_sound(compound.stream_id()) => {
                    if let Some(report) = sender_report(&compound) {
                        return Ok(SourceEvent::AudioReport(report));
                    }
                }
                Some(Ok(CodecItem::Rtcp(compound))) => {
                    if compound.pkts().any(|p| p.payload_type() == RTCP_BYE) {
                        let how = "it said goodbye (RTCP BYE)".to_owned();
                        return Err(self.error(SourceErrorKind::Ended(how)));
                    }
                    if let Some(report) = sender_report(&compound) {
                        return Ok(SourceEvent::SenderReport(report));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => match self.sound.as_mut().and_then(|sound| sound.error(&e)) {
                    Some(event) => return Ok(event),
                    None => return self.on_error(&e),
                },
                // retina also ends the stream after errors of its depacketizer.
                None => {
                    if let Some(sound) = self.sound.take_if(|sound| sound.ends_session()) {
                        return Err(self.error(sound.end("")));
                    }
                    let kind = match self.last_error.take() {
                        Some(text) => SourceErrorKind::Protocol(text),
                        None => SourceErrorKind::Ended("it closed the connection".to_owned()),
                    };
                    return Err(self.error(kind));
                }
            }
        }
    }
}
