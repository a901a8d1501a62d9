"""ffmpeg and a pipe: each detector starts an ffmpeg that writes raw pictures, and reads them.
Usage: ffmpeg_raw.py FOLDER, until SIGTERM."""

from __future__ import annotations

import subprocess
import time
from io import BufferedReader
from pathlib import Path
from typing import cast

import detector
import numpy as np
from ffmpeg_pipe import COMMAND
from framecode import Plane
from witness import Witness


def detect(_: Path, witness: Witness, number: int) -> None:
    rows = witness.height * 3 // 2
    picture: Plane = np.empty((rows, witness.width), np.uint8)
    command = [witness.urls[number] if word == "URL" else word for word in COMMAND.split()]
    while True:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=picture.nbytes
        ) as ffmpeg:
            pipe = cast(BufferedReader, ffmpeg.stdout)
            while pipe.readinto(picture.data) == picture.nbytes:
                witness.held(number, picture[: witness.height], time.monotonic_ns())
        time.sleep(0.5)


if __name__ == "__main__":
    detector.main(detect)
