"""What every peer's reader does with a picture: says which one it is, whether it is whole, how old it is.

The picture's frame code (tests/farm/framecode.py) is compared with a table of all codes that its camera
sends, which is much cheaper than reading it bit by bit, and as strict. What it costs all the same is
measured, and taken off the peer's CPU time.

The driver leaves `plan.json` and `control` in a folder; a reader writes `result-NAME.json` there. Where
several readers look at one camera, it is in the plan once for each, with `source` saying which it is.
`control` is an array of int64: begin and end of the window (CLOCK_MONOTONIC ns of the camera's sending, 0:
none yet), whether to stop, and from word 8 on when each camera's first picture was in the reader's hands.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import framecode
import numpy as np
from framecode import Plane

FROM, TO, STOP, FIRST = 0, 1, 2, 8
# Send times kept per camera: one for each index that the frame code can express.
SENDTS_SLOTS = framecode.MAX_INDEX + 1


def die_with_parent() -> None:
    """SIGKILL when the thread that started this process ends (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def end_on_sigterm() -> None:
    """SIGTERM ends this process through its `finally` blocks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


class CodeBook:
    """All codes of one clip, by the cells that they colour."""

    def __init__(self, tag: int, pictures: int, width: int, height: int) -> None:
        cell = width // framecode.CELLS
        half = framecode.band_height(height) // 2
        middles = [framecode.band_top(band, height) + half for band in range(framecode.BANDS)]
        # Two neighbouring rows of each band, and of each cell the two samples in its middle.
        self._rows = np.array([[m - 1, m] for m in middles]).reshape(-1, 1)
        right = np.arange(framecode.CELLS) * cell + cell // 2
        self._left, self._right = right - 1, right
        self._index: dict[bytes, int] = {}
        for index in range(pictures):
            code = framecode.Code(tag, index)
            words = [framecode.word(band, code) for band in range(framecode.BANDS) for _ in range(2)]
            self._index[b"".join(word.to_bytes(4, "big") for word in words)] = index

    def index(self, luma: Plane) -> int | None:
        """Which picture this is; None: torn, damaged, or none of this clip."""
        left = luma[self._rows, self._left].astype(np.uint16)
        cells = left + luma[self._rows, self._right] > 2 * framecode.THRESHOLD
        return self._index.get(np.packbits(cells).tobytes())


@dataclasses.dataclass
class Tally:
    """What became of one camera's pictures."""

    pictures: int  # in its clip, before it repeats
    seen: int = 0  # sent in the window, whole and in order
    expected: int = 0  # that there were between the first and the last of them
    torn: int = 0  # in the window: mixed or unreadable
    disorder: int = 0  # in the window: repeated, or older than the one before
    first_ns: int = 0
    latencies_us: list[int] = dataclasses.field(default_factory=list)
    verify_ns: int = 0  # CPU time of the bench's own work, in the window
    last: int | None = None
    in_window: bool = False

    def add(self, index: int | None, held_ns: int, sent_ns: int, window: tuple[int, int]) -> None:
        """One picture that the reader holds since `held_ns`; `window` is that of sending times."""
        start, end = window
        if index is None:
            self.torn += start != 0 and start <= held_ns < end
            return
        self.first_ns = self.first_ns or held_ns
        step = 1 if self.last is None else (index - self.last) % self.pictures
        self.last = index
        if step == 0 or step > self.pictures // 2:
            self.disorder += start != 0 and start <= held_ns < end
            return
        if start == 0 or not start <= sent_ns < end:
            return
        # What was missing before the first picture of the window is not the window's.
        self.expected += step if self.in_window else 1
        self.in_window = True
        self.seen += 1
        self.latencies_us.append((held_ns - sent_ns) // 1000)


class Witness:
    """The cameras of a run, as one reader process sees them. Safe to use with one thread per camera."""

    def __init__(self, folder: Path, cameras: Sequence[int] | None = None) -> None:
        """`cameras`: those that this process reads, all by default."""
        self.folder = folder
        plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        self.width, self.height = int(plan["width"]), int(plan["height"])
        self.fps = int(plan["fps"])
        self.urls = [str(camera["url"]) for camera in plan["cameras"]]
        self._sources = [int(camera.get("source", n)) for n, camera in enumerate(plan["cameras"])]
        self._control = _map(folder / "control", mmap.PROT_READ | mmap.PROT_WRITE)
        self._sent = _map(Path(plan["sendts"]), mmap.PROT_READ)
        first = plan["cameras"][0]
        self._book = CodeBook(first["tag"], first["pictures"], self.width, self.height)
        numbers = range(len(self.urls)) if cameras is None else cameras
        self.tallies = {number: Tally(first["pictures"]) for number in numbers}

    def held(self, camera: int, luma: Plane, held_ns: int) -> None:
        """A picture is in the reader's hands since `held_ns` (time.monotonic_ns)."""
        began = time.thread_time_ns()
        tally = self.tallies[camera]
        window = self._control[FROM], self._control[TO]
        index = self._book.index(luma)
        sent = 0 if index is None else self._sent[self._sources[camera] * SENDTS_SLOTS + index]
        tally.add(index, held_ns, sent, window)
        if not self._control[FIRST + camera] and tally.first_ns:
            self._control[FIRST + camera] = tally.first_ns
        if window[0] <= held_ns < window[1]:
            tally.verify_ns += time.thread_time_ns() - began

    @property
    def stopped(self) -> bool:
        return self._control[STOP] != 0

    def write(self) -> None:
        """Leaves the results in the folder, under a name of this process."""
        cameras = {}
        for number, tally in self.tallies.items():
            cameras[number] = dataclasses.asdict(tally)
        path = self.folder / f"result-{os.getpid()}.json"
        path.with_suffix(".part").write_text(json.dumps(cameras))
        path.with_suffix(".part").rename(path)


def _map(path: Path, protection: int) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=protection)).cast("q")
