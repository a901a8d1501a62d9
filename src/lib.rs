//! The camring daemon: reads many RTSP cameras, each in its own pinned process, and puts decoded
//! frames into shared-memory rings (crate `camring-ring`).
//!
//! ```text
//! camring run                  supervisor   plans, watches, restarts, creates and hands out memory
//!  ├─ camring: spawner         sys          single-threaded template; forks the readers
//!  ├─ camring: reader CAMERA   reader       RTSP session → packet ring → decoder (media) → frame ring
//!  ├─ camring: hls CAMERA      hls          packet or frame ring → fragments in minute files (recording)
//!  └─ camring: serve           serve        index, HLS, DASH, API, dashboard; starts workers
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the site: as written, then resolved and checked |
//! | [`supervisor`] | children, restart policy, memory budget, attach broker |
//! | [`control`] | what supervisor and readers say to each other |
//! | [`health`] | a reader's counters and state, readable after its death |
//! | [`reader`] | one camera stream, from RTSP to frames |
//! | [`hls`] | one recorded stream, from its ring to files |
//! | [`recording`] | those files: names, commit log, recovery |
//! | [`serve`] | HTTP: index, playlists, API, dashboard, retention |
//! | [`worker`] | decodes what was recorded, for `serve` |
//! | [`media`] | the safe face of FFmpeg |
//! | [`onvif`] | finds cameras on the network |
//! | [`sys`] | processes, clocks, cores, memory of this machine |
//!
//! Unsafe code is confined to `media::ffi`, `sys::raw`, `sys::sockets`, `health::page` and the ring crate.
#![deny(unsafe_code)]

pub mod cli;
pub mod cmd;
pub mod config;
pub mod control;
pub mod health;
pub mod hls;
pub mod logging;
pub mod media;
pub mod onvif;
pub mod reader;
pub mod recording;
pub mod serve;
pub mod supervisor;
pub mod sys;
pub mod worker;
