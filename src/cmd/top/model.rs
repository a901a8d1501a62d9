//! What `camring top` knows: the daemon's last status, some minutes of each stream's past, and what the
//! person has chosen to see. No terminal here.
//!
//! Promises: memory is bounded by the number of streams; the selection stays on its stream while rows move.
#![deny(unsafe_code)]

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::health::State;
use crate::supervisor::status::{CameraStatus, FramesDropped, Status};

/// How many looks of the past are kept: five minutes of one a second.
pub const PAST: usize = 300;

/// What the table is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// As in the configuration.
    File,
    /// The worst state first.
    State,
    Name,
    Fps,
    Age,
    Latency,
    Cpu,
    Memory,
    Subscribers,
    Dropped,
    Lost,
    Restarts,
}

impl Sort {
    pub const ALL: [Self; 12] = [
        Self::File,
        Self::State,
        Self::Name,
        Self::Fps,
        Self::Age,
        Self::Latency,
        Self::Cpu,
        Self::Memory,
        Self::Subscribers,
        Self::Dropped,
        Self::Lost,
        Self::Restarts,
    ];

    /// For the heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::State => "state",
            Self::Name => "camera",
            Self::Fps => "fps",
            Self::Age => "age",
            Self::Latency => "latency",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Subscribers => "subs",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
            Self::Restarts => "restarts",
        }
    }

    /// What comes first: what a person who sorts by this looks for.
    fn compare(self, a: &CameraStatus, b: &CameraStatus) -> Ordering {
        let most = |value: fn(&CameraStatus) -> f64| value(b).total_cmp(&value(a));
        match self {
            Self::File => Ordering::Equal,
            Self::State => badness(a.state).cmp(&badness(b.state)).reverse(),
            Self::Name => a.name.cmp(&b.name),
            // A camera that is slow is the one to look at.
            Self::Fps => a.fps_published.total_cmp(&b.fps_published),
            Self::Age => most(|c| c.last_frame_age_ms.map_or(f64::MAX, |ms| ms as f64)),
            Self::Latency => most(|c| c.latency_p99_ms.unwrap_or(-1.0)),
            Self::Cpu => most(|c| c.cpu_percent),
            Self::Memory => most(|c| c.memory_bytes.unwrap_or(0) as f64),
            Self::Subscribers => most(|c| c.subscribers as f64),
            Self::Dropped => most(|c| dropped(&c.frames_dropped) as f64),
            Self::Lost => most(|c| c.rtp_packets_lost as f64),
            Self::Restarts => most(|c| f64::from(c.restarts)),
        }
    }
}

fn badness(state: State) -> u8 {
    match state {
        State::Failed => 6,
        State::Unauthorized => 5,
        State::Backoff => 4,
        State::Stalled => 3,
        State::Connecting => 2,
        State::Streaming => 1,
        State::Disabled => 0,
    }
}

/// Frames that somebody may miss: what nobody wanted is nobody's loss.
pub fn dropped(d: &FramesDropped) -> u64 {
    [
        d.no_slot,
        d.no_memory,
        d.overload,
        d.max_fps,
        d.corrupt,
        d.before_key,
        d.not_key,
        d.catch_up,
        d.decode_error,
        d.oversize,
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

/// A stream's last minutes, the newest at the end.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub fps: VecDeque<f64>,
    pub latency_ms: VecDeque<f64>,
}

impl Past {
    fn push(&mut self, camera: &CameraStatus) {
        let fps = match camera.fps_published > 0.0 {
            true => camera.fps_published,
            // Nobody looks, perhaps: what comes in still says how it is.
            false => camera.fps_in,
        };
        for (values, value) in [
            (&mut self.fps, fps),
            (
                &mut self.latency_ms,
                camera.latency_p99_ms.unwrap_or_default(),
            ),
        ] {
            if values.len() >= PAST {
                values.pop_front();
            }
            values.push_back(value);
        }
    }
}

/// Which view is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Table,
    /// All of the selected stream.
    Details,
    Help,
}

/// What the sparklines show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Fps,
    Latency,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Left,
    Right,
    Enter,
    Escape,
    Backspace,
}

/// All of it.
#[derive(Debug)]
pub struct Model {
    pub status: Option<Status>,
    /// Why there is no answer now, and for how long.
    pub trouble: Option<(String, Duration)>,
    past: BTreeMap<String, Past>,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    pub problems_only: bool,
    pub paused: bool,
    pub line: Line,
    pub view: View,
    /// The selected stream, by name.
    pub selected: Option<String>,
    /// Of the details and the help, the first line shown.
    pub scroll: u16,
    /// How many rows a page has: as drawn last.
    pub page: usize,
    pub done: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            status: None,
            trouble: None,
            past: BTreeMap::new(),
            sort: Sort::File,
            reversed: false,
            filter: String::new(),
            typing: false,
            problems_only: false,
            paused: false,
            line: Line::Fps,
            view: View::Table,
            selected: None,
            scroll: 0,
            page: 10,
            done: false,
        }
    }
}

impl Model {
    /// The daemon has answered.
    pub fn update(&mut self, status: Status) {
        self.trouble = None;
        if self.paused {
            return;
        }
        let cameras = &status.cameras;
        self.past
            .retain(|name, _| cameras.iter().any(|camera| camera.name == *name));
        for camera in cameras {
            self.past
                .entry(camera.name.clone())
                .or_default()
                .push(camera);
        }
        self.status = Some(status);
        self.keep_selected();
    }

