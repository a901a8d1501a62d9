//! Receivers: cameras that are attached to, and taking their frames.
//!
//! Promises: several threads may use one receiver; who waits holds no lock, and learns within
//! [`SLICE`] that the receiver was given back.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camring_ring::{
    AttachError, AttachOptions, Frame, Receiver, ReceiverOptions, default_socket_path,
};

use crate::error::{
    CAMRING_E_HANDLE, CAMRING_E_NOT_POLLABLE, CAMRING_OK, CAMRING_TIMEOUT, Failure, c_string, call,
    camring_code,
};
use crate::frame::{FRAMES, Held, camring_frame};
use crate::handle::Table;
use crate::memory::{Out, Plain, read_struct, take_handle, text, texts, write_struct};
use crate::poller::Poller;

/// A wait looks that often whether its receiver was given back.
const SLICE: Duration = Duration::from_millis(250);

/// One camera or several, with one connection and one wait. Not an address: a number that the
/// library looks up. Any thread may use it, several at once too; each frame goes to one of them.
#[derive(Debug)]
pub struct camring_receiver(());

/// How to attach. Initialise it with camring_options_init(), then change what is to be different.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct camring_options {
    /// Bytes of this struct, as camring_options_init() was told.
    pub size: u32,
    /// How many frames of a camera may be held at a time, 1 to 64. Default 2. The camera keeps
    /// room for each, so ask for what is needed.
    pub pins: u32,
    /// How long attaching waits for the first of the cameras to have pictures, in ms. Default
    /// 10000.
    pub timeout_ms: i32,
    /// Not 0: make a descriptor for event loops, see camring_fd(). Default 0.
    pub pollable: u8,
    /// Not 0: give out damaged frames too. Default 0.
    pub include_corrupt: u8,
    /// Not 0: when the daemon goes away, connect again as soon as there is one. Default 1.
    pub reconnect: u8,
    /// 0.
    pub reserved: u8,
    /// Path of the daemon's socket. Default NULL: $CAMRING_SOCKET, or /run/camring/attach.sock.
    pub socket_path: *const c_char,
}

// SAFETY: repr(C), integers and a pointer; 4 + 4 + 4 + 4 bytes, then 8: no padding.
unsafe impl Plain for camring_options {
    const NAME: &'static str = "camring_options";
}
const _: () = assert!(size_of::<camring_options>() == 24);

struct Entry {
    receiver: Mutex<Receiver>,
    poller: Option<Poller>,
    names: Arc<[CString]>,
    warning: Option<CString>,
    closed: AtomicBool,
}

static RECEIVERS: Table<Entry> = Table::new(1, "receiver");

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Receiver> {
        // A panic in the middle has been reported; the receiver's state is plain data.
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a look that found nothing.
    fn watch(&self, receiver: &Receiver) -> Result<(), Failure> {
        match &self.poller {
            Some(poller) => Ok(poller.sync(receiver)?),
            None => Ok(()),
        }
    }

    fn still_open(&self) -> Result<(), Failure> {
        // Relaxed: nothing else is read by it.
        if self.closed.load(Ordering::Relaxed) {
            let text = "the receiver was given back while this thread waited";
            return Err(Failure::new(CAMRING_E_HANDLE, text));
        }
        Ok(())
    }

    /// Looks until it finds something or the time is over.
    fn look<T>(
        &self,
        timeout_ms: i32,
        mut look: impl FnMut(&mut Receiver) -> Result<Option<T>, AttachError>,
    ) -> Result<Option<T>, Failure> {
        // Negative: no limit.
        let limit = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let waiter = {
                let mut receiver = self.lock();
                match look(&mut receiver) {
                    Ok(Some(found)) => return Ok(Some(found)),
                    Ok(None) => self.watch(&receiver)?,
                    Err(error) => {
                        self.watch(&receiver)?;
                        return Err(error.into());
                    }
                }
                receiver.waiter()
            };
            loop {
                let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Ok(None);
                }
                let again = waiter.wait(Some(left.unwrap_or(SLICE).min(SLICE)))?;
                self.still_open()?;
                if again {
                    break;
                }
            }
        }
    }
}

