//! The C interface of camring: what `include/camring.h` declares, `libcamring` has.
//!
//! Promises: no call unwinds into C, blocks without the bound it states, or trusts a handle: a
//! handle is a number that is looked up, so one that was given back, or never was one, is an error
//! ([`camring_code::CAMRING_E_HANDLE`]) and nothing worse. Pointers to memory of the caller's are
//! checked for NULL, and otherwise believed. Each error has a code and a message of the calling
//! thread's.
//!
//! Must never: hand out a pointer without saying how long it is valid, or change the meaning, size
//! or number of anything that is in the header of a released version without another `ABI`.
//!
//! The header is made from this crate by `tests/header.rs`, comments included.
#![deny(unsafe_code)]
#![allow(non_camel_case_types, reason = "names as they are in C")]

mod error;
mod frame;
mod handle;
mod list;
mod memory;
mod poller;
mod receiver;
mod version;
