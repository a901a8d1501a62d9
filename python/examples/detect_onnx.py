#!/usr/bin/env python3
"""Objects in one camera, by an ONNX model: prints a line of JSON for each frame looked at.

    detect_onnx.py model.onnx front-door
    detect_onnx.py model.onnx front-door --view detect --every 0.5

The model has one input, float32 of shape (1, 3, height, width), RGB from 0 to 1, and the outputs
`boxes` (1, n, 4: x1, y1, x2, y2 from 0 to 1), `scores` (1, n) and `classes` (1, n): what exporters of
detectors with non-maximum suppression inside write, or are told to.

Needs onnxruntime and opencv-python-headless. While the model works, newer frames come and go; the next
frame is the newest then, and `missed` says how many were passed over.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import camring
import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime


class Detector:
    """A model, and the memory that pictures are prepared in."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,) = self.session.get_inputs()
        self.input = given.name
        batch, channels, self.height, self.width = given.shape
        if (batch, channels) != (1, 3) or not isinstance(self.height, int) or not isinstance(self.width, int):
            raise SystemExit(f"{path}: the input has shape {given.shape}, not (1, 3, height, width)")
        missing = {"boxes", "scores", "classes"} - {output.name for output in self.session.get_outputs()}
        if missing:
            raise SystemExit(f"{path}: no output {', '.join(sorted(missing))}")
        self.rgb: npt.NDArray[np.uint8] | None = None

    def colours(self, frame: camring.Frame) -> npt.NDArray[np.uint8]:
        """RGB: a view that has it is taken as it is."""
        if frame.format == "rgb24":
            return frame.array
        shape = (frame.height, frame.width, 3)
        if self.rgb is None or self.rgb.shape != shape:
            self.rgb = np.empty(shape, np.uint8)
        return frame.to_rgb(out=self.rgb)

    def look(self, frame: camring.Frame, threshold: float) -> list[dict[str, Any]]:
        """What is in a frame; boxes in its pixels."""
        small = cv2.resize(self.colours(frame), (self.width, self.height), interpolation=cv2.INTER_AREA)
        tensor = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / 255
        boxes, scores, classes = self.session.run(["boxes", "scores", "classes"], {self.input: tensor})
        scale = np.array([frame.width, frame.height, frame.width, frame.height])
        return [
            {
                "class": int(kind),
                "score": round(float(score), 4),
                "xyxy": [round(float(value), 1) for value in box * scale],
            }
            for box, score, kind in zip(boxes[0], scores[0], classes[0], strict=True)
            if score >= threshold
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an ONNX file")
    parser.add_argument("camera", help="its name; of one of its streams: name/stream")
    parser.add_argument("--view", help="attach to this view of it")
    parser.add_argument("--socket", help="of the daemon; default: $CAMRING_SOCKET, or the system's")
    parser.add_argument("--every", type=float, help="look at one frame in so many seconds")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score of a box")
    parser.add_argument("--frames", type=int, default=0, help="end after so many frames")
    options = parser.parse_args()

    detector = Detector(options.model)
    with camring.attach(options.camera, view=options.view, socket=options.socket) as camera:
        for count, frame in enumerate(camera.frames(every=options.every), 1):
            found = {
                "camera": frame.camera,
                "sequence": frame.sequence,
                "pts": frame.pts,
                "time": frame.time.isoformat(),
                "missed": frame.missed,
                "boxes": detector.look(frame, options.threshold),
            }
            print(json.dumps(found), flush=True)
            if count == options.frames:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except camring.Error as error:
        raise SystemExit(f"detect_onnx.py: {error}") from None
