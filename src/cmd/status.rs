//! `camring status`: what the daemon says of its cameras, as a table or as JSON.
//!
//! Promises: `--json` prints the daemon's own object, untouched; the table shows every camera and
//! the reason of each that does not stream; `--watch` redraws in place, or prints anew where the
//! output is no terminal.
//! Must never: fail on a field that another version of the daemon does not send.
#![deny(unsafe_code)]

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use camring_ring::{AttachError, Client};
use serde_json::Value;

use crate::cli::{Global, StatusArgs};
use crate::cmd;

/// Clears from the cursor to the end of the line, and below it: redrawing without flicker.
const END_OF_LINE: &str = "\x1b[K";
const HOME: &str = "\x1b[H";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";

/// How often a daemon is connected to anew, and how long to wait before it.
const TRIES: u32 = 20;
const MOMENT: Duration = Duration::from_millis(50);

/// Runs `camring status`.
///
/// # Errors
/// No daemon (exit code 3), or standard output cannot be written.
pub fn run(args: StatusArgs, global: &Global) -> anyhow::Result<()> {
    let socket = cmd::socket(&args.socket, global)?;
    let mut client = cmd::connect(&socket)?;
    let Some(period) = args.watch else {
        return print(&client.status_json()?, args.json, false);
    };
    let in_place = io::stdout().is_terminal() && !args.json;
    if in_place {
        cmd::print(CLEAR)?;
    }
    let mut next = Instant::now();
    loop {
        let text = ask(&mut client, &socket)?;
        print(&text, args.json, in_place)?;
        next = (next + period).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Asks, and connects again where the daemon was restarted meanwhile. One that is about to end still takes
/// connections, and says nothing on them: then there is none a moment later, or another one.
fn ask(client: &mut Client, socket: &Path) -> anyhow::Result<String> {
    let mut tries = 0..TRIES;
    loop {
        match client.status_json() {
            Err(AttachError::Disconnected | AttachError::Io(_)) if tries.next().is_some() => {
                std::thread::sleep(MOMENT);
                *client = cmd::connect(socket)?;
            }
            answer => return Ok(answer?),
        }
    }
}

fn print(text: &str, json: bool, in_place: bool) -> anyhow::Result<()> {
    if json {
        return Ok(cmd::print(&format!("{}\n", text.trim_end()))?);
    }
    let status: Value = serde_json::from_str(text)
        .context("the daemon's status is not JSON: is it of another version?")?;
    if !in_place {
        return Ok(cmd::print(&table(&status, None))?);
    }
    let lines: String = table(&status, columns())
        .lines()
        .map(|line| format!("{line}{END_OF_LINE}\n"))
        .collect();
    Ok(cmd::print(&format!("{HOME}{lines}{CLEAR_BELOW}"))?)
}

/// Width of the terminal, so that a redrawn line never wraps.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// One row for each camera, and a line with the reason under those that need one.
fn table(status: &Value, columns: Option<usize>) -> String {
    const HEADINGS: [&str; 12] = [
        "CAMERA", "STATE", "CODEC", "SIZE", "FPS", "AGE", "LATENCY", "CPU", "MEMORY", "SUBS",
        "DROPPED", "LOST",
    ];
    let cameras: &[Value] = status["cameras"].as_array().map_or(&[], Vec::as_slice);
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    rows.extend(cameras.iter().map(|camera| row(camera).to_vec()));
    if cameras.iter().any(|camera| camera["recording"].is_object()) {
        rows[0].push("RECORDING".to_owned());
        let states = cameras.iter().map(|camera| &camera["recording"]["state"]);
        for (row, state) in rows[1..].iter_mut().zip(states) {
            row.push(text(state));
        }
    }
    let mut widths = [0usize; 13];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = vec![heading(status, cameras)];
    lines.extend(trouble(status));
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = width - cell.chars().count();
            // Words to the left, figures to the right.
            if column < 4 || column == 12 {
                line += &format!("{cell}{:gap$}  ", "");
            } else {
                line += &format!("{:gap$}{cell}  ", "");
            }
        }
        lines.push(line.trim_end().to_owned());
        let Some(camera) = index.checked_sub(1).map(|index| &cameras[index]) else {
            continue;
        };
        if let Some(reason) = reason(camera) {
            lines.push(format!("  └ {reason}"));
        }
        let recording = &camera["recording"];
        if recording["state"] != "recording"
            && let Some(reason) = recording["reason"].as_str().filter(|r| !r.is_empty())
        {
            lines.push(format!("  └ recording: {}", plain(reason)));
        }
        let views = camera["views"].as_array();
        lines.extend(views.into_iter().flatten().map(view));
    }
    let most = columns.unwrap_or(usize::MAX);
    lines
        .iter()
        .map(|line| line.chars().take(most).collect::<String>() + "\n")
        .collect()
}

