//! The reader: one process per camera, from RTSP to published frames.

pub mod backoff;
pub mod retina_source;
pub mod session;
pub mod source;
pub mod timeline;
