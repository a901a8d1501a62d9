//! Of the metrics, what the daemon says: cameras, recordings, processes.
#![deny(unsafe_code)]

use std::fmt;

use super::table::*;
use super::write::{Label, Writer};
use crate::health::{Activity, ClockSource, DecodesWith, Decoding, LIMITS_NS, State};
use crate::serve::retention::camera_of;
use crate::supervisor::status::{CameraStatus, Failures, RecordingStatus, Status, ViewStatus};

/// The states of a recording, as in `camring status`.
const RECORDING_STATES: [&str; 7] = [
    "waiting",
    "recording",
    "queued",
    "disk-full",
    "failed",
    "backoff",
    "disabled",
];

const STATES: [State; 7] = [
    State::Connecting,
    State::Streaming,
    State::Stalled,
    State::Backoff,
    State::Unauthorized,
    State::Failed,
    State::Disabled,
];

/// Writes all of it. `None`: no daemon answers.
pub fn write(w: &mut Writer<'_>, status: Option<&Status>) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    w.family(&BUILD_INFO, |f| f.value(&version, 1.0))?;
    w.one(&DAEMON_UP, u8::from(status.is_some()))?;
    let Some(status) = status else {
        return Ok(());
    };
    site(w, status)?;
    processes(w, status)?;
    streams(w, &status.cameras)?;
    views(w, &status.cameras)?;
    recordings(w, &status.cameras)
}

fn site(w: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let memory = &status.memory;
    w.one(&DAEMON_UPTIME, status.uptime_ms as f64 / 1e3)?;
    w.one(&CLIENTS, status.clients as f64)?;
    w.one(&RINGS, memory.rings_bytes as f64)?;
    w.one(&RINGS_REPLACED, memory.replaced_bytes as f64)?;
    w.one(&RINGS_UNTOUCHED, memory.untouched_bytes as f64)?;
    w.maybe(&RINGS_LIMIT, memory.limit_bytes.map(|bytes| bytes as f64))?;
    let available = memory.available_bytes.map(|bytes| bytes as f64);
    w.maybe(&MEMORY_AVAILABLE, available)?;
    let config = &status.config;
    w.family(&CONFIG_ATTEMPTS, |f| {
        let refused = config.attempts.saturating_sub(config.applied);
        f.count(&[("result", "applied")], config.applied)?;
        f.count(&[("result", "refused")], refused)
    })?;
    w.one(&CONFIG_REFUSED, u8::from(config.error.is_some()))
}

/// One process, or those that were in its place one after the other.
struct Process<'a> {
    labels: Vec<Label<'a>>,
    up: bool,
    cpu_ms: Option<u64>,
    memory: Option<u64>,
    restarts: Option<u32>,
    failures: Option<Failures>,
}

fn processes(w: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let mut all = vec![
        Process {
            labels: vec![("process", "supervisor")],
            up: true,
            cpu_ms: Some(status.cpu_ms),
            memory: status.memory_bytes,
            restarts: None,
            failures: None,
        },
        Process {
            labels: vec![("process", "spawner")],
            up: status.spawner_pid.is_some(),
            cpu_ms: None,
            memory: None,
            restarts: None,
            failures: None,
        },
    ];
    all.extend(status.http.iter().map(|http| Process {
        labels: vec![("process", "serve")],
        up: http.pid.is_some(),
        cpu_ms: Some(http.cpu_ms),
        memory: http.memory_bytes,
        restarts: Some(http.restarts),
        failures: Some(http.failures),
    }));
    for camera in &status.cameras {
        let labels = |process| {
            let [camera, stream] = of(camera);
            vec![("process", process), camera, stream]
        };
        if camera.state != State::Disabled {
            all.push(Process {
                labels: labels("reader"),
                up: camera.pid.is_some(),
                cpu_ms: Some(camera.cpu_ms),
                memory: camera.memory_bytes,
                restarts: Some(camera.restarts),
                failures: Some(camera.failures),
            });
        }
        let recording = camera.recording.as_ref();
        let wanted = recording.filter(|recording| recording.state != "disabled");
        all.extend(wanted.map(|recording| Process {
            labels: labels("recorder"),
            up: recording.pid.is_some(),
            cpu_ms: Some(recording.cpu_ms),
            memory: recording.memory_bytes,
            restarts: Some(recording.restarts),
            failures: Some(recording.failures),
        }));
    }
    w.family(&PROCESS_UP, |f| {
        let mut each = all.iter();
        each.try_for_each(|p| f.value(&p.labels, f64::from(u8::from(p.up))))
    })?;
    w.family(&PROCESS_CPU, |f| {
        let mut known = all.iter().filter_map(|p| Some((p, p.cpu_ms?)));
        known.try_for_each(|(p, ms)| f.value(&p.labels, ms as f64 / 1e3))
    })?;
    w.family(&PROCESS_MEMORY, |f| {
        let mut known = all.iter().filter_map(|p| Some((p, p.memory?)));
        known.try_for_each(|(p, bytes)| f.value(&p.labels, bytes as f64))
    })?;
    w.family(&PROCESS_RESTARTS, |f| {
        let mut known = all.iter().filter_map(|p| Some((p, p.restarts?)));
        known.try_for_each(|(p, count)| f.count(&p.labels, u64::from(count)))
    })?;
    w.family(&PROCESS_FAILURES, |f| {
        for (process, failures) in all.iter().filter_map(|p| Some((p, p.failures?))) {
            let mut labels = process.labels.clone();
            for (reason, count) in [
                ("exit", failures.exit),
                ("crash", failures.crash),
                ("killed", failures.killed),
                ("unresponsive", failures.unresponsive),
                ("not_started", failures.not_started),
            ] {
                labels.push(("reason", reason));
                f.count(&labels, count)?;
                labels.pop();
            }
        }
        Ok(())
    })
}

