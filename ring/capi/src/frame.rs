//! Frames that are held: what is to be known about one, and giving it back.
//!
//! Promises: the memory that a [`camring_plane`] points to stays mapped and unchanged until the
//! frame's release, whatever happens to its receiver or to the daemon.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::sync::Arc;

use camring_ring::{Frame, FrameFlags, PixelFormat, RingChange};

use crate::error::{CAMRING_OK, call, camring_code};
use crate::handle::Table;
use crate::memory::{Plain, take_handle, write_struct};

/// A frame that is held. Its pixels stay as they are until camring_frame_release(). Not an
/// address: a number that the library looks up. Any thread may use and release it.
#[derive(Debug)]
pub struct camring_frame(());

/// How the bytes of a frame are to be read. Samples of more than 8 bits are 16-bit little endian.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // Names for C: the numbers in a frame are the ring's own.
pub enum camring_format {
    /// Planes Y, U, V; U and V half as wide and half as high.
    CAMRING_FORMAT_I420 = 1,
    /// Planes Y, U, V; U and V half as wide.
    CAMRING_FORMAT_I422 = 2,
    /// Planes Y, U, V of one size.
    CAMRING_FORMAT_I444 = 3,
    /// Planes Y and UV in turn, half as wide and half as high.
    CAMRING_FORMAT_NV12 = 4,
    /// One plane Y.
    CAMRING_FORMAT_GRAY8 = 5,
    /// As I420 with 10 bits.
    CAMRING_FORMAT_I420P10 = 6,
    /// As I422 with 10 bits.
    CAMRING_FORMAT_I422P10 = 7,
    /// As I444 with 10 bits.
    CAMRING_FORMAT_I444P10 = 8,
    /// One plane R, G, B.
    CAMRING_FORMAT_RGB24 = 16,
    /// One plane B, G, R.
    CAMRING_FORMAT_BGR24 = 17,
}

/// Bits of camring_frame_info.flags.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // Names for C: the numbers in a frame are the ring's own.
pub enum camring_flag {
    /// Decoded from a key frame.
    CAMRING_FLAG_KEY_FRAME = 1,
    /// Media time or content does not continue the frame before.
    CAMRING_FLAG_DISCONTINUITY = 2,
    /// Damaged, or predicted from something damaged.
    CAMRING_FLAG_CORRUPT = 4,
    /// Decoded privately and copied into the ring.
    CAMRING_FLAG_COPIED = 16,
}

/// Where a capture time comes from.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum camring_time_source {
    /// From when the frame's data arrived: late by the camera's and the network's delay.
    CAMRING_TIME_ARRIVAL = 0,
    /// From the camera's clock, by its RTCP sender reports.
    CAMRING_TIME_SENDER_REPORT = 1,
}

/// What happened between a frame and the one given out before it.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum camring_change {
    /// Nothing.
    CAMRING_CHANGE_NONE = 0,
    /// The process that reads the camera was restarted; sequence numbers went on.
    CAMRING_CHANGE_WRITER_RESTARTED = 1,
    /// The ring was replaced, usually because pictures have another size now.
    CAMRING_CHANGE_REPLACED = 2,
    /// The daemon was restarted; sequence numbers begin anew, and what was missed is not known.
    CAMRING_CHANGE_RECONNECTED = 3,
    /// Something that this version has no name for.
    CAMRING_CHANGE_OTHER = 4,
}

/// Range of the samples.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // Names for C: the numbers in a frame are the ring's own.
pub enum camring_range {
    /// Not said.
    CAMRING_RANGE_UNKNOWN = 0,
    /// Luma from 16 to 235.
    CAMRING_RANGE_LIMITED = 1,
    /// All values.
    CAMRING_RANGE_FULL = 2,
}

/// One plane of a frame, in place. Read only: writing to it is a fault.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct camring_plane {
    /// First byte of the first row.
    pub data: *const u8,
    /// Bytes from there to the end of the last row.
    pub size: usize,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Bytes of a row that are picture.
    pub row_bytes: u32,
    /// Rows.
    pub rows: u32,
    /// 0.
    pub reserved: u32,
}

