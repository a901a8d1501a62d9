//! A decoded picture, wherever its pixels lie.
//!
//! Must never hand its pixels out as a slice: libavcodec may draw into a picture that it has output.

use std::fmt;
use std::sync::Arc;

use ffmpeg_next::ffi as av;

use super::buffers::{PictureSlots, Shared};
use super::frame::Frame;
use super::scale::{PlaneMut, Rescaler, Target};
use super::{pixel, scale};
use crate::media::{ColorRange, MediaError, PixelFormat, Plane, packed_layout};

/// A decoded picture. It keeps its memory, a slot or private, until dropped; it may outlive the decoder
/// and be dropped on another thread.
///
/// Its pixels are not handed out as slices: libavcodec may draw into a picture again (interlaced
/// streams), so that they are read only while no decoder draws, in [`copy_into`](Self::copy_into).
pub struct Picture {
    frame: Frame,
    shared: Arc<Shared>,
    pts: i64,
    opaque: u64,
    slot: Option<Slot>,
    must_copy: bool,
}

struct Slot {
    id: u8,
    slots: Arc<dyn PictureSlots>,
    planes: [Plane; 4],
    again: bool,
}

impl Picture {
    pub(super) fn new(frame: Frame, shared: Arc<Shared>, pts: i64, opaque: u64) -> Self {
        let mut picture = Self {
            frame,
            shared,
            pts,
            opaque,
            slot: None,
            must_copy: false,
        };
        picture.slot = picture.find_slot();
        picture
    }

    /// Which slot it lies in, and where; `None` when private, or when planes and slot contradict.
    fn find_slot(&self) -> Option<Slot> {
        let raw = self.frame.as_ptr();
        // SAFETY: a valid frame; null or a buffer reference that the frame owns.
        let start = unsafe { (*raw).buf[0].as_ref() }?.data as usize;
        let place = self.shared.output(start)?;
        let (format, _) = pixel::native(self.frame.format())?;
        let (width, height) = self.frame.size();
        let mut planes = [Plane::default(); 4];
        for (index, plane) in planes.iter_mut().enumerate().take(format.planes()) {
            let (row, rows) = format.plane_size(index, width, height)?;
            let (data, linesize) = self.frame.plane(index);
            let stride = u32::try_from(linesize).ok()?;
            let offset = (data as usize).checked_sub(place.start)?;
            let last_row = usize::try_from(stride)
                .ok()?
                .checked_mul(rows.checked_sub(1)? as usize)?;
            let end = offset.checked_add(last_row)?.checked_add(row as usize)?;
            if stride < row || end > place.len {
                return None;
            }
            *plane = Plane {
                offset: offset as u64,
                stride,
            };
        }
        Some(Slot {
            id: place.id,
            slots: place.slots,
            planes,
            again: place.again,
        })
    }

    /// The slot to publish as it is: it lies in one, was not output before and will not be drawn
    /// into again. Otherwise it has to be copied.
    pub fn in_place(&self) -> Option<u8> {
        self.slot
            .as_ref()
            .filter(|slot| !slot.again && !self.must_copy)
            .map(|slot| slot.id)
    }

    /// The slot it lies in, whether or not that may be published.
    pub fn slot(&self) -> Option<u8> {
        self.slot.as_ref().map(|slot| slot.id)
    }

    /// Who lent the slot it lies in: after [`Decoder::set_slots`](super::Decoder::set_slots) a
    /// delayed picture may still lie in one of the former memory.
    pub fn slot_owner(&self) -> Option<&Arc<dyn PictureSlots>> {
        self.slot.as_ref().map(|slot| &slot.slots)
    }

