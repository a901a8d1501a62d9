//! All that is known of one stream, as lines of text.
#![deny(unsafe_code)]

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};

use super::draw::{Looks, bytes, sparkline, values};
use super::explain;
use super::model::{Line, Past};
use crate::cmd::status::{age, plain};
use crate::supervisor::status::{CameraStatus, Failures, RecordingStatus, ViewStatus};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Name and value, in columns.
fn pair(name: &str, value: impl Into<String>) -> Text<'static> {
    let name = Span::styled(format!("{name:<12}"), BOLD);
    Text::from(vec![name, Span::raw(plain(&value.into()))])
}

/// The lines.
pub fn lines(
    camera: &CameraStatus,
    past: Option<&Past>,
    width: u16,
    looks: Looks,
) -> Vec<Text<'static>> {
    let mut lines = vec![Text::from(vec![
        Span::styled(format!("{:<12}", "state"), BOLD),
        Span::styled(camera.state.name(), looks.state(camera.state)),
        Span::raw(format!(" since {}", plain(&camera.since))),
    ])];
    if !camera.reason.is_empty() {
        lines.push(pair("reason", &*camera.reason));
    }
    for advice in explain::of(camera) {
        lines.push(Text::default());
        let style = looks.paint(Color::Yellow).patch(BOLD);
        lines.push(Text::styled(advice.what, style));
        lines.push(Text::from(format!("  → {}", advice.next)));
    }
    lines.push(Text::default());
    lines.extend(figures(camera));
    if let Some(past) = past {
        lines.push(Text::default());
        let room = usize::from(width.saturating_sub(2 + 12));
        for (name, line) in [("fps", Line::Fps), ("p99 latency", Line::Latency)] {
            let values = values(past, line);
            let most = values.iter().copied().fold(0.0, f64::max);
            let drawn = sparkline(values, values.len().min(room), looks.unicode);
            lines.push(Text::from(vec![
                Span::styled(format!("{name:<12}"), BOLD),
                Span::styled(drawn, looks.paint(Color::Cyan)),
            ]));
            let unit = if line == Line::Fps { "" } else { " ms" };
            lines.push(pair(
                "",
                format!("0 to {most:.1}{unit}, last {} looks", values.len()),
            ));
        }
    }
    if let Some(recording) = &camera.recording {
        lines.push(Text::default());
        lines.extend(recorded(recording));
    }
    for view in &camera.views {
        lines.push(Text::default());
        lines.extend(viewed(view));
    }
    lines
}

fn figures(camera: &CameraStatus) -> Vec<Text<'static>> {
    let size = match (camera.width, camera.height) {
        (Some(width), Some(height)) => format!(" {width}x{height}"),
        _ => String::new(),
    };
    let codec = camera.codec.as_deref().unwrap_or("codec not known yet");
    let client = camera.client.as_deref().unwrap_or("none yet");
    let why = camera.client_reason.as_deref().unwrap_or_default();
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let d = &camera.frames_dropped;
    let drops: Vec<String> = [
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
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(reason, count)| format!("{reason} {count}"))
    .collect();
    let cores: Vec<String> = camera.cpus.iter().map(u32::to_string).collect();
    vec![
        pair("stream", format!("{codec}{size}, by {client} ({why})")),
        pair(
            "frames/s",
            format!(
                "{:.1} received, {:.1} decoded, {:.1} published",
                camera.fps_in, camera.fps_decoded, camera.fps_published
            ),
        ),
        pair(
            "frames",
            format!(
                "{} received, {} decoded, {} published",
                camera.access_units, camera.frames_decoded, camera.frames_published
            ),
        ),
        pair(
            "dropped",
            match drops.is_empty() {
                true => "none".to_owned(),
                false => drops.join(", "),
            },
        ),
        pair(
            "last frame",
            camera
                .last_frame_age_ms
                .map_or_else(|| "none yet".to_owned(), |ms| format!("{} ago", age(ms))),
        ),
        pair(
            "latency",
            format!(
                "half under {}, 99 % under {}",
                ms(camera.latency_p50_ms),
                ms(camera.latency_p99_ms)
            ),
        ),
        pair(
            "network",
            format!(
                "{} received, {} packets lost, {} glitches, {} reconnects",
                bytes(camera.bytes_in),
                camera.rtp_packets_lost,
                camera.glitches,
                camera.reconnects
            ),
        ),
        pair("subscribers", camera.subscribers.to_string()),
        pair(
            "process",
            format!(
                "{}, {:.1} % of a core, {}, cores {}, rings {}",
                pid(camera.pid),
                camera.cpu_percent,
                memory(camera.memory_bytes),
                if cores.is_empty() {
                    "any".to_owned()
                } else {
                    cores.join(" ")
                },
                bytes(camera.ring_bytes)
            ),
        ),
        pair("restarts", restarts(camera.restarts, &camera.failures)),
    ]
}

fn pid(pid: Option<i32>) -> String {
    pid.map_or_else(|| "none".to_owned(), |pid| format!("pid {pid}"))
}

fn memory(count: Option<u64>) -> String {
    count.map_or_else(|| "memory not known".to_owned(), bytes)
}

fn restarts(restarts: u32, failures: &Failures) -> String {
    let why: Vec<String> = [
        ("exit", failures.exit),
        ("crash", failures.crash),
        ("killed", failures.killed),
        ("unresponsive", failures.unresponsive),
        ("not_started", failures.not_started),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(reason, count)| format!("{reason} {count}"))
    .collect();
    match why.is_empty() {
        true => restarts.to_string(),
        false => format!("{restarts} ({})", why.join(", ")),
    }
}

fn recorded(r: &RecordingStatus) -> Vec<Text<'static>> {
    let reason = match r.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", r.reason),
    };
    vec![
        pair("recording", format!("{} ({}){reason}", r.state, r.mode)),
        pair(
            "",
            format!(
                "{} segments, {}, {} missed, {} gaps, {} write errors",
                r.segments,
                bytes(r.bytes),
                r.units_missed,
                r.gaps,
                r.write_errors
            ),
        ),
        pair(
            "",
            format!(
                "{}, {:.1} % of a core, {}, restarts {}",
                pid(r.pid),
                r.cpu_percent,
                memory(r.memory_bytes),
                restarts(r.restarts, &r.failures)
            ),
        ),
    ]
}

fn viewed(v: &ViewStatus) -> Vec<Text<'static>> {
    let (d, name) = (&v.frames_dropped, &v.name);
    vec![
        pair(
            "view",
            format!("{name}: {}x{} {}, {}", v.width, v.height, v.format, v.fit),
        ),
        pair(
            "",
            format!(
                "{:.1} frames/s, {} subscribers, ring {}, dropped {}",
                v.fps_published,
                v.subscribers,
                bytes(v.ring_bytes),
                d.no_slot
                    .saturating_add(d.no_memory)
                    .saturating_add(d.failed)
            ),
        ),
    ]
}
