//! How `camring top` looks: pure drawing, from the model to a frame of any size.
//!
//! Promises: nothing that comes from a camera or the daemon moves the cursor (control characters are
//! blanked); a terminal of any size, however small, gets a picture; without colour, everything can still be
//! told apart by its words.
#![deny(unsafe_code)]

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::model::{Line, Model, Past, Sort, View, dropped, has_problem};
use super::{details, help};
use crate::cmd::status::{age, duration, plain};
use crate::health::{Activity, Decoding, State};
use crate::supervisor::status::{CameraStatus, HttpStatus, Status};

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Colours; else only bold and reversed.
    pub colour: bool,
    /// Block characters for lines; else ASCII.
    pub unicode: bool,
}

impl Looks {
    pub fn paint(self, colour: Color) -> Style {
        match self.colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    pub fn state(self, state: State) -> Style {
        match state {
            State::Streaming => self.paint(Color::Green),
            State::Connecting => self.paint(Color::Cyan),
            State::Disabled => self.paint(Color::DarkGray),
            State::Stalled | State::Backoff => {
                self.paint(Color::Yellow).add_modifier(Modifier::BOLD)
            }
            State::Unauthorized | State::Failed => {
                self.paint(Color::Red).add_modifier(Modifier::BOLD)
            }
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws it all.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, looks: Looks) {
    let heading = heading(model, looks);
    let lines = u16::try_from(heading.len()).unwrap_or(3);
    let [top, body, bottom] = Layout::vertical([
        Constraint::Length(lines),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading), top);
    match model.view {
        View::Details => pane(frame, model, body, looks),
        View::Table | View::Help => table(frame, model, body, looks),
    }
    if model.view == View::Help {
        overlay(frame, model, body);
    }
    frame.render_widget(Paragraph::new(foot(model, looks)), bottom);
}

fn heading(model: &Model, looks: Looks) -> Vec<Text<'static>> {
    let mut lines = match &model.status {
        None => vec![Text::from("camring")],
        Some(status) => vec![Text::from(summary(status))],
    };
    if let Some(status) = &model.status {
        lines.extend(site_trouble(status).into_iter().map(|line| {
            let style = looks.paint(Color::Yellow).add_modifier(Modifier::BOLD);
            Text::styled(line, style)
        }));
    }
    if let Some((why, since)) = &model.trouble {
        let old = match (&model.status, since.as_secs()) {
            (Some(_), seconds @ 1..) => format!("; what is shown is {} old", duration(seconds)),
            _ => String::new(),
        };
        let text = format!("no answer: {}{old}; trying again", plain(why));
        let style = looks.paint(Color::Red).patch(REVERSED);
        lines.push(Text::styled(text, style));
    }
    lines
}

fn summary(status: &Status) -> String {
    let streaming = status.cameras.iter();
    let streaming = streaming.filter(|c| c.state == State::Streaming).count();
    let recorders = status.cameras.iter().filter_map(|c| c.recording.as_ref());
    let cpu: f64 = status.cameras.iter().map(|c| c.cpu_percent).sum::<f64>()
        + recorders.map(|r| r.cpu_percent).sum::<f64>()
        + status.http.as_ref().map_or(0.0, |http| http.cpu_percent);
    let address = |http: &HttpStatus| {
        let scheme = if http.scheme == "https" {
            "https"
        } else {
            "http"
        };
        Some(format!(", {scheme}://{}/", plain(http.address.as_ref()?)))
    };
    format!(
        "{}: {streaming} of {} streaming, up {}, {:.2} cores, rings {}{}",
        plain(&status.site),
        status.cameras.len(),
        duration(status.uptime_ms / 1000),
        cpu / 100.0,
        bytes(status.memory.rings_bytes),
        status.http.as_ref().and_then(address).unwrap_or_default(),
    )
}

/// What concerns the whole site, if anything is the matter.
fn site_trouble(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(http) = &status.http
        && matches!(&*http.state, "failed" | "backoff")
    {
        lines.push(format!("http {}: {}", http.state, plain(&http.reason)));
    }
    let certificate = status
        .http
        .as_ref()
        .and_then(|http| http.certificate.as_ref());
    if let Some(trouble) = certificate.and_then(|certificate| certificate.trouble.as_ref()) {
        lines.push(format!("the certificate {}", plain(trouble)));
    }
    if let Some(error) = &status.config.error {
        let first = plain(error.lines().next().unwrap_or_default());
        lines.push(format!(
            "the new configuration was refused, the old one holds: {first}"
        ));
    }
    lines
}

/// A column of the table: heading, width, and how dispensable it is; the most dispensable go first where
/// there is no room.
struct Column {
    heading: &'static str,
    sort: Option<Sort>,
    width: u16,
    dispensable: u8,
    cell: fn(&CameraStatus) -> String,
}

const COLUMNS: [Column; 12] = [
    column("STATE", Some(Sort::State), 12, 0, |c| {
        c.state.name().to_owned()
    }),
    column("FPS", Some(Sort::Fps), 5, 1, fps),
    column("AGE", Some(Sort::Age), 7, 3, |c| {
        c.last_frame_age_ms.map_or_else(none, age)
    }),
    column("LATENCY", Some(Sort::Latency), 13, 2, latency),
    column("CPU", Some(Sort::Cpu), 6, 2, |c| {
        format!("{:.1}%", c.cpu_percent)
    }),
    column("MEMORY", Some(Sort::Memory), 7, 5, |c| {
        c.memory_bytes.map_or_else(none, bytes)
    }),
    column("SUBS", Some(Sort::Subscribers), 4, 6, |c| {
        c.subscribers.to_string()
    }),
    column("DROP", Some(Sort::Dropped), 6, 4, |c| {
        short(dropped(&c.frames_dropped))
    }),
    column("LOST", Some(Sort::Lost), 6, 5, |c| {
        short(c.rtp_packets_lost)
    }),
    column("RST", Some(Sort::Restarts), 4, 6, |c| {
        short(u64::from(c.restarts) + c.reconnects)
    }),
    column("REC", None, 9, 4, |c| {
        c.recording.as_ref().map_or_else(none, |r| plain(&r.state))
    }),
    column("SIZE", None, 9, 7, |c| match (c.width, c.height) {
        (Some(width), Some(height)) => format!("{width}x{height}"),
        _ => none(),
    }),
];

const fn column(
    heading: &'static str,
    sort: Option<Sort>,
    width: u16,
    dispensable: u8,
    cell: fn(&CameraStatus) -> String,
) -> Column {
    Column {
        heading,
        sort,
        width,
        dispensable,
        cell,
    }
}

fn none() -> String {
    "-".to_owned()
}

fn fps(c: &CameraStatus) -> String {
    if c.decode == Some(Decoding::Idle) {
        "idle".to_owned()
    } else if c.activity == Some(Activity::Quiet) {
        "quiet".to_owned()
    } else {
        format!("{:.1}", c.fps_published)
    }
}

fn latency(c: &CameraStatus) -> String {
    match (c.latency_p50_ms, c.latency_p99_ms) {
        (Some(p50), Some(p99)) => format!("{p50:.1}/{p99:.1}ms"),
        _ => none(),
    }
}

/// A count in few characters.
pub fn short(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1000),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec_short().to_string()
}

/// Narrower lines say nothing.
const LEAST_LINE: u16 = 8;
/// Wider ones have more than is kept.
const WIDEST_LINE: u16 = 60;

fn table(frame: &mut Frame<'_>, model: &mut Model, area: Rect, looks: Looks) {
    model.page = usize::from(area.height.saturating_sub(1));
    let rows = model.rows();
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    let names = longest.clamp(6, 28.min(area.width.max(6)));
    let mut shown: Vec<&Column> = COLUMNS.iter().collect();
    let width = |shown: &[&Column]| -> u16 { shown.iter().map(|c| c.width + 1).sum() };
    while names + width(&shown) > area.width {
        let Some(worst) = shown.iter().map(|c| c.dispensable).max() else {
            break;
        };
        let at = shown.iter().rposition(|c| c.dispensable == worst);
        shown.remove(at.unwrap_or(0));
    }
    let left = area.width.saturating_sub(names + width(&shown) + 1);
    let line = (left >= LEAST_LINE).then_some(left.min(WIDEST_LINE));
    let mark = |text: &str, sort: Option<Sort>| match sort == Some(model.sort) {
        true => Span::styled(text.to_owned(), BOLD.patch(REVERSED)),
        false => Span::styled(text.to_owned(), BOLD),
    };
    let mut headings = vec![Text::from(mark("CAMERA", Some(Sort::Name)))];
    headings.extend(shown.iter().map(|column| {
        let text = Text::from(mark(column.heading, column.sort));
        if is_word(column) {
            text
        } else {
            text.right_aligned()
        }
    }));
    if line.is_some() {
        let of = match model.line {
            Line::Fps => "FPS, LAST MINUTES",
            Line::Latency => "P99 LATENCY, LAST MINUTES",
        };
        headings.push(Text::styled(of, BOLD));
    }
    let body = rows.iter().map(|camera| {
        let mut cells = vec![Text::from(plain(&camera.name))];
        cells.extend(shown.iter().map(|column| {
            let text = Text::from((column.cell)(camera));
            match column.sort {
                Some(Sort::State) => text.style(looks.state(camera.state)),
                _ if is_word(column) => text.style(recording_style(camera, looks)),
                _ => text.right_aligned(),
            }
        }));
        if let (Some(width), Some(past)) = (line, model.past(&camera.name)) {
            let values = values(past, model.line);
            let text = sparkline(values, usize::from(width), looks.unicode);
            cells.push(Text::styled(text, looks.paint(Color::Cyan)));
        }
        Row::new(cells)
    });
    let mut widths = vec![Constraint::Length(names)];
    widths.extend(shown.iter().map(|column| Constraint::Length(column.width)));
    widths.extend(line.map(Constraint::Length));
    let place = model.place();
    let empty = rows.is_empty() && model.status.is_some();
    let table = Table::new(body, widths)
        .header(Row::new(headings))
        .column_spacing(1)
        .row_highlight_style(REVERSED);
    let mut state = TableState::new().with_selected(place);
    frame.render_stateful_widget(table, area, &mut state);
    if empty && area.height > 1 {
        let below = Rect {
            y: area.y + 1,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new("no camera fits; Esc shows all"), below);
    }
}

fn is_word(column: &Column) -> bool {
    matches!(column.heading, "STATE" | "REC" | "SIZE")
}

fn recording_style(camera: &CameraStatus, looks: Looks) -> Style {
    match camera.recording.as_ref().map(|r| &*r.state) {
        Some("disk-full" | "failed" | "backoff") => {
            looks.paint(Color::Red).add_modifier(Modifier::BOLD)
        }
        _ => Style::new(),
    }
}

pub fn values(past: &Past, line: Line) -> &std::collections::VecDeque<f64> {
    match line {
        Line::Fps => &past.fps,
        Line::Latency => &past.latency_ms,
    }
}

/// The newest values, one character each, from 0 to the highest of them.
pub fn sparkline<'v>(
    values: impl IntoIterator<Item = &'v f64, IntoIter: ExactSizeIterator>,
    width: usize,
    unicode: bool,
) -> String {
    let levels: &[char] = match unicode {
        true => &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        false => &[' ', '.', ':', '-', '=', '+', '*', '#', '@'],
    };
    let values = values.into_iter();
    let skipped = values.len().saturating_sub(width);
    let newest: Vec<f64> = values.skip(skipped).copied().collect();
    let most = newest.iter().copied().fold(0.0, f64::max);
    let line: String = newest
        .iter()
        .map(|value| {
            let share = if most > 0.0 { value / most } else { 0.0 };
            let level = (share * (levels.len() - 1) as f64).ceil() as usize;
            levels[level.min(levels.len() - 1)]
        })
        .collect();
    format!("{line:>width$}")
}

