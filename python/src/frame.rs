//! A frame as Python sees it, and one of its planes.
//!
//! Promises: numbers stay readable for ever; pixels only until the frame is released, then they
//! raise; buffers made before that keep the pixels.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::Arc;

use camring_ring::{FrameDescriptor, FrameFlags, PixelFormat, RingChange};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::buffer::{self, Target};
use crate::convert::{self, Order};
use crate::dlpack;
use crate::errors::Failure;
use crate::held::{Export, Grip, Held};
use crate::view::View;

/// One frame of a camera, in place in shared memory.
#[pyclass(frozen, weakref, module = "camring")]
pub(crate) struct Frame {
    grip: Arc<Grip>,
    camera: Py<PyString>,
    d: FrameDescriptor,
    missed: u64,
    hidden: u64,
    change: Option<RingChange>,
}

impl Frame {
    pub(crate) fn new(camera: Py<PyString>, grip: Arc<Grip>, frame: &camring_ring::Frame) -> Self {
        Self {
            grip,
            camera,
            d: *frame.descriptor(),
            missed: frame.missed(),
            hidden: frame.hidden(),
            change: frame.change(),
        }
    }

    fn has(&self, flag: FrameFlags) -> bool {
        self.d.flags.contains(flag)
    }

    fn held(&self) -> Result<Arc<Held>, Failure> {
        self.grip.held().ok_or_else(|| {
            Failure::new(
                "ReleasedError",
                format!(
                    "frame {} was released: a camera releases the frame it gave out when it is \
                     asked for the next one, or is closed; call frame.hold() to keep it, or copy \
                     what you need (frame.y.copy())",
                    self.d.sequence
                ),
            )
        })
    }

    fn plane(&self, index: usize) -> Result<Plane, Failure> {
        let held = self.held()?;
        let view = View::plane(held.frame()?, index)?;
        Ok(Plane { held, view })
    }

    fn plane_array<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        as_array(py, self.plane(index)?)
    }

    /// A plane by name, of formats that have it by itself.
    fn named<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let format = self.d.pixel_format;
        match (format, name) {
            (PixelFormat::Rgb24 | PixelFormat::Bgr24, _) => {}
            (_, "y") => return self.plane_array(py, 0),
            (PixelFormat::Gray8, _) => {}
            (PixelFormat::Nv12, _) => {
                let channel = usize::from(name == "v");
                let all = pyo3::types::PySlice::full(py);
                return self.plane_array(py, 1)?.get_item((&all, &all, channel));
            }
            (_, "u") => return self.plane_array(py, 1),
            _ => return self.plane_array(py, 2),
        }
        self.held()?;
        Err(Failure::new(
            "WrongFormat",
            format!("{format} frames have no {name} plane: use frame.array"),
        )
        .into())
    }

    fn convert<'py>(
        &self,
        py: Python<'py>,
        order: Order,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let held = self.held()?;
        let frame = held.frame()?;
        let array = match out {
            Some(array) => array,
            None => empty(py, self.d.height, self.d.width)?,
        };
        let mut target = Target::new(&array, self.d.width, self.d.height)?;
        let stride = target.stride();
        let bytes = target.bytes();
        py.detach(|| convert::convert(frame, order, bytes, stride))?;
        Ok(array)
    }
}

