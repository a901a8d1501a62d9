//! Cameras attached to: looking for frames, waiting without the GIL, what is released when.
//!
//! Promises: no wait keeps the GIL, or keeps a signal handler of Python from running for longer
//! than [`SLICE`]; the frame given out last is released when the next is asked for, unless held.
//!
//! Must never: take the lock of a receiver while the GIL is held and somebody without it may need
//! the GIL to let go: nothing that holds the lock calls Python.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use camring_ring::attach::AttachError;
use camring_ring::{AttachOptions, Frame as RingFrame, ReceiverOptions, RingError};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::errors::Failure;
use crate::frame::Frame;
use crate::held::{Grip, Held, Own};

/// Signals, a close and the end of the interpreter are looked for this often while waiting.
const SLICE: Duration = Duration::from_millis(100);

/// The interpreter is about to end: waits return, so that no thread wants the GIL of nobody.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Threads that wait without the GIL.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Cameras attached to with one connection.
#[pyclass(frozen, weakref, module = "camring._camring")]
pub(crate) struct Receiver {
    inner: Own<Mutex<Inner>>,
    names: Vec<Py<PyString>>,
    pollable: bool,
    path: PathBuf,
    options: ReceiverOptions,
}

struct Inner {
    /// `None`: closed.
    ring: Option<camring_ring::Receiver>,
    /// The frame given out last.
    current: Option<Arc<Grip>>,
    /// All frames that may still be pinned, by camera: for messages.
    given: Vec<(usize, Weak<Grip>, Weak<Held>)>,
}

impl Inner {
    fn ring(&mut self) -> Result<&mut camring_ring::Receiver, Failure> {
        self.ring.as_mut().ok_or_else(Failure::closed)
    }

    fn look(&mut self, in_order: bool) -> Result<Option<(usize, RingFrame)>, Failure> {
        if let Some(current) = self.current.take() {
            current.pass();
        }
        let ring = self.ring()?;
        let found = if in_order { ring.next() } else { ring.latest() };
        found.map_err(|error| match error {
            AttachError::Ring(ring) => match *ring {
                RingError::PinQuota { quota, .. } => self.too_many(quota),
                other => other.into(),
            },
            other => other.into(),
        })
    }

    /// Who holds the frames.
    fn too_many(&self, quota: u32) -> Failure {
        let holders: Vec<String> = self
            .given
            .iter()
            .filter_map(|(camera, grip, held)| {
                let held = held.upgrade()?;
                let sequence = held.frame().ok()?.sequence();
                let exports = match held.exports() {
                    0 => None,
                    1 => Some("1 array or buffer on it is alive".to_owned()),
                    n => Some(format!("{n} arrays or buffers on it are alive")),
                };
                let kept = grip
                    .upgrade()
                    .is_some_and(|grip| grip.is_kept() && grip.held().is_some());
                let why = match (kept, exports) {
                    (true, None) => "held with hold()".to_owned(),
                    (true, Some(exports)) => format!("held with hold(), {exports}"),
                    (false, Some(exports)) => exports,
                    (false, None) => "one of its planes is referenced".to_owned(),
                };
                let name = self.ring.as_ref().and_then(|ring| ring.name(*camera));
                Some(format!(
                    "frame {sequence} of {}: {why}",
                    name.unwrap_or_default()
                ))
            })
            .collect();
        Failure::new(
            "HeldTooMany",
            format!(
                "all {quota} pins are taken ({}): release a frame, copy what you keep \
                 (frame.y.copy()), or attach with more pins",
                holders.join("; ")
            ),
        )
    }

    fn remember(&mut self, camera: usize, frame: RingFrame) -> (Arc<Grip>, Arc<Held>) {
        let (grip, held) = Grip::new(frame);
        self.given.retain(|(_, _, held)| held.strong_count() > 0);
        self.given
            .push((camera, Arc::downgrade(&grip), Arc::downgrade(&held)));
        self.current = Some(Arc::clone(&grip));
        (grip, held)
    }
}

/// Attached, generation, trouble.
type State = (bool, Option<u32>, Option<String>);
type Given = (usize, Arc<Grip>, Arc<Held>);