    /// It has not. What it said last stays to be seen.
    pub fn lost(&mut self, why: String, since: Duration) {
        self.trouble = Some((why, since));
    }

    /// A stream's last minutes.
    pub fn past(&self, name: &str) -> Option<&Past> {
        self.past.get(name)
    }

    /// What the table shows, in order.
    pub fn rows(&self) -> Vec<&CameraStatus> {
        let cameras = self.status.as_ref().map_or(&[][..], |s| &s.cameras);
        let wanted = self.filter.to_lowercase();
        let mut rows: Vec<_> = cameras
            .iter()
            .filter(|c| !self.problems_only || has_problem(c))
            .filter(|c| {
                wanted.is_empty()
                    || c.name.to_lowercase().contains(&wanted)
                    || c.state.name().contains(&wanted)
            })
            .collect();
        rows.sort_by(|a, b| self.sort.compare(a, b));
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// The selected row's place.
    pub fn place(&self) -> Option<usize> {
        let name = self.selected.as_deref()?;
        self.rows().iter().position(|row| row.name == name)
    }

    /// The selected stream, also where the table does not show it.
    pub fn selected(&self) -> Option<&CameraStatus> {
        let name = self.selected.as_deref()?;
        let cameras = &self.status.as_ref()?.cameras;
        cameras.iter().find(|camera| camera.name == name)
    }

    fn keep_selected(&mut self) {
        if self.place().is_none() && self.view == View::Table {
            self.selected = self.rows().first().map(|row| row.name.clone());
        }
    }

    fn go(&mut self, by: isize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else {
            return;
        };
        let place = self
            .place()
            .unwrap_or(0)
            .saturating_add_signed(by)
            .min(last);
        self.selected = Some(rows[place].name.clone());
    }

    fn scroll(&mut self, by: i32) {
        let scroll = i32::from(self.scroll).saturating_add(by);
        self.scroll = u16::try_from(scroll.max(0)).unwrap_or(u16::MAX);
    }

    fn turn(&mut self, by: usize) {
        let place = Sort::ALL.iter().position(|sort| *sort == self.sort);
        let next = (place.unwrap_or(0) + by) % Sort::ALL.len();
        self.sort = Sort::ALL[next];
        self.reversed = false;
    }

    /// Does what a key says.
    pub fn press(&mut self, key: Key) {
        if self.typing {
            return self.edit(key);
        }
        let page = self.page.max(1);
        match (self.view, key) {
            (_, Key::Char('q')) => self.done = true,
            (View::Help, Key::Escape | Key::Char('?' | 'h') | Key::Enter) => self.open(View::Table),
            (_, Key::Char('?' | 'h')) => self.open(View::Help),
            (View::Details, Key::Escape | Key::Enter | Key::Char('d')) => self.open(View::Table),
            (View::Table, Key::Enter | Key::Char('d')) if self.selected.is_some() => {
                self.open(View::Details);
            }
            (View::Details, Key::Left) => self.go(-1),
            (View::Details, Key::Right) => self.go(1),
            (View::Details | View::Help, Key::Up | Key::Char('k')) => self.scroll(-1),
            (View::Details | View::Help, Key::Down | Key::Char('j')) => self.scroll(1),
            (View::Details | View::Help, Key::PageUp) => self.scroll(-(page as i32)),
            (View::Details | View::Help, Key::PageDown) => self.scroll(page as i32),
            (View::Details | View::Help, Key::Home) => self.scroll = 0,
            (_, Key::Char('f')) => {
                self.line = match self.line {
                    Line::Fps => Line::Latency,
                    Line::Latency => Line::Fps,
                };
            }
            (_, Key::Char(' ')) => self.paused = !self.paused,
            (View::Table, Key::Up | Key::Char('k')) => self.go(-1),
            (View::Table, Key::Down | Key::Char('j')) => self.go(1),
            (View::Table, Key::PageUp) => self.go(-(page as isize)),
            (View::Table, Key::PageDown) => self.go(page as isize),
            (View::Table, Key::Home) => self.go(isize::MIN),
            (View::Table, Key::End) => self.go(isize::MAX),
            (View::Table, Key::Char('s') | Key::Right) => self.turn(1),
            (View::Table, Key::Char('S') | Key::Left) => self.turn(Sort::ALL.len() - 1),
            (View::Table, Key::Char('r')) => self.reversed = !self.reversed,
            (View::Table, Key::Char('p')) => self.problems_only = !self.problems_only,
            (View::Table, Key::Char('/')) => self.typing = true,
            (View::Table, Key::Escape) => {
                self.filter.clear();
                self.problems_only = false;
            }
            _ => {}
        }
        self.keep_selected();
    }

    fn open(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if self.filter.chars().count() < 64 => self.filter.push(c),
            _ => {}
        }
        self.keep_selected();
    }
}

/// Whether somebody should look at it.
pub fn has_problem(camera: &CameraStatus) -> bool {
    let recording = camera.recording.as_ref();
    !matches!(camera.state, State::Streaming | State::Disabled)
        || recording.is_some_and(|r| matches!(&*r.state, "disk-full" | "failed" | "backoff"))
}
