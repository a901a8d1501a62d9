//! One open libavcodec decoder.
//!
//! Promises: every call ends with the unit it was given; a damaged unit is an error of that unit, not
//! the end of the decoder. Must never use frame threads, which delay pictures.

use std::ffi::c_int;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ffmpeg_next::ffi as av;

use super::buffers::{Lender, PictureSlots, Shared, get_buffer2, lend};
use super::frame::{Frame, Packet};
use super::hardware::{self, HardwareDevice, HardwareKind, Surfaces};
use super::picture::Picture;
use super::{EAGAIN, codec_id, decode_error, log};
use crate::media::{AvError, Codec, MediaError};

/// Threads beyond this give slice decoding nothing.
const MAX_THREADS: u32 = 16;

/// Units whose time stamps are remembered; the most that lie between a unit and its picture is the
/// decoded picture buffer, 16 frames or 32 fields.
const TOKENS: usize = 128;

/// Decoders that are open and have seen no stream yet: see [`Decoder::keep_ready`].
static READY: Mutex<Vec<Decoder>> = Mutex::new(Vec::new());

/// A unit of this size makes room in a decoder for the key frames of most cameras.
const USUAL_UNIT: usize = 256 << 10;

/// What to open.
#[derive(Clone)]
pub struct DecoderOptions {
    pub codec: Codec,
    /// Slice threads, 1 to 16. Nothing is gained where a picture is one slice.
    pub threads: u32,
    /// Draw into `slots`. The decoder does as it is told: whether pictures stay unchanged
    /// afterwards is decided by [`PictureDecoder`](crate::media::PictureDecoder).
    pub direct: bool,
    pub slots: Option<Arc<dyn PictureSlots>>,
    /// Larger pictures are refused, measured with the width rounded up to a multiple of 64.
    pub max_pixels: u64,
}

impl fmt::Debug for DecoderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoderOptions")
            .field("codec", &self.codec)
            .field("threads", &self.threads)
            .field("direct", &self.direct)
            .field("slots", &self.slots.is_some())
            .field("max_pixels", &self.max_pixels)
            .finish()
    }
}

/// Which pictures need not be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skip {
    /// Every picture is decoded.
    #[default]
    None,
    /// Pictures that no other picture refers to are left out.
    NonReference,
    /// Only key frames are decoded.
    NonKey,
}

/// One libavcodec decoder: access units in, pictures out, in output order.
///
/// Slice threads and low delay: a unit's picture comes out before the next unit goes in, unless the
/// stream reorders. May be moved between threads. Dropping it leaves its pictures valid.
pub struct Decoder {
    context: NonNull<av::AVCodecContext>,
    // `context.opaque` points to it: freed after the context (see Drop). An Arc, because a Box may not
    // be pointed into while it moves.
    lender: Arc<Lender>,
    packet: Packet,
    codec: Codec,
    can_be_direct: bool,
    tokens: Tokens,
    refused: bool,
    hardware: Option<HardwareKind>,
    /// Its pictures are surfaces of a device.
    surfaces: bool,
    #[cfg(test)]
    broken: Option<Arc<AtomicBool>>,
}

