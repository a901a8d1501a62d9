//! Shared-memory rings of decoded video frames and of access units.
#![deny(unsafe_code)]
