//! What hostile code would try, by name; each answered by the kernel's error number, 0 for none.
//!
//! Arguments that would do harm where they were allowed are such that the kernel refuses them later.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use camring::config::{OnViolation, Sandbox, SandboxMode};
use camring::sandbox::{self, Profile};
use camring::sys;

pub const ARGUMENT: &str = "__hostile";

struct Around {
    folder: PathBuf,
    sibling: i64,
    camera: u16,
    other: u16,
    ring: String,
    own: u16,
}

/// `__hostile KIND MODE FOLDER SIBLING CAMERA OTHER RING ACTION…`
pub fn main(arguments: &[String]) -> ! {
    let [
        kind,
        mode,
        folder,
        sibling,
        camera,
        other,
        ring,
        actions @ ..,
    ] = arguments
    else {
        panic!("{arguments:?}");
    };
    // A port to bind later.
    let own = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr());
    let around = Around {
        folder: folder.into(),
        sibling: sibling.parse().expect("a pid"),
        camera: camera.parse().expect("a port"),
        other: other.parse().expect("a port"),
        ring: ring.clone(),
        own: own.expect("a port").port(),
    };
    let inside = around.folder.join("own");
    let profile = match kind.as_str() {
        "reader" => Profile::Reader {
            port: around.camera,
            devices: false,
        },
        "driver" => Profile::Reader {
            port: around.camera,
            devices: true,
        },
        "recorder" => Profile::Recorder {
            folder: inside,
            devices: false,
        },
        "server" => Profile::Server {
            data_dir: inside,
            read: Vec::new(),
            hidden: vec!["/etc/passwd".into()],
            port: Some(around.own),
        },
        _ => Profile::Worker,
    };
    if mode == "threads" {
        let other = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
        let sandbox = Sandbox {
            enabled: SandboxMode::Require,
            on_violation: OnViolation::Errno,
        };
        let refused = sandbox::enter(sandbox, &profile);
        let told = refused.is_err_and(|error| error.to_string().contains("2 threads"));
        println!("refused={}", i32::from(!told));
        drop(other);
        sys::exit_now(0);
    }
    if mode == "stack" {
        let sandbox = Sandbox {
            enabled: SandboxMode::Require,
            on_violation: OnViolation::Errno,
        };
        let refused = sandbox::enter(sandbox, &profile);
        let told = refused.is_err_and(|error| error.to_string().contains("libstack.so"));
        println!("refused={}", i32::from(told));
        sys::exit_now(0);
    }
    let sandbox = Sandbox {
        enabled: match mode.as_str() {
            "off" => SandboxMode::Off,
            _ => SandboxMode::Auto,
        },
        on_violation: match mode.as_str() {
            "kill" => OnViolation::Kill,
            _ => OnViolation::Errno,
        },
    };
    let begun = Instant::now();
    let entered = sandbox::enter(sandbox, &profile).expect("auto never fails");
    let took = begun.elapsed();
    assert!(entered.seccomp || mode == "off", "{entered}");
    for action in actions {
        if action == "cost" {
            println!("{}", cost(took));
            continue;
        }
        if action == "told" {
            let told = entered
                .missing
                .iter()
                .any(|text| text.contains("libstack.so"));
            println!("told={}", i32::from(told));
            continue;
        }
        let errno = act(action, &around);
        println!("{action}={errno}");
    }
    sys::exit_now(0)
}

/// Of entering, of a call that is allowed as it is, and of one whose arguments are looked at.
fn cost(entering: Duration) -> String {
    const TIMES: u32 = 1_000_000;
    let each = |number: i64, arguments: [i64; 5]| {
        let begun = Instant::now();
        for _ in 0..TIMES {
            call(number, arguments);
        }
        begun.elapsed().as_nanos() / u128::from(TIMES)
    };
    format!(
        "enter {} us, getppid {} ns, ioctl {} ns, prlimit64 {} ns",
        entering.as_micros(),
        each(libc::SYS_getppid, [0; 5]),
        each(libc::SYS_ioctl, [-1, libc::FIONREAD as i64, 0, 0, 0]),
        each(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE.into(), 0, 0, 0]),
    )
}

/// A system call by its number, and the error.
fn call(number: i64, arguments: [i64; 5]) -> i32 {
    let [a, b, c, d, e] = arguments;
    let f = 0i64;
    // SAFETY: each caller passes null pointers or numbers only, or a pointer to memory of its own that
    // outlives the call; what the call does to this process is what the test is about.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
        _ => 0,
    }
}

fn of<T>(result: std::io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn socket(family: i32, kind: i32) -> i32 {
    call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0])
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn write(path: &Path) -> i32 {
    let mut options = OpenOptions::new();
    of(options.write(true).create(true).truncate(true).open(path))
}

