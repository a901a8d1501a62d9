//! `camring serve` on a folder of recordings, without a daemon.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use camring::media::annexb::UnitFormat;
use camring::media::{
    Codec, Decoder, DecoderOptions, Mp4Reader, PictureDecoder, PictureDecoderOptions, TrackKind,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::framecode::{self, Code};
use crate::support::{PATIENCE, process, wait_for};

pub struct Server {
    child: Child,
    folder: TempDir,
    address: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub frame_time: Option<String>,
    pub disposition: String,
    pub body: Vec<u8>,
    /// The body ended as it should.
    pub whole: bool,
}

impl Answer {
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.kind, "application/problem+json");
        let problem: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
        problem
    }

    #[track_caller]
    pub fn good(self, kind: &str) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1000)]);
        assert_eq!((self.status, &*self.kind), (200, kind), "{text}");
        assert!(self.whole, "cut off");
        self.body
    }
}

impl Server {
    /// Serves the recordings that `record` leaves in the folder.
    pub fn start(record: impl FnOnce(&Path)) -> Server {
        let folder = tempfile::Builder::new()
            .prefix("camring-media-")
            .tempdir()
            .expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder");
        record(&data);
        let config = format!(
            "[site]\nname = \"test\"\nruntime_dir = \"{0}/run\"\ndata_dir = \"{0}/data\"\n[sandbox]\non_violation = \"kill\"\n\
             [[camera]]\nname = \"door\"\nurl = \"rtsp://127.0.0.1:9/x\"\n",
            folder.path().display()
        );
        fs::write(folder.path().join("config.toml"), config).expect("a configuration");
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(env!("CARGO_BIN_EXE_camring"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(folder.path().join("config.toml"))
            .env_remove("CAMRING_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) starts");
        let mut server = Server {
            child,
            folder,
            address: String::new(),
        };
        server.address = wait_for("the server to listen", PATIENCE, || {
            let log = server.log();
            let at = log.split("listening on http://").nth(1);
            match at.and_then(|rest| rest.split('/').next()) {
                Some(address) => Ok(address.to_owned()),
                None => Err(log),
            }
        });
        server
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its workers, now.
    pub fn workers(&self) -> Vec<process::Process> {
        process::descendants(self.child.id())
            .into_iter()
            .filter(process::Process::is_alive)
            .collect()
    }

    /// `GET /api/v1/cameras/door/…`
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_of("door", path)
    }

    #[track_caller]
    pub fn get_of(&self, camera: &str, path: &str) -> Answer {
        let url = format!("http://{}/api/v1/cameras/{camera}/{path}", self.address);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut response = agent.get(&url).call().expect("an answer");
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (kind, frame_time) = (header("content-type"), header("camring-frame-time"));
        let disposition = header("content-disposition");
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let whole = response
            .body_mut()
            .as_reader()
            .read_to_end(&mut body)
            .is_ok();
        Answer {
            status,
            kind: kind.unwrap_or_default(),
            frame_time,
            disposition: disposition.unwrap_or_default(),
            body,
            whole,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}---", self.log());
        }
        let before = process::descendants(self.child.id());
        process::kill(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if !std::thread::panicking() {
            wait_for("every worker to end", PATIENCE, || {
                let left: Vec<_> = before.iter().filter(|p| p.is_alive()).collect();
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(left.len())
                }
            });
        }
    }
}

/// Size and code of a JPEG.
#[track_caller]
pub fn read_jpeg(jpeg: &[u8]) -> ((u32, u32), Result<Code, framecode::CodeError>) {
    let (size, stride, luma) = decode_jpeg(jpeg);
    let code = framecode::read(&luma, stride, size.0 as usize, size.1 as usize);
    (size, code)
}

/// Size, stride and luma of a JPEG.
#[track_caller]
pub fn decode_jpeg(jpeg: &[u8]) -> ((u32, u32), usize, Vec<u8>) {
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
    let size = (picture.width(), picture.height());
    (size, planes[0].stride as usize, copy)
}

/// A picture in an MP4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// In s.
    pub pts: f64,
    pub index: Option<u16>,
    pub size: (u32, u32),
}

/// The pictures of an MP4, and the timescale.
#[track_caller]
pub fn read_mp4(bytes: &[u8]) -> Vec<Shown> {
    let mut reader = Mp4Reader::open(Box::new(std::io::Cursor::new(bytes.to_vec()))).expect("MP4");
    let track = reader.track(TrackKind::Video).expect("video");
    let format = UnitFormat::parse(Codec::H264, &track.config).expect("avcC");
    let mut decoder = PictureDecoder::new(PictureDecoderOptions {
        codec: Codec::H264,
        threads: 1,
        slots: None,
        max_pixels: 1 << 24,
    });
    let mut shown = Vec::new();
    let mut unit = Vec::new();
    let take = |decoder: &mut PictureDecoder, shown: &mut Vec<Shown>| {
        while let Some(picture) = decoder.next_picture().expect("H.264") {
            let mut copy = vec![0; picture.copied_len().expect("a size")];
            let planes = picture.copy_into(&mut copy).expect("room");
            let size = (picture.width(), picture.height());
            let stride = planes[0].stride as usize;
            let code = framecode::read(&copy, stride, size.0 as usize, size.1 as usize);
            shown.push(Shown {
                pts: picture.pts() as f64 / f64::from(track.timescale),
                index: code.ok().map(|code| code.index),
                size,
            });
        }
    };
    while let Some(sample) = reader.next_sample().expect("whole") {
        if sample.kind != TrackKind::Video {
            continue;
        }
        unit.clear();
        format.append(sample.data, sample.key, &mut unit);
        decoder.submit(&unit, sample.pts, 0).expect("H.264");
        take(&mut decoder, &mut shown);
    }
    decoder.finish();
    take(&mut decoder, &mut shown);
    shown
}
