//! How long a camera may take and how much it may cost: policy as named constants, overridable.

use std::time::Duration;

/// Limit for resolving the host name: two rounds of a usual resolver (5 s each).
pub const RESOLVE: Duration = Duration::from_secs(10);
/// Limit for the TCP connection: three SYNs (sent at 0, 1 and 3 s) and time for the last answer.
pub const CONNECT: Duration = Duration::from_secs(5);
/// Limit for DESCRIBE, authentication round included. Cameras start encoders on it.
pub const DESCRIBE: Duration = Duration::from_secs(10);
/// Limit for SETUP.
pub const SETUP: Duration = Duration::from_secs(10);
/// Limit for PLAY.
pub const PLAY: Duration = Duration::from_secs(10);
/// Limit from PLAY to the first access unit. Cameras with a sleeping sensor need seconds.
pub const FIRST_UNIT: Duration = Duration::from_secs(15);
/// Limit from PLAY to the first key frame: "smart" codecs send one a minute.
pub const FIRST_KEY_FRAME: Duration = Duration::from_secs(90);
/// Age of the last access unit at which the camera is shown as stalled.
pub const SHOW_STALLED: Duration = Duration::from_secs(4);
/// Age of the last access unit at which the session is dropped. Time-lapse streams of one picture
/// in ten seconds must pass.
pub const STALL: Duration = Duration::from_secs(15);
/// A key frame arrived this long ago, decoding is on, and no picture came out since: the decoder
/// or the stream is broken in a way that a new session may mend.
pub const DECODE_STALL: Duration = Duration::from_secs(15);
/// Limit for TEARDOWN before the next try. The client waits 5 s for an answer.
pub const TEARDOWN: Duration = Duration::from_secs(6);
/// Limit for TEARDOWN when told to stop: all processes must be gone within 5 s.
pub const TEARDOWN_ON_STOP: Duration = Duration::from_secs(2);

/// Largest access unit accepted. A 4K key frame at 50 Mbit/s has about 2 MB.
pub const MAX_UNIT_BYTES: usize = 16 << 20;
/// Unusable packets tolerated within [`ERROR_WINDOW`]. The RTSP client reports some faults (a
/// changed SSRC, a sequence jump) on every packet for ever: then only a new session helps.
pub const MAX_ERRORS: u32 = 20;
/// See [`MAX_ERRORS`].
pub const ERROR_WINDOW: Duration = Duration::from_secs(10);

/// Limits in time, per stage. `Default` gives the constants of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// See [`RESOLVE`].
    pub resolve: Duration,
    /// See [`CONNECT`].
    pub connect: Duration,
    /// See [`DESCRIBE`].
    pub describe: Duration,
    /// See [`SETUP`].
    pub setup: Duration,
    /// See [`PLAY`].
    pub play: Duration,
    /// See [`FIRST_UNIT`].
    pub first_unit: Duration,
    /// See [`FIRST_KEY_FRAME`].
    pub first_key_frame: Duration,
    /// See [`SHOW_STALLED`].
    pub show_stalled: Duration,
    /// See [`STALL`].
    pub stall: Duration,
    /// See [`DECODE_STALL`].
    pub decode_stall: Duration,
    /// See [`TEARDOWN`].
    pub teardown: Duration,
    /// See [`TEARDOWN_ON_STOP`].
    pub teardown_on_stop: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            resolve: RESOLVE,
            connect: CONNECT,
            describe: DESCRIBE,
            setup: SETUP,
            play: PLAY,
            first_unit: FIRST_UNIT,
            first_key_frame: FIRST_KEY_FRAME,
            show_stalled: SHOW_STALLED,
            stall: STALL,
            decode_stall: DECODE_STALL,
            teardown: TEARDOWN,
            teardown_on_stop: TEARDOWN_ON_STOP,
        }
    }
}

/// Limits in memory and errors. `Default` gives the constants of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`MAX_UNIT_BYTES`].
    pub max_unit_bytes: usize,
    /// See [`MAX_ERRORS`].
    pub max_errors: u32,
    /// See [`ERROR_WINDOW`].
    pub error_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_unit_bytes: MAX_UNIT_BYTES,
            max_errors: MAX_ERRORS,
            error_window: ERROR_WINDOW,
        }
    }
}
