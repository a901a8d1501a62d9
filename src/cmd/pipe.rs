//! `camring pipe CAMERA`: an ordinary subscriber that writes frames to standard output.
//!
//! Promises: each frame is whole, written once, in order; a frame is held for as long as copying
//! it out takes, never while the reader of the pipe makes us wait; the output has one picture size
//! and one sample format from its first byte to its last: when the camera changes either, it ends
//! with a message and exit code 1, since neither y4m nor bare bytes could say so. A closed pipe or
//! Ctrl-C ends it quietly.
#![deny(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{bail, ensure};
use camring_ring::{AttachOptions, ColorRange, Frame, PixelFormat, Subscription};

use crate::cli::{Global, PipeArgs, PipeFormat};
use crate::cmd;
use crate::media::jpeg;

/// How often an idle `pipe` looks whether the daemon is still there.
const TICK: Duration = Duration::from_millis(500);

/// Asked of the kernel for the pipe: fewer, longer writes. The default is 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Written where it cannot be measured: `-n 1` waits for no second frame.
const USUAL_RATE: (u64, u64) = (25, 1);

/// What the output was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    width: u32,
    height: u32,
    format: PixelFormat,
}

impl Shape {
    fn of(frame: &Frame) -> Self {
        let d = frame.descriptor();
        Self {
            width: d.width,
            height: d.height,
            format: d.pixel_format,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, self.format.name())
    }
}

/// When a frame was taken, to tell the frame rate.
#[derive(Clone, Copy, Debug)]
struct Moment {
    sequence: u64,
    pts: i64,
    ticks_per_second: (u32, u32),
}

/// Runs `camring pipe`. Ends after `-n` frames, on Ctrl-C, or when nobody reads its output.
///
/// # Errors
/// No daemon (exit code 3), no such camera, the picture changed its size, or standard output
/// cannot be written.
pub fn run(args: PipeArgs, global: &Global) -> anyhow::Result<()> {
    let stdout = io::stdout();
    ensure!(
        !stdout.is_terminal(),
        "standard output is a terminal: pipe it into a program, or redirect it into a file"
    );
    // Not a pipe, or more than this user may have: as it is, then.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
    let name = args.frames_of.name()?;
    let client = cmd::connect(&cmd::socket(&args.socket, global)?)?;
    let options = AttachOptions {
        include_corrupt: args.corrupt,
        ..AttachOptions::default()
    };
    let mut frames = client.attach(&name, &options)?;
    let mut out = stdout.lock();
    let mut bytes = Vec::new();
    let mut begun: Option<Shape> = None;
    // y4m only: the first frame waits for the second, which tells the rate.
    let mut first: Option<Moment> = None;
    let (mut taken, mut missed) = (0u64, 0u64);
    while args.frames.is_none_or(|n| taken < n) {
        let frame = match args.latest {
            true => newest(&mut frames),
            false => frames.next_timeout(TICK),
        };
        let Some(frame) = frame.map_err(cmd::while_attached)? else {
            continue;
        };
        let shape = Shape::of(&frame);
        if let Some(before) = begun.filter(|before| *before != shape) {
            bail!(
                "{name}: the camera changed its pictures from {before} to {shape} after {taken} \
                 frames, and a stream of them has one size: start it again"
            );
        }
        if begun.is_some() && !args.latest {
            missed += frame.missed();
        }
        let moment = Moment {
            sequence: frame.sequence(),
            pts: frame.descriptor().pts,
            ticks_per_second: (
                frame.descriptor().time_base_den,
                frame.descriptor().time_base_num,
            ),
        };
        let range = frame.descriptor().color_range;
        if args.format == PipeFormat::Y4m && begun.is_none() {
            begin_y4m(shape)?;
        }
        begun = Some(shape);
        taken += 1;
        let waiting = bytes.len();
        append(&frame, args.format, &mut bytes)?;
        drop(frame);
        if args.format == PipeFormat::Y4m {
            match first {
                None if args.frames == Some(1) => {
                    out.write_all(y4m_header(shape, range, USUAL_RATE)?.as_bytes())?;
                }
                None => {
                    first = Some(moment);
                    continue;
                }
                Some(first) if waiting > 0 => {
                    let header = y4m_header(shape, range, rate(first, moment))?;
                    out.write_all(header.as_bytes())?;
                }
                Some(_) => {}
            }
        }
        out.write_all(&bytes)?;
        out.flush()?;
        bytes.clear();
    }
    if missed > 0 {
        tracing::warn!(
            "{name}: {missed} frames were overwritten before the output was ready for them"
        );
    }
    Ok(())
}

/// The newest frame not yet given, waiting at most a tick for one.
fn newest(frames: &mut Subscription) -> Result<Option<Frame>, camring_ring::RingError> {
    if let Some(frame) = frames.latest()? {
        return Ok(Some(frame));
    }
    frames.wait(Some(TICK))?;
    frames.latest()
}

/// Refuses what y4m cannot hold, before anything is written.
fn begin_y4m(shape: Shape) -> anyhow::Result<()> {
    ensure!(
        y4m_chroma(shape.format).is_some(),
        "y4m cannot hold {} pictures; use --format rgb24",
        shape.format.name()
    );
    Ok(())
}

