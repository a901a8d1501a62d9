//! Who may attach, and what hostile clients achieve: nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use camring_ring::attach::server::{recv_with_fds, send_with_fds};
use camring_ring::attach::wire::{ATTACH_VERSION, ClientMessage, DaemonMessage, RingKind};
use camring_ring::{AttachError, AttachOptions, RingError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::viewer::{next, options};
use crate::world::{World, camera, descriptors, wait_for};

pub fn refusals_explain_themselves() {
    let cameras = camera("door", "") + &camera("off", "") + "enabled = false\n";
    let world = World::new(&cameras);
    let client = world.client();
    let Err(AttachError::UnknownCamera { text, .. }) = client.attach("nobody", &options(1)) else {
        panic!("attached to nobody");
    };
    assert_eq!(text, "no camera \"nobody\"; there are: door, off");
    let Err(AttachError::Refused { text, .. }) = client.attach("off", &options(1)) else {
        panic!("attached to a disabled camera");
    };
    assert_eq!(text, "camera \"off\" is disabled in the configuration");
    assert!(client.attach("off/sub", &options(1)).is_err());
    drop(world);

    let world = World::with_cameras(&[("broken", "exit=3&after=0")]);
    let mut hasty = options(1);
    hasty.timeout = Duration::ZERO;
    // Its ring may be made in one of its short lives; then it is attached to.
    if let Err(AttachError::NotReady { text, .. }) = world.client().attach("broken", &hasty) {
        assert!(text.starts_with("camera \"broken\" is in state "), "{text}");
    }
}

pub fn quotas_are_kept_and_given_back() {
    let world = World::new(&(camera("door", "") + "[camera.ring]\npins = 5\n"));
    let (first, second) = (world.client(), world.client());
    let mut three = first.attach("door", &options(3)).unwrap();
    let held: Vec<_> = (0..3).map(|_| next(&mut three)).collect();
    // More than asked for is the subscriber's own error, not a wait.
    let over = wait_for("a fourth frame", || match three.next() {
        Ok(None) => Err("none".to_owned()),
        other => Ok(other),
    });
    assert!(matches!(over, Err(RingError::PinQuota { .. })), "{over:?}");
    let Err(AttachError::Refused { text, .. }) = second.attach("door", &options(3)) else {
        panic!("6 of 5 pins");
    };
    assert!(
        text.contains("3 frames to hold") && text.contains("3 of the camera's 5"),
        "{text}"
    );
    let mut two = second.attach("door", &options(2)).unwrap();
    next(&mut two);
    assert_eq!(world.camera("door").subscribers, 2);
    drop((held, three));
    // A detach has no answer; the next attach comes after it in the same order.
    drop(first.attach("door", &options(3)).unwrap());
    drop(two);
    drop(second.attach("door", &options(5)).unwrap());
    world.wait_for_camera("door", "no subscriber", |c| c.subscribers == 0);
}

/// As when a ring is replaced while somebody attaches to it.
pub fn a_reader_that_refuses_a_subscriber_costs_it_a_moment() {
    let world = World::with_cameras(&[("door", "refuse=2")]);
    let client = world.client();
    let mut hasty = options(1);
    hasty.timeout = Duration::ZERO;
    let mut refused = Vec::new();
    let mut door = wait_for("frames", || match client.attach("door", &hasty) {
        Ok(door) => Ok(door),
        Err(error) => {
            refused.push(error.to_string());
            Err(error.to_string())
        }
    });
    next(&mut door);
    assert!(
        !refused.iter().any(|text| text.contains("did not answer")),
        "{refused:?}"
    );
    assert!(
        refused
            .iter()
            .any(|text| text.contains("is being replaced")),
        "{refused:?}"
    );
    world.wait_for_camera("door", "one subscriber", |c| c.subscribers == 1);
}

/// A connection that keeps to no rules.
struct Raw(OwnedFd);

impl Raw {
    fn connect(world: &World) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        let address = SocketAddrUnix::new(world.socket()).unwrap();
        wait_for("a connection", || {
            rustix::net::connect(&socket, &address).map_err(|e| e.to_string())
        });
        Self(socket)
    }

    fn greeted(world: &World) -> Self {
        let raw = Self::connect(world);
        raw.send(&ClientMessage::Hello {
            version: ATTACH_VERSION,
        });
        let (welcome, fds) = raw.receive().unwrap();
        assert!(
            matches!(welcome, DaemonMessage::Welcome { .. }),
            "{welcome:?}"
        );
        assert_eq!(fds.len(), 1);
        raw
    }

    fn send(&self, message: &ClientMessage) {
        // The daemon may have hung up already.
        let _ = send_with_fds(&self.0, &message.encode(), &[]);
    }

    /// `None`: hung up.
    fn receive(&self) -> Option<(DaemonMessage, Vec<OwnedFd>)> {
        let mut buffer = [0; 4096];
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None).unwrap();
        match recv_with_fds(&self.0, &mut buffer, 3) {
            Ok((0, _)) | Err(_) => None,
            Ok((len, fds)) => Some((DaemonMessage::decode(&buffer[..len]).unwrap(), fds)),
        }
    }

    /// Whether the daemon hangs up, after whatever it still has to say.
    fn is_sent_away(&self) -> bool {
        while self.receive().is_some() {}
        true
    }

    fn attach(&self, request: u32) {
        self.send(&ClientMessage::Attach {
            request,
            kind: RingKind::Frames,
            pins: 1,
            pollable: true,
            name: "door".into(),
        });
    }
}

