//! What is the matter with a stream, in words, and what to do next.
//!
//! Promises: nothing here is guessed: each sentence follows from a figure or state of the status.
#![deny(unsafe_code)]

use crate::cmd::status::plain;
use crate::health::{ClockSource, Sound, State};
use crate::supervisor::status::CameraStatus;

/// Something to know of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// All there is to say, the worst first. Empty: it is well.
pub fn of(camera: &CameraStatus) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |what: &str, next: &str| {
        all.push(Advice {
            what: what.to_owned(),
            next: next.to_owned(),
        });
    };
    match camera.state {
        State::Streaming => {}
        State::Disabled => say(
            "It is switched off: enabled = false.",
            "Set enabled = true, then camring reload.",
        ),
        State::Connecting => say(
            "On the way to its first key frame.",
            "If it stays so: camring probe URL says what the camera sends; a shorter key frame interval in \
             the camera helps.",
        ),
        State::Stalled => say(
            "Connected, but no picture comes.",
            "It reconnects by itself. If it comes again and again: the network between, or the camera's own \
             load.",
        ),
        State::Backoff => say(
            "It could not be read, and is tried again in a moment.",
            "Is the camera on, and its address right? camring probe URL asks it.",
        ),
        State::Unauthorized => say(
            "The camera refuses the login. It is tried rarely, so as not to lock the account.",
            "Correct username and password in the configuration, then camring reload.",
        ),
        State::Failed => say(
            "It cannot work as it is configured.",
            "The reason above says what is missing; camring check shows the plan for memory and cores.",
        ),
    }
    let failures = &camera.failures;
    if failures.crash > 0 {
        say(
            &format!("Its reader crashed {} times.", failures.crash),
            "Please report it with the camera's model and codec; the log has the signal.",
        );
    }
    if failures.killed > 0 {
        say(
            &format!("Its reader was killed {} times.", failures.killed),
            "By a person, or by the kernel for want of memory: dmesg | grep -i oom.",
        );
    }
    if failures.unresponsive > 0 {
        say(
            &format!(
                "Its reader gave no sign of life {} times.",
                failures.unresponsive
            ),
            "A machine that is overloaded, or hangs in a driver: look at the load.",
        );
    }
    let d = &camera.frames_dropped;
    for (count, what, next) in [
        (
            d.no_slot,
            "no slot was free",
            "A program holds frames for too long: release them sooner, or raise [ring] depth.",
        ),
        (
            d.no_memory,
            "the ring had no memory yet, or was refused it",
            "A few at the start are normal; more: [limits] memory_total, or fewer cameras.",
        ),
        (
            d.overload,
            "decoding fell behind",
            "Fewer cameras per core, a smaller stream, or decode.mode = \"keyframes\".",
        ),
        (
            d.corrupt,
            "packets before them were lost",
            "Look at the network; transport = \"tcp\" loses nothing.",
        ),
        (
            d.decode_error,
            "the decoder refused them",
            "If it goes on: another codec or profile in the camera.",
        ),
        (
            d.oversize,
            "they were over 16 MiB",
            "A lower bit rate in the camera.",
        ),
    ] {
        if count > 0 {
            say(&format!("{count} frames dropped: {what}."), next);
        }
    }
    if camera.rtp_packets_lost > 0 {
        say(
            &format!("{} packets never came.", camera.rtp_packets_lost),
            "Switch, cable or Wi-Fi; with UDP, transport = \"tcp\".",
        );
    }
    if camera.clock == Some(ClockSource::Arrival) {
        say(
            "Capture times are those of arrival: the camera sends no sender reports, or its clock is off.",
            "Give the camera an NTP server, if events must have the camera's own time.",
        );
    }
    if let Some(sound @ (Sound::OtherCodec | Sound::Refused | Sound::Broken)) = camera.audio {
        let why = match sound {
            Sound::OtherCodec => "it is not AAC",
            Sound::Refused => "the camera does not let it be set up",
            _ => "what the camera sends makes no sense",
        };
        say(
            &format!("Its sound is not recorded: {why}."),
            "Choose AAC-LC in the camera, or [record] audio = false.",
        );
    }
    if let Some(recording) = &camera.recording {
        let next = match &*recording.state {
            "disk-full" => {
                "Room on the disk: [record] keep, max_size, or delete what else is there."
            }
            "failed" => "The reason says what cannot be recorded, and how it could be.",
            "backoff" => "Its process ended; the log says why. It is started again by itself.",
            "queued" => "It waits for an encoder: [record] max_encoders, or more cores.",
            _ => "",
        };
        if !next.is_empty() {
            let (state, reason) = (&recording.state, plain(&recording.reason));
            say(&format!("Recording: {state}. {reason}"), next);
        }
        if recording.units_missed > 0 || recording.write_errors > 0 {
            let (missed, errors) = (recording.units_missed, recording.write_errors);
            say(
                &format!("The recording lacks {missed} pictures; {errors} writes were refused."),
                "A disk that is slower than the cameras, or failing: iostat -x 1, dmesg.",
            );
        }
    }
    all
}
