//! The site, resolved: every value present, checked and ready to use.
//!
//! `raw.rs` says what was written; this says what follows from it. Nothing here can be built from
//! text except through [`super::load`], so whoever holds a [`Site`] need not check it again.
//!
//! Secrets: a password is a [`SecretString`]; neither `Debug` nor any text made here contains it.
//! [`Stream`] deliberately implements neither `Serialize` nor `Deserialize`: the one way to write
//! a password down is [`with_secret`](super::with_secret), which a control message names at the field that needs it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::http::Http;
use super::log::LogFormat;
use super::network::Network;
use super::record::{Record, Retention};
use super::view::View;

/// Everything that one daemon does: site-wide settings, and one [`Stream`] for each reader process.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// A name for people: logs, process titles.
    pub name: String,
    /// Where what must survive a reboot is kept. Not created here.
    pub data_dir: PathBuf,
    /// Where the attach socket lives. Not created here.
    pub runtime_dir: PathBuf,
    /// Site defaults of `[ring]`; each stream carries its own resolved copy.
    pub ring: Ring,
    /// Site defaults of `[decode]`; each stream carries its own resolved copy.
    pub decode: Decode,
    /// Site-wide limits.
    pub limits: Limits,
    /// Site defaults of `[retry]`, also the supervisor's own policy for restarting processes.
    pub retry: Retry,
    /// Where the API and the dashboard are.
    pub http: Http,
    /// How the daemon's processes log, unless the command line or the environment say otherwise.
    pub log_format: LogFormat,
    /// What is kept of what is recorded.
    pub retention: Retention,
    /// How many streams may be encoded at a time, at least one.
    pub max_encoders: u32,
    /// All streams in the order of the file, disabled ones included.
    pub streams: Vec<Stream>,
}

impl Site {
    /// What a site is called that has no name.
    pub const DEFAULT_NAME: &str = "camring";
    /// What systemd's `StateDirectory=camring` makes.
    pub const DEFAULT_DATA_DIR: &str = "/var/lib/camring";
    /// What systemd's `RuntimeDirectory=camring` makes.
    pub const DEFAULT_RUNTIME_DIR: &str = "/run/camring";

    /// The Unix socket on which subscribers attach.
    pub fn attach_socket(&self) -> PathBuf {
        attach_socket(&self.runtime_dir)
    }

    /// The stream that `name` means: `front-door/sub` is the named one, `front-door` the first.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.answers_to(name))
    }

    /// The streams that get a reader process.
    pub fn enabled(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(|stream| stream.enabled)
    }

    /// The streams that get a process that records them.
    pub fn recorded(&self) -> impl Iterator<Item = &Stream> {
        self.enabled().filter(|stream| stream.record.is_on())
    }

    /// Whether there is a process for HTTP and for what is recorded.
    pub fn serves(&self) -> bool {
        self.http.listen.is_some() || self.recorded().next().is_some()
    }

    /// How many processes the supervisor starts: one for each enabled stream, one for each that is
    /// recorded, the spawner, and the one for HTTP and recordings.
    pub fn processes(&self) -> u64 {
        let streams = self.enabled().count() + self.recorded().count();
        streams as u64 + 1 + u64::from(self.serves())
    }
}

/// See [`Site::attach_socket`].
pub(super) fn attach_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("attach.sock")
}

/// What one reader process reads and how: a camera, or one stream of a camera that has several.
#[derive(Clone)]
pub struct Stream {
    /// The camera's name.
    pub camera: String,
    /// The stream's name, where the camera has `[[camera.stream]]`.
    pub stream: Option<String>,
    /// What the stream is called everywhere: `front-door`, or `front-door/sub`. At most 127 bytes
    /// of `[A-Za-z0-9._-]` and one `/`; unique in the site.
    pub id: String,
    /// The camera's name for its first stream, where `id` is not that already.
    pub alias: Option<String>,
    /// `rtsp://`, without user and password. The path or query may still hold a secret of the
    /// camera's own making: print [`Stream::public_url`] instead.
    pub url: Url,
    /// The user, percent-decoded.
    pub username: Option<String>,
    /// The password, percent-decoded. Present only beside a username.
    pub password: Option<SecretString>,
    /// How RTP travels.
    pub transport: Transport,
    /// Which RTSP implementation reads it.
    pub client: Client,
    /// With `rtsps://`: the camera must prove who it is.
    pub tls_verify: bool,
    /// Where the reader runs.
    pub cpu: Cpu,
    /// False: listed, but no process is started.
    pub enabled: bool,
    /// What is decoded.
    pub decode: Decode,
    /// The shape of the rings.
    pub ring: Ring,
    /// When to give up waiting, and when to try again.
    pub retry: Retry,
    /// Whether and how it is recorded.
    pub record: Record,
    /// What its sockets are like.
    pub network: Network,
    /// What the rings of this stream may take, in bytes.
    pub memory_per_camera: u64,
    /// Other shapes of its frames, at most [`View::MAX_VIEWS`].
    pub views: Vec<View>,
}

