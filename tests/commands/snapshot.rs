//! `camring snapshot`: a JPEG that is whole and of the right moment, or nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::framecode::{self, Code};
use crate::support::{Daemon, Farm};
use crate::{ended, farm, piped, ran, site};

/// Decodes a JPEG with the `ffmpeg` program to its size and luma.
#[track_caller]
fn decode(jpeg: &[u8]) -> (usize, usize, Vec<u8>) {
    let run = |program: &str, arguments: &[&str]| {
        let mut child = Command::new(program)
            .args(["-v", "error"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let jpeg = jpeg.to_vec();
        let writer = std::thread::spawn(move || {
            // One that has seen enough hangs up.
            let _ = stdin.write_all(&jpeg);
        });
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("no panic");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {errors}");
        output.stdout
    };
    let entries = "stream=codec_name,width,height";
    let probe = [
        "-f",
        "image2pipe",
        "-show_entries",
        entries,
        "-of",
        "csv=p=0",
        "-",
    ];
    let text = String::from_utf8(run("ffprobe", &probe)).expect("UTF-8");
    let [codec, width, height] = *text.trim().split(',').collect::<Vec<_>>() else {
        panic!("{text}");
    };
    assert_eq!(codec, "mjpeg");
    let raw = [
        "-f",
        "image2pipe",
        "-i",
        "-",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ];
    let luma = run("ffmpeg", &raw);
    let size = |text: &str| text.parse::<usize>().expect("a number");
    (size(width), size(height), luma)
}

/// The JPEG shows one whole picture of a camera.
#[track_caller]
fn check(jpeg: &[u8], farm: &Farm, camera: &str, size: (usize, usize)) -> Code {
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let (width, height, luma) = decode(jpeg);
    assert_eq!((width, height), size);
    let code = framecode::read(&luma, width, width, height).expect("a whole picture");
    farm.witness(camera).step(code);
    code
}

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect()
}

#[test]
fn a_snapshot_is_a_whole_picture() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jpg");
    let name = path.to_str().expect("UTF-8");

    ran(&mut daemon.camring(["snapshot", "front-door", "-o", name])).succeeded();
    let first = fs::read(&path).expect("a file");
    check(&first, &farm, "main", (640, 360));

    // The file there was is replaced, where it is.
    let link = folder.path().join("link.jpg");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let named = link.to_str().expect("UTF-8");
    ran(&mut daemon.camring(["snapshot", "front-door/sub", "-o", named, "--quality", "60"]))
        .succeeded();
    let second = fs::read(&path).expect("a file");
    check(&second, &farm, "sub", (320, 180));
    assert!(link.is_symlink());

    let out = ran(&mut daemon.camring(["snapshot", "front-door/sub", "-o", "-"]));
    out.succeeded();
    check(&out.out, &farm, "sub", (320, 180));
    let mut left = files(folder.path());
    left.sort();
    assert_eq!(left, ["link.jpg", "x.jpg"], "nothing else");
}

#[test]
fn snapshots_show_what_comes_now() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let snapshot = || {
        let out = ran(&mut daemon.camring(["snapshot", "front-door/sub", "-o", "-"]));
        out.succeeded();
        check(&out.out, &farm, "sub", (320, 180))
    };
    let first = snapshot();
    crate::support::wait_until("another picture", crate::support::PATIENCE, || {
        snapshot() != first
    });
}

#[test]
fn no_word_of_ffmpeg_whatever_is_logged() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    for level in ["warn", "trace"] {
        let out = ran(daemon
            .camring(["snapshot", "front-door/sub", "-o", "-"])
            .env("CAMRING_LOG", level));
        assert_eq!(out.code, Some(0), "{}", out.err);
        for line in out.err.lines() {
            // What comes is a line of our own log, with time and level, and no warning.
            assert!(
                level == "trace" && line.contains(" TRACE ") || line.contains(" DEBUG "),
                "{line}"
            );
            assert!(!line.contains("deprecated"), "{line}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("no/such/x.jpg");
    let taken = folder.path().join("folder.jpg");
    fs::create_dir(&taken).expect("a folder");
    for (path, why) in [(&missing, "No such file"), (&taken, "Is a directory")] {
        let name = path.to_str().expect("UTF-8");
        ran(&mut daemon.camring(["snapshot", "front-door/sub", "-o", name]))
            .failed(1, &[&format!("cannot write {name}"), why]);
    }
    assert_eq!(files(folder.path()), ["folder.jpg"]);
    let full = ran(&mut daemon.camring(["snapshot", "front-door/sub", "-o", "/dev/full"]));
    full.failed(1, &["cannot write /dev/full", "No space left"]);
    // Nobody reads any more: no error, as with the other commands.
    let mut child = piped(&mut daemon.camring(["snapshot", "front-door/sub", "-o", "-"]));
    drop(child.stdout.take());
    ended(child).succeeded();
}

#[test]
fn a_pipe_is_written_to_and_not_replaced() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let name = path.to_str().expect("UTF-8");
    let child = piped(&mut daemon.camring(["snapshot", "front-door/sub", "-o", name]));
    let mut jpeg = Vec::new();
    // Opening waits for the writer.
    let mut pipe = fs::File::open(&path).expect("the pipe");
    pipe.read_to_end(&mut jpeg).expect("a JPEG");
    ended(child).succeeded();
    check(&jpeg, &farm, "sub", (320, 180));
    assert_eq!(files(folder.path()), ["pipe"]);
}

#[test]
fn a_camera_without_a_frame_is_waited_for_as_long_as_asked() {
    let farm = farm();
    let daemon = Daemon::start(&site(&farm));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.jpg");
    let name = path.to_str().expect("UTF-8");
    let arguments = ["snapshot", "absent", "--timeout", "500ms", "-o", name];
    ran(&mut daemon.camring(arguments)).failed(1, &["absent", "0.5 s", "in state", "connect"]);
    assert!(files(folder.path()).is_empty());
}
