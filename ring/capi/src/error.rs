//! Codes and messages of errors, and the boundary that no panic crosses.
//!
//! Promises: whatever fails says why, with the evidence, in the thread that asked.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use camring_ring::attach::wire::RefusalCode;
use camring_ring::{AttachError, FormatError, RingError};

/// What came of a call. Errors are negative; their message is camring_last_error().
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum camring_code {
    /// Done.
    CAMRING_OK = 0,
    /// No error: nothing came in the time given.
    CAMRING_TIMEOUT = 1,
    /// An argument is NULL or impossible.
    CAMRING_E_ARGUMENT = -1,
    /// Not a handle, or one that was given back already.
    CAMRING_E_HANDLE = -2,
    /// Nobody listens at the socket: the daemon is not running.
    CAMRING_E_NO_DAEMON = -3,
    /// This user may not connect; the message says which group may.
    CAMRING_E_PERMISSION = -4,
    /// Connecting failed otherwise.
    CAMRING_E_CONNECT = -5,
    /// Daemon and library are of versions that do not fit.
    CAMRING_E_VERSION = -6,
    /// No such camera; the message lists those there are.
    CAMRING_E_UNKNOWN_CAMERA = -7,
    /// The camera has no pictures yet; the message says why.
    CAMRING_E_NOT_READY = -8,
    /// A limit of the daemon's (pins, clients, memory); the message has the numbers.
    CAMRING_E_NO_ROOM = -9,
    /// The camera is disabled in the configuration.
    CAMRING_E_DISABLED = -10,
    /// The daemon does not answer.
    CAMRING_E_DAEMON_TIMEOUT = -11,
    /// The daemon is gone, and reconnecting was not asked for.
    CAMRING_E_DISCONNECTED = -12,
    /// The camera was removed from the configuration.
    CAMRING_E_REMOVED = -13,
    /// As many frames are held as there are pins: release one first.
    CAMRING_E_FRAMES_HELD = -14,
    /// A frame with an impossible description was skipped.
    CAMRING_E_BAD_FRAME = -15,
    /// The other side does not keep to the protocol.
    CAMRING_E_PROTOCOL = -16,
    /// What the daemon passed is no valid ring.
    CAMRING_E_FORMAT = -17,
    /// The system refused memory or a descriptor.
    CAMRING_E_SYSTEM = -18,
    /// The receiver was not attached with `pollable`.
    CAMRING_E_NOT_POLLABLE = -19,
    /// A fault in this library.
    CAMRING_E_INTERNAL = -20,
}

pub(crate) use camring_code::*;

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure {
    code: camring_code,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: camring_code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(CAMRING_E_ARGUMENT, text)
    }

    pub(crate) fn null(name: &str) -> Self {
        Self::argument(format!("{name} is NULL"))
    }

    /// An error that is kept by its owner.
    pub(crate) fn about(error: &AttachError) -> Self {
        Self::new(code_of(error), error.to_string())
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Self::about(&error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::new(
            CAMRING_E_SYSTEM,
            format!("cannot make a descriptor: {error}"),
        )
    }
}

fn code_of(error: &AttachError) -> camring_code {
    match error {
        AttachError::NoDaemon { .. } => CAMRING_E_NO_DAEMON,
        AttachError::PermissionDenied { .. } => CAMRING_E_PERMISSION,
        AttachError::Connect { .. } => CAMRING_E_CONNECT,
        AttachError::Version { .. } => CAMRING_E_VERSION,
        AttachError::UnknownCamera { .. } => CAMRING_E_UNKNOWN_CAMERA,
        AttachError::NotReady { .. } => CAMRING_E_NOT_READY,
        AttachError::TimedOut { .. } => CAMRING_E_DAEMON_TIMEOUT,
        AttachError::Disconnected => CAMRING_E_DISCONNECTED,
        AttachError::Protocol { .. } => CAMRING_E_PROTOCOL,
        AttachError::Io(_) => CAMRING_E_SYSTEM,
        AttachError::Options { .. } => CAMRING_E_ARGUMENT,
        AttachError::Ring(error) => code_of_ring(error),
        AttachError::Refused { code, .. } => match code {
            RefusalCode::PinsExhausted
            | RefusalCode::TooManyClients
            | RefusalCode::TooManyAttachments
            | RefusalCode::MemoryBudget => CAMRING_E_NO_ROOM,
            RefusalCode::Disabled => CAMRING_E_DISABLED,
            RefusalCode::Version => CAMRING_E_VERSION,
            RefusalCode::UnknownCamera => CAMRING_E_UNKNOWN_CAMERA,
            RefusalCode::NotReady => CAMRING_E_NOT_READY,
            _ => CAMRING_E_PROTOCOL,
        },
        _ => CAMRING_E_INTERNAL,
    }
}

