#!/usr/bin/python3
"""Measures how the frames of one camera get to several detectors in Python: with camring, and with what
people use today, one after the other on the same camera. Started by `cargo bench --bench clients`.

Prints a table per number of detectors and writes JSON. What the figures mean, and what they do not:
docs/reference/benches.md. Ends with status 0 also when a peer had to be left out; it says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clips
import figures
import rounds
import stand
from environment import Environment, Missing
from rounds import Peer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLIP = "h264-720p6"
GOAL_CPU, GOAL_OVERHEAD_US = 0.5, 20.0

# For those who want packed colour: the same pictures that OpenCV delivers.
VIEW = '[[camera.view]]\nname = "bgr"\nwidth = {}\nheight = {}\nformat = "bgr24"\n'


PEERS = (
    Peer("camring", "camring, i420 in place", "camring_frames.py", Environment.camring_package),
    Peer("camring-view", "camring, bgr24 view", "camring_frames.py", Environment.camring_package, ("bgr",)),
    Peer("opencv", "OpenCV VideoCapture each", "opencv_capture.py", Environment.opencv),
    Peer("shared-memory", "shared_memory + lock", "shared_memory_lock.py", Environment.opencv),
    Peer("ffmpeg", "ffmpeg → pipe each", "ffmpeg_raw.py", Environment.ffmpeg),
)

COLUMNS = (
    ("CPU cores", "cpu_cores", "{:.3f}"),
    ("ms/picture", "ms_per_picture", "{:.2f}"),
    ("of the best other", "of_best_other", "{:.2f}"),
    ("delivered %", "delivered_percent", "{:.1f}"),
    ("torn", "torn", "{:.0f}"),
    ("p50 ms", "latency_p50_ms", "{:.1f}"),
    ("p99 ms", "latency_p99_ms", "{:.1f}"),
    ("memory MiB", "memory_mib", "{:.0f}"),
    ("procs", "processes", "{:.0f}"),
    ("others", "others_cores", "{:.2f}"),
)


def measure(peer: Peer, python: str, detectors: int, arguments: argparse.Namespace) -> figures.Figures:
    """One peer with so many detectors, once."""
    with tempfile.TemporaryDirectory(prefix="camring-clients-") as name:
        folder = Path(name)
        control = stand.Control(folder / "control", detectors)
        # One stream for all who look, so that a picture has one time of sending.
        farm = stand.Farm([f"door={CLIP}@{arguments.fps}"], folder)
        try:
            width, height = clips.CLIPS[CLIP].sizes[0]
            plan = {
                "cameras": [farm.cameras[0] | {"source": 0}] * detectors,
                "sendts": str(farm.sendts),
                "width": width,
                "height": height,
                "fps": arguments.fps,
            }
            (folder / "plan.json").write_text(json.dumps(plan))
            running = stand.Running(folder)
            try:
                if peer.name.startswith("camring"):
                    running.start_daemon(arguments.camring, farm, VIEW.format(width, height))
                running.start([python, str(HERE / peer.script), str(folder), *peer.arguments])
                found = stand.window(
                    running, farm, control, warm_up_s=arguments.warm_up, seconds=arguments.seconds
                )
            finally:
                control.stop()
                running.end(python=True)
            found |= stand.evaluate(folder, found, ["door"] * detectors)
            # Of each picture of the camera, however many look at it.
            found["ms_per_picture"] = found["ms_per_frame"] * detectors
            return found
        finally:
            farm.end()


def overhead(python: str) -> dict[str, float]:
    """Microseconds that the Python package adds to a frame: median, 99th percentile, mean."""
    command = [os.environ.get("CARGO", "cargo"), "test", "--locked", "--package", "camring-ring"]
    command += ["--test", "stand_in", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Missing("cargo could not build the stand-in for the daemon")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    (stand_in,) = [path for message in messages if (path := message.get("executable"))]
    done = subprocess.run(
        [python, str(ROOT / "python/benches/overhead.py"), stand_in, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    everything: dict[str, float] = list(json.loads(done.stdout).values())[-1]
    return everything


def run_detectors(detectors: int, book: rounds.Book) -> dict[str, Any]:
    """All peers with so many detectors."""
    arguments = book.arguments
    width, height = clips.CLIPS[CLIP].sizes[0]
    title = f"{detectors} detector{'s' * (detectors > 1)}, 1 × {width}×{height} at {arguments.fps} fps"
    case = book.take_turns(title, CLIP, lambda peer, python: measure(peer, python, detectors, arguments))
    found = case["peers"]
    best = best_other({name: of["cpu_cores"]["median"] for name, of in found.items()})
    for of in found.values():
        used = of["cpu_cores"]["median"]
        of["of_best_other"] = {"median": None if best is None or used is None else round(used / best, 3)}
    print(f"\n{title}: bare decoding {case['floor_ms']:.2f} ms a picture")
    rows = stand.table_rows(COLUMNS, {peer.name: peer.title for peer in PEERS}, found)
    print("\n".join(stand.aligned(rows)), flush=True)
    return case | {"detectors": detectors, "fps": arguments.fps, "best_other_cores": best}


def best_other(cores: dict[str, float | None]) -> float | None:
    """The least CPU of those that are not camring."""
    return min(
        (used for name, used in cores.items() if used and not name.startswith("camring")), default=None
    )


def verdicts(case: dict[str, Any], titles: dict[str, str]) -> Iterator[str]:
    """How camring compares, and what part of the best other is the decoding that both do."""
    best = case["best_other_cores"]
    for name in ("camring", "camring-view"):
        if name in case["peers"] and best:
            what = f"{titles[name]}, detectors: {case['detectors']}, CPU ÷ the best other"
            ratio = case["peers"][name]["of_best_other"]["median"]
            yield verdict(what, ratio, GOAL_CPU) if case["detectors"] == 3 else f"{what}: {ratio:.2f}"
    if best:
        decoding = case["floor_ms"] * case["fps"] / 1e3 / best
        yield f"bare decoding, detectors: {case['detectors']}, CPU ÷ the best other: {decoding:.2f}"


def verdict(what: str, value: float | None, goal: float, unit: str = "") -> str:
    if value is None:
        return f"{what}: not measured"
    return f"{what}: {value:.2f}{unit}, goal ≤ {goal:g}{unit}: {'PASS' if value <= goal else 'over'}"


def parse() -> argparse.Namespace:
    parser = rounds.parser("clients", __doc__, PEERS)
    parser.add_argument("--detectors", default="1,3", help="how many look at the camera, default %(default)s")
    parser.add_argument("--fps", type=int, default=15, help="of the camera, default %(default)s")
    parser.add_argument("--seconds", type=float, default=15, help="the measured window, default %(default)s")
    parser.add_argument("--warm-up", type=float, default=4, help="before it, default %(default)s")
    arguments = rounds.checked(parser, PEERS)
    arguments.detectors = [int(word) for word in arguments.detectors.split(",")]
    if min(arguments.runs, arguments.seconds, arguments.fps, *arguments.detectors) < 1:
        parser.error("--runs, --seconds, --fps and --detectors are at least 1")
    return arguments


def closing(result: dict[str, Any]) -> Iterator[str]:
    for case in result["cases"]:
        yield from verdicts(case, result["titles"])
    median = result.get("overhead_us", {}).get("median")
    yield verdict("Python package, median a frame", median, GOAL_OVERHEAD_US, " µs")


def main() -> None:
    rounds.begin()
    arguments = parse()
    book = rounds.Book(arguments, PEERS)
    if "camring" in book.pythons:
        book.result["overhead_us"] = overhead(book.pythons["camring"])
    for detectors in arguments.detectors:
        book.keep(run_detectors(detectors, book))
    book.end(closing(book.result))


if __name__ == "__main__":
    main()
