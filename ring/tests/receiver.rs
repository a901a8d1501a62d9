//! Receivers: one camera or several, across restarts of the daemon.
#![cfg(not(loom))]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camring_ring::attach::wire::RingKind;
use camring_ring::*;
use support::*;

const LONG: Duration = Duration::from_secs(60);

fn put(writer: &LocalFrames) -> u64 {
    publish(writer.lock().unwrap().as_mut().unwrap()).unwrap()
}

/// The socket of the daemon of the moment, as `/run/camring/attach.sock` is.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        Self(temp_folder())
    }

    fn path(&self) -> PathBuf {
        self.0.join("attach.sock")
    }

    fn is(&self, broker: &Broker) {
        self.is_nothing();
        std::os::unix::fs::symlink(broker.path(), self.path()).unwrap();
    }

    fn is_nothing(&self) {
        let _ = std::fs::remove_file(self.path());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn attach(path: &Path, names: &[&str], reconnect: bool) -> Result<Receiver, AttachError> {
    let attach = AttachOptions {
        timeout: Duration::ZERO,
        ..AttachOptions::default()
    };
    Receiver::attach(path, names, &ReceiverOptions { attach, reconnect })
}

/// Looks until there is a frame.
fn latest(receiver: &mut Receiver) -> (usize, Frame) {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = receiver.latest().unwrap() {
            return found;
        }
        assert!(Instant::now() < end, "no frame");
        receiver
            .waiter()
            .wait(Some(Duration::from_secs(1)))
            .unwrap();
    }
}

