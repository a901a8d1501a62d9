//! `camring top` in a real terminal, against a real daemon.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::support::{Daemon, PATIENCE, process, wait_for};
use crate::{camring, farm, ran, site};

/// What a terminal shows: as much of one as ratatui speaks to.
#[derive(Debug, Default)]
struct Screen {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    /// The other screen is shown, and the cursor hidden.
    taken: bool,
    hidden: bool,
    /// What of a sequence has come.
    pending: Vec<u8>,
}

impl Screen {
    fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        loop {
            let text = std::mem::take(&mut self.pending);
            let used = self.one(&text);
            self.pending = text[used..].to_vec();
            if used == 0 {
                return;
            }
        }
    }

    /// Takes one character or sequence; 0: there is none that is whole.
    fn one(&mut self, text: &[u8]) -> usize {
        match text {
            [] | [0x1b] => 0,
            [0x1b, b'[', rest @ ..] => {
                let Some(end) = rest.iter().position(|b| (0x40..0x7f).contains(b)) else {
                    return 0;
                };
                let arguments = std::str::from_utf8(&rest[..end]).expect("ASCII");
                self.order(arguments, rest[end]);
                end + 3
            }
            [0x1b, ..] => 2,
            [first, ..] => {
                let length = match first {
                    0..0x80 => 1,
                    0xc0..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    _ => 4,
                };
                let Some(bytes) = text.get(..length) else {
                    return 0;
                };
                let c = std::str::from_utf8(bytes).expect("UTF-8").chars().next();
                self.put(c.expect("a character"));
                length
            }
        }
    }

    fn order(&mut self, arguments: &str, order: u8) {
        let numbers: Vec<usize> = arguments
            .split(';')
            .map(|n| n.parse().unwrap_or(1))
            .collect();
        match (order, arguments) {
            (b'H', _) => {
                let column = numbers.get(1).copied().unwrap_or(1);
                self.at = (numbers[0] - 1, column - 1);
            }
            (b'J', _) => self.cells.clear(),
            (b'h' | b'l', "?1049") => {
                self.taken = order == b'h';
                self.cells.clear();
            }
            (b'h' | b'l', "?25") => self.hidden = order == b'l',
            // Colours and the like.
            _ => {}
        }
    }

    fn put(&mut self, c: char) {
        let (row, column) = self.at;
        if c.is_control() {
            return;
        }
        if self.cells.len() <= row {
            self.cells.resize(row + 1, Vec::new());
        }
        let line = &mut self.cells[row];
        if line.len() <= column {
            line.resize(column + 1, ' ');
        }
        line[column] = c;
        self.at.1 += 1;
    }

    fn text(&self) -> String {
        let line =
            |cells: &Vec<char>| cells.iter().collect::<String>().trim_end().to_owned() + "\n";
        self.cells.iter().map(line).collect()
    }
}

/// A terminal with `camring top` in it.
struct Top {
    child: Child,
    keys: File,
    screen: Arc<Mutex<Screen>>,
    /// Keeps the terminal open after the program's end.
    slave: OwnedFd,
    before: Termios,
}

const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 130,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

impl Top {
    fn start(daemon: &Daemon, change: impl FnOnce(&mut Command)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty()).expect("its other side");
        tcsetwinsize(&slave, SIZE).expect("its size");
        let before = tcgetattr(&slave).expect("its settings");
        let other = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        let mut command = daemon.camring(["top", "--interval", "200ms"]);
        command
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .stdin(other(&slave))
            .stdout(other(&slave))
            .stderr(other(&slave));
        change(&mut command);
        let child = command.spawn().expect("the program starts");
        let screen = Arc::new(Mutex::new(Screen::default()));
        let shown = Arc::clone(&screen);
        let mut output = File::from(master.try_clone().expect("a descriptor"));
        // Ends when both sides are closed.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown
                    .lock()
                    .expect("it did not panic")
                    .write(&bytes[..count]);
            }
        });
        Self {
            child,
            keys: File::from(master),
            screen,
            slave,
            before,
        }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("it did not panic").text()
    }

    #[track_caller]
    fn shows(&self, what: &str, good: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("top to show {what}"), PATIENCE, || {
            let text = self.text();
            if good(&text) { Ok(text) } else { Err(text) }
        })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it is read");
    }

    /// It ends with this code or signal, and the terminal is as before.
    #[track_caller]
    fn ends(mut self) {
        let status = wait_for("top to end", PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err((other, self.text())),
        });
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        wait_for("the screen to be given back", PATIENCE, || {
            let screen = self.screen.lock().expect("it did not panic");
            match (screen.taken, screen.hidden) {
                (false, false) => Ok(()),
                other => Err(other),
            }
        });
        let after = tcgetattr(&self.slave).expect("its settings");
        let modes = |t: &Termios| {
            (
                t.input_modes,
                t.output_modes,
                t.local_modes,
                t.control_modes,
            )
        };
        assert_eq!(modes(&after), modes(&self.before));
    }
}

