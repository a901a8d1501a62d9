//! Memory of the caller's: the only place that reads it or writes to it.
//!
//! Promises: NULL is an error; a struct is read and written in the size that the caller says its
//! header gave it, so that programs and libraries of different ages fit.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

use crate::error::Failure;

/// Longest C string that is read.
const LONGEST_TEXT: usize = 4096;
/// A struct that claims to be longer was not initialised.
const LARGEST_STRUCT: usize = 4096;

/// A place for a result, set to `empty` before anything can fail.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `at` is NULL or a `T` that this call may write.
    pub(crate) unsafe fn new(at: *mut T, name: &str, empty: T) -> Result<Self, Failure> {
        if at.is_null() {
            return Err(Failure::null(name));
        }
        let mut out = Self(at);
        out.set(empty);
        Ok(out)
    }

    pub(crate) fn set(&mut self, value: T) {
        // SAFETY: checked for NULL in `new`, whose caller vouches for the rest. `write` drops
        // nothing: what was there may be uninitialised.
        unsafe { self.0.write(value) }
    }
}

/// Takes a handle out of the caller's variable and leaves NULL there. `None`: it was NULL.
///
/// # Safety
/// `at` is NULL or a pointer variable that this call may read and write.
pub(crate) unsafe fn take_handle<T>(
    at: *mut *mut T,
    name: &str,
) -> Result<Option<*mut T>, Failure> {
    if at.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not NULL, and the caller's word for the rest.
    let handle = unsafe { at.replace(std::ptr::null_mut()) };
    Ok((!handle.is_null()).then_some(handle))
}

/// # Safety
/// `text` is NULL or a C string.
pub(crate) unsafe fn text(text: *const c_char, name: &str) -> Result<String, Failure> {
    if text.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: not NULL, and a C string by the caller's word.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text
        .to_str()
        .map_err(|_| Failure::argument(format!("{name} is not UTF-8")))?;
    if text.len() > LONGEST_TEXT {
        let length = text.len();
        return Err(Failure::argument(format!("{name} has {length} bytes")));
    }
    Ok(text.to_owned())
}

/// # Safety
/// `names` is NULL or points to `count` pointers, each NULL or to a C string.
pub(crate) unsafe fn texts(
    names: *const *const c_char,
    count: usize,
    what: &str,
) -> Result<Vec<String>, Failure> {
    if names.is_null() {
        return Err(Failure::null(what));
    }
    if count == 0 || count > 4096 {
        let text = format!("{count} {what}: 1 to 4096 are possible");
        return Err(Failure::argument(text));
    }
    (0..count)
        .map(|index| {
            // SAFETY: inside the array, by the caller's word.
            unsafe { text(names.add(index).read(), &format!("{what}[{index}]")) }
        })
        .collect()
}

/// Marks structs without padding whose every bit pattern is valid, and whose later versions only
/// have more fields at the end.
///
/// # Safety
/// As said: `repr(C)`, integers and pointers only, no padding.
pub(crate) unsafe trait Plain: Copy {
    const NAME: &'static str;
}

fn check_size<T: Plain>(size: usize) -> Result<(), Failure> {
    if size < size_of::<T>() || size > LARGEST_STRUCT {
        return Err(Failure::argument(format!(
            "a {} of {size} bytes, of which this library needs {}: was its size initialised?",
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(())
}

/// Writes `value`, and zeros for what only the caller's newer header has.
///
/// # Safety
/// `at` is NULL or `size` bytes that this call may write.
pub(crate) unsafe fn write_struct<T: Plain>(
    at: *mut T,
    size: usize,
    value: T,
) -> Result<(), Failure> {
    if at.is_null() {
        return Err(Failure::null(T::NAME));
    }
    check_size::<T>(size)?;
    // SAFETY: at least `size_of::<T>()` of the caller's bytes; the rest of `size` is zeroed. The
    // alignment is not relied on.
    unsafe {
        at.write_unaligned(value);
        let rest = at.cast::<u8>().add(size_of::<T>());
        rest.write_bytes(0, size - size_of::<T>());
    }
    Ok(())
}

/// Reads a struct. What only a newer header has must be zero, which means "as before".
///
/// # Safety
/// `at` is `size` bytes of the caller's, not NULL.
pub(crate) unsafe fn read_struct<T: Plain>(at: *const T, size: usize) -> Result<T, Failure> {
    check_size::<T>(size)?;
    // SAFETY: `size` bytes that may be read, and any bits are a `T` (`Plain`).
    let (value, rest) = unsafe {
        let rest = at.cast::<u8>().add(size_of::<T>());
        let rest = std::slice::from_raw_parts(rest, size - size_of::<T>());
        (at.read_unaligned(), rest)
    };
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Failure::argument(format!(
            "{} uses fields that this library does not have: it is older than the header",
            T::NAME
        )));
    }
    Ok(value)
}
