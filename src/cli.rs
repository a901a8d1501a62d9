//! The command line: what can be written there, and what `--help` says about it.
//!
//! Definitions only; `cmd/` does what they ask for. The spawner's argument is not here: it is
//! looked at before any parser (`main.rs`).
#![deny(unsafe_code)]

mod login;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use login::{LoginArgs, RoleArg, TokenCommand, UserCommand};

use crate::config;

/// Reads many RTSP cameras and puts their decoded frames into shared memory, without a copy.
#[derive(Debug, Parser)]
#[command(
    name = "camring",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Exit codes: 0 done; 1 failed; 2 wrong configuration or command line; 3 no daemon is there.

Without --config, /etc/camring/config.toml is read, or else ./config.toml.
A camera is named as in the configuration: front-door, or front-door/sub for one of its streams, or
front-door:detect for one of its views.",
    max_term_width = 100
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The configuration of the site [default: /etc/camring/config.toml, then ./config.toml]
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How much to log: error, warn, info, debug, trace, or a filter such as
    /// "info,camring::supervisor=debug" [default: $CAMRING_LOG, then info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,

    /// How logs are written: auto, text, json, journal [default: $CAMRING_LOG_FORMAT, then log.format of
    /// the configuration, then auto]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_format)]
    pub log_format: Option<config::LogFormat>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    #[command(after_help = "\
Starts one reader process for each stream and watches over them until SIGTERM or SIGINT. SIGHUP
has it read its configuration again. Logs go to standard error. Under systemd (Type=notify) it says when it is ready and feeds the watchdog.

Examples:
  camring run
  camring run --config site.toml --log debug
  sudo systemctl start camring")]
    Run(RunArgs),

    /// Check the configuration and show what would be run
    #[command(after_help = "\
Starts nothing and contacts no camera. Shows each stream with its core, what its rings will take in
memory, and the totals against what this machine has. Says which limit of the kernel, of the control
group or of this shell is too small for the site, and the command that raises it. Passwords are not shown.

All that is wrong is reported at once, with file, line, column and what would be right; the exit
code is 2 then.

Examples:
  camring check
  camring check --config site.toml --json | jq '.memory'
  camring check --systemd > /etc/systemd/system/camring.service.d/site.conf")]
    Check(CheckArgs),

    /// Have the daemon read its configuration again
    #[command(after_help = "\
Sends the daemon SIGHUP and says what came of it. Streams whose settings are the same are not touched;
a configuration that is wrong changes nothing: its errors are shown, and the exit code is 2. [site]
data_dir and runtime_dir need a restart. Needs the daemon's own user, or root.

Examples:
  camring check && camring reload
  sudo systemctl reload camring")]
    Reload(ReloadArgs),

    /// Show the state of all cameras
    #[command(after_help = "\
Asks the daemon over its socket; any user who may attach to cameras (group camring) may ask. The
exit code is 3 if no daemon is there.

Examples:
  camring status
  camring status --watch
  camring status --json | jq -r '.cameras[] | select(.state != \"streaming\") | .name'")]
    Status(StatusArgs),

    /// Watch all cameras in the terminal
    #[command(after_help = "\
Needs a terminal; works over ssh, and in one of any size. Enter shows everything of a camera, with what
to do about its problem; ? shows the keys. When the daemon goes away, it waits for it. NO_COLOR=1
leaves colours out.

Examples:
  camring top
  camring top --interval 5s
  ssh -t box camring top")]
    Top(TopArgs),

    /// Print one line for each frame of a camera
    #[command(after_help = "\
Attaches like any detector and reads frames in place. Each line has the frame's sequence number,
PTS, UTC, size, age, and how many frames were missed before it.

Examples:
  camring tail front-door
  camring tail front-door/sub -n 100 --json
  camring tail front-door --view detect")]
    Tail(TailArgs),

    /// Save one frame of a camera as a JPEG
    #[command(after_help = "\
Attaches like any detector and takes the newest frame, or waits for the next one.