impl Stream {
    /// Whether `name` means this stream.
    pub fn answers_to(&self, name: &str) -> bool {
        self.id == name || self.alias.as_deref() == Some(name)
    }

    /// The URL as it may be shown: no credentials, and `***` for what looks like a password in
    /// the path or query (`/user=admin&password=…` is how some cameras want it).
    pub fn public_url(&self) -> String {
        super::mask::url(self.url.as_str())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id)
            .field("alias", &self.alias)
            .field("url", &self.public_url())
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("transport", &self.transport)
            .field("client", &self.client)
            .field("tls_verify", &self.tls_verify)
            .field("cpu", &self.cpu)
            .field("enabled", &self.enabled)
            .field("decode", &self.decode)
            .field("ring", &self.ring)
            .field("retry", &self.retry)
            .field("record", &self.record)
            .field("network", &self.network)
            .field("memory_per_camera", &self.memory_per_camera)
            .field("views", &self.views)
            .finish()
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        // Destructured, so that a new field cannot be forgotten: hot reload will rest on this.
        let Stream {
            camera,
            stream,
            id,
            alias,
            url,
            username,
            password,
            transport,
            client,
            tls_verify,
            cpu,
            enabled,
            decode,
            ring,
            retry,
            record,
            network,
            memory_per_camera,
            views,
        } = self;
        let secret = |s: &Option<SecretString>| s.as_ref().map(|s| s.expose_secret().to_owned());
        *camera == other.camera
            && *stream == other.stream
            && *id == other.id
            && *alias == other.alias
            && *url == other.url
            && *username == other.username
            && secret(password) == secret(&other.password)
            && *transport == other.transport
            && *client == other.client
            && *tls_verify == other.tls_verify
            && *cpu == other.cpu
            && *enabled == other.enabled
            && *decode == other.decode
            && *ring == other.ring
            && *retry == other.retry
            && *record == other.record
            && *network == other.network
            && *memory_per_camera == other.memory_per_camera
            && *views == other.views
    }
}

/// How RTP travels from the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the RTSP connection: nothing is lost, and it passes firewalls.
    Tcp,
    /// Packets of their own: lower delay on a bad network, at the price of losses.
    Udp,
    /// To a multicast group that the camera names.
    Multicast,
    /// Inside of HTTP, for networks that let nothing else through.
    Http,
}

impl Transport {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Multicast => "multicast",
            Transport::Http => "http",
        }
    }
}

/// Which RTSP implementation reads the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// `retina` where it can, libavformat for the rest.
    Auto,
    /// The `retina` crate.
    Retina,
    /// libavformat.
    Ffmpeg,
}

impl Client {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Client::Auto => "auto",
            Client::Retina => "retina",
            Client::Ffmpeg => "ffmpeg",
        }
    }
}

/// Where a reader runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cpu {
    /// Pinned to one core, chosen so that the cores get even shares of the expected pixel rate.
    Auto,
    /// Not pinned: the kernel decides.
    Any,
    /// Pinned to these cores: not empty, ascending, no duplicates, all allowed on this machine
    /// when the configuration was read.
    Cores(Vec<u32>),
}

/// What is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeMode {
    /// Every picture.
    Always,
    /// Every picture while somebody looks at the frames, none otherwise.
    OnDemand,
    /// Key frames only.
    KeyFrames,
    /// Key frames while nothing moves, every picture when something does.
    Activity,
}

impl DecodeMode {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            DecodeMode::Always => "always",
            DecodeMode::OnDemand => "on-demand",
            DecodeMode::KeyFrames => "keyframes",
            DecodeMode::Activity => "activity",
        }
    }
}

/// What decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodeBackend {
    /// libavcodec on the processor.
    Software,
    /// The first hardware that opens, software where none does.
    Auto,
    /// This one; software where it does not open or does not take the stream.
    Cuda,
    Vaapi,
    Qsv,
    V4l2m2m,
}

