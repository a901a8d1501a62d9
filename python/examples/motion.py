#!/usr/bin/env python3
"""Motion in all cameras, in one process: prints a line of JSON for each frame with motion in it.

    motion.py                       every camera, whole pictures
    motion.py --view detect         the view "detect" of every camera (640x360 gray is plenty)
    motion.py yard door/sub         these

Needs opencv-python-headless. Each line carries the frame's triple (sequence, pts, time): what is
found belongs to exactly that frame.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from typing import Any

import camring
import cv2
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 640, 360
"""Motion is looked for in pictures of at most this size."""


def luma(frame: camring.Frame) -> npt.NDArray[Any]:
    """The brightness of a frame of any format, small."""
    gray: npt.NDArray[Any]
    if frame.format == "rgb24":
        gray = np.asarray(cv2.cvtColor(frame.array, cv2.COLOR_RGB2GRAY))
    elif frame.format == "bgr24":
        gray = np.asarray(cv2.cvtColor(frame.array, cv2.COLOR_BGR2GRAY))
    elif frame.format.endswith("p10"):
        gray = (frame.y >> 2).astype(np.uint8)
    else:
        gray = frame.y
    if frame.width > WIDTH or frame.height > HEIGHT:
        scale = min(WIDTH / frame.width, HEIGHT / frame.height)
        gray = np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return gray


def background() -> cv2.BackgroundSubtractorMOG2:
    """What the picture looks like without motion: learned anew after each cut."""
    return cv2.createBackgroundSubtractorMOG2(history=200, varThreshold=32, detectShadows=False)


@dataclass
class Watch:
    """What is remembered of one camera."""

    background: cv2.BackgroundSubtractorMOG2 = field(default_factory=background)
    shape: tuple[int, ...] = ()
    seen: int = 0

    def boxes(self, frame: camring.Frame, min_area: float) -> list[dict[str, Any]]:
        """Rectangles that move, relative to the picture: x, y, width, height."""
        picture = luma(frame)
        if picture.shape != self.shape or frame.change or frame.discontinuity:
            self.background, self.shape, self.seen = background(), picture.shape, 0
        self.seen += 1
        mask = self.background.apply(picture)
        if self.seen < 3:
            return []
        mask = cv2.dilate(cv2.medianBlur(mask, 3), np.ones((3, 3), np.uint8), iterations=2)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        height, width = picture.shape
        found = []
        for outline in outlines:
            x, y, w, h = cv2.boundingRect(outline)
            if w * h >= min_area * width * height:
                box = [x / width, y / height, w / width, h / height]
                found.append({"xywh": [round(value, 4) for value in box]})
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cameras", nargs="*", help="names; default: all")
    parser.add_argument("--view", help="attach to this view of each")
    parser.add_argument("--socket", help="of the daemon; default: $CAMRING_SOCKET, or the system's")
    parser.add_argument("--min-area", type=float, default=0.002, help="of a box, as part of the picture")
    parser.add_argument("--mark", action="store_true", help="also store a marker for each, at $CAMRING_URL")
    parser.add_argument("--frames", type=int, default=0, help="end after so many lines")
    options = parser.parse_args()

    watches: dict[str, Watch] = {}
    lines = 0
    with camring.attach_many(options.cameras or None, view=options.view, socket=options.socket) as cameras:
        for frame in cameras:
            boxes = watches.setdefault(frame.camera, Watch()).boxes(frame, options.min_area)
            if not boxes:
                continue
            found = {
                "camera": frame.camera,
                "sequence": frame.sequence,
                "pts": frame.pts,
                "time": frame.time.isoformat(),
                "boxes": boxes,
            }
            print(json.dumps(found), flush=True)
            if options.mark:
                camring.mark(frame, "motion", box=boxes[0]["xywh"], data={"boxes": len(boxes)})
            lines += 1
            if lines == options.frames:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except camring.Error as error:
        raise SystemExit(f"motion.py: {error}") from None
