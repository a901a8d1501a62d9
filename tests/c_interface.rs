//! The C library as its users have it: installed, found by pkg-config, linked by a C compiler, run
//! under the address sanitizer beside a daemon with cameras.
#![deny(unsafe_code)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use camring_ring::{AttachOptions, Client, Frame};
use nix::sys::signal::Signal;
use support::impostor::{Impostor, Oddity};
use support::viewer::Viewer;
use support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};

const QUICK: &str = "[retry]\ninitial = \"100ms\"\nmax = \"200ms\"\n\n";

fn site(farm: &Farm, cameras: &[&str]) -> String {
    cameras.iter().fold(QUICK.to_owned(), |text, name| {
        let url = farm.url(name);
        format!("{text}[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n")
    })
}

fn capi() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ring/capi")
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{text}{errors}");
    text
}

/// Where the library is installed, and the programs.
struct Installed {
    prefix: PathBuf,
}

/// Once for all tests of this file, below the build folder.
static INSTALLED: LazyLock<Installed> = LazyLock::new(|| {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-interface");
    let _ = std::fs::remove_dir_all(&prefix);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    run(Command::new("make")
        .arg("-C")
        .arg(capi())
        .arg("install")
        .arg(format!("PREFIX={}", prefix.display()))
        .args(["PROFILE=debug", &format!("CARGO={}", env!("CARGO"))])
        // Not those of the make or cargo that runs this.
        .env_remove("MAKEFLAGS")
        .env("CARGO_TARGET_DIR", target));
    Installed { prefix }
});

