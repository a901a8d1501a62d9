//! Programs that attach and do what they should not, and a reader that does: all to the cameras that
//! must not notice, but for what only the reader of a victim can do.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use camring_ring::attach::server::{recv_with_fds, send_with_fds};
use camring_ring::attach::wire::{ATTACH_VERSION, ClientMessage, DaemonMessage, RingKind};
use camring_ring::layout::PINS_OFFSET;
use camring_ring::{AttachOptions, Client};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::camera::Script;
use crate::support::process;
use crate::tape::Tape;
use crate::world::{PATIENCE, Spares, World};
use crate::{Fault, Run, Scenario, torture};

pub const CLIENTS: Scenario = Scenario {
    name: "clients",
    faults: &[
        Fault {
            name: "subscriber-scribbles",
            shows: &[],
        },
        Fault {
            name: "subscriber-hangs",
            shows: &[],
        },
        Fault {
            name: "subscriber-attaches-and-attaches",
            shows: &[],
        },
        Fault {
            name: "subscriber-storm",
            shows: &[],
        },
        Fault {
            name: "attach-garbage",
            shows: &["the first message must be HELLO"],
        },
        Fault {
            name: "attach-flood",
            shows: &["connections, the most allowed"],
        },
        Fault {
            name: "control-garbage",
            shows: &["not a message of this version"],
        },
        Fault {
            name: "ring-scribbled",
            shows: &[],
        },
    ],
    run: clients,
};

/// A connection without rules.
struct Raw(OwnedFd);

impl Raw {
    fn connect(path: &Path) -> Self {
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let socket = socket.expect("a socket");
        let address = SocketAddrUnix::new(path).expect("a short path");
        rustix::net::connect(&socket, &address).expect("the daemon accepts");
        Self(socket)
    }

    fn send(&self, message: &ClientMessage) {
        // The daemon may have hung up already.
        let _ = send_with_fds(&self.0, &message.encode(), &[]);
    }

    /// `None`: it hung up.
    fn receive(&self) -> Option<(DaemonMessage, Vec<OwnedFd>)> {
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience));
        assert_eq!(ready, Ok(1), "no answer");
        let mut buffer = [0; 4096];
        match recv_with_fds(&self.0, &mut buffer, 3) {
            Ok((0, _)) | Err(_) => None,
            Ok((len, fds)) => Some((
                DaemonMessage::decode(&buffer[..len]).expect("a message"),
                fds,
            )),
        }
    }

    /// Attaches by the rules. The bell, and ring, pins and notify socket.
    fn attached(path: &Path, pins: u8) -> (Self, OwnedFd, Vec<OwnedFd>) {
        let raw = Self::connect(path);
        raw.send(&ClientMessage::Hello {
            version: ATTACH_VERSION,
        });
        let (_, mut bell) = raw.receive().expect("a welcome");
        raw.send(&ClientMessage::Received { request: 0 });
        raw.send(&ClientMessage::Attach {
            request: 1,
            kind: RingKind::Frames,
            pins,
            pollable: true,
            name: "good-1".into(),
        });
        let (answer, fds) = raw.receive().expect("an answer");
        assert!(
            matches!(answer, DaemonMessage::Attached { .. }),
            "{answer:?}"
        );
        raw.send(&ClientMessage::Received { request: 1 });
        (raw, bell.remove(0), fds)
    }
}

fn tail(world: &World) -> Child {
    let mut command = world.daemon.camring(["tail", "good-1"]);
    let tail = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    tail.expect("camring starts")
}

fn end(mut child: Child) {
    child.kill().expect("a child");
    child.wait().expect("a child");
}

/// Descriptors of the supervisor, once clients have gone.
#[track_caller]
fn until_as_few_descriptors(world: &World, before: usize) {
    let pid = world.daemon.pid();
    world.until("no descriptor is kept", || {
        (process::descriptors(pid).len() <= before).then_some(())
    });
}

