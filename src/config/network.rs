//! `[network]`: what the sockets to a camera are like.

use serde::{Deserialize, Serialize};

/// `[network]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The DSCP of what is sent to the camera, 0 to [`Network::MAX_DSCP`]; 0: as the kernel has it.
    pub dscp: u8,
    /// What a UDP socket may hold that has not been read, in bytes.
    pub receive_buffer: u64,
}

impl Network {
    /// Six bits (RFC 2474).
    pub const MAX_DSCP: u32 = 63;
    /// A large key frame, sent in one burst.
    pub const DEFAULT_RECEIVE_BUFFER: u64 = 1 << 20;
    /// Some forty packets.
    pub const MIN_RECEIVE_BUFFER: u64 = 64 << 10;
    /// A second of a camera at 500 Mbit/s.
    pub const MAX_RECEIVE_BUFFER: u64 = 64 << 20;
}

impl Default for Network {
    fn default() -> Self {
        Self {
            dscp: 0,
            receive_buffer: Self::DEFAULT_RECEIVE_BUFFER,
        }
    }
}