/// Fills in the defaults. `size` is sizeof(camring_options).
///
/// # Safety
/// `options` is NULL or `size` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_options_init(
    options: *mut camring_options,
    size: usize,
) -> camring_code {
    call(|| {
        let defaults = ReceiverOptions::default();
        let value = camring_options {
            size: size.try_into().unwrap_or(0),
            pins: defaults.attach.pins,
            timeout_ms: defaults.attach.timeout.as_millis() as i32,
            pollable: defaults.attach.pollable.into(),
            include_corrupt: defaults.attach.include_corrupt.into(),
            reconnect: defaults.reconnect.into(),
            reserved: 0,
            socket_path: std::ptr::null(),
        };
        // SAFETY: the caller's word.
        unsafe { write_struct(options, size, value)? };
        Ok(CAMRING_OK)
    })
}

/// # Safety
/// `options` is NULL or initialised by `camring_options_init`.
unsafe fn resolve(options: *const camring_options) -> Result<(PathBuf, ReceiverOptions), Failure> {
    let mut resolved = ReceiverOptions::default();
    if options.is_null() {
        return Ok((default_socket_path(), resolved));
    }
    // SAFETY: not NULL; the size is its first field in every version.
    let options = unsafe {
        let size = options.cast::<u32>().read_unaligned();
        read_struct(options, size as usize)?
    };
    let Ok(timeout) = u64::try_from(options.timeout_ms) else {
        let found = options.timeout_ms;
        return Err(Failure::argument(format!("options.timeout_ms is {found}")));
    };
    if options.reserved != 0 {
        return Err(Failure::argument("options.reserved is not 0"));
    }
    resolved.attach = AttachOptions {
        pins: options.pins,
        pollable: options.pollable != 0,
        timeout: Duration::from_millis(timeout),
        include_corrupt: options.include_corrupt != 0,
    };
    resolved.reconnect = options.reconnect != 0;
    // SAFETY: the caller's word.
    Ok((unsafe { socket_path(options.socket_path)? }, resolved))
}

/// # Safety
/// `path` is NULL or a C string.
pub(crate) unsafe fn socket_path(path: *const c_char) -> Result<PathBuf, Failure> {
    if path.is_null() {
        return Ok(default_socket_path());
    }
    // SAFETY: the caller's word.
    Ok(unsafe { text(path, "socket_path")? }.into())
}

/// # Safety
/// As of `camring_attach_many`.
unsafe fn attach(
    names: &[String],
    options: *const camring_options,
    receiver: &mut Out<*mut camring_receiver>,
) -> Result<camring_code, Failure> {
    // SAFETY: the caller's word.
    let (path, options) = unsafe { resolve(options)? };
    let attached = Receiver::attach(&path, names, &options)?;
    let poller = if options.attach.pollable {
        let poller = Poller::new()?;
        poller.sync(&attached)?;
        Some(poller)
    } else {
        None
    };
    let warning = attached.client().and_then(|c| c.read_only_warning());
    let entry = Entry {
        poller,
        names: names.iter().map(|name| c_string(name)).collect(),
        warning: warning.map(c_string),
        receiver: Mutex::new(attached),
        closed: AtomicBool::new(false),
    };
    receiver.set(RECEIVERS.insert(entry)?);
    Ok(CAMRING_OK)
}

/// Connects to the daemon and attaches to a camera: "front-door", "front-door/sub", or a view of it,
/// "front-door:detect". Waits until it has pictures, options->timeout_ms at most. `options` may be
/// NULL: the defaults. Give the receiver back with camring_detach().
///
/// # Safety
/// `name` is NULL or a C string, `options` NULL or initialised, `receiver` NULL or a variable that
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_attach(
    name: *const c_char,
    options: *const camring_options,
    receiver: *mut *mut camring_receiver,
) -> camring_code {
    call(|| {
        // SAFETY: the caller's word, three times.
        unsafe {
            let mut out = Out::new(receiver, "receiver", std::ptr::null_mut())?;
            let name = text(name, "name")?;
            attach(&[name], options, &mut out)
        }
    })
}

