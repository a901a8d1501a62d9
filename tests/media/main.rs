//! Decoding against the `ffmpeg` program: the same pixels, in a slot and copied; the same stream
//! parameters as `ffprobe`; fragments that both read back as they were.

mod area;
mod clips;
mod damage;
mod decode;
mod jpeg;
mod lifetime;
mod mp4;
mod muxer;
mod paff;
mod probe;
mod ring;
