#!/usr/bin/python3
"""Measures how the frames of one camera get to several detectors in Python: with camring, and with what
people use today, one after the other on the same camera. Started by `cargo bench --bench clients`.

Prints a table per number of detectors and writes JSON. What the figures mean, and what they do not:
docs/reference/benches.md. Ends with status 0 also when a peer had to be left out; it says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
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
ROOT = HERE.parent.parent
CLIP = "h264-720p6"
GOAL_CPU, GOAL_OVERHEAD_US = 0.5, 20.0

# For those who want packed colour: the same pictures that OpenCV delivers.
VIEW = '[[camera.view]]\nname = "bgr"\nwidth = {}\nheight = {}\nformat = "bgr24"\n'


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    title: str
    script: str
    interpreter: Callable[[Environment], str]
    arguments: tuple[str, ...] = ()

    @property
    def is_camring(self) -> bool:
        return self.name.startswith("camring")


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
                if peer.is_camring:
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


def run_detectors(detectors: int, pythons: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All peers, `--runs` times, in turn. What fails is said and left out of the medians."""
    width, height = clips.CLIPS[CLIP].sizes[0]
    title = f"{detectors} detector{'s' * (detectors > 1)}, 1 × {width}×{height} at {arguments.fps} fps"
    runs: dict[str, list[figures.Figures]] = {name: [] for name in pythons}
    floors = [stand.floor_ms(CLIP, arguments.helper)]
    failures: list[str] = []
    for run in range(1, arguments.runs + 1):
        for peer in PEERS:
            if peer.name not in pythons:
                continue
            print(f"{title}, run {run} of {arguments.runs}: {peer.title} …", file=sys.stderr, flush=True)
            try:
                runs[peer.name].append(measure(peer, pythons[peer.name], detectors, arguments))
            except Missing as why:
                failures.append(f"{peer.title}, run {run}: {why}")
                print(f"  {why}", file=sys.stderr)
        floors.append(stand.floor_ms(CLIP, arguments.helper))
    found = {name: figures.summary(of) for name, of in runs.items() if of}
    best = best_other({name: of["cpu_cores"]["median"] for name, of in found.items()})
    for of in found.values():
        used = of["cpu_cores"]["median"]
        of["of_best_other"] = {"median": None if best is None or used is None else round(used / best, 3)}
    print(f"\n{title}: bare decoding {figures.median(floors):.2f} ms a picture")
    rows = stand.table_rows(COLUMNS, {peer.name: peer.title for peer in PEERS}, found)
    print("\n".join(stand.aligned(rows)), flush=True)
    return {
        "title": title,
        "detectors": detectors,
        "fps": arguments.fps,
        "floor_ms": round(figures.median(floors), 3),
        "floors_ms": [round(floor, 3) for floor in floors],
        "best_other_cores": best,
        "peers": found,
        "failures": failures,
    }


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
            what = f"{titles[name]}, {case['detectors']} detectors, CPU ÷ the best other"
            ratio = case["peers"][name]["of_best_other"]["median"]
            yield verdict(what, ratio, GOAL_CPU) if case["detectors"] == 3 else f"{what}: {ratio:.2f}"
    if best:
        decoding = case["floor_ms"] * case["fps"] / 1e3 / best
        yield f"bare decoding, {case['detectors']} detectors, CPU ÷ the best other: {decoding:.2f}"


def verdict(what: str, value: float | None, goal: float, unit: str = "") -> str:
    if value is None:
        return f"{what}: not measured"
    return f"{what}: {value:.2f}{unit}, goal ≤ {goal:g}{unit}: {'PASS' if value <= goal else 'over'}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cargo bench --bench clients --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("camring", "helper", "target"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--detectors", default="1,3", help="how many look at the camera, default %(default)s")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="default: %(default)s")
    parser.add_argument("--fps", type=int, default=15, help="of the camera, default %(default)s")
    parser.add_argument("--seconds", type=float, default=15, help="the measured window, default %(default)s")
    parser.add_argument("--warm-up", type=float, default=4, help="before it, default %(default)s")
    parser.add_argument("--runs", type=int, default=1, help="how often; figures are medians")
    parser.add_argument("--json", type=Path, help="default: clients.json in the build folder")
    arguments = parser.parse_args()
    arguments.detectors = [int(word) for word in arguments.detectors.split(",")]
    arguments.peers = arguments.peers.split(",")
    for word in arguments.peers:
        if word not in [peer.name for peer in PEERS]:
            parser.error(f"no peer {word!r}; there are {', '.join(peer.name for peer in PEERS)}")
    if min(arguments.runs, arguments.seconds, arguments.fps, *arguments.detectors) < 1:
        parser.error("--runs, --seconds, --fps and --detectors are at least 1")
    arguments.json = arguments.json or arguments.target / "clients.json"
    return arguments


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # ends what it started, as Ctrl-C does
        signal.signal(number, lambda *_: sys.exit(1))
    arguments = parse()
    if not shutil.which("setpriv"):
        sys.exit("no program setpriv (apt-get install util-linux)")
    environment = Environment(arguments.target)
    pythons, left_out = {}, {}
    found: dict[Callable[[Environment], str], str] = {}
    for peer in PEERS:
        if peer.name not in arguments.peers:
            continue
        try:
            if peer.interpreter not in found:
                found[peer.interpreter] = peer.interpreter(environment)
            pythons[peer.name] = found[peer.interpreter]
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
    if "camring" in pythons:
        result["overhead_us"] = overhead(pythons["camring"])
    for detectors in arguments.detectors:
        result["cases"].append(run_detectors(detectors, pythons, arguments))
        # After each case: an interrupted bench leaves what it has.
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\nmedians of {arguments.runs} run(s), windows of {arguments.seconds:g} s; JSON: {arguments.json}")
    for case in result["cases"]:
        print("\n".join(verdicts(case, result["titles"])))
    median = result.get("overhead_us", {}).get("median")
    print(verdict("Python package, median a frame", median, GOAL_OVERHEAD_US, " µs"))
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")


if __name__ == "__main__":
    main()
