//! Clients of the HTTP server that starve and bomb it, and damage to what it serves from.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::camera::Script;
use crate::support::process;
use crate::world::{PATIENCE, Spares, World};
use crate::{Fault, Run, Scenario};

pub const HTTP: Scenario = Scenario {
    name: "http",
    faults: &[
        Fault {
            name: "http-slow-clients",
            shows: &["30 s"],
        },
        Fault {
            name: "http-idle-clients",
            shows: &[],
        },
        Fault {
            name: "http-header-bomb",
            shows: &["431"],
        },
        Fault {
            name: "http-port-taken",
            shows: &["failed"],
        },
        Fault {
            name: "index-deleted",
            shows: &[],
        },
        Fault {
            name: "index-scribbled",
            shows: &["index.db.damaged"],
        },
        Fault {
            name: "minute-scribbled",
            shows: &["recording-damaged", "media-crashed"],
        },
        Fault {
            name: "minute-truncated",
            shows: &[],
        },
    ],
    run: http,
};

const PLAYLIST: &str = "/hls/good-1/main/source/live.m3u8";

/// The recorded minutes of a camera: files of this ending.
fn minutes(world: &World, camera: &str, ending: &str) -> Vec<PathBuf> {
    let folder = world
        .data_dir()
        .join("recordings")
        .join(camera)
        .join("source");
    let hours = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = hours.flat_map(|hour| fs::read_dir(hour.path()).into_iter().flatten().flatten());
    let fits = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    files.map(|file| file.path()).filter(fits).collect()
}

fn http(run: &mut Run) {
    // Taken by somebody else when the daemon starts.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let mut world = World::start_with(
        &[],
        &listen,
        "",
        vec![("victim", Script::default(), true)],
        |_| {},
    );

    run.fault("http-port-taken", |shows| {
        let http = world.until("it cannot listen", || {
            let http = world.status()["http"].clone();
            (http["state"] == shows[0]).then_some(http)
        });
        assert!(
            http["reason"]
                .as_str()
                .is_some_and(|text| text.contains("in use")),
            "{http}"
        );
        world.unharmed(Spares::All);
        drop(taken);
        world.until_answered(PLAYLIST, 200, "#EXTM3U");
    });

    let address = world.address();
    let connect = || {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    };
    // Begun first, since they are put up with for so long.
    let slow: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
    let dripping = slow
        .iter()
        .map(|stream| stream.try_clone().expect("a socket"))
        .collect::<Vec<_>>();
    let drips = std::thread::spawn(move || {
        let mut left = dripping;
        for byte in b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            left.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });

    run.fault("http-idle-clients", |_| {
        let idle: Vec<TcpStream> = (0..1000).map(|_| connect()).collect();
        for _ in 0..10 {
            world.until_answered(PLAYLIST, 200, "#EXTM3U");
        }
        world.unharmed(Spares::All);
        drop(idle);
    });

    run.fault("http-header-bomb", |shows| {
        let long = "x".repeat(60_000);
        let many: String = (0..2000).map(|n| format!("h{n}: x\r\n")).collect();
        for bomb in [format!("X: {long}\r\n"), many] {
            let mut stream = connect();
            let _ = write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n");
            let mut answer = [0; 64];
            // Some of the bomb may be unread when it hangs up.
            if let Ok(read) = stream.read(&mut answer) {
                let text = String::from_utf8_lossy(&answer[..read]).into_owned();
                assert!(text.is_empty() || text.contains(shows[0]), "{text}");
            }
        }
        world.until_answered(PLAYLIST, 200, "#EXTM3U");
        world.unharmed(Spares::All);
    });

    run.fault("index-deleted", |_| {
        for name in ["index.db", "index.db-wal", "index.db-shm"] {
            let _ = fs::remove_file(world.data_dir().join(name));
        }
        world.until_answered(PLAYLIST, 200, "#EXTM3U");
        let server = world.server_pid(0);
        process::kill(server, Signal::SIGKILL);
        world.server_pid(server);
        world.until_answered(PLAYLIST, 200, "#EXTINF");
        world.unharmed(Spares::All);
    });

    run.fault("index-scribbled", |shows| {
        let path = world.data_dir().join("index.db");
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("the index");
        let noise = vec![0x5a; fs::metadata(&path).expect("there").len().max(8192) as usize];
        file.write_all_at(&noise, 0).expect("written");
        let _ = fs::remove_file(world.data_dir().join("index.db-wal"));
        // Noticed at the latest by the next one.
        let server = world.server_pid(0);
        process::kill(server, Signal::SIGKILL);
        world.until_logged(shows[0]);
        world.until_answered(PLAYLIST, 200, "#EXTINF");
        world.unharmed(Spares::All);
    });

    run.fault("minute-scribbled", |shows| {
        world.until_records("victim");
        world.until_answered("/hls/victim/main/source/live.m3u8", 200, "#EXTINF");
        let files = minutes(&world, "victim", "m4s");
        let now = crate::support::unix_ns() / 1_000_000_000;
        assert!(!files.is_empty());
        for path in &files {
            let length = fs::metadata(path).expect("there").len();
            let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
                .take(length as usize)
                .collect();
            let file = fs::File::options()
                .write(true)
                .open(path)
                .expect("a minute");
            file.write_all_at(&noise, 0).expect("written");
        }
        // Noise can also bring down what decodes it, which costs that answer.
        let ask = format!(
            "/api/v1/cameras/victim/preview.gif?from={}&to={}",
            now - 300,
            now - 3
        );
        world.until("pictures of it to be refused", || {
            let (code, text) = world.get(&ask).ok()?;
            (code == 422 && text.contains(shows[0]) || code == 500 && text.contains(shows[1]))
                .then_some(())
        });
        world.until_answered("/hls/victim/main/source/live.m3u8", 200, "#EXTM3U");
        world.unharmed(Spares::All);
    });

    run.fault("minute-truncated", |_| {
        for path in minutes(&world, "victim", "m4s") {
            let file = fs::File::options()
                .write(true)
                .open(path)
                .expect("a minute");
            file.set_len(100).expect("cut");
        }
        world.until_records("victim");
        world.until_answered("/hls/victim/main/source/live.m3u8", 200, "#EXTM3U");
        let (code, _) = world
            .get("/hls/victim/main/source/s/0.m4s")
            .expect("an answer");
        assert!([200, 404, 500, 503].contains(&code), "{code}");
        world.until_answered(PLAYLIST, 200, "#EXTINF");
        world.unharmed(Spares::All);
    });

    run.fault("http-slow-clients", |_| {
        // Hung up on, each of them, while others were answered.
        drips.join().expect("no panic");
        for mut stream in slow {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert!(
                text.is_empty() || text.starts_with("HTTP/1.1 408"),
                "{text}"
            );
        }
        world.until_answered(PLAYLIST, 200, "#EXTM3U");
        world.unharmed(Spares::All);
    });
    world.one_session();
    world.end(0);
}
