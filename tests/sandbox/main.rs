//! Hostile code inside the sandbox of each kind of process: what it tries is refused, or ends it.
//!
//! This test has a `main` of its own (`harness = false`): a process enters its sandbox with one thread,
//! so the hostile code runs in this file executed again (`hostile.rs`).

mod hostile;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use camring::sandbox::Kernel;
use tempfile::TempDir;

const EPERM: i32 = libc::EPERM;
const EACCES: i32 = libc::EACCES;
const KINDS: [&str; 4] = ["reader", "recorder", "server", "worker"];

/// What nobody may try, whose absence from the list is a violation.
const VIOLATIONS: [&str; 14] = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "mount",
    "unshare",
    "bpf",
    "keyctl",
    "io_uring_setup",
    "userfaultfd",
    "perf_event_open",
    "packet_socket",
    "vsock_socket",
    "setuid",
];

/// What all but the server may not try.
const BUT_SERVER: [&str; 3] = ["exec", "fork", "kill_sibling"];

/// What they are refused without ado, in either mode: libraries try it.
const REFUSED_BUT_SERVER: [&str; 4] = [
    "netlink_socket",
    "unix_stream_socket",
    "sibling_limits",
    "sibling_priority",
];

const TESTS: &[(&str, fn())] = &[
    ("violations_are_refused", violations_are_refused),
    (
        "violations_end_it_where_asked",
        violations_end_it_where_asked,
    ),
    (
        "without_a_sandbox_all_of_it_works",
        without_a_sandbox_all_of_it_works,
    ),
    ("what_it_needs_it_has", what_it_needs_it_has),
    (
        "a_reader_with_a_device_has_its_driver_and_no_more",
        a_reader_with_a_device_has_its_driver_and_no_more,
    ),
    ("nothing_is_left_to_gain", nothing_is_left_to_gain),
    ("a_second_thread_is_noticed", a_second_thread_is_noticed),
    (
        "threads_start_though_a_library_wants_executable_stacks",
        threads_start_though_a_library_wants_executable_stacks,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == hostile::ARGUMENT)
    {
        hostile::main(&arguments[1..]);
    }
    let wanted: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let list = arguments.iter().any(|a| a == "--list");
    let mut failed = 0;
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        if list {
            println!("{name}: test");
        } else if catch_unwind(test).is_ok() {
            println!("test {name} ... ok");
        } else {
            println!("test {name} ... FAILED");
            failed += 1;
        }
    }
    std::process::exit(i32::from(failed > 0));
}