/// Everything about a frame. Pointers in it are valid until the frame is released.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct camring_frame_info {
    /// Rises by one with each frame of a camera, across restarts of its reader too. With pts and
    /// capture time this is what names a frame everywhere in camring.
    pub sequence: u64,
    /// Frames published after the one given out before, and not given out.
    pub missed: u64,
    /// Damaged frames between the one given out before and this.
    pub hidden: u64,
    /// Sequence number of its access unit in the packet ring.
    pub access_unit: u64,
    /// Presentation time, in units of time_base_num / time_base_den seconds.
    pub pts: i64,
    /// UTC in ns since 1970-01-01; see capture_time_source.
    pub capture_time_ns: i64,
    /// When its data had arrived, CLOCK_MONOTONIC in ns.
    pub arrival_ns: u64,
    /// When it was published, CLOCK_MONOTONIC in ns.
    pub publish_ns: u64,
    /// Name of its camera, as attached to.
    pub camera_name: *const c_char,
    /// Index of its camera in the receiver.
    pub camera: u32,
    /// Which writer of the ring.
    pub generation: u32,
    /// A camring_change.
    pub change: u32,
    /// Numerator of the time base.
    pub time_base_num: u32,
    /// Denominator of the time base, not 0.
    pub time_base_den: u32,
    /// A camring_time_source.
    pub capture_time_source: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// A camring_format. Be ready for one that you do not know.
    pub format: u32,
    /// Bits of camring_flag.
    pub flags: u32,
    /// A camring_range.
    pub color_range: u32,
    /// MatrixCoefficients of ITU-T H.273; 2: not said.
    pub matrix: u32,
    /// Degrees clockwise to turn the picture for display: 0, 90, 180 or 270.
    pub rotation: u32,
    /// How many planes there are.
    pub plane_count: u32,
    /// The planes; those from plane_count on are zero.
    pub planes: [camring_plane; 4],
}

// SAFETY: repr(C); pointers and integers, ordered so that there is no padding (9 words of 8 bytes,
// 14 of 4, then planes of 32 bytes), which the assertions hold.
unsafe impl Plain for camring_frame_info {
    const NAME: &'static str = "camring_frame_info";
}
const _: () = assert!(size_of::<camring_plane>() == 32);
const _: () = assert!(size_of::<camring_frame_info>() == 9 * 8 + 14 * 4 + 4 * 32);

/// A frame and what its receiver knew about it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frame: Frame,
    pub(crate) camera: usize,
    pub(crate) names: Arc<[CString]>,
}

pub(crate) static FRAMES: Table<Held> = Table::new(2, "frame");

fn info(held: &Held) -> camring_frame_info {
    let frame = &held.frame;
    let d = frame.descriptor();
    let mut planes = [camring_plane {
        data: std::ptr::null(),
        size: 0,
        stride: 0,
        row_bytes: 0,
        rows: 0,
        reserved: 0,
    }; 4];
    let plane_count = frame.planes().min(planes.len());
    for (index, plane) in planes.iter_mut().enumerate().take(plane_count) {
        let bytes = frame.plane(index);
        let (row_bytes, rows) = d
            .pixel_format
            .plane_size(index, d.width, d.height)
            .unwrap_or((0, 0));
        *plane = camring_plane {
            data: bytes.as_ptr(),
            size: bytes.len(),
            stride: frame.plane_stride(index),
            row_bytes,
            rows,
            reserved: 0,
        };
    }
    let by_camera = FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT;
    let change = match frame.change() {
        None => camring_change::CAMRING_CHANGE_NONE,
        Some(RingChange::WriterRestarted) => camring_change::CAMRING_CHANGE_WRITER_RESTARTED,
        Some(RingChange::Replaced) => camring_change::CAMRING_CHANGE_REPLACED,
        Some(RingChange::Reconnected) => camring_change::CAMRING_CHANGE_RECONNECTED,
        Some(_) => camring_change::CAMRING_CHANGE_OTHER,
    };
    let source = if d.flags.contains(by_camera) {
        camring_time_source::CAMRING_TIME_SENDER_REPORT
    } else {
        camring_time_source::CAMRING_TIME_ARRIVAL
    };
    camring_frame_info {
        sequence: d.sequence,
        missed: frame.missed(),
        hidden: frame.hidden(),
        access_unit: d.access_unit,
        pts: d.pts,
        capture_time_ns: d.capture_time_ns,
        arrival_ns: d.arrival_ns,
        publish_ns: d.publish_ns,
        camera_name: held
            .names
            .get(held.camera)
            .map_or(c"".as_ptr(), |name| name.as_ptr()),
        camera: held.camera as u32,
        generation: d.generation,
        change: change as u32,
        time_base_num: d.time_base_num,
        time_base_den: d.time_base_den,
        capture_time_source: source as u32,
        width: d.width,
        height: d.height,
        format: d.pixel_format as u32,
        flags: d.flags.0 & !by_camera.0,
        color_range: d.color_range as u32,
        matrix: d.matrix.into(),
        rotation: d.rotation.into(),
        plane_count: plane_count as u32,
        planes,
    }
}

