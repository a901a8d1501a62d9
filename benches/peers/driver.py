#!/usr/bin/python3
"""Measures what people use today to get the pictures of many RTSP cameras into another process, and camring,
one after the other on the same cameras. Started by `cargo bench --bench peers`.

Prints a table per case and writes JSON; plot.py draws it. What the figures mean, and what they do not:
docs/reference/benches.md. Ends with status 0 also when a peer had to be left out; it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clips
import figures
import processes
from environment import DEBIAN_PYTHON, Environment, Missing
from processes import Process

HERE = Path(__file__).resolve().parent
FARM = HERE.parent.parent / "tests/farm/farm.py"
# Sender reports as often as cameras send them.
FARM_OPTIONS = ("--die-with-parent", "--exit-on-eof", "--rtcp-interval-ms", "5000")
MIB = 1024 * 1024
# Words of the file `control`, as in witness.py.
FROM, TO, STOP, FIRST = 0, 1, 2, 8

FIRST_PICTURE_S = 60  # cameras without a picture by then are measured as they are
LEAD_S = 0.3  # the window is announced before it opens
DRAIN_S = 3.0  # a picture that takes longer is of no use any more, and counts as lost
END_S = 30.0

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


class Farm:
    """The cameras of a case, and what they say about themselves."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.sendts = folder / "sendts"
        arguments = [word for n in range(case.cameras) for word in ("--camera", case.camera(n))]
        with (folder / "farm.log").open("w") as log:
            self._process = subprocess.Popen(
                [DEBIAN_PYTHON, str(FARM), *FARM_OPTIONS, "--sendts", str(self.sendts), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.cameras: list[dict[str, Any]] = []
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        for line in self._stdout:
            word, *rest = line.split()
            if word == "READY":
                break
            name, url, tag, pictures = rest
            self.cameras.append({"name": name, "url": url, "tag": int(tag), "pictures": int(pictures)})
        else:
            sys.exit(f"the test cameras did not start:\n{(folder / 'farm.log').read_text()}")
        # Cameras are other machines: the load that they cause here shall not slow them down.
        with contextlib.suppress(PermissionError):
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), -10)

    def stats(self) -> dict[str, Any]:
        self._stdin.write("stats\n")
        self._stdin.flush()
        answer: dict[str, Any] = json.loads(self._stdout.readline().removeprefix("OK "))
        return answer

    def end(self) -> None:
        self._stdin.close()
        self._process.wait()


class Control:
    """The file `control` of witness.py."""

    def __init__(self, path: Path, cameras: int) -> None:
        self._cameras = cameras
        with path.open("w+b") as file:
            file.truncate((FIRST + cameras) * 8)
            self._words = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def open_window(self, start_ns: int, end_ns: int) -> None:
        self._words[TO] = end_ns
        self._words[FROM] = start_ns

    def stop(self) -> None:
        self._words[STOP] = 1

    def firsts_ns(self) -> list[int]:
        """When the first picture of each camera was in the reader's hands, of those that have one."""
        return [word for word in self._words[FIRST : FIRST + self._cameras] if word]


class Running:
    """A started peer: its root processes, of which the last one is the reader."""

    def __init__(
        self, peer: Peer, python: str, farm: Farm, folder: Path, arguments: argparse.Namespace
    ) -> None:
        self.roots: list[subprocess.Popen[bytes]] = []
        self._log = folder / "peer.log"
        self.started_ns = time.monotonic_ns()
        if peer.script:
            self._start([python, str(HERE / peer.script), str(folder)])
            return
        text = f'[site]\nname = "peers"\nruntime_dir = "{folder}/run"\ndata_dir = "{folder}/data"\n'
        for camera in farm.cameras:
            text += f'\n[[camera]]\nname = "{camera["name"]}"\nurl = "{camera["url"]}"\n'
        (folder / "config.toml").write_text(text)
        for name in ("run", "data"):
            (folder / name).mkdir()
        self._start([str(arguments.camring), "run", "--config", str(folder / "config.toml")])
        while not (folder / "run/attach.sock").exists() and self.roots[0].poll() is None:
            time.sleep(0.002)
        self._start([str(arguments.helper), "subscribe", str(folder)])

    def _start(self, command: list[str]) -> None:
        with self._log.open("a") as log:
            self.roots.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def tree(self) -> list[Process]:
        return processes.tree(root.pid for root in self.roots)

    @property
    def alive(self) -> bool:
        return all(root.poll() is None for root in self.roots)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def end(self, *, python: bool) -> None:
        """Readers first, in order; nothing is left."""
        everything = self.tree()
        for root in reversed(self.roots):
            if python or root is self.roots[0]:
                with contextlib.suppress(ProcessLookupError):
                    root.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                root.wait(END_S)
        left = processes.end(everything, 5)
        if left:
            print(f"  {len(left)} processes did not end by themselves", file=sys.stderr)
        for root in self.roots:
            root.wait()
        # By the names of these processes only; there is something when they had to be killed.
        for process in everything:
            for pattern in (f"shmpipe.{process.pid}.*", f"camring-peers-{process.pid}-*"):
                for path in Path("/dev/shm").glob(pattern):
                    path.unlink(missing_ok=True)


def cpu(of: list[Process]) -> dict[Process, float]:
    return {process: used for process in of if (used := process.cpu_seconds()) is not None}