/// NumPy's view of something with a buffer.
fn as_array(py: Python<'_>, plane: Plane) -> PyResult<Bound<'_, PyAny>> {
    static ASARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let asarray = ASARRAY.import(py, "numpy", "asarray")?;
    asarray.call1((Bound::new(py, plane)?,))
}

fn empty(py: Python<'_>, height: u32, width: u32) -> PyResult<Bound<'_, PyAny>> {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static UINT8: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let empty = EMPTY.import(py, "numpy", "empty")?;
    let uint8 = UINT8.import(py, "numpy", "uint8")?;
    empty.call1(((height, width, 3), uint8))
}

#[pymethods]
impl Frame {
    /// Name the camera was attached by.
    #[getter]
    fn camera(&self) -> &Py<PyString> {
        &self.camera
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.d.sequence
    }

    #[getter]
    fn generation(&self) -> u32 {
        self.d.generation
    }

    #[getter]
    fn access_unit(&self) -> u64 {
        self.d.access_unit
    }

    #[getter]
    fn pts(&self) -> i64 {
        self.d.pts
    }

    #[getter]
    fn time_base<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static FRACTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = FRACTION.import(py, "fractions", "Fraction")?;
        class.call1((self.d.time_base_num, self.d.time_base_den))
    }

    #[getter]
    fn time_ns(&self) -> i64 {
        self.d.capture_time_ns
    }

    #[getter]
    fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CONVERT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let convert = CONVERT.import(py, "camring._time", "from_ns")?;
        convert.call1((self.d.capture_time_ns,))
    }

    #[getter]
    fn time_source(&self) -> &'static str {
        if self.has(FrameFlags::CAPTURE_TIME_FROM_SENDER_REPORT) {
            "sender-report"
        } else {
            "arrival"
        }
    }

    #[getter]
    fn arrival_ns(&self) -> u64 {
        self.d.arrival_ns
    }

    #[getter]
    fn publish_ns(&self) -> u64 {
        self.d.publish_ns
    }

    #[getter]
    fn width(&self) -> u32 {
        self.d.width
    }

    #[getter]
    fn height(&self) -> u32 {
        self.d.height
    }

    #[getter]
    fn format(&self) -> &'static str {
        self.d.pixel_format.name()
    }

    #[getter]
    fn color_range(&self) -> &'static str {
        self.d.color_range.name()
    }

    #[getter]
    fn matrix(&self) -> u8 {
        self.d.matrix
    }

    #[getter]
    fn rotation(&self) -> u16 {
        self.d.rotation
    }

    #[getter]
    fn key_frame(&self) -> bool {
        self.has(FrameFlags::KEY_FRAME)
    }

    #[getter]
    fn discontinuity(&self) -> bool {
        self.has(FrameFlags::DISCONTINUITY)
    }

    #[getter]
    fn corrupt(&self) -> bool {
        self.has(FrameFlags::CORRUPT)
    }

    #[getter]
    fn missed(&self) -> u64 {
        self.missed
    }

    #[getter]
    fn hidden(&self) -> u64 {
        self.hidden
    }

    #[getter]
    fn change(&self) -> Option<&'static str> {
        self.change.map(|change| match change {
            RingChange::WriterRestarted => "writer-restarted",
            RingChange::Replaced => "replaced",
            RingChange::Reconnected => "reconnected",
            _ => "changed",
        })
    }

    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let planes = &self.d.planes[..self.d.pixel_format.planes()];
        PyTuple::new(py, planes.iter().map(|plane| plane.stride))
    }

    #[getter]
    fn planes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let planes = (0..self.d.pixel_format.planes()).map(|index| self.plane(index));
        PyTuple::new(py, planes.collect::<Result<Vec<_>, _>>()?)
    }

    #[getter]
    fn y<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.named(py, "y")
    }

    #[getter]
    fn u<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.named(py, "u")
    }

    #[getter]
    fn v<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.named(py, "v")
    }

    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let held = self.held()?;
        View::packed(held.frame()?)?;
        self.plane_array(py, 0)
    }

    #[pyo3(signature = (*, out = None))]
    fn to_rgb<'py>(
        &self,
        py: Python<'py>,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.convert(py, Order::Rgb, out)
    }

    #[pyo3(signature = (*, out = None))]
    fn to_bgr<'py>(
        &self,
        py: Python<'py>,
        out: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.convert(py, Order::Bgr, out)
    }

    fn hold(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let frame = slf.get();
        frame.grip.keep();
        // Said here, not at the first access to pixels long after.
        frame.held()?;
        Ok(slf)
    }

    fn release(&self) {
        self.grip.release();
    }

    #[getter]
    fn released(&self) -> bool {
        self.grip.held().is_none()
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::hold(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.release();
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut array = self.array(py)?;
        let changed = match dtype {
            Some(dtype) if !array.getattr(intern!(py, "dtype"))?.eq(&dtype)? => {
                if copy == Some(false) {
                    return Err(pyo3::exceptions::PyValueError::new_err(
                        "another dtype takes a copy",
                    ));
                }
                array = array.call_method1(intern!(py, "astype"), (dtype,))?;
                true
            }
            _ => false,
        };
        if copy == Some(true) && !changed {
            array = array.call_method0(intern!(py, "copy"))?;
        }
        Ok(array)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let held = slf.get().held()?;
        let packed = View::packed(held.frame()?)
            .map_err(|failure| PyBufferError::new_err(PyErr::from(failure).to_string()))?;
        // SAFETY: as this function's.
        unsafe { buffer::export(slf.into_any(), Export::new(&held), packed, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: as this function's.
        unsafe { buffer::release(view) }
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let held = self.held()?;
        let view = View::packed(held.frame()?)
            .map_err(|failure| PyBufferError::new_err(PyErr::from(failure).to_string()))?;
        check_dlpack(stream.as_ref(), dl_device)?;
        if copy == Some(true) {
            return copied(py, self.array(py)?, max_version);
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        dlpack::capsule(py, Export::new(&held), &view, versioned)
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (dlpack::CPU, 0)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a frame cannot be pickled or copied, it lies in shared memory: send \
             frame.to_bgr() or frame.y.copy() with frame.sequence, frame.pts and frame.time_ns, or \
             attach in the other process",
        ))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let released = if self.released() { ", released" } else { "" };
        format!(
            "<camring.Frame {} of {}, {}x{} {}{released}>",
            self.d.sequence,
            self.camera.bind(py),
            self.d.width,
            self.d.height,
            self.d.pixel_format,
        )
    }
}

/// One plane of a frame: a read-only buffer that keeps the frame.
#[pyclass(frozen, weakref, module = "camring")]
pub(crate) struct Plane {
    held: Arc<Held>,
    view: View,
}

#[pymethods]
impl Plane {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.view.shape[..self.view.dimensions])
    }

    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.view.strides[..self.view.dimensions])
    }

    #[getter]
    fn itemsize(&self) -> usize {
        self.view.item
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let plane = slf.get();
        let (export, part) = (Export::new(&plane.held), plane.view);
        // SAFETY: as this function's.
        unsafe { buffer::export(slf.into_any(), export, part, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: as this function's.
        unsafe { buffer::release(view) }
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        slf: Bound<'py, Self>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        check_dlpack(stream.as_ref(), dl_device)?;
        if copy == Some(true) {
            let array = py.import("numpy")?.call_method1("asarray", (slf,))?;
            return copied(py, array, max_version);
        }
        let plane = slf.get();
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        let export = Export::new(&plane.held);
        dlpack::capsule(py, export, &plane.view, versioned)
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (dlpack::CPU, 0)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a plane cannot be pickled or copied, it lies in shared memory: copy it with \
             numpy.array(plane)",
        ))
    }

    fn __repr__(&self) -> String {
        let shape = &self.view.shape[..self.view.dimensions];
        format!("<camring.Plane {shape:?}>")
    }
}

