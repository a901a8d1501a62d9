"""What the tests run against: a stand-in for the daemon that does as it is told, and the real daemon
with GStreamer's RTSP server as cameras. Both are built before; ./test says where they are."""

from __future__ import annotations

import json
import os
import socket as sockets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[2]
FARM = ROOT / "tests" / "farm"
sys.path.insert(0, str(FARM))

PATIENCE_S = 120.0
"""Longest wait for anything: the machine may be busy."""

T = TypeVar("T")


def wait_for(
    what: str, condition: Callable[[], T], patience: float = PATIENCE_S, *, pause: float = 0.02
) -> T:
    """Until the condition is true; returns what it said."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {patience} s for {what}"
        time.sleep(pause)


def program(variable: str) -> str:
    """A program built beforehand."""
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"${variable} is not set: run these tests with ./test, or see python/README.md")
    return path


class Lines:
    """A child process that is talked to line by line; dies with the test."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout
        line: str = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}"
        return line.rstrip("\n")

    def say(self, line: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.read()
        assert answer.startswith("OK"), f"{line}: {answer}"
        return answer[2:].strip()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        assert self.process.stdout
        self.process.stdout.close()


class StandIn(Lines):
    """A daemon that publishes what it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__([program("CAMRING_STAND_IN"), "serve"])
        word, self.socket = self.read().split(" ", 1)
        assert word == "SOCKET"
        self.folder = folder
        self.count = 0

    def camera(self, name: str = "yard", slot_bytes: int = 65536) -> None:
        self.say(f"ring {name} {slot_bytes}")

    def frame(
        self,
        name: str = "yard",
        data: bytes | None = None,
        *,
        format: str = "gray8",  # noqa: A002
        size: tuple[int, int] = (32, 16),
        align: int = 1,
        color_range: int = 0,
        matrix: int = 2,
        flags: int = 0,
    ) -> int:
        """Publishes; returns the number of the frame."""
        path = "-"
        if data is not None:
            self.count += 1
            path = str(self.folder / f"picture-{self.count}")
            Path(path).write_bytes(data)
        width, height = size
        return int(
            self.say(f"frame {name} {format} {width} {height} {align} {color_range} {matrix} {flags} {path}")
        )

    def marked(self, name: str = "yard", mark: int = 0) -> int:
        """Publishes a gray picture that is all `mark`."""
        return self.frame(name, bytes([mark]) * (32 * 16))


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    daemon = StandIn(tmp_path)
    yield daemon
    daemon.end()


@pytest.fixture
def socket(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> str:
    """Attaching without `socket=` reaches the stand-in, which has a camera `yard`."""
    monkeypatch.setenv("CAMRING_SOCKET", stand_in.socket)
    stand_in.camera()
    return stand_in.socket


CAMERA = '[[camera]]\nname = "{name}"\nurl = "{url}"\n'


class Site:
    """The real daemon and its cameras. `camera`: what the configuration says of each; `settings`: of all."""

    def __init__(self, cameras: dict[str, str], *, camera: str = CAMERA, settings: str = "") -> None:
        program("CAMRING_BIN")
        self.folder = tempfile.TemporaryDirectory(prefix="camring-python-")
        arguments = [f"--camera={name}={clip}" for name, clip in cameras.items()]
        self.farm = Lines(["/usr/bin/python3", str(FARM / "farm.py"), "--exit-on-eof", *arguments])
        text = f'[site]\nname = "test"\nruntime_dir = "{self.runtime}"\ndata_dir = "{self.path}/data"\n'
        if "[http]" not in settings:
            text += '[http]\nlisten = "off"\n'
        text += '[retry]\ninitial = "100ms"\nmax = "200ms"\n' + settings
        for folder in (self.runtime, self.path / "data"):
            folder.mkdir()
        while not (line := self.farm.read()).startswith("READY"):
            word, name, url, *_ = line.split(" ")
            assert word == "CAMERA", line
            text += camera.format(name=name, url=url)
        (self.path / "config.toml").write_text(text)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def path(self) -> Path:
        return Path(self.folder.name)

    @property
    def runtime(self) -> Path:
        return self.path / "run"

    @property
    def socket(self) -> str:
        return str(self.runtime / "attach.sock")

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        with (self.path / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", program("CAMRING_BIN"), "run"),
                    *("--config", str(self.path / "config.toml")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        wait_for("the daemon", self.answers)

    def answers(self) -> bool:
        assert self.daemon
        assert self.daemon.poll() is None, (self.path / "log").read_text()
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as client:
            return client.connect_ex(self.socket) == 0

    def stop(self) -> None:
        assert self.daemon
        self.daemon.terminate()
        assert self.daemon.wait(PATIENCE_S) == 0, (self.path / "log").read_text()

    def status(self) -> dict[str, Any]:
        command = [program("CAMRING_BIN"), "status", "--json", "--config", str(self.path / "config.toml")]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert isinstance(found, dict)
        return found

    def reader_pid(self, name: str) -> int:
        """Of the process that reads this camera, once there is one."""

        def pid() -> int | None:
            (camera,) = (camera for camera in self.status()["cameras"] if camera["name"] == name)
            found: int | None = camera["pid"]
            return found

        return wait_for(f"a process of {name}", pid) or 0

    def end(self) -> None:
        self.stop()
        self.farm.end()
        self.folder.cleanup()


VIEWS = """
[[camera.view]]
name = "detect"
width = 640
height = 360
format = "gray"

[[camera.view]]
name = "colour"
width = 320
height = 180
format = "rgb24"
fps = 5
"""


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Two cameras with views, for the whole run."""
    site = Site({"door": "h264-360p", "yard": "h264-180p"}, camera=CAMERA + VIEWS)
    yield site
    site.end()


def samples(shape: tuple[int, ...], low: int = 16, high: int = 235, seed: int = 1) -> npt.NDArray[np.uint8]:
    """A picture of smooth gradients and some noise, reproducible."""
    noise = np.random.default_rng(seed).integers(-8, 8, shape)
    steps = np.linspace(low + 8, high - 8, shape[0])[:, None] * 0.5
    steps = steps + np.linspace(low + 8, high - 8, shape[1])[None, :] * 0.5
    return np.clip(steps + noise, low, high).astype(np.uint8)
