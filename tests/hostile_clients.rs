//! Clients that do what they should not, beside one that verifies every frame: it must lose none,
//! and the daemon nothing.
#![deny(unsafe_code)]

mod support;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use camring_ring::attach::server::send_with_fds;
use camring_ring::attach::wire::{ATTACH_VERSION, ClientMessage, DaemonMessage, RingKind};
use camring_ring::layout::PINS_OFFSET;
use camring_ring::{AttachError, AttachOptions, Client};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_until};

/// Room for more pins than most of these tests take, and so many frames that a viewer on a loaded
/// machine is late for none: that one is missed is to mean that somebody took it away.
fn site(farm: &Farm) -> String {
    let url = farm.url("door");
    format!("[[camera]]\nname = \"door\"\nurl = \"{url}\"\n[camera.ring]\npins = 60\ndepth = 32\n")
}

/// Slow, so that the ring's 32 frames are more than three seconds.
const FPS: u32 = 10;

/// KiB of memory that an allocator may have taken meanwhile.
const SLACK: u64 = 8 << 10;

fn options() -> AttachOptions {
    AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    }
}

/// A connection without rules.
struct Raw(OwnedFd);

impl Raw {
    fn connect(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    fn send(&self, message: &ClientMessage) {
        // The daemon may have hung up already.
        let _ = send_with_fds(&self.0, &message.encode(), &[]);
    }

    fn hello(&self) {
        let version = ATTACH_VERSION;
        self.send(&ClientMessage::Hello { version });
    }

    fn received(&self, request: u32) {
        self.send(&ClientMessage::Received { request });
    }

    fn attach(&self, request: u32, pins: u8) {
        self.send(&ClientMessage::Attach {
            request,
            kind: RingKind::Frames,
            pins,
            pollable: true,
            name: "door".into(),
        });
    }

    /// `None`: it hung up.
    fn receive(&self) -> Option<(DaemonMessage, Vec<OwnedFd>)> {
        let patience = Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "no answer");
        let mut buffer = [0; 4096];
        match camring_ring::attach::server::recv_with_fds(&self.0, &mut buffer, 3) {
            Ok((0, _)) | Err(_) => None,
            Ok((len, fds)) => Some((DaemonMessage::decode(&buffer[..len]).unwrap(), fds)),
        }
    }

    /// Attaches by the rules. The bell, and ring, pins and notify socket.
    fn attached(path: &Path, pins: u8) -> (Self, OwnedFd, Vec<OwnedFd>) {
        let raw = Self::connect(path);
        raw.hello();
        let (_, mut bell) = raw.receive().unwrap();
        raw.received(0);
        raw.attach(1, pins);
        let (answer, fds) = raw.receive().unwrap();
        assert!(
            matches!(answer, DaemonMessage::Attached { .. }),
            "{answer:?}"
        );
        raw.received(1);
        (raw, bell.remove(0), fds)
    }
}

/// What a process has open and occupied.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    memfds: usize,
    /// Private memory that is no file's, in KiB.
    anonymous: u64,
}

impl Held {
    fn by(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let anonymous = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self {
            descriptors: process::descriptors(pid).len(),
            memfds: process::memfds(pid),
            anonymous: anonymous.unwrap_or(0),
        }
    }
}

/// The daemon and the reader of "door", before and after something.
struct Before {
    pids: [u32; 2],
    held: [Held; 2],
}

impl Before {
    fn of(daemon: &Daemon) -> Self {
        daemon.wait_for_camera("door", "its memory figure", |c| c["memory_bytes"].is_u64());
        let pids = [daemon.pid(), daemon.reader_pid("door")];
        Self {
            pids,
            held: pids.map(Held::by),
        }
    }

    /// Nobody is attached but one; the same processes hold no more than before.
    #[track_caller]
    fn check(&self, daemon: &Daemon) {
        let status = daemon.wait_for_camera("door", "one subscriber", |c| c["subscribers"] == 1);
        assert_eq!(status["restarts"], 0, "{status}");
        assert_eq!(status["frames_dropped"]["no_slot"], 0, "{status}");
        let mut now = self.held;
        let wanted = "no more descriptors, memfds and memory than before";
        wait_until(wanted, PATIENCE, || {
            now = self.pids.map(Held::by);
            let good = now.iter().zip(&self.held).all(|(now, before)| {
                now.descriptors <= before.descriptors
                    && now.memfds <= before.memfds
                    && now.anonymous <= before.anonymous + SLACK
            });
            if !good {
                println!("before {:?}, now {now:?}", self.held);
            }
            good
        });
        println!("before {:?}, after {now:?}", self.held);
    }
}