/// Describes a frame. `size` is sizeof(camring_frame_info).
///
/// # Safety
/// `info` is NULL or `size` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_frame_get_info(
    frame: *const camring_frame,
    info: *mut camring_frame_info,
    size: usize,
) -> camring_code {
    call(|| {
        let held = FRAMES.get(frame)?;
        // SAFETY: the caller's word.
        unsafe { write_struct(info, size, self::info(&held))? };
        Ok(CAMRING_OK)
    })
}

/// Gives a frame back and sets the variable to NULL. Nothing happens when it is NULL already;
/// a copy of a handle that was released before is CAMRING_E_HANDLE.
///
/// # Safety
/// `frame` is NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_frame_release(frame: *mut *mut camring_frame) -> camring_code {
    call(|| {
        // SAFETY: the caller's word.
        if let Some(frame) = unsafe { take_handle(frame, "frame")? } {
            FRAMES.remove(frame)?;
        }
        Ok(CAMRING_OK)
    })
}

/// The name of a camring_format: "i420", "rgb24" …; "unknown" for any other number. Valid for
/// ever. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn camring_format_name(format: u32) -> *const c_char {
    use std::sync::OnceLock;
    static NAMES: OnceLock<Vec<(u32, CString)>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let all = PixelFormat::ALL.iter();
        all.map(|format| (*format as u32, crate::error::c_string(format.name())))
            .collect()
    });
    let found = names.iter().find(|(number, _)| *number == format);
    found.map_or(c"unknown".as_ptr(), |(_, name)| name.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn numbers_are_those_of_the_ring() {
        use camring_format::*;
        let formats = [
            CAMRING_FORMAT_I420,
            CAMRING_FORMAT_I422,
            CAMRING_FORMAT_I444,
            CAMRING_FORMAT_NV12,
            CAMRING_FORMAT_GRAY8,
            CAMRING_FORMAT_I420P10,
            CAMRING_FORMAT_I422P10,
            CAMRING_FORMAT_I444P10,
            CAMRING_FORMAT_RGB24,
            CAMRING_FORMAT_BGR24,
        ];
        assert_eq!(
            formats.map(|f| f as u32),
            PixelFormat::ALL.map(|f| f as u32)
        );
        for (ours, theirs) in formats.iter().zip(PixelFormat::ALL) {
            let name = format!("{ours:?}").to_lowercase();
            assert_eq!(name, format!("camring_format_{}", theirs.name()));
        }
        use camring_flag::*;
        let flags = [
            (CAMRING_FLAG_KEY_FRAME, FrameFlags::KEY_FRAME),
            (CAMRING_FLAG_DISCONTINUITY, FrameFlags::DISCONTINUITY),
            (CAMRING_FLAG_CORRUPT, FrameFlags::CORRUPT),
            (CAMRING_FLAG_COPIED, FrameFlags::COPIED),
        ];
        for (ours, theirs) in flags {
            assert_eq!(ours as u32, theirs.0);
        }
        use camring_ring::ColorRange;
        assert_eq!(
            camring_range::CAMRING_RANGE_UNKNOWN as u32,
            ColorRange::Unknown as u32
        );
        assert_eq!(
            camring_range::CAMRING_RANGE_LIMITED as u32,
            ColorRange::Limited as u32
        );
        assert_eq!(
            camring_range::CAMRING_RANGE_FULL as u32,
            ColorRange::Full as u32
        );
    }

    #[test]
    fn every_format_has_a_name() {
        let name = |format| {
            // SAFETY: valid for ever.
            unsafe { CStr::from_ptr(camring_format_name(format)) }
                .to_str()
                .unwrap()
        };
        assert_eq!((name(1), name(17), name(99)), ("i420", "bgr24", "unknown"));
    }
}