#[test]
fn a_restarted_daemon_is_attached_to_again() {
    let place = Place::new();
    let broker = Broker::start();
    place.is(&broker);
    let writer = broker.frames("yard", SPEC);
    let mut yard = attach(&place.path(), &["yard"], true).unwrap();
    let mut strict = attach(&place.path(), &["yard"], false).unwrap();
    put(&writer);
    put(&writer);
    let (index, held) = yard.next_timeout(LONG).unwrap().unwrap();
    assert_eq!((index, held.sequence(), held.change()), (0, 1, None));
    assert_eq!(latest(&mut strict).1.sequence(), 2);

    place.is_nothing();
    drop(broker);
    eventually("the loss to be seen", || {
        // What was published before is still given out.
        let _ = yard.next().unwrap();
        yard.client().is_none()
    });
    assert!(yard.is_incomplete() && yard.attached() == 0);
    assert!(yard.next().unwrap().is_none(), "no daemon is no error");
    assert!(
        yard.next_timeout(Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    for _ in 0..2 {
        let error = loop {
            match strict.next() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AttachError::Disconnected), "{error}");
    }

    let second = Broker::start();
    let writer = second.frames("yard", SPEC);
    place.is(&second);
    eventually("the new daemon to be found", || {
        yard.next().unwrap();
        yard.attached() == 1
    });
    assert_eq!(put(&writer), 1);
    let (_, frame) = yard.next_timeout(LONG).unwrap().unwrap();
    assert_eq!(
        (frame.sequence(), frame.missed(), frame.change()),
        (1, 0, Some(RingChange::Reconnected))
    );
    verify(&frame);
    verify(&held);
    put(&writer);
    let (_, frame) = yard.next_timeout(LONG).unwrap().unwrap();
    assert_eq!((frame.sequence(), frame.change()), (2, None));
    assert!(!yard.is_incomplete());
}

#[test]
fn what_was_published_before_the_end_is_given_out_of_every_camera() {
    let broker = Broker::start();
    let (_door, yard) = (broker.frames("door", SPEC), broker.frames("yard", SPEC));
    let mut both = attach(&broker.path(), &["door", "yard"], false).unwrap();
    put(&yard);
    put(&yard);
    drop(broker);
    eventually("the end of the connection", || {
        both.client().unwrap().status_json().is_err()
    });
    let mut seen = Vec::new();
    let error = loop {
        match both.next() {
            Ok(Some((index, frame))) => seen.push((index, frame.sequence())),
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AttachError::Disconnected), "{error}");
    assert_eq!(seen, [(1, 1), (1, 2)]);
}

#[test]
fn a_daemon_that_no_longer_has_the_camera_says_so() {
    let place = Place::new();
    let broker = Broker::start();
    place.is(&broker);
    let _writer = broker.frames("yard", SPEC);
    let mut yard = attach(&place.path(), &["yard"], true).unwrap();
    let second = Broker::start();
    let _other = second.frames("door", SPEC);
    place.is(&second);
    drop(broker);
    let end = Instant::now() + LONG;
    let error = loop {
        match yard.latest() {
            Ok(_) => assert!(Instant::now() < end, "no error"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, AttachError::UnknownCamera { .. }),
        "{error}"
    );
}

#[test]
fn several_cameras_take_turns() {
    let broker = Broker::start();
    let (door, yard) = (broker.frames("door", SPEC), broker.frames("yard", SPEC));
    let mut both = attach(&broker.path(), &["door", "yard"], true).unwrap();
    assert_eq!((both.len(), both.attached()), (2, 2));
    for _ in 0..3 {
        put(&door);
        put(&yard);
    }
    let mut seen = Vec::new();
    while let Some((index, frame)) = both.next().unwrap() {
        seen.push((both.name(index).unwrap().to_owned(), frame.sequence()));
    }
    let expected: Vec<_> = (1..=3)
        .flat_map(|n| [("door".to_owned(), n), ("yard".to_owned(), n)])
        .collect();
    assert_eq!(seen, expected);
    assert!(!both.waiter().wait(Some(Duration::ZERO)).unwrap());
    put(&yard);
    assert!(both.waiter().wait(Some(LONG)).unwrap());
    assert_eq!(latest(&mut both).0, 1);
}

#[test]
fn a_camera_that_is_not_ready_keeps_nobody_waiting() {
    let broker = Broker::start();
    broker.state().pending.push("yard".to_owned());
    let error = attach(&broker.path(), &["yard"], true).unwrap_err();
    assert!(matches!(error, AttachError::NotReady { .. }), "{error}");

    let door = broker.frames("door", SPEC);
    let mut both = attach(&broker.path(), &["yard", "door"], true).unwrap();
    assert_eq!((both.attached(), both.is_incomplete()), (1, true));
    assert!(matches!(
        both.trouble(0),
        Some(AttachError::NotReady { .. })
    ));
    put(&door);
    assert_eq!(latest(&mut both).0, 1);

    broker.state().pending.clear();
    let yard = broker.frames("yard", SPEC);
    eventually("the other camera to be attached", || {
        assert!(both.next().unwrap().is_none());
        both.attached() == 2
    });
    assert!(both.trouble(0).is_none() && !both.is_incomplete());
    put(&yard);
    let (index, frame) = latest(&mut both);
    assert_eq!((index, frame.change()), (0, None));
}

#[test]
fn a_camera_that_is_removed_leaves_the_others() {
    let broker = Broker::start();
    let (door, yard) = (broker.frames("door", SPEC), broker.frames("yard", SPEC));
    let mut both = attach(&broker.path(), &["door", "yard"], true).unwrap();
    let remove = |name: &str, writer: &LocalFrames| {
        broker.forget(name, RingKind::Frames);
        let mut writer = writer.lock().unwrap().take().unwrap();
        writer.close(CloseReason::Removed);
    };
    remove("door", &door);
    put(&yard);
    assert_eq!(latest(&mut both).0, 1);
    assert!(both.next().unwrap().is_none());
    assert!(both.trouble(0).is_some() && both.attached() == 1);
    remove("yard", &yard);
    let error = both.next().unwrap_err();
    assert!(error.to_string().contains("yard"), "{error}");
}

#[test]
fn a_name_that_is_wrong_is_an_error_at_once() {
    let broker = Broker::start();
    let _door = broker.frames("door", SPEC);
    let error = attach(&broker.path(), &["door", "dor"], true).unwrap_err();
    assert!(
        matches!(error, AttachError::UnknownCamera { .. }),
        "{error}"
    );
    let error = attach(&broker.path(), &[], true).unwrap_err();
    assert!(matches!(error, AttachError::Options { .. }), "{error}");
    let nowhere = broker.folder().join("nowhere.sock");
    let error = attach(&nowhere, &["door"], true).unwrap_err();
    assert!(matches!(error, AttachError::NoDaemon { .. }), "{error}");
}
