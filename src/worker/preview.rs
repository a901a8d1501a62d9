//! Short clips to look at: a few pictures a second of a range, as MP4 or animated GIF.
#![deny(unsafe_code)]

use super::clip::{Clip, ClipOptions};
use super::input::Inputs;
use super::output::Output;
use super::pictures::{Flow, Pictures};
use super::protocol::{Preview, PreviewFormat, Span, Trouble, TroubleKind};
use super::stills::height_for;
use crate::media::{Canvas, CanvasScaler, ENCODER_TIMESCALE, EncoderKind, Picture};

/// x264's constant rate factor: small.
const QUALITY: u8 = 28;
/// How thoroughly colours are chosen for a GIF, from 1 (slow) to 30.
const GIF_SPEED: i32 = 15;

/// Makes the clip.
pub(super) fn make(
    preview: &Preview,
    inputs: &mut Inputs<'_>,
    output: Output,
) -> Result<(), Trouble> {
    let mut maker = Maker {
        preview,
        output: Some(output),
        sink: None,
        picked: 0,
    };
    let mut each = |picture: &Picture, time: i64, span: &Span| maker.picture(picture, time, span);
    let mut pictures = Pictures::default();
    while let Some(mut piece) = inputs.next()? {
        if pictures.decode(&mut piece, &mut each)? == Flow::Enough {
            if !preview.keys_only {
                return maker.finish();
            }
            // What follows in this piece is not wanted, nor what its decoder still has.
            pictures = Pictures::default();
        } else if preview.keys_only {
            pictures.finish(&mut each)?;
        }
    }
    pictures.finish(&mut each)?;
    maker.finish()
}

struct Maker<'a> {
    preview: &'a Preview,
    output: Option<Output>,
    sink: Option<Sink>,
    /// How many of the picks have their picture.
    picked: usize,
}

enum Sink {
    Mp4(Box<Clip>, CanvasScaler),
    Gif(Box<Gif>, CanvasScaler),
}

impl Maker<'_> {
    fn picture(&mut self, picture: &Picture, time: i64, span: &Span) -> Result<Flow, Trouble> {
        if time < span.from {
            return Ok(Flow::On);
        }
        if time >= span.to {
            return Ok(Flow::Enough);
        }
        let utc = span.utc_ns(time);
        let passed = match self.preview.keys_only {
            // One piece for each pick.
            true => self.picked + 1,
            false => self.preview.picks.partition_point(|pick| *pick <= utc),
        };
        if passed <= self.picked {
            return Ok(Flow::On);
        }
        let at =
            self.picked as i64 * i64::from(ENCODER_TIMESCALE) / i64::from(self.preview.fps.max(1));
        self.picked = passed;
        self.show(picture, at)?;
        let all = passed >= self.preview.picks.len();
        Ok(match all || self.preview.keys_only {
            true => Flow::Enough,
            false => Flow::On,
        })
    }

    fn show(&mut self, picture: &Picture, at: i64) -> Result<(), Trouble> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => {
                let output = self.output.take();
                let output = output.ok_or_else(|| Trouble::internal("no output"))?;
                none.insert(Sink::open(self.preview, picture, output)?)
            }
        };
        match sink {
            Sink::Mp4(clip, scaler) => {
                let mut canvas = scaler.scale_picture(picture)?;
                clip.add(&mut canvas, at)?;
                scaler.recycle(canvas);
            }
            Sink::Gif(gif, scaler) => {
                let canvas = scaler.scale_picture(picture)?;
                gif.add(&canvas, at)?;
                scaler.recycle(canvas);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Trouble> {
        let end =
            self.picked as i64 * i64::from(ENCODER_TIMESCALE) / i64::from(self.preview.fps.max(1));
        match self.sink {
            Some(Sink::Mp4(clip, _)) => clip.finish(end),
            Some(Sink::Gif(gif, _)) => gif.finish(end),
            None => Err(Trouble::new(
                TroubleKind::Damaged,
                "no picture of this range can be decoded",
            )),
        }
    }
}

impl Sink {
    fn open(preview: &Preview, picture: &Picture, output: Output) -> Result<Self, Trouble> {
        let (num, den) = picture.pixel_aspect();
        let shown = u64::from(picture.width()) * u64::from(num) / u64::from(den.max(1));
        let shown = u32::try_from(shown).unwrap_or(picture.width()).max(2);
        let width = preview.width.min(shown).next_multiple_of(2);
        let height = height_for(width, shown, picture.height());
        let scaler = CanvasScaler::new(EncoderKind::X264, width, height);
        Ok(match preview.format {
            PreviewFormat::Mp4 => {
                let options = ClipOptions {
                    size: (width, height),
                    matrix: picture.matrix(),
                    quality: QUALITY,
                    sound: None,
                };
                Self::Mp4(Box::new(Clip::create(output, &options)?), scaler)
            }
            PreviewFormat::Gif => Self::Gif(Box::new(Gif::create(output, width, height)?), scaler),
        })
    }
}

/// An animated GIF: each picture with colours of its own.
struct Gif {
    encoder: gif::Encoder<Output>,
    size: (u16, u16),
    held: Option<(gif::Frame<'static>, i64)>,
    /// What has been said so far, in hundredths of a second.
    said: i64,
}

impl Gif {
    fn create(output: Output, width: u32, height: u32) -> Result<Self, Trouble> {
        let side = |n: u32| {
            u16::try_from(n).map_err(|_| Trouble::new(TroubleKind::TooLarge, "too wide for a GIF"))
        };
        let size = (side(width)?, side(height)?);
        let mut encoder =
            gif::Encoder::new(output, size.0, size.1, &[]).map_err(|error| gif_trouble(&error))?;
        encoder
            .set_repeat(gif::Repeat::Infinite)
            .map_err(|error| gif_trouble(&error))?;
        Ok(Self {
            encoder,
            size,
            held: None,
            said: 0,
        })
    }

    fn add(&mut self, canvas: &Canvas, at: i64) -> Result<(), Trouble> {
        let mut rgb = Vec::new();
        canvas.append_rgb24(&mut rgb)?;
        let frame = gif::Frame::from_rgb_speed(self.size.0, self.size.1, &rgb, GIF_SPEED);
        self.release(at)?;
        self.held = Some((frame, at));
        Ok(())
    }

    /// Delays are rounded so that errors do not add up.
    fn release(&mut self, until: i64) -> Result<(), Trouble> {
        let Some((mut frame, _)) = self.held.take() else {
            return Ok(());
        };
        let end = until * 100 / i64::from(ENCODER_TIMESCALE);
        // Browsers take less than 2 for 10.
        let delay = (end - self.said).clamp(2, 6000);
        self.said += delay;
        frame.delay = delay as u16;
        self.encoder
            .write_frame(&frame)
            .map_err(|error| gif_trouble(&error))
    }

    fn finish(mut self, end: i64) -> Result<(), Trouble> {
        self.release(end)
    }
}

fn gif_trouble(error: &gif::EncodingError) -> Trouble {
    match error {
        gif::EncodingError::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Trouble::new(TroubleKind::HungUp, "nobody reads any more")
        }
        error => Trouble::new(TroubleKind::Internal, format!("GIF: {error}")),
    }
}
