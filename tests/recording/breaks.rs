//! Readers that die, daemons that restart, cameras that change: breaks where there is one, and nothing
//! else lost.

use nix::sys::signal::Signal;

use crate::content::{config, wait_for_segments};
use crate::recorder::Recorder;
use crate::support::{Camera, Daemon, Farm, PATIENCE, process, wait_for};
use crate::tape::Tape;

#[test]
fn a_reader_that_dies_and_a_daemon_that_restarts_are_breaks_with_maps_of_their_own() {
    let farm = Farm::start(&[Camera::new("door", "h264-360p")]);
    let mut daemon = Daemon::start(&config(&farm, &["door"]));
    let data = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::start(&daemon, "door", data.path());
    wait_for_segments(&recorder, data.path(), "door", 1);

    let reader = daemon.camera("door")["pid"].as_u64().expect("a reader");
    assert!(process::kill(
        u32::try_from(reader).expect("a pid"),
        Signal::SIGKILL
    ));
    let in_break = |number: u64| {
        wait_for("two segments after the break", PATIENCE, || {
            let tape = Tape::read(data.path(), "door");
            let after = tape
                .files
                .iter()
                .filter(|f| f.name.discontinuity_sequence == number);
            let chunks: usize = after.map(|file| file.chunks.len()).sum();
            match chunks > 12 {
                true => Ok(()),
                false => Err((tape.breaks(), chunks, recorder.log())),
            }
        });
    };
    in_break(1);
    daemon.restart(Signal::SIGKILL);
    in_break(2);
    recorder.stop();

    let tape = Tape::read(data.path(), "door");
    assert_eq!(tape.breaks(), [0, 1, 2]);
    tape.check(&mut || farm.witness("door"));
    for file in &tape.files {
        for frame in file.frames() {
            let off = (file.header.utc_ns(frame.time) - frame.capture_ns).abs();
            assert!(off <= 1_000, "{off} ns off the map of {}", file.name);
        }
    }
    // Time passed between the files, and both their names and their maps say so.
    let breaks = tape
        .files
        .windows(2)
        .filter(|pair| pair[0].name.discontinuity_sequence != pair[1].name.discontinuity_sequence);
    for pair in breaks {
        let end = pair[0].frames().last().map(|frame| frame.capture_ns);
        assert!(pair[1].frames().first().map(|frame| frame.capture_ns) > end);
        assert!(pair[1].name.start_ms > pair[0].name.start_ms);
    }
    daemon.stop();
}

#[test]
fn other_parameter_sets_are_another_init_segment_and_file() {
    let farm = Farm::start(&[Camera::new("zoom", "h264-resize")]);
    let daemon = Daemon::start(&config(&farm, &["zoom"]));
    let data = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::start(&daemon, "zoom", data.path());
    wait_for("both sizes to be recorded", PATIENCE, || {
        let tape = Tape::read(data.path(), "zoom");
        match tape.breaks().len() >= 3 && tape.inits().len() == 2 {
            true => Ok(()),
            false => Err((tape.breaks(), recorder.log())),
        }
    });
    recorder.stop();
    let tape = Tape::read(data.path(), "zoom");
    let mut codes = None;
    tape.check(&mut || farm.witness("zoom"));
    // Nothing is lost where the size changes.
    for code in tape.files.iter().flat_map(crate::tape::File::decode) {
        let witness = codes.get_or_insert_with(|| farm.witness("zoom"));
        assert_eq!(witness.step(code), 1, "{code:?}");
    }
    daemon.stop();
}
