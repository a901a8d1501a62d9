//! The packet ring: whole access units, copied in by one process and copied out by many.

pub(crate) mod protocol;

#[cfg(not(loom))]
pub(crate) mod geometry;
#[cfg(not(loom))]
pub(crate) mod reader;
#[cfg(not(loom))]
pub(crate) mod unit;
#[cfg(not(loom))]
pub(crate) mod writer;

#[cfg(not(loom))]
pub use geometry::PacketRingSpec;
#[cfg(not(loom))]
pub use reader::PacketReader;
#[cfg(not(loom))]
pub use unit::{Codec, UnitDescriptor, UnitFlags};
#[cfg(not(loom))]
pub use writer::{Appended, PacketWriter};