impl Installed {
    fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
        let text = run(Command::new("pkg-config")
            .args(arguments)
            .arg("camring")
            .env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig")));
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles one file of `ring/capi`, with what pkg-config says. Returns the program.
    fn build(&self, compiler: &[&str], source: &str, libraries: &[String], name: &str) -> PathBuf {
        // Tests run at the same time, and one may be running what another one builds.
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let program = self.prefix.join(format!("{name}-{number}"));
        run(Command::new(compiler[0])
            .args(&compiler[1..])
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"])
            .args(self.pkg_config(&["--cflags"]))
            .arg(capi().join(source))
            .arg("-o")
            .arg(&program)
            .args(libraries));
        program
    }

    /// With the sanitizers of addresses, leaks and undefined behaviour, linked to the shared library.
    fn c(&self, source: &str) -> PathBuf {
        let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
        let compiler = ["cc", "-std=c11", "-D_DEFAULT_SOURCE", "-pthread"];
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let libraries = self.pkg_config(&["--libs"]);
        self.build(
            &[&compiler[..], &sanitizers].concat(),
            source,
            &libraries,
            name,
        )
    }

    fn command(&self, program: &Path, socket: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("CAMRING_SOCKET", socket)
            .env("LD_LIBRARY_PATH", self.prefix.join("lib"))
            .env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
            .stdin(Stdio::null());
        command
    }
}

/// Adler-32 of the picture: what `examples/tail.c` prints.
fn checksum(frame: &Frame) -> u64 {
    let d = frame.descriptor();
    let (mut a, mut b) = (1u64, 0u64);
    for plane in 0..frame.planes() {
        let (row, rows) = d
            .pixel_format
            .plane_size(plane, d.width, d.height)
            .expect("a plane");
        let stride = frame.plane_stride(plane) as usize;
        for at in 0..rows as usize {
            for byte in &frame.plane(plane)[at * stride..][..row as usize] {
                a += u64::from(*byte);
                b += a;
            }
            (a, b) = (a % 65521, b % 65521);
        }
    }
    b << 16 | a
}

/// A C program whose lines are read as they come. Killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Its end.
    #[track_caller]
    fn end(mut self) {
        let child = &mut self.child;
        let status = wait_for("the end of the program", PATIENCE, || {
            child.try_wait().expect("a child").ok_or("it runs")
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `name N generation G pts P time T WxH missed M sum S [change]`
#[derive(Debug, Clone, PartialEq)]
struct Line {
    sequence: u64,
    pts: i64,
    time_ns: i64,
    sum: u64,
    change: Option<String>,
}

impl Line {
    #[track_caller]
    fn parse(line: &str) -> Line {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words.len() == 13 || words.len() == 14, "{line}");
        Line {
            sequence: words[1].parse().expect("a number"),
            pts: words[5].parse().expect("a number"),
            time_ns: words[7].trim_end_matches('?').parse().expect("a number"),
            sum: u64::from_str_radix(words[12], 16).expect("a sum"),
            change: words.get(13).map(|word| (*word).to_owned()),
        }
    }
}

#[test]
fn frames_in_c_are_the_frames_that_were_published() {
    let installed = &*INSTALLED;
    let tail = installed.c("examples/tail.c");
    let farm = Farm::start(&[Camera::new("door", "h264-180p").unshared()]);
    let mut daemon = Daemon::start(&site(&farm, &["door"]));
    daemon.wait_for_state("door", "streaming");
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut ours = client.attach("door", &options).unwrap();
    let mut verified = Viewer::attach(&daemon, &farm, "door").allowing_gaps();
    let mut in_c = Running::start(installed.command(&tail, &daemon.socket()).arg("door"));
    let mut published = BTreeMap::new();
    let mut seen = Vec::new();
    let mut killed = false;
    let until = Instant::now() + PATIENCE * 3;
    while seen.len() < 40 {
        assert!(Instant::now() < until, "{} lines", seen.len());
        verified.try_next();
        while let Some(frame) = ours.next().unwrap() {
            let d = frame.descriptor();
            published.insert(
                frame.sequence(),
                (d.pts, d.capture_time_ns, checksum(&frame)),
            );
        }
        seen.push(Line::parse(&in_c.line()));
        if seen.len() == 15 && !killed {
            killed = true;
            process::kill(daemon.reader_pid("door"), Signal::SIGKILL);
        }
    }
    while let Some(frame) = ours.next_timeout(Duration::from_secs(1)).unwrap() {
        let d = frame.descriptor();
        published.insert(
            frame.sequence(),
            (d.pts, d.capture_time_ns, checksum(&frame)),
        );
        if frame.sequence() >= seen[seen.len() - 1].sequence {
            break;
        }
    }
    let both: Vec<_> = seen
        .iter()
        .filter_map(|line| Some((line, published.get(&line.sequence)?)))
        .collect();
    assert!(both.len() >= 20, "{} of {}", both.len(), seen.len());
    for (line, (pts, time_ns, sum)) in both {
        assert_eq!(
            (line.pts, line.time_ns, line.sum),
            (*pts, *time_ns, *sum),
            "{line:?}"
        );
    }
    assert!(
        seen.windows(2).all(|two| two[0].sequence < two[1].sequence),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|line| line.change.as_deref() == Some("writer-restarted")),
        "{seen:?}"
    );
    drop((ours, client, verified));

    // Another daemon in its place: the program goes on, and says so.
    daemon.restart(Signal::SIGKILL);
    loop {
        let line = Line::parse(&in_c.line());
        if line.change.as_deref() == Some("reconnected") {
            break;
        }
    }
    in_c.line();
}

#[test]
fn examples_run_to_their_end() {
    let installed = &*INSTALLED;
    let farm = Farm::start(&[
        Camera::new("door", "h264-180p"),
        Camera::new("yard", "h264-180p"),
    ]);
    let daemon = Daemon::start(&site(&farm, &["door", "yard"]));
    daemon.wait_for_state("door", "streaming");
    daemon.wait_for_state("yard", "streaming");
    let socket = daemon.socket();

    let latest = installed.c("examples/latest.c");
    let text = run(installed.command(&latest, &socket).args(["door", "5"]));
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(
        text.lines().all(|line| line.contains(" i420 mean ")),
        "{text}"
    );

    let many = installed.c("examples/many.c");
    for names in [&["door", "yard"][..], &[]] {
        let mut command = installed.command(&many, &socket);
        let text = run(command.args(["-n", "10"]).args(names));
        let said: Vec<&str> = text.lines().collect();
        let last: Vec<(&str, u64)> = said[said.len() - 2..]
            .iter()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                (words[0], words[1].parse().expect("a count"))
            })
            .collect();
        assert_eq!((last[0].0, last[1].0), ("door", "yard"), "{text}");
        assert!(last.iter().all(|(_, frames)| *frames >= 10), "{text}");
    }

