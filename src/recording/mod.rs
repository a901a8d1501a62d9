//! The recording on disk: what `hls` writes, and `serve` reads, lists and deletes.
//!
//! ```text
//! DATA_DIR/recordings/
//!   front-door@main/                      a stream: its id, with `@` for `/`
//!     source/                             a rendition: `source` as the camera sends it, or `720p` …
//!       init-0123456789abcdef.mp4         one for each set of codec parameters, named by its bytes
//!       20261121T08/                      an hour, UTC
//!         20261121T081500.123Z-12345-3-0123456789abcdef.m4s   a minute: CMAF chunks, one after the other
//!         20261121T081500.123Z-12345-3-0123456789abcdef.idx   where each is, and when each picture was taken
//! ```
//!
//! A minute file begins with a key frame and never spans a discontinuity or a change of parameters: one
//! init segment, one discontinuity sequence and one affine map from media time to UTC belong to it. Its
//! name carries start, media sequence, discontinuity sequence and init segment, its index file the rest,
//! so the tree alone is the recording; everything else can be rebuilt from it.
//!
//! A chunk ([`Chunk`]) is what low-latency HLS calls a part: one `moof` and one `mdat`. A segment is the
//! chunks with the same media sequence, next to each other in one file. The index file is the commit log:
//! a chunk's bytes are written before its record, so who goes by the records never sees half a chunk, and
//! what a process left behind when it was killed is cut off at the last record ([`recover`]).
//!
//! Promises: one writer per rendition (a lock), readers need no lock. Files are data: no record, name or
//! folder makes a reader panic, allocate without bound or leave the tree.
#![deny(unsafe_code)]

mod index_file;
mod lookup;
mod name;
mod tree;
mod writer;

pub use index_file::{
    Chunk, ChunkFlags, FrameFlags, FrameTime, Header, IndexError, IndexReader, MAX_FRAMES,
};
pub use lookup::Minute;
pub use name::{DATA_ENDING, FileName, INDEX_ENDING, InitId, hour_name, stream_folder, stream_of};
pub use tree::{Hour, Rendition, Tree, is_rendition};
pub use writer::{Lock, MinuteFile, Numbers, Resumed, Tail, recover, recover_open, write_init};

#[cfg(test)]
mod tests;
