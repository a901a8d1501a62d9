//! Pieces of a recording, decoded.
#![deny(unsafe_code)]

use super::input::Piece;
use super::protocol::{Span, Trouble, TroubleKind};
use crate::media::annexb::UnitFormat;
use crate::media::{
    Codec, MediaError, Mp4Sample, Picture, PictureDecoder, PictureDecoderOptions, TrackKind,
};

/// The largest picture: 8192 × 8192.
const MAX_PIXELS: u64 = 1 << 26;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Enough,
}

/// Who is shown what is decoded.
pub(super) trait Visit {
    /// A picture, its media time and the span it is of.
    fn picture(&mut self, picture: &Picture, time: i64, span: &Span) -> Result<Flow, Trouble>;

    /// Sound, as it is recorded.
    fn sound(&mut self, _sample: &Mp4Sample<'_>, _span: &Span) -> Result<(), Trouble> {
        Ok(())
    }
}

impl<F: FnMut(&Picture, i64, &Span) -> Result<Flow, Trouble>> Visit for F {
    fn picture(&mut self, picture: &Picture, time: i64, span: &Span) -> Result<Flow, Trouble> {
        self(picture, time, span)
    }
}

/// Decodes piece after piece. Pictures come with their media time and the span they are of.
#[derive(Default)]
pub(super) struct Pictures {
    decoder: Option<(PictureDecoder, Codec)>,
    /// Of the pieces whose pictures may still come, by number.
    spans: Vec<Span>,
    unit: Vec<u8>,
}

impl Pictures {
    /// Decodes a piece. Damaged units are left out.
    pub fn decode(&mut self, piece: &mut Piece, each: &mut dyn Visit) -> Result<Flow, Trouble> {
        let track = piece.reader.track(TrackKind::Video);
        let track = track.ok_or_else(|| damaged("no video track"))?;
        let codec = track.codec.ok_or_else(|| damaged("an unknown codec"))?;
        let format = UnitFormat::parse(codec, &track.config);
        let format = format.ok_or_else(|| damaged("no parameter sets"))?;
        if self.decoder.as_ref().is_none_or(|(_, of)| *of != codec)
            && self.finish(each)? == Flow::Enough
        {
            return Ok(Flow::Enough);
        }
        self.spans.push(piece.span);
        let number = self.spans.len() as u64 - 1;
        let (mut decoder, _) = self.decoder.take().unwrap_or_else(|| {
            let options = PictureDecoderOptions {
                codec,
                threads: 1,
                slots: None,
                max_pixels: MAX_PIXELS,
            };
            (PictureDecoder::new(options), codec)
        });
        let mut flow = Flow::On;
        while flow == Flow::On {
            let sample = match piece.reader.next_sample() {
                Ok(Some(sample)) if sample.kind == TrackKind::Video => sample,
                Ok(Some(sound)) => {
                    each.sound(&sound, &piece.span)?;
                    continue;
                }
                Ok(None) => break,
                // What follows in this piece cannot be found.
                Err(error) => {
                    tracing::warn!("a recording is damaged: {error}");
                    break;
                }
            };
            let time = rescale(sample.pts, track.timescale, piece.span.timescale);
            self.unit.clear();
            format.append(sample.data, sample.key, &mut self.unit);
            match decoder.submit(&self.unit, time, number) {
                Ok(_) | Err(MediaError::Decode { .. } | MediaError::UnitTooLarge { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            flow = take(&mut decoder, &self.spans, each)?;
        }
        self.decoder = Some((decoder, codec));
        Ok(flow)
    }

    /// Hands out what the decoder still keeps.
    pub fn finish(&mut self, each: &mut dyn Visit) -> Result<Flow, Trouble> {
        let Some((mut decoder, _)) = self.decoder.take() else {
            return Ok(Flow::On);
        };
        decoder.finish();
        take(&mut decoder, &self.spans, each)
    }
}

fn take(
    decoder: &mut PictureDecoder,
    spans: &[Span],
    each: &mut dyn Visit,
) -> Result<Flow, Trouble> {
    loop {
        match decoder.next_picture() {
            Ok(Some(picture)) => {
                let number = usize::try_from(picture.opaque()).unwrap_or(usize::MAX);
                let Some(span) = spans.get(number) else {
                    continue;
                };
                if each.picture(&picture, picture.pts(), span)? == Flow::Enough {
                    return Ok(Flow::Enough);
                }
            }
            Ok(None) => return Ok(Flow::On),
            Err(MediaError::Decode { .. }) => return Ok(Flow::On),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A time in other units.
pub(super) fn rescale(time: i64, from: u32, to: u32) -> i64 {
    if from == to {
        return time;
    }
    let scaled = (i128::from(time) * i128::from(to)).div_euclid(i128::from(from.max(1)));
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

fn damaged(what: &str) -> Trouble {
    Trouble::new(
        TroubleKind::Damaged,
        format!("the recording cannot be read: {what}"),
    )
}
