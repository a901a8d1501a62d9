//! DLPack: a frame as a tensor for torch, JAX, CuPy and the like, without a copy.
//!
//! The structures are those of `dlpack.h` 1.0 (github.com/dmlc/dlpack). Promises: the tensor keeps
//! its frame pinned until its deleter has run, whoever calls that, with or without the GIL.
//! `unsafe`, because the protocol is a C structure of pointers in a capsule.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::held::Export;
use crate::view::{DIMENSIONS, View};

/// `kDLCPU`.
pub(crate) const CPU: i32 = 1;
/// `kDLUInt`.
const UINT: u8 = 1;
/// `DLPACK_FLAG_BITMASK_READ_ONLY`.
const READ_ONLY: u64 = 1;

const NAME: &CStr = c"dltensor";
const NAME_VERSIONED: &CStr = c"dltensor_versioned";

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`, and behind it what it points to.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    kept: Kept,
}

/// `DLManagedTensorVersioned`, and behind it what it points to.
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: Tensor,
    kept: Kept,
}

struct Kept {
    shape: [i64; DIMENSIONS],
    strides: [i64; DIMENSIONS],
    _export: Export,
}

impl Kept {
    fn new(export: Export, view: &View) -> Self {
        Self {
            shape: view.shape.map(|n| n as i64),
            // DLPack counts elements.
            strides: view.strides.map(|n| n as i64 / view.item as i64),
            _export: export,
        }
    }
}

fn tensor(data: *const u8, view: &View) -> Tensor {
    Tensor {
        data: data.cast_mut().cast::<c_void>(),
        device_type: CPU,
        device_id: 0,
        ndim: view.dimensions as i32,
        code: UINT,
        bits: 8 * view.item as u8,
        lanes: 1,
        shape: ptr::null_mut(),
        strides: ptr::null_mut(),
        byte_offset: 0,
    }
}

/// A capsule with a tensor of `view`. `versioned`: the consumer knows DLPack 1.0 and its read-only
/// flag; without, it gets a tensor that it must not write to, as the map is read-only.
pub(crate) fn capsule<'py>(
    py: Python<'py>,
    export: Export,
    view: &View,
    versioned: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let held = export.held().clone();
    let data = held.frame()?.data();
    let Some(data) = data.get(view.offset..) else {
        return Err(PyBufferError::new_err("the frame is too short"));
    };
    let tensor = tensor(data.as_ptr(), view);
    let kept = Kept::new(export, view);
    let (pointer, name) = if versioned {
        let raw = Box::into_raw(Box::new(Versioned {
            major: 1,
            minor: 0,
            context: ptr::null_mut(),
            deleter: Some(delete::<Versioned>),
            flags: READ_ONLY,
            tensor,
            kept,
        }));
        // SAFETY: just made; it points into itself, and boxes do not move.
        unsafe {
            (*raw).tensor.shape = (&raw mut (*raw).kept.shape).cast();
            (*raw).tensor.strides = (&raw mut (*raw).kept.strides).cast();
        }
        (raw.cast::<c_void>(), NAME_VERSIONED)
    } else {
        let raw = Box::into_raw(Box::new(Managed {
            tensor,
            context: ptr::null_mut(),
            deleter: Some(delete::<Managed>),
            kept,
        }));
        // SAFETY: as above.
        unsafe {
            (*raw).tensor.shape = (&raw mut (*raw).kept.shape).cast();
            (*raw).tensor.strides = (&raw mut (*raw).kept.strides).cast();
        }
        (raw.cast::<c_void>(), NAME)
    };
    // SAFETY: a pointer that is not null and a name that lives for ever; the destructor is for
    // exactly these two names.
    let capsule = unsafe { ffi::PyCapsule_New(pointer, name.as_ptr(), Some(destroy)) };
    if capsule.is_null() {
        // SAFETY: nobody else has it.
        unsafe {
            if versioned {
                delete(pointer.cast::<Versioned>());
            } else {
                delete(pointer.cast::<Managed>());
            }
        }
    }
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// # Safety
///
/// `managed` comes from `Box::into_raw`, and this is called once: by the consumer, or by `destroy`.
unsafe extern "C" fn delete<T>(managed: *mut T) {
    if !managed.is_null() {
        // SAFETY: by this function's contract.
        drop(unsafe { Box::from_raw(managed) });
    }
}

/// A capsule that goes: its tensor goes with it, unless a consumer has taken it, and renamed the
/// capsule to say so.
///
/// # Safety
///
/// `object` is a capsule of this module.
unsafe extern "C" fn destroy(object: *mut ffi::PyObject) {
    // SAFETY: the capsule holds what its name says, see `capsule`.
    unsafe {
        if ffi::PyCapsule_IsValid(object, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(object, NAME.as_ptr()).cast::<Managed>());
        } else if ffi::PyCapsule_IsValid(object, NAME_VERSIONED.as_ptr()) == 1 {
            let pointer = ffi::PyCapsule_GetPointer(object, NAME_VERSIONED.as_ptr());
            delete(pointer.cast::<Versioned>());
        }
    }
}
