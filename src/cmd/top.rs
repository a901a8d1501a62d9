//! `camring top`: all streams in a terminal, alive.
//!
//! ```text
//! model    what is known and chosen      draw     a picture of it, of any size
//! explain  what to do about a problem    details  everything of one stream
//! ```
//!
//! Promises: the terminal is as before, however this ends: by a key, a signal, an error or a panic; the
//! daemon is asked beside, so that keys answer at once while it does not; when it goes away, what it said
//! last stays, marked as old, and it is asked again until it is back.
//! Must never: draw where the output is no terminal.
#![deny(unsafe_code)]

mod details;
mod draw;
mod explain;
mod help;
mod model;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use ratatui::prelude::{CrosstermBackend, Terminal};

use self::draw::{Looks, draw};
use self::model::{Key, Model};
use crate::cli::{Global, TopArgs};
use crate::cmd;
use crate::config::Style;
use crate::supervisor::status::Status;

/// Between looks at signals and answers while no key is pressed.
const LOOK: Duration = Duration::from_millis(100);

/// Runs `camring top`.
///
/// # Errors
/// Standard output or input is no terminal; no daemon at the start (exit code 3); the terminal fails.
pub fn run(args: TopArgs, global: &Global) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!(
            "camring top needs a terminal; for a pipe or a script: camring status --json, or camring status \
             --watch"
        );
    }
    let socket = cmd::socket(&args.socket, global)?;
    // Said in the usual way, before the screen is taken.
    drop(cmd::connect(&socket)?);
    let asked_to_end = end_on_signals()?;
    let answers = ask(socket, args.interval);
    let looks = Looks {
        colour: cmd::style(&io::stdout()) == Style::Coloured,
        unicode: speaks_utf8(),
    };
    let mut screen = Screen::take()?;
    show(&mut screen, &answers, &asked_to_end, looks)
}

/// An answer of the daemon, or why there was none.
type Answer = Result<Status, String>;

fn show(
    screen: &mut Screen,
    answers: &Receiver<Answer>,
    asked_to_end: &AtomicBool,
    looks: Looks,
) -> anyhow::Result<()> {
    let mut model = Model::default();
    let mut answered = Instant::now();
    let mut changed = true;
    while !model.done && !asked_to_end.load(Relaxed) {
        for answer in answers.try_iter() {
            match answer {
                Ok(status) => {
                    answered = Instant::now();
                    model.update(status);
                }
                Err(why) => model.lost(why, answered.elapsed()),
            }
            changed = true;
        }
        if changed {
            screen
                .terminal
                .draw(|frame| draw(frame, &mut model, looks))?;
        }
        changed = event::poll(LOOK)?;
        if changed && let Event::Key(pressed) = event::read()? {
            if pressed.kind == KeyEventKind::Release {
                continue;
            }
            let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
            match (pressed.code, control) {
                // In raw mode, it is no signal.
                (KeyCode::Char('c' | 'd'), true) => model.done = true,
                // What another program has left on the screen.
                (KeyCode::Char('l'), true) => screen.terminal.clear()?,
                (code, false) => {
                    if let Some(key) = key(code) {
                        model.press(key);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn key(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// Asks the daemon again and again, on a thread of its own, which ends with the process.
fn ask(socket: PathBuf, period: Duration) -> Receiver<Answer> {
    // An answer that nobody has taken is enough.
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || keep_asking(&socket, period, &sender));
    receiver
}

fn keep_asking(socket: &std::path::Path, period: Duration, sender: &SyncSender<Answer>) {
    let mut client = None;
    loop {
        let begun = Instant::now();
        let mut look = || -> anyhow::Result<Status> {
            let connected = match client.take() {
                Some(client) => client,
                None => cmd::connect(socket)?,
            };
            let text = connected.status_json()?;
            client = Some(connected);
            serde_json::from_str(&text)
                .context("its status cannot be read: is it of another version?")
        };
        let answer = look().map_err(|error| format!("{error:#}"));
        if sender.send(answer).is_err() {
            return;
        }
        thread::sleep(period.saturating_sub(begun.elapsed()));
    }
}

/// SIGTERM, SIGHUP and SIGINT set the flag instead of ending the process, from now on in all its threads.
fn end_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]
        .into_iter()
        .collect();
    signals
        .thread_block()
        .context("signals cannot be blocked")?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    thread::spawn(move || {
        while signals.wait().is_err() {}
        set.store(true, Relaxed);
    });
    Ok(flag)
}

fn speaks_utf8() -> bool {
    let first = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    first.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// The terminal, taken; given back when dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    fn take() -> anyhow::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // First, or nobody could read what it says.
            give_back();
            before(panic);
        }));
        terminal::enable_raw_mode().context("the terminal cannot be made raw")?;
        // From here on it must be given back.
        let taken = execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error).context("the terminal cannot be drawn on")
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// As it was. Nobody can be told if that fails.
fn give_back() {
    let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}