/// The word of the header for these samples, as FFmpeg's yuv4mpegenc.c writes it.
fn y4m_chroma(format: PixelFormat) -> Option<&'static str> {
    Some(match format {
        PixelFormat::I420 | PixelFormat::Nv12 => "420mpeg2 XYSCSS=420MPEG2",
        PixelFormat::I422 => "422 XYSCSS=422",
        PixelFormat::I444 => "444 XYSCSS=444",
        PixelFormat::Gray8 => "mono",
        PixelFormat::I420p10 => "420p10 XYSCSS=420P10",
        PixelFormat::I422p10 => "422p10 XYSCSS=422P10",
        PixelFormat::I444p10 => "444p10 XYSCSS=444P10",
        _ => return None,
    })
}

/// The header (mjpegtools, yuv4mpeg(5)): square or unknown pixels, progressive.
fn y4m_header(shape: Shape, range: ColorRange, (num, den): (u64, u64)) -> anyhow::Result<String> {
    let Some(chroma) = y4m_chroma(shape.format) else {
        bail!("y4m cannot hold {} pictures", shape.format.name());
    };
    let range = match range {
        ColorRange::Full => " XCOLORRANGE=FULL",
        ColorRange::Limited => " XCOLORRANGE=LIMITED",
        ColorRange::Unknown => "",
    };
    Ok(format!(
        "YUV4MPEG2 W{} H{} F{num}:{den} Ip A0:0 C{chroma}{range}\n",
        shape.width, shape.height
    ))
}

/// Frames per second from two frames, as a fraction in lowest terms.
fn rate(first: Moment, second: Moment) -> (u64, u64) {
    let frames = second.sequence.saturating_sub(first.sequence);
    let ticks = u64::try_from(second.pts.saturating_sub(first.pts)).unwrap_or(0);
    let (den, num) = second.ticks_per_second;
    let (rate_num, rate_den) = (
        frames.saturating_mul(u64::from(den)),
        ticks.saturating_mul(u64::from(num)),
    );
    if rate_num == 0 || rate_den == 0 {
        return USUAL_RATE;
    }
    let (mut a, mut b) = (rate_num, rate_den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (rate_num / a, rate_den / a)
}

/// Appends one frame in `format`.
fn append(frame: &Frame, format: PipeFormat, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let d = frame.descriptor();
    match format {
        PipeFormat::Y4m => {
            out.extend_from_slice(b"FRAME\n");
            for plane in 0..frame.planes() {
                if d.pixel_format == PixelFormat::Nv12 && plane == 1 {
                    // Interleaved chroma, one plane after the other in y4m.
                    for first in [0, 1] {
                        rows(frame, plane, |row| {
                            out.extend(row.iter().skip(first).step_by(2));
                        });
                    }
                } else {
                    rows(frame, plane, |row| out.extend_from_slice(row));
                }
            }
        }
        PipeFormat::Gray => match d.pixel_format {
            PixelFormat::I420p10 | PixelFormat::I422p10 | PixelFormat::I444p10 => {
                rows(frame, 0, |row| {
                    let samples = row.as_chunks::<2>().0;
                    out.extend(samples.iter().map(|s| (u16::from_le_bytes(*s) >> 2) as u8));
                });
            }
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
                bail!(
                    "{} pictures have no luma plane; use --format rgb24",
                    d.pixel_format.name()
                );
            }
            _ => rows(frame, 0, |row| out.extend_from_slice(row)),
        },
        PipeFormat::Rgb24 => {
            let planes: Vec<(&[u8], usize)> = (0..frame.planes())
                .map(|n| (frame.plane(n), frame.plane_stride(n) as usize))
                .collect();
            let image = jpeg::Image {
                format: d.pixel_format,
                width: d.width,
                height: d.height,
                range: d.color_range,
                matrix: d.matrix,
                planes: &planes,
            };
            jpeg::append_rgb24(&image, out)?;
        }
    }
    Ok(())
}

/// Calls `take` with each row of a plane, without its padding.
fn rows(frame: &Frame, plane: usize, mut take: impl FnMut(&[u8])) {
    let d = frame.descriptor();
    let Some((row, rows)) = d.pixel_format.plane_size(plane, d.width, d.height) else {
        return;
    };
    let (bytes, stride) = (frame.plane(plane), frame.plane_stride(plane) as usize);
    for line in 0..rows as usize {
        // The ring has checked that all rows are there.
        let start = line.saturating_mul(stride);
        if let Some(row) = bytes.get(start..start.saturating_add(row as usize)) {
            take(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(sequence: u64, pts: i64) -> Moment {
        Moment {
            sequence,
            pts,
            ticks_per_second: (90_000, 1),
        }
    }

    #[test]
    fn the_rate_is_that_of_the_camera_even_over_a_gap() {
        assert_eq!(rate(moment(7, 1000), moment(8, 16_000)), (6, 1));
        assert_eq!(rate(moment(7, 0), moment(10, 10_800)), (25, 1));
        assert_eq!(rate(moment(7, 0), moment(8, 3003)), (30_000, 1001));
        assert_eq!(rate(moment(7, 5), moment(8, 5)), USUAL_RATE);
        assert_eq!(rate(moment(7, 5), moment(6, 0)), USUAL_RATE);
    }
}
