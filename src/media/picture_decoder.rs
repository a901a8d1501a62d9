//! Access units in, pictures out: decides where each picture may be decoded, and reopens the decoder
//! when the stream changes.
//!
//! Must never let a picture be published in place that may still be drawn into.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::parameters::{self, Observed, ParameterSets, StreamParameters, UnitInfo};
use super::{
    Codec, Decoder, DecoderOptions, HardwareDevice, HardwareKind, MediaError, Picture,
    PictureSlots, Skip,
};

/// More pictures than any decoder keeps back: a bound for draining one.
const MAX_DRAINED: usize = 64;

/// Units in a row that a device may fail before it is given up: a damaged one is refused by any decoder.
const MAX_HARDWARE_FAILURES: u32 = 3;

/// What a [`PictureDecoder`] is made with.
#[derive(Clone)]
pub struct PictureDecoderOptions {
    pub codec: Codec,
    /// Slice threads.
    pub threads: u32,
    /// Where pictures are drawn, where the stream allows it.
    pub slots: Option<Arc<dyn PictureSlots>>,
    /// See [`DecoderOptions::max_pixels`].
    pub max_pixels: u64,
}

impl fmt::Debug for PictureDecoderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PictureDecoderOptions")
            .field("codec", &self.codec)
            .field("threads", &self.threads)
            .field("slots", &self.slots.is_some())
            .field("max_pixels", &self.max_pixels)
            .finish()
    }
}

/// What became of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub info: UnitInfo,
    /// False: dropped, because no parameter set has come yet.
    pub accepted: bool,
    /// A decoder was opened for it; `parameters()` and `direct()` may have changed.
    pub opened: bool,
}

/// Decodes a camera's access units, directly into slots where that is safe.
///
/// # When a picture may be published where it was drawn
///
/// libavcodec can draw into a picture that it has already output: with field-coded H.264, when fields
/// are lost, the next field of the opposite parity goes into the frame last output, which is then
/// output again. (Tested by `tests/published_frames.rs`, which also shows that it happens.) So
/// pictures are drawn into slots only for codecs and parameter sets known not to do that
/// ([`parameters::direct_rendering_allowed`]), the decoder is opened anew whenever a parameter set
/// changes, and a picture that is output twice is to be copied. Everything else is decoded into
/// private memory and copied once. [`Picture::in_place`] says which it is.
pub struct PictureDecoder {
    options: PictureDecoderOptions,
    sets: ParameterSets,
    decoder: Option<Decoder>,
    /// Of decoders that were closed.
    left: VecDeque<Picture>,
    skip: Skip,
    /// An interlaced picture came out of a stream that claimed to have none.
    distrusted: bool,
    hardware: Option<Arc<HardwareDevice>>,
    /// Units in a row of which the device has made no picture, but an error.
    failures: u32,
    /// Why the device was given up, until somebody asks.
    fallback: Option<String>,
}

impl PictureDecoder {
    /// Opens nothing yet: that waits for the first parameter set.
    pub fn new(options: PictureDecoderOptions) -> Self {
        Self {
            sets: ParameterSets::new(options.codec),
            options,
            decoder: None,
            left: VecDeque::new(),
            skip: Skip::None,
            distrusted: false,
            hardware: None,
            failures: 0,
            fallback: None,
        }
    }

    /// Decodes on a device from the next decoder on, as long as that works: a stream that it does not take is
    /// decoded in software from its first unit on, and one that it fails in the middle from the next key frame
    /// on. See [`take_fallback`](Self::take_fallback).
    pub fn set_hardware(&mut self, device: Arc<HardwareDevice>) {
        self.hardware = Some(device);
    }

    /// What decodes at the moment; `None`: software, or nothing yet.
    pub fn hardware(&self) -> Option<HardwareKind> {
        self.decoder.as_ref().and_then(Decoder::hardware)
    }

    /// Whether there is a decoder.
    pub fn is_open(&self) -> bool {
        self.decoder.is_some()
    }