def measure(peer: Peer, python: str, case: Case, arguments: argparse.Namespace) -> figures.Figures:
    """One peer, once."""
    with tempfile.TemporaryDirectory(prefix="camring-peers-") as name:
        folder = Path(name)
        control = Control(folder / "control", case.cameras)
        farm = Farm(case, folder)
        try:
            width, height = clips.CLIPS[case.clip].sizes[0]
            plan = {"cameras": farm.cameras, "sendts": str(farm.sendts), "width": width, "height": height}
            (folder / "plan.json").write_text(json.dumps(plan | {"fps": case.fps}))
            running = Running(peer, python, farm, folder, arguments)
            try:
                found = window(running, farm, control, case, arguments)
            finally:
                control.stop()
                running.end(python=bool(peer.script))
            return found | evaluate(folder, found, case)
        finally:
            farm.end()


# What `window` hands on to `evaluate` beside figures.
RAW = "_"


def window(
    running: Running, farm: Farm, control: Control, case: Case, arguments: argparse.Namespace
) -> figures.Figures:
    """Waits for the pictures, then looks at the processes while the readers count."""
    until = time.monotonic() + FIRST_PICTURE_S
    while len(control.firsts_ns()) < case.cameras and running.alive and time.monotonic() < until:
        time.sleep(0.02)
    if not running.alive:
        raise Missing(f"it ended by itself:\n{running.log}")
    firsts = control.firsts_ns()
    complete = len(firsts) == case.cameras
    time.sleep(arguments.warm_up)

    before = running.tree()
    start = time.monotonic_ns() + int(LEAD_S * 1e9)
    end = start + int(arguments.seconds * 1e9)
    control.open_window(start, end)
    sleep_until(start + 2_000_000)
    used_before, busy_before, farm_before = cpu(before), processes.busy_seconds(), farm.stats()
    # Within the window on both sides: what was pushed between is certain to be of the window.
    sleep_until(end - 20_000_000)
    farm_after, busy_after = farm.stats(), processes.busy_seconds()
    after = running.tree()
    used_after = cpu(after)
    wall = farm_after["seconds"] - farm_before["seconds"]
    time.sleep(DRAIN_S)

    used = {process: seconds - used_before.get(process, 0.0) for process, seconds in used_after.items()}
    total = sum(used.values())
    reader = sum(seconds for process, seconds in used.items() if process.pid == running.roots[-1].pid)
    farm_used = farm_after["cpu_seconds"] - farm_before["cpu_seconds"]
    pushed = {
        RAW + name: camera["sent"] - farm_before["cameras"][name]["sent"]
        for name, camera in farm_after["cameras"].items()
    }
    now = running.tree()
    return {
        RAW + "cpu_s": total,
        RAW + "reader_s": reader,
        RAW + "wall_s": wall,
        **pushed,
        "memory_mib": processes.memory_bytes(now) / MIB,
        "processes": len(now),
        "threads": processes.threads(now),
        "processes_ended": len(set(before) - set(after)),
        "first_picture_s": (max(firsts) - running.started_ns) / 1e9 if complete else math.nan,
        "cameras_cores": farm_used / wall,
        "cameras_late": farm_after["late"] - farm_before["late"],
        "others_cores": max(0.0, (busy_after - busy_before - total - farm_used) / wall),
    }


def sleep_until(at_ns: int) -> None:
    time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


def evaluate(folder: Path, found: figures.Figures, case: Case) -> figures.Figures:
    """Puts the kernel's figures and the readers' together; takes the raw ones out of `found`."""
    readers: dict[int, dict[str, Any]] = {}
    for path in folder.glob("result-*.json"):
        readers.update({int(number): camera for number, camera in json.loads(path.read_text()).items()})
    pushed = [int(found[f"{RAW}cam{number}"]) for number in range(case.cameras)]
    total, reader, wall = (found[RAW + name] for name in ("cpu_s", "reader_s", "wall_s"))
    for name in [name for name in found if name.startswith(RAW)]:
        del found[name]
    delivered = figures.delivery(readers, pushed, wall)
    # Reading frame codes is the bench's own work; where no process but the capturing ones looks, they did it.
    own = sum(camera["verify_ns"] for camera in readers.values()) / 1e9
    total -= own
    return {
        "cpu_cores": total / wall,
        "ms_per_frame": total * 1e3 / delivered["frames"] if delivered["frames"] else math.nan,
        "reader_cores": max(0.0, reader - own) / wall,
        "bench_cores": own / wall,
        **delivered,
    }


def floor_ms(case: Case, arguments: argparse.Namespace) -> float:
    """CPU time of one picture in a bare libavcodec loop."""
    command = [str(arguments.helper), "floor", str(clips.ensure(case.clip))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


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
    rows = [["", *(title for title, _, _ in COLUMNS)]]
    for peer in PEERS:
        if peer.name in found:
            values = [(found[peer.name][name]["median"], form) for _, name, form in COLUMNS]
            rows.append([peer.title, *("–" if v is None else form.format(v) for v, form in values)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [word.rjust(width) for word, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def run_case(case: Case, pythons: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All peers, `--runs` times, in turn. What fails is said and left out of the medians."""
    runs: dict[str, list[figures.Figures]] = {name: [] for name in pythons}
    floors = [floor_ms(case, arguments)]
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
        floors.append(floor_ms(case, arguments))
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
