//! `camring status --json`: the object, as served over the attach socket. Stable: fields are
//! added, never renamed or given another meaning.
#![deny(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::camera::{Camera, ViewReport};
pub use super::ends::Failures;
use super::rings::Rings;
use super::service::Phase;
use crate::config::View;
use crate::config::certificate::{CertificateStatus, Expiry};
use crate::control::RingKind;
use crate::health::{Activity, ClockSource, DecodesWith, Decoding, Sound, State};
use crate::reader::client::Choice;
use crate::sandbox::SandboxStatus;
use crate::sys::{clock, usage};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon's program.
    pub version: String,
    /// Of the supervisor.
    pub pid: u32,
    /// Of the template process; null while a new one is being warmed.
    pub spawner_pid: Option<i32>,
    /// `[site] name`.
    pub site: String,
    /// Since the daemon started.
    pub uptime_ms: u64,
    /// CPU time of the supervisor.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Resident memory of the supervisor; what it shares counts in full.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Clients connected to the attach socket.
    pub clients: usize,
    /// What rings may take and take.
    pub memory: MemoryStatus,
    /// What became of changes of the configuration.
    #[serde(default)]
    pub config: ConfigStatus,
    /// The process for HTTP and recordings; null: it is not wanted.
    #[serde(default)]
    pub http: Option<HttpStatus>,
    /// How processes are confined.
    #[serde(default)]
    pub sandbox: SandboxStatus,
    /// One for each stream, in the order of the configuration.
    pub cameras: Vec<CameraStatus>,
}

/// Changes of the configuration at run time: SIGHUP, `camring reload`, the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: Option<String>,
    /// Tries to change it since the daemon started.
    pub attempts: u64,
    /// Of those, applied.
    pub applied: u64,
    /// When the last one was, RFC 3339, UTC; null: there was none.
    pub last: Option<String>,
    /// What the last one changed, in words; null: it was refused.
    pub changes: Option<String>,
    /// Why the last one was refused; null: it was applied. The daemon runs on as it was.
    pub error: Option<String>,
}

/// Memory of the rings, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Size of all rings. What the budget counts.
    pub rings_bytes: u64,
    /// Of that, in rings that were replaced and still have subscribers.
    pub replaced_bytes: u64,
    /// Of that, not backed by memory yet.
    pub untouched_bytes: u64,
    /// `[limits] memory_total`; null: what the machine has to spare.
    pub limit_bytes: Option<u64>,
    /// What the machine, or the cgroup nearest to its limit, has left.
    pub available_bytes: Option<u64>,
    /// Which of them that is.
    pub available_source: Option<String>,
}