impl Receiver {
    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Failure> {
        let inner = self.inner.get()?;
        Ok(inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, in_order: bool) -> Result<Option<Given>, Failure> {
        let mut inner = self.inner()?;
        Ok(inner.look(in_order)?.map(|(camera, frame)| {
            let (grip, held) = inner.remember(camera, frame);
            (camera, grip, held)
        }))
    }

    /// Looks, waits for a slice at most, looks again. Without the GIL.
    fn look_and_wait(&self, in_order: bool, slice: Duration) -> Result<Option<Given>, Failure> {
        let _waiting = Waiting::new();
        if let Some(given) = self.look(in_order)? {
            return Ok(Some(given));
        }
        if slice.is_zero() {
            return Ok(None);
        }
        let waiter = self.inner()?.ring()?.waiter();
        if waiter.wait(Some(slice))? {
            return self.look(in_order);
        }
        Ok(None)
    }

    fn frame(&self, py: Python<'_>, (camera, grip, held): Given) -> PyResult<Frame> {
        let name = self.names[camera].clone_ref(py);
        let frame = held.frame()?;
        Ok(Frame::new(name, grip, frame))
    }
}

/// Counts a thread that is without the GIL.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn ending() -> Result<(), Failure> {
    if ENDING.load(Ordering::SeqCst) {
        return Err(Failure::new(
            "ClosedError",
            "the interpreter is shutting down",
        ));
    }
    Ok(())
}

/// Seconds as a duration; `None` or infinite: no limit.
pub(crate) fn duration(seconds: Option<f64>) -> Result<Option<Duration>, Failure> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds == f64::INFINITY => Ok(None),
        // NaN stays what it is, and is refused.
        Some(seconds) if seconds < 0.0 => Ok(Some(Duration::ZERO)),
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|_| Failure::option(format!("{seconds} s cannot be waited for"))),
    }
}

fn open(
    py: Python<'_>,
    path: &std::path::Path,
    names: &[String],
    options: &ReceiverOptions,
    timeout: Duration,
) -> PyResult<camring_ring::Receiver> {
    let start = Instant::now();
    let opened = py.detach(|| camring_ring::Receiver::open(path, names, options));
    let mut receiver = opened.map_err(Failure::from)?;
    while receiver.attached() == 0 {
        let waited = start.elapsed();
        if waited >= timeout {
            return Err(Failure::from(receiver.not_ready(waited)).into());
        }
        py.check_signals()?;
        ending()?;
        let asked = py.detach(|| {
            std::thread::sleep(SLICE.min(timeout - waited));
            receiver.attach_missing()
        });
        asked.map_err(Failure::from)?;
    }
    Ok(receiver)
}

