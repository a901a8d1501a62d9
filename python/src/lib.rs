//! The extension module of the Python package `camring`: cameras attached to, and their frames.
//!
//! `camring/*.py` is what users see; this holds what touches shared memory. Modules: [`receiver`]
//! cameras and waiting · [`frame`] a frame and its planes · [`held`] who keeps a pin · [`view`]
//! where a plane lies · [`buffer`], [`dlpack`] how it gets to others without a copy · [`convert`]
//! RGB and BGR · [`errors`] exceptions.
//!
//! Promises: pixels are never writable and never of a frame that is no longer pinned; the GIL is
//! not held while waiting or converting. Must never: depend on more of camring than the ring crate.
#![deny(unsafe_code)]

mod buffer;
mod convert;
mod dlpack;
mod errors;
mod frame;
mod held;
mod receiver;
mod view;

use pyo3::prelude::*;

#[pymodule]
fn _camring(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    for class in frame::types(py) {
        module.add(class.name()?, class)?;
    }
    module.add_class::<receiver::Receiver>()?;
    module.add_function(wrap_pyfunction!(receiver::status_json, module)?)?;
    module.add_function(wrap_pyfunction!(receiver::end_waits, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
