//! A camera's sound from RTP to the recording, on a whole daemon: there, complete, even, and where it
//! belongs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use camring::media::Codec;
use camring::recording::{FileName, Rendition, Tree};
use camring_ring::{AttachOptions, Client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Camera, Daemon, Farm, wait_for};

const LONG: Duration = Duration::from_secs(120);
/// Seconds of a frame of sound: 1024 samples of 16 kHz.
const FRAME: f64 = 0.064;
/// Pictures per second of the clip.
const FPS: f64 = 15.0;

fn config(farm: &Farm, cameras: &[&str], more: &str) -> String {
    let record = "[record]\nmode = \"copy\"\nmin_free = \"1MiB\"\n".to_owned();
    cameras.iter().fold(record, |text, name| {
        let url = farm.url(name);
        format!("{text}[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n")
    })
}

fn recorded(daemon: &Daemon, camera: &str, segments: u64) {
    daemon.wait_for_camera(camera, "it is recorded", |camera| {
        camera["recording"]["segments"].as_u64() >= Some(segments)
    });
}

/// The minute files of a camera that have sound, each with its init segment in front.
fn files_with_sound(data: &Path, camera: &str, into: &Path) -> Vec<PathBuf> {
    let rendition = Tree::new(data).rendition(camera, Rendition::SOURCE);
    let mut names = Vec::new();
    for hour in fs::read_dir(&rendition.folder).expect("a recording") {
        let hour = hour.expect("an entry").path();
        for file in fs::read_dir(hour).into_iter().flatten() {
            let name = file.expect("an entry").file_name();
            let name = name.to_str().expect("UTF-8").to_owned();
            names.extend(FileName::of_file(&name).filter(|_| name.ends_with("m4s")));
        }
    }
    names.sort_by_key(|name| name.media_sequence);
    let whole = names.iter().filter_map(|name| {
        let mut bytes = fs::read(rendition.init(name.init)).expect("an init segment");
        if !bytes.windows(4).any(|kind| kind == b"mp4a") {
            return None;
        }
        bytes.extend(fs::read(rendition.data(name)).expect("a minute file"));
        let path = into.join(format!("{}.mp4", name.media_sequence));
        fs::write(&path, bytes).expect("a folder to write in");
        Some(path)
    });
    whole.collect()
}

fn output(program: &str, arguments: &[&str], file: &Path, rest: &[&str]) -> Vec<u8> {
    let done = Command::new(program)
        .args(arguments)
        .arg(file)
        .args(rest)
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && errors.is_empty(),
        "{program}: {errors}"
    );
    done.stdout
}

/// Presentation times of a track's packets, s.
fn times(file: &Path, track: &str) -> Vec<f64> {
    let entries = [
        "-v",
        "error",
        "-select_streams",
        track,
        "-show_entries",
        "packet=pts_time",
    ];
    let text = output("ffprobe", &entries, file, &["-of", "csv=p=0"]);
    let text = String::from_utf8(text).expect("text");
    let times = text
        .lines()
        .map(|line| line.trim_end_matches(',').parse().expect("a time"));
    times.collect()
}

/// When clicks are heard, s.
fn clicks(file: &Path) -> Vec<f64> {
    let begin = times(file, "a")[0];
    let rest = [
        "-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "16000", "-",
    ];
    let bytes = output("ffmpeg", &["-v", "error", "-nostdin", "-i"], file, &rest);
    let mut heard: Vec<f64> = Vec::new();
    for (n, sample) in bytes.chunks_exact(2).enumerate() {
        let at = begin + n as f64 / 16_000.0;
        let loud = i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 12_000;
        if loud && heard.last().is_none_or(|last| at - last > 0.5) {
            heard.push(at);
        }
    }
    heard
}

/// It decodes without a complaint, sound is even, complete and beside its pictures.
#[track_caller]
fn assert_good(file: &Path) {
    output(
        "ffmpeg",
        &["-v", "error", "-xerror", "-nostdin", "-i"],
        file,
        &["-f", "null", "-"],
    );
    let (pictures, sound) = (times(file, "v"), times(file, "a"));
    let (first, last) = (pictures[0], pictures[pictures.len() - 1] + 1.0 / FPS);
    assert!(sound[0] >= first - 0.001, "pictures begin a file");
    // Between the camera's first picture and its answer to PLAY there is one, and until the first sender
    // reports of a session sound is as late as it arrives: another, which is as long as this machine was busy.
    let steps = sound.windows(2).map(|s| s[1] - s[0]);
    let holes: Vec<f64> = steps.filter(|step| (step - FRAME).abs() >= 0.001).collect();
    assert!(holes.len() <= 2, "{holes:?}");
    assert!(
        holes.iter().all(|hole| (FRAME..2.0).contains(hole)),
        "{holes:?}"
    );
    let open: f64 = holes.iter().map(|hole| hole - FRAME).sum();
    let most = ((last - first - open) / FRAME).ceil();
    let missing = most - sound.len() as f64;
    // The one that begins before the first picture, and those that came after the file had ended.
    assert!(
        (-1.0..=8.0).contains(&missing),
        "{missing} of {most} frames"
    );
}