impl DecodeBackend {
    /// All of them, in the order in which messages name them.
    pub const ALL: [Self; 6] = [
        Self::Software,
        Self::Auto,
        Self::Cuda,
        Self::Vaapi,
        Self::Qsv,
        Self::V4l2m2m,
    ];

    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Vaapi => "vaapi",
            Self::Qsv => "qsv",
            Self::V4l2m2m => "v4l2m2m",
        }
    }
}

/// `[ring]`: the shape of a stream's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// How many of the newest frames stay readable, 1 to [`Ring::MAX_DEPTH`].
    pub depth: u32,
    /// How many frames all subscribers of the stream together may hold at once, 1 to
    /// [`Ring::MAX_PINS`].
    pub pins: u32,
    /// What the packet ring may take, in bytes.
    pub packets: u64,
}

impl Ring {
    /// Three frames are 120 ms at 25 fps: room for a detector that is late once. One more is one more
    /// picture that stays in memory: 66 MiB with 50 cameras of 720p.
    pub const DEFAULT_DEPTH: u32 = 3;
    /// Eight subscribers with the usual quota of two.
    pub const DEFAULT_PINS: u32 = 16;
    /// Eight seconds at 8 Mbit/s: at least one whole group of pictures of most cameras.
    pub const DEFAULT_PACKETS: u64 = 8 << 20;
    /// With [`Ring::MAX_PINS`] and the most that a decoder refers to, 250 of the 255 slots that
    /// the ring format can number.
    pub const MAX_DEPTH: u32 = 32;
    /// See [`Ring::MAX_DEPTH`].
    pub const MAX_PINS: u32 = 200;
    /// Below this, not one key frame of an HD camera fits.
    pub const MIN_PACKETS: u64 = 1 << 20;
    /// A minute at 140 Mbit/s.
    pub const MAX_PACKETS: u64 = 1 << 30;
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            depth: Self::DEFAULT_DEPTH,
            pins: Self::DEFAULT_PINS,
            packets: Self::DEFAULT_PACKETS,
        }
    }
}

/// `[decode]`: what is decoded, and how much it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decode {
    /// Which pictures.
    pub mode: DecodeMode,
    /// What decodes them.
    pub backend: DecodeBackend,
    /// Decoder threads, 1 to [`Decode::MAX_THREADS`].
    pub threads: u32,
    /// The most frames published in a second; `None`: all of them. Above zero.
    pub max_fps: Option<f32>,
    /// With [`DecodeMode::Activity`]: the smallest motion that must be seen, in percent of the
    /// picture.
    pub smallest_motion: f32,
}

impl Decode {
    /// More only help a camera that is too much for one core, and add overhead to all others.
    pub const DEFAULT_THREADS: u32 = 1;
    /// The most slice threads from which libavcodec gains anything.
    pub const MAX_THREADS: u32 = 16;
    /// One frame in 100 s; for less, take snapshots.
    pub const MIN_MAX_FPS: f64 = 0.01;
    /// No camera sends more.
    pub const MAX_MAX_FPS: f64 = 1000.0;
    /// Somebody on foot who is a seventh of the picture high covers about half a percent of it.
    pub const DEFAULT_SMALLEST_MOTION: f32 = 0.5;
    /// Below this, the bytes of slice headers would be motion.
    pub const MIN_SMALLEST_MOTION: f64 = 0.1;
    /// Above this, a lorry in front of the camera would not be.
    pub const MAX_SMALLEST_MOTION: f64 = 20.0;
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            mode: DecodeMode::Always,
            backend: DecodeBackend::Software,
            threads: Self::DEFAULT_THREADS,
            max_fps: None,
            smallest_motion: Self::DEFAULT_SMALLEST_MOTION,
        }
    }
}

/// `[limits]`: what the whole site may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes started at most: see [`Site::processes`].
    pub max_processes: u32,
    /// What the rings of one stream may take, in bytes, unless the camera says otherwise.
    pub memory_per_camera: u64,
    /// What all rings together may take, in bytes; `None`: what the machine has to spare.
    pub memory_total: Option<u64>,
}

impl Limits {
    /// More readers than any box of the intended size can decode.
    pub const DEFAULT_MAX_PROCESSES: u32 = 256;
    /// A bound for a typing error, not for a machine.
    pub const MAX_MAX_PROCESSES: u32 = 4096;
    /// A 4K camera with the default ring fits, even with the most that a decoder refers to.
    pub const DEFAULT_MEMORY_PER_CAMERA: u64 = 512 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_processes: Self::DEFAULT_MAX_PROCESSES,
            memory_per_camera: Self::DEFAULT_MEMORY_PER_CAMERA,
            memory_total: None,
        }
    }
}

