//! A frame as RGB or BGR, by the `yuv` crate: one pass from the ring into the caller's memory.
//!
//! Promises: range and matrix of the frame are honoured; a stream that does not say is taken for
//! BT.601 and limited range, as everywhere in camring. Must never: write outside the target, which
//! is a slice.

use camring_ring::{ColorRange, Frame, PixelFormat};
use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvGrayImage, YuvPlanarImage, YuvRange,
    YuvStandardMatrix,
};

use crate::errors::Failure;

/// Order of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Rgb,
    Bgr,
}

/// Converts `frame` into `out`, whose rows are `stride` bytes apart.
pub(crate) fn convert(
    frame: &Frame,
    order: Order,
    out: &mut [u8],
    stride: usize,
) -> Result<(), Failure> {
    let d = frame.descriptor();
    let failed = |error: YuvError| {
        Failure::new(
            "Error",
            format!(
                "frame {} cannot be converted from {}: {error}",
                d.sequence, d.pixel_format
            ),
        )
    };
    let rgb = order == Order::Rgb;
    let step =
        u32::try_from(stride).map_err(|_| Failure::option("the rows of out are too far apart"))?;
    // What has no matrix is converted with any.
    let (range, matrix) = (range(frame), matrix(d.matrix));
    match d.pixel_format {
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => {
            let same = rgb == (d.pixel_format == PixelFormat::Rgb24);
            packed(frame, same, out, stride);
            Ok(())
        }
        PixelFormat::Gray8 => {
            let image = YuvGrayImage {
                y_plane: frame.plane(0),
                y_stride: frame.plane_stride(0),
                width: d.width,
                height: d.height,
            };
            let to = if rgb {
                yuv::yuv400_to_rgb
            } else {
                yuv::yuv400_to_bgr
            };
            to(&image, out, step, range, matrix)
        }
        PixelFormat::Nv12 => {
            let image = YuvBiPlanarImage {
                y_plane: frame.plane(0),
                y_stride: frame.plane_stride(0),
                uv_plane: frame.plane(1),
                uv_stride: frame.plane_stride(1),
                width: d.width,
                height: d.height,
            };
            let to = if rgb {
                yuv::yuv_nv12_to_rgb
            } else {
                yuv::yuv_nv12_to_bgr
            };
            to(
                &image,
                out,
                step,
                range,
                matrix,
                YuvConversionMode::Balanced,
            )
        }
        PixelFormat::I420 | PixelFormat::I422 | PixelFormat::I444 => {
            let image = planar(frame);
            let to = match (d.pixel_format, rgb) {
                (PixelFormat::I420, true) => yuv::yuv420_to_rgb,
                (PixelFormat::I420, false) => yuv::yuv420_to_bgr,
                (PixelFormat::I422, true) => yuv::yuv422_to_rgb,
                (PixelFormat::I422, false) => yuv::yuv422_to_bgr,
                (_, true) => yuv::yuv444_to_rgb,
                (_, false) => yuv::yuv444_to_bgr,
            };
            to(&image, out, step, range, matrix)
        }
        PixelFormat::I420p10 | PixelFormat::I422p10 => {
            let image = planar_10(frame)?;
            let to = match (d.pixel_format, rgb) {
                (PixelFormat::I420p10, true) => yuv::i010_to_rgb,
                (PixelFormat::I420p10, false) => yuv::i010_to_bgr,
                (_, true) => yuv::i210_to_rgb,
                (_, false) => yuv::i210_to_bgr,
            };
            to(&image, out, step, range, matrix)
        }
        PixelFormat::I444p10 => {
            // The crate has it with a fourth byte only.
            let width = d.width as usize * 4;
            let mut rgba = vec![0; width * d.height as usize];
            let image = planar_10(frame)?;
            let done = yuv::i410_to_rgba(&image, &mut rgba, width as u32, range, matrix);
            for (from, to) in rgba.chunks_exact(width).zip(out.chunks_mut(stride)) {
                for (from, to) in from.chunks_exact(4).zip(to.chunks_exact_mut(3)) {
                    to.copy_from_slice(&from[..3]);
                    if !rgb {
                        to.reverse();
                    }
                }
            }
            done
        }
        other => {
            return Err(Failure::new(
                "WrongFormat",
                format!("{other} frames cannot be converted by this version: update camring"),
            ));
        }
    }
    .map_err(failed)
}

/// 8-bit samples that are RGB already, or the other way round.
fn packed(frame: &Frame, same: bool, out: &mut [u8], stride: usize) {
    let row = frame.descriptor().width as usize * 3;
    let rows = frame.plane(0).chunks(frame.plane_stride(0).max(1) as usize);
    for (from, to) in rows.zip(out.chunks_mut(stride)) {
        let (Some(from), Some(to)) = (from.get(..row), to.get_mut(..row)) else {
            continue;
        };
        to.copy_from_slice(from);
        if !same {
            to.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
    }
}

fn planar(frame: &Frame) -> YuvPlanarImage<'_, u8> {
    let d = frame.descriptor();
    YuvPlanarImage {
        y_plane: frame.plane(0),
        y_stride: frame.plane_stride(0),
        u_plane: frame.plane(1),
        u_stride: frame.plane_stride(1),
        v_plane: frame.plane(2),
        v_stride: frame.plane_stride(2),
        width: d.width,
        height: d.height,
    }
}

fn planar_10(frame: &Frame) -> Result<YuvPlanarImage<'_, u16>, Failure> {
    let d = frame.descriptor();
    let samples = |index| {
        bytemuck::try_cast_slice(frame.plane(index)).map_err(|_| {
            Failure::new(
                "Error",
                format!("plane {index} of frame {} is not aligned", d.sequence),
            )
        })
    };
    Ok(YuvPlanarImage {
        y_plane: samples(0)?,
        y_stride: frame.plane_stride(0) / 2,
        u_plane: samples(1)?,
        u_stride: frame.plane_stride(1) / 2,
        v_plane: samples(2)?,
        v_stride: frame.plane_stride(2) / 2,
        width: d.width,
        height: d.height,
    })
}

/// Gray is what it is: only a stream that says "limited" is stretched.
fn range(frame: &Frame) -> YuvRange {
    let d = frame.descriptor();
    match (d.color_range, d.pixel_format) {
        (ColorRange::Full, _) | (ColorRange::Unknown, PixelFormat::Gray8) => YuvRange::Full,
        _ => YuvRange::Limited,
    }
}

/// ITU-T H.273, table 4.
fn matrix(code_point: u8) -> YuvStandardMatrix {
    match code_point {
        1 => YuvStandardMatrix::Bt709,
        4 => YuvStandardMatrix::Fcc,
        7 => YuvStandardMatrix::Smpte240,
        9 | 10 => YuvStandardMatrix::Bt2020,
        _ => YuvStandardMatrix::Bt601,
    }
}