/// As camring_attach() with `count` cameras: one connection, one wait, frames of all. Returns when
/// the first has pictures; the others follow by themselves, see camring_camera_trouble().
///
/// # Safety
/// `names` is NULL or `count` pointers, each NULL or a C string; the rest as of camring_attach().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_attach_many(
    names: *const *const c_char,
    count: usize,
    options: *const camring_options,
    receiver: *mut *mut camring_receiver,
) -> camring_code {
    call(|| {
        // SAFETY: the caller's word, three times.
        unsafe {
            let mut out = Out::new(receiver, "receiver", std::ptr::null_mut())?;
            let names = texts(names, count, "names")?;
            attach(&names, options, &mut out)
        }
    })
}

/// Gives a receiver back and sets the variable to NULL. Nothing happens when it is NULL already.
/// Frames that are held stay valid until they are released. A thread that waits on the receiver
/// gets CAMRING_E_HANDLE, within a quarter of a second.
///
/// # Safety
/// `receiver` is NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_detach(receiver: *mut *mut camring_receiver) -> camring_code {
    call(|| {
        // SAFETY: the caller's word.
        if let Some(receiver) = unsafe { take_handle(receiver, "receiver")? } {
            let entry = RECEIVERS.remove(receiver)?;
            entry.closed.store(true, Ordering::Relaxed);
        }
        Ok(CAMRING_OK)
    })
}

/// How a receiver is asked for a frame.
type Look = fn(&mut Receiver) -> Result<Option<(usize, Frame)>, AttachError>;

/// # Safety
/// `frame` is NULL or a variable that may be written.
unsafe fn take(
    receiver: *mut camring_receiver,
    timeout_ms: i32,
    frame: *mut *mut camring_frame,
    look: Look,
) -> Result<camring_code, Failure> {
    // SAFETY: the caller's word.
    let mut out = unsafe { Out::new(frame, "frame", std::ptr::null_mut())? };
    let entry = RECEIVERS.get(receiver)?;
    let Some((camera, frame)) = entry.look(timeout_ms, look)? else {
        return Ok(CAMRING_TIMEOUT);
    };
    out.set(FRAMES.insert(Held {
        frame,
        camera,
        names: Arc::clone(&entry.names),
    })?);
    Ok(CAMRING_OK)
}

/// The oldest frame that was not given out yet and is still there, of the cameras in turn. Waits
/// for `timeout_ms` at most: 0 does not wait, a negative number waits without limit. CAMRING_TIMEOUT
/// and NULL when none came. Give the frame back with camring_frame_release().
///
/// While the daemon is away and `reconnect` is set, that is no error: nothing comes, and the first
/// frame after it says CAMRING_CHANGE_RECONNECTED. Connecting again may take up to 5 s more than
/// the timeout if the daemon hangs. Signals do not end the wait.
///
/// # Safety
/// `frame` is NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_next(
    receiver: *mut camring_receiver,
    timeout_ms: i32,
    frame: *mut *mut camring_frame,
) -> camring_code {
    // SAFETY: the caller's word.
    call(|| unsafe { take(receiver, timeout_ms, frame, Receiver::next) })
}

/// As camring_next(), but the newest frame of a camera; those before it count as missed. For
/// programs that are slower than their camera.
///
/// # Safety
/// `frame` is NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_latest(
    receiver: *mut camring_receiver,
    timeout_ms: i32,
    frame: *mut *mut camring_frame,
) -> camring_code {
    // SAFETY: the caller's word.
    call(|| unsafe { take(receiver, timeout_ms, frame, Receiver::latest) })
}

