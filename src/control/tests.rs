use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::*;

fn memory(name: &str) -> OwnedFd {
    rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

fn open_descriptors_named(name: &str) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().contains(name))
        .count()
}

#[test]
fn descriptors_arrive_in_order_with_their_message() {
    let (a, b) = ControlSocket::pair().unwrap();
    let (first, second) = (memory("control-first"), memory("control-second"));
    let message = ToReader::AddSubscriber {
        id: 7,
        ring: RingKind::Frames,
        ring_id: 1,
        pins: 2,
        notify: false,
    };
    a.send(&message, &[first.as_fd(), second.as_fd()]).unwrap();
    let got = b.recv::<ToReader>().unwrap().unwrap();
    assert!(matches!(got.message, ToReader::AddSubscriber { id: 7, .. }));
    let names: Vec<_> = got
        .fds
        .iter()
        .map(|fd| {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
            std::fs::read_link(link).unwrap().display().to_string()
        })
        .collect();
    assert!(names[0].contains("control-first"), "{names:?}");
    assert!(names[1].contains("control-second"), "{names:?}");
    for fd in &got.fds {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn a_closed_end_is_the_end() {
    let (a, b) = ControlSocket::pair().unwrap();
    a.send(&ToReader::Stop, &[]).unwrap();
    drop(a);
    let got = b.recv::<ToReader>().unwrap().unwrap();
    assert!(matches!(got.message, ToReader::Stop));
    assert!(b.recv::<ToReader>().unwrap().is_none());
    assert!(b.send(&ToReader::Stop, &[]).is_err());
}

#[test]
fn nothing_there_is_would_block() {
    let (_a, b) = ControlSocket::pair().unwrap();
    match b.try_recv::<ToReader>() {
        Err(ControlError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_much_is_an_error_and_leaks_nothing() {
    let (a, b) = ControlSocket::pair().unwrap();
    let text = "x".repeat(MAX_MESSAGE);
    let long = a.send(&ToSupervisor::Fault { text }, &[]);
    assert!(matches!(long, Err(ControlError::TooLong)));

    // A hostile peer does not keep to the limits of `send`.
    let fds: Vec<_> = (0..MAX_FDS + 3)
        .map(|_| memory("control-surplus"))
        .collect();
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); 256];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let iov = [io::IoSlice::new(b"\"ready\"")];
    rustix::net::sendmsg(a.as_fd(), &iov, &mut control, SendFlags::empty()).unwrap();
    drop(fds);
    assert!(matches!(
        b.recv::<ToSupervisor>(),
        Err(ControlError::Descriptors)
    ));
    assert_eq!(open_descriptors_named("control-surplus"), 0);

    rustix::net::send(a.as_fd(), &vec![b' '; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
    assert!(matches!(
        b.recv::<ToSupervisor>(),
        Err(ControlError::TooLong)
    ));
}

#[test]
fn garbage_is_an_error_that_does_not_repeat_it() {
    let (a, b) = ControlSocket::pair().unwrap();
    for garbage in [
        "{\"start\":{\"password\":\"canary\"}}",
        "canary",
        "\"canary\"",
    ] {
        rustix::net::send(a.as_fd(), garbage.as_bytes(), SendFlags::empty()).unwrap();
        let error = b.recv::<ToReader>().unwrap_err();
        assert!(matches!(error, ControlError::Malformed { .. }), "{error}");
        assert!(
            !format!("{error} {error:?}").contains("canary"),
            "{error:?}"
        );
    }
}

#[test]
fn any_other_descriptor_is_no_control_socket() {
    assert!(ControlSocket::from_fd(memory("control-none")).is_err());
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(ControlSocket::from_fd(stream.into()).is_err());
}

#[test]
fn the_async_end_waits_for_room_and_for_messages() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (a, b) = ControlSocket::pair().unwrap();
        let a = AsyncControl::new(a).unwrap();
        let text = "x".repeat(30_000);
        let mut sent = 0;
        loop {
            let message = ToSupervisor::Fault { text: text.clone() };
            let send = a.send(&message, &[]);
            match tokio::time::timeout(Duration::from_millis(50), send).await {
                Ok(result) => result.unwrap(),
                Err(_) => break,
            }
            sent += 1;
        }
        assert!(sent > 0);
        let reader = std::thread::spawn(move || {
            for _ in 0..sent {
                b.recv::<ToSupervisor>().unwrap().unwrap();
            }
            b.send(&ToReader::Stop, &[]).unwrap();
        });
        let answer = a.recv::<ToReader>().await.unwrap().unwrap();
        assert!(matches!(answer.message, ToReader::Stop));
        reader.join().unwrap();
        assert!(a.recv::<ToReader>().await.unwrap().is_none());
    });
}