/// One stream of a camera. Counts are sums since the daemon started; what has no value yet is
/// null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraStatus {
    /// `front-door`, or `front-door/sub`.
    pub name: String,
    /// What its reader is doing.
    pub state: State,
    /// Why, in words.
    pub reason: String,
    /// Since when it is in this state, RFC 3339, UTC.
    pub since: String,
    /// Of its reader; null while there is none.
    pub pid: Option<i32>,
    /// Cores that the reader is pinned to; empty: any.
    pub cpus: Vec<u32>,
    /// The RTSP client that reads it: `retina` or `ffmpeg`; null until the first try.
    pub client: Option<String>,
    /// Why that one, in words.
    pub client_reason: Option<String>,
    /// `h264`, `h265`, `mjpeg`, …
    pub codec: Option<String>,
    /// Of the pictures, in pixels.
    pub width: Option<u64>,
    /// Of the pictures, in pixels.
    pub height: Option<u64>,
    /// Access units received per second, over the last 10 s.
    pub fps_in: f64,
    /// Pictures decoded per second, over the last 10 s.
    pub fps_decoded: f64,
    /// Frames published per second, over the last 10 s.
    pub fps_published: f64,
    /// What is decoded at the moment: `idle`, `catching-up` or `decoding`; null while there is no
    /// reader.
    pub decode: Option<Decoding>,
    /// What decodes: `software`, `cuda`, `vaapi`, `qsv` or `v4l2m2m`; null: nothing decoded yet.
    #[serde(default)]
    pub decoder: Option<DecodesWith>,
    /// Times that software took over from hardware, which the log explains.
    #[serde(default)]
    pub hardware_fallbacks: u64,
    /// Whether anything moves: `learning`, `quiet`, `moving` or `blind`; null unless
    /// `[decode] mode = "activity"` and a reader runs.
    pub activity: Option<Activity>,
    /// Since when that is so, RFC 3339, UTC.
    pub activity_since: Option<String>,
    /// Access units received.
    #[serde(default)]
    pub access_units: u64,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Frames published in the ring.
    pub frames_published: u64,
    /// Pictures that were not published, or are hidden by default.
    pub frames_dropped: FramesDropped,
    /// RTP packets that never came.
    pub rtp_packets_lost: u64,
    /// Errors in the stream that did not end the session.
    pub glitches: u64,
    /// RTSP sessions after a reader's first.
    pub reconnects: u64,
    /// Starts of the reader process after the first.
    pub restarts: u32,
    /// Ends of it that nobody had asked for, by reason.
    #[serde(default)]
    pub failures: Failures,
    /// Bytes of access units received.
    pub bytes_in: u64,
    /// Age of the last published frame.
    pub last_frame_age_ms: Option<u64>,
    /// From the arrival of a frame's last packet to its publication: half were faster. Over the
    /// last 10 s.
    pub latency_p50_ms: Option<f64>,
    /// The same: 99 % were faster.
    pub latency_p99_ms: Option<f64>,
    /// Frames by latency since the daemon started.
    #[serde(default)]
    pub latency: LatencyStatus,
    /// CPU time of the reader, in percent of one core, over the last 10 s.
    pub cpu_percent: f64,
    /// CPU time of all its readers, as of a second ago at most.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Proportional memory (PSS) of the reader, at most 10 s old. Where the kernel does not tell
    /// it: resident memory.
    pub memory_bytes: Option<u64>,
    /// Size of its rings.
    pub ring_bytes: u64,
    /// Subscriptions to its rings.
    pub subscribers: usize,
    /// Where capture times come from: `sender-report` or `arrival`.
    pub clock: Option<ClockSource>,
    /// What becomes of the camera's sound; null: it is not to be recorded, or nothing is known yet.
    #[serde(default)]
    pub audio: Option<Sound>,
    /// Frames of sound kept for recording.
    #[serde(default)]
    pub audio_frames: u64,
    /// One for each `[[camera.view]]`, in the order of the configuration.
    #[serde(default)]
    pub views: Vec<ViewStatus>,
    /// How it is recorded; null: it is not.
    #[serde(default)]
    pub recording: Option<RecordingStatus>,
}

/// Frames by latency: from the arrival of a frame's last packet to its publication. Sums since the daemon
/// started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// What all of them took together.
    pub sum_ms: f64,
    /// How many took less than 0.524288 ms, from there to twice that, and so on; the last figure is of
    /// those from 1073.741824 ms up. Exact: [`crate::health::LIMITS_NS`].
    pub counts: Vec<u64>,
}

/// The recording of a stream. Counts are sums since the daemon started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// `copy`, `encode`.
    pub mode: String,
    /// `waiting`, `recording`, `queued`, `disk-full`, `failed`; `backoff` while its process is down,
    /// `disabled` while the camera is not read.
    pub state: String,
    /// Why, in words; may be empty.
    pub reason: String,
    /// Since when its process is as it is, RFC 3339, UTC.
    pub since: String,
    /// Of its process; null while there is none.
    pub pid: Option<i32>,
    /// Segments finished, all renditions together.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Access units (`copy`) or frames (`encode`) written.
    pub units: u64,
    /// Those that were gone before they could be written.
    pub units_missed: u64,
    /// Discontinuities.
    pub gaps: u64,
    /// Writes that the disk refused.
    pub write_errors: u64,
    /// Age of the last finished segment.
    pub last_segment_age_ms: Option<u64>,
    /// Starts of the process after the first, but for those that were ordered.
    pub restarts: u32,
    /// Ends of it that nobody had asked for, by reason.
    #[serde(default)]
    pub failures: Failures,
    /// CPU time of the process, in percent of one core, over the last 10 s.
    pub cpu_percent: f64,
    /// CPU time of all its processes, as of a second ago at most.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Its proportional memory (PSS), at most 10 s old.
    pub memory_bytes: Option<u64>,
}

