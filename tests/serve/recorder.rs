//! Writes recordings without a camera: CMAF chunks that ffmpeg made once, over and over, with the times of
//! a recording of any length.
#![allow(dead_code, reason = "the tests and the bench use a part of it each")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use camring::recording::{
    Chunk, ChunkFlags, FrameFlags, FrameTime, Header, InitId, MinuteFile, Rendition, Tree,
    write_init,
};

pub const TIMESCALE: i64 = 90_000;
pub const SECOND: i64 = 1_000_000_000;
/// Ticks of a picture at 25 a second.
pub const PICTURE: i64 = 3_600;

/// A few seconds of video.
#[derive(Debug)]
pub struct Clip {
    pub init: Vec<u8>,
    pub chunks: Vec<ClipChunk>,
}

/// One `moof` and `mdat`.
#[derive(Debug)]
pub struct ClipChunk {
    pub bytes: Vec<u8>,
    /// Where its `baseMediaDecodeTime` stands, 64 bits.
    tfdt: usize,
    pub pictures: i64,
    pub key: bool,
}

impl Clip {
    /// 320×180, 25 pictures a second, 5 in each chunk, a key frame each second, 10 s.
    pub fn of_ffmpeg() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| Self::make("320x180"))
    }

    /// Another size: a camera's second stream.
    pub fn small() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| Self::make("160x90"))
    }

    /// As small as a video can be: for recordings of a day.
    pub fn tiny() -> &'static Self {
        static CLIP: OnceLock<Clip> = OnceLock::new();
        CLIP.get_or_init(|| Self::encode("color=size=320x180:rate=25"))
    }

    fn make(size: &str) -> Self {
        Self::encode(&format!("testsrc2=size={size}:rate=25"))
    }

    fn encode(source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i"])
            .arg(source)
            .args([
                "-t",
                "10",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-pix_fmt",
                "yuv420p",
            ])
            .args([
                "-g",
                "25",
                "-bf",
                "0",
                "-sc_threshold",
                "0",
                "-video_track_timescale",
                "90000",
            ])
            .args([
                "-movflags",
                "cmaf+empty_moov+default_base_moof+skip_trailer",
            ])
            .args(["-frag_duration", "200000", "-y"])
            .arg(&path)
            .output()
            .expect("ffmpeg is there: scripts/setup.sh installs it");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "ffmpeg: {errors}");
        Self::cut(&fs::read(path).unwrap())
    }

    /// Cuts a fragmented file into its init segment and chunks.
    fn cut(file: &[u8]) -> Self {
        let mut clip = Self {
            init: Vec::new(),
            chunks: Vec::new(),
        };
        let mut rest = file;
        let mut pending: Vec<u8> = Vec::new();
        while rest.len() >= 8 {
            let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let (whole, after) = rest.split_at(size);
            rest = after;
            match &whole[4..8] {
                b"ftyp" | b"moov" => clip.init.extend_from_slice(whole),
                b"moof" => pending = whole.to_vec(),
                b"mdat" if !pending.is_empty() => {
                    let moof = std::mem::take(&mut pending);
                    clip.push(moof, whole);
                }
                _ => {}
            }
        }
        assert!(clip.chunks.len() >= 40, "{} chunks", clip.chunks.len());
        clip
    }

    fn push(&mut self, moof: Vec<u8>, mdat: &[u8]) {
        let find = |name: &[u8]| moof.windows(4).position(|four| four == name).unwrap();
        let (tfdt, trun) = (find(b"tfdt"), find(b"trun"));
        assert_eq!(moof[tfdt + 4], 1, "64 bits");
        let count = u32::from_be_bytes(moof[trun + 8..trun + 12].try_into().unwrap());
        let first = self.chunks.iter().map(|chunk| chunk.pictures).sum::<i64>();
        self.chunks.push(ClipChunk {
            tfdt: tfdt + 8,
            pictures: count.into(),
            key: first % 25 == 0,
            bytes: [moof, mdat.to_vec()].concat(),
        });
    }
}

impl ClipChunk {
    /// Its bytes, at another time.
    pub fn at(&self, time: i64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.tfdt..self.tfdt + 8].copy_from_slice(&time.to_be_bytes());
        bytes
    }
}

/// Writes a rendition, as the recorder of a camera does.
#[derive(Debug)]
pub struct Recorder {
    pub rendition: Rendition,
    clip: &'static Clip,
    init: InitId,
    file: Option<MinuteFile>,
    /// Of the next chunk.
    next: usize,
    pub time: i64,
    pub sequence: u64,
    pub part: u32,
    pub discontinuity: u64,
    minute_began: i64,
    segment_began: i64,
    /// UTC of media time 0, in ns.
    pub epoch_ns: i64,
    /// In ticks.
    pub segment: i64,
}