    // Beside standard input, in one poll().
    let poll = installed.c("examples/poll.c");
    let mut command = installed.command(&poll, &socket);
    let mut in_c = Running::start(command.arg("door").stdin(Stdio::piped()));
    let numbers: Vec<u64> = (0..10)
        .map(|_| in_c.line().strip_prefix("door ").unwrap().parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    let mut stdin = in_c.child.stdin.take().unwrap();
    stdin.write_all(b"still there?\n").unwrap();
    in_c.line();
    drop(stdin); // its end is the program's
    in_c.end();

    // The program of the guide.
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/write-a-detector-c.md");
    let text = std::fs::read_to_string(guide).unwrap();
    let (_, program) = text.split_once("```c\n").expect("a program");
    let (program, _) = program.split_once("```\n").expect("its end");
    let source = installed.prefix.join("guide.c");
    std::fs::write(&source, program.replace("front-door", "door")).unwrap();
    let guide = installed.c(source.to_str().unwrap());
    let mut in_c = Running::start(&mut installed.command(&guide, &socket));
    assert!(in_c.line().contains(": 320x"), "the size of the picture");
    drop(in_c);

    let misuse = installed.c("tests/misuse.c");
    assert_eq!(run(installed.command(&misuse, &socket).arg("door")), "ok\n");

    // C++, and the static library.
    let so = installed.pkg_config(&["--libs"]);
    let cpp = installed.build(&["c++", "-std=c++17"], "tests/cpp.cpp", &so, "cpp");
    let text = run(installed.command(&cpp, &socket).arg("yard"));
    assert!(text.starts_with("3 frames in C++, "), "{text}");
    let all = installed.pkg_config(&["--libs", "--static"]);
    let archive: Vec<String> = all
        .iter()
        .map(|word| word.replace("-lcamring", "-l:libcamring.a"))
        .collect();
    let fixed = installed.build(&["cc", "-std=c11"], "examples/latest.c", &archive, "fixed");
    let mut command = installed.command(&fixed, &socket);
    run(command.args(["yard", "1"]).env_remove("LD_LIBRARY_PATH"));
}

#[test]
fn errors_in_c_have_a_code_and_say_what_to_do() {
    let installed = &*INSTALLED;
    let tail = installed.c("examples/tail.c");
    let says = |socket: &Path, camera: &str| {
        let output: Output = installed
            .command(&tail, socket)
            .arg(camera)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let farm = Farm::start(&[Camera::new("door", "h264-180p")]);
    let config = site(&farm, &["door"])
        + "[[camera]]\nname = \"off\"\nenabled = false\nurl = \"rtsp://127.0.0.1:9/\"\n";
    let daemon = Daemon::start(&config);
    let text = says(&daemon.socket(), "nobody");
    assert_eq!(
        text,
        "E_UNKNOWN_CAMERA: no camera \"nobody\"; there are: door, off\n"
    );
    let text = says(&daemon.socket(), "off");
    assert!(
        text.starts_with("E_DISABLED: camera \"off\" is disabled"),
        "{text}"
    );
    let absent = daemon.runtime_dir().join("nobody.sock");
    let text = says(&absent, "door");
    assert!(
        text.starts_with("E_NO_DAEMON: no camring daemon listens at "),
        "{text}"
    );
    assert!(text.contains("nobody.sock"), "{text}");
}

#[test]
fn daemons_of_other_versions_are_told_from_broken_ones() {
    let installed = &*INSTALLED;
    let tail = installed.c("examples/tail.c");
    let oddities = [
        (
            Oddity::WelcomesInVersion(7),
            "E_VERSION",
            "it speaks version 7",
        ),
        (
            Oddity::RefusesVersion,
            "E_VERSION",
            "camring 9.0 speaks version 7",
        ),
        (
            Oddity::LaterLayout,
            "E_VERSION",
            "install the same camring version on both sides",
        ),
        (Oddity::HangsUp, "E_DISCONNECTED", "closed the connection"),
        (
            Oddity::Babbles,
            "E_PROTOCOL",
            "does not keep to the attach protocol",
        ),
    ];
    for (oddity, code, words) in oddities {
        let impostor = Impostor::new(oddity);
        let rust = match Client::connect(impostor.socket()) {
            Ok(client) => client.attach("door", &AttachOptions::default()).map(|_| ()),
            Err(error) => Err(error),
        };
        let rust = rust.expect_err("refused").to_string();
        assert!(rust.contains(words), "{oddity:?}: {rust}");
        let mut command = installed.command(&tail, impostor.socket());
        let output = command.arg("door").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text, format!("{code}: {rust}\n"), "{oddity:?}");
    }
}

#[test]
fn the_library_is_installed_as_it_should_be() {
    let installed = &*INSTALLED;
    let lib = installed.prefix.join("lib");
    let link = |name: &str| std::fs::read_link(lib.join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(link("libcamring.so"), Path::new("libcamring.so.0"));
    assert_eq!(
        link("libcamring.so.0"),
        Path::new(&format!("libcamring.so.{version}"))
    );
    assert_eq!(installed.pkg_config(&["--modversion"]), [version]);
    let header = std::fs::read_to_string(installed.prefix.join("include/camring.h")).unwrap();
    assert!(
        header.contains("#define CAMRING_ABI 0\n"),
        "the Makefile's abi"
    );
    let names = run(Command::new("readelf")
        .arg("-d")
        .arg(lib.join("libcamring.so")));
    assert!(names.contains("soname: [libcamring.so.0]"), "{names}");
    // Exactly what the header declares.
    let symbols = run(Command::new("nm")
        .args(["--dynamic", "--defined-only", "--format=just-symbols"])
        .arg(lib.join("libcamring.so")));
    for symbol in symbols.lines().filter(|line| !line.is_empty()) {
        assert!(symbol.starts_with("camring_"), "exported: {symbol}");
        assert!(
            header.contains(&format!("{symbol}(")),
            "not declared: {symbol}"
        );
    }
    let declared = header
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '(')
        .filter_map(|word| word.split_once('(').map(|(name, _)| name))
        .filter(|name| name.starts_with("camring_"));
    for name in declared {
        assert!(
            symbols.lines().any(|symbol| symbol == name),
            "not there: {name}"
        );
    }
}