/// When clicks are heard in each session, and how far from the picture of their second, in seconds.
fn sessions(files: &[PathBuf]) -> Vec<Vec<(f64, f64)>> {
    // Clicks fall on the first picture of the clip and on every 15th from there, and so on the first picture
    // of a file: key frames are whole seconds apart.
    let mut sessions: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut end = f64::NEG_INFINITY;
    for file in files {
        let pictures = times(file, "v");
        let first = pictures[0];
        // Where a minute ends the next file goes on; where a reader died there is a gap.
        if first - end > 1.5 / FPS {
            sessions.push(Vec::new());
        }
        end = pictures[pictures.len() - 1];
        let heard = clicks(file).into_iter().map(|at| {
            let since = (at - first).rem_euclid(1.0);
            (at, since.min(1.0 - since))
        });
        sessions.last_mut().expect("one at least").extend(heard);
    }
    sessions
}

/// Waits until the sound of so many sessions has come to lie exactly beside its pictures: at once where the
/// camera's first sender reports are right, a pair of them later where they are not.
#[track_caller]
fn in_step(data: &Path, count: usize) {
    wait_for("sound beside its pictures", LONG, || {
        let folder = tempfile::tempdir().expect("a folder");
        let sessions = sessions(&files_with_sound(data, "yard", folder.path()));
        let last = sessions.iter().map(|heard| heard.last());
        let exact = last.map(|click| click.is_some_and(|(_, off)| *off < 1.0 / FPS / 2.0));
        let exact = exact.filter(|exact| *exact).count();
        (sessions.len() == count && exact == count)
            .then_some(())
            .ok_or(sessions)
    });
}

#[test]
fn sound_is_recorded_in_step_with_the_pictures_and_goes_on_after_a_readers_death() {
    let farm = Farm::start(&[
        Camera::new("yard", "h264-720p").audio("aac"),
        Camera::new("hall", "h264-720p").audio("alaw"),
        Camera::new("door", "h264-720p"),
    ]);
    let daemon = Daemon::start(&config(&farm, &["yard", "hall", "door"], ""));
    let data = daemon.config_path().with_file_name("data");
    recorded(&daemon, "yard", 4);
    let yard = daemon.camera("yard");
    assert_eq!(yard["audio"], "recorded");
    assert!(yard["audio_frames"].as_u64() > Some(50));

    // It has a ring of its own, and that of the pictures has nothing new.
    let mut bytes = Vec::new();
    for (name, codec) in [("yard#audio", Codec::Aac), ("yard", Codec::H264)] {
        let client = Client::connect(&daemon.socket()).expect("a daemon");
        let options = AttachOptions::default();
        let mut units = client.attach_packets(name, &options).expect("a ring");
        for _ in 0..20 {
            let unit = wait_for("a unit", LONG, || {
                units.next(&mut bytes).expect("a ring").ok_or("none yet")
            });
            assert_eq!(unit.codec, codec);
        }
    }

    // A recorder that is killed leaves nothing out of order.
    let recorder = yard["recording"]["pid"].as_i64();
    let recorder = recorder.and_then(|pid| i32::try_from(pid).ok());
    kill(
        Pid::from_raw(recorder.expect("a recorder")),
        Signal::SIGKILL,
    )
    .expect("it runs");
    daemon.wait_for_camera("yard", "another recorder", |yard| {
        let recording = &yard["recording"];
        recording["pid"].as_i64() != recorder.map(i64::from)
            && recording["segments"].as_u64() >= Some(6)
    });

    in_step(&data, 1);
    let pid = yard["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill(Pid::from_raw(pid.expect("a reader")), Signal::SIGKILL).expect("it runs");
    daemon.wait_for_camera("yard", "a new reader", |yard| {
        yard["pid"].as_i64() != pid.map(i64::from) && yard["audio"] == "recorded"
    });
    in_step(&data, 2);

    // Other cameras are recorded as ever, and say why there is no sound.
    for (name, why) in [("hall", "other-codec"), ("door", "none")] {
        let camera = daemon.camera(name);
        assert_eq!(camera["audio"], why);
        assert_eq!(camera["audio_frames"], 0);
        assert_eq!(camera["recording"]["state"], "recording");
        assert_eq!(camera["recording"]["units_missed"], 0);
        // A camera that stalled on a busy machine has its gaps.
        let gaps = camera["recording"]["gaps"].as_u64();
        assert!(gaps <= camera["reconnects"].as_u64(), "{camera}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let files = files_with_sound(&data, "yard", folder.path());
    assert!(files.len() >= 2, "before and after: {files:?}");
    for file in &files {
        assert_good(file);
    }
    assert!(files_with_sound(&data, "hall", folder.path()).is_empty());
}

#[test]
fn sound_that_is_not_to_be_recorded_is_not_read() {
    let farm = Farm::start(&[Camera::new("yard", "h264-720p").audio("aac")]);
    let more = "[camera.record]\naudio = false";
    let daemon = Daemon::start(&config(&farm, &["yard"], more));
    recorded(&daemon, "yard", 2);
    let yard = daemon.camera("yard");
    assert_eq!(
        (&yard["audio"], &yard["audio_frames"]),
        (&serde_json::Value::Null, &0.into())
    );
    let client = Client::connect(&daemon.socket()).expect("a daemon");
    let refused = client.attach_packets("yard#audio", &AttachOptions::default());
    let why = refused.expect_err("there is no such ring").to_string();
    assert!(why.contains("not recorded with its sound"), "{why}");
    let data = daemon.config_path().with_file_name("data");
    let folder = tempfile::tempdir().expect("a folder");
    assert!(files_with_sound(&data, "yard", folder.path()).is_empty());
}