/// Runs `hostile` in threads while the viewer verifies every frame; it must not lose one.
fn beside(viewer: &mut Viewer, hostile: impl Fn(usize, &AtomicBool) + Sync, threads: usize) {
    let stop = AtomicBool::new(false);
    let left = AtomicU64::new(threads as u64);
    std::thread::scope(|scope| {
        for n in 0..threads {
            let (stop, left, hostile) = (&stop, &left, &hostile);
            std::thread::Builder::new()
                .name(format!("hostile-{n}"))
                .spawn_scoped(scope, move || {
                    // Counted down also when it panics.
                    struct Done<'a>(&'a AtomicU64);
                    impl Drop for Done<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    let _done = Done(left);
                    hostile(n, stop);
                })
                .unwrap();
        }
        let mut frames = 0;
        while left.load(Ordering::Relaxed) > 0 || frames < 20 {
            viewer.next();
            frames += 1;
            if frames >= 40 {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(viewer.missed, 0, "of {} frames", viewer.seen);
}

struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn scribbling_and_deaf_clients_cost_nobody_a_frame() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let before = Before::of(&daemon);
    let path = daemon.socket();
    let hostile = |n: usize, stop: &AtomicBool| match n {
        // Writes nonsense into its pins and its bell, and never empties its notify socket.
        0 | 1 => {
            let (_raw, bell, fds) = Raw::attached(&path, 8);
            let mut dice = Dice(n as u64 + 4711);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    let value = match dice.word() % 3 {
                        0 => dice.word(),
                        1 => dice.word() % 100,
                        _ => u64::from(u32::MAX),
                    };
                    let bytes = value.to_le_bytes();
                    rustix::io::pwrite(&fds[1], &bytes, dice.word() % 16 * 8).unwrap();
                    rustix::io::pwrite(&bell, &bytes, dice.word() % 32 * 8).unwrap();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        // Says that it waits, always, and never does.
        2 => {
            let (_raw, bell, _fds) = Raw::attached(&path, 1);
            while !stop.load(Ordering::Relaxed) {
                for at in 0..32 {
                    rustix::io::pwrite(&bell, &[1; 8], at * 8).unwrap();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        // Asks and asks, and reads nothing.
        _ => {
            while !stop.load(Ordering::Relaxed) {
                let raw = Raw::connect(&path);
                raw.hello();
                for request in 1..=60 {
                    raw.attach(request, 1);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    beside(&mut viewer, hostile, 4);
    before.check(&daemon);
}

#[test]
fn clients_that_die_at_each_step_of_attaching_leave_nothing() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let path = daemon.socket();
    // To the daemon, a process that dies is its descriptors being closed: at once, with messages
    // of both directions unread.
    let steps: [fn(&Path); 9] = [
        |path| drop(Raw::connect(path)),
        |path| Raw::connect(path).hello(),
        |path| {
            let raw = Raw::connect(path);
            raw.hello();
            raw.receive();
        },
        |path| {
            let raw = Raw::connect(path);
            raw.hello();
            raw.receive();
            raw.received(0);
        },
        |path| {
            // The daemon answers into a socket that nobody has any more.
            let raw = Raw::connect(path);
            raw.hello();
            raw.receive();
            raw.received(0);
            raw.attach(1, 2);
        },
        |path| {
            // All at once.
            let raw = Raw::connect(path);
            raw.hello();
            raw.received(0);
            raw.attach(1, 2);
            raw.received(1);
            raw.send(&ClientMessage::Detach { attachment: 1 });
        },
        |path| {
            // Attached, not acknowledged.
            let raw = Raw::connect(path);
            raw.hello();
            raw.receive();
            raw.received(0);
            raw.attach(1, 2);
            raw.receive();
        },
        |path| drop(Raw::attached(path, 2)),
        |path| {
            // While it holds frames: whatever is in the first two slots.
            let (_raw, _bell, fds) = Raw::attached(path, 2);
            for pin in 0..2u64 {
                let at = PINS_OFFSET as u64 + 8 * pin;
                rustix::io::pwrite(&fds[1], &(pin + 1).to_le_bytes(), at).unwrap();
            }
        },
    ];
    let mut before = None;
    for round in 0..2 {
        let hostile = |_: usize, _: &AtomicBool| {
            for _ in 0..10 {
                steps.iter().for_each(|step| step(&path));
            }
            // And as processes, at any moment of attaching or looking.
            let mut moments = fastrand::Rng::new();
            for _ in 0..5 {
                let mut tail = daemon.camring(["tail", "door"]);
                let mut tail = tail
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                std::thread::sleep(Duration::from_millis(60).mul_f64(moments.f64()));
                process::kill(tail.id(), Signal::SIGKILL);
                tail.wait().unwrap();
            }
        };
        beside(&mut viewer, hostile, 1);
        // What is allocated once and kept has been, after the first round.
        match &before {
            None => before = Some(Before::of(&daemon)),
            Some(before) => before.check(&daemon),
        }
        println!("round {round}: {} frames verified", viewer.seen);
    }
}

fn cycles() -> u64 {
    let asked = std::env::var("CAMRING_CYCLES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(2000)
}

#[test]
fn attaching_thousands_of_times_leaks_nothing() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let path = daemon.socket();
    let attach = |count: u64| {
        let mut client = Client::connect(&path).unwrap();
        for n in 0..count {
            if n % 10 == 0 {
                client = Client::connect(&path).unwrap();
            }
            let pollable = n % 2 == 0;
            let options = AttachOptions {
                pollable,
                ..options()
            };
            drop(client.attach("door", &options).unwrap());
            if n % 100 == 0 {
                drop(client.attach_packets("door", &options).unwrap());
            }
        }
    };
    // So that buffers have the size that they need.
    beside(&mut viewer, |_, _| attach(300), 1);
    wait_until("the others to be gone", PATIENCE, || {
        daemon.camera("door")["subscribers"] == 1
    });
    let before = Before::of(&daemon);
    let own = Held::by(std::process::id());
    let (count, begun) = (cycles(), Instant::now());
    beside(&mut viewer, |_, _| attach(count), 1);
    println!(
        "{count} attach/detach cycles in {:.1} s, {} frames verified meanwhile",
        begun.elapsed().as_secs_f64(),
        viewer.seen
    );
    before.check(&daemon);
    println!(
        "the client: before {own:?}, after {:?}",
        Held::by(std::process::id())
    );
}

/// One that attaches and attaches and gives nothing back is refused, and costs no more than its
/// share.
#[test]
fn ten_thousand_attachments_are_not_had() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let before = Before::of(&daemon);
    let path = daemon.socket();
    let hostile = |_: usize, _: &AtomicBool| {
        let client = Client::connect(&path).unwrap();
        let one = AttachOptions {
            pins: 1,
            ..options()
        };
        let mut had = Vec::new();
        let mut refusals = 0;
        for _ in 0..10_000 {
            match client.attach("door", &one) {
                Ok(subscription) => had.push(subscription),
                Err(AttachError::Refused { text, .. }) => {
                    assert!(text.contains("60 of the camera's 60"), "{text}");
                    refusals += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(
            (had.len(), refusals),
            (58, 9942),
            "60 pins, of which the viewer has 2"
        );
    };
    beside(&mut viewer, hostile, 1);
    before.check(&daemon);
}

/// One that works for ten seconds on every frame, here as long as 40 frames take.
#[test]
fn a_slow_detector_costs_the_others_nothing() {
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let mut viewer = Viewer::attach(&daemon, &farm, "door");
    viewer.next();
    let client = Client::connect(&daemon.socket()).unwrap();
    let mut slow = client.attach("door", &options()).unwrap();
    let mut missed = 0;
    for _ in 0..3 {
        let frame = slow.next_timeout(PATIENCE).unwrap().expect("a frame");
        missed += frame.missed();
        let sum = |bytes: &[u8]| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
        let before = sum(frame.data());
        viewer.watch(40);
        assert_eq!(sum(frame.data()), before, "it stays as it is");
    }
    assert!(missed > 0, "it learns what it missed");
    assert_eq!(viewer.missed, 0);
    assert_eq!(daemon.camera("door")["frames_dropped"]["no_slot"], 0);
}

/// The message names the group of what is in the way. Takes root, to be somebody else for a while.
#[test]
fn who_may_not_connect_learns_which_group_may() {
    use std::os::unix::fs::PermissionsExt;
    let farm = Farm::start(&[Camera::new("door", "h264-180p").fps(FPS)]);
    let daemon = Daemon::start(&site(&farm));
    let socket = daemon.socket();
    if !rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
        let error = Client::connect(&socket)
            .expect_err("no permission")
            .to_string();
        assert!(error.contains("belongs to group"), "{error}");
        return;
    }
    let folder = daemon.runtime_dir();
    for folder in [folder.parent().unwrap(), &folder] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o660)).unwrap();
    // This thread only.
    let error = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        let nogroup = rustix::process::Gid::from_raw(65534);
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(nogroup, nogroup, nogroup).unwrap();
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Client::connect(&socket).expect_err("no permission")
    });
    let error = error.join().unwrap();
    assert!(
        matches!(error, AttachError::PermissionDenied { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("belongs to group"), "{text}");
    assert!(
        text.contains("mode 0660, so be a member of that group (usermod -aG "),
        "{text}"
    );
}
