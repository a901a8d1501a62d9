//! Owned `AVFrame` and `AVPacket`.

use std::ffi::c_int;
use std::ptr::NonNull;

use ffmpeg_next::ffi as av;

use crate::media::{MAX_UNIT_BYTES, MediaError};

/// An `AVFrame` with whatever references it holds.
pub(super) struct Frame(NonNull<av::AVFrame>);

// SAFETY: nothing in an AVFrame belongs to a thread; its buffer references are counted atomically
// (libavutil/buffer.h) and may be dropped on any thread.
unsafe impl Send for Frame {}

impl Frame {
    pub(super) fn new() -> Result<Self, MediaError> {
        // SAFETY: no preconditions; null means no memory.
        let frame = unsafe { av::av_frame_alloc() };
        NonNull::new(frame).map(Self).ok_or(MediaError::OutOfMemory)
    }

    /// A frame with buffers of its own for `width` × `height` samples of `format`.
    pub(super) fn with_buffers(
        format: av::AVPixelFormat,
        width: c_int,
        height: c_int,
    ) -> Result<Self, MediaError> {
        let mut frame = Self::new()?;
        let raw = frame.as_mut_ptr();
        // SAFETY: `raw` is the frame just allocated and nobody else's; format and size are set before
        // the buffers are asked for, as libavutil/frame.h demands. It checks the size itself.
        let code = unsafe {
            (*raw).format = format as c_int;
            (*raw).width = width;
            (*raw).height = height;
            av::av_frame_get_buffer(raw, 0)
        };
        if code < 0 {
            return Err(MediaError::OutOfMemory);
        }
        Ok(frame)
    }

    // No `&AVFrame` is ever made: an enum in it could have a value unknown to the bindings.

    /// `AVPixelFormat`, as a number.
    pub(super) fn format(&self) -> c_int {
        // SAFETY: a valid frame.
        unsafe { (*self.as_ptr()).format }
    }

    /// Width and height in pixels; 0 for nonsense.
    pub(super) fn size(&self) -> (u32, u32) {
        let side = |value: c_int| u32::try_from(value).unwrap_or(0);
        // SAFETY: a valid frame.
        let (width, height) = unsafe { ((*self.as_ptr()).width, (*self.as_ptr()).height) };
        (side(width), side(height))
    }

    /// First row and line size in bytes of one of the four planes.
    pub(super) fn plane(&self, index: usize) -> (*mut u8, c_int) {
        // SAFETY: a valid frame.
        unsafe {
            (
                (&(*self.as_ptr()).data)[index],
                (&(*self.as_ptr()).linesize)[index],
            )
        }
    }

    /// `AVColorRange`, as a number.
    pub(super) fn raw_range(&self) -> u32 {
        // SAFETY: a valid frame; the enum is read as the integer that it is in C.
        unsafe {
            (&raw const (*self.as_ptr()).color_range)
                .cast::<u32>()
                .read()
        }
    }

    /// `AVColorSpace`, as a number: the code point of ITU-T H.273.
    pub(super) fn raw_matrix(&self) -> u32 {
        // SAFETY: a valid frame; the enum is read as the integer that it is in C.
        unsafe {
            (&raw const (*self.as_ptr()).colorspace)
                .cast::<u32>()
                .read()
        }
    }

    /// Whether its pixels are nobody else's.
    pub(super) fn is_writable(&self) -> bool {
        // SAFETY: a valid frame; the call changes nothing.
        unsafe { av::av_frame_is_writable(self.0.as_ptr()) > 0 }
    }

    pub(super) fn as_ptr(&self) -> *const av::AVFrame {
        self.0.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut av::AVFrame {
        self.0.as_ptr()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: allocated by av_frame_alloc, owned by self, not used afterwards.
        unsafe { av::av_frame_free(&raw mut raw) };
    }
}

/// An `AVPacket` that is filled anew for each unit.
pub(super) struct Packet(NonNull<av::AVPacket>);

// SAFETY: as for Frame.
unsafe impl Send for Packet {}

impl Packet {
    pub(super) fn new() -> Result<Self, MediaError> {
        // SAFETY: no preconditions; null means no memory.
        let packet = unsafe { av::av_packet_alloc() };
        NonNull::new(packet)
            .map(Self)
            .ok_or(MediaError::OutOfMemory)
    }

    /// Replaces the content with a copy of `unit`, padded as the bit readers of libavcodec need it.
    pub(super) fn fill(&mut self, unit: &[u8], pts: i64) -> Result<(), MediaError> {
        let too_large = MediaError::UnitTooLarge {
            len: unit.len(),
            max: MAX_UNIT_BYTES,
        };
        if unit.len() > MAX_UNIT_BYTES {
            return Err(too_large);
        }
        let Ok(size) = c_int::try_from(unit.len()) else {
            return Err(too_large);
        };
        let raw = self.0.as_ptr();
        // SAFETY: `raw` is a valid packet of our own. av_new_packet overwrites its fields, hence the
        // unref before; on success `data` has `size` bytes and a zeroed padding after them, which a
        // source of `size` bytes fills; a packet and a slice cannot overlap.
        unsafe {
            av::av_packet_unref(raw);
            if av::av_new_packet(raw, size) < 0 {
                return Err(MediaError::OutOfMemory);
            }
            std::ptr::copy_nonoverlapping(unit.as_ptr(), (*raw).data, unit.len());
            (*raw).pts = pts;
            (*raw).dts = pts;
        }
        Ok(())
    }

    /// The content.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: a valid packet; `data` is null or has `size` bytes, which nobody writes while self
        // is borrowed: packets handed to a decoder are referenced, not written.
        unsafe {
            let raw = self.0.as_ptr();
            match usize::try_from((*raw).size) {
                Ok(size) if !(*raw).data.is_null() => std::slice::from_raw_parts((*raw).data, size),
                _ => &[],
            }
        }
    }

    pub(super) fn clear(&mut self) {
        // SAFETY: a valid packet of our own.
        unsafe { av::av_packet_unref(self.0.as_ptr()) };
    }

    pub(super) fn as_ptr(&self) -> *const av::AVPacket {
        self.0.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut av::AVPacket {
        self.0.as_ptr()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut raw = self.0.as_ptr();
        // SAFETY: allocated by av_packet_alloc, owned by self, not used afterwards.
        unsafe { av::av_packet_free(&raw mut raw) };
    }
}