/// The process for HTTP and recordings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpStatus {
    /// `starting`, `running`, `failed`: it does not listen where it should; `backoff`: its process is
    /// down; `off`: `listen = "off"`, and it only keeps the recordings in order.
    pub state: String,
    /// Why, in words; may be empty.
    pub reason: String,
    /// Since when its process is as it is, RFC 3339, UTC.
    pub since: String,
    /// Where it listens: `127.0.0.1:8080`.
    pub address: Option<String>,
    /// How to go there: `http`, `https`.
    #[serde(default)]
    pub scheme: String,
    /// The certificate that is served; null: there is none.
    #[serde(default)]
    pub certificate: Option<CertificateStatus>,
    /// Of the process; null while there is none.
    pub pid: Option<i32>,
    /// Starts after the first, but for those that were ordered.
    pub restarts: u32,
    /// Ends of it that nobody had asked for, by reason.
    #[serde(default)]
    pub failures: Failures,
    /// CPU time of the process, in percent of one core, over the last 10 s.
    pub cpu_percent: f64,
    /// CPU time of all its processes, as of a second ago at most.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Its proportional memory (PSS), at most 10 s old.
    pub memory_bytes: Option<u64>,
}

/// Another shape of a stream's frames. Counts are sums since the daemon started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// Its own name: `detect`, attached to as `front-door:detect`.
    pub name: String,
    /// Of its pictures, in pixels.
    pub width: u32,
    /// Of its pictures, in pixels.
    pub height: u32,
    /// `i420`, `nv12`, `gray`, `rgb24`, `bgr24`.
    pub format: String,
    /// `stretch`, `letterbox`.
    pub fit: String,
    /// The most frames per second; null: all.
    pub max_fps: Option<f32>,
    /// Frames published per second, over the last 10 s.
    pub fps_published: f64,
    /// Frames published in its ring.
    pub frames_published: u64,
    /// Pictures that should have been published in it and were not.
    pub frames_dropped: ViewFramesDropped,
    /// Pictures converted. With nobody attached, this stands still.
    pub conversions: u64,
    /// What one conversion took, on average.
    pub conversion_ms: Option<f64>,
    /// What all of them took together.
    #[serde(default)]
    pub conversions_ms: f64,
    /// Subscriptions to it.
    pub subscribers: usize,
    /// Size of its ring. 0: nobody has ever looked.
    pub ring_bytes: u64,
}

/// Frames of a view by the reason why they are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewFramesDropped {
    /// All slots were held by subscribers.
    pub no_slot: u64,
    /// The kernel had no memory for a slot not used before.
    pub no_memory: u64,
    /// The scaler refused the picture.
    pub failed: u64,
}

/// Frames by the reason why they are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramesDropped {
    /// All slots were held by subscribers and decoder.
    pub no_slot: u64,
    /// The memory budget had no room for a ring of this picture size.
    pub no_memory: u64,
    /// Decoding did not keep up with the camera.
    pub overload: u64,
    /// `[decode] max_fps`.
    pub max_fps: u64,
    /// Damaged by loss: published, but hidden unless asked for.
    pub corrupt: u64,
    /// Before the first key frame of a session.
    pub before_key: u64,
    /// `[decode] mode = "keyframes"`.
    pub not_key: u64,
    /// `[decode] mode = "on-demand"`, and nobody looked. Counted by whole groups of pictures, once
    /// they are too old to begin with.
    pub not_wanted: u64,
    /// `[decode] mode = "on-demand"`: from before somebody looked, and the site's budget for
    /// catching up had no room before the next key frame came.
    pub catch_up: u64,
    /// `[decode] mode = "activity"`, and nothing moved. Counted by whole groups of pictures, since
    /// all of a group is decoded when something moves in it.
    pub quiet: u64,
    /// The decoder refused the access unit.
    pub decode_error: u64,
    /// The access unit was longer than any may be.
    pub oversize: u64,
}

/// Looks at everything.
pub(super) fn collect(supervisor: &Supervisor) -> Status {
    let ledger = supervisor.ledger(None);
    let cameras = supervisor.cameras();
    let replaced = cameras
        .iter()
        .map(|camera| camera.rings.borrow().bytes_replaced());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        spawner_pid: supervisor.template.pid(),
        site: supervisor.site().name.clone(),
        uptime_ms: supervisor.started.elapsed().as_millis() as u64,
        cpu_ms: usage::cpu_time_ns(rustix::process::getpid()).unwrap_or(0) / 1_000_000,
        memory_bytes: usage::resident_bytes(rustix::process::getpid()),
        clients: supervisor.clients.borrow().total(),
        memory: MemoryStatus {
            rings_bytes: ledger.site,
            replaced_bytes: replaced.sum(),
            untouched_bytes: ledger.untouched,
            limit_bytes: ledger.site_limit,
            available_bytes: ledger.headroom.as_ref().map(|h| h.bytes),
            available_source: ledger.headroom.map(|h| h.source),
        },
        config: config(supervisor),
        http: http(supervisor),
        sandbox: SandboxStatus::new(supervisor.site().sandbox),
        cameras: cameras.iter().map(|c| camera(supervisor, c)).collect(),
    }
}

