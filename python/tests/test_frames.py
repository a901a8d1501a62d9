"""What a frame says and shows, and for how long."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import camring
import cv2
import numpy as np
import pytest
from conftest import StandIn, samples

pytestmark = pytest.mark.usefixtures("socket")


def test_a_frame_says_what_it_is(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        number = stand_in.frame(
            format="i420", size=(31, 15), align=32, color_range=1, matrix=1, flags=1 | 2 | 8
        )
        frame = camera.next(60)
        assert (frame.camera, frame.sequence, frame.generation) == ("yard", number, 1)
        assert (frame.pts, frame.time_base, frame.access_unit) == (number * 3000, Fraction(1, 90000), 1001)
        assert frame.time_ns == 1_700_000_000_156_456_789
        assert frame.time == datetime(2023, 11, 14, 22, 13, 20, 156456, tzinfo=UTC)
        assert (frame.width, frame.height, frame.format, frame.strides) == (31, 15, "i420", (32, 32, 32))
        assert (frame.color_range, frame.matrix, frame.rotation) == ("limited", 1, 0)
        assert (frame.key_frame, frame.discontinuity, frame.corrupt) == (True, True, False)
        assert (frame.time_source, frame.missed, frame.hidden, frame.change) == ("sender-report", 0, 0, None)
        assert frame.publish_ns > frame.arrival_ns > 0
        assert repr(frame) == f"<camring.Frame {number} of yard, 31x15 i420>"
        assert camera.name == "yard"
        assert camera.generation == 1
        stand_in.frame()
        plain = camera.next(60)
        assert (plain.time_source, plain.color_range, plain.matrix) == ("arrival", "unknown", 2)
        assert frame.released
        # Numbers stay.
        assert (frame.sequence, frame.time_ns) == (number, 1_700_000_000_156_456_789)


def test_planes_are_views_of_the_right_bytes(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        y, u, v = samples((16, 32), seed=1), samples((8, 16), seed=2), samples((8, 16), seed=3)
        stand_in.frame(data=y.tobytes() + u.tobytes() + v.tobytes(), format="i420")
        frame = camera.next(60)
        for found, expected in zip((frame.y, frame.u, frame.v), (y, u, v), strict=True):
            assert found.dtype == np.uint8
            assert not found.flags.writeable
            np.testing.assert_array_equal(found, expected)
        with pytest.raises(camring.WrongFormat, match="i420"):
            _ = frame.array
        with pytest.raises(ValueError, match="read-only"):
            frame.y[0, 0] = 1

        stand_in.frame(data=y.tobytes() + np.stack((u, v), axis=-1).tobytes(), format="nv12")
        frame = camera.next(60)
        np.testing.assert_array_equal(frame.u, u)
        np.testing.assert_array_equal(frame.v, v)
        assert frame.u.base is not None
        assert frame.planes[1].shape == (8, 16, 2)

        deep = (y.astype(np.uint16) << 2) + 3
        stand_in.frame(data=deep.tobytes() * 3, format="i444p10")
        frame = camera.next(60)
        assert frame.v.dtype == np.uint16
        np.testing.assert_array_equal(frame.v, deep)

        rgb = samples((16, 96)).reshape(16, 32, 3)
        padded = np.zeros((16, 128), np.uint8)
        padded[:, :96] = rgb.reshape(16, 96)
        stand_in.frame(data=padded.tobytes(), format="bgr24", align=128)
        frame = camera.next(60)
        assert frame.array.strides == (128, 3, 1)
        np.testing.assert_array_equal(frame.array, rgb)
        with pytest.raises(camring.WrongFormat, match=r"frame\.array"):
            _ = frame.y

        stand_in.frame(data=y.tobytes())
        frame = camera.next(60)
        np.testing.assert_array_equal(frame.array, y)
        np.testing.assert_array_equal(frame.y, y)
        with pytest.raises(camring.WrongFormat, match="no u plane"):
            _ = frame.u


def test_pixels_of_a_released_frame_are_an_error(stand_in: StandIn) -> None:
    camera = camring.attach("yard")
    stand_in.marked(mark=1)
    frame = camera.next(60)
    frame.release()
    frame.release()
    assert frame.released
    assert "released" in repr(frame)
    for look in (
        lambda: frame.y,
        lambda: frame.array,
        lambda: frame.planes,
        frame.to_rgb,
        frame.hold,
        lambda: memoryview(frame),
        lambda: np.asarray(frame),
        lambda: np.from_dlpack(frame),
    ):
        with pytest.raises(camring.ReleasedError, match=r"frame 1 was released.*hold"):
            look()
    # By the next look, by the end of the camera.
    stand_in.marked(mark=2)
    second = camera.next(60)
    assert camera.latest() is None
    assert second.released
    stand_in.marked(mark=3)
    third = camera.next(60)
    assert not third.released
    camera.close()
    assert third.released


def test_what_is_held_stays_as_it_is(stand_in: StandIn) -> None:
    """Views outlive their frame, the camera's interest in it, and the camera."""
    with camring.attach("yard", pins=6) as camera:
        stand_in.marked(mark=1)
        kept = camera.next(60).hold()
        stand_in.marked(mark=2)
        array = camera.next(60).y
        stand_in.marked(mark=3)
        view = memoryview(camera.next(60))
        stand_in.marked(mark=4)
        plane = camera.next(60).planes[0]
        stand_in.marked(mark=5)
        tensor = np.from_dlpack(camera.next(60))
        part = tensor[3:5, 7:9]
        del tensor
        for _ in range(200):  # more than there are slots
            stand_in.marked(mark=99)
            assert camera.next(60).y[0, 0] == 99
    gc.collect()
    stand_in.marked(mark=99)
    assert not kept.released
    assert (kept.y == 1).all()
    assert (array == 2).all()
    assert view.readonly
    assert set(view.tobytes()) == {3}
    assert (np.asarray(plane) == 4).all()
    assert part.shape == (2, 2)
    assert (part == 5).all()
    with kept as same:
        assert same is kept
    assert kept.released