/// Waits until a look is worth it (CAMRING_OK) or the time is over (CAMRING_TIMEOUT). The look may
/// find nothing all the same: the frame was damaged, or another thread took it.
#[unsafe(no_mangle)]
pub extern "C" fn camring_wait(receiver: *mut camring_receiver, timeout_ms: i32) -> camring_code {
    call(|| {
        let entry = RECEIVERS.get(receiver)?;
        let waiter = entry.lock().waiter();
        let limit = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if waiter.wait(Some(left.unwrap_or(SLICE).min(SLICE)))? {
                return Ok(CAMRING_OK);
            }
            entry.still_open()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(CAMRING_TIMEOUT);
            }
        }
    })
}

/// A descriptor for poll(), epoll and the like, the same for the receiver's life. It is readable
/// when a look is worth it: then call camring_next() or camring_latest() with timeout 0 until it
/// says CAMRING_TIMEOUT, which makes it unreadable again. Do so once before the first poll. It is
/// also readable once a second when there is no frame.
///
/// The descriptor stays the library's: do not read, write or close it. -1: an error, also when
/// `pollable` was not set.
#[unsafe(no_mangle)]
pub extern "C" fn camring_fd(receiver: *mut camring_receiver) -> i32 {
    let mut fd = -1;
    call(|| {
        let entry = RECEIVERS.get(receiver)?;
        let Some(poller) = &entry.poller else {
            let text = "there is no descriptor: attach with options.pollable = 1";
            return Err(Failure::new(CAMRING_E_NOT_POLLABLE, text));
        };
        fd = poller.fd();
        Ok(CAMRING_OK)
    });
    fd
}

/// How many cameras were asked for. 0: no such receiver.
#[unsafe(no_mangle)]
pub extern "C" fn camring_camera_count(receiver: *mut camring_receiver) -> usize {
    let mut count = 0;
    call(|| {
        count = RECEIVERS.get(receiver)?.names.len();
        Ok(CAMRING_OK)
    });
    count
}

/// A camera's name, as asked for. Valid as long as the receiver. NULL: an error.
#[unsafe(no_mangle)]
pub extern "C" fn camring_camera_name(
    receiver: *mut camring_receiver,
    camera: usize,
) -> *const c_char {
    let mut found = std::ptr::null();
    call(|| {
        let entry = RECEIVERS.get(receiver)?;
        found = entry.name(camera)?;
        Ok(CAMRING_OK)
    });
    found
}

impl Entry {
    fn name(&self, camera: usize) -> Result<*const c_char, Failure> {
        let name = self.names.get(camera).ok_or_else(|| {
            let count = self.names.len();
            Failure::argument(format!("camera {camera} of {count}"))
        })?;
        Ok(name.as_ptr())
    }
}

/// Why a camera gives no frames, if anything is known: its code, with the message as
/// camring_last_error(). CAMRING_OK: nothing is known to be wrong. For receivers of several
/// cameras, where one that cannot be had does not stop the others.
#[unsafe(no_mangle)]
pub extern "C" fn camring_camera_trouble(
    receiver: *mut camring_receiver,
    camera: usize,
) -> camring_code {
    call(|| {
        let entry = RECEIVERS.get(receiver)?;
        entry.name(camera)?;
        let receiver = entry.lock();
        match receiver.trouble(camera) {
            Some(error) => Err(Failure::about(error)),
            None => Ok(CAMRING_OK),
        }
    })
}

/// A warning to show when the kernel does not keep this process from writing into the cameras'
/// rings, because it runs as root or as the daemon's own user. NULL: it does. Valid as long as the
/// receiver.
#[unsafe(no_mangle)]
pub extern "C" fn camring_read_only_warning(receiver: *mut camring_receiver) -> *const c_char {
    let mut warning = std::ptr::null();
    call(|| {
        let entry = RECEIVERS.get(receiver)?;
        if let Some(text) = &entry.warning {
            warning = text.as_ptr();
        }
        Ok(CAMRING_OK)
    });
    warning
}