fn config(supervisor: &Supervisor) -> ConfigStatus {
    let last = supervisor.reloads.last();
    let path = supervisor.options.config.as_ref();
    ConfigStatus {
        path: path.map(|path| path.display().to_string()),
        attempts: last.attempts,
        applied: last.applied,
        last: last.unix_ms.map(rfc3339),
        changes: last.changes,
        error: last.error,
    }
}

fn http(supervisor: &Supervisor) -> Option<HttpStatus> {
    let service = supervisor.server.report();
    let said = supervisor.server.job.report();
    let site = supervisor.site();
    let wanted = site.http.listen;
    let certificate = said.certificate_expires.map(Expiry);
    let state = match service.phase {
        Phase::Off => return None,
        Phase::Starting => "starting",
        Phase::Backoff => "backoff",
        Phase::Running if wanted.is_none() => "off",
        Phase::Running if said.address.is_none() => "failed",
        Phase::Running => "running",
    };
    Some(HttpStatus {
        state: state.to_owned(),
        reason: said.error.unwrap_or(service.reason),
        since: rfc3339(service.since_unix_ms),
        address: said.address,
        scheme: site.http.scheme().to_owned(),
        certificate: certificate.map(CertificateStatus::of),
        pid: service.pid,
        restarts: service.restarts,
        failures: service.failures,
        cpu_percent: round(service.cpu_percent),
        cpu_ms: service.cpu_ns / 1_000_000,
        memory_bytes: service.memory_bytes,
    })
}

fn recording(supervisor: &Supervisor, camera: &Camera) -> Option<RecordingStatus> {
    let stream = camera.wanted();
    if !stream.record.is_on() {
        return None;
    }
    let service = camera.recorder.report();
    let said = camera.recorder.job.report();
    let (state, reason) = match service.phase {
        Phase::Off => ("disabled", String::new()),
        Phase::Starting => ("waiting", service.reason),
        Phase::Backoff => ("backoff", service.reason),
        Phase::Running => (said.state.name(), said.reason),
    };
    let encoders = supervisor.encoders.borrow();
    let reason = match encoders.place_of(camera.index) {
        None => reason,
        Some(place) => format!(
            "waits for an encoder, in place {place}: {} at a time ([record] max_encoders)",
            encoders.places()
        ),
    };
    Some(RecordingStatus {
        mode: stream.record.mode.name().to_owned(),
        state: state.to_owned(),
        reason,
        since: rfc3339(service.since_unix_ms),
        pid: service.pid,
        segments: said.segments,
        bytes: said.bytes,
        units: said.units,
        units_missed: said.units_missed,
        gaps: said.gaps,
        write_errors: said.write_errors,
        last_segment_age_ms: said
            .last_segment_unix_ms
            .map(|then| clock::unix_ms().saturating_sub(then)),
        restarts: service.restarts,
        failures: service.failures,
        cpu_percent: round(service.cpu_percent),
        cpu_ms: service.cpu_ns / 1_000_000,
        memory_bytes: service.memory_bytes,
    })
}