    /// Why the device was given up for software, once. From then on it stays software.
    pub fn take_fallback(&mut self) -> Option<String> {
        self.fallback.take()
    }

    /// Decodes one access unit. `pts` and `opaque` come back with its picture.
    ///
    /// Then call [`next_picture`](Self::next_picture) until it returns `None`. An error concerns
    /// this unit; go on with the next one.
    pub fn submit(&mut self, unit: &[u8], pts: i64, opaque: u64) -> Result<Submitted, MediaError> {
        let info = parameters::scan(self.options.codec, unit);
        let observed = self.sets.observe(unit);
        if !self.sets.ready() {
            return Ok(Submitted {
                info,
                accepted: false,
                opened: false,
            });
        }
        let allowed = self.sets.direct_rendering_allowed();
        if observed == Observed::Changed {
            self.distrusted = false;
        }
        // A further parameter set that does not allow direct rendering ends it for all of them.
        let must_leave = self
            .decoder
            .as_ref()
            .is_some_and(|decoder| decoder.direct() && !decoder.downloads())
            && !allowed;
        if observed == Observed::Changed || must_leave {
            self.close();
        }
        let opened = self.decoder.is_none();
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => self.open(allowed)?,
        };
        let mut outcome = decoder.send(unit, pts, opaque);
        if outcome == Err(MediaError::Full) {
            drain(&mut decoder, &mut self.left, self.distrusted);
            outcome = decoder.send(unit, pts, opaque);
        }
        if decoder.hardware_refused() {
            let why = outcome.as_ref().err().map(ToString::to_string);
            self.give_up(why.unwrap_or_else(|| "no such profile or size".to_owned()));
            decoder = self.open(allowed)?;
            outcome = decoder.send(unit, pts, opaque);
        }
        let failed = outcome.is_err() && info.picture;
        self.decoder = Some(decoder);
        if failed {
            self.hardware_failed(outcome.as_ref().err());
        }
        match outcome {
            // Parameter sets alone have been taken, but libavcodec misses a picture.
            Err(MediaError::Decode { .. }) if !info.picture => {}
            outcome => outcome?,
        }
        Ok(Submitted {
            info,
            accepted: true,
            opened,
        })
    }

    /// The next picture in output order; `None`: submit further units.
    pub fn next_picture(&mut self) -> Result<Option<Picture>, MediaError> {
        if let Some(picture) = self.left.pop_front() {
            return Ok(Some(picture));
        }
        let Some(decoder) = self.decoder.as_mut() else {
            return Ok(None);
        };
        let mut picture = match decoder.receive() {
            Ok(Some(picture)) => picture,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.hardware_failed(Some(&error));
                return Err(error);
            }
        };
        self.failures = 0;
        if suspect(&picture, decoder) {
            tracing::debug!(
                codec = self.options.codec.name(),
                "picture marked as interlaced in a progressive stream: copying from now on"
            );
            decoder.stop_direct();
            self.distrusted = true;
        }
        if self.distrusted {
            picture.require_copy();
        }
        Ok(Some(picture))
    }

    /// Whether libavcodec left a slice of the last unit out without a word: others that refer to
    /// its picture refer to what is not there. Ask once its pictures were taken.
    pub fn refused(&self) -> bool {
        self.decoder.as_ref().is_some_and(Decoder::refused)
    }

    /// The stream is over: hands out the pictures still waiting in the decoder. Decoding can go on
    /// afterwards at a unit with parameter sets.
    pub fn finish(&mut self) {
        self.close();
        self.sets = ParameterSets::new(self.options.codec);
    }

    /// Forgets references and everything not yet output, as at a jump: go on with a key frame.
    pub fn flush(&mut self) {
        self.left.clear();
        if let Some(decoder) = &mut self.decoder {
            decoder.flush();
        }
    }

    /// Which pictures to leave out from the next unit on.
    pub fn set_skip(&mut self, skip: Skip) {
        self.skip = skip;
        if let Some(decoder) = &mut self.decoder {
            decoder.set_skip(skip);
        }
    }

    /// Where pictures are drawn from the next one on. Pictures drawn before may still come out:
    /// compare their [`slot_owner`](Picture::slot_owner).
    pub fn set_slots(&mut self, slots: Option<Arc<dyn PictureSlots>>) {
        self.options.slots.clone_from(&slots);
        if let Some(decoder) = &mut self.decoder {
            decoder.set_slots(slots);
        }
    }

    /// Whether pictures are drawn into slots, as far as there are any.
    pub fn direct(&self) -> bool {
        self.decoder.as_ref().is_some_and(Decoder::direct)
    }

    /// See [`Decoder::wanted_slot_bytes`].
    pub fn wanted_slot_bytes(&self) -> Option<usize> {
        self.decoder.as_ref().and_then(Decoder::wanted_slot_bytes)
    }

    /// What the newest parameter set says.
    pub fn parameters(&self) -> Option<&StreamParameters> {
        self.sets.parameters()
    }

    fn open(&mut self, direct: bool) -> Result<Decoder, MediaError> {
        let options = DecoderOptions {
            codec: self.options.codec,
            threads: self.options.threads,
            direct: direct && !self.distrusted,
            slots: self.options.slots.clone(),
            max_pixels: self.options.max_pixels,
        };
        let on_device = self
            .hardware
            .as_ref()
            .map(|device| Decoder::open_on(device, options.clone()));
        let mut decoder = match on_device {
            Some(Ok(decoder)) => decoder,
            Some(Err(error)) => {
                self.give_up(error.to_string());
                Decoder::open(options)?
            }
            None => Decoder::open(options)?,
        };
        decoder.set_skip(self.skip);
        Ok(decoder)
    }

    /// Software from now on.
    fn give_up(&mut self, why: String) {
        if let Some(device) = self.hardware.take() {
            self.fallback = Some(format!("{}: {why}", device.kind()));
        }
        self.failures = 0;
    }

    /// A unit of which no picture came. Without its device the next key frame goes to another decoder.
    fn hardware_failed(&mut self, error: Option<&MediaError>) {
        let Some(decoder) = self
            .decoder
            .as_ref()
            .filter(|decoder| decoder.hardware().is_some())
        else {
            return;
        };
        self.failures += 1;
        if decoder.hardware_refused() || self.failures >= MAX_HARDWARE_FAILURES {
            let why = error.map_or_else(|| "it makes no pictures".to_owned(), ToString::to_string);
            self.decoder = None;
            self.give_up(why);
        }
    }

    /// Closes the decoder and keeps what it still had to output.
    fn close(&mut self) {
        if let Some(mut decoder) = self.decoder.take() {
            // The last unit may not have been decoded yet: only then does it take the end.
            drain(&mut decoder, &mut self.left, self.distrusted);
            if let Err(error) = decoder.finish() {
                tracing::debug!(%error, "cannot end the decoder: its delayed pictures are lost");
            }
            drain(&mut decoder, &mut self.left, self.distrusted);
        }
    }
}

/// Whether our reading of the parameter set and libavcodec's may differ. Fields of H.265 are pictures
/// of their own, and are drawn once.
fn suspect(picture: &Picture, decoder: &Decoder) -> bool {
    picture.interlaced()
        && decoder.direct()
        && !decoder.downloads()
        && decoder.codec() != Codec::H265
}

/// Takes out what is there. What cannot be decoded is left out.
fn drain(decoder: &mut Decoder, into: &mut VecDeque<Picture>, copy: bool) {
    for _ in 0..MAX_DRAINED {
        match decoder.receive() {
            Ok(Some(mut picture)) => {
                if copy || suspect(&picture, decoder) {
                    picture.require_copy();
                }
                into.push_back(picture);
            }
            Ok(None) => break,
            Err(_) => {}
        }
    }
}

impl fmt::Debug for PictureDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PictureDecoder")
            .field("codec", &self.options.codec)
            .field("direct", &self.direct())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
