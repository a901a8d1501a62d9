"""What processes cost, from the kernel: CPU time, memory, how many there are. All children count."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
# In these files memory is counted once as a file, whoever maps it: names that smaps and fd links begin with.
SHARED = ("/memfd:", "/dev/shm/")


@dataclasses.dataclass(frozen=True, order=True)
class Process:
    """One incarnation: a number that is given to another process has another start time."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def cpu_seconds(self) -> float | None:
        """User and system time of all its threads, living and ended, to the nanosecond; None: it is gone."""
        # The clock of another process, as clock_getcpuclockid(3) names it.
        try:
            return time.clock_gettime((~self.pid << 3) | 2) if self.alive else None
        except OSError:
            return None


@dataclasses.dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    threads: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    return _Stat(words[0], int(words[1]), int(words[17]), int(words[19]))


def _numbers() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def tree(roots: Iterable[int]) -> list[Process]:
    """These processes and all their descendants, now."""
    stats = {pid: stat for pid in _numbers() if (stat := _stat(pid))}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found, ahead = {}, [pid for pid in roots if pid in stats]
    while ahead:
        pid = ahead.pop()
        if pid not in found and stats[pid].state not in "ZX":
            found[pid] = Process(pid, stats[pid].started)
        ahead += children.get(pid, [])
    return list(found.values())


def threads(processes: Iterable[Process]) -> int:
    return sum(stat.threads for process in processes if (stat := _stat(process.pid)))


def memory_bytes(processes: Iterable[Process]) -> int:
    """Proportional share (PSS) of all, and what is allocated in shared memory, each file once."""
    total = 0
    files: dict[tuple[int, int], int] = {}  # allocated, by device and inode
    mapped: dict[tuple[str, int], int] = {}
    for process in processes:
        folder = PROC / str(process.pid)
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(link.readlink()).startswith(SHARED):
                        status = link.stat()  # of the file itself, also where it has no name any more
                        files[status.st_dev, status.st_ino] = status.st_blocks * 512
        with contextlib.suppress(OSError):
            private, shared = share((folder / "smaps").read_text())
            total += private
            for name, size in shared.items():
                mapped[name] = mapped.get(name, 0) + size
    # Mapped, with no descriptor left (semaphores): by what is in use of it.
    inodes = {inode for _, inode in files}
    total += sum(size for (_, inode), size in mapped.items() if inode not in inodes)
    return total + sum(files.values())


def share(smaps: str) -> tuple[int, dict[tuple[str, int], int]]:
    """PSS in bytes that /proc/PID/smaps tells: of all but shared memory, and of that by device and inode."""
    private = 0
    shared: dict[tuple[str, int], int] = {}
    file: tuple[str, int] | None = None
    for line in smaps.splitlines():
        if line.startswith("Pss:"):
            size = int(line.split()[1]) * 1024
            if file is None:
                private += size
            else:
                shared[file] = shared.get(file, 0) + size
        elif line[0] in "0123456789abcdef":
            words = line.split(maxsplit=5)
            is_shared = len(words) == 6 and words[5].startswith(SHARED)
            file = (words[3], int(words[4])) if is_shared else None
    return private, shared


def busy_seconds() -> float:
    """That all cores together were busy since boot."""
    user, nice, system, _, _, irq, softirq = map(int, (PROC / "stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def end(processes: Iterable[Process], patience_s: float) -> list[Process]:
    """Waits for them to end, then kills those that have not; returns these."""
    until = time.monotonic() + patience_s
    left = list(processes)
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = [process for process in left if process.alive]
    for process in left:
        process.kill()
    return left


def describe() -> str:
    """The machine in a line."""
    model = "unknown processor"
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}"