#[pymethods]
impl Receiver {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (names, *, socket, pins, corrupt, reconnect, pollable, timeout))]
    fn open(
        py: Python<'_>,
        names: Vec<String>,
        socket: Option<PathBuf>,
        pins: u32,
        corrupt: bool,
        reconnect: bool,
        pollable: bool,
        timeout: f64,
    ) -> PyResult<Self> {
        let timeout = duration(Some(timeout))?.unwrap_or(Duration::MAX);
        let path = socket.unwrap_or_else(camring_ring::default_socket_path);
        let options = ReceiverOptions {
            attach: AttachOptions {
                pins,
                pollable,
                timeout,
                include_corrupt: corrupt,
            },
            reconnect,
        };
        let ring = open(py, &path, &names, &options, timeout)?;
        let inner = Inner {
            ring: Some(ring),
            current: None,
            given: Vec::new(),
        };
        Ok(Self {
            inner: Own::new(Mutex::new(inner)),
            names: names
                .iter()
                .map(|name| PyString::new(py, name).unbind())
                .collect(),
            pollable,
            path,
            options,
        })
    }

    /// The same cameras over another connection, with descriptors to poll.
    fn polling(&self, py: Python<'_>) -> PyResult<Self> {
        self.inner()?.ring()?;
        let names: Vec<String> = self.names.iter().map(|name| name.to_string()).collect();
        let attach = self.options.attach;
        Self::open(
            py,
            names,
            Some(self.path.clone()),
            attach.pins,
            attach.include_corrupt,
            self.options.reconnect,
            true,
            attach.timeout.as_secs_f64(),
        )
    }

    /// A frame that was not given out yet, or None. Does not wait for one.
    fn take(&self, py: Python<'_>, in_order: bool) -> PyResult<Option<Frame>> {
        let given = py.detach(|| self.look_and_wait(in_order, Duration::ZERO))?;
        given.map(|given| self.frame(py, given)).transpose()
    }

    /// As `take`, waiting for `timeout` seconds at most; None: for ever.
    fn next(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        in_order: bool,
    ) -> PyResult<Option<Frame>> {
        let deadline = duration(timeout)?.and_then(|t| Instant::now().checked_add(t));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let slice = left.unwrap_or(SLICE).min(SLICE);
            let given = py.detach(|| self.look_and_wait(in_order, slice))?;
            if let Some(given) = given {
                return self.frame(py, given).map(Some);
            }
            if left.is_some_and(|left| left <= slice) {
                return Ok(None);
            }
            py.check_signals()?;
            ending()?;
        }
    }

    /// Descriptors to poll for the next frame.
    fn fds(&self) -> PyResult<Vec<i32>> {
        use std::os::fd::AsRawFd;
        let mut inner = self.inner()?;
        Ok(inner.ring()?.poll_fds().map(|fd| fd.as_raw_fd()).collect())
    }

    /// The connection's descriptor, None while there is no daemon. For the hook after a fork, so
    /// it works there: it waits for no lock.
    fn connection(&self) -> Option<i32> {
        use std::os::fd::{AsFd, AsRawFd};
        let inner = self.inner.even_if_forked()?.try_lock().ok()?;
        let client = inner.ring.as_ref()?.client()?;
        Some(client.as_fd().as_raw_fd())
    }

    #[getter]
    fn incomplete(&self) -> PyResult<bool> {
        Ok(self.inner()?.ring()?.is_incomplete())
    }

    #[getter]
    fn pollable(&self) -> bool {
        self.pollable
    }

    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.names)
    }

    /// Per camera: whether it is attached, its generation, and what is wrong.
    fn states(&self) -> PyResult<Vec<State>> {
        let mut inner = self.inner()?;
        let ring = inner.ring()?;
        let gone = || "the daemon is gone and is being waited for".to_owned();
        let state = |index| {
            let subscription = ring.subscription(index);
            let generation = subscription.map(camring_ring::Subscription::generation);
            let trouble = match ring.client() {
                Some(_) => ring.trouble(index).map(ToString::to_string),
                None => Some(gone()),
            };
            (subscription.is_some(), generation, trouble)
        };
        Ok((0..ring.len()).map(state).collect())
    }

    /// What to warn about.
    fn warning(&self) -> PyResult<Option<&'static str>> {
        let mut inner = self.inner()?;
        let client = inner.ring()?.client();
        Ok(client.and_then(camring_ring::Client::read_only_warning))
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.inner()?.ring.is_none())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner.check().is_err() {
            return Ok(()); // the parent's
        }
        py.detach(|| -> Result<(), Failure> {
            let mut inner = self.inner()?;
            if let Some(current) = inner.current.take() {
                current.pass();
            }
            inner.ring = None;
            Ok(())
        })?;
        Ok(())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "an attached camera cannot be pickled: attach in the other process",
        ))
    }
}

/// The daemon's status as JSON.
#[pyfunction]
pub(crate) fn status_json(py: Python<'_>, socket: Option<PathBuf>) -> PyResult<String> {
    let path = socket.unwrap_or_else(camring_ring::default_socket_path);
    let status = py.detach(|| {
        let client = camring_ring::Client::connect(&path)?;
        client.status_json()
    });
    Ok(status.map_err(Failure::from)?)
}

/// Ends all waits, for the end of the interpreter: true when nobody is without the GIL.
#[pyfunction]
pub(crate) fn end_waits(py: Python<'_>) -> bool {
    ENDING.store(true, Ordering::SeqCst);
    let end = Instant::now() + 10 * SLICE;
    py.detach(|| {
        while WAITING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        WAITING.load(Ordering::SeqCst) == 0
    })
}
