#!/usr/bin/python3
"""Measures what people use today to get the pictures of many RTSP cameras into another process, and camring,
one after the other on the same cameras. Started by `cargo bench --bench peers`.

Prints a table per case and writes JSON; plot.py draws it. What the figures mean, and what they do not:
docs/reference/benches.md. Ends with status 0 also when a peer had to be left out; it says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clips
import figures
import rounds
import stand
from environment import Environment
from rounds import Peer

HERE = Path(__file__).resolve().parent
CASES = {
    "8": (8, "h264-720p6", None),
    "20": (20, "h264-720p6", None),
    "50": (50, "h264-720p6", None),
    "100": (100, "h264-360p", 10),
}


@dataclasses.dataclass(frozen=True)
class Case:
    cameras: int
    clip: str
    fps: int

    @property
    def title(self) -> str:
        width, height = clips.CLIPS[self.clip].sizes[0]
        return f"{self.cameras} × {width}×{height} at {self.fps} fps"

    def camera(self, number: int) -> str:
        """The farm's argument: above 8 cameras key frames come at different moments, as real ones do."""
        clip = clips.CLIPS[self.clip]
        start = number * clip.fps * clip.gop_seconds // self.cameras if self.cameras > 8 else 0
        return f"cam{number}={self.clip}@{self.fps},unshared,start={start}"


PEERS = (
    Peer("camring", "camring", "", lambda _: ""),
    Peer("gstreamer", "GStreamer shmsink → shmsrc", "gstreamer_shm.py", Environment.gstreamer),
    Peer("opencv", "OpenCV + shared_memory + lock", "opencv_shm.py", Environment.opencv),
    Peer("ffmpeg", "ffmpeg → pipe → shared memory", "ffmpeg_pipe.py", Environment.ffmpeg),
    Peer("pyav", "PyAV, decoding only, no IPC", "pyav_decode.py", Environment.pyav),
)


def measure(peer: Peer, python: str, case: Case, arguments: argparse.Namespace) -> figures.Figures:
    """One peer, once."""
    with tempfile.TemporaryDirectory(prefix="camring-peers-") as name:
        folder = Path(name)
        control = stand.Control(folder / "control", case.cameras)
        farm = stand.Farm(map(case.camera, range(case.cameras)), folder)
        try:
            width, height = clips.CLIPS[case.clip].sizes[0]
            plan = {"cameras": farm.cameras, "sendts": str(farm.sendts), "width": width, "height": height}
            (folder / "plan.json").write_text(json.dumps(plan | {"fps": case.fps}))
            running = stand.Running(folder)
            try:
                if peer.script:
                    running.start([python, str(HERE / peer.script), str(folder)])
                else:
                    running.start_daemon(arguments.camring, farm)
                    running.start([str(arguments.helper), "subscribe", str(folder)])
                found = stand.window(
                    running, farm, control, warm_up_s=arguments.warm_up, seconds=arguments.seconds
                )
            finally:
                control.stop()
                running.end(python=bool(peer.script))
            return found | stand.evaluate(folder, found, [camera["name"] for camera in farm.cameras])
        finally:
            farm.end()


COLUMNS = (
    ("CPU cores", "cpu_cores", "{:.2f}"),
    ("(reader)", "reader_cores", "({:.2f})"),
    ("ms/frame", "ms_per_frame", "{:.2f}"),
    ("delivered %", "delivered_percent", "{:.1f}"),
    ("torn", "torn", "{:.0f}"),
    ("p50 ms", "latency_p50_ms", "{:.1f}"),
    ("p99 ms", "latency_p99_ms", "{:.1f}"),
    ("memory MiB", "memory_mib", "{:.0f}"),
    ("procs", "processes", "{:.0f}"),
    ("threads", "threads", "{:.0f}"),
    ("first s", "first_picture_s", "{:.1f}"),
    ("others", "others_cores", "{:.2f}"),
)


def table(case: Case, found: dict[str, Any]) -> Iterator[str]:
    floor = found["floor_ms"]
    cores = floor * case.fps * case.cameras / 1e3
    yield f"\n{case.title}: bare decoding {floor:.2f} ms a frame, {cores:.2f} cores"
    titles = {peer.name: peer.title for peer in PEERS}
    yield from stand.aligned(stand.table_rows(COLUMNS, titles, found["peers"]))


def parse() -> argparse.Namespace:
    parser = rounds.parser("peers", __doc__, PEERS)
    parser.add_argument("--cases", default="8", help="of 8, 20, 50 (× 720p at 6 fps), 100 (× 360p at 10 fps)")
    parser.add_argument("--all", action="store_true", help="all four")
    parser.add_argument("--seconds", type=float, help="the measured window (default 20, with --quick 12)")
    parser.add_argument("--warm-up", type=float, help="before it (default 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="8, 20 and 50 cameras fit into ten minutes")
    arguments = rounds.checked(parser, PEERS)
    if arguments.seconds is None:
        arguments.seconds = 12.0 if arguments.quick else 20.0
    if arguments.warm_up is None:
        arguments.warm_up = 3.0 if arguments.quick else 5.0
    arguments.cases = list(CASES) if arguments.all else arguments.cases.split(",")
    for word in arguments.cases:
        if word not in CASES:
            parser.error(f"no case {word!r}; there are {', '.join(CASES)}")
    if arguments.runs < 1 or arguments.seconds < 1:
        parser.error("--runs and --seconds are at least 1")
    return arguments


def main() -> None:
    rounds.begin()
    arguments = parse()
    book = rounds.Book(arguments, PEERS)
    for word in arguments.cases:
        cameras, clip, fps = CASES[word]
        case = Case(cameras, clip, fps or clips.CLIPS[clip].fps)

        def one(peer: Peer, python: str, case: Case = case) -> figures.Figures:
            return measure(peer, python, case, arguments)

        found = book.take_turns(case.title, clip, one)
        print("\n".join(table(case, found)), flush=True)
        book.keep(dataclasses.asdict(case) | found)
    book.end()


if __name__ == "__main__":
    main()
