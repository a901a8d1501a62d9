//! What part of a frame a buffer shows: where it begins, shape, strides, kind of number.
//!
//! Promises: every element of a view lies inside the pinned payload; checked when it is made.

use camring_ring::{Frame, PixelFormat};

use crate::errors::Failure;

/// Most dimensions that a view has.
pub(crate) const DIMENSIONS: usize = 3;

/// A strided view of a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// Bytes from the start of the payload.
    pub(crate) offset: usize,
    /// Dimensions in use, 2 or 3.
    pub(crate) dimensions: usize,
    /// Elements.
    pub(crate) shape: [isize; DIMENSIONS],
    /// Bytes.
    pub(crate) strides: [isize; DIMENSIONS],
    /// Bytes of an element, 1 or 2.
    pub(crate) item: usize,
}

impl View {
    /// One plane: rows × columns, or rows × columns × channels where samples are interleaved.
    pub(crate) fn plane(frame: &Frame, index: usize) -> Result<Self, Failure> {
        let d = frame.descriptor();
        let format = d.pixel_format;
        let wrong = || {
            Failure::new(
                "Error",
                format!("frame {} has no plane {index}", d.sequence),
            )
        };
        let (row, rows) = format
            .plane_size(index, d.width, d.height)
            .ok_or_else(wrong)?;
        let item = match format {
            PixelFormat::I420p10 | PixelFormat::I422p10 | PixelFormat::I444p10 => 2,
            _ => 1,
        };
        let channels = match (format, index) {
            (PixelFormat::Rgb24 | PixelFormat::Bgr24, _) => 3,
            (PixelFormat::Nv12, 1) => 2,
            _ => 1,
        };
        let plane = d.planes.get(index).ok_or_else(wrong)?;
        let (offset, stride) = (plane.offset as usize, plane.stride as usize);
        // The ring crate has checked the descriptor; said again here, where a pointer is made of it.
        let end = offset + stride * (rows as usize - 1) + row as usize;
        if end > frame.data().len() || stride % item != 0 || offset % item != 0 {
            return Err(wrong());
        }
        Ok(Self {
            offset,
            dimensions: if channels == 1 { 2 } else { 3 },
            shape: [
                rows as isize,
                (row as usize / (channels * item)) as isize,
                channels as isize,
            ],
            strides: [stride as isize, (channels * item) as isize, item as isize],
            item,
        })
    }

    /// The whole picture as one array, for packed formats and gray.
    pub(crate) fn packed(frame: &Frame) -> Result<Self, Failure> {
        match frame.descriptor().pixel_format {
            PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Gray8 => Self::plane(frame, 0),
            planar => Err(Failure::new(
                "WrongFormat",
                format!(
                    "{planar} frames are several planes and no single array: use frame.y, .u, .v, \
                     or frame.to_bgr()"
                ),
            )),
        }
    }

    /// Bytes that the elements add up to.
    pub(crate) fn bytes(&self) -> isize {
        let elements: isize = self.shape[..self.dimensions].iter().product();
        elements * self.item as isize
    }

    /// Whether there is no padding between rows.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.strides[0] == self.shape[1] * self.strides[1]
    }
}
