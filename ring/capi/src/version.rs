//! Which version of what this library is.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use camring_ring::attach::wire::ATTACH_VERSION;
use camring_ring::layout::LAYOUT_VERSION;

use crate::error::c_string;

/// The number in the library's soname. It is another one when a program has to be compiled anew.
pub const CAMRING_ABI: u32 = 0;

/// The library's version, "MAJOR.MINOR.PATCH". Valid for ever. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn camring_version() -> *const c_char {
    static VERSION: OnceLock<CString> = OnceLock::new();
    VERSION
        .get_or_init(|| c_string(env!("CARGO_PKG_VERSION")))
        .as_ptr()
}

/// CAMRING_ABI of the library that the program runs with. Another one than the header's means
/// that the wrong library was loaded.
#[unsafe(no_mangle)]
pub extern "C" fn camring_abi_version() -> u32 {
    CAMRING_ABI
}

/// The version of the attach protocol that the library speaks.
#[unsafe(no_mangle)]
pub extern "C" fn camring_attach_version() -> u32 {
    ATTACH_VERSION
}

/// The version of the ring layout that the library reads.
#[unsafe(no_mangle)]
pub extern "C" fn camring_layout_version() -> u32 {
    LAYOUT_VERSION
}
