"""What a run needs, whatever is measured: cameras, a peer's processes, the window, the kernel's figures."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import clips
import figures
import processes
from environment import DEBIAN_PYTHON, Missing
from processes import Process

FARM = Path(__file__).resolve().parents[2] / "tests/farm/farm.py"
# Sender reports as often as cameras send them.
FARM_OPTIONS = ("--die-with-parent", "--exit-on-eof", "--rtcp-interval-ms", "5000")
MIB = 1024 * 1024
# Words of the file `control`, as in witness.py.
FROM, TO, STOP, FIRST = 0, 1, 2, 8

FIRST_PICTURE_S = 60  # cameras without a picture by then are measured as they are
LEAD_S = 0.3  # the window is announced before it opens
DRAIN_S = 3.0  # a picture that takes longer is of no use any more, and counts as lost
END_S = 30.0


class Farm:
    """Cameras, and what they say about themselves."""

    def __init__(self, cameras: Iterable[str], folder: Path) -> None:
        """`cameras`: the farm's arguments."""
        self.sendts = folder / "sendts"
        arguments = [word for camera in cameras for word in ("--camera", camera)]
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
        self.cameras = cameras
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
        return [word for word in self._words[FIRST : FIRST + self.cameras] if word]


class Running:
    """A started peer: its root processes, of which the last one is the reader."""

    def __init__(self, folder: Path) -> None:
        self.roots: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._log = folder / "peer.log"
        self.started_ns = time.monotonic_ns()

    def start_daemon(self, camring: Path, farm: Farm, of_camera: str = "") -> None:
        """`camring run` with these cameras, until it can be attached to; its socket is `run/attach.sock`."""
        folder = self._folder
        text = f'[site]\nname = "peers"\nruntime_dir = "{folder}/run"\ndata_dir = "{folder}/data"\n'
        text += '[http]\nlisten = "off"\n'
        for camera in farm.cameras:
            text += f'\n[[camera]]\nname = "{camera["name"]}"\nurl = "{camera["url"]}"\n{of_camera}'
        (folder / "config.toml").write_text(text)
        for name in ("run", "data"):
            (folder / name).mkdir()
        self.start([str(camring), "run", "--config", str(folder / "config.toml")])
        while not (folder / "run/attach.sock").exists() and self.roots[0].poll() is None:
            time.sleep(0.002)

    def start(self, command: list[str]) -> None:
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


# What `window` hands on to `evaluate` beside figures.
RAW = "_"


def window(
    running: Running, farm: Farm, control: Control, *, warm_up_s: float, seconds: float
) -> figures.Figures:
    """Waits for the pictures, then looks at the processes while the readers count."""
    until = time.monotonic() + FIRST_PICTURE_S
    while len(control.firsts_ns()) < control.cameras and running.alive and time.monotonic() < until:
        time.sleep(0.02)
    if not running.alive:
        raise Missing(f"it ended by itself:\n{running.log}")
    firsts = control.firsts_ns()
    complete = len(firsts) == control.cameras
    time.sleep(warm_up_s)

    before = running.tree()
    start = time.monotonic_ns() + int(LEAD_S * 1e9)
    end = start + int(seconds * 1e9)
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


def evaluate(folder: Path, found: figures.Figures, names: Iterable[str]) -> figures.Figures:
    """Puts the kernel's figures and the readers' together; takes the raw ones out of `found`. `names`: of the
    farm's camera behind each of the plan."""
    readers: dict[int, dict[str, Any]] = {}
    for path in folder.glob("result-*.json"):
        readers.update({int(number): camera for number, camera in json.loads(path.read_text()).items()})
    pushed = [int(found[RAW + name]) for name in names]
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


def floor_ms(clip: str, helper: Path) -> float:
    """CPU time of one picture of a clip in a bare libavcodec loop."""
    command = [str(helper), "floor", str(clips.ensure(clip))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def aligned(rows: list[list[str]]) -> Iterator[str]:
    """Lines of a table: the first column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [word.rjust(width) for word, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def table_rows(
    columns: Sequence[tuple[str, str, str]], titles: Mapping[str, str], found: Mapping[str, Mapping[str, Any]]
) -> list[list[str]]:
    """A heading, and a row for each peer that was measured. Columns: title, figure, format."""
    rows = [["", *(title for title, _, _ in columns)]]
    for name, title in titles.items():
        if name in found:
            values = [(found[name][figure]["median"], form) for _, figure, form in columns]
            rows.append([title, *("–" if v is None else form.format(v) for v, form in values)])
    return rows