// SAFETY: libavcodec contexts are not bound to a thread; `&mut self` on every method that uses one
// keeps two threads from doing so at once. Everything else in it is Send.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens a decoder, or takes the one that [`Decoder::keep_ready`] opened.
    pub fn open(options: DecoderOptions) -> Result<Self, MediaError> {
        let ready = (options.threads <= 1)
            .then(|| {
                let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
                let at = ready.iter().position(|d| d.codec == options.codec)?;
                Some(ready.swap_remove(at))
            })
            .flatten();
        match ready {
            Some(mut ready) => {
                let max_pixels = max_pixels(&options);
                ready.set_slots(options.slots);
                let direct = options.direct && ready.can_be_direct;
                ready.lender.direct.store(direct, Relaxed);
                // SAFETY: an open context that only this thread uses; libavcodec reads the limit
                // whenever a stream sets dimensions, which none has done yet.
                unsafe { (*ready.context.as_ptr()).max_pixels = max_pixels };
                Ok(ready)
            }
            None => Self::open_new(options, None),
        }
    }

    /// Opens a decoder for the first stream of this process, or of a process forked from it. Most of
    /// a decoder's own memory stays as it is when it is opened: 0.7 MiB of 0.75 for H.264 and H.265
    /// (FFmpeg 5.1), and a third of a MiB of room after each access unit of H.264. Opened before the
    /// fork, all forks share these pages.
    pub fn keep_ready(codec: Codec) -> Result<(), MediaError> {
        let ready = DecoderOptions {
            codec,
            threads: 1,
            direct: false,
            slots: None,
            max_pixels: 1 << 20,
        };
        let mut decoder = Self::open_new(ready, None)?;
        if codec == Codec::H264 {
            // Filler data (ITU-T H.264, 7.3.2.7), which decodes to nothing. Without references to
            // keep, libavcodec does not miss a picture either.
            let mut filler = vec![0xff; USUAL_UNIT];
            filler[..5].copy_from_slice(&[0, 0, 0, 1, 12]);
            filler[USUAL_UNIT - 1] = 0x80;
            decoder.set_skip(Skip::NonReference);
            decoder.send(&filler, 0, 0)?;
            decoder.receive()?;
            decoder.flush();
            decoder.set_skip(Skip::None);
        }
        let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|d| d.codec != codec);
        ready.push(decoder);
        Ok(())
    }

    /// Opens a decoder of a device. Pictures that are surfaces of it are downloaded into the slots, whatever
    /// `direct` says: they are never drawn into again.
    ///
    /// # Errors
    /// [`MediaError::NoDecoder`]: it takes no such codec. [`MediaError::Open`]: nor such a stream.
    pub fn open_on(device: &HardwareDevice, options: DecoderOptions) -> Result<Self, MediaError> {
        Self::open_new(options, Some(device))
    }

    fn open_new(
        options: DecoderOptions,
        hardware: Option<&HardwareDevice>,
    ) -> Result<Self, MediaError> {
        log::install();
        let codec = options.codec;
        let max_pixels = max_pixels(&options);
        let threads = options.threads.clamp(1, MAX_THREADS) as c_int;
        let decoder = match hardware {
            Some(device) => device.decoder(codec).unwrap_or(std::ptr::null()),
            // SAFETY: a lookup in constant tables.
            None => unsafe { av::avcodec_find_decoder(codec_id(codec)) },
        };
        if decoder.is_null() {
            return Err(MediaError::NoDecoder { codec });
        }
        // SAFETY: not null: constant, and valid for ever.
        let capabilities = unsafe { (*decoder).capabilities };
        // Only decoders that say so render into foreign buffers.
        let can_be_direct = capabilities & av::AV_CODEC_CAP_DR1 as c_int != 0;
        let packet = Packet::new()?;
        let lender = Arc::new(Lender {
            shared: Arc::new(Shared::default()),
            slots: Mutex::new(options.slots),
            direct: AtomicBool::new(options.direct && can_be_direct),
            wanted: AtomicUsize::new(0),
            surfaces: Surfaces::default(),
        });
        // SAFETY: `decoder` is a codec of this library; null means no memory.
        let context = unsafe { av::avcodec_alloc_context3(decoder) };
        let context = NonNull::new(context).ok_or(MediaError::OutOfMemory)?;
        // From here on Drop frees the context.
        let mut this = Self {
            context,
            lender,
            packet,
            codec,
            can_be_direct,
            tokens: Tokens::default(),
            refused: false,
            hardware: hardware.map(HardwareDevice::kind),
            surfaces: false,
            #[cfg(test)]
            broken: hardware.and_then(HardwareDevice::broken),
        };
        let raw = context.as_ptr();
        // SAFETY: a context that is allocated and not yet open: fields are the user's to set
        // (libavcodec/avcodec.h). `lender` has a stable address and outlives the context.
        unsafe {
            (*raw).thread_count = threads;
            (*raw).thread_type = av::FF_THREAD_SLICE;
            (*raw).flags |= av::AV_CODEC_FLAG_LOW_DELAY as c_int;
            // Crop to the pixel: rows are copied or described by their offset, never assumed aligned.
            (*raw).flags |= av::AV_CODEC_FLAG_UNALIGNED as c_int;
            // Applied film grain would need a second buffer for each picture.
            (*raw).export_side_data |= av::AV_CODEC_EXPORT_DATA_FILM_GRAIN;
            (*raw).max_pixels = max_pixels;
            if codec == Codec::Mjpeg {
                // A picture that ends before its last block is an error: a packet in its middle may
                // have been lost, and nothing else would say so.
                (*raw).err_recognition |= av::AV_EF_EXPLODE as c_int;
            }
            (*raw).opaque = Arc::as_ptr(&this.lender).cast_mut().cast();
            (*raw).get_buffer2 = Some(get_buffer2);
        }
        if let Some(device) = hardware {
            let wanted = device.raw_surface();
            this.lender.surfaces.format.store(wanted, Relaxed);
            // SAFETY: allocated, not open; `opaque` is the Lender.
            this.surfaces = unsafe { device.prepare(raw) }?;
            if this.surfaces {
                this.lender.direct.store(true, Relaxed);
            }
        }
        // SAFETY: a context made for this decoder; no options.
        let code = unsafe { av::avcodec_open2(raw, decoder, std::ptr::null_mut()) };
        if code < 0 {
            return Err(MediaError::Open {
                codec,
                error: AvError(code),
            });
        }
        Ok(this)
    }

    /// Decodes one access unit (Annex B, or a whole JPEG). `pts` and `opaque` come back with its
    /// picture. [`MediaError::Full`]: take pictures out first. After any other error go on with
    /// the next unit.
    pub fn send(&mut self, unit: &[u8], pts: i64, opaque: u64) -> Result<(), MediaError> {
        if unit.is_empty() {
            return Ok(()); // to libavcodec an empty packet is the end of the stream
        }
        #[cfg(test)]
        if self
            .broken
            .as_ref()
            .is_some_and(|broken| broken.load(Relaxed))
        {
            return Err(decode_error(self.codec, av::AVERROR(libc::EIO)));
        }
        let token = self.tokens.push(pts, opaque);
        self.packet.fill(unit, token)?;
        log::take_refused();
        let code = {
            let _drawing = self.lender.shared.draw();
            // SAFETY: an open context that only this thread uses (&mut self), and a filled packet.
            unsafe { av::avcodec_send_packet(self.context.as_ptr(), self.packet.as_ptr()) }
        };
        self.packet.clear();
        self.refused = log::take_refused();
        if code < 0 {
            Err(decode_error(self.codec, code))
        } else {
            Ok(())
        }
    }

    /// Ends the stream: what is still waiting for output can be received, then nothing can be sent
    /// before [`flush`](Self::flush). [`MediaError::Full`]: take pictures out first.
    pub fn finish(&mut self) -> Result<(), MediaError> {
        let _drawing = self.lender.shared.draw();
        // SAFETY: an open context that only this thread uses (&mut self); a null packet is the end of
        // the stream.
        match unsafe { av::avcodec_send_packet(self.context.as_ptr(), std::ptr::null()) } {
            0 | av::AVERROR_EOF => Ok(()), // EOF: sent before
            code => Err(decode_error(self.codec, code)),
        }
    }

    /// The next picture in output order; `None`: more units are needed (or none will come, after
    /// [`finish`](Self::finish)).
    pub fn receive(&mut self) -> Result<Option<Picture>, MediaError> {
        let mut frame = Frame::new()?;
        let code = {
            let _drawing = self.lender.shared.draw();
            // SAFETY: an open context that only this thread uses (&mut self), and a frame of our own.
            unsafe { av::avcodec_receive_frame(self.context.as_ptr(), frame.as_mut_ptr()) }
        };
        self.refused |= log::take_refused();
        match code {
            0 => {}
            EAGAIN | av::AVERROR_EOF => return Ok(None),
            code => return Err(decode_error(self.codec, code)),
        }
        if let Some(samples) = hardware::samples_of(&frame) {
            frame = self.download(&frame, samples)?;
        }
        // SAFETY: a frame that libavcodec, or the download, has just filled.
        let token = unsafe { (*frame.as_ptr()).pts };
        let (pts, opaque) = self.tokens.find(token);
        Ok(Some(Picture::new(
            frame,
            Arc::clone(&self.lender.shared),
            pts,
            opaque,
        )))
    }

    /// A surface's samples, in a slot if there is one.
    fn download(&self, surface: &Frame, samples: c_int) -> Result<Frame, MediaError> {
        let device = self.hardware.map_or("hardware", HardwareKind::name);
        let failed = |error| MediaError::Hardware {
            device,
            codec: self.codec,
            error,
        };
        let mut frame = Frame::new()?;
        let raw = frame.as_mut_ptr();
        let (width, height) = surface.size();
        let side = |side| c_int::try_from(side).map_err(|_| MediaError::Geometry("too large"));
        // SAFETY: our own frame, without buffers yet.
        unsafe {
            (*raw).format = samples;
            (*raw).width = side(width)?;
            (*raw).height = side(height)?;
        }
        // SAFETY: an open decoder, and our own frame with format and size.
        match unsafe { lend(&self.lender, self.context.as_ptr(), raw) } {
            Ok(true) => {}
            Ok(false) => {
                // SAFETY: our own frame, still without buffers; the call checks format and size.
                let code = unsafe { av::av_frame_get_buffer(raw, 0) };
                if code < 0 {
                    return Err(failed(AvError(code)));
                }
            }
            Err(code) => return Err(failed(AvError(code))),
        }
        hardware::download(surface, &mut frame).map_err(failed)?;
        Ok(frame)
    }

    /// What decodes instead of libavcodec's own decoder.
    pub fn hardware(&self) -> Option<HardwareKind> {
        self.hardware
    }

    /// Whether its device has said that it does not take this stream.
    pub fn hardware_refused(&self) -> bool {
        self.lender.surfaces.refused.load(Relaxed)
    }

    /// Whether its pictures are copies that it never draws into again.
    pub fn downloads(&self) -> bool {
        self.surfaces
    }

    /// Whether a slice of the last unit was left out, as far as that is known by now: its calls
    /// return nothing of it (H.264; others return an error or mark the picture).
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Forgets references and pictures not yet output: the next unit should be a key frame.
    pub fn flush(&mut self) {
        let _drawing = self.lender.shared.draw();
        // SAFETY: an open context that only this thread uses (&mut self).
        unsafe { av::avcodec_flush_buffers(self.context.as_ptr()) };
    }

    /// Which pictures to leave out from the next unit on.
    pub fn set_skip(&mut self, skip: Skip) {
        let discard = match skip {
            Skip::None => av::AVDiscard::AVDISCARD_DEFAULT,
            Skip::NonReference => av::AVDiscard::AVDISCARD_NONREF,
            Skip::NonKey => av::AVDiscard::AVDISCARD_NONKEY,
        };
        // SAFETY: an open context that only this thread uses (&mut self); the field may be changed
        // at any time between calls (slice threads read it within them).
        unsafe { (*self.context.as_ptr()).skip_frame = discard };
    }

    /// Where pictures are drawn from the next unit on. Slots lent so far stay with whoever lent
    /// them until they are no longer referred to.
    pub fn set_slots(&mut self, slots: Option<Arc<dyn PictureSlots>>) {
        *self
            .lender
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = slots;
    }

    /// Draws into private memory from the next picture on.
    pub fn stop_direct(&mut self) {
        self.lender.direct.store(false, Relaxed);
    }

    /// Whether pictures are drawn into slots, as far as there are any.
    pub fn direct(&self) -> bool {
        self.lender.direct.load(Relaxed)
    }

    /// How many bytes a slot needs, when the last picture got none: because none was free, all were
    /// too small, or there are no slots.
    pub fn wanted_slot_bytes(&self) -> Option<usize> {
        Some(self.lender.wanted.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        let _drawing = self.lender.shared.draw();
        // SAFETY: allocated by avcodec_alloc_context3, owned by self, not used afterwards. Callbacks
        // that run in here find `lender` alive: fields are dropped after this.
        unsafe { av::avcodec_free_context(&raw mut raw) };
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

fn max_pixels(options: &DecoderOptions) -> i64 {
    i64::try_from(options.max_pixels).unwrap_or(i64::MAX)
}

/// Time stamps on their way through the decoder. libavcodec carries one number per unit, in `pts`.
struct Tokens {
    next: i64,
    entries: [(i64, i64, u64); TOKENS],
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            next: 0,
            entries: [(-1, 0, 0); TOKENS],
        }
    }
}

impl Tokens {
    fn slot(token: i64) -> usize {
        (token.unsigned_abs() % TOKENS as u64) as usize
    }

    fn push(&mut self, pts: i64, opaque: u64) -> i64 {
        let token = self.next;
        self.next += 1;
        self.entries[Self::slot(token)] = (token, pts, opaque);
        token
    }

    /// Of the unit with this token; of the newest one if libavcodec made the picture up.
    fn find(&self, token: i64) -> (i64, u64) {
        let (found, pts, opaque) = self.entries[Self::slot(token)];
        if found == token {
            return (pts, opaque);
        }
        let (_, pts, opaque) = self.entries[Self::slot((self.next - 1).max(0))];
        (pts, opaque)
    }
}
