"""PyAV: a process per camera decodes, and looks at the pictures itself: no other process gets them. What
libavformat and libavcodec cost through Python. Usage: pyav_decode.py FOLDER, until SIGTERM."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import av
import numpy as np
from witness import Witness, die_with_parent, end_on_sigterm


def capture(camera: int, folder: Path) -> None:
    end_on_sigterm()
    die_with_parent()
    witness = Witness(folder, [camera])
    try:
        while True:
            try:
                read(camera, witness)
            except av.FFmpegError:
                time.sleep(0.5)
    finally:
        witness.write()


def read(camera: int, witness: Witness) -> None:
    with av.open(witness.urls[camera], options={"rtsp_transport": "tcp"}) as container:
        for frame in container.decode(video=0):
            held = time.monotonic_ns()
            plane = frame.planes[0]
            luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            witness.held(camera, luma[: frame.height, : frame.width], held)


def main() -> None:
    end_on_sigterm()
    folder = Path(sys.argv[1])
    cameras = range(len(Witness(folder).urls))
    processes = [
        multiprocessing.Process(target=capture, args=(camera, folder), daemon=True) for camera in cameras
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


if __name__ == "__main__":
    main()
