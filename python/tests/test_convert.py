"""RGB and BGR: against the formulas of the standards, OpenCV, and in the caller's memory."""

from __future__ import annotations

import camring
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from conftest import StandIn, samples

pytestmark = pytest.mark.usefixtures("socket")

WIDTH, HEIGHT = 70, 34
"""No multiples of what SIMD code likes."""

KR_KB = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
SUBSAMPLING = {"i420": (2, 2), "i422": (2, 1), "i444": (1, 1), "nv12": (2, 2)}
FORMATS = [*SUBSAMPLING, "i420p10", "i422p10", "i444p10"]

Picture = npt.NDArray[np.uint8]


def formula(planes: tuple[Picture, Picture, Picture, tuple[int, int]], full: bool, matrix: int) -> Picture:
    """H.273 equations in floating point; chroma samples repeated."""
    kr, kb = KR_KB[matrix]
    y, u, v, step = planes
    u, v = (np.repeat(np.repeat(c, step[1], 0), step[0], 1)[:HEIGHT, :WIDTH] for c in (u, v))
    luma = y.astype(float) / 255 if full else (y.astype(float) - 16) / 219
    cb, cr = ((c.astype(float) - 128) / (255 if full else 224) for c in (u, v))
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.rint(np.stack((red, green, blue), -1) * 255), 0, 255).astype(np.uint8)


def planes(kind: str) -> tuple[Picture, Picture, Picture, tuple[int, int]]:
    step = SUBSAMPLING[kind.removesuffix("p10")]
    size = (-(-HEIGHT // step[1]), -(-WIDTH // step[0]))
    return samples((HEIGHT, WIDTH)), samples(size, 60, 200, seed=2), samples(size, 60, 200, seed=3), step


def encode(kind: str, y: Picture, u: Picture, v: Picture) -> bytes:
    if kind == "nv12":
        return y.tobytes() + np.stack((u, v), -1).tobytes()
    if kind.endswith("p10"):
        return b"".join((plane.astype(np.uint16) << 2).tobytes() for plane in (y, u, v))
    return y.tobytes() + u.tobytes() + v.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_range_and_matrix(stand_in: StandIn, kind: str) -> None:
    y, u, v, step = planes(kind)
    with camring.attach("yard") as camera:
        for color_range, full in ((0, False), (1, False), (2, True)):
            for matrix in KR_KB:
                stand_in.frame(
                    data=encode(kind, y, u, v),
                    format=kind,
                    size=(WIDTH, HEIGHT),
                    color_range=color_range,
                    matrix=matrix,
                )
                frame = camera.next(60)
                expected = formula((y, u, v, step), full, matrix)
                found = frame.to_rgb()
                # The same value in 10 bits at full range is not four times the one in 8.
                limit = 3 if kind.endswith("p10") and full else 2
                difference = np.abs(found.astype(int) - expected)
                assert difference.max() <= limit, (kind, color_range, matrix)
                np.testing.assert_array_equal(frame.to_bgr(), found[:, :, ::-1])


def test_as_opencv_has_it(stand_in: StandIn) -> None:
    y, u, v, _ = planes("i420")
    data = encode("i420", y, u, v)
    with camring.attach("yard") as camera:
        stand_in.frame(data=data, format="i420", size=(WIDTH, HEIGHT))
        stacked = np.frombuffer(data, np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
        expected = cv2.cvtColor(stacked, cv2.COLOR_YUV2BGR_I420)
        difference = np.abs(camera.next(60).to_bgr().astype(int) - expected)
        assert difference.max() <= 2
        assert difference.mean() < 0.5


def test_packed_and_gray(stand_in: StandIn) -> None:
    picture = samples((HEIGHT, WIDTH * 3), 0, 255).reshape(HEIGHT, WIDTH, 3)
    gray = samples((HEIGHT, WIDTH), 0, 255)
    with camring.attach("yard") as camera:
        stand_in.frame(data=picture.tobytes(), format="rgb24", size=(WIDTH, HEIGHT))
        frame = camera.next(60)
        np.testing.assert_array_equal(frame.to_rgb(), picture)
        np.testing.assert_array_equal(frame.to_bgr(), picture[:, :, ::-1])
        stand_in.frame(data=picture.tobytes(), format="bgr24", size=(WIDTH, HEIGHT))
        frame = camera.next(60)
        np.testing.assert_array_equal(frame.to_bgr(), picture)
        np.testing.assert_array_equal(frame.to_rgb(), picture[:, :, ::-1])
        stand_in.frame(data=gray.tobytes(), size=(WIDTH, HEIGHT))
        frame = camera.next(60)
        np.testing.assert_array_equal(frame.to_rgb(), np.stack([gray] * 3, -1))


def test_into_the_callers_memory(stand_in: StandIn) -> None:
    y, u, v, _ = planes("i420")
    with camring.attach("yard") as camera:
        stand_in.frame(data=encode("i420", y, u, v), format="i420", size=(WIDTH, HEIGHT))
        frame = camera.next(60)
        expected = frame.to_rgb()
        out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        assert frame.to_rgb(out=out) is out
        np.testing.assert_array_equal(out, expected)
        # A part of a larger picture; what is around it stays.
        canvas = np.full((HEIGHT + 2, WIDTH + 2, 3), 9, np.uint8)
        frame.to_rgb(out=canvas[1:-1, 1:-1])
        np.testing.assert_array_equal(canvas[1:-1, 1:-1], expected)
        canvas[1:-1, 1:-1] = 9
        assert (canvas == 9).all()

        frozen = np.empty_like(out)
        frozen.flags.writeable = False
        wrong: list[object] = [
            np.empty((HEIGHT, WIDTH), np.uint8),
            np.empty((WIDTH, HEIGHT, 3), np.uint8),
            np.empty((HEIGHT, WIDTH, 3), np.int8),
            np.empty((HEIGHT, WIDTH, 3), np.uint16),
            np.empty((HEIGHT, WIDTH, 4), np.uint8)[:, :, :3],
            out[::-1],
            out[:, ::-1],
            frozen,
            "no array",
        ]
        for array in wrong:
            with pytest.raises(camring.OptionError, match="uint8 array of shape"):
                frame.to_rgb(out=array)  # type: ignore[arg-type]
