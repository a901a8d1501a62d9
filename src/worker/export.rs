//! A range as one MP4, written while it is read: as recorded, or encoded anew.
//!
//! Breaks in media time are closed up: what follows a gap follows the picture before it. Inside a
//! stretch, times are those recorded.
#![deny(unsafe_code)]

use super::clip::{Clip, ClipOptions};
use super::input::{Inputs, Piece};
use super::output::Output;
use super::pictures::{Flow, Pictures, Visit, rescale};
use super::protocol::{Cut, Export, Span, Trouble, TroubleKind};
use crate::media::{
    CanvasScaler, ENCODER_TIMESCALE, EncoderKind, Mp4Sample, Mp4Track, Mp4Writer, OutSample,
    Picture, TrackDescription, TrackKind, TrackSource,
};

/// x264's constant rate factor: hardly told from the source.
const QUALITY: u8 = 20;

/// Makes the file.
pub(super) fn make(
    export: &Export,
    inputs: &mut Inputs<'_>,
    output: Output,
) -> Result<(), Trouble> {
    match export.cut {
        Cut::Gop => remux(export, inputs, output),
        Cut::Frame => recode(export, inputs, output),
    }
}

fn nothing() -> Trouble {
    Trouble::new(TroubleKind::Damaged, "nothing of this range can be read")
}

/// A sample whose end is not known yet.
struct Held {
    data: Vec<u8>,
    pts: i64,
    dts: i64,
    key: bool,
}

/// One track of the file being written.
struct Lane {
    track: usize,
    timescale: u32,
    held: Option<Held>,
    /// The last time of decoding.
    last: Option<i64>,
}

impl Lane {
    fn new(track: usize, timescale: u32) -> Self {
        Self {
            track,
            timescale,
            held: None,
            last: None,
        }
    }

    fn add(&mut self, writer: &mut Mp4Writer, next: Held) -> Result<(), Trouble> {
        // Sound of before a break may reach beyond it.
        if self.last.is_some_and(|last| next.dts <= last) {
            return Ok(());
        }
        self.release(writer, next.dts)?;
        self.last = Some(next.dts);
        self.held = Some(next);
        Ok(())
    }

    fn release(&mut self, writer: &mut Mp4Writer, until: i64) -> Result<(), Trouble> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        Ok(writer.write(&OutSample {
            track: self.track,
            data: &held.data,
            pts: held.pts,
            dts: held.dts,
            duration: (until - held.dts).max(1),
            key: held.key,
        })?)
    }
}

struct Remux {
    writer: Mp4Writer,
    video: Lane,
    audio: Option<Lane>,
    description: Mp4Track,
    /// What is added to media times, in units of the video's timescale.
    shift: i64,
    discontinuity: u64,
    /// Where the last piece ends, in the file's time.
    end: i64,
}

fn remux(export: &Export, inputs: &mut Inputs<'_>, output: Output) -> Result<(), Trouble> {
    let mut output = Some(output);
    let mut file: Option<Remux> = None;
    while let Some(mut piece) = inputs.next()? {
        let track = piece.reader.track(TrackKind::Video).ok_or_else(nothing)?;
        let first = rescale(piece.span.start, piece.span.timescale, track.timescale);
        let file = match &mut file {
            Some(file) => {
                let known = &file.description;
                if (&known.config, known.width) != (&track.config, track.width) {
                    return Err(Trouble::new(
                        TroubleKind::ParametersChange,
                        "the camera's parameters change inside the range",
                    ));
                }
                if file.discontinuity != piece.span.discontinuity {
                    file.discontinuity = piece.span.discontinuity;
                    file.shift = file.end - first;
                }
                file
            }
            none => {
                let Some(output) = output.take() else {
                    return Err(nothing());
                };
                none.insert(Remux::begin(export, &piece, track, output)?)
            }
        };
        file.copy(&mut piece)?;
    }
    match file {
        Some(file) => file.finish(),
        None => Err(nothing()),
    }
}

impl Remux {
    fn begin(
        export: &Export,
        piece: &Piece,
        track: Mp4Track,
        output: Output,
    ) -> Result<Self, Trouble> {
        let video = piece.reader.describe(TrackKind::Video);
        let video = video.ok_or_else(nothing)?;
        let audio = match export.audio {
            true => audio_of(piece),
            false => None,
        };
        let mut tracks = vec![(TrackSource::Copy(&video), track.timescale)];
        if let Some((audio, timescale)) = &audio {
            tracks.push((TrackSource::Copy(audio), *timescale));
        }
        let from = rescale(piece.span.from, piece.span.timescale, track.timescale);
        Ok(Self {
            writer: Mp4Writer::create(Box::new(output), &tracks)?,
            video: Lane::new(0, track.timescale),
            audio: audio.map(|(_, timescale)| Lane::new(1, timescale)),
            description: track,
            // What is before it is decoded, and not shown.
            shift: -from,
            discontinuity: piece.span.discontinuity,
            end: 0,
        })
    }

