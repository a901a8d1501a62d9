"""OpenCV: a process per camera reads with VideoCapture and copies each picture into shared memory under a
lock; one reader copies it out again. Usage: opencv_shm.py FOLDER, until SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Lock
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from framecode import Plane
from witness import Witness, die_with_parent, end_on_sigterm

# What every answer to "OpenCV RTSP drops frames" says; all else is OpenCV's default.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

Shape = tuple[int, int, int]
Numbers = Any  # an array of c_ulonglong, guarded by the cameras' locks


def capture(
    camera: int, url: str, *, name: str, shape: Shape, lock: Lock, numbers: Numbers, news: SimpleQueue[int]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    memory = SharedMemory(name)
    picture: Plane = np.ndarray(shape, np.uint8, memory.buf)
    while True:
        video = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        while video.isOpened():
            good, frame = video.read()
            if not good:
                break
            with lock:
                picture[:] = frame
                numbers[camera] += 1
            news.put(camera)
        video.release()
        time.sleep(0.5)


def main() -> None:
    end_on_sigterm()
    witness = Witness(Path(sys.argv[1]))
    shape = (witness.height, witness.width, 3)
    news: SimpleQueue[int] = multiprocessing.SimpleQueue()
    memories, locks, processes = [], [], []
    pictures: list[Plane] = []
    numbers: Numbers = multiprocessing.RawArray("Q", len(witness.urls))
    had = [0] * len(witness.urls)
    try:
        for camera, url in enumerate(witness.urls):
            name = f"camring-peers-{os.getpid()}-{camera}"
            memory = SharedMemory(name, create=True, size=shape[0] * shape[1] * shape[2])
            memories.append(memory)
            pictures.append(np.ndarray(shape, np.uint8, memory.buf))
            locks.append(multiprocessing.Lock())
            process = multiprocessing.Process(
                target=capture,
                args=(camera, url),
                kwargs={"name": name, "shape": shape, "lock": locks[-1], "numbers": numbers, "news": news},
                daemon=True,
            )
            process.start()
            processes.append(process)
        while True:
            camera = news.get()
            with locks[camera]:
                if numbers[camera] == had[camera]:
                    continue  # overwritten before the reader came: it has had the newer one already
                had[camera] = numbers[camera]
                mine = pictures[camera].copy()
            # Green stands for luma: the code is black and white.
            witness.held(camera, mine[:, :, 1], time.monotonic_ns())
    finally:
        witness.write()
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        pictures.clear()
        for memory in memories:
            memory.unlink()


if __name__ == "__main__":
    main()
