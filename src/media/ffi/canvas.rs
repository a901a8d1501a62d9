//! Pictures for encoders: in a ring where they lie, or scaled into memory of our own.
//!
//! Promises: a frame of a ring is held until the last reader of its [`Canvas`] has let go, and never
//! written to.

use std::ffi::{c_int, c_void};
use std::fmt;

use camring_ring::Frame as RingFrame;
use ffmpeg_next::ffi as av;

use super::encoder::EncoderKind;
use super::frame::Frame;
use super::jpeg::{encode_frame, frame_of, range_of};
use super::rgb::append_frame;
use super::scale::{Colours, FrameScaler, colours_of};
use super::{Picture, pixel};
use crate::media::jpeg::{Image, Quality};
use crate::media::{ColorRange, MediaError, PixelFormat};

/// What vector code may read behind the last row of a picture.
const OVERREAD: usize = 128;

/// A picture that encoders and scalers can read.
pub struct Canvas {
    pub(super) frame: Frame,
    pub(super) colours: Colours,
}

impl Canvas {
    /// A frame of a ring, in place: held as long as anybody reads it. (Gray is copied: encoders want
    /// colours; so is a frame without room behind it, which none of camring's own lacks.)
    ///
    /// # Errors
    /// A format without counterpart in FFmpeg, or no memory.
    pub fn of_ring(held: RingFrame) -> Result<Self, MediaError> {
        let descriptor = held.descriptor();
        let format = pixel::to_av(descriptor.pixel_format).ok_or_else(|| {
            MediaError::UnsupportedPixelFormat {
                name: descriptor.pixel_format.name().to_owned(),
            }
        })?;
        let side = |value: u32| {
            c_int::try_from(value).map_err(|_| MediaError::Geometry("the picture is too large"))
        };
        let colours = Colours {
            range: range_of(descriptor.color_range, descriptor.pixel_format),
            matrix: descriptor.matrix,
        };
        if held.padding() < OVERREAD || descriptor.pixel_format == PixelFormat::Gray8 {
            return Ok(Self {
                frame: copied(&held)?,
                colours,
            });
        }
        let (width, height) = (side(descriptor.width)?, side(descriptor.height)?);
        let mut frame = Frame::new()?;
        let held = Box::new(held);
        let data = held.data();
        let (start, len) = (data.as_ptr(), data.len());
        let raw = frame.as_mut_ptr();
        for index in 0..held.planes().min(4) {
            let plane = held.plane(index);
            let stride = c_int::try_from(held.plane_stride(index))
                .map_err(|_| MediaError::Geometry("a stride is too large"))?;
            if plane.is_empty() {
                return Err(MediaError::Geometry("a plane is missing"));
            }
            // SAFETY: a frame of our own, which nobody else has yet.
            unsafe {
                (&mut (*raw).data)[index] = plane.as_ptr().cast_mut();
                (&mut (*raw).linesize)[index] = stride;
            }
        }
        // SAFETY: a frame of our own. The buffer is marked read-only, so that whoever would write
        // copies first (libavutil/buffer.h). Its bytes stay where they are and as they are until the
        // callback drops the held frame, which happens once, when the last reference has gone; the
        // box is forgotten in exchange.
        unsafe {
            (*raw).format = format as c_int;
            (*raw).width = width;
            (*raw).height = height;
            let opaque = Box::into_raw(held);
            let buffer = av::av_buffer_create(
                start.cast_mut(),
                len,
                Some(let_go),
                opaque.cast(),
                av::AV_BUFFER_FLAG_READONLY as c_int,
            );
            if buffer.is_null() {
                drop(Box::from_raw(opaque));
                return Err(MediaError::OutOfMemory);
            }
            (&mut (*raw).buf)[0] = buffer;
        }
        Ok(Self { frame, colours })
    }

    /// A copy of an image.
    ///
    /// # Errors
    /// Its planes are shorter than they should be, or no memory.
    pub fn of_image(image: &Image<'_>) -> Result<Self, MediaError> {
        image.check()?;
        Ok(Self {
            frame: frame_of(image)?,
            colours: Colours {
                range: range_of(image.range, image.format),
                matrix: image.matrix,
            },
        })
    }

    /// A grey one, I420 of limited range, to paste others into. Sides are rounded up to even ones.
    ///
    /// # Errors
    /// No memory for it.
    pub fn grey(width: u32, height: u32) -> Result<Self, MediaError> {
        let side = |value: u32| {
            c_int::try_from(value.next_multiple_of(2))
                .map_err(|_| MediaError::Geometry("the picture is too large"))
        };
        let (width, height) = (side(width)?, side(height)?);
        let frame = Frame::with_buffers(av::AVPixelFormat::AV_PIX_FMT_YUV420P, width, height)?;
        for (index, sample) in [(0, 40), (1, 128), (2, 128)] {
            let (data, stride) = frame.plane(index);
            let rows = if index == 0 { height } else { height / 2 };
            let bytes = usize::try_from(i64::from(stride) * i64::from(rows)).unwrap_or(0);
            // SAFETY: av_frame_get_buffer gave this plane so many rows of `stride` bytes.
            unsafe { data.write_bytes(sample, bytes) };
        }
        Ok(Self {
            frame,
            colours: Colours {
                range: ColorRange::Limited,
                matrix: 2,
            },
        })
    }