fn check_dlpack(stream: Option<&Bound<'_, PyAny>>, device: Option<(i32, i32)>) -> PyResult<()> {
    if stream.is_some() {
        return Err(PyBufferError::new_err(
            "frames lie in main memory: stream must be None",
        ));
    }
    if device.is_some_and(|device| device != (dlpack::CPU, 0)) {
        return Err(PyBufferError::new_err(
            "frames lie in main memory: only the CPU device is possible",
        ));
    }
    Ok(())
}

/// A tensor of a copy, which may be written to.
fn copied<'py>(
    py: Python<'py>,
    array: Bound<'py, PyAny>,
    max_version: Option<(u32, u32)>,
) -> PyResult<Bound<'py, PyAny>> {
    let copy = array.call_method0(intern!(py, "copy"))?;
    let dict = pyo3::types::PyDict::new(py);
    if let Some(version) = max_version
        && version.0 >= 1
        && numpy_is_versioned(&copy)
    {
        dict.set_item("max_version", version)?;
    }
    copy.call_method(intern!(py, "__dlpack__"), (), Some(&dict))
}

/// NumPy 2.1 and later know `max_version`.
fn numpy_is_versioned(array: &Bound<'_, PyAny>) -> bool {
    let py = array.py();
    let version = || -> PyResult<String> { py.import("numpy")?.getattr("__version__")?.extract() };
    version().is_ok_and(|version| {
        let mut parts = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 1)
    })
}

/// So that `isinstance` and annotations work; frames come from cameras only.
pub(crate) fn types(py: Python<'_>) -> [Bound<'_, PyType>; 2] {
    [py.get_type::<Frame>(), py.get_type::<Plane>()]
}
