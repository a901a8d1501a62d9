//! The access units that scripted cameras send: real ones, with the frame code in each picture.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use camring::media::Codec;
use camring::media::parameters::nal_units;

use crate::support::farm;

/// Tag and length of the usual clip, as `tests/farm/clips.py` has them.
pub const TAG: u8 = 6;
pub const PICTURES: u16 = 100;

/// A stream in access units of NAL units; a JPEG picture is one of one.
pub struct Clip {
    pub codec: Codec,
    pub units: Vec<Vec<Vec<u8>>>,
    pub sps: Vec<u8>,
    pub pps: Vec<u8>,
    /// The tag of the frame code that its pictures carry.
    pub tag: Option<u8>,
}

impl Clip {
    fn read(path: &Path, codec: Codec, tag: Option<u8>) -> Clip {
        let bytes = std::fs::read(path).expect("the clip was just made");
        if codec == Codec::Mjpeg {
            let starts: Vec<usize> = (0..bytes.len() - 1)
                .filter(|at| bytes[*at..].starts_with(&[0xff, 0xd8]))
                .chain([bytes.len()])
                .collect();
            let pictures = starts.windows(2).map(|w| vec![bytes[w[0]..w[1]].to_vec()]);
            return Clip {
                codec,
                units: pictures.collect(),
                sps: Vec::new(),
                pps: Vec::new(),
                tag,
            };
        }
        let mut units: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut complete = true;
        let (mut sps, mut pps) = (Vec::new(), Vec::new());
        for nal in nal_units(&bytes) {
            if complete {
                units.push(Vec::new());
            }
            // One slice per picture: it ends the unit.
            let kind = match codec {
                Codec::H264 => nal[0] & 0x1f,
                _ => nal[0] >> 1 & 0x3f,
            };
            complete = match codec {
                Codec::H264 => matches!(kind, 1 | 5),
                _ => kind < 32,
            };
            match (codec, kind) {
                (Codec::H264, 7) | (Codec::H265, 33) => sps = nal.to_vec(),
                (Codec::H264, 8) | (Codec::H265, 34) => pps = nal.to_vec(),
                _ => {}
            }
            if let Some(unit) = units.last_mut() {
                unit.push(nal.to_vec());
            }
        }
        assert!(!sps.is_empty() && !pps.is_empty() && units.len() > 1);
        Clip {
            codec,
            units,
            sps,
            pps,
            tag,
        }
    }

    /// 640×360, a key frame every 25 pictures.
    pub fn h265() -> Arc<Clip> {
        static CLIP: OnceLock<Arc<Clip>> = OnceLock::new();
        let read = || Clip::read(&farm::clip_path("h265-360p"), Codec::H265, Some(7));
        Arc::clone(CLIP.get_or_init(|| Arc::new(read())))
    }

    /// 640×360.
    pub fn jpeg() -> Arc<Clip> {
        static CLIP: OnceLock<Arc<Clip>> = OnceLock::new();
        let read = || Clip::read(&farm::clip_path("mjpeg-360p"), Codec::Mjpeg, Some(8));
        Arc::clone(CLIP.get_or_init(|| Arc::new(read())))
    }

    /// 320×180, a key frame every 25 pictures.
    pub fn usual() -> Arc<Clip> {
        static CLIP: OnceLock<Arc<Clip>> = OnceLock::new();
        Arc::clone(CLIP.get_or_init(|| {
            let clip = Clip::read(&farm::clip_path("h264-180p"), Codec::H264, Some(TAG));
            assert_eq!(clip.units.len(), usize::from(PICTURES));
            Arc::new(clip)
        }))
    }

    /// Encoded by the `ffmpeg` program from its test picture.
    pub fn encoded(folder: &Path, size: &str, x264: &str) -> Arc<Clip> {
        let path = folder.join("clip.h264");
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
            .arg(format!("testsrc=size={size}:rate=25:duration=2"))
            .args([
                "-pix_fmt",
                "yuv420p",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
            ])
            .args(["-x264-params", x264, "-f", "h264"])
            .arg(&path)
            .output()
            .expect("the ffmpeg program is needed (apt install ffmpeg)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Arc::new(Clip::read(&path, Codec::H264, None))
    }

    pub fn sdp(&self, sets: bool) -> String {
        let media = match self.codec {
            Codec::H264 => "",
            Codec::H265 => "a=rtpmap:96 H265/90000\r\n",
            _ => "a=rtpmap:96 JPEG/90000\r\n",
        };
        if !media.is_empty() {
            return format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                 {media}a=control:track0\r\n"
            );
        }
        let sprop = if sets {
            format!(
                ";sprop-parameter-sets={},{}",
                base64(&self.sps),
                base64(&self.pps)
            )
        } else {
            String::new()
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
             a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1{sprop}\r\n\
             a=control:track0\r\n"
        )
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        for i in 0..4 {
            if i <= chunk.len() {
                text.push(LETTERS[(word >> (18 - 6 * i) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}
