//! Cameras that do wrong, and the network between: a choice of `tests/hostile`, beside good ones that
//! are recorded.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::camera::{Answer, Script};
use crate::world::{Spares, World, table};
use crate::{Fault, Run, Scenario};

pub const CAMERAS: Scenario = Scenario {
    name: "cameras",
    faults: &[
        Fault {
            name: "camera-sends-garbage",
            shows: &["Invalid RTSP message"],
        },
        Fault {
            name: "camera-flaps",
            shows: &["ended the stream"],
        },
        Fault {
            name: "camera-resets",
            shows: &["ended the stream"],
        },
        Fault {
            name: "camera-loses-packets",
            shows: &["rtp_packets_lost"],
        },
        Fault {
            name: "camera-refuses-login",
            shows: &["refuses the login"],
        },
        Fault {
            name: "camera-has-no-stream",
            shows: &["no such stream (404)"],
        },
        Fault {
            name: "camera-drips",
            shows: &["no answer within"],
        },
        Fault {
            name: "camera-falls-silent",
            shows: &["no picture for"],
        },
        Fault {
            name: "network-cut",
            shows: &["no picture for"],
        },
        Fault {
            name: "connect-refused",
            shows: &["refused"],
        },
        Fault {
            name: "connect-hangs",
            shows: &["no answer within"],
        },
        Fault {
            name: "name-unknown",
            shows: &[],
        },
    ],
    run: cameras,
};

/// A state, and which camera of the list shows it.
const STATES: [(&str, &str); 12] = [
    ("camera-sends-garbage", "backoff"),
    ("camera-flaps", "backoff"),
    ("camera-resets", "backoff"),
    ("camera-loses-packets", "streaming"),
    ("camera-refuses-login", "unauthorized"),
    ("camera-has-no-stream", "failed"),
    ("camera-drips", "backoff"),
    ("camera-falls-silent", "backoff"),
    ("network-cut", "backoff"),
    ("connect-refused", "backoff"),
    ("connect-hangs", "backoff"),
    ("name-unknown", "backoff"),
];

fn scripts() -> Vec<(&'static str, Script, bool)> {
    let login = || {
        Answer::status(
            401,
            "WWW-Authenticate: Digest realm=\"cam\", nonce=\"1\"\r\n",
        )
    };
    vec![
        (
            "camera-sends-garbage",
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                while p.faulty() {
                    p.raw(&[0x13; 300])?;
                    p.wait(crate::player::PERIOD)?;
                }
                p.close()
            }),
            true,
        ),
        (
            "camera-flaps",
            Script::play(|p| {
                p.pictures(5)?;
                p.close()
            }),
            true,
        ),
        (
            "camera-resets",
            Script::play(|p| {
                p.pictures(5)?;
                p.reset()
            }),
            false,
        ),
        (
            "camera-loses-packets",
            Script::play(|p| {
                while p.faulty() {
                    for packet in p.picture_packets()? {
                        if p.random(20) != 0 {
                            p.packet(0, &packet)?;
                        }
                    }
                }
                p.close()
            }),
            true,
        ),
        ("camera-refuses-login", Script::on("DESCRIBE", login), false),
        (
            "camera-has-no-stream",
            Script::on("DESCRIBE", || Answer::status(404, "")),
            false,
        ),
        (
            "camera-drips",
            Script::on("DESCRIBE", || {
                Answer::Drip(vec![b'x'; 10_000], 1, Duration::from_millis(50))
            }),
            false,
        ),
        (
            "camera-falls-silent",
            Script::play(|p| {
                p.pictures(10)?;
                while p.faulty() {
                    p.wait(crate::player::PERIOD)?;
                }
                p.close()
            }),
            true,
        ),
        (
            // Neither sends nor reads any more: what a pulled cable looks like.
            "network-cut",
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                p.camera.go_deaf();
                p.silence()
            }),
            true,
        ),
    ]
}

/// A listener whose backlog is full: who connects is not answered.
fn deaf_listener() -> (TcpListener, Vec<std::net::TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    bind(&socket, &any).expect("a port");
    listen(&socket, 0).expect("a listener");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500))
    {
        held.push(stream);
        assert!(held.len() < 50, "a backlog without end");
    }
    (listener, held)
}

/// A port that is taken, so that nobody else gets it, at which nobody listens.
fn silent_port() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    bind(&socket, &any).expect("a port");
    let address = getsockname(&socket).expect("an address");
    (socket, address.try_into().expect("an IP address"))
}

fn cameras(run: &mut Run) {
    let (deaf, held) = deaf_listener();
    let (taken, refused) = silent_port();
    let deaf_at = deaf.local_addr().expect("an address");
    let url = |address: SocketAddr| format!("rtsp://{address}/x");
    let quick = "[camera.retry]\nconnect_timeout = \"3s\"\n";
    let more = [
        table("connect-refused", &url(refused), false),
        table("connect-hangs", &url(deaf_at), false) + quick,
        table("name-unknown", "rtsp://camera.invalid/x", false),
    ]
    .concat();
    let mut world = World::start(&[], &more, scripts());
    for (name, state) in STATES {
        run.fault(name, |shows| match state {
            "streaming" => {
                world.until_camera(name, "lost packets", |c| {
                    c["state"] == state && c[shows[0]].as_u64() > Some(0)
                });
            }
            _ => {
                world.until_shown(name, state, shows);
            }
        });
    }
    world.unharmed(Spares::All);
    drop((deaf, held, taken));
    for (name, _) in STATES {
        if name.starts_with("camera-") || name == "network-cut" {
            world.victim(name).behave();
        }
    }
    for (name, _, recorded) in scripts() {
        world.until_streams(name);
        if recorded {
            world.until_records(name);
        }
    }
    world.unharmed(Spares::All);
    world.one_session();
    world.end(0);
}