Examples:
  camring snapshot front-door -o front-door.jpg
  camring snapshot front-door/sub -o - | feh -
  camring snapshot front-door:detect -o what-the-detector-sees.jpg")]
    Snapshot(SnapshotArgs),

    /// Write the frames of a camera to standard output, for any program
    #[command(after_help = "\
Attaches like any detector and writes each frame once, as it comes: y4m for programs that read video,
rgb24 and gray as bare rows of bytes without a header (width and height are in camring status).

A stream of y4m or bare bytes has one size. When the camera changes its size, the output ends with a
message that names both sizes, and exit code 1; start it again.

Examples:
  camring pipe front-door --format y4m | ffplay -
  camring pipe front-door --format y4m -n 250 | ffmpeg -i - clip.mp4
  camring pipe front-door/sub --format gray --latest | ./my-detector 640 360")]
    Pipe(PipeArgs),

    /// Contact a camera and show what it offers and sends
    #[command(after_help = "\
Needs no daemon and no configuration: it speaks to the camera as a reader process does, receives for a
while and says what came, or at which stage it failed and what to do. Credentials may be part of the
URL; they are not shown. To keep them out of the list of processes, name a variable: ${NAME}.

The exit code is 1 if the camera sends no picture that could be decoded.

Examples:
  camring probe rtsp://192.0.2.10/stream1
  DOOR='se:cret@1' camring probe 'rtsp://viewer:${DOOR}@192.0.2.10/stream1' --transport udp
  camring probe rtsp://192.0.2.10/stream1 --seconds 30 --json | jq '.video, .measured'")]
    Probe(ProbeArgs),

    /// Find cameras on the network (ONVIF) and print them as configuration
    #[command(after_help = "\
Needs no daemon. Asks on the local network who is an ONVIF device, then asks each what it is and what it
streams, and prints a [[camera]] for each, with its main and sub stream, to standard output; what was
found and what was not is said on standard error. Nothing is written to the configuration; cameras that
are in it already are left out.

The login is shown to devices that answer, as a digest, and never to another address that one of them
names. Its password comes from --password-file, or from the variable that --password-env names, or is
asked for; the blocks have a reference in its place.

The exit code is 1 if no stream of any camera could be learnt.

Examples:
  camring discover
  camring discover --user viewer >> config.toml && camring check
  camring discover --interface eth1 --timeout 10s --table
  camring discover --address 192.0.2.10 --user viewer --password-file pw --json")]
    Discover(DiscoverArgs),

    /// Record a camera in the foreground, as it sends
    #[command(after_help = "\
camring run records by itself what [camera.record] says. This records one stream more, of a daemon
that is running: attached like any detector, without decoding, until SIGINT or SIGTERM. When the daemon
or the camera goes away, it waits for them.

Examples:
  camring hls front-door
  camring hls front-door/sub --data-dir /mnt/usb --segment 4s")]
    Hls(HlsArgs),

    /// Serve the recordings over HTTP, without the daemon
    #[command(after_help = "\
camring run starts a server by itself; this one is for a tree of recordings alone, copied from
elsewhere or left by a daemon that does not run. Cameras cannot be changed through it.

Examples:
  camring serve
  camring serve --config site.toml --listen 127.0.0.1:9000")]
    Serve(ServeArgs),

    /// Make users of the dashboard and the API
    #[command(subcommand)]
    User(UserCommand),

    /// Make tokens for programs that use the API
    #[command(subcommand)]
    Token(TokenCommand),

    /// Make the index of the recordings anew from the files
    #[command(after_help = "\
The index is an image of the recordings and follows them by itself: this is for when it is doubted.
Recordings, markers and protections stay as they are. No server may run on the same recordings.

Examples:
  camring reindex
  camring reindex --config site.toml")]
    Reindex(ReindexArgs),
}

/// `camring run`
#[derive(Args, Clone, Debug)]
pub struct RunArgs {}

