#!/usr/bin/env python3
"""What Python adds to a frame: the time from asking for a frame that is there to holding its arrays.

    overhead.py STAND_IN [--frames N]

STAND_IN is the program that `cargo test --package camring-ring --test stand_in --no-run` builds. No
camera, no decoder, no wait: every frame is published before it is asked for, so what is measured is
this package alone. Prints the median, the 99th percentile and the mean, in microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable

import camring


def measure(publish: Callable[[], None], work: Callable[[], object], frames: int) -> list[float]:
    times = []
    for count in range(frames + 100):
        publish()
        start = time.perf_counter_ns()
        work()
        if count >= 100:
            times.append((time.perf_counter_ns() - start) / 1000)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stand_in")
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", camring.ReadOnlyWarning)
    daemon = subprocess.Popen(
        [options.stand_in, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdin
    assert daemon.stdout
    say, hear = daemon.stdin, daemon.stdout
    socket = hear.readline().split(" ", 1)[1].strip()

    def tell(line: str) -> None:
        say.write(line + "\n")
        say.flush()
        answer = hear.readline()
        assert answer.startswith("OK"), answer

    tell("ring yard 1400000")
    with camring.attach("yard", socket=socket) as camera:

        def publish() -> None:
            # The stand-in leaves the picture of an empty path as it is drawn: zeros.
            tell("frame yard i420 1280 720 64 1 1 0 -")

        def bare() -> None:
            camera.next()

        def luma() -> None:
            _ = camera.next().y

        def everything() -> None:
            frame = camera.next()
            _ = (frame.sequence, frame.pts, frame.time, frame.missed, frame.y, frame.u, frame.v)

        def looked() -> None:
            frame = camera.latest()
            assert frame

        found = {}
        for name, work in (
            ("next()", bare),
            ("latest()", looked),
            ("next(), y", luma),
            ("next(), triple, missed, y, u, v", everything),
        ):
            times = sorted(measure(publish, work, options.frames))
            middle, most, mean = (
                statistics.median(times),
                times[len(times) * 99 // 100],
                statistics.fmean(times),
            )
            found[name] = {"median": middle, "p99": most, "mean": mean}
        if options.json:
            print(json.dumps(found))
        else:
            print(f"{options.frames} frames of 1280x720 i420, microseconds: median, 99 %, mean")
            for name, of in found.items():
                print(f"{name:32} {of['median']:8.1f} {of['p99']:8.1f} {of['mean']:8.1f}")
    say.close()
    daemon.wait()


if __name__ == "__main__":
    main()
