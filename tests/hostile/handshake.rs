//! Until PLAY is answered: cameras that hang, refuse, or send the client elsewhere.

use std::time::Duration;

use crate::camera::{Answer, Script};
use crate::world::{Fault, run};

const REALM: &str = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"1\", algorithm=MD5\r\n";

pub fn faults() -> Vec<Fault> {
    let hang = |method| Script::on(method, || Answer::Nothing);
    let refuse = |method, code| Script::on(method, move || Answer::status(code, ""));
    vec![
        Fault::fails("hang-describe", "backoff", &["no answer within", "DESCRIBE"], hang("DESCRIBE")).tries(3),
        Fault::fails("hang-setup", "backoff", &["no answer within", "SETUP"], hang("SETUP")).tries(3),
        Fault::fails("hang-play", "backoff", &["no answer within", "PLAY"], hang("PLAY")).tries(3),
        Fault::fails(
            "hang-teardown",
            "backoff",
            &["goodbye"],
            Script {
                play: std::sync::Arc::new(|p| {
                    p.pictures(10)?;
                    p.packet(1, &crate::rtcp::bye())?;
                    p.silence()
                }),
                ..hang("TEARDOWN")
            },
        )
        .tries(2),
        Fault::fails(
            "dripping-answer",
            "backoff",
            &["no answer within", "DESCRIBE"],
            Script::on("DESCRIBE", || {
                let text = format!("RTSP/1.0 200 OK\r\nCSeq: @CSEQ@\r\nX: {}", "x".repeat(200));
                Answer::Drip(text.into_bytes(), 1, Duration::from_millis(100))
            }),
        )
        .tries(3),
        Fault::fails(
            "wrong-cseq",
            "backoff",
            &["Expected response", "CSeq", "DESCRIBE"],
            Script::on("DESCRIBE", || {
                Answer::Bytes(b"RTSP/1.0 200 OK\r\nCSeq: 4711\r\nContent-Length: 0\r\n\r\n".to_vec())
            }),
        ),
        Fault::fails(
            "redirect-elsewhere",
            "failed",
            &["redirects"],
            Script::on("DESCRIBE", || {
                Answer::status(302, "Location: rtsp://127.0.0.1:9/elsewhere\r\n")
            }),
        ),
        Fault::fails(
            "redirect-loop",
            "failed",
            &["redirects"],
            Script::request(|request, camera| match request.method.as_str() {
                "DESCRIBE" => Answer::status(301, &format!("Location: {}\r\n", camera.url())),
                _ => Answer::Usual,
            }),
        ),
        Fault::fails(
            "login-refused",
            "unauthorized",
            &["refuses the login", "password"],
            Script::on("DESCRIBE", || Answer::status(401, REALM)),
        )
        .with_login(),
        Fault::fails(
            "login-missing",
            "unauthorized",
            &["asks for a login", "username"],
            Script::on("DESCRIBE", || Answer::status(401, REALM)),
        ),
        Fault::fails(
            "stale-nonces",
            "unauthorized",
            &["refuses the login"],
            Script::request(|request, _| match request.method.as_str() {
                "DESCRIBE" => {
                    let nonce = request.number;
                    Answer::status(
                        401,
                        &format!(
                            "WWW-Authenticate: Digest realm=\"cam\", nonce=\"{nonce}\", stale=true\r\n"
                        ),
                    )
                }
                _ => Answer::Usual,
            }),
        )
        .with_login(),
        Fault::fails("status-453", "backoff", &["no free session", "453"], refuse("SETUP", 453))
            .pace(crate::world::Pace::Slow)
            .tries(2),
        Fault::fails("status-454", "backoff", &["454", "PLAY"], refuse("PLAY", 454)),
        Fault::fails("status-455", "backoff", &["455", "PLAY"], refuse("PLAY", 455)),
        Fault::fails("status-503", "backoff", &["no free session", "503"], refuse("DESCRIBE", 503))
            .pace(crate::world::Pace::Slow)
            .tries(2),
        Fault::fails("status-404", "failed", &["no such stream"], refuse("DESCRIBE", 404)),
    ]
}

#[test]
fn cameras_that_do_not_get_as_far_as_playing() {
    run(faults());
}