fn heading(status: &Value, cameras: &[Value]) -> String {
    let streaming = cameras
        .iter()
        .filter(|camera| camera["state"] == "streaming")
        .count();
    let up = status["uptime_ms"]
        .as_u64()
        .map_or_else(|| "?".to_owned(), |ms| duration(ms / 1000));
    let http = status["http"]["address"].as_str();
    format!(
        "{}: {streaming} of {} streaming, up {up}, {} promised to rings{}",
        text(&status["site"]),
        cameras.len(),
        bytes(&status["memory"]["rings_bytes"]),
        http.map_or_else(String::new, |address| format!(
            ", {}://{}/",
            match status["http"]["scheme"].as_str() {
                Some("https") => "https",
                _ => "http",
            },
            plain(address)
        )),
    )
}

/// What concerns the whole site, if anything is the matter.
fn trouble(status: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let http = &status["http"];
    if let Some(state @ ("failed" | "backoff")) = http["state"].as_str() {
        lines.push(format!("  └ http {state}: {}", text(&http["reason"])));
    }
    if let Some(trouble) = http["certificate"]["trouble"].as_str() {
        lines.push(format!("  └ the certificate {}", plain(trouble)));
    }
    let config = &status["config"];
    if let Some(error) = config["error"].as_str() {
        let first = error.lines().next().unwrap_or_default();
        lines.push(format!(
            "  └ the configuration was refused at {}, the one before holds: {}",
            text(&config["last"]),
            plain(first)
        ));
    }
    lines
}

fn row(camera: &Value) -> [String; 12] {
    let dropped: u64 = camera["frames_dropped"].as_object().map_or(0, |reasons| {
        // What nobody wanted is nobody's loss.
        let wanted = |reason: &str| !matches!(reason, "not_wanted" | "quiet");
        let lost = reasons.iter().filter(|(reason, _)| wanted(reason));
        lost.filter_map(|(_, count)| count.as_u64()).sum()
    });
    let size = match (camera["width"].as_u64(), camera["height"].as_u64()) {
        (Some(width), Some(height)) => format!("{width}x{height}"),
        _ => "-".to_owned(),
    };
    [
        text(&camera["name"]),
        text(&camera["state"]),
        text(&camera["codec"]),
        size,
        if camera["decode"] == "idle" {
            "idle".to_owned()
        } else if camera["activity"] == "quiet" {
            "quiet".to_owned()
        } else {
            number(&camera["fps_published"], 1, "")
        },
        camera["last_frame_age_ms"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), age),
        match camera["latency_p50_ms"].as_f64() {
            Some(p50) => format!("{p50:.1}/{}", number(&camera["latency_p99_ms"], 1, "ms")),
            None => "-".to_owned(),
        },
        number(&camera["cpu_percent"], 1, "%"),
        bytes(&camera["memory_bytes"]),
        number(&camera["subscribers"], 0, ""),
        dropped.to_string(),
        number(&camera["rtp_packets_lost"], 0, ""),
    ]
}

/// A view, under its camera.
fn view(view: &Value) -> String {
    let dropped = view["frames_dropped"].as_object();
    let dropped: u64 = dropped.map_or(0, |reasons| {
        reasons.values().filter_map(Value::as_u64).sum()
    });
    let looked_at = view["subscribers"] != 0;
    format!(
        "  :{} {}x{} {}{}, subs {}, ring {}{}",
        text(&view["name"]),
        number(&view["width"], 0, ""),
        number(&view["height"], 0, ""),
        text(&view["format"]),
        match looked_at {
            true => format!(", {}", number(&view["fps_published"], 1, " fps")),
            false => ", idle".to_owned(),
        },
        number(&view["subscribers"], 0, ""),
        bytes(&view["ring_bytes"]),
        match dropped {
            0 => String::new(),
            dropped => format!(", dropped {dropped}"),
        },
    )
}

/// Why a camera is not streaming; or, if it is, why it is not read by the usual client.
fn reason(camera: &Value) -> Option<String> {
    if camera["state"] == "streaming" && camera["client"] == "ffmpeg" {
        return Some(format!("by ffmpeg: {}", text(&camera["client_reason"])));
    }
    let reason = camera["reason"]
        .as_str()
        .filter(|reason| !reason.is_empty())?;
    (camera["state"] != "streaming").then(|| plain(reason))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), plain)
}

