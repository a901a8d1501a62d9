//! Processes that the kernel gives nothing more: descriptors, memory, processes, time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camring_ring::AttachError;
use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::camera::Script;
use crate::support::process;
use crate::world::{GOOD, Spares, World};
use crate::{Fault, Run, Scenario};

pub const LIMITS: Scenario = Scenario {
    name: "limits",
    faults: &[
        Fault {
            name: "descriptors-of-the-supervisor",
            shows: &["no connection can be accepted"],
        },
        Fault {
            name: "descriptors-of-the-server",
            shows: &[],
        },
        Fault {
            name: "descriptors-of-a-reader",
            shows: &["descriptors were lost"],
        },
        Fault {
            name: "descriptors-of-a-recorder",
            shows: &["Too many open files"],
        },
        Fault {
            name: "descriptors-of-the-spawner",
            shows: &[],
        },
        Fault {
            name: "memory-of-a-reader",
            shows: &["killed by SIGABRT"],
        },
        Fault {
            name: "no-more-processes",
            shows: &["Resource temporarily unavailable"],
        },
        Fault {
            name: "cpu-starved",
            shows: &["overload"],
        },
    ],
    run: limits,
};

/// A limit of another process, until this is dropped.
struct Limited {
    pid: Pid,
    resource: Resource,
    before: Rlimit,
}

impl Limited {
    fn to(pid: u32, resource: Resource, current: u64) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
        let keep = Rlimit {
            current: Some(current),
            maximum: None,
        };
        // The hard limit stays: without privilege it could not be raised again.
        let now = limits_now(pid, resource);
        let wanted = Rlimit {
            maximum: now.maximum,
            ..keep
        };
        prlimit(Some(pid), resource, wanted).expect("a process of this user's own");
        Self {
            pid,
            resource,
            before: now,
        }
    }

    /// No descriptor more than now.
    fn descriptors(pid: u32) -> Self {
        let lowest = (0u64..).find(|fd| !Path::new(&format!("/proc/{pid}/fd/{fd}")).exists());
        Self::to(pid, Resource::Nofile, lowest.expect("a free one"))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // It may have ended.
        let _ = prlimit(Some(self.pid), self.resource, self.before);
    }
}

/// As `/proc` has them.
fn limits_now(pid: Pid, resource: Resource) -> Rlimit {
    let path = format!("/proc/{}/limits", pid.as_raw_nonzero());
    let text = fs::read_to_string(path).expect("it lives");
    let name = match resource {
        Resource::Nofile => "Max open files",
        Resource::As => "Max address space",
        other => panic!("{other:?}"),
    };
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a line for each");
    let mut words = line[name.len()..].split_whitespace();
    let mut next = || words.next().and_then(|word| word.parse().ok());
    Rlimit {
        current: next(),
        maximum: next(),
    }
}

/// A cgroup of this test's own that counts processes.
struct Pids(PathBuf);

impl Pids {
    fn new() -> Option<Self> {
        let name = format!("camring-faults-{}", std::process::id());
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_ok() {
                let group = Self(folder);
                if group.0.join("pids.max").exists() {
                    return Some(group);
                }
            }
        }
        None
    }

    fn most(&self, most: &str) {
        fs::write(self.0.join("pids.max"), most).expect("written");
    }

    fn take(&self, pid: u32) -> bool {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).is_ok()
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        // Whatever still lives goes where it came from.
        let procs = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let parent = self.0.parent().map(|parent| parent.join("cgroup.procs"));
        for pid in procs.lines() {
            let _ = parent.as_ref().map(|parent| fs::write(parent, pid));
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn burner() -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]);
    command
        .stdin(Stdio::null())
        .spawn()
        .expect("setpriv (util-linux) starts")
}

fn fragments(flood: &Arc<AtomicBool>) -> Script {
    let flood = Arc::clone(flood);
    Script::play(move |p| {
        while p.faulty() && !flood.load(Ordering::SeqCst) {
            p.picture()?;
        }
        if p.faulty() {
            // A picture in fragments that never ends: each is kept for the next.
            let first = p.rtp_packet(&[vec![0x7c, 0x85], vec![1; 1200]].concat(), false);
            p.packet(0, &first)?;
            while p.faulty() {
                let more = p.rtp_packet(&[vec![0x7c, 0x05], vec![1; 1200]].concat(), false);
                p.packet(0, &more)?;
            }
        }
        Ok(())
    })
}

fn address_space(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("it lives") << 10
}

