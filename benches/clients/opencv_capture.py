"""OpenCV: each detector opens the camera with VideoCapture.
Usage: opencv_capture.py FOLDER, until SIGTERM."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import detector
from witness import Witness

# What every answer to "OpenCV RTSP drops frames" says; all else is OpenCV's default.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")


def detect(_: Path, witness: Witness, number: int) -> None:
    while True:
        video = cv2.VideoCapture(witness.urls[number], cv2.CAP_FFMPEG)
        while video.isOpened():
            good, frame = video.read()
            if not good:
                break
            # Green stands for luma: the code is black and white.
            witness.held(number, frame[:, :, 1], time.monotonic_ns())
        video.release()
        time.sleep(0.5)


if __name__ == "__main__":
    detector.main(detect)