    fn copy(&mut self, piece: &mut Piece) -> Result<(), Trouble> {
        let span = piece.span;
        let timescale = self.video.timescale;
        let to = rescale(span.to, span.timescale, timescale);
        loop {
            let sample = match piece.reader.next_sample() {
                Ok(Some(sample)) => sample,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("a recording is damaged: {error}");
                    break;
                }
            };
            match sample.kind {
                // What is shown before the end may be decoded after a picture that is not.
                TrackKind::Video if sample.dts >= to => {}
                TrackKind::Video => {
                    let next = held(&sample, self.shift);
                    self.video.add(&mut self.writer, next)?;
                }
                TrackKind::Audio => {
                    let Some(lane) = &mut self.audio else {
                        continue;
                    };
                    if sample.pts >= rescale(to, timescale, lane.timescale) {
                        continue;
                    }
                    let shift = rescale(self.shift, timescale, lane.timescale);
                    let next = held(&sample, shift);
                    lane.add(&mut self.writer, next)?;
                }
            }
        }
        let end = rescale(span.end, span.timescale, timescale).min(to);
        self.end = (end + self.shift).max(self.video.last.map_or(0, |last| last + 1));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Trouble> {
        if self.video.last.is_none() {
            return Err(nothing());
        }
        self.video.release(&mut self.writer, self.end)?;
        if let Some(lane) = &mut self.audio {
            let end = rescale(self.end, self.video.timescale, lane.timescale);
            lane.release(&mut self.writer, end)?;
        }
        Ok(self.writer.finish()?)
    }
}

fn held(sample: &Mp4Sample<'_>, shift: i64) -> Held {
    Held {
        data: sample.data.to_vec(),
        pts: sample.pts.saturating_add(shift),
        dts: sample.dts.saturating_add(shift),
        key: sample.key,
    }
}

fn audio_of(piece: &Piece) -> Option<(TrackDescription, u32)> {
    let timescale = piece.reader.track(TrackKind::Audio)?.timescale;
    Some((piece.reader.describe(TrackKind::Audio)?, timescale))
}

/// What is decoded and encoded again.
struct Recode {
    output: Option<Output>,
    clip: Option<(Clip, CanvasScaler)>,
    sound: Option<(TrackDescription, u32)>,
    /// Media time that is 0 in the file, in the encoder's units.
    zero: i64,
    discontinuity: u64,
    /// The last picture's time in the file, and how long the one before was shown.
    last: Option<(i64, i64)>,
    last_sound: Option<i64>,
    end: i64,
}

fn recode(export: &Export, inputs: &mut Inputs<'_>, output: Output) -> Result<(), Trouble> {
    let mut pictures = Pictures::default();
    let mut recode = Recode {
        output: Some(output),
        clip: None,
        sound: None,
        zero: 0,
        discontinuity: 0,
        last: None,
        last_sound: None,
        end: 0,
    };
    let mut discontinuity = None;
    while let Some(mut piece) = inputs.next()? {
        if recode.clip.is_none() && export.audio {
            recode.sound = audio_of(&piece);
        }
        if discontinuity.replace(piece.span.discontinuity) != Some(piece.span.discontinuity) {
            // Pictures that refer to others beyond a break are no use.
            pictures.finish(&mut recode)?;
        }
        pictures.decode(&mut piece, &mut recode)?;
    }
    pictures.finish(&mut recode)?;
    match recode.clip {
        Some((clip, _)) => clip.finish(recode.end),
        None => Err(nothing()),
    }
}

impl Visit for Recode {
    fn picture(&mut self, picture: &Picture, time: i64, span: &Span) -> Result<Flow, Trouble> {
        if time < span.from || time >= span.to {
            return Ok(Flow::On);
        }
        let at = rescale(time, span.timescale, ENCODER_TIMESCALE);
        match self.last {
            None => {
                self.zero = at;
                self.discontinuity = span.discontinuity;
            }
            Some((last, step)) if self.discontinuity != span.discontinuity => {
                self.zero = at - (last + step);
                self.discontinuity = span.discontinuity;
            }
            Some(_) => {}
        }
        let pts = at - self.zero;
        let step = match self.last {
            Some((last, _)) if pts <= last => return Ok(Flow::On),
            Some((last, _)) => pts - last,
            None => i64::from(ENCODER_TIMESCALE) / 25,
        };
        let (clip, scaler) = match &mut self.clip {
            Some(clip) => clip,
            none => {
                let output = self.output.take();
                let output = output.ok_or_else(|| Trouble::internal("no output"))?;
                let scaler =
                    CanvasScaler::new(EncoderKind::X264, picture.width(), picture.height());
                let options = ClipOptions {
                    size: scaler.size(),
                    matrix: picture.matrix(),
                    quality: QUALITY,
                    sound: self.sound.as_ref().map(|(sound, scale)| (sound, *scale)),
                };
                none.insert((Clip::create(output, &options)?, scaler))
            }
        };
        let mut canvas = scaler.scale_picture(picture)?;
        clip.add(&mut canvas, pts)?;
        scaler.recycle(canvas);
        self.last = Some((pts, step));
        // Shown until the range ends, or as long as the one before.
        let to = rescale(span.to, span.timescale, ENCODER_TIMESCALE).saturating_sub(self.zero);
        self.end = (pts + step).min(to);
        Ok(Flow::On)
    }

    fn sound(&mut self, sample: &Mp4Sample<'_>, span: &Span) -> Result<(), Trouble> {
        let (Some((clip, _)), Some((_, timescale))) = (&mut self.clip, &self.sound) else {
            return Ok(());
        };
        let time = rescale(sample.pts, *timescale, span.timescale);
        let other = span.discontinuity != self.discontinuity;
        if other || time < span.from || time >= span.to {
            return Ok(());
        }
        let pts = sample.pts - rescale(self.zero, ENCODER_TIMESCALE, *timescale);
        if pts < 0 || self.last_sound.is_some_and(|last| pts <= last) {
            return Ok(());
        }
        self.last_sound = Some(pts);
        clip.add_sound(sample.data, pts)
    }
}
