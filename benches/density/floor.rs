//! The decode floor: what a bare, single-threaded libavcodec loop needs for the same access units.
//!
//! The decoder is FFmpeg's own with its own buffer pool: no ring, no daemon, no RTP. Measured alone
//! in a tight loop, and beside the daemon in short bursts, where caches, clock rate and the
//! neighbours of a virtual machine are those that the daemon has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camring::media::Codec;
use camring::media::parameters::{nal_units, scan};
use ffmpeg_next::codec::threading;
use ffmpeg_next::{Packet, codec, decoder, frame};

/// Between two bursts: one group of pictures in each leaves the machine to the daemon.
const BURST_EVERY: Duration = Duration::from_secs(1);

/// A clip as it goes into a decoder.
#[derive(Debug)]
pub struct Units {
    pub codec: Codec,
    pub units: Vec<Vec<u8>>,
    /// Pictures from one key frame to the next.
    pub gop: usize,
}

impl Units {
    /// Cuts one of the farm's clips: one slice per picture, parameter sets before key frames.
    pub fn load(path: &Path) -> Units {
        let bytes = std::fs::read(path).expect("the clip was just made");
        let codec = match path.extension().and_then(|e| e.to_str()) {
            Some("h264") => Codec::H264,
            Some("h265") => Codec::H265,
            _ => Codec::Mjpeg,
        };
        let units = if codec == Codec::Mjpeg {
            images(&bytes)
        } else {
            pictures(codec, &bytes)
        };
        let keys: Vec<usize> = (0..units.len())
            .filter(|n| scan(codec, &units[*n]).key)
            .collect();
        let gop = match keys[..] {
            [first, second, ..] => second - first,
            _ => units.len(),
        };
        Units { codec, units, gop }
    }

    pub fn bytes_per_unit(&self) -> f64 {
        let bytes: usize = self.units.iter().map(Vec::len).sum();
        bytes as f64 / self.units.len() as f64
    }
}

/// Each picture with the parameter sets and messages before it.
fn pictures(codec: Codec, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    let mut unit = Vec::new();
    for nal in nal_units(stream) {
        unit.extend_from_slice(&[0, 0, 0, 1]);
        unit.extend_from_slice(nal);
        let kind = nal.first().copied().unwrap_or(0);
        let slice = match codec {
            Codec::H264 => matches!(kind & 0x1f, 1..=5),
            _ => kind >> 1 & 0x3f < 32,
        };
        if slice {
            units.push(std::mem::take(&mut unit));
        }
    }
    units
}

/// Within a scan 0xff is followed by 0, so that the start of an image is unambiguous.
fn images(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..stream.len().saturating_sub(1))
        .filter(|at| stream[*at..].starts_with(&[0xff, 0xd8]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let pairs = starts.iter().zip(ends);
    pairs.map(|(from, to)| stream[*from..to].to_vec()).collect()
}

/// The loop: one decoder, fed with the clip for ever.
pub struct Floor<'a> {
    clip: &'a Units,
    decoder: decoder::Video,
    next: usize,
    picture: frame::Video,
}

impl<'a> Floor<'a> {
    pub fn new(clip: &'a Units) -> Floor<'a> {
        let id = match clip.codec {
            Codec::H264 => codec::Id::H264,
            Codec::H265 => codec::Id::HEVC,
            _ => codec::Id::MJPEG,
        };
        let found = decoder::find(id).expect("FFmpeg has the decoder");
        let mut context = codec::context::Context::new_with_codec(found);
        context.set_threading(threading::Config {
            kind: threading::Type::Slice,
            count: 1,
            ..Default::default()
        });
        context.set_flags(codec::Flags::LOW_DELAY);
        Floor {
            clip,
            decoder: context.decoder().video().expect("the decoder opens"),
            next: 0,
            picture: frame::Video::empty(),
        }
    }

    /// Decodes so many units of the clip and returns the CPU time of one, in milliseconds.
    pub fn decode(&mut self, units: usize) -> f64 {
        let (mut pictures, start) = (0, cpu_ms());
        for _ in 0..units {
            let packet = Packet::borrow(&self.clip.units[self.next]);
            self.next = (self.next + 1) % self.clip.units.len();
            self.decoder.send_packet(&packet).expect("a sound clip");
            while self.decoder.receive_frame(&mut self.picture).is_ok() {
                pictures += 1;
            }
        }
        assert!(pictures > 0 || units < 2, "nothing was decoded");
        (cpu_ms() - start) / units as f64
    }

    /// The whole clip, twice: the first round warms up.
    pub fn alone(clip: &'a Units) -> f64 {
        let mut floor = Floor::new(clip);
        floor.decode(clip.units.len());
        floor.decode(clip.units.len())
    }

    /// One group of pictures now and then, until `stop`. The mean over all bursts.
    pub fn beside(clip: &'a Units, stop: &AtomicBool) -> f64 {
        // As nice as the daemon's decoders: it shall not get between them.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
        let mut floor = Floor::new(clip);
        floor.decode(clip.gop);
        let mut bursts = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            bursts.push(floor.decode(clip.gop));
            std::thread::sleep(BURST_EVERY);
        }
        bursts.iter().sum::<f64>() / bursts.len().max(1) as f64
    }
}

/// Of this thread.
fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
