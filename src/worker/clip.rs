//! Pictures encoded into an MP4, with exact times.
#![deny(unsafe_code)]

use super::output::Output;
use super::protocol::Trouble;
use crate::media::{
    Canvas, ENCODER_TIMESCALE, EncoderKind, EncoderOptions, Mp4Writer, OutSample, Rate,
    TrackDescription, TrackSource, VideoEncoder,
};

/// A key frame after this time at the latest: players jump to them.
const KEY_EVERY: i64 = 2 * ENCODER_TIMESCALE as i64;

/// How a clip is encoded.
pub(super) struct ClipOptions<'a> {
    /// In pixels, even.
    pub size: (u32, u32),
    pub matrix: u8,
    /// x264's constant rate factor.
    pub quality: u8,
    /// A sound track to copy, and its timescale.
    pub sound: Option<(&'a TrackDescription, u32)>,
}

/// An MP4 being made of pictures.
pub(super) struct Clip {
    encoder: VideoEncoder,
    writer: Mp4Writer,
    last_key: Option<i64>,
    /// Encoded, but how long it lasts is not known yet.
    held: Option<(Vec<u8>, i64, bool)>,
    /// Sound that waits for its end in the same way: bytes and time.
    held_sound: Option<(Vec<u8>, i64)>,
}

impl Clip {
    pub fn create(output: Output, options: &ClipOptions<'_>) -> Result<Self, Trouble> {
        let encoder = VideoEncoder::open(EncoderOptions {
            kind: EncoderKind::X264,
            width: options.size.0,
            height: options.size.1,
            full_range: false,
            matrix: options.matrix,
            rate: Rate::Quality(options.quality),
            immediate: false,
            threads: 1,
            about_fps: 30,
        })?;
        let mut tracks = vec![(TrackSource::Encoded(&encoder), ENCODER_TIMESCALE)];
        if let Some((sound, timescale)) = options.sound {
            tracks.push((TrackSource::Copy(sound), timescale));
        }
        let writer = Mp4Writer::create(Box::new(output), &tracks)?;
        Ok(Self {
            encoder,
            writer,
            last_key: None,
            held: None,
            held_sound: None,
        })
    }

    /// Adds a picture, later than the last.
    pub fn add(&mut self, canvas: &mut Canvas, pts: i64) -> Result<(), Trouble> {
        let key = self.last_key.is_none_or(|last| pts - last >= KEY_EVERY);
        if key {
            self.last_key = Some(pts);
        }
        self.encoder.send(canvas, pts, key)?;
        self.take()
    }

    /// Adds sound, in its track's timescale, later than the last.
    pub fn add_sound(&mut self, data: &[u8], pts: i64) -> Result<(), Trouble> {
        if let Some((last, at)) = self.held_sound.take() {
            let sample = OutSample {
                track: 1,
                data: &last,
                pts: at,
                dts: at,
                duration: pts - at,
                key: true,
            };
            self.writer.write(&sample)?;
        }
        self.held_sound = Some((data.to_vec(), pts));
        Ok(())
    }

    /// Ends the clip: the last picture is shown until `end`.
    pub fn finish(mut self, end: i64) -> Result<(), Trouble> {
        self.encoder.finish()?;
        self.take()?;
        self.release(end)?;
        if let Some((last, at)) = self.held_sound.take() {
            let sample = OutSample {
                track: 1,
                data: &last,
                pts: at,
                dts: at,
                duration: 0,
                key: true,
            };
            self.writer.write(&sample)?;
        }
        Ok(self.writer.finish()?)
    }

    fn take(&mut self) -> Result<(), Trouble> {
        loop {
            let next = match self.encoder.receive()? {
                Some(packet) => (packet.data.to_vec(), packet.pts, packet.key),
                None => return Ok(()),
            };
            self.release(next.1)?;
            self.held = Some(next);
        }
    }

    fn release(&mut self, until: i64) -> Result<(), Trouble> {
        let Some((data, pts, key)) = self.held.take() else {
            return Ok(());
        };
        Ok(self.writer.write(&OutSample {
            track: 0,
            data: &data,
            pts,
            dts: pts,
            duration: (until - pts).max(1),
            key,
        })?)
    }
}
