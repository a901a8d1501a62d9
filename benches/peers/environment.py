"""What each peer needs, and what of it is here. Installs Python packages into a venv of its own, nothing
else; what is missing is said in words, and the bench measures the others."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEBIAN_PYTHON = "/usr/bin/python3"
PIP_TIMEOUT_S = 300
BUILD_TIMEOUT_S = 1800
ELEMENTS = {
    "rtspsrc": "gstreamer1.0-plugins-good",
    "rtph264depay": "gstreamer1.0-plugins-good",
    "h264parse": "gstreamer1.0-plugins-bad",
    "avdec_h264": "gstreamer1.0-libav",
    "shmsink": "gstreamer1.0-plugins-bad",
    "shmsrc": "gstreamer1.0-plugins-bad",
    "appsink": "gstreamer1.0-plugins-base",
}


class Missing(Exception):
    """A peer cannot be measured here; the message says why, and what to install."""


def run(command: list[str], timeout: float = 60, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; raises Missing with its last words when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(words[-1] if words else f"{command[0]} ended with status {done.returncode}")
    return done.stdout


def need(program: str, package: str) -> None:
    if not shutil.which(program):
        raise Missing(f"no program {program} (apt-get install {package})")


class Environment:
    """Interpreters and versions, each looked up once."""

    def __init__(self, target: Path) -> None:
        self._requirements = dict(
            line.split("==")
            for line in (HERE / "requirements.txt").read_text().split()
            if re.fullmatch(r"[\w-]+==[\w.]+", line)
        )
        stamp = hashlib.sha256((HERE / "requirements.txt").read_bytes()).hexdigest()[:16]
        self._venv = target / f"peers-venv-{stamp}"
        self.versions: dict[str, str] = {}

    def _python_with(self, package: str, module: str) -> str:
        """The venv's Python, which has this package and numpy."""
        python = self._venv / "bin/python"
        if not python.exists():
            print("making a venv for the peers that are Python packages …", flush=True)
            shutil.rmtree(self._venv, ignore_errors=True)
            try:
                run([DEBIAN_PYTHON, "-m", "venv", str(self._venv)], PIP_TIMEOUT_S)
            except Missing as why:
                shutil.rmtree(self._venv, ignore_errors=True)
                raise Missing(f"no venv (apt-get install python3-venv): {why}") from None
        wanted = [f"{name}=={self._requirements[name]}" for name in (package, "numpy")]
        said = f"import {module}, importlib.metadata; print(importlib.metadata.version('{package}'))"
        try:
            self.versions[package] = run([str(python), "-c", said]).strip()
        except Missing:
            print(f"installing {' '.join(wanted)} …", flush=True)
            try:
                run([str(python), "-m", "pip", "install", "--quiet", *wanted], PIP_TIMEOUT_S)
            except Missing as why:
                raise Missing(f"pip could not install {wanted[0]}: {why}") from None
            self.versions[package] = run([str(python), "-c", said]).strip()
        return str(python)

    def camring_package(self) -> str:
        """The venv's Python, with the Python package of this source folder in it, built now."""
        python = self._python_with("maturin", "maturin")
        with tempfile.TemporaryDirectory(prefix="camring-wheel-") as folder:
            command = [python, "-m", "maturin", "build", "--release", "--locked", "--quiet", "--out", folder]
            command += ["--manifest-path", str(HERE.parent.parent / "python/Cargo.toml")]
            print("building the Python package …", flush=True)
            environment = os.environ | {"CARGO_TARGET_DIR": str(self._venv.parent)}
            run([*command, "--interpreter", DEBIAN_PYTHON], BUILD_TIMEOUT_S, environment)
            (wheel,) = Path(folder).glob("camring-*.whl")
            install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            run([*install, "--force-reinstall", str(wheel)], PIP_TIMEOUT_S)
        return python

    def opencv(self) -> str:
        return self._python_with("opencv-python-headless", "cv2")

    def pyav(self) -> str:
        return self._python_with("av", "av")

    def ffmpeg(self) -> str:
        need("setpriv", "util-linux")
        need("ffmpeg", "ffmpeg")
        self.versions["ffmpeg"] = run(["ffmpeg", "-version"]).split()[2]
        return DEBIAN_PYTHON

    def gstreamer(self) -> str:
        need("setpriv", "util-linux")
        need("gst-launch-1.0", "gstreamer1.0-tools")
        need("gst-inspect-1.0", "gstreamer1.0-tools")
        for element, package in ELEMENTS.items():
            try:
                run(["gst-inspect-1.0", "--exists", element])
            except Missing:
                raise Missing(f"no GStreamer element {element} (apt-get install {package})") from None
        self.versions["gstreamer"] = run(["gst-launch-1.0", "--version"]).split()[2]
        return DEBIAN_PYTHON
