"""camring: each detector attaches to the camera, or to a view of it, and looks at the frames in place.
Usage: camring_frames.py FOLDER [VIEW], until SIGTERM."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import camring
import detector
from witness import Witness


def detect(folder: Path, witness: Witness, number: int) -> None:
    warnings.simplefilter("ignore", camring.ReadOnlyWarning)  # the bench runs as the daemon's user
    view = sys.argv[2] if len(sys.argv) > 2 else None
    with camring.attach("door", view=view, socket=folder / "run/attach.sock", timeout=60) as camera:
        for frame in camera:
            # Green stands for luma: the code is black and white.
            luma = frame.y if view is None else frame.array[:, :, 1]
            witness.held(number, luma, time.monotonic_ns())


if __name__ == "__main__":
    detector.main(detect)