fn code_of_ring(error: &RingError) -> camring_code {
    match error {
        RingError::Memory(_) | RingError::Wait(_) => CAMRING_E_SYSTEM,
        RingError::Format(FormatError::Version { .. } | FormatError::Features { .. }) => {
            CAMRING_E_VERSION
        }
        RingError::Format(_) => CAMRING_E_FORMAT,
        RingError::PinQuota { .. } => CAMRING_E_FRAMES_HELD,
        RingError::Disconnected => CAMRING_E_DISCONNECTED,
        RingError::Removed { .. } => CAMRING_E_REMOVED,
        RingError::BadFrame { .. } => CAMRING_E_BAD_FRAME,
        RingError::Reattach(error) => code_of(error),
        _ => CAMRING_E_INTERNAL,
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// A C string of any text: cut at a NUL, which no message has.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Remembers what failed for camring_last_error().
pub(crate) fn fail(failure: Failure) -> camring_code {
    let text = c_string(&failure.text);
    // A thread that is ending has nobody to tell.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
    failure.code
}

/// Runs a call. A panic, which would be a fault of this library's, ends here.
pub(crate) fn call(body: impl FnOnce() -> Result<camring_code, Failure>) -> camring_code {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => fail(failure),
        Err(_) => fail(Failure::new(
            CAMRING_E_INTERNAL,
            "a fault in libcamring, please report it; standard error says where",
        )),
    }
}

/// The message of the calling thread's last error, with the evidence and what to do about it.
/// Empty before the first. Valid until the thread's next call that fails. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn camring_last_error() -> *const c_char {
    const GONE: &CStr = c"";
    LAST.try_with(|last| match last.try_borrow() {
        Ok(last) => last.as_ptr(),
        Err(_) => GONE.as_ptr(),
    })
    .unwrap_or(GONE.as_ptr())
}

/// The name of a code without its prefix, say "E_NO_DAEMON"; "unknown" for any other number.
/// Valid for ever. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn camring_code_name(code: i32) -> *const c_char {
    let names: [(camring_code, &CStr); 22] = [
        (CAMRING_OK, c"OK"),
        (CAMRING_TIMEOUT, c"TIMEOUT"),
        (CAMRING_E_ARGUMENT, c"E_ARGUMENT"),
        (CAMRING_E_HANDLE, c"E_HANDLE"),
        (CAMRING_E_NO_DAEMON, c"E_NO_DAEMON"),
        (CAMRING_E_PERMISSION, c"E_PERMISSION"),
        (CAMRING_E_CONNECT, c"E_CONNECT"),
        (CAMRING_E_VERSION, c"E_VERSION"),
        (CAMRING_E_UNKNOWN_CAMERA, c"E_UNKNOWN_CAMERA"),
        (CAMRING_E_NOT_READY, c"E_NOT_READY"),
        (CAMRING_E_NO_ROOM, c"E_NO_ROOM"),
        (CAMRING_E_DISABLED, c"E_DISABLED"),
        (CAMRING_E_DAEMON_TIMEOUT, c"E_DAEMON_TIMEOUT"),
        (CAMRING_E_DISCONNECTED, c"E_DISCONNECTED"),
        (CAMRING_E_REMOVED, c"E_REMOVED"),
        (CAMRING_E_FRAMES_HELD, c"E_FRAMES_HELD"),
        (CAMRING_E_BAD_FRAME, c"E_BAD_FRAME"),
        (CAMRING_E_PROTOCOL, c"E_PROTOCOL"),
        (CAMRING_E_FORMAT, c"E_FORMAT"),
        (CAMRING_E_SYSTEM, c"E_SYSTEM"),
        (CAMRING_E_NOT_POLLABLE, c"E_NOT_POLLABLE"),
        (CAMRING_E_INTERNAL, c"E_INTERNAL"),
    ];
    let found = names.iter().find(|(known, _)| *known as i32 == code);
    found.map_or(c"unknown", |(_, name)| name).as_ptr()
}