fn pidfd_of(process: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(process).expect("a pid")).expect("a pid");
    pidfd_open(pid, PidfdFlags::empty()).expect("it lives")
}

/// A reader is not dumpable: only root may look into it, and not in each container.
fn may_look_into(world: &World) -> Result<(), String> {
    let reader = pidfd_of(world.pid("victim", "/pid", 0));
    match pidfd_getfd(reader, 0, PidfdGetfdFlags::empty()) {
        Ok(_) | Err(Errno::BADF) => Ok(()),
        Err(error) => Err(format!("a descriptor of a reader: {error}")),
    }
}

fn clients(run: &mut Run) {
    let mut world = World::new(vec![("victim", Script::default(), true)]);
    world.until_records("victim");
    let path = world.daemon.socket();
    let few = process::descriptors(world.daemon.pid()).len() + 2;

    run.fault("subscriber-scribbles", |_| {
        let (_raw, bell, fds) = Raw::attached(&path, 8);
        let from = world.frames_seen();
        while world.frames_seen()[0] < from[0] + 30 {
            for _ in 0..64 {
                let value = match fastrand::u8(..3) {
                    0 => fastrand::u64(..),
                    1 => fastrand::u64(..100),
                    _ => u64::from(u32::MAX),
                };
                let bytes = value.to_le_bytes();
                rustix::io::pwrite(&fds[1], &bytes, fastrand::u64(..16) * 8).expect("its own page");
                rustix::io::pwrite(&bell, &bytes, fastrand::u64(..32) * 8).expect("its own page");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        world.unharmed(Spares::All);
    });

    run.fault("subscriber-hangs", |_| {
        // One holds frames for ever, and one is stopped in the middle of whatever it does.
        let (_raw, _bell, fds) = Raw::attached(&path, 8);
        for pin in 0..8u64 {
            let at = PINS_OFFSET as u64 + 8 * pin;
            rustix::io::pwrite(&fds[1], &(pin + 1).to_le_bytes(), at).expect("its own page");
        }
        let stopped = tail(&world);
        std::thread::sleep(Duration::from_millis(300));
        process::kill(stopped.id(), Signal::SIGSTOP);
        world.until_frames(40);
        world.unharmed(Spares::All);
        end(stopped);
    });
    until_as_few_descriptors(&world, few);

    run.fault("subscriber-attaches-and-attaches", |_| {
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let times = if torture() { 10_000 } else { 1_000 };
        let client = Client::connect(&path).expect("a connection");
        for _ in 0..times {
            drop(client.attach("good-1", &options).expect("attached"));
        }
        world.unharmed(Spares::All);
    });
    until_as_few_descriptors(&world, few);

    run.fault("subscriber-storm", |_| {
        let storm = if torture() { 300 } else { 30 };
        let mut running: Vec<Child> = Vec::new();
        for _ in 0..storm {
            running.push(tail(&world));
            if running.len() > 10 {
                end(running.swap_remove(fastrand::usize(..running.len())));
            }
        }
        running.into_iter().for_each(end);
        world.unharmed(Spares::All);
    });
    until_as_few_descriptors(&world, few);

    run.fault("attach-garbage", |shows| {
        for n in 0..200 {
            let raw = Raw::connect(&path);
            if n % 2 == 0 {
                raw.send(&ClientMessage::Hello {
                    version: ATTACH_VERSION,
                });
            }
            for _ in 0..5 {
                let length = fastrand::usize(1..600);
                let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
                    .take(length)
                    .collect();
                let _ = send_with_fds(&raw.0, &bytes, &[]);
            }
        }
        let raw = Raw::connect(&path);
        raw.send(&ClientMessage::Status { request: 1 });
        match raw.receive() {
            Some((DaemonMessage::Refused { text, .. }, _)) => {
                assert!(text.contains(shows[0]), "{text}")
            }
            other => panic!("{other:?}"),
        }
        world.unharmed(Spares::All);
    });
    until_as_few_descriptors(&world, few);

    run.fault("attach-flood", |shows| {
        let recorder = world.pid("victim", "/recording/pid", 0);
        let data = world.data_dir();
        let (mut flood, mut resets) = (Vec::new(), 0);
        let refused = loop {
            let raw = Raw::connect(&path);
            raw.send(&ClientMessage::Hello {
                version: ATTACH_VERSION,
            });
            match raw.receive() {
                Some((DaemonMessage::Refused { text, .. }, _)) => break text,
                Some(_) => flood.push(raw),
                // Sent away before it had said hello: then the kernel's reset overtakes the reason.
                None => resets += 1,
            }
            assert!(
                flood.len() < 600 && resets < 500,
                "no refusal: {}",
                flood.len()
            );
        };
        assert!(refused.contains(shows[0]), "{refused}");
        // The daemon's own processes find room all the same.
        let recorded = || Tape::read(&data, "victim").pictures();
        let before = recorded();
        process::kill(recorder, Signal::SIGKILL);
        world.until_frames(10);
        let what = "a new recorder records in spite of the flood";
        crate::support::wait_for(what, PATIENCE, || match recorded() {
            now if now > before + 20 => Ok(()),
            now => Err((before, now)),
        });
        drop(flood);
        world.until_records("victim");
        world.unharmed(Spares::All);
    });
    until_as_few_descriptors(&world, few);

    run.fault_where(may_look_into(&world), "control-garbage", |shows| {
        let reader = world.pid("victim", "/pid", 0);
        let pidfd = pidfd_of(reader);
        let mut sent = 0;
        for fd in 0..64 {
            let Ok(copy) = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()) else {
                continue;
            };
            if rustix::net::sockopt::socket_type(&copy) == Ok(SocketType::SEQPACKET) {
                let nonsense = b"{\"Ready\": [1, 2, \x00\xff garbage";
                sent +=
                    usize::from(rustix::net::send(&copy, nonsense, SendFlags::DONTWAIT).is_ok());
            }
        }
        assert!(sent > 0, "its control socket was not found");
        world.until_logged(shows[0]);
        world.pid("victim", "/pid", reader);
        world.until_streams("victim");
        world.unharmed(Spares::All);
    });

    run.fault_where(may_look_into(&world), "ring-scribbled", |_| {
        // As a reader that was taken over would: nonsense over the headers of its own rings.
        let reader = world.pid("victim", "/pid", 0);
        let mut scribbled = 0;
        for fd in 0..64 {
            let path = format!("/proc/{reader}/fd/{fd}");
            let Ok(link) = std::fs::read_link(&path) else {
                continue;
            };
            let link = link.display().to_string();
            if !link.starts_with("/memfd:") {
                continue;
            }
            let Ok(memory) = File::options().write(true).open(&path) else {
                continue;
            };
            let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
                .take(8192)
                .collect();
            scribbled += usize::from(memory.write_all_at(&noise, 0).is_ok());
        }
        assert!(scribbled > 0, "its rings were not found");
        world.unharmed(Spares::All);
        // Whatever it makes of that, the next one is given memory that is whole.
        process::kill(reader, Signal::SIGKILL);
        world.pid("victim", "/pid", reader);
        world.until_streams("victim");
        let options = AttachOptions {
            timeout: PATIENCE,
            ..AttachOptions::default()
        };
        let mut frames = world.until("a subscription", || {
            world.client().attach("victim", &options).ok()
        });
        for _ in 0..5 {
            let frame = frames
                .next_timeout(PATIENCE)
                .expect("a whole ring")
                .expect("a frame");
            let luma = frame.plane(0);
            let descriptor = frame.descriptor();
            let code = crate::support::framecode::read(
                luma,
                frame.plane_stride(0) as usize,
                descriptor.width as usize,
                descriptor.height as usize,
            );
            assert!(code.is_ok(), "{code:?}");
        }
        world.until_records("victim");
        world.unharmed(Spares::All);
    });
    world.one_session();
    world.end(0);
}
