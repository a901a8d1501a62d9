//! Errors of the rings. Those of attaching are in [`crate::attach`].

use crate::memory::MemoryError;

/// Memory that claims to be a ring (or a page) and is not one that this crate can use. It comes
/// from another process, so nothing of it has been believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// First word.
    #[error("this memory is no {expected}: it begins with {found:#018x}")]
    Magic {
        /// What it should be.
        expected: &'static str,
        /// First word found.
        found: u64,
    },
    /// Layout version.
    #[error(
        "the {what} has layout version {found}, this program knows {known}: install the same \
         camring version on both sides"
    )]
    Version {
        /// Ring or page.
        what: &'static str,
        /// Found.
        found: u32,
        /// Known.
        known: u32,
    },
    /// Feature bits.
    #[error("the {what} uses features {unknown:#x} that this program does not know: update it")]
    Features {
        /// Ring or page.
        what: &'static str,
        /// The unknown bits.
        unknown: u64,
    },
    /// A number of the header is impossible or contradicts another.
    #[error("the {what} header is not valid: {field} is {found}, expected {expected}")]
    Header {
        /// Ring or page.
        what: &'static str,
        /// Field of the header.
        field: &'static str,
        /// Value found.
        found: u64,
        /// What it should have been.
        expected: String,
    },
}

/// A frame or unit descriptor that describes nothing possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadDescriptor {
    /// Number of no pixel format.
    #[error("unknown pixel format {value}")]
    PixelFormat {
        /// Found.
        value: u32,
    },
    /// Number of no colour range.
    #[error("unknown colour range {value}")]
    ColorRange {
        /// Found.
        value: u8,
    },
    /// Width or height.
    #[error("picture of {width}×{height} pixels")]
    Size {
        /// Found.
        width: u32,
        /// Found.
        height: u32,
    },
    /// Rows overlap.
    #[error("plane {plane} has a stride of {stride} bytes for rows of {row}")]
    Stride {
        /// Index of the plane.
        plane: usize,
        /// Found.
        stride: u32,
        /// Bytes of a row.
        row: u32,
    },
    /// Offset that overflows.
    #[error("plane {plane} begins at byte {offset}")]
    Offset {
        /// Index of the plane.
        plane: usize,
        /// Found.
        offset: u64,
    },
    /// Does not fit its slot.
    #[error("the picture takes {needed} bytes, its slot has {slot_bytes}")]
    TooLarge {
        /// Bytes of the picture.
        needed: u64,
        /// Bytes of the slot.
        slot_bytes: u64,
    },
    /// Time base with a zero.
    #[error("time base {num}/{den}")]
    TimeBase {
        /// Found.
        num: u32,
        /// Found.
        den: u32,
    },
    /// No right angle.
    #[error("rotation by {degrees} degrees")]
    Rotation {
        /// Found.
        degrees: u16,
    },
    /// Number of no codec.
    #[error("unknown codec {value}")]
    Codec {
        /// Found.
        value: u32,
    },
    /// An index entry that points outside the ring, or says another number than asked for.
    #[error("index entry of unit {sequence}: {len} bytes at {offset} of {capacity}")]
    Entry {
        /// The unit.
        sequence: u64,
        /// Found.
        offset: u64,
        /// Found.
        len: u64,
        /// Bytes of the data area.
        capacity: u64,
    },
}

/// What can go wrong with a ring that is attached or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Memory could not be created, mapped or reserved.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The memory is no such ring.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The subscriber holds as many frames as it was granted pins. Drop one first.
    #[error(
        "{held} frames are held and the quota is {quota}: drop a frame before taking another, or \
         attach with more pins"
    )]
    PinQuota {
        /// Frames held.
        held: u32,
        /// Pins granted.
        quota: u32,
    },
    /// The daemon went away; its rings stay readable for frames that are held, nothing new comes.
    #[error("the camring daemon is gone: connect again")]
    Disconnected,
    /// The camera was taken out of the configuration.
    #[error("camera {name:?} was removed from the configuration")]
    Removed {
        /// Name attached to.
        name: String,
    },
    /// A published frame or unit is described impossibly. It was skipped.
    #[error("frame {sequence} was skipped, its descriptor is not valid: {reason}")]
    BadFrame {
        /// Number of the frame.
        sequence: u64,
        /// What is wrong.
        reason: BadDescriptor,
    },
    /// The writer was handed an impossible descriptor; nothing was published.
    #[error("nothing published: {0}")]
    Descriptor(BadDescriptor),
    /// The writer was asked to publish a slot that it had not reserved, or had published before.
    #[error("slot {slot} is not reserved: reserve a slot for each frame")]
    NotReserved {
        /// The slot.
        slot: u8,
    },
    /// A ring asked for has impossible dimensions.
    #[error("a ring cannot have {field} = {found}: {limit}")]
    Spec {
        /// Which dimension.
        field: &'static str,
        /// Asked for.
        found: u64,
        /// What is possible.
        limit: String,
    },
    /// A subscriber of that number is there already, or its pages are missing.
    #[error("subscriber {id}: {reason}")]
    Subscriber {
        /// Number given by the broker.
        id: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The ring was replaced and attaching to its successor failed.
    #[error("the ring was replaced and its successor cannot be attached: {0}")]
    Reattach(#[source] Box<crate::attach::AttachError>),
    /// Waiting failed.
    #[error("cannot wait: {0}")]
    Wait(#[source] std::io::Error),
}
