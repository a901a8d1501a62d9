"""multiprocessing.shared_memory: one process reads the camera with OpenCV and copies each picture into shared
memory under a lock; each detector waits for the news, and copies it out under the lock.
Usage: shared_memory_lock.py FOLDER, until SIGTERM."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Condition
from pathlib import Path
from typing import Any

import cv2
import detector
import numpy as np
from framecode import Plane
from witness import Witness, end_on_sigterm

os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

Number = Any  # a c_ulonglong, guarded by the lock


def detect(
    _: Path, witness: Witness, number: int, *, memory: SharedMemory, news: Condition, written: Number
) -> None:
    picture: Plane = np.ndarray((witness.height, witness.width, 3), np.uint8, memory.buf)
    mine = np.empty_like(picture)
    had = 0
    while True:
        with news:
            while written.value == had:
                news.wait()
            had = written.value
            mine[:] = picture
        # Green stands for luma: the code is black and white.
        witness.held(number, mine[:, :, 1], time.monotonic_ns())


def capture(url: str, picture: Plane, news: Condition, written: Number) -> None:
    while True:
        video = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        while video.isOpened():
            good, frame = video.read()
            if not good:
                break
            with news:
                picture[:] = frame
                written.value += 1
                news.notify_all()
        video.release()
        time.sleep(0.5)


def main() -> None:
    end_on_sigterm()
    witness = Witness(Path(sys.argv[1]))
    size = witness.height * witness.width * 3
    memory = SharedMemory(f"camring-peers-{os.getpid()}-0", create=True, size=size)
    picture: Plane = np.ndarray((witness.height, witness.width, 3), np.uint8, memory.buf)
    news, written = multiprocessing.Condition(), multiprocessing.RawValue("Q", 0)
    processes: list[multiprocessing.Process] = []
    try:
        processes += detector.start(functools.partial(detect, memory=memory, news=news, written=written))
        capture(witness.urls[0], picture, news, written)
    finally:
        detector.end(processes)
        memory.unlink()


if __name__ == "__main__":
    main()