def test_holding_more_than_the_pins_says_what_holds(stand_in: StandIn) -> None:
    with camring.attach("yard", pins=2) as camera:
        stand_in.marked()
        first = camera.next(60).hold()
        stand_in.marked()
        array = camera.next(60).y
        stand_in.marked()
        for _ in range(2):
            with pytest.raises(camring.HeldTooMany) as error:
                camera.next(60)
            assert "all 2 pins" in str(error.value)
            assert "frame 1 of yard: held with hold()" in str(error.value)
            assert "frame 2 of yard: 1 array or buffer on it is alive" in str(error.value)
        del array
        assert camera.next(60).sequence == 3
        first.release()
        stand_in.marked()
        plane = camera.next(60).planes[0]
        again = np.asarray(plane), np.asarray(plane)
        stand_in.marked()
        kept = camera.next(60).hold()
        stand_in.marked()
        with pytest.raises(camring.HeldTooMany, match="2 arrays or buffers"):
            camera.next(60)
        del again
        with pytest.raises(camring.HeldTooMany, match="one of its planes is referenced"):
            camera.next(60)
        kept.release()
        del plane
        assert camera.next(60).sequence == 6


def test_the_usual_loop_needs_no_more_than_two_pins(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        previous = None
        for n in range(50):
            stand_in.marked(mark=n)
            frame = camera.next(60)
            luma = frame.y
            if previous is not None:
                assert int(luma[0, 0]) - int(previous[0, 0]) == 1
            previous = luma


def test_buffers_are_what_the_protocol_says(stand_in: StandIn) -> None:
    with camring.attach("yard", pins=4) as camera:
        picture = samples((16, 32))
        stand_in.frame(data=picture.tobytes())
        view = memoryview(camera.next(60).hold())
        assert (view.format, view.itemsize, view.shape, view.strides) == ("B", 1, (16, 32), (32, 1))
        assert view.contiguous
        assert bytes(view) == picture.tobytes()
        padded = np.zeros((16, 64), np.uint8)
        padded[:, :32] = picture
        stand_in.frame(data=padded.tobytes(), align=64)
        frame = camera.next(60)
        view = memoryview(frame)
        assert (view.shape, view.strides, view.contiguous) == ((16, 32), (64, 1), False)
        assert view.tobytes() == picture.tobytes()
        with pytest.raises(BufferError, match="padded"):
            io.BytesIO().write(frame)
        with pytest.raises((BufferError, TypeError)):
            io.BytesIO(b"x").readinto(frame)
        stand_in.frame(format="i420")
        with pytest.raises(BufferError, match="several planes"):
            memoryview(camera.next(60))


def test_tensors_share_the_memory(stand_in: StandIn) -> None:
    with camring.attach("yard", pins=4) as camera:
        rgb = samples((16, 96)).reshape(16, 32, 3)
        stand_in.frame(data=rgb.tobytes(), format="rgb24")
        frame = camera.next(60)
        assert frame.__dlpack_device__() == (1, 0)
        tensor = np.from_dlpack(frame)
        assert not tensor.flags.writeable
        assert tensor.ctypes.data == frame.array.ctypes.data
        np.testing.assert_array_equal(tensor, rgb)
        writable = np.from_dlpack(frame, copy=True)
        writable[:] = 0
        np.testing.assert_array_equal(frame.array, rgb)
        np.testing.assert_array_equal(np.from_dlpack(frame.planes[0]), rgb)

        class Old:
            """As consumers ask that know no versions."""

            def __dlpack__(self, **_: object) -> Any:  # noqa: ANN401
                return frame.__dlpack__()

            def __dlpack_device__(self) -> tuple[int, int]:
                return frame.__dlpack_device__()

        old = np.from_dlpack(Old())
        assert old.ctypes.data == tensor.ctypes.data
        np.testing.assert_array_equal(old, rgb)
        # Capsules that nobody takes.
        assert "dltensor" in repr(frame.__dlpack__())
        assert "dltensor_versioned" in repr(frame.__dlpack__(max_version=(1, 0)))
        gc.collect()
        with pytest.raises(BufferError, match="main memory"):
            frame.__dlpack__(dl_device=(2, 0))
        stand_in.frame(format="i420")
        with pytest.raises(BufferError, match="several planes"):
            np.from_dlpack(camera.next(60))


def test_an_unused_capsule_gives_its_pin_back(stand_in: StandIn) -> None:
    with camring.attach("yard", pins=1) as camera:
        for versioned in (None, (1, 0)):
            stand_in.marked()
            capsule = camera.next(60).__dlpack__(max_version=versioned)
            stand_in.marked()
            with pytest.raises(camring.HeldTooMany):
                camera.next(60)
            del capsule
            camera.next(60)


def test_opencv_takes_a_frame_in_place(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        picture = samples((16, 32))
        padded = np.zeros((16, 64), np.uint8)
        padded[:, :32] = picture
        stand_in.frame(data=padded.tobytes(), align=64)
        frame = camera.next(60)
        blurred = cv2.GaussianBlur(frame.y, (3, 3), 0)
        np.testing.assert_array_equal(blurred, cv2.GaussianBlur(picture, (3, 3), 0))


def test_arrays_of_other_types_are_copies(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        stand_in.marked(mark=7)
        frame = camera.next(60)
        assert np.asarray(frame).ctypes.data == frame.y.ctypes.data
        assert np.asarray(frame, dtype=np.float32).dtype == np.float32
        assert np.array(frame).flags.writeable


def test_frames_are_not_pickled(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        stand_in.marked()
        frame = camera.next(60)
        for thing in (frame, frame.planes[0]):
            for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot be pickled"):
                    attempt(thing)
        with pytest.raises(TypeError, match="attach in the other process"):
            pickle.dumps(camera)
        assert pickle.loads(pickle.dumps(frame.y)).shape == (16, 32)


def test_damaged_frames_are_hidden_unless_asked_for(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera, camring.attach("yard", corrupt=True) as raw:
        stand_in.frame()
        assert camera.next(60).sequence == raw.next(60).sequence == 1
        stand_in.frame(flags=4)
        damaged = raw.next(60)
        assert damaged.corrupt
        assert camera.latest() is None
        stand_in.frame()
        frame = camera.next(60)
        assert (frame.sequence, frame.missed, frame.hidden) == (3, 0, 1)
