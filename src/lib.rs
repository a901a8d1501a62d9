//! The camring daemon: reads many RTSP cameras, each in its own pinned process, and puts decoded
//! frames into shared-memory rings (crate `camring-ring`).
#![deny(unsafe_code)]

pub mod cli;
pub mod cmd;
pub mod config;
pub mod control;
pub mod health;
pub mod logging;
pub mod supervisor;
pub mod sys;
