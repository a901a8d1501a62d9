//! The renditions of one size of picture: each scaled from the next larger, each with its encoder.
#![deny(unsafe_code)]

use std::collections::VecDeque;

use camring_ring::Frame;

use crate::config::{Record, RenditionSpec};
use crate::hls::rendition::{RenditionWriter, Sample};
use crate::media::{
    Canvas, CanvasScaler, EncoderKind, EncoderOptions, MediaError, Rate, VideoEncoder,
};

/// Without a list: bits per second for a picture of 1280 × 720. Others get as much for each pixel.
const BITS_720P: u64 = 2_000_000;
/// More pixels than this are worth a second thread.
const PIXELS_PER_THREAD: u64 = 1920 * 1088;
/// What an encoder is opened for, until the camera's rate is known.
const ABOUT_FPS: u32 = 25;
/// Packets that may be on their way inside a hardware encoder.
const MOST_PENDING: usize = 64;

/// A picture's shape and colours: encoders are opened for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    size: (u32, u32),
    full_range: bool,
    matrix: u8,
    encodable: bool,
}

/// The steps for pictures of one shape, from the largest.
#[derive(Debug)]
pub struct Ladder {
    shape: Shape,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// Its place among the writers.
    writer: usize,
    /// `None`: the frame is encoded where it lies.
    scaler: Option<CanvasScaler>,
    encoder: VideoEncoder,
    /// Of pictures whose packets have not come out yet.
    pending: VecDeque<Sample>,
    unit: Vec<u8>,
}

/// What a stream is encoded as, from the tallest to the lowest.
pub fn renditions(record: &Record) -> Vec<RenditionSpec> {
    match record.renditions.is_empty() {
        false => record.renditions.clone(),
        true => vec![RenditionSpec {
            height: Record::DEFAULT_HEIGHT,
            bitrate: BITS_720P,
        }],
    }
}

/// The steps that are made of pictures `height` tall: none is enlarged, so of those that are taller
/// only the lowest is made, at the picture's own size. Places in `specs`, with their heights.
fn steps(specs: &[RenditionSpec], height: u32) -> Vec<(usize, u32)> {
    let taller = specs.iter().rposition(|spec| spec.height >= height);
    let own = taller.map(|place| (place, height));
    let lower = specs
        .iter()
        .enumerate()
        .skip(taller.map_or(0, |place| place + 1));
    let lower = lower.map(|(place, spec)| (place, spec.height));
    own.into_iter().chain(lower).collect()
}

impl Shape {
    /// Of a frame.
    pub fn of(canvas: &Canvas, kind: EncoderKind) -> Self {
        Self {
            size: canvas.size(),
            full_range: canvas.full_range(),
            matrix: canvas.matrix(),
            encodable: canvas.encodable(kind),
        }
    }
}