fn pane(frame: &mut Frame<'_>, model: &mut Model, area: Rect, looks: Looks) {
    model.page = usize::from(area.height.saturating_sub(2));
    let name = model.selected.clone().unwrap_or_default();
    let lines = match model.selected() {
        Some(camera) => details::lines(camera, model.past(&name), area.width, looks),
        None => vec![Text::from("It is no longer in the configuration.")],
    };
    // Wrapped lines may be more; the last ones stay in reach all the same.
    let most = lines.len() * 3;
    model.scroll = model.scroll.min(u16::try_from(most).unwrap_or(u16::MAX));
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .scroll((model.scroll, 0))
        .block(Block::bordered().title(format!(" {} ", plain(&name))));
    frame.render_widget(text, area);
}

fn overlay(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let lines = help::lines();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX) + 2;
    let width = 70.min(area.width);
    let inside = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y,
        width,
        height: height.min(area.height),
    };
    frame.render_widget(Clear, inside);
    let text = Paragraph::new(lines)
        .scroll((model.scroll, 0))
        .block(Block::bordered().title(" Keys "));
    frame.render_widget(text, inside);
}

fn foot(model: &Model, looks: Looks) -> Text<'static> {
    if model.typing {
        return Text::from(format!(
            "/{}_   Enter keeps it, Esc clears it",
            model.filter
        ));
    }
    let mut parts = Vec::new();
    if model.paused {
        parts.push("PAUSED, Space goes on".to_owned());
    }
    if model.problems_only {
        parts.push("problems only".to_owned());
    }
    if !model.filter.is_empty() {
        parts.push(format!("/{}", model.filter));
    }
    if model.view != View::Table {
        parts.push("Esc back  j/k scroll  ←/→ other stream  q quit".to_owned());
        return Text::from(parts.join("  "));
    }
    // Of the selected stream, what is the matter: the table has no room for it.
    if let Some(camera) = model.selected().filter(|camera| has_problem(camera)) {
        let reason = match camera.state {
            State::Streaming => camera.recording.as_ref().map(|r| &r.reason),
            _ => Some(&camera.reason),
        };
        let reason = reason.filter(|reason| !reason.is_empty());
        if let Some(reason) = reason {
            parts.push(format!("{}: {}", plain(&camera.name), plain(reason)));
            return Text::styled(parts.join("  "), looks.state(camera.state));
        }
    }
    let order = if model.reversed { ", reversed" } else { "" };
    parts.push(format!("by {}{order}", model.sort.name()));
    parts.push("? help  s sort  / filter  Enter details  q quit".to_owned());
    Text::from(parts.join("  "))
}
