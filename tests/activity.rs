//! `mode = "activity"` with a real camera: a still street, then objects for some seconds. Which
//! pictures are decoded, by their numbers and by their content.
#![deny(unsafe_code)]

mod support;

use camring_ring::{AttachOptions, Client, FrameFlags, Subscription};
use serde_json::Value;
use support::framecode::{self, Witness};
use support::{Camera, Daemon, Farm, PATIENCE};

/// Of the clip `h264-still`: pictures in a group, and those that show objects.
const GOP: u64 = 25;
const MOVING: std::ops::Range<u16> = 485..545;

#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: u64,
    access_unit: u64,
    /// Of the clip.
    index: u16,
    key: bool,
    /// Does not go on smoothly from the frame before.
    jump: bool,
}

impl Seen {
    /// Whether no picture between the two was left out of decoding. (This test may have been too
    /// slow for some.)
    fn follows(self, before: Seen) -> bool {
        self.access_unit - before.access_unit == self.sequence - before.sequence
    }
}

/// The next frame; its content must be what its number says.
#[track_caller]
fn next(frames: &mut Subscription, witness: &mut Witness, before: Option<Seen>) -> Seen {
    let frame = frames.next_timeout(PATIENCE).unwrap().expect("a frame");
    let about = *frame.descriptor();
    let (width, height) = (about.width as usize, about.height as usize);
    let stride = frame.plane_stride(0) as usize;
    let code = framecode::read(frame.plane(0), stride, width, height)
        .unwrap_or_else(|error| panic!("{error} in {about:?}"));
    let step = u64::from(witness.step(code));
    let seen = Seen {
        sequence: about.sequence,
        access_unit: about.access_unit,
        index: code.index,
        key: about.flags.contains(FrameFlags::KEY_FRAME),
        jump: about.flags.contains(FrameFlags::DISCONTINUITY),
    };
    if let Some(before) = before {
        let units = seen.access_unit - before.access_unit;
        let pictures = u64::from(witness.pictures());
        assert_eq!(
            step % pictures,
            units % pictures,
            "{seen:?} after {before:?}"
        );
    }
    seen
}

/// Units that were left out for other reasons than that nothing moved.
fn lost(camera: &Value) -> u64 {
    let dropped = &camera["frames_dropped"];
    [
        "overload",
        "catch_up",
        "before_key",
        "decode_error",
        "no_slot",
    ]
    .iter()
    .map(|reason| dropped[reason].as_u64().unwrap())
    .sum()
}

#[test]
fn key_frames_while_nothing_moves_and_all_of_the_group_when_something_does() {
    let farm = Farm::start(&[Camera::new("street", "h264-still").unshared()]);
    // The code in the pictures is a twentieth of them, and always changes.
    let daemon = Daemon::start(&format!(
        "[decode]\nmode = \"activity\"\nsmallest_motion = 8\n\n[ring]\ndepth = 32\n\n\
         [[camera]]\nname = \"street\"\nurl = \"{}\"\n",
        farm.url("street")
    ));
    let client = Client::connect(&daemon.socket()).unwrap();
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    let mut frames = client.attach("street", &options).unwrap();
    let mut witness = farm.witness("street");
    // At first all: it is not known what it is like when nothing moves.
    let mut last = next(&mut frames, &mut witness, None);
    assert_ne!(daemon.camera("street")["activity"], "quiet");

    // A machine that was too busy to decode has another try when the clip comes round again.
    for round in 0.. {
        // Until one key frame follows another.
        loop {
            let seen = next(&mut frames, &mut witness, Some(last));
            let quiet = last.key && seen.key && !seen.follows(last);
            last = seen;
            if quiet {
                break;
            }
        }
        let before = daemon.camera("street");
        assert!(before["activity_since"].is_string(), "{before}");
        assert!(
            before["frames_dropped"]["quiet"].as_u64() > Some(0),
            "{before}"
        );
        // Until pictures follow each other again.
        let first = loop {
            let seen = next(&mut frames, &mut witness, Some(last));
            let before = std::mem::replace(&mut last, seen);
            if seen.follows(before) && !seen.key {
                break before;
            }
        };
        let (mut pictures, mut jumps) = (1, u32::from(last.jump));
        let end = loop {
            let seen = next(&mut frames, &mut witness, Some(last));
            let before = std::mem::replace(&mut last, seen);
            if !seen.follows(before) {
                break before;
            }
            pictures += 1;
            jumps += u32::from(seen.jump);
        };
        let after = daemon.wait_for_camera("street", "quiet", |c| c["activity"] == "quiet");
        if lost(&after) != lost(&before) && round < 3 {
            continue;
        }
        assert!(first.key, "{first:?} begins it");
        assert_eq!(jumps, 0, "from {first:?} to {end:?}");
        assert!(first.index < MOVING.start, "{first:?}");
        // For five seconds after it has stopped, and up to a key frame.
        assert!(end.index > MOVING.end + 100 || end.access_unit - first.access_unit > 200);
        assert!(end.key, "{end:?} ends it, after {pictures} pictures");
        assert_eq!(lost(&after), lost(&before), "{after}");
        break;
    }
    // Nobody need look.
    drop(frames);
    let status = daemon.camera("street");
    let sum = |status: &Value| {
        status["frames_decoded"].as_u64().unwrap()
            + status["frames_dropped"]["quiet"].as_u64().unwrap()
    };
    let then = sum(&status);
    daemon.wait_for_camera("street", "going on", |c| sum(c) > then + 3 * GOP);
}
