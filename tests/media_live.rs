//! Pictures over HTTP of cameras that are being read: of now, and of what is recorded of them.

mod support;

use std::io::Read as _;

use camring::media::{Codec, Decoder, DecoderOptions};
use support::{Camera, Daemon, Farm, PATIENCE, framecode, unix_ns, wait_for};

struct Answer {
    status: u16,
    frame_time: Option<i64>,
    body: Vec<u8>,
}

#[track_caller]
fn get(daemon: &Daemon, path: &str) -> Answer {
    let address = wait_for("the server to listen", PATIENCE, || {
        let status = daemon.status();
        match status["http"]["address"].as_str() {
            Some(address) => Ok(address.to_owned()),
            None => Err(status["http"].clone()),
        }
    });
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("http://{address}/api/v1/cameras/{path}");
    let mut response = agent.get(&url).call().expect("an answer");
    let time = response.headers().get("camring-frame-time");
    let time = time.map(|time| time.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader();
    reader.read_to_end(&mut body).expect("the whole body");
    Answer {
        status,
        frame_time: time.map(|time| camring::serve::time::parse(&time).expect("a time")),
        body,
    }
}

#[track_caller]
fn code(jpeg: &[u8]) -> framecode::Code {
    let mut decoder = Decoder::open(DecoderOptions {
        codec: Codec::Mjpeg,
        threads: 1,
        direct: false,
        slots: None,
        max_pixels: 1 << 26,
    })
    .expect("a decoder");
    decoder.send(jpeg, 0, 0).expect("a JPEG");
    let picture = decoder.receive().expect("a JPEG").expect("a picture");
    let mut copy = vec![0; picture.copied_len().expect("a size")];
    let planes = picture.copy_into(&mut copy).expect("room");
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    framecode::read(&copy, planes[0].stride as usize, width, height).expect("a whole picture")
}

#[test]
fn the_live_picture_is_of_now_whatever_the_codec_also_on_demand() {
    let farm = Farm::start(&[
        Camera::new("a", "h264-360p"),
        Camera::new("b", "mjpeg-360p"),
        Camera::new("c", "h265-360p"),
    ]);
    let cameras: String = ["a", "b", "c"]
        .map(|name| {
            let decode = if name == "b" { "always" } else { "on-demand" };
            let url = farm.url(name);
            format!("[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\ndecode = {{ mode = \"{decode}\" }}\n")
        })
        .concat();
    let daemon = Daemon::start(&format!("[http]\nlisten = \"127.0.0.1:0\"\n{cameras}"));
    for name in ["a", "b", "c"] {
        daemon.wait_for_state(name, "streaming");
        let mut before = unix_ns();
        for round in 0..3 {
            let answer = get(&daemon, &format!("{name}/snapshot.jpg"));
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 200, "{name} {round}: {text}");
            assert_eq!(code(&answer.body).tag, farm.witness(name).tag());
            let taken = answer.frame_time.expect("a time");
            // Nothing that lay in the ring for long.
            assert!(taken > before - 40_000_000_000, "{name}: {taken} {before}");
            before = taken;
        }
        let small = get(&daemon, &format!("{name}/snapshot.jpg?width=160"));
        assert_eq!(small.status, 200);
        assert!(small.body.len() < 30_000);
    }
    let unknown = get(&daemon, "a/snapshot.jpg?stream=sub");
    assert_eq!(unknown.status, 404);
}

#[test]
fn what_is_recorded_can_be_looked_at_while_it_is_recorded() {
    let farm = Farm::start(&[Camera::new("a", "h264-360p")]);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nname = \"a\"\nurl = \"{}\"\n\
         [camera.record]\nmode = \"copy\"\nsegment = \"1s\"\n",
        farm.url("a")
    ));
    wait_for("three segments", PATIENCE, || {
        let status = daemon.camera("a");
        match status["recording"]["segments"].as_u64() {
            Some(segments) if segments >= 3 => Ok(()),
            _ => Err(status["recording"].clone()),
        }
    });
    let at = camring::serve::time::rfc3339;
    let now = unix_ns();
    let answer = get(
        &daemon,
        &format!("a/snapshot.jpg?at={}", at(now - 1_000_000_000)),
    );
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{text}");
    assert_eq!(code(&answer.body).tag, farm.witness("a").tag());
    let taken = answer.frame_time.expect("a time");
    // Asked for by its time it is the same picture.
    let again = get(&daemon, &format!("a/snapshot.jpg?at={}", at(taken)));
    assert_eq!(code(&again.body), code(&answer.body));
    let range = format!("from={}&to={}", at(now - 20_000_000_000), at(now));
    for (path, begins) in [("export.mp4", &b"ftyp"[..]), ("preview.mp4", b"ftyp")] {
        let answer = get(&daemon, &format!("a/{path}?{range}"));
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(&answer.body[4..8], begins, "{path}");
    }
    let gif = get(&daemon, &format!("a/preview.gif?{range}"));
    assert!(gif.body.starts_with(b"GIF89a"));
}