fn camera(supervisor: &Supervisor, camera: &Camera) -> CameraStatus {
    let stream = camera.stream();
    let life = camera.life.borrow();
    let rings = camera.rings.borrow();
    let report = camera.report();
    let figures = report.figures;
    let known = |value: u64| Some(value).filter(|value| *value != 0);
    let client = Choice::from_word(figures.client);
    let codec = u32::try_from(figures.codec).ok();
    let codec = codec.and_then(camring_ring::Codec::from_u32);
    CameraStatus {
        name: camera.id.clone(),
        state: report.state,
        reason: report.reason,
        since: rfc3339(report.since_unix_ms),
        pid: life.pid.map(|pid| pid.as_raw_pid()),
        cpus: life.cpus.clone(),
        client: client.map(|choice| choice.client().to_owned()),
        client_reason: client.map(|choice| choice.reason().to_owned()),
        codec: codec.map(|codec| codec.name().to_owned()),
        width: known(figures.width),
        height: known(figures.height),
        fps_in: round(report.rates.units),
        fps_decoded: round(report.rates.decoded),
        fps_published: round(report.rates.published),
        decode: life.pid.and(Decoding::from_word(figures.decoding)),
        decoder: life.pid.and(DecodesWith::from_word(figures.decodes_with)),
        hardware_fallbacks: figures.hardware_fallbacks,
        activity: life.pid.and(Activity::from_word(figures.activity)),
        activity_since: life
            .pid
            .and(known(figures.activity_since_unix_ms))
            .map(rfc3339),
        access_units: figures.access_units,
        frames_decoded: figures.frames_decoded,
        frames_published: figures.frames_published,
        frames_dropped: FramesDropped {
            no_slot: figures.dropped_no_slot,
            no_memory: figures.dropped_no_memory,
            overload: figures.dropped_overload,
            max_fps: figures.dropped_max_fps,
            corrupt: figures.dropped_corrupt,
            before_key: figures.dropped_before_key,
            not_key: figures.dropped_not_key,
            not_wanted: figures.dropped_not_wanted,
            catch_up: figures.dropped_catch_up,
            quiet: figures.dropped_quiet,
            decode_error: figures.decode_errors,
            oversize: figures.dropped_oversize,
        },
        rtp_packets_lost: figures.rtp_lost,
        glitches: figures.glitches,
        reconnects: figures.reconnects,
        restarts: life.restarts,
        failures: life.failures,
        bytes_in: figures.bytes_in,
        last_frame_age_ms: known(figures.last_frame_ns)
            .map(|then| clock::monotonic_ns().saturating_sub(then) / 1_000_000),
        latency_p50_ms: report.latency_ms.map(|(p50, _)| round(p50)),
        latency_p99_ms: report.latency_ms.map(|(_, p99)| round(p99)),
        latency: LatencyStatus {
            sum_ms: round(figures.latency_ns as f64 / 1e6),
            counts: report.latency.coarse().to_vec(),
        },
        cpu_percent: round(report.rates.cpu_percent),
        cpu_ms: report.cpu_ns / 1_000_000,
        memory_bytes: report.memory_bytes,
        ring_bytes: rings.bytes_in_use() + rings.bytes_replaced(),
        subscribers: rings.subscribers(),
        clock: report.clock,
        audio: life.pid.and(Sound::from_word(figures.sound)),
        audio_frames: figures.audio_frames,
        views: (0..)
            .zip(&stream.views)
            .zip(&report.views)
            .map(|((index, view), report)| view_status(&rings, index, view, report))
            .collect(),
        recording: recording(supervisor, camera),
    }
}

fn view_status(rings: &Rings, index: u32, view: &View, report: &ViewReport) -> ViewStatus {
    let kind = RingKind::View(index);
    let figures = &report.figures;
    let mean_ns = figures.convert_ns.checked_div(figures.converted);
    ViewStatus {
        name: view.name.clone(),
        width: view.width,
        height: view.height,
        format: view.format.name().to_owned(),
        fit: view.fit.name().to_owned(),
        max_fps: view.fps,
        fps_published: round(report.rate),
        frames_published: figures.published,
        frames_dropped: ViewFramesDropped {
            no_slot: figures.dropped_no_slot,
            no_memory: figures.dropped_no_memory,
            failed: figures.failed,
        },
        conversions: figures.converted,
        conversion_ms: mean_ns.map(|ns| round(ns as f64 / 1e6)),
        conversions_ms: round(figures.convert_ns as f64 / 1e6),
        subscribers: rings.subscribers_of(kind),
        ring_bytes: rings.current(kind).map_or(0, |ring| ring.memory.len()),
    }
}

/// Three digits after the point are more than any of these figures is exact to.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn rfc3339(unix_ms: u64) -> String {
    // From a health page: any number at all.
    let ms = i64::try_from(unix_ms).unwrap_or(0);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_with_milliseconds_and_absurd_ones_the_epoch() {
        assert_eq!(rfc3339(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn names_are_snake_case_and_the_clock_as_documented() {
        assert_eq!(
            serde_json::to_string(&State::Unauthorized).unwrap(),
            "\"unauthorized\""
        );
        let clock = serde_json::to_string(&ClockSource::SenderReport).unwrap();
        assert_eq!(clock, "\"sender-report\"");
    }
}
