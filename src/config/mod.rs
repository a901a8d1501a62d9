//! The configuration of a site: one TOML file.
#![deny(unsafe_code)]

pub mod mask;
mod site;

pub use site::{
    Client, Cpu, Decode, DecodeMode, Limits, Retry, Ring, Site, Stream, Transport, with_secret,
};
