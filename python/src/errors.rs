//! Which Python exception says what. The classes are those of `camring._errors`.

use camring_ring::attach::AttachError;
use camring_ring::{FormatError, RingError};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// An exception to raise, made without the interpreter.
#[derive(Debug)]
pub(crate) struct Failure {
    class: &'static str,
    text: String,
}

impl Failure {
    pub(crate) fn new(class: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { class, text }
    }

    pub(crate) fn closed() -> Self {
        Self::new("ClosedError", "this camera was closed: attach again")
    }

    pub(crate) fn option(text: impl Into<String>) -> Self {
        Self::new("OptionError", text)
    }

    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        let class = py.import("camring._errors")?.getattr(self.class)?;
        Ok(PyErr::from_type(class.cast_into::<PyType>()?, (self.text,)))
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.raise(py).unwrap_or_else(|error| error))
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let class = match &error {
            AttachError::NoDaemon { .. } => "NotRunning",
            AttachError::Disconnected => "Disconnected",
            AttachError::PermissionDenied { .. } => "PermissionDenied",
            AttachError::Version { .. } => "VersionMismatch",
            AttachError::UnknownCamera { .. } => "NoSuchCamera",
            AttachError::NotReady { .. } => "NotReady",
            AttachError::Refused { .. } => "Refused",
            AttachError::TimedOut { .. } => "Timeout",
            AttachError::Options { .. } => "OptionError",
            AttachError::Ring(ring) => of_ring(ring),
            _ => "Error",
        };
        Self::new(class, error.to_string())
    }
}

impl From<RingError> for Failure {
    fn from(error: RingError) -> Self {
        AttachError::from(error).into()
    }
}

fn of_ring(error: &RingError) -> &'static str {
    match error {
        RingError::Format(FormatError::Version { .. } | FormatError::Features { .. }) => {
            "VersionMismatch"
        }
        RingError::Removed { .. } => "NoSuchCamera",
        RingError::PinQuota { .. } => "HeldTooMany",
        RingError::Disconnected => "Disconnected",
        _ => "Error",
    }
}