/// Without control characters: parts of it may come from a camera.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn number(value: &Value, decimals: usize, unit: &str) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |n| format!("{n:.decimals$}{unit}"))
}

fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(
        || "-".to_owned(),
        |n| bytesize::ByteSize(n).display().iec_short().to_string(),
    )
}

pub(super) fn age(ms: u64) -> String {
    if ms < 10_000 {
        format!("{ms}ms")
    } else {
        duration(ms / 1000)
    }
}

pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m{:02}s", s / 60, s % 60),
        s if s < 86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        s => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_figures_and_reasons() {
        let status = json!({
            "site": "demo", "uptime_ms": 65_000, "memory": {"rings_bytes": 50 << 20},
            "cameras": [
                {"name": "front-door", "state": "streaming", "reason": "", "codec": "h264", "width": 1280,
                 "height": 720, "fps_published": 15.02, "last_frame_age_ms": 31, "latency_p50_ms": 3.21,
                 "latency_p99_ms": 8.04, "cpu_percent": 7.5, "memory_bytes": 12 << 20, "subscribers": 1,
                 "frames_dropped": {"overload": 1, "no_slot": 2}, "rtp_packets_lost": 0,
                 "client": "ffmpeg", "client_reason": "auto: multicast",
                 "views": [
                    {"name": "detect", "width": 640, "height": 360, "format": "rgb24",
                     "fps_published": 4.98, "subscribers": 2, "ring_bytes": 14 << 20,
                     "frames_dropped": {"no_slot": 3}},
                    {"name": "idle", "width": 64, "height": 48, "format": "gray",
                     "fps_published": 0.0, "subscribers": 0, "ring_bytes": 0, "frames_dropped": {}},
                 ]},
                {"name": "yard", "state": "backoff", "reason": "connection\u{1b}[2J refused"},
            ],
        });
        let expected = "\
demo: 1 of 2 streaming, up 1m05s, 50.0M promised to rings
CAMERA      STATE      CODEC  SIZE       FPS   AGE    LATENCY   CPU  MEMORY  SUBS  DROPPED  LOST
front-door  streaming  h264   1280x720  15.0  31ms  3.2/8.0ms  7.5%   12.0M     1        3     0
  └ by ffmpeg: auto: multicast
  :detect 640x360 rgb24, 5.0 fps, subs 2, ring 14.0M, dropped 3
  :idle 64x48 gray, idle, subs 0, ring 0B
yard        backoff    -      -            -     -          -     -       -     -        0     -
  └ connection [2J refused
";
        assert_eq!(table(&status, None), expected);
        assert!(
            table(&status, Some(20))
                .lines()
                .all(|line| line.chars().count() <= 20)
        );
    }

    #[test]
    fn recordings_have_a_column_where_there_are_any_and_trouble_a_line() {
        let status = json!({
            "site": "demo", "uptime_ms": 5000, "memory": {"rings_bytes": 0},
            "http": {"state": "failed", "reason": "the port is taken", "address": null,
                "certificate": {"expires": "", "trouble": "expired 3 days ago"}},
            "config": {"error": "error: `depth` is out of range\n more", "last": "2026-11-21T09:00:00.000Z"},
            "cameras": [
                {"name": "a", "state": "streaming", "recording": {"state": "recording", "reason": "x"}},
                {"name": "b", "state": "streaming", "recording": {"state": "disk-full", "reason": "no room"}},
                {"name": "c", "state": "streaming", "recording": null},
            ],
        });
        let table = table(&status, None);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "  └ http failed: the port is taken");
        assert_eq!(lines[2], "  └ the certificate expired 3 days ago");
        assert!(
            lines[3].ends_with("holds: error: `depth` is out of range"),
            "{table}"
        );
        let ends = |line: usize, word: &str| assert!(lines[line].ends_with(word), "{table}");
        ends(4, "  RECORDING");
        ends(5, "  recording");
        ends(6, "  disk-full");
        assert_eq!(lines[7], "  └ recording: no room");
        ends(8, "  -");
    }

    #[test]
    fn an_answer_of_another_version_is_shown_as_far_as_it_goes() {
        assert!(table(&json!({"cameras": [{}]}), None).contains("-: 0 of 1 streaming, up ?"));
        assert!(table(&json!([1]), None).contains("0 of 0"));
    }
}