/// `[retry]`: how long to wait for a camera, and how long before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The first pause after a failure. Each further failure doubles it; jitter is added.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// After running this long without a failure, the next pause is `initial` again.
    pub stable_after: Duration,
    /// The pause after the camera refused the password.
    pub unauthorized: Duration,
    /// For each step until the stream plays: TCP connection, DESCRIBE, SETUP, PLAY.
    pub connect_timeout: Duration,
    /// From PLAY to the first decoded frame.
    pub first_frame_timeout: Duration,
    /// No access unit for this long: the camera has stalled.
    pub stall_timeout: Duration,
    /// Access units arrive, but none could be decoded for this long.
    pub decode_timeout: Duration,
}

impl Retry {
    /// A camera that dropped one connection is usually back at once.
    pub const DEFAULT_INITIAL: Duration = Duration::from_millis(500);
    /// A camera that was off for a night is seen within half a minute of its return.
    pub const DEFAULT_MAX: Duration = Duration::from_secs(30);
    /// Longer than the loop of a camera that plays a few seconds and then drops.
    pub const DEFAULT_STABLE_AFTER: Duration = Duration::from_secs(60);
    /// Cameras lock an account after some 5 wrong passwords in some minutes.
    pub const DEFAULT_UNAUTHORIZED: Duration = Duration::from_secs(300);
    /// A loaded camera answers DESCRIBE in 2 or 3 s; TCP needs 3 s for two lost SYNs.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Most cameras start with a key frame, but "smart" codecs may take 10 s to send one.
    pub const DEFAULT_FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(20);
    /// A camera at 1 fps must not look stalled when it skips a few frames.
    pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(10);
    /// With `mode = "keyframes"`, a group of pictures may last as long as 60 s.
    pub const DEFAULT_DECODE_TIMEOUT: Duration = Duration::from_secs(90);
    /// Shorter pauses would be spinning.
    pub const SHORTEST: Duration = Duration::from_millis(100);
    /// A longer one is a typing error.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Self::DEFAULT_INITIAL,
            max: Self::DEFAULT_MAX,
            stable_after: Self::DEFAULT_STABLE_AFTER,
            unauthorized: Self::DEFAULT_UNAUTHORIZED,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            first_frame_timeout: Self::DEFAULT_FIRST_FRAME_TIMEOUT,
            stall_timeout: Self::DEFAULT_STALL_TIMEOUT,
            decode_timeout: Self::DEFAULT_DECODE_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::with_secret;
    use super::*;

    fn stream() -> Stream {
        Stream {
            camera: "front-door".into(),
            stream: Some("main".into()),
            id: "front-door/main".into(),
            alias: Some("front-door".into()),
            url: Url::parse("rtsp://192.0.2.1/a?user=admin&password=canary-2").unwrap(),
            username: Some("admin".into()),
            password: Some("canary-1".to_owned().into()),
            transport: Transport::Tcp,
            client: Client::Auto,
            tls_verify: false,
            cpu: Cpu::Cores(vec![0, 1]),
            enabled: true,
            decode: Decode::default(),
            ring: Ring::default(),
            retry: Retry::default(),
            record: Record::default(),
            network: Network::default(),
            memory_per_camera: 1 << 29,
            views: Vec::new(),
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?} {:#?}", stream(), stream());
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("***"), "{text}");
    }

    #[test]
    fn with_secret_carries_the_password_and_only_it_does() {
        #[derive(Serialize, Deserialize)]
        struct Message {
            #[serde(with = "with_secret")]
            camera: Stream,
        }
        let text = serde_json::to_string(&Message { camera: stream() }).unwrap();
        assert!(text.contains("canary-1"));
        let back: Message = serde_json::from_str(&text).unwrap();
        assert_eq!(back.camera, stream());
        assert_eq!(back.camera.password.unwrap().expose_secret(), "canary-1");
    }

    #[test]
    fn a_changed_password_is_a_change() {
        let mut other = stream();
        other.password = Some("another".to_owned().into());
        assert_ne!(stream(), other);
    }

    #[test]
    fn the_first_stream_answers_to_the_camera_and_the_named_one_to_its_name() {
        let stream = stream();
        assert!(stream.answers_to("front-door"));
        assert!(stream.answers_to("front-door/main"));
        assert!(!stream.answers_to("front-door/sub"));
    }
}