    /// Its slot was output before, with this or an earlier picture: it must not be published a
    /// second time.
    pub fn already_output(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.again)
    }

    /// From now on [`in_place`](Self::in_place) is `None`.
    pub(in crate::media) fn require_copy(&mut self) {
        self.must_copy = true;
    }

    /// Where the planes lie in its slot, after cropping; zeros when it is in private memory.
    pub fn planes(&self) -> [Plane; 4] {
        self.slot
            .as_ref()
            .map_or([Plane::default(); 4], |slot| slot.planes)
    }

    /// As given with the unit that began it.
    pub fn pts(&self) -> i64 {
        self.pts
    }

    /// As given with the unit that began it.
    pub fn opaque(&self) -> u64 {
        self.opaque
    }

    /// In pixels, after cropping.
    pub fn width(&self) -> u32 {
        self.frame.size().0
    }

    /// In pixels, after cropping.
    pub fn height(&self) -> u32 {
        self.frame.size().1
    }

    /// The format in which it lies in its slot and in which [`copy_into`](Self::copy_into) writes
    /// it. What the ring cannot describe is converted while copying: RGB to RGB24, the rest to
    /// I420.
    pub fn pixel_format(&self) -> Result<PixelFormat, MediaError> {
        let raw = self.frame.format();
        pixel::native(raw)
            .map(|(format, _)| format)
            .or_else(|| pixel::converted(raw))
            .ok_or_else(|| MediaError::UnsupportedPixelFormat {
                name: pixel::name(raw),
            })
    }

    /// Whether copying converts it.
    pub fn needs_conversion(&self) -> bool {
        pixel::native(self.frame.format()).is_none()
    }

    pub fn color_range(&self) -> ColorRange {
        if let Some((_, true)) = pixel::native(self.frame.format()) {
            return ColorRange::Full;
        }
        pixel::range(self.frame.raw_range())
    }

    /// ITU-T H.273 MatrixCoefficients; 2: unspecified.
    pub fn matrix(&self) -> u8 {
        if self.needs_conversion() && self.pixel_format() == Ok(PixelFormat::Rgb24) {
            return 0; // identity: RGB
        }
        u8::try_from(self.frame.raw_matrix()).unwrap_or(2)
    }

    /// Whether it has colours of red, green and blue, not luma and chroma.
    pub fn is_rgb(&self) -> bool {
        let format = self.pixel_format();
        matches!(format, Ok(PixelFormat::Rgb24 | PixelFormat::Bgr24))
    }

    /// Width to height of a pixel, as the stream says; 1:1 where it says nothing or nonsense.
    pub fn pixel_aspect(&self) -> (u32, u32) {
        // SAFETY: a valid frame.
        let aspect = unsafe { (*self.frame.as_ptr()).sample_aspect_ratio };
        let side = |value| u32::try_from(value).unwrap_or(0);
        let (num, den) = (side(aspect.num), side(aspect.den));
        // 2:1 is the widest in use; a picture of one row is no picture.
        let sane = num > 0 && den > 0 && num / den < 8 && den / num < 8;
        if sane { (num, den) } else { (1, 1) }
    }

    /// Reads its frame; no decoder draws meanwhile.
    pub(super) fn with_frame<T>(&self, read: impl FnOnce(&Frame) -> T) -> T {
        let _drawing = self.shared.draw();
        read(&self.frame)
    }

    /// Scales it into `planes`, as [`Rescaler::scale`] says.
    pub(in crate::media) fn scale_into(
        &self,
        scaler: &mut Rescaler,
        to: &Target,
        planes: &mut [PlaneMut<'_>],
    ) -> Result<(), MediaError> {
        // No decoder draws while this is held.
        let _drawing = self.shared.draw();
        scaler.scale(&self.frame, scale::colours_of(&self.frame), to, planes)
    }

    /// Whether libavcodec calls it a key frame.
    pub fn key(&self) -> bool {
        // SAFETY: a valid frame.
        unsafe { (*self.frame.as_ptr()).key_frame != 0 }
    }

    /// Whether it was coded as fields.
    pub fn interlaced(&self) -> bool {
        // SAFETY: a valid frame.
        unsafe { (*self.frame.as_ptr()).interlaced_frame != 0 }
    }

    /// Whether libavcodec noticed damage. Most damage it does not notice.
    pub fn decode_error(&self) -> bool {
        let raw = self.frame.as_ptr();
        // SAFETY: a valid frame.
        let (errors, flags) = unsafe { ((*raw).decode_error_flags, (*raw).flags) };
        errors != 0 || flags & av::AV_FRAME_FLAG_CORRUPT != 0
    }

    /// Bytes that [`copy_into`](Self::copy_into) writes at most.
    pub fn copied_len(&self) -> Result<usize, MediaError> {
        self.copied_layout().map(|(_, _, bytes)| bytes)
    }

    fn copied_layout(&self) -> Result<(PixelFormat, [Plane; 4], usize), MediaError> {
        let format = self.pixel_format()?;
        let (width, height) = self.frame.size();
        let (planes, bytes) = packed_layout(format, width, height)
            .ok_or(MediaError::Geometry("the picture is too large to describe"))?;
        Ok((format, planes, bytes))
    }

    /// Copies the pixels to the beginning of `destination`, rows and planes at multiples of 64 bytes,
    /// and says where the planes are. Bytes between the rows are left as they were.
    pub fn copy_into(&self, destination: &mut [u8]) -> Result<[Plane; 4], MediaError> {
        let (format, planes, needed) = self.copied_layout()?;
        let given = destination.len();
        let destination = destination
            .get_mut(..needed)
            .ok_or(MediaError::TooSmall { needed, given })?;
        // No decoder draws while this is held.
        let _drawing = self.shared.draw();
        if self.needs_conversion() {
            let converted = scale::convert(&self.frame, format)?;
            copy_planes(&converted, format, destination, &planes)?;
        } else {
            copy_planes(&self.frame, format, destination, &planes)?;
        }
        Ok(planes)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("pts", &self.pts)
            .field("width", &self.width())
            .field("height", &self.height())
            .field("slot", &self.slot())
            .finish_non_exhaustive()
    }
}

/// Copies the visible rows of a frame whose format is `format` to where `planes` says.
pub(super) fn copy_planes(
    frame: &Frame,
    format: PixelFormat,
    destination: &mut [u8],
    planes: &[Plane; 4],
) -> Result<(), MediaError> {
    let (width, height) = frame.size();
    for (index, plane) in planes.iter().enumerate().take(format.planes()) {
        let (row, rows) = format
            .plane_size(index, width, height)
            .ok_or(MediaError::Geometry("a plane is too large to describe"))?;
        let row = row as usize;
        let (source, stride) = frame.plane(index);
        let stride = stride as isize;
        if source.is_null() || stride.unsigned_abs() < row {
            return Err(MediaError::Geometry(
                "a plane is missing or its rows overlap",
            ));
        }
        let start = usize::try_from(plane.offset)
            .map_err(|_| MediaError::Geometry("a plane is too large to describe"))?;
        let target = destination
            .get_mut(start..)
            .ok_or(MediaError::Geometry("no room for a plane"))?;
        for (index, target) in target
            .chunks_mut(plane.stride as usize)
            .take(rows as usize)
            .enumerate()
        {
            let target = target
                .get_mut(..row)
                .ok_or(MediaError::Geometry("no room for a row"))?;
            // SAFETY: a frame of this format and size has `rows` rows of at least `row` bytes,
            // `stride` apart (libavutil/frame.h), and row `index` is one of them. They are not being
            // written: private frames are ours, a decoder's are read while it cannot draw. Source and
            // target do not overlap: the target is a `&mut [u8]`, and nobody has such a reference
            // into a decoder's buffer (contract of SlotBuffer::new).
            unsafe {
                let source = source.offset(stride * index as isize);
                std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), row);
            }
        }
    }
    Ok(())
}
