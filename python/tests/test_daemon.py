"""The real daemon and cameras: pictures are what the cameras sent, in place, across a restart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import camring
import framecode
import numpy as np
import pytest
from conftest import PATIENCE_S, ROOT, Site, wait_for

EXAMPLES = ROOT / "python" / "examples"
TAGS = {"door": 5, "yard": 6}
"""Of the clips h264-360p and h264-180p."""


def mapping_of(address: int) -> str:
    """The line of /proc/self/maps that an address lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if start <= address < end:
            return line
    raise AssertionError(f"{address:#x} is mapped nowhere")


def test_pixels_lie_in_the_ring(site: Site) -> None:
    """Reading copies nothing: the arrays point into read-only mappings of the ring itself."""
    with camring.attach("door", socket=site.socket, timeout=PATIENCE_S) as camera:
        frame = camera.next(PATIENCE_S)
        arrays = [frame.y, frame.u, frame.v, np.asarray(frame.planes[0]), np.from_dlpack(frame.planes[1])]
        for array in arrays:
            for address in (array.ctypes.data, array.ctypes.data + array.strides[0] * len(array) - 1):
                mapping = mapping_of(address)
                assert "memfd:camring" in mapping, mapping
                assert mapping.split()[1].startswith("r--s"), mapping
        assert "memfd:" not in mapping_of(frame.to_rgb().ctypes.data)


@pytest.mark.parametrize("in_order", [False, True])
def test_every_frame_is_the_one_that_was_sent(site: Site, in_order: bool) -> None:
    with camring.attach("door", socket=site.socket, timeout=PATIENCE_S) as camera:
        last: camring.Frame | None = None
        for count, frame in enumerate(camera.frames(in_order=in_order, timeout=PATIENCE_S)):
            code = framecode.read(frame.y)
            assert code.tag == TAGS["door"]
            assert (frame.width, frame.height, frame.format) == (640, 360, "i420")
            if last is not None:
                assert frame.sequence == last.sequence + 1 + frame.missed
                assert frame.pts > last.pts
                assert frame.access_unit > last.access_unit
            last = frame
            if count == 20:
                break


def test_many_cameras(site: Site) -> None:
    with camring.attach_many(["yard", "door"], socket=site.socket, timeout=PATIENCE_S) as cameras:
        seen = {"yard": 0, "door": 0}
        for frame in cameras.frames(timeout=PATIENCE_S):
            assert framecode.read(frame.y).tag == TAGS[frame.camera]
            seen[frame.camera] += 1
            if min(seen.values()) >= 5:
                break


def test_a_slow_detector_gets_the_newest(site: Site) -> None:
    with (
        camring.attach("door", socket=site.socket, timeout=PATIENCE_S) as camera,
        camring.attach("door", socket=site.socket, timeout=PATIENCE_S) as other,
    ):
        held = camera.next(PATIENCE_S).hold()
        before = framecode.read(held.y)
        numbers = [other.next(PATIENCE_S, in_order=True).sequence for _ in range(30)]
        # Holding a frame holds nobody up, and it does not change.
        assert numbers[-1] - numbers[0] >= 29
        frame = camera.next(PATIENCE_S)
        assert frame.missed == frame.sequence - held.sequence - 1 >= 28
        assert framecode.read(held.y) == before
        held.release()


def test_the_cameras_there_are(site: Site) -> None:
    def streaming() -> bool:
        return all(c.state == "streaming" and c.width for c in camring.cameras(socket=site.socket))

    wait_for("both to stream", streaming)
    door, yard = camring.cameras(socket=site.socket)
    assert (door.name, door.width, door.height, door.codec) == ("door", 640, 360, "h264")
    assert yard.name == "yard"
    assert camring.status(socket=site.socket)["site"] == "test"
    with pytest.raises(camring.NoSuchCamera, match="door, yard"):
        camring.attach("dor", socket=site.socket)
    with pytest.raises(camring.NoSuchCamera, match='no view "detects"; there are: door:detect, door:colour'):
        camring.attach("door", view="detects", socket=site.socket)
    with pytest.raises(camring.NoSuchCamera, match='no view "other"; there are: yard:detect, yard:colour'):
        camring.attach_many(["door", "yard:other"], socket=site.socket)
    with camring.attach_many(socket=site.socket) as cameras:
        assert cameras.names == ("door", "yard")


@pytest.fixture
def small_site() -> Iterator[Site]:
    site = Site({"yard": "h264-180p"})
    yield site
    site.end()


def test_a_restarted_daemon(small_site: Site) -> None:
    site = small_site
    options: dict[str, Any] = {"socket": site.socket, "timeout": PATIENCE_S}
    with (
        camring.attach("yard", **options) as camera,
        camring.attach("yard", reconnect=False, **options) as strict,
    ):
        kept = camera.next(PATIENCE_S).hold()
        strict.next(PATIENCE_S)
        code = framecode.read(kept.y)
        site.stop()
        with pytest.raises(camring.Disconnected):
            while True:
                strict.next(PATIENCE_S)
        with pytest.raises(camring.Timeout, match="the daemon is gone"):
            while True:
                camera.next(1)
        site.start()
        frame = camera.next(PATIENCE_S)
        assert frame.change == "reconnected"
        assert framecode.read(frame.y).tag == TAGS["yard"]
        assert framecode.read(kept.y) == code
        assert camera.next(PATIENCE_S).change is None
        with pytest.raises(camring.Disconnected):
            strict.next(1)