impl Ladder {
    /// Opens the encoders. `kind`: the one known to work, or `None` to find out; then it is set.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn open(
        canvas: &Canvas,
        specs: &[RenditionSpec],
        kind: &mut Option<EncoderKind>,
    ) -> Result<Self, MediaError> {
        let (width, height) = canvas.size();
        let mut steps_made = Vec::new();
        for (writer, wanted) in steps(specs, height) {
            let scaled = u64::from(width) * u64::from(wanted) / u64::from(height.max(1));
            let scaled = u32::try_from(scaled).unwrap_or(width);
            let size = (
                scaled.next_multiple_of(2).max(2),
                wanted.next_multiple_of(2).max(2),
            );
            let pixels = u64::from(size.0) * u64::from(size.1);
            let options = |full_range| EncoderOptions {
                kind: kind.unwrap_or(EncoderKind::X264),
                width: size.0,
                height: size.1,
                full_range,
                matrix: match canvas.matrix() {
                    0 => 2,
                    matrix => matrix,
                },
                rate: Rate::Bits(specs.get(writer).map_or(BITS_720P, |spec| spec.bitrate)),
                immediate: true,
                threads: u32::try_from(pixels.div_ceil(PIXELS_PER_THREAD)).unwrap_or(1),
                about_fps: ABOUT_FPS,
            };
            // Scaled pictures are of limited range.
            let in_place = size == (width, height);
            let plain = |kind| in_place && canvas.encodable(kind);
            let encoder = match *kind {
                Some(known) => VideoEncoder::open(options(plain(known) && canvas.full_range()))?,
                None => {
                    let full_range = plain(EncoderKind::X264) && canvas.full_range();
                    VideoEncoder::open_first(options(full_range), |kind, why| {
                        tracing::debug!("encoder {}: not used: {why}", kind.name());
                    })?
                }
            };
            let found = encoder.options().kind;
            if kind.replace(found).is_none() {
                tracing::info!("encoding with {}", found.name());
            }
            steps_made.push(Step {
                writer,
                scaler: (!plain(found)).then(|| CanvasScaler::new(found, size.0, size.1)),
                encoder,
                pending: VecDeque::new(),
                unit: Vec::new(),
            });
        }
        let kind = kind.unwrap_or(EncoderKind::X264);
        Ok(Self {
            shape: Shape::of(canvas, kind),
            steps: steps_made,
        })
    }

    /// Whether it is for such pictures.
    pub fn fits(&self, canvas: &Canvas) -> bool {
        let kind = self.steps.first().map(|step| step.encoder.options().kind);
        self.shape == Shape::of(canvas, kind.unwrap_or(EncoderKind::X264))
    }

    /// Places of the writers that it writes to.
    pub fn writers(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().map(|step| step.writer)
    }

    /// Says how many pictures come a second.
    pub fn set_fps(&mut self, fps: f64) {
        for step in &mut self.steps {
            step.encoder.set_fps(fps);
        }
    }

    /// Encodes a picture, in all sizes, and hands what comes out to the writers. `key`: begin a
    /// segment. The frame is let go as soon as nobody reads it any more.
    ///
    /// # Errors
    /// What the first encoder that failed says. The picture is missing in its rendition then.
    pub fn encode(
        &mut self,
        frame: Canvas,
        sample: Sample,
        writers: &mut [RenditionWriter],
    ) -> Result<(), MediaError> {
        let mut canvases: Vec<Option<Canvas>> = Vec::with_capacity(self.steps.len());
        for step in &mut self.steps {
            let made = match &mut step.scaler {
                None => None,
                Some(scaler) => {
                    // Of the next larger, which is the frame itself for the first.
                    let larger = canvases.last().and_then(Option::as_ref).unwrap_or(&frame);
                    Some(scaler.scale(larger)?)
                }
            };
            canvases.push(made);
        }
        let mut frame = Some(frame);
        if canvases.first().is_none_or(Option::is_some) {
            frame = None;
        }
        let mut failed = None;
        for (step, canvas) in self.steps.iter_mut().zip(canvases) {
            let Some(writer) = writers.get_mut(step.writer) else {
                continue;
            };
            let (mut canvas, scaled) = match (canvas, frame.take()) {
                (Some(canvas), _) => (canvas, true),
                (None, Some(frame)) => (frame, false),
                (None, None) => continue,
            };
            let done = step.put(&mut canvas, sample, writer);
            if scaled && let Some(scaler) = &mut step.scaler {
                scaler.recycle(canvas);
            }
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Step {
    fn put(
        &mut self,
        canvas: &mut Canvas,
        sample: Sample,
        writer: &mut RenditionWriter,
    ) -> Result<(), MediaError> {
        self.encoder.send(canvas, sample.pts, sample.key)?;
        self.pending.push_back(sample);
        if self.pending.len() > MOST_PENDING {
            self.pending.pop_front();
        }
        let sets = self.encoder.parameter_sets().to_vec();
        while let Some(packet) = self.encoder.receive()? {
            // Packets come in the order of their pictures.
            while self
                .pending
                .front()
                .is_some_and(|first| first.pts < packet.pts)
            {
                self.pending.pop_front();
            }
            let Some(sample) = self.pending.pop_front() else {
                continue;
            };
            self.unit.clear();
            if packet.key {
                self.unit.extend_from_slice(&sets);
            }
            self.unit.extend_from_slice(packet.data);
            let sample = Sample {
                key: packet.key,
                ..sample
            };
            writer.push(sample, &self.unit);
        }
        Ok(())
    }
}

/// A frame as encoders read it: where it lies.
///
/// # Errors
/// A format without counterpart in FFmpeg.
pub fn canvas(frame: Frame) -> Result<Canvas, MediaError> {
    Canvas::of_ring(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(heights: &[u32]) -> Vec<RenditionSpec> {
        let spec = |height: &u32| RenditionSpec {
            height: *height,
            bitrate: 1_000_000,
        };
        heights.iter().map(spec).collect()
    }

    #[test]
    fn nothing_is_enlarged_and_nothing_made_twice() {
        let ladder = specs(&[1080, 720, 480]);
        assert_eq!(steps(&ladder, 2160), [(0, 1080), (1, 720), (2, 480)]);
        assert_eq!(steps(&ladder, 1080), [(0, 1080), (1, 720), (2, 480)]);
        assert_eq!(steps(&ladder, 800), [(0, 800), (1, 720), (2, 480)]);
        assert_eq!(steps(&ladder, 720), [(1, 720), (2, 480)]);
        assert_eq!(steps(&ladder, 240), [(2, 240)]);
        assert_eq!(steps(&specs(&[720]), 180), [(0, 180)]);
    }

    #[test]
    fn without_a_list_there_is_one() {
        let record = Record::default();
        assert_eq!(renditions(&record).len(), 1);
        assert_eq!(renditions(&record)[0].height, 720);
    }
}