fn of_processes(run: &mut Run, world: &mut World, flood: &AtomicBool) {
    run.fault("descriptors-of-the-supervisor", |shows| {
        let before = world.pid("victim", "/pid", 0);
        let limited = Limited::descriptors(world.daemon.pid());
        // More knock than it can let in now.
        let (socket, stop) = (world.daemon.socket(), Arc::new(AtomicBool::new(false)));
        let knocks = Arc::clone(&stop);
        let knocking = std::thread::spawn(move || {
            let mut inside = Vec::new();
            while !knocks.load(Ordering::SeqCst) {
                inside.extend(camring_ring::Client::connect(&socket));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        world.until_logged_by_file(shows[0], 0);
        // A reader that dies now is replaced later too.
        process::kill(before, Signal::SIGKILL);
        world.until_frames(20);
        stop.store(true, Ordering::SeqCst);
        drop(limited);
        knocking.join().expect("no panic");
        world.pid("victim", "/pid", before);
        world.until_streams("victim");
        world.unharmed(Spares::All);
    });

    run.fault("descriptors-of-the-server", |_| {
        let address = world.address();
        let limited = Limited::descriptors(world.server_pid(0));
        let waiting =
            std::thread::spawn(move || crate::world::get(address, "/hls/good-1/index.m3u8"));
        world.until_frames(20);
        drop(limited);
        let answer = waiting.join().expect("no panic");
        world.until_answered("/hls/good-1/main/source/live.m3u8", 200, "#EXTINF");
        println!("who came meanwhile: {:?}", answer.map(|(code, _)| code));
        assert_eq!(world.status()["http"]["restarts"], 0);
        world.unharmed(Spares::All);
    });

    run.fault("descriptors-of-a-reader", |shows| {
        let before = world.camera("victim");
        let pid = world.pid("victim", "/pid", 0);
        let limited = Limited::descriptors(pid);
        let options = camring_ring::AttachOptions {
            timeout: Duration::from_secs(2),
            ..Default::default()
        };
        // Its pages cannot be handed over: the reader ends, and whoever attaches waits for the next one.
        match world.client().attach("victim", &options) {
            Ok(_) | Err(AttachError::NotReady { .. } | AttachError::TimedOut { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        world.until_logged(shows[0]);
        world.pid("victim", "/pid", pid);
        drop(limited);
        let now = world.until_streams("victim");
        let restarts = |camera: &serde_json::Value| camera["restarts"].as_u64();
        assert_eq!(restarts(&now), restarts(&before).map(|n| n + 1), "{now}");
        world.until("attached", || {
            world.client().attach("victim", &options).ok().map(drop)
        });
        world.unharmed(Spares::All);
    });

    run.fault("descriptors-of-a-recorder", |shows| {
        let recorder = world.pid("victim", "/recording/pid", 0);
        let limited = Limited::descriptors(recorder);
        // A break, and with it another file.
        let reader = world.pid("victim", "/pid", 0);
        process::kill(reader, Signal::SIGKILL);
        world.until_camera("victim", "trouble", |c| {
            c["recording"]["reason"]
                .as_str()
                .is_some_and(|text| text.contains(shows[0]))
                || c["recording"]["restarts"] != 0
        });
        drop(limited);
        world.until_records("victim");
        world.unharmed(Spares::All);
    });

    run.fault("descriptors-of-the-spawner", |_| {
        let spawner = world.spawner_pid(0);
        let _limited = Limited::descriptors(spawner);
        let reader = world.pid("victim", "/pid", 0);
        process::kill(reader, Signal::SIGKILL);
        // It cannot fork, so another one does: nothing needs to be put right.
        world.pid("victim", "/pid", reader);
        world.spawner_pid(spawner);
        world.until_streams("victim");
        world.unharmed(Spares::All);
    });

    run.fault("memory-of-a-reader", |shows| {
        let times = world.log().matches(shows[0]).count();
        let pid = world.pid("greedy", "/pid", 0);
        world.until_streams("greedy");
        let _limited = Limited::to(pid, Resource::As, address_space(pid) + (1 << 20));
        flood.store(true, Ordering::SeqCst);
        world.until_logged_again(shows[0], times);
        world.victim("greedy").behave();
        world.pid("greedy", "/pid", pid);
        world.until_streams("greedy");
        world.unharmed(Spares::All);
    });
}

fn limits(run: &mut Run) {
    let flood = Arc::new(AtomicBool::new(false));
    let victims = vec![
        ("victim", Script::default(), true),
        ("greedy", fragments(&flood), false),
    ];
    let mut world = World::new(victims);
    world.until_records("victim");
    of_processes(run, &mut world, &flood);

    match Pids::new() {
        None => run.not_here("no-more-processes", "no cgroup for processes can be made"),
        Some(group) => run.fault("no-more-processes", |shows| {
            let mut all = vec![world.daemon.pid()];
            all.extend(world.processes());
            assert!(all.iter().all(|pid| group.take(*pid)));
            group.most("1");
            let reader = world.pid("victim", "/pid", 0);
            process::kill(reader, Signal::SIGKILL);
            world.until_logged(shows[0]);
            for _ in 0..10 {
                // May be answered or not, as long as it is again later.
                let _ = world.get("/api/v1/cameras/good-1/snapshot.jpg");
            }
            world.until_frames(10);
            group.most("max");
            world.pid("victim", "/pid", reader);
            world.until_streams("victim");
            world.until_answered("/api/v1/cameras/good-1/snapshot.jpg", 200, "image/jpeg");
            world.unharmed(Spares::All);
            drop(group);
        }),
    }

    run.fault("cpu-starved", |shows| {
        let mut burners: Vec<Child> = (0..4).map(|_| burner()).collect();
        world.until_frames(40);
        for child in &mut burners {
            child.kill().expect("a child");
            child.wait().expect("a child");
        }
        // What is left out is counted, which `unharmed` compares with the pictures.
        for name in GOOD {
            let camera = world.camera(name);
            assert!(camera["frames_dropped"][shows[0]].is_u64(), "{camera}");
        }
        world.unharmed(Spares::All);
    });
    world.one_session();
    world.end(0);
}