def test_a_restarted_daemon_on_an_event_loop(small_site: Site) -> None:
    async def main() -> None:
        with camring.attach("yard", socket=small_site.socket, timeout=PATIENCE_S) as camera:
            frames = camera.frames(timeout=PATIENCE_S)
            await anext(frames)
            waiting = asyncio.create_task(later(frames))
            await asyncio.to_thread(small_site.stop)
            small_site.start()  # a child dies with the thread that started it
            frame = await waiting
            assert frame.change == "reconnected"
            assert framecode.read(frame.y).tag == TAGS["yard"]

    async def later(frames: camring.Frames) -> camring.Frame:
        async for frame in frames:
            if frame.change:
                return frame
        raise AssertionError("closed")

    asyncio.run(main())


def lines(command: list[str], count: int) -> list[dict[str, Any]]:
    """The first lines that an example prints, each a JSON object."""
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", *command, "--frames", str(count)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_triple(found: dict[str, Any]) -> bool:
    return (
        isinstance(found["sequence"], int)
        and isinstance(found["pts"], int)
        and str(found["time"]).endswith("+00:00")
    )


def test_example_motion(site: Site) -> None:
    """The cells of the frame code flicker, so there is motion in every picture."""
    found = lines([str(EXAMPLES / "motion.py"), "--socket", site.socket, "--min-area", "0.0005"], 30)
    assert {line["camera"] for line in found} == {"door", "yard"}
    for line in found:
        assert is_triple(line)
        assert line["boxes"]
        assert all(0 <= v <= 1 for box in line["boxes"] for v in box["xywh"])


class Recorder:
    """Times by frame number of everything that a thread sees meanwhile, by camera."""

    def __init__(self, site: Site, names: list[str]) -> None:
        self.cameras = camring.attach_many(names, socket=site.socket, timeout=PATIENCE_S)
        self.seen: dict[str, dict[int, tuple[int, str]]] = {name: {} for name in names}
        self.thread = threading.Thread(target=self.read)

    def read(self) -> None:
        for frame in self.cameras.frames(in_order=True):
            self.seen[frame.camera][frame.sequence] = (frame.pts, frame.time.isoformat())

    def __enter__(self) -> Recorder:
        self.thread.start()
        wait_for("frames of all", lambda: all(self.seen.values()))
        return self

    def __exit__(self, *_: object) -> None:
        self.cameras.close()
        self.thread.join()


def test_example_motion_in_a_view_of_all_cameras(site: Site) -> None:
    """One process, one wait; what it finds carries the number and the times of the very frame."""
    names = ["door:detect", "yard:detect"]
    with Recorder(site, [*names, "door", "yard"]) as recorder:
        command = [str(EXAMPLES / "motion.py"), "--socket", site.socket, "--view", "detect"]
        found = lines([*command, "--min-area", "0.0005"], 60)
    assert {line["camera"] for line in found} == set(names)
    for name in names:
        times = dict(recorder.seen[name.removesuffix(":detect")].values())
        exact = 0
        for line in (line for line in found if line["camera"] == name):
            # Numbers are the view's own; its times are those of the camera's frame.
            seen = recorder.seen[name].get(line["sequence"])
            assert seen in (None, (line["pts"], line["time"]))
            assert times.get(line["pts"]) in (None, line["time"])
            exact += seen is not None and line["pts"] in times
        assert exact >= 5, found


def tiny_model(path: Path) -> None:
    """A detector in one operator: says the mean of the picture as the score of one box."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    box = onnx.numpy_helper.from_array(np.array([[[0.25, 0.25, 0.75, 0.75]]], np.float32), "box")
    zero = onnx.numpy_helper.from_array(np.array([[0.0]], np.float32), "zero")
    shape = onnx.numpy_helper.from_array(np.array([1, 1], np.int64), "shape")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=1, axes=[1, 2, 3]),
        helper.make_node("Reshape", ["mean", "shape"], ["scores"]),
        helper.make_node("Identity", ["box"], ["boxes"]),
        helper.make_node("Identity", ["zero"], ["classes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, [1, 3, 64, 96])],
        [
            helper.make_tensor_value_info("boxes", kind, [1, 1, 4]),
            helper.make_tensor_value_info("scores", kind, [1, 1]),
            helper.make_tensor_value_info("classes", kind, [1, 1]),
        ],
        [box, zero, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("view", "name", "size"),
    [
        (None, "door", (640, 360)),
        ("detect", "door:detect", (640, 360)),
        ("colour", "door:colour", (320, 180)),
    ],
)
def test_example_detect_onnx(
    site: Site, tmp_path: Path, view: str | None, name: str, size: tuple[int, int]
) -> None:
    """On the camera's own frames, on gray ones, and on RGB taken in place."""
    pytest.importorskip("onnxruntime")
    tiny_model(tmp_path / "tiny.onnx")
    command = [str(EXAMPLES / "detect_onnx.py"), str(tmp_path / "tiny.onnx"), "door", "--socket", site.socket]
    command += ["--view", view] if view else []
    found = lines([*command, "--threshold", "0.05"], 5)
    assert len(found) == 5
    width, height = size
    for line in found:
        assert is_triple(line)
        assert line["camera"] == name
        (box,) = line["boxes"]
        assert box["class"] == 0
        assert 0.05 < box["score"] < 1
        assert box["xyxy"] == pytest.approx([0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height])
