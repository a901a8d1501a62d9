//! Answers that no client should have to read.

use std::time::Duration;

use crate::camera::{Answer, Script};
use crate::clip::Clip;
use crate::world::{Fault, run};

fn describe(head: &str, body: &str) -> Vec<u8> {
    format!("RTSP/1.0 200 OK\r\nCSeq: @CSEQ@\r\nContent-Type: application/sdp\r\n{head}\r\n{body}")
        .into_bytes()
}

pub fn faults() -> Vec<Fault> {
    let on = |bytes: Vec<u8>| Script::on("DESCRIBE", move || Answer::Bytes(bytes.clone()));
    let sdp = Clip::usual().sdp(true);
    let pause = Duration::from_millis(20);
    let kib = |text: &str| text.repeat(64 * 1024 / text.len());
    vec![
        Fault::fails(
            "content-length-huge",
            "backoff",
            &["DESCRIBE"],
            Script::on("DESCRIBE", move || {
                let head = describe("Content-Length: 4000000000\r\n", "");
                Answer::Bytes(head)
            }),
        )
        .tries(3),
        Fault::fails(
            "content-length-huge-and-sent",
            "backoff",
            &["DESCRIBE"],
            Script::on("DESCRIBE", move || {
                Answer::Drip(
                    describe(
                        "Content-Length: 4000000000\r\n",
                        &kib("a=x\r\n").repeat(160),
                    ),
                    64 * 1024,
                    pause,
                )
            }),
        )
        .tries(3),
        Fault::fails(
            "content-length-negative",
            "backoff",
            &["DESCRIBE"],
            on(describe("Content-Length: -1\r\n", &sdp)),
        ),
        Fault::fails(
            "content-length-missing",
            "failed",
            &["session description"],
            on(describe("", &sdp)),
        ),
        Fault::fails(
            "header-endless",
            "backoff",
            &["DESCRIBE"],
            Script::on("DESCRIBE", move || {
                let mut text = describe("", "");
                text.truncate(text.len() - 2);
                text.extend_from_slice(b"X-Long: ");
                text.extend(kib("x").repeat(160).bytes());
                Answer::Drip(text, 64 * 1024, pause)
            }),
        )
        .tries(3),
        Fault::fails(
            "headers-without-end",
            "backoff",
            &["DESCRIBE"],
            Script::on("DESCRIBE", move || {
                let mut text = describe("", "");
                text.truncate(text.len() - 2);
                text.extend(kib("X-A: b\r\n").repeat(80).bytes());
                Answer::Drip(text, 64 * 1024, pause)
            }),
        )
        .tries(3),
        Fault::fails(
            "not-rtsp",
            "backoff",
            &["protocol error", "DESCRIBE"],
            on(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        ),
        Fault::fails(
            "header-binary",
            "backoff",
            &["protocol error", "DESCRIBE"],
            on(vec![0x80; 3000]),
        ),
    ]
}

#[test]
fn answers_that_no_client_should_have_to_read() {
    run(faults());
}