fn act(action: &str, around: &Around) -> i32 {
    let sibling = around.sibling;
    match action {
        "open_file" => of(
            File::open("/etc/hostname").or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => File::open("/etc/passwd"),
                _ => Err(error),
            }),
        ),
        "open_hidden" => of(File::open("/etc/passwd")),
        "open_library" => of(fs::read_dir("/usr/lib")),
        "open_ring" => {
            let mut options = OpenOptions::new();
            of(options.read(true).write(true).open(&around.ring))
        }
        "write_outside" => write(&around.folder.join("other/file")),
        "write_inside" => {
            let path = around.folder.join("own/hour/file");
            let made = fs::create_dir_all(around.folder.join("own/hour"));
            match made {
                Ok(()) => match write(&path) {
                    0 => of(fs::remove_file(path)),
                    errno => errno,
                },
                Err(error) => error.raw_os_error().unwrap_or(-1),
            }
        }
        "ptrace" => call(
            libc::SYS_ptrace,
            [libc::PTRACE_ATTACH.into(), sibling, 0, 0, 0],
        ),
        "process_vm_readv" => call(libc::SYS_process_vm_readv, [sibling, 0, 0, 0, 0]),
        "process_vm_writev" => call(libc::SYS_process_vm_writev, [sibling, 0, 0, 0, 0]),
        "pidfd_getfd" => call(libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [0; 5]),
        "unshare" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0]),
        "bpf" => call(libc::SYS_bpf, [-1, 0, 0, 0, 0]),
        "keyctl" => call(libc::SYS_keyctl, [-1, 0, 0, 0, 0]),
        "io_uring_setup" => call(libc::SYS_io_uring_setup, [0; 5]),
        "userfaultfd" => call(libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
        "perf_event_open" => call(libc::SYS_perf_event_open, [0, -1, -1, -1, 0]),
        "setuid" => call(libc::SYS_setuid, [0; 5]),
        "packet_socket" => socket(libc::AF_PACKET, libc::SOCK_RAW),
        "vsock_socket" => socket(libc::AF_VSOCK, libc::SOCK_STREAM),
        "netlink_socket" => socket(libc::AF_NETLINK, libc::SOCK_RAW),
        "unix_stream_socket" => socket(libc::AF_UNIX, libc::SOCK_STREAM),
        "attach_socket" => socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC),
        "internet_socket" => match socket(libc::AF_INET, libc::SOCK_STREAM) {
            0 => socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK),
            errno => errno,
        },
        "connect_camera" => of(TcpStream::connect(local(around.camera))),
        "connect_other" => of(TcpStream::connect(local(around.other))),
        "bind_own" => of(TcpListener::bind(local(around.own))),
        "bind_other" => {
            // Taken, which is found out after it was allowed.
            match of(TcpListener::bind(local(around.other))) {
                libc::EADDRINUSE => 0,
                errno => errno,
            }
        }
        "exec" => {
            let path = c"/bin/true".as_ptr() as i64;
            call(libc::SYS_execve, [path, 0, 0, 0, 0])
        }
        "exec_itself" => {
            let status = Command::new("/proc/self/exe").arg("--list").output();
            i32::from(!status.is_ok_and(|output| output.status.success()))
        }
        "fork" => {
            let flags = i64::from(libc::SIGCHLD);
            // SAFETY: without a stack of its own the child goes on here with a copy of this process's
            // memory, which has one thread, and ends at once.
            match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
                -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
                0 => sys::exit_now(0),
                _ => 0,
            }
        }
        "clone3" => call(libc::SYS_clone3, [0; 5]),
        "kill_sibling" => call(libc::SYS_kill, [sibling, libc::SIGCONT.into(), 0, 0, 0]),
        "sibling_limits" => {
            let limit = [64u64, 64];
            let (core, limit) = (i64::from(libc::RLIMIT_MEMLOCK), limit.as_ptr() as i64);
            call(libc::SYS_prlimit64, [sibling, core, limit, 0, 0])
        }
        "sibling_priority" => call(
            libc::SYS_setpriority,
            [libc::PRIO_PROCESS.into(), sibling, 19, 0, 0],
        ),
        "executable_memory" => {
            let access = i64::from(libc::PROT_READ | libc::PROT_EXEC);
            let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            call(libc::SYS_mmap, [0, 4096, access, flags, -1])
        }
        "thread" => {
            let made = std::thread::Builder::new().name("t".into()).spawn(|| {
                sys::process::name_thread("renamed");
                (0..100_000u64).collect::<Vec<_>>().len()
            });
            i32::from(made.map(|t| t.join().is_ok_and(|n| n == 100_000)).ok() != Some(true))
        }
        "memory" => {
            let mut large = vec![1u8; 64 << 20];
            large.resize(128 << 20, 2);
            i32::from(large[(128 << 20) - 1] != 2)
        }
        "clock" => i32::from(sys::clock::monotonic_ns() == 0 || sys::clock::realtime_ns() == 0),
        "random" => {
            let mut bytes = [0u8; 32];
            call(
                libc::SYS_getrandom,
                [bytes.as_mut_ptr() as i64, 32, 0, 0, 0],
            )
        }
        "own_priority" => of(std::thread::spawn(|| sys::cpu::be_nicer(1))
            .join()
            .expect("ends")),
        "own_pipe" => of(std::io::pipe()),
        "stderr" => of(std::io::stderr().write_all(b"still heard\n")),
        "privileges" => i32::from(!is_harmless()),
        other => panic!("no such action: {other}"),
    }
}

fn is_harmless() -> bool {
    use rustix::thread::CapabilitySet;
    let sets = rustix::thread::capabilities(None).expect("capget");
    let kept = CapabilitySet::DAC_OVERRIDE | CapabilitySet::NET_BIND_SERVICE;
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    (sets.permitted - kept).is_empty()
        && (sets.effective - kept).is_empty()
        && sets.inheritable.is_empty()
        && core.maximum == Some(0)
        && rustix::process::dumpable_behavior()
            .is_ok_and(|dumpable| dumpable == rustix::process::DumpableBehavior::NotDumpable)
}
