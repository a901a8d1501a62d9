//! `camring probe URL`: what a camera offers and what it really sends, or where it fails and why.
//!
//! Promises: it speaks to the camera with the very code of a reader, so that what it sees is what a
//! reader would; every stage is bounded in time; it says goodbye to the camera (TEARDOWN).
//! Must never: print credentials or the path of the URL, where some cameras keep them.
#![deny(unsafe_code)]

mod report;

use std::io::{self, BufRead as _, Read as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use camring_ring::Codec;
use tokio::time::{sleep_until, timeout};

use crate::cli::{Global, ProbeArgs, ProbeClient, ProbeTransport};
use crate::cmd;
use crate::config::{self, Client, Environment};
use crate::media::parameters::{self, StreamParameters};
use crate::reader::client::{AnyConnector, AnySource, Choice};
use crate::reader::source::{
    AccessUnit, Connector as _, OfferedTrack, SenderReport, Source as _, SourceConfig, SourceError,
    SourceErrorKind, SourceEvent, Stage, StreamInfo, Transport, VideoCodec, limits,
};
use crate::reader::timeline::{Arrival, PTS_RATE, Timeline};

/// The longest URL that is read from standard input, in bytes.
pub const LONGEST_URL: usize = 8 << 10;

/// The URL cannot be used: exit code 1, like every other failure of a probe.
#[derive(Debug, thiserror::Error)]
#[error("the URL {0}")]
struct BadUrl(String);

/// All that is learnt about a camera, in the order in which it is.
#[derive(Debug)]
struct Findings {
    host: String,
    transport: Transport,
    client: Choice,
    address: Option<IpAddr>,
    /// From the beginning to the answer to PLAY.
    connected: Option<Duration>,
    offered: Vec<OfferedTrack>,
    info: Option<StreamInfo>,
    parameters: Option<StreamParameters>,
    measured: Measured,
    failure: Option<SourceError>,
}

/// What arrived.
#[derive(Debug, Default)]
struct Measured {
    /// From the beginning of the probe.
    first_unit: Option<Duration>,
    first_key: Option<Duration>,
    units: u64,
    bytes: u64,
    largest: usize,
    /// RTP times of the first and the newest unit, and their arrival in ns.
    rtp: Option<(i64, i64)>,
    arrival: Option<(u64, u64)>,
    clock_rate: u32,
    /// How far units arrived off the beat of their RTP times, in ns: least and most.
    jitter: Option<(i64, i64)>,
    /// Lengths of the groups of pictures seen whole.
    gops: Vec<u64>,
    since_key: Option<u64>,
    keys: u64,
    lost: u64,
    glitches: u64,
    last_glitch: Option<String>,
    oversize: u64,
    parameter_changes: u64,
    reports: u64,
    /// Camera's clock minus this machine's at the newest report, ns.
    clock_offset: Option<i64>,
    /// The reader would take its time from the reports.
    clock_believed: bool,
}

impl Measured {
    fn unit(&mut self, unit: &AccessUnit, since_start: Duration) {
        self.first_unit.get_or_insert(since_start);
        self.units += 1;
        self.bytes += unit.data.len() as u64;
        self.largest = self.largest.max(unit.data.len());
        self.lost += u64::from(unit.lost_before);
        self.clock_rate = unit.clock_rate;
        // The first unit brings the parameters; that is no change.
        self.parameter_changes += u64::from(unit.parameters_changed && self.units > 1);
        let rtp = self.rtp.get_or_insert((unit.rtp_time, unit.rtp_time));
        rtp.1 = unit.rtp_time;
        let arrival = self
            .arrival
            .get_or_insert((unit.arrival_ns, unit.arrival_ns));
        arrival.1 = unit.arrival_ns;
        let late = i128::from(unit.arrival_ns)
            - i128::from(arrival.0)
            - i128::from(rtp.1.saturating_sub(rtp.0)) * 1_000_000_000
                / i128::from(unit.clock_rate.max(1));
        let late = i64::try_from(late).unwrap_or(i64::MAX);
        let jitter = self.jitter.get_or_insert((late, late));
        *jitter = (jitter.0.min(late), jitter.1.max(late));
        if unit.key {
            self.first_key.get_or_insert(since_start);
            self.keys += 1;
            if let Some(length) = self.since_key.replace(1) {
                self.gops.push(length);
            }
        } else if let Some(length) = &mut self.since_key {
            *length += 1;
        }
    }

    /// Pictures per second by the camera's own clock.
    fn fps(&self) -> Option<f64> {
        let (first, last) = self.rtp?;
        let ticks = last.saturating_sub(first);
        (self.units > 1 && ticks > 0 && self.clock_rate > 0)
            .then(|| (self.units - 1) as f64 * f64::from(self.clock_rate) / ticks as f64)
    }

    /// From the first unit to the newest, in seconds of this machine.
    fn seconds(&self) -> f64 {
        let (first, last) = self.arrival.unwrap_or_default();
        last.saturating_sub(first) as f64 / 1e9
    }

    /// Bits per second: by the pictures' mean size, so that a window of some seconds does not
    /// have to begin and end at the same place of a group.
    fn bitrate(&self) -> Option<f64> {
        Some(self.bytes as f64 * 8.0 / self.units.max(1) as f64 * self.fps()?)
    }
}

/// Runs `camring probe`.
///
/// # Errors
/// The URL cannot be used, or the camera sends no picture that could be decoded (the text names
/// stage, cause and next step).
pub fn run(args: ProbeArgs, _global: &Global) -> anyhow::Result<()> {
    cmd::is_for_the_server()?;
    let written = match &*args.url {
        "-" => from_stdin().map_err(|error| BadUrl(error.to_string()))?,
        _ => args.url.clone(),
    };
    let (url, username, password) =
        config::camera_url(&written, &Environment::of_process()).map_err(BadUrl)?;
    // The URL's host stands for the camera, which has no name here.
    let mut config = SourceConfig::new("probe", url);
    config.username = username;
    config.password = password;
    config.transport = match args.transport {
        ProbeTransport::Tcp => Transport::Tcp,
        ProbeTransport::Udp => Transport::Udp,
        ProbeTransport::Multicast => Transport::Multicast,
        ProbeTransport::Http => Transport::Http,
    };
    config.tls_verify = !args.no_tls_verify;
    let client = match args.client {
        ProbeClient::Auto => Client::Auto,
        ProbeClient::Retina => Client::Retina,
        ProbeClient::Ffmpeg => Client::Ffmpeg,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let findings = runtime.block_on(probe(&config, client, Duration::from_secs(args.seconds)));
    // A name server that hangs holds a thread, which need not be waited for.
    runtime.shutdown_background();
    cmd::print(&match args.json {
        true => findings.json()?,
        false => findings.text(),
    })?;
    match findings.failure {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("{}: {}", error.host, error.reason())),
    }
}

/// The first line, as it is: nothing in it refers to a variable.
fn from_stdin() -> io::Result<String> {
    let mut line = String::new();
    let most = LONGEST_URL as u64 + 2;
    io::stdin().lock().take(most).read_line(&mut line)?;
    let line = line.trim_end_matches(['\r', '\n']);
    match line.len() <= LONGEST_URL {
        true => Ok(line.replace("${", "$${")),
        false => Err(io::Error::other(format!(
            "is longer than {LONGEST_URL} bytes"
        ))),
    }
}

async fn probe(config: &SourceConfig, client: Client, window: Duration) -> Findings {
    let start = Instant::now();
    let mut findings = Findings {
        host: config.host(),
        transport: config.transport,
        client: Choice::plan(client, config.url.scheme(), config.transport),
        address: None,
        connected: None,
        offered: Vec::new(),
        info: None,
        parameters: None,
        measured: Measured::default(),
        failure: None,
    };
    let connector = AnyConnector::new(client, |_| ());
    let source = async {
        let address = resolve(config).await?;
        findings.address = Some(address);
        connector.connect(config, address).await
    };
    match source.await {
        Err(error) => findings.failure = Some(error),
        Ok(mut source) => {
            findings.connected = Some(start.elapsed());
            findings.offered = source.offered();
            if let Err(error) = receive(config, &mut source, window, start, &mut findings).await {
                findings.failure = Some(error);
            }
            findings.info = Some(source.info().clone());
        }
    }
    connector.settle(limits::TEARDOWN_ON_STOP).await;
    findings
}

/// Receives for `window` after the first unit.
async fn receive(
    config: &SourceConfig,
    source: &mut AnySource,
    window: Duration,
    start: Instant,
    findings: &mut Findings,
) -> Result<(), SourceError> {
    let mut timeline = Timeline::new(PTS_RATE);
    timeline.restart(source.info().clock_rate);
    let mut until = Instant::now() + config.timeouts.first_unit;
    loop {
        let measured = &mut findings.measured;
        let event = tokio::select! {
            biased;
            () = sleep_until(until.into()) => {
                return match (measured.units, measured.keys) {
                    (0, _) => Err(config.error(
                        Stage::FirstUnit,
                        SourceErrorKind::Timeout(config.timeouts.first_unit),
                    )),
                    (_, 0) => Err(config.error(
                        Stage::FirstKeyFrame,
                        SourceErrorKind::NoKeyFrame(window),
                    )),
                    _ => Ok(()),
                };
            }
            event = source.next() => event?,
        };
        match event {
            SourceEvent::Unit(unit) => {
                if measured.units == 0 {
                    until = Instant::now() + window;
                }
                measured.unit(&unit, start.elapsed());
                let arrival = Arrival {
                    monotonic_ns: unit.arrival_ns,
                    utc_ns: unit.arrival_utc_ns,
                };
                let stamp = timeline.stamp(unit.rtp_time, arrival, unit.key);
                measured.clock_believed = stamp.from_sender_report;
                if unit.key {
                    let codec = ring_codec(unit.codec);
                    if let Some(found) = parameters::scan(codec, &unit.data).parameters {
                        findings.parameters = Some(found);
                    }
                }
            }
            SourceEvent::SenderReport(report) => {
                note_report(measured, &report);
                let arrival = Arrival {
                    monotonic_ns: report.arrival_ns,
                    utc_ns: report.arrival_utc_ns,
                };
                timeline.sender_report(report.ntp_utc_ns, report.rtp_time, arrival);
            }
            // Not asked for.
            SourceEvent::Audio(_) | SourceEvent::AudioReport(_) | SourceEvent::Sound(_) => {}
            SourceEvent::Oversize { .. } => measured.oversize += 1,
            SourceEvent::Glitch(what) => {
                measured.glitches += 1;
                measured.last_glitch = Some(what);
            }
        }
    }
}

fn note_report(measured: &mut Measured, report: &SenderReport) {
    measured.reports += 1;
    measured.clock_offset = Some(report.ntp_utc_ns.saturating_sub(report.arrival_utc_ns));
}

/// The camera's address, by this machine's resolver.
async fn resolve(config: &SourceConfig) -> Result<IpAddr, SourceError> {
    let fail = |kind| config.error(Stage::Resolve, kind);
    let host = config.url.host_str().unwrap_or_default();
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    let port = config.port();
    let lookup = tokio::task::spawn_blocking(move || (bare.as_str(), port).to_socket_addrs());
    let limit = config.timeouts.resolve;
    match timeout(limit, lookup).await {
        Err(_) => Err(fail(SourceErrorKind::Timeout(limit))),
        Ok(Ok(Ok(mut addresses))) => addresses
            .next()
            .map(|address| address.ip())
            .ok_or_else(|| fail(SourceErrorKind::Resolve("no address".into()))),
        Ok(Ok(Err(error))) => Err(fail(SourceErrorKind::Resolve(error.to_string()))),
        Ok(Err(_)) => Err(fail(SourceErrorKind::Resolve("the lookup failed".into()))),
    }
}

fn ring_codec(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Mjpeg => Codec::Mjpeg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_groups_are_measured_by_the_cameras_clock() {
        let mut measured = Measured::default();
        for n in 0..25u32 {
            let unit = AccessUnit {
                data: vec![0; 1000].into(),
                codec: VideoCodec::H264,
                key: n % 12 == 0,
                parameters_changed: n == 0,
                dimensions: None,
                rtp_time: i64::from(n) * 15_000,
                clock_rate: 90_000,
                // Late by 10 ms, every other one.
                arrival_ns: 1_000_000_000
                    + u64::from(n) * 166_666_667
                    + u64::from(n % 2) * 10_000_000,
                arrival_utc_ns: 0,
                lost_before: u32::from(n == 5),
            };
            measured.unit(&unit, Duration::from_millis(5));
        }
        assert_eq!(measured.fps(), Some(6.0));
        assert_eq!(measured.bitrate(), Some(48_000.0));
        assert_eq!(measured.gops, [12, 12]);
        assert_eq!((measured.keys, measured.lost), (3, 1));
        assert_eq!(measured.parameter_changes, 0);
    }
}
