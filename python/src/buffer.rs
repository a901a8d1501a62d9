//! Python's buffer protocol: frames as read-only buffers, and a caller's array as a target.
//!
//! Promises: a buffer keeps its frame pinned until it is released; nothing writable is handed out.
//! `unsafe`, because the protocol is a C structure of pointers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::held::Export;
use crate::view::{DIMENSIONS, View};

/// What a buffer that was handed out points to.
struct Exported {
    shape: [isize; DIMENSIONS],
    strides: [isize; DIMENSIONS],
    /// Dropped with the buffer: that is what pins.
    _export: Export,
}

/// Fills `target` with a view of the frame that `export` keeps.
///
/// # Safety
///
/// `target` is null, or a `Py_buffer` to be filled in, as in `__getbuffer__`; what is filled in is
/// given to [`release`] once.
pub(crate) unsafe fn export(
    owner: Bound<'_, PyAny>,
    export: Export,
    view: View,
    target: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    if target.is_null() {
        return Err(PyBufferError::new_err("no buffer to fill"));
    }
    // SAFETY: not null, and the caller's. CPython wants it cleared on failure.
    unsafe { (*target).obj = ptr::null_mut() };
    let wants = |flag: c_int| flags & flag == flag;
    if wants(ffi::PyBUF_WRITABLE) {
        return Err(PyBufferError::new_err(
            "frames are read-only: copy what is to be changed",
        ));
    }
    let contiguous = view.is_contiguous();
    let needs_c = wants(ffi::PyBUF_C_CONTIGUOUS) || wants(ffi::PyBUF_ANY_CONTIGUOUS);
    if !contiguous && (needs_c || !wants(ffi::PyBUF_STRIDES)) || wants(ffi::PyBUF_F_CONTIGUOUS) {
        return Err(PyBufferError::new_err(
            "the rows of this frame are padded: ask for strides, or copy it",
        ));
    }
    let held = export.held().clone();
    let data = held.frame()?.data();
    // `View` has checked that it lies inside.
    let Some(data) = data.get(view.offset..) else {
        return Err(PyBufferError::new_err("the frame is too short"));
    };
    let exported = Box::new(Exported {
        shape: view.shape,
        strides: view.strides,
        _export: export,
    });
    let format: &'static std::ffi::CStr = if view.item == 2 { c"H" } else { c"B" };
    let exported = Box::into_raw(exported);
    // SAFETY: `target` is the caller's to be filled in. `exported` was just made, and lives until
    // `release` takes it back from `internal`; it holds the pin, so `data` neither moves nor
    // changes until then. CPython does not write through `format` and `buf`: readonly is set.
    unsafe {
        (*target).buf = data.as_ptr().cast_mut().cast::<c_void>();
        (*target).obj = owner.into_ptr();
        (*target).len = view.bytes();
        (*target).itemsize = view.item as isize;
        (*target).readonly = 1;
        (*target).ndim = view.dimensions as c_int;
        (*target).format = if wants(ffi::PyBUF_FORMAT) {
            format.as_ptr().cast_mut()
        } else {
            ptr::null_mut()
        };
        (*target).shape = if wants(ffi::PyBUF_ND) {
            (&raw mut (*exported).shape).cast()
        } else {
            ptr::null_mut()
        };
        (*target).strides = if wants(ffi::PyBUF_STRIDES) {
            (&raw mut (*exported).strides).cast()
        } else {
            ptr::null_mut()
        };
        (*target).suboffsets = ptr::null_mut();
        (*target).internal = exported.cast::<c_void>();
    }
    Ok(())
}

/// Gives back what [`export`] has filled in.
///
/// # Safety
///
/// `target` was filled in by [`export`] and not released before, as in `__releasebuffer__`.
pub(crate) unsafe fn release(target: *mut ffi::Py_buffer) {
    // SAFETY: `internal` is the box that `export` has put there; CPython releases a buffer once.
    drop(unsafe { Box::from_raw((*target).internal.cast::<Exported>()) });
}

/// A caller's array that a picture is written to: height × width × 3 bytes.
pub(crate) struct Target {
    buffer: PyUntypedBuffer,
    /// Bytes from one row to the next.
    stride: usize,
    len: usize,
}

impl Target {
    pub(crate) fn new(array: &Bound<'_, PyAny>, width: u32, height: u32) -> PyResult<Self> {
        let wrong = |what: String| {
            Failure::option(format!(
                "out must be a writable uint8 array of shape ({height}, {width}, 3): {what}"
            ))
        };
        let buffer = PyUntypedBuffer::get(array).map_err(|e| wrong(e.to_string()))?;
        let (height, width) = (height as usize, width as usize);
        if buffer.readonly() {
            return Err(wrong("it is read-only".to_owned()).into());
        }
        if buffer.item_size() != 1 || !matches!(buffer.format().to_bytes(), b"B" | b"<B" | b"=B") {
            return Err(wrong("its elements are no uint8".to_owned()).into());
        }
        if buffer.shape() != [height, width, 3] {
            return Err(wrong(format!("its shape is {:?}", buffer.shape())).into());
        }
        let [row, 3, 1] = *buffer.strides() else {
            return Err(wrong(format!("its strides are {:?}", buffer.strides())).into());
        };
        let stride = usize::try_from(row).unwrap_or(0);
        if stride < width * 3 || buffer.suboffsets().is_some() {
            return Err(wrong(format!("its strides are {:?}", buffer.strides())).into());
        }
        Ok(Self {
            buffer,
            stride,
            len: stride * (height - 1) + width * 3,
        })
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The bytes from the first to the last pixel.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the exporter promises that `buf` is the first of shape × strides elements, which
        // were checked to span `len` bytes going up, and that they stay while the buffer is held.
        // It is exclusively ours as far as this module goes: `&mut self`. That another thread
        // writes into the same array meanwhile is the caller's mistake, documented, as it is with
        // every NumPy function that runs without the GIL.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.buf_ptr().cast::<u8>(), self.len) }
    }
}