/// `camring hls`
#[derive(Args, Clone, Debug)]
pub struct HlsArgs {
    /// The camera, or one of its streams: front-door, front-door/sub
    pub camera: String,

    /// The folder below which to record, in recordings/ [default: data_dir of the configuration]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// End a segment at the first key frame after this [default: as configured, or 2s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub segment: Option<Duration>,

    /// How long parts are at most [default: as configured, or 200ms]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub part: Option<Duration>,

    /// Where to attach.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring serve`
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Listen here instead of where the configuration says; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// `camring reindex`
#[derive(Args, Clone, Debug)]
pub struct ReindexArgs {}

/// `camring check`
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,

    /// Say which hardware can decode here, instead of checking the configuration
    #[arg(long)]
    pub hardware: bool,

    /// Warnings are errors: exit code 1
    #[arg(long)]
    pub strict: bool,

    /// Print a drop-in for the systemd unit: the addresses of this site's cameras and no others
    #[arg(long, conflicts_with = "json")]
    pub systemd: bool,
}

/// `camring reload`
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Go on, again and again after INTERVAL [default: 1s]
    #[arg(
        long, short, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s",
        value_parser = duration
    )]
    pub watch: Option<Duration>,

    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring top`
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// How often to look
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub interval: Duration,

    /// Where to ask.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring tail`
#[derive(Args, Clone, Debug)]
pub struct TailArgs {
    /// Whose frames.
    #[command(flatten)]
    pub frames_of: FramesOf,

    /// Print one JSON object for each frame
    #[arg(long)]
    pub json: bool,

    /// Stop after N frames
    #[arg(short = 'n', long = "frames", value_name = "N")]
    pub frames: Option<u64>,

    /// Take the newest frame each time, skipping those in between
    #[arg(long)]
    pub latest: bool,

    /// Show damaged frames as well
    #[arg(long)]
    pub corrupt: bool,

    /// Where to attach.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring snapshot`
#[derive(Args, Clone, Debug)]
pub struct SnapshotArgs {
    /// Whose frames.
    #[command(flatten)]
    pub frames_of: FramesOf,

    /// Where to write the JPEG; "-" is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// How long to wait for a frame
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,

    /// JPEG quality, 1 (small) to 100 (good)
    #[arg(
        long, value_name = "PERCENT", default_value_t = 90,
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub quality: u8,

    /// Where to attach.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// `camring pipe`
#[derive(Args, Clone, Debug)]
pub struct PipeArgs {
    /// Whose frames.
    #[command(flatten)]
    pub frames_of: FramesOf,

    /// What to write
    #[arg(long, short, value_enum)]
    pub format: PipeFormat,

    /// Stop after N frames
    #[arg(short = 'n', long = "frames", value_name = "N")]
    pub frames: Option<u64>,

    /// Take the newest frame each time, skipping those in between
    #[arg(long)]
    pub latest: bool,

    /// Write damaged frames as well
    #[arg(long)]
    pub corrupt: bool,

    /// Where to attach.
    #[command(flatten)]
    pub socket: SocketArg,
}

/// What `camring pipe` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PipeFormat {
    /// YUV4MPEG2: planes as decoded, with a header that ffmpeg, mpv and encoders read
    Y4m,
    /// Rows of R, G, B bytes, full range
    Rgb24,
    /// The luma plane, 8 bits, as decoded
    Gray,
}

/// `camring probe`
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// rtsp://host/path; with a login and a port: rtsp://user:password@host:554/path; `-`: the first line of
    /// standard input, so that no list of processes shows it
    pub url: String,

    /// How long to receive after the first picture
    #[arg(
        long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub seconds: u64,

    /// How RTP travels
    #[arg(long, value_enum, default_value_t = ProbeTransport::Tcp)]
    pub transport: ProbeTransport,

    /// Which RTSP client asks
    #[arg(long, value_enum, default_value_t = ProbeClient::Auto)]
    pub client: ProbeClient,

