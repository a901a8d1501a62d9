"""ffmpeg and pipes, as Frigate captures: per camera an ffmpeg that writes raw pictures into a pipe, and a
process that moves them from there into one of ten named shared memories and tells the reader its name.
Usage: ffmpeg_pipe.py FOLDER, until SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from io import BufferedReader
from multiprocessing.queues import Queue
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import cast

import numpy as np
from framecode import Plane
from witness import Witness, die_with_parent, end_on_sigterm

SLOTS = 10
# One thread, since each further one, as decoder or encoder, holds a picture back; and every picture passed on
# once, where ffmpeg would repeat and drop some to hold a constant rate.
COMMAND = (
    "setpriv --pdeathsig KILL ffmpeg -hide_banner -loglevel error -threads 1 -nostdin -rtsp_transport tcp "
    "-i URL -an -fps_mode passthrough -threads 1 -f rawvideo -pix_fmt yuv420p pipe:1"
)


def name_of(parent: int, camera: int, slot: int) -> str:
    return f"camring-peers-{parent}-{camera}-{slot}"


def capture(camera: int, url: str, size: int, news: Queue[tuple[int, int]]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    memories = [SharedMemory(name_of(os.getppid(), camera, slot)) for slot in range(SLOTS)]
    slots: list[Plane] = [np.ndarray(size, np.uint8, memory.buf) for memory in memories]
    command = [url if word == "URL" else word for word in COMMAND.split()]
    number = 0
    while True:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=size
        ) as ffmpeg:
            pipe = cast(BufferedReader, ffmpeg.stdout)
            while pipe.readinto(slots[number % SLOTS].data) == size:
                news.put((camera, number % SLOTS))
                number += 1
        time.sleep(0.5)


def main() -> None:
    end_on_sigterm()
    witness = Witness(Path(sys.argv[1]))
    size = witness.width * witness.height * 3 // 2
    news: Queue[tuple[int, int]] = multiprocessing.Queue()
    memories: list[list[SharedMemory]] = []
    processes = []
    try:
        for camera, url in enumerate(witness.urls):
            names = [name_of(os.getpid(), camera, slot) for slot in range(SLOTS)]
            memories.append([SharedMemory(name, create=True, size=size) for name in names])
            process = multiprocessing.Process(target=capture, args=(camera, url, size, news), daemon=True)
            process.start()
            processes.append(process)
        shape = (witness.height, witness.width)
        while True:
            camera, slot = news.get()
            luma: Plane = np.ndarray(shape, np.uint8, memories[camera][slot].buf)
            witness.held(camera, luma, time.monotonic_ns())
    finally:
        witness.write()
        for process in processes:
            process.kill()  # its ffmpeg goes with it
        for process in processes:
            process.join()
        for memory in (one for of_camera in memories for one in of_camera):
            memory.unlink()


if __name__ == "__main__":
    main()
