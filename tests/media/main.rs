//! Decoding against the `ffmpeg` program: the same pixels, in a slot and copied; the same stream
//! parameters as `ffprobe`.

mod area;
mod clips;
mod damage;
mod decode;
mod jpeg;
mod lifetime;
mod mp4;
mod paff;
mod probe;
mod ring;