/// The labels of a stream.
fn of(camera: &CameraStatus) -> [Label<'_>; 2] {
    [
        ("camera", camera_of(&camera.name)),
        ("stream", camera.name.as_str()),
    ]
}

/// The labels of a stream with one more.
fn with<'a>(camera: &'a CameraStatus, label: Label<'a>) -> [Label<'a>; 3] {
    let [camera, stream] = of(camera);
    [camera, stream, label]
}

fn streams(w: &mut Writer<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    w.family(&STREAM_INFO, |f| {
        cameras.iter().try_for_each(|c| {
            let [camera, stream] = of(c);
            let codec = ("codec", c.codec.as_deref().unwrap_or_default());
            let client = ("client", c.client.as_deref().unwrap_or_default());
            let backend = ("backend", c.decoder.map_or("", DecodesWith::name));
            f.value(&[camera, stream, codec, client, backend], 1.0)
        })
    })?;
    let states = STATES.map(State::name);
    w.family(&STREAM_STATE, |f| {
        let mut each = cameras.iter();
        each.try_for_each(|c| f.one_of(&of(c), "state", &states, c.state.name()))
    })?;
    type Gauge = fn(&CameraStatus) -> Option<f64>;
    let gauges: [(&'static Metric, Gauge); 9] = [
        (&STREAM_SINCE, |c| unix_seconds(&c.since)),
        (&STREAM_WIDTH, |c| c.width.map(|n| n as f64)),
        (&STREAM_HEIGHT, |c| c.height.map(|n| n as f64)),
        (&STREAM_AGE, |c| {
            c.last_frame_age_ms.map(|ms| ms as f64 / 1e3)
        }),
        (&STREAM_SUBSCRIBERS, |c| Some(c.subscribers as f64)),
        (&STREAM_RINGS, |c| Some(c.ring_bytes as f64)),
        (&STREAM_DECODING, |c| {
            Some(flag(c.decode? != Decoding::Idle))
        }),
        (&STREAM_MOVING, |c| match c.activity? {
            Activity::Moving => Some(1.0),
            Activity::Quiet => Some(0.0),
            Activity::Learning | Activity::Blind => None,
        }),
        (&STREAM_CLOCK, |c| {
            Some(flag(c.clock? == ClockSource::SenderReport))
        }),
    ];
    for (metric, value) in gauges {
        w.family(metric, |f| {
            let mut known = cameras.iter().filter_map(|c| Some((c, value(c)?)));
            known.try_for_each(|(c, value)| f.value(&of(c), value))
        })?;
    }
    type Counter = fn(&CameraStatus) -> u64;
    let counters: [(&'static Metric, Counter); 9] = [
        (&STREAM_RECEIVED, |c| c.bytes_in),
        (&STREAM_UNITS, |c| c.access_units),
        (&STREAM_DECODED, |c| c.frames_decoded),
        (&STREAM_PUBLISHED, |c| c.frames_published),
        (&STREAM_LOST, |c| c.rtp_packets_lost),
        (&STREAM_GLITCHES, |c| c.glitches),
        (&STREAM_RECONNECTS, |c| c.reconnects),
        (&STREAM_AUDIO, |c| c.audio_frames),
        (&STREAM_FALLBACKS, |c| c.hardware_fallbacks),
    ];
    for (metric, count) in counters {
        let mut each = cameras.iter();
        w.family(metric, |f| each.try_for_each(|c| f.count(&of(c), count(c))))?;
    }
    w.family(&STREAM_DROPPED, |f| {
        for camera in cameras {
            let d = &camera.frames_dropped;
            for (reason, count) in [
                ("no_slot", d.no_slot),
                ("no_memory", d.no_memory),
                ("overload", d.overload),
                ("max_fps", d.max_fps),
                ("corrupt", d.corrupt),
                ("before_key", d.before_key),
                ("not_key", d.not_key),
                ("not_wanted", d.not_wanted),
                ("catch_up", d.catch_up),
                ("quiet", d.quiet),
                ("decode_error", d.decode_error),
                ("oversize", d.oversize),
            ] {
                f.count(&with(camera, ("reason", reason)), count)?;
            }
        }
        Ok(())
    })?;
    w.family(&STREAM_LATENCY, |f| {
        for camera in cameras {
            let latency = &camera.latency;
            // Another version's daemon may tell other limits.
            if latency.counts.len() != LIMITS_NS.len() + 1 {
                continue;
            }
            let limits = LIMITS_NS.iter().map(|ns| *ns as f64 / 1e9);
            f.histogram(&of(camera), latency.sum_ms / 1e3, limits, &latency.counts)?;
        }
        Ok(())
    })
}

fn views(w: &mut Writer<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    fn of_camera(camera: &CameraStatus) -> impl Iterator<Item = (&CameraStatus, &ViewStatus)> {
        camera.views.iter().map(move |view| (camera, view))
    }
    let all = || cameras.iter().flat_map(of_camera);
    type Counter = fn(&ViewStatus) -> u64;
    let counters: [(&'static Metric, Counter); 2] = [
        (&VIEW_PUBLISHED, |v| v.frames_published),
        (&VIEW_CONVERSIONS, |v| v.conversions),
    ];
    for (metric, count) in counters {
        w.family(metric, |f| {
            all().try_for_each(|(c, v)| f.count(&with(c, ("view", &v.name)), count(v)))
        })?;
    }
    w.family(&VIEW_DROPPED, |f| {
        for (camera, view) in all() {
            let [camera, stream, name] = with(camera, ("view", &view.name));
            let d = &view.frames_dropped;
            for (reason, count) in [
                ("no_slot", d.no_slot),
                ("no_memory", d.no_memory),
                ("failed", d.failed),
            ] {
                f.count(&[camera, stream, name, ("reason", reason)], count)?;
            }
        }
        Ok(())
    })?;
    type Value = fn(&ViewStatus) -> f64;
    let values: [(&'static Metric, Value); 3] = [
        (&VIEW_CONVERTING, |v| v.conversions_ms / 1e3),
        (&VIEW_SUBSCRIBERS, |v| v.subscribers as f64),
        (&VIEW_RING, |v| v.ring_bytes as f64),
    ];
    for (metric, value) in values {
        w.family(metric, |f| {
            all().try_for_each(|(c, v)| f.value(&with(c, ("view", &v.name)), value(v)))
        })?;
    }
    Ok(())
}

fn recordings(w: &mut Writer<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    fn recorded(camera: &CameraStatus) -> Option<(&CameraStatus, &RecordingStatus)> {
        Some((camera, camera.recording.as_ref()?))
    }
    let all = || cameras.iter().filter_map(recorded);
    w.family(&RECORDING_STATE, |f| {
        all().try_for_each(|(c, r)| f.one_of(&of(c), "state", &RECORDING_STATES, &r.state))
    })?;
    type Counter = fn(&RecordingStatus) -> u64;
    let counters: [(&'static Metric, Counter); 6] = [
        (&RECORDING_SEGMENTS, |r| r.segments),
        (&RECORDING_WRITTEN, |r| r.bytes),
        (&RECORDING_UNITS, |r| r.units),
        (&RECORDING_MISSED, |r| r.units_missed),
        (&RECORDING_GAPS, |r| r.gaps),
        (&RECORDING_ERRORS, |r| r.write_errors),
    ];
    for (metric, count) in counters {
        w.family(metric, |f| {
            all().try_for_each(|(c, r)| f.count(&of(c), count(r)))
        })?;
    }
    w.family(&RECORDING_AGE, |f| {
        let mut known = all().filter_map(|(c, r)| Some((c, r.last_segment_age_ms?)));
        known.try_for_each(|(c, ms)| f.value(&of(c), ms as f64 / 1e3))
    })
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn unix_seconds(rfc3339: &str) -> Option<f64> {
    let time: jiff::Timestamp = rfc3339.parse().ok()?;
    Some(time.as_millisecond() as f64 / 1e3)
}
