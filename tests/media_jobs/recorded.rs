//! Recordings made here, picture by picture: each says which it is, and when it was taken is known.

use std::path::Path;

use camring::media::jpeg::Image;
use camring::media::{
    Canvas, Codec, ColorRange, EncoderKind, EncoderOptions, FragmentMuxer, PixelFormat, Rate,
    SampleTime, TrackSpec, VideoEncoder,
};
use camring::recording::{
    Chunk, ChunkFlags, FrameFlags, FrameTime, Header, InitId, MinuteFile, Rendition, Tree,
    write_init,
};

use crate::support::framecode::{self, Code};

pub const TAG: u8 = 21;
/// Pictures from one key frame to the next.
pub const GROUP: usize = 20;
/// Pictures in a part.
const PART: usize = 5;
/// Groups in a file.
const GROUPS_IN_FILE: usize = 3;

/// A picture that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What is written in it.
    pub index: u16,
    pub capture_ns: i64,
}

/// Writes recordings of one rendition, stretch after stretch.
pub struct Recorder {
    rendition: Rendition,
    media_sequence: u64,
    discontinuity: u64,
    index: u16,
    pub taken: Vec<Taken>,
}

/// The step to the picture after this, in ticks of 90 kHz: as irregular as cameras are.
fn step(index: usize) -> i64 {
    3000 + 61 * (index as i64 % 17)
}

impl Recorder {
    pub fn new(data_dir: &Path, stream: &str, rendition: &str) -> Self {
        let rendition = Tree::new(data_dir).rendition(stream, rendition);
        std::fs::create_dir_all(&rendition.folder).expect("a folder");
        Self {
            rendition,
            media_sequence: 1,
            discontinuity: 0,
            index: 0,
            taken: Vec::new(),
        }
    }

    /// Records so many pictures from a moment on, after a break.
    pub fn stretch(&mut self, start_ns: i64, pictures: usize, size: (u32, u32)) {
        let mut encoder = VideoEncoder::open(EncoderOptions {
            kind: EncoderKind::X264,
            width: size.0,
            height: size.1,
            full_range: false,
            matrix: 2,
            rate: Rate::Quality(20),
            immediate: true,
            threads: 1,
            about_fps: 30,
        })
        .expect("libx264");
        let sets = encoder.parameter_sets().to_vec();
        let spec = TrackSpec::Video {
            codec: Codec::H264,
            width: size.0,
            height: size.1,
            parameter_sets: &sets,
        };
        let mut muxer = FragmentMuxer::open(&[spec]).expect("a muxer");
        let init = write_init(&self.rendition, muxer.init()).expect("written");
        let mut file: Option<MinuteFile> = None;
        // Media time has nothing to do with UTC.
        let mut time = 1_234_567;
        let anchor = time;
        let ns = |ticks: i64| ticks * 100_000 / 9;
        let mut frames: Vec<FrameTime> = Vec::new();
        for at in 0..pictures {
            let key = at % GROUP == 0;
            if at % (GROUP * GROUPS_IN_FILE) == 0 {
                if let Some(file) = file.take() {
                    file.finish().expect("on the disk");
                }
                let start = start_ns + ns(time - anchor);
                let header = self.header(init, anchor, start_ns);
                let made = MinuteFile::create(&self.rendition, start.div_euclid(1_000_000), header);
                file = Some(made.expect("a file"));
            }
            let capture_ns = start_ns + ns(time - anchor);
            let mut canvas = picture(self.index, size);
            encoder.send(&mut canvas, time, key).expect("encoded");
            let packet = encoder.receive().expect("works").expect("at once");
            let mut unit = match key {
                true => sets.clone(),
                false => Vec::new(),
            };
            unit.extend_from_slice(packet.data);
            let sample = SampleTime {
                dts: time,
                pts: time,
                duration: step(at),
                key,
            };
            muxer.write(0, &unit, sample).expect("muxed");
            frames.push(FrameTime {
                time,
                capture_ns,
                flags: FrameFlags(u32::from(key)),
            });
            self.taken.push(Taken {
                index: self.index,
                capture_ns,
            });
            self.index += 1;
            time += step(at);
            if at % PART == PART - 1 || at + 1 == pictures {
                let bytes = muxer.flush().expect("a fragment");
                let part = at % GROUP / PART;
                let mut flags = ChunkFlags::default();
                if part == 0 {
                    flags = flags | ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START;
                }
                if part == GROUP / PART - 1 || at + 1 == pictures {
                    flags = flags | ChunkFlags::SEGMENT_END;
                }
                let first = frames[0].time;
                let chunk = Chunk {
                    media_sequence: self.media_sequence,
                    part: part as u32,
                    flags,
                    offset: 0,
                    len: 0,
                    decode_time: first,
                    duration: (time - first) as u32,
                    frames: std::mem::take(&mut frames),
                };
                let file = file.as_mut().expect("open");
                file.append(&bytes, chunk).expect("room on the disk");
                if flags.contains(ChunkFlags::SEGMENT_END) {
                    self.media_sequence += 1;
                }
            }
        }
        if let Some(file) = file {
            file.finish().expect("on the disk");
        }
        self.discontinuity += 1;
    }

    fn header(&self, init: InitId, anchor_time: i64, anchor_utc_ns: i64) -> Header {
        Header {
            timescale: 90_000,
            sender_report: true,
            media_sequence: self.media_sequence,
            discontinuity_sequence: self.discontinuity,
            init,
            anchor_time,
            anchor_utc_ns,
            part_target_us: 200_000,
            segment_target_us: 1_000_000,
        }
    }
}

fn picture(index: u16, (width, height): (u32, u32)) -> Canvas {
    let (width_px, height_px) = (width as usize, height as usize);
    let mut luma = vec![100u8; width_px * height_px];
    framecode::burn(
        &mut luma,
        width_px,
        width_px,
        height_px,
        Code { tag: TAG, index },
    );
    let chroma = vec![128u8; width_px / 2 * height_px / 2];
    Canvas::of_image(&Image {
        format: PixelFormat::I420,
        width,
        height,
        range: ColorRange::Limited,
        matrix: 2,
        planes: &[
            (&luma, width_px),
            (&chroma, width_px / 2),
            (&chroma, width_px / 2),
        ],
    })
    .expect("a picture")
}
