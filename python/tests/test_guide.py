"""The programs of docs/guide/write-a-detector.md as they stand there, with its configuration."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import PATIENCE_S, ROOT, Site

GUIDE = (ROOT / "docs/guide/write-a-detector.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
(CONFIGURATION,) = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)

# The programs go on for ever: this ends their loops after some frames.
FEW = """
import camring
given, left = camring.Frames.__next__, iter(range(5))
def few(frames):
    next(left)
    return given(frames)
camring.Frames.__next__ = few
"""


@pytest.fixture(scope="module")
def guided() -> Iterator[Site]:
    text, count = re.subn(r'"rtsp://[^"]*"', '"{url}"', CONFIGURATION)
    assert count == 1
    site = Site({"front-door": "h264-360p"}, camera=text + "\n")
    yield site
    site.end()


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_of_the_guide(guided: Site, number: int) -> None:
    program = PROGRAMS[number]
    done = subprocess.run(
        [sys.executable, "-c", FEW + program],
        env={**os.environ, "CAMRING_SOCKET": guided.socket},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "print(" in program:
        lines = done.stdout.splitlines()
        assert len(lines) == 5, done.stdout
        if 'view="detect"' in program:
            assert all(re.fullmatch(r"front-door:detect \d+ \(360, 640, 3\)", line) for line in lines), lines


def test_commands_of_the_guide(guided: Site) -> None:
    environment = {**os.environ, "CAMRING_SOCKET": guided.socket}
    assert "python python/examples/motion.py --view detect\n" in GUIDE
    command = [sys.executable, str(ROOT / "python/examples/motion.py"), "--view", "detect", "--frames", "2"]
    subprocess.run(command, env=environment, timeout=PATIENCE_S, check=True, stdout=subprocess.DEVNULL)
    assert "camring tail front-door --view detect" in GUIDE
    command = [os.environ["CAMRING_BIN"], "tail", "front-door", "--view", "detect", "-n", "2"]
    config = ["--config", str(guided.path / "config.toml")]
    done = subprocess.run([*command, *config], timeout=PATIENCE_S, check=True, capture_output=True, text=True)
    assert "front-door:detect" in done.stdout or "640" in done.stdout, done.stdout