/// What hostile code finds around it.
struct World {
    folder: TempDir,
    sibling: Child,
    camera: TcpListener,
    other: TcpListener,
    ring: File,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["own", "other"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let ring = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC);
        let sibling = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv and sleep");
        Self {
            folder,
            sibling,
            camera: listen(),
            other: listen(),
            ring: ring.expect("memory").into(),
        }
    }

    /// Runs hostile code. What it prints, and the signal that ended it.
    fn run(
        &self,
        kind: &str,
        mode: &str,
        actions: &[&str],
    ) -> (BTreeMap<String, i32>, Option<i32>) {
        self.run_with(None, kind, mode, actions)
    }

    /// The same, with a library loaded before all others.
    fn run_with(
        &self,
        library: Option<&Path>,
        kind: &str,
        mode: &str,
        actions: &[&str],
    ) -> (BTreeMap<String, i32>, Option<i32>) {
        let port =
            |listener: &TcpListener| listener.local_addr().expect("bound").port().to_string();
        let output = Command::new("/proc/self/exe")
            .args([hostile::ARGUMENT, kind, mode])
            .arg(self.folder.path())
            .arg(self.sibling.id().to_string())
            .args([port(&self.camera), port(&self.other)])
            .arg(format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                self.ring.as_raw_fd()
            ))
            .args(actions)
            .envs(library.map(|path| ("LD_PRELOAD", path)))
            .stdin(Stdio::null())
            .output()
            .expect("this program");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text
            .lines()
            .filter_map(|line| {
                let (name, errno) = line.split_once('=')?;
                Some((name.to_owned(), errno.parse().ok()?))
            })
            .collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        let signal = output.status.signal();
        assert!(
            signal.is_some() || output.status.success(),
            "{kind} {mode} {actions:?}: {:?} {errors}",
            output.status
        );
        (said, signal)
    }

    #[track_caller]
    fn expect(&self, kind: &str, actions: &[&str], errno: i32) {
        let (said, signal) = self.run(kind, "errno", actions);
        assert_eq!(signal, None, "{kind} {actions:?}");
        for action in actions {
            assert_eq!(
                said.get(*action),
                Some(&errno),
                "{kind}: {action}: {said:?}"
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.sibling.kill();
        let _ = self.sibling.wait();
    }
}

fn violations_are_refused() {
    let world = World::new();
    let abi = Kernel::probe().landlock_abi;
    for kind in KINDS {
        world.expect(kind, &VIOLATIONS, EPERM);
        if kind != "server" {
            world.expect(kind, &BUT_SERVER, EPERM);
            world.expect(kind, &REFUSED_BUT_SERVER, EACCES);
        }
        if abi >= 1 {
            world.expect(kind, &["write_outside", "open_ring"], EACCES);
        }
        world.expect(kind, &["clone3"], libc::ENOSYS);
    }
    for kind in ["reader", "worker"] {
        world.expect(
            kind,
            &[
                "open_file",
                "write_outside",
                "write_inside",
                "open_ring",
                "executable_memory",
            ],
            EACCES,
        );
    }
    world.expect("worker", &["internet_socket"], EPERM);
    world.expect("recorder", &["internet_socket"], EPERM);
    if abi >= 1 {
        world.expect("recorder", &["open_file"], EACCES);
        // Only itself, not whatever is installed.
        world.expect("server", &["exec"], EACCES);
        world.expect("server", &["open_hidden"], EACCES);
    }
    if abi >= 4 {
        world.expect("reader", &["connect_other"], EACCES);
        world.expect("server", &["bind_other"], EACCES);
    }
    if abi >= 6 {
        world.expect("server", &["kill_sibling"], EPERM);
    }
}

fn violations_end_it_where_asked() {
    let world = World::new();
    for kind in KINDS {
        let but: &[&str] = match kind {
            "server" => &[],
            _ => &BUT_SERVER,
        };
        // The server's are the same lists; one of them is enough.
        let violations: &[&str] = match kind {
            "reader" => &VIOLATIONS,
            _ => &VIOLATIONS[..1],
        };
        for action in violations.iter().chain(but) {
            let (said, signal) = world.run(kind, "kill", &[action]);
            assert_eq!(signal, Some(libc::SIGSYS), "{kind}: {action}: {said:?}");
        }
    }
    // What libraries try costs them nothing.
    for kind in ["reader", "worker"] {
        let (said, signal) = world.run(kind, "kill", &["open_file", "netlink_socket", "clone3"]);
        assert_eq!((said.len(), signal), (3, None), "{kind}");
    }
}

/// The other half of the proof: it is the sandbox that refuses.
fn without_a_sandbox_all_of_it_works() {
    let world = World::new();
    let (said, signal) = world.run(
        "reader",
        "off",
        &[
            "open_file",
            "open_ring",
            "write_outside",
            "write_inside",
            "unix_stream_socket",
            "netlink_socket",
            "internet_socket",
            "connect_other",
            "bind_other",
            "kill_sibling",
            "sibling_limits",
            "sibling_priority",
            "executable_memory",
            "fork",
        ],
    );
    assert_eq!(signal, None);
    assert!(
        said.len() == 14 && said.values().all(|&errno| errno == 0),
        "{said:?}"
    );
}

fn what_it_needs_it_has() {
    let world = World::new();
    let all = [
        "thread",
        "memory",
        "clock",
        "random",
        "own_priority",
        "own_pipe",
        "stderr",
    ];
    for kind in KINDS {
        let (said, signal) = world.run(kind, "kill", &all);
        assert_eq!(signal, None, "{kind}");
        assert!(
            said.len() == all.len() && said.values().all(|&e| e == 0),
            "{kind}: {said:?}"
        );
    }
    for (kind, actions) in [
        ("reader", &["internet_socket", "connect_camera"][..]),
        ("recorder", &["write_inside", "attach_socket"]),
        (
            "server",
            &[
                "write_inside",
                "unix_stream_socket",
                "bind_own",
                "exec_itself",
                "open_library",
            ],
        ),
    ] {
        let (said, signal) = world.run(kind, "kill", actions);
        assert_eq!(signal, None, "{kind}");
        assert!(
            said.len() == actions.len() && said.values().all(|&e| e == 0),
            "{kind}: {said:?}"
        );
    }
}

fn a_reader_with_a_device_has_its_driver_and_no_more() {
    let world = World::new();
    let abi = Kernel::probe().landlock_abi;
    world.expect("driver", &VIOLATIONS, EPERM);
    world.expect("driver", &BUT_SERVER, EPERM);
    world.expect("driver", &REFUSED_BUT_SERVER, EACCES);
    // By the filter, and so also where there is no Landlock.
    world.expect("driver", &["write_outside", "write_inside"], EACCES);
    if abi >= 1 {
        world.expect("driver", &["open_file", "open_ring"], EACCES);
    }
    if abi >= 4 {
        world.expect("driver", &["connect_other"], EACCES);
    }
    world.expect(
        "driver",
        &["open_library", "executable_memory", "connect_camera"],
        0,
    );
}

/// No capability, no way to get one, no core file.
fn nothing_is_left_to_gain() {
    let world = World::new();
    for kind in KINDS {
        let (said, signal) = world.run(kind, "kill", &["privileges"]);
        assert_eq!((said.get("privileges"), signal), (Some(&0), None), "{kind}");
    }
}

fn a_second_thread_is_noticed() {
    let world = World::new();
    let (said, _) = world.run("reader", "threads", &[]);
    assert_eq!(said.get("refused"), Some(&0), "{said:?}");
}

fn threads_start_though_a_library_wants_executable_stacks() {
    let world = World::new();
    let (source, library) = (
        world.folder.path().join("stack.c"),
        world.folder.path().join("libstack.so"),
    );
    fs::write(&source, "int nothing;\n").expect("written");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-z,execstack", "-o"])
        .args([&library, &source])
        .status();
    assert!(made.expect("a C compiler (apt install gcc)").success());
    for kind in KINDS {
        let actions = ["thread", "executable_memory", "told"];
        let (said, signal) = world.run_with(Some(&library), kind, "kill", &actions);
        assert_eq!(signal, None, "{kind}: {said:?}");
        for action in ["thread", "executable_memory"] {
            assert_eq!(said.get(action), Some(&0), "{kind}: {action}: {said:?}");
        }
        // Whoever may make code has nothing to say about it.
        let told = i32::from(kind != "server");
        assert_eq!(said.get("told"), Some(&told), "{kind}");
    }
    let (said, _) = world.run_with(Some(&library), "worker", "stack", &[]);
    assert_eq!(said.get("refused"), Some(&1), "{said:?}");
}