    /// With rtsps://, do not check the camera's certificate
    #[arg(long)]
    pub no_tls_verify: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// How `camring probe` receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeTransport {
    /// Interleaved in the RTSP connection
    Tcp,
    /// Ports of its own
    Udp,
    /// A multicast group that the camera names
    Multicast,
    /// Inside of HTTP
    Http,
}

/// Which RTSP client `camring probe` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeClient {
    /// As a reader would choose
    Auto,
    /// The retina crate
    Retina,
    /// libavformat
    Ffmpeg,
}

/// `camring discover`
#[derive(Args, Clone, Debug)]
pub struct DiscoverArgs {
    /// Ask on this interface, by name or by its IPv4 address; more than once for several [default:
    /// all that are up, but the loopback]
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    pub interface: Vec<String>,

    /// Ask this device, without looking for others; more than once for several
    #[arg(long, value_name = "HOST[:PORT]")]
    pub address: Vec<String>,

    /// How long to listen for devices
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub timeout: Duration,

    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// The file whose first line is the password
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        conflicts_with = "password_env"
    )]
    pub password_file: Option<PathBuf>,

    /// The environment variable that holds the password; blocks then refer to it
    #[arg(long, value_name = "NAME", requires = "user")]
    pub password_env: Option<String>,

    /// Print a table instead
    #[arg(long, conflicts_with = "json")]
    pub table: bool,

    /// Print JSON instead
    #[arg(long)]
    pub json: bool,

    /// Another port than that of WS-Discovery, for tests
    #[arg(long, hide = true, default_value_t = crate::onvif::discovery::PORT)]
    pub discovery_port: u16,
}

/// Which frames to look at.
#[derive(Args, Clone, Debug)]
pub struct FramesOf {
    /// The camera, one of its streams, or a view: front-door, front-door/sub, front-door:detect
    pub camera: String,

    /// The view of this name ([[camera.view]]) instead of the frames as the camera sends them
    #[arg(long, value_name = "NAME")]
    pub view: Option<String>,
}

impl FramesOf {
    /// What to attach to: `front-door:detect`.
    ///
    /// # Errors
    /// Two views are named.
    pub fn name(&self) -> anyhow::Result<String> {
        match &self.view {
            None => Ok(self.camera.clone()),
            Some(view) if self.camera.contains(':') => anyhow::bail!(
                "{} names a view already: leave out --view {view}",
                self.camera
            ),
            Some(view) => Ok(format!("{}:{view}", self.camera)),
        }
    }
}

/// Where the daemon listens.
#[derive(Args, Clone, Debug, Default)]
pub struct SocketArg {
    /// The daemon's socket [default: $CAMRING_SOCKET, then attach.sock in the runtime_dir of the
    /// configuration, then /run/camring/attach.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

fn log_format(text: &str) -> Result<config::LogFormat, String> {
    config::LogFormat::from_name(text)
        .ok_or_else(|| "must be auto, text, json or journal".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    match config::parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be a number and a unit, such as 500ms, 10s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn watch_takes_an_interval_or_none() {
        let watch = |args: &[&str]| match Cli::try_parse_from(args).map(|cli| cli.command) {
            Ok(Command::Status(args)) => Ok(args.watch),
            Ok(_) => panic!("another command"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(watch(&["camring", "status"]), Ok(None));
        let second = Some(Duration::from_secs(1));
        assert_eq!(watch(&["camring", "status", "--watch"]), Ok(second));
        assert_eq!(watch(&["camring", "status", "-w", "1s"]), Ok(second));
        assert!(watch(&["camring", "status", "--watch", "0s"]).is_err());
        assert!(watch(&["camring", "status", "--watch", "often"]).is_err());
    }

    #[test]
    fn config_may_stand_before_and_behind_the_command() {
        for args in [
            ["camring", "--config", "x", "check"],
            ["camring", "check", "-c", "x"],
        ] {
            let cli = Cli::try_parse_from(args).unwrap();
            assert_eq!(cli.global.config, Some(PathBuf::from("x")));
        }
    }
}