/// The names in the first column, from top to bottom.
fn order(text: &str) -> Vec<&str> {
    let known = ["front-door/main", "front-door/sub", "absent"];
    let first = |line: &'_ str| known.into_iter().find(|name| line.starts_with(name));
    text.lines().filter_map(first).collect()
}

#[test]
fn top_is_drawn_sorted_and_left_as_it_was_found() {
    let farm = farm();
    let mut daemon = Daemon::start(&site(&farm));
    for name in ["front-door/main", "front-door/sub"] {
        daemon.wait_for_state(name, "streaming");
    }
    let mut top = Top::start(&daemon, |_| {});
    let text = top.shows("the streams", |text| {
        text.contains("2 of 3 streaming") && order(text).len() == 3
    });
    assert!(
        text.starts_with("test: ") && text.contains("640x360"),
        "{text}"
    );
    assert_eq!(
        order(&text),
        ["front-door/main", "front-door/sub", "absent"]
    );
    // The worst state first, then by name.
    top.press("s");
    top.shows("the worst first", |text| {
        order(text).first() == Some(&"absent") && text.contains("by state")
    });
    // A smaller terminal: less of it, but the camera's state is there.
    let narrow = Winsize { ws_col: 50, ..SIZE };
    tcsetwinsize(&top.slave, narrow).expect("its size");
    assert_eq!(tcgetwinsize(&top.slave).map(|size| size.ws_col), Ok(50));
    // It is not its controlling terminal, so that the kernel does not say so.
    assert!(process::kill(top.child.id(), Signal::SIGWINCH));
    top.shows("less", |text| {
        text.lines().all(|line| line.chars().count() <= 50)
            && text.contains("STATE")
            && !text.contains("SIZE")
            && text.contains("streaming")
    });
    tcsetwinsize(&top.slave, SIZE).expect("its size");
    assert!(process::kill(top.child.id(), Signal::SIGWINCH));
    // The problem of one, and what to do.
    top.press("/abs\r\r");
    let details = top.shows("the details", |text| {
        text.contains("camring probe URL asks it")
    });
    assert!(
        details.contains(" absent ") && details.contains("onnection refused"),
        "{details}"
    );
    top.press("\x1b");
    top.shows("the table", |text| {
        text.contains("CAMERA") && order(text) == ["absent"]
    });
    // The daemon dies, and comes back.
    assert!(process::kill(daemon.pid(), Signal::SIGKILL));
    let text = top.shows("that it is gone", |text| text.contains("no answer"));
    assert_eq!(order(&text), ["absent"], "what was known stays: {text}");
    daemon.restart(Signal::SIGKILL);
    top.shows("that it is back", |text| {
        !text.contains("no answer") && text.contains("of 3 streaming") && order(text) == ["absent"]
    });
    top.press("q");
    top.ends();

    // A signal leaves the terminal as it was, too.
    let top = Top::start(&daemon, |command| {
        command.env("NO_COLOR", "1");
    });
    top.shows("the streams", |text| order(text).len() == 3);
    assert!(process::kill(top.child.id(), Signal::SIGTERM));
    top.ends();
    daemon.stop();
}

#[test]
fn top_without_a_terminal_says_what_to_use_instead() {
    ran(&mut camring(["top"])).failed(1, &["needs a terminal", "camring status --json", "--watch"]);
}
