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
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clips
import figures
import processes
import stand
from environment import Environment, Missing

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


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    title: str
    script: str  # empty: camring
    interpreter: Callable[[Environment], str]


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


def table(case: Case, floors: list[float], found: dict[str, dict[str, Any]]) -> Iterator[str]:
    floor = figures.median(floors)
    cores = floor * case.fps * case.cameras / 1e3
    yield f"\n{case.title}: bare decoding {floor:.2f} ms a frame, {cores:.2f} cores"
    yield from stand.aligned(stand.table_rows(COLUMNS, {peer.name: peer.title for peer in PEERS}, found))


def run_case(case: Case, pythons: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All peers, `--runs` times, in turn. What fails is said and left out of the medians."""
    runs: dict[str, list[figures.Figures]] = {name: [] for name in pythons}
    floors = [stand.floor_ms(case.clip, arguments.helper)]
    failures: list[str] = []
    for run in range(1, arguments.runs + 1):
        for peer in PEERS:
            if peer.name not in pythons:
                continue
            print(f"{case.title}, run {run} of {arguments.runs}: {peer.title} …", file=sys.stderr, flush=True)
            try:
                runs[peer.name].append(measure(peer, pythons[peer.name], case, arguments))
            except Missing as why:
                failures.append(f"{peer.title}, run {run}: {why}")
                print(f"  {why}", file=sys.stderr)
        floors.append(stand.floor_ms(case.clip, arguments.helper))
    found = {name: figures.summary(of) for name, of in runs.items() if of}
    print("\n".join(table(case, floors, found)), flush=True)
    return {
        "title": case.title,
        **dataclasses.asdict(case),
        "floor_ms": round(figures.median(floors), 3),
        "floors_ms": [round(floor, 3) for floor in floors],
        "peers": found,
        "failures": failures,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cargo bench --bench peers --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("camring", "helper", "target"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cases", default="8", help="of 8, 20, 50 (× 720p at 6 fps), 100 (× 360p at 10 fps)")
    parser.add_argument("--all", action="store_true", help="all four")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="the measured window (default 20, with --quick 12)")
    parser.add_argument("--warm-up", type=float, help="before it (default 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="8, 20 and 50 cameras fit into ten minutes")
    parser.add_argument("--runs", type=int, default=1, help="how often; figures are medians")
    parser.add_argument("--json", type=Path, help="default: peers.json in the build folder")
    arguments = parser.parse_args()
    if arguments.seconds is None:
        arguments.seconds = 12.0 if arguments.quick else 20.0
    if arguments.warm_up is None:
        arguments.warm_up = 3.0 if arguments.quick else 5.0
    arguments.cases = list(CASES) if arguments.all else arguments.cases.split(",")
    arguments.peers = arguments.peers.split(",")
    for word in arguments.cases:
        if word not in CASES:
            parser.error(f"no case {word!r}; there are {', '.join(CASES)}")
    for word in arguments.peers:
        if word not in [peer.name for peer in PEERS]:
            parser.error(f"no peer {word!r}; there are {', '.join(peer.name for peer in PEERS)}")
    if arguments.runs < 1 or arguments.seconds < 1:
        parser.error("--runs and --seconds are at least 1")
    arguments.json = arguments.json or arguments.target / "peers.json"
    return arguments


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # ends what it started, as Ctrl-C does
        signal.signal(number, lambda *_: sys.exit(1))
    arguments = parse()
    if not shutil.which("setpriv"):
        sys.exit("no program setpriv (apt-get install util-linux)")
    environment = Environment(arguments.target)
    pythons, left_out = {}, {}
    for peer in PEERS:
        if peer.name not in arguments.peers:
            continue
        try:
            pythons[peer.name] = peer.interpreter(environment)
        except Missing as why:
            left_out[peer.name] = str(why)
            print(f"left out: {peer.title}: {why}", flush=True)
    print(processes.describe())
    print(", ".join(f"{name} {version}" for name, version in environment.versions.items()), flush=True)
    result: dict[str, Any] = {
        "machine": processes.describe(),
        "versions": environment.versions,
        "seconds": arguments.seconds,
        "runs": arguments.runs,
        "left_out": left_out,
        "titles": {peer.name: peer.title for peer in PEERS},
        "cases": [],
    }
    for word in arguments.cases:
        cameras, clip, fps = CASES[word]
        case = Case(cameras, clip, fps or clips.CLIPS[clip].fps)
        result["cases"].append(run_case(case, pythons, arguments))
        # After each case: an interrupted bench leaves what it has.
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\nmedians of {arguments.runs} run(s), windows of {arguments.seconds:g} s; JSON: {arguments.json}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")


if __name__ == "__main__":
    main()