    /// Copies a whole I420 canvas into this one, with its corner at an even place.
    ///
    /// # Errors
    /// It does not fit, or somebody reads this one.
    pub fn paste(&mut self, from: &Self, x: u32, y: u32) -> Result<(), MediaError> {
        let i420 = av::AVPixelFormat::AV_PIX_FMT_YUV420P as c_int;
        let ((width, height), (all_width, all_height)) = (from.size(), self.size());
        let inside = |at: u32, len: u32, all: u32| {
            at.is_multiple_of(2) && at.checked_add(len).is_some_and(|end| end <= all)
        };
        let fits = inside(x, width, all_width) && inside(y, height, all_height);
        let plain = self.frame.format() == i420 && from.frame.format() == i420;
        if !fits || !plain || !self.frame.is_writable() {
            return Err(MediaError::Geometry("no room for a picture"));
        }
        self.colours = from.colours;
        for index in 0..3 {
            let half = |n: u32| if index == 0 { n } else { n.div_ceil(2) } as usize;
            let (source, source_stride) = from.frame.plane(index);
            let (target, target_stride) = self.frame.plane(index);
            for row in 0..half(height) {
                let at = |stride: c_int, row: usize| stride as isize * row as isize;
                // SAFETY: both are I420 frames with buffers of their own, the rectangle lies inside
                // both (an even corner keeps rounding away from the edges), and nobody else has the
                // target's (it is writable).
                unsafe {
                    let from = source.offset(at(source_stride, row));
                    let into = target.offset(at(target_stride, half(y) + row)).add(half(x));
                    std::ptr::copy_nonoverlapping(from, into, half(width));
                }
            }
        }
        Ok(())
    }

    /// As a JPEG file.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn to_jpeg(&self, quality: Quality) -> Result<Vec<u8>, MediaError> {
        let format = pixel::native(self.frame.format());
        let format = format.map_or(PixelFormat::I420, |(format, _)| format);
        encode_frame(&self.frame, format, self.colours, quality.scale())
    }

    /// Appends rows of R, G, B bytes without padding, full range.
    ///
    /// # Errors
    /// No memory.
    pub fn append_rgb24(&self, into: &mut Vec<u8>) -> Result<(), MediaError> {
        append_frame(&self.frame, self.colours, into)
    }

    /// In pixels.
    pub fn size(&self) -> (u32, u32) {
        self.frame.size()
    }

    /// Whether this encoder takes it as it is; else scale it first, maybe to the same size.
    pub fn encodable(&self, kind: EncoderKind) -> bool {
        let format = self.frame.format();
        let known = pixel::to_av(kind.format()).is_some_and(|known| known as c_int == format);
        let (width, height) = self.size();
        known && width % 2 == 0 && height % 2 == 0
    }

    /// Whether its luma reaches from 0 to 255.
    pub fn full_range(&self) -> bool {
        self.colours.range == ColorRange::Full
    }

    /// ITU-T H.273 MatrixCoefficients; 2: unspecified.
    pub fn matrix(&self) -> u8 {
        self.colours.matrix
    }
}

fn copied(held: &RingFrame) -> Result<Frame, MediaError> {
    let descriptor = held.descriptor();
    let planes: Vec<(&[u8], usize)> = (0..held.planes())
        .map(|n| (held.plane(n), held.plane_stride(n) as usize))
        .collect();
    frame_of(&Image {
        format: descriptor.pixel_format,
        width: descriptor.width,
        height: descriptor.height,
        range: descriptor.color_range,
        matrix: descriptor.matrix,
        planes: &planes,
    })
}

unsafe extern "C" fn let_go(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: the box forgotten by `Canvas::of_ring`; libavutil calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<RingFrame>()) });
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canvas")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// Scales picture after picture to one size, in an encoder's format and limited range. Uses its memory again when the
/// last picture was let go. For one thread at a time.
pub struct CanvasScaler {
    width: u32,
    height: u32,
    format: PixelFormat,
    scaler: FrameScaler,
    spare: Option<Frame>,
}

impl CanvasScaler {
    /// To this size; odd sides are rounded up to even ones.
    pub fn new(kind: EncoderKind, width: u32, height: u32) -> Self {
        Self {
            format: kind.format(),
            width: width.next_multiple_of(2).max(2),
            height: height.next_multiple_of(2).max(2),
            scaler: FrameScaler::default(),
            spare: None,
        }
    }

    /// In pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Scales what is in a canvas.
    ///
    /// # Errors
    /// A format that cannot be read, or no memory.
    pub fn scale(&mut self, source: &Canvas) -> Result<Canvas, MediaError> {
        self.scale_frame(&source.frame, source.colours)
    }

    /// Scales what was decoded.
    ///
    /// # Errors
    /// As for [`CanvasScaler::scale`].
    pub fn scale_picture(&mut self, source: &Picture) -> Result<Canvas, MediaError> {
        source.with_frame(|frame| self.scale_frame(frame, colours_of(frame)))
    }

    /// Gives memory back for the next picture.
    pub fn recycle(&mut self, canvas: Canvas) {
        self.spare = Some(canvas.frame);
    }

    fn scale_frame(&mut self, source: &Frame, colours: Colours) -> Result<Canvas, MediaError> {
        let format = pixel::to_av(self.format).ok_or(MediaError::OutOfMemory)?;
        let side = |value: u32| {
            c_int::try_from(value).map_err(|_| MediaError::Geometry("the picture is too large"))
        };
        let (width, height) = (side(self.width)?, side(self.height)?);
        let spare = self.spare.take().filter(Frame::is_writable);
        let mut target = match spare {
            Some(spare) => spare,
            None => Frame::with_buffers(format, width, height)?,
        };
        let to = Colours {
            range: ColorRange::Limited,
            // RGB becomes what all players take an unmarked picture for.
            matrix: match colours.matrix {
                0 => 2,
                matrix => matrix,
            },
        };
        self.scaler.scale(source, colours, &mut target, to)?;
        Ok(Canvas {
            frame: target,
            colours: to,
        })
    }
}

impl fmt::Debug for CanvasScaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CanvasScaler")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
