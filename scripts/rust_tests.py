#!/usr/bin/python3
"""Builds the Rust tests and runs them, several programs beside each other: most of them wait for cameras
more than they compute. What a program says is shown when it has ended; what failed, once more at the end.

usage: scripts/rust_tests.py [CARGO_ARGUMENT...] [-- TEST_ARGUMENT...]
Environment: CAMRING_TEST_JOBS (programs at a time, default one more than there are cores).
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Begun first, in this order: the longest at the end would run alone.
LONGEST = (
    "faults",
    "hostile",
    "recording",
    "on_demand",
    "supervisor",
    "deaths",
    "session_faults",
    "activity",
)
# Each has several daemons at a time by itself: not beside each other.
ALONE_OF = frozenset({"faults", "hostile", "recording"})
# A program that hangs is ended, so that the others are heard.
PATIENCE_S = 1800
# At the end: of each panic, of each program, of each line.
LINES, MOST, WIDTH = 14, 60, 400
ENDED = "ended by rust_tests.py: it hung"


@dataclass(frozen=True)
class Program:
    """A test program, and where cargo would run it."""

    name: str
    path: Path
    package: Path

    def title(self) -> str:
        return f"{self.package.name}: {self.name}"


@dataclass(frozen=True)
class Result:
    program: Program
    ok: bool
    output: str
    seconds: float


def build(arguments: list[str]) -> list[Program]:
    """All test programs, built; exits as cargo does when that fails."""
    command = ["cargo", "test", "--no-run", "--message-format", "json-render-diagnostics", *arguments]
    cargo = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if cargo.returncode:
        sys.exit(cargo.returncode)
    programs = []
    for line in cargo.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["profile"]["test"]:
            package = Path(message["manifest_path"]).parent
            programs.append(Program(message["target"]["name"], Path(message["executable"]), package))
    return programs


def order(program: Program) -> int:
    return LONGEST.index(program.name) if program.name in LONGEST else len(LONGEST)


def run(program: Program, arguments: list[str]) -> Result:
    start = time.monotonic()
    child = subprocess.Popen(
        [program.path, *arguments],
        cwd=program.package,
        env=os.environ | {"CARGO_MANIFEST_DIR": str(program.package)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    with running(child):
        try:
            output, _ = child.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            end(child)
            output = child.communicate()[0] + f"\n{ENDED} for {PATIENCE_S} s\n"
    return Result(program, child.returncode == 0, output, time.monotonic() - start)


children: set[subprocess.Popen[str]] = set()


@contextlib.contextmanager
def running(child: subprocess.Popen[str]) -> Iterator[None]:
    children.add(child)
    try:
        yield
    finally:
        children.discard(child)


def end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def run_all(programs: list[Program], arguments: list[str], jobs: int) -> list[Result]:
    """Beside each other; each is shown when it has ended."""
    waiting, results = sorted(programs, key=order), []
    alone_of = False
    changed = threading.Condition()

    def work() -> None:
        nonlocal alone_of
        while True:
            with changed:
                while True:
                    fit = [p for p in waiting if not (alone_of and p.name in ALONE_OF)]
                    if fit or not waiting:
                        break
                    changed.wait()
                if not waiting:
                    return
                program = fit[0]
                waiting.remove(program)
                alone_of |= program.name in ALONE_OF
            result = run(program, arguments)
            with changed:
                if program.name in ALONE_OF:
                    alone_of = False
                results.append(result)
                print(
                    f"\n     Running {program.title()} ({result.seconds:.0f} s)\n{result.output}", flush=True
                )
                changed.notify_all()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def digest(output: str) -> list[str]:
    """What a failed program says of why: each panic with the lines after it, and its list of failures."""
    lines, found, left = output.splitlines(), [], 0
    for line in lines:
        if re.search(r"panicked at |^error|" + ENDED, line):
            left = LINES
        elif line.startswith(("--- end of", "stack backtrace", "note: run with")):
            left = 0
        if left > 0 or re.match(r"test .* FAILED|test result: FAILED", line):
            found.append(line[:WIDTH])
        left -= 1
    return found[-MOST:] or [line[:WIDTH] for line in lines[-LINES:]]


def main() -> int:
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    cargo_arguments, test_arguments = arguments[:split], arguments[split + 1 :]
    jobs = int(os.environ.get("CAMRING_TEST_JOBS") or len(os.sched_getaffinity(0)) + 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.monotonic()
    programs = build(cargo_arguments)
    print(
        f"built {len(programs)} test programs in {time.monotonic() - start:.0f} s; {jobs} at a time",
        flush=True,
    )
    try:
        results = run_all(programs, test_arguments, jobs)
    finally:
        for child in list(children):
            end(child)
    slowest = sorted(results, key=lambda r: r.seconds, reverse=True)[:8]
    print("slowest: " + ", ".join(f"{r.program.name} {r.seconds:.0f} s" for r in slowest))
    failed = [r for r in results if not r.ok]
    for result in failed:
        print(f"\n-- {result.program.title()} failed:")
        print("\n".join("  " + line for line in digest(result.output)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