impl Recorder {
    /// A camera's stream; `start_ns` is when its first picture is taken.
    pub fn new(data_dir: &Path, stream: &str, clip: &'static Clip, start_ns: i64) -> Self {
        let rendition = Tree::new(data_dir).rendition(stream, Rendition::SOURCE);
        fs::create_dir_all(&rendition.folder).unwrap();
        Self {
            init: write_init(&rendition, &clip.init).unwrap(),
            rendition,
            clip,
            file: None,
            next: 0,
            time: 0,
            sequence: 0,
            part: 0,
            discontinuity: 0,
            minute_began: 0,
            segment_began: 0,
            epoch_ns: start_ns,
            segment: 2 * TIMESCALE,
        }
    }

    pub fn utc(&self, time: i64) -> i64 {
        self.epoch_ns + i64::try_from(i128::from(time) * 1_000_000_000 / 90_000).unwrap()
    }

    /// When the picture with this media time was taken: a camera's clock has a jitter, and is up to
    /// 4 ms off the map.
    pub fn capture(&self, time: i64) -> i64 {
        self.utc(time) + (time / PICTURE * 7919 % 8001 - 4000) * 1000
    }

    /// UTC of what comes next.
    pub fn now(&self) -> i64 {
        self.utc(self.time)
    }

    fn begin_minute(&mut self) {
        self.end();
        let header = Header {
            timescale: 90_000,
            sender_report: true,
            media_sequence: self.sequence,
            discontinuity_sequence: self.discontinuity,
            init: self.init,
            anchor_time: self.time,
            anchor_utc_ns: self.now(),
            part_target_us: 200_000,
            segment_target_us: u32::try_from(self.segment * 1_000_000 / TIMESCALE).unwrap(),
        };
        let start_ms = self.now() / 1_000_000;
        self.minute_began = self.time;
        self.file = Some(MinuteFile::create(&self.rendition, start_ms, header).unwrap());
    }

    /// Ends the open segment and file.
    pub fn end(&mut self) {
        if let Some(mut file) = self.file.take() {
            file.end_segment().unwrap();
            if self.part > 0 {
                self.sequence += 1;
                self.part = 0;
            }
            file.finish().unwrap();
        }
    }

    /// Writes one chunk of 200 ms.
    pub fn chunk(&mut self) {
        let chunk = &self.clip.chunks[self.next];
        let after = &self.clip.chunks[(self.next + 1) % self.clip.chunks.len()];
        self.next = (self.next + 1) % self.clip.chunks.len();
        if self.part == 0 {
            let old = self.time - self.minute_began >= 60 * TIMESCALE;
            if self.file.is_none() || old {
                self.begin_minute();
            }
            self.segment_began = self.time;
        }
        let length = chunk.pictures * PICTURE;
        let end = self.time + length;
        let last = after.key && end - self.segment_began >= self.segment;
        let mut flags = ChunkFlags::default();
        if chunk.key {
            flags = flags | ChunkFlags::INDEPENDENT;
        }
        if self.part == 0 {
            flags = flags | ChunkFlags::SEGMENT_START;
        }
        if last {
            flags = flags | ChunkFlags::SEGMENT_END;
        }
        let frames = (0..chunk.pictures).map(|n| {
            let time = self.time + n * PICTURE;
            FrameTime {
                time,
                capture_ns: self.capture(time),
                flags: FrameFlags(u32::from(chunk.key && n == 0)),
            }
        });
        let record = Chunk {
            media_sequence: self.sequence,
            part: self.part,
            flags,
            offset: 0,
            len: 0,
            decode_time: self.time,
            duration: u32::try_from(length).unwrap(),
            frames: frames.collect(),
        };
        let bytes = chunk.at(self.time);
        self.file.as_mut().unwrap().append(&bytes, record).unwrap();
        self.time = end;
        self.part += 1;
        if last {
            self.sequence += 1;
            self.part = 0;
        }
    }

    /// Writes so many seconds.
    pub fn seconds(&mut self, seconds: i64) {
        let end = self.time + seconds * TIMESCALE;
        while self.time < end {
            self.chunk();
        }
    }

    /// Nothing came for so long; media time and numbers go on after a break.
    pub fn pause(&mut self, seconds: i64) {
        self.end();
        self.time += seconds * TIMESCALE;
        self.discontinuity += 1;
        self.next = 0;
    }
}

/// UTC now, in ns.
pub fn utc_now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}
