//! Session descriptions.

use crate::camera::{Script, Sdp};
use crate::clip::Clip;
use crate::world::{Fault, run};

pub fn faults() -> Vec<Fault> {
    let usual = Clip::usual().sdp(true);
    let (head, video) = usual.split_at(usual.find("m=video").expect("a video track"));
    let audio = "m=audio 0 RTP/AVP 0\r\na=control:a\r\n";
    let fifty = format!("{head}{}{video}", audio.repeat(49));
    vec![
        Fault::fails(
            "audio-only",
            "failed",
            &["no video", "audio"],
            Script::sdp(audio),
        ),
        Fault::fails(
            "sdp-malformed",
            "failed",
            &["malformed session description"],
            Script::default().with_sdp(Sdp::Text("v=0\r\nwhat is this\r\nm=\r\n".into())),
        ),
        Fault::fails(
            "sdp-empty",
            "failed",
            &["session description"],
            Script::default().with_sdp(Sdp::Text(String::new())),
        ),
        Fault::fails(
            "codec-unknown",
            "failed",
            &["vp8", "H.264"],
            Script::sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:v\r\n"),
        ),
        Fault::passes("fifty-tracks", Script::default().with_sdp(Sdp::Text(fifty))),
    ]
}

#[test]
fn descriptions_without_use() {
    run(faults());
}