pub fn hostile_clients_are_sent_away() {
    let world = World::with_cameras(&[("door", "")]);
    let mut honest = world.client().attach("door", &options(2)).unwrap();
    next(&mut honest);
    world.wait_for_camera("door", "its memory figure", |c| c.memory_bytes.is_some());
    let before = descriptors(world.pid()).len();

    let raw = Raw::connect(&world);
    let _ = send_with_fds(&raw.0, b"garbage", &[]);
    assert!(raw.is_sent_away());

    let raw = Raw::connect(&world);
    raw.attach(1);
    assert!(raw.is_sent_away(), "no HELLO");

    let raw = Raw::connect(&world);
    raw.send(&ClientMessage::Hello { version: 9999 });
    let (refusal, _) = raw.receive().unwrap();
    assert!(
        format!("{refusal:?}").contains("version 9999"),
        "{refusal:?}"
    );
    assert!(raw.is_sent_away());

    let raw = Raw::greeted(&world);
    let null = std::fs::File::open("/dev/null").unwrap();
    let status = ClientMessage::Status { request: 1 }.encode();
    let _ = send_with_fds(&raw.0, &status, &[null.as_fd()]);
    assert!(raw.is_sent_away(), "it sent a descriptor");

    let raw = Raw::greeted(&world);
    raw.send(&ClientMessage::Received { request: 5 });
    assert!(raw.is_sent_away(), "nothing of that number is open");

    let raw = Raw::greeted(&world);
    for request in 1..200 {
        raw.attach(request);
    }
    assert!(raw.is_sent_away(), "it asks without listening");

    // One that never acknowledges gets one packet with descriptors, and no more.
    let raw = Raw::greeted(&world);
    raw.send(&ClientMessage::Received { request: 0 });
    raw.attach(1);
    raw.attach(2);
    let (first, fds) = raw.receive().unwrap();
    assert!(
        matches!(
            first,
            DaemonMessage::Attached {
                request: 1,
                pins: 1,
                ..
            }
        ),
        "{first:?}"
    );
    assert_eq!(fds.len(), 3);
    let mut more = [0; 4096];
    assert!(
        recv_with_fds(&raw.0, &mut more, 3)
            .is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    );
    // Somebody else's attachment is not its to detach.
    raw.send(&ClientMessage::Detach {
        attachment: honest.id(),
    });
    raw.send(&ClientMessage::Received { request: 1 });
    assert!(matches!(
        raw.receive(),
        Some((DaemonMessage::Attached { request: 2, .. }, _))
    ));
    assert_eq!(world.camera("door").subscribers, 3);
    drop(raw);

    for _ in 0..50 {
        next(&mut honest);
    }
    world.wait_for_camera("door", "one subscriber", |c| {
        c.subscribers == 1 && c.restarts == 0
    });
    wait_for("all descriptors to be closed", || {
        match descriptors(world.pid()).len() {
            now if now <= before => Ok(()),
            now => Err(format!(
                "{before} before, {now} now: {:#?}",
                descriptors(world.pid())
            )),
        }
    });
}

pub fn access_units_are_there_too() {
    let world = World::with_cameras(&[("door", "fps=100")]);
    let mut units = world.client().attach_packets("door", &options(1)).unwrap();
    let mut bytes = Vec::new();
    let mut last = 0;
    let mut killed = false;
    for _ in 0..100 {
        let unit = units
            .next_timeout(&mut bytes, Duration::from_secs(60))
            .unwrap()
            .expect("an access unit within a minute");
        assert!(unit.sequence > last);
        last = unit.sequence;
        assert_eq!(bytes, unit.sequence.to_le_bytes().repeat(16));
        if !killed && last > 20 {
            killed = true;
            let pid = world.reader("door", 0);
            crate::world::signal(pid, rustix::process::Signal::KILL);
        }
    }
}

pub fn one_client_sees_many_cameras() {
    let names: Vec<String> = (0..4).map(|n| format!("c{n}")).collect();
    let plans: Vec<_> = names.iter().map(|name| (&**name, "fps=20")).collect();
    let world = World::with_cameras(&plans);
    let client = world.client();
    let mut pollable = options(1);
    pollable.pollable = true;
    let mut cameras: Vec<_> = names
        .iter()
        .map(|name| client.attach(name, &pollable).unwrap())
        .collect();
    let mut seen = [0; 4];
    while seen.iter().any(|&count| count < 10) {
        assert!(
            client.wait(Some(Duration::from_secs(60))).unwrap(),
            "{seen:?}"
        );
        for (camera, seen) in cameras.iter_mut().zip(&mut seen) {
            while let Some(frame) = camera.next().unwrap() {
                crate::viewer::verify(&frame);
                *seen += 1;
            }
        }
    }
    let fd = cameras[0].poll_fd().unwrap();
    assert_eq!(
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap(),
        1
    );
    let _: AttachOptions = pollable;
    assert_eq!(
        world.status().clients,
        2,
        "this client, and the one that asks"
    );
}
