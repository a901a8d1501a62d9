"""Rust, C and Python on one camera and on one view of it at the same time: all see the same frames,
with the same numbers, times and pixels, while the camera changes its resolution and its reader is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import camring
import framecode
import numpy as np
import pytest
from conftest import CAMERA, PATIENCE_S, ROOT, Site, program, wait_for

TAG = 12
"""Of the clip h264-resize: pictures of 640×360, of 1280×720, of 640×360, two seconds each."""
SMALL, LARGE, OF_VIEW = (640, 360), (1280, 720), (320, 180)
VIEW = "door:detect"
VIEW_LINES = """
[[camera.view]]
name = "detect"
width = 320
height = 180
format = "rgb24"
"""


@dataclass(frozen=True)
class Seen:
    """What must be the same for all, of the frame with one number."""

    generation: int
    pts: int
    time_ns: int
    size: tuple[int, int]
    sum: int


@dataclass
class Subscriber:
    """Frames by their numbers, and what the ring did meanwhile."""

    frames: dict[int, Seen] = field(default_factory=dict)
    changes: dict[int, str] = field(default_factory=dict)

    @property
    def restarted(self) -> int | None:
        """Number of the first frame of another reader."""
        found = [number for number, change in self.changes.items() if change == "writer-restarted"]
        return found[0] if found else None

    def add(self, sequence: int, seen: Seen, change: str | None) -> None:
        assert sequence > max(self.frames, default=-1)
        self.frames[sequence] = seen
        if change:
            self.changes[sequence] = change


def seen_in(frame: camring.Frame) -> Seen:
    total = 1
    for plane in frame.planes:
        total = zlib.adler32(np.ascontiguousarray(plane).data, total)
    return Seen(frame.generation, frame.pts, frame.time_ns, (frame.width, frame.height), total)


def of_line(line: str) -> tuple[int, Seen, str | None]:
    """`NAME N generation G pts P time T WxH missed M sum S [CHANGE]`, as both programs print it."""
    words = line.split()
    assert [words[n] for n in (2, 4, 6, 9, 11)] == ["generation", "pts", "time", "missed", "sum"], line
    width, height = map(int, words[8].split("x"))
    seen = Seen(int(words[3]), int(words[5]), int(words[7].rstrip("?")), (width, height), int(words[12], 16))
    return int(words[1]), seen, words[13] if len(words) > 13 else None


class Tail(Subscriber):
    """One of the programs, whose lines a thread reads. Dies with the test."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        super().__init__()
        self.trouble: BaseException | None = None
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout
        try:
            for line in self.process.stdout:
                # A line may be cut where the program is killed.
                if line.endswith("\n"):
                    self.add(*of_line(line))
        except BaseException as trouble:
            self.trouble = trouble

    def check(self) -> None:
        if self.trouble:
            raise self.trouble
        assert self.process.poll() is None, f"a tail ended with {self.process.returncode}"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def c_tail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ring/capi/examples/tail.c, compiled against the installed library."""
    prefix = tmp_path_factory.mktemp("c-library")
    built = Path(program("CAMRING_BIN")).resolve().parent
    subprocess.run(
        ["make", "-C", str(ROOT / "ring/capi"), "install", f"PREFIX={prefix}", f"PROFILE={built.name}"],
        env={**os.environ, "CARGO_TARGET_DIR": str(built.parent)},
        check=True,
        capture_output=True,
    )
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "camring"],
        env={**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    source, tail = ROOT / "ring/capi/examples/tail.c", prefix / "tail"
    subprocess.run(["cc", "-O2", str(source), "-o", str(tail), *flags], check=True)
    return tail


@pytest.fixture
def resizing() -> Iterator[Site]:
    # Deep rings: three languages share two cores, and are to have many frames in common.
    site = Site({"door": "h264-resize"}, camera=CAMERA + VIEW_LINES, settings="[ring]\ndepth = 8\n")
    yield site
    site.end()


def common(subscribers: list[Subscriber]) -> dict[int, list[Seen]]:
    """Of the frames that all have, what each saw."""
    first, *rest = (subscriber.frames for subscriber in subscribers)
    numbers = [number for number in first if all(number in frames for frames in rest)]
    return {number: [subscriber.frames[number] for subscriber in subscribers] for number in numbers}


def enough(subscribers: list[Subscriber], since: int, sizes: tuple[tuple[int, int], ...]) -> bool:
    """Whether all have ten frames of each of these sizes, with this number or a higher one."""
    found = [seen[0].size for number, seen in common(subscribers).items() if number >= since]
    return all(found.count(size) >= 10 for size in sizes)


def test_three_languages_see_the_same_frames(resizing: Site, c_tail: Path) -> None:
    site = resizing
    environment = {"CAMRING_SOCKET": site.socket, "LD_LIBRARY_PATH": str(c_tail.parent / "lib")}
    sizes = {"door": (SMALL, LARGE), VIEW: (OF_VIEW,)}
    of_python = {name: Subscriber() for name in sizes}
    all_of = {name: [of_python[name]] for name in sizes}
    tails = []
    with camring.attach_many(list(sizes), socket=site.socket, timeout=PATIENCE_S) as cameras:
        # The programs wait ten seconds for a camera that has no picture yet.
        wait_for("pictures", lambda: {"door", VIEW} <= {cameras.next(PATIENCE_S).camera for _ in range(20)})
        try:
            for name, subscribers in all_of.items():
                for path in (program("CAMRING_TAIL"), str(c_tail)):
                    tails.append(Tail([path, name], environment))
                    subscribers.append(tails[-1])

            def read_until(what: str, since: Callable[[str], int | None]) -> None:
                def done() -> bool:
                    frame = cameras.next(PATIENCE_S, in_order=True)
                    of_python[frame.camera].add(frame.sequence, seen_in(frame), frame.change)
                    if frame.camera == "door":
                        assert framecode.read(frame.y).tag == TAG
                    for tail in tails:
                        tail.check()
                    return all(
                        (number := since(name)) is not None and enough(all_of[name], number, sizes[name])
                        for name in sizes
                    )

                wait_for(what, done, pause=0)

            read_until("frames of all sizes in three languages", lambda _: 0)
            os.kill(site.reader_pid("door"), signal.SIGKILL)
            read_until("frames of all sizes after the kill", lambda name: of_python[name].restarted)
        finally:
            for tail in tails:
                tail.end()
    for name, subscribers in all_of.items():
        for number, (first, *rest) in common(subscribers).items():
            assert all(seen == first for seen in rest), f"{name}, frame {number}: {first}, {rest}"
        for subscriber in subscribers:
            kinds = list(subscriber.changes.values())
            assert kinds.count("writer-restarted") == 1, kinds
    # The view is of the same pictures, at the same times.
    times = {seen.pts: seen.time_ns for seen in of_python["door"].frames.values()}
    both = [seen for seen in of_python[VIEW].frames.values() if seen.pts in times]
    assert len(both) >= 20
    assert all(seen.time_ns == times[seen.pts] for seen in both)


def longest() -> str:
    """camera/stream:view with names as long as they may be, 63 bytes each."""
    return f"{'c' * 63}/{'s' * 63}:{'v' * 63}"


@pytest.fixture
def long_names() -> Iterator[Site]:
    camera, _, rest = longest().partition("/")
    stream, _, view = rest.partition(":")
    text = f'[[camera]]\nname = "{camera}"\n[[camera.stream]]\nname = "{stream}"\nurl = "{{url}}"\n'
    view_lines = VIEW_LINES.replace("[[camera.view]]", "[[camera.stream.view]]").replace("detect", view)
    site = Site({"door": "h264-180p"}, camera=text + view_lines)
    yield site
    site.end()


def test_the_longest_name_and_one_that_is_not_there(long_names: Site, c_tail: Path) -> None:
    site, name = long_names, longest()
    assert len(name) == 191
    with camring.attach(name, socket=site.socket, timeout=PATIENCE_S) as camera:
        frame = camera.next(PATIENCE_S)
        assert frame.camera == name
        assert frame.array.shape == (180, 320, 3)
    camera_name, view = name.split(":")
    with camring.attach(camera_name, view=view, socket=site.socket, timeout=PATIENCE_S) as camera:
        assert camera.next(PATIENCE_S).camera == name
    with pytest.raises(camring.NoSuchCamera) as error:
        camring.attach(camera_name, view=view[:-1] + "w", socket=site.socket)
    assert f"there are: {name}" in str(error.value)
    environment = {**os.environ, "CAMRING_SOCKET": site.socket, "LD_LIBRARY_PATH": str(c_tail.parent / "lib")}

    def in_c(name: str) -> subprocess.CompletedProcess[str]:
        command = [str(c_tail), name, "1"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    found = in_c(name)
    assert (found.returncode, found.stdout.split()[0]) == (0, name), found
    found = in_c(name[:-1] + "w")
    assert found.returncode == 1
    assert found.stderr.startswith("E_UNKNOWN_CAMERA: "), found
    # As the other languages have it, unless the C library's message is cut.
    assert str(error.value) in found.stderr, found.stderr
    # What is too long even for the daemon is refused with the limit.
    with pytest.raises(camring.Error, match="192"):
        camring.attach(name + "vv", socket=site.socket)
